//! Rows that operators keep or copy in no account, watched from outside of them.
//!
//! DataFusion's windows keep what they read in no reservation. Joins and UNNEST copy a row into as
//! many as there are partners or elements, a whole batch at a time, so that a few wide rows become
//! gigabytes before anybody counts; and what a join only refers to many times, the next operator
//! may copy. So windows are watched while they keep rows ([`Role::Into`] and [`Role::OutOf`]), and
//! what may be made of batches before and after joins is reserved until the next one comes.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
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
use hubflight_wire::bytes_of;

use super::BATCH_ROWS;
use super::bounded::makes_long_values;
use super::kept::Kept;
use crate::error::Error;

/// Rows of a batch whose values may be images, signals and the like.
const WIDE_BATCH_ROWS: usize = 64;
/// A value of fixed width that is no image.
const NARROW_BYTES_MAX: u32 = 1 << 10;
/// A value that is kept by reference, or a number.
pub(super) const REFERENCE_BYTES: usize = 16;
/// A window has its rows twice while it computes, and the results once.
const WHOLE_WINDOW_COPIES: usize = 3;
/// One that computes as it reads has those that it waits with twice.
const RUNNING_WINDOW_COPIES: usize = 2;

/// Rows of a batch of a statement: fewer where its values may be wide.
pub fn batch_rows(plan: &LogicalPlan) -> Result<usize> {
    let mut is_wide = false;
    // Texts as functions make them, which are copied with their rows, and where they would be.
    let (mut makes_texts, mut copies_texts) = (false, false);
    plan.apply_with_subqueries(|node| {
        let wide = |plan: &LogicalPlan| {
            let mut fields = plan.schema().fields().iter();
            fields.any(|field| holds_many(field.data_type()))
        };
        let has_texts = |plan: &LogicalPlan| {
            let mut fields = plan.schema().fields().iter();
            fields.any(|field| *field.data_type() == DataType::Utf8)
        };
        makes_texts |= has_texts(node) && makes_long_texts(node)?;
        // Who reads them, and who keeps or copies rows; others make what their own memory counts.
        is_wide |= match node {
            LogicalPlan::TableScan(_) => wide(node),
            LogicalPlan::Join(_) | LogicalPlan::Unnest(_) | LogicalPlan::Window(_) => {
                copies_texts |= node.inputs().into_iter().any(has_texts);
                node.inputs().into_iter().any(wide)
            }
            _ => false,
        };
        is_wide |= makes_texts && copies_texts;
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

/// True where a step calls what may make a long text, or passes on a report as a worker changed it.
fn makes_long_texts(node: &LogicalPlan) -> Result<bool> {
    let exprs = match node {
        LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) => node.expressions(),
        other => return Ok(matches!(other, LogicalPlan::Extension(_))),
    };
    for (field, expr) in node.schema().fields().iter().zip(exprs) {
        let makes = expr.exists(|part| {
            Ok(matches!(part, Expr::ScalarFunction(call) if makes_long_values(&call.func)))
        })?;
        if makes && *field.data_type() == DataType::Utf8 {
            return Ok(true);
        }
    }
    Ok(false)
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

    /// Bytes that may be made of a batch.
    fn bytes(&self, batch: &RecordBatch, rows_max: usize) -> usize {
        match self {
            Self::Into(_) | Self::OutOf(_) => 0,
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
        }
    }
}

fn too_wide(bytes: usize) -> DataFusionError {
    Error::exhausted(format!(
        "a join or UNNEST would make {} MiB of one batch of rows, for which there is no room; leave \
         large values out of it, and join them to the few rows that need them",
        bytes >> 20
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

pub(super) fn add(to: &mut [usize], of: Vec<usize>) {
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
                let (kept, rows) = (Arc::clone(kept), kept.open(partition));
                let input = self.input.execute(partition, context)?;
                // A batch is held until its reader asks for the next.
                let mut given = 0;
                let passed = input.map(move |batch| {
                    let batch = batch?;
                    kept.leave(&mut rows.lock(), given)?;
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
                // Until the next batch comes, or nobody asks for one.
                let room = MemoryConsumer::new("a join or UNNEST").register(context.memory_pool());
                let input = self.input.execute(partition, context)?;
                let passed = input.map(move |batch| {
                    let batch = batch?;
                    let bytes = role.bytes(&batch, rows_max);
                    room.try_resize(bytes).map_err(|_| too_wide(bytes))?;
                    Ok(batch)
                });
                Box::pin(RecordBatchStreamAdapter::new(schema, passed))
            }
        })
    }
}
