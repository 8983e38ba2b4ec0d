//! When keys are fetched, and how long they count.

use std::time::{Duration, Instant};

use crate::support::{Signer, judge, rules};
use hubflight_oidc::{KeyCache, KeyLimits, KeySet, Look};
use serde_json::json;

const LIMITS: KeyLimits = KeyLimits {
    refresh: Duration::from_secs(300),
    life: Duration::from_secs(3600),
    pause: Duration::from_secs(10),
};

fn kind(look: &Look) -> &'static str {
    match look {
        Look::Use(_) => "use",
        Look::Fetch(Some(_)) => "fetch, may use",
        Look::Fetch(None) => "fetch",
        Look::Nothing => "nothing",
    }
}

#[test]
fn keys_are_asked_for_when_due_and_at_most_so_often() {
    let begin = Instant::now();
    let at = |seconds| begin + Duration::from_secs(seconds);
    let mut cache = KeyCache::new(LIMITS);
    let signer = Signer::new();
    let look = |cache: &KeyCache, key: &str, seconds| kind(&cache.look(key, at(seconds)));
    assert_eq!(look(&cache, "p256", 0), "fetch");
    cache.asked(None, at(0));
    assert_eq!(look(&cache, "p256", 9), "nothing", "the provider is down");
    assert_eq!(look(&cache, "p256", 10), "fetch");
    cache.asked(Some(signer.keys()), at(10));
    assert_eq!(look(&cache, "p256", 11), "use");
    // Unknown keys make the hub ask, but not at a stranger's pace.
    assert_eq!(look(&cache, "new", 19), "use");
    assert_eq!(look(&cache, "new", 20), "fetch, may use");
    cache.asked(Some(signer.keys()), at(20));
    for seconds in 20..30 {
        assert_eq!(look(&cache, "new", seconds), "use");
    }
    assert_eq!(look(&cache, "p256", 319), "use");
    assert_eq!(
        look(&cache, "p256", 320),
        "fetch, may use",
        "removed ones stop counting"
    );
    // Down since then: what is known goes on until its limit.
    cache.asked(None, at(320));
    assert_eq!(look(&cache, "p256", 325), "use");
    assert_eq!(look(&cache, "p256", 330), "fetch, may use");
    cache.asked(None, at(3619));
    assert_eq!(look(&cache, "p256", 3619), "use");
    assert_eq!(look(&cache, "p256", 3620), "nothing");
    assert_eq!(look(&cache, "p256", 3629), "fetch");
}

#[test]
fn a_rotated_key_is_taken_and_a_removed_one_is_not() {
    let begin = Instant::now();
    let mut cache = KeyCache::new(LIMITS);
    let (old, new) = (Signer::new(), Signer::new());
    let mut fresh = new.jwk("p256");
    fresh["kid"] = json!("2026");
    let both = json!({"keys": [old.jwk("p256"), fresh]}).to_string();
    let rotated = json!({"keys": [fresh]}).to_string();
    let token_of_new = new.token(|header, _| header["kid"] = json!("2026"));
    let token_of_old = old.token(|_, _| ());
    let judged = |cache: &KeyCache, text: &str, key: &str| match cache.look(key, begin) {
        Look::Use(keys) | Look::Fetch(Some(keys)) => judge(text, &rules(), &keys).is_ok(),
        Look::Fetch(None) | Look::Nothing => panic!("there are keys"),
    };
    cache.asked(Some(old.keys()), begin);
    assert!(judged(&cache, &token_of_old, "p256") && !judged(&cache, &token_of_new, "2026"));
    cache.asked(Some(KeySet::read(both.as_bytes()).expect("keys")), begin);
    assert!(judged(&cache, &token_of_old, "p256") && judged(&cache, &token_of_new, "2026"));
    cache.asked(Some(KeySet::read(rotated.as_bytes()).expect("keys")), begin);
    assert!(!judged(&cache, &token_of_old, "p256") && judged(&cache, &token_of_new, "2026"));
}
