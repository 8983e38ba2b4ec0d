//! How large the optimiser would make an expression. DataFusion 55 writes some operands twice (of
//! `BETWEEN`, `coalesce`, `floor(x) = 1`), and a filter that it moves below a projection has what is
//! computed there in the place of each use. A dozen of such steps in one another take minutes and
//! gigabytes within one rule, which nothing interrupts, so they are counted before.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{Case, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};

use crate::error::{Error, Result};

/// Parts of an expression that are written out, beside [`OWN_TIMES`] what it has.
const PARTS_MAX: u64 = 16_000;
/// Parts of all expressions together, beside [`OWN_TIMES`] what the statement has.
const PARTS_OF_ALL_MAX: u64 = 100_000;
/// How often over what is written may be written out where it does not nest.
const OWN_TIMES: u64 = 2;
/// What a subquery counts for: each becomes a join, whose schema repeats those beneath it.
const SUBQUERY_PARTS: u64 = 100;
/// Functions of which DataFusion knows from which values a result comes: a comparison with a constant
/// becomes two of what they are called with.
const WITH_PREIMAGES: [&str; 2] = ["floor", "date_part"];
/// Functions that become CASE, with all but the last argument in condition and result.
const CHOICES: [&str; 3] = ["coalesce", "nvl", "ifnull"];
/// Items of an IN that become comparisons (`THRESHOLD_INLINE_INLIST`).
const INLINED_ITEMS: usize = 3;
/// Alternatives of a regular expression that become comparisons (`MAX_REGEX_ALTERNATIONS_EXPANSION`).
const ALTERNATIVES: u64 = 4;
/// Conditions of a CASE of truth values that becomes AND and OR of them.
const UNFOLDED_CONDITIONS: usize = 2;

/// Refuses a plan whose expressions would become too large.
pub fn check(plan: &LogicalPlan) -> Result<()> {
    let mut parts = Parts::default();
    parts.of_columns(plan, &Known::new())?;
    let most = beside(PARTS_OF_ALL_MAX, parts.own);
    if parts.is_too_large || parts.all > most {
        return Err(Error::invalid(format!(
            "an expression of the statement stands for more than {PARTS_MAX} parts, or all of them \
             for more than {most}: BETWEEN, CASE, coalesce and columns that a subquery computes are \
             written out at each use, and these are nested in one another; keep a step of it in a \
             table of schema `space`"
        )));
    }
    Ok(())
}

fn beside(most: u64, own: u64) -> u64 {
    most.saturating_add(own.saturating_mul(OWN_TIMES))
}

#[derive(Default)]
struct Parts {
    /// As the statement has them, but for constants, which are cheap to write many of.
    own: u64,
    /// Of all expressions, written out.
    all: u64,
    /// One expression alone is.
    is_too_large: bool,
}

/// The parts that each column of what is read stands for, by its name.
type Known<'a> = HashMap<&'a str, u64>;

/// What an expression can name.
struct Scope<'a> {
    known: &'a Known<'a>,
    /// Of the queries around a subquery.
    outer: &'a Known<'a>,
}

impl Parts {
    /// The parts that each column of a plan stands for, in its order.
    fn of_columns(&mut self, plan: &LogicalPlan, outer: &Known<'_>) -> Result<Vec<u64>> {
        let mut known = Known::new();
        let mut inputs = Vec::new();
        for input in plan.inputs() {
            let columns = self.of_columns(input, outer)?;
            for (field, parts) in input.schema().fields().iter().zip(&columns) {
                let most = known.entry(field.name().as_str()).or_default();
                *most = (*most).max(*parts);
            }
            inputs.push(columns);
        }
        let nothing = Known::new();
        let mut given = Vec::new();
        let mut subqueries = Vec::new();
        plan.apply_expressions(|expr| {
            let own = nodes(expr, &mut subqueries)?;
            let known = &known;
            let parts = written(expr, &Scope { known, outer });
            // What is computed is not put into what is computed of it, but into a filter.
            let moved = match plan {
                LogicalPlan::Filter(_) | LogicalPlan::Join(_) => parts,
                _ => written(
                    expr,
                    &Scope {
                        known: &nothing,
                        outer,
                    },
                ),
            };
            self.own = self.own.saturating_add(own);
            self.all = self.all.saturating_add(moved);
            self.is_too_large |= moved > beside(PARTS_MAX, own);
            given.push(parts);
            Ok(TreeNodeRecursion::Continue)
        })?;
        if !subqueries.is_empty() {
            let mut around = outer.clone();
            for (name, parts) in &known {
                let most = around.entry(name).or_default();
                *most = (*most).max(*parts);
            }
            for subquery in subqueries {
                self.of_columns(&subquery, &around)?;
            }
        }
        let names = plan.schema().fields().iter();
        let passed = names.map(|field| known.get(field.name().as_str()).copied().unwrap_or(1));
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

/// The parts of an expression as it is, without constants; its subqueries are put aside.
fn nodes(expr: &Expr, subqueries: &mut Vec<Arc<LogicalPlan>>) -> datafusion::error::Result<u64> {
    let mut count = 0_u64;
    expr.apply(|part| {
        count += match part {
            Expr::Literal(..) => 0,
            part => of_itself(part),
        };
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

/// The parts of an expression without those that it is made of.
fn of_itself(expr: &Expr) -> u64 {
    match expr {
        Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => SUBQUERY_PARTS,
        // Becomes two EXISTS.
        Expr::SetComparison(_) => 2 * SUBQUERY_PARTS,
        _ => 1,
    }
}

impl Scope<'_> {
    /// The parts that a column stands for.
    fn of(&self, expr: &Expr) -> Option<u64> {
        let (known, name) = match expr {
            Expr::Column(column) => (self.known, &column.name),
            Expr::OuterReferenceColumn(_, column) => (self.outer, &column.name),
            _ => return None,
        };
        Some(known.get(name.as_str()).copied().unwrap_or(1))
    }
}

/// The parts of an expression once it is written out.
fn written(expr: &Expr, scope: &Scope<'_>) -> u64 {
    if matches!(expr, Expr::Literal(..)) {
        return 0;
    }
    if let Some(parts) = scope.of(expr) {
        return parts;
    }
    // Each part is counted once, or counting would take as long as writing it out.
    let times = |expr: &Expr, times: u64| written(expr, scope).saturating_mul(times);
    let sum = |parts: &mut dyn Iterator<Item = u64>| parts.fold(1_u64, u64::saturating_add);
    match expr {
        Expr::Between(between) => {
            let ends = times(&between.low, 1).saturating_add(times(&between.high, 1));
            ends.saturating_add(times(&between.expr, 2))
        }
        Expr::InList(list) => {
            let copies = match u64::try_from(list.list.len()).unwrap_or(u64::MAX) {
                few if list.list.len() <= INLINED_ITEMS => few.max(2),
                _ => 2,
            };
            let copies = copies * (1 + u64::from(has_preimage(&list.expr)));
            let items = sum(&mut list.list.iter().map(|item| times(item, 1)));
            items.saturating_add(times(&list.expr, copies))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if compares(*op) && (has_preimage(left) || has_preimage(right)) =>
        {
            let copies = match op {
                Operator::IsDistinctFrom | Operator::IsNotDistinctFrom => 3,
                _ => 2,
            };
            times(left, copies).saturating_add(times(right, copies))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_of_patterns(*op) => {
            times(left, ALTERNATIVES).saturating_add(times(right, 1))
        }
        Expr::Case(case) => of_case(case, scope),
        Expr::ScalarFunction(ScalarFunction { func, args }) if CHOICES.contains(&func.name()) => {
            of_choice(args, scope)
        }
        _ => {
            let mut parts = of_itself(expr);
            // Never fails.
            let _ = expr.apply_children(|child| {
                parts = parts.saturating_add(written(child, scope));
                Ok(TreeNodeRecursion::Continue)
            });
            parts
        }
    }
}

/// Of CASE. One of truth values and few conditions becomes AND and OR of them, and each condition is
/// repeated in the branches behind it.
fn of_case(case: &Case, scope: &Scope<'_>) -> u64 {
    let thens = || case.when_then_expr.iter().map(|(_, then)| then.as_ref());
    let results = || thens().chain(case.else_expr.as_deref());
    let conditions = case.when_then_expr.len();
    let constant = thens().all(|then| matches!(then, Expr::Literal(..)))
        && thens().filter(|then| is_true(then)).count() <= UNFOLDED_CONDITIONS;
    let unfolds = case.expr.is_none()
        && (conditions <= UNFOLDED_CONDITIONS || constant)
        && may_be_truth(results());
    let mut parts = 1_u64;
    for (at, (when, _)) in case.when_then_expr.iter().enumerate() {
        let copies = match unfolds {
            true => u64::try_from(conditions - at + 1).unwrap_or(u64::MAX),
            false => 1,
        };
        let copies = copies.saturating_mul(asked(when, scope).saturating_add(1));
        parts = parts.saturating_add(written(when, scope).saturating_mul(copies));
    }
    for result in results() {
        parts = parts.saturating_add(written(result, scope).saturating_mul(typed(result, scope)));
    }
    let compared = case.expr.iter().map(|expr| written(expr, scope));
    compared.fold(parts, u64::saturating_add)
}

/// Of `coalesce`, which becomes `CASE WHEN a IS NOT NULL THEN a WHEN b IS NOT NULL THEN b ELSE c END`.
fn of_choice(args: &[Expr], scope: &Scope<'_>) -> u64 {
    let Some((last, others)) = args.split_last() else {
        return 1;
    };
    let unfolds = others.len() <= UNFOLDED_CONDITIONS && may_be_truth(args.iter());
    let mut parts = written(last, scope).saturating_add(1);
    for (at, arg) in others.iter().enumerate() {
        let copies = match unfolds {
            true => u64::try_from(others.len() - at + 2).unwrap_or(u64::MAX),
            false => 2,
        };
        let copies = copies.saturating_mul(typed(arg, scope));
        parts = parts.saturating_add(written(arg, scope).saturating_mul(copies));
    }
    parts
}

fn is_true(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Boolean(Some(true)), _))
}

/// Whether results may be truth values: none is a constant of another type.
fn may_be_truth<'a>(mut results: impl Iterator<Item = &'a Expr>) -> bool {
    !results.any(|result| {
        matches!(result, Expr::Literal(value, _)
            if !matches!(value.data_type(), DataType::Boolean | DataType::Null))
    })
}

/// How often DataFusion works out the type of a result of CASE: for itself and for whether it may be
/// NULL, which a function in it works out anew from its arguments.
fn typed(result: &Expr, scope: &Scope<'_>) -> u64 {
    1 + u64::from(calls(result, scope))
}

/// Whether a function stands in an expression, up to the next CASE.
fn calls(expr: &Expr, scope: &Scope<'_>) -> bool {
    if let Some(parts) = scope.of(expr) {
        return parts > 1;
    }
    match expr {
        Expr::Case(_) => false,
        Expr::ScalarFunction(ScalarFunction { func, .. }) => !CHOICES.contains(&func.name()),
        _ => {
            let mut found = false;
            // Never fails.
            let _ = expr.apply_children(|child| {
                found |= calls(child, scope);
                Ok(match found {
                    true => TreeNodeRecursion::Stop,
                    false => TreeNodeRecursion::Continue,
                })
            });
            found
        }
    }
}

/// Operators of a condition around a CASE, or what may be one: whether each may be NULL is asked of all
/// that is in it.
fn asked(condition: &Expr, scope: &Scope<'_>) -> u64 {
    if let Some(parts) = scope.of(condition) {
        return u64::from(parts > 1);
    }
    let mut most = 0;
    // Never fails.
    let _ = condition.apply_children(|child| {
        let is_case = matches!(child, Expr::Case(_))
            || matches!(child, Expr::ScalarFunction(call) if CHOICES.contains(&call.func.name()));
        most = most.max(match is_case {
            true => 1,
            false => match asked(child, scope) {
                0 => 0,
                within => within.saturating_add(1),
            },
        });
        Ok(TreeNodeRecursion::Continue)
    });
    most
}

fn is_of_patterns(op: Operator) -> bool {
    matches!(
        op,
        Operator::RegexMatch
            | Operator::RegexIMatch
            | Operator::RegexNotMatch
            | Operator::RegexNotIMatch
    )
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
    use arrow::datatypes::{Field, Schema};
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

    fn listed_as(expr: &str, times: usize) -> String {
        let items: Vec<String> = (0..times).map(|at| format!("{expr} AS c{at}")).collect();
        format!("SELECT {} FROM t", items.join(", "))
    }

    #[tokio::test]
    async fn what_is_written_twice_in_itself_is_refused() {
        for step in [
            "({} BETWEEN false AND c)",
            "coalesce({}, c)",
            "coalesce({}, {})",
            "nvl({}, c)",
            "(floor(CAST({} AS DOUBLE)) = 1)",
            "(floor(CAST({} AS DOUBLE)) IN (1, 2, 3))",
            "({} IN (b, c))",
            "CASE WHEN {} THEN c ELSE NOT c END",
            "(CAST({} AS VARCHAR) ~ 'foo|bar|baz|quux')",
            "coalesce(abs(CAST({} AS INT)), 0) = 1",
            "(abs(CASE WHEN b THEN CAST({} AS INT) ELSE 0 END) = 1)",
            "(CASE WHEN CAST({} AS INT) = 1 THEN 2 END = 1)",
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
        let listed = vec!["b IN (SELECT c FROM t)"; 200].join(" OR ");
        let ages = "CASE WHEN b THEN 1 WHEN c THEN 2 WHEN b AND c THEN 3 ELSE abs(4) END > 2";
        let aged = vec![ages; 300].join(" AND ");
        let flags = vec!["WHEN b OR c OR b AND c THEN true"; 300].join(" ");
        let flag = format!("CASE {flags} ELSE false END");
        for flat in [last, many, listed, aged, flag] {
            assert!(!is_refused(&format!("SELECT 1 FROM t WHERE {flat}")).await);
        }
        let pivot = "coalesce(sum(CASE WHEN b THEN coalesce(abs(1), 0) ELSE 0 END), 0)";
        assert!(!is_refused(&listed_as(pivot, 2_000)).await);
    }

    /// Constants are cheap to write, and pay for nothing.
    #[tokio::test]
    async fn other_expressions_do_not_raise_the_limit() {
        let padded = vec!["1"; 100_000].join(", ");
        assert!(!is_refused(&format!("SELECT 1 FROM t WHERE 1 IN ({padded})")).await);
        let rows = vec!["(1, 2, 3)"; 40_000].join(", ");
        assert!(!is_refused(&format!("SELECT * FROM (VALUES {rows}) v")).await);
        let deep = nested("coalesce({}, c, c)", 9);
        assert!(is_refused(&format!("SELECT 1 FROM t WHERE 1 IN ({padded}) AND {deep}")).await);
        assert!(is_refused(&format!("SELECT 1 FROM t WHERE {deep} AND c")).await);
        let joined = nested("(({} IN (SELECT c FROM t)) BETWEEN false AND c)", 10);
        assert!(is_refused(&format!("SELECT 1 FROM t WHERE {joined}")).await);
        assert!(is_refused(&listed_as(&nested("coalesce({}, c, c)", 5), 200)).await);
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
            // Moved out of a subquery that says it of what is around it.
            assert!(
                is_refused(&format!(
                    "SELECT 1 FROM ({query}) q WHERE EXISTS (SELECT 1 FROM t WHERE t.c = q.c AND q.b)"
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
