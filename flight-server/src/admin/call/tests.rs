//! Who may call what, from where, and what nobody may. Each refusal is asked for by somebody whom
//! nothing else refuses, and leaves the store as it was.

mod dry;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use arrow::util::display::array_value_to_string;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use chrono::{TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt};
use hubflight_ledger::{AuditRecord, Filter, Page};
use hubflight_rights::Zone;
use hubflight_store::{AdminRole, Member, NewToken, Organisation, PersonProfile};
use hubflight_tickets::Ticket;
use tempfile::TempDir;
use tonic::metadata::MetadataMap;

use super::*;
use crate::auth::ADMIN_CATALOG;
use crate::error::ErrorKind;
use crate::flight::call::Caller;
use crate::hub::Hub;
use crate::plan::parameters;
use crate::plan::parse::parse;
use crate::rig::{SHOP, inside, open_hub};
use crate::statement::{self, Opened, Text, describe};

struct Bench {
    hub: Arc<Hub>,
    folder: TempDir,
}

/// What a statement gives.
#[derive(Debug, PartialEq)]
enum Answer {
    Done(u64),
    /// The rows, their values with `|` between them.
    Rows(Vec<String>),
}

impl Bench {
    /// `ada` is a member of `p`; `root` has three roles, `pia` people, `two` policy, `bill`
    /// billing; `both` has all roles and is a member of `p`.
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::create_dir(folder.path().join("data")).expect("folder");
        let sales = "item,commune,year\na,2A004,1987\nb,2B033,1999\n";
        std::fs::write(folder.path().join("data/sales.csv"), sales).expect("written");
        let text = SHOP.replace("['ada']", "['ada', 'both']");
        let hub = open_hub(
            folder.path(),
            &format!("{text}[[person]]\nid = 'both'\nname = 'Both'\n"),
        )
        .await;
        let bench = Self { hub, folder };
        use AdminRole::{Audit, Billing, People, Policy};
        for (id, roles) in [
            ("root", &[People, Policy, Audit][..]),
            ("pia", &[People]),
            ("two", &[Policy]),
            ("aude", &[Audit]),
            ("bill", &[Billing]),
            ("both", &AdminRole::ALL),
        ] {
            bench.make(id, roles).await;
        }
        bench
    }

    async fn make(&self, id: &str, roles: &[AdminRole]) {
        let mut write = self.hub.store.change_rights().await.expect("begins");
        let profile = PersonProfile {
            id: id.into(),
            name: id.into(),
            active: true,
            is_admin: false,
        };
        write.add_person(&profile).await.expect("there");
        let roles: BTreeSet<AdminRole> = roles.iter().copied().collect();
        write.set_admin_roles(id, &roles).await.expect("given");
        let member = Member {
            project: ADMIN_CATALOG.into(),
            person: id.into(),
            role: "administrator".into(),
        };
        write.put_member(&member).await.expect("a member");
        write.commit().await.expect("commits");
    }

    async fn caller(&self, person: &str, catalog: &str) -> Caller {
        let known = self.hub.store.person(person).await.expect("read");
        let known = known.expect("there");
        let (tokens, now) = (&self.hub.auth.tokens, Utc::now());
        let token = tokens.issue(&known.id, known.token_epoch, Default::default(), now);
        self.bearer(&token.expect("issued"), catalog).await
    }

    async fn bearer(&self, token: &str, catalog: &str) -> Caller {
        let (hub, now) = (&self.hub, Utc::now());
        let mut metadata = MetadataMap::new();
        let bearer = format!("Bearer {token}");
        metadata.insert("authorization", bearer.parse().expect("a header"));
        metadata.insert("catalog", catalog.parse().expect("a header"));
        let principal = hub.auth.authenticate(&metadata, "test", now).await;
        let principal = principal.expect("let in");
        let place = hub.engine.call(&principal.person.id).expect("room");
        Caller {
            principal,
            zone: inside(),
            now,
            timeout: None,
            place,
        }
    }

    async fn admin(&self, person: &str) -> Caller {
        self.caller(person, ADMIN_CATALOG).await
    }

    async fn ticket(&self, caller: &Caller, text: Text) -> Result<Ticket> {
        match Opened::open(&self.hub, caller, text).await? {
            Opened::Changed { .. } => panic!("it has run"),
            Opened::Query { handle, .. } => {
                let person = &caller.principal.person.id;
                Ok(Ticket::open(
                    &handle,
                    &self.hub.tickets,
                    person,
                    caller.now,
                )?)
            }
        }
    }

    async fn redeem(&self, caller: &Caller, ticket: Ticket) -> Result<Vec<String>> {
        let frames = statement::redeem(&self.hub, caller, ticket).await?;
        let frames = frames.map_ok(Into::into).map_err(FlightError::from);
        let mut batches = FlightRecordBatchStream::new_from_flight_data(frames);
        let mut rows = Vec::new();
        while let Some(batch) = batches.next().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(FlightError::Tonic(status)) => return Err((*status).into()),
                Err(error) => panic!("{error}"),
            };
            for row in 0..batch.num_rows() {
                let cells = batch.columns().iter();
                let cells = cells.map(|column| array_value_to_string(column, row).expect("text"));
                rows.push(cells.collect::<Vec<_>>().join("|"));
            }
        }
        Ok(rows)
    }

    async fn run(&self, caller: &Caller, text: Text) -> Result<Answer> {
        let is_call = text.sql.trim_start().to_lowercase().starts_with("call");
        if is_call {
            return match Opened::open(&self.hub, caller, text).await? {
                Opened::Changed { rows } => Ok(Answer::Done(rows)),
                Opened::Query { .. } => panic!("a call with a ticket"),
            };
        }
        let ticket = self.ticket(caller, text).await?;
        Ok(Answer::Rows(self.redeem(caller, ticket).await?))
    }

    async fn call(&self, caller: &Caller, sql: &str) -> Result<Answer> {
        self.run(caller, Text::new(sql.to_owned())).await
    }

    async fn rows(&self, caller: &Caller, sql: &str) -> Vec<String> {
        match self.call(caller, sql).await.expect(sql) {
            Answer::Rows(rows) => rows,
            Answer::Done(_) => panic!("a change"),
        }
    }

    async fn done(&self, caller: &Caller, sql: &str) {
        let answer = self.call(caller, sql).await.expect(sql);
        assert_eq!(answer, Answer::Done(1), "{sql}");
    }

    /// Asks in each way that there is, and finds that nothing has changed.
    async fn refused(&self, caller: &Caller, sql: &str, kind: ErrorKind) -> Error {
        let before = self.revision().await;
        let mut last = None;
        for sql in [sql.to_owned(), format!("EXPLAIN {sql}")] {
            let error = self.call(caller, &sql).await.expect_err(&sql);
            assert_eq!(error.kind, kind, "{sql}: {error}");
            last = Some(error);
        }
        assert_eq!(self.revision().await, before, "{sql}");
        last.expect("asked")
    }

    /// Grows with every change of rights.
    async fn revision(&self) -> i64 {
        self.hub.store.rights_revision().await.expect("read")
    }

    /// What is recorded of changes, which belong to no execution.
    async fn acts(&self) -> Vec<AuditRecord> {
        let ledger = &self.hub.ledger;
        ledger.flush().await.expect("flushed");
        let records = ledger.audit(&Filter::default(), Page::FIRST).await;
        let mut records = records.expect("read");
        records.retain(|record| record.statement_id.is_none());
        records
    }

    async fn last_act(&self) -> AuditRecord {
        self.acts().await.pop().expect("an act")
    }
}

fn bound(sql: &str, columns: Vec<ArrayRef>) -> Text {
    let fields = columns.iter();
    let fields = fields.map(|column| Field::new("", column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("valid");
    Text {
        sql: sql.to_owned(),
        parameters: parameters::encode(&schema, &[batch]).expect("encodes"),
        transaction: None,
    }
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// A statement with an argument for each that it needs.
fn sample(verb: &Verb) -> String {
    let needed = verb.takes.iter().filter(|takes| takes.needed);
    let arguments: Vec<String> = needed
        .map(|takes| format!("{} => '1'", takes.name))
        .collect();
    format!("CALL {}({})", verb.name, arguments.join(", "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_for_its_role_in_catalog_admin() {
    let bench = Bench::new().await;
    let of_role = |role| match role {
        AdminRole::People => "pia",
        AdminRole::Policy => "two",
        AdminRole::Audit => "aude",
        AdminRole::Billing => "bill",
    };
    let denied = ErrorKind::PermissionDenied;
    let member = bench.caller("ada", "p").await;
    let with_all_roles = bench.caller("both", "p").await;
    for verb in &VERBS {
        let sql = sample(verb);
        for role in AdminRole::ALL.into_iter().filter(|role| *role != verb.role) {
            let caller = bench.admin(of_role(role)).await;
            let error = bench.refused(&caller, &sql, denied).await;
            let named = format!("`{}`", verb.role.as_str());
            assert!(error.to_string().contains(&named), "{error}");
            let text = Text::new(sql.clone());
            let described = describe(&bench.hub, &caller, &text).await;
            assert_eq!(described.expect_err(&sql).kind, denied);
        }
        for caller in [&member, &with_all_roles] {
            let error = bench.refused(caller, &sql, denied).await;
            assert!(error.to_string().contains("catalog `admin`"), "{error}");
        }
        // With the role it is looked at: no such thing is there, or no such day.
        let mut caller = bench.admin(of_role(verb.role)).await;
        caller.zone = Zone::default();
        let error = bench.refused(&caller, &sql, denied).await;
        assert!(error.to_string().contains("zone `outside`"), "{error}");
        caller.zone = inside();
        let looked_at = bench.call(&caller, &sql).await;
        if let Err(error) = looked_at {
            assert_ne!(error.kind, denied, "{sql}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_a_project_administers_nothing() {
    let bench = Bench::new().await;
    let mut tokens = Vec::new();
    for project in ["p", ADMIN_CATALOG] {
        let token = NewToken {
            person: "both".into(),
            project: project.into(),
            name: String::new(),
            expires_at: Utc::now() + TimeDelta::days(1),
        };
        let issued = bench.hub.store.issue_token(&token).await.expect("issued");
        tokens.push(issued.text.to_string());
    }
    let sql = "CALL hub.person_add('eve', 'Eve')";
    let caller = bench.bearer(&tokens[0], ADMIN_CATALOG).await;
    bench.refused(&caller, sql, ErrorKind::NotFound).await;
    let caller = bench.bearer(&tokens[1], ADMIN_CATALOG).await;
    bench.done(&caller, sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_went_meanwhile_changes_nothing() {
    let bench = Bench::new().await;
    let (pia, two) = (bench.admin("pia").await, bench.admin("two").await);
    let sql = "CALL hub.person_add('eve', 'Eve')";
    let explained = Text::new(format!("EXPLAIN {sql}"));
    let ticket = bench.ticket(&pia, explained).await.expect("a ticket");
    bench
        .redeem(&pia, ticket.clone())
        .await
        .expect("while she may");
    // Still let in as who she was, as a call is that waits for others.
    bench.make("pia", &[AdminRole::Billing]).await;
    bench.refused(&pia, sql, ErrorKind::PermissionDenied).await;
    for caller in [&pia, &bench.admin("pia").await] {
        let redeemed = bench.redeem(caller, ticket.clone()).await;
        let error = redeemed.expect_err("another role");
        assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error}");
    }
    let shut = bench.hub.store.raise_token_epoch("two").await;
    shut.expect("the session ends");
    let sql = "CALL hub.project_end('p')";
    bench.refused(&two, sql, ErrorKind::Unauthenticated).await;
    assert!(
        bench
            .acts()
            .await
            .iter()
            .all(|act| act.event != "project_changed")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_acts_for_themselves() {
    let bench = Bench::new().await;
    let (root, two) = (bench.admin("root").await, bench.admin("two").await);
    let denied = ErrorKind::PermissionDenied;
    bench
        .done(
            &root,
            "CALL hub.project_add('trial', '2000-01-01', '2998-12-31')",
        )
        .await;
    for own in [
        "CALL hub.person_roles('root', 'people, policy, billing, audit')",
        "CALL hub.person_roles(id => 'root', roles => '')",
        "CALL hub.project_join('trial', 'root')",
        "CALL hub.project_leave('trial', 'root')",
    ] {
        let error = bench.refused(&root, own, denied).await;
        assert!(
            error.to_string().contains("another administrator"),
            "{error}"
        );
    }
    let enter = format!(
        "CALL hub.habilitation_enter('{}')",
        dry::grant("").replace('\'', "''")
    );
    bench.done(&root, &enter).await;
    let confirm = "CALL hub.habilitation_confirm('trial.shop', 1)";
    let error = bench.refused(&root, confirm, denied).await;
    assert!(
        error.to_string().contains("neither who entered it"),
        "{error}"
    );
    bench
        .done(&root, "CALL hub.project_join('trial', 'two')")
        .await;
    bench.refused(&two, confirm, denied).await;
    bench
        .done(&root, "CALL hub.project_leave('trial', 'two')")
        .await;
    bench.done(&two, confirm).await;
    bench.refused(&two, confirm, ErrorKind::NotFound).await;
    let act = bench.last_act().await;
    assert_eq!(act.event, "habilitation_confirmed");
    assert_eq!(act.person.as_deref(), Some("two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_names_who_acts() {
    let bench = Bench::new().await;
    let root = bench.admin("root").await;
    let clinic = Organisation {
        id: "clinic".into(),
        name: "Clinic".into(),
    };
    let store = &bench.hub.store;
    store.put_organisation(&clinic).await.expect("there");
    for (sql, event, told) in [
        (
            "CALL hub.person_add('eve', 'Eve', roles => 'billing, people')",
            "admin_roles_set",
            "by root, roles people, billing",
        ),
        (
            "CALL hub.person_rename('eve', 'Eve Smith')",
            "person_renamed",
            "by root",
        ),
        (
            "CALL hub.person_disable('eve')",
            "person_disabled",
            "by root",
        ),
        ("CALL hub.person_enable('eve')", "person_enabled", "by root"),
        ("CALL hub.person_unlock('eve')", "login_unlocked", "by root"),
        (
            "CALL hub.person_roles('eve', '')",
            "admin_roles_set",
            "by root, roles none",
        ),
        (
            "CALL hub.project_add(until => '2998-12-31', id => 'trial', \"from\" => '2000-01-01')",
            "project_added",
            "by root, from 2000-01-01 to 2998-12-31",
        ),
        (
            "CALL hub.project_change('trial', purpose => 'A purpose', organisation => 'clinic')",
            "project_changed",
            "by root, purpose, organisation `clinic` after `default`",
        ),
        (
            "call HUB.Project_Extend('trial', UNTIL => '2997-12-31')",
            "project_changed",
            "by root, until 2997-12-31",
        ),
        (
            "CALL hub.project_join('trial', 'eve')",
            "member_added",
            "by root",
        ),
        (
            "CALL hub.project_leave('trial', 'eve')",
            "member_removed",
            "by root",
        ),
        (
            "CALL hub.project_end('trial')",
            "project_changed",
            "by root, ended",
        ),
    ] {
        bench.done(&root, sql).await;
        let act = bench.last_act().await;
        assert_eq!(act.event, event, "{sql}");
        assert_eq!(act.client, format!("flight-server SQL {told}"), "{sql}");
    }
    let eve = bench.hub.store.person("eve").await.expect("read");
    assert_eq!(eve.expect("there").name, "Eve Smith");
    let trial = bench
        .hub
        .store
        .project("trial")
        .await
        .expect("read")
        .expect("there");
    assert_eq!(
        (trial.purpose.as_str(), trial.organisation.as_str()),
        ("A purpose", "clinic")
    );
    // Nobody pays who is mistyped.
    let unknown = "CALL hub.project_change('trial', organisation => 'clinik')";
    bench.refused(&root, unknown, ErrorKind::NotFound).await;
    let unknown = "CALL hub.project_add('t', '2000-01-01', '2001-01-01', organisation => 'x')";
    bench.refused(&root, unknown, ErrorKind::NotFound).await;
    // What the file lists, it decides on.
    let of_file = [
        "project_change('p', title => 'x')",
        "project_join('p', 'eve')",
        "person_rename('both', 'x')",
    ];
    for sql in of_file {
        let sql = format!("CALL hub.{sql}");
        bench.refused(&root, &sql, ErrorKind::InvalidArgument).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_bound_as_values() {
    let bench = Bench::new().await;
    let root = bench.admin("root").await;
    let sql = "CALL hub.person_add(id => ?, name => ?, roles => ?)";
    let described = describe(&bench.hub, &root, &Text::new(sql.to_owned())).await;
    let described = described.expect("prepared");
    assert!(described.schema.fields().is_empty());
    assert_eq!(described.parameters.fields().len(), 3);
    let explained = format!("EXPLAIN {sql}");
    let described = describe(&bench.hub, &root, &Text::new(explained.clone())).await;
    let described = described.expect("prepared");
    assert_eq!(described.schema.field(0).name(), COLUMN);
    assert_eq!(described.parameters.fields().len(), 3);

    // Texts are values, whatever they look like.
    let name = "x', roles => 'people'); DROP TABLE persons; --";
    let row = || vec![texts(&[Some("eve")]), texts(&[Some(name)]), texts(&[None])];
    let before = bench.revision().await;
    let told = bench.run(&root, bound(&explained, row())).await;
    let told = told.expect("told");
    let Answer::Rows(told) = told else {
        panic!("{told:?}")
    };
    assert!(
        told.contains(&"would record: person_added, person `eve`".to_owned()),
        "{told:?}"
    );
    assert_eq!(bench.revision().await, before);
    let done = bench.run(&root, bound(sql, row())).await;
    assert_eq!(done.expect("added"), Answer::Done(1));
    let eve = bench
        .hub
        .store
        .person("eve")
        .await
        .expect("read")
        .expect("there");
    assert_eq!((eve.name.as_str(), eve.is_admin), (name, false));

    let from: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![10_957]));
    let until: ArrayRef = Arc::new(arrow::array::Date64Array::from(vec![20_000 * 86_400_000]));
    let project = "CALL hub.project_add($1, $2, $3)";
    let columns = vec![texts(&[Some("trial")]), from, until];
    let done = bench.run(&root, bound(project, columns)).await;
    assert_eq!(done.expect("added"), Answer::Done(1));
    let trial = bench
        .hub
        .store
        .project("trial")
        .await
        .expect("read")
        .expect("there");
    assert_eq!(trial.valid_from.to_rfc3339(), "2000-01-01T00:00:00+00:00");

    let number: ArrayRef = Arc::new(Float64Array::from(vec![1.5]));
    let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    for wrong in [
        Text::new(sql.to_owned()),
        bound(sql, vec![texts(&[Some("zoe")])]),
        bound(sql, vec![texts(&[Some("zoe")]), number, texts(&[None])]),
        bound(
            sql,
            vec![texts(&[Some("zoe")]), texts(&[None]), texts(&[None])],
        ),
        bound(sql, vec![texts(&[Some("zoe"), Some("yan")]); 3]),
        bound(
            "CALL hub.habilitation_confirm('trial.shop', ?)",
            vec![texts(&[Some("one")])],
        ),
        bound(
            "CALL hub.habilitation_confirm('trial.shop', ?)",
            vec![Arc::new(Int64Array::from(vec![-1]))],
        ),
    ] {
        let error = bench.run(&root, wrong.clone()).await.expect_err("wrong");
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{wrong:?}: {error}");
    }
    let nothing = bound("CALL hub.habilitation_confirm('trial.shop', ?)", vec![one]);
    let error = bench.run(&root, nothing).await.expect_err("none waits");
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    assert!(bench.hub.store.person("zoe").await.expect("read").is_none());
}

/// What is sent is neither repeated without end nor kept where it moves a cursor.
#[tokio::test(flavor = "multi_thread")]
async fn huge_and_crafted_arguments_are_refused() {
    let bench = Bench::new().await;
    let root = bench.admin("root").await;
    let huge = "x".repeat(600_000);
    let document = |text: &str| format!("CALL hub.habilitation_enter('{text}')");
    let nested = format!("a = {}1{}", "[".repeat(20_000), "]".repeat(20_000));
    for wrong in [
        format!("CALL hub.person_add('{huge}', 'x')"),
        format!("CALL hub.person_add('eve', '{huge}')"),
        format!("CALL hub.person_add('eve', '{}')", "é".repeat(501)),
        format!("CALL hub.project_end('{huge}')"),
        format!("CALL hub.token_revoke('{huge}')"),
        "CALL hub.person_add('eve', 'a\u{1b}[2Jb')".to_owned(),
        "CALL hub.person_add('eve', 'a\nb')".to_owned(),
        "CALL hub.person_add('eve', 'a\u{202e}b')".to_owned(),
        "CALL hub.person_add('e:ve', 'x')".to_owned(),
        "CALL hub.person_add('', 'x')".to_owned(),
        "CALL hub.person_add('eve', 'x', 'god')".to_owned(),
        "CALL hub.project_add('admin', '2000-01-01', '2001-01-01')".to_owned(),
        "CALL hub.project_add('a b', '2000-01-01', '2001-01-01')".to_owned(),
        "CALL hub.project_add('trial', '2000-13-01', '2001-01-01')".to_owned(),
        "CALL hub.project_add('trial', '2001-01-01', '2000-01-01')".to_owned(),
        "CALL hub.project_add('t', '2000-01-01', '2001-01-01', space_quota_mb => 99999999999999999)".to_owned(),
        "CALL hub.export_release('x', days => 0)".to_owned(),
        "CALL hub.export_release('x', days => 100000)".to_owned(),
        document(&huge),
        document(&nested),
        document(&format!("project = ''{}''", "x".repeat(60_000))),
        document("project = 1"),
        document(""),
    ] {
        let before = bench.revision().await;
        let shown: String = wrong.chars().take(80).collect();
        let error = bench.call(&root, &wrong).await.expect_err(&shown);
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{shown}: {error}");
        assert!(error.to_string().len() < 4_096, "{shown}");
        assert_eq!(bench.revision().await, before, "{shown}");
    }
    let document = bound(
        "CALL hub.habilitation_enter(?)",
        vec![texts(&[Some(&huge)])],
    );
    let error = bench.run(&root, document).await.expect_err("huge");
    assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error}");
}

/// A call has no ticket; whoever had one of it would change nothing, and a dry run that is
/// redeemed twice neither.
#[tokio::test(flavor = "multi_thread")]
async fn no_ticket_changes_anything() {
    let bench = Bench::new().await;
    let root = bench.admin("root").await;
    let sql = "CALL hub.person_add('eve', 'Eve')";
    let explained = Text::new(format!("EXPLAIN {sql}"));
    let ticket = bench.ticket(&root, explained).await.expect("a ticket");
    let before = bench.revision().await;
    let told = bench.redeem(&root, ticket.clone()).await.expect("told");
    let again = bench.redeem(&root, ticket.clone()).await.expect("again");
    assert_eq!(told, again);
    let forged = Ticket {
        sql: sql.to_owned(),
        ..ticket.clone()
    };
    let error = bench.redeem(&root, forged).await.expect_err("no query");
    assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error}");
    let elsewhere = Ticket {
        project: "p".to_owned(),
        ..ticket
    };
    let both = bench.admin("both").await;
    let elsewhere = Ticket {
        person: "both".to_owned(),
        ..elsewhere
    };
    let error = bench.redeem(&both, elsewhere).await.expect_err("a project");
    assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error}");
    assert_eq!(bench.revision().await, before);
    assert!(bench.hub.store.person("eve").await.expect("read").is_none());
    // It is opened once, and done once.
    bench.done(&root, sql).await;
    let error = bench.call(&root, sql).await.expect_err("there already");
    assert!(error.to_string().contains("exists already"), "{error}");
}

#[test]
fn what_only_commands_do_is_told_so() {
    for (name, command) in COMMANDS {
        for sql in [
            format!("CALL {name}('x')"),
            format!("EXPLAIN CALL {name}()"),
        ] {
            let error = parse(&sql, 1_000).expect_err(&sql);
            let command = format!("flight-server admin {command}`");
            assert!(error.to_string().contains(&command), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_password_is_told_the_command() {
    let bench = Bench::new().await;
    let root = bench.admin("root").await;
    let sql = "CALL hub.person_password('bill')";
    let error = bench.refused(&root, sql, ErrorKind::InvalidArgument).await;
    let told = error.to_string();
    assert!(
        told.contains("flight-server admin person password"),
        "{told}"
    );
    // A name that sounds like it is a name.
    let sql = "CALL hub.person_add('bill', 'Passw')";
    let told = bench.refused(&root, sql, ErrorKind::InvalidArgument).await;
    assert!(told.to_string().contains("exists already"), "{told}");
}

#[test]
fn nothing_but_the_arguments_of_a_call_is_understood() {
    for right in [
        "CALL hub.person_disable('a')",
        "CALL hub.person_disable(id => 'a')",
        "CALL hub.person_disable(?)",
        "call HUB.PERSON_DISABLE ( ID => $1 )",
        "EXPLAIN CALL hub.person_disable(id => ?)",
        "CALL hub.habilitation_confirm('a.b', version => 2)",
        "CALL hub.project_add(id => 't', from => '2000-01-01', until => '2001-01-01')",
    ] {
        let parsed = parse(right, 1_000).expect(right);
        assert!(parsed.admin().expect(right).is_some(), "{right}");
        assert_eq!(parsed.is_query(), right.starts_with("EXPLAIN"), "{right}");
    }
    for wrong in [
        "CALL hub.person_disable",
        "CALL hub.person_disable()",
        "CALL hub.person_disable(NULL)",
        "CALL hub.person_disable('a', 'b')",
        "CALL hub.person_disable(person => 'a')",
        "CALL hub.person_disable(id => 'a', id => 'b')",
        "CALL hub.person_disable('a', id => 'b')",
        "CALL hub.person_disable(\"ID\" => 'a')",
        "CALL hub.person_disable(id := 'a')",
        "CALL hub.person_disable(id = 'a')",
        "CALL hub.person_disable('a' || 'b')",
        "CALL hub.person_disable(lower('a'))",
        "CALL hub.person_disable((SELECT person FROM hub.members))",
        "CALL hub.person_disable(SELECT 'a')",
        "CALL hub.person_disable(*)",
        "CALL hub.person_disable(DISTINCT 'a')",
        "CALL hub.person_disable('a') OVER ()",
        "CALL hub.person_disable('a') FILTER (WHERE true)",
        "CALL hub.person_disable(true)",
        "CALL hub.person_disable(-1)",
        "CALL hub.person_disable(X'61')",
        "CALL hub.person_add(name => 'a', 'b')",
        "CALL hub.person_disable('a'); CALL hub.person_disable('b')",
        "CALL \"hub\".person_disable('a')",
        "CALL hub.\"person_disable\"('a')",
        "CALL admin.hub.person_disable('a')",
        "CALL person_disable('a')",
        "CALL hub.persons_disable('a')",
        "EXPLAIN ANALYZE CALL hub.person_disable('a')",
        "EXPLAIN VERBOSE CALL hub.person_disable('a')",
        "EXPLAIN EXPLAIN CALL hub.person_disable('a')",
        "EXPLAIN CALL hub.cancel('0198f2c0-0000-7000-8000-000000000001')",
        "EXPLAIN CALL hub.revoke_token('a')",
        "CREATE VIEW space.v AS CALL hub.person_disable('a')",
    ] {
        assert!(parse(wrong, 1_000).is_err(), "{wrong}");
    }
    let inside = "SELECT hub.person_disable('a')";
    let parsed = parse(inside, 1_000).expect("a query");
    assert!(parsed.admin().expect("no call").is_none());
}
