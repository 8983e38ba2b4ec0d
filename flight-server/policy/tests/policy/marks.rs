//! Columns whose suppressed cells are marked.

use crate::aggregate::Hub;

#[tokio::test(flavor = "multi_thread")]
async fn published_columns_are_marked_and_no_others() {
    let hub = Hub::new().await;
    for (sql, marks) in [
        (
            "SELECT diagnosis, count(*) FROM stays GROUP BY diagnosis",
            "yy",
        ),
        ("SELECT count(*) + 1, count(*), 7 FROM stays", "nyn"),
        (
            "SELECT CAST(n AS VARCHAR) AS t, coalesce(n, 0), d FROM (SELECT diagnosis AS d, count(*) AS n \
             FROM stays GROUP BY 1) x WHERE n > 3 ORDER BY n LIMIT 3",
            "yny",
        ),
        (
            "SELECT l.label, x.n FROM labels l JOIN (SELECT diagnosis AS d, count(*) AS n FROM stays \
             GROUP BY 1) x ON x.d = l.code",
            "ny",
        ),
        ("SELECT code FROM labels", "n"),
        (
            "SELECT max(n) FROM (SELECT diagnosis, count(*) AS n FROM stays GROUP BY 1)",
            "n",
        ),
    ] {
        let found: String = hub
            .marks(sql)
            .await
            .into_iter()
            .map(|mark| if mark { 'y' } else { 'n' })
            .collect();
        assert_eq!(found, marks, "{sql}");
    }
}
