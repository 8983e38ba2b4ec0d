//! `decide` by table and against a naive model that looks at every instant's history.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use hubflight_policy::habilitation::{Habilitation, Mode, Tables};
use hubflight_policy::{Action, Decision, Denial, Granted, Request, decide};
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
            valid_from: day(from),
            valid_to: day(to),
            decision: "test".to_owned(),
        }),
        revoked_at: revoked.map(day),
    }
}

fn at(days: i64, granted: &[Granted]) -> Result<(String, u32), Denial> {
    let request = Request {
        project: "p",
        dataset: "d",
        action: Action::Read,
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
        at: day(5),
    };
    assert!(matches!(decide(&browse, &[aggregate]), Decision::Allow(_)));
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
                granted.push(version(id, number, from, to, revoked));
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
