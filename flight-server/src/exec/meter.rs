//! Counts what one execution uses: the ledger's quantities, and the hub's own metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use hubflight_ledger::Quantities;
use hubflight_udfs::{BatchUsage, WorkMeter, WorkUnit};

use crate::catalog::space::Touched;
use crate::error::Result;
use crate::hub::Hub;
use crate::plan::authorise::TableAccess;

/// The account of one execution.
pub struct Meter {
    quantities: Arc<Quantities>,
    hub: Arc<Hub>,
    begun: Instant,
    first_left: AtomicBool,
    /// What the audit was told that a change reads.
    told: Option<Touched>,
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meter")
    }
}

impl Meter {
    pub fn new(hub: &Arc<Hub>, quantities: Arc<Quantities>) -> Arc<Self> {
        Arc::new(Self::of(hub, quantities, None))
    }

    /// That of a change, which reads nothing that the audit was not told of.
    pub fn of_change(hub: &Arc<Hub>, quantities: Arc<Quantities>, told: Touched) -> Arc<Self> {
        Arc::new(Self::of(hub, quantities, Some(told)))
    }

    fn of(hub: &Arc<Hub>, quantities: Arc<Quantities>, told: Option<Touched>) -> Self {
        Self {
            quantities,
            hub: Arc::clone(hub),
            begun: Instant::now(),
            first_left: AtomicBool::new(false),
            told,
        }
    }

    /// Refuses to read what the audit was not told of.
    ///
    /// # Errors
    /// `Unavailable`: another statement changed what this one reads.
    pub fn reads(&self, tables: &[TableAccess]) -> Result<()> {
        self.told.as_ref().map_or(Ok(()), |told| told.check(tables))
    }

    /// A frame was taken by the transport.
    pub fn handed(&self, rows: u64, bytes: u64) {
        // The schema goes ahead of any work; what a user waits for are rows.
        if rows > 0 && !self.first_left.swap(true, Ordering::Relaxed) {
            self.hub.metrics.first_frame(self.begun.elapsed());
        }
        self.quantities.add_returned(rows, bytes);
        self.hub.metrics.returned(rows, bytes);
    }

    /// Logical bytes of the visible columns that a query reads.
    pub fn scanned(&self, bytes: u64) {
        self.quantities.add_scanned(bytes);
        self.hub.metrics.scanned(bytes);
    }
}

impl WorkMeter for Meter {
    fn work(&self, function: &str, unit: WorkUnit, usage: &BatchUsage) {
        self.quantities
            .add_work(function, unit_of(unit), usage.units);
        self.hub.metrics.worked(function, usage);
    }

    fn row_error(&self, function: &str, reason: &str) {
        self.quantities.add_failed_rows(1);
        self.quantities
            .note_row_error(&format!("{function}: {reason}"));
        self.hub.metrics.row_failed(function);
    }
}

/// The ledger and the workers' protocol each name the units on their own.
fn unit_of(unit: WorkUnit) -> hubflight_ledger::WorkUnit {
    match unit {
        WorkUnit::Calls => hubflight_ledger::WorkUnit::Calls,
        WorkUnit::Pixels => hubflight_ledger::WorkUnit::Pixels,
        WorkUnit::Samples => hubflight_ledger::WorkUnit::Samples,
        WorkUnit::Tokens => hubflight_ledger::WorkUnit::Tokens,
    }
}
