//! The published keys of a login provider: any text is read or refused, and whatever it publishes,
//! a token that was signed by a key of nobody's, or by no key, does not verify.
#![no_main]

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hubflight_oidc::{ALGORITHMS, KeySet, Rules, Unverified};
use libfuzzer_sys::fuzz_target;

const NOW: i64 = 1_800_000_000;
const CLAIMS: &str = r#"{"iss":"https://login","aud":"hub","sub":"ada","acr":"mfa",
    "iat":1799999940,"exp":1800000600}"#;

static RULES: LazyLock<Rules> = LazyLock::new(|| Rules {
    issuer: "https://login".into(),
    audiences: vec!["hub".into()],
    clients: Vec::new(),
    types: vec!["at+jwt".into()],
    algorithms: ALGORITHMS.to_vec(),
    claim: "sub".into(),
    acr: vec!["mfa".into()],
    amr: Vec::new(),
    leeway_seconds: 30,
    life_seconds_max: 3600,
});
/// Tokens of every algorithm for key `k`, with signatures of the lengths that there are.
static FORGED: LazyLock<Vec<String>> = LazyLock::new(|| {
    let algorithms = ["RS256", "PS256", "ES256", "EdDSA", "HS256", "none"];
    let forged = |(algorithm, length)| {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"k","typ":"at+jwt"}}"#);
        let parts = [header.as_bytes(), CLAIMS.as_bytes(), &vec![0x5a; length]];
        parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
    };
    let lengths = |algorithm| [0, 64, 256].map(|length| (algorithm, length));
    algorithms
        .into_iter()
        .flat_map(lengths)
        .map(forged)
        .collect()
});

fuzz_target!(|data: &[u8]| {
    let Ok(keys) = KeySet::read(data) else {
        return;
    };
    let _ = keys.has("k");
    for text in FORGED.iter() {
        let token = Unverified::read(text).expect("of the right form");
        let judged = token.verify(&RULES, &keys, NOW);
        assert!(judged.is_err(), "{text}: {judged:?}");
    }
});
