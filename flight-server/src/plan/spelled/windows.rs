//! Windows by their names, written out where they are meant. DataFusion 55 does so for `OVER w` in the
//! list of a SELECT, and in queries within it, which have windows of their own; the name in
//! `OVER (w ORDER BY x)` it leaves out.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, Ident, NamedWindowDefinition, NamedWindowExpr, OrderBy, Query, Select,
    SelectItem, VisitMut, VisitorMut, WindowSpec, WindowType, visit_expressions,
};

use super::columns::column_of;
use super::has_query;
use crate::catalog::space::names::folded;
use crate::error::{Error, Result};

/// Bytes of windows that are written out in one statement.
const WRITTEN_BYTES_MAX: usize = 256 << 10;

/// What a statement has written out so far.
#[derive(Default)]
pub struct Windows {
    bytes: usize,
}

impl Windows {
    /// Writes the windows that a SELECT names where it calls them, and where the ORDER BY behind it
    /// does.
    ///
    /// # Errors
    /// `InvalidArgument` for a window that PostgreSQL refuses too, for one with a query in it, which
    /// would be asked at each call, for one in QUALIFY or ORDER BY that reads what the SELECT gives
    /// another meaning, and for more than [`WRITTEN_BYTES_MAX`].
    pub fn write_out(&mut self, select: &mut Select, order: Option<&mut OrderBy>) -> Result<()> {
        if select.named_window.is_empty() {
            return Ok(());
        }
        let mut calls = Calls {
            known: HashMap::new(),
            bytes: &mut self.bytes,
            depth: 0,
            hidden: HashSet::new(),
        };
        for NamedWindowDefinition(name, meant) in std::mem::take(&mut select.named_window) {
            calls.define(&name, meant)?;
        }
        let given = other_names(&select.projection);
        // Apart from the rest, where a name is of what the SELECT reads.
        let mut behind = select.qualify.take();
        let mut visited = VisitMut::visit(select, &mut calls);
        calls.hidden = given;
        if visited.is_continue() {
            visited = VisitMut::visit(&mut behind, &mut calls);
        }
        if let (true, Some(order)) = (visited.is_continue(), order) {
            visited = VisitMut::visit(order, &mut calls);
        }
        select.qualify = behind;
        match visited {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }
}

/// Names, in small letters, that a SELECT gives to anything but the column that is called so.
fn other_names(items: &[SelectItem]) -> HashSet<String> {
    let other = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { expr, alias } => {
            let is_same = column_of(expr).is_some_and(|name| folded(name) == folded(alias));
            (!is_same).then(|| alias.value.to_lowercase())
        }
        _ => None,
    };
    items.iter().filter_map(other).collect()
}

/// Refuses a call over a window by a name that nothing was written for.
pub fn check(call: &Function) -> Result<()> {
    match &call.over {
        Some(WindowType::NamedWindow(name))
        | Some(WindowType::WindowSpec(WindowSpec {
            window_name: Some(name),
            ..
        })) => Err(unknown(name)),
        _ => Ok(()),
    }
}

/// Calls over the windows of one SELECT.
struct Calls<'a> {
    known: HashMap<String, Known>,
    bytes: &'a mut usize,
    /// Queries around, which have windows of their own.
    depth: usize,
    /// Names, in small letters, that mean something else where calls now stand.
    hidden: HashSet<String>,
}

struct Known {
    spec: WindowSpec,
    bytes: usize,
    /// Names in it without a table.
    bare: Vec<Ident>,
}

impl Calls<'_> {
    fn define(&mut self, name: &Ident, meant: NamedWindowExpr) -> Result<()> {
        let spec = match meant {
            NamedWindowExpr::NamedWindow(other) => self.named(&other)?,
            NamedWindowExpr::WindowSpec(spec) => self.whole(spec)?,
        };
        if has_query(&spec) {
            return Err(Error::invalid(format!(
                "window `{name}` has a query in it, which would be asked at each call; make it a \
                 column of a WITH"
            )));
        }
        let known = Known {
            bytes: spec.to_string().len(),
            bare: bare_names(&spec),
            spec,
        };
        match self.known.insert(folded(name), known) {
            None => Ok(()),
            Some(_) => Err(Error::invalid(format!(
                "window `{name}` is defined twice; give each a name of its own"
            ))),
        }
    }

    fn named(&mut self, name: &Ident) -> Result<WindowSpec> {
        let known = self.known.get(&folded(name)).ok_or_else(|| unknown(name))?;
        let is_hidden = |column: &&Ident| self.hidden.contains(&column.value.to_lowercase());
        if let Some(column) = known.bare.iter().find(is_hidden) {
            return Err(Error::invalid(format!(
                "window `{name}` is by `{column}`, which is the name of something else in QUALIFY and \
                 ORDER BY; write the window's column with its table"
            )));
        }
        *self.bytes = self.bytes.saturating_add(known.bytes);
        if *self.bytes > WRITTEN_BYTES_MAX {
            return Err(Error::invalid(format!(
                "windows by their names stand for more than {WRITTEN_BYTES_MAX} bytes of the \
                 statement; make what they sort by columns of a WITH"
            )));
        }
        Ok(known.spec.clone())
    }

    /// The window that `(w …)` is: PostgreSQL copies how `w` is divided, and how it is sorted where
    /// it is, and neither may be said again.
    fn whole(&mut self, spec: WindowSpec) -> Result<WindowSpec> {
        let Some(name) = &spec.window_name else {
            return Ok(spec);
        };
        let base = self.named(name)?;
        if base.window_frame.is_some() {
            return Err(Error::invalid(format!(
                "window `{name}` has a frame, so that no other begins with it; write `OVER {name}` \
                 without parentheses, or the whole window"
            )));
        }
        let is_sorted_twice = !base.order_by.is_empty() && !spec.order_by.is_empty();
        if !spec.partition_by.is_empty() || is_sorted_twice {
            return Err(Error::invalid(format!(
                "a window that begins with `{name}` has its PARTITION BY, and its ORDER BY where it \
                 has one; write the whole window instead"
            )));
        }
        Ok(WindowSpec {
            window_name: None,
            partition_by: base.partition_by,
            order_by: match spec.order_by.is_empty() {
                true => base.order_by,
                false => spec.order_by,
            },
            window_frame: spec.window_frame,
        })
    }

    fn over(&mut self, call: &mut Function) -> Result<()> {
        call.over = match call.over.take() {
            Some(WindowType::NamedWindow(name)) => Some(self.named(&name)?),
            Some(WindowType::WindowSpec(spec)) => Some(self.whole(spec)?),
            None => None,
        }
        .map(WindowType::WindowSpec);
        Ok(())
    }
}

impl VisitorMut for Calls<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Error> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Error> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    /// Behind the call's own parts, so that what is written is not looked through again.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            Expr::Function(call) if self.depth == 0 => match self.over(call) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            },
            _ => ControlFlow::Continue(()),
        }
    }
}

fn bare_names(spec: &WindowSpec) -> Vec<Ident> {
    let mut names = Vec::new();
    // None breaks.
    let _: ControlFlow<()> = visit_expressions(spec, |part| {
        if let Expr::Identifier(name) = part {
            names.push(name.clone());
        }
        ControlFlow::Continue(())
    });
    names
}

fn unknown(name: &Ident) -> Error {
    Error::invalid(format!(
        "window `{name}` is not defined; write `WINDOW {name} AS (…)` behind the FROM of the same \
         SELECT, before those that begin with it"
    ))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;
    use crate::plan::spelled::rewrite;

    fn written(sql: &str) -> Result<String> {
        let mut parsed = Parser::parse_sql(&GenericDialect {}, sql).expect(sql);
        rewrite(&mut parsed[0])?;
        Ok(parsed[0].to_string())
    }

    #[test]
    fn windows_are_written_out_where_they_are_meant() {
        for (sql, expected) in [
            (
                "SELECT f(a) OVER (W ORDER BY b) FROM t WINDOW w AS (PARTITION BY c)",
                "SELECT f(a) OVER (PARTITION BY c ORDER BY b) FROM t",
            ),
            (
                "SELECT f(a) OVER c FROM t WINDOW a AS (PARTITION BY g), b AS (a ORDER BY h), \
                 c AS (b ROWS 1 PRECEDING)",
                "SELECT f(a) OVER (PARTITION BY g ORDER BY h ROWS 1 PRECEDING) FROM t",
            ),
            (
                "SELECT a FROM t WINDOW w AS (ORDER BY b) QUALIFY f(a) OVER w > 1 ORDER BY f(a) OVER w",
                "SELECT a FROM t QUALIFY f(a) OVER (ORDER BY b) > 1 ORDER BY f(a) OVER (ORDER BY b)",
            ),
            // What is called as the column is the column, and in the list no name is given yet.
            (
                "SELECT a, b AS B, -t.c AS c, f(a) OVER v FROM t WINDOW v AS (ORDER BY c), \
                 w AS (PARTITION BY t.c ORDER BY b) QUALIFY f(a) OVER w > 1",
                "SELECT a, b AS B, -t.c AS c, f(a) OVER (ORDER BY c) FROM t \
                 QUALIFY f(a) OVER (PARTITION BY t.c ORDER BY b) > 1",
            ),
            // Each query has its own.
            (
                "SELECT (SELECT f(a) OVER w FROM u WINDOW w AS (ORDER BY d)), g(a) OVER w FROM t \
                 WINDOW w AS (ORDER BY b)",
                "SELECT (SELECT f(a) OVER (ORDER BY d) FROM u), g(a) OVER (ORDER BY b) FROM t",
            ),
            (
                "SELECT f(a) OVER w FROM t WINDOW w AS (ORDER BY b) UNION ALL \
                 SELECT f(a) OVER w FROM t WINDOW w AS (ORDER BY c)",
                "SELECT f(a) OVER (ORDER BY b) FROM t UNION ALL SELECT f(a) OVER (ORDER BY c) FROM t",
            ),
        ] {
            assert_eq!(written(sql).expect(sql), expected, "{sql}");
        }
    }

    #[test]
    fn windows_that_are_none_are_refused() {
        for (sql, told) in [
            ("SELECT f(a) OVER (w ORDER BY b) FROM t", "not defined"),
            (
                "SELECT f(a) OVER v FROM t WINDOW w AS (ORDER BY b)",
                "not defined",
            ),
            (
                "SELECT (SELECT f(a) OVER w FROM u) FROM t WINDOW w AS (ORDER BY b)",
                "not defined",
            ),
            (
                "SELECT f(a) OVER b FROM t WINDOW b AS (a ORDER BY c), a AS (PARTITION BY d)",
                "not defined",
            ),
            (
                "SELECT f(a) OVER (w PARTITION BY b) FROM t WINDOW w AS (PARTITION BY c)",
                "write the whole window",
            ),
            (
                "SELECT f(a) OVER (w ORDER BY b) FROM t WINDOW w AS (ORDER BY c)",
                "write the whole window",
            ),
            (
                "SELECT f(a) OVER (w) FROM t WINDOW w AS (ORDER BY c ROWS 1 PRECEDING)",
                "without parentheses",
            ),
            (
                "SELECT a FROM t WINDOW w AS (ORDER BY c), W AS (ORDER BY d)",
                "defined twice",
            ),
            (
                "SELECT f(a) OVER w FROM t WINDOW w AS (ORDER BY (SELECT 1))",
                "has a query",
            ),
            (
                "SELECT -v AS v, f() OVER w FROM t WINDOW w AS (ORDER BY v) QUALIFY f() OVER w = 1",
                "column with its table",
            ),
            (
                "SELECT -v AS V FROM t WINDOW w AS (PARTITION BY abs(v)) ORDER BY f() OVER w",
                "column with its table",
            ),
            (
                "SELECT a AS v FROM t WINDOW w AS (ORDER BY v) QUALIFY f() OVER (w ROWS 1 PRECEDING) = 1",
                "column with its table",
            ),
        ] {
            let error = written(sql).expect_err(sql).to_string();
            assert!(error.contains(told), "{sql}: {error}");
        }
    }

    /// Statements of some kilobytes that would be gigabytes: one long window at many calls, and windows
    /// that begin with one another.
    #[test]
    fn windows_are_written_out_no_longer_than_a_statement_is() {
        let long = "b".repeat(4_000);
        let calls = vec!["f(a) OVER w"; 200].join(", ");
        let many = format!("SELECT {calls} FROM t WINDOW w AS (PARTITION BY {long})");
        let chain: Vec<String> = (1..200)
            .map(|at| format!("w{at} AS (w{})", at - 1))
            .collect();
        let chain = format!(
            "SELECT a FROM t WINDOW w0 AS (PARTITION BY {long}), {}",
            chain.join(", ")
        );
        for sql in [many, chain] {
            let error = written(&sql).expect_err("too long").to_string();
            assert!(error.contains("bytes of the statement"), "{error}");
        }
        let few = format!(
            "SELECT f(a) OVER w, f(a) OVER w FROM t WINDOW w AS (PARTITION BY {})",
            "b".repeat(4_000)
        );
        assert!(written(&few).is_ok());
    }
}
