//! What decides of rights, as it is stored or as a change would leave it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use hubflight_rights::{Asker, Login, Method, Register};
use hubflight_store::{AdminRole, HabilitationRow, Member, Person, Project, Store};

use crate::auth::ADMIN_CATALOG;
use crate::change::Change;
use crate::error::Result;
use crate::versions::{IN_FORCE, Version, states};

/// What a hub's rights are made of, by name.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// Active persons, each with their roles.
    persons: BTreeMap<String, BTreeSet<String>>,
    projects: BTreeMap<String, Project>,
    /// Persons by project, and projects by person.
    members: BTreeMap<String, BTreeSet<String>>,
    memberships: BTreeMap<String, BTreeSet<String>>,
    /// Every version of every habilitation, by project.
    versions: BTreeMap<String, Vec<Version>>,
}

/// Who is in a project, with their roles where they are active, and what else they are in.
type Crew<'a> = Vec<(&'a str, Option<&'a BTreeSet<String>>, Vec<&'a Project>)>;

impl Stored {
    pub async fn now(store: &Store) -> Result<Self> {
        let mut stored = Self::default();
        stored.put_people(store.persons().await?, store.all_admin_roles().await?);
        stored.put_projects(store.projects().await?, store.members(None).await?);
        stored.put_versions(store.habilitations().await?)?;
        Ok(stored)
    }

    /// With what a change has written.
    pub async fn within(change: &mut Change<'_>) -> Result<Self> {
        let write = &mut change.write;
        let mut stored = Self::default();
        stored.put_people(write.persons().await?, write.all_admin_roles().await?);
        stored.put_projects(write.projects().await?, write.members(None).await?);
        stored.put_versions(write.habilitations().await?)?;
        Ok(stored)
    }

    fn put_people(&mut self, persons: Vec<Person>, roles: Vec<(String, AdminRole)>) {
        let active = persons.into_iter().filter(|person| person.active);
        self.persons = active.map(|person| (person.id, BTreeSet::new())).collect();
        for (person, role) in roles {
            if let Some(roles) = self.persons.get_mut(&person) {
                roles.insert(role.as_str().to_owned());
            }
        }
    }

    /// The administrators' catalog is no project that anybody works in.
    fn put_projects(&mut self, projects: Vec<Project>, members: Vec<Member>) {
        let projects = projects.into_iter().filter(|it| it.id != ADMIN_CATALOG);
        self.projects = projects.map(|it| (it.id.clone(), it)).collect();
        for Member {
            project, person, ..
        } in members
        {
            let of_person = self.memberships.entry(person.clone()).or_default();
            of_person.insert(project.clone());
            self.members.entry(project).or_default().insert(person);
        }
    }

    fn put_versions(&mut self, rows: Vec<HabilitationRow>) -> Result<()> {
        for row in rows {
            let of_project = self.versions.entry(row.project.clone()).or_default();
            of_project.push(Version::read(row)?);
        }
        Ok(())
    }

    /// The projects, in order.
    pub fn projects(&self) -> impl Iterator<Item = &str> {
        self.projects.keys().map(String::as_str)
    }

    pub fn project(&self, id: &str) -> Option<&Project> {
        self.projects.get(id)
    }

    pub fn versions(&self, project: &str) -> &[Version] {
        self.versions.get(project).map_or(&[], Vec::as_slice)
    }

    /// The datasets that a project has or had a habilitation for, in order.
    pub fn datasets(&self, project: &str) -> BTreeSet<&str> {
        let versions = self.versions(project).iter();
        versions
            .map(|version| version.row.dataset.as_str())
            .collect()
    }

    /// What was decided on for a project, for decisions at `now` and later.
    pub fn register(&self, project: &str, now: DateTime<Utc>) -> Register {
        let versions = self.versions(project).iter();
        let decided = versions.filter(|version| !version.row.is_pending());
        decided.map(|version| version.granted(now)).collect()
    }

    /// The versions that are in force at a moment, whoever may use them.
    pub fn in_force(&self, project: &str, at: DateTime<Utc>) -> Vec<&Version> {
        let versions = self.versions(project);
        let found = versions.iter().zip(states(versions, at));
        let found = found.filter(|(_, state)| *state == IN_FORCE);
        found.map(|(version, _)| version).collect()
    }

    /// Takes versions that `before` does not have for confirmed, as what they open is what
    /// matters; true where there is one.
    pub fn assume_confirmed(&mut self, before: &Self) -> bool {
        let versions = before.versions.values().flatten();
        let known: BTreeSet<(&str, u32)> = versions
            .map(|version| (version.row.id.as_str(), version.row.version))
            .collect();
        let mut any = false;
        for Version { row, .. } in self.versions.values_mut().flatten() {
            if row.is_pending() && !known.contains(&(row.id.as_str(), row.version)) {
                row.confirmed_by.clone_from(&row.entered_by);
                row.confirmer_is_member = false;
                any = true;
            }
        }
        any
    }

    /// Whether everything is the same that decides on what a project's members see.
    pub fn is_same(&self, other: &Self, project: &str) -> bool {
        self.project(project) == other.project(project)
            && self.decided(project).eq(other.decided(project))
            && self.crew(project) == other.crew(project)
    }

    fn decided(&self, project: &str) -> impl Iterator<Item = &HabilitationRow> {
        self.versions(project).iter().map(|version| &version.row)
    }

    fn crew(&self, project: &str) -> Crew<'_> {
        let members = self.members.get(project).into_iter().flatten();
        let crew = members.map(|person| {
            let others = self.memberships.get(person).into_iter().flatten();
            let others = others.filter_map(|id| self.projects.get(id)).collect();
            (person.as_str(), self.persons.get(person), others)
        });
        crew.collect()
    }

    /// The members of a project who may enter it at a moment, in each of the ways to log in: with
    /// two factors, of which an access token is none: it is good for this project only and
    /// carries no role.
    pub fn askers(&self, project: &str, at: DateTime<Utc>) -> Vec<Asker> {
        let mut askers = Vec::new();
        for (person, roles, projects) in self.crew(project) {
            let open = projects.into_iter().filter(|project| project.is_open(at));
            let open = open.map(|project| (project.id.clone(), project.organisation.clone()));
            let open: BTreeMap<String, String> = open.collect();
            let (Some(roles), Some(organisation)) = (roles, open.get(project)) else {
                continue;
            };
            askers.push(Asker {
                person: person.to_owned(),
                roles: BTreeSet::new(),
                projects: BTreeMap::from([(project.to_owned(), organisation.clone())]),
                login: Login {
                    method: Method::AccessToken,
                    second_factor: false,
                },
            });
            for method in [Method::Password, Method::Oidc, Method::Certificate] {
                askers.push(Asker {
                    person: person.to_owned(),
                    roles: roles.clone(),
                    projects: open.clone(),
                    login: Login {
                        method,
                        second_factor: true,
                    },
                });
            }
        }
        askers
    }
}
