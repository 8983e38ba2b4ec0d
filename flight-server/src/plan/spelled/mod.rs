//! Spellings of PostgreSQL and DuckDB that the planner does not know, or reads as something else,
//! as what it knows: by the statement's tree alone, before a name is resolved. No rewrite writes an
//! argument twice, so that a statement stays as large as it was sent, but three: what a side of
//! `EXCEPT ALL` lists, without queries and what is another value each time, what `max_by` is by, up
//! to a length where another is in it, and windows by their names, up to as much together.
//!
//! What the planner would leave out without a word (a sample, a lock, a sum of groups) is refused.

mod bound;
mod calls;
mod columns;
mod formats;
mod sets;
mod windows;

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Distinct, Expr, Fetch, GroupByExpr, Ident, JoinOperator,
    LimitClause, ObjectName, OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectFlavor,
    SelectItem, SetExpr, Statement as Sql, TableFactor, TableWithJoins, TypedString, UnaryOperator,
    Value, Visit, VisitMut, Visitor, VisitorMut, WildcardAdditionalOptions,
};

use self::columns::column_of;
use super::numbers;
use crate::error::{Error, Result};

/// Orders that sort texts by their bytes, as the hub always does.
const BYTEWISE: [&str; 5] = ["c", "posix", "ucs_basic", "binary", "c.utf-8"];

/// Rewrites a statement.
///
/// # Errors
/// `InvalidArgument` for a clause that the planner would leave out.
pub fn rewrite(statement: &mut Sql) -> Result<()> {
    match VisitMut::visit(statement, &mut Spellings::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

#[derive(Default)]
struct Spellings {
    windows: windows::Windows,
}

impl VisitorMut for Spellings {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        check_query(query)
            .and_then(|()| sets::multisets(query))
            .and_then(|()| match query.body.as_mut() {
                SetExpr::Select(select) => self.windows.write_out(select, query.order_by.as_mut()),
                _ => Ok(()),
            })
            .map_or_else(ControlFlow::Break, |()| {
                fetched(query);
                ordered_by_all(query);
                distinct_once(query);
                ControlFlow::Continue(())
            })
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        // Of a SELECT that is one side of a set.
        let written = check_select(select).and_then(|()| self.windows.write_out(select, None));
        if let Err(error) = written {
            return ControlFlow::Break(error);
        }
        // `FROM t` alone is all of it.
        if select.flavor == SelectFlavor::FromFirstNoSelect && select.projection.is_empty() {
            let all = WildcardAdditionalOptions::default();
            select.projection = vec![SelectItem::Wildcard(all)];
            select.flavor = SelectFlavor::Standard;
        }
        for TableWithJoins { joins, .. } in &mut select.from {
            for join in joins {
                half_join(&mut join.join_operator);
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        match columns::named(query) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        match check_factor(factor) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        numbers::exact(expr);
        match rewritten(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

fn rewritten(expr: &mut Expr) -> Result<()> {
    match expr {
        Expr::Function(call) => {
            if let Some(other) = calls::rewritten(call)? {
                *expr = other;
            }
        }
        Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..) => bound::distinct(expr),
        Expr::UnaryOp {
            op: UnaryOperator::Not,
            ..
        } => bound::negated(expr),
        Expr::BinaryOp {
            op: BinaryOperator::And,
            ..
        } => bound::joined(expr),
        Expr::BinaryOp { left, op, right } => match op {
            BinaryOperator::BitwiseXor => {
                let args = [left, right].map(|side| std::mem::replace(&mut **side, null()));
                *expr = power(args)?;
            }
            BinaryOperator::PGStartsWith => {
                let args = [left, right].map(|side| std::mem::replace(&mut **side, null()));
                *expr = calls::call("starts_with", args.into());
            }
            BinaryOperator::StringConcat => texts([left.as_mut(), right.as_mut()]),
            _ => {}
        },
        Expr::Collate {
            expr: inner,
            collation,
        } if is_bytewise(collation) => {
            *expr = std::mem::replace(&mut **inner, null());
        }
        Expr::TypedString(TypedString {
            data_type: DataType::Timestamp(..),
            value,
            ..
        }) => with_seconds(&mut value.value),
        Expr::Cast {
            expr: inner,
            data_type: DataType::Timestamp(..),
            ..
        } => {
            if let Expr::Value(value) = inner.as_mut() {
                with_seconds(&mut value.value);
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether a query stands anywhere in a part of a statement, as in `ARRAY(SELECT …)`, which is a call.
fn has_query<P: Visit>(part: &P) -> bool {
    part.visit(&mut Queries).is_break()
}

/// Breaks at the first query.
struct Queries;

impl Visitor for Queries {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

fn null() -> Expr {
    Expr::value(Value::Null)
}

/// `a ^ b`, which is a power in PostgreSQL and DuckDB and binds closer than `*`; the parser has it
/// looser than `+`, so that parentheses must say what is meant.
fn power(args: [Expr; 2]) -> Result<Expr> {
    if args
        .iter()
        .any(|side| matches!(side, Expr::BinaryOp { .. }))
    {
        return Err(Error::invalid(
            "what `^` binds is not clear beside another operator; write `power(a, b)`, or put the \
             powers in parentheses",
        ));
    }
    Ok(calls::call("power", args.into()))
}

/// `? || ?` is of texts, as in PostgreSQL: where one side has a type, the planner takes it for both,
/// and where neither has it refuses them before a value is bound.
fn texts(sides: [&mut Expr; 2]) {
    let is_open = |side: &Expr| matches!(value_of(side), Some(Value::Placeholder(_) | Value::Null));
    let is_bound = |side: &Expr| matches!(value_of(side), Some(Value::Placeholder(_)));
    let [left, right] = &sides;
    if !(is_open(left) && is_open(right) && (is_bound(left) || is_bound(right))) {
        return;
    }
    for side in sides {
        *side = Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(std::mem::replace(side, null())),
            data_type: DataType::Varchar(None),
            array: false,
            format: None,
        };
    }
}

/// The value that an expression is, in parentheses or not.
fn value_of(expr: &Expr) -> Option<&Value> {
    match expr {
        Expr::Value(value) => Some(&value.value),
        Expr::Nested(inner) => value_of(inner),
        _ => None,
    }
}

fn is_bytewise(collation: &ObjectName) -> bool {
    let name = collation.0.last().and_then(|part| part.as_ident());
    name.is_some_and(|name| BYTEWISE.contains(&name.value.to_lowercase().as_str()))
}

/// `2024-03-01 12:00` with its seconds, without which the planner reads no time.
fn with_seconds(value: &mut Value) {
    let Value::SingleQuotedString(text) = value else {
        return;
    };
    let is_minute = text.len() == 16
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            10 => matches!(byte, b' ' | b'T'),
            13 => byte == b':',
            _ => byte.is_ascii_digit(),
        });
    if is_minute {
        text.push_str(":00");
    }
}

/// `FETCH FIRST n ROWS ONLY` is `LIMIT n`.
fn fetched(query: &mut Query) {
    let Some(Fetch {
        with_ties: false,
        percent: false,
        quantity,
    }) = &query.fetch
    else {
        return;
    };
    let one = || Expr::value(Value::Number("1".into(), false));
    let rows = quantity.clone().unwrap_or_else(one);
    match &mut query.limit_clause {
        None => {
            query.limit_clause = Some(LimitClause::LimitOffset {
                limit: Some(rows),
                offset: None,
                limit_by: Vec::new(),
            });
        }
        Some(LimitClause::LimitOffset { limit, .. }) if limit.is_none() => *limit = Some(rows),
        Some(_) => return,
    }
    query.fetch = None;
}

/// `ORDER BY ALL` is by each column, from the first.
fn ordered_by_all(query: &mut Query) {
    let columns = match query.body.as_ref() {
        SetExpr::Select(select) => &select.projection,
        _ => return,
    };
    let is_wild = |item: &SelectItem| {
        matches!(
            item,
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)
        )
    };
    let count = columns.len();
    let Some(order) = query
        .order_by
        .as_mut()
        .filter(|_| !columns.iter().any(is_wild))
    else {
        return;
    };
    let options = match &order.kind {
        OrderByKind::All(options) => *options,
        OrderByKind::Expressions(exprs) => match exprs.as_slice() {
            [
                OrderByExpr {
                    expr: Expr::Identifier(name),
                    options,
                    ..
                },
            ] if is_all(name) => *options,
            _ => return,
        },
    };
    let each = (1..=count).map(|place| OrderByExpr {
        expr: Expr::value(Value::Number(place.to_string(), false)),
        options,
        with_fill: None,
    });
    order.kind = OrderByKind::Expressions(each.collect());
}

fn is_all(name: &Ident) -> bool {
    name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all")
}

/// `DISTINCT ON (a, a)` is `ON (a)`, also for the ORDER BY that must begin with it: the planner
/// compares both place by place.
fn distinct_once(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else {
        return;
    };
    let Some(Distinct::On(exprs)) = &mut select.distinct else {
        return;
    };
    columns_once(exprs, |expr| expr);
    if let Some(OrderBy {
        kind: OrderByKind::Expressions(order),
        ..
    }) = &mut query.order_by
    {
        columns_once(order, |item| &item.expr);
    }
}

/// Takes out columns that stood before. What is no column may be a parameter of its own.
fn columns_once<T>(items: &mut Vec<T>, expr: impl Fn(&T) -> &Expr) {
    let mut seen = HashSet::new();
    items.retain(|item| {
        let expr = expr(item);
        column_of(expr).is_none() || seen.insert(expr.clone())
    });
}

/// `SEMI JOIN` and `ANTI JOIN` are of the left side.
fn half_join(operator: &mut JoinOperator) {
    *operator = match operator {
        JoinOperator::Semi(on) => JoinOperator::LeftSemi(on.clone()),
        JoinOperator::Anti(on) => JoinOperator::LeftAnti(on.clone()),
        _ => return,
    };
}

fn left_out(clause: &str, instead: &str) -> Error {
    Error::invalid(format!("`{clause}` is not available; {instead}"))
}

fn check_query(query: &Query) -> Result<()> {
    if !query.locks.is_empty() || query.for_clause.is_some() {
        return Err(left_out(
            "FOR …",
            "nothing is locked by a query, so that it can be left out",
        ));
    }
    if query.settings.is_some() {
        return Err(left_out("SETTINGS", "options are set on the session"));
    }
    if query.format_clause.is_some() {
        return Err(left_out("FORMAT", "results are Arrow; write no format"));
    }
    Ok(())
}

fn check_select(select: &Select) -> Result<()> {
    if select.prewhere.is_some() {
        return Err(left_out("PREWHERE", "write WHERE"));
    }
    if !select.connect_by.is_empty() {
        return Err(left_out("CONNECT BY", "write WITH RECURSIVE"));
    }
    if !select.lateral_views.is_empty() {
        return Err(left_out("LATERAL VIEW", "write unnest(…) in SELECT"));
    }
    // Behind a list of columns it is refused with the other lists.
    match &select.group_by {
        GroupByExpr::All(modifiers) if !modifiers.is_empty() => {
            Err(left_out("GROUP BY ALL WITH", "write GROUP BY ROLLUP (…)"))
        }
        _ => Ok(()),
    }
}

fn check_factor(factor: &TableFactor) -> Result<()> {
    let (sample, with_ordinality) = match factor {
        TableFactor::Table {
            sample,
            with_ordinality,
            ..
        } => (sample.as_ref(), *with_ordinality),
        TableFactor::Derived { sample, .. } => (sample.as_ref(), false),
        TableFactor::Function {
            with_ordinality, ..
        } => (None, *with_ordinality),
        _ => (None, false),
    };
    if sample.is_some() {
        return Err(left_out(
            "TABLESAMPLE",
            "write WHERE random() < 0.1, or ORDER BY and LIMIT",
        ));
    }
    if with_ordinality {
        return Err(left_out("WITH ORDINALITY", "write row_number() OVER ()"));
    }
    check_table(factor)
}

fn check_table(factor: &TableFactor) -> Result<()> {
    let TableFactor::Table {
        args,
        with_hints,
        version,
        partitions,
        json_path,
        index_hints,
        ..
    } = factor
    else {
        return Ok(());
    };
    if args.as_ref().is_some_and(|args| args.settings.is_some()) {
        return Err(left_out("SETTINGS", "options are set on the session"));
    }
    let has_hints = !with_hints.is_empty() || !partitions.is_empty() || !index_hints.is_empty();
    if version.is_some() || json_path.is_some() || has_hints {
        return Err(left_out(
            "a version, part or hint of a table",
            "a table is read as it is; filter with WHERE",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::{visit_expressions, visit_expressions_mut};
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn spelled(sql: &str) -> Result<String> {
        let mut parsed = Parser::parse_sql(&GenericDialect {}, sql).expect(sql);
        rewrite(&mut parsed[0])?;
        Ok(parsed[0].to_string())
    }

    #[test]
    fn spellings_become_what_the_planner_knows() {
        for (sql, expected) in [
            (
                "SELECT a FROM t FETCH FIRST 2 ROWS ONLY",
                "SELECT a FROM t LIMIT 2",
            ),
            (
                "SELECT a, b FROM t ORDER BY ALL DESC",
                "SELECT a, b FROM t ORDER BY 1 DESC, 2 DESC",
            ),
            ("FROM t", "SELECT * FROM t"),
            (
                "SELECT DISTINCT ON (a, b, a) a, b FROM t ORDER BY a, b, a DESC, b, $1, $1",
                "SELECT DISTINCT ON (a, b) a, b FROM t ORDER BY a, b, $1, $1",
            ),
            (
                "SELECT a FROM t SEMI JOIN u USING (a)",
                "SELECT a FROM t LEFT SEMI JOIN u USING(a)",
            ),
            (
                "SELECT a::DATE, a::TIME, a FROM t",
                r#"SELECT a::DATE AS "a_1", a::TIME AS "a_2", a FROM t"#,
            ),
            ("SELECT t.a::DATE FROM t", "SELECT t.a::DATE AS a FROM t"),
            (
                "SELECT count(*), count(*) FROM t",
                r#"SELECT count(*), count(*) AS "count(*)_1" FROM t"#,
            ),
            (
                "SELECT (SELECT 1), (SELECT 1)",
                r#"SELECT (SELECT 1), (SELECT 1) AS "column_1""#,
            ),
            (
                "SELECT a ^ 2, a ^@ 'b'",
                "SELECT power(a, 2), starts_with(a, 'b')",
            ),
            (
                "SELECT a IS DISTINCT FROM b AND c OR d",
                "SELECT a IS DISTINCT FROM b AND c OR d",
            ),
            (
                "SELECT $1 || ($2), $3 || NULL, $1 || $2 || $3",
                "SELECT CAST($1 AS VARCHAR) || CAST(($2) AS VARCHAR), \
                 CAST($3 AS VARCHAR) || CAST(NULL AS VARCHAR), \
                 CAST($1 AS VARCHAR) || CAST($2 AS VARCHAR) || $3",
            ),
            // What has a type, or is a list, is left.
            (
                "SELECT $1::VARCHAR || $2, a || $1, 'a' || $1, NULL || NULL, $1 || [1], $1 + $2",
                "SELECT $1::VARCHAR || $2, a || $1, 'a' || $1, NULL || NULL, $1 || [1], $1 + $2",
            ),
            (r#"SELECT a COLLATE "C" FROM t"#, "SELECT a FROM t"),
            (
                "SELECT TIMESTAMP '2024-03-01 12:00'",
                "SELECT TIMESTAMP '2024-03-01 12:00:00'",
            ),
            (
                "SELECT time_bucket(INTERVAL '1 mon', a), time_bucket(INTERVAL '1' YEAR, b)",
                "SELECT date_bin(INTERVAL '1 mon', a, CAST('2000-01-01' AS TIMESTAMP)), \
                 date_bin(INTERVAL '1' YEAR, b, CAST('2000-01-01' AS TIMESTAMP))",
            ),
            (
                "SELECT time_bucket(INTERVAL 3 DAY, a), time_bucket(INTERVAL '1 min', b)",
                "SELECT date_bin(INTERVAL 3 DAY, a, CAST('2000-01-03' AS TIMESTAMP)), \
                 date_bin(INTERVAL '1 min', b, CAST('2000-01-03' AS TIMESTAMP))",
            ),
            (
                "SELECT max_by(a, b), arg_min(a, -b) FILTER (WHERE c OR d) FROM t",
                "SELECT first_value(a ORDER BY b DESC NULLS LAST) FILTER (WHERE b IS NOT NULL) \
                 IGNORE NULLS, first_value(a ORDER BY -b ASC NULLS LAST) \
                 FILTER (WHERE ((c OR d) AND ((-b) IS NOT NULL))) IGNORE NULLS FROM t",
            ),
            (
                "SELECT CAST(-1.5 AS DECIMAL(9,1))",
                "SELECT CAST('-1.5' AS DECIMAL(9,1))",
            ),
        ] {
            let made = spelled(sql).expect(sql);
            assert_eq!(made, expected, "{sql}");
        }
    }

    #[test]
    fn names_of_columns_do_not_grow_with_what_is_nested() {
        let mut sql = "SELECT 1".to_owned();
        for _ in 0..6 {
            sql = format!("SELECT ({sql}), ({sql})");
        }
        let made = spelled(&sql).expect("spelled");
        assert!(made.len() < 4 * sql.len(), "{made}");
        let long = format!("upper('{}')", "a".repeat(63));
        let made = spelled(&format!("SELECT {long}, {long}")).expect("spelled");
        assert!(made.ends_with(r#" AS "column_1""#), "{made}");
    }

    /// What `max_by` is by stands there twice, and so do those in it.
    #[test]
    fn what_max_by_is_by_is_not_doubled_without_end() {
        let nested =
            |times: usize| (0..times).fold("b".to_owned(), |by, _| format!("max_by(a, {by})"));
        assert!(spelled(&format!("SELECT {}", nested(1))).is_ok());
        let refused = spelled(&format!("SELECT {}", nested(12)));
        let error = refused.expect_err("would be thousands").to_string();
        assert!(error.contains("`max_by` is by a column"), "{error}");
        let long = format!("coalesce({})", vec!["b"; 200].join(", "));
        assert!(spelled(&format!("SELECT max_by(a, {long}), max_by({long}, b)")).is_ok());
        assert!(spelled(&format!("SELECT max_by(a, max_by(c, {long}))")).is_err());
    }

    #[test]
    fn many_columns_of_one_name_take_no_longer_than_as_many_of_others() {
        let same = format!("SELECT {}", vec!["1"; 200_000].join(","));
        let begun = std::time::Instant::now();
        let made = spelled(&same).expect("named");
        assert!(made.ends_with(r#"1 AS "1_199999""#));
        assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    }

    /// Each would be written twice, and those in it twice in each. The first depth is refused before
    /// the second could take all memory.
    #[test]
    fn queries_are_never_written_twice() {
        for depth in [1, 20] {
            for (begin, end) in [
                ("SELECT ARRAY(", ") EXCEPT ALL SELECT 1"),
                ("SELECT (", ") INTERSECT ALL SELECT 1"),
                ("SELECT 1 IN (", ") EXCEPT ALL SELECT 1"),
            ] {
                let sql = format!("{}SELECT 1{}", begin.repeat(depth), end.repeat(depth));
                let mut parsed = Parser::new(&GenericDialect {})
                    .with_recursion_limit(500)
                    .try_with_sql(&sql)
                    .and_then(|mut parser| parser.parse_statements())
                    .expect(&sql);
                let refused = rewrite(&mut parsed[0]).map_err(|error| error.to_string());
                let is_told = refused.is_err_and(|text| text.contains("EXCEPT ALL"));
                assert!(is_told, "{sql}");
            }
        }
    }

    /// The tree, since the text is the same whatever binds closer.
    #[test]
    fn what_is_compared_ends_before_and() {
        let tree = |sql: &str| {
            let mut parsed = Parser::parse_sql(&GenericDialect {}, sql).expect(sql);
            rewrite(&mut parsed[0]).expect(sql);
            let found = visit_expressions(&parsed[0], |expr| ControlFlow::Break(expr.clone()));
            found.break_value()
        };
        let unnested = |sql: &str| {
            let mut found = tree(sql).expect(sql);
            let _: ControlFlow<()> = visit_expressions_mut(&mut found, |expr| {
                if let Expr::Nested(inner) = expr {
                    *expr = std::mem::replace(&mut **inner, null());
                }
                ControlFlow::Continue(())
            });
            found
        };
        for (sql, meant) in [
            ("a IS DISTINCT FROM b AND c", "(a IS DISTINCT FROM b) AND c"),
            (
                "NOT a IS DISTINCT FROM b OR c",
                "(NOT (a IS DISTINCT FROM b)) OR c",
            ),
            (
                "a IS DISTINCT FROM b AND c IS NOT DISTINCT FROM d OR e AND f",
                "((a IS DISTINCT FROM b) AND (c IS NOT DISTINCT FROM d)) OR (e AND f)",
            ),
            (
                "x AND a IS DISTINCT FROM b OR c",
                "(x AND (a IS DISTINCT FROM b)) OR c",
            ),
            (
                "a IS DISTINCT FROM (b AND c)",
                "a IS DISTINCT FROM (b AND c)",
            ),
        ] {
            let (read, meant) = (format!("SELECT {sql}"), format!("SELECT {meant}"));
            assert_eq!(unnested(&read), unnested(&meant), "{sql}");
        }
    }

    #[test]
    fn what_would_be_left_out_is_refused() {
        for sql in [
            "SELECT a FROM t TABLESAMPLE BERNOULLI (1)",
            "SELECT a FROM (SELECT a FROM t) TABLESAMPLE BERNOULLI (1)",
            "SELECT a FROM (SELECT a FROM t) AS q TABLESAMPLE BERNOULLI (1)",
            "SELECT a FROM f(1) WITH ORDINALITY AS g(a, b)",
            "SELECT a FROM t, LATERAL f(a) WITH ORDINALITY AS g(a, b)",
            "SELECT a FROM f(1, SETTINGS b = 1)",
            "SELECT sum(2)(a) FROM t",
            "SELECT schema_of.sum(2)(a) OVER () FROM t",
            "SELECT a FROM t FOR UPDATE",
            "SELECT a FROM t PREWHERE a = 1",
            "SELECT a FROM t CONNECT BY a = 1",
            "SELECT a FROM t GROUP BY ALL WITH ROLLUP",
            "SELECT a FROM t GROUP BY ALL GROUPING SETS ((a))",
            "SELECT random() EXCEPT ALL SELECT 1",
            "SELECT 1 INTERSECT ALL SELECT upper(gen_random_uuid()::VARCHAR)",
            "SELECT a FROM t SETTINGS b = 1",
            "SELECT 2 * a ^ 2 FROM t",
            "SELECT time_bucket($1, a) FROM t",
            "SELECT max_by(a, (SELECT b)) FROM t",
            "SELECT time_bucket(INTERVAL '1 month 1 day', a) FROM t",
            "SELECT time_bucket(INTERVAL '1 day' + INTERVAL '1 month', a) FROM t",
        ] {
            assert!(spelled(sql).is_err(), "{sql}");
        }
    }
}
