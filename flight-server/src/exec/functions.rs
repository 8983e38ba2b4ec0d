//! The functions that SQL may call, by name. Whatever computes on values only is here; what
//! tells of files, positions of stored rows or the server is not, and neither is what a later
//! DataFusion adds before somebody read what it does.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::catalog::TableFunction;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::ScalarUDF;
use hubflight_udfs::is_worker_function;

use super::added;
use super::bounded::bounded;
use super::bounded::rule::{BoundExpressions, BoundLiterals};
use crate::plan::numbers::DoublesBesideDoubles;

/// Scalar functions of DataFusion, sorted. Left out: `input_file_name` and `file_row_index`,
/// which tell where a row is stored, and `with_metadata`, after which two plans of one query
/// disagree on their schema.
#[rustfmt::skip]
const SCALARS: &[&str] = &[
    "abs", "acos", "acosh", "array_add", "array_any_value", "array_append", "array_avg",
    "array_compact", "array_concat", "array_dims", "array_distance", "array_distinct",
    "array_element", "array_except", "array_has", "array_has_all", "array_has_any",
    "array_intersect", "array_length", "array_max", "array_min", "array_ndims",
    "array_normalize", "array_pop_back", "array_pop_front", "array_position",
    "array_positions", "array_prepend", "array_product", "array_remove", "array_remove_all",
    "array_remove_n", "array_repeat", "array_replace", "array_replace_all",
    "array_replace_n", "array_resize", "array_reverse", "array_scale", "array_slice",
    "array_sort", "array_subtract", "array_sum", "array_to_string", "array_union",
    "arrays_zip", "arrow_cast", "arrow_field", "arrow_metadata", "arrow_try_cast",
    "arrow_typeof", "ascii", "asin", "asinh", "atan", "atan2", "atanh", "bit_length", "btrim",
    "cardinality", "cast_to_type", "cbrt", "ceil", "character_length", "chr", "coalesce",
    "concat", "concat_ws", "contains", "cos", "cosh", "cosine_distance", "cot",
    "current_date", "current_time", "date_bin", "date_part", "date_trunc", "decode",
    "degrees", "digest", "empty", "encode", "ends_with", "exp", "factorial", "find_in_set",
    "flatten", "floor", "from_unixtime", "gcd", "generate_series", "get_field", "greatest",
    "initcap", "inner_product", "isnan", "iszero", "lcm", "least", "left", "levenshtein",
    "ln", "log", "log10", "log2", "lower", "lpad", "ltrim", "make_array", "make_date",
    "make_time", "map", "map_entries", "map_extract", "map_keys", "map_values", "md5",
    "named_struct", "nanvl", "now", "nullif", "nvl", "nvl2", "octet_length", "overlay", "pi",
    "power", "radians", "random", "range", "regexp_count", "regexp_instr", "regexp_like",
    "regexp_match", "regexp_replace", "repeat", "replace", "reverse", "right", "round",
    "rpad", "rtrim", "sha224", "sha256", "sha384", "sha512", "signum", "sin", "sinh",
    "split_part", "sqrt", "starts_with", "string_to_array", "strpos", "struct", "substr",
    "substr_index", "tan", "tanh", "to_char", "to_date", "to_hex", "to_local_time", "to_time",
    "to_timestamp", "to_timestamp_micros", "to_timestamp_millis", "to_timestamp_nanos",
    "to_timestamp_seconds", "to_unixtime", "translate", "trunc", "try_cast_to_type",
    "union_extract", "union_tag", "upper", "uuid", "version",
];

/// Aggregates, sorted.
#[rustfmt::skip]
const AGGREGATES: &[&str] = &[
    "any_value", "approx_distinct", "approx_median", "approx_percentile_cont",
    "approx_percentile_cont_with_weight", "array_agg", "avg", "bit_and", "bit_or", "bit_xor",
    "bool_and", "bool_or", "corr", "count", "covar_pop", "covar_samp", "first_value",
    "grouping", "last_value", "max", "median", "min", "nth_value", "percentile_cont",
    "regr_avgx", "regr_avgy", "regr_count", "regr_intercept", "regr_r2", "regr_slope",
    "regr_sxx", "regr_sxy", "regr_syy", "stddev", "stddev_pop", "string_agg", "sum", "var",
    "var_pop",
];

/// Window functions, sorted; aggregates are windows too.
#[rustfmt::skip]
const WINDOWS: &[&str] = &[
    "cume_dist", "dense_rank", "first_value", "lag", "last_value", "lead", "nth_value",
    "ntile", "percent_rank", "rank", "row_number",
];

/// Functions that stand for a table; they make their rows as these are read.
const TABLES: &[&str] = &["generate_series", "range"];

/// DataFusion's planners and rules, with the functions that are permitted and no others.
pub fn with_permitted_functions(builder: SessionStateBuilder) -> SessionStateBuilder {
    let scalars = SessionStateDefaults::default_scalar_functions()
        .into_iter()
        .filter(|function| SCALARS.contains(&function.name()))
        .chain(added::functions())
        .map(bounded);
    let aggregates = SessionStateDefaults::default_aggregate_functions()
        .into_iter()
        .filter(|function| is_aggregate(function.name()));
    let windows = SessionStateDefaults::default_window_functions()
        .into_iter()
        .filter(|function| WINDOWS.contains(&function.name()));
    let tables: HashMap<String, Arc<TableFunction>> =
        SessionStateDefaults::default_table_functions()
            .into_iter()
            .filter(|function| TABLES.contains(&function.name()))
            .map(|function| (function.name().to_owned(), function))
            .collect();
    builder
        // Before DataFusion's own, which knows of no bound.
        .with_expr_planners(vec![
            Arc::new(BoundLiterals),
            Arc::new(DoublesBesideDoubles),
        ])
        .with_analyzer_rule(Arc::new(BoundExpressions))
        .with_optimizer_rule(Arc::new(BoundExpressions))
        .with_default_features()
        .with_scalar_functions(scalars.collect())
        // No lambda can be written in the dialect that statements are read in.
        .with_higher_order_functions(Vec::new())
        .with_aggregate_functions(aggregates.collect())
        .with_window_functions(windows.collect())
        .with_table_functions(tables)
}

/// True for a scalar function that a query may call.
pub fn is_scalar(function: &ScalarUDF) -> bool {
    is_listed(function.name()) || is_worker_function(function)
}

/// True for a name of the scalar functions that queries may call, but for those of workers.
pub fn is_listed(name: &str) -> bool {
    SCALARS.contains(&name) || added::NAMES.contains(&name)
}

/// True for an aggregate that a query may call.
pub fn is_aggregate(name: &str) -> bool {
    AGGREGATES.contains(&name)
}

/// True for a function that a query may call over a window.
pub fn is_window(name: &str) -> bool {
    WINDOWS.contains(&name) || (is_aggregate(name) && !collects(name))
}

/// True for an aggregate whose result has all of its rows: over a window, each row would have the
/// whole of it.
pub fn collects(name: &str) -> bool {
    matches!(name, "array_agg" | "string_agg")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every function that DataFusion offers was decided upon: a new version of it fails here.
    #[test]
    fn every_function_is_permitted_or_refused_on_purpose() {
        const REFUSED: [&str; 3] = ["file_row_index", "input_file_name", "with_metadata"];
        let check = |kind: &str, offered: Vec<String>, permitted: &[&str], refused: &[&str]| {
            assert!(permitted.is_sorted(), "{kind} are not sorted");
            let offered: BTreeSet<&str> = offered.iter().map(String::as_str).collect();
            let decided: BTreeSet<&str> = permitted.iter().chain(refused).copied().collect();
            assert_eq!(offered, decided, "{kind}");
        };
        let scalars = SessionStateDefaults::default_scalar_functions();
        let scalars = scalars.iter().map(|f| f.name().to_owned()).collect();
        check("scalars", scalars, SCALARS, &REFUSED);
        let higher = SessionStateDefaults::default_higher_order_functions();
        let higher = higher.iter().map(|f| f.name().to_owned()).collect();
        const OF_LAMBDAS: [&str; 4] = [
            "array_any_match",
            "array_filter",
            "array_first",
            "array_transform",
        ];
        check("functions of lambdas", higher, &[], &OF_LAMBDAS);
        let aggregates = SessionStateDefaults::default_aggregate_functions();
        let aggregates = aggregates.iter().map(|f| f.name().to_owned()).collect();
        check("aggregates", aggregates, AGGREGATES, &[]);
        let windows = SessionStateDefaults::default_window_functions();
        let windows = windows.iter().map(|f| f.name().to_owned()).collect();
        check("windows", windows, WINDOWS, &[]);
        let tables = SessionStateDefaults::default_table_functions();
        let tables = tables.iter().map(|f| f.name().to_owned()).collect();
        check("tables", tables, TABLES, &[]);
    }
}
