//! Tokens of a login provider. A text is a token as it stands, and a header and claims (a line
//! each) that the provider signed. What it did not sign never verifies: no text as it stands, no
//! claims without signature, with another's, or altered by a letter. What verifies follows the
//! rules.
#![no_main]

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hubflight_oidc::{ALGORITHMS, KeySet, Rules, Unverified, Verified, Wrong};
use libfuzzer_sys::fuzz_target;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::Value;

const NOW: i64 = 1_800_000_000;

static PROVIDER: LazyLock<Ed25519KeyPair> = LazyLock::new(|| key(1));
static STRANGER: LazyLock<Ed25519KeyPair> = LazyLock::new(|| key(2));
static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let public = URL_SAFE_NO_PAD.encode(PROVIDER.public_key());
    let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"{public}"}}]}}"#);
    KeySet::read(set.as_bytes()).expect("keys")
});
static RULES: LazyLock<Rules> = LazyLock::new(|| Rules {
    issuer: "https://login".into(),
    audiences: vec!["hub".into()],
    clients: vec!["notebook".into()],
    types: vec!["at+jwt".into()],
    algorithms: ALGORITHMS.to_vec(),
    claim: "sub".into(),
    acr: vec!["mfa".into()],
    amr: vec!["otp".into()],
    leeway_seconds: 30,
    life_seconds_max: 3600,
});

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a key")
}

fn signed(by: &Ed25519KeyPair, message: &str) -> String {
    let signature = URL_SAFE_NO_PAD.encode(by.sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn judge(text: &str) -> Result<Verified, Wrong> {
    let token = Unverified::read(text)?;
    let _ = (token.issuer(), token.key_id());
    token.verify(&RULES, &KEYS, NOW)
}

fuzz_target!(|data: &str| {
    assert!(judge(data).is_err(), "nobody signed it");
    let (header, claims) = data.split_once('\n').unwrap_or((data, ""));
    let parts = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = parts.join(".");
    assert!(judge(&format!("{message}.")).is_err(), "unsigned");
    assert!(judge(&signed(&STRANGER, &message)).is_err(), "another's");
    let token = signed(&PROVIDER, &message);
    let Ok(verified) = judge(&token) else {
        return;
    };
    let sum: usize = data.bytes().map(usize::from).sum();
    let mut altered = token.into_bytes();
    let place = sum % altered.len();
    altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).expect("ASCII");
    assert!(judge(&altered).is_err(), "altered at {place}");

    let object = |text| serde_json::from_str::<Value>(text).expect("JSON, as it verifies");
    let (header, claims) = (object(header), object(claims));
    assert!(
        header["alg"] == "EdDSA" && header["kid"] == "ed",
        "{header}"
    );
    assert!(
        claims["iss"] == "https://login" && claims["acr"] == "mfa",
        "{claims}"
    );
    assert_eq!(claims["sub"], verified.subject.as_str());
    assert!(
        verified.expires > NOW && verified.expires <= NOW + 3630,
        "{verified:?}"
    );
    assert!(!verified.subject.is_empty());
});
