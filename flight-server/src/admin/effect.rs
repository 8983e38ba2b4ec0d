//! The dry run of a command: what would be recorded, and what would open and close for whom.
//!
//! The command does all of its work inside its transaction, which is then dropped: whatever it
//! refuses in earnest it refuses here.

use std::collections::{BTreeMap, BTreeSet};

use hubflight_ledger::AuditEvent;
use hubflight_rights::habilitation::Mode;
use hubflight_rights::{Action, Asker, Decision, Granted, Register, Request, Rules, Zone};
use hubflight_store::{AdminRole, HabilitationRow, Member, Person, Project};

use super::Desk;
use super::logins::askers;
use crate::change::Change;
use crate::error::Result;
use crate::rules;
use crate::versions::Version;

/// What a hub's rights are made of.
struct Rights {
    persons: Vec<Person>,
    projects: Vec<Project>,
    members: Vec<Member>,
    habilitations: Vec<HabilitationRow>,
    /// Of administrators, as they are now: no change of roles opens data.
    roles: BTreeMap<String, BTreeSet<AdminRole>>,
}

/// What the habilitations of the projects come to.
struct Granting<'a> {
    desk: &'a Desk,
    rules: &'a Rules,
    register: Register,
    /// By project, the datasets of its habilitations.
    datasets: BTreeMap<String, BTreeSet<String>>,
}

/// What would become of a change, which is dropped.
pub(super) async fn of(desk: &Desk, mut change: Change<'_>) -> Result<String> {
    let store = &desk.store;
    let rules = rules::load(&desk.config.policies)?;
    let mut roles = BTreeMap::new();
    for person in store.persons().await? {
        let of_person = store.admin_roles(&person.id).await?;
        roles.insert(person.id, of_person);
    }
    let before = Rights {
        roles: roles.clone(),
        persons: store.persons().await?,
        projects: store.projects().await?,
        members: store.members(None).await?,
        habilitations: store.habilitations().await?,
    };
    let mut after = Rights {
        roles,
        persons: change.write.persons().await?,
        projects: change.write.projects().await?,
        members: change.write.members(None).await?,
        habilitations: change.write.habilitations().await?,
    };
    let waits = after.assume_confirmed(&before);
    let (was, becomes) = (before.open(desk, &rules)?, after.open(desk, &rules)?);
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
    /// habilitations show from each of the hub's zones, as far as the policies let them.
    fn open(&self, desk: &Desk, rules: &Rules) -> Result<BTreeSet<String>> {
        let active: BTreeSet<&str> = self
            .persons
            .iter()
            .filter(|person| person.active)
            .map(|person| person.id.as_str())
            .collect();
        let granting = self.granting(desk, rules)?;
        let none = BTreeSet::new();
        let mut open = BTreeSet::new();
        for member in &self.members {
            let (person, id) = (member.person.as_str(), member.project.as_str());
            let project = self.projects.iter().find(|project| project.id == id);
            let in_period =
                project.is_some_and(|it| it.valid_from <= desk.now && desk.now < it.valid_to);
            if !active.contains(person) || !in_period {
                continue;
            }
            open.insert(format!("`{person}` works in project `{id}`"));
            let roles = self.roles.get(person).unwrap_or(&none);
            let theirs = self.projects.iter().filter(|project| {
                let mut members = self.members.iter();
                members.any(|of| of.person == person && of.project == project.id)
            });
            for who in askers(person, roles, theirs, id, desk.now) {
                for view in granting.shown(id, &who) {
                    open.insert(format!("`{person}` in project `{id}` {view}"));
                }
            }
        }
        Ok(open)
    }

    fn granting<'a>(&self, desk: &'a Desk, rules: &'a Rules) -> Result<Granting<'a>> {
        let mut datasets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut granted: Vec<Granted> = Vec::new();
        for row in self.habilitations.iter().filter(|row| !row.is_pending()) {
            let of_project = datasets.entry(row.project.clone()).or_default();
            of_project.insert(row.dataset.clone());
            granted.push(Version::read(row.clone())?.granted(desk.now));
        }
        Ok(Granting {
            desk,
            rules,
            register: granted.into_iter().collect(),
            datasets,
        })
    }
}

impl Granting<'_> {
    /// What the habilitations of a project show somebody now.
    fn shown(&self, project: &str, who: &Asker) -> Vec<String> {
        let mut shown = Vec::new();
        for listener in self.desk.config.listeners() {
            for dataset in self.datasets.get(project).into_iter().flatten() {
                shown.extend(self.view(project, who, dataset, &listener.zone));
            }
        }
        shown
    }

    fn view(&self, project: &str, who: &Asker, dataset: &str, zone: &Zone) -> Option<String> {
        let decide = |action| {
            let request = Request {
                who,
                project,
                dataset,
                // What a policy asks of a dataset is not told here, which denies.
                described: None,
                action,
                zone,
                at: self.desk.now,
            };
            match self.register.decide(self.rules, &request) {
                Decision::Allow(habilitation) => Some(habilitation),
                Decision::Deny(_) => None,
            }
        };
        let habilitation = decide(Action::querying(decide(Action::Browse)?.mode))?;
        let what = match habilitation.mode {
            Mode::Row => "rows",
            Mode::Aggregate => "aggregates",
        };
        Some(format!(
            "sees {what} of dataset `{dataset}` from zone `{zone}` (habilitation `{}` version {})",
            habilitation.id, habilitation.version
        ))
    }
}
