//! Attacks with the barrier taken out: each finds what it is made to find.

use datafusion::prelude::{SessionConfig, SessionContext};

use crate::world::{STAYS, World, rows};

/// Settings, files and tables of one's own: what the list of allowed statements keeps shut is open
/// in a session as DataFusion makes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_plain_session_opens_the_other_doors() {
    let world = World::new().await;
    let plain = SessionConfig::new().with_information_schema(true);
    let ctx = SessionContext::new_with_config(plain);
    let folder = world
        .dir
        .path()
        .join("hospital/stays")
        .display()
        .to_string();
    let stolen = world.dir.path().join("stolen.csv");
    for sql in [
        "SET datafusion.execution.batch_size = 7".to_owned(),
        format!("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{folder}/'"),
        format!(
            "COPY (SELECT secret FROM t) TO '{}' STORED AS CSV",
            stolen.display()
        ),
        "CREATE TABLE taken AS SELECT secret FROM t".to_owned(),
        "INSERT INTO taken SELECT secret FROM t".to_owned(),
        "CREATE VIEW seen AS SELECT * FROM t".to_owned(),
        "SELECT * FROM information_schema.df_settings".to_owned(),
    ] {
        let done = ctx.sql(&sql).await.unwrap().collect().await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    let twice = (2 * STAYS).to_string();
    assert_eq!(
        rows(&ctx, "SELECT count(*) FROM taken").await.unwrap(),
        [twice]
    );
    let shown = rows(&ctx, "SHOW datafusion.execution.batch_size").await;
    assert!(shown.unwrap()[0].contains('7'));
    let lines = std::fs::read_to_string(stolen).unwrap().lines().count();
    assert!(lines as i64 > STAYS, "{lines}");
}
