//! What no public door shows: the shape of what Cedar is given, and policies that the loader
//! refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cedar_policy::{Context, Entities, EntityUid};
use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::asker::{Asker, Login, Method};
use crate::dataset::{Dataset, PERSONS_MIN_DEFAULT};
use crate::decision::{Action, Granted};
use crate::habilitation::{ExportRule, Mode, Tables};
use crate::zone::Zone;

const ACTIONS: [Action; 4] = [
    Action::Browse,
    Action::ReadRows,
    Action::Aggregate,
    Action::Export,
];

fn zone(name: &str) -> Zone {
    Zone::try_from(name.to_owned()).expect("a name")
}

fn day(days: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(days)
}

fn habilitation(mode: Mode, zones: Option<&[&str]>) -> Habilitation {
    Habilitation {
        id: "p.d".into(),
        version: 3,
        project: "p".into(),
        dataset: "d".into(),
        mode,
        tables: Tables::All,
        persons: None,
        linkage_group: "g".into(),
        zones: zones.map(|names| names.iter().map(|name| zone(name)).collect()),
        export: ExportRule::Rules,
        valid_from: day(10),
        valid_to: day(20),
        decision: "CNIL 1".into(),
    }
}

fn ada(projects: &[&str]) -> Asker {
    Asker {
        person: "ada".into(),
        roles: BTreeSet::from(["audit".to_owned()]),
        projects: projects
            .iter()
            .map(|id| ((*id).to_owned(), "hospital".to_owned()))
            .collect::<BTreeMap<_, _>>(),
        login: Login {
            method: Method::AccessToken,
            second_factor: false,
        },
    }
}

fn dataset() -> Dataset {
    Dataset {
        name: "d".into(),
        title: String::new(),
        producer: "CHU".into(),
        version: 1,
        synthetic: true,
        persons_min: PERSONS_MIN_DEFAULT,
        tables: Vec::new(),
    }
}

fn request<'a>(who: &'a Asker, dataset: &'a Dataset, zone: &'a Zone) -> Request<'a> {
    Request {
        who,
        project: "p",
        dataset: "d",
        described: Some(dataset),
        action: Action::Browse,
        zone,
        at: day(15),
    }
}

/// Strict validation proves something of policies only where requests are as the schema says.
#[test]
fn what_is_asked_is_as_the_schema_says() {
    let schema = load::schema().expect("the hub's own");
    let names = Names::new().expect("names");
    let dataset = dataset();
    for who in [ada(&["p", "q"]), ada(&["p"])] {
        for zones in [None, Some(&["inside", "chu"][..])] {
            for action in ACTIONS {
                let inside = zone("inside");
                let request = Request {
                    action,
                    ..request(&who, &dataset, &inside)
                };
                let habilitation = habilitation(Mode::Row, zones);
                let facts = names.facts(&request, &habilitation).expect("facts");
                let asked = facts.request;
                let context: Context = asked.context().expect("known").clone();
                let part = |uid: Option<&EntityUid>| uid.expect("known").clone();
                cedar_policy::Request::new(
                    part(asked.principal()),
                    part(asked.action()),
                    part(asked.resource()),
                    context,
                    Some(&schema),
                )
                .expect("a request of the schema");
                Entities::from_entities(facts.entities, Some(&schema)).expect("of the schema");
            }
        }
    }
}

/// Were a policy of an operator's to permit, it would open nothing that the hub's own shut.
#[test]
fn a_permit_opens_nothing_that_no_habilitation_grants() {
    let everything = RulesFile {
        name: "open.cedar",
        text: r#"@id("open") permit (principal, action, resource);"#,
    };
    assert!(Rules::load(&[everything]).is_err(), "it is refused at once");
    let (policies, _) = load::read(&[everything], false).expect("parses");
    let open = Rules::of(policies, &[everything]).expect("rules");
    let hub = Rules::load(&[]).expect("the hub's own");
    let dataset = dataset();
    let mut denials = 0;
    for who in [ada(&["p"]), ada(&["q"]), ada(&[])] {
        for mode in [Mode::Row, Mode::Aggregate] {
            for zones in [None, Some(&["inside"][..]), Some(&["outside"][..])] {
                for (name, days) in [("inside", 15), ("outside", 15), ("chu", 9), ("inside", 20)] {
                    for action in ACTIONS {
                        let zone = zone(name);
                        let request = Request {
                            action,
                            at: day(days),
                            ..request(&who, &dataset, &zone)
                        };
                        let habilitation = habilitation(mode, zones);
                        let refused = hub.refusal(&request, &habilitation);
                        denials += usize::from(refused.is_some());
                        assert_eq!(
                            open.refusal(&request, &habilitation),
                            refused,
                            "{request:?}"
                        );
                        // Nor does it bring back what does not govern at all.
                        let revoked = Granted {
                            habilitation: Arc::new(habilitation),
                            revoked_at: Some(day(12)),
                            is_confirmed: true,
                        };
                        for granted in [&[][..], &[revoked][..]] {
                            let decided = crate::decision::decide(&open, &request, granted);
                            assert!(matches!(decided, crate::Decision::Deny(_)), "{request:?}");
                        }
                    }
                }
            }
        }
    }
    assert!(denials > 100, "{denials}");
}

/// The hub's own policies hold by themselves what the decision has found before: a period that
/// the caller got wrong opens nothing.
#[test]
fn the_hubs_own_policies_know_the_period() {
    let rules = Rules::load(&[]).expect("the hub's own");
    let (who, dataset, inside) = (ada(&["p"]), dataset(), zone("inside"));
    let habilitation = habilitation(Mode::Row, None);
    let at = |at| {
        let request = Request {
            at,
            ..request(&who, &dataset, &inside)
        };
        rules.refusal(&request, &habilitation)
    };
    let instant = TimeDelta::nanoseconds(1);
    assert_eq!(
        at(day(10) - instant),
        Some(Denial::NotYet { from: day(10) })
    );
    assert_eq!(at(day(10)), None);
    assert_eq!(at(day(20) - instant), None);
    assert_eq!(at(day(20)), Some(Denial::Expired { at: day(20) }));
}

#[test]
fn the_digest_tells_files_apart() {
    let text = r#"@id("a") forbid (principal, action, resource);"#;
    fn file(text: &str) -> RulesFile<'_> {
        RulesFile { name: "f", text }
    }
    let all = [
        load::digest(&[]),
        load::digest(&[file("")]),
        load::digest(&[file(text)]),
        load::digest(&[file(text), file("")]),
        load::digest(&[file(""), file(text)]),
        load::digest(&[file(&text.replace('a', "b"))]),
    ];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    assert!(all.iter().all(|digest| digest.len() == 64));
}
