//! A worker that can be killed, a meter that counts, and sessions that use both.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use gpu_worker::WorkerConfig;
use hubflight_protocol::envelope::unix_ms;
use hubflight_protocol::{BatchUsage, Key, WorkUnit};
use hubflight_udfs::{
    Options, PoolConfig, StatementWork, WorkMeter, WorkerPool, normalise_statement, register,
};
use tokio::runtime::{Builder, Handle, Runtime};

pub fn key() -> Key {
    Key::new([3; 32])
}

/// A worker on a runtime of its own, so that it can be killed with its connections.
pub struct TestWorker {
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl TestWorker {
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"))
    }

    pub fn start_at(address: SocketAddr) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let (send, receive) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::bind(address)
                .await
                .expect("a free port");
            send.send(listener.local_addr()).expect("the test waits");
            let config = WorkerConfig::new(key());
            gpu_worker::run(config, listener, std::future::pending())
                .await
                .expect("it serves");
        });
        let address = receive.recv().expect("it starts").expect("an address");
        Self {
            address,
            runtime: Some(runtime),
        }
    }

    /// Ends the worker at once; its connections break.
    pub fn kill(mut self) {
        self.runtime.take().expect("it lives").shutdown_background();
    }
}

impl Drop for TestWorker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Counts; calls `on_work` after each batch with the items so far.
#[derive(Default)]
pub struct Meter {
    pub items: AtomicU64,
    pub units: AtomicU64,
    pub row_errors: AtomicU64,
    pub on_work: Option<Box<dyn Fn(u64) + Send + Sync>>,
}

impl Meter {
    pub fn items(&self) -> u64 {
        self.items.load(Ordering::SeqCst)
    }
}

impl WorkMeter for Meter {
    fn work(&self, _function: &str, _unit: WorkUnit, usage: &BatchUsage) {
        self.units.fetch_add(usage.units, Ordering::SeqCst);
        let items = self.items.fetch_add(usage.items, Ordering::SeqCst) + usage.items;
        if let Some(on_work) = &self.on_work {
            on_work(items);
        }
    }

    fn row_error(&self, _function: &str, reason: &str) {
        assert!(!reason.is_empty());
        self.row_errors.fetch_add(1, Ordering::SeqCst);
    }
}

pub fn pool(addresses: &[SocketAddr]) -> Arc<WorkerPool> {
    WorkerPool::new(PoolConfig {
        workers: addresses.iter().map(SocketAddr::to_string).collect(),
        key: key(),
        tls_ca: None,
        io: Handle::current(),
    })
    .expect("good addresses")
}

/// A session of one statement.
pub struct Session {
    pub context: SessionContext,
    pub meter: Arc<Meter>,
}

pub fn session(pool: &Arc<WorkerPool>) -> Session {
    session_with(pool, Meter::default(), Duration::from_secs(60), 4)
}

pub fn session_with(
    pool: &Arc<WorkerPool>,
    meter: Meter,
    limit: Duration,
    partitions: usize,
) -> Session {
    let meter = Arc::new(meter);
    let work = work(pool, &meter, limit);
    let config = SessionConfig::new()
        .with_target_partitions(partitions)
        .with_extension(Arc::new(work));
    session_of(config, meter, RuntimeEnvBuilder::new())
}

/// A session that may use so many bytes.
pub fn session_within(pool: &Arc<WorkerPool>, memory_bytes: usize) -> Session {
    let meter = Arc::new(Meter::default());
    let work = work(pool, &meter, Duration::from_secs(60));
    let config = SessionConfig::new()
        .with_target_partitions(1)
        .with_extension(Arc::new(work));
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(memory_bytes, 1.0);
    session_of(config, meter, runtime)
}

fn work(pool: &Arc<WorkerPool>, meter: &Arc<Meter>, limit: Duration) -> StatementWork {
    StatementWork {
        statement_id: "statement".into(),
        tenant: "project".into(),
        deadline: unix_ms() + limit.as_millis() as u64,
        priority: 0,
        trace: None,
        pool: Arc::clone(pool),
        meter: Arc::clone(meter) as Arc<dyn WorkMeter>,
        ended: Arc::default(),
    }
}

fn session_of(config: SessionConfig, meter: Arc<Meter>, runtime: RuntimeEnvBuilder) -> Session {
    let builder = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime.build_arc().expect("a runtime environment"))
        .with_default_features();
    let state = register(builder, &Options { echo: true }).build();
    Session {
        context: SessionContext::new_with_state(state),
        meter,
    }
}

impl Session {
    pub async fn plan(&self, sql: &str) -> Result<DataFrame> {
        let state = self.context.state();
        let dialect = state.config().options().sql_parser.dialect;
        let mut statement = state.sql_to_statement(sql, &dialect)?;
        normalise_statement(&mut statement)
            .map_err(|error| DataFusionError::Plan(error.to_string()))?;
        let plan = state.statement_to_plan(statement).await?;
        self.context.execute_logical_plan(plan).await
    }

    pub async fn run(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        self.plan(sql).await?.collect().await
    }

    pub async fn stream(&self, sql: &str) -> Result<SendableRecordBatchStream> {
        self.plan(sql).await?.execute_stream().await
    }

    /// The rows as text, sorted, so that the order of partitions does not matter.
    pub async fn sorted(&self, sql: &str) -> Result<Vec<String>> {
        let batches = self.run(sql).await?;
        let text = pretty_format_batches(&batches)?.to_string();
        let mut rows: Vec<String> = text
            .lines()
            .skip(3)
            // The frame's width is that of the column names.
            .filter(|row| !row.starts_with('+'))
            .map(|row| row.replace(' ', ""))
            .collect();
        rows.sort();
        Ok(rows)
    }

    pub async fn error(&self, sql: &str) -> DataFusionError {
        match self.run(sql).await {
            Ok(batches) => panic!("{sql} gave {batches:?}"),
            Err(error) => error,
        }
    }
}
