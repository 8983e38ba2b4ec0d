//! Rules of DataFusion 55 for physical plans, with some of them mended: each answered wrongly or
//! failed on statements that users write. Drop a mend when the test below passes without it.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{
    AcrossPartitions, ConstExpr, EquivalenceProperties, LexOrdering, OrderingRequirements,
    Partitioning, PhysicalExpr,
};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions,
};

type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;
type Plan = Arc<dyn ExecutionPlan>;

/// All rules, in DataFusion's order.
pub fn rules() -> Vec<Rule> {
    let rules = PhysicalOptimizer::new().rules.into_iter();
    let mended = rules.map(|rule| -> Rule {
        match rule.name() {
            "aggregate_statistics" => Arc::new(OfItsOwnRows(rule)),
            "SanityCheckPlan" => Arc::new(SortedAgain(rule)),
            _ => rule,
        }
    });
    let first: Rule = Arc::new(Forget);
    std::iter::once(first).chain(mended).collect()
}

/// `aggregate_statistics`, which looks below an aggregate for the one that reads its rows, and goes
/// past one with a FILTER down to that of a subquery: `SELECT count(*) FILTER (WHERE n > 0) FROM
/// (SELECT count(*) AS n FROM t)` failed. Plans that have one are left to be counted.
#[derive(Debug)]
struct OfItsOwnRows(Rule);

impl PhysicalOptimizerRule for OfItsOwnRows {
    fn optimize(&self, plan: Plan, config: &ConfigOptions) -> Result<Plan> {
        let goes_past = plan.exists(|node| {
            Ok(node.downcast_ref::<AggregateExec>().is_some_and(|node| {
                node.group_expr().is_empty() && node.filter_expr().iter().any(Option::is_some)
            }))
        })?;
        match goes_past {
            true => Ok(plan),
            false => self.0.optimize(plan, config),
        }
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// `SanityCheckPlan`, after rules that merge expressions and then know no longer that one of them
/// is constant, so that a merge of streams looks unsorted. What looks so is sorted, where it stands:
/// that changes no row, no column and no other operator.
#[derive(Debug)]
struct SortedAgain(Rule);

impl PhysicalOptimizerRule for SortedAgain {
    fn optimize(&self, plan: Plan, config: &ConfigOptions) -> Result<Plan> {
        let Err(error) = self.0.optimize(Arc::clone(&plan), config) else {
            return Ok(plan);
        };
        tracing::warn!(%error, "inputs that are not known to be sorted are sorted");
        let sorted = plan.transform_up(sort_inputs)?.data;
        self.0.optimize(sorted, config)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

fn sort_inputs(node: Plan) -> Result<Transformed<Plan>> {
    let mut inputs: Vec<Plan> = node.children().into_iter().cloned().collect();
    let mut is_changed = false;
    for (input, required) in inputs.iter_mut().zip(node.required_input_ordering()) {
        let Some(required) = required.map(OrderingRequirements::into_single) else {
            continue;
        };
        let known = input.properties().equivalence_properties();
        if !known.ordering_satisfy_requirement(required.clone())? {
            let sort = SortExec::new(LexOrdering::from(required), Arc::clone(input));
            *input = Arc::new(sort.with_preserve_partitioning(true));
            is_changed = true;
        }
    }
    match is_changed {
        true => node
            .replace_children(inputs, recompute())
            .map(Transformed::yes),
        false => Ok(Transformed::no(node)),
    }
}

fn recompute() -> ReplaceChildrenOptions {
    ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute)
}

/// Grouping sets put NULL where a column is left out. DataFusion still believes of it what it knew
/// below (that it is constant, or sorted, or dealt by its values), and does not sort by it, and
/// groups what comes next to each other: after `WHERE year = 2020 GROUP BY ROLLUP (sex, year) ORDER BY
/// year` the rows came in any order. So nothing is known below, nor of what the aggregate makes.
///
/// Nor of a UNION of different constants, each of which is not sorted by where it should stand before
/// another (apache/datafusion#23528).
#[derive(Debug)]
struct Forget;

impl PhysicalOptimizerRule for Forget {
    fn optimize(&self, plan: Plan, _config: &ConfigOptions) -> Result<Plan> {
        let forget = |node: Plan| {
            if node.is::<UnionExec>() {
                let known = node.properties().equivalence_properties().constants();
                let differs = |constant: &ConstExpr| {
                    matches!(constant.across_partitions, AcrossPartitions::Heterogeneous)
                };
                return Ok(match known.iter().any(differs) {
                    true => Transformed::yes(Arc::new(Forgotten::new(node)) as Plan),
                    false => Transformed::no(node),
                });
            }
            let Some(aggregate) = node.downcast_ref::<AggregateExec>() else {
                return Ok(Transformed::no(node));
            };
            let reads_rows = aggregate.mode().input_mode() == AggregateInputMode::Raw;
            if !reads_rows || aggregate.group_expr().is_single() {
                return Ok(Transformed::no(node));
            }
            let input: Plan = Arc::new(Forgotten::new(Arc::clone(aggregate.input())));
            let aggregate = node.replace_children(vec![input], recompute())?;
            Ok(Transformed::yes(Arc::new(Forgotten::new(aggregate)) as Plan))
        };
        Ok(plan.transform_up(forget)?.data)
    }

    fn name(&self) -> &str {
        "forget_what_is_not_so"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The rows of its input, of which nothing is known.
#[derive(Debug)]
struct Forgotten {
    input: Plan,
    properties: Arc<PlanProperties>,
}

impl Forgotten {
    fn new(input: Plan) -> Self {
        let known = input.properties();
        let partitions = known.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(partitions),
            known.emission_type,
            known.boundedness,
        );
        Self {
            properties: Arc::new(properties),
            input,
        }
    }
}

impl DisplayAs for Forgotten {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForgottenExec")
    }
}

impl ExecutionPlan for Forgotten {
    fn name(&self) -> &str {
        "ForgottenExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Plan> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Plan>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Plan> {
        match <[Plan; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self::new(input))),
            Err(_) => Err(DataFusionError::Plan("one input is read".to_owned())),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Plan>) -> Result<Plan> {
        self.replace_children(children, recompute())
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray};
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::datasource::MemTable;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    fn session(rules: Vec<Rule>) -> SessionContext {
        let rows = |rows: &[(i64, &str)]| {
            let (a, b): (Vec<i64>, Vec<&str>) = rows.iter().copied().unzip();
            let a: ArrayRef = Arc::new(Int64Array::from(a));
            let b: ArrayRef = Arc::new(StringArray::from(b));
            // The first of January 2024.
            let d: ArrayRef = Arc::new(Date32Array::from(vec![19_723; a.len()]));
            RecordBatch::try_from_iter([("a", a), ("b", b), ("d", d)]).expect("valid")
        };
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_config(SessionConfig::new().with_target_partitions(2))
            .with_physical_optimizer_rules(rules);
        let session = SessionContext::new_with_state(state.build());
        let t = vec![
            vec![rows(&[(1, "x"), (2, "y")])],
            vec![rows(&[(1, "y"), (3, "y")])],
        ];
        let u = vec![vec![rows(&[(4, "y")])], vec![rows(&[(5, "y")])]];
        let many = |of: i64| (0..20).map(|n| (2 * n + of, "z")).collect::<Vec<_>>();
        let w = vec![vec![rows(&many(0))], vec![rows(&many(1))]];
        for (name, partitions) in [("t", t), ("u", u), ("w", w)] {
            let schema = partitions[0][0].schema();
            let table = MemTable::try_new(schema, partitions).expect("fits");
            session.register_table(name, Arc::new(table)).expect("new");
        }
        session
    }

    /// What a statement answers with the mended rules, and with DataFusion's.
    async fn answers(sql: &str) -> [Result<String>; 2] {
        let both = [rules(), PhysicalOptimizer::new().rules].map(|rules| async {
            let batches = session(rules).sql(sql).await?.collect().await?;
            let text = pretty_format_batches(&batches)?.to_string();
            let rows = text.lines().skip(3).filter(|line| line.starts_with('|'));
            let rows = rows.map(|line| {
                let cells = line.trim_matches('|').split('|').map(str::trim);
                cells.collect::<Vec<_>>().join(",")
            });
            Ok(rows.collect::<Vec<_>>().join(";"))
        });
        let [mended, bare] = both;
        [mended.await, bare.await]
    }

    const COUNTED: &str = "SELECT count(*) FILTER (WHERE n > 0) FROM (SELECT count(*) AS n FROM t)";
    /// Sorted by what a filter makes constant.
    const SORTED: &str = "
        SELECT date_trunc('day', c) AS v FROM (
          SELECT CAST(d - INTERVAL '400' DAY AS TIMESTAMP) AS c, a
          FROM (SELECT * FROM w LIMIT 99) WHERE a NOT IN (SELECT a FROM u)
          UNION ALL SELECT TIMESTAMP '2023-01-01T10:30:00', a FROM u) AS s
        WHERE c = TIMESTAMP '2022-11-27T00:00:00' ORDER BY 1";
    const GROUPED: &str = "SELECT a, b, count(*) AS n FROM t WHERE b = 'y'
                           GROUP BY ROLLUP (a, b) ORDER BY b, a NULLS LAST";
    const NAMED: &str = "SELECT 'A' AS cohort, b, count(*) AS n FROM t
                         GROUP BY ROLLUP (cohort, b) ORDER BY cohort, b";
    const UNITED: &str = "SELECT 2 AS s, a FROM w UNION ALL SELECT 1 AS s, a FROM u ORDER BY s, a";
    const COLLECTED: &str = "SELECT b, array_agg(a ORDER BY a) AS n FROM t
                             GROUP BY ROLLUP (b, a) ORDER BY b, a";

    /// Each answer, and that DataFusion's own rules still do not give it.
    #[tokio::test]
    async fn what_datafusion_fails_at_is_answered() {
        let days = vec!["2022-11-27T00:00:00"; 38].join(";");
        for (sql, expected) in [
            (COUNTED, "1"),
            (SORTED, &days),
            (GROUPED, "1,y,1;2,y,1;3,y,1;1,,1;2,,1;3,,1;,,3"),
        ] {
            let [mended, bare] = answers(sql).await;
            assert_eq!(mended.expect(sql), expected, "{sql}");
            assert_ne!(bare.ok().as_deref(), Some(expected), "needs no mend: {sql}");
        }
        // What may go wrong in the same way.
        let then_by = SORTED.replace("AS v FROM", "AS v, a FROM");
        let then_by = then_by.replace("ORDER BY 1", "ORDER BY 1, 2");
        let days = (0..40).filter(|a| ![4, 5].contains(a));
        let days: Vec<_> = days.map(|a| format!("2022-11-27T00:00:00,{a}")).collect();
        let many = (0..40).map(|a| format!("2,{a}"));
        let united: Vec<_> = ["1,4", "1,5"]
            .map(String::from)
            .into_iter()
            .chain(many)
            .collect();
        for (sql, expected) in [
            (then_by.as_str(), days.join(";").as_str()),
            (UNITED, united.join(";").as_str()),
            (NAMED, "A,x,1;A,y,3;A,,4;,,4"),
            (
                COLLECTED,
                "x,[1];x,[1];y,[1];y,[2];y,[3];y,[1, 2, 3];,[1, 1, 2, 3]",
            ),
        ] {
            let [mended, _] = answers(sql).await;
            assert_eq!(mended.expect(sql), expected, "{sql}");
        }
    }

    /// A plan tells of the barrier and of files.
    #[tokio::test]
    async fn no_error_of_a_rule_shows_a_plan() {
        let [_, bare] = answers(SORTED).await;
        let error = bare.expect_err("DataFusion's own check refuses it");
        assert!(error.to_string().contains("Exec"), "{error}");
        let shown = crate::error::Error::from(error).to_string();
        assert!(!shown.contains("Exec"), "{shown}");
    }

    /// A rule that DataFusion renames would lose its mend.
    #[test]
    fn the_rules_are_datafusions_and_each_mend_is_among_them() {
        let names = |rules: Vec<Rule>| rules.iter().map(|rule| rule.name().to_owned()).collect();
        let [of_ours, bare]: [Vec<String>; 2] =
            [rules(), PhysicalOptimizer::new().rules].map(names);
        assert_eq!(of_ours[0], "forget_what_is_not_so");
        assert_eq!(of_ours[1..], bare);
        let shown = format!("{:?}", rules());
        for mend in ["OfItsOwnRows", "SortedAgain"] {
            assert!(shown.contains(mend), "{shown}");
        }
    }
}
