//! The space through statements, on a hub with one open dataset of ten persons.

use std::path::{Path, PathBuf};

use arrow::array::{Array, Int64Array, RecordBatch, StringArray};
use arrow::util::display::array_value_to_string;
use chrono::TimeDelta;
use datafusion::common::ScalarValue;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use hubflight_ledger::Quantities;
use hubflight_protocol::Key;
use hubflight_udfs::{PoolConfig, StatementWork, WorkerPool};
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

use super::*;
use crate::auth::session::SessionOptions;
use crate::config::Config;
use crate::error::ErrorKind;
use crate::exec::meter::Meter;
use crate::hub::{Mode, open_store};
use crate::plan::Planning;
use crate::plan::parse::parse;
use crate::provision::provision;

struct Bench {
    hub: Arc<Hub>,
    folder: TempDir,
    now: DateTime<Utc>,
}

/// Ten persons; `p0` … `p9` are 20, 25, … 65 years old.
fn write_people(folder: &Path) {
    std::fs::create_dir_all(folder).expect("folder");
    let batch = RecordBatch::try_from_iter([
        (
            "name",
            Arc::new(StringArray::from_iter_values(
                (0..10).map(|i| format!("p{i}")),
            )) as _,
        ),
        (
            "age",
            Arc::new(Int64Array::from_iter_values((0..10).map(|i| 20 + 5 * i))) as _,
        ),
    ])
    .expect("valid");
    let file = std::fs::File::create(folder.join("people.parquet")).expect("file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("writer");
    writer.write(&batch).expect("writes");
    writer.close().expect("closes");
}

async fn bench_with(limits: &str, quota_mb: u64) -> Bench {
    let folder = tempfile::tempdir().expect("folder");
    write_people(&folder.path().join("data"));
    let text = format!(
        "[server]\nstate = 'state [of] the hub?'\n[limits]\n{limits}\n\
         [[dataset]]\nname = 'data'\nfolder = 'data'\npersons = 'none'\n\
         [[person]]\nid = 'ada'\n\
         [[project]]\nid = 'p'\nmembers = ['ada']\nvalid_from = 2000-01-01\n\
         valid_to = 2999-01-01\nspace_quota_mb = {quota_mb}\n\
         [[habilitation]]\nproject = 'p'\ndataset = 'data'\ndecision = 'd'\n\
         valid_from = 2000-01-01\nvalid_to = 2999-01-01\n"
    )
    .replace("2000-01-01", "'2000-01-01'")
    .replace("2999-01-01", "'2999-01-01'");
    let path = folder.path().join("hub.toml");
    std::fs::write(&path, text).expect("configuration");
    let config = Config::read(&path).expect("configuration");
    let (store, secrets) = open_store(&config).await.expect("store");
    // Nothing here asks a worker.
    let workers = WorkerPool::new(PoolConfig {
        workers: vec!["127.0.0.1:9".into()],
        key: Key::new([7; 32]),
        tls_ca: None,
        io: tokio::runtime::Handle::current(),
    })
    .expect("pool");
    let hub = Hub::open(config, Mode { passwords: true }, store, secrets, workers)
        .await
        .expect("hub");
    provision(&hub.store, &hub.config, &hub.datasets)
        .await
        .expect("provisions");
    Bench {
        hub,
        folder,
        now: Utc::now(),
    }
}

async fn bench() -> Bench {
    bench_with("", 100).await
}

impl Bench {
    async fn view(&self) -> Arc<ProjectView> {
        let view = ProjectView::load(&self.hub, "p", None, self.now).await;
        Arc::new(view.expect("view"))
    }

    fn planning<'a>(
        &'a self,
        view: &'a Arc<ProjectView>,
        options: &'a SessionOptions,
    ) -> Planning<'a> {
        Planning {
            hub: &self.hub,
            view,
            options,
            now: self.now,
        }
    }

    fn work(&self) -> (Arc<StatementWork>, Arc<Meter>, Arc<Quantities>) {
        let quantities = Arc::new(Quantities::default());
        let meter = Meter::new(&self.hub, Arc::clone(&quantities));
        let work = StatementWork {
            statement_id: uuid::Uuid::now_v7().to_string(),
            tenant: "p".into(),
            deadline: u64::MAX,
            priority: 1,
            trace: None,
            pool: Arc::clone(&self.hub.workers),
            meter: Arc::clone(&meter) as _,
        };
        (Arc::new(work), meter, quantities)
    }

    async fn bound(&self, sql: &str, parameters: Vec<ScalarValue>) -> Result<u64> {
        let (work, meter, _) = self.work();
        let view = self.view().await;
        let options = SessionOptions::default();
        let parsed = parse(sql, 1 << 20)?;
        change(
            &self.planning(&view, &options),
            parsed,
            parameters,
            work,
            &meter,
        )
        .await
    }

    async fn run(&self, sql: &str) -> Result<u64> {
        self.bound(sql, Vec::new()).await
    }

    async fn done(&self, sql: &str) -> u64 {
        self.run(sql).await.expect(sql)
    }

    async fn refused(&self, sql: &str, kind: ErrorKind, part: &str) {
        let error = self.run(sql).await.expect_err(sql);
        assert_eq!(error.kind, kind, "{sql}: {error}");
        assert!(error.to_string().contains(part), "{sql}: {error}");
    }

    async fn query_in(&self, view: &Arc<ProjectView>, sql: &str) -> Result<Vec<String>> {
        let options = SessionOptions::default();
        let authorised = self
            .planning(view, &options)
            .query(parse(sql, 1 << 20)?)
            .await?;
        let (work, _, _) = self.work();
        let (plan, context) = authorised
            .optimise()?
            .physical(&self.hub.engine, work)
            .await?;
        let mut stream = execute_stream(plan, context)?;
        let mut rows = Vec::new();
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            for row in 0..batch.num_rows() {
                let cell = |column: &Arc<dyn Array>| match column.is_null(row) {
                    true => "-".to_owned(),
                    false => array_value_to_string(column, row).expect("prints"),
                };
                rows.push(
                    batch
                        .columns()
                        .iter()
                        .map(cell)
                        .collect::<Vec<_>>()
                        .join(" "),
                );
            }
        }
        Ok(rows)
    }

    async fn query(&self, sql: &str) -> Result<Vec<String>> {
        self.query_in(&self.view().await, sql).await
    }

    async fn rows(&self, sql: &str) -> Vec<String> {
        self.query(sql).await.expect(sql)
    }

    async fn fails(&self, sql: &str, kind: ErrorKind, part: &str) {
        let error = self.query(sql).await.expect_err(sql);
        assert_eq!(error.kind, kind, "{sql}: {error}");
        assert!(error.to_string().contains(part), "{sql}: {error}");
    }

    fn files(&self) -> Vec<PathBuf> {
        let folder = files::folder(&self.hub, "p").expect("folder");
        assert!(folder.starts_with(self.folder.path()));
        match std::fs::read_dir(folder) {
            Ok(entries) => entries.map(|entry| entry.expect("entry").path()).collect(),
            Err(_) => Vec::new(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_lives_from_create_to_drop() {
    let bench = bench().await;
    assert_eq!(
        bench
            .done("CREATE TABLE space.t (a INT NOT NULL, b VARCHAR, c DECIMAL(9,2))")
            .await,
        0
    );
    assert!(bench.rows("SELECT * FROM space.t").await.is_empty());
    assert_eq!(bench.rows("SELECT count(*) FROM space.t").await, ["0"]);
    assert_eq!(
        bench
            .done("INSERT INTO space.t VALUES (1, 'x', 1.5), (2, 'y', NULL)")
            .await,
        2
    );
    assert_eq!(
        bench
            .done("INSERT INTO p.space.t (b, a) VALUES ('z', 3)")
            .await,
        1
    );
    assert_eq!(
        bench.rows("SELECT * FROM space.t ORDER BY a").await,
        ["1 x 1.50", "2 y -", "3 z -"]
    );
    assert_eq!(bench.files().len(), 2);
    assert_eq!(
        bench
            .done("UPDATE space.t SET B = upper(b), c = a + 0.25 WHERE a > 1")
            .await,
        2
    );
    assert_eq!(
        bench.rows("SELECT * FROM space.t ORDER BY a").await,
        ["1 x 1.50", "2 Y 2.25", "3 Z 3.25"]
    );
    assert_eq!(bench.done("UPDATE space.t SET c = 0 WHERE a = 99").await, 0);
    assert_eq!(bench.done("DELETE FROM space.t WHERE c > 3").await, 1);
    assert_eq!(
        bench.rows("SELECT a FROM space.t ORDER BY a").await,
        ["1", "2"]
    );
    assert_eq!(bench.done("DELETE FROM space.t").await, 2);
    assert_eq!(
        bench.rows("SELECT count(*), max(a) FROM space.t").await,
        ["0 -"]
    );
    assert_eq!(
        bench
            .done("CREATE TABLE IF NOT EXISTS space.t (z INT)")
            .await,
        0
    );
    assert_eq!(
        bench.done("CREATE OR REPLACE TABLE space.t (z INT)").await,
        0
    );
    assert_eq!(bench.done("INSERT INTO space.t VALUES (9)").await, 1);
    assert_eq!(bench.rows("SELECT * FROM space.t").await, ["9"]);
    assert_eq!(bench.done("DROP TABLE space.t").await, 0);
    bench
        .fails("SELECT * FROM space.t", ErrorKind::NotFound, "space.t")
        .await;
    assert_eq!(bench.done("DROP TABLE IF EXISTS space.t").await, 0);
    bench
        .refused("DROP TABLE space.t", ErrorKind::NotFound, "space.t")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_from_datasets_and_carry_their_rights() {
    let bench = bench().await;
    let (work, meter, quantities) = bench.work();
    let view = bench.view().await;
    let options = SessionOptions::default();
    let sql = "CREATE TABLE cohort AS SELECT name, age FROM data.people WHERE age >= 40";
    let parsed = parse(sql, 1 << 20).expect("parses");
    change(
        &bench.planning(&view, &options),
        parsed,
        Vec::new(),
        work,
        &meter,
    )
    .await
    .expect("runs");
    // Two columns of ten rows: two bytes of text and eight of number each.
    assert_eq!(quantities.measured().bytes_scanned, 100);
    assert_eq!(
        bench
            .rows("SELECT count(*), min(age) FROM space.cohort")
            .await,
        ["6 40"]
    );
    bench.done("CREATE TABLE space.plain (name VARCHAR)").await;
    bench.done("INSERT INTO space.plain VALUES ('free')").await;
    bench
        .done("CREATE TABLE space.derived AS SELECT name FROM space.cohort")
        .await;
    bench.done("CREATE TABLE space.mixed (name VARCHAR)").await;
    bench
        .done("INSERT INTO space.mixed SELECT name FROM data.people LIMIT 1")
        .await;
    bench
        .done("CREATE TABLE space.touched AS SELECT 1 AS a")
        .await;
    bench
        .done("DELETE FROM space.touched WHERE a IN (SELECT age FROM data.people)")
        .await;
    bench
        .done("UPDATE space.touched SET a = (SELECT max(age) FROM data.people)")
        .await;
    bench
        .done("CREATE VIEW space.seen AS SELECT name FROM space.cohort")
        .await;
    let labels = &bench.view().await.space.clone().expect("space").objects["mixed"].labels;
    assert_eq!(labels.sources.len(), 1);
    assert_eq!(
        (
            labels.sources[0].dataset.as_str(),
            labels.sources[0].version
        ),
        ("data", 1)
    );

    let habilitations = bench.hub.store.habilitations_of("p").await.expect("lists");
    bench
        .hub
        .store
        .revoke_habilitation(&habilitations[0].id)
        .await
        .expect("revokes");
    let later = Bench {
        now: Utc::now() + TimeDelta::seconds(1),
        ..bench
    };
    for table in ["cohort", "derived", "mixed", "touched", "seen"] {
        let sql = format!("SELECT * FROM space.{table}");
        later
            .fails(&sql, ErrorKind::PermissionDenied, "`data`")
            .await;
    }
    later
        .refused(
            "INSERT INTO space.mixed VALUES ('x')",
            ErrorKind::PermissionDenied,
            "`data`",
        )
        .await;
    later
        .refused(
            "DELETE FROM space.cohort",
            ErrorKind::PermissionDenied,
            "`data`",
        )
        .await;
    later
        .refused(
            "CREATE TABLE space.stolen AS SELECT * FROM space.cohort",
            ErrorKind::PermissionDenied,
            "`data`",
        )
        .await;
    assert_eq!(later.rows("SELECT * FROM space.plain").await, ["free"]);
    let listed = later
        .rows("SELECT column_name FROM information_schema.columns WHERE table_name = 'cohort' ORDER BY 1")
        .await;
    assert_eq!(listed, ["age", "name"]);
    later.done("DROP TABLE space.cohort").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_planned_when_they_are_used() {
    let bench = bench().await;
    bench
        .done("CREATE TABLE space.t AS SELECT name, age FROM data.people")
        .await;
    bench
        .done("CREATE VIEW space.old (who, years) AS SELECT * FROM space.t WHERE age > 50")
        .await;
    bench
        .done("CREATE VIEW space.oldest AS SELECT who FROM space.old ORDER BY years DESC LIMIT 1")
        .await;
    assert_eq!(bench.rows("SELECT * FROM space.oldest").await, ["p9"]);
    bench
        .done("INSERT INTO space.t VALUES ('methuselah', 969)")
        .await;
    assert_eq!(
        bench
            .rows("SELECT a.who FROM space.oldest a JOIN space.oldest b ON a.who = b.who")
            .await,
        ["methuselah"]
    );
    // Names without a schema keep the meaning that they had: here the only dataset's.
    bench
        .done("CREATE VIEW space.people AS SELECT count(*) AS n FROM people")
        .await;
    assert_eq!(bench.rows("SELECT n FROM space.people").await, ["10"]);
    bench
        .refused(
            "CREATE OR REPLACE VIEW space.old AS SELECT who, 1 AS years FROM space.oldest",
            ErrorKind::NotFound,
            "`space.old` reads itself",
        )
        .await;
    bench
        .refused(
            "CREATE OR REPLACE VIEW space.me AS SELECT * FROM space.me",
            ErrorKind::NotFound,
            "space.me",
        )
        .await;
    bench
        .refused(
            "CREATE OR REPLACE VIEW space.t AS SELECT 1 AS a",
            ErrorKind::InvalidArgument,
            "is a table",
        )
        .await;
    bench
        .refused(
            "INSERT INTO space.old VALUES ('x', 1)",
            ErrorKind::InvalidArgument,
            "is a view",
        )
        .await;
    bench
        .refused(
            "DROP TABLE space.old",
            ErrorKind::InvalidArgument,
            "DROP VIEW",
        )
        .await;
    bench
        .refused(
            "CREATE VIEW space.w AS SELECT * FROM space.none",
            ErrorKind::NotFound,
            "space.none",
        )
        .await;
    bench.done("DROP TABLE space.t").await;
    bench
        .fails(
            "SELECT * FROM space.oldest",
            ErrorKind::NotFound,
            "view `space.oldest` cannot be read: view `space.old`",
        )
        .await;
    let listed = bench
        .rows("SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'space' ORDER BY 1")
        .await;
    assert_eq!(listed, ["old VIEW", "oldest VIEW", "people VIEW"]);
    bench.done("DROP VIEW space.old, space.oldest").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn views_upon_views_stay_bounded() {
    let bench = bench().await;
    bench.done("CREATE VIEW space.v0 AS SELECT 1 AS a").await;
    let mut last = 0;
    for level in 1..40 {
        let below = level - 1;
        let sql = format!(
            "CREATE VIEW space.v{level} AS SELECT x.a FROM space.v{below} x JOIN space.v{below} y ON x.a = y.a"
        );
        match bench.run(&sql).await {
            Ok(_) => last = level,
            Err(error) => {
                assert!(error.to_string().contains("larger than"), "{error}");
                break;
            }
        }
    }
    assert!((4..12).contains(&last), "{last}");
    bench.done("CREATE VIEW space.w0 AS SELECT 1 AS a").await;
    let mut deep = 0;
    for level in 1..40 {
        let sql = format!(
            "CREATE VIEW space.w{level} AS SELECT a FROM space.w{}",
            level - 1
        );
        if bench.run(&sql).await.is_err() {
            break;
        }
        deep = level;
    }
    assert_eq!(deep, VIEW_DEPTH_MAX);
    assert_eq!(
        bench
            .rows(&format!("SELECT a FROM space.w{}", deep - 1))
            .await,
        ["1"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_space_can_be_changed() {
    let bench = bench().await;
    bench
        .done("CREATE TABLE space.t (a INT NOT NULL, b VARCHAR)")
        .await;
    use ErrorKind::{InvalidArgument, NotFound};
    for (sql, kind, part) in [
        (
            "INSERT INTO data.people VALUES ('x', 1)",
            InvalidArgument,
            "dataset",
        ),
        ("DELETE FROM people", InvalidArgument, "dataset"),
        ("UPDATE data.people SET age = 0", InvalidArgument, "dataset"),
        ("DROP TABLE data.people", InvalidArgument, "dataset"),
        (
            "CREATE TABLE data.mine (a INT)",
            InvalidArgument,
            "schema `space`",
        ),
        ("DROP TABLE data.none", NotFound, "data.none"),
        ("DROP TABLE cardio.ecg", NotFound, "cardio.ecg"),
        ("CREATE TABLE cardio.t (a INT)", NotFound, "cardio.t"),
        ("INSERT INTO q.space.t VALUES (1)", NotFound, "q.space.t"),
        ("CREATE TABLE hub.t (a INT)", InvalidArgument, "`hub`"),
        ("DELETE FROM hub.usage", InvalidArgument, "`hub`"),
        (
            "CREATE VIEW information_schema.v AS SELECT 1 AS a",
            InvalidArgument,
            "information_schema",
        ),
        ("CREATE TABLE sample.t (a INT)", InvalidArgument, "`sample`"),
        (
            "CREATE TABLE space.u AS SELECT * FROM cardio.ecg",
            NotFound,
            "cardio.ecg",
        ),
        (
            "INSERT INTO space.t SELECT a FROM cardio.ecg",
            NotFound,
            "cardio.ecg",
        ),
        (
            "CREATE TABLE space.t (a INT)",
            InvalidArgument,
            "exists already",
        ),
        (
            "CREATE TABLE space.u (a INT PRIMARY KEY)",
            InvalidArgument,
            "PRIMARY KEY",
        ),
        (
            "CREATE TABLE space.u (a INT, UNIQUE (a))",
            InvalidArgument,
            "UNIQUE",
        ),
        (
            "CREATE TABLE space.u (a INT DEFAULT 3)",
            InvalidArgument,
            "DEFAULT",
        ),
        ("CREATE TABLE space.u (a INT, a INT)", InvalidArgument, "a"),
        (
            "CREATE TABLE space.u AS SELECT 1 AS a, 2 AS \"a\"",
            InvalidArgument,
            "a",
        ),
        ("CREATE TABLE space.u (a INTERVAL)", InvalidArgument, "`a`"),
        ("CREATE TABLE space.u ()", InvalidArgument, "column"),
        (
            "CREATE TABLE space.\"a\nb\" (a INT)",
            InvalidArgument,
            "control",
        ),
        (
            "CREATE TEMPORARY TABLE space.u (a INT)",
            InvalidArgument,
            "emporary",
        ),
        ("INSERT INTO space.t VALUES (1)", InvalidArgument, ""),
        (
            "INSERT INTO space.t (a, a) VALUES (1, 2)",
            InvalidArgument,
            "a",
        ),
        (
            "INSERT INTO space.t (a, z) VALUES (1, 2)",
            InvalidArgument,
            "z",
        ),
        ("INSERT INTO space.t (b) VALUES ('x')", InvalidArgument, "a"),
        (
            "INSERT INTO space.t VALUES (NULL, 'x')",
            InvalidArgument,
            "a",
        ),
        (
            "INSERT INTO space.t VALUES ('x', 'y')",
            InvalidArgument,
            "x",
        ),
        (
            "INSERT INTO space.t VALUES (3000000000, 'y')",
            InvalidArgument,
            "3000000000",
        ),
        (
            "INSERT OVERWRITE space.t VALUES (1, 'y')",
            InvalidArgument,
            "INSERT adds",
        ),
        (
            "INSERT INTO space.t VALUES (1, 'y') RETURNING a",
            InvalidArgument,
            "RETURNING",
        ),
        (
            "INSERT INTO space.t VALUES (1, 'y') ON CONFLICT DO NOTHING",
            InvalidArgument,
            "ON CONFLICT",
        ),
        ("UPDATE space.t SET a = 1, A = 2", InvalidArgument, "twice"),
        ("UPDATE space.t SET z = 1", InvalidArgument, "z"),
        (
            "UPDATE space.t SET a = 1 FROM space.t u",
            InvalidArgument,
            "FROM",
        ),
        ("UPDATE space.none SET a = 1", NotFound, "space.none"),
        (
            "DELETE FROM space.t USING space.t u",
            InvalidArgument,
            "USING",
        ),
        ("DELETE FROM space.t LIMIT 1", InvalidArgument, "LIMIT"),
        ("DROP TABLE space.t CASCADE", InvalidArgument, "CASCADE"),
        (
            "CREATE OR REPLACE TABLE IF NOT EXISTS space.t (a INT)",
            InvalidArgument,
            "",
        ),
    ] {
        bench.refused(sql, kind, part).await;
    }
    assert!(bench.files().is_empty());
    assert!(bench.rows("SELECT * FROM space.t").await.is_empty());
    bench
        .done("INSERT INTO space.t VALUES (1, 'x'), (2, NULL)")
        .await;
    bench
        .refused(
            "UPDATE space.t SET a = NULL WHERE b = 'x'",
            InvalidArgument,
            "`a`",
        )
        .await;
    bench
        .refused("UPDATE space.t SET a = b", InvalidArgument, "x")
        .await;
    assert_eq!(
        bench.rows("SELECT * FROM space.t ORDER BY a").await,
        ["1 x", "2 -"]
    );
    assert_eq!(bench.files().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn placeholders_are_values() {
    let bench = bench().await;
    bench
        .done("CREATE TABLE space.t (a INT, b VARCHAR, d DATE)")
        .await;
    let text = |text: &str| ScalarValue::Utf8(Some(text.into()));
    let sql = "INSERT INTO space.t VALUES (?, ?, ?)";
    let row = vec![
        ScalarValue::Int64(Some(1)),
        text("'; DROP TABLE t"),
        text("2024-02-29"),
    ];
    assert_eq!(bench.bound(sql, row).await.expect("inserts"), 1);
    let row = vec![
        ScalarValue::Null,
        ScalarValue::Utf8(None),
        ScalarValue::Null,
    ];
    assert_eq!(bench.bound(sql, row).await.expect("inserts"), 1);
    let wrong = vec![text("x"), text("x"), ScalarValue::Null];
    let error = bench.bound(sql, wrong).await.expect_err("no number");
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    let sql = "UPDATE space.t SET b = $2 WHERE a = $1";
    let row = vec![ScalarValue::Int64(Some(1)), text("x")];
    assert_eq!(bench.bound(sql, row).await.expect("updates"), 1);
    assert_eq!(
        bench.rows("SELECT * FROM space.t ORDER BY a").await,
        ["1 x 2024-02-29", "- - -"]
    );
    let row = vec![ScalarValue::Int32(Some(1))];
    assert_eq!(
        bench
            .bound("DELETE FROM space.t WHERE a = ?", row)
            .await
            .expect("deletes"),
        1
    );
    let row = vec![ScalarValue::Int64(Some(30))];
    bench
        .bound(
            "CREATE TABLE space.young AS SELECT * FROM data.people WHERE age < ?",
            row,
        )
        .await
        .expect("creates");
    assert_eq!(bench.rows("SELECT count(*) FROM space.young").await, ["2"]);
    bench
        .run("DELETE FROM space.t WHERE a = ?")
        .await
        .expect_err("unbound");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_parameters_are_one_file_and_small_files_are_merged() {
    let bench = bench().await;
    bench.done("CREATE TABLE space.t (a INT, b VARCHAR)").await;
    let rows = (0..2_000)
        .map(|i| {
            vec![
                ScalarValue::Int64(Some(i)),
                ScalarValue::Utf8((i % 2 == 0).then(|| format!("r{i}"))),
            ]
        })
        .collect();
    let (work, meter, _) = bench.work();
    let view = bench.view().await;
    let options = SessionOptions::default();
    let parsed = parse("INSERT INTO space.t VALUES (?, ?)", 1 << 20).expect("parses");
    let begun = std::time::Instant::now();
    let count = change_rows(
        &bench.planning(&view, &options),
        parsed,
        rows,
        &work,
        &meter,
    )
    .await;
    println!("2000 bound rows in {:?}", begun.elapsed());
    assert_eq!(count.expect("inserts"), 2_000);
    assert_eq!(bench.files().len(), 1);
    assert_eq!(
        bench
            .rows("SELECT count(*), sum(a), count(b) FROM space.t")
            .await,
        ["2000 1999000 1000"]
    );
    let begun = std::time::Instant::now();
    for i in 0..70 {
        bench
            .done(&format!("INSERT INTO space.t VALUES ({i}, NULL)"))
            .await;
    }
    println!("70 single rows in {:?}", begun.elapsed());
    let space = bench.view().await.space.clone().expect("space");
    assert!(
        space.objects["t"].files.len() < 35,
        "{}",
        space.objects["t"].files.len()
    );
    assert_eq!(
        bench
            .rows("SELECT count(*), sum(a), count(b) FROM space.t")
            .await,
        ["2070 2001415 1000"]
    );
    // Three rows of parameters of an UPDATE, each on what the one before left.
    let rows = vec![vec![ScalarValue::Int64(Some(2))]; 3];
    let (work, meter, _) = bench.work();
    let view = bench.view().await;
    let parsed = parse(
        "UPDATE space.t SET a = a * ? WHERE a = 7 OR a = 14 OR a = 28",
        1 << 20,
    )
    .expect("parses");
    let count = change_rows(
        &bench.planning(&view, &options),
        parsed,
        rows,
        &work,
        &meter,
    )
    .await;
    assert!(count.expect("updates") >= 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_stays_readable_and_its_files_go_later() {
    let bench = bench_with("ticket_seconds_max = 0\nstatement_seconds_max = 0", 100).await;
    bench
        .done("CREATE TABLE space.t AS SELECT name FROM data.people")
        .await;
    let before = bench.view().await;
    let old = bench.files();
    bench.done("UPDATE space.t SET name = 'x'").await;
    assert!(old.iter().all(|file| file.exists()) || bench.files().len() == 1);
    let after = bench.view().await;
    assert!(after.space_snapshot() > before.space_snapshot());
    bench.done("DROP TABLE space.t").await;
    // The clean-up after a change runs beside it; whoever comes first, nothing is left.
    for _ in 0..100 {
        clean_up(&bench.hub).await.expect("cleans");
        if bench.files().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(bench.files().is_empty());
    assert!(
        bench
            .hub
            .store
            .space_file_names("p")
            .await
            .expect("lists")
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_not_disturbed_by_writers() {
    let bench = bench().await;
    bench
        .done("CREATE TABLE space.t AS SELECT name FROM data.people")
        .await;
    let before = bench.view().await;
    bench.done("DELETE FROM space.t WHERE name < 'p5'").await;
    bench.done("DROP TABLE space.t").await;
    let rows = bench
        .query_in(&before, "SELECT count(*) FROM space.t WHERE name <> ''")
        .await;
    assert_eq!(rows.expect("reads"), ["10"]);
    bench
        .fails("SELECT * FROM space.t", ErrorKind::NotFound, "space.t")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_write_at_once_and_nothing_is_lost() {
    let bench = Arc::new(bench().await);
    bench.done("CREATE TABLE space.t (n INT)").await;
    bench.done("INSERT INTO space.t VALUES (0)").await;
    let mut tasks = Vec::new();
    for n in 1..=12 {
        let bench = Arc::clone(&bench);
        tasks.push(tokio::spawn(async move {
            if n % 2 == 0 {
                bench
                    .run(&format!("INSERT INTO space.t VALUES ({n})"))
                    .await
                    .map(|_| n)
            } else {
                bench
                    .run("UPDATE space.t SET n = n + 1000 WHERE n % 2 = 0")
                    .await
                    .map(|_| 0)
            }
        }));
    }
    let mut inserted = 0;
    for task in tasks {
        match task.await.expect("runs") {
            Ok(n) => inserted += usize::from(n > 0),
            Err(error) => assert!(
                error.to_string().contains("run the statement again"),
                "{error}"
            ),
        }
    }
    assert_eq!(inserted, 6, "appends do not conflict");
    let rows = bench
        .rows("SELECT n % 1000 AS m FROM space.t ORDER BY m")
        .await;
    assert_eq!(rows, ["0", "2", "4", "6", "8", "10", "12"]);
    let kept = bench.rows("SELECT count(*) FROM space.t").await;
    assert_eq!(kept, ["7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quota_stops_a_statement_early() {
    let bench = bench_with("", 1).await;
    let sql = "CREATE TABLE space.big AS SELECT md5(CAST(value AS VARCHAR)) AS h FROM generate_series(1, 50000000)";
    let begun = std::time::Instant::now();
    bench
        .refused(sql, ErrorKind::ResourceExhausted, "quota")
        .await;
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    assert!(bench.files().is_empty());
    bench
        .fails("SELECT * FROM space.big", ErrorKind::NotFound, "space.big")
        .await;
    bench
        .done("CREATE TABLE space.small AS SELECT 1 AS a")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_nothing() {
    let bench = bench().await;
    let sql = "CREATE TABLE space.big AS SELECT value AS v FROM generate_series(1, 2000000000)";
    let limit = std::time::Duration::from_millis(700);
    tokio::time::timeout(limit, bench.run(sql))
        .await
        .expect_err("takes longer");
    for _ in 0..250 {
        if bench.files().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(bench.files().is_empty());
    bench
        .fails("SELECT * FROM space.big", ErrorKind::NotFound, "space.big")
        .await;
}
