//! Rights that end under a running stream, withdrawn through another connection to the store
//! as another process would.

mod controls;
mod phases;
mod places;

use std::path::Path;

use futures::StreamExt;
use hubflight_ledger::{Filter, Page, UsageRecord};
use hubflight_store::{IssuedToken, NewHabilitation, NewToken, PersonProfile, Store};
use hubflight_tickets::Ticket;
use hubflight_wire::Message;
use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::*;
use crate::flight::BoxStream;
use crate::flight::call::Caller;
use crate::hub::open_store;
use crate::rig::{SHOP, inside, open_hub};
use crate::statement::{self, Opened, Text};

/// How long after a withdrawal a stream may still run.
const END_MS_MAX: u128 = 1_000;
/// More rows than anybody reads in the time of a test: ten thousand million, of which a core
/// hands over some hundred million a second.
const ENDLESS: &str = "SELECT a.item, b.item FROM shop.sales a, shop.sales b";

/// What somebody is told who is not let in.
const UNKNOWN: ErrorKind = ErrorKind::Unauthenticated;

struct Bench {
    hub: Arc<Hub>,
    /// What an administrator's command would open.
    other: Store,
    token: IssuedToken,
    _watch: Option<AbortOnDropHandle<()>>,
    _folder: TempDir,
}

fn write_sales(folder: &Path) {
    let mut rows = String::from("item\n");
    (0..100_000).for_each(|i| rows.push_str(&format!("item number {i}\n")));
    std::fs::create_dir_all(folder).expect("folder");
    std::fs::write(folder.join("sales.csv"), rows).expect("written");
}

impl Bench {
    async fn new() -> Self {
        let mut bench = Self::unwatched("").await;
        let watch = tokio::spawn(watch(Arc::clone(&bench.hub)));
        bench._watch = Some(AbortOnDropHandle::new(watch));
        bench
    }

    /// A hub whose operator forbids.
    async fn ruled(policies: &str) -> Self {
        let mut bench = Self::with("[policies]\nfiles = ['operator.cedar']\n", policies).await;
        let watch = tokio::spawn(watch(Arc::clone(&bench.hub)));
        bench._watch = Some(AbortOnDropHandle::new(watch));
        bench
    }

    /// A hub with other limits, where nobody looks for what is withdrawn.
    async fn unwatched(limits: &str) -> Self {
        Self::with(&format!("[limits]\n{limits}"), "").await
    }

    async fn with(more: &str, policies: &str) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        write_sales(&folder.path().join("data"));
        std::fs::write(folder.path().join("operator.cedar"), policies).expect("written");
        let hub = open_hub(folder.path(), &format!("{SHOP}{more}")).await;
        let (other, _) = open_store(&hub.config).await.expect("store");
        let token = NewToken {
            person: "ada".into(),
            project: "p".into(),
            name: String::new(),
            expires_at: Utc::now() + TimeDelta::hours(1),
        };
        let token = hub.store.issue_token(&token).await.expect("issues");
        Self {
            hub,
            other,
            token,
            _watch: None,
            _folder: folder,
        }
    }

    async fn caller(&self, bearer: &str) -> Caller {
        let now = Utc::now();
        let header = metadata(bearer);
        let principal = self.hub.auth.authenticate(&header, "test", now).await;
        Caller {
            principal: principal.expect("let in"),
            zone: inside(),
            now,
            timeout: None,
            place: self.hub.engine.call("ada").expect("room"),
        }
    }

    async fn ticket(&self, caller: &Caller, sql: &str) -> Ticket {
        let opened = Opened::open(&self.hub, caller, Text::new(sql.into())).await;
        let Ok(Opened::Query { handle, .. }) = opened else {
            panic!("no query: {opened:?}");
        };
        Ticket::open(&handle, &self.hub.tickets, "ada", caller.now).expect("opens")
    }

    /// A stream that has begun.
    async fn begin(&self, bearer: &str) -> BoxStream<Message> {
        let caller = self.caller(bearer).await;
        let ticket = self.ticket(&caller, ENDLESS).await;
        let mut stream = statement::redeem(&self.hub, &caller, ticket)
            .await
            .expect("begins");
        for _ in 0..2 {
            stream.next().await.expect("a frame").expect("delivered");
        }
        stream
    }

    /// The only record, once there is one.
    async fn record(&self) -> UsageRecord {
        let began = Instant::now();
        loop {
            let records = self.hub.ledger.usage(&Filter::default(), Page::FIRST).await;
            if let Some(record) = records.expect("read").pop() {
                return record;
            }
            assert!(began.elapsed().as_millis() < END_MS_MAX, "not settled");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until nothing runs: the record is there a moment before its execution is gone.
    async fn idle(&self) {
        let began = Instant::now();
        while !self.hub.running.is_empty() {
            assert!(began.elapsed().as_millis() < END_MS_MAX, "it runs on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn habilitation(&self) -> Habilitation {
        let rows = self.other.habilitations_of("p").await.expect("read");
        serde_json::from_str(&rows[0].body).expect("a body")
    }

    async fn renew(&self, edit: impl FnOnce(&mut Habilitation)) {
        let mut next = self.habilitation().await;
        next.version += 1;
        edit(&mut next);
        let row = NewHabilitation {
            id: next.id.clone(),
            version: next.version,
            project: "p".into(),
            dataset: "shop".into(),
            body: serde_json::to_string(&next).expect("writes"),
        };
        self.other.put_habilitation(&row).await.expect("written");
    }

    async fn end_project(&self) {
        let project = self.other.project("p").await.expect("read");
        let mut project = project.expect("there");
        project.valid_to = Utc::now();
        self.other.put_project(&project).await.expect("written");
    }

    async fn disable(&self) {
        let mut write = self.other.change_rights().await.expect("begins");
        write.set_active("ada", false).await.expect("written");
        write.commit().await.expect("committed");
    }
}

fn metadata(bearer: &str) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    let value = format!("Bearer {bearer}").parse().expect("a header");
    metadata.insert("authorization", value);
    metadata
}

/// Reads until the error; that many frames may come before.
async fn error_of(stream: &mut BoxStream<Message>) -> Status {
    loop {
        match stream.next().await.expect("an error before the end") {
            Ok(_) => tokio::task::yield_now().await,
            Err(status) => return status,
        }
    }
}

/// Withdraws in one way, for a reader that reads on and for one that does not.
async fn check(way: &str, expected: ErrorKind) {
    for reads in [true, false] {
        let bench = Bench::new().await;
        let header = metadata(&bench.token.text);
        let session = bench.hub.auth.handshake(&header, "test", Utc::now()).await;
        let session = session.expect("a session");
        let bearer = match way {
            "token itself" => bench.token.text.as_str(),
            _ => session.as_str(),
        };
        let mut stream = bench.begin(bearer).await;
        let store = &bench.other;
        match way {
            "habilitation" => {
                let id = bench.habilitation().await.id;
                store.revoke_habilitation(&id).await.expect("revoked");
            }
            "narrower version" => {
                bench
                    .renew(|next| next.linkage_group = "other".into())
                    .await
            }
            "membership" => store.remove_member("p", "ada").await.expect("removed"),
            "project" => bench.end_project().await,
            "person" => bench.disable().await,
            "session" => store.raise_token_epoch("ada").await.expect("raised"),
            _ => {
                let id = &bench.token.id;
                store.revoke_token(id, "ada").await.expect("revoked");
            }
        }
        let began = Instant::now();
        if reads {
            let status = error_of(&mut stream).await;
            assert_eq!(Error::from(status).kind, expected, "{way}");
        }
        let record = bench.record().await;
        assert!(began.elapsed().as_millis() < END_MS_MAX, "{way} took long");
        assert_eq!(
            record.error_kind.as_deref(),
            Some(expected.label()),
            "{way}"
        );
        assert!(
            record.rows_returned > 0,
            "{way}: what was delivered is settled"
        );
        if !reads {
            // Not even what was encoded before is handed over.
            let next = stream.next().await.expect("an error");
            assert!(next.is_err(), "{way}: a frame after the end");
        }
        bench.idle().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_withdrawn_elsewhere_ends_the_stream() {
    for way in ["habilitation", "narrower version", "membership", "project"] {
        // The access token of a project ends with the membership, and the session with it.
        let expected = match way {
            "membership" => ErrorKind::Unauthenticated,
            _ => ErrorKind::PermissionDenied,
        };
        check(way, expected).await;
    }
    for way in ["person", "session", "token", "token itself"] {
        check(way, ErrorKind::Unauthenticated).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_ends_by_itself_ends_the_stream() {
    let bench = Bench::new().await;
    let end = Utc::now() + TimeDelta::milliseconds(1_500);
    bench.renew(|next| next.valid_to = end).await;
    let mut stream = bench.begin(&bench.token.text).await;
    let status = error_of(&mut stream).await;
    assert_eq!(Error::from(status).kind, ErrorKind::PermissionDenied);
    let late = Utc::now() - end;
    assert!(late >= TimeDelta::zero(), "it ended early");
    assert!(late.num_milliseconds() < 1_000, "it ended late: {late}");
}

/// Nobody writes at that moment, so that no revision tells of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_begins_later_ends_what_runs_on_the_one_before() {
    let bench = Bench::new().await;
    let mut stream = bench.begin(&bench.token.text).await;
    let begins = Utc::now() + TimeDelta::milliseconds(1_500);
    let narrower = |next: &mut Habilitation| {
        next.linkage_group = "other".into();
        next.valid_from = begins;
    };
    bench.renew(narrower).await;
    while Utc::now() < begins - TimeDelta::milliseconds(500) {
        stream.next().await.expect("a frame").expect("delivered");
    }
    let ended = tokio::time::timeout(Duration::from_secs(5), error_of(&mut stream)).await;
    assert!(Utc::now() >= begins, "too early");
    let error = Error::from(ended.expect("it ends"));
    assert_eq!(error.kind, ErrorKind::PermissionDenied);
    bench.idle().await;
}

/// Nobody writes at that moment, and no habilitation ends: only the operator's policy knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_begins_to_forbid_ends_the_stream() {
    let begins = Utc::now() + TimeDelta::milliseconds(4_000);
    let policy = |person: &str| {
        format!(
            "@id(\"evening\")\nforbid (principal == Person::\"{person}\", action, resource)\n\
             when {{ context.now >= datetime(\"{}\") }};",
            begins.format("%Y-%m-%dT%H:%M:%S%.3fZ")
        )
    };
    // Of somebody else, it leaves the stream alone.
    let others = Bench::ruled(&policy("eve")).await;
    let mut undisturbed = others.begin(&others.token.text).await;
    let bench = Bench::ruled(&policy("ada")).await;
    let mut stream = bench.begin(&bench.token.text).await;
    let status = error_of(&mut stream).await;
    let late = Utc::now() - begins;
    assert!(
        late >= TimeDelta::milliseconds(-1),
        "it ended early: {late}"
    );
    assert!(late.num_milliseconds() < 1_000, "it ended late: {late}");
    assert!(status.message().contains("rule `evening`"), "{status}");
    assert_eq!(Error::from(status).kind, ErrorKind::PermissionDenied);
    let record = bench.record().await;
    assert_eq!(record.error_kind.as_deref(), Some("permission_denied"));
    bench.idle().await;
    // Nothing begins any more, and the refusal says why.
    let caller = bench.caller(&bench.token.text).await;
    let text = Text::new("SELECT item FROM shop.sales".into());
    let refused = Opened::open(&bench.hub, &caller, text)
        .await
        .expect_err("forbidden");
    assert_eq!(refused.kind, ErrorKind::PermissionDenied);
    assert!(refused.to_string().contains("rule `evening`"), "{refused}");
    while Utc::now() < begins + TimeDelta::milliseconds(1_500) {
        undisturbed
            .next()
            .await
            .expect("a frame")
            .expect("delivered");
    }
}

/// Whenever the end comes, a reader at full speed is told of it: a result that was cut off never
/// looks complete.
#[tokio::test(flavor = "multi_thread")]
async fn no_end_looks_like_the_end_of_the_rows() {
    let bench = Bench::new().await;
    for round in 0..60_u64 {
        let mut stream = bench.begin(&bench.token.text).await;
        let running = Arc::clone(&bench.hub);
        let cancelled = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_micros(round * 113)).await;
            running
                .running
                .all()
                .iter()
                .for_each(|entry| entry.stop.cancel());
        });
        let status = error_of(&mut stream).await;
        assert_eq!(
            Error::from(status).kind,
            ErrorKind::Cancelled,
            "round {round}"
        );
        cancelled.await.expect("cancelled");
        drop(stream);
        bench.idle().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_concern_a_stream_leaves_it_running() {
    let bench = Bench::new().await;
    let mut stream = bench.begin(&bench.token.text).await;
    // A renewal that opens the same, a new password, somebody else's end.
    bench.renew(|next| next.decision = "d2".into()).await;
    bench.other.raise_token_epoch("ada").await.expect("raised");
    let eve = PersonProfile {
        id: "eve".into(),
        name: "Eve".into(),
        active: true,
        is_admin: false,
    };
    bench.other.put_person(&eve).await.expect("written");
    bench.other.raise_token_epoch("eve").await.expect("raised");
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1_000) {
        stream.next().await.expect("a frame").expect("delivered");
    }
    assert!(!bench.hub.running.is_empty());
    drop(stream);
    assert_eq!(bench.record().await.outcome, "cancelled");
    bench.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_cancelled_in_sql_by_its_own_person() {
    let bench = Bench::new().await;
    let eve = PersonProfile {
        id: "eve".into(),
        name: "Eve".into(),
        active: true,
        is_admin: false,
    };
    bench.other.put_person(&eve).await.expect("written");
    let member = hubflight_store::Member {
        project: "p".into(),
        person: "eve".into(),
        role: "member".into(),
    };
    bench.other.put_member(&member).await.expect("written");
    let token = NewToken {
        person: "eve".into(),
        project: "p".into(),
        name: String::new(),
        expires_at: Utc::now() + TimeDelta::hours(1),
    };
    let eves = bench.other.issue_token(&token).await.expect("issues");
    let mut stream = bench.begin(&bench.token.text).await;
    let queries = bench
        .hub
        .ledger
        .queries(&Filter::default(), Page::FIRST)
        .await;
    let id = queries.expect("read").pop().expect("a query").statement_id;
    let call = async |bearer: &str| {
        let text = Text::new(format!("CALL hub.cancel('{id}')"));
        Opened::open(&bench.hub, &bench.caller(bearer).await, text).await
    };
    // A colleague of the same project cannot tell that it runs.
    let refused = call(&eves.text).await.expect_err("another person's");
    assert_eq!(refused.kind, ErrorKind::NotFound);
    assert!(!bench.hub.running.is_empty());
    let done = call(&bench.token.text).await;
    assert!(matches!(done, Ok(Opened::Changed { rows: 1 })), "{done:?}");
    let status = error_of(&mut stream).await;
    assert_eq!(Error::from(status).kind, ErrorKind::Cancelled);
    let again = call(&bench.token.text).await.expect_err("it has ended");
    assert_eq!(again.to_string(), refused.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_who_loses_a_role_is_decided_on() {
    let bench = Bench::new().await;
    let set = async |roles: &[AdminRole]| {
        let mut write = bench.other.write().await.expect("begins");
        let roles = roles.iter().copied().collect();
        write.set_admin_roles("ada", &roles).await.expect("set");
        write.commit().await.expect("written");
    };
    set(&[AdminRole::Audit, AdminRole::Billing]).await;
    let mut standing = bench.caller(&bench.token.text).await.principal.standing;
    // As with a second factor: no token binds it to a project.
    (standing.access_token, standing.bound_to) = (None, None);
    let grounds = Grounds {
        project: "admin".into(),
        roles: [AdminRole::Audit].into(),
        standing,
        ..Grounds::of_nobody("ada")
    };
    let hub = &bench.hub;
    decide(hub, &grounds, Utc::now()).await.expect("holds");
    for left in [&[AdminRole::Billing][..], &[]] {
        set(left).await;
        let error = decide(hub, &grounds, Utc::now()).await.expect_err("lost");
        assert_eq!(error.kind, ErrorKind::PermissionDenied);
    }
}
