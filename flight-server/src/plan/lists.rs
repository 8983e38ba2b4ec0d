//! How long the lists of a statement may be. The planner looks through all names of a list for each
//! of its items, and keeps every set that `CUBE` stands for: a few hundred bytes fill all memory.

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

/// Items so far.
#[derive(Default)]
struct Lists(usize);

impl Lists {
    fn take(&mut self, items: usize) -> ControlFlow<Error> {
        self.0 = self.0.saturating_add(items);
        if items > ITEMS_PER_LIST_MAX {
            return ControlFlow::Break(too_long());
        }
        match self.0 > ITEMS_MAX {
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
        let sets = groups.iter().map(sets_of);
        match sets.fold(1, usize::saturating_mul) > GROUPING_SETS_MAX {
            true => ControlFlow::Break(Error::invalid(format!(
                "a GROUP BY stands for more than {GROUPING_SETS_MAX} grouping sets, and CUBE \
                 doubles them with each column; name those that you need in GROUPING SETS"
            ))),
            false => ControlFlow::Continue(()),
        }
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
        let list = |count: usize| vec!["1"; count].join(", ");
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
        assert!(grouped("a WITH CUBE").is_some_and(|text| text.contains("WITH")));
    }
}
