//! Running authorised queries: a CPU runtime apart from IO, bounded permits and memory.

pub mod frames;
pub mod memory;
pub mod meter;
pub mod registry;
pub mod run;

use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::SessionConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{Config, Limits};
use crate::error::{Error, Result};
use memory::QueryPool;

/// Where queries run, and what they may use.
pub struct Engine {
    template: SessionState,
    environment: Arc<RuntimeEnv>,
    memory: Arc<dyn MemoryPool>,
    cpu: CpuRuntime,
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    limits: Limits,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// Memory that parsed footers and statistics of files may hold.
const METADATA_CACHE_BYTES_MAX: usize = 64 << 20;
/// Rows of a batch: what clients like, and what vectorised operators need.
const BATCH_ROWS: usize = 8192;

impl Engine {
    pub fn new(config: &Config) -> Result<Self> {
        let limits = config.limits.clone();
        let memory: Arc<dyn MemoryPool> =
            Arc::new(GreedyMemoryPool::new(limits.memory_mb_max << 20));
        let spill = config.server.state.join("spill");
        std::fs::create_dir_all(&spill).map_err(|error| {
            Error::invalid(format!("cannot make `{}`: {error}", spill.display()))
        })?;
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::clone(&memory))
            .with_disk_manager_builder(
                DiskManagerBuilder::default()
                    .with_mode(DiskManagerMode::Directories(vec![spill]))
                    .with_max_temp_directory_size(limits.spill_mb_max << 20),
            )
            .with_metadata_cache_limit(METADATA_CACHE_BYTES_MAX)
            .build_arc()?;
        let builder = SessionStateBuilder::new()
            .with_default_features()
            .with_config(session_config())
            .with_runtime_env(Arc::clone(&environment));
        let options = hubflight_udfs::Options {
            echo: config.workers.echo,
        };
        let template = hubflight_udfs::register(builder, &options).build();
        let waiting = limits.queries_running_max + limits.queries_waiting_max;
        Ok(Self {
            template,
            environment,
            memory,
            cpu: CpuRuntime::new()?,
            running: Arc::new(Semaphore::new(limits.queries_running_max)),
            admitted: Arc::new(Semaphore::new(waiting)),
            limits,
        })
    }

    /// A session that has functions and rules but no catalog.
    pub fn template(&self) -> &SessionState {
        &self.template
    }

    pub fn cpu(&self) -> &tokio::runtime::Handle {
        &self.cpu.handle
    }

    pub fn memory_reserved(&self) -> usize {
        self.memory.reserved()
    }

    pub fn queries_running(&self) -> usize {
        self.limits.queries_running_max - self.running.available_permits()
    }

    /// Queries that were admitted and wait for a place to run.
    pub fn queries_waiting(&self) -> usize {
        let places = self.limits.queries_running_max + self.limits.queries_waiting_max;
        let admitted = places.saturating_sub(self.admitted.available_permits());
        admitted.saturating_sub(self.queries_running())
    }

    /// The shared files, caches and spill folder, with a memory pool for one query.
    pub fn query_environment(&self) -> Arc<RuntimeEnv> {
        let pool = QueryPool::new(
            self.limits.query_memory_mb_max << 20,
            Arc::clone(&self.memory),
        );
        Arc::new(RuntimeEnv {
            memory_pool: Arc::new(pool),
            disk_manager: Arc::clone(&self.environment.disk_manager),
            cache_manager: Arc::clone(&self.environment.cache_manager),
            object_store_registry: Arc::clone(&self.environment.object_store_registry),
        })
    }

    /// Waits for a place to run, a bounded time in a bounded queue.
    pub async fn admit(&self) -> Result<Permit> {
        let Ok(place) = Arc::clone(&self.admitted).try_acquire_owned() else {
            return Err(Error::exhausted(format!(
                "{} queries wait already; try again in a moment",
                self.limits.queries_waiting_max
            )));
        };
        let wait = Duration::from_millis(self.limits.queue_wait_ms_max);
        match tokio::time::timeout(wait, Arc::clone(&self.running).acquire_owned()).await {
            Ok(Ok(running)) => Ok(Permit {
                _running: running,
                _place: place,
            }),
            _ => Err(Error::exhausted(format!(
                "the hub is busy: no place to run came free within {} ms; try again later",
                self.limits.queue_wait_ms_max
            ))),
        }
    }
}

/// A place among the running queries; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    _running: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

fn session_config() -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_batch_size(BATCH_ROWS)
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false);
    let options = config.options_mut();
    options.sql_parser.collect_spans = true;
    config
}

/// A tokio runtime for computing: a long expression there never delays the network.
struct CpuRuntime {
    handle: tokio::runtime::Handle,
    runtime: Option<tokio::runtime::Runtime>,
}

impl CpuRuntime {
    fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("hubflight-cpu")
            .enable_all()
            .build()
            .map_err(|error| Error::internal("the CPU runtime cannot start", &error))?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }
}

impl Drop for CpuRuntime {
    fn drop(&mut self) {
        // A runtime may not block inside another one's task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
