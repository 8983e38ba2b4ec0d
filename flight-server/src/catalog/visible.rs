//! The logical size of what a project may see: what a scan is charged by.
//!
//! It is a constant of a dataset version and a habilitation: it does not depend on the plan,
//! on pruning, or on a hidden row. Each column is measured once, through the barrier, however
//! many queries ask for it first, and kept in the store.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use data_encoding::HEXLOWER;
use datafusion::catalog::TableProvider;
use datafusion::datasource::provider_as_source;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::functions_aggregate::count::count_all;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, col};
use datafusion::physical_plan::execute_stream;
use futures::future::{BoxFuture, WeakShared};
use futures::{FutureExt, StreamExt, TryFutureExt};
use hubflight_policy::{PersonRows, PolicyTable};
use hubflight_store::{VisibleSize, VisibleSizes};
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::project::ProjectView;
use crate::error::{Error, ErrorKind, Result};
use crate::hub::Hub;
use crate::plan::Optimised;
use crate::plan::authorise::TableAccess;

/// Logical bytes of the columns that the queries read, each table of each query once, those of
/// the space included.
pub async fn bytes(hub: &Arc<Hub>, view: &ProjectView, queries: &[Optimised]) -> Result<u64> {
    let mut total = queries.iter().map(|query| query.space_bytes).sum::<u64>();
    for access in queries.iter().flat_map(|query| &query.tables) {
        for column in &access.columns {
            total = total.saturating_add(column_bytes(hub, view, access, column).await?);
        }
    }
    Ok(total)
}

async fn column_bytes(
    hub: &Arc<Hub>,
    view: &ProjectView,
    access: &TableAccess,
    column: &str,
) -> Result<u64> {
    let key = (access.digest, column.to_owned());
    if let Some(bytes) = hub.visible_sizes.lock().get(&key).copied() {
        return Ok(bytes);
    }
    let (owned, view, access) = (Arc::clone(hub), view.clone(), access.clone());
    let name = column.to_owned();
    let begin = move || async move { stored_or_measured(&owned, &view, &access, &name).await };
    let bytes = hub.engine.measuring().once(key.clone(), begin).await?;
    hub.visible_sizes.lock().insert(key, bytes);
    Ok(bytes)
}

async fn stored_or_measured(
    hub: &Arc<Hub>,
    view: &ProjectView,
    access: &TableAccess,
    column: &str,
) -> Result<u64> {
    let digest = HEXLOWER.encode(&access.digest);
    let size = VisibleSize {
        dataset: &access.dataset,
        version: hub.dataset_version(&access.dataset).unwrap_or(0),
        view_digest: &digest,
        table: &access.table,
        column,
    };
    if let Some(bytes) = hub.store.visible_size(size).await? {
        return Ok(bytes);
    }
    let bytes = measure(hub, view, access, column).await?;
    hub.store.put_visible_sizes(&[(size, bytes)]).await?;
    Ok(bytes)
}

/// What is known of how much of a table is visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub rows: Option<u64>,
    /// Of all its columns.
    pub bytes: Option<u64>,
}

/// What was measured of a table already, of all that was of its dataset: a listing measures nothing.
/// Rows are told by a column of values that are all as wide; bytes once every column was measured.
pub fn known(sizes: &VisibleSizes, table: &PolicyTable) -> Known {
    // An exact size would tell how many persons there are.
    if table.shows_aggregates_only() {
        return Known::default();
    }
    let digest = HEXLOWER.encode(&table.digest());
    let views = sizes.get(table.table());
    match views.and_then(|views| views.get(&digest)) {
        Some(columns) => known_of(&table.schema(), columns),
        None => Known::default(),
    }
}

fn known_of(schema: &Schema, sizes: &HashMap<String, u64>) -> Known {
    let columns = schema.fields().iter();
    let mut measured = columns.map(|field| {
        let width = field.data_type().primitive_width().filter(|n| *n > 0);
        (sizes.get(field.name()).copied(), width)
    });
    let rows = measured
        .clone()
        .find_map(|(bytes, width)| Some(bytes? / width? as u64));
    let bytes = measured.try_fold(0_u64, |sum, (bytes, _)| Some(sum.saturating_add(bytes?)));
    Known { rows, bytes }
}

/// Reads the column once, in a memory pool of its own as a query does. The task ends with this
/// future: nobody pays for a measurement that nobody waits for.
async fn measure(
    hub: &Arc<Hub>,
    view: &ProjectView,
    access: &TableAccess,
    column: &str,
) -> Result<u64> {
    let missing = || Error::internal("a table is gone while it is measured", &access.table);
    let table = view
        .table(&access.dataset, &access.table)
        .await?
        .ok_or_else(missing)?;
    let (table, only_counted) = readable(table);
    let schema = table.schema();
    let (_, field) = schema.column_with_name(column).ok_or_else(missing)?;
    let width = field.data_type().primitive_width();
    let plan = measuring_plan(table, column, width.is_some())?;
    let (environment, _pool) = hub.engine.query_environment();
    let state = SessionStateBuilder::new_from_existing(hub.engine.template().clone())
        .with_runtime_env(environment)
        .build();
    let measured = hub.engine.cpu().spawn(async move {
        let physical = state.create_physical_plan(&plan).await?;
        let mut batches = execute_stream(physical, state.task_ctx())?;
        let mut total = 0_u64;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let values = batch.column(0);
            total += match width {
                Some(width) => count_of(values) * width as u64,
                None => logical_bytes(values),
            };
        }
        Ok::<u64, Error>(total)
    });
    let bytes = AbortOnDropHandle::new(measured)
        .await
        .map_err(|error| Error::internal("measuring a column failed", &error))??;
    Ok(if only_counted {
        bytes.next_multiple_of(COUNTED_BYTES)
    } else {
        bytes
    })
}

/// Sizes of what may only be counted are rounded up to this: an exact size tells the number of
/// rows.
const COUNTED_BYTES: u64 = 1 << 20;

/// The table to measure, and whether its rows may only be counted.
fn readable(table: Arc<dyn TableProvider>) -> (Arc<dyn TableProvider>, bool) {
    let any = Arc::clone(&table) as Arc<dyn std::any::Any + Send + Sync>;
    match any.downcast::<PolicyTable>() {
        Ok(policy) if policy.shows_aggregates_only() => {
            let rows = PersonRows::of(&policy).map(|rows| Arc::new(rows) as _);
            (rows.unwrap_or(table), true)
        }
        _ => (table, false),
    }
}

/// The digest of a view, and a column of it.
type Key = ([u8; 32], String);
/// A measurement that several callers wait for: an error goes to each of them.
type Measurement = BoxFuture<'static, Result<u64, (ErrorKind, String)>>;

/// The measurements that run now. Only those who wait hold one, so that it ends with the last
/// of them.
#[derive(Default)]
pub struct Measuring(Mutex<HashMap<Key, WeakShared<Measurement>>>);

impl Measuring {
    /// Begins a measurement, or waits for the one of this key that runs already.
    async fn once<F>(&self, key: Key, begin: impl FnOnce() -> F) -> Result<u64>
    where
        F: Future<Output = Result<u64>> + Send + 'static,
    {
        let measurement = {
            let mut running = self.0.lock();
            running.retain(|_, measurement| measurement.upgrade().is_some());
            let found = running.get(&key).and_then(WeakShared::upgrade);
            found.unwrap_or_else(|| {
                let begun = begin().map_err(|error| (error.kind, error.to_string()));
                let begun = begun.boxed().shared();
                if let Some(weak) = begun.downgrade() {
                    running.insert(key, weak);
                }
                begun
            })
        };
        measurement
            .await
            .map_err(|(kind, text)| Error::new(kind, text))
    }
}

/// The number of rows where that is enough, else the column itself.
fn measuring_plan(
    table: Arc<dyn TableProvider>,
    column: &str,
    count_is_enough: bool,
) -> Result<LogicalPlan> {
    let scan = LogicalPlanBuilder::scan("measured", provider_as_source(table), None)?;
    let builder = if count_is_enough {
        scan.aggregate(Vec::<datafusion::prelude::Expr>::new(), vec![count_all()])?
    } else {
        scan.project(vec![col(datafusion::common::Column::from_name(column))])?
    };
    Ok(builder.build()?)
}

fn count_of(values: &ArrayRef) -> u64 {
    values
        .as_primitive_opt::<arrow::datatypes::Int64Type>()
        .filter(|counts| !counts.is_empty())
        .map_or(0, |counts| u64::try_from(counts.value(0)).unwrap_or(0))
}

/// Bytes of the values alone, whatever the encoding: the sum of the lengths of texts and
/// binaries, the width of fixed types, and the same of what lists and structs hold.
fn logical_bytes(array: &ArrayRef) -> u64 {
    let lengths = |lengths: &mut dyn Iterator<Item = usize>| lengths.map(|n| n as u64).sum();
    match array.data_type() {
        DataType::Utf8 => lengths(&mut array.as_string::<i32>().iter().flatten().map(str::len)),
        DataType::LargeUtf8 => {
            lengths(&mut array.as_string::<i64>().iter().flatten().map(str::len))
        }
        DataType::Utf8View => lengths(&mut array.as_string_view().iter().flatten().map(str::len)),
        DataType::Binary => {
            lengths(&mut array.as_binary::<i32>().iter().flatten().map(<[u8]>::len))
        }
        DataType::LargeBinary => {
            lengths(&mut array.as_binary::<i64>().iter().flatten().map(<[u8]>::len))
        }
        DataType::BinaryView => {
            lengths(&mut array.as_binary_view().iter().flatten().map(<[u8]>::len))
        }
        DataType::List(_) => array
            .as_list::<i32>()
            .iter()
            .flatten()
            .map(|v| logical_bytes(&v))
            .sum(),
        DataType::LargeList(_) => array
            .as_list::<i64>()
            .iter()
            .flatten()
            .map(|v| logical_bytes(&v))
            .sum(),
        DataType::Struct(_) => array.as_struct().columns().iter().map(logical_bytes).sum(),
        DataType::Boolean => array.len() as u64,
        DataType::FixedSizeBinary(width) => u64::from(width.unsigned_abs()) * array.len() as u64,
        DataType::FixedSizeList(_, _) => {
            let lists = array.as_fixed_size_list().iter();
            lists.flatten().map(|list| logical_bytes(&list)).sum()
        }
        DataType::Map(_, _) => {
            let pairs = array.as_map().iter().flatten();
            pairs
                .map(|pairs| logical_bytes(&(Arc::new(pairs) as ArrayRef)))
                .sum()
        }
        // As if each row held its value.
        DataType::Dictionary(_, values) => {
            cast(array, values).map_or(0, |values| logical_bytes(&values))
        }
        // Other types have no value of a size of their own.
        other => (other.primitive_width().unwrap_or(0) * array.len()) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, ListArray, StringArray, StringViewArray};
    use arrow::datatypes::{Field, Int32Type};

    #[tokio::test]
    async fn a_column_is_measured_once_for_all_who_wait() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let measuring = Measuring::default();
        let begun = AtomicU32::new(0);
        let key = || ([1; 32], "column".to_owned());
        let once = |result: fn() -> Result<u64>| {
            let begun = &begun;
            measuring.once(key(), move || {
                begun.fetch_add(1, Ordering::Relaxed);
                async move {
                    tokio::task::yield_now().await;
                    result()
                }
            })
        };
        let (a, b) = tokio::join!(once(|| Ok(7)), once(|| Ok(8)));
        assert_eq!((a.expect("measured"), b.expect("the same")), (7, 7));
        assert_eq!(begun.load(Ordering::Relaxed), 1);
        let fails = || Err(Error::exhausted("no memory"));
        let (a, b) = tokio::join!(once(fails), once(fails));
        for error in [a.expect_err("fails"), b.expect_err("fails")] {
            assert_eq!(error.kind, ErrorKind::ResourceExhausted);
        }
        assert_eq!(begun.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_measurement_ends_with_the_last_who_waits() {
        let measuring = Measuring::default();
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<()>(1);
        let endless = || {
            let sender = sender.clone();
            async move {
                let _held = sender;
                std::future::pending::<Result<u64>>().await
            }
        };
        let key = || ([1; 32], "column".to_owned());
        let wait = std::time::Duration::from_millis(5);
        let (a, b) = tokio::join!(
            tokio::time::timeout(wait, measuring.once(key(), endless)),
            tokio::time::timeout(wait * 2, measuring.once(key(), endless)),
        );
        assert!(a.is_err() && b.is_err());
        drop(sender);
        // Nothing is sent and nobody holds the sender any more.
        assert_eq!(receiver.recv().await, None);
    }

    #[test]
    fn what_is_known_is_what_was_measured() {
        let fields = [
            Field::new("t", DataType::Utf8, true),
            Field::new("n", DataType::Int64, true),
            Field::new("d", DataType::Date32, true),
        ];
        let schema = Schema::new(fields.to_vec());
        let known = |sizes: &[(&str, u64)]| {
            let sizes = sizes
                .iter()
                .map(|(name, bytes)| ((*name).to_owned(), *bytes));
            let Known { rows, bytes } = known_of(&schema, &sizes.collect());
            (rows, bytes)
        };
        assert_eq!(known(&[]), (None, None));
        // Texts tell no rows.
        assert_eq!(known(&[("t", 100)]), (None, None));
        assert_eq!(known(&[("t", 100), ("d", 12)]), (Some(3), None));
        assert_eq!(
            known(&[("t", 100), ("n", 24), ("d", 12)]),
            (Some(3), Some(136))
        );
        // No rows are known as such, and columns that are not shown count for nothing.
        assert_eq!(
            known(&[("t", 0), ("n", 0), ("d", 0), ("hidden", 7)]),
            (Some(0), Some(0))
        );
    }

    #[test]
    fn sizes_are_those_of_the_values() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("ab"), None, Some("é")]));
        assert_eq!(logical_bytes(&texts), 4);
        let views: ArrayRef = Arc::new(StringViewArray::from(vec!["a text longer than twelve"]));
        assert_eq!(logical_bytes(&views), 25);
        assert_eq!(logical_bytes(&texts.slice(0, 1)), 2);
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
        assert_eq!(logical_bytes(&numbers), 12);
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
            Some(vec![Some(1), Some(2)]),
            None,
            Some(vec![Some(3)]),
        ]));
        assert_eq!(logical_bytes(&lists), 12);
        assert_eq!(logical_bytes(&lists.slice(2, 1)), 4);
    }
}
