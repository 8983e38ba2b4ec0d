//! What is kept and told of passwords, and who may change them.

use arrow::array::AsArray;
use arrow_flight::decode::FlightRecordBatchStream;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hubflight_audit::{TextKey, open_text};
use hubflight_ledger::{Filter, Page};
use hubflight_store::{NewToken, TextHolder};
use hubflight_tickets::Ticket;
use tempfile::TempDir;

use super::*;
use crate::error::ErrorKind;
use crate::hub::open_store;
use crate::rig::{SHOP, caller, open_hub};
use crate::statement::{Opened, describe};

const OLD: &str = "canary-old-1";
const NEW: &str = "canary-new-2";
const BYTES_MAX: usize = 10_000;

struct Bench {
    hub: Arc<Hub>,
    /// Opens what is kept of texts.
    auditors: TextKey,
    _folder: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::create_dir(folder.path().join("data")).expect("folder");
        std::fs::write(folder.path().join("data/sales.csv"), "item\na\n").expect("written");
        let hub = open_hub(folder.path(), SHOP).await;
        hub.store.set_password("ada", OLD).await.expect("set");
        let auditors = TextKey::generate().expect("a key");
        let (_, secrets) = open_store(&hub.config).await.expect("store");
        let (public, holder) = (auditors.public(), TextHolder::Auditors);
        let mut write = hub.store.write().await.expect("begins");
        let put = write.put_text_key(&secrets, &holder, public.as_bytes(), Utc::now());
        put.await.expect("put");
        write.commit().await.expect("commits");
        Bench {
            hub,
            auditors,
            _folder: folder,
        }
    }

    /// Ada, let in by a header.
    async fn caller(&self, header: &str) -> Result<Caller> {
        caller(&self.hub, header).await
    }

    async fn login(&self, password: &str) -> Result<Caller> {
        let basic = STANDARD.encode(format!("ada:{password}"));
        self.caller(&format!("Basic {basic}")).await
    }

    async fn open(&self, caller: &Caller, text: Text) -> Result<u64> {
        match Opened::open(&self.hub, caller, text).await? {
            Opened::Changed { rows } => Ok(rows),
            Opened::Query { .. } => panic!("a query"),
        }
    }

    async fn call(&self, caller: &Caller, sql: &str) -> Result<u64> {
        self.open(caller, Text::new(sql.to_owned())).await
    }

    /// Everything that is kept of what was asked.
    async fn kept(&self) -> Vec<String> {
        let (ledger, store) = (&self.hub.ledger, &self.hub.store);
        ledger.flush().await.expect("flushed");
        let page = Page {
            after_seq: 0,
            rows_max: 1_000,
        };
        let queries = ledger.queries(&Filter::default(), page).await;
        let mut kept = Vec::new();
        for query in queries.expect("read") {
            let id = query.statement_id;
            let sealed = store.sealed_text(&id.to_string()).await.expect("read");
            let text = open_text(&sealed.expect("kept"), id, &self.auditors).expect("opens");
            kept.push(String::from_utf8(text.to_vec()).expect("a text"));
        }
        kept
    }
}

fn bound(old: &str, new: &str, rows: usize) -> Text {
    let schema = Arc::new(Schema::new(vec![
        Field::new("", DataType::Utf8, true),
        Field::new("", DataType::Utf8, true),
    ]));
    let columns = [old, new].map(|text| Arc::new(StringArray::from(vec![text; rows])) as ArrayRef);
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.into()).expect("valid");
    Text {
        sql: "CALL hub.change_password(?, ?)".to_owned(),
        parameters: parameters::encode(&schema, &[batch]).expect("encodes"),
        transaction: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_changed_by_whoever_logged_in_with_it() {
    let bench = Bench::new().await;
    let caller = bench.login(OLD).await.expect("logs in");
    let sql = format!("CALL hub.change_password('{OLD}', '{NEW}')");
    let changed = bench.call(&caller, &sql).await;
    assert_eq!(changed.expect("changed"), 1);
    bench.login(OLD).await.expect_err("the old one");
    let caller = bench.login(NEW).await.expect("the new one");
    // Bound, and back; a quote in it is a character as any other.
    let quoted = "canary-o'n";
    let changed = bench.open(&caller, bound(NEW, quoted, 1)).await;
    assert_eq!(changed.expect("changed"), 1);
    let caller = bench.login(quoted).await.expect("the bound one");
    let back = format!("call HUB.Change_Password ( 'canary-o''n' , '{OLD}' )");
    assert_eq!(bench.call(&caller, &back).await.expect("changed"), 1);
    bench.login(OLD).await.expect("the first one again");
    let kept = bench.kept().await;
    assert_eq!(kept, [KEPT; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_ends_sessions_and_no_token() {
    let bench = Bench::new().await;
    let hub = &bench.hub;
    let token = NewToken {
        person: "ada".into(),
        project: "p".into(),
        name: "t".into(),
        expires_at: Utc::now() + chrono::TimeDelta::days(1),
    };
    let mut change = hub.change("test", Utc::now()).await.expect("begins");
    let issued = change.write.issue_token(&token).await.expect("issued");
    change.commit().await.expect("commits");
    let token = format!("Bearer {}", issued.text.as_str());
    let ada = hub.store.person("ada").await.expect("read").expect("there");
    let session = hub
        .auth
        .tokens
        .issue(&ada.id, ada.token_epoch, Default::default(), Utc::now());
    let session = format!("Bearer {}", session.expect("issued"));
    bench.caller(&session).await.expect("before");
    let by_token = bench.caller(&token).await.expect("a token");
    let sql = format!("CALL hub.change_password('{OLD}', '{NEW}')");
    let refused = bench.call(&by_token, &sql).await;
    assert_eq!(
        refused.expect_err("a token").kind,
        ErrorKind::PermissionDenied
    );
    let caller = bench.login(OLD).await.expect("logs in");
    bench.call(&caller, &sql).await.expect("changed");
    bench.caller(&session).await.expect_err("ended");
    bench.caller(&token).await.expect("a token stays");
    // The call's own session has ended as well: it cannot change the password again.
    let again = format!("CALL hub.change_password('{NEW}', '{OLD}')");
    let refused = bench.call(&caller, &again).await;
    assert_eq!(refused.expect_err("ended").kind, ErrorKind::Unauthenticated);
    // A token that the person revokes is good for nothing, and nobody else's is theirs.
    let revoke = format!("CALL hub.revoke_token('{}')", issued.id);
    let caller = bench.login(NEW).await.expect("logs in");
    assert_eq!(bench.call(&caller, &revoke).await.expect("revoked"), 1);
    bench.caller(&token).await.expect_err("revoked");
    for wrong in [
        revoke.as_str(),
        "CALL hub.revoke_token('x')",
        "CALL hub.revoke_token('''; DROP TABLE tokens')",
    ] {
        let refused = bench.call(&caller, wrong).await.expect_err(wrong);
        assert_eq!(refused.kind, ErrorKind::NotFound, "{wrong}");
    }
    assert!(
        bench.kept().await.contains(&revoke),
        "its text is no secret"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_lock_as_failed_logins_do() {
    let bench = Bench::new().await;
    let caller = bench.login(OLD).await.expect("logs in");
    let most = bench.hub.config.limits.login_failures_per_person_max;
    let guess = |text: String| {
        let (bench, caller) = (&bench, &caller);
        async move {
            let sql = format!("CALL hub.change_password('{text}', '{NEW}')");
            bench.call(caller, &sql).await.expect_err("refused").kind
        }
    };
    for number in 0..most {
        let kind = guess(format!("canary-wrong-{number}")).await;
        assert_eq!(kind, ErrorKind::PermissionDenied, "{number}");
    }
    assert_eq!(guess(OLD.to_owned()).await, ErrorKind::Unauthenticated);
    assert_eq!(bench.kept().await, vec![KEPT; most as usize + 1]);
    let page = Page {
        after_seq: 0,
        rows_max: 1_000,
    };
    let audit = bench.hub.ledger.audit(&Filter::default(), page).await;
    let locks = audit.expect("read");
    let locks = locks.iter().filter(|entry| entry.event == "login_locked");
    assert_eq!(locks.count(), 1);
    bench.login(NEW).await.expect_err("not changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_password_is_kept_or_repeated() {
    let bench = Bench::new().await;
    let caller = bench.login(OLD).await.expect("logs in");
    for sql in [
        "CALL hub.change_password('canary-old-1', 'canary')",
        "CALL hub.change_password('canary-old-1', 'canary-old-1')",
        "CALL hub.change_password('canary-old-1')",
        "CALL hub.change_password('canary-old-1', 'canary-o'n')",
        "CALL hub.change_password('canary-old-1', 'canary-new-2",
        "CALL hub.change_password(canary, \"canary-new\")",
        "CALL hub.change_password('canary-' || 'old-1', 'canary-new-2')",
        "CALL hub.change_password('canary-old-1', ?)",
        "CALL hub.change_password('canary-old-1', 'canary-new-2'); SELECT 1",
        "CALL hub.changepassword('canary-old-1', 'canary-new-2')",
        "CALL change_password('canary-old-1', 'canary-new-2')",
        " call\thub.set_password('canary-old-1', 'canary-new-2')",
        "EXPLAIN CALL hub.change_password('canary-old-1', 'canary-new-2')",
        "SELECT hub.change_password('canary-old-1', 'canary-new-2')",
        "SELECT change_password(CAST('canary-old-1' AS INT), 'canary-new-2')",
        "SELECT change_password FROM canary",
        "/* */ CALL hub.change_password('canary-old-1', 'canary-new-2') OVER ()",
        "/* */ CALL hub.change_passwd('canary-old-1', 'canary-new-2')",
        "CALL hub.change_pasword('canary-old-1', 'canary-new-2')",
        "CALL hub.passwd('canary-password-7', 'canary')",
        "CALL hub.set_pw('canary-old-1', 'canary-new-2')",
        "ALTER USER alice PASSWORD 'canary-new-2'",
    ] {
        let text = Text::new(sql.to_owned());
        let opened = bench.open(&caller, text.clone()).await.expect_err(sql);
        assert!(!opened.to_string().contains("canary"), "{sql}: {opened}");
        let described = describe(&bench.hub, &caller, &text).await;
        let told = described.expect_err(sql).to_string();
        assert!(!told.contains("canary"), "{sql}: {told}");
    }
    for wrong in [bound(OLD, NEW, 2), bound(OLD, "canary", 1)] {
        let told = bench.open(&caller, wrong).await.expect_err("wrong");
        assert!(!told.to_string().contains("canary"), "{told}");
    }
    // What is right is not prepared either, where the passwords stand in it.
    let written = format!("CALL hub.change_password('{OLD}', '{NEW}')");
    let refused = describe(&bench.hub, &caller, &Text::new(written)).await;
    let refused = refused.expect_err("kept for later").to_string();
    assert!(refused.contains("(?, ?)"), "{refused}");
    let open = Text::new("CALL hub.change_password(?, ?)".to_owned());
    let described = describe(&bench.hub, &caller, &open).await.expect("open");
    assert_eq!(described.parameters.fields().len(), 2);
    bench.login(OLD).await.expect("nothing was changed");
    let kept = bench.kept().await;
    assert!(kept.len() > 30, "{}", kept.len());
    for text in kept {
        assert!(!text.contains("canary"), "{text}");
    }
}

/// Nobody hides what they ask by speaking of passwords.
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_kept_in_full() {
    let bench = Bench::new().await;
    let caller = bench.login(OLD).await.expect("logs in");
    let asked = "SELECT 'change_password' AS password FROM shop.sales";
    let opened = Opened::open(&bench.hub, &caller, Text::new(asked.to_owned())).await;
    opened.expect("runs");
    let export = "CALL hub.request_export('SELECT count(*) AS change_password FROM shop.sales', \
                  'a', 'p')";
    bench.call(&caller, export).await.expect("asked for");
    let refused = "SELECT password FROM shop.nowhere";
    bench.call(&caller, refused).await.expect_err("no table");
    assert_eq!(bench.kept().await, [asked, export, refused]);
}

#[test]
fn a_refused_text_ends_where_passwords_may_begin() {
    let kept = |sql: &str| {
        let text = Text::new(sql.to_owned());
        kept_of_refused(&text, BYTES_MAX).into_owned()
    };
    assert_eq!(kept("CALL hub.change_password('a', 'b')"), KEPT);
    assert_eq!(
        kept("SELECT Change_Password('a')"),
        "SELECT Change_Password…"
    );
    assert_eq!(kept("call hub.x('a', password)"), "call hub.x…");
    assert_eq!(kept("SELECT password FROM t"), "SELECT password FROM t");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_ones_own_is_made_by_a_login_and_shown_once() {
    use futures::StreamExt;
    let bench = Bench::new().await;
    let hub = &bench.hub;
    let caller = bench.login(OLD).await.expect("logs in");
    let sql = "CALL hub.create_token('laptop', 30)";
    let asked = Text::new(sql.to_owned());
    let described = describe(hub, &caller, &asked).await.expect("described");
    let opened = Opened::open(hub, &caller, asked.clone()).await;
    let Ok(Opened::Query { schema, handle, .. }) = opened else {
        panic!("{opened:?}");
    };
    assert_eq!(described.schema, schema);
    let ticket = Ticket::open(&handle, &hub.tickets, "ada", caller.now).expect("hers");
    assert!(!ticket.renewable, "it shows a secret");
    let frames = crate::statement::redeem(hub, &caller, ticket).await;
    let frames = frames
        .expect("redeemed")
        .map(|frame| frame.map(Into::into).map_err(Into::into));
    let rows = FlightRecordBatchStream::new_from_flight_data(frames);
    let rows: Vec<RecordBatch> = rows.map(|rows| rows.expect("a row")).collect().await;
    assert_eq!(rows[0].schema(), schema, "as announced");
    let text = rows[0].column(1).as_string::<i32>().value(0).to_owned();
    let by_token = bench.caller(&format!("Bearer {text}")).await.expect("good");
    assert_eq!(by_token.principal.project().expect("bound"), "p");
    let tokens = hub.store.tokens(Some("ada")).await.expect("read");
    let [token] = tokens.as_slice() else {
        panic!("{tokens:?}");
    };
    assert_eq!(
        (token.project.as_str(), token.name.as_str()),
        ("p", "laptop")
    );
    let days = (token.expires_at - Utc::now()).num_hours();
    assert!((719..=720).contains(&days), "{days}");
    // Who takes no rows would never see it: then there is none.
    let lost = Opened::change(hub, &caller, asked.clone()).await;
    assert!(
        lost.expect_err("refused")
            .to_string()
            .contains("as a query")
    );
    // A token makes no token, nor a session that began with one.
    let refused = Opened::open(hub, &by_token, asked.clone()).await;
    assert_eq!(
        refused.expect_err("a token").kind,
        ErrorKind::PermissionDenied
    );
    for wrong in [
        "CALL hub.create_token('x')",
        "CALL hub.create_token('x', 0)",
        "CALL hub.create_token('x', 367)",
        "CALL hub.create_token('x', -1)",
        "CALL hub.create_token('x', 1.5)",
        "CALL hub.create_token('x', '3')",
        "CALL hub.create_token(?, 3)",
        "CALL hub.create_token('a\nb', 3)",
        "CALL hub.create_token('x', 3) OVER ()",
    ] {
        let refused = Opened::open(hub, &caller, Text::new(wrong.to_owned())).await;
        assert_eq!(
            refused.expect_err(wrong).kind,
            ErrorKind::InvalidArgument,
            "{wrong}"
        );
    }
    assert_eq!(hub.store.tokens(Some("ada")).await.expect("read").len(), 1);
    for _ in 1..TOKENS_MAX {
        Opened::open(hub, &caller, asked.clone())
            .await
            .expect("made");
    }
    let refused = Opened::open(hub, &caller, asked).await;
    assert_eq!(
        refused.expect_err("too many").kind,
        ErrorKind::ResourceExhausted
    );
    let kept = bench.kept().await;
    assert!(kept.iter().any(|kept| kept == sql));
    assert!(
        !kept.iter().any(|kept| kept.contains(&text)),
        "its text is kept"
    );
}

/// Who was shut out after they were let in gets none.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_shut_out_meanwhile_gets_no_token() {
    let bench = Bench::new().await;
    let hub = &bench.hub;
    let sql = "CALL hub.create_token('late', 30)";
    let caller = bench.login(OLD).await.expect("logs in");
    let wanted = || match parse(sql, BYTES_MAX).expect("parses").own() {
        Ok(Some(Call::CreateToken(wanted))) => wanted,
        _ => panic!("no such call"),
    };
    hub.store.remove_member("p", "ada").await.expect("removed");
    let refused = wanted().make(hub, &caller).await.expect_err("no member");
    assert_eq!(refused.kind, ErrorKind::PermissionDenied, "{refused}");
    hub.store.raise_token_epoch("ada").await.expect("ended");
    let refused = wanted().make(hub, &caller).await.expect_err("no session");
    assert_eq!(refused.kind, ErrorKind::Unauthenticated, "{refused}");
    assert!(
        hub.store
            .tokens(Some("ada"))
            .await
            .expect("read")
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_too_often_is_refused_for_a_while() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::create_dir(folder.path().join("data")).expect("folder");
    std::fs::write(folder.path().join("data/sales.csv"), "item\na\n").expect("written");
    let text = format!("[limits]\ncalls_per_minute_max = 3\n{SHOP}");
    let hub = open_hub(folder.path(), &text).await;
    for _ in 0..3 {
        crate::rig::ada_in_session(&hub).await;
    }
    let refused = hub.engine.call("ada").expect_err("the fourth");
    assert_eq!(refused.kind, ErrorKind::ResourceExhausted);
    assert!(refused.to_string().contains("try again in"), "{refused}");
    hub.engine.call("eve").expect("somebody else");
}
