//! How often the planner looks at what a statement nests. DataFusion 55 works out the type of some
//! expressions twice, and of what is in them twice as often at each step: of a function that is called
//! by another of its names (`Alias::to_field`), of CASE around a function (its type, and whether it may
//! be NULL), of CASE in the condition of another, and of all that a subquery in an expression has. Twenty of these in one another take
//! minutes, which nothing interrupts, so they are counted before anything is planned.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, ObjectNamePart, Statement, Visit, Visitor,
};

use crate::error::{Error, Result};
use crate::exec::functions;

/// Looks at expressions that are looked at more than [`EACH_TIMES`] times.
const LOOKS_MAX: u64 = 32_000;
/// Looks at each expression that are no trouble.
const EACH_TIMES: u64 = 8;

/// Refuses a statement that takes too many looks.
pub fn check(statement: &Statement) -> Result<()> {
    let mut looks = Looks::default();
    // Never breaks.
    let _ = statement.visit(&mut looks);
    if looks.count > LOOKS_MAX {
        return Err(Error::invalid(
            "subqueries, CASE or functions such as `length` and `pow` are nested too deep in one \
             another; give their steps names in a WITH",
        ));
    }
    Ok(())
}

#[derive(Default)]
struct Looks {
    count: u64,
    place: Place,
    /// The places of the expressions that are open.
    around: Vec<Place>,
    /// Conditions of the CASE that are open, by their addresses.
    conditions: HashSet<*const Expr>,
}

/// Where an expression stands.
#[derive(Clone, Copy)]
struct Place {
    /// How often what is here is looked at.
    times: u64,
    /// A function stands between this place and the CASE around it.
    called: bool,
    /// Operators between this place and the condition of CASE around it: whether each may be NULL is
    /// asked of all that is in it (`predicate_bounds::is_null`).
    asked: Option<u64>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            times: 1,
            called: false,
            asked: None,
        }
    }
}

impl Place {
    fn look(&mut self, times: u64) {
        self.times = self.times.saturating_mul(times);
    }

    fn step(&mut self) {
        self.asked = self.asked.map(|asked| asked.saturating_add(1));
    }
}

impl Visitor for Looks {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.around.push(self.place);
        // Constants are cheap to look at.
        if self.place.times > EACH_TIMES && !matches!(expr, Expr::Value(_)) {
            self.count = self.count.saturating_add(self.place.times);
        }
        let place = &mut self.place;
        if self.conditions.remove(&std::ptr::from_ref(expr)) {
            place.asked = Some(0);
        }
        match expr {
            Expr::Case { conditions, .. } => {
                place.look(1 + u64::from(place.called));
                place.look(place.asked.unwrap_or_default().saturating_add(1));
                *place = Place {
                    times: place.times,
                    ..Place::default()
                };
                let whens = conditions.iter();
                self.conditions
                    .extend(whens.map(|when| std::ptr::from_ref(&when.condition)));
            }
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => place.look(2),
            // Becomes two EXISTS.
            Expr::AnyOp { .. } | Expr::AllOp { .. } => place.look(2),
            Expr::Function(call) => {
                place.look(1 + u64::from(is_doubled(call)));
                place.called = true;
                place.step();
            }
            // They pass on what they are asked.
            Expr::Nested(_) => {}
            Expr::BinaryOp { .. } | Expr::UnaryOp { .. } | Expr::Cast { .. } => place.step(),
            // The planner's words for functions, and lists.
            _ => {
                place.called = true;
                place.step();
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.place = self.around.pop().unwrap_or_default();
        ControlFlow::Continue(())
    }
}

/// Whether a call has a query, or a name that is not the function's first.
fn is_doubled(call: &Function) -> bool {
    let name = match call.name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] => name.value.to_lowercase(),
        _ => return true,
    };
    let is_known = functions::is_listed(&name)
        || functions::is_aggregate(&name)
        || functions::is_window(&name);
    !is_known || matches!(call.args, FunctionArguments::Subquery(_))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn is_refused(step: &str, times: usize) -> bool {
        let expr = (0..times).fold("a".to_owned(), |expr, _| step.replace("{}", &expr));
        let statements = Parser::new(&GenericDialect {})
            .with_recursion_limit(1_000)
            .try_with_sql(&format!("SELECT {expr} FROM t"))
            .and_then(|mut parser| parser.parse_statements())
            .expect(step);
        check(&statements[0]).is_err()
    }

    #[test]
    fn what_is_looked_at_twice_in_itself_is_refused() {
        for step in [
            "pow({}, 2)",
            "LENGTH({})",
            "row({})",
            "mean({})",
            "abs(CASE WHEN a THEN {} ELSE 0 END)",
            "CASE WHEN a THEN extract(year FROM {}) END",
            "CASE WHEN ({})::INT = 1 THEN a END",
            "CASE WHEN ({} + 1)::INT > 2 THEN a END",
            "(SELECT {})",
            "(SELECT max({}))",
            "(EXISTS (SELECT {}))",
            "(a IN (SELECT {}))",
            "(a = ANY (SELECT {} FROM t))",
            "ARRAY(SELECT {})",
            "(SELECT 1 FROM t WHERE {})",
        ] {
            assert!(!is_refused(step, 5), "{step}");
            assert!(is_refused(step, 20), "{step}");
        }
    }

    #[test]
    fn what_is_looked_at_once_may_nest() {
        for step in [
            "power({}, 2)",
            "replace({}, 'a', 'b')",
            "(1 + {})",
            "CASE WHEN a THEN 1 ELSE {} END",
            "CASE WHEN a THEN 1 + ({}) END",
            "CAST({} AS BIGINT)",
            "coalesce({}, 0)",
        ] {
            assert!(!is_refused(step, 30), "{step}");
        }
        // One beside another.
        let many = vec!["length(pow(a, 2))"; 2_000].join(" + ");
        assert!(!is_refused(&format!("{{}} + {many}"), 1));
    }
}
