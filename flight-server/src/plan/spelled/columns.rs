//! Names of columns that have none of their own.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, Ident, OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr,
    TableFactor, TableWithJoins, Visit, VisitMut, Visitor, VisitorMut,
};

use super::calls::name_of;
use super::has_query;
use crate::error::{Error, Result};

/// Bytes of the names of columns that are given by what was asked for, as PostgreSQL has them.
const NAME_BYTES_MAX: usize = 63;

/// The name of other columns, before their number.
const UNNAMED: &str = "column";

/// Calls that are of the rows that a SELECT reads, also where ORDER BY has them. Of others by their
/// name alone it is not known.
const AGGREGATES: [&str; 5] = ["avg", "count", "max", "min", "sum"];

/// Gives columns names that have none of their own: a cast of a column has the column's, as in
/// PostgreSQL, and one that is asked for twice a number behind it. The planner refuses two columns
/// of one name, and takes a cast for what it casts.
///
/// # Errors
/// `InvalidArgument` where a column that is cast is read behind the cast, and it cannot be said by
/// its table.
pub fn named(query: &mut Query) -> Result<()> {
    match query.body.as_mut() {
        SetExpr::Select(select) => name_items(select, query.order_by.as_mut()),
        body => name_sides(body),
    }
}

/// The sides of a set, whose ORDER BY is of the names that they give.
fn name_sides(body: &mut SetExpr) -> Result<()> {
    match body {
        SetExpr::Select(select) => name_items(select, None),
        SetExpr::SetOperation { left, right, .. } => {
            name_sides(left)?;
            name_sides(right)
        }
        _ => Ok(()),
    }
}

fn name_items(select: &mut Select, order: Option<&mut OrderBy>) -> Result<()> {
    let read = read_behind(select, order.as_deref());
    let items = select.projection.as_mut_slice();
    let has_wild = items.iter().any(|item| {
        matches!(
            item,
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)
        )
    });
    let mut taken = Taken {
        names: items.iter().filter_map(own_name).collect(),
        read,
        numbers: HashMap::new(),
    };
    let is_alone = items.len() == 1;
    let mut seen = HashSet::new();
    let mut hidden = HashSet::new();
    for item in items {
        let SelectItem::UnnamedExpr(expr) = item else {
            continue;
        };
        // What stands alone is like nothing else, and may be as long as the statement.
        let text = if is_alone {
            String::new()
        } else {
            expr.to_string()
        };
        let is_first = seen.insert(text.clone());
        let alias = match (cast_column(expr), is_first) {
            (Some(column), _) => {
                let small = column.value.to_lowercase();
                if has_wild || taken.names.contains(&small) {
                    taken.numbered(&column.value)
                } else {
                    hidden.insert(small);
                    column.clone()
                }
            }
            (None, false) => match column_of(expr) {
                Some(column) => taken.numbered(&column.value),
                // Whatever a query asks for would be repeated in each query around it.
                None if text.len() > NAME_BYTES_MAX || has_query(expr) => taken.numbered(UNNAMED),
                None => taken.numbered(&text),
            },
            (None, true) => continue,
        };
        taken.names.insert(alias.value.to_lowercase());
        *item = SelectItem::ExprWithAlias {
            expr: expr.clone(),
            alias,
        };
    }
    match hidden.is_empty() {
        true => Ok(()),
        false => read_by_table(select, order, hidden),
    }
}

/// The names, in small letters, that HAVING, QUALIFY and expressions of ORDER BY read, which no
/// number may make, since they are of what the SELECT reads.
fn read_behind(select: &Select, order: Option<&OrderBy>) -> HashSet<String> {
    let mut read = Read::default();
    // None breaks.
    let _: ControlFlow<()> = select.having.visit(&mut read);
    let _: ControlFlow<()> = select.qualify.visit(&mut read);
    let sorted = match order.map(|order| &order.kind) {
        Some(OrderByKind::Expressions(sorted)) => sorted.as_slice(),
        _ => &[],
    };
    for OrderByExpr { expr, .. } in sorted {
        if bare(expr).is_none() {
            let _: ControlFlow<()> = expr.visit(&mut read);
        }
    }
    read.0
}

#[derive(Default)]
struct Read(HashSet<String>);

impl Visitor for Read {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let name = match expr {
            Expr::Identifier(name) => Some(name),
            // A column, where the others are parts of its values.
            Expr::CompoundIdentifier(parts) => parts.first(),
            _ => None,
        };
        self.0.extend(name.map(|name| name.value.to_lowercase()));
        ControlFlow::Continue(())
    }
}

/// Writes columns with their table where HAVING, QUALIFY and expressions of ORDER BY read them behind
/// a cast that has their name. `ORDER BY a` alone is what the SELECT gives, as in PostgreSQL.
fn read_by_table(
    select: &mut Select,
    order: Option<&mut OrderBy>,
    hidden: HashSet<String>,
) -> Result<()> {
    let mut readers = Readers {
        hidden,
        tables: select.from.iter().flat_map(tables_of).collect(),
        is_order: false,
        queries: 0,
        calls: 0,
    };
    let mut visited = VisitMut::visit(&mut select.having, &mut readers);
    if visited.is_continue() {
        visited = VisitMut::visit(&mut select.qualify, &mut readers);
    }
    readers.is_order = true;
    let sorted = match order.map(|order| &mut order.kind) {
        Some(OrderByKind::Expressions(sorted)) => sorted.as_mut_slice(),
        _ => &mut [],
    };
    for OrderByExpr { expr, .. } in sorted {
        if visited.is_continue() && bare(expr).is_none() {
            visited = VisitMut::visit(expr, &mut readers);
        }
    }
    match visited {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// The names by which columns of a FROM can be written, where its tables have some.
fn tables_of(from: &TableWithJoins) -> Vec<Option<Ident>> {
    let joined = from.joins.iter().map(|join| &join.relation);
    std::iter::once(&from.relation)
        .chain(joined)
        .map(table_of)
        .collect()
}

fn table_of(factor: &TableFactor) -> Option<Ident> {
    match factor {
        TableFactor::Table {
            alias: Some(alias), ..
        }
        | TableFactor::Derived {
            alias: Some(alias), ..
        } => Some(alias.name.clone()),
        TableFactor::Table {
            name, args: None, ..
        } => name.0.last().and_then(|part| part.as_ident()).cloned(),
        _ => None,
    }
}

/// What stands behind a SELECT and reads columns whose casts have their names, in small letters.
struct Readers {
    hidden: HashSet<String>,
    tables: Vec<Option<Ident>>,
    is_order: bool,
    /// Queries around, which may have columns of these names.
    queries: usize,
    /// Calls around that are of the rows that the SELECT reads.
    calls: usize,
}

impl Readers {
    fn is_hidden(&self, name: &Ident) -> bool {
        self.hidden.contains(&name.value.to_lowercase())
    }

    fn is_table(&self, name: &Ident) -> bool {
        let small = name.value.to_lowercase();
        let mut named = self.tables.iter().flatten();
        named.any(|table| table.value.to_lowercase() == small)
    }

    /// The column with its table; none where the planner reads the column without.
    fn with_table(&self, name: &Ident) -> Result<Option<Expr>> {
        // What is sorted stands behind the columns that are given, and the planner holds no column
        // beside its cast of the same name there.
        if self.is_order && (self.queries > 0 || self.calls == 0) {
            return Err(sorted_by_hidden(name));
        }
        match self.tables.as_slice() {
            [Some(_)] if self.queries > 0 => Ok(None),
            [Some(table)] => Ok(Some(Expr::CompoundIdentifier(vec![
                table.clone(),
                name.clone(),
            ]))),
            _ => Err(Error::invalid(format!(
                "column `{name}` is read behind a cast of it that has its name, and FROM is not one \
                 table; write the column with its table, or give the cast a name of its own \
                 (`{name}::INT AS n`)"
            ))),
        }
    }
}

fn sorted_by_hidden(name: &Ident) -> Error {
    Error::invalid(format!(
        "an expression of ORDER BY reads `{name}`, which is the name of a cast of it too; give the \
         cast a name of its own (`{name}::INT AS n`)"
    ))
}

impl VisitorMut for Readers {
    type Break = Error;

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Error> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Error> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let written = match &*expr {
            Expr::Function(call) if is_of_rows(call) => {
                self.calls += 1;
                Ok(None)
            }
            Expr::Identifier(name) if self.is_hidden(name) => self.with_table(name),
            // A part of a column's value; HAVING and QUALIFY look among columns that are read first.
            Expr::CompoundIdentifier(parts) => match parts.first() {
                Some(name) if self.is_order && self.is_hidden(name) && !self.is_table(name) => {
                    Err(sorted_by_hidden(name))
                }
                _ => Ok(None),
            },
            _ => Ok(None),
        };
        match written {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(column)) => {
                *expr = column;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if matches!(expr, Expr::Function(call) if is_of_rows(call)) {
            self.calls -= 1;
        }
        ControlFlow::Continue(())
    }
}

/// Whether the planner computes a call before the columns that are given.
fn is_of_rows(call: &Function) -> bool {
    call.over.is_some() || name_of(call).is_some_and(|name| AGGREGATES.contains(&name.as_str()))
}

fn bare(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::Nested(inner) => bare(inner),
        _ => None,
    }
}

/// Names that columns have, those that are read behind them, and the number that each was last given.
struct Taken {
    names: HashSet<String>,
    read: HashSet<String>,
    numbers: HashMap<String, usize>,
}

impl Taken {
    /// The name with the next number that makes another of it.
    fn numbered(&mut self, name: &str) -> Ident {
        let number = self.numbers.entry(name.to_lowercase()).or_default();
        loop {
            *number += 1;
            let made = format!("{name}_{number}");
            let small = made.to_lowercase();
            if !self.names.contains(&small) && !self.read.contains(&small) {
                return Ident::with_quote('"', made);
            }
        }
    }
}

fn own_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.to_lowercase()),
        SelectItem::UnnamedExpr(expr) => column_of(expr).map(|name| name.value.to_lowercase()),
        _ => None,
    }
}

pub(super) fn column_of(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(parts) => parts.last(),
        Expr::Nested(inner) => column_of(inner),
        _ => None,
    }
}

fn cast_column(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Cast { expr, .. } => column_of(expr).or_else(|| cast_column(expr)),
        Expr::Nested(inner) => cast_column(inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use crate::plan::spelled::rewrite;

    fn written(sql: &str) -> crate::error::Result<String> {
        let mut parsed = Parser::parse_sql(&GenericDialect {}, sql).expect(sql);
        rewrite(&mut parsed[0])?;
        Ok(parsed[0].to_string())
    }

    #[test]
    fn what_is_read_behind_a_cast_is_no_cast() {
        for (sql, expected) in [
            (
                "SELECT b, a::DATE FROM t ORDER BY (a) DESC, abs(b)",
                "SELECT b, a::DATE AS a FROM t ORDER BY (a) DESC, abs(b)",
            ),
            (
                "SELECT a::INT, count(*) FROM t GROUP BY a HAVING max(A) > 1 ORDER BY sum(a)",
                "SELECT a::INT AS a, count(*) FROM t GROUP BY a HAVING max(t.A) > 1 ORDER BY sum(t.a)",
            ),
            (
                r#"SELECT a::INT FROM s."T" QUALIFY f(a) OVER () > a_1"#,
                r#"SELECT a::INT AS a FROM s."T" QUALIFY f("T".a) OVER () > a_1"#,
            ),
            (
                "SELECT a::INT FROM (SELECT a FROM t) AS q ORDER BY f() OVER (ORDER BY a)",
                "SELECT a::INT AS a FROM (SELECT a FROM t) AS q ORDER BY f() OVER (ORDER BY q.a)",
            ),
            // What reads it from around finds it by its name.
            (
                "SELECT a FROM (SELECT a::INT FROM t AS u QUALIFY f(a) OVER () > 1) AS q",
                "SELECT a FROM (SELECT a::INT AS a FROM t AS u QUALIFY f(u.a) OVER () > 1) AS q",
            ),
            (
                "SELECT a::INT, count(*) FROM t GROUP BY a HAVING max(a) > (SELECT max(a) FROM u)",
                "SELECT a::INT AS a, count(*) FROM t GROUP BY a \
                 HAVING max(t.a) > (SELECT max(a) FROM u)",
            ),
            (
                "SELECT t.a::INT, count(*) FROM t JOIN u ON t.b = u.b GROUP BY t.a HAVING max(t.a) > 1",
                "SELECT t.a::INT AS a, count(*) FROM t JOIN u ON t.b = u.b GROUP BY t.a \
                 HAVING max(t.a) > 1",
            ),
            (
                "SELECT DISTINCT ON (a) a::INT, b FROM t ORDER BY a",
                "SELECT DISTINCT ON (a) a::INT AS a, b FROM t ORDER BY a",
            ),
            // A number makes no name that is read.
            (
                "SELECT a::INT, a::DATE FROM t QUALIFY f(b) OVER () > a_1",
                r#"SELECT a::INT AS a, a::DATE AS "a_2" FROM t QUALIFY f(b) OVER () > a_1"#,
            ),
            // Behind a set it is clear what is meant.
            (
                "SELECT a::INT FROM t UNION ALL SELECT b FROM u ORDER BY abs(a)",
                "SELECT a::INT AS a FROM t UNION ALL SELECT b FROM u ORDER BY abs(a)",
            ),
        ] {
            assert_eq!(written(sql).expect(sql), expected, "{sql}");
        }
    }

    #[test]
    fn what_is_not_clear_behind_a_cast_is_refused() {
        for (sql, told) in [
            (
                "SELECT a::INT FROM t JOIN u ON t.b = u.b GROUP BY a HAVING max(a) > 1",
                "with its table",
            ),
            (
                "SELECT a::INT FROM t, u QUALIFY f(a) OVER () > 1",
                "with its table",
            ),
            (
                "SELECT a::INT FROM (SELECT a FROM t) QUALIFY f(a) OVER () > 1",
                "with its table",
            ),
            (
                "SELECT a::INT FROM t UNION ALL SELECT a::INT FROM t, u QUALIFY f(a) OVER () > 1",
                "with its table",
            ),
            ("SELECT a::INT FROM t ORDER BY abs(A)", "AS n`"),
            ("SELECT a::INT FROM t ORDER BY a.b", "AS n`"),
            (
                "SELECT a::INT FROM t ORDER BY (SELECT max(b) FROM u WHERE c = a)",
                "AS n`",
            ),
        ] {
            let error = written(sql).expect_err(sql).to_string();
            assert!(error.contains(told), "{sql}: {error}");
        }
    }
}
