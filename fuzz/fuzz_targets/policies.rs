//! The text of an operator's policies: it is refused with its place, or loads and is decided on.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use chrono::{DateTime, TimeDelta};
use hubflight_rights::habilitation::{ExportRule, Habilitation, Mode, Tables};
use hubflight_rights::{
    Action, Asker, Decision, Granted, Login, Method, Request, RightsError, Rules, RulesFile, Zone,
    decide,
};
use libfuzzer_sys::fuzz_target;

static GRANTED: LazyLock<Granted> = LazyLock::new(|| Granted {
    habilitation: Arc::new(Habilitation {
        id: "p.d".into(),
        version: 1,
        project: "p".into(),
        dataset: "d".into(),
        mode: Mode::Aggregate,
        tables: Tables::All,
        persons: None,
        linkage_group: "g".into(),
        zones: None,
        valid_from: DateTime::UNIX_EPOCH,
        valid_to: DateTime::UNIX_EPOCH + TimeDelta::days(10),
        decision: "x".into(),
        export: ExportRule::Rules,
    }),
    revoked_at: None,
    is_confirmed: true,
});

fuzz_target!(|text: &str| {
    let file = RulesFile {
        name: "fuzzed",
        text,
    };
    let rules = match Rules::load(&[file]) {
        Ok(rules) => rules,
        Err(RightsError::Policy { file, line, .. }) => {
            assert!(
                file == "fuzzed" && line <= 1 + text.lines().count(),
                "{file}, {line}"
            );
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let who = |projects: BTreeMap<String, String>| Asker {
        person: "ada".into(),
        roles: BTreeSet::new(),
        projects,
        login: Login {
            method: Method::AccessToken,
            second_factor: false,
        },
    };
    let member = who(BTreeMap::from([("p".into(), "o".into())]));
    let stranger = who(BTreeMap::new());
    for (who, action) in [
        (&member, Action::Browse),
        (&member, Action::Aggregate),
        (&member, Action::Export),
        (&member, Action::ReadRows),
        (&stranger, Action::Browse),
    ] {
        let request = Request {
            who,
            project: "p",
            dataset: "d",
            described: None,
            action,
            zone: &Zone::default(),
            at: DateTime::UNIX_EPOCH + TimeDelta::days(5),
        };
        let decided = decide(&rules, &request, std::slice::from_ref(&*GRANTED));
        // No text opens what the habilitation does not.
        let is_shut = action == Action::ReadRows || who.projects.is_empty();
        assert!(
            !is_shut || matches!(decided, Decision::Deny(_)),
            "{decided:?}"
        );
    }
});
