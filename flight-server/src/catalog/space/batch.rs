//! A prepared change with several rows of parameters.

use std::ops::ControlFlow;

use datafusion::common::ScalarValue;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, SetExpr, Statement as Sql, Value, Values, visit_expressions_mut,
};

use crate::plan::parse::Parsed;

/// A statement with the values of its placeholders.
pub type Bound = (Parsed, Vec<ScalarValue>);

/// The statements to run, in order, for the rows that were bound: one for each row, but one
/// INSERT … VALUES with all rows, so that they are one file and one commit.
pub fn statements(parsed: Parsed, rows: Vec<Vec<ScalarValue>>) -> Vec<Bound> {
    if rows.is_empty() {
        return vec![(parsed, Vec::new())];
    }
    if rows.len() > 1
        && let Some(all) = insert_of_all(&parsed, rows.len())
    {
        return vec![(all, rows.into_iter().flatten().collect())];
    }
    rows.into_iter().map(|row| (parsed.clone(), row)).collect()
}

/// The INSERT with its VALUES repeated, the placeholders of each repetition numbered on.
fn insert_of_all(parsed: &Parsed, times: usize) -> Option<Parsed> {
    let mut parsed = parsed.clone();
    let placeholders = parsed.placeholders;
    let values = values_of(&mut parsed)?;
    let template = values.rows.clone();
    for time in 1..times {
        for row in &template {
            let mut row = row.clone();
            let _: ControlFlow<()> = visit_expressions_mut(&mut row, |expr: &mut Expr| {
                renumber(expr, time * placeholders);
                ControlFlow::Continue(())
            });
            values.rows.push(row);
        }
    }
    parsed.placeholders = placeholders * times;
    Some(parsed)
}

/// The rows of INSERT … VALUES, if the statement is that and nothing around them has a
/// placeholder or an order.
fn values_of(parsed: &mut Parsed) -> Option<&mut Values> {
    let Statement::Statement(statement) = &mut parsed.statement else {
        return None;
    };
    let Sql::Insert(insert) = statement.as_mut() else {
        return None;
    };
    let query = insert.source.as_mut()?;
    if query.with.is_some() || query.order_by.is_some() || query.limit_clause.is_some() {
        return None;
    }
    match query.body.as_mut() {
        SetExpr::Values(values) => Some(values),
        _ => None,
    }
}

fn renumber(expr: &mut Expr, by: usize) {
    if let Expr::Value(value) = expr
        && let Value::Placeholder(name) = &mut value.value
        && let Some(number) = name
            .strip_prefix('$')
            .and_then(|digits| digits.parse::<usize>().ok())
    {
        *name = format!("${}", number + by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::parse::parse;

    fn texts(sql: &str, rows: Vec<Vec<i64>>) -> Vec<(String, Vec<ScalarValue>)> {
        let rows = rows
            .into_iter()
            .map(|row| row.into_iter().map(ScalarValue::from).collect())
            .collect();
        let parsed = parse(sql, 1000).expect(sql);
        statements(parsed, rows)
            .into_iter()
            .map(|(parsed, values)| (parsed.statement.to_string(), values))
            .collect()
    }

    #[test]
    fn rows_of_an_insert_are_one_statement() {
        let found = texts(
            "INSERT INTO t (a, b) VALUES (?, 7), (? + 1, 8)",
            vec![vec![1, 2], vec![3, 4]],
        );
        let [(text, values)] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert!(
            text.ends_with("VALUES ($1, 7), ($2 + 1, 8), ($3, 7), ($4 + 1, 8)"),
            "{text}"
        );
        assert_eq!(values, &[1_i64, 2, 3, 4].map(ScalarValue::from));
    }

    #[test]
    fn other_statements_run_once_a_row() {
        let sql = "UPDATE t SET a = $1";
        assert_eq!(texts(sql, vec![vec![1], vec![2]]).len(), 2);
        assert_eq!(
            texts("INSERT INTO t SELECT $1", vec![vec![1], vec![2]]).len(),
            2
        );
        assert_eq!(
            texts("INSERT INTO t VALUES ($1)", vec![vec![1]])[0].0,
            "INSERT INTO t VALUES ($1)"
        );
        assert_eq!(
            texts("DELETE FROM t", vec![]),
            [("DELETE FROM t".to_owned(), vec![])]
        );
    }
}
