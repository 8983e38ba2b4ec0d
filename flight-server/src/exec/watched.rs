//! Rows that operators keep or copy in no account, watched from outside of them.
//!
//! DataFusion's windows keep what they read in no reservation. Joins and UNNEST copy a row into as
//! many as there are partners or elements, a whole batch at a time, so that a few wide rows become
//! gigabytes before anybody counts; and what a join only refers to many times, the next operator
//! may copy. So windows are watched while they keep rows ([`Role::Into`] and [`Role::OutOf`]), and
//! batches before and after joins are measured.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PiecewiseMergeJoinExec, SortMergeJoinExec,
    SymmetricHashJoinExec,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use futures::StreamExt;
use parking_lot::Mutex;

use super::BATCH_ROWS;
use super::chunks::bytes_of;
use crate::error::Error;

/// Rows of a batch whose values may be images, signals and the like.
const WIDE_BATCH_ROWS: usize = 64;
/// What an operator may make of one batch without counting it.
const BATCH_BYTES_MAX: usize = 512 << 20;
/// A value of fixed width that is no image.
const NARROW_BYTES_MAX: u32 = 1 << 10;
/// A value that is kept by reference.
const REFERENCE_BYTES: usize = 16;
/// A window has its rows twice while it computes, and the results once.
const WHOLE_WINDOW_COPIES: usize = 3;
/// One that computes as it reads has those that it waits with twice.
const RUNNING_WINDOW_COPIES: usize = 2;

/// Rows of a batch of a statement: fewer where its values may be wide.
pub fn batch_rows(plan: &LogicalPlan) -> Result<usize> {
    let mut is_wide = false;
    plan.apply_with_subqueries(|node| {
        let wide = |plan: &LogicalPlan| {
            let mut fields = plan.schema().fields().iter();
            fields.any(|field| holds_many(field.data_type()))
        };
        // Who reads them, and who keeps or copies rows; others make what their own memory counts.
        is_wide |= match node {
            LogicalPlan::TableScan(_) => wide(node),
            LogicalPlan::Join(_) | LogicalPlan::Unnest(_) | LogicalPlan::Window(_) => {
                node.inputs().into_iter().any(wide)
            }
            _ => false,
        };
        Ok(match is_wide {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(match is_wide {
        true => WIDE_BATCH_ROWS,
        false => BATCH_ROWS,
    })
}

/// True for types of which one value is usually many numbers.
fn holds_many(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().any(|field| holds_many(field.data_type())),
        DataType::Dictionary(_, values) => holds_many(values),
        DataType::FixedSizeBinary(width) => width.unsigned_abs() > NARROW_BYTES_MAX,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::LargeUtf8 => {
            true
        }
        other => other.is_nested(),
    }
}

/// The plan with its windows, joins and UNNEST watched.
pub fn watched(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(plan.transform_up(watch)?.data)
}

fn watch(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    if let Some(window) = node.downcast_ref::<WindowAggExec>() {
        let kept = Kept::new(window.window_expr(), WHOLE_WINDOW_COPIES);
        return around(&node, Role::Into(Arc::clone(&kept)), Role::OutOf(kept));
    }
    if let Some(window) = node.downcast_ref::<BoundedWindowAggExec>() {
        let kept = Kept::new(window.window_expr(), RUNNING_WINDOW_COPIES);
        return around(&node, Role::Into(Arc::clone(&kept)), Role::OutOf(kept));
    }
    if let Some(unnest) = node.downcast_ref::<UnnestExec>() {
        let lists = unnest.list_column_indices();
        let is_flat = lists.iter().all(|list| list.depth == 1);
        let lists = lists.iter().map(|list| list.index_in_input_schema);
        let before = Role::Unnested(lists.collect(), is_flat);
        return around(&node, before, Role::Shared);
    }
    let joins = node.is::<HashJoinExec>()
        || node.is::<NestedLoopJoinExec>()
        || node.is::<CrossJoinExec>()
        || node.is::<SortMergeJoinExec>()
        || node.is::<PiecewiseMergeJoinExec>()
        || node.is::<SymmetricHashJoinExec>();
    match joins {
        true => around(&node, Role::Copied, Role::Shared),
        false => Ok(Transformed::no(node)),
    }
}

/// An operator between what watches its inputs and what watches its result.
fn around(
    node: &Arc<dyn ExecutionPlan>,
    before: Role,
    after: Role,
) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let watch = |input: &Arc<dyn ExecutionPlan>, role: &Role| match role.matters(&input.schema()) {
        true => WatchedExec::over(Arc::clone(input), role.clone()),
        false => Arc::clone(input),
    };
    let inputs = node.children().into_iter();
    let inputs = inputs.map(|input| watch(input, &before)).collect();
    let node = datafusion::physical_plan::replace_children_if_necessary(Arc::clone(node), inputs)?;
    Ok(Transformed::yes(watch(&node, &after)))
}

/// What is watched of the batches that pass.
#[derive(Clone, Debug)]
enum Role {
    /// They go into a window, which keeps them.
    Into(Arc<Kept>),
    /// They come out of it.
    OutOf(Arc<Kept>),
    /// Each row may be copied into a whole batch.
    Copied,
    /// Each row is copied for every element of these columns: of about a batch at a time where they
    /// are unnested once, of all rows where more than once.
    Unnested(Vec<usize>, bool),
    /// A value may be in many rows, of which the next operator makes copies.
    Shared,
}

impl Role {
    /// False where rows of such a schema are never much.
    fn matters(&self, schema: &Schema) -> bool {
        let mut fields = schema.fields().iter();
        match self {
            Self::Into(_) | Self::OutOf(_) | Self::Unnested(..) => true,
            Self::Copied => fields.any(|field| is_copied(field.data_type())),
            Self::Shared => fields.any(|field| field.data_type().primitive_width().is_none()),
        }
    }

    fn check(&self, batch: &RecordBatch, rows_max: usize) -> Result<()> {
        let bytes = match self {
            Self::Into(_) | Self::OutOf(_) => return Ok(()),
            Self::Copied => {
                let widest = copied(batch).into_iter().max().unwrap_or(0);
                widest.saturating_mul(rows_max)
            }
            Self::Unnested(lists, is_flat) => unnested(batch, lists, *is_flat, rows_max),
            Self::Shared => {
                let shared = shared(batch);
                // What is there once already may be copied once.
                match shared / 2 > batch.get_array_memory_size() {
                    true => shared,
                    false => 0,
                }
            }
        };
        match bytes > BATCH_BYTES_MAX {
            true => Err(too_wide(bytes)),
            false => Ok(()),
        }
    }
}

fn too_wide(bytes: usize) -> DataFusionError {
    Error::exhausted(format!(
        "a join or UNNEST would make {} MiB of one batch of rows and at most {} are allowed; leave \
         large values out of it, and join them to the few rows that need them",
        bytes >> 20,
        BATCH_BYTES_MAX >> 20
    ))
    .into()
}

/// True where a value is copied with its row and may be large.
fn is_copied(data_type: &DataType) -> bool {
    data_type.primitive_width().is_none()
        && !matches!(data_type, DataType::Utf8View | DataType::BinaryView)
}

/// Bytes of each row that are copied with it.
fn copied(batch: &RecordBatch) -> Vec<usize> {
    let mut bytes = vec![REFERENCE_BYTES * batch.num_columns(); batch.num_rows()];
    for column in batch.columns() {
        if is_copied(column.data_type()) {
            add(&mut bytes, bytes_of(column));
        }
    }
    bytes
}

/// Bytes of the values of a batch, each counted where it is and not where it lies.
fn shared(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns
        .filter(|column| column.data_type().primitive_width().is_none())
        .flat_map(bytes_of)
        .fold(0, usize::saturating_add)
}

fn add(to: &mut [usize], of: Vec<usize>) {
    for (to, of) in to.iter_mut().zip(of) {
        *to = to.saturating_add(of);
    }
}

/// Bytes that UNNEST makes at a time, each row copied for every element of its longest list.
fn unnested(batch: &RecordBatch, lists: &[usize], is_flat: bool, rows_max: usize) -> usize {
    let others = (0..batch.num_columns()).filter(|column| !lists.contains(column));
    let others = batch.project(&others.collect::<Vec<_>>());
    let mut each = others.map_or_else(|_| vec![0; batch.num_rows()], |others| copied(&others));
    let mut elements = vec![0; batch.num_rows()];
    for list in lists.iter().filter_map(|list| batch.columns().get(*list)) {
        for (most, of) in elements.iter_mut().zip(elements_of(list, is_flat)) {
            *most = of.max(*most);
        }
        each.iter_mut().for_each(|each| *each += REFERENCE_BYTES);
    }
    let widest = each.iter().copied().max().unwrap_or(0);
    let rows = elements.into_iter().zip(each);
    let rows = rows.map(|(elements, bytes)| elements.saturating_mul(bytes));
    match is_flat {
        // About a batch, or one row.
        true => rows.fold(widest.saturating_mul(rows_max), usize::max),
        false => rows.fold(0, usize::saturating_add),
    }
}

/// Elements of each list; unless it is unnested once, of lists of lists those of the innermost.
fn elements_of(lists: &ArrayRef, is_flat: bool) -> Vec<usize> {
    let ends: Vec<(usize, usize)> = match lists.data_type() {
        DataType::List(_) => ends_of(lists.as_list::<i32>().value_offsets(), |at| at as usize),
        DataType::LargeList(_) => ends_of(lists.as_list::<i64>().value_offsets(), |at| at as usize),
        DataType::FixedSizeList(_, length) => {
            let length = length.unsigned_abs() as usize;
            let rows = 0..lists.len();
            rows.map(|row| (row * length, (row + 1) * length)).collect()
        }
        _ => return vec![1; lists.len()],
    };
    let items = match lists.data_type() {
        DataType::List(_) => lists.as_list::<i32>().values(),
        DataType::LargeList(_) => lists.as_list::<i64>().values(),
        _ => lists.as_fixed_size_list().values(),
    };
    if is_flat || !items.data_type().is_nested() {
        return ends.into_iter().map(|(start, end)| end - start).collect();
    }
    let inner = elements_of(items, is_flat);
    let of = |(start, end)| inner.get(start..end).map_or(0, |of| of.iter().sum());
    ends.into_iter().map(of).collect()
}

fn ends_of<T: Copy>(offsets: &[T], at: impl Fn(T) -> usize) -> Vec<(usize, usize)> {
    offsets
        .windows(2)
        .map(|ends| (at(ends[0]), at(ends[1])))
        .collect()
}

/// What a window keeps, one account for each partition that is read.
#[derive(Debug)]
struct Kept {
    copies: usize,
    /// Columns of which each result may be a copy, with how many results are.
    results: (BTreeSet<usize>, usize),
    accounts: Mutex<Vec<Option<Arc<Mutex<KeptRows>>>>>,
}

#[derive(Debug)]
struct KeptRows {
    /// Present once the first row came.
    reservation: Option<MemoryReservation>,
    rows: usize,
    left: usize,
    bytes: usize,
    widest: usize,
}

impl Kept {
    fn new(windows: &[Arc<dyn WindowExpr>], copies: usize) -> Arc<Self> {
        let is_wide = |window: &&Arc<dyn WindowExpr>| {
            // These give each value once, as it is.
            if ["lag(", "lead("]
                .iter()
                .any(|name| window.name().starts_with(name))
            {
                return false;
            }
            let field = window.field();
            field.is_ok_and(|field| field.data_type().primitive_width().is_none())
        };
        let wide: Vec<_> = windows.iter().filter(is_wide).collect();
        let reads = wide.iter().flat_map(|window| window.expressions());
        let reads = reads.flat_map(|expr| collect_columns(&expr));
        Arc::new(Self {
            copies,
            results: (reads.map(|column| column.index()).collect(), wide.len()),
            accounts: Mutex::default(),
        })
    }

    /// A new account of a partition, for the rows that come out; those that go in find it.
    fn open(&self, partition: usize) -> Arc<Mutex<KeptRows>> {
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
    fn take(&self, partition: usize) -> Result<Arc<Mutex<KeptRows>>> {
        let mut accounts = self.accounts.lock();
        let account = accounts.get_mut(partition).and_then(Option::take);
        account.ok_or_else(|| DataFusionError::Internal("a window is not watched".to_owned()))
    }

    fn enter(&self, kept: &mut KeptRows, batch: &RecordBatch, context: &TaskContext) -> Result<()> {
        let (reads, results) = &self.results;
        let mut rows = vec![REFERENCE_BYTES * results; batch.num_rows()];
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
        let wanted = kept
            .held()
            .saturating_mul(self.copies)
            .saturating_add(results);
        let pool = context.memory_pool();
        let reservation = kept
            .reservation
            .get_or_insert_with(|| MemoryConsumer::new("a window").register(pool));
        reservation.try_resize(wanted)
    }
}

impl KeptRows {
    /// Bytes of the rows that went in and did not come out, if all are of one size.
    fn held(&self) -> usize {
        let rows = self.rows.saturating_sub(self.left) as u128;
        let bytes = rows * self.bytes as u128 / self.rows.max(1) as u128;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    fn leave(&mut self, rows: usize, copies: usize) -> Result<()> {
        self.left += rows;
        let held = self.held().saturating_mul(copies);
        match &mut self.reservation {
            // What was reserved for the results goes with them.
            Some(reservation) => reservation.try_resize(held.min(reservation.size())),
            None => Ok(()),
        }
    }
}

/// Passes batches on, and ends the query where they would become too much.
#[derive(Debug)]
struct WatchedExec {
    input: Arc<dyn ExecutionPlan>,
    role: Role,
}

impl WatchedExec {
    fn over(input: Arc<dyn ExecutionPlan>, role: Role) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { input, role })
    }
}

impl DisplayAs for WatchedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "WatchedExec")
    }
}

impl ExecutionPlan for WatchedExec {
    fn name(&self) -> &str {
        "WatchedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(input) if children.is_empty() => Ok(Self::over(input, self.role.clone())),
            _ => Err(DataFusionError::Internal("one input is watched".to_owned())),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        use datafusion::physical_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(Recompute))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let rows_max = context.session_config().batch_size();
        let schema = self.schema();
        Ok(match &self.role {
            Role::OutOf(kept) => {
                let (rows, copies) = (kept.open(partition), kept.copies);
                let input = self.input.execute(partition, context)?;
                // A batch is held until its reader asks for the next.
                let mut given = 0;
                let passed = input.map(move |batch| {
                    let batch = batch?;
                    rows.lock().leave(given, copies)?;
                    given = batch.num_rows();
                    Ok(batch)
                });
                Box::pin(RecordBatchStreamAdapter::new(schema, passed))
            }
            Role::Into(kept) => {
                let (kept, rows) = (Arc::clone(kept), kept.take(partition)?);
                let input = self.input.execute(partition, Arc::clone(&context))?;
                let passed = input.map(move |batch| {
                    let batch = batch?;
                    kept.enter(&mut rows.lock(), &batch, &context)?;
                    Ok(batch)
                });
                Box::pin(RecordBatchStreamAdapter::new(schema, passed))
            }
            role => {
                let role = role.clone();
                let input = self.input.execute(partition, context)?;
                let passed = input.map(move |batch| {
                    let batch = batch?;
                    role.check(&batch, rows_max)?;
                    Ok(batch)
                });
                Box::pin(RecordBatchStreamAdapter::new(schema, passed))
            }
        })
    }
}
