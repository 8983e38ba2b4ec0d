//! The dry run of a command: what would be recorded, and what would open and close for whom.
//!
//! The command does all of its work inside its transaction, which is then dropped: whatever it
//! refuses in earnest it refuses here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use hubflight_rights::habilitation::{ExportRule, Habilitation, Mode, Tables};
use hubflight_rights::{Asker, Granted, Login, Method, Register};
use hubflight_store::{AdminRole, HabilitationRow, Member, Person, Project};
use sha2::{Digest, Sha256};

use super::Desk;
use super::who::Judge;
use crate::auth::ADMIN_CATALOG;
use crate::change::{Act, Change};
use crate::error::{Error, Result};
use crate::versions::Version;

/// Characters of a filter or cohort that are shown.
const CONDITION_CHARS_MAX: usize = 300;

/// What a hub's rights are made of.
struct Rights {
    persons: Vec<Person>,
    roles: Vec<(String, AdminRole)>,
    projects: Vec<Project>,
    members: Vec<Member>,
    habilitations: Vec<HabilitationRow>,
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
    // From here on others write: judging may take its time.
    let acts = change.acts().to_vec();
    drop(change);
    let judge = Judge::at(desk).await?;
    // Who only moves persons is told of persons: filters may name some of the data.
    let detailed = before.projects != after.projects || before.decided() != after.decided();
    let waits = after.assume_confirmed(&before);
    let (was, becomes) = (
        before.open(&judge, detailed)?,
        after.open(&judge, detailed)?,
    );
    let mut text = "dry run: nothing is changed\n".to_owned();
    for act in &acts {
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

fn told(act: &Act) -> String {
    let about = [("person", &act.person), ("project", &act.project)];
    let about = about
        .into_iter()
        .filter_map(|(what, name)| Some(format!("{what} `{}`", name.as_ref()?)));
    let detail = Some(act.detail.clone()).filter(|detail| !detail.is_empty());
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

    /// What was decided on habilitations.
    fn decided(&self) -> Vec<(&str, u32, bool, Option<&str>)> {
        let rows = self.habilitations.iter();
        let decided = rows.map(|row| {
            let confirmed_by = row.confirmed_by.as_deref();
            (
                row.id.as_str(),
                row.version,
                row.revoked_at.is_some(),
                confirmed_by,
            )
        });
        decided.collect()
    }

    /// Who can open what, a line each: active persons in projects of today, with what their
    /// habilitations show from each of the hub's zones to somebody who has shown two factors; and
    /// where it is `detailed`, how each column of that is shown.
    fn open(&self, judge: &Judge, detailed: bool) -> Result<BTreeSet<String>> {
        let registers = self.registers(judge)?;
        let mut open = BTreeSet::new();
        let mut used: BTreeMap<String, Arc<Habilitation>> = BTreeMap::new();
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
                let described = judge.described(dataset);
                for zone in &judge.zones {
                    let place = (id.as_str(), dataset.as_str());
                    let opened = judge.opened(register, &who, place, described.as_deref(), zone);
                    let Some(habilitation) = opened else {
                        continue;
                    };
                    let sees = sees(&habilitation);
                    let leaves = leaves(habilitation.export);
                    open.insert(format!(
                        "`{person}` in project `{id}` {sees} from zone `{zone}`{leaves} \
                         (habilitation `{}` version {})",
                        habilitation.id, habilitation.version
                    ));
                    used.insert(habilitation.id.clone(), habilitation);
                }
            }
        }
        for habilitation in used.values().filter(|_| detailed) {
            open.extend(details(judge, habilitation)?);
        }
        Ok(open)
    }

    /// A person who is active, in the projects that they may enter.
    fn asker(&self, person: &str, judge: &Judge) -> Option<Asker> {
        let known = self.persons.iter().find(|known| known.id == person);
        known.filter(|known| known.active)?;
        let now = judge.now;
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
    fn registers(&self, judge: &Judge) -> Result<BTreeMap<String, (Register, BTreeSet<String>)>> {
        let mut granted: BTreeMap<String, Vec<Granted>> = BTreeMap::new();
        for row in self.habilitations.iter().filter(|row| !row.is_pending()) {
            let version = Version::read(row.clone())?.granted(judge.now);
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

fn sees(habilitation: &Habilitation) -> String {
    let what = match habilitation.mode {
        Mode::Row => "rows",
        Mode::Aggregate => "aggregates",
    };
    format!("sees {what} of dataset `{}`", habilitation.dataset)
}

/// How results leave the hub.
fn leaves(export: ExportRule) -> &'static str {
    match export {
        ExportRule::None => ", without exports",
        ExportRule::Review => ", each export after a second person",
        ExportRule::Rules => "",
    }
}

/// What a habilitation shows, a line for each column, filter and cohort.
fn details(judge: &Judge, habilitation: &Habilitation) -> Result<Vec<String>> {
    let (project, dataset) = (&habilitation.project, &habilitation.dataset);
    let columns = judge.columns(habilitation).into_iter().map(|shown| {
        let name = &shown.column;
        format!(
            "project `{project}`: column `{dataset}.{}.{}` {}, rows: {}",
            name.table, name.column, shown.how, shown.rows
        )
    });
    let mut lines: Vec<String> = columns.collect();
    let written = |error| Error::internal("a habilitation cannot be written", &error);
    let filters = match &habilitation.tables {
        Tables::All => &[][..],
        Tables::Only(grants) => grants,
    };
    for grant in filters {
        if let Some(rows) = &grant.rows {
            let rows = cut(serde_json::to_string(rows).map_err(written)?);
            let table = &grant.table;
            lines.push(format!(
                "project `{project}`: rows of `{dataset}.{table}` where {rows}"
            ));
        }
    }
    if let Some(cohort) = &habilitation.persons {
        let cohort = cut(serde_json::to_string(cohort).map_err(written)?);
        lines.push(format!(
            "project `{project}`: persons of `{dataset}` in cohort {cohort}"
        ));
    }
    Ok(lines)
}

/// A long list is told by its begin, and by a digest that changes with it.
fn cut(text: String) -> String {
    match text.char_indices().nth(CONDITION_CHARS_MAX) {
        None => text,
        Some((end, _)) => {
            let digest = HEXLOWER.encode(&Sha256::digest(&text));
            format!("{}… (SHA-256 {digest})", &text[..end])
        }
    }
}
