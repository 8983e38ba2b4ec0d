//! The envelope: what opens, and that nothing else does.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use hubflight_protocol::envelope::{EXPIRY_GRACE_SECONDS, unix_ms};
use hubflight_protocol::{ENVELOPE_BYTES_MAX, Envelope, Key, SealError};
use sha2::Sha256;

const NOW: u64 = 1_800_000_000_000;

fn key_bytes() -> [u8; 32] {
    std::array::from_fn(|index| index as u8)
}

fn key() -> Key {
    Key::new(key_bytes())
}

fn envelope() -> Envelope {
    let mut envelope = Envelope::new("dicom_window", "imaging", "s-42", NOW + 5_000);
    envelope.nonce = "fixed".into();
    envelope.priority = 7;
    envelope.trace = Some("00-abc".into());
    envelope
}

/// A JWS made by hand, with whatever header and claims.
fn forge(header: &str, claims: &str) -> String {
    let body = [header, claims]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key_bytes()).expect("any length is a key");
    mac.update(body.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    format!("{body}.{signature}")
}

fn claims(changed: &str, value: serde_json::Value) -> String {
    let mut claims = serde_json::json!({
        "aud": "gpu-worker", "exp": NOW / 1000 + 60, "version": 1, "function": "echo",
        "tenant": "t", "statement_id": "s", "deadline": NOW + 1000,
    });
    claims[changed] = value;
    claims.to_string()
}

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

#[test]
fn what_was_sealed_opens() {
    let sealed = envelope().seal(&key()).expect("a small envelope");
    let opened = Envelope::open(sealed.as_bytes(), &key(), NOW);
    assert_eq!(opened, Ok(envelope()));
}

/// Made by Python's standard library as the module's documentation shows, with key 00 01 … 1f.
#[test]
fn what_python_sealed_opens() {
    let sealed = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhdWQiOiAiZ3B1LXdvcmtlciIsICJleHAiOiAyMDAwMDAwMDYwLCAidmVyc2lvbiI6IDEsICJmdW5jdGlvbiI6ICJlY2dfcnBlYWtzIiwgInRlbmFudCI6ICJlY2dfYWkiLCAic3RhdGVtZW50X2lkIjogInMtMSIsICJkZWFkbGluZSI6IDIwMDAwMDAwMDAwMDB9.GCvBpQgh6tDMdbobREEdrZeKpU7BVTt3m1FuasQMBB0";
    let expected = Envelope {
        nonce: String::new(),
        ..Envelope::new("ecg_rpeaks", "ecg_ai", "s-1", 2_000_000_000_000)
    };
    assert_eq!(Envelope::open(sealed.as_bytes(), &key(), NOW), Ok(expected));
}

#[test]
fn no_two_seals_are_equal() {
    let seal = || Envelope::new("echo", "t", "s", NOW).seal(&key());
    assert_ne!(seal(), seal());
    let without = Envelope {
        nonce: String::new(),
        ..envelope()
    };
    assert_eq!(without.seal(&key()), Err(SealError::Nonce));
}

#[test]
fn a_proof_is_for_one_seal_by_one_key() {
    let sealed = envelope().seal(&key()).expect("a small envelope");
    let other = Envelope::new("echo", "t", "s", NOW)
        .seal(&key())
        .expect("a small envelope");
    let proof = key().prove(&sealed);
    assert_eq!(proof.len(), 32);
    assert!(key().verify_proof(&sealed, &proof));
    assert!(!key().verify_proof(&other, &proof));
    assert!(!Key::new([9; 32]).verify_proof(&sealed, &proof));
    for wrong in [&proof[..31], &[], &[0; 32]] {
        assert!(!key().verify_proof(&sealed, wrong));
    }
    // The signature in the envelope, which whoever receives it has, is no proof.
    let signature = sealed.rsplit('.').next().unwrap_or_default();
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    assert!(!key().verify_proof(&sealed, &signature));
}

#[test]
fn a_proof_is_what_the_documentation_says() {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key_bytes()).expect("any length is a key");
    mac.update(b"hubflight worker proof v1\0a.b.c");
    assert_eq!(key().prove("a.b.c"), mac.finalize().into_bytes().to_vec());
}

#[test]
fn another_key_does_not_open() {
    let sealed = envelope()
        .seal(&Key::new([9; 32]))
        .expect("a small envelope");
    let opened = Envelope::open(sealed.as_bytes(), &key(), NOW);
    assert_eq!(opened, Err(SealError::Signature));
}

#[test]
fn any_altered_character_is_noticed() {
    let sealed = envelope()
        .seal(&key())
        .expect("a small envelope")
        .into_bytes();
    for index in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[index] = if altered[index] == b'A' { b'B' } else { b'A' };
        let opened = Envelope::open(&altered, &key(), NOW);
        // The last character carries unused bits; the decoder refuses those as malformed.
        assert!(
            matches!(opened, Err(SealError::Signature | SealError::Malformed)),
            "byte {index}: {opened:?}"
        );
    }
}

#[test]
fn only_hs256_is_accepted() {
    let body = claims("tenant", "t".into());
    assert!(Envelope::open(forge(HS256, &body).as_bytes(), &key(), NOW).is_ok());
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS256","crit":["exp"]}"#,
    ] {
        let opened = Envelope::open(forge(header, &body).as_bytes(), &key(), NOW);
        assert_eq!(opened, Err(SealError::Algorithm), "{header}");
    }
    let unsigned = [r#"{"alg":"none"}"#, &body].map(|part| URL_SAFE_NO_PAD.encode(part));
    let unsigned = format!("{}.", unsigned.join("."));
    let opened = Envelope::open(unsigned.as_bytes(), &key(), NOW);
    assert_eq!(opened, Err(SealError::Signature));
}

#[test]
fn wrong_claims_do_not_open() {
    let cases = [
        ("aud", "flight-server".into(), SealError::Audience),
        ("exp", (NOW / 1000).into(), SealError::Expired),
        ("version", 2.into(), SealError::Version),
        ("deadline", "tomorrow".into(), SealError::Malformed),
        ("deadline", (-1).into(), SealError::Malformed),
        ("function", serde_json::Value::Null, SealError::Malformed),
    ];
    for (claim, value, expected) in cases {
        let sealed = forge(HS256, &claims(claim, value));
        let opened = Envelope::open(sealed.as_bytes(), &key(), NOW);
        assert_eq!(opened, Err(expected), "{claim}");
    }
}

#[test]
fn it_expires_some_time_after_its_deadline() {
    let sealed = envelope().seal(&key()).expect("a small envelope");
    let open = |now| Envelope::open(sealed.as_bytes(), &key(), now);
    let deadline = envelope().deadline;
    assert!(open(deadline + 1000 * EXPIRY_GRACE_SECONDS).is_ok());
    let late = deadline + 1000 * (EXPIRY_GRACE_SECONDS + 2);
    assert_eq!(open(late), Err(SealError::Expired));
}

#[test]
fn rubbish_is_refused() {
    let huge = "A".repeat(ENVELOPE_BYTES_MAX + 1);
    let opened = Envelope::open(huge.as_bytes(), &key(), NOW);
    assert_eq!(opened, Err(SealError::TooLong));
    for rubbish in [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "é.é.é",
        "a.b.c.d",
        "a b.c.d",
        "====.==.==",
    ] {
        let opened = Envelope::open(rubbish.as_bytes(), &key(), NOW);
        assert!(opened.is_err(), "{rubbish}");
    }
    assert_eq!(
        Envelope::open(&[0xff; 40], &key(), NOW),
        Err(SealError::Malformed)
    );
    let mut endless = envelope();
    endless.tenant = "t".repeat(ENVELOPE_BYTES_MAX);
    assert_eq!(endless.seal(&key()), Err(SealError::TooLong));
}

#[test]
fn keys_are_64_hexadecimal_digits() {
    let text = key().to_hex();
    assert_eq!(text.len(), 64);
    assert_eq!(
        Key::from_hex(&format!(" {}\n", text.to_uppercase())),
        Ok(key())
    );
    let digits = |count| "0".repeat(count);
    for wrong in [
        String::new(),
        digits(63),
        digits(65),
        format!("g{}", digits(63)),
        "é".repeat(32),
    ] {
        assert_eq!(Key::from_hex(&wrong), Err(SealError::Key), "{wrong}");
    }
    assert!(!format!("{:?}", key()).contains(&text[2..6]));
}

#[test]
fn the_clock_is_in_this_century() {
    assert!((1_700_000_000_000..4_000_000_000_000).contains(&unix_ms()));
}
