//! What a verifier does that believes what a token says of itself: it accepts the forgeries of
//! `attacks`, which otherwise would prove nothing by being refused.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::Value;

use crate::support::{Signer, claims, encode, header, judge, rules};

/// Verifies by the algorithm in the header, with the published key for a secret.
fn believes(token: &str, published: &str) -> bool {
    let (message, signature) = token.rsplit_once('.').expect("parts");
    let (header, _) = message.split_once('.').expect("parts");
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64");
    let header: Value = serde_json::from_slice(&decode(header)).expect("JSON");
    let algorithm = match header["alg"].as_str() {
        Some("HS256") => hmac::HMAC_SHA256,
        Some("HS512") => hmac::HMAC_SHA512,
        Some(none) => return none.eq_ignore_ascii_case("none"),
        None => return false,
    };
    let key = hmac::Key::new(algorithm, published.as_bytes());
    hmac::verify(&key, message.as_bytes(), &decode(signature)).is_ok()
}

#[test]
fn who_believes_the_header_accepts_what_is_forged() {
    let signer = Signer::new();
    let message = |algorithm: &str, key: &str| {
        let header = header(algorithm, key).to_string();
        format!("{}.{}", encode(header), encode(claims().to_string()))
    };
    for algorithm in ["none", "None", "nOnE", "NONE"] {
        let forged = format!("{}.", message(algorithm, "p256"));
        assert!(believes(&forged, ""), "{algorithm}");
        judge(&forged, &rules(), &signer.keys()).expect_err("unsigned");
    }
    for (name, algorithm, of) in [
        ("rsa", "HS256", hmac::HMAC_SHA256),
        ("ed", "HS512", hmac::HMAC_SHA512),
    ] {
        let (message, published) = (message(algorithm, name), signer.jwk(name).to_string());
        let tag = hmac::sign(
            &hmac::Key::new(of, published.as_bytes()),
            message.as_bytes(),
        );
        let forged = format!("{message}.{}", encode(tag));
        assert!(believes(&forged, &published), "{name}");
        assert!(!believes(&forged, "another key"), "{name}");
        judge(&forged, &rules(), &signer.keys()).expect_err("a public key");
    }
}
