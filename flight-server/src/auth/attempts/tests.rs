//! Who is locked, by what, and who is not.

use super::*;

const LIMITS: AttemptLimits = AttemptLimits {
    login_failures_per_person_max: 3,
    login_failures_per_peer_max: 5,
    login_lock_seconds: 900,
};

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().expect("an address"))
}

fn attempt(name: &str, peer: Option<IpAddr>, now: DateTime<Utc>) -> Attempt<'_> {
    Attempt {
        name,
        peer,
        unlocked: None,
        now,
    }
}

/// A wrong password; gives whom it locks.
fn fail(attempts: &Attempts, attempt: Attempt<'_>) -> Vec<Subject> {
    match attempts.begin(attempt) {
        Ok(()) => attempts.failed(attempt),
        Err(locked) => locked.news,
    }
}

#[test]
fn a_name_is_locked_for_a_time_whether_or_not_it_is_a_persons() {
    let (attempts, now) = (Attempts::new(LIMITS), Utc::now());
    for name in ["ada", "nobody"] {
        let one = attempt(name, None, now);
        for _ in 0..2 {
            assert!(fail(&attempts, one).is_empty());
            attempts.check(one).expect("not yet");
        }
        assert_eq!(fail(&attempts, one), [person(name)]);
        let error = attempts.check(one).expect_err("locked").error;
        assert_eq!(error.kind, ErrorKind::Unauthenticated);
        assert!(!error.to_string().contains(name));
        // It is told once, and lasts from then on, not from the last attempt.
        assert!(fail(&attempts, one).is_empty());
        let end = now + TimeDelta::seconds(900);
        let before = attempt(name, None, end - TimeDelta::milliseconds(1));
        attempts.check(before).expect_err("locked");
        attempts.check(attempt(name, None, end)).expect("over");
    }
    attempts.check(attempt("eve", None, now)).expect("another");
}

#[test]
fn attempts_at_once_and_those_that_are_cut_are_counted() {
    let (attempts, now) = (Attempts::new(LIMITS), Utc::now());
    let one = attempt("ada", None, now);
    // None of them has an answer yet.
    let begun = (0..66).filter(|_| attempts.begin(one).is_ok()).count();
    assert_eq!(begun, 3);
    // Nobody waited for the answer that locks: the next one is told of it, for the record.
    let (attempts, one) = (Attempts::new(LIMITS), attempt("eve", None, now));
    for _ in 0..3 {
        attempts.begin(one).expect("not yet");
    }
    let news = attempts.check(one).expect_err("locked").news;
    assert_eq!(news, [person("eve")]);
    assert!(attempts.check(one).expect_err("locked").news.is_empty());
}

#[test]
fn success_and_an_administrator_end_the_count() {
    let (attempts, now) = (Attempts::new(LIMITS), Utc::now());
    let one = attempt("ada", None, now);
    for _ in 0..2 {
        fail(&attempts, one);
        fail(&attempts, one);
        attempts.begin(one).expect("not yet");
        attempts.succeeded(one);
    }
    for _ in 0..3 {
        fail(&attempts, one);
    }
    let unlocked = |seconds: i64| Attempt {
        unlocked: Some(now + TimeDelta::seconds(seconds)),
        now: now + TimeDelta::seconds(1),
        ..one
    };
    attempts.check(unlocked(-1)).expect_err("locked since");
    attempts.check(unlocked(1)).expect("unlocked");
    attempts
        .check(attempt("ada", None, now + TimeDelta::seconds(1)))
        .expect("for good");
}

#[test]
fn failures_long_ago_do_not_count() {
    let (attempts, mut now) = (Attempts::new(LIMITS), Utc::now());
    for _ in 0..20 {
        assert!(fail(&attempts, attempt("ada", None, now)).is_empty());
        attempts
            .check(attempt("ada", None, now))
            .expect("slow enough");
        now += TimeDelta::seconds(451);
    }
}

#[test]
fn an_address_is_locked_whatever_the_names_and_a_network_counts_as_one() {
    for (addresses, other) in [
        (["10.0.0.1", "::ffff:10.0.0.1"], "10.0.0.2"),
        (["2001:db8::1", "2001:db8::2:3"], "2001:db8:0:1::1"),
    ] {
        let (attempts, now) = (Attempts::new(LIMITS), Utc::now());
        let mut news = Vec::new();
        for i in 0..5 {
            let name = format!("p{i}");
            let one = attempt(&name, address(addresses[i % 2]), now);
            news.extend(fail(&attempts, one));
        }
        assert!(matches!(news.as_slice(), [Subject::Peer(_)]), "{news:?}");
        assert!(attempts.is_locked(address(addresses[1]), now));
        // An administrator unlocks persons, not addresses.
        let one = attempt("p9", address(addresses[0]), now);
        let pardoned = Attempt {
            unlocked: Some(now),
            ..one
        };
        attempts.check(pardoned).expect_err("locked");
        let elsewhere = attempt("p9", address(other), now);
        attempts.check(elsewhere).expect("another");
    }
}

#[test]
fn who_logs_in_from_an_address_is_not_shut_out_with_it() {
    let (attempts, now) = (Attempts::new(LIMITS), Utc::now());
    let (here, there) = (address("10.0.0.1"), address("10.0.0.2"));
    // Mistyped, then right: forgiven, so that a hospital's mornings do not lock it.
    for i in 0..20 {
        let name = format!("nurse{i}");
        let one = attempt(&name, here, now);
        assert!(fail(&attempts, one).is_empty(), "{i}");
        fail(&attempts, one);
        attempts.begin(one).expect("not locked");
        attempts.succeeded(one);
        // What they mistype from then on counts for themselves.
        assert!(fail(&attempts, one).is_empty());
    }
    assert!(!attempts.is_locked(here, now));
    for i in 0..5 {
        let name = format!("guess{i}");
        fail(&attempts, attempt(&name, here, now));
    }
    assert!(attempts.is_locked(here, now));
    attempts
        .check(attempt("stranger", here, now))
        .expect_err("locked");
    let known = attempt("nurse7", here, now);
    attempts.check(known).expect("known here");
    for _ in 0..2 {
        fail(&attempts, known);
    }
    attempts.check(known).expect_err("a name's own lock holds");
    // Known here is not known elsewhere, nor for ever.
    for i in 0..5 {
        let name = format!("guess{i}{i}");
        fail(&attempts, attempt(&name, there, now));
    }
    attempts
        .check(attempt("nurse8", there, now))
        .expect_err("locked");
    let late = now + TimeDelta::days(KNOWN_DAYS);
    for i in 0..5 {
        let name = format!("late{i}");
        fail(&attempts, attempt(&name, here, late));
    }
    attempts
        .check(attempt("nurse8", here, late))
        .expect_err("long ago");
}

#[test]
fn names_without_end_take_bounded_memory_and_free_nobody() {
    let (attempts, now) = (Attempts::new(LIMITS), Utc::now());
    let locked = attempt("ada", None, now);
    for _ in 0..3 {
        fail(&attempts, locked);
    }
    for i in 0..COUNTS_MAX - 1 {
        let name = format!("{i}");
        fail(&attempts, attempt(&name, None, now));
    }
    assert_eq!(attempts.state.lock().counts.len(), COUNTS_MAX);
    // Nobody is uncounted because others were counted before.
    let eve = attempt("eve", None, now);
    let news: Vec<Subject> = (0..3).flat_map(|_| fail(&attempts, eve)).collect();
    assert_eq!(news, [person("eve")]);
    attempts.check(locked).expect_err("still locked");
    assert_eq!(attempts.state.lock().counts.len(), COUNTS_MAX);
    let long = "x".repeat(1 << 20);
    fail(
        &attempts,
        attempt(&long, None, now + TimeDelta::seconds(900)),
    );
    let state = attempts.state.lock();
    let longest = state.counts.keys().map(|subject| match subject {
        Subject::Person(name) => name.len(),
        Subject::Peer(_) => 0,
    });
    assert_eq!(
        (state.counts.len(), longest.max()),
        (1, Some(NAME_CHARS_MAX))
    );
}

#[test]
fn forged_tokens_lock_an_address_and_no_name() {
    let (attempts, now) = (Attempts::new(LIMITS), Utc::now());
    let here = address("192.0.2.1");
    attempts.succeeded(attempt("regular", here, now));
    for _ in 0..4 {
        assert_eq!(attempts.forged(here, now), None);
    }
    let told = attempts.forged(here, now);
    assert_eq!(told, here.map(Subject::Peer));
    assert_eq!(attempts.forged(here, now), None, "told once");
    assert_eq!(attempts.forged(None, now), None, "nobody's address");
    let stranger = attempt("stranger", here, now);
    attempts.check(stranger).expect_err("guesses from there");
    let regular = attempt("regular", here, now);
    attempts.check(regular).expect("known there");
    let elsewhere = attempt("stranger", address("192.0.2.2"), now);
    attempts.check(elsewhere).expect("another address");
}
