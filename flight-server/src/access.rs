//! What somebody may do with the datasets of a project: the habilitations of the store, held to
//! the policies in force.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use hubflight_policy::Sources;
use hubflight_rights::dataset::Dataset;
use hubflight_rights::habilitation::Habilitation;
use hubflight_rights::{Action, Asker, Decision, Denial, Register, Request, Zone};
use hubflight_store::Rights;

use crate::error::Result;
use crate::hub::Hub;

/// On whose behalf rights are asked for, from where and when.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    pub who: &'a Asker,
    pub project: &'a str,
    pub zone: &'a Zone,
    pub at: DateTime<Utc>,
}

impl<'a> Asking<'a> {
    fn request(&self, dataset: &'a Dataset, action: Action) -> Request<'a> {
        Request {
            who: self.who,
            project: self.project,
            dataset: &dataset.name,
            described: Some(dataset),
            action,
            zone: self.zone,
            at: self.at,
        }
    }
}

/// What somebody may do with a dataset.
#[derive(Clone, Debug, PartialEq)]
pub enum Access {
    /// Query it, as its habilitation says.
    Open(Arc<Habilitation>),
    /// See which tables and columns the habilitation opens, and why no more.
    Listed(Arc<Habilitation>, Denial),
    Closed(Denial),
}

impl Access {
    /// The habilitation that opens it.
    pub fn open(&self) -> Option<&Arc<Habilitation>> {
        match self {
            Self::Open(habilitation) => Some(habilitation),
            Self::Listed(..) | Self::Closed(_) => None,
        }
    }

    /// The habilitation that it is listed by, at least.
    pub fn listed(&self) -> Option<&Arc<Habilitation>> {
        match self {
            Self::Open(habilitation) | Self::Listed(habilitation, _) => Some(habilitation),
            Self::Closed(_) => None,
        }
    }
}

/// What somebody may do with each dataset of the hub, and when a version of a habilitation of the
/// project begins next: one that is in force may have to make way for it.
pub type AccessUntil = (Vec<(Arc<Dataset>, Access)>, Option<DateTime<Utc>>);

impl Hub {
    /// What somebody may do with each dataset of the hub now.
    pub async fn access(&self, rights: &Rights<'_>, asking: Asking<'_>) -> Result<AccessUntil> {
        let register = self.register(rights, asking).await?;
        let datasets = self.datasets.iter();
        let access = datasets.map(|dataset| {
            let access = self.access_to(&register, asking, dataset);
            (Arc::clone(dataset), access)
        });
        let access = access.collect();
        Ok((access, register.next_begin(asking.project, asking.at)))
    }

    /// Whether somebody may do something with a dataset, querying it or not.
    pub async fn may(
        &self,
        rights: &Rights<'_>,
        asking: Asking<'_>,
        dataset: &str,
        action: Action,
    ) -> Result<Decision> {
        let Some(dataset) = self.datasets.dataset(dataset) else {
            return Ok(Decision::Deny(Denial::NoHabilitation));
        };
        let register = self.register(rights, asking).await?;
        Ok(register.decide(&self.rules, &asking.request(&dataset, action)))
    }

    fn access_to(&self, register: &Register, asking: Asking<'_>, dataset: &Dataset) -> Access {
        let decide = |action| {
            let decision = register.decide(&self.rules, &asking.request(dataset, action));
            let (project, dataset) = (asking.project, &dataset.name);
            match &decision {
                Decision::Deny(denial @ Denial::Undecided { .. }) => {
                    tracing::warn!(%project, %dataset, ?action, %denial, "a policy fails");
                }
                Decision::Deny(denial) => {
                    tracing::debug!(%project, %dataset, ?action, %denial, "not open");
                }
                Decision::Allow(_) => {}
            }
            decision
        };
        let habilitation = match decide(Action::Browse) {
            Decision::Allow(habilitation) => habilitation,
            Decision::Deny(denial) => return Access::Closed(denial),
        };
        match decide(Action::querying(habilitation.mode)) {
            Decision::Allow(habilitation) => Access::Open(habilitation),
            Decision::Deny(denial) => Access::Listed(habilitation, denial),
        }
    }

    /// Everything that the store holds of a project.
    async fn register(&self, rights: &Rights<'_>, asking: Asking<'_>) -> Result<Register> {
        let rows = rights.habilitations_of(asking.project).await?;
        let versions = self.versions.read(asking.project, rows)?;
        let granted = versions.iter().map(|version| version.granted(asking.at));
        Ok(granted.collect())
    }
}
