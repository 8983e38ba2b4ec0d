//! Logins, sessions and tokens, and what ends them.

use std::time::Duration;

use chrono::TimeDelta;
use hubflight_audit::Signer;
use hubflight_ledger::AuditSettings;
use hubflight_store::{IssuedToken, Member, NewToken, Organisation, PersonProfile, Rights};

use base64::Engine;
use hubflight_tickets::Sealer;

use super::passwords::Asked;
use super::prove::BASIC;
use super::*;
use crate::config::Config;

const LIMITS: AttemptLimits = AttemptLimits {
    login_failures_per_person_max: 3,
    login_failures_per_peer_max: 6,
    login_lock_seconds: 900,
};

/// A hub of one person in one project; a bearer of a handshake lives for an hour.
pub(super) async fn opened(folder: &tempfile::TempDir) -> Authenticator {
    opened_where(folder, true).await
}

fn factors() -> Sealer {
    Sealer::new(&[5; 32], b"test")
}

async fn opened_where(folder: &tempfile::TempDir, passwords: bool) -> Authenticator {
    let url = format!("sqlite://{}", folder.path().join("hub.sqlite").display());
    let store = Store::open(&url).await.expect("store");
    let organisation = Organisation {
        id: "chu".into(),
        name: "CHU".into(),
    };
    store.put_organisation(&organisation).await.expect("puts");
    let person = PersonProfile {
        id: "ada".into(),
        name: "Ada".into(),
        active: true,
        is_admin: false,
    };
    store.put_person(&person).await.expect("puts");
    let project = Project {
        id: "p".into(),
        title: String::new(),
        purpose: String::new(),
        organisation: "chu".into(),
        valid_from: Utc::now() - TimeDelta::days(1),
        valid_to: Utc::now() + TimeDelta::days(1),
        space_quota_bytes: 0,
        budget: None,
    };
    store.put_project(&project).await.expect("puts");
    let member = Member {
        project: "p".into(),
        person: "ada".into(),
        role: "member".into(),
    };
    store.put_member(&member).await.expect("puts");
    store
        .set_password("ada", "correct horse")
        .await
        .expect("sets");
    let tariff = Config::default().tariff().expect("tariff");
    let settings = AuditSettings {
        signer: Signer::of_hub(&[2; 32]).expect("a signer"),
        witness: None,
        syslog: None,
    };
    let ledger = Ledger::open(&store, tariff, Default::default(), settings).await;
    Authenticator {
        store,
        ledger: ledger.expect("ledger"),
        tokens: Tokens::new(&[1; 32], 3600),
        passwords: Passwords::new(passwords, LIMITS, factors()).expect("passwords"),
        sessions: Sessions::new(10, Duration::from_secs(60)),
        providers: Providers::default(),
        certificates: None,
    }
}

async fn issue(auth: &Authenticator, life: TimeDelta) -> IssuedToken {
    let new = NewToken {
        person: "ada".into(),
        project: "p".into(),
        name: "laptop".into(),
        expires_at: Utc::now() + life,
    };
    auth.store.issue_token(&new).await.expect("issues")
}

pub(super) fn header(value: &str) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", value.parse().expect("a header"));
    metadata
}

pub(super) async fn rights(auth: &Authenticator) -> Rights<'_> {
    auth.store.rights().await.expect("read")
}

pub(super) fn bearer(token: &str) -> MetadataMap {
    header(&format!("Bearer {token}"))
}

#[tokio::test]
async fn a_session_ends_with_the_access_token_that_began_it() {
    let folder = tempfile::tempdir().expect("folder");
    let auth = opened(&folder).await;
    let now = Utc::now();
    let life = TimeDelta::minutes(10);
    for way in ["revoked", "expired", "left"] {
        let token = issue(&auth, life).await;
        let begun = auth.handshake(&bearer(&token.text), "c", now).await;
        let session = begun.expect("a token begins a session");
        let renewed = auth.handshake(&bearer(&session), "c", now).await;
        let renewed = renewed.expect("a session begins another");
        let mut later = now;
        for text in [&session, &renewed] {
            let caller = auth.authenticate(&bearer(text), "c", now).await;
            assert_eq!(caller.expect("in force").project().expect("bound"), "p");
        }
        match way {
            "revoked" => {
                let revoked = auth.store.revoke_token(&token.id, "ada").await;
                revoked.expect("revokes");
            }
            "expired" => later = Utc::now() + life,
            _ => auth.store.remove_member("p", "ada").await.expect("removes"),
        }
        for text in [&session, &renewed] {
            let error = auth.authenticate(&bearer(text), "c", later).await;
            let error = error.expect_err(way);
            assert_eq!(error.kind, crate::error::ErrorKind::Unauthenticated);
            let error = auth.handshake(&bearer(text), "c", later).await;
            assert!(error.is_err(), "{way}");
        }
    }
}

#[tokio::test]
async fn a_handshake_with_a_session_does_not_prolong_it() {
    let folder = tempfile::tempdir().expect("folder");
    let auth = opened(&folder).await;
    let now = Utc::now();
    // `ada:correct horse`
    let basic = header("Basic YWRhOmNvcnJlY3QgaG9yc2U=");
    let mut session = auth.handshake(&basic, "c", now).await.expect("logs in");
    for minutes in [20, 40, 59] {
        let later = now + TimeDelta::minutes(minutes);
        session = auth
            .handshake(&bearer(&session), "c", later)
            .await
            .expect("within the first hour");
    }
    let late = now + TimeDelta::minutes(60);
    assert!(
        auth.authenticate(&bearer(&session), "c", late)
            .await
            .is_err()
    );
}

pub(super) fn basic(user: &str, password: &str) -> MetadataMap {
    header(&format!(
        "Basic {}",
        BASIC.encode(format!("{user}:{password}"))
    ))
}

/// Who is locked, as the audit has it.
pub(super) async fn lock_outs(auth: &Authenticator) -> Vec<(Option<String>, String)> {
    let filter = hubflight_ledger::Filter::default();
    let audit = auth
        .ledger
        .audit(&filter, hubflight_ledger::Page::FIRST)
        .await;
    let events = audit.expect("read").into_iter();
    let events = events.filter(|record| record.event == "login_locked");
    events
        .map(|record| (record.person, record.client))
        .collect()
}

#[tokio::test]
async fn guessing_locks_a_name_and_nobody_can_tell_whose() {
    let folder = tempfile::tempdir().expect("folder");
    let auth = opened(&folder).await;
    let now = Utc::now();
    let login = async |user: &str, password: &str, at: DateTime<Utc>| {
        auth.handshake(&basic(user, password), "local", at).await
    };
    let mut told = Vec::new();
    for user in ["ada", "nobody"] {
        let mut texts = Vec::new();
        for _ in 0..4 {
            let error = login(user, "wrong horse", now).await.expect_err("wrong");
            texts.push(error.to_string());
        }
        assert_eq!(texts[0], texts[2]);
        assert_ne!(texts[2], texts[3], "the fourth finds it locked");
        told.push(texts);
    }
    assert_eq!(told[0], told[1]);
    login("ada", "correct horse", now)
        .await
        .expect_err("locked");
    // The audit names a person, never what else was typed as a name.
    let expected = [
        (Some("ada".to_owned()), String::new()),
        (None, String::new()),
    ];
    assert_eq!(lock_outs(&auth).await, expected);
    // Whom somebody locks out still has their token and their session.
    let token = issue(&auth, TimeDelta::hours(1)).await;
    auth.authenticate(&bearer(&token.text), "local", now)
        .await
        .expect("a token");
    let with_token = basic("ada", &token.text);
    auth.authenticate(&with_token, "local", now)
        .await
        .expect("a token as the password");

    let later = now + TimeDelta::seconds(1);
    let mut write = auth.store.write().await.expect("begins");
    write.unlock("ada", later).await.expect("unlocked");
    write.commit().await.expect("written");
    login("ada", "correct horse", later)
        .await
        .expect("unlocked");
    login("nobody", "x", now + TimeDelta::seconds(900))
        .await
        .expect_err("nobody, but not locked any more");
}

#[tokio::test]
async fn spraying_one_password_over_names_locks_the_address() {
    let folder = tempfile::tempdir().expect("folder");
    let auth = opened(&folder).await;
    let now = Utc::now();
    for i in 0..6 {
        let guess = basic(&format!("person{i}"), "correct horse");
        // Another port is another connection, not another client.
        let connection = format!("192.0.2.7:{}", 5000 + i);
        let refused = auth.handshake(&guess, connection.as_str(), now).await;
        refused.expect_err("nobody");
    }
    let right = basic("ada", "correct horse");
    let refused = auth.handshake(&right, "192.0.2.7:9999", now).await;
    let error = refused.expect_err("the address is locked");
    assert!(error.to_string().contains("15 minutes"), "{error}");
    auth.handshake(&right, "192.0.2.8:9999", now)
        .await
        .expect("another address");
    let locked = lock_outs(&auth).await;
    assert_eq!(locked, [(None, "address 192.0.2.7".to_owned())]);
}

/// Enrols a person, and gives the code of their authenticator at a time.
async fn enrol(auth: &Authenticator, person: &str) -> impl Fn(DateTime<Utc>) -> String {
    let secret = totp::Secret::new().expect("random");
    let sealed = secret.seal(&factors(), person).expect("sealed");
    let mut write = auth.store.write().await.expect("begins");
    write
        .set_totp(person, Some(&sealed))
        .await
        .expect("enrolled");
    write.commit().await.expect("written");
    move |now| {
        let step = now.timestamp().div_euclid(30);
        secret.code(step).expect("computed").to_string()
    }
}

#[tokio::test]
async fn outside_the_demo_a_password_needs_its_code_and_each_code_is_good_once() {
    let folder = tempfile::tempdir().expect("folder");
    let auth = opened_where(&folder, false).await;
    let now = Utc::now();
    let login = async |secret: &str, at: DateTime<Utc>| {
        let begun = auth.handshake(&basic("ada", secret), "local", at).await;
        begun.map_err(|error| error.to_string())
    };
    let alone = login("correct horse", now).await.expect_err("alone");
    assert!(alone.contains("not enough"), "{alone}");
    // Nobody is told whether there is a second factor.
    let refused = login("correct horse 123456", now).await.expect_err("none");
    let code = enrol(&auth, "ada").await;
    assert_eq!(login("correct horse", now).await.expect_err("alone"), alone);
    let good = code(now);
    let wrong = format!(
        "{:06}",
        (good.parse::<u32>().expect("digits") + 1) % 1_000_000
    );
    let guess = login(&format!("correct horse {wrong}"), now).await;
    assert_eq!(guess.expect_err("wrong code"), refused);
    auth.passwords
        .verify(
            &auth.store,
            "ada",
            format!("correct horse {good}"),
            Asked { peer: None, now },
        )
        .await
        .expect("both factors");
    for replayed in [
        format!("correct horse {good}"),
        format!("correct horse:{good}"),
    ] {
        assert_eq!(login(&replayed, now).await.expect_err("replayed"), refused);
    }
    // The next step's code is good, with either separator, and the one before it no more.
    let next = now + TimeDelta::seconds(30);
    let later = format!("correct horse:{}", code(next));
    let session = login(&later, next).await.expect("a session");
    auth.authenticate(&bearer(&session), "local", next)
        .await
        .expect("goes on without codes");
    assert_eq!(
        login(&format!("wrong horse {}", code(next)), next).await,
        Err(refused)
    );
}

#[tokio::test]
async fn guessed_codes_lock_as_guessed_passwords_do() {
    let folder = tempfile::tempdir().expect("folder");
    let auth = opened(&folder).await;
    let now = Utc::now();
    let code = enrol(&auth, "ada").await;
    let good = code(now);
    // In the demo too, who has a second factor needs it.
    for secret in [
        "correct horse",
        "correct horse 000000",
        "correct horse:000000",
    ] {
        assert!(!secret.ends_with(&good), "one in a million");
        let refused = auth.handshake(&basic("ada", secret), "local", now).await;
        refused.expect_err(secret);
    }
    let right = basic("ada", &format!("correct horse {good}"));
    let error = auth.handshake(&right, "local", now).await;
    assert!(error.expect_err("locked").to_string().contains("too many"));
    assert_eq!(lock_outs(&auth).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_once_are_counted_one_by_one() {
    let folder = tempfile::tempdir().expect("folder");
    let auth = opened(&folder).await;
    let now = Utc::now();
    let guesses: Vec<MetadataMap> = (0..20).map(|i| basic("ada", &format!("{i}"))).collect();
    let answers = guesses
        .iter()
        .map(|guess| auth.handshake(guess, "local", now));
    let answers = futures::future::join_all(answers).await;
    let texts = answers
        .into_iter()
        .map(|answer| answer.expect_err("wrong").to_string());
    let looked_at = texts.filter(|text| !text.contains("too many")).count();
    assert_eq!(looked_at, 3, "as many as lock");
    assert_eq!(lock_outs(&auth).await.len(), 1);
}

#[tokio::test]
async fn names_that_no_store_takes_are_counted_as_any() {
    let folder = tempfile::tempdir().expect("folder");
    let auth = opened(&folder).await;
    let now = Utc::now();
    let mut texts = Vec::new();
    for name in ["\0", "ada\0", "a\0da", "\0ada"] {
        let error = auth
            .handshake(&basic(name, "correct horse"), "local", now)
            .await;
        let error = error.expect_err("nobody");
        assert_eq!(error.kind, crate::error::ErrorKind::Unauthenticated);
        texts.push(error.to_string());
    }
    assert!(texts[3].contains("too many"), "{texts:?}");
    let token = auth
        .handshake(&basic("ada", "hubpat_\0_aaaa"), "local", now)
        .await;
    let error = token.expect_err("no token");
    assert_eq!(error.kind, crate::error::ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn a_locked_address_tells_nobody_who_is_known_there() {
    let folder = tempfile::tempdir().expect("folder");
    let auth = opened(&folder).await;
    let now = Utc::now();
    let address = "192.0.2.7:5000";
    let right = basic("ada", "correct horse");
    auth.handshake(&right, address, now).await.expect("hers");
    for i in 0..6 {
        let guess = basic(&format!("person{i}"), "correct horse");
        let refused = auth.handshake(&guess, address, now).await;
        refused.expect_err("nobody");
    }
    let mut told = Vec::new();
    for name in ["ada", "bob"] {
        let began = std::time::Instant::now();
        let error = auth.handshake(&basic(name, "wrong"), address, now).await;
        told.push(error.expect_err("wrong").to_string());
        assert!(began.elapsed() >= Duration::from_millis(500), "{name}");
    }
    assert!(told[0].contains("too many"), "{}", told[0]);
    assert_eq!(told[0], told[1]);
    auth.handshake(&right, address, now)
        .await
        .expect("she logged in from there before");
}
