//! Somebody as the policies would meet them, for commands that tell who could do what.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use hubflight_rights::{Asker, Login, Method};
use hubflight_store::{AdminRole, Project};

/// A person in each way to log in to a project: with a password, and with an access token, which
/// is good for this project only and carries no role. `projects` are those that they are a member
/// of.
pub(super) fn askers<'a>(
    person: &str,
    roles: &BTreeSet<AdminRole>,
    projects: impl Iterator<Item = &'a Project>,
    project: &str,
    now: DateTime<Utc>,
) -> [Asker; 2] {
    let projects = projects.filter(|it| it.valid_from <= now && now < it.valid_to);
    let by_password = Asker {
        person: person.to_owned(),
        roles: roles.iter().map(|role| role.as_str().to_owned()).collect(),
        projects: projects
            .map(|it| (it.id.clone(), it.organisation.clone()))
            .collect(),
        login: Login {
            method: Method::Password,
            second_factor: true,
        },
    };
    let mut by_token = by_password.clone();
    by_token.roles.clear();
    by_token.projects.retain(|id, _| id == project);
    by_token.login = Login {
        method: Method::AccessToken,
        second_factor: false,
    };
    [by_password, by_token]
}
