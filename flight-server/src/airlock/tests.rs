//! The life of a package, and who may have it when: every way that is shut is tried.

mod doors;
mod limits;
mod plans;

use std::path::PathBuf;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt};
use hubflight_ledger::{AuditRecord, Filter, Page};
use hubflight_rights::Zone;
use hubflight_rights::habilitation::Habilitation;
use hubflight_store::{Export, ExportDecision, NewHabilitation, Opposition};
use hubflight_tickets::Ticket;
use tempfile::TempDir;
use tonic::metadata::MetadataMap;

use super::*;
use crate::flight::call::Caller;
use crate::rig::{inside, open_hub};
use crate::statement::{self, Opened, Text};

/// Three hundred stays of a hundred persons in two wards; six persons have something rare.
/// `ada` and `bob` see rows, each in a project of their own, `cleo` aggregates only.
const HUB: &str = "
[server]
state = 'state'
zone = 'inside'
[limits]
export_requests_per_day_max = 60
exports_per_day_max = 4
exports_open_max = 6
export_rows_max = 1000
[[dataset]]
name = 'clinic'
folder = 'data'
format = 'csv'
producer = 'x'
[[dataset.table]]
name = 'stays'
location = 'stays.csv'
person = { column = 'person' }
columns = [{ name = 'person' }, { name = 'ward' }, { name = 'age' }, { name = 'rare' },
           { name = 'note' }, { name = 'site', identifier = 'site' }]
[[dataset.table]]
name = 'wards'
location = 'wards.csv'
person = 'none'
[[person]]
id = 'ada'
[[person]]
id = 'bob'
[[person]]
id = 'cleo'
";
const PROJECT: &str = "
[[project]]
id = '{id}'
members = ['{member}']
valid_from = '2000-01-01'
valid_to = '2999-01-01'
[[habilitation]]
project = '{id}'
dataset = 'clinic'
mode = '{mode}'
decision = 'd'
valid_from = '2000-01-01'
valid_to = '2999-01-01'
";
/// Passes the rules.
const CELLS: &str =
    "SELECT ward, count(DISTINCT person) AS persons FROM clinic.stays GROUP BY ward";
/// Waits for somebody.
const SUMS: &str = "SELECT ward, count(DISTINCT person) AS persons, sum(age) AS s \
                    FROM clinic.stays GROUP BY ward";

struct Bench {
    hub: Arc<Hub>,
    folder: TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self::ruled("").await
    }

    /// With policies of the operator's.
    async fn ruled(policies: &str) -> Self {
        Self::edited(policies, str::to_owned).await
    }

    /// With another text of the configuration too.
    async fn edited(policies: &str, edit: impl Fn(&str) -> String) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let data = folder.path().join("data");
        std::fs::create_dir_all(&data).expect("folder");
        let mut rows = String::from("person,ward,age,rare,note,site\n");
        for i in 0..300 {
            let (person, ward) = (i / 3, ["north", "south"][i % 2]);
            let rare = if person < 6 { "x" } else { "y" };
            rows.push_str(&format!(
                "{person},{ward},{},{rare},vu par le Dr Jean DUPONT,{}\n",
                20 + person % 60,
                i % 5
            ));
        }
        std::fs::write(data.join("stays.csv"), rows).expect("written");
        std::fs::write(
            data.join("wards.csv"),
            "ward,label\nnorth,Nord\nsouth,Sud\n",
        )
        .expect("written");
        let project = |id, member, mode| {
            PROJECT
                .replace("{id}", id)
                .replace("{member}", member)
                .replace("{mode}", mode)
        };
        let text = [
            edit(HUB),
            project("p", "ada", "row"),
            project("q", "bob", "row"),
            project("cells", "cleo", "aggregate"),
        ]
        .concat();
        std::fs::write(folder.path().join("operator.cedar"), policies).expect("written");
        let text = format!("{text}[policies]\nfiles = ['operator.cedar']\n");
        let hub = open_hub(folder.path(), &text).await;
        Self { hub, folder }
    }

    async fn caller(&self, person: &str, zone: Zone) -> Caller {
        let (hub, now) = (&self.hub, Utc::now());
        let known = hub
            .store
            .person(person)
            .await
            .expect("read")
            .expect("there");
        let token = hub
            .auth
            .tokens
            .issue(&known.id, known.token_epoch, Default::default(), now);
        let mut metadata = MetadataMap::new();
        let value = format!("Bearer {}", token.expect("issued"));
        metadata.insert("authorization", value.parse().expect("a header"));
        let principal = hub.auth.authenticate(&metadata, "test", now).await;
        Caller {
            principal: principal.expect("let in"),
            zone,
            now,
            timeout: None,
            place: hub.engine.call(person).expect("room"),
        }
    }

    async fn ada(&self) -> Caller {
        self.caller("ada", inside()).await
    }

    async fn outside(&self) -> Caller {
        self.caller("ada", Zone::default()).await
    }

    /// The rows that a query gives, or that a change changed.
    async fn run(&self, caller: &Caller, sql: &str) -> Result<u64> {
        let handle = match Opened::open(&self.hub, caller, Text::new(sql.to_owned())).await? {
            Opened::Changed { rows } => return Ok(rows),
            Opened::Query { handle, .. } => handle,
        };
        let person = &caller.principal.person.id;
        let ticket = Ticket::open(&handle, &self.hub.tickets, person, caller.now)?;
        let frames = statement::redeem(&self.hub, caller, ticket).await?;
        let frames = frames.map_ok(Into::into).map_err(FlightError::from);
        let mut batches = FlightRecordBatchStream::new_from_flight_data(frames);
        let mut rows = 0;
        while let Some(batch) = batches.next().await {
            match batch {
                Ok(batch) => rows += batch.num_rows() as u64,
                Err(FlightError::Tonic(status)) => return Err((*status).into()),
                Err(error) => panic!("{error}"),
            }
        }
        Ok(rows)
    }

    /// A new version of a project's habilitation, with another rule of exports.
    async fn rule_exports(&self, project: &str, export: ExportRule) {
        let rows = self
            .hub
            .store
            .habilitations_of(project)
            .await
            .expect("read");
        let newest = rows.last().expect("one");
        let mut next: Habilitation = serde_json::from_str(&newest.body).expect("a body");
        (next.version, next.export) = (newest.version + 1, export);
        let new = NewHabilitation {
            id: next.id.clone(),
            version: next.version,
            project: project.into(),
            dataset: next.dataset.clone(),
            body: serde_json::to_string(&next).expect("writes"),
        };
        self.hub
            .store
            .put_habilitation(&new)
            .await
            .expect("written");
    }

    async fn request(&self, caller: &Caller, name: &str, sql: &str) -> Result<u64> {
        let sql = sql.replace('\'', "''");
        let call = format!("CALL hub.request_export('{sql}', '{name}', 'an article')");
        self.run(caller, &call).await
    }

    async fn export(&self, name: &str) -> Export {
        let exports = self.hub.store.exports(None).await.expect("read");
        let mut exports = exports.into_iter().rev();
        exports
            .find(|export| export.package.name == name)
            .expect("asked for")
    }

    /// Where the package stands that a query makes.
    async fn state(&self, caller: &Caller, name: &str, sql: &str) -> ExportState {
        let asked = self.request(caller, name, sql).await;
        let state = self.export(name).await.package.state;
        assert_eq!(
            asked.is_err(),
            state == ExportState::Refused,
            "{sql}: {asked:?}"
        );
        state
    }

    async fn release(&self, name: &str) -> DateTime<Utc> {
        let until = Utc::now() + TimeDelta::days(2);
        let mut write = self.hub.store.change_rights().await.expect("begins");
        let id = self.export(name).await.package.id;
        let release = ExportDecision::Release { until };
        let released = write.decide_export(&id, release, "root", Utc::now()).await;
        assert!(released.expect("decided"));
        write.commit().await.expect("committed");
        until
    }

    async fn withdraw(&self, name: &str) {
        let id = self.export(name).await.package.id;
        let mut write = self.hub.store.change_rights().await.expect("begins");
        assert!(write.withdraw_export(&id).await.expect("withdrawn"));
        write.commit().await.expect("committed");
    }

    fn package(&self, id: &str) -> PathBuf {
        self.folder
            .path()
            .join("state/airlock")
            .join(id)
            .join("package")
    }

    /// The audit's entries whose event begins so.
    async fn audit(&self, event: &str) -> Vec<AuditRecord> {
        let records = self.hub.ledger.audit(&Filter::default(), Page::FIRST).await;
        let mut records = records.expect("read");
        records.retain(|record| record.event.starts_with(event));
        records
    }

    async fn is_missing(&self, caller: &Caller, name: &str) {
        let error = self
            .run(caller, &format!("SELECT * FROM exports.{name}"))
            .await;
        let error = error.expect_err("shut");
        assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
        let text = error.to_string().replace(name, "?");
        let never = self.run(caller, "SELECT * FROM exports.never").await;
        let never = never.expect_err("never there").to_string();
        assert_eq!(text, never.replace("never", "?"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_of_persons_are_released_alone_and_read_outside() {
    let bench = Bench::new().await;
    let (ada, outside) = (bench.ada().await, bench.outside().await);
    assert_eq!(
        bench.state(&ada, "cells", CELLS).await,
        ExportState::Released
    );
    for caller in [&ada, &outside] {
        let rows = bench.run(caller, "SELECT * FROM exports.cells").await;
        assert_eq!(rows.expect("read"), 2);
    }
    let one = "SELECT ward FROM exports.cells WHERE ward = 'north'";
    assert_eq!(bench.run(&outside, one).await.expect("read"), 1);
    let listed = "SELECT id FROM hub.exports WHERE state = 'released' AND findings IS NULL";
    assert_eq!(bench.run(&outside, listed).await.expect("read"), 1);

    let id = bench.export("cells").await.package.id;
    let requested = bench.audit("export_requested").await;
    assert!(requested[0].client.contains(&id) && requested[0].client.contains("sha256"));
    assert_eq!(requested[0].person.as_deref(), Some("ada"));
    assert_eq!(bench.audit("export_released").await.len(), 1);
    let downloads = bench.audit("export_downloaded").await;
    let zones: Vec<&str> = downloads
        .iter()
        .filter_map(|record| record.client.rsplit(' ').next())
        .collect();
    assert_eq!(zones, ["inside", "outside", "outside"]);
    assert!(downloads.iter().all(|record| record.outcome == "ok"
        && record.person.as_deref() == Some("ada")
        && record.client.contains(&id)));
    // Metered as everything else.
    let usage = bench
        .hub
        .ledger
        .usage(&Filter::default(), Page::FIRST)
        .await;
    let usage = usage.expect("read");
    let returned = usage.iter().filter(|record| record.rows_returned > 0);
    assert!(returned.clone().count() >= 3 && returned.clone().all(|one| one.bytes_returned > 0));
    // The content is nowhere in clear.
    let sealed = std::fs::read(bench.package(&id)).expect("there");
    assert!(!sealed.windows(5).any(|bytes| bytes == b"north"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_read_by_nobody_until_it_is_released_and_while_it_is() {
    let bench = Bench::new().await;
    let (ada, outside) = (bench.ada().await, bench.outside().await);
    let bob = bench.caller("bob", inside()).await;
    assert_eq!(bench.state(&ada, "sums", SUMS).await, ExportState::Waiting);
    for caller in [&ada, &outside, &bob] {
        bench.is_missing(caller, "sums").await;
    }
    let until = bench.release("sums").await;
    for caller in [&ada, &outside] {
        let rows = bench.run(caller, "SELECT * FROM exports.sums").await;
        assert_eq!(rows.expect("released"), 2);
    }
    bench.is_missing(&bob, "sums").await;
    bench
        .is_missing(&bench.caller("bob", Zone::default()).await, "sums")
        .await;
    let foreign = bench.run(&bob, "SELECT * FROM p.exports.sums").await;
    assert_eq!(foreign.expect_err("another's").kind, ErrorKind::NotFound);
    bench.is_missing(&outside.at(until), "sums").await;

    let grounds = Grounds {
        exports: [bench.export("sums").await.package.id].into(),
        standing: outside.principal.standing.clone(),
        ..Grounds::of_nobody("ada")
    };
    let held = revocation::decide(&bench.hub, &grounds, Utc::now()).await;
    assert!(
        held.expect("holds").is_some_and(|end| end <= until),
        "it ends with the export"
    );
    // The right that it was made under is no ground of a release.
    let renewed = bench.hub.store.revoke_habilitation("p.clinic").await;
    renewed.expect("revoked");
    let outside = bench.outside().await;
    let rows = bench.run(&outside, "SELECT * FROM exports.sums").await;
    assert_eq!(rows.expect("still"), 2);
    bench.withdraw("sums").await;
    bench.is_missing(&outside, "sums").await;
    let ended = revocation::decide(&bench.hub, &grounds, Utc::now()).await;
    assert_eq!(
        ended.expect_err("withdrawn").kind,
        ErrorKind::PermissionDenied
    );

    let id = bench.export("sums").await.package.id;
    assert!(bench.package(&id).exists());
    sweep(&bench.hub, Utc::now()).await.expect("swept");
    assert!(!bench.package(&id).exists(), "nothing of it is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_told_kept_as_refused_and_nowhere_else() {
    let bench = Bench::new().await;
    let ada = bench.ada().await;
    let error = bench
        .request(&ada, "rows", "SELECT person, age FROM clinic.stays")
        .await;
    let error = error.expect_err("persons");
    assert_eq!(error.kind, ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("column `person`"), "{error}");
    let export = bench.export("rows").await;
    assert_eq!(
        (export.package.state, export.package.rows),
        (ExportState::Refused, 300)
    );
    let found = findings(&export.package).expect("read");
    assert!(
        found
            .iter()
            .any(|finding| finding.verdict == Verdict::Refuses)
    );
    let folder = bench.folder.path().join("state/airlock");
    assert!(!folder.exists() || folder.read_dir().expect("lists").next().is_none());
    bench.is_missing(&ada, "rows").await;
    let requested = bench.audit("export_requested").await;
    assert!(
        requested[0]
            .client
            .ends_with("found by identifiers and origin: refused")
    );
}

/// What the rules make of a query: the controls stand beside what they would let through.
#[tokio::test(flavor = "multi_thread")]
async fn members_take_back_what_they_asked_for() {
    let bench = Bench::new().await;
    let (ada, bob) = (bench.ada().await, bench.caller("bob", inside()).await);
    bench.request(&ada, "cells", CELLS).await.expect("released");
    let withdraw = "CALL hub.withdraw_export('cells')";
    let error = bench.run(&bob, withdraw).await.expect_err("another's");
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert_eq!(
        bench
            .run(&ada, "SELECT * FROM exports.cells")
            .await
            .expect("there"),
        2
    );
    let outside = bench.outside().await;
    assert_eq!(bench.run(&outside, withdraw).await.expect("withdrawn"), 1);
    bench.is_missing(&ada, "cells").await;
    let error = bench.run(&ada, withdraw).await.expect_err("over");
    assert_eq!(error.kind, ErrorKind::NotFound);
    let told = bench.audit("export_withdrawn").await;
    assert!(told.len() == 1 && told[0].person.as_deref() == Some("ada"));
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_are_bounded_in_number_and_end_with_their_time() {
    let bench = Bench::new().await;
    let ada = bench.ada().await;
    for index in 0..6 {
        let name = format!("w{index}");
        assert_eq!(bench.state(&ada, &name, SUMS).await, ExportState::Waiting);
    }
    let error = bench.request(&ada, "w6", SUMS).await.expect_err("too many");
    assert_eq!(error.kind, ErrorKind::ResourceExhausted, "{error}");
    // What was refused room left no file.
    let folder = bench.folder.path().join("state/airlock");
    let files = || folder.read_dir().expect("lists").count();
    assert_eq!(files(), 6);
    bench.release("w0").await;
    sweep(&bench.hub, Utc::now() + TimeDelta::days(3))
        .await
        .expect("swept");
    assert_eq!(files(), 5, "the others wait on");
    assert_eq!(bench.audit("export_expired").await.len(), 1);
    sweep(&bench.hub, Utc::now() + TimeDelta::days(31))
        .await
        .expect("swept");
    assert_eq!(files(), 0);
    assert_eq!(bench.audit("export_expired").await.len(), 6);
    sweep(&bench.hub, Utc::now() + TimeDelta::days(31))
        .await
        .expect("swept");
    assert_eq!(bench.audit("export_expired").await.len(), 6, "once each");
    bench
        .request(&ada, "w0", SUMS)
        .await
        .expect("there is room, and the name is free");
}

/// Between the rows and their package somebody opposes.
#[tokio::test(flavor = "multi_thread")]
async fn who_opposes_while_a_package_is_made_is_not_in_it() {
    let bench = Bench::new().await;
    let ada = bench.ada().await;
    let mut write = bench.hub.store.write().await.expect("begins");
    let entry = Opposition::new("person", "7").expect("an entry");
    write.put_opposition(&entry).await.expect("entered");
    write.commit().await.expect("committed");
    // This call began before, as far as the rows go.
    let late = ada.at(Utc::now() - TimeDelta::minutes(1));
    let view = Arc::new(late.view(&bench.hub, "p").await.expect("a view"));
    let options = crate::auth::session::SessionOptions::default();
    let planning = Planning {
        hub: &bench.hub,
        view: &view,
        options: &options,
        now: late.now,
    };
    let meter = crate::exec::meter::Meter::new(&bench.hub, Arc::default());
    let work = Arc::new(StatementWork {
        statement_id: Uuid::now_v7().to_string(),
        tenant: "p".into(),
        deadline: u64::MAX,
        priority: 1,
        trace: None,
        pool: Arc::clone(&bench.hub.workers),
        meter: Arc::clone(&meter) as _,
        ended: Arc::default(),
    });
    let asked = Asked {
        sql: CELLS.into(),
        name: "late".into(),
        purpose: "an article".into(),
    };
    let commits = crate::exec::commits::Commits::default();
    let run = Run {
        work: &work,
        meter: &meter,
        commits: &commits,
    };
    let error = request(&planning, &asked, run).await.expect_err("opposed");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(
        bench
            .hub
            .store
            .exports(None)
            .await
            .expect("read")
            .is_empty()
    );
    let now = Planning {
        now: Utc::now(),
        ..planning
    };
    request(&now, &asked, run)
        .await
        .expect("after it, none is in it");
}

/// A package ends with the keys of its project, wherever its file was copied.
#[tokio::test(flavor = "multi_thread")]
async fn a_package_cannot_be_read_once_its_projects_keys_are_dropped() {
    let bench = Bench::new().await;
    let ada = bench.ada().await;
    bench.request(&ada, "cells", CELLS).await.expect("released");
    let read = "SELECT * FROM exports.cells";
    assert_eq!(bench.run(&ada, read).await.expect("read"), 2);
    let mut write = bench.hub.store.change_rights().await.expect("begins");
    let dropped = write.drop_space_keys("p", Utc::now()).await;
    assert_eq!(dropped.expect("dropped"), 1);
    write.commit().await.expect("committed");
    let error = bench.run(&ada, read).await.expect_err("dropped");
    assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error}");
    assert!(error.to_string().contains("dropped"), "{error}");
}
