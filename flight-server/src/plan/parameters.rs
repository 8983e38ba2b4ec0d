//! Parameters of prepared statements: their types as the planner found them, and the rows
//! that a client bound.

use std::collections::{HashMap, HashSet};
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion, TreeNodeVisitor};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::error::{Error, Result};

/// Bytes of one row of parameters, each counted as often as the statement has it.
const COPIES_BYTES_MAX: usize = 96 << 20;

/// One unnamed field a placeholder, in order; Null type where the planner cannot know.
pub fn schema(plan: &LogicalPlan) -> Result<Schema> {
    let types = plan.get_parameter_types()?;
    let said = said_types(plan)?;
    let highest = types
        .keys()
        .filter_map(|name| name.strip_prefix('$')?.parse::<usize>().ok())
        .max()
        .unwrap_or(0);
    let fields: Vec<Field> = (1..=highest)
        .map(|index| {
            let name = format!("${index}");
            let known = types.get(&name).cloned().flatten();
            let known = known.or_else(|| said.get(&name).cloned());
            Field::new("", known.unwrap_or(DataType::Null), true)
        })
        .collect();
    Ok(Schema::new(fields))
}

/// The types that a statement itself gives its placeholders, which the planner leaves open: by a cast,
/// and as numbers of rows.
fn said_types(plan: &LogicalPlan) -> Result<HashMap<String, DataType>> {
    let mut said = HashMap::new();
    plan.apply_with_subqueries(|node| {
        let counts_rows = matches!(node, LogicalPlan::Limit(_));
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                let (part, told) = match part {
                    Expr::Cast(cast) => (cast.expr.as_ref(), Some(cast.field.data_type())),
                    Expr::TryCast(cast) => (cast.expr.as_ref(), Some(cast.field.data_type())),
                    part => (part, counts_rows.then_some(&DataType::Int64)),
                };
                if let (Expr::Placeholder(placeholder), Some(told)) = (part, told) {
                    said.insert(placeholder.id.clone(), told.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(said)
}

/// Rows of parameters as bytes that fit in a ticket.
pub fn encode(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    if batches.iter().all(|batch| batch.num_rows() == 0) {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

/// Bytes of no rows at all, where a client binds them: its statement runs for none.
pub fn of_no_rows() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    StreamWriter::try_new(&mut bytes, &Schema::empty())?.finish()?;
    Ok(bytes)
}

/// The rows of [`encode`], each as the values of `$1`, `$2`, …; no rows for no bytes.
pub fn decode(bytes: &[u8]) -> Result<Vec<Vec<ScalarValue>>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = Vec::new();
    for batch in StreamReader::try_new(Cursor::new(bytes), None)? {
        rows.extend(rows_of(&batch?)?);
    }
    Ok(rows)
}

/// The rows of a batch of parameters; a union's value is what it is one of.
pub fn rows_of(batch: &RecordBatch) -> Result<Vec<Vec<ScalarValue>>> {
    (0..batch.num_rows())
        .map(|row| {
            batch
                .columns()
                .iter()
                .map(|column| match column.as_union_opt() {
                    Some(union) => Ok(ScalarValue::try_from_array(&union.value(row), 0)?),
                    None => Ok(ScalarValue::try_from_array(column, row)?),
                })
                .collect()
        })
        .collect()
}

/// Bound rows must have one value for each placeholder.
pub fn check_arity(rows: &[Vec<ScalarValue>], placeholders: usize) -> Result<()> {
    match rows.iter().find(|row| row.len() != placeholders) {
        Some(row) => Err(Error::invalid(format!(
            "the statement has {placeholders} parameters and a row of {} values was bound",
            row.len()
        ))),
        None => Ok(()),
    }
}

/// Refuses values that a plan would copy into too many places: where their placeholders are, and,
/// since the planner puts what a column is computed of in its place, where such columns are.
pub fn check_copies(plan: &LogicalPlan, row: &[ScalarValue]) -> Result<()> {
    let mut weights = Weights {
        row,
        of_columns: HashMap::new(),
        placed: 0,
    };
    plan.visit_with_subqueries(&mut weights)?;
    let read = weights.read(plan)?;
    for bytes in [weights.placed, read] {
        if bytes > COPIES_BYTES_MAX {
            return Err(Error::exhausted(format!(
                "the values of the parameters stand for {bytes} bytes where the statement has them \
                 and at most {COPIES_BYTES_MAX} are allowed; write large ones once"
            )));
        }
    }
    Ok(())
}

/// Bytes of the parameters that expressions hold, columns known by their names alone.
struct Weights<'a> {
    row: &'a [ScalarValue],
    /// The most that an expression of this name holds.
    of_columns: HashMap<String, usize>,
    /// Of all placeholders.
    placed: usize,
}

impl Weights<'_> {
    fn of_placeholder(&self, placeholder: &Placeholder) -> usize {
        let index = placeholder.id.strip_prefix('$').map(str::parse::<usize>);
        let index = index.and_then(std::result::Result::ok).unwrap_or(0);
        let value = self.row.get(index.wrapping_sub(1));
        value.map_or(0, ScalarValue::size)
    }

    fn of_column(&self, column: &Column) -> usize {
        self.of_columns.get(&column.name).copied().unwrap_or(0)
    }

    /// Bytes of the columns that are read. A step that only passes a column on has the one that it
    /// was given.
    fn read(&self, plan: &LogicalPlan) -> Result<usize> {
        let mut bytes = 0_usize;
        plan.apply_with_subqueries(|node| {
            let mut passed = HashSet::new();
            node.apply_expressions(|expr| {
                let inner = match expr {
                    Expr::Alias(alias) => alias.expr.as_ref(),
                    other => other,
                };
                if let Expr::Column(column) = inner
                    && passed.insert(column.clone())
                {
                    return Ok(TreeNodeRecursion::Continue);
                }
                expr.apply(|part| {
                    if let Expr::Column(column) | Expr::OuterReferenceColumn(_, column) = part {
                        bytes = bytes.saturating_add(self.of_column(column));
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        Ok(bytes)
    }
}

/// From the leaves up, so that what a column holds is known where it is read.
impl<'n> TreeNodeVisitor<'n> for Weights<'_> {
    type Node = LogicalPlan;

    fn f_up(&mut self, node: &'n LogicalPlan) -> datafusion::error::Result<TreeNodeRecursion> {
        node.apply_expressions(|expr| {
            let (mut placed, mut read) = (0_usize, 0_usize);
            expr.apply(|part| {
                match part {
                    Expr::Placeholder(placeholder) => {
                        placed = placed.saturating_add(self.of_placeholder(placeholder));
                    }
                    Expr::Column(column) => read = read.saturating_add(self.of_column(column)),
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
            self.placed = self.placed.saturating_add(placed);
            let bytes = placed.saturating_add(read);
            if bytes > 0 {
                let held = self.of_columns.entry(expr.schema_name().to_string());
                let held = held.or_default();
                *held = bytes.max(*held);
            }
            Ok(TreeNodeRecursion::Continue)
        })
    }
}

/// An empty schema for statements without parameters.
pub fn none() -> SchemaRef {
    Arc::new(Schema::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};

    #[test]
    fn rows_travel_through_a_ticket() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("", DataType::Int64, true),
            Field::new("", DataType::Utf8, true),
        ]));
        let batch = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(Int64Array::from(vec![Some(1), None])),
                Arc::new(StringArray::from(vec!["a", "é"])),
            ],
        )
        .expect("valid");
        let bytes = encode(&schema, &[batch]).expect("encodes");
        let rows = decode(&bytes).expect("decodes");
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1][0], ScalarValue::Int64(None));
        assert_eq!(rows[1][1], ScalarValue::Utf8(Some("é".into())));
        assert!(check_arity(&rows, 2).is_ok());
        assert!(check_arity(&rows, 1).is_err());
        assert!(decode(b"not arrow").is_err());
        assert!(decode(&[]).expect("none").is_empty());
        let none = of_no_rows().expect("encodes");
        assert!(!none.is_empty() && decode(&none).expect("decodes").is_empty());
    }

    #[tokio::test]
    async fn large_values_in_many_places_are_refused() {
        let context = datafusion::prelude::SessionContext::new();
        let plan = async |times: usize| {
            let columns: Vec<String> = (0..times).map(|at| format!("$1::TEXT AS a{at}")).collect();
            let planned = context.sql(&format!("SELECT {}", columns.join(", "))).await;
            planned.expect("planned").into_unoptimized_plan()
        };
        let value = [ScalarValue::from("x".repeat(20 << 20))];
        check_copies(&plan(4).await, &value).expect("80 MiB");
        let error = check_copies(&plan(5).await, &value).expect_err("100 MiB");
        assert_eq!(error.kind, crate::error::ErrorKind::ResourceExhausted);
        check_copies(&plan(5).await, &[ScalarValue::from("x")]).expect("small");
    }

    /// The planner writes `$1` wherever its column is read.
    #[tokio::test]
    async fn columns_of_large_values_in_many_places_are_refused() {
        let context = datafusion::prelude::SessionContext::new();
        let check = async |sql: &str, bytes: usize| {
            let planned = context.sql(sql).await.expect("planned");
            let value = [ScalarValue::from("x".repeat(bytes))];
            check_copies(&planned.into_unoptimized_plan(), &value)
        };
        let inner = "SELECT $1::TEXT AS a, value FROM range(2)";
        let many: Vec<String> = (0..200).map(|at| format!("a = 'x{at}'")).collect();
        let many = many.join(" OR ");
        for sql in [
            format!("SELECT 1 FROM ({inner}) WHERE value = 1 OR {many}"),
            format!("SELECT 1 FROM (SELECT upper(a) AS b FROM ({inner})) t(a) WHERE {many}"),
            format!(
                "SELECT 1 FROM ({inner}) s WHERE EXISTS (SELECT 1 FROM range(1) r WHERE r.value = s.value AND ({}))",
                many.replace("a =", "s.a =")
            ),
            format!("SELECT count(*) FROM ({inner}) GROUP BY a HAVING {many}"),
        ] {
            let error = check(&sql, 600_000).await.expect_err(&sql);
            assert_eq!(error.kind, crate::error::ErrorKind::ResourceExhausted);
            check(&sql, 60).await.expect(&sql);
        }
        let once =
            "SELECT a, octet_length(a), sha256(a) FROM (SELECT a FROM (SELECT $1::TEXT AS a) s) t";
        check(once, 40 << 20)
            .await
            .expect("an image that is described");
    }
}
