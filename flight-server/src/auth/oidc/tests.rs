//! A provider over HTTP: whom its tokens let in, when its keys are asked for, and what it may not
//! make the hub do. The judging of tokens is tested where it is written.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use hubflight_store::PersonProfile;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::auth::tests::{basic, bearer, lock_outs, opened, rights};
use crate::auth::{Authenticator, Login, Method};
use crate::config::Config;

struct Key {
    name: &'static str,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(name: &'static str) -> Self {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).expect("a key");
        Self { name, pair }
    }

    fn public(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "kid": self.name, "x": part(&point[1..33]),
               "y": part(&point[33..])})
    }

    fn token(&self, issuer: &str, subject: &str, expires: DateTime<Utc>) -> String {
        let header = json!({"alg": "ES256", "kid": self.name, "typ": "at+jwt"}).to_string();
        let claims = json!({"iss": issuer, "aud": "hub", "sub": subject, "amr": ["otp"],
                            "iat": Utc::now().timestamp(), "exp": expires.timestamp()});
        let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
        let message = format!("{}.{}", encode(header), encode(claims.to_string()));
        let signed = self.pair.sign(&SystemRandom::new(), message.as_bytes());
        format!(
            "{message}.{}",
            URL_SAFE_NO_PAD.encode(signed.expect("signs"))
        )
    }
}

/// What it answers, by path, and how often it was asked.
#[derive(Default)]
struct Answers {
    discovery: Mutex<Option<Response<String>>>,
    keys: Mutex<Option<String>>,
    asked: AtomicUsize,
}

struct Fake {
    issuer: String,
    answers: Arc<Answers>,
    _serves: AbortOnDropHandle<()>,
}

impl Fake {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("free");
        let issuer = format!("http://{}", listener.local_addr().expect("known"));
        let answers = Arc::new(Answers::default());
        let (one, two, base) = (Arc::clone(&answers), Arc::clone(&answers), issuer.clone());
        let discovery = move || {
            let answer = one.discovery.lock().take();
            let usual = json!({"issuer": base, "jwks_uri": format!("{base}/keys")}).to_string();
            async move { answer.map_or_else(|| usual.into_response(), Response::into_response) }
        };
        let keys = move || {
            two.asked.fetch_add(1, Ordering::SeqCst);
            let keys = two.keys.lock().clone();
            let down = StatusCode::SERVICE_UNAVAILABLE;
            async move { keys.map_or_else(|| down.into_response(), String::into_response) }
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys));
        let serves = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("serves");
        });
        Self {
            issuer,
            answers,
            _serves: AbortOnDropHandle::new(serves),
        }
    }

    fn publish(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.public()).collect();
        *self.answers.keys.lock() = Some(json!({ "keys": keys }).to_string());
    }

    fn asked(&self) -> usize {
        self.answers.asked.load(Ordering::SeqCst)
    }

    fn providers(&self, more: &str) -> Providers {
        let text = format!(
            "[[oidc]]\nissuer = '{}'\naudiences = ['hub']\namr = ['otp']\n{more}",
            self.issuer
        );
        let config: Config = toml::from_str(&text).expect("valid");
        config.validate().expect("valid");
        Providers::new(&config.oidc).expect("usable")
    }
}

async fn add(auth: &Authenticator, issuer: &str, subject: &str, person: &str) -> Identity {
    let identity = Identity {
        issuer: issuer.into(),
        subject: subject.into(),
    };
    let mut write = auth.store.change_rights().await.expect("begins");
    write.add_identity(&identity, person).await.expect("added");
    write.commit().await.expect("written");
    identity
}

fn soon() -> DateTime<Utc> {
    Utc::now() + TimeDelta::minutes(10)
}

#[tokio::test]
async fn a_token_lets_its_person_in_until_it_ends() {
    let (folder, fake, key) = (
        tempfile::tempdir().expect("folder"),
        Fake::start().await,
        Key::new("a"),
    );
    fake.publish(&[&key]);
    let mut auth = opened(&folder).await;
    auth.providers = fake.providers("");
    let identity = add(&auth, &fake.issuer, "7f", "ada").await;
    let (now, end) = (Utc::now(), soon());
    let token = key.token(&fake.issuer, "7f", end);
    let ada = auth
        .authenticate(&bearer(&token), "c", now)
        .await
        .expect("ada");
    assert_eq!(
        (ada.person.id.as_str(), ada.project().expect("hers")),
        ("ada", "p")
    );
    let by_oidc = Login {
        method: Method::Oidc,
        second_factor: true,
    };
    assert_eq!(ada.standing.login, by_oidc);
    let ends = ada.standing.expires.expect("ends");
    assert_eq!(ends.timestamp(), end.timestamp());
    assert!(
        auth.admit(&rights(&auth).await, &ada.standing, ends)
            .await
            .is_err(),
        "what runs ends with it"
    );
    // As a password, for drivers that know nothing else; of its own person only.
    auth.authenticate(&basic("ada", &token), "c", now)
        .await
        .expect("as the password");
    auth.authenticate(&basic("eve", &token), "c", now)
        .await
        .expect_err("another's");
    let session = auth
        .handshake(&bearer(&token), "c", now)
        .await
        .expect("a session");
    let renewed = auth
        .handshake(&bearer(&session), "c", now)
        .await
        .expect("another");
    let later = end + TimeDelta::seconds(1);
    for text in [&session, &renewed] {
        let caller = auth
            .authenticate(&bearer(text), "c", now)
            .await
            .expect("hers");
        assert_eq!(caller.standing.login, by_oidc);
        auth.authenticate(&bearer(text), "c", later)
            .await
            .expect_err("ended");
    }
    auth.authenticate(&bearer(&token), "c", later)
        .await
        .expect_err("ended");

    // What the hub takes away ends the token, its sessions and what runs.
    let mut write = auth.store.change_rights().await.expect("begins");
    write.remove_identity(&identity).await.expect("removed");
    write.commit().await.expect("written");
    for text in [&token, &session, &renewed] {
        auth.authenticate(&bearer(text), "c", now)
            .await
            .expect_err("nobody's now");
    }
    auth.admit(&rights(&auth).await, &ada.standing, now)
        .await
        .expect_err("nobody's now");
    // Given to somebody else, it is not the first one's session that goes on.
    let other = PersonProfile {
        id: "eve".into(),
        name: "Eve".into(),
        active: true,
        is_admin: false,
    };
    auth.store.put_person(&other).await.expect("puts");
    add(&auth, &fake.issuer, "7f", "eve").await;
    let eve = auth
        .authenticate(&bearer(&token), "c", now)
        .await
        .expect("hers now");
    assert_eq!(eve.person.id, "eve");
    auth.authenticate(&bearer(&session), "c", now)
        .await
        .expect_err("was ada's");
}

#[tokio::test]
async fn who_is_not_known_here_is_told_what_a_wrong_token_is_told() {
    let (folder, fake, key) = (
        tempfile::tempdir().expect("folder"),
        Fake::start().await,
        Key::new("a"),
    );
    fake.publish(&[&key]);
    let mut auth = opened(&folder).await;
    auth.providers = fake.providers("");
    add(&auth, &fake.issuer, "7f", "ada").await;
    let stranger = Key::new("a");
    let now = Utc::now();
    let told = async |text: &str| {
        let refused = auth.authenticate(&bearer(text), "192.0.2.7:1", now).await;
        let refused = refused.expect_err(text);
        (refused.kind, refused.to_string())
    };
    let good = key.token(&fake.issuer, "7f", soon());
    auth.authenticate(&bearer(&good), "192.0.2.7:1", now)
        .await
        .expect("control");
    let forged = told(&stranger.token(&fake.issuer, "7f", soon())).await;
    assert_eq!(forged.0, ErrorKind::Unauthenticated);
    for text in [
        key.token(&fake.issuer, "nobody", soon()),
        key.token(&fake.issuer, "7f", now - TimeDelta::seconds(1)),
        key.token("https://evil.example.org", "7f", soon()),
        Key::new("unknown").token(&fake.issuer, "7f", soon()),
        format!("{good}x"),
        "eyJ.".into(),
        "eyJhbGciOiJub25lIn0.e30.".into(),
    ] {
        assert_eq!(told(&text).await, forged, "{text}");
    }
    let mut write = auth.store.change_rights().await.expect("begins");
    write.set_active("ada", false).await.expect("disabled");
    write.commit().await.expect("written");
    assert_eq!(told(&good).await, forged);
    let mut write = auth.store.change_rights().await.expect("begins");
    write.set_active("ada", true).await.expect("back");
    write.commit().await.expect("written");

    // Forgeries lock their address for guessed passwords, and are in the audit; who has a good
    // token comes in from there all the same.
    for _ in 0..6 {
        told(&stranger.token(&fake.issuer, "7f", soon())).await;
    }
    assert_eq!(
        lock_outs(&auth).await,
        [(None, "address 192.0.2.7".to_owned())]
    );
    auth.authenticate(&bearer(&good), "192.0.2.7:1", now)
        .await
        .expect("not shut out");
    let guess = auth
        .handshake(&basic("ada", "correct horse"), "192.0.2.7:1", now)
        .await;
    assert!(guess.expect_err("locked").to_string().contains("too many"));
}

#[tokio::test]
async fn keys_are_fetched_once_and_rotate() {
    let (fake, old, new) = (Fake::start().await, Key::new("old"), Key::new("new"));
    fake.publish(&[&old]);
    let providers = fake.providers("keys_refresh_seconds = 1");
    let named = async |key: &Key| {
        let named = providers
            .verify(&key.token(&fake.issuer, "7f", soon()), Utc::now())
            .await;
        named.map(|named| named.identity.subject)
    };
    let at_once = futures::future::join_all((0..50).map(|_| named(&old))).await;
    assert!(at_once.iter().all(Result::is_ok), "{at_once:?}");
    assert_eq!(fake.asked(), 1, "once for all");
    // A stranger's unknown keys do not make the hub ask more often.
    fake.publish(&[&new]);
    for _ in 0..20 {
        let stranger = Key::new("stranger");
        assert!(matches!(
            named(&stranger).await,
            Err(Refusal::Wrong(Wrong::UnknownKey))
        ));
    }
    assert_eq!(fake.asked(), 1);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    named(&new).await.expect("rotated in");
    assert_eq!(fake.asked(), 2);
    let gone = named(&old).await;
    assert!(
        matches!(gone, Err(Refusal::Wrong(Wrong::UnknownKey))),
        "{gone:?}"
    );
}

#[tokio::test]
async fn a_provider_that_is_down_leaves_its_last_keys_for_a_time() {
    let (fake, key) = (Fake::start().await, Key::new("a"));
    let providers = fake.providers("keys_refresh_seconds = 1\nkeys_seconds_max = 3");
    let token = key.token(&fake.issuer, "7f", soon());
    let judged = async || providers.verify(&token, Utc::now()).await;
    assert!(
        matches!(judged().await, Err(Refusal::Unknown)),
        "never accepted unjudged"
    );
    fake.publish(&[&key]);
    assert!(
        matches!(judged().await, Err(Refusal::Unknown)),
        "asked a moment ago"
    );
    let pause = Duration::from_millis(1_100);
    tokio::time::sleep(pause).await;
    judged().await.expect("it answers");
    *fake.answers.keys.lock() = None;
    tokio::time::sleep(pause).await;
    judged().await.expect("the last keys count");
    tokio::time::sleep(pause * 2).await;
    assert!(
        matches!(judged().await, Err(Refusal::Unknown)),
        "and no longer"
    );
}

#[tokio::test]
async fn a_fetch_is_finished_though_its_caller_left() {
    let (fake, key) = (Fake::start().await, Key::new("a"));
    fake.publish(&[&key]);
    let providers = fake.providers("");
    let token = key.token(&fake.issuer, "7f", soon());
    for _ in 0..20 {
        let asked = providers.verify(&token, Utc::now());
        // Polled once, and dropped.
        assert!(futures::FutureExt::now_or_never(asked).is_none() || fake.asked() == 1);
        tokio::task::yield_now().await;
    }
    providers.verify(&token, Utc::now()).await.expect("fetched");
    assert_eq!(fake.asked(), 1);
}

#[tokio::test]
async fn a_provider_cannot_lead_the_hub_elsewhere() {
    let (fake, evil, key) = (Fake::start().await, Fake::start().await, Key::new("a"));
    fake.publish(&[&key]);
    evil.publish(&[&key]);
    let token = key.token(&fake.issuer, "7f", soon());
    let document = |issuer: &str, keys: &str| {
        Response::new(json!({"issuer": issuer, "jwks_uri": keys}).to_string())
    };
    let redirect = Response::builder()
        .status(StatusCode::FOUND)
        .header(
            header::LOCATION,
            format!("{}/.well-known/openid-configuration", evil.issuer),
        )
        .body(String::new())
        .expect("a redirect");
    let own = format!("{}/keys", fake.issuer);
    for answer in [
        redirect,
        document(&evil.issuer, &own),
        document(&format!("{}/", fake.issuer), &own),
        document(&fake.issuer, "http://192.0.2.1/keys"),
        document(&fake.issuer, "file:///etc/passwd"),
        document(&fake.issuer, "/keys"),
        Response::new("{}".to_owned()),
        Response::new("<html>".to_owned()),
        Response::new(" ".repeat(DOCUMENT_BYTES_MAX + 1)),
    ] {
        *fake.answers.discovery.lock() = Some(answer);
        let judged = fake.providers("").verify(&token, Utc::now()).await;
        assert!(matches!(judged, Err(Refusal::Unknown)), "{judged:?}");
    }
    assert_eq!((fake.asked(), evil.asked()), (0, 0));
    fake.providers("")
        .verify(&token, Utc::now())
        .await
        .expect("control");
    *fake.answers.keys.lock() = Some(" ".repeat(DOCUMENT_BYTES_MAX + 1));
    let judged = fake.providers("").verify(&token, Utc::now()).await;
    assert!(matches!(judged, Err(Refusal::Unknown)), "{judged:?}");
}
