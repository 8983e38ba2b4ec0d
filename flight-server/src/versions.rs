//! The stored versions of habilitations, and where each of them stands.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use hubflight_rights::Granted;
use hubflight_rights::habilitation::Habilitation;
use hubflight_store::HabilitationRow;
use parking_lot::Mutex;

use crate::error::{Error, Result};

/// State of a version that nobody has confirmed yet.
pub const WAITING: &str = "waits for confirmation";
/// State of a version whose confirmation does not count any more.
pub const UNCONFIRMED: &str = "who confirmed it is a member: waits for another";

/// State of a version that governs.
pub const IN_FORCE: &str = "in force";

/// A version with its body read.
#[derive(Clone, Debug)]
pub struct Version {
    pub row: HabilitationRow,
    pub body: Arc<Habilitation>,
}

impl Version {
    pub fn read(row: HabilitationRow) -> Result<Self> {
        let body = serde_json::from_str(&row.body)
            .map_err(|error| Error::internal("a habilitation cannot be read", &error))?;
        Ok(Self {
            row,
            body: Arc::new(body),
        })
    }

    /// For a decision at `now`. What is revoked is so at every instant that anybody may still
    /// ask about: the clock of whoever revoked it may be ahead, and a call decides as of its
    /// own begin.
    pub fn granted(&self, now: DateTime<Utc>) -> Granted {
        Granted {
            habilitation: Arc::clone(&self.body),
            revoked_at: self.row.revoked_at.map(|at| at.min(now)),
            is_confirmed: !self.row.is_pending() && !self.row.confirmer_is_member,
        }
    }

    /// It has begun and was decided on, so that no earlier version of its habilitation counts.
    fn has_begun(&self, now: DateTime<Utc>) -> bool {
        let from = self.body.valid_from;
        let is_void = self.row.revoked_at.is_some_and(|revoked| revoked <= from);
        !self.row.is_pending() && from <= now && !is_void
    }

    fn state(&self, now: DateTime<Utc>, is_replaced: bool) -> &'static str {
        if self.row.revoked_at.is_some() {
            "revoked"
        } else if self.row.is_pending() {
            WAITING
        } else if self.body.valid_to <= now {
            "ended"
        } else if is_replaced {
            "replaced"
        } else if self.row.confirmer_is_member {
            UNCONFIRMED
        } else if self.body.valid_from > now {
            "not yet"
        } else {
            IN_FORCE
        }
    }
}

/// Projects whose versions are kept read.
const PROJECTS_MAX: usize = 4_096;

/// The versions of each project as they were last read, for as long as the store's list of them
/// is the same one.
#[derive(Debug, Default)]
pub struct ReadVersions(Mutex<HashMap<String, Read>>);

type Rows = Arc<[HabilitationRow]>;
/// A project's list, and what it says.
type Read = (Rows, Arc<[Version]>);

impl ReadVersions {
    /// # Errors
    /// `Internal` where a body is none.
    pub fn read(&self, project: &str, rows: Rows) -> Result<Arc<[Version]>> {
        if let Some((of, versions)) = self.0.lock().get(project)
            && Arc::ptr_eq(of, &rows)
        {
            return Ok(Arc::clone(versions));
        }
        let read = rows.iter().cloned().map(Version::read);
        let versions = read.collect::<Result<Arc<[Version]>>>()?;
        let mut kept = self.0.lock();
        if kept.len() >= PROJECTS_MAX {
            kept.clear();
        }
        kept.insert(project.to_owned(), (rows, Arc::clone(&versions)));
        Ok(versions)
    }
}

/// Where each version stands at `now`, in the words of the lists; `versions` are all of their
/// habilitations, but for those that wait for confirmation.
pub fn states(versions: &[Version], now: DateTime<Utc>) -> Vec<&'static str> {
    let mut governing: BTreeMap<&str, u32> = BTreeMap::new();
    for version in versions.iter().filter(|version| version.has_begun(now)) {
        let newest = governing.entry(version.row.id.as_str()).or_default();
        *newest = version.row.version.max(*newest);
    }
    let state = |version: &Version| {
        let newest = governing.get(version.row.id.as_str());
        let is_replaced = newest.is_some_and(|newest| version.row.version < *newest);
        version.state(now, is_replaced)
    };
    versions.iter().map(state).collect()
}
