//! Who asks, as far as policies may know.

use std::collections::{BTreeMap, BTreeSet};

/// A person in one login.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asker {
    pub person: String,
    /// Names of their roles in the hub's administration. None of them opens data.
    pub roles: BTreeSet<String>,
    /// The projects that they are a member of and may enter with this login, each with the
    /// organisation that pays for it.
    pub projects: BTreeMap<String, String>,
    pub login: Login,
}

/// How somebody logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Login {
    pub method: Method,
    /// True only where a second factor is known to have been shown.
    pub second_factor: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    Password,
    /// A personal access token, or a session that began with one.
    AccessToken,
}

impl Method {
    /// What policies call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::AccessToken => "access_token",
        }
    }
}
