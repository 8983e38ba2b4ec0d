//! Conditions that no row can pass together: a user who asks for a year that the habilitation does
//! not open is answered without reading. Only columns count that are shown as they are stored, and
//! dates of which the year is shown (`years.rs`): of these the user knows what they ask for and what
//! the habilitation opens, so that the time of such an answer tells nothing of the data. What a
//! pseudonym stands for they do not know, and on which side of a bound it lies would be told.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, LogicalPlan, Operator};

use super::rows::TABLE;

/// True where the conditions of the visible rows and the filters, on columns of the table itself that
/// the user knows, exclude each other.
pub fn contradict(rows: &LogicalPlan, filters: &[Expr], known: &HashSet<&str>) -> Result<bool> {
    let mut bounds = Bounds {
        known,
        of_columns: HashMap::new(),
        excluding: false,
    };
    rows.apply(|node| {
        if let LogicalPlan::Filter(filter) = node {
            split_conjunction(&filter.predicate)
                .into_iter()
                .for_each(|condition| bounds.add(condition));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    for condition in filters.iter().flat_map(split_conjunction) {
        bounds.add(condition);
    }
    Ok(bounds.excluding)
}

/// An end of what a column can be, and whether the value itself is in.
type End<'a> = Option<(&'a ScalarValue, bool)>;

struct Bounds<'a> {
    known: &'a HashSet<&'a str>,
    /// The low and the high end.
    of_columns: HashMap<&'a str, (End<'a>, End<'a>)>,
    excluding: bool,
}

impl<'a> Bounds<'a> {
    fn add(&mut self, condition: &'a Expr) {
        match condition {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                match (left.as_ref(), right.as_ref()) {
                    (column, Expr::Literal(value, _)) => self.compare(column, *op, value),
                    (Expr::Literal(value, _), column) => {
                        if let Some(op) = op.swap() {
                            self.compare(column, op, value);
                        }
                    }
                    _ => {}
                }
            }
            Expr::Between(Between {
                expr,
                negated: false,
                low,
                high,
            }) => {
                let ends = [(Operator::GtEq, low), (Operator::LtEq, high)];
                for (op, end) in ends {
                    if let Expr::Literal(value, _) = end.as_ref() {
                        self.compare(expr, op, value);
                    }
                }
            }
            _ => {}
        }
    }

    fn compare(&mut self, column: &'a Expr, op: Operator, value: &'a ScalarValue) {
        let Expr::Column(column) = column else {
            return;
        };
        let is_own = column
            .relation
            .as_ref()
            .is_some_and(|of| of.table() == TABLE);
        let is_known = is_own && self.known.contains(column.name.as_str());
        // Of floating-point numbers, zeros have signs and some are no numbers.
        if !is_known || value.is_null() || value.data_type().is_floating() {
            return;
        }
        let (low, high) = self.of_columns.entry(&column.name).or_default();
        match op {
            Operator::Gt => narrow(low, (value, false), Ordering::Greater),
            Operator::GtEq => narrow(low, (value, true), Ordering::Greater),
            Operator::Lt => narrow(high, (value, false), Ordering::Less),
            Operator::LtEq => narrow(high, (value, true), Ordering::Less),
            Operator::Eq => {
                narrow(low, (value, true), Ordering::Greater);
                narrow(high, (value, true), Ordering::Less);
            }
            _ => {}
        }
        if let (Some((low, with_low)), Some((high, with_high))) = (*low, *high) {
            self.excluding |= match low.partial_cmp(high) {
                Some(Ordering::Greater) => true,
                Some(Ordering::Equal) => !(with_low && with_high),
                // Of different types: nothing is known.
                Some(Ordering::Less) | None => false,
            };
        }
    }
}

/// Replaces an end by another that excludes more.
fn narrow<'a>(end: &mut End<'a>, other: (&'a ScalarValue, bool), further: Ordering) {
    let excludes_more = match *end {
        None => true,
        Some((value, is_in)) => match other.0.partial_cmp(value) {
            Some(Ordering::Equal) => is_in && !other.1,
            order => order == Some(further),
        },
    };
    if excludes_more {
        *end = Some(other);
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::logical_expr::LogicalPlanBuilder;
    use datafusion::logical_expr::logical_plan::table_scan;
    use datafusion::prelude::{col, lit};

    use super::*;

    fn contradicts(filters: &[Expr]) -> bool {
        let schema = Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Float64, true),
            Field::new("c", DataType::Utf8, true),
        ]);
        let known = HashSet::from(["a", "b", "c"]);
        // Wherever each of them stands, in the habilitation or in the query.
        let (rows, asked) = filters.split_at(filters.len() / 2);
        let plan = table_scan(Some(TABLE), &schema, None).expect("a scan");
        let plan = rows
            .iter()
            .try_fold(plan, |plan, filter| plan.filter(filter.clone()));
        let plan = plan.and_then(LogicalPlanBuilder::build).expect("a plan");
        let told = contradict(&plan, asked, &known).expect("told");
        let hidden = contradict(&plan, asked, &HashSet::new()).expect("told");
        assert!(!hidden, "nothing is told of columns that are not shown");
        told
    }

    #[test]
    fn ranges_that_do_not_meet_exclude_each_other() {
        let (a, c) = (|| col("t.a"), || col("t.c"));
        for filters in [
            vec![a().gt_eq(lit(5_i64)), a().lt(lit(5_i64))],
            vec![a().gt(lit(5_i64)).and(a().lt_eq(lit(5_i64)))],
            vec![a().eq(lit(1_i64)), a().eq(lit(2_i64))],
            vec![lit(7_i64).lt(a()), a().between(lit(1_i64), lit(6_i64))],
            vec![c().lt(lit("b")), c().gt_eq(lit("x"))],
            vec![a().lt(lit(9_i64)), a().lt(lit(3_i64)), a().gt(lit(4_i64))],
        ] {
            assert!(contradicts(&filters), "{filters:?}");
        }
    }

    #[test]
    fn what_a_row_may_pass_is_read() {
        let (a, b) = (|| col("t.a"), || col("t.b"));
        for filters in [
            vec![a().gt_eq(lit(5_i64)), a().lt_eq(lit(5_i64))],
            vec![a().gt(lit(5_i64)).or(a().lt(lit(5_i64)))],
            vec![
                a().gt(lit(5_i64)),
                !a().gt(lit(5_i64)).and(a().lt(lit(3_i64))),
            ],
            vec![a().not_between(lit(1_i64), lit(6_i64)), a().gt(lit(3_i64))],
            vec![b().gt(lit(0.0)), b().lt(lit(-0.0))],
            vec![a().not_eq(lit(1_i64)), a().eq(lit(2_i64))],
            vec![
                a().gt(Expr::Literal(ScalarValue::Int64(None), None)),
                a().lt(lit(1_i64)),
            ],
        ] {
            assert!(!contradicts(&filters), "{filters:?}");
        }
        // Another table's column of the same name, as along the path to the person.
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, true)]);
        let other = table_scan(Some("parent1"), &schema, None).expect("a scan");
        let other = other.filter(col("parent1.a").gt(lit(5_i64)));
        let own = table_scan(Some(TABLE), &schema, None).expect("a scan");
        let own = own.filter(col("t.a").lt(lit(5_i64)));
        let both = own.and_then(|own| own.cross_join(other?.build()?)?.build());
        let known = HashSet::from(["a"]);
        assert!(!contradict(&both.expect("a plan"), &[], &known).expect("told"));
    }
}
