//! Every way in which a right ends, at every phase of a statement. Each phase is first gone through
//! with nothing that ends, and is let through.

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow_flight::sql::{CommandPreparedStatementUpdate, ProstMessageExt};
use arrow_flight::utils::batches_to_flight_data;
use arrow_flight::{FlightData, FlightDescriptor};
use hubflight_rights::habilitation::Tables;
use hubflight_store::{ExportDecision, ExportState};
use prost::Message;

use super::*;
use crate::flight::put::do_put;

/// How a right ends, and the list of all ways: written once, so that none is left out of a test.
macro_rules! ways {
    ($($way:ident),*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Way {
            $($way),*
        }

        use Way::{$($way),*};

        const WAYS: &[Way] = &[$($way),*];
    };
}

ways!(
    Membership,
    Revoked,
    Expired,
    Narrowed,
    Policy,
    Person,
    Role,
    Token,
    TokenExpired,
    Project,
    Export
);

/// For how long those rights last that end by themselves: longer than a phase takes to come.
const LASTS: TimeDelta = TimeDelta::milliseconds(8_000);
/// What the project takes out.
const EXPORT: &str = "CALL hub.request_export('SELECT count(*) AS n FROM shop.sales', 'few', 'x')";

/// A person at work, whose right is going to end in one way or, without one, is not.
struct Case {
    bench: Bench,
    way: Option<Way>,
    header: MetadataMap,
    ends: DateTime<Utc>,
}

/// Four hundred rows: more take long to plan, and what ends is looked for after the plan.
fn values() -> String {
    let rows: Vec<String> = (0..400).map(|row| format!("({row})")).collect();
    format!("(VALUES {})", rows.join(", "))
}

/// Rows of a small table without an end.
fn endless(table: &str, condition: &str) -> String {
    let v = values();
    format!(
        "SELECT a.x FROM (SELECT v.column1 AS x FROM {table} t, {v} v) a, \
         (SELECT v.column1 AS y FROM {v} v, {v} w, {v} u) b {condition}"
    )
}

impl Case {
    async fn new(way: Option<Way>, limits: &str) -> Self {
        let ends = Utc::now() + LASTS;
        let policy = match way {
            Some(Policy) => format!(
                "@id(\"evening\") forbid (principal, action, resource) when \
                 {{ context.now >= datetime(\"{}\") }};",
                ends.format("%Y-%m-%dT%H:%M:%S%.3fZ")
            ),
            _ => String::new(),
        };
        // Where an operator has policies, everything is decided on again and again.
        let policies = match policy.as_str() {
            "" => "",
            _ => "[policies]\nfiles = ['operator.cedar']\n",
        };
        let more = format!("{policies}[limits]\n{limits}");
        let mut bench = Bench::with(&more, &policy).await;
        match way {
            Some(TokenExpired) => {
                let token = NewToken {
                    person: "ada".into(),
                    project: "p".into(),
                    name: String::new(),
                    expires_at: ends,
                };
                bench.token = bench.other.issue_token(&token).await.expect("issues");
            }
            Some(Expired) => bench.renew(|next| next.valid_to = ends).await,
            _ => {}
        }
        let mut case = Self {
            header: metadata(&bench.token.text),
            bench,
            way,
            ends,
        };
        match way {
            Some(Role) => case.become_administrator().await,
            Some(Export) => case.export().await,
            _ => {}
        }
        case
    }

    /// Somebody looks for what is withdrawn.
    fn watch(&mut self) {
        let watch = tokio::spawn(watch(Arc::clone(&self.bench.hub)));
        self.bench._watch = Some(AbortOnDropHandle::new(watch));
    }

    async fn set_roles(&self, roles: &[AdminRole]) {
        let mut write = self.bench.other.change_rights().await.expect("begins");
        let roles = roles.iter().copied().collect();
        write.set_admin_roles("ada", &roles).await.expect("set");
        write.commit().await.expect("written");
    }

    async fn become_administrator(&mut self) {
        self.set_roles(&[AdminRole::Audit, AdminRole::Billing])
            .await;
        let (hub, now) = (&self.bench.hub, Utc::now());
        let ada = hub.store.person("ada").await.expect("read").expect("there");
        let tokens = &hub.auth.tokens;
        let token = tokens.issue(&ada.id, ada.token_epoch, Default::default(), now);
        self.header = metadata(&token.expect("issued"));
        let catalog = "admin".parse().expect("a header");
        self.header.insert("catalog", catalog);
    }

    async fn export(&self) {
        let caller = self.caller().await.expect("let in");
        self.open(&caller, EXPORT).await.expect("asked for");
        let store = &self.bench.other;
        let exports = store.exports(None).await.expect("read");
        let package = &exports[0].package;
        if package.state == ExportState::Waiting {
            let until = Utc::now() + TimeDelta::days(1);
            let release = ExportDecision::Release { until };
            let mut write = store.change_rights().await.expect("begins");
            let decided = write.decide_export(&package.id, release, "root", Utc::now());
            assert!(decided.await.expect("decided"));
            write.commit().await.expect("written");
        }
    }

    async fn end(&self) {
        let store = &self.bench.other;
        match self.way {
            None => {}
            Some(Membership) => store.remove_member("p", "ada").await.expect("removed"),
            Some(Revoked) => {
                let id = self.bench.habilitation().await.id;
                store.revoke_habilitation(&id).await.expect("revoked");
            }
            Some(Narrowed) => {
                // A version that grants none of its tables.
                let narrower = |next: &mut Habilitation| next.tables = Tables::Only(Vec::new());
                self.bench.renew(narrower).await;
            }
            Some(Person) => self.bench.disable().await,
            Some(Role) => self.set_roles(&[AdminRole::Billing]).await,
            Some(Token) => {
                let id = &self.bench.token.id;
                store.revoke_token(id, "ada").await.expect("revoked");
            }
            Some(Project) => self.bench.end_project().await,
            Some(Export) => {
                let mut write = store.change_rights().await.expect("begins");
                write.withdraw_exports("p").await.expect("withdrawn");
                write.commit().await.expect("written");
            }
            Some(Expired | Policy | TokenExpired) => {
                let left = self.ends - Utc::now();
                let left = left.to_std().expect("the phase came in time");
                tokio::time::sleep(left + Duration::from_millis(5)).await;
            }
        }
    }

    async fn caller(&self) -> Result<Caller> {
        let (hub, now) = (&self.bench.hub, Utc::now());
        let principal = hub.auth.authenticate(&self.header, "test", now).await?;
        Ok(Caller {
            principal,
            zone: inside(),
            now,
            timeout: None,
            place: hub.engine.call("ada")?,
        })
    }

    async fn open(&self, caller: &Caller, sql: &str) -> Result<Opened> {
        Opened::open(&self.bench.hub, caller, Text::new(sql.to_owned())).await
    }

    /// Rows without an end, of what is going to be shut.
    fn query(&self) -> String {
        match self.way {
            Some(Role) => endless("hub.audit", ""),
            Some(Export) => endless("exports.few", ""),
            _ => ENDLESS.to_owned(),
        }
    }

    /// A change that computes for minutes, and would write nothing but a table.
    fn slow_change(&self) -> String {
        let query = match self.way {
            Some(Export) => endless("exports.few", "WHERE a.x + b.y < 0"),
            _ => {
                "SELECT a.item FROM shop.sales a, shop.sales b WHERE a.item || b.item = 'x'".into()
            }
        };
        format!("CREATE TABLE space.t AS {query}")
    }

    async fn ticket(&self, caller: &Caller, sql: &str) -> Result<Ticket> {
        match self.open(caller, sql).await? {
            Opened::Query { handle, .. } => Ok(Ticket::open(
                &handle,
                &self.bench.hub.tickets,
                "ada",
                caller.now,
            )?),
            Opened::Changed { .. } => panic!("no query: {sql}"),
        }
    }

    /// A stream that has delivered rows.
    async fn begin(
        &self,
        caller: &Caller,
        ticket: Ticket,
    ) -> Result<BoxStream<hubflight_wire::Message>> {
        let mut stream = statement::redeem(&self.bench.hub, caller, ticket).await?;
        for _ in 0..2 {
            stream.next().await.expect("a frame")?;
        }
        Ok(stream)
    }

    /// What is told to who was let in before, and to who logs in now: both are let through, or
    /// neither is.
    async fn for_both(
        &self,
        before: &Caller,
        act: impl AsyncFn(&Caller) -> Result<()>,
    ) -> Result<()> {
        let told = act(before).await;
        let told_anew = match self.caller().await {
            Ok(caller) => act(&caller).await,
            Err(error) => Err(error),
        };
        assert_eq!(told.is_ok(), told_anew.is_ok(), "{:?}: {told:?}", self.way);
        told.and(told_anew)
    }

    async fn snapshot(&self) -> i64 {
        let snapshot = self.bench.hub.store.current_snapshot("p").await;
        snapshot.expect("read")
    }
}

/// Goes through a phase in every way; what ends there is told as what is shut, and by no other
/// error.
async fn check(limits: &str, ways: &[Way], phase: impl AsyncFn(&mut Case) -> Result<()>) {
    let mut control = Case::new(None, limits).await;
    phase(&mut control).await.expect("nothing has ended");
    for way in ways {
        let mut case = Case::new(Some(*way), limits).await;
        let Err(error) = phase(&mut case).await else {
            panic!("{way:?}: let through");
        };
        let is_shut = matches!(
            error.kind,
            ErrorKind::Unauthenticated | ErrorKind::PermissionDenied | ErrorKind::NotFound
        );
        assert!(is_shut, "{way:?}: {error}");
    }
}

/// Those that concern changes: an administrator has no space.
fn of_projects() -> Vec<Way> {
    WAYS.iter().copied().filter(|way| *way != Role).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_before_a_statement_is_planned() {
    let phase = async |case: &mut Case| {
        let caller = case.caller().await.expect("let in");
        case.ticket(&caller, &case.query()).await.expect("planned");
        case.end().await;
        let act = async |caller: &Caller| {
            let ticket = case.ticket(caller, &case.query()).await?;
            case.begin(caller, ticket).await.map(drop)
        };
        case.for_both(&caller, act).await
    };
    check("", WAYS, phase).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_between_the_plan_and_the_ticket() {
    let phase = async |case: &mut Case| {
        let caller = case.caller().await.expect("let in");
        let ticket = case.ticket(&caller, &case.query()).await.expect("planned");
        case.end().await;
        let act = async |caller: &Caller| case.begin(caller, ticket.clone()).await.map(drop);
        case.for_both(&caller, act).await
    };
    check("", WAYS, phase).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_before_a_ticket_that_was_renewed_is_redeemed() {
    let phase = async |case: &mut Case| {
        let caller = case.caller().await.expect("let in");
        let ticket = case.ticket(&caller, &case.query()).await.expect("planned");
        let renewed = ticket.clone().renewed(caller.now, 1_200, 3_600);
        assert!(renewed.expires > ticket.expires);
        case.end().await;
        let act = async |caller: &Caller| case.begin(caller, renewed.clone()).await.map(drop);
        case.for_both(&caller, act).await
    };
    check("", WAYS, phase).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_a_statement_waits_for_a_place() {
    // Nobody looks: it is found by the statement itself.
    let phase = async |case: &mut Case| {
        let caller = case.caller().await.expect("let in");
        let ticket = case.ticket(&caller, &case.query()).await.expect("planned");
        let first = case.begin(&caller, ticket.clone()).await.expect("begins");
        let ends = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            case.end().await;
            drop(first);
        };
        let (second, ()) = tokio::join!(case.begin(&caller, ticket), ends);
        second.map(drop)
    };
    check("queries_per_person_max = 1", WAYS, phase).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_in_the_middle_of_a_stream() {
    let phase = async |case: &mut Case| {
        case.watch();
        let caller = case.caller().await.expect("let in");
        let ticket = case.ticket(&caller, &case.query()).await.expect("planned");
        let mut stream = case.begin(&caller, ticket).await.expect("begins");
        case.end().await;
        let ended = Instant::now();
        let while_it_runs = Duration::from_millis(600);
        while case.way.is_some() || ended.elapsed() < while_it_runs {
            if let Err(status) = stream.next().await.expect("no end of the rows") {
                // The tests beside it have endless statements on the same cores.
                let took = ended.elapsed().as_millis();
                assert!(took < 2 * END_MS_MAX, "{:?} took {took} ms", case.way);
                return Err(status.into());
            }
            assert!(ended.elapsed() < Duration::from_secs(10), "{:?}", case.way);
        }
        Ok(())
    };
    check("", WAYS, phase).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_during_a_change() {
    let phase = async |case: &mut Case| {
        case.watch();
        let (caller, before) = (case.caller().await.expect("let in"), case.snapshot().await);
        let (hub, text) = (Arc::clone(&case.bench.hub), Text::new(case.slow_change()));
        let change = tokio::spawn(async move { Opened::open(&hub, &caller, text).await });
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(!change.is_finished(), "{:?}", case.way);
        case.end().await;
        let ended = Instant::now();
        if case.way.is_none() {
            tokio::time::sleep(Duration::from_millis(600)).await;
            assert!(!change.is_finished(), "it runs on");
            case.bench.hub.running.cancel_all();
        }
        let done = change.await.expect("runs");
        assert!(
            ended.elapsed().as_millis() < 2 * END_MS_MAX,
            "{:?}",
            case.way
        );
        assert_eq!(case.snapshot().await, before, "{:?}: committed", case.way);
        match done {
            Err(error) if case.way.is_none() && error.kind == ErrorKind::Cancelled => Ok(()),
            done => done.map(drop),
        }
    };
    check("", &of_projects(), phase).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_between_preparing_and_executing() {
    let phase = async |case: &mut Case| {
        let (hub, text) = (&case.bench.hub, Text::new(case.query()));
        let caller = case.caller().await.expect("let in");
        let described = statement::describe(hub, &caller, &text).await;
        described.expect("planned");
        let handle = hub.prepared.put(text, &caller.principal).expect("kept");
        case.end().await;
        let act = async |caller: &Caller| {
            let text = hub.prepared.get(&handle, &caller.principal)?;
            let ticket = case.ticket(caller, &text.sql).await?;
            case.begin(caller, ticket).await.map(drop)
        };
        case.for_both(&caller, act).await
    };
    check("", WAYS, phase).await;
}

/// The messages that execute a prepared change with one text bound: the first without rows.
fn upload(handle: bytes::Bytes) -> [FlightData; 2] {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["item number 7"]));
    let batch = RecordBatch::try_from_iter([("1", texts)]).expect("valid");
    let sent = batches_to_flight_data(&batch.schema(), vec![batch]).expect("encodes");
    let mut sent: [FlightData; 2] = sent.try_into().expect("a schema and a batch");
    let command = CommandPreparedStatementUpdate {
        prepared_statement_handle: handle,
    };
    let command = command.as_any().encode_to_vec();
    sent[0].flight_descriptor = Some(FlightDescriptor::new_cmd(command));
    sent
}

/// Executes a prepared change whose parameters are on their way when the right ends.
async fn while_uploading(case: &Case, sql: &str) -> Result<()> {
    let hub = Arc::clone(&case.bench.hub);
    let caller = case.caller().await.expect("let in");
    let text = Text::new(sql.to_owned());
    let handle = hub.prepared.put(text, &caller.principal).expect("kept");
    let [schema, rows] = upload(handle);
    let (sender, receiver) = futures::channel::mpsc::unbounded();
    let held = hub.begun.held(&caller.principal.person.id);
    let put = tokio::spawn(async move { do_put(&hub, &caller, held, receiver).await.map(drop) });
    sender.unbounded_send(Ok(schema)).expect("sent");
    tokio::time::sleep(Duration::from_millis(200)).await;
    case.end().await;
    if sql.contains('?') {
        sender.unbounded_send(Ok(rows)).expect("it waits");
    }
    drop(sender);
    Ok(put.await.expect("runs")?)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_parameters_are_uploaded() {
    let phase = async |case: &mut Case| {
        let caller = case.caller().await.expect("let in");
        let made = case.open(&caller, "CREATE TABLE space.t (item VARCHAR)");
        made.await.expect("made");
        let before = case.snapshot().await;
        let sql = match case.way {
            Some(Export) => {
                "INSERT INTO space.t SELECT 'x' FROM exports.few WHERE CAST(n AS VARCHAR) <> ?"
            }
            _ => "INSERT INTO space.t SELECT item FROM shop.sales WHERE item = ?",
        };
        let done = while_uploading(case, sql).await;
        let committed = i64::from(case.way.is_none());
        assert_eq!(case.snapshot().await, before + committed, "{:?}", case.way);
        done
    };
    check("", &of_projects(), phase).await;
}

/// What is a person's own is changed by no one whom the hub has shut out meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_shut_out_while_they_send_changes_nothing_of_their_own() {
    for way in [None, Some(Person)] {
        let case = Case::new(way, "").await;
        let token = NewToken {
            person: "ada".into(),
            project: "p".into(),
            name: "other".into(),
            expires_at: Utc::now() + TimeDelta::hours(1),
        };
        let other = case.bench.other.issue_token(&token).await.expect("issues");
        let call = format!("CALL hub.revoke_token('{}')", other.id);
        let done = while_uploading(&case, &call).await;
        let tokens = case.bench.other.tokens(Some("ada")).await.expect("read");
        let kept = tokens.iter().find(|token| token.id == other.id);
        let is_revoked = kept.is_some_and(|token| token.revoked_at.is_some());
        match way {
            None => assert!(done.is_ok() && is_revoked, "{done:?}"),
            Some(_) => {
                assert_eq!(done.expect_err("shut out").kind, UNKNOWN);
                assert!(!is_revoked);
            }
        }
    }
}
