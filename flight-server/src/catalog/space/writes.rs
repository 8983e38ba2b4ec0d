//! Bytes that statements are writing into spaces and that no commit has counted yet, so that
//! statements which run at the same time do not fill the disk beyond a project's quota together.
//!
//! This is one server's view. Where several share a database, what is committed never exceeds
//! the quota either, since the store checks it; only unfinished files may, of each server.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

/// Of each project that has written since the start.
#[derive(Debug, Default)]
pub struct Writes(Mutex<HashMap<String, Totals>>);

#[derive(Debug, Default)]
struct Totals {
    /// Not committed.
    open: u64,
    /// Committed since the start.
    committed: u64,
}

/// The part of one statement. It ends when the last clone is dropped.
#[derive(Debug)]
pub struct Share {
    writes: Arc<Writes>,
    project: String,
    bytes: AtomicU64,
    /// What was committed when the statement asked how much room there is.
    committed_before: u64,
    is_committed: AtomicBool,
}

impl Writes {
    /// Begins a part. It must be taken before the room is read from the store: what others commit
    /// in between counts twice then, not never.
    pub fn share(self: &Arc<Self>, project: &str) -> Share {
        let mut projects = self.0.lock();
        let totals = projects.entry(project.to_owned()).or_default();
        Share {
            writes: Arc::clone(self),
            project: project.to_owned(),
            bytes: AtomicU64::new(0),
            committed_before: totals.committed,
            is_committed: AtomicBool::new(false),
        }
    }
}

impl Share {
    /// Sets what the statement has written to `bytes`, if that fits with what others have
    /// written since it began.
    ///
    /// # Errors
    /// The bytes that it may have written in all, where that is less.
    pub fn hold(&self, bytes: u64, bytes_max: u64) -> Result<(), u64> {
        let mut projects = self.writes.0.lock();
        let totals = projects.entry(self.project.clone()).or_default();
        let own = self.bytes.load(Ordering::Relaxed);
        let others = totals.open.saturating_sub(own);
        let since = totals.committed.saturating_sub(self.committed_before);
        let left = bytes_max.saturating_sub(others.saturating_add(since));
        if bytes > left {
            return Err(left);
        }
        totals.open = others.saturating_add(bytes);
        self.bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The store counts the files from now on, or may.
    pub fn committed(&self) {
        self.is_committed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut projects = self.writes.0.lock();
        let Some(totals) = projects.get_mut(&self.project) else {
            return;
        };
        let bytes = *self.bytes.get_mut();
        totals.open = totals.open.saturating_sub(bytes);
        if *self.is_committed.get_mut() {
            totals.committed = totals.committed.saturating_add(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_of_one_project_share_its_room() {
        let writes = Arc::new(Writes::default());
        let [one, two] = [(); 2].map(|()| writes.share("p"));
        one.hold(60, 100).expect("fits");
        assert_eq!(two.hold(41, 100), Err(40));
        two.hold(40, 100).expect("fits beside the other");
        assert_eq!(one.hold(61, 100), Err(60), "of what is left it has 60");
        writes.share("q").hold(100, 100).expect("another project");
        drop(one);
        two.hold(100, 100).expect("the other has failed");
        two.hold(10, 100).expect("less is always fine");
        writes
            .share("p")
            .hold(90, 100)
            .expect("what was given back");
    }

    #[test]
    fn what_others_commit_counts_for_who_began_before() {
        let writes = Arc::new(Writes::default());
        let [early, other] = [(); 2].map(|()| writes.share("p"));
        other.hold(70, 100).expect("fits");
        other.committed();
        drop(other);
        assert_eq!(early.hold(31, 100), Err(30));
        // Who begins now has read a room that is smaller by it.
        writes.share("p").hold(30, 30).expect("fits");
    }

    #[test]
    fn many_at_once_never_exceed_the_room() {
        let writes = Arc::new(Writes::default());
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let writes = Arc::clone(&writes);
                std::thread::spawn(move || {
                    let share = writes.share("p");
                    let mut held = 0;
                    while share.hold(held + 1, 1_000).is_ok() {
                        held += 1;
                    }
                    (held, share)
                })
            })
            .collect();
        let parts = threads
            .into_iter()
            .map(|thread| thread.join().expect("ends"));
        let parts: Vec<_> = parts.collect();
        assert_eq!(parts.iter().map(|(held, _)| held).sum::<u64>(), 1_000);
    }
}
