//! Who asks, as far as policies may know.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

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

/// How somebody showed who they are: in this call, or when its session began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Login {
    pub method: Method,
    /// Something beside what is remembered or kept in a file: the code of an authenticator, what
    /// the login provider says of it, or the key of a client certificate.
    pub second_factor: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    #[default]
    Password,
    /// A personal access token of the hub.
    AccessToken,
    /// A token of a login provider.
    Oidc,
    /// A client certificate and nothing else.
    Certificate,
}

impl Method {
    /// What policies call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::AccessToken => "access_token",
            Self::Oidc => "oidc",
            Self::Certificate => "certificate",
        }
    }
}
