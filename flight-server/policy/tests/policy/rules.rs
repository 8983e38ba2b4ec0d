//! The optimiser's rules, each judged against the barrier. A new version of DataFusion that adds,
//! renames or removes one fails here, so that somebody looks before users do.

use datafusion::prelude::SessionContext;

/// What makes a rule harmless. A scan behind the barrier is a `TableScan` of a provider without
/// a plan of its own in logical plans, and a leaf without children in physical ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Because {
    /// It changes expressions or nodes above a scan, and asks the provider for nothing.
    StaysAbove,
    /// It asks `supports_filters_pushdown`: only comparisons that cannot fail are let below.
    AsksForFilters,
    /// It chooses the columns or the number of rows that a scan is asked for, and the scan
    /// chooses them again among what is visible, above the policy.
    NarrowsTheScan,
    /// It reads statistics, which are those of visible rows or unknown.
    ReadsStatistics,
    /// It offers dynamic filters, of which only those of plain columns are let in.
    OffersFilters,
    /// It inserts or checks operators around a scan by the properties that the barrier states.
    ReadsProperties,
}
use Because::*;

const ANALYSER: &[(&str, Because)] = &[
    ("resolve_grouping_function", StaysAbove),
    ("type_coercion", StaysAbove),
];

const LOGICAL: &[(&str, Because)] = &[
    ("rewrite_set_comparison", StaysAbove),
    ("optimize_unions", StaysAbove),
    // Merges branches over one table into one scan with OR: above the barrier as before.
    ("unions_to_filter", StaysAbove),
    // Evaluates constants only; no column has a value yet.
    ("simplify_expressions", StaysAbove),
    ("replace_distinct_aggregate", StaysAbove),
    ("eliminate_join", StaysAbove),
    ("decorrelate_predicate_subquery", StaysAbove),
    ("scalar_subquery_to_join", StaysAbove),
    ("decorrelate_lateral_join", StaysAbove),
    ("extract_equijoin_predicate", StaysAbove),
    ("eliminate_duplicated_expr", StaysAbove),
    ("eliminate_filter", StaysAbove),
    ("eliminate_cross_join", StaysAbove),
    ("eliminate_limit", StaysAbove),
    ("propagate_empty_relation", StaysAbove),
    // Adds IS NOT NULL, which is let below for plain columns and pseudonyms.
    ("filter_null_join_keys", AsksForFilters),
    ("eliminate_outer_join", StaysAbove),
    ("push_down_limit", NarrowsTheScan),
    ("push_down_filter", AsksForFilters),
    ("single_distinct_aggregation_to_group_by", StaysAbove),
    ("eliminate_group_by_constant", StaysAbove),
    ("common_sub_expression_eliminate", StaysAbove),
    // Moves expressions of fields of structs towards the scan, as projections above it.
    ("extract_leaf_expressions", StaysAbove),
    ("push_down_leaf_projections", StaysAbove),
    ("optimize_projections", NarrowsTheScan),
];

const PHYSICAL: &[(&str, Because)] = &[
    ("OutputRequirements", ReadsProperties),
    // Answers COUNT, MIN and MAX from exact statistics.
    ("aggregate_statistics", ReadsStatistics),
    ("join_selection", ReadsStatistics),
    ("LimitedDistinctAggregation", StaysAbove),
    ("FilterPushdown", OffersFilters),
    ("WindowTopN", StaysAbove),
    ("EnsureRequirements", ReadsProperties),
    ("CombinePartialFinalAggregate", StaysAbove),
    ("OptimizeAggregateOrder", ReadsProperties),
    // Swaps projections with their child only where the child offers it; the barrier does not.
    ("ProjectionPushdown", StaysAbove),
    ("OutputRequirements", ReadsProperties),
    ("LimitAggregation", StaysAbove),
    ("LimitPushPastWindows", NarrowsTheScan),
    ("HashJoinBuffering", StaysAbove),
    ("LimitPushdown", NarrowsTheScan),
    ("TopKRepartition", ReadsProperties),
    ("ProjectionPushdown", StaysAbove),
    // Asks a scan for an order; the barrier does not offer one.
    ("PushdownSort", StaysAbove),
    ("EnsureCooperative", ReadsProperties),
    ("FilterPushdown(Post)", OffersFilters),
    ("SanityCheckPlan", ReadsProperties),
];

#[test]
fn every_rule_is_judged() {
    let state = SessionContext::new().state();
    let analyser = state.analyzer().rules.iter().map(|rule| rule.name());
    let logical = state.optimizers().iter().map(|rule| rule.name());
    let physical = state.physical_optimizers().iter().map(|rule| rule.name());
    let names = |judged: &'static [(&'static str, Because)]| -> Vec<&'static str> {
        judged.iter().map(|(name, _)| *name).collect()
    };
    assert_eq!(analyser.collect::<Vec<_>>(), names(ANALYSER));
    assert_eq!(logical.collect::<Vec<_>>(), names(LOGICAL));
    assert_eq!(physical.collect::<Vec<_>>(), names(PHYSICAL));
}
