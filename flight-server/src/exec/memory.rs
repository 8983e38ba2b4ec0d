//! Memory of one query inside the server's: shared fairly between its spilling operators.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::error::Result;
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

/// Bounded twice: by the query's own limit and by what is left of the server's.
#[derive(Debug)]
pub struct QueryPool {
    own: FairSpillPool,
    limit: usize,
    server: Arc<dyn MemoryPool>,
    /// The server's pool refused what the query's own limit allowed.
    crowded_out: AtomicBool,
}

impl QueryPool {
    pub fn new(limit: usize, server: Arc<dyn MemoryPool>) -> Self {
        Self {
            own: FairSpillPool::new(limit),
            limit,
            server,
            crowded_out: AtomicBool::new(false),
        }
    }

    /// True once other queries held memory that this one may have.
    pub fn was_crowded_out(&self) -> bool {
        self.crowded_out.load(Ordering::Relaxed)
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query({})", self.limit)
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
        self.server.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
        self.server.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.server.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.server.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.own.try_grow(reservation, additional)?;
        self.server
            .try_grow(reservation, additional)
            .inspect_err(|_| {
                self.own.shrink(reservation, additional);
                self.crowded_out.store(true, Ordering::Relaxed);
            })
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    #[test]
    fn a_query_is_bounded_by_itself_and_by_the_server() {
        let server: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let pools = [80, 80].map(|limit| Arc::new(QueryPool::new(limit, Arc::clone(&server))));
        let [one, two] = pools.clone().map(|pool| pool as Arc<dyn MemoryPool>);
        let first = MemoryConsumer::new("a").register(&one);
        let second = MemoryConsumer::new("b").register(&two);
        assert!(first.try_grow(81).is_err());
        first.try_grow(80).expect("within its own limit");
        assert!(!pools[0].was_crowded_out(), "its own limit");
        assert!(second.try_grow(21).is_err());
        assert!(pools[1].was_crowded_out());
        assert_eq!(two.reserved(), 0, "what the server refused is given back");
        second.try_grow(20).expect("what is left");
        drop(first);
        second.try_grow(60).expect("given back");
        drop(second);
        assert_eq!(server.reserved(), 0);
    }
}
