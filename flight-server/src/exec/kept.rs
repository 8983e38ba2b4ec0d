//! What DataFusion's windows keep of the rows that they read, and of their results, which they
//! reserve nowhere.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::window::{StandardWindowExpr, WindowExpr};
use datafusion::physical_plan::windows::WindowUDFExpr;
use hubflight_wire::bytes_of;
use parking_lot::Mutex;

use super::watched::{REFERENCE_BYTES, add};

/// What a window keeps, one account for each partition that is read.
#[derive(Debug)]
pub(super) struct Kept {
    copies: usize,
    /// Results of a row.
    windows: usize,
    /// Columns of which each result may be a copy, with how many results are.
    results: (BTreeSet<usize>, usize),
    accounts: Mutex<Vec<Option<Arc<Mutex<KeptRows>>>>>,
}

#[derive(Debug)]
pub(super) struct KeptRows {
    /// Present once the first row came.
    reservation: Option<MemoryReservation>,
    rows: usize,
    left: usize,
    bytes: usize,
    widest: usize,
}

impl Kept {
    pub(super) fn new(windows: &[Arc<dyn WindowExpr>], copies: usize) -> Arc<Self> {
        let is_wide = |window: &&Arc<dyn WindowExpr>| {
            let field = window.field();
            !gives_each_once(window.as_ref())
                && field.is_ok_and(|field| field.data_type().primitive_width().is_none())
        };
        let wide: Vec<_> = windows.iter().filter(is_wide).collect();
        let reads = wide.iter().flat_map(|window| window.expressions());
        let reads = reads.flat_map(|expr| collect_columns(&expr));
        Arc::new(Self {
            copies,
            windows: windows.len(),
            results: (reads.map(|column| column.index()).collect(), wide.len()),
            accounts: Mutex::default(),
        })
    }

    /// A new account of a partition, for the rows that come out; those that go in find it.
    pub(super) fn open(&self, partition: usize) -> Arc<Mutex<KeptRows>> {
        let rows = Arc::new(Mutex::new(KeptRows {
            reservation: None,
            rows: 0,
            left: 0,
            bytes: 0,
            widest: 0,
        }));
        let mut accounts = self.accounts.lock();
        if accounts.len() <= partition {
            accounts.resize(partition + 1, None);
        }
        if let Some(account) = accounts.get_mut(partition) {
            *account = Some(Arc::clone(&rows));
        }
        rows
    }

    /// The account that was opened for a partition.
    pub(super) fn take(&self, partition: usize) -> Result<Arc<Mutex<KeptRows>>> {
        let mut accounts = self.accounts.lock();
        let account = accounts.get_mut(partition).and_then(Option::take);
        account.ok_or_else(|| DataFusionError::Internal("a window is not watched".to_owned()))
    }

    pub(super) fn enter(
        &self,
        kept: &mut KeptRows,
        batch: &RecordBatch,
        context: &TaskContext,
    ) -> Result<()> {
        let (reads, results) = &self.results;
        let mut rows = vec![0; batch.num_rows()];
        for (index, column) in batch.columns().iter().enumerate() {
            let bytes = bytes_of(column);
            if reads.contains(&index) {
                kept.widest = bytes.iter().copied().fold(kept.widest, usize::max);
            }
            add(&mut rows, bytes);
        }
        kept.rows += batch.num_rows();
        kept.bytes += rows.into_iter().fold(0, usize::saturating_add);
        let held = kept.rows - kept.left;
        // Each result is a copy of some row's value, the largest perhaps.
        let results = kept.widest.saturating_mul(held).saturating_mul(*results);
        let wanted = self.held(kept).saturating_add(results);
        let pool = context.memory_pool();
        let reservation = kept
            .reservation
            .get_or_insert_with(|| MemoryConsumer::new("a window").register(pool));
        reservation.try_resize(wanted)
    }

    /// Bytes of the rows that are kept and their results, without copies of large values.
    fn held(&self, kept: &KeptRows) -> usize {
        let rows = kept.rows.saturating_sub(kept.left);
        let results = rows.saturating_mul(REFERENCE_BYTES * self.windows);
        kept.held()
            .saturating_mul(self.copies)
            .saturating_add(results)
    }

    pub(super) fn leave(&self, kept: &mut KeptRows, rows: usize) -> Result<()> {
        kept.left += rows;
        let held = self.held(kept);
        match &mut kept.reservation {
            // What was reserved for copies of large values goes with them.
            Some(reservation) => reservation.try_resize(held.min(reservation.size())),
            None => Ok(()),
        }
    }
}

/// True for a window that gives each value once, as it is.
fn gives_each_once(window: &dyn WindowExpr) -> bool {
    let standard = window.as_any().downcast_ref::<StandardWindowExpr>();
    let function = standard.and_then(|window| {
        let function = window.get_standard_func_expr().as_any();
        function.downcast_ref::<WindowUDFExpr>()
    });
    function.is_some_and(|function| matches!(function.fun().name(), "lag" | "lead"))
}

impl KeptRows {
    /// Bytes of the rows that went in and did not come out, if all are of one size.
    fn held(&self) -> usize {
        let rows = self.rows.saturating_sub(self.left) as u128;
        let bytes = rows * self.bytes as u128 / self.rows.max(1) as u128;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}
