//! What a change is told and recorded as, whatever happens around its commit.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use chrono::Utc;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use hubflight_ledger::{
    ExecutionStarted, Filter, Page, StatementKind, StatementOpened, UsageRecord,
};
use hubflight_store::WriteTransaction;
use tempfile::TempDir;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use super::*;
use crate::error::ErrorKind;
use crate::exec::revocation::Grounds;
use crate::hub::open_store;
use crate::plan::parse::parse;
use crate::rig::{inside, open_hub};

const FILE: &str = "
[server]
state = 'state'
[[person]]
id = 'ada'
[[project]]
id = 'p'
members = ['ada']
valid_from = '2000-01-01'
valid_to = '2999-01-01'
";
const LONG: Duration = Duration::from_secs(60);
const INSERT: &str = "INSERT INTO space.t VALUES (1), (2)";

struct Bench {
    hub: Arc<Hub>,
    _folder: TempDir,
}

impl Bench {
    /// A hub with an empty table `space.t`.
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let hub = open_hub(folder.path(), FILE).await;
        // The space has its key, so that a change writes to the store when it commits only.
        let key = hub.space_files.keys().newest("p").await;
        key.expect("made");
        let bench = Self {
            hub,
            _folder: folder,
        };
        let made = bench.change("CREATE TABLE space.t (a BIGINT)", LONG).await;
        made.run().await.expect("made");
        bench
    }

    async fn caller(&self) -> Caller {
        let (hub, now) = (&self.hub, Utc::now());
        let ada = hub.store.person("ada").await.expect("read").expect("there");
        let token = hub
            .auth
            .tokens
            .issue(&ada.id, ada.token_epoch, Default::default(), now);
        let mut metadata = MetadataMap::new();
        let value = format!("Bearer {}", token.expect("issued"));
        metadata.insert("authorization", value.parse().expect("a header"));
        let principal = hub.auth.authenticate(&metadata, "test", now).await;
        Caller {
            principal: principal.expect("let in"),
            zone: inside(),
            now,
            timeout: None,
            place: hub.engine.call("ada").expect("room"),
        }
    }

    /// A change that has begun.
    async fn change(&self, sql: &str, time: Duration) -> Change {
        let (hub, caller) = (&self.hub, self.caller().await);
        let statement_id = Uuid::now_v7();
        let opened = StatementOpened {
            statement_id,
            person: "ada".into(),
            project: Some("p".into()),
            kind: StatementKind::Dml,
            client: String::new(),
            sql_sha256: [0; 32],
            sql_sealed: Vec::new(),
            tags: BTreeMap::new(),
            opened_at: caller.now,
            expires_at: caller.now + LONG,
        };
        hub.ledger.statement(opened).await.expect("recorded");
        let started = ExecutionStarted {
            statement_id,
            habilitations: Vec::new(),
            datasets: Vec::new(),
            columns: serde_json::Value::Null,
            started_at: caller.now,
        };
        let stop = Arc::new(Stop::default());
        let grounds = Grounds::of_nobody("ada");
        Change {
            hub: Arc::clone(hub),
            view: Arc::new(caller.view(hub, "p").await.expect("a view")),
            asked: Asked::Statement {
                parsed: parse(sql, 1 << 20).expect("parses"),
                rows: Vec::new(),
            },
            touched: Touched::default(),
            execution: hub.ledger.begin(started).await.expect("begins"),
            permit: hub.engine.admit("ada").await.expect("a place"),
            place: hub
                .running
                .enter(statement_id, Arc::clone(&stop), grounds.clone()),
            stop,
            grounds,
            time,
            turn: None,
            caller,
        }
    }

    /// Keeps every other writer waiting, as a slow store does.
    async fn blocked(&self) -> WriteTransaction {
        let (other, _) = open_store(&self.hub.config).await.expect("store");
        other.write().await.expect("begins")
    }

    /// The record of the only change after the table was made, once there is one.
    async fn record(&self) -> UsageRecord {
        let began = Instant::now();
        loop {
            let records = self.hub.ledger.usage(&Filter::default(), Page::FIRST).await;
            let mut records = records.expect("read");
            if records.len() > 1 {
                records.sort_by_key(|record| record.started_at);
                return records.pop().expect("two");
            }
            assert!(began.elapsed() < Duration::from_secs(10), "not settled");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn rows(&self) -> i64 {
        let caller = self.caller().await;
        let view = caller.view(&self.hub, "p").await.expect("a view");
        let planning = Planning {
            hub: &self.hub,
            view: &Arc::new(view),
            options: &caller.principal.options,
            now: caller.now,
        };
        let sql = "SELECT count(*) FROM space.t";
        let query = planning.query(parse(sql, 1 << 20).expect("parses")).await;
        let query = query.expect("plans").optimise().expect("optimises");
        let meter = Meter::new(&self.hub, Arc::default());
        let work = Arc::new(StatementWork {
            statement_id: Uuid::now_v7().to_string(),
            tenant: "p".into(),
            deadline: u64::MAX,
            priority: 100,
            trace: None,
            pool: Arc::clone(&self.hub.workers),
            meter,
            ended: Arc::default(),
        });
        let (plan, context) = query.physical(&self.hub.engine, work).await.expect("plans");
        let mut batches = execute_stream(plan, context).expect("runs");
        let batch = batches.next().await.expect("a batch").expect("computed");
        batch.column(0).as_primitive::<Int64Type>().value(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_is_told_although_it_cannot_be_recorded() {
    let bench = Bench::new().await;
    let change = bench.change(INSERT, LONG).await;
    bench.hub.ledger.close().await.expect("closed");
    assert_eq!(change.run().await.expect("it is changed"), 2);
    assert_eq!(bench.rows().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_sent_is_awaited_whatever_ends_the_change() {
    for way in ["deadline", "cancel"] {
        let bench = Bench::new().await;
        let time = match way {
            "deadline" => Duration::from_secs(1),
            _ => LONG,
        };
        let change = bench.change(INSERT, time).await;
        let stop = Arc::clone(&change.stop);
        let blocked = bench.blocked().await;
        let changed = tokio::spawn(change.run());
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        if way == "cancel" {
            stop.cancel();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!changed.is_finished(), "{way}: told before it is known");
        blocked.commit().await.expect("free");
        assert_eq!(changed.await.expect("runs").expect(way), 2);
        assert_eq!(bench.record().await.outcome, "ok", "{way}");
        assert_eq!(bench.rows().await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_during_the_commit_is_recorded_as_having_changed() {
    let bench = Bench::new().await;
    let change = bench.change(INSERT, LONG).await;
    let blocked = bench.blocked().await;
    let changed = tokio::spawn(change.run());
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    changed.abort();
    assert!(changed.await.expect_err("gone").is_cancelled());
    blocked.commit().await.expect("free");
    assert_eq!(bench.record().await.outcome, "ok");
    assert_eq!(bench.rows().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_ends_before_its_commit_changes_nothing() {
    let bench = Bench::new().await;
    let change = bench.change(INSERT, Duration::ZERO).await;
    let error = change.run().await.expect_err("late");
    assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
    let record = bench.record().await;
    assert_eq!(record.error_kind.as_deref(), Some("deadline_exceeded"));
    assert_eq!(bench.rows().await, 0);

    let bench = Bench::new().await;
    let hundred = format!("(VALUES {})", vec!["(1)"; 100].join(", "));
    let slow = format!(
        "INSERT INTO space.t SELECT a.column1 FROM {hundred} a, {hundred} b, {hundred} c, \
         {hundred} d, {hundred} e"
    );
    let change = bench.change(&slow, LONG).await;
    let changed = tokio::spawn(change.run());
    tokio::time::sleep(Duration::from_millis(200)).await;
    changed.abort();
    assert!(changed.await.expect_err("gone").is_cancelled());
    assert_eq!(bench.record().await.outcome, "cancelled");
    assert_eq!(bench.rows().await, 0);
}

/// Rights that end when a change has only its commit left: they end first, and it does not happen.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_after_the_right_to_it_has_ended() {
    for way in ["nothing of theirs", "person", "membership", "project"] {
        let bench = Bench::new().await;
        let change = bench.change(INSERT, LONG).await;
        let (other, _) = open_store(&bench.hub.config).await.expect("store");
        let mut rights = other.change_rights().await.expect("begins");
        let changed = tokio::spawn(change.run());
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert!(!changed.is_finished(), "{way}: it overtakes");
        match way {
            "person" => rights.set_active("ada", false).await.expect("disabled"),
            "membership" => rights.remove_member("p", "ada").await.expect("removed"),
            "project" => {
                let mut project = rights.project("p").await.expect("read").expect("there");
                project.valid_to = Utc::now();
                rights.put_project(&project).await.expect("ended");
            }
            _ => {}
        }
        rights.commit().await.expect("committed");
        let changed = changed.await.expect("runs");
        let snapshot = bench.hub.store.current_snapshot("p").await.expect("read");
        match way {
            "nothing of theirs" => assert_eq!((changed.expect("holds"), snapshot), (2, 2)),
            _ => {
                let kind = changed.expect_err(way).kind;
                let expected = match way {
                    "person" => ErrorKind::Unauthenticated,
                    _ => ErrorKind::PermissionDenied,
                };
                assert_eq!((kind, snapshot), (expected, 1), "{way}");
            }
        }
    }
}
