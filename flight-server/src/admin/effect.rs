//! The dry run of a command: what would be recorded, and what would open and close for whom.
//!
//! The command does all of its work inside its transaction, which is then dropped: whatever it
//! refuses in earnest it refuses here.

use std::collections::{BTreeMap, BTreeSet};

use hubflight_ledger::AuditEvent;
use hubflight_policy::habilitation::Mode;
use hubflight_policy::{Action, Decision, Granted, Register, Request};
use hubflight_store::{HabilitationRow, Member, Person, Project};

use super::Desk;
use crate::change::Change;
use crate::error::Result;
use crate::versions::Version;

/// What a hub's rights are made of.
struct Rights {
    persons: Vec<Person>,
    projects: Vec<Project>,
    members: Vec<Member>,
    habilitations: Vec<HabilitationRow>,
}

/// What would become of a change, which is dropped.
pub(super) async fn of(desk: &Desk, mut change: Change<'_>) -> Result<String> {
    let store = &desk.store;
    let before = Rights {
        persons: store.persons().await?,
        projects: store.projects().await?,
        members: store.members(None).await?,
        habilitations: store.habilitations().await?,
    };
    let mut after = Rights {
        persons: change.write.persons().await?,
        projects: change.write.projects().await?,
        members: change.write.members(None).await?,
        habilitations: change.write.habilitations().await?,
    };
    let waits = after.assume_confirmed(&before);
    let (was, becomes) = (before.open(desk)?, after.open(desk)?);
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
    /// habilitations show from each of the hub's zones.
    fn open(&self, desk: &Desk) -> Result<BTreeSet<String>> {
        let active: BTreeSet<&str> = self
            .persons
            .iter()
            .filter(|person| person.active)
            .map(|person| person.id.as_str())
            .collect();
        let shown = self.shown(desk)?;
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
            for view in shown.get(id).into_iter().flatten() {
                open.insert(format!("`{person}` in project `{id}` {view}"));
            }
        }
        Ok(open)
    }

    /// What the habilitations of each project show now.
    fn shown(&self, desk: &Desk) -> Result<BTreeMap<String, Vec<String>>> {
        let mut granted: BTreeMap<String, Vec<Granted>> = BTreeMap::new();
        for row in self.habilitations.iter().filter(|row| !row.is_pending()) {
            let version = Version::read(row.clone())?.granted(desk.now);
            granted
                .entry(row.project.clone())
                .or_default()
                .push(version);
        }
        let mut shown: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (project, granted) in granted {
            let datasets: BTreeSet<String> = granted
                .iter()
                .map(|version| version.habilitation.dataset.clone())
                .collect();
            let register: Register = granted.into_iter().collect();
            let views = shown.entry(project.clone()).or_default();
            for listener in desk.config.listeners() {
                for dataset in &datasets {
                    let request = Request {
                        project: &project,
                        dataset,
                        action: Action::Browse,
                        zone: &listener.zone,
                        at: desk.now,
                    };
                    let Decision::Allow(habilitation) = register.decide(&request) else {
                        continue;
                    };
                    let what = match habilitation.mode {
                        Mode::Row => "rows",
                        Mode::Aggregate => "aggregates",
                    };
                    views.push(format!(
                        "sees {what} of dataset `{dataset}` from zone `{}` (habilitation `{}` \
                         version {})",
                        listener.zone, habilitation.id, habilitation.version
                    ));
                }
            }
        }
        Ok(shown)
    }
}
