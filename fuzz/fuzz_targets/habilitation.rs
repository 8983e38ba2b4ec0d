//! A dataset's description and a habilitation as JSON, from the text to a decision: no text of
//! an administrator's ends the process, and what was checked can be decided on.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use hubflight_rights::dataset::Dataset;
use hubflight_rights::habilitation::Habilitation;
use hubflight_rights::{Action, Asker, Granted, Login, Method, Request, Rules, Zone, decide};
use libfuzzer_sys::fuzz_target;

static RULES: LazyLock<Rules> = LazyLock::new(|| Rules::load(&[]).expect("the hub's own"));

fuzz_target!(|data: &[u8]| {
    let Ok((dataset, habilitation)) = serde_json::from_slice::<(Dataset, Habilitation)>(data)
    else {
        return;
    };
    if dataset.validate().is_err() {
        return;
    }
    let dataset = Arc::new(dataset);
    let known = |name: &str| (name == dataset.name).then(|| Arc::clone(&dataset));
    if habilitation.validate(known).is_err() {
        return;
    }
    let who = Asker {
        person: habilitation.decision.clone(),
        roles: BTreeSet::new(),
        projects: BTreeMap::from([(habilitation.project.clone(), dataset.producer.clone())]),
        login: Login {
            method: Method::Password,
            second_factor: true,
        },
    };
    let zones = habilitation.zones.clone().unwrap_or_default();
    for zone in zones.iter().chain([&Zone::default()]) {
        for action in [
            Action::Browse,
            Action::ReadRows,
            Action::Aggregate,
            Action::Export,
        ] {
            let request = Request {
                who: &who,
                project: &habilitation.project,
                dataset: &habilitation.dataset,
                described: Some(&dataset),
                action,
                zone,
                at: habilitation.valid_from,
            };
            let granted = Granted {
                habilitation: Arc::new(habilitation.clone()),
                revoked_at: None,
                is_confirmed: true,
            };
            decide(&RULES, &request, &[granted]);
        }
    }
});
