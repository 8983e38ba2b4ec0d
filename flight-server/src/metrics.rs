//! What operators watch: counters, gauges and histograms in the Prometheus text format.
//!
//! Label sets are closed: kinds, outcomes, functions and units known at compile time. Nothing
//! here tells a person, project or dataset; who used what is the ledger's, not this.

use std::time::Duration;

use hubflight_ledger::SecondPlace;
use hubflight_protocol::{BatchUsage, functions};
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::error::{Error, ErrorKind, Result};

/// Prefix of every name.
const NAMESPACE: &str = "hubflight";

/// Bounds of the time histograms, in seconds: from a cached point query to an hour of scan.
const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0,
];

/// What a statement does, as the label `kind`.
const STATEMENT_KINDS: [&str; 2] = ["query", "change"];

/// The metrics of one server, in a registry of their own.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Executions that ended, by `kind` and `outcome`.
    statements: IntCounterVec,
    /// Requests refused before anything ran, by `kind` of error.
    refusals: IntCounterVec,
    /// Seconds from admission to the end of an execution.
    execution_seconds: Histogram,
    /// Seconds from the begin of an execution to its first frame with rows.
    first_frame_seconds: Histogram,
    /// Rows handed to the transport.
    rows_returned: IntCounter,
    /// Bytes handed to the transport, as metered: frames without gRPC's own headers.
    bytes_returned: IntCounter,
    /// Visible bytes scanned, as metered.
    bytes_scanned: IntCounter,
    /// Queries that run now.
    pub queries_running: IntGauge,
    /// Queries that wait for a place to run now.
    pub queries_waiting: IntGauge,
    /// Bytes that running queries have reserved now.
    pub memory_reserved_bytes: IntGauge,
    /// Bytes of messages that callers have begun to send, or whose verb waits for more.
    pub begun_message_bytes: IntGauge,
    /// Sessions that hold options now.
    pub sessions: IntGauge,
    /// Batches that workers answered, by `function`.
    worker_calls: IntCounterVec,
    /// Rows on which a function failed, by `function`.
    worker_row_errors: IntCounterVec,
    /// Work done by workers, by `function` and `unit` (calls, pixels, samples, tokens).
    worker_units: IntCounterVec,
    /// Times that the ledger could not be written.
    ledger_commit_failures: IntCounter,
    /// Times that the supervised worker was started again after it had ended.
    pub worker_restarts: IntCounter,
    /// One where checkpoints of the audit do not reach a second place now, by `place`.
    audit_place_behind: IntGaugeVec,
    /// One where a second place knew of another history when this server started, by `place`.
    audit_place_contradicts: IntGaugeVec,
}

impl Metrics {
    /// Registers every metric; each known combination of labels is there from the start, at
    /// zero, so that a rate over the first event is right.
    pub fn new() -> Result<Self> {
        let registry = Registry::new();
        Self::register(registry)
            .map_err(|error| Error::internal("metrics are declared wrong", &error))
    }

    fn register(registry: Registry) -> prometheus::Result<Self> {
        let add = Declare(&registry);
        build_info(&add)?;
        let metrics = Self {
            statements: add.counters(
                "statements_total",
                "executions that ended",
                &["kind", "outcome"],
            )?,
            refusals: add.counters(
                "refusals_total",
                "requests refused before anything ran",
                &["kind"],
            )?,
            execution_seconds: add.seconds(
                "execution_seconds",
                "from admission to the end of an execution",
            )?,
            first_frame_seconds: add.seconds(
                "first_frame_seconds",
                "from the begin of an execution to its first frame with rows",
            )?,
            rows_returned: add.counter("rows_returned_total", "rows handed to the transport")?,
            bytes_returned: add.counter("bytes_returned_total", "bytes handed to the transport")?,
            bytes_scanned: add.counter("bytes_scanned_total", "visible bytes scanned")?,
            queries_running: add.gauge("queries_running", "queries that run now")?,
            queries_waiting: add
                .gauge("queries_waiting", "queries that wait for a place to run")?,
            memory_reserved_bytes: add
                .gauge("memory_reserved_bytes", "bytes reserved by running queries")?,
            begun_message_bytes: add.gauge(
                "begun_message_bytes",
                "bytes of messages that callers have begun to send",
            )?,
            sessions: add.gauge("sessions", "sessions that hold options")?,
            worker_calls: add.counters(
                "worker_calls_total",
                "batches that workers answered",
                &["function"],
            )?,
            worker_row_errors: add.counters(
                "worker_row_errors_total",
                "rows on which a function failed",
                &["function"],
            )?,
            worker_units: add.counters(
                "worker_units_total",
                "work done by workers",
                &["function", "unit"],
            )?,
            ledger_commit_failures: add.counter(
                "ledger_commit_failures_total",
                "times that the ledger could not be written",
            )?,
            worker_restarts: add
                .counter("worker_restarts_total", "restarts of the supervised worker")?,
            audit_place_behind: add.gauges(
                "audit_place_behind",
                "one where checkpoints of the audit do not reach a second place now",
                &["place"],
            )?,
            audit_place_contradicts: add.gauges(
                "audit_place_contradicts",
                "one where a second place knew of another history at the start",
                &["place"],
            )?,
            registry: registry.clone(),
        };
        metrics.start_at_zero();
        Ok(metrics)
    }

    fn start_at_zero(&self) {
        for kind in ErrorKind::ALL {
            self.refusals.with_label_values(&[kind.label()]);
        }
        for kind in STATEMENT_KINDS {
            self.statements.with_label_values(&[kind, "ok"]);
        }
        for function in functions() {
            self.worker_calls.with_label_values(&[function.name]);
            self.worker_row_errors.with_label_values(&[function.name]);
            self.worker_units
                .with_label_values(&[function.name, function.unit.as_str()]);
        }
    }

    /// A request was refused before anything ran.
    pub fn refused(&self, kind: ErrorKind) {
        self.refusals.with_label_values(&[kind.label()]).inc();
    }

    /// An execution ended, `elapsed` after it was admitted. `kind` is `query` or `change`;
    /// `outcome` is `ok` or the label of an [`ErrorKind`].
    pub fn finished(&self, kind: &'static str, outcome: &'static str, elapsed: Duration) {
        self.statements.with_label_values(&[kind, outcome]).inc();
        self.execution_seconds.observe(elapsed.as_secs_f64());
    }

    /// The first frame with rows left, `elapsed` after the execution began.
    pub fn first_frame(&self, elapsed: Duration) {
        self.first_frame_seconds.observe(elapsed.as_secs_f64());
    }

    /// A frame was taken by the transport.
    pub fn returned(&self, rows: u64, bytes: u64) {
        self.rows_returned.inc_by(rows);
        self.bytes_returned.inc_by(bytes);
    }

    /// A query reads that many visible bytes.
    pub fn scanned(&self, bytes: u64) {
        self.bytes_scanned.inc_by(bytes);
    }

    /// A worker answered one batch. A name that is not in the shared table of functions is not
    /// counted: the label comes from that table only.
    pub fn worked(&self, function: &str, usage: &BatchUsage) {
        let Some(function) = hubflight_protocol::function(function) else {
            return;
        };
        self.worker_calls.with_label_values(&[function.name]).inc();
        self.worker_units
            .with_label_values(&[function.name, function.unit.as_str()])
            .inc_by(usage.units);
    }

    /// A function failed on one row.
    pub fn row_failed(&self, function: &str) {
        if let Some(function) = hubflight_protocol::function(function) {
            self.worker_row_errors
                .with_label_values(&[function.name])
                .inc();
        }
    }

    /// How a place stands that gets the audit's checkpoints.
    pub fn second_place(&self, place: &SecondPlace) {
        let gauges = [
            (&self.audit_place_behind, place.is_behind()),
            (&self.audit_place_contradicts, place.contradicts()),
        ];
        for (gauge, is) in gauges {
            gauge.with_label_values(&[place.kind]).set(i64::from(is));
        }
    }

    /// Counts what the ledger could not write, and passes its answer on.
    pub fn ledger<T, E>(&self, answer: std::result::Result<T, E>) -> std::result::Result<T, E> {
        answer.inspect_err(|_| self.ledger_commit_failures.inc())
    }

    /// Every metric in the Prometheus text format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a text fails only for a metric without a name, and all have one.
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }
}

/// Makes metrics and registers them.
struct Declare<'a>(&'a Registry);

impl Declare<'_> {
    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(IntCounter::with_opts(options(name, help))?)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.add(IntCounterVec::new(options(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(IntGauge::with_opts(options(name, help))?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(options(name, help), labels)?)
    }

    fn seconds(&self, name: &str, help: &str) -> prometheus::Result<Histogram> {
        let options = HistogramOpts::from(options(name, help)).buckets(SECONDS.to_vec());
        self.add(Histogram::with_opts(options)?)
    }

    fn add<C: Collector + Clone + 'static>(&self, metric: C) -> prometheus::Result<C> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(NAMESPACE)
}

fn build_info(add: &Declare<'_>) -> prometheus::Result<()> {
    let build = add.gauges(
        "build_info",
        "one, with the version that runs",
        &["version"],
    )?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of one line of the text, by its name and labels.
    fn value(text: &str, series: &str) -> Option<f64> {
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    #[test]
    fn what_is_counted_is_rendered() {
        let metrics = Metrics::new().expect("declared right");
        metrics.refused(ErrorKind::NotFound);
        metrics.refused(ErrorKind::NotFound);
        metrics.finished("query", "ok", Duration::from_millis(20));
        let failed = ErrorKind::DeadlineExceeded.label();
        metrics.finished("query", failed, Duration::from_secs(7));
        metrics.first_frame(Duration::from_millis(3));
        metrics.returned(41, 1000);
        metrics.memory_reserved_bytes.set(1 << 40);
        let usage = BatchUsage {
            units: 5000,
            ..BatchUsage::default()
        };
        metrics.worked("ecg_rpeaks", &usage);
        metrics.row_failed("ecg_rpeaks");
        metrics.row_failed("ecg_rpeaks");
        metrics.ledger(Err::<(), _>("full")).expect_err("passed on");
        metrics.ledger(Ok::<_, ()>(1)).expect("passed on");
        let text = metrics.render();
        for (series, expected) in [
            ("hubflight_refusals_total{kind=\"not_found\"}", 2.0),
            ("hubflight_refusals_total{kind=\"internal\"}", 0.0),
            (
                "hubflight_statements_total{kind=\"query\",outcome=\"ok\"}",
                1.0,
            ),
            (
                "hubflight_statements_total{kind=\"query\",outcome=\"deadline_exceeded\"}",
                1.0,
            ),
            ("hubflight_execution_seconds_count", 2.0),
            ("hubflight_execution_seconds_sum", 7.02),
            ("hubflight_execution_seconds_bucket{le=\"0.025\"}", 1.0),
            ("hubflight_first_frame_seconds_count", 1.0),
            ("hubflight_rows_returned_total", 41.0),
            ("hubflight_ledger_commit_failures_total", 1.0),
            ("hubflight_memory_reserved_bytes", (1_u64 << 40) as f64),
            ("hubflight_worker_calls_total{function=\"ecg_rpeaks\"}", 1.0),
            (
                "hubflight_worker_units_total{function=\"ecg_rpeaks\",unit=\"samples\"}",
                5000.0,
            ),
            (
                "hubflight_worker_row_errors_total{function=\"ecg_rpeaks\"}",
                2.0,
            ),
        ] {
            let found = value(&text, series);
            assert!(
                found.is_some_and(|found| (found - expected).abs() < 1e-9),
                "{series}: {found:?}, not {expected}\n{text}"
            );
        }
        assert!(text.contains(concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"")));
    }

    #[test]
    fn every_label_is_of_a_closed_set() {
        let metrics = Metrics::new().expect("declared right");
        metrics.worked("nobody's", &BatchUsage::default());
        metrics.row_failed("nobody's");
        assert!(!metrics.render().contains("nobody"));
    }
}
