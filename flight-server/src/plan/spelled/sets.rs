//! `EXCEPT ALL` and `INTERSECT ALL`, which count how often a row is on each side. DataFusion 55
//! does not: it keeps or drops all rows that are alike. With a number for each of them they are
//! the sets that it knows.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Ident, Query, Select, SelectItem, SetExpr, SetOperator,
    SetQuantifier, Statement, TableFactor, visit_expressions,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::has_query;
use crate::error::{Error, Result};

/// Functions that give another value each time they are called, by all of their names.
const VOLATILE: [&str; 3] = ["gen_random_uuid", "random", "uuid"];

/// The column of such numbers, which nobody sees.
const NUMBER: &str = "number of the row";

/// Rewrites the sets of a query's body.
pub fn multisets(query: &mut Query) -> Result<()> {
    multiset(&mut query.body)
}

fn multiset(body: &mut SetExpr) -> Result<()> {
    let SetExpr::SetOperation {
        left,
        op,
        set_quantifier,
        right,
    } = body
    else {
        return Ok(());
    };
    multiset(left)?;
    multiset(right)?;
    let counts = matches!(
        op,
        SetOperator::Except | SetOperator::Minus | SetOperator::Intersect
    ) && *set_quantifier == SetQuantifier::All;
    if !counts {
        return Ok(());
    }
    for side in [left, right] {
        match side.as_mut() {
            SetExpr::Select(select) => number(select)?,
            _ => return Err(unclear()),
        }
    }
    *set_quantifier = SetQuantifier::None;
    let template = format!(r#"SELECT * EXCLUDE ("{NUMBER}") FROM (SELECT 1) AS "both sides""#);
    let Some(mut outer) = query_of(&template) else {
        return Err(unclear());
    };
    if let SetExpr::Select(select) = outer.body.as_mut()
        && let [from] = select.from.as_mut_slice()
        && let TableFactor::Derived { subquery, .. } = &mut from.relation
    {
        std::mem::swap(subquery.body.as_mut(), body);
        *body = *outer.body;
        return Ok(());
    }
    Err(unclear())
}

/// The number of each row among those that are like it.
fn number(select: &mut Select) -> Result<()> {
    let is_grouped = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(exprs, _) => !exprs.is_empty(),
    };
    let is_distinct = matches!(select.distinct, Some(Distinct::Distinct | Distinct::On(_)));
    let exprs: Option<Vec<Expr>> = select
        .projection
        .iter()
        .map(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                Some(expr.clone())
            }
            _ => None,
        })
        .collect();
    // What is written twice has no query in it, or nested ones would be doubled each time, and is the
    // same value both times.
    let is_one = |expr: &Expr| !has_query(expr) && !is_volatile(expr);
    let exprs = exprs.filter(|exprs| !exprs.is_empty() && exprs.iter().all(is_one));
    let Some(exprs) = exprs.filter(|_| !is_grouped && !is_distinct && select.top.is_none()) else {
        return Err(unclear());
    };
    let columns: Vec<String> = exprs.iter().map(Expr::to_string).collect();
    let text = format!(
        "SELECT row_number() OVER (PARTITION BY {})",
        columns.join(", ")
    );
    let made = query_of(&text).map(|query| *query.body);
    let Some(SetExpr::Select(made)) = made else {
        return Err(unclear());
    };
    let Some(SelectItem::UnnamedExpr(expr)) = made.projection.into_iter().next() else {
        return Err(unclear());
    };
    select.projection.push(SelectItem::ExprWithAlias {
        expr,
        alias: Ident::with_quote('"', NUMBER),
    });
    Ok(())
}

/// Whether an expression calls what gives another value each time.
fn is_volatile(expr: &Expr) -> bool {
    visit_expressions(expr, |part| match part {
        Expr::Function(call) => {
            let name = call.name.0.last().and_then(|part| part.as_ident());
            match name.is_some_and(|name| VOLATILE.contains(&name.value.to_lowercase().as_str())) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}

fn query_of(sql: &str) -> Option<Query> {
    let parsed = Parser::parse_sql(&GenericDialect {}, sql).ok()?;
    match parsed.into_iter().next() {
        Some(Statement::Query(query)) => Some(*query),
        _ => None,
    }
}

fn unclear() -> Error {
    Error::invalid(
        "`EXCEPT ALL` and `INTERSECT ALL` take two SELECT that list their columns, without *, \
         DISTINCT, GROUP BY, random() and queries of their own; put what has them in a WITH",
    )
}
