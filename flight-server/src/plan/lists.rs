//! How long the lists of a statement may be. The planner looks through all names of a list for each
//! of its items, and keeps every set that `CUBE` stands for: a few hundred bytes fill all memory.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, OrderByKind, Query, Select, SelectItem, Statement, Visit, Visitor,
};

use crate::error::{Error, Result};

/// Items of one SELECT, GROUP BY or ORDER BY: as many as a table of the space may have columns.
pub(super) const ITEMS_PER_LIST_MAX: usize = 4_096;
/// Items of all of them together.
const ITEMS_MAX: usize = 10_000;
/// As many items as `*` counts for: it stands for all columns of its tables.
const WILDCARD_ITEMS: usize = 8;
/// Sets that one GROUP BY stands for, as many as in PostgreSQL.
const GROUPING_SETS_MAX: usize = 4_096;
/// Expressions that GROUP BY, HAVING and QUALIFY stand for: the planner writes an item of SELECT out at
/// each use of its name there, and all groups in each of their sets.
const WRITTEN_OUT_MAX: usize = 2_000_000;

/// Refuses a statement whose lists are too long to be planned in time.
pub fn check(statement: &Statement) -> Result<()> {
    let mut lists = Lists::default();
    match statement.visit(&mut lists) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// The refusal of one list.
pub(super) fn too_long() -> Error {
    Error::invalid(format!(
        "a SELECT, GROUP BY or ORDER BY lists more than {ITEMS_PER_LIST_MAX} items (`*` counts as \
         {WILDCARD_ITEMS}); select fewer columns at a time"
    ))
}

/// Windows that differ: each is a step of the plan, with all columns beneath it.
const WINDOWS_MAX: usize = 200;

/// What was counted so far.
#[derive(Default)]
struct Lists {
    items: usize,
    written_out: usize,
    windows: HashSet<String>,
}

impl Lists {
    fn take(&mut self, items: usize) -> ControlFlow<Error> {
        self.items = self.items.saturating_add(items);
        if items > ITEMS_PER_LIST_MAX {
            return ControlFlow::Break(too_long());
        }
        match self.items > ITEMS_MAX {
            true => ControlFlow::Break(Error::invalid(format!(
                "the SELECT, GROUP BY and ORDER BY of the statement list more than {ITEMS_MAX} \
                 items together; keep results in tables of schema `space` and read those"
            ))),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Visitor for Lists {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        let Expr::Function(call) = expr else {
            return ControlFlow::Continue(());
        };
        self.windows
            .extend(call.over.as_ref().map(ToString::to_string));
        match self.windows.len() > WINDOWS_MAX {
            true => ControlFlow::Break(Error::invalid(format!(
                "the statement has more than {WINDOWS_MAX} windows that differ; compute some of them \
                 in a table of schema `space`"
            ))),
            false => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
        match query.order_by.as_ref().map(|order| &order.kind) {
            Some(OrderByKind::Expressions(items)) => self.take(items.len()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Error> {
        let wildcards = select.projection.iter().filter(|item| is_wildcard(item));
        let beyond = wildcards.count().saturating_mul(WILDCARD_ITEMS - 1);
        self.take(select.projection.len().saturating_add(beyond))?;
        let GroupByExpr::Expressions(groups, modifiers) = &select.group_by else {
            return ControlFlow::Continue(());
        };
        self.take(groups.len())?;
        if !modifiers.is_empty() {
            // The planner passes over them without a word.
            return ControlFlow::Break(Error::invalid(
                "`GROUP BY … WITH` is not available; write `GROUP BY ROLLUP (…)` or `CUBE (…)`",
            ));
        }
        let sets = groups.iter().map(sets_of).fold(1, usize::saturating_mul);
        if sets > GROUPING_SETS_MAX {
            return ControlFlow::Break(Error::invalid(format!(
                "a GROUP BY stands for more than {GROUPING_SETS_MAX} grouping sets, and CUBE \
                 doubles them with each column; name those that you need in GROUPING SETS"
            )));
        }
        self.write_out(select, groups, sets)
    }
}

impl Lists {
    fn write_out(&mut self, select: &Select, groups: &[Expr], sets: usize) -> ControlFlow<Error> {
        let conditions = [&select.having, &select.qualify];
        let conditions = || conditions.into_iter().flatten();
        if groups.is_empty() && conditions().next().is_none() {
            return ControlFlow::Continue(());
        }
        let named = Named::of(select);
        let groups = groups.iter().map(|group| named.group(group));
        let groups = groups.fold(0, usize::saturating_add).saturating_mul(sets);
        let all = conditions().map(|condition| named.written_out(condition));
        let all = all.fold(groups, usize::saturating_add);
        self.written_out = self.written_out.saturating_add(all);
        match self.written_out > WRITTEN_OUT_MAX {
            true => ControlFlow::Break(Error::invalid(format!(
                "GROUP BY, HAVING and QUALIFY stand for more than {WRITTEN_OUT_MAX} expressions, each \
                 name of an item of SELECT counted as what it stands for; compute long items in a \
                 subquery, and group by its columns"
            ))),
            false => ControlFlow::Continue(()),
        }
    }
}

/// The sizes of the items of a SELECT.
struct Named {
    names: HashMap<String, usize>,
    places: Vec<usize>,
}

impl Named {
    fn of(select: &Select) -> Self {
        let mut names = HashMap::new();
        let place = |item: &SelectItem| {
            let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item
            else {
                return 1;
            };
            let size = Size::of(expr, None);
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                let most = names.entry(alias.value.to_lowercase()).or_insert(size);
                *most = size.max(*most);
            }
            size
        };
        let places = select.projection.iter().map(place).collect();
        Self { names, places }
    }

    /// Of an item of GROUP BY, which may be a place.
    fn group(&self, group: &Expr) -> usize {
        let place = match group {
            Expr::Value(value) => value.to_string().parse::<usize>().ok(),
            _ => None,
        };
        let item = place.and_then(|place| self.places.get(place.checked_sub(1)?));
        item.copied().unwrap_or_else(|| self.written_out(group))
    }

    fn written_out(&self, expr: &Expr) -> usize {
        Size::of(expr, Some(&self.names))
    }
}

/// Counts the expressions of one.
struct Size<'a> {
    count: usize,
    names: Option<&'a HashMap<String, usize>>,
}

impl<'a> Size<'a> {
    fn of(expr: &Expr, names: Option<&'a HashMap<String, usize>>) -> usize {
        let mut size = Size { count: 0, names };
        // Never breaks.
        let _ = expr.visit(&mut size);
        size.count
    }
}

impl Visitor for Size<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let stands_for = match (expr, self.names) {
            (Expr::Identifier(name), Some(names)) => names.get(&name.value.to_lowercase()),
            _ => None,
        };
        let size = stands_for.copied().unwrap_or(1);
        self.count = self.count.saturating_add(size);
        ControlFlow::Continue(())
    }
}

fn is_wildcard(item: &SelectItem) -> bool {
    matches!(
        item,
        SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)
    )
}

/// The sets that an item of GROUP BY multiplies the others with.
fn sets_of(item: &Expr) -> usize {
    match item {
        Expr::Cube(columns) => u32::try_from(columns.len())
            .ok()
            .and_then(|columns| 2_usize.checked_pow(columns))
            .unwrap_or(usize::MAX),
        Expr::Rollup(columns) => columns.len().saturating_add(1),
        Expr::GroupingSets(sets) => sets.len().max(1),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn refusal(sql: &str) -> Option<String> {
        let statements = Parser::parse_sql(&GenericDialect {}, sql).expect("parses");
        check(&statements[0]).err().map(|error| error.to_string())
    }

    #[test]
    fn lists_are_bounded_wherever_they_stand() {
        for within in [
            "SELECT {}",
            "SELECT a FROM t GROUP BY {}",
            "SELECT a FROM t ORDER BY {}",
        ] {
            let sql = |count| within.replace("{}", &list(count));
            assert_eq!(refusal(&sql(ITEMS_PER_LIST_MAX)), None);
            for around in ["{}", "SELECT * FROM ({}) s", "SELECT 1 WHERE 1 IN ({})"] {
                let sql = around.replace("{}", &sql(ITEMS_PER_LIST_MAX + 1));
                assert!(refusal(&sql).is_some_and(|text| text.contains("4096 items")));
            }
        }
        let many = vec![format!("SELECT {}", list(1_000)); 11].join(" UNION ALL ");
        assert!(refusal(&many).is_some_and(|text| text.contains("together")));
        let stars = |count: usize| format!("SELECT {} FROM t", vec!["t.*"; count].join(", "));
        assert_eq!(refusal(&stars(512)), None);
        assert!(refusal(&stars(513)).is_some());
        // Values are no list of these.
        assert_eq!(refusal(&format!("VALUES ({})", list(50_000))), None);
    }

    #[test]
    fn windows_that_differ_are_bounded() {
        let windows = |count: usize, by: &dyn Fn(usize) -> usize| {
            let items: Vec<String> = (0..count)
                .map(|at| format!("sum(a) OVER (ORDER BY a + {})", by(at)))
                .collect();
            refusal(&format!("SELECT {} FROM t", items.join(", ")))
        };
        assert_eq!(windows(WINDOWS_MAX, &|at| at), None);
        assert_eq!(windows(1_000, &|at| at % 10), None);
        assert!(windows(WINDOWS_MAX + 1, &|at| at).is_some_and(|text| text.contains("windows")));
    }

    fn list(count: usize) -> String {
        vec!["1"; count].join(", ")
    }

    #[test]
    fn grouping_sets_are_counted_before_they_are_made() {
        let grouped = |by: &str| refusal(&format!("SELECT count(*) FROM t GROUP BY {by}"));
        let columns = |count: usize| {
            let names: Vec<String> = (0..count).map(|i| format!("c{i}")).collect();
            names.join(", ")
        };
        for few in [
            format!("CUBE ({})", columns(12)),
            format!("ROLLUP ({})", columns(1_000)),
            "a, b, GROUPING SETS ((a), (b), ())".to_owned(),
        ] {
            assert_eq!(grouped(&few), None, "{few}");
        }
        for many in [
            format!("CUBE ({})", columns(13)),
            format!("CUBE ({})", columns(200)),
            "CUBE (a, b, c, d, e, f, g), CUBE (h, i, j, k, l, m)".to_owned(),
            format!("CUBE (a, b, c), ROLLUP ({})", columns(600)),
        ] {
            let text = grouped(&many).expect("too many");
            assert!(text.contains("grouping sets"), "{text}");
        }
        let long = format!("a IN ({})", list(1_000));
        for large in [
            format!(
                "SELECT {long} AS x FROM t GROUP BY {}",
                vec!["X"; 3_000].join(", ")
            ),
            format!(
                "SELECT {long} FROM t GROUP BY {}",
                vec!["1"; 3_000].join(", ")
            ),
            format!(
                "SELECT {long} AS x FROM t GROUP BY a HAVING coalesce({})",
                vec!["x"; 3_000].join(", ")
            ),
            format!(
                "SELECT 1 FROM t GROUP BY CUBE ({})",
                [long.as_str(); 12].join(", ")
            ),
        ] {
            let text = refusal(&large).expect("too large");
            assert!(text.contains("stand for"), "{text}");
        }
        let few = format!(
            "SELECT {long} AS x, count(*) FROM t GROUP BY a, 1, CUBE (b, c, d) HAVING x AND 1 < 2"
        );
        assert_eq!(refusal(&few), None);
        assert!(grouped("a WITH CUBE").is_some_and(|text| text.contains("WITH")));
    }
}
