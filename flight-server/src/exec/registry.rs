//! The executions that run now, so that they can be cancelled.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Running executions by statement.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    running: Arc<Mutex<HashMap<Uuid, HashMap<u64, CancellationToken>>>>,
}

/// An execution's place in the registry; it leaves when dropped.
#[derive(Debug)]
pub struct Registered {
    registry: Registry,
    statement_id: Uuid,
    key: u64,
}

impl Registry {
    pub fn enter(&self, statement_id: Uuid, stop: CancellationToken) -> Registered {
        let mut running = self.running.lock();
        let executions = running.entry(statement_id).or_default();
        let key = (0..).find(|key| !executions.contains_key(key)).unwrap_or(0);
        executions.insert(key, stop);
        Registered {
            registry: self.clone(),
            statement_id,
            key,
        }
    }

    /// Stops every execution of a statement; false when none runs.
    pub fn cancel(&self, statement_id: Uuid) -> bool {
        let running = self.running.lock();
        let executions = running.get(&statement_id);
        executions
            .into_iter()
            .flat_map(HashMap::values)
            .map(CancellationToken::cancel)
            .count()
            > 0
    }

    /// Stops every execution.
    pub fn cancel_all(&self) {
        for executions in self.running.lock().values() {
            executions.values().for_each(CancellationToken::cancel);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.running.lock().is_empty()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut running = self.registry.running.lock();
        if let Some(executions) = running.get_mut(&self.statement_id) {
            executions.remove(&self.key);
            if executions.is_empty() {
                running.remove(&self.statement_id);
            }
        }
    }
}
