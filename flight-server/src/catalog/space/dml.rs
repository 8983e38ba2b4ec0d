//! UPDATE and DELETE as reads: what the rewritten files of a table hold.
//!
//! SQL changes a row only where the predicate is true, so the rest are the rows where it is
//! false *or NULL*: `predicate IS NOT TRUE`, evaluated once for each row wherever it may
//! differ from one evaluation to the next.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::datasource::provider_as_source;
use datafusion::functions_aggregate::count::count_all;
use datafusion::logical_expr::{
    BinaryExpr, DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, Operator, Projection, Values,
    WriteOp, lit, when,
};

use crate::error::{Error, Result};

/// An UPDATE or DELETE, taken apart.
#[derive(Clone, Debug)]
pub struct Rewriting {
    /// The table with all its columns, under the name that the expressions use.
    base: LogicalPlan,
    predicate: Option<Expr>,
    /// The new value of each column, in order; none for DELETE.
    values: Option<Vec<Expr>>,
}

/// The rows of a rewritten file.
#[derive(Debug)]
pub struct Rewritten {
    pub plan: LogicalPlan,
    /// True if the last column says which rows were changed; else rows that are missing were
    /// deleted.
    pub flagged: bool,
}

impl Rewriting {
    /// Takes apart what the planner made of the statement; its input has no open placeholder.
    pub fn new(op: &WriteOp, input: &LogicalPlan) -> Result<Self> {
        let (values, source) = match (op, input) {
            (WriteOp::Update, LogicalPlan::Projection(projection)) => {
                (Some(projection.expr.clone()), projection.input.as_ref())
            }
            (WriteOp::Delete, source) => (None, source),
            _ => {
                return Err(Error::invalid(format!(
                    "{} is not available here",
                    op.name()
                )));
            }
        };
        let (predicate, base) = match source {
            LogicalPlan::Filter(filter) => (
                Some(filter.predicate.clone()),
                filter.input.as_ref().clone(),
            ),
            other => (None, other.clone()),
        };
        let rewriting = Self {
            base,
            predicate,
            values,
        };
        rewriting.check()?;
        Ok(rewriting)
    }

    fn check(&self) -> Result<()> {
        let Some(predicate) = &self.predicate else {
            return Ok(());
        };
        if !complement_is_exact(predicate)? {
            return Err(Error::invalid(
                "in the condition of UPDATE and DELETE, IN (SELECT …) may be combined with AND \
                 and OR only; write NOT EXISTS (SELECT … WHERE …) instead of NOT IN (SELECT …)",
            ));
        }
        if self.values.is_some() && asks_a_set(predicate)? && predicate.is_volatile() {
            return Err(Error::invalid(
                "the condition of UPDATE cannot have both a random value and IN or EXISTS; store \
                 the rows to change in a table first",
            ));
        }
        Ok(())
    }

    /// True for DELETE without a condition.
    pub fn deletes_all(&self) -> bool {
        self.values.is_none() && self.predicate.is_none()
    }

    /// The same of other rows: those of one file.
    pub fn of(&self, provider: &Arc<dyn TableProvider>) -> Result<Self> {
        let base = self.base.clone().transform_up(|node| match node {
            LogicalPlan::TableScan(mut scan) => {
                scan.source = provider_as_source(Arc::clone(provider));
                Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(Self {
            base: base.data,
            ..self.clone()
        })
    }

    /// Counts the rows that will be changed, where that is cheap and sure to be the same
    /// later: it spares files without any.
    pub fn count(&self) -> Result<Option<LogicalPlan>> {
        let Some(predicate) = &self.predicate else {
            return Ok(None);
        };
        if asks_a_set(predicate)? || predicate.is_volatile() || calls_worker(predicate)? {
            return Ok(None);
        }
        let plan = LogicalPlanBuilder::from(self.base.clone())
            .filter(predicate.clone())?
            .aggregate(Vec::<Expr>::new(), vec![count_all()])?
            .build()?;
        Ok(Some(plan))
    }

    /// What the rewritten file holds.
    pub fn rewritten(&self) -> Result<Rewritten> {
        match (&self.values, &self.predicate) {
            (None, None) => Ok(Rewritten {
                plan: LogicalPlanBuilder::from(self.base.clone())
                    .limit(0, Some(0))?
                    .build()?,
                flagged: false,
            }),
            (None, Some(predicate)) => Ok(Rewritten {
                plan: LogicalPlanBuilder::from(self.base.clone())
                    .filter(predicate.clone().is_not_true())?
                    .build()?,
                flagged: false,
            }),
            (Some(values), Some(predicate)) if asks_a_set(predicate)? => Ok(Rewritten {
                plan: self.in_two_parts(values, predicate)?,
                flagged: true,
            }),
            (Some(values), predicate) => Ok(Rewritten {
                plan: self.in_one_pass(values, predicate.as_ref())?,
                flagged: true,
            }),
        }
    }

    /// UPDATE row by row: the condition becomes a column, evaluated once.
    fn in_one_pass(&self, values: &[Expr], predicate: Option<&Expr>) -> Result<LogicalPlan> {
        let flag = self.flag_name();
        let hit = predicate.map_or_else(|| lit(true), |predicate| predicate.clone().is_true());
        let mut columns = self.columns();
        let mut updated = Vec::with_capacity(columns.len() + 1);
        for (value, column) in values.iter().zip(&columns) {
            let name = column_name(column);
            let value = value.clone().unalias();
            let value = if value == *column || predicate.is_none() {
                value
            } else {
                when(flag_column(&flag), value).otherwise(column.clone())?
            };
            updated.push(value.alias(name));
        }
        updated.push(flag_column(&flag));
        columns.push(hit.alias(&flag));
        let plan = LogicalPlanBuilder::from(self.base.clone())
            .project(columns)?
            .project(updated)?
            .build()?;
        Ok(plan)
    }

    /// UPDATE whose condition asks a subquery for members, which the planner answers in
    /// filters only: the changed rows, and the others.
    fn in_two_parts(&self, values: &[Expr], predicate: &Expr) -> Result<LogicalPlan> {
        let flag = self.flag_name();
        let part = |predicate: Expr, values: Vec<Expr>, hit: bool| -> Result<LogicalPlan> {
            let mut columns: Vec<Expr> = values
                .into_iter()
                .zip(self.columns())
                .map(|(value, column)| value.unalias().alias(column_name(&column)))
                .collect();
            columns.push(lit(hit).alias(&flag));
            Ok(LogicalPlanBuilder::from(self.base.clone())
                .filter(predicate)?
                .project(columns)?
                .build()?)
        };
        let changed = part(predicate.clone(), values.to_vec(), true)?;
        let others = part(predicate.clone().is_not_true(), self.columns(), false)?;
        Ok(LogicalPlanBuilder::from(changed).union(others)?.build()?)
    }

    fn columns(&self) -> Vec<Expr> {
        self.base
            .schema()
            .iter()
            .map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field))))
            .collect()
    }

    /// A name that no column has.
    fn flag_name(&self) -> String {
        let mut name = String::from("changed");
        while self.base.schema().has_column_with_unqualified_name(&name) {
            name.push('_');
        }
        name
    }
}

/// The plan of an INSERT's rows, in the columns of its table.
pub fn inserted(dml: &DmlStatement) -> Result<LogicalPlan> {
    match &dml.op {
        WriteOp::Insert(datafusion::logical_expr::dml::InsertOp::Append) => {
            nullable_values(dml.input.as_ref().clone())
        }
        _ => Err(Error::invalid(
            "INSERT adds rows; to replace a table's rows, DELETE them first or write CREATE OR \
             REPLACE TABLE … AS SELECT",
        )),
    }
}

/// The plan of an INSERT with values that may be NULL. The planner declares them as the table's columns
/// are, and so NULL would be refused by its place among the values; whoever writes the rows names the
/// column.
fn nullable_values(plan: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Projection(projection) = &plan else {
        return Ok(plan);
    };
    let LogicalPlan::Values(values) = projection.input.as_ref() else {
        return Ok(plan);
    };
    let fields = values.schema.fields().iter();
    let fields = fields.map(|field| field.as_ref().clone().with_nullable(true));
    let schema = DFSchema::from_unqualified_fields(fields.collect(), HashMap::new())?;
    let values = LogicalPlan::Values(Values {
        schema: Arc::new(schema),
        values: values.values.clone(),
    });
    let columns = Projection::try_new(projection.expr.clone(), Arc::new(values))?;
    Ok(LogicalPlan::Projection(columns))
}

fn flag_column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

fn column_name(expr: &Expr) -> String {
    match expr {
        Expr::Column(column) => column.name.clone(),
        other => other.schema_name().to_string(),
    }
}

/// True if the expression asks whether something is in, or exists in, a subquery.
fn asks_a_set(expr: &Expr) -> Result<bool> {
    Ok(expr.exists(|expr| {
        Ok(matches!(
            expr,
            Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)
        ))
    })?)
}

/// Whether `expr IS NOT TRUE` keeps exactly the rows that `expr` does not select. Inside other
/// expressions the planner answers IN (SELECT …) with false where SQL says NULL: the same for
/// AND and OR, but not under a negation or a comparison.
fn complement_is_exact(expr: &Expr) -> Result<bool> {
    match expr {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::And | Operator::Or,
            right,
        }) => Ok(complement_is_exact(left)? && complement_is_exact(right)?),
        Expr::InSubquery(membership) => Ok(!membership.negated && !asks_members(&membership.expr)?),
        other => Ok(!asks_members(other)?),
    }
}

fn asks_members(expr: &Expr) -> Result<bool> {
    Ok(expr.exists(|expr| Ok(matches!(expr, Expr::InSubquery(_) | Expr::SetComparison(_))))?)
}

/// True if a worker is asked: that is charged, so never done twice.
fn calls_worker(expr: &Expr) -> Result<bool> {
    Ok(expr.exists(|expr| {
        Ok(matches!(expr, Expr::ScalarFunction(call)
            if hubflight_protocol::function(call.name()).is_some()))
    })?)
}

/// True if any part of a plan asks a worker.
pub fn plan_calls_worker(plan: &LogicalPlan) -> Result<bool> {
    use datafusion::common::tree_node::TreeNodeRecursion;
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        for expr in node.expressions() {
            found |= calls_worker(&expr).map_err(datafusion::error::DataFusionError::from)?;
        }
        Ok(if found {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::util::display::array_value_to_string;
    use datafusion::datasource::source_as_provider;
    use datafusion::prelude::SessionContext;

    const ROWS: &str = "(1, 'a'), (2, 'b'), (NULL, 'c'), (4, NULL), (5, 'e')";

    async fn context() -> SessionContext {
        let context = SessionContext::new();
        for sql in [
            &format!(
                "CREATE TABLE t AS SELECT CAST(column1 AS INT) AS a, column2 AS b FROM (VALUES {ROWS})"
            ),
            "CREATE TABLE s AS SELECT CAST(column1 AS INT) AS x FROM (VALUES (1), (NULL), (5))",
        ] {
            context
                .sql(sql)
                .await
                .expect(sql)
                .collect()
                .await
                .expect(sql);
        }
        context
    }

    async fn rewriting(context: &SessionContext, sql: &str) -> Result<Rewriting> {
        let plan = context.state().create_logical_plan(sql).await?;
        let LogicalPlan::Dml(dml) = plan else {
            panic!("{sql} is no change");
        };
        Rewriting::new(&dml.op, &dml.input)
    }

    async fn rows(context: &SessionContext, plan: LogicalPlan) -> Vec<String> {
        let plan = context.execute_logical_plan(plan).await.expect("plans");
        let mut rows = Vec::new();
        for batch in plan.collect().await.expect("runs") {
            for row in 0..batch.num_rows() {
                let cells: Vec<String> = batch
                    .columns()
                    .iter()
                    .map(|column| array_value_to_string(column, row).expect("prints"))
                    .collect();
                rows.push(cells.join(" "));
            }
        }
        rows.sort();
        rows
    }

    async fn check(sql: &str, expected: &[&str]) {
        let context = context().await;
        let rewriting = rewriting(&context, sql).await.expect(sql);
        let rewritten = rewriting.rewritten().expect(sql);
        let mut found = rows(&context, rewritten.plan).await;
        if rewritten.flagged {
            // Changed rows are marked, so that the test sees the count too.
            for row in &mut found {
                *row = row.replace(" true", " *").replace(" false", "");
            }
            found.sort();
        }
        assert_eq!(found, expected, "{sql}");
    }

    /// Where the table takes none, whoever writes them says so.
    #[tokio::test]
    async fn values_of_an_insert_may_be_null() {
        let context = context().await;
        let table = "CREATE TABLE narrow (a INT NOT NULL, b VARCHAR)";
        let made = context.sql(table).await.expect(table);
        made.collect().await.expect(table);
        for (sql, expected) in [
            (
                "INSERT INTO narrow VALUES (NULL, 'x'), (2, NULL)",
                [" x", "2 "],
            ),
            (
                "INSERT INTO narrow (b, a) VALUES ('x', NULL), ('y', 2)",
                [" x", "2 y"],
            ),
            (
                "INSERT INTO narrow SELECT a, b FROM t WHERE b < 'c'",
                ["1 a", "2 b"],
            ),
        ] {
            let plan = context.state().create_logical_plan(sql).await.expect(sql);
            let LogicalPlan::Dml(dml) = plan else {
                panic!("{sql} is no change");
            };
            let plan = inserted(&dml).expect(sql);
            assert_eq!(
                plan.schema().field_names(),
                dml.input.schema().field_names()
            );
            assert_eq!(rows(&context, plan).await, expected, "{sql}");
        }
    }

    #[tokio::test]
    async fn delete_keeps_what_is_false_or_null() {
        check("DELETE FROM t WHERE a > 1", &[" c", "1 a"]).await;
        check(
            "DELETE FROM t WHERE NOT (a > 1)",
            &[" c", "2 b", "4 ", "5 e"],
        )
        .await;
        check(
            "DELETE FROM t WHERE b IS NULL OR a = 1",
            &[" c", "2 b", "5 e"],
        )
        .await;
        check("DELETE FROM t", &[]).await;
        check(
            "DELETE FROM t WHERE NULL",
            &[" c", "1 a", "2 b", "4 ", "5 e"],
        )
        .await;
        check(
            "DELETE FROM t WHERE a NOT IN (1, NULL)",
            &[" c", "1 a", "2 b", "4 ", "5 e"],
        )
        .await;
        check(
            "DELETE FROM t WHERE a = (SELECT max(x) FROM s)",
            &[" c", "1 a", "2 b", "4 "],
        )
        .await;
    }

    #[tokio::test]
    async fn delete_with_members_of_a_subquery() {
        check(
            "DELETE FROM t WHERE a IN (SELECT x FROM s)",
            &[" c", "2 b", "4 "],
        )
        .await;
        check(
            "DELETE FROM t WHERE a IN (SELECT x FROM s) AND b = 'a'",
            &[" c", "2 b", "4 ", "5 e"],
        )
        .await;
        check(
            "DELETE FROM t WHERE a IN (SELECT x FROM s) OR b = 'b'",
            &[" c", "4 "],
        )
        .await;
        check(
            "DELETE FROM t WHERE EXISTS (SELECT 1 FROM s WHERE x = a)",
            &[" c", "2 b", "4 "],
        )
        .await;
        check(
            "DELETE FROM t WHERE NOT EXISTS (SELECT 1 FROM s WHERE x = a)",
            &["1 a", "5 e"],
        )
        .await;
        check(
            "DELETE FROM t WHERE EXISTS (SELECT 1 FROM s WHERE s.x = t.a AND t.b = 'e')",
            &[" c", "1 a", "2 b", "4 "],
        )
        .await;
    }

    #[tokio::test]
    async fn update_sees_old_values_only() {
        check(
            "UPDATE t SET a = a + 1 WHERE a >= 4",
            &[" c", "1 a", "2 b", "5  *", "6 e *"],
        )
        .await;
        check(
            "UPDATE t SET b = CAST(a AS VARCHAR), a = NULL WHERE b = 'b'",
            &[" 2 *", " c", "1 a", "4 ", "5 e"],
        )
        .await;
        check(
            "UPDATE t SET a = 0",
            &["0  *", "0 a *", "0 b *", "0 c *", "0 e *"],
        )
        .await;
        check(
            "UPDATE t SET a = 10 / a WHERE a IS NOT NULL",
            &[" c", "10 a *", "2  *", "2 e *", "5 b *"],
        )
        .await;
        check(
            "UPDATE t AS u SET a = 7 WHERE u.b = 'a'",
            &[" c", "2 b", "4 ", "5 e", "7 a *"],
        )
        .await;
        check(
            "UPDATE t SET a = (SELECT max(x) FROM s) WHERE a IS NULL",
            &["1 a", "2 b", "4 ", "5 c *", "5 e"],
        )
        .await;
        check(
            "UPDATE t SET b = (SELECT CAST(max(x) AS VARCHAR) FROM s WHERE s.x = t.a) WHERE a < 3",
            &[" c", "1 1 *", "2  *", "4 ", "5 e"],
        )
        .await;
    }

    #[tokio::test]
    async fn update_with_members_of_a_subquery() {
        check(
            "UPDATE t SET a = -a WHERE a IN (SELECT x FROM s)",
            &[" c", "-1 a *", "-5 e *", "2 b", "4 "],
        )
        .await;
        check(
            "UPDATE t SET a = 0 WHERE NOT EXISTS (SELECT 1 FROM s WHERE x = a)",
            &["0  *", "0 b *", "0 c *", "1 a", "5 e"],
        )
        .await;
    }

    #[tokio::test]
    async fn a_random_condition_neither_loses_nor_doubles_rows() {
        let context = context().await;
        context
            .sql("CREATE TABLE many AS SELECT value AS a FROM generate_series(1, 20000)")
            .await
            .expect("makes")
            .collect()
            .await
            .expect("makes");
        let sql = "UPDATE many SET a = -a WHERE random() < 0.5";
        let rewritten = rewriting(&context, sql)
            .await
            .expect(sql)
            .rewritten()
            .expect(sql);
        let found = rows(&context, rewritten.plan).await;
        assert_eq!(found.len(), 20_000);
        let changed = found.iter().filter(|row| row.starts_with('-')).count();
        assert!((8_000..12_000).contains(&changed), "{changed}");
        for row in &found {
            assert_eq!(row.starts_with('-'), row.ends_with(" true"), "{row}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_rewritten_exactly_is_refused() {
        let context = context().await;
        for sql in [
            "DELETE FROM t WHERE a NOT IN (SELECT x FROM s)",
            "DELETE FROM t WHERE NOT (a IN (SELECT x FROM s))",
            "DELETE FROM t WHERE (a IN (SELECT x FROM s)) IS NULL",
            "UPDATE t SET a = 1 WHERE (a IN (SELECT x FROM s)) = false",
            "UPDATE t SET a = 1 WHERE random() < 0.5 AND a IN (SELECT x FROM s)",
        ] {
            let error = rewriting(&context, sql).await.expect_err(sql);
            assert_eq!(
                error.kind,
                crate::error::ErrorKind::InvalidArgument,
                "{sql}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn one_file_is_rewritten_while_subqueries_see_the_whole_table() {
        let context = context().await;
        let one = context
            .sql("SELECT CAST(5 AS INT) AS a, 'e' AS b")
            .await
            .expect("plans")
            .into_view();
        let sql = "DELETE FROM t WHERE a < (SELECT max(a) FROM t) OR b = 'none'";
        let part = rewriting(&context, sql)
            .await
            .expect(sql)
            .of(&one)
            .expect("replaces");
        let count = part.count().expect("plans").expect("is cheap");
        assert_eq!(rows(&context, count).await, ["0"]);
        let kept = part.rewritten().expect("plans").plan;
        let mut scans = 0;
        kept.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let provider = source_as_provider(&scan.source)?;
                scans += usize::from(Arc::ptr_eq(&provider, &one));
            }
            Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
        })
        .expect("walks");
        assert_eq!(scans, 1);
        assert_eq!(rows(&context, kept).await, ["5 e"]);
    }
}
