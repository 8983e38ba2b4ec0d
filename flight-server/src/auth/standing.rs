//! What a caller's rights rest on beyond one call: asked again while a statement runs.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use hubflight_rights::{Asker, Login};
use hubflight_store::{AdminRole, Identity, Person, Project, Rights};

use super::certificates::Shown;
use super::prove::person_of;
use super::{ADMIN_CATALOG, Authenticator, refused};
use crate::error::Result;

/// Whom a call was let in as, and by what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    pub person: String,
    /// The epoch of the session; none where an access token stands for itself.
    pub epoch: Option<i64>,
    pub access_token: Option<String>,
    /// What stands for the person at a provider, or the certificate that began the session.
    pub identity: Option<Identity>,
    /// The certificate of the connection.
    pub certificate: Option<Shown>,
    /// The only project that the credential is good for.
    pub bound_to: Option<String>,
    /// When the credential ends.
    pub expires: Option<DateTime<Utc>>,
    /// How they logged in.
    pub login: Login,
}

/// A person and the projects that are open to them at one moment.
#[derive(Clone, Debug)]
pub struct Admitted {
    pub person: Person,
    /// What they may see of the hub as an administrator.
    pub roles: BTreeSet<AdminRole>,
    pub projects: Vec<Project>,
}

impl Admitted {
    /// The catalogs that this person may choose, sorted.
    pub fn catalogs(&self) -> Vec<&str> {
        catalogs(&self.person, &self.projects)
    }

    /// Who it is, to the policies.
    pub fn asker(&self, login: Login) -> Asker {
        asker(&self.person, &self.roles, &self.projects, login)
    }

    /// When a project that is open ends; none for the administrators' catalog.
    pub fn ends(&self, project: &str) -> Option<DateTime<Utc>> {
        let mut projects = self.projects.iter();
        Some(projects.find(|open| open.id == project)?.valid_to)
    }
}

pub(super) fn asker(
    person: &Person,
    roles: &BTreeSet<AdminRole>,
    projects: &[Project],
    login: Login,
) -> Asker {
    let projects = projects.iter();
    Asker {
        person: person.id.clone(),
        roles: roles.iter().map(|role| role.as_str().to_owned()).collect(),
        projects: projects
            .map(|project| (project.id.clone(), project.organisation.clone()))
            .collect(),
        login,
    }
}

pub(super) fn catalogs<'a>(person: &Person, projects: &'a [Project]) -> Vec<&'a str> {
    let mut catalogs: Vec<&str> = projects.iter().map(|project| project.id.as_str()).collect();
    if person.is_admin {
        catalogs.push(ADMIN_CATALOG);
    }
    catalogs.sort_unstable();
    catalogs
}

impl Authenticator {
    /// What is open to a standing at `now`.
    ///
    /// # Errors
    /// `Unauthenticated` where the person, the session, the token or the certificate has ended.
    pub async fn admit(
        &self,
        rights: &Rights<'_>,
        standing: &Standing,
        now: DateTime<Utc>,
    ) -> Result<Admitted> {
        let person = self.identify(rights, standing, now).await?;
        let bound_to = standing.bound_to.as_deref();
        Self::open_to(rights, person, bound_to, now).await
    }

    /// The person of a standing that has not ended.
    pub(super) async fn identify(
        &self,
        rights: &Rights<'_>,
        standing: &Standing,
        now: DateTime<Utc>,
    ) -> Result<Person> {
        if standing.expires.is_some_and(|expires| expires <= now) {
            return Err(refused());
        }
        let person = rights
            .person(&standing.person)
            .await?
            .filter(|person| person.active)
            .filter(|person| {
                standing
                    .epoch
                    .is_none_or(|epoch| epoch == person.token_epoch)
            })
            .ok_or_else(refused)?;
        if let Some(id) = &standing.access_token {
            // A session ends with the token that began it.
            rights
                .token_holder(id, now)
                .await?
                .filter(|holder| holder.person == person.id)
                .ok_or_else(refused)?;
        }
        if let Some(shown) = &standing.certificate {
            // Time and its authority end a certificate, whoever else still holds it good.
            let judge = self.certificates.as_ref().ok_or_else(refused)?;
            judge.judge(shown, now).map_err(|_| refused())?;
        }
        let shown = standing.certificate.as_ref().map(|shown| &shown.identity);
        for identity in standing.identity.iter().chain(shown) {
            let holder = person_of(rights, identity).await?;
            if holder.id != person.id {
                return Err(refused());
            }
        }
        Ok(person)
    }

    /// The projects of a person, or the one that their credential is bound to.
    pub(super) async fn open_to(
        rights: &Rights<'_>,
        mut person: Person,
        bound_to: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Admitted> {
        let projects = rights.projects_of(&person.id).await?;
        let open = projects.iter().filter(|project| {
            project.is_open(now)
                && project.id != ADMIN_CATALOG
                && bound_to.is_none_or(|bound| project.id == bound)
        });
        let projects = open.cloned().collect();
        if let Some(bound) = bound_to {
            // An administrator's token for a project is good for that project only.
            person.is_admin &= bound == ADMIN_CATALOG;
        }
        let roles = match person.is_admin {
            true => rights.admin_roles(&person.id).await?,
            false => BTreeSet::new(),
        };
        Ok(Admitted {
            person,
            roles,
            projects,
        })
    }
}
