//! `DISTINCT ON` of what is the same. DataFusion 55 makes an aggregate of it, whose columns it
//! counts as they were written, while the aggregate has those that are the same once: `DISTINCT ON
//! (a, t.a)` lost its columns and was an internal error. Drop this when the test below passes
//! without it.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::{Distinct, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, Optimizer, OptimizerConfig, OptimizerRule};

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// The rule that makes the aggregate.
const REPLACES: &str = "replace_distinct_aggregate";

/// All rules of DataFusion for logical plans, in their order, with ours before that one.
pub fn rules() -> Vec<Rule> {
    let rules = Optimizer::new().rules.into_iter();
    let with_ours = rules.flat_map(|rule| {
        let ours = (rule.name() == REPLACES).then(|| Arc::new(Once) as Rule);
        ours.into_iter().chain(std::iter::once(rule))
    });
    with_ours.collect()
}

/// What stands twice in ON, or in the ORDER BY of it, stands there once: the second tells no rows
/// apart, and orders none.
#[derive(Debug)]
struct Once;

impl OptimizerRule for Once {
    fn name(&self) -> &str {
        "distinct_on_once"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Distinct(Distinct::On(mut distinct)) = plan else {
            return Ok(Transformed::no(plan));
        };
        let written = distinct.on_expr.len();
        let mut seen = HashSet::new();
        distinct.on_expr.retain(|expr| seen.insert(expr.clone()));
        let is_changed = distinct.on_expr.len() < written;
        if let Some(order) = distinct.sort_expr.as_mut().filter(|_| is_changed) {
            let mut seen = HashSet::new();
            order.retain(|sort| seen.insert(sort.expr.clone()));
        }
        let plan = LogicalPlan::Distinct(Distinct::On(distinct));
        Ok(match is_changed {
            true => Transformed::yes(plan),
            false => Transformed::no(plan),
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn answer(sql: &str, rules: Vec<Rule>) -> Result<String> {
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_optimizer_rules(rules);
        let session = SessionContext::new_with_state(state.build());
        let batches = session.sql(sql).await?.collect().await?;
        let text = pretty_format_batches(&batches)?.to_string();
        let rows = text.lines().skip(3).filter(|line| line.starts_with('|'));
        let rows = rows.map(|line| line.replace([' ', '|'], ""));
        Ok(rows.collect::<Vec<_>>().join(";"))
    }

    const T: &str = "(VALUES (1, 'y', 10), (1, 'x', 20), (2, 'y', 30), (1, 'x', 5)) AS t(a, b, c)";

    #[tokio::test]
    async fn what_is_distinct_on_the_same_twice_is_answered() {
        for (on, order, expected) in [
            ("a, t.a", "a, a, b, c", "1x5;2y30"),
            ("a, t.a, a", "a, a, a, c DESC", "1x20;2y30"),
            ("a, t.a, b", "a, a, b DESC, c", "1y10;1x5;2y30"),
            ("b, a, b", "b, a, b, c", "1x5;1y10;2y30"),
        ] {
            let sql = format!("SELECT DISTINCT ON ({on}) a, b, c FROM {T} ORDER BY {order}");
            let ours = answer(&sql, rules()).await;
            assert_eq!(ours.expect(&sql), expected, "{sql}");
            let bare = answer(&sql, Optimizer::new().rules).await;
            let is_right = bare.is_ok_and(|rows| rows == expected);
            assert!(!is_right, "needs no mend: {sql}");
        }
        for sql in [
            "SELECT DISTINCT ON (a, a) a FROM (SELECT 1 AS a)",
            "SELECT a FROM (SELECT DISTINCT ON (a, a) a FROM (SELECT 1 AS a)) UNION ALL SELECT 1",
        ] {
            let ours = answer(sql, rules()).await.expect(sql);
            assert!(ours.split(';').all(|row| row == "1"), "{ours}");
        }
    }

    /// A rule that DataFusion renames would lose its mend.
    #[test]
    fn the_rules_are_datafusions_with_ours_among_them() {
        let names = |rules: Vec<Rule>| rules.iter().map(|rule| rule.name().to_owned()).collect();
        let [mut of_ours, bare]: [Vec<String>; 2] = [rules(), Optimizer::new().rules].map(names);
        let at = of_ours.iter().position(|name| name == "distinct_on_once");
        let at = at.expect("ours");
        assert_eq!(of_ours[at + 1], REPLACES);
        of_ours.remove(at);
        assert_eq!(of_ours, bare);
    }
}
