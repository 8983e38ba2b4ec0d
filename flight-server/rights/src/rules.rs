//! The policies in force, in Cedar: the hub's own (`hub.cedar`), which hold a habilitation to its
//! members, period, zones and mode, and the operator's, which can only forbid more.
//!
//! Cedar skips a policy that cannot be evaluated. Here that denies, because what was skipped may
//! have forbidden. Two more things are the hub's: policies are checked in strict mode against
//! `hub.cedarschema` before any is asked, and entities are made of parts, so that no name of a
//! person or a dataset is ever read as policy text.

mod facts;
mod load;
mod shape;

use std::fmt;

use cedar_policy::{Authorizer, Decision, PolicySet};

use crate::decision::{Denial, Request};
use crate::error::RightsError;
use crate::habilitation::Habilitation;
use facts::{Facts, Names};

/// A file of the operator's policies: its name for messages, and its text.
#[derive(Clone, Copy, Debug)]
pub struct RulesFile<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

/// Policies that were checked, ready to be asked.
pub struct Rules {
    policies: PolicySet,
    authorizer: Authorizer,
    names: Names,
    digest: String,
    is_own_only: bool,
}

impl Rules {
    /// The hub's own policies and those of an operator.
    ///
    /// # Errors
    /// [`RightsError::Policy`], naming the file, the line and the policy.
    pub fn load(files: &[RulesFile<'_>]) -> Result<Self, RightsError> {
        Self::of(load::policies(files)?, files)
    }

    fn of(policies: PolicySet, files: &[RulesFile<'_>]) -> Result<Self, RightsError> {
        Ok(Self {
            policies,
            authorizer: Authorizer::new(),
            names: Names::new()?,
            digest: load::digest(files),
            is_own_only: files.is_empty(),
        })
    }

    /// SHA-256 of the policies and of what they are checked against, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// True where no operator has added any: then a decision changes with what is stored and at
    /// the instants that habilitations name. An operator's policy may change its mind at any time.
    pub fn are_the_hubs_alone(&self) -> bool {
        self.is_own_only
    }

    /// Why a habilitation that governs is of no use for a request; None where it is.
    pub(crate) fn refusal(
        &self,
        request: &Request<'_>,
        habilitation: &Habilitation,
    ) -> Option<Denial> {
        let undecided = |ids| Denial::Undecided { ids };
        let Ok(Facts {
            request: asked,
            entities,
        }) = self.names.facts(request, habilitation)
        else {
            return Some(undecided(Vec::new()));
        };
        let response = self
            .authorizer
            .is_authorized(&asked, &self.policies, &entities);
        let diagnostics = response.diagnostics();
        let failed = sorted(diagnostics.errors().map(|error| {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
            error.policy_id().to_string()
        }));
        let determining = sorted(diagnostics.reason().map(ToString::to_string));
        match response.decision() {
            Decision::Allow if failed.is_empty() => None,
            Decision::Allow => Some(undecided(failed)),
            Decision::Deny => Some(of_the_hub(&determining, request, habilitation).unwrap_or(
                if failed.is_empty() {
                    Denial::Rule { ids: determining }
                } else {
                    undecided(failed)
                },
            )),
        }
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// The denial that the hub's own policies mean, the one first that says least of the dataset. An
/// operator's policies are asked too, but the hub's reason is the one that is told: it would stand
/// without them.
fn of_the_hub(
    determining: &[String],
    request: &Request<'_>,
    habilitation: &Habilitation,
) -> Option<Denial> {
    let forbids = |id: &str| determining.iter().any(|determining| determining == id);
    // Where no policy determines, none permitted.
    if determining.is_empty() || forbids("hub.member") {
        return Some(Denial::NoHabilitation);
    }
    if forbids("hub.period") {
        let (from, to) = (habilitation.valid_from, habilitation.valid_to);
        return Some(match request.at < from {
            true => Denial::NotYet { from },
            false => Denial::Expired { at: to },
        });
    }
    if forbids("hub.zone") || forbids("hub.outside") {
        let zone = request.zone.clone();
        return Some(Denial::OtherZone { zone });
    }
    if forbids("hub.export") {
        return Some(Denial::NoExport);
    }
    forbids("hub.rows").then_some(Denial::AggregateOnly)
}

fn sorted(ids: impl Iterator<Item = String>) -> Vec<String> {
    let mut ids: Vec<String> = ids.collect();
    ids.sort_unstable();
    ids
}

#[cfg(test)]
mod tests;
