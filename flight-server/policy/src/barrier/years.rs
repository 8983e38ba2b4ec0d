//! Comparisons of a date that shows the first day of its year, as comparisons of the date itself:
//! `year(d) >= l` holds from the first year on that begins at `l` or later.
//!
//! On the stored date a scan prunes, and reads no other column of what does not pass. What passes
//! is the same, so that nothing is told that the shown column does not tell.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::prelude::lit;

use super::filters::Polarity;
use super::reveal::masks::first_of_year;

/// Longer than any year.
const YEAR_DAYS_MAX: i64 = 366;

/// The comparison of the stored `date`, a Date32, or None where it must stay above the barrier.
pub fn comparison(
    date: &Expr,
    op: Operator,
    literal: &ScalarValue,
    polarity: Polarity,
) -> Option<Expr> {
    // A date before the first whole year of its type shows NULL, which only here is as FALSE.
    let (ScalarValue::Date32(Some(days)), Polarity::Positive) = (literal, polarity) else {
        return None;
    };
    let days = i64::from(*days);
    let year = first_of_year(days);
    let next = first_of_year(year + YEAR_DAYS_MAX);
    // The first year that begins at the literal or later.
    let at_or_after = if year == days { year } else { next };
    let first = first_of_year(i64::from(i32::MIN) + YEAR_DAYS_MAX);
    let from = |days: i64| Some(date.clone().gt_eq(day(days)?));
    let before = |days: i64| {
        Some(
            date.clone()
                .gt_eq(day(first)?)
                .and(date.clone().lt(day(days)?)),
        )
    };
    match op {
        Operator::GtEq => from(at_or_after.max(first)),
        Operator::Gt => from(next.max(first)),
        Operator::Lt => before(at_or_after),
        Operator::LtEq => before(next),
        Operator::Eq if year == days => Some(from(year.max(first))?.and(before(next)?)),
        Operator::Eq => Some(lit(false)),
        _ => None,
    }
}

fn day(days: i64) -> Option<Expr> {
    let days = i32::try_from(days).ok()?;
    Some(Expr::Literal(ScalarValue::Date32(Some(days)), None))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, ArrayRef, AsArray, Date32Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::common::DFSchema;
    use datafusion::prelude::{SessionContext, col};
    use hubflight_rights::habilitation::Mask;

    use super::super::reveal::masks;
    use super::*;

    /// Every comparison of dates around years, the first and the last among them, passes the same
    /// rows below as above.
    #[test]
    fn below_passes_what_passes_above() {
        let schema = Schema::new(vec![Field::new("d", DataType::Date32, true)]);
        let known = DFSchema::try_from(schema.clone()).expect("a schema");
        let context = SessionContext::new();
        let mut days: Vec<Option<i32>> = vec![None];
        for middle in [
            i32::MIN,
            i32::MAX,
            -719_162,
            -719_528,
            0,
            10_957,
            11_323,
            -25_567,
        ] {
            let around = (-800_i64..=800).step_by(11).chain(-3..=3).chain(362..=368);
            let around = around.map(|step| i64::from(middle) + step);
            days.extend(around.filter_map(|days| i32::try_from(days).ok()).map(Some));
        }
        let stored: ArrayRef = Arc::new(Date32Array::from(days.clone()));
        let shown = masks::apply(Mask::Year, &stored).expect("masked");
        let passes = |filter: &Expr, dates: &ArrayRef| -> Vec<bool> {
            let batch = RecordBatch::try_new(Arc::new(schema.clone()), vec![Arc::clone(dates)]);
            let filter = context.create_physical_expr(filter.clone(), &known);
            let passed = filter.expect("a filter").evaluate(&batch.expect("a batch"));
            let passed = passed.and_then(|passed| passed.into_array(dates.len()));
            let passed = passed.expect("evaluated");
            let passed = passed.as_boolean().iter();
            passed.map(|passed| passed == Some(true)).collect()
        };
        let mut tried = 0;
        for literal in days.iter().flatten() {
            let value = ScalarValue::Date32(Some(*literal));
            for op in [
                Operator::Lt,
                Operator::LtEq,
                Operator::Gt,
                Operator::GtEq,
                Operator::Eq,
            ] {
                let Some(below) = comparison(&col("d"), op, &value, Polarity::Positive) else {
                    continue;
                };
                let above = Expr::Literal(value.clone(), None);
                let above = datafusion::logical_expr::binary_expr(col("d"), op, above);
                assert_eq!(
                    passes(&below, &stored),
                    passes(&above, &shown),
                    "{op} {literal}"
                );
                tried += 1;
            }
        }
        assert!(tried > 2_000, "{tried}");
        let under_not = comparison(
            &col("d"),
            Operator::Lt,
            &ScalarValue::Date32(Some(0)),
            Polarity::Any,
        );
        assert_eq!(under_not, None);
    }
}
