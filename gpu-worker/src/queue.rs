//! What waits for a thread: a plain data structure, the clock passed in.
//!
//! Higher priorities come first. Within one, each tenant has a first-in-first-out line, and the
//! lines take turns, so that a tenant with a million batches delays another by one part of a
//! batch. Batches whose stream cannot take an answer now are passed over until it can.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// Bounds of what waits. Whoever would exceed them waits outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueLimits {
    pub(crate) rows_max: usize,
    pub(crate) bytes_max: usize,
    /// Share of both that one tenant may fill, as a divisor: 4 is a quarter.
    pub(crate) tenant_share: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            rows_max: 4 << 20,
            bytes_max: 1 << 30,
            tenant_share: 4,
        }
    }
}

/// One batch that waits, `T` being what to do with it.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    /// The stream that it came on.
    pub(crate) stream: u64,
    pub(crate) tenant: Arc<str>,
    pub(crate) priority: u8,
    /// Milliseconds since 1970 after which it is not worth doing.
    pub(crate) deadline: u64,
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    pub(crate) work: T,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    limits: QueueLimits,
    /// Lowest priority first; empty ones are removed.
    levels: BTreeMap<u8, Level<T>>,
    total: Load,
    by_tenant: HashMap<Arc<str>, Load>,
}

/// The lines of one priority, in the order of their turns.
#[derive(Debug)]
struct Level<T> {
    lines: VecDeque<VecDeque<Waiting<T>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) batches: usize,
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

impl Load {
    fn add<T>(&mut self, waiting: &Waiting<T>) {
        self.batches += 1;
        self.rows += waiting.rows;
        self.bytes += waiting.bytes;
    }

    fn remove<T>(&mut self, waiting: &Waiting<T>) {
        self.batches -= 1;
        self.rows -= waiting.rows;
        self.bytes -= waiting.bytes;
    }

    /// True where a batch may be added without exceeding the limits. The first always may:
    /// however large, it has to be done.
    fn has_room(&self, rows: usize, bytes: usize, rows_max: usize, bytes_max: usize) -> bool {
        self.batches == 0
            || (self.rows.saturating_add(rows) <= rows_max
                && self.bytes.saturating_add(bytes) <= bytes_max)
    }
}

/// What [`Queue::pop`] took out.
#[derive(Debug)]
pub(crate) struct Popped<T> {
    /// The batch to do now.
    pub(crate) next: Option<Waiting<T>>,
    /// Batches whose deadline passed while they waited.
    pub(crate) expired: Vec<Waiting<T>>,
}

impl<T> Queue<T> {
    pub(crate) fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            levels: BTreeMap::new(),
            total: Load::default(),
            by_tenant: HashMap::new(),
        }
    }

    /// What waits now.
    pub(crate) fn load(&self) -> Load {
        self.total
    }

    /// True where a batch of that size may join the queue. The first batch of a tenant always
    /// may, so that tenants who fill the queue between them cannot keep another out.
    pub(crate) fn has_room(&self, tenant: &str, rows: usize, bytes: usize) -> bool {
        let QueueLimits {
            rows_max,
            bytes_max,
            tenant_share,
        } = self.limits;
        let own = self.by_tenant.get(tenant).copied().unwrap_or_default();
        let (own_rows_max, own_bytes_max) = (rows_max / tenant_share, bytes_max / tenant_share);
        own.batches == 0
            || (self.total.has_room(rows, bytes, rows_max, bytes_max)
                && own.has_room(rows, bytes, own_rows_max, own_bytes_max))
    }

    /// Puts a batch at the end of its tenant's line.
    pub(crate) fn push(&mut self, waiting: Waiting<T>) {
        match self.count(&waiting) {
            Some(line) => line.push_back(waiting),
            None => self.begin_line(waiting),
        }
    }

    /// Puts the rest of a batch back, before what its tenant sent later.
    pub(crate) fn push_rest(&mut self, waiting: Waiting<T>) {
        match self.count(&waiting) {
            Some(line) => line.push_front(waiting),
            None => self.begin_line(waiting),
        }
    }

    /// Counts a batch that joins, and finds its tenant's line.
    fn count(&mut self, waiting: &Waiting<T>) -> Option<&mut VecDeque<Waiting<T>>> {
        self.total.add(waiting);
        let own = self.by_tenant.entry(Arc::clone(&waiting.tenant));
        own.or_default().add(waiting);
        let lines = &mut self.levels.get_mut(&waiting.priority)?.lines;
        lines.iter_mut().find(|line| {
            line.front()
                .is_some_and(|first| first.tenant == waiting.tenant)
        })
    }

    fn begin_line(&mut self, waiting: Waiting<T>) {
        let level = self.levels.entry(waiting.priority).or_insert(Level {
            lines: VecDeque::new(),
        });
        level.lines.push_back(VecDeque::from([waiting]));
    }

    /// Takes the next batch that is `ready`, at `now` (milliseconds since 1970). No batch is
    /// asked for after one that is.
    pub(crate) fn pop(&mut self, now: u64, mut ready: impl FnMut(&T) -> bool) -> Popped<T> {
        let mut expired = Vec::new();
        let mut wanted = |w: &Waiting<T>| w.deadline <= now || ready(&w.work);
        while let Some(waiting) = self.take_first(&mut wanted) {
            if waiting.deadline > now {
                return Popped {
                    next: Some(waiting),
                    expired,
                };
            }
            expired.push(waiting);
        }
        Popped {
            next: None,
            expired,
        }
    }

    fn take_first(&mut self, wanted: &mut impl FnMut(&Waiting<T>) -> bool) -> Option<Waiting<T>> {
        for level in self.levels.values_mut().rev() {
            let found = level.lines.iter().enumerate().find_map(|(turn, line)| {
                let place = line.iter().position(&mut *wanted)?;
                Some((turn, place))
            });
            let Some((turn, place)) = found else {
                continue;
            };
            let mut line = level.lines.remove(turn)?;
            let first = line.remove(place)?;
            if !line.is_empty() {
                level.lines.push_back(line);
            }
            self.levels.retain(|_, level| !level.lines.is_empty());
            self.forget(&first);
            return Some(first);
        }
        None
    }

    /// Takes out everything that came on `stream`.
    pub(crate) fn remove_stream(&mut self, stream: u64) -> Vec<Waiting<T>> {
        let mut removed = Vec::new();
        for level in self.levels.values_mut() {
            for line in &mut level.lines {
                let all = std::mem::take(line);
                let (gone, kept) = all
                    .into_iter()
                    .partition(|w: &Waiting<T>| w.stream == stream);
                *line = kept;
                let gone: VecDeque<Waiting<T>> = gone;
                removed.extend(gone);
            }
            level.lines.retain(|line| !line.is_empty());
        }
        self.levels.retain(|_, level| !level.lines.is_empty());
        for waiting in &removed {
            self.forget(waiting);
        }
        removed
    }

    fn forget(&mut self, waiting: &Waiting<T>) {
        self.total.remove(waiting);
        if let Some(own) = self.by_tenant.get_mut(&waiting.tenant) {
            own.remove(waiting);
            if own.batches == 0 {
                self.by_tenant.remove(&waiting.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(work: u32, tenant: &str, priority: u8, stream: u64) -> Waiting<u32> {
        Waiting {
            stream,
            tenant: tenant.into(),
            priority,
            deadline: 1_000,
            rows: 10,
            bytes: 100,
            work,
        }
    }

    fn drain(queue: &mut Queue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop(0, |_| true).next.map(|waiting| waiting.work)).collect()
    }

    #[test]
    fn tenants_take_turns() {
        let mut queue = Queue::new(QueueLimits::default());
        for work in 0..4 {
            queue.push(waiting(work, "greedy", 0, 1));
        }
        queue.push(waiting(10, "modest", 0, 2));
        queue.push(waiting(11, "modest", 0, 2));
        assert_eq!(drain(&mut queue), [0, 10, 1, 11, 2, 3]);
        assert_eq!(queue.load(), Load::default());
    }

    #[test]
    fn urgent_comes_first() {
        let mut queue = Queue::new(QueueLimits::default());
        queue.push(waiting(1, "a", 0, 1));
        queue.push(waiting(2, "a", 9, 1));
        queue.push(waiting(3, "b", 5, 2));
        assert_eq!(drain(&mut queue), [2, 3, 1]);
    }

    #[test]
    fn expired_work_is_not_done() {
        let mut queue = Queue::new(QueueLimits::default());
        queue.push(waiting(1, "a", 0, 1));
        queue.push(Waiting {
            deadline: 2_000,
            ..waiting(2, "a", 0, 1)
        });
        let popped = queue.pop(1_500, |_| true);
        assert_eq!(popped.next.map(|w| w.work), Some(2));
        let expired: Vec<u32> = popped.expired.iter().map(|w| w.work).collect();
        assert_eq!(expired, [1]);
        assert_eq!(queue.load().batches, 0);
    }

    #[test]
    fn a_stream_that_went_away_leaves_nothing() {
        let mut queue = Queue::new(QueueLimits::default());
        queue.push(waiting(1, "a", 0, 1));
        queue.push(waiting(2, "a", 0, 2));
        queue.push(waiting(3, "a", 3, 1));
        assert_eq!(queue.remove_stream(1).len(), 2);
        assert_eq!(queue.load().batches, 1);
        assert_eq!(drain(&mut queue), [2]);
        assert!(queue.by_tenant.is_empty() && queue.levels.is_empty());
    }

    #[test]
    fn bounds_hold_for_all_and_for_each() {
        let limits = QueueLimits {
            rows_max: 100,
            bytes_max: 1_000,
            tenant_share: 4,
        };
        let mut queue = Queue::new(limits);
        assert!(
            queue.has_room("a", 1_000_000, usize::MAX),
            "the first always fits"
        );
        for work in 0..2 {
            assert!(queue.has_room("a", 10, 100));
            queue.push(waiting(work, "a", 0, 1));
        }
        assert!(!queue.has_room("a", 10, 100), "a quarter is 25 rows");
        for (index, tenant) in ["b", "c", "d", "e"].into_iter().enumerate() {
            for _ in 0..2 {
                assert!(queue.has_room(tenant, 10, 100), "{index}");
                queue.push(waiting(9, tenant, 0, 2));
            }
        }
        assert_eq!(queue.load().rows, 100);
        assert!(
            !queue.has_room("b", 1, 1),
            "full for all who have a batch in it"
        );
        assert!(queue.has_room("f", 10, 100), "nobody is kept out");
        queue.push(waiting(9, "f", 0, 2));
        assert!(!queue.has_room("f", 1, 1));
    }

    /// Whoever cannot take answers keeps its place and holds nobody up, its tenant included.
    #[test]
    fn what_is_not_ready_is_passed_over() {
        let mut queue = Queue::new(QueueLimits::default());
        queue.push(waiting(1, "a", 5, 1));
        queue.push(waiting(2, "a", 5, 2));
        queue.push(waiting(3, "b", 0, 3));
        let mut take = |blocked: &[u32]| {
            let popped = queue.pop(0, |work| !blocked.contains(work));
            popped.next.map(|waiting| waiting.work)
        };
        assert_eq!(take(&[1]), Some(2));
        assert_eq!(take(&[1]), Some(3), "a lower priority, but ready");
        assert_eq!(take(&[1]), None);
        assert_eq!(take(&[]), Some(1));
        assert_eq!(queue.load(), Load::default());
        assert!(queue.by_tenant.is_empty() && queue.levels.is_empty());
        queue.push(waiting(4, "a", 0, 1));
        let late = queue.pop(1_000, |_| false);
        assert_eq!(late.expired.len(), 1, "whether ready or not");
    }

    #[test]
    fn the_rest_of_a_batch_is_first_of_its_tenant() {
        let mut queue = Queue::new(QueueLimits::default());
        queue.push(waiting(1, "a", 0, 1));
        queue.push(waiting(2, "a", 0, 1));
        queue.push(waiting(3, "b", 0, 2));
        let first = queue.pop(0, |_| true).next;
        assert_eq!(first.as_ref().map(|w| w.work), Some(1));
        first.into_iter().for_each(|rest| queue.push_rest(rest));
        assert_eq!(drain(&mut queue), [3, 1, 2], "but not before another's");
    }
}
