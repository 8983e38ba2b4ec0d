//! The life of a package, and who may have it when: every way that is shut is tried.

use std::path::PathBuf;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt};
use hubflight_ledger::{AuditRecord, Filter, Page};
use hubflight_rights::Zone;
use hubflight_store::{ExportDecision, Opposition};
use tempfile::TempDir;
use tonic::metadata::MetadataMap;

use super::*;
use crate::exec::revocation::{self, Grounds};
use crate::flight::call::Caller;
use crate::rig::{inside, open_hub};
use crate::statement::{self, Opened, Text};
use crate::ticket::Ticket;

/// Three hundred stays of a hundred persons in two wards; six persons have something rare.
/// `ada` and `bob` see rows, each in a project of their own, `cleo` aggregates only.
const HUB: &str = "
[server]
state = 'state'
zone = 'inside'
[limits]
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
            HUB.to_owned(),
            project("p", "ada", "row"),
            project("q", "bob", "row"),
            project("cells", "cleo", "aggregate"),
        ]
        .concat();
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
        let token = hub.auth.tokens.issue(&known, Default::default(), now);
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
        let frames = frames.map_err(FlightError::from);
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
async fn a_plan_is_released_alone_only_where_it_counts_persons_who_are_alike() {
    use ExportState::{Refused, Released, Waiting};
    let bench = Bench::new().await;
    let ada = bench.ada().await;
    for made in [
        "CREATE TABLE space.copy AS SELECT ward, age FROM clinic.stays",
        "CREATE TABLE space.names AS SELECT DISTINCT person AS x FROM clinic.stays",
        "CREATE VIEW space.cells AS SELECT ward, count(DISTINCT person) AS persons \
         FROM clinic.stays GROUP BY ward",
    ] {
        bench.run(&ada, made).await.expect(made);
    }
    let shut = [
        // Rows, grouped by what tells persons apart or not grouped at all.
        ("SELECT age, ward FROM clinic.stays", Waiting),
        ("SELECT DISTINCT age FROM clinic.stays", Waiting),
        ("SELECT upper(person) AS x FROM clinic.stays", Refused),
        (
            "SELECT person || '' AS x, count(*) FROM clinic.stays GROUP BY 1",
            Refused,
        ),
        (
            "SELECT count(*) AS n FROM clinic.stays GROUP BY person",
            Waiting,
        ),
        (
            "SELECT max(substr(person, 1, 9)) AS x, count(DISTINCT person) AS n FROM clinic.stays",
            Refused,
        ),
        // Copies in the space have no lineage: their content is judged.
        ("SELECT * FROM space.copy", Waiting),
        (
            "SELECT ward, count(*) AS n FROM space.copy GROUP BY ward",
            Waiting,
        ),
        ("SELECT x FROM space.names", Refused),
        // Cells that are small, or whose persons are not counted.
        (
            "SELECT rare, count(DISTINCT person) AS n FROM clinic.stays GROUP BY rare",
            Waiting,
        ),
        (
            "SELECT ward, count(*) AS n FROM clinic.stays GROUP BY ward",
            Waiting,
        ),
        (
            "SELECT ward, count(DISTINCT age) AS n FROM clinic.stays GROUP BY ward",
            Waiting,
        ),
        // Values of persons, and counts of some of them.
        (
            "SELECT ward, count(DISTINCT person) AS n, max(age) FROM clinic.stays GROUP BY ward",
            Waiting,
        ),
        (
            "SELECT ward, count(DISTINCT person) AS n, count(*) FILTER (WHERE age = 20) AS f \
          FROM clinic.stays GROUP BY ward",
            Waiting,
        ),
        (
            "SELECT ward, count(DISTINCT person) AS n, sum(CASE WHEN age = 20 THEN 1 END) AS f \
          FROM clinic.stays GROUP BY ward",
            Waiting,
        ),
        (
            "SELECT note, count(DISTINCT person) AS n FROM clinic.stays GROUP BY note",
            Waiting,
        ),
        // A bit of one person a row, in which cells there are or what they count.
        (
            "SELECT ward, count(DISTINCT person) AS n FROM clinic.stays \
          WHERE (SELECT max(age) FROM clinic.stays WHERE rare = 'x') > 20 GROUP BY ward",
            Waiting,
        ),
        (
            "SELECT a.ward, count(DISTINCT a.person) AS n FROM clinic.stays a, clinic.stays b \
          WHERE b.rare = 'x' AND b.age = 20 GROUP BY a.ward",
            Waiting,
        ),
        (
            "SELECT ward, persons * 1000 + 7 AS n FROM space.cells",
            Waiting,
        ),
        (
            "SELECT a.ward, a.persons, b.persons AS p FROM space.cells a CROSS JOIN space.cells b",
            Waiting,
        ),
        (
            "SELECT ward, persons, sum(persons) OVER () AS s FROM space.cells",
            Waiting,
        ),
        (
            "SELECT * FROM space.cells UNION ALL SELECT * FROM space.cells",
            Waiting,
        ),
        (
            "SELECT ward, rare, count(DISTINCT person) AS n FROM clinic.stays \
          GROUP BY ROLLUP (ward, rare)",
            Waiting,
        ),
        (
            "SELECT ward, count(DISTINCT person) AS n FROM clinic.stays GROUP BY ward \
             HAVING max(age) > 30",
            Waiting,
        ),
        (
            "SELECT ward, count(DISTINCT person) AS n FROM clinic.stays GROUP BY ward \
             ORDER BY max(age)",
            Waiting,
        ),
        // What is another's beside a person: through a window, or a hospital that both were in.
        (
            "SELECT x, count(DISTINCT person) AS n FROM (SELECT person, first_value(age) \
             OVER (ORDER BY rare, age) AS x FROM clinic.stays) t GROUP BY x",
            Waiting,
        ),
        (
            "SELECT b.rare, count(DISTINCT a.person) AS n FROM clinic.stays a \
             JOIN clinic.stays b ON a.site = b.site GROUP BY b.rare",
            Waiting,
        ),
        // What was seen inside, and written again.
        ("VALUES ('x', 42)", Waiting),
        (
            "SELECT ward, count(DISTINCT person) AS n, 42 AS x FROM clinic.stays GROUP BY ward",
            Waiting,
        ),
        ("SELECT 'joindre au 06 12 34 56 78' AS x", Refused),
    ];
    for (index, (sql, expected)) in shut.into_iter().enumerate() {
        let name = format!("x{index}");
        assert_eq!(bench.state(&ada, &name, sql).await, expected, "{sql}");
        if expected == Waiting {
            bench.withdraw(&name).await;
        }
    }
    for (index, sql) in [
        CELLS,
        "SELECT * FROM space.cells WHERE persons > 11 ORDER BY ward",
        "SELECT a.ward, count(DISTINCT a.person) AS n, count(*) AS stays FROM clinic.stays a \
         JOIN clinic.stays b ON a.person = b.person WHERE b.age > 20 GROUP BY a.ward",
        "SELECT label FROM clinic.wards",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("y{index}");
        let state = bench.state(&ada, &name, sql).await;
        let export = bench.export(&name).await;
        assert_eq!(state, Released, "{sql}: {}", export.package.findings);
    }
    // After so many a day, everything waits.
    assert_eq!(bench.state(&ada, "more", CELLS).await, Waiting);
    assert!(
        bench
            .export("more")
            .await
            .package
            .findings
            .contains("volume")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn published_aggregates_pass_with_their_noise() {
    let bench = Bench::new().await;
    let cleo = bench.caller("cleo", inside()).await;
    let sql = "SELECT ward, count(*) AS n, avg(age) AS a FROM clinic.stays GROUP BY ward";
    assert_eq!(bench.state(&cleo, "a", sql).await, ExportState::Released);
    let error = bench
        .request(&cleo, "b", "SELECT age FROM clinic.stays")
        .await;
    assert_eq!(error.expect_err("rows").kind, ErrorKind::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_query_of_ones_own_project_is_exported() {
    let bench = Bench::new().await;
    let ada = bench.ada().await;
    bench.request(&ada, "cells", CELLS).await.expect("released");
    for (sql, kind) in [
        ("SELECT * FROM clinic.hidden", ErrorKind::NotFound),
        ("SELECT * FROM q.clinic.stays", ErrorKind::NotFound),
        ("SELECT * FROM q.space.t", ErrorKind::NotFound),
        ("SELECT * FROM exports.cells", ErrorKind::InvalidArgument),
        ("SELECT * FROM hub.audit", ErrorKind::InvalidArgument),
        (
            "SELECT 1 WHERE EXISTS (SELECT * FROM hub.usage)",
            ErrorKind::InvalidArgument,
        ),
        (
            "SELECT * FROM information_schema.tables",
            ErrorKind::InvalidArgument,
        ),
        ("DROP TABLE space.t", ErrorKind::InvalidArgument),
        (
            "CREATE TABLE space.t AS SELECT 1 AS a",
            ErrorKind::InvalidArgument,
        ),
        ("INSERT INTO space.t VALUES (1)", ErrorKind::InvalidArgument),
        ("SELECT 1; DROP TABLE space.t", ErrorKind::InvalidArgument),
        ("SELECT 1) TO '/tmp/x' --", ErrorKind::InvalidArgument),
        ("COPY (SELECT 1) TO '/tmp/x'", ErrorKind::InvalidArgument),
        ("EXPLAIN SELECT 1", ErrorKind::InvalidArgument),
        ("SHOW TABLES", ErrorKind::InvalidArgument),
        ("DESCRIBE clinic.stays", ErrorKind::InvalidArgument),
        (
            "CALL hub.request_export('SELECT 1', 'b', 'p')",
            ErrorKind::InvalidArgument,
        ),
        (
            "CALL hub.cancel('0198f2c0-0000-7000-8000-000000000001')",
            ErrorKind::InvalidArgument,
        ),
        ("SELECT $1", ErrorKind::InvalidArgument),
        ("SELECT ?", ErrorKind::InvalidArgument),
        ("SELECT 1 AS a, 2 AS a", ErrorKind::InvalidArgument),
        (
            "SELECT a.column1 FROM (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)) a, \
          (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)) b, \
          (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)) c, \
          (VALUES (1), (2)) d",
            ErrorKind::ResourceExhausted,
        ),
        ("", ErrorKind::InvalidArgument),
    ] {
        let error = bench.request(&ada, "x", sql).await.expect_err(sql);
        assert_eq!(error.kind, kind, "{sql}: {error}");
    }
    // Nothing was made on the way, in the space or as a package.
    assert_eq!(bench.hub.store.exports(None).await.expect("read").len(), 1);
    let gone = bench.run(&ada, "SELECT * FROM space.t").await;
    assert_eq!(gone.expect_err("never made").kind, ErrorKind::NotFound);
    let again = bench
        .request(&ada, "cells", CELLS)
        .await
        .expect_err("taken");
    assert_eq!(again.kind, ErrorKind::InvalidArgument);
    for change in [
        "INSERT INTO exports.cells VALUES ('x', 1)",
        "UPDATE exports.cells SET persons = 1",
        "DELETE FROM exports.cells",
        "DROP TABLE exports.cells",
        "CREATE TABLE exports.mine AS SELECT 1 AS a",
        "CREATE OR REPLACE VIEW exports.cells AS SELECT 1 AS a",
    ] {
        let error = bench.run(&ada, change).await.expect_err(change);
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{change}: {error}");
    }
    assert_eq!(
        bench
            .run(&ada, "SELECT * FROM exports.cells")
            .await
            .expect("as it was"),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_nothing_leaves_but_released_exports() {
    let bench = Bench::new().await;
    let (ada, outside) = (bench.ada().await, bench.outside().await);
    bench.request(&ada, "cells", CELLS).await.expect("released");
    bench
        .request(&ada, "labels", "SELECT label FROM clinic.wards")
        .await
        .expect("released");
    // Written by hand, rows have no labels.
    for made in [
        "CREATE TABLE space.laundered AS SELECT 'p1' AS person, 42 AS age",
        "CREATE VIEW space.through AS SELECT * FROM space.laundered",
        "CREATE VIEW space.door AS SELECT * FROM exports.cells",
    ] {
        bench.run(&ada, made).await.expect(made);
    }
    assert_eq!(
        bench
            .run(&ada, "SELECT * FROM space.laundered")
            .await
            .expect("inside"),
        1
    );
    for (sql, kind) in [
        ("SELECT * FROM clinic.stays", ErrorKind::PermissionDenied),
        ("SELECT * FROM space.laundered", ErrorKind::PermissionDenied),
        (
            "SELECT count(*) FROM space.laundered WHERE age = 42",
            ErrorKind::PermissionDenied,
        ),
        (
            "DELETE FROM space.laundered WHERE age = 42",
            ErrorKind::PermissionDenied,
        ),
        (
            "UPDATE space.laundered SET age = 1 WHERE person = 'p1'",
            ErrorKind::PermissionDenied,
        ),
        (
            "CREATE TABLE space.b AS SELECT * FROM space.laundered",
            ErrorKind::PermissionDenied,
        ),
        (
            "SELECT a.* FROM exports.cells a, exports.labels b",
            ErrorKind::PermissionDenied,
        ),
        (
            "SELECT * FROM exports.cells UNION ALL SELECT label, 1 FROM exports.labels",
            ErrorKind::PermissionDenied,
        ),
        (
            "SELECT * FROM exports.cells WHERE EXISTS (SELECT * FROM hub.usage)",
            ErrorKind::PermissionDenied,
        ),
        (
            "SELECT c.* FROM exports.cells c, space.laundered l",
            ErrorKind::PermissionDenied,
        ),
    ] {
        let error = bench.run(&outside, sql).await.expect_err(sql);
        assert_eq!(error.kind, kind, "{sql}: {error}");
    }
    bench
        .run(&outside, "SELECT * FROM space.through")
        .await
        .expect_err("through a view");
    assert_eq!(
        bench
            .run(&outside, "SELECT * FROM space.door")
            .await
            .expect("a view of it"),
        2
    );
    let joined = "SELECT a.ward FROM exports.cells a JOIN exports.cells b ON a.ward = b.ward";
    assert_eq!(bench.run(&outside, joined).await.expect("with itself"), 2);
    for sql in [CELLS, "SELECT 1 AS a"] {
        let error = bench.request(&outside, "mine", sql).await.expect_err(sql);
        assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error}");
    }
    assert_eq!(
        bench
            .run(&ada, "SELECT a.* FROM exports.cells a, exports.labels b")
            .await
            .expect("inside anything goes"),
        4
    );
    assert_eq!(
        bench
            .run(&outside, "SELECT * FROM exports.labels")
            .await
            .expect("the other"),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_is_not_what_was_sealed_is_not_handed_out() {
    let bench = Bench::new().await;
    let ada = bench.ada().await;
    let read = async |name: &str| {
        bench
            .run(&ada, &format!("SELECT * FROM exports.{name}"))
            .await
    };
    bench.request(&ada, "a", CELLS).await.expect("released");
    bench.request(&ada, "b", CELLS).await.expect("released");
    let (a, b) = (
        bench.export("a").await.package,
        bench.export("b").await.package,
    );
    assert_eq!(
        (
            read("a").await.expect("sealed"),
            read("b").await.expect("sealed")
        ),
        (2, 2)
    );
    let whole = std::fs::read(bench.package(&a.id)).expect("there");
    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    let other = std::fs::read(bench.package(&b.id)).expect("there");
    let forged = package::encode(&inside_schema(), &[]).expect("Parquet");
    for wrong in [
        flipped,
        other,
        whole[..whole.len() - 1].to_vec(),
        forged,
        Vec::new(),
    ] {
        std::fs::write(bench.package(&a.id), wrong).expect("written");
        let error = read("a").await.expect_err("tampered");
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    }
    // Sealed by this hub for this package, and yet not what was released.
    let id = uuid::Uuid::parse_str(&a.id).expect("ours");
    std::fs::remove_dir_all(bench.package(&a.id).parent().expect("a folder")).expect("removed");
    assert_eq!(
        read("a").await.expect_err("gone").kind,
        ErrorKind::Unavailable
    );
    let forged = package::encode(&inside_schema(), &[]).expect("Parquet");
    package::place(&bench.hub, id, &forged)
        .expect("placed")
        .keep();
    assert_eq!(
        read("a").await.expect_err("another").kind,
        ErrorKind::Unavailable
    );
    std::fs::write(bench.package(&a.id), whole).expect("written");
    assert_eq!(read("a").await.expect("as it was"), 2);
    let told = bench.audit("export_downloaded").await;
    let failed = told.iter().filter(|record| record.outcome == "unavailable");
    assert_eq!((failed.count(), told.len()), (7, 10));
}

fn inside_schema() -> SchemaRef {
    use arrow::datatypes::{DataType, Field, Schema};
    Arc::new(Schema::new(vec![Field::new("ward", DataType::Utf8, true)]))
}

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
    let view = Arc::new(late.view(&bench.hub, "p", None).await.expect("a view"));
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
