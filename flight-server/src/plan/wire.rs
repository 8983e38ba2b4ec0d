//! What crosses the wire: plain types, one schema said in advance and kept to the letter.
//!
//! Flight info and stream must give the same schema, nullability included, and released
//! drivers do not read views. So every field is declared nullable, views and dictionaries
//! become plain arrays, and each batch is cast to what was declared.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use hubflight_policy::aggregate;

use crate::error::Result;

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
    let plain = plain_schema(schema.as_arrow(), views);
    Ok(marked(&plain, &aggregate::published(plan)))
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
        other => other.clone(),
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
    use arrow::array::{Array, DictionaryArray, StringViewArray};
    use arrow::datatypes::Int32Type;

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
    }
}
