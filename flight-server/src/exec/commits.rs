//! Which comes first: the end of a change from outside, or its commit; what a commit rests on, and
//! whether it is one of its own.
//!
//! ```text
//!  open ──send──▶ under way ──done──▶ open        a commit that is sent is awaited and told
//!    │                │
//!    └──────end───────┴──▶ ended                  no commit is sent any more
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::revocation::Grounds;
use super::transactions::Turn;
use crate::catalog::space::{Labels, Overlay};
use crate::error::{Error, Result};

/// The commits of one change.
#[derive(Debug, Default)]
pub struct Commits {
    state: Mutex<State>,
    /// What each commit rests on; nothing where the hub changes something itself.
    grounds: Option<Arc<Grounds>>,
    /// Where changes are staged instead of committed.
    staging: Mutex<Option<Arc<Turn>>>,
    read: Mutex<Read>,
}

/// What a change has read.
#[derive(Clone, Debug, Default)]
pub struct Read {
    pub labels: Labels,
    /// The released packages.
    pub exports: BTreeSet<String>,
    pub persons: bool,
}

#[derive(Debug, Default)]
struct State {
    under_way: bool,
    /// Why none is sent any more.
    ended: Option<Error>,
}

/// A commit that is sent, until its outcome is known.
#[derive(Debug)]
pub struct Sent<'a>(&'a Commits);

impl Commits {
    /// Of a change that somebody makes.
    pub fn on(grounds: Grounds) -> Self {
        Self {
            grounds: Some(Arc::new(grounds)),
            ..Self::default()
        }
    }

    pub fn grounds(&self) -> Option<Arc<Grounds>> {
        self.grounds.clone()
    }

    /// From now on changes are staged there, or committed where there is nothing; gives where they
    /// were staged.
    pub fn stage_in(&self, turn: Option<Arc<Turn>>) -> Option<Arc<Turn>> {
        std::mem::replace(&mut *self.staging.lock(), turn)
    }

    pub fn staging(&self) -> Option<Arc<Turn>> {
        self.staging.lock().clone()
    }

    /// The change reads more.
    pub fn reads(&self, more: Read) {
        let mut read = self.read.lock();
        read.labels.add(more.labels.sources);
        read.exports.extend(more.exports);
        read.persons |= more.persons;
    }

    /// What the change rests on by what it has read: its transaction may last, and rights that it has
    /// nothing to do with end meanwhile.
    pub fn rests_on(&self) -> Option<Grounds> {
        let grounds = Grounds::clone(self.grounds.as_ref()?);
        let read = self.read.lock().clone();
        Some(Grounds {
            labels: read.labels,
            exports: read.exports,
            era: grounds.era.filter(|_| read.persons),
            ..grounds
        })
    }

    /// What statements of the same transaction have written before.
    pub fn overlay(&self) -> Option<Arc<Overlay>> {
        self.staging()?.overlay()
    }

    /// Refuses to go on where the change has ended.
    pub fn check(&self) -> Result<()> {
        match &self.state.lock().ended {
            Some(why) => Err(why.clone()),
            None => Ok(()),
        }
    }

    /// Begins a commit. Refused where the change has ended: then nothing happens.
    pub fn send(&self) -> Result<Sent<'_>> {
        let mut state = self.state.lock();
        if let Some(why) = &state.ended {
            return Err(why.clone());
        }
        state.under_way = true;
        Ok(Sent(self))
    }

    /// No commit is sent from now on. True where one is under way: what becomes of it is what
    /// the change is told.
    pub fn end(&self, why: Error) -> bool {
        let mut state = self.state.lock();
        state.ended.get_or_insert(why);
        state.under_way
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.0.state.lock().under_way = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_comes_before_the_end_or_not_at_all() {
        let commits = Commits::default();
        drop(commits.send().expect("open"));
        let sent = commits.send().expect("open");
        assert!(commits.end(Error::denied("first")), "one is under way");
        drop(sent);
        assert!(!commits.end(Error::denied("second")));
        for refused in [commits.check(), commits.send().map(drop)] {
            assert_eq!(refused.expect_err("ended").to_string(), "first");
        }
    }
}
