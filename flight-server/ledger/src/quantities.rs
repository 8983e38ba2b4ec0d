//! What an execution uses, counted while it runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Pairs of function and unit that one execution counts apart; further ones are counted
/// together as the function [`OTHER`].
const WORK_LABELS_MAX: usize = 64;
const OTHER: &str = "other";
/// Errors of rows that are kept, the first ones, and their length.
const ROW_ERRORS_MAX: usize = 10;
const ROW_ERROR_CHARS_MAX: usize = 200;

/// A unit of work of a function, which depends on its input only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkUnit {
    Tokens,
    Pixels,
    Samples,
    Calls,
}

impl WorkUnit {
    pub fn as_str(self) -> &'static str {
        match self {
            WorkUnit::Tokens => "tokens",
            WorkUnit::Pixels => "pixels",
            WorkUnit::Samples => "samples",
            WorkUnit::Calls => "calls",
        }
    }

    /// The reverse of [`WorkUnit::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "tokens" => Some(WorkUnit::Tokens),
            "pixels" => Some(WorkUnit::Pixels),
            "samples" => Some(WorkUnit::Samples),
            "calls" => Some(WorkUnit::Calls),
            _ => None,
        }
    }
}

/// Counters of one execution, shared by its streams. They saturate rather than wrap.
#[derive(Debug, Default)]
pub struct Quantities {
    rows_returned: AtomicU64,
    bytes_returned: AtomicU64,
    bytes_scanned: AtomicU64,
    failed_rows: AtomicU64,
    work: Mutex<BTreeMap<(String, WorkUnit), u64>>,
    row_errors: Mutex<Vec<String>>,
}

/// What was counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    pub rows_returned: u64,
    pub bytes_returned: u64,
    pub bytes_scanned: u64,
    pub failed_rows: u64,
    /// By function, then unit; at most 64.
    pub work: Vec<Work>,
    /// The first errors of rows.
    pub row_errors: Vec<String>,
}

/// Work of one function in one unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    pub function: String,
    pub unit: WorkUnit,
    pub quantity: u64,
}

impl Quantities {
    /// Counts what was handed to the transport.
    pub fn add_returned(&self, rows: u64, bytes: u64) {
        add(&self.rows_returned, rows);
        add(&self.bytes_returned, bytes);
    }

    /// Counts visible bytes of stored data.
    pub fn add_scanned(&self, bytes: u64) {
        add(&self.bytes_scanned, bytes);
    }

    /// Counts work of a function; `function` may name a model where its rate differs.
    pub fn add_work(&self, function: &str, unit: WorkUnit, quantity: u64) {
        let mut work = self.work.lock();
        let mut key = (function.to_owned(), unit);
        if !work.contains_key(&key) && work.len() >= WORK_LABELS_MAX - 4 {
            // Four units are left for it.
            OTHER.clone_into(&mut key.0);
        }
        let counter = work.entry(key).or_default();
        *counter = counter.saturating_add(quantity);
    }

    /// Counts rows that gave NULL because of an error.
    pub fn add_failed_rows(&self, rows: u64) {
        add(&self.failed_rows, rows);
    }

    /// Keeps the text if it is among the first ones. The text must hold no value of the data.
    pub fn note_row_error(&self, text: &str) {
        let mut errors = self.row_errors.lock();
        if errors.len() < ROW_ERRORS_MAX {
            errors.push(text.chars().take(ROW_ERROR_CHARS_MAX).collect());
        }
    }

    pub fn measured(&self) -> Measured {
        Measured {
            rows_returned: self.rows_returned.load(Ordering::Relaxed),
            bytes_returned: self.bytes_returned.load(Ordering::Relaxed),
            bytes_scanned: self.bytes_scanned.load(Ordering::Relaxed),
            failed_rows: self.failed_rows.load(Ordering::Relaxed),
            work: self
                .work
                .lock()
                .iter()
                .map(|((function, unit), quantity)| Work {
                    function: function.clone(),
                    unit: *unit,
                    quantity: *quantity,
                })
                .collect(),
            row_errors: self.row_errors.lock().clone(),
        }
    }
}

impl Measured {
    /// Work by unit, summed over functions.
    pub(crate) fn units(&self) -> BTreeMap<String, u64> {
        let mut units = BTreeMap::new();
        for work in &self.work {
            let sum: &mut u64 = units.entry(work.unit.as_str().to_owned()).or_default();
            *sum = sum.saturating_add(work.quantity);
        }
        units
    }
}

fn add(counter: &AtomicU64, quantity: u64) {
    // The closure always answers, so the update cannot fail.
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| {
        Some(value.saturating_add(quantity))
    });
}
