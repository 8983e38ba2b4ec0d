//! The coarse decision: may a person do something with a dataset in a project now, and under which
//! habilitation. Pure, total, deny by default: no clock, no IO, no error.
//!
//! Which version of a habilitation governs follows from data and is found here; whether it may be
//! used so, by whom, from where and when, the policies in force decide ([`Rules`]).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::asker::Asker;
use crate::dataset::Dataset;
use crate::habilitation::{Habilitation, Mode};
use crate::rules::Rules;
use crate::zone::Zone;

/// What somebody wants to do. Who they are, and which projects are active, is settled before.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub who: &'a Asker,
    pub project: &'a str,
    pub dataset: &'a str,
    /// The dataset as its producer describes it; what a policy asks of it denies where nobody
    /// does.
    pub described: Option<&'a Dataset>,
    pub action: Action,
    /// Where the caller is.
    pub zone: &'a Zone,
    pub at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// See which tables and columns there are.
    Browse,
    /// Query a dataset that is open in rows.
    ReadRows,
    /// Query a dataset that is open in protected aggregates.
    Aggregate,
    /// Take something made of it out of the hub.
    Export,
}

impl Action {
    /// What querying a dataset is under a habilitation of this mode.
    pub fn querying(mode: Mode) -> Self {
        match mode {
            Mode::Row => Self::ReadRows,
            Mode::Aggregate => Self::Aggregate,
        }
    }
}

/// One version of a habilitation as the store knows it.
#[derive(Clone, Debug)]
pub struct Granted {
    pub habilitation: Arc<Habilitation>,
    pub revoked_at: Option<DateTime<Utc>>,
    /// False while the confirmation that it needs does not count.
    pub is_confirmed: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Allow(Arc<Habilitation>),
    Deny(Denial),
}

/// Why not. The project's members may know all of these but the first, which must read as if
/// the dataset did not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    NoHabilitation,
    NotYet {
        from: DateTime<Utc>,
    },
    Expired {
        at: DateTime<Utc>,
    },
    Revoked {
        at: DateTime<Utc>,
    },
    /// It governs, but who confirmed it is a member of the project by now.
    Unconfirmed,
    AggregateOnly,
    /// What it opens does not leave the hub.
    NoExport,
    /// Policies of the operator's forbid it.
    Rule {
        ids: Vec<String>,
    },
    /// Policies could not be evaluated, so that nobody knows whether they forbid it.
    Undecided {
        ids: Vec<String>,
    },
    /// It may not be used from where the caller is.
    OtherZone {
        zone: Zone,
    },
    /// Several habilitations are in force at once; choosing one would be a guess.
    Ambiguous {
        ids: Vec<String>,
    },
}

/// Decides with everything that the store holds, in any order; what concerns other projects
/// or datasets is ignored.
///
/// Of one habilitation (one `id`) the highest version that has begun governs, so that a later
/// version which grants less, has ended, was revoked or lost its confirmation never lets an
/// earlier one come back. A version revoked before it began never counts. Periods include
/// `valid_from` and exclude `valid_to`; a revocation counts from its own instant on.
///
/// The one version that governs is then held to the policies in force.
pub fn decide(rules: &Rules, request: &Request<'_>, granted: &[Granted]) -> Decision {
    let mut begun: BTreeMap<&str, &Granted> = BTreeMap::new();
    let mut next: Option<DateTime<Utc>> = None;
    for version in granted {
        let habilitation = &version.habilitation;
        if habilitation.project != request.project || habilitation.dataset != request.dataset {
            continue;
        }
        let from = habilitation.valid_from;
        if version.revoked_at.is_some_and(|revoked| revoked <= from) {
            continue;
        }
        if from > request.at {
            // A version that is already revoked will not begin either.
            let is_revoked = version.revoked_at.is_some_and(|at| at <= request.at);
            if !is_revoked && version.is_confirmed {
                next = Some(next.map_or(from, |earliest| earliest.min(from)));
            }
            continue;
        }
        begun
            .entry(habilitation.id.as_str())
            .and_modify(|newest| {
                if habilitation.version > newest.habilitation.version {
                    *newest = version;
                }
            })
            .or_insert(version);
    }
    let (in_force, ended): (Vec<&Granted>, Vec<&Granted>) = begun
        .into_values()
        .partition(|version| end_of(version, request.at).is_none());
    match in_force.as_slice() {
        [] => Decision::Deny(absent(&ended, next, request.at)),
        [only] => match rules.refusal(request, &only.habilitation) {
            None => Decision::Allow(Arc::clone(&only.habilitation)),
            Some(denial) => Decision::Deny(denial),
        },
        several => Decision::Deny(Denial::Ambiguous {
            ids: several
                .iter()
                .map(|version| version.habilitation.id.clone())
                .collect(),
        }),
    }
}

/// Everything that a store holds, by project and dataset, so that a decision looks only at what
/// concerns it however many habilitations there are.
#[derive(Clone, Debug, Default)]
pub struct Register {
    projects: HashMap<String, HashMap<String, Vec<Granted>>>,
}

impl Register {
    /// As [`decide`] with everything in the register.
    pub fn decide(&self, rules: &Rules, request: &Request<'_>) -> Decision {
        let datasets = self.projects.get(request.project);
        let granted = datasets.and_then(|datasets| datasets.get(request.dataset));
        decide(rules, request, granted.map_or(&[], Vec::as_slice))
    }

    /// When the next version of a project begins, whatever it opens: until then, what was
    /// decided at `at` changes only with what the register holds, or when a period ends.
    pub fn next_begin(&self, project: &str, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let versions = self.projects.get(project)?.values().flatten();
        versions
            .map(|version| version.habilitation.valid_from)
            .filter(|from| *from > at)
            .min()
    }
}

impl FromIterator<Granted> for Register {
    fn from_iter<I: IntoIterator<Item = Granted>>(granted: I) -> Self {
        let mut register = Self::default();
        for version in granted {
            let habilitation = &version.habilitation;
            register
                .projects
                .entry(habilitation.project.clone())
                .or_default()
                .entry(habilitation.dataset.clone())
                .or_default()
                .push(version);
        }
        register
    }
}

/// Why a version that has begun is no longer in force, or None when it is.
fn end_of(version: &Granted, at: DateTime<Utc>) -> Option<Denial> {
    let expired = version.habilitation.valid_to;
    match version.revoked_at {
        Some(revoked) if revoked <= at && revoked < expired => {
            Some(Denial::Revoked { at: revoked })
        }
        _ if expired <= at => Some(Denial::Expired { at: expired }),
        _ if !version.is_confirmed => Some(Denial::Unconfirmed),
        _ => None,
    }
}

/// The most useful reason when nothing is in force: what somebody can mend, else what begins
/// next, else what ended last.
fn absent(ended: &[&Granted], next: Option<DateTime<Utc>>, at: DateTime<Utc>) -> Denial {
    let reasons = || ended.iter().filter_map(move |version| end_of(version, at));
    if reasons().any(|denial| denial == Denial::Unconfirmed) {
        return Denial::Unconfirmed;
    }
    if let Some(from) = next {
        return Denial::NotYet { from };
    }
    reasons()
        .max_by_key(|denial| match denial {
            Denial::Revoked { at } | Denial::Expired { at } => Some(*at),
            _ => None,
        })
        .unwrap_or(Denial::NoHabilitation)
}

impl Denial {
    /// True when the dataset must read as missing.
    pub fn hides_dataset(&self) -> bool {
        matches!(self, Self::NoHabilitation)
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHabilitation => {
                write!(f, "the project has no habilitation; ask the hub for access")
            }
            Self::NotYet { from } => write!(
                f,
                "the project's habilitation begins on `{}`; come back then",
                from.format("%Y-%m-%d")
            ),
            Self::Expired { at } => write!(
                f,
                "the project's habilitation ended on `{}`; ask the hub to renew it",
                at.format("%Y-%m-%d")
            ),
            Self::Revoked { at } => write!(
                f,
                "the project's habilitation was withdrawn on `{}`; ask the hub why",
                at.format("%Y-%m-%d")
            ),
            Self::OtherZone { zone } => write!(
                f,
                "the project may not read it from zone `{zone}`; call a listener of another zone"
            ),
            Self::Rule { ids } => write!(
                f,
                "rule `{}` of the hub's operator forbids it to you here and now; ask the hub",
                ids.join("`, `")
            ),
            Self::Undecided { ids } if ids.is_empty() => {
                write!(f, "the hub's rules cannot be decided on; tell its operator")
            }
            Self::Undecided { ids } => write!(
                f,
                "rule `{}` of the hub's operator cannot be decided on; tell the operator",
                ids.join("`, `")
            ),
            Self::Unconfirmed => write!(
                f,
                "who confirmed the project's habilitation is a member of the project by now; \
                 another administrator, who is none, has to confirm it"
            ),
            Self::AggregateOnly => write!(
                f,
                "the project may see only aggregates; ask for count, sum or avg, or ask the hub \
                 for row access"
            ),
            Self::NoExport => write!(
                f,
                "the project may take nothing of it out of the hub; ask the hub for a \
                 habilitation that allows exports"
            ),
            Self::Ambiguous { ids } => write!(
                f,
                "habilitations `{}` are in force at once; ask the hub to revoke all but one",
                ids.join("`, `")
            ),
        }
    }
}
