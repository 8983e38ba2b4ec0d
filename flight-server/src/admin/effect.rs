//! The dry run of a command: what would be recorded, and what would open and close for whom.
//!
//! The command does all of its work inside its transaction, which is then dropped: whatever it
//! refuses in earnest it refuses here.

use std::collections::{BTreeMap, BTreeSet};

use hubflight_ledger::AuditEvent;
use hubflight_policy::Sources;
use hubflight_rights::habilitation::{ExportRule, Mode};
use hubflight_rights::{
    Action, Asker, Decision, Granted, Login, Method, Register, Request, Rules, Zone,
};
use hubflight_store::{AdminRole, HabilitationRow, Member, Person, Project};

use super::{Desk, review};
use crate::auth::ADMIN_CATALOG;
use crate::catalog::datasets::Datasets;
use crate::change::Change;
use crate::error::Result;
use crate::rules;
use crate::versions::Version;

/// What a hub's rights are made of.
struct Rights {
    persons: Vec<Person>,
    roles: Vec<(String, AdminRole)>,
    projects: Vec<Project>,
    members: Vec<Member>,
    habilitations: Vec<HabilitationRow>,
}

/// What decides on them.
struct Judge<'a> {
    desk: &'a Desk,
    rules: Rules,
    /// None for a demo, whose datasets are not in its configuration.
    datasets: Option<Datasets>,
    zones: Vec<Zone>,
}

/// What would become of a change, which is dropped.
pub(super) async fn of(desk: &Desk, mut change: Change<'_>) -> Result<String> {
    let store = &desk.store;
    let before = Rights {
        persons: store.persons().await?,
        roles: store.all_admin_roles().await?,
        projects: store.projects().await?,
        members: store.members(None).await?,
        habilitations: store.habilitations().await?,
    };
    let mut after = Rights {
        persons: change.write.persons().await?,
        roles: change.write.all_admin_roles().await?,
        projects: change.write.projects().await?,
        members: change.write.members(None).await?,
        habilitations: change.write.habilitations().await?,
    };
    let listeners = desk.config.listeners().into_iter();
    let judge = Judge {
        desk,
        rules: rules::load(&desk.config.policies)?,
        datasets: review::datasets(desk).await?,
        zones: listeners.map(|listener| listener.zone).collect(),
    };
    let waits = after.assume_confirmed(&before);
    let (was, becomes) = (before.open(&judge)?, after.open(&judge)?);
    let mut text = "dry run: nothing is changed\n".to_owned();
    for act in change.acts() {
        text.push_str(&format!("would record: {}\n", told(act)));
    }
    if waits {
        text.push_str("once a second person has confirmed it:\n");
    }
    for closed in was.difference(&becomes) {
        text.push_str(&format!("- {closed}\n"));
    }
    for opened in becomes.difference(&was) {
        text.push_str(&format!("+ {opened}\n"));
    }
    if was == becomes {
        text.push_str("nobody's access to data changes\n");
    }
    Ok(text)
}

fn told(act: &AuditEvent) -> String {
    let about = [("person", &act.person), ("project", &act.project)];
    let about = about
        .into_iter()
        .filter_map(|(what, name)| Some(format!("{what} `{}`", name.as_ref()?)));
    // What the client's words say beyond the name of these commands.
    let detail = act
        .client
        .split_once(", ")
        .map(|(_, detail)| detail.to_owned());
    let words: Vec<String> = std::iter::once(act.event.to_owned())
        .chain(about)
        .chain(detail)
        .collect();
    words.join(", ")
}

impl Rights {
    /// Takes versions that `before` does not have for confirmed, as what they open is what
    /// matters; true where there is one.
    fn assume_confirmed(&mut self, before: &Self) -> bool {
        let known: BTreeSet<(&str, u32)> = before
            .habilitations
            .iter()
            .map(|row| (row.id.as_str(), row.version))
            .collect();
        let mut any = false;
        for row in &mut self.habilitations {
            if row.is_pending() && !known.contains(&(row.id.as_str(), row.version)) {
                row.confirmed_by.clone_from(&row.entered_by);
                row.confirmer_is_member = false;
                any = true;
            }
        }
        any
    }

    /// Who can open what, a line each: active persons in projects of today, with what their
    /// habilitations show from each of the hub's zones to somebody who has shown two factors.
    fn open(&self, judge: &Judge<'_>) -> Result<BTreeSet<String>> {
        let registers = self.registers(judge)?;
        let mut open = BTreeSet::new();
        for member in &self.members {
            let (person, id) = (&member.person, &member.project);
            let Some(who) = self.asker(person, judge) else {
                continue;
            };
            if id == ADMIN_CATALOG || !who.projects.contains_key(id) {
                continue;
            }
            open.insert(format!("`{person}` works in project `{id}`"));
            let Some((register, datasets)) = registers.get(id) else {
                continue;
            };
            for dataset in datasets {
                let views = judge.views(register, &who, id, dataset);
                open.extend(views.map(|view| format!("`{person}` in project `{id}` {view}")));
            }
        }
        Ok(open)
    }

    /// A person who is active, in the projects that they may enter.
    fn asker(&self, person: &str, judge: &Judge<'_>) -> Option<Asker> {
        let known = self.persons.iter().find(|known| known.id == person);
        known.filter(|known| known.active)?;
        let now = judge.desk.now;
        let of_person = |member: &&Member| member.person == person;
        let entered = self.members.iter().filter(of_person).filter_map(|member| {
            let project = self.projects.iter().find(|it| it.id == member.project)?;
            let in_period = project.valid_from <= now && now < project.valid_to;
            in_period.then(|| (project.id.clone(), project.organisation.clone()))
        });
        let roles = self.roles.iter().filter(|(id, _)| id == person);
        Some(Asker {
            person: person.to_owned(),
            roles: roles.map(|(_, role)| role.as_str().to_owned()).collect(),
            projects: entered.collect(),
            login: Login {
                method: Method::Password,
                second_factor: true,
            },
        })
    }

    /// The habilitations of each project, and the datasets that they are for.
    fn registers(
        &self,
        judge: &Judge<'_>,
    ) -> Result<BTreeMap<String, (Register, BTreeSet<String>)>> {
        let mut granted: BTreeMap<String, Vec<Granted>> = BTreeMap::new();
        for row in self.habilitations.iter().filter(|row| !row.is_pending()) {
            let version = Version::read(row.clone())?.granted(judge.desk.now);
            let of_project = granted.entry(row.project.clone()).or_default();
            of_project.push(version);
        }
        let registered = granted.into_iter().map(|(project, granted)| {
            let datasets = granted.iter();
            let datasets = datasets.map(|version| version.habilitation.dataset.clone());
            let datasets = datasets.collect();
            (project, (granted.into_iter().collect(), datasets))
        });
        Ok(registered.collect())
    }
}

impl Judge<'_> {
    /// What somebody sees of a dataset, from each zone.
    fn views(
        &self,
        register: &Register,
        who: &Asker,
        project: &str,
        dataset: &str,
    ) -> impl Iterator<Item = String> {
        let described = self.datasets.as_ref().and_then(|all| all.dataset(dataset));
        self.zones.iter().filter_map(move |zone| {
            let decide = |action| {
                let request = Request {
                    who,
                    project,
                    dataset,
                    described: described.as_deref(),
                    action,
                    zone,
                    at: self.desk.now,
                };
                match register.decide(&self.rules, &request) {
                    Decision::Allow(habilitation) => Some(habilitation),
                    Decision::Deny(_) => None,
                }
            };
            let habilitation = decide(Action::querying(decide(Action::Browse)?.mode))?;
            let what = match habilitation.mode {
                Mode::Row => "rows",
                Mode::Aggregate => "aggregates",
            };
            let leaves = match habilitation.export {
                ExportRule::None => ", without exports",
                ExportRule::Review => ", each export after a second person",
                ExportRule::Rules => "",
            };
            Some(format!(
                "sees {what} of dataset `{dataset}` from zone `{zone}`{leaves} (habilitation `{}` \
                 version {})",
                habilitation.id, habilitation.version
            ))
        })
    }
}
