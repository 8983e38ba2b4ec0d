//! Running authorised queries: a CPU runtime apart from IO, bounded permits and memory.

mod added;
pub mod admission;
pub mod bounded;
pub mod change;
pub mod commits;
pub mod dealt;
pub mod ended;
pub mod frames;
pub mod functions;
mod kept;
pub mod memory;
pub mod meter;
pub mod registry;
pub mod revocation;
pub mod run;
mod spill;
mod spilled;
mod steps;
mod stream;
pub mod transactions;
pub mod watched;
pub mod withdrawn;

use std::sync::Arc;
use std::time::Instant;

use datafusion::execution::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::SessionConfig;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::catalog::visible::Measuring;
use crate::config::{Config, Limits};
use crate::error::{Error, Result};
use crate::plan::casts::HideCasts;
use crate::plan::{distinct, mended};
use admission::{
    CALLS_PER_PERSON_MAX, CallPlace, Full, Gate, GateLimits, PLANNING_MAX, PLANNING_PER_PERSON_MAX,
    Permit, Persons, Rates,
};
use memory::QueryPool;
use spill::SpillFolder;
use spilled::SpillFiles;

/// Where queries run, and what they may use.
pub struct Engine {
    template: SessionState,
    environment: Arc<RuntimeEnv>,
    memory: Arc<dyn MemoryPool>,
    cpu: CpuRuntime,
    /// What each person has under way.
    calls: Persons,
    rates: Rates,
    planning: Gate,
    running: Gate,
    measuring: Measuring,
    workers_asked: WorkersAsked,
    _spill: SpillFolder,
    limits: Limits,
}

/// When the workers were last asked how they are; who asks holds it.
pub type WorkersAsked = tokio::sync::Mutex<Option<Instant>>;

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// Memory that parsed footers and statistics of files may hold.
const METADATA_CACHE_BYTES_MAX: usize = 64 << 20;
/// Rows of a batch: what clients like, and what vectorised operators need.
pub const BATCH_ROWS: usize = 8192;

impl Engine {
    pub fn new(config: &Config) -> Result<Self> {
        let limits = config.limits.clone();
        let memory: Arc<dyn MemoryPool> =
            Arc::new(GreedyMemoryPool::new(limits.memory_mb_max << 20));
        let spill = config.server.state.join("spill");
        let folder = SpillFolder::open(&spill).map_err(|error| {
            Error::invalid(format!("cannot spill to `{}`: {error}", spill.display()))
        })?;
        let files = SpillFiles::new(folder.path().to_owned(), limits.spill_mb_max << 20);
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::clone(&memory))
            .with_disk_manager_builder(
                DiskManagerBuilder::default().with_mode(DiskManagerMode::Custom(Arc::new(files))),
            )
            .with_metadata_cache_limit(METADATA_CACHE_BYTES_MAX)
            .build_arc()?;
        let builder = functions::with_permitted_functions(SessionStateBuilder::new())
            .with_config(session_config())
            .with_optimizer_rules(distinct::rules())
            .with_physical_optimizer_rules(mended::rules())
            .with_runtime_env(Arc::clone(&environment));
        let options = hubflight_udfs::Options {
            echo: config.workers.echo,
        };
        let template = hubflight_udfs::register(builder, &options)
            .with_optimizer_rule(Arc::new(HideCasts))
            .build();
        let running = GateLimits {
            running_max: limits.queries_running_max,
            per_person_max: limits.queries_per_person_max,
            waiting_max: limits.queries_waiting_max,
            wait_ms_max: limits.queue_wait_ms_max,
        };
        let planning = GateLimits {
            running_max: PLANNING_MAX,
            per_person_max: PLANNING_PER_PERSON_MAX,
            ..running
        };
        Ok(Self {
            template,
            environment,
            memory,
            cpu: CpuRuntime::new(limits.queries_running_max)?,
            calls: Persons::default(),
            rates: Rates::new(limits.calls_per_minute_max),
            planning: Gate::new(planning),
            running: Gate::new(running),
            measuring: Measuring::default(),
            workers_asked: WorkersAsked::default(),
            _spill: folder,
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

    /// The columns whose size is measured now.
    pub fn measuring(&self) -> &Measuring {
        &self.measuring
    }

    pub fn workers_asked(&self) -> &WorkersAsked {
        &self.workers_asked
    }

    pub fn memory_reserved(&self) -> usize {
        self.memory.reserved()
    }

    pub fn queries_running(&self) -> usize {
        self.running.running()
    }

    /// Queries that were admitted and wait for a place to run.
    pub fn queries_waiting(&self) -> usize {
        self.running.waiting()
    }

    /// The shared files, caches and spill folder, with a memory pool for one query.
    pub fn query_environment(&self) -> (Arc<RuntimeEnv>, Arc<QueryPool>) {
        let limit = self.limits.query_memory_mb_max << 20;
        let pool = Arc::new(QueryPool::new(limit, Arc::clone(&self.memory)));
        let environment = RuntimeEnv {
            memory_pool: Arc::clone(&pool) as _,
            disk_manager: Arc::clone(&self.environment.disk_manager),
            cache_manager: Arc::clone(&self.environment.cache_manager),
            object_store_registry: Arc::clone(&self.environment.object_store_registry),
        };
        (Arc::new(environment), pool)
    }

    /// A place among the person's calls, at once or not at all: whatever waits after that is
    /// bounded in number.
    pub fn call(&self, person: &str) -> Result<CallPlace> {
        self.rates.take(person, Instant::now()).map_err(|wait| {
            Error::exhausted(format!(
                "you called more than {} times within a minute; try again in {} ms",
                self.limits.calls_per_minute_max,
                wait.as_millis().max(1)
            ))
        })?;
        let own = self.calls.places(person, CALLS_PER_PERSON_MAX);
        let place = own.try_acquire_owned().map_err(|_| {
            Error::exhausted(format!(
                "{CALLS_PER_PERSON_MAX} of your calls are under way already; read or close what \
                 they gave you, and try again"
            ))
        })?;
        Ok(CallPlace::new(place))
    }

    /// Waits for a place to run.
    pub async fn admit(&self, person: &str) -> Result<Permit> {
        let limits = self.running.limits;
        self.running.enter(person).await.map_err(|full| {
            Error::exhausted(match full {
                Full::Own => format!(
                    "{} of your queries run already; fetch their results or cancel them",
                    limits.per_person_max
                ),
                Full::Queue => format!(
                    "{} queries wait already; try again in a moment",
                    limits.waiting_max
                ),
                Full::All => format!(
                    "the hub is busy: no place to run came free within {} ms; try again later",
                    limits.wait_ms_max
                ),
            })
        })
    }

    /// Waits for a place to plan.
    pub async fn plan(&self, person: &str) -> Result<Permit> {
        let limits = self.planning.limits;
        self.planning.enter(person).await.map_err(|full| {
            Error::exhausted(match full {
                Full::Own => format!(
                    "{} of your statements are planned already; send fewer at once",
                    limits.per_person_max
                ),
                Full::Queue | Full::All => {
                    "the hub is busy planning other statements; try again in a moment".to_owned()
                }
            })
        })
    }
}

impl Engine {
    /// Runs `work` on the CPU runtime until `deadline`: planning is computing too. It has its place
    /// for as long as it computes, also where nobody waits for it any more.
    pub async fn compute<T: Send + 'static, P: Send + 'static>(
        &self,
        deadline: tokio::time::Instant,
        place: P,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<(P, T)> {
        let work = async move { work.await.map(|made| (place, made)) };
        let task = AbortOnDropHandle::new(self.cpu.handle.spawn(work.in_current_span()));
        match tokio::time::timeout_at(deadline, task).await {
            Ok(Ok(done)) => done,
            Ok(Err(lost)) => Err(Error::internal("planning was lost", &lost)),
            Err(_) => Err(run::too_late()),
        }
    }
}

fn session_config() -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_batch_size(BATCH_ROWS)
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false);
    let options = config.options_mut();
    options.sql_parser.collect_spans = true;
    // DataFusion 55.2 leaves rows unread that the second of several extremes needs, where one is of
    // an expression or has been NULL so far (apache/datafusion#24816).
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    // DataFusion 55.2 knows better while it optimises than it computes later that a branch of a CASE
    // is never taken (`NOT IN (…, NULL)` is never true), so that one of the two says NOT NULL where
    // the other does not, and it takes that for an error of its own.
    options.execution.skip_physical_aggregate_schema_check = true;
    config
}

/// Idle threads cost little, and not nothing.
const CPU_THREADS_MAX: usize = 256;

/// A tokio runtime for computing: a long expression there never delays the network.
struct CpuRuntime {
    handle: tokio::runtime::Handle,
    runtime: Option<tokio::runtime::Runtime>,
}

impl CpuRuntime {
    /// A thread for each part of as many statements as run at once: an operator that computes for
    /// long without letting go keeps no other statement waiting, since the threads share the cores.
    fn new(running_max: usize) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.saturating_mul(running_max.saturating_add(1));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.min(CPU_THREADS_MAX).max(cores))
            .thread_name("hubflight-cpu")
            .thread_stack_size(crate::THREAD_STACK_BYTES)
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
