//! Rights that end while a statement runs.
//!
//! One task reads the store's revision of rights a few times a second. Each running execution
//! is decided on when that changed (one over a connection with a client certificate every time),
//! when the first of its grounds ends by itself, and once soon after it began: rights may have changed between its plan and its place in the
//! registry. What no longer holds ends with a refusal and settles what was delivered. Changes
//! by other processes count as our own, because the revision lies in the store. So do persons
//! who oppose: what was planned before they did ends, and may be run again at once. What an
//! operator's policies say may change at any moment with the clock alone, so that where there are
//! any each execution is decided on again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use hubflight_rights::dataset::Dataset;
use hubflight_rights::habilitation::Habilitation;
use hubflight_rights::{Denial, Zone};
use hubflight_store::AdminRole;
use tokio::time::MissedTickBehavior;

use super::registry::{Entry, Held};
use crate::access::{Access, Asking};
use crate::auth::standing::Standing;
use crate::catalog::space::{Labels, Rights, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::hub::Hub;
use crate::opposition;

/// How often the revision of rights is read, in milliseconds.
const RIGHTS_READ_EVERY_MS: u64 = 250;
/// How often the operator's policies are asked again, in milliseconds.
const RULES_ASKED_EVERY_MS: i64 = 500;
/// Decisions that are made at once: each is a few reads of the store.
const DECISIONS_RUNNING_MAX: usize = 8;
/// Rights that could not be read for longer count as ended, in milliseconds.
const RIGHTS_UNREAD_MS_MAX: u64 = 10_000;

/// What an execution runs on.
#[derive(Clone, Debug)]
pub struct Grounds {
    pub standing: Standing,
    pub project: String,
    /// Where the caller is.
    pub zone: Zone,
    /// What an administrator sees the hub by; none in a project.
    pub roles: BTreeSet<AdminRole>,
    /// The datasets that it reads, also through the project's space, and under which rights.
    pub labels: Labels,
    /// The released packages that it reads.
    pub exports: BTreeSet<String>,
    /// Who opposed when it was planned, where it reads tables of persons.
    pub era: Option<u64>,
}

/// What [`decide`] reads of an execution's grounds.
type Asked<'a> = (
    &'a Standing,
    &'a str,
    &'a Zone,
    &'a BTreeSet<AdminRole>,
    &'a [Source],
    &'a BTreeSet<String>,
);

impl Grounds {
    /// Takes in what another statement of the same transaction rests on.
    pub fn add(&mut self, other: &Self) {
        self.labels.add(other.labels.sources.iter().cloned());
        self.exports.extend(other.exports.iter().cloned());
        self.era = match (self.era, other.era) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    /// Somebody has opposed since it was planned.
    fn is_behind(&self, era: u64) -> bool {
        self.era.is_some_and(|planned| planned < era)
    }

    fn asked(&self) -> Asked<'_> {
        let sources = self.labels.sources.as_slice();
        (
            &self.standing,
            &self.project,
            &self.zone,
            &self.roles,
            sources,
            &self.exports,
        )
    }

    #[cfg(test)]
    pub(crate) fn of_nobody(person: &str) -> Self {
        Self {
            standing: crate::auth::Principal::stranger(person).standing,
            project: "p".into(),
            zone: Zone::default(),
            roles: BTreeSet::new(),
            labels: Labels::default(),
            exports: BTreeSet::new(),
            era: None,
        }
    }
}

/// Until when the grounds hold, as far as can be told now; an error where they do not.
///
/// # Errors
/// `Unauthenticated` or `PermissionDenied` where they have ended; others where that cannot be
/// told.
pub async fn decide(
    hub: &Hub,
    grounds: &Grounds,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>> {
    let rights = hub.store.rights().await?;
    let admitted = hub.auth.admit(&rights, &grounds.standing, now).await?;
    let project = grounds.project.as_str();
    if !admitted.catalogs().contains(&project) {
        return Err(Error::denied(format!(
            "project `{project}` is not open to you any more"
        )));
    }
    if !grounds.roles.is_subset(&admitted.roles) {
        return Err(Error::denied(
            "a role of yours ended while the statement ran; run it again to see what is open",
        ));
    }
    let mut ends = vec![grounds.standing.expires, admitted.ends(project)];
    if !grounds.labels.sources.is_empty() {
        let who = admitted.asker(grounds.standing.login);
        let asking = Asking {
            who: &who,
            project,
            zone: &grounds.zone,
            at: now,
        };
        let (access, next) = hub.access(&rights, asking).await?;
        let open = access.iter().filter_map(|(_, access)| access.open());
        let open: Vec<Arc<Habilitation>> = open.cloned().collect();
        if let Some(dataset) = Rights::new(&open).ended(&grounds.labels) {
            return Err(ended(&dataset, &access));
        }
        let read = open.iter().filter(|right| {
            let mut sources = grounds.labels.sources.iter();
            sources.any(|source| source.dataset == right.dataset)
        });
        ends.extend(read.map(|right| Some(right.valid_to)));
        ends.push(next);
    }
    if !grounds.exports.is_empty() {
        let open = rights.open_exports(project, now).await?;
        for id in &grounds.exports {
            let export = open.iter().find(|export| export.package.id == *id);
            let export = export.ok_or_else(|| {
                Error::denied(
                    "an export was withdrawn or its time was over while the statement ran; \
                     `hub.exports` lists what is released",
                )
            })?;
            ends.push(Some(export.package.expires_at));
        }
    }
    Ok(ends.into_iter().flatten().min())
}

/// Why an execution ends that reads a dataset: by a rule, which is told, or because a right did.
fn ended(dataset: &str, access: &[(Arc<Dataset>, Access)]) -> Error {
    let mut access = access.iter();
    let access = access.find(|(of, _)| of.name == dataset);
    let why = match access {
        Some((_, Access::Listed(_, denial) | Access::Closed(denial)))
            if matches!(denial, Denial::Rule { .. } | Denial::Undecided { .. }) =>
        {
            denial.to_string()
        }
        _ => "`hub.habilitations` lists what is open".to_owned(),
    };
    Error::denied(format!(
        "the right to read dataset `{dataset}` ended while the statement ran; {why}"
    ))
}

/// Whether an execution may begin that was admitted and planned, both of which may have taken
/// long. It is in the registry by then, so that what is withdrawn from now on ends it.
///
/// # Errors
/// As [`decide`]; `Unavailable` where somebody has opposed since it was planned.
pub async fn confirm(hub: &Hub, grounds: &Grounds) -> Result<()> {
    decide(hub, grounds, Utc::now()).await?;
    match grounds.is_behind(hub.datasets.opposition().era) {
        true => Err(withdrawn()),
        false => Ok(()),
    }
}

/// As [`confirm`], with the revision of rights that it is true at, oppositions too: what changes
/// them later has a higher one.
pub async fn confirmed_at(hub: &Hub, grounds: &Grounds) -> Result<i64> {
    let revision = hub.store.rights_revision().await?;
    opposition::apply(hub, revision).await?;
    confirm(hub, grounds).await?;
    Ok(revision)
}

/// Watches until it is aborted.
pub async fn watch(hub: Arc<Hub>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(RIGHTS_READ_EVERY_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let unread_max = Duration::from_millis(RIGHTS_UNREAD_MS_MAX);
    let mut read = Instant::now();
    let mut seen = None;
    loop {
        ticks.tick().await;
        match tokio::time::timeout(unread_max, look(&hub, &mut seen)).await {
            Ok(Ok(())) => read = Instant::now(),
            Ok(Err(error)) => tracing::warn!(%error, "the revision of rights cannot be read"),
            Err(_) => tracing::warn!("the revision of rights is not read in time"),
        }
        if read.elapsed() >= unread_max {
            for entry in hub.running.all() {
                entry.stop.end(unknown());
            }
        }
    }
}

/// Decides on every execution that is due. `seen` is the revision whose oppositions apply.
async fn look(hub: &Hub, seen: &mut Option<i64>) -> Result<()> {
    // Read before the rights themselves, so that a change in between is seen next time.
    let revision = hub.store.rights_revision().await?;
    if *seen != Some(revision) {
        hub.space_files.forget();
        opposition::apply(hub, revision).await?;
        *seen = Some(revision);
    }
    let era = hub.datasets.opposition().era;
    for entry in hub.running.all() {
        if entry.grounds.is_behind(era) {
            entry.stop.end(withdrawn());
        }
    }
    let now = Utc::now();
    futures::stream::iter(alike(hub.running.due(revision, now)))
        .for_each_concurrent(DECISIONS_RUNNING_MAX, |entries| {
            settle(hub, entries, revision, now)
        })
        .await;
    Ok(())
}

/// The executions that one decision is for, together: however many somebody has, they cost one.
fn alike(entries: Vec<Arc<Entry>>) -> Vec<Vec<Arc<Entry>>> {
    let mut groups: BTreeMap<Asked<'_>, Vec<Arc<Entry>>> = BTreeMap::new();
    for entry in &entries {
        let group = groups.entry(entry.grounds.asked()).or_default();
        group.push(Arc::clone(entry));
    }
    groups.into_values().collect()
}

/// Decides on executions of the same grounds.
async fn settle(hub: &Hub, entries: Vec<Arc<Entry>>, revision: i64, now: DateTime<Utc>) {
    let Some(first) = entries.first() else {
        return;
    };
    let decided = decide(hub, &first.grounds, now).await;
    let again = (!hub.rules.are_the_hubs_alone())
        .then(|| now + TimeDelta::milliseconds(RULES_ASKED_EVERY_MS));
    let decided = decided.map(|until| Held {
        revision,
        until,
        again,
    });
    for entry in &entries {
        apply(entry, &decided, now);
    }
}

fn apply(entry: &Entry, decided: &Result<Held>, now: DateTime<Utc>) {
    match decided {
        Ok(held) => entry.hold(*held),
        Err(error) if is_refusal(error.kind) => {
            tracing::info!(person = %entry.grounds.standing.person, %error, "a statement ends");
            entry.stop.end(error.clone());
        }
        // Where its time has come, or for long, not knowing is no reason to go on.
        Err(error) => {
            let doubt = entry.doubt();
            if entry.is_over(now) || doubt >= Duration::from_millis(RIGHTS_UNREAD_MS_MAX) {
                tracing::warn!(%error, "a statement ends whose rights cannot be told");
                entry.stop.end(unknown());
            }
        }
    }
}

fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unauthenticated | ErrorKind::PermissionDenied
    )
}

fn withdrawn() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "a person was withdrawn from the data while the statement ran, which is not charged; \
         run it again",
    )
}

fn unknown() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the hub cannot tell whether your rights still hold, and serves nothing without; try \
         again later",
    )
}

#[cfg(test)]
mod tests;
