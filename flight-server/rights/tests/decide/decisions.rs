//! `decide` by table, and the register.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use chrono::{DateTime, TimeDelta, Utc};
use hubflight_rights::habilitation::{ExportRule, Habilitation, Mode, Tables};
use hubflight_rights::{
    Action, Asker, Decision, Denial, Granted, Login, Method, Register, Request, Rules, RulesFile,
    Zone, decide,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The hub's own policies.
static RULES: LazyLock<Rules> = LazyLock::new(|| Rules::load(&[]).unwrap());

/// Somebody in projects.
pub fn asker(person: &str, projects: &[&str]) -> Asker {
    Asker {
        person: person.to_owned(),
        roles: BTreeSet::new(),
        projects: projects
            .iter()
            .map(|id| ((*id).to_owned(), "hospital".to_owned()))
            .collect::<BTreeMap<_, _>>(),
        login: Login {
            method: Method::Password,
            second_factor: true,
        },
    }
}

pub fn day(days: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(days)
}

pub fn version(id: &str, version: u32, from: i64, to: i64, revoked: Option<i64>) -> Granted {
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
            export: ExportRule::Rules,
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

pub fn zone(name: &str) -> Zone {
    Zone::try_from(name.to_owned()).unwrap()
}

pub fn inside() -> Zone {
    zone("inside")
}

fn at(days: i64, granted: &[Granted]) -> Result<(String, u32), Denial> {
    let request = Request {
        who: &asker("ada", &["p"]),
        project: "p",
        dataset: "d",
        described: None,
        action: Action::ReadRows,
        zone: &inside(),
        at: day(days),
    };
    match decide(&RULES, &request, granted) {
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
    for action in [Action::Browse, Action::Aggregate, Action::Export] {
        let request = Request {
            who: &asker("ada", &["p"]),
            project: "p",
            dataset: "d",
            described: None,
            action,
            zone: &inside(),
            at: day(5),
        };
        let decided = decide(&RULES, &request, std::slice::from_ref(&aggregate));
        assert!(matches!(decided, Decision::Allow(_)), "{decided:?}");
    }
}

#[test]
fn outside_there_is_only_what_leaves_without_a_decision() {
    let all = ["inside", "hospital", "outside"];
    let given: [Option<&[&str]>; 4] = [
        None,
        Some(&["hospital"]),
        Some(&["outside"]),
        Some(&["hospital", "outside"]),
    ];
    let exports = [ExportRule::None, ExportRule::Review, ExportRule::Rules];
    let granted = exports.map(|export| [(Mode::Row, export), (Mode::Aggregate, export)]);
    for (mode, export) in granted.into_iter().flatten() {
        let leaves_alone = (mode, export) == (Mode::Aggregate, ExportRule::Rules);
        for (zones, name) in given
            .into_iter()
            .flat_map(|zones| all.map(|name| (zones, name)))
        {
            let mut one = version("a", 1, 0, 10, None);
            let habilitation = Arc::make_mut(&mut one.habilitation);
            (habilitation.mode, habilitation.export) = (mode, export);
            habilitation.zones = zones.map(|zones| zones.iter().map(|name| zone(name)).collect());
            for action in [Action::Browse, Action::querying(mode)] {
                let request = Request {
                    who: &asker("ada", &["p"]),
                    project: "p",
                    dataset: "d",
                    described: None,
                    action,
                    zone: &zone(name),
                    at: day(5),
                };
                let named = zones.is_none_or(|zones| zones.contains(&name));
                let open = named && (name != "outside" || leaves_alone);
                let expected = if open {
                    Decision::Allow(Arc::clone(&one.habilitation))
                } else {
                    Decision::Deny(Denial::OtherZone { zone: zone(name) })
                };
                let decided = decide(&RULES, &request, std::slice::from_ref(&one));
                assert_eq!(decided, expected, "{mode:?} {export:?} {zones:?} {name}");
                assert_eq!(one.habilitation.is_open_in(&zone(name)), open);
            }
        }
    }
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
            who: &asker("ada", &[&project]),
            project: &project,
            dataset: &dataset,
            described: None,
            action: Action::ReadRows,
            zone: &inside(),
            at: day(number % 140),
        };
        let decided = register.decide(&RULES, &request);
        assert_eq!(decided, decide(&RULES, &request, &granted), "{request:?}");
        allows += usize::from(matches!(decided, Decision::Allow(_)));
        missing += usize::from(decided == Decision::Deny(Denial::NoHabilitation));
    }
    assert!(allows > 50 && missing > 10, "{allows} {missing}");
}

/// As an operator may write them.
const OPERATORS: &str = r#"
@id("no-nights") forbid (principal, action == Action::"read_rows", resource == Dataset::"d")
when { context.now.toTime() < duration("5h") && context.zone != "inside" };
@id("not-eve") forbid (principal == Person::"eve", action, resource)
when { context.now < datetime("1970-01-10") };
@id("factor") forbid (principal, action == Action::"export", resource)
unless { context.login.second_factor };
@id("industry") forbid (principal, action, resource)
when { context.project.organisation == "industry" && context.habilitation.mode == "row" };
"#;

/// With policies of an operator too. An unoptimised build interprets policies some twenty times
/// slower, on machines that do more at once.
#[test]
fn a_decision_takes_less_than_fifty_microseconds() {
    let micros_max = if cfg!(debug_assertions) { 5_000 } else { 50 };
    let rules = Rules::load(&[RulesFile {
        name: "operator.cedar",
        text: OPERATORS,
    }])
    .unwrap();
    let mut granted = ten_thousand();
    let mut only = version("only", 1, 0, 100, None);
    Arc::make_mut(&mut only.habilitation).project = "solo".to_owned();
    granted.push(only);
    let register: Register = granted.into_iter().collect();
    let who = asker("eve", &["p0", "p5", "solo"]);
    let inside = inside();
    // Policies are asked where one habilitation governs, which is the case of `solo`.
    for (rules, project, dataset) in [
        (&*RULES, "solo", "d"),
        (&rules, "solo", "d"),
        (&rules, "p0", "d0"),
        (&rules, "p0", "d1"),
        (&rules, "nobody", "d0"),
    ] {
        let request = Request {
            who: &who,
            project,
            dataset,
            described: None,
            action: Action::ReadRows,
            zone: &inside,
            at: day(41),
        };
        let decided = register.decide(rules, &request);
        let is_open = matches!(decided, Decision::Allow(_));
        assert_eq!(is_open, project == "solo", "{decided:?}");
        // Of several rounds the one that other work on the machine delayed least.
        let medians = (0..20).map(|_| {
            let mut times: Vec<_> = (0..501)
                .map(|_| {
                    let start = std::time::Instant::now();
                    std::hint::black_box(register.decide(rules, &request));
                    start.elapsed()
                })
                .collect();
            times.sort_unstable();
            times[250]
        });
        let median = medians.min().unwrap();
        println!("{project}, {dataset}: {median:?}");
        assert!(
            median.as_micros() < micros_max,
            "{project}, {dataset}: {median:?}"
        );
    }
}
