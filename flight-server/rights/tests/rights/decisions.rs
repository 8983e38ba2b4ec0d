//! `decide` by table and against a naive model that looks at every instant's history.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use hubflight_rights::habilitation::{Habilitation, Mode, Tables};
use hubflight_rights::{Action, Decision, Denial, Granted, Register, Request, Zone, decide};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn day(days: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(days)
}

fn version(id: &str, version: u32, from: i64, to: i64, revoked: Option<i64>) -> Granted {
    Granted {
        habilitation: Arc::new(Habilitation {
            id: id.to_owned(),
            version,
            project: "p".to_owned(),
            dataset: "d".to_owned(),
            mode: Mode::Row,
            tables: Tables::All,
            persons: None,
            linkage_group: "g".to_owned(),
            zones: None,
            valid_from: day(from),
            valid_to: day(to),
            decision: "test".to_owned(),
        }),
        revoked_at: revoked.map(day),
        is_confirmed: true,
    }
}

fn unconfirmed(granted: Granted) -> Granted {
    Granted {
        is_confirmed: false,
        ..granted
    }
}

fn zone(name: &str) -> Zone {
    Zone::try_from(name.to_owned()).unwrap()
}

fn inside() -> Zone {
    zone("inside")
}

fn at(days: i64, granted: &[Granted]) -> Result<(String, u32), Denial> {
    let request = Request {
        project: "p",
        dataset: "d",
        action: Action::Read,
        zone: &inside(),
        at: day(days),
    };
    match decide(&request, granted) {
        Decision::Allow(habilitation) => Ok((habilitation.id.clone(), habilitation.version)),
        Decision::Deny(denial) => Err(denial),
    }
}

fn allowed(id: &str, version: u32) -> Result<(String, u32), Denial> {
    Ok((id.to_owned(), version))
}

#[test]
fn period_revocation_and_versions() {
    assert_eq!(at(0, &[]), Err(Denial::NoHabilitation));

    let one = [version("a", 1, 10, 20, None)];
    assert_eq!(at(9, &one), Err(Denial::NotYet { from: day(10) }));
    assert_eq!(at(10, &one), allowed("a", 1));
    assert_eq!(at(19, &one), allowed("a", 1));
    assert_eq!(at(20, &one), Err(Denial::Expired { at: day(20) }));

    let revoked = [version("a", 1, 10, 20, Some(15))];
    assert_eq!(at(14, &revoked), allowed("a", 1));
    assert_eq!(at(15, &revoked), Err(Denial::Revoked { at: day(15) }));
    assert_eq!(at(25, &revoked), Err(Denial::Revoked { at: day(15) }));

    // The second version grants for less time: the first must not come back after it.
    let shorter = [version("a", 2, 12, 14, None), version("a", 1, 10, 20, None)];
    assert_eq!(at(11, &shorter), allowed("a", 1));
    assert_eq!(at(13, &shorter), allowed("a", 2));
    assert_eq!(at(15, &shorter), Err(Denial::Expired { at: day(14) }));

    // Nor after the second is revoked; but one that was revoked before it began never counts.
    let withdrawn = [
        version("a", 1, 10, 20, None),
        version("a", 2, 12, 20, Some(13)),
    ];
    assert_eq!(at(14, &withdrawn), Err(Denial::Revoked { at: day(13) }));
    let mistaken = [
        version("a", 1, 10, 20, None),
        version("a", 2, 12, 20, Some(11)),
    ];
    assert_eq!(at(14, &mistaken), allowed("a", 1));

    let two = [version("a", 1, 10, 20, None), version("b", 1, 15, 30, None)];
    assert_eq!(at(12, &two), allowed("a", 1));
    let ids = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(at(15, &two), Err(Denial::Ambiguous { ids }));
    assert_eq!(at(20, &two), allowed("b", 1));
}

#[test]
fn a_version_without_its_confirmation_opens_nothing_and_brings_nothing_back() {
    let one = [unconfirmed(version("a", 1, 10, 20, None))];
    assert_eq!(at(9, &one), Err(Denial::NoHabilitation));
    assert_eq!(at(15, &one), Err(Denial::Unconfirmed));
    assert_eq!(at(20, &one), Err(Denial::Expired { at: day(20) }));

    let narrowed = [
        version("a", 1, 10, 30, None),
        unconfirmed(version("a", 2, 12, 30, None)),
    ];
    assert_eq!(at(11, &narrowed), allowed("a", 1));
    assert_eq!(at(12, &narrowed), Err(Denial::Unconfirmed));

    // What can be mended now is said before what ended later or begins some day.
    let several = [
        unconfirmed(version("a", 1, 1, 30, None)),
        version("b", 1, 1, 12, None),
        version("c", 1, 20, 30, None),
    ];
    assert_eq!(at(15, &several), Err(Denial::Unconfirmed));
    // It does not stand in the way of another one either.
    assert_eq!(at(5, &several), allowed("b", 1));
}

#[test]
fn the_register_knows_when_the_next_version_begins() {
    let mut other = version("z", 1, 11, 30, None);
    Arc::make_mut(&mut other.habilitation).dataset = "e".to_owned();
    let granted = [
        version("a", 1, 10, 30, None),
        unconfirmed(version("a", 2, 12, 30, None)),
        version("a", 3, 15, 30, None),
        other,
    ];
    let register: Register = granted.into_iter().collect();
    let next = |days| register.next_begin("p", day(days));
    assert_eq!(
        [9, 10, 11, 12, 15].map(next),
        [10, 11, 12, 15, 0].map(|from| (from > 0).then(|| day(from)))
    );
    assert_eq!(register.next_begin("q", day(0)), None);
}

#[test]
fn other_projects_datasets_and_modes() {
    let mut other = version("a", 1, 0, 10, None);
    Arc::make_mut(&mut other.habilitation).project = "q".to_owned();
    assert_eq!(at(5, &[other]), Err(Denial::NoHabilitation));
    let mut other = version("a", 1, 0, 10, None);
    Arc::make_mut(&mut other.habilitation).dataset = "e".to_owned();
    assert_eq!(at(5, &[other]), Err(Denial::NoHabilitation));

    let mut aggregate = version("a", 1, 0, 10, None);
    Arc::make_mut(&mut aggregate.habilitation).mode = Mode::Aggregate;
    assert_eq!(
        at(5, std::slice::from_ref(&aggregate)),
        Err(Denial::AggregateOnly)
    );
    let browse = Request {
        project: "p",
        dataset: "d",
        action: Action::Browse,
        zone: &inside(),
        at: day(5),
    };
    assert!(matches!(decide(&browse, &[aggregate]), Decision::Allow(_)));
}

#[test]
fn rows_are_not_read_from_outside_whatever_a_habilitation_says() {
    let all = ["inside", "hospital", "outside"];
    let given: [Option<&[&str]>; 4] = [
        None,
        Some(&["hospital"]),
        Some(&["outside"]),
        Some(&["hospital", "outside"]),
    ];
    for mode in [Mode::Row, Mode::Aggregate] {
        for zones in given {
            let mut one = version("a", 1, 0, 10, None);
            let habilitation = Arc::make_mut(&mut one.habilitation);
            habilitation.mode = mode;
            habilitation.zones = zones.map(|zones| zones.iter().map(|name| zone(name)).collect());
            for name in all {
                let request = Request {
                    project: "p",
                    dataset: "d",
                    action: Action::Browse,
                    zone: &zone(name),
                    at: day(5),
                };
                let named = zones.is_none_or(|zones| zones.contains(&name));
                let open = named && (name != "outside" || mode == Mode::Aggregate);
                let expected = if open {
                    Decision::Allow(Arc::clone(&one.habilitation))
                } else {
                    Decision::Deny(Denial::OtherZone { zone: zone(name) })
                };
                let decided = decide(&request, std::slice::from_ref(&one));
                assert_eq!(decided, expected, "{mode:?} {zones:?} {name}");
            }
        }
    }
}

/// Replays the history of one id, day by day: who governs today is the highest version that
/// has been alive on some day up to today.
fn naive(days: i64, granted: &[Granted]) -> Option<(String, u32)> {
    let mut in_force = Vec::new();
    for id in ["a", "b"] {
        let mut governing: Option<&Granted> = None;
        for today in -1..=days {
            for candidate in granted
                .iter()
                .filter(|granted| granted.habilitation.id == id)
            {
                let alive = candidate.habilitation.valid_from <= day(today)
                    && candidate
                        .revoked_at
                        .is_none_or(|at| at > candidate.habilitation.valid_from);
                let newer = governing.is_none_or(|governing| {
                    candidate.habilitation.version > governing.habilitation.version
                });
                if alive && newer {
                    governing = Some(candidate);
                }
            }
        }
        if let Some(governing) = governing
            && governing.is_confirmed
            && governing.habilitation.valid_to > day(days)
            && governing.revoked_at.is_none_or(|at| at > day(days))
        {
            in_force.push((id.to_owned(), governing.habilitation.version));
        }
    }
    match in_force.as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    }
}

#[test]
fn agrees_with_the_naive_model() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (mut allows, mut denials) = (0, 0);
    for _ in 0..20_000 {
        let mut granted = Vec::new();
        for id in ["a", "b"] {
            for number in 1..=rng.random_range(0..4_u32) {
                let from = rng.random_range(0..12);
                let to = from + rng.random_range(0..8);
                let revoked = rng.random_bool(0.4).then(|| rng.random_range(0..20));
                let mut version = version(id, number, from, to, revoked);
                version.is_confirmed = rng.random_bool(0.9);
                granted.push(version);
            }
        }
        if rng.random_bool(0.5) {
            granted.reverse();
        }
        let days = rng.random_range(0..20);
        let decided = at(days, &granted);
        assert_eq!(
            decided.clone().ok(),
            naive(days, &granted),
            "{days} {granted:?}"
        );
        match decided {
            Ok(_) => allows += 1,
            Err(_) => denials += 1,
        }
    }
    assert!(allows > 2_000 && denials > 2_000, "{allows} {denials}");
}

/// As a hub that has run for years: 10,000 versions over projects and datasets, some of which
/// have many.
fn ten_thousand() -> Vec<Granted> {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let one = |number: usize| {
        let from = rng.random_range(0..50);
        let to = from + rng.random_range(1..100);
        let revoked = rng.random_bool(0.2).then(|| rng.random_range(0..100));
        let mut version = version("a", 1, from, to, revoked);
        let habilitation = Arc::make_mut(&mut version.habilitation);
        // The first project has a thousand, for one dataset a hundred.
        let crowd = number < 1_000;
        habilitation.project = format!("p{}", if crowd { 0 } else { number % 97 });
        habilitation.dataset = format!("d{}", if number < 100 { 0 } else { number % 31 });
        habilitation.id = format!("h{}", number / 7);
        habilitation.version = (number % 7) as u32 + 1;
        version
    };
    (0..10_000).map(one).collect()
}

#[test]
fn the_register_decides_as_everything_does() {
    let granted = ten_thousand();
    let register: Register = granted.iter().cloned().collect();
    let (mut allows, mut missing) = (0, 0);
    for number in 0..600 {
        let (project, dataset) = (format!("p{}", number % 99), format!("d{}", number % 33));
        let request = Request {
            project: &project,
            dataset: &dataset,
            action: Action::Read,
            zone: &inside(),
            at: day(number % 140),
        };
        let decided = register.decide(&request);
        assert_eq!(decided, decide(&request, &granted), "{request:?}");
        allows += usize::from(matches!(decided, Decision::Allow(_)));
        missing += usize::from(decided == Decision::Deny(Denial::NoHabilitation));
    }
    assert!(allows > 50 && missing > 10, "{allows} {missing}");
}

/// Holds in an unoptimised build too: the median decision is far below the limit.
#[test]
fn a_decision_takes_less_than_fifty_microseconds() {
    let register: Register = ten_thousand().into_iter().collect();
    for (project, dataset) in [("p0", "d0"), ("p0", "d1"), ("p5", "d7"), ("nobody", "d0")] {
        let request = Request {
            project,
            dataset,
            action: Action::Read,
            zone: &inside(),
            at: day(40),
        };
        let mut times: Vec<_> = (0..201)
            .map(|_| {
                let start = std::time::Instant::now();
                std::hint::black_box(register.decide(&request));
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        println!("{project}, {dataset}: {:?}", times[100]);
        assert!(
            times[100].as_micros() < 50,
            "{project}, {dataset}: {:?}",
            times[100]
        );
    }
}
