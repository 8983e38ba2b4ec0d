//! Tokens of sessions: what nobody issued never opens, whatever stands behind a seal is read or
//! refused, and what opens does so until its end and seals again to an equal token.
#![no_main]

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use hubflight_tickets::{Sealer, SessionToken, Tokens};
use libfuzzer_sys::fuzz_target;

const KEY: [u8; 32] = [7; 32];
const FIRST: DateTime<Utc> = DateTime::<Utc>::MIN_UTC;
static SEALER: LazyLock<Sealer> = LazyLock::new(|| Sealer::new(&KEY, Tokens::PURPOSE));
static TOKENS: LazyLock<Tokens> = LazyLock::new(|| Tokens::new(&KEY, 3600));

fn sealed(plain: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(SEALER.seal(plain).expect("random bytes"))
}

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        assert_eq!(TOKENS.open(text, FIRST), None, "nobody issued it");
    }
    let text = sealed(data);
    let Some(token) = TOKENS.open(&text, FIRST) else {
        let read = serde_json::from_slice::<SessionToken>(data);
        let ends = read.ok().and_then(|token| token.origin.expires_max);
        assert!(ends.is_none_or(|end| end <= FIRST), "{ends:?}");
        return;
    };
    let end = token
        .origin
        .expires_max
        .expect("tokens without end do not open");
    assert_eq!(TOKENS.open(&text, end), None, "it has ended");
    let sum: usize = data.iter().copied().map(usize::from).sum();
    let mut altered = text.into_bytes();
    let place = sum % altered.len();
    altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).expect("ASCII");
    assert_eq!(TOKENS.open(&altered, FIRST), None, "altered");

    let again = serde_json::to_vec(&token).expect("JSON");
    assert_eq!(TOKENS.open(&sealed(&again), FIRST).as_ref(), Some(&token));
    // A session that goes on from this one ends no later.
    for now in [FIRST, DateTime::UNIX_EPOCH, DateTime::<Utc>::MAX_UTC] {
        let issued = TOKENS.issue(&token.person, token.epoch, token.origin.clone(), now);
        let issued = TOKENS.open(&issued.expect("issues"), FIRST);
        let Some(issued) = issued else { continue };
        assert!(issued.origin.expires_max <= Some(end), "{issued:?}");
        assert_eq!(issued.person, token.person);
    }
});
