//! How large the optimiser would make an expression. DataFusion 55 writes some operands twice (of
//! `BETWEEN`, `coalesce`, `floor(x) = 1`), and a filter that it moves below a projection has what is
//! computed there in the place of each use. A dozen of such steps in one another take minutes and
//! gigabytes within one rule, which nothing interrupts, so they are counted before.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};

use crate::error::{Error, Result};

/// Parts of an expression that are written out, beside [`OWN_TIMES`] what the statement has.
const PARTS_MAX: u64 = 8_000;
/// How often over the parts of a statement may be written out where they do not nest.
const OWN_TIMES: u64 = 4;
/// Functions of which DataFusion knows from which values a result comes: a comparison with a constant
/// becomes two of what they are called with.
const WITH_PREIMAGES: [&str; 2] = ["floor", "date_part"];
/// Functions that become CASE, with all but the last argument in condition and result.
const CHOICES: [&str; 3] = ["coalesce", "nvl", "ifnull"];

/// Refuses a plan whose expressions would become too large.
pub fn check(plan: &LogicalPlan) -> Result<()> {
    let mut parts = Parts::default();
    parts.of_columns(plan)?;
    let most = PARTS_MAX.saturating_add(parts.own.saturating_mul(OWN_TIMES));
    if parts.largest > most {
        return Err(Error::invalid(format!(
            "an expression of the statement stands for more than {most} parts: BETWEEN, coalesce and \
             columns that a subquery computes are written out at each use, and these are nested in \
             one another; keep a step of it in a table of schema `space`"
        )));
    }
    Ok(())
}

#[derive(Default)]
struct Parts {
    /// As the statement has them.
    own: u64,
    /// Of the largest expression, written out.
    largest: u64,
}

/// The parts that each column of what is read stands for, by its name.
type Known = HashMap<String, u64>;

impl Parts {
    /// The parts that each column of a plan stands for, in its order.
    fn of_columns(&mut self, plan: &LogicalPlan) -> Result<Vec<u64>> {
        let mut known = Known::new();
        let mut inputs = Vec::new();
        for input in plan.inputs() {
            let columns = self.of_columns(input)?;
            for (field, parts) in input.schema().fields().iter().zip(&columns) {
                let most = known.entry(field.name().clone()).or_default();
                *most = (*most).max(*parts);
            }
            inputs.push(columns);
        }
        let nothing = Known::new();
        let mut given = Vec::new();
        let mut subqueries = Vec::new();
        plan.apply_expressions(|expr| {
            self.own = self.own.saturating_add(nodes(expr, &mut subqueries)?);
            // What is computed is not put into what is computed of it, but into a filter.
            let alone = written(expr, &nothing);
            let parts = written(expr, &known);
            let moved = match plan {
                LogicalPlan::Filter(_) | LogicalPlan::Join(_) => parts,
                _ => alone,
            };
            self.largest = self.largest.max(moved);
            given.push(parts);
            Ok(TreeNodeRecursion::Continue)
        })?;
        for subquery in subqueries {
            self.of_columns(&subquery)?;
        }
        let names = plan.schema().fields().iter();
        let passed = names.map(|field| known.get(field.name()).copied().unwrap_or(1));
        Ok(match plan {
            LogicalPlan::Projection(_) => given,
            LogicalPlan::Aggregate(aggregate) => {
                // Filters pass groups, and no aggregates.
                given.truncate(aggregate.group_expr.len());
                given.resize(plan.schema().fields().len(), 1);
                given
            }
            LogicalPlan::Union(_) => (0..plan.schema().fields().len())
                .map(|at| inputs.iter().filter_map(|columns| columns.get(at)).max())
                .map(|most| most.copied().unwrap_or(1))
                .collect(),
            _ => passed.collect(),
        })
    }
}

/// The parts of an expression as it is, whose subqueries are put aside.
fn nodes(expr: &Expr, subqueries: &mut Vec<Arc<LogicalPlan>>) -> datafusion::error::Result<u64> {
    let mut count = 0_u64;
    expr.apply(|part| {
        count += 1;
        subqueries.extend(match part {
            Expr::ScalarSubquery(subquery) => Some(subquery.subquery.clone()),
            Expr::Exists(exists) => Some(exists.subquery.subquery.clone()),
            Expr::InSubquery(within) => Some(within.subquery.subquery.clone()),
            Expr::SetComparison(compared) => Some(compared.subquery.subquery.clone()),
            _ => None,
        });
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(count)
}

/// The parts of an expression once it is written out.
fn written(expr: &Expr, known: &Known) -> u64 {
    let twice = |expr: &Expr| written(expr, known).saturating_mul(2);
    let children = || {
        let mut parts = 1_u64;
        // Never fails.
        let _ = expr.apply_children(|child| {
            parts = parts.saturating_add(written(child, known));
            Ok(TreeNodeRecursion::Continue)
        });
        parts
    };
    match expr {
        Expr::Column(column) => known.get(&column.name).copied().unwrap_or(1),
        // Each part is counted once, or counting would take as long as writing it out.
        Expr::Between(between) => [&between.low, &between.high]
            .into_iter()
            .map(|end| written(end, known))
            .fold(twice(&between.expr), u64::saturating_add),
        Expr::InList(list) => list
            .list
            .iter()
            .map(|item| written(item, known))
            .fold(twice(&list.expr), u64::saturating_add),
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if compares(*op) && (has_preimage(left) || has_preimage(right)) =>
        {
            twice(left).saturating_add(twice(right))
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) if CHOICES.contains(&func.name()) => {
            let (last, others) = match args.split_last() {
                Some((last, others)) => (written(last, known), others),
                None => (0, &[][..]),
            };
            let others = others.iter().map(twice);
            others.fold(last.saturating_add(1), u64::saturating_add)
        }
        _ => children(),
    }
}

fn compares(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

fn has_preimage(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(ScalarFunction { func, .. }) if WITH_PREIMAGES.contains(&func.name()))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::datasource::MemTable;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    async fn is_refused(sql: &str) -> bool {
        // As deep as the statements of these tests.
        let deep = "datafusion.sql_parser.recursion_limit";
        let config = SessionConfig::new().set_usize(deep, 1_000);
        let context = SessionContext::new_with_config(config);
        let fields = ["b", "c"].map(|name| Field::new(name, DataType::Boolean, true));
        let schema = Arc::new(Schema::new(fields.to_vec()));
        let table = MemTable::try_new(schema, vec![vec![]]).expect("a table");
        context
            .register_table("t", Arc::new(table))
            .expect("registers");
        let plan = context.state().create_logical_plan(sql).await.expect(sql);
        check(&plan).is_err()
    }

    fn nested(step: &str, times: usize) -> String {
        (0..times).fold("b".to_owned(), |expr, _| step.replace("{}", &expr))
    }

    #[tokio::test]
    async fn what_is_written_twice_in_itself_is_refused() {
        for step in [
            "({} BETWEEN false AND c)",
            "coalesce({}, c)",
            "coalesce({}, {})",
            "nvl({}, c)",
            "(floor(CAST({} AS DOUBLE)) = 1)",
        ] {
            let filtered = |times| format!("SELECT 1 FROM t WHERE {}", nested(step, times));
            assert!(!is_refused(&filtered(4)).await, "{step}");
            if step.matches("{}").count() == 1 {
                assert!(is_refused(&filtered(30)).await, "{step}");
                let given = format!("SELECT {} FROM t", nested(step, 30));
                assert!(is_refused(&given).await, "{step}");
                let within = format!("SELECT 1 FROM t WHERE b IN (SELECT {})", nested(step, 30));
                assert!(is_refused(&within).await, "{step}");
            }
        }
        // In the last argument, and one after another, they add up.
        let last = (0..30).fold("b".to_owned(), |expr, _| format!("coalesce(c, {expr})"));
        let many = vec!["b BETWEEN false AND c"; 300].join(" OR ");
        for flat in [last, many] {
            assert!(!is_refused(&format!("SELECT 1 FROM t WHERE {flat}")).await);
        }
    }

    #[tokio::test]
    async fn what_subqueries_compute_counts_at_each_use_in_a_filter() {
        let computed = |step: &str, times: usize| {
            (0..times).fold("SELECT b, c FROM t".to_owned(), |query, at| {
                format!("SELECT {step}, c FROM ({query}) q{at}")
            })
        };
        for step in [
            "b BETWEEN false AND c AS b",
            "(b AND c) OR (NOT b AND NOT c) AS b",
            "CASE WHEN b THEN c ELSE NOT b END AS b",
        ] {
            let query = computed(step, 30);
            assert!(is_refused(&format!("SELECT 1 FROM ({query}) q WHERE b")).await);
            assert!(
                is_refused(&format!(
                    "SELECT 1 FROM ({query}) q JOIN t ON q.b = t.b AND (q.b OR t.c)"
                ))
                .await
            );
            let united = format!("SELECT 1 FROM ({query} UNION ALL SELECT b, c FROM t) q WHERE b");
            assert!(is_refused(&united).await, "{step}");
            // Without a filter nothing is put into anything.
            assert!(!is_refused(&query).await, "{step}");
            let few = computed(step, 4);
            assert!(!is_refused(&format!("SELECT 1 FROM ({few}) q WHERE b")).await);
        }
        let grouped = (0..30).fold("SELECT b, c FROM t".to_owned(), |query, at| {
            format!("SELECT b = c OR (b AND NOT c) AS b, c FROM ({query}) q{at} GROUP BY 1, 2")
        });
        assert!(is_refused(&format!("SELECT 1 FROM ({grouped}) q WHERE b")).await);
        let counted = "SELECT sum(CASE WHEN b THEN 1 END) > 0 AS b, c FROM t GROUP BY c";
        assert!(!is_refused(&format!("SELECT 1 FROM ({counted}) q WHERE b AND b AND b")).await);
    }
}
