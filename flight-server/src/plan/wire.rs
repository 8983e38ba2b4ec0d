//! What crosses the wire: plain types, one schema said in advance and kept to the letter.
//!
//! Flight info and stream must give the same schema, nullability included, and released
//! drivers do not read views. So every field is declared nullable, views and dictionaries
//! become plain arrays, and each batch is cast to what was declared.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, TableReference};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use hubflight_policy::{aggregate, clean};

use crate::catalog::project::SPACE_SCHEMA;
use crate::error::{Error, Result};
use crate::flight::metadata::columns::{Place, column_metadata};

/// What fields of published columns carry: what a suppressed cell is shown as.
const SUPPRESSED: (&str, &str) = ("hub.suppressed", "null");

/// The schema of a query's result as its client is told.
pub fn schema_of(plan: &LogicalPlan, state: &SessionState, views: bool) -> Result<SchemaRef> {
    // Types are final only after type coercion, which the analyser does. Open placeholders
    // may hold it up: then the planner's own schema has to do.
    let analysed =
        state
            .analyzer()
            .execute_and_check(plan.clone(), state.config_options(), |_, _| {});
    let schema = match &analysed {
        Ok(analysed) => analysed.schema(),
        Err(_) if !plan.get_parameter_names()?.is_empty() => plan.schema(),
        Err(_) => {
            analysed?;
            plan.schema()
        }
    };
    let plain = described(&plain_schema(schema.as_arrow(), views), schema, plan, state)?;
    Ok(marked(&plain, &aggregate::published(plan)))
}

/// The schema with what Flight SQL says of its columns: their SQL types and sizes, and of which
/// table they are, where they are a table's as it is.
fn described(
    plain: &SchemaRef,
    schema: &DFSchema,
    plan: &LogicalPlan,
    state: &SessionState,
) -> Result<SchemaRef> {
    let options = &state.config().options().catalog;
    let tables = tables(plan)?;
    let fields = plain.fields().iter().zip(schema.iter());
    let fields = fields.map(|(field, (qualifier, _))| {
        let table = qualifier
            .and_then(|name| tables.get(name))
            .cloned()
            .flatten();
        let table = table.map(|table| {
            let (catalog, schema) = (&options.default_catalog, &options.default_schema);
            table.resolve(catalog, schema)
        });
        let place = table.as_ref().map(|table| Place {
            catalog: &table.catalog,
            schema: &table.schema,
            table: &table.table,
            writable: &*table.schema == SPACE_SCHEMA,
        });
        let mut metadata = field.metadata().clone();
        metadata.extend(column_metadata(field, place.as_ref()));
        Arc::new(field.as_ref().clone().with_metadata(metadata))
    });
    Ok(Arc::new(Schema::new(fields.collect::<Fields>())))
}

/// The tables by what the plan calls them; none behind a name of several things, or of a query.
fn tables(plan: &LogicalPlan) -> Result<HashMap<TableReference, Option<TableReference>>> {
    let mut found: HashMap<TableReference, Option<TableReference>> = HashMap::new();
    let mut add = |name: &TableReference, table: Option<&TableReference>| {
        let known = found.entry(name.clone()).or_insert_with(|| table.cloned());
        if known.as_ref() != table {
            *known = None;
        }
    };
    plan.apply(|node| {
        match node {
            LogicalPlan::TableScan(scan) => add(&scan.table_name, Some(&scan.table_name)),
            LogicalPlan::SubqueryAlias(alias) => add(
                &alias.alias,
                match alias.input.as_ref() {
                    LogicalPlan::TableScan(scan) => Some(&scan.table_name),
                    _ => None,
                },
            ),
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// The schema with a mark at each published column: in the row of suppressed cells it is NULL.
fn marked(schema: &SchemaRef, published: &[bool]) -> SchemaRef {
    if !published.contains(&true) {
        return Arc::clone(schema);
    }
    let fields = schema.fields().iter().zip(published).map(|(field, mark)| {
        let mut metadata = field.metadata().clone();
        if *mark {
            metadata.insert(SUPPRESSED.0.to_owned(), SUPPRESSED.1.to_owned());
        }
        Arc::new(field.as_ref().clone().with_metadata(metadata))
    });
    Arc::new(Schema::new(fields.collect::<Fields>()))
}

/// `schema` with plain, nullable fields.
pub fn plain_schema(schema: &Schema, views: bool) -> SchemaRef {
    Arc::new(Schema::new(plain_fields(schema.fields(), views)))
}

fn plain_fields(fields: &Fields, views: bool) -> Fields {
    fields
        .iter()
        .map(|field| plain_field(field, views))
        .collect()
}

fn plain_field(field: &FieldRef, views: bool) -> FieldRef {
    let plain = Field::new(field.name(), plain_type(field.data_type(), views), true);
    Arc::new(plain.with_metadata(field.metadata().clone()))
}

fn plain_type(data_type: &DataType, views: bool) -> DataType {
    match data_type {
        DataType::Utf8View if !views => DataType::Utf8,
        DataType::BinaryView if !views => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values, views),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type(), views),
        // Views inside other values stay plain: they could not be compacted one by one.
        DataType::List(field) | DataType::ListView(field) => {
            DataType::List(plain_field(field, false))
        }
        DataType::LargeList(field) | DataType::LargeListView(field) => {
            DataType::LargeList(plain_field(field, false))
        }
        DataType::FixedSizeList(field, size) => {
            DataType::FixedSizeList(plain_field(field, false), *size)
        }
        DataType::Struct(fields) => DataType::Struct(plain_fields(fields, false)),
        DataType::Map(entries, sorted) => DataType::Map(plain_entries(entries), *sorted),
        other => other.clone(),
    }
}

/// The entries of a map, whose keys are never NULL.
fn plain_entries(entries: &FieldRef) -> FieldRef {
    let DataType::Struct(fields) = entries.data_type() else {
        return Arc::clone(entries);
    };
    let fields = fields.iter().map(|field| {
        let plain = plain_field(field, false).as_ref().clone();
        Arc::new(plain.with_nullable(field.is_nullable()))
    });
    let fields = DataType::Struct(fields.collect());
    Arc::new(entries.as_ref().clone().with_data_type(fields))
}

/// Refuses what [`conform`] would send with more than its own values: views and dictionaries inside
/// other values, of which all of a buffer is sent.
///
/// # Errors
/// `Internal`: [`plain_schema`] leaves none.
pub fn check_sent(schema: &Schema) -> Result<()> {
    let holds = |field: &FieldRef| is_nested_view(field.data_type());
    match schema.fields().iter().find(|field| holds(field)) {
        None => Ok(()),
        Some(field) => Err(Error::internal(
            "a result would be sent with values that are not its own",
            field.data_type(),
        )),
    }
}

/// Whether a type has views, dictionaries or runs inside, or is itself what is sent by reference.
fn is_nested_view(data_type: &DataType) -> bool {
    let inside = |field: &FieldRef| match field.data_type() {
        DataType::Utf8View | DataType::BinaryView => true,
        inner => is_nested_view(inner),
    };
    match data_type {
        DataType::Dictionary(..)
        | DataType::RunEndEncoded(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_) => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => inside(field),
        DataType::Struct(fields) => fields.iter().any(inside),
        DataType::Union(fields, _) => fields.iter().any(|(_, field)| inside(field)),
        _ => false,
    }
}

/// `batch` with exactly the types of `schema`; columns that fit already are not copied, but
/// views are: their buffers may hold values of rows that were filtered out, and all of a buffer
/// is sent.
pub fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    // A value that does not fit its declared type is an error, never a silent NULL.
    let exact = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            let column = if column.data_type() == field.data_type() {
                Arc::clone(column)
            } else {
                cast_with_options(column, field.data_type(), &exact)?
            };
            // What a suppressed cell would have been may stand behind its NULL.
            let column = match field.metadata().contains_key(SUPPRESSED.0) {
                true => clean(&column)?,
                false => column,
            };
            Ok(match column.data_type() {
                DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
                DataType::BinaryView => Arc::new(column.as_binary_view().gc()) as ArrayRef,
                _ => column,
            })
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    // A batch without columns still has rows to count.
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Array, ArrayData, DictionaryArray, Int64Array, MapArray, StringViewArray, StructArray,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{Int32Type, Int64Type};

    #[test]
    fn views_and_dictionaries_become_plain() {
        let dictionary: DictionaryArray<Int32Type> = vec!["x", "y", "x"].into_iter().collect();
        let schema = Schema::new(vec![
            Field::new("v", DataType::Utf8View, false),
            Field::new("d", dictionary.data_type().clone(), false),
        ]);
        let batch = RecordBatch::try_new(
            Arc::new(schema.clone()),
            vec![
                Arc::new(StringViewArray::from(vec![
                    "a",
                    "b",
                    "a string longer than twelve",
                ])),
                Arc::new(dictionary),
            ],
        )
        .expect("valid");
        let plain = plain_schema(&schema, false);
        assert!(plain.fields().iter().all(|field| field.is_nullable()));
        let sent = conform(&batch, &plain).expect("conforms");
        assert_eq!(sent.column(0).data_type(), &DataType::Utf8);
        assert_eq!(sent.column(1).data_type(), &DataType::Utf8);
        let views = plain_schema(&schema, true);
        assert_eq!(views.field(0).data_type(), &DataType::Utf8View);
        assert!(check_sent(&plain).is_ok() && check_sent(&views).is_ok());
        assert!(check_sent(&schema).is_err(), "a dictionary");
    }

    /// A map of views is made of all that their buffers hold, hidden rows' values too.
    #[test]
    fn what_a_map_refers_to_does_not_leave() {
        let hidden = "a hidden text, longer than a view holds itself";
        let shown = "a shown text, longer than a view holds itself!";
        let texts = StringViewArray::from(vec![shown, hidden]);
        let texts: ArrayRef = Arc::new(texts.slice(0, 1));
        let key = Arc::new(Field::new("key", DataType::Utf8View, false));
        let value = Arc::new(Field::new("value", DataType::Utf8View, true));
        let entries = vec![(key, Arc::clone(&texts)), (value, texts)];
        let entries = StructArray::from(entries);
        let field = Field::new("entries", entries.data_type().clone(), false);
        let offsets = OffsetBuffer::new(vec![0, 1].into());
        let map = MapArray::try_new(Arc::new(field), offsets, entries, None, false).expect("valid");
        let batch = RecordBatch::try_from_iter([("m", Arc::new(map) as ArrayRef)]).expect("valid");
        let schema = batch.schema();
        assert!(check_sent(&schema).is_err());
        for views in [false, true] {
            let plain = plain_schema(&schema, views);
            check_sent(&plain).expect("without views");
            let sent = conform(&batch, &plain).expect("conforms");
            let sent = sent.column(0).to_data();
            let bytes = |data: &ArrayData, of: &str| {
                let mut all = vec![data.clone()];
                let mut found = false;
                while let Some(data) = all.pop() {
                    all.extend(data.child_data().iter().cloned());
                    let mut buffers = data.buffers().iter();
                    found |= buffers.any(|buffer| String::from_utf8_lossy(buffer).contains(of));
                }
                found
            };
            assert!(bytes(&sent, shown) && !bytes(&sent, hidden));
        }
    }

    #[test]
    fn nothing_stands_behind_the_null_of_a_suppressed_cell() {
        let behind = Int64Array::new(vec![7, 8].into(), Some(vec![true, false].into()));
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(behind)]);
        let marked = marked(&schema, &[true]);
        let sent = conform(&batch.expect("valid"), &marked).expect("conforms");
        let sent = sent.column(0).as_primitive::<Int64Type>();
        assert_eq!(
            (sent.values().as_ref(), sent.null_count()),
            (&[7, 0][..], 1)
        );
    }
}
