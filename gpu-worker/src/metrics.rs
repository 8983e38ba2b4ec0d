//! The worker's counters, declared once. Labels are closed sets: functions and outcomes.

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// See each field.
pub(crate) struct Metrics {
    registry: Registry,
    /// Batches by function and outcome: `done`, `failed`, `refused`, `expired`, `cancelled`.
    pub(crate) batches: IntCounterVec,
    /// Rows executed, by function.
    pub(crate) rows: IntCounterVec,
    /// Rows that failed, by function.
    pub(crate) rows_failed: IntCounterVec,
    /// Work done in the function's unit, by function.
    pub(crate) units: IntCounterVec,
    /// Seconds that batches waited.
    pub(crate) queue_seconds: Histogram,
    /// Seconds that batches took to execute.
    pub(crate) execute_seconds: Histogram,
    /// Batches that wait now.
    pub(crate) queue_batches: IntGauge,
    /// Bytes of arguments that wait now.
    pub(crate) queue_bytes: IntGauge,
    /// Open streams.
    pub(crate) streams: IntGauge,
    /// Seconds since 1970 when the worker started.
    pub(crate) started: Gauge,
}

/// Bounds from a tenth of a millisecond to 100 s.
fn seconds_buckets() -> Vec<f64> {
    (-4..2)
        .flat_map(|power| [1.0, 2.5, 5.0].map(|digit| digit * 10_f64.powi(power)))
        .chain([100.0])
        .collect()
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help).namespace("gpu_worker"), labels)
        };
        let histogram = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).namespace("gpu_worker");
            Histogram::with_opts(options.buckets(seconds_buckets()))
        };
        let gauge = |name: &str, help: &str| {
            IntGauge::with_opts(Opts::new(name, help).namespace("gpu_worker"))
        };
        let metrics = Self {
            registry: Registry::new(),
            batches: counter(
                "batches_total",
                "batches by outcome",
                &["function", "outcome"],
            )?,
            rows: counter("rows_total", "rows executed", &["function"])?,
            rows_failed: counter("rows_failed_total", "rows that failed", &["function"])?,
            units: counter(
                "work_units_total",
                "work in the function's unit",
                &["function"],
            )?,
            queue_seconds: histogram("queue_seconds", "waiting time of batches")?,
            execute_seconds: histogram("execute_seconds", "execution time of batches")?,
            queue_batches: gauge("queue_batches", "batches that wait")?,
            queue_bytes: gauge("queue_bytes", "bytes of arguments that wait")?,
            streams: gauge("streams", "open streams")?,
            started: Gauge::with_opts(
                Opts::new("start_time_seconds", "start of the worker").namespace("gpu_worker"),
            )?,
        };
        metrics.register()?;
        Ok(metrics)
    }

    fn register(&self) -> Result<(), prometheus::Error> {
        let registry = &self.registry;
        registry.register(Box::new(self.batches.clone()))?;
        registry.register(Box::new(self.rows.clone()))?;
        registry.register(Box::new(self.rows_failed.clone()))?;
        registry.register(Box::new(self.units.clone()))?;
        registry.register(Box::new(self.queue_seconds.clone()))?;
        registry.register(Box::new(self.execute_seconds.clone()))?;
        registry.register(Box::new(self.queue_batches.clone()))?;
        registry.register(Box::new(self.queue_bytes.clone()))?;
        registry.register(Box::new(self.streams.clone()))?;
        registry.register(Box::new(self.started.clone()))
    }

    /// The counters in the Prometheus text format.
    pub(crate) fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
