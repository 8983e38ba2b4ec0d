//! What the audit's entries of changes tell, from their text to the log.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use hubflight_ledger::{AuditRecord, Filter, Page};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::hub::Hub;
use crate::plan::parameters;
use crate::rig::{SHOP, ada_in_session, open_hub};
use crate::statement::{Opened, Text};

struct Bench {
    hub: Arc<Hub>,
    _folder: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("folder");
        std::fs::write(data.join("sales.csv"), "item,cents\na,1\nb,2\n").expect("written");
        std::fs::write(data.join("items.csv"), "item,name\na,A\nb,B\n").expect("written");
        let hub = open_hub(folder.path(), SHOP).await;
        Bench {
            hub,
            _folder: folder,
        }
    }

    async fn run(&self, sql: &str, parameters: Vec<u8>) -> Result<()> {
        let text = Text {
            sql: sql.to_owned(),
            parameters,
            transaction: None,
        };
        let caller = ada_in_session(&self.hub).await;
        Opened::open(&self.hub, &caller, text).await.map(drop)
    }

    /// The entries of the newest statement: its intent and its outcome.
    async fn entries(&self) -> Vec<AuditRecord> {
        self.hub.ledger.flush().await.expect("flushed");
        let page = Page {
            after_seq: 0,
            rows_max: 1_000,
        };
        let audit = self.hub.ledger.audit(&Filter::default(), page).await;
        let audit = audit.expect("read");
        let newest = audit.iter().rev().find_map(|entry| entry.statement_id);
        let of_it = audit.into_iter().filter(|e| e.statement_id == newest);
        of_it.collect()
    }
}

fn numbers(values: &[i64]) -> Vec<u8> {
    let schema = Arc::new(Schema::new(vec![Field::new("", DataType::Int64, true)]));
    let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).expect("valid");
    parameters::encode(&schema, &[batch]).expect("encodes")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_a_change_names_what_it_reads_and_writes() {
    let bench = Bench::new().await;
    let both = json!({
        "shop.items": ["item", "name"], "shop.sales": ["cents", "item"], "written": ["space.both"],
    });
    for (sql, columns, reads_shop) in [
        (
            "CREATE TABLE space.t AS SELECT item FROM shop.sales WHERE cents > 1",
            json!({"shop.sales": ["cents", "item"], "written": ["space.t"]}),
            true,
        ),
        (
            "INSERT INTO t SELECT name FROM shop.items",
            json!({"shop.items": ["name"], "written": ["space.t"]}),
            true,
        ),
        (
            "INSERT INTO space.t VALUES ('x'), ('y')",
            json!({"written": ["space.t"]}),
            false,
        ),
        (
            "CREATE VIEW space.both AS SELECT name, cents FROM shop.sales NATURAL JOIN shop.items",
            both,
            true,
        ),
        (
            "CREATE TABLE space.u AS SELECT sum(cents) AS cents FROM space.both",
            json!({
                "shop.items": ["item"], "shop.sales": ["cents", "item"], "written": ["space.u"],
            }),
            true,
        ),
        (
            "UPDATE space.t SET item = upper(item) WHERE item IN (SELECT item FROM shop.items)",
            json!({"shop.items": ["item"], "space.t": ["item"], "written": ["space.t"]}),
            true,
        ),
        (
            "DELETE FROM space.t WHERE item = 'A'",
            json!({"space.t": ["item"], "written": ["space.t"]}),
            false,
        ),
        (
            "DROP VIEW space.both",
            json!({"written": ["space.both"]}),
            false,
        ),
        (
            "CALL hub.request_export('SELECT count(*) AS n FROM shop.sales WHERE cents > 0', \
             'cells', 'p')",
            json!({"shop.sales": ["cents"], "written": ["exports.cells"]}),
            true,
        ),
        (
            "CALL hub.withdraw_export('cells')",
            json!({"written": ["exports.cells"]}),
            false,
        ),
    ] {
        bench.run(sql, Vec::new()).await.expect(sql);
        let entries = bench.entries().await;
        assert_eq!(entries.len(), 2, "{sql}: {entries:?}");
        for entry in entries {
            assert_eq!(entry.columns, columns, "{sql}");
            let datasets: Vec<&str> = entry
                .datasets
                .iter()
                .filter_map(|d| d.split('@').next())
                .collect();
            let expected: &[&str] = if reads_shop { &["shop"] } else { &[] };
            assert_eq!(datasets, expected, "{sql}");
            assert_eq!(entry.habilitations.len(), expected.len(), "{sql}");
        }
    }
}

/// A row of parameters sees what the statements before it left: a view that is another one by
/// then reads nothing that the audit was not told of.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_read_that_was_not_told_of() {
    let bench = Bench::new().await;
    for sql in [
        "CREATE TABLE space.t (cents BIGINT)",
        "CREATE VIEW space.v AS SELECT cents FROM shop.sales",
    ] {
        bench.run(sql, Vec::new()).await.expect(sql);
    }
    let sql = "INSERT INTO space.t SELECT cents FROM space.v WHERE cents > ?";
    bench.run(sql, numbers(&[0, 1])).await.expect("reads it");
    let told = Touched::default();
    let caller = ada_in_session(&bench.hub).await;
    let view = Arc::new(caller.view(&bench.hub, "p").await.expect("a view"));
    let planning = Planning {
        hub: &bench.hub,
        view: &view,
        options: &caller.principal.options,
        now: caller.now,
    };
    let parsed = parse(sql, 10_000).expect("parses");
    let touched = Touched::of(&planning, &parsed).await;
    touched.check(&touched.tables).expect("as it was told");
    let refused = told.check(&touched.tables).expect_err("another table");
    assert_eq!(refused.kind, ErrorKind::Unavailable);
    assert!(refused.to_string().contains("`shop.sales`"), "{refused}");
}

/// What cannot be planned fails as its own error, and tells of nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_told_as_it_fails() {
    let bench = Bench::new().await;
    for (sql, said) in [
        ("INSERT INTO space.nowhere SELECT 1", "space.nowhere"),
        (
            "CREATE TABLE space.t AS SELECT * FROM shop.hidden",
            "hidden",
        ),
        ("DELETE FROM shop.sales", "dataset"),
    ] {
        let error = bench.run(sql, Vec::new()).await.expect_err(sql);
        assert!(error.to_string().contains(said), "{sql}: {error}");
        for entry in bench.entries().await {
            assert!(entry.datasets.is_empty(), "{sql}");
            let named = entry
                .columns
                .as_object()
                .map(|o| o.keys().cloned().collect());
            let named: Vec<String> = named.unwrap_or_default();
            assert!(
                named.iter().all(|name| name == "written"),
                "{sql}: {named:?}"
            );
        }
    }
}
