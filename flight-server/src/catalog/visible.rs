//! The logical size of what a project may see: what a scan is charged by.
//!
//! It is a constant of a dataset version and a habilitation: it does not depend on the plan,
//! on pruning, or on a hidden row. Each column is measured once, through the barrier, and
//! kept in the store.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use data_encoding::HEXLOWER;
use datafusion::catalog::TableProvider;
use datafusion::datasource::provider_as_source;
use datafusion::functions_aggregate::count::count_all;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, col};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use hubflight_store::VisibleSize;

use super::project::ProjectView;
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::plan::Optimised;
use crate::plan::authorise::TableAccess;

/// Logical bytes of the columns that the queries read, each table of each query once.
pub async fn bytes(hub: &Arc<Hub>, view: &ProjectView, queries: &[Optimised]) -> Result<u64> {
    let mut total = 0_u64;
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
    let digest = HEXLOWER.encode(&access.digest);
    let size = VisibleSize {
        dataset: &access.dataset,
        version: hub.dataset_version(&access.dataset).unwrap_or(0),
        view_digest: &digest,
        table: &access.table,
        column,
    };
    let key = (access.digest, column.to_owned());
    if let Some(bytes) = hub.visible_sizes.lock().get(&key).copied() {
        return Ok(bytes);
    }
    let bytes = match hub.store.visible_size(size.clone()).await? {
        Some(bytes) => bytes,
        None => {
            let bytes = measure(hub, view, access, column).await?;
            hub.store.put_visible_sizes(&[(size, bytes)]).await?;
            bytes
        }
    };
    hub.visible_sizes.lock().insert(key, bytes);
    Ok(bytes)
}

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
    let schema = table.schema();
    let (_, field) = schema.column_with_name(column).ok_or_else(missing)?;
    let width = field.data_type().primitive_width();
    let plan = measuring_plan(table, column, width.is_some())?;
    let state = hub.engine.template().clone();
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
    measured
        .await
        .map_err(|error| Error::internal("measuring a column failed", &error))?
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
        other => other.primitive_width().map_or_else(
            || array.get_array_memory_size(),
            |width| width * array.len(),
        ) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, ListArray, StringArray, StringViewArray};
    use arrow::datatypes::Int32Type;

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
