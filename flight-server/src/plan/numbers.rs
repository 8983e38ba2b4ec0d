//! Decimal numbers that a double would change.
//!
//! A number with a point is a double, and so is what it is compared or multiplied with: DataFusion 55
//! has an option that makes all of them decimals (`parse_float_as_decimal`), but then a double
//! becomes `DECIMAL(30, 15)` beside one, which fails on NaN and on what is large, and averages and
//! quotients keep four digits more than their arguments. So only those are decimals of which a
//! double would lose something: what is cast to DECIMAL, from its digits, and what has more digits
//! than any double is written with.

use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Cast as Casting, Expr as Planned, ExprSchemable};
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, ExactNumberInfo, Expr, UnaryOperator, Value,
};

/// Significant digits that a double is written with at most.
const DOUBLE_DIGITS_MAX: usize = 17;
/// Digits of arrow's Decimal256, in which the cast of a text counts.
const CAST_DIGITS_MAX: usize = 76;
/// Digits of a decimal that clients know (Arrow's Decimal128).
const DECIMAL_DIGITS_MAX: usize = 38;

/// Rewrites one expression whose parts are rewritten.
pub fn exact(expr: &mut Expr) {
    match expr {
        Expr::Cast {
            expr: inner,
            data_type,
            array: false,
            format: None,
            ..
        } if is_decimal(data_type) => {
            if let Some(text) = written(inner) {
                **inner = Expr::value(Value::SingleQuotedString(text));
            }
        }
        Expr::Value(value) => {
            let Value::Number(text, false) = &value.value else {
                return;
            };
            let Some(data_type) = long(text) else {
                return;
            };
            let text = Value::SingleQuotedString(text.clone()).with_span(value.span);
            *expr = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(Expr::Value(text)),
                data_type,
                array: false,
                format: None,
            };
        }
        _ => {}
    }
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Numeric(_) | DataType::Decimal(_) | DataType::Dec(_)
    )
}

/// The digits of a number with a point, and its sign.
fn written(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Nested(inner) => written(inner),
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => Some(format!("-{}", digits(expr)?)),
        expr => digits(expr).map(str::to_owned),
    }
}

/// Without an exponent or a sign: the cast of a text reads neither `1e3` nor `--1.5`. Nor does it
/// read more digits than arrow's widest decimal has.
fn digits(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Nested(inner) => digits(inner),
        Expr::Value(value) => match &value.value {
            Value::Number(text, false) => {
                let is_plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.'));
                (is_plain && text.contains('.') && text.len() <= CAST_DIGITS_MAX)
                    .then_some(text.as_str())
            }
            _ => None,
        },
        _ => None,
    }
}

/// The type of a number that no double holds.
fn long(text: &str) -> Option<DataType> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || text.parse::<u64>().is_ok() {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let digits = whole.len() + fraction.len();
    let significant = match whole.is_empty() {
        true => fraction.trim_start_matches('0').len(),
        false => digits,
    };
    if significant <= DOUBLE_DIGITS_MAX || digits > DECIMAL_DIGITS_MAX {
        return None;
    }
    let scale = i64::try_from(fraction.len()).ok()?;
    let precision = u64::try_from(digits).ok()?;
    Some(DataType::Decimal(ExactNumberInfo::PrecisionAndScale(
        precision, scale,
    )))
}

/// Beside a double, such a number is a double.
#[derive(Debug)]
pub struct DoublesBesideDoubles;

impl ExprPlanner for DoublesBesideDoubles {
    fn plan_binary_op(
        &self,
        mut expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let is_double =
            |side: &Planned| side.get_type(schema).is_ok_and(|found| found.is_floating());
        if let Some(double) = double(&expr.left).filter(|_| is_double(&expr.right)) {
            expr.left = double;
        } else if let Some(double) = double(&expr.right).filter(|_| is_double(&expr.left)) {
            expr.right = double;
        }
        Ok(PlannerResult::Original(expr))
    }
}

/// A decimal that [`exact`] made of digits, as a double. One that somebody cast is theirs: it may
/// be rounded.
fn double(expr: &Planned) -> Option<Planned> {
    let Planned::Cast(Casting { expr, field, .. }) = expr else {
        return None;
    };
    let Planned::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _) =
        expr.as_ref()
    else {
        return None;
    };
    let DataType::Decimal(ExactNumberInfo::PrecisionAndScale(precision, scale)) = long(text)?
    else {
        return None;
    };
    let is_made = matches!(field.data_type(), arrow::datatypes::DataType::Decimal128(digits, places)
        if u64::from(*digits) == precision && i64::from(*places) == scale);
    let value: f64 = text.parse().ok()?;
    is_made.then(|| Planned::Literal(ScalarValue::Float64(Some(value)), None))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType::Decimal128;
    use datafusion::logical_expr::{cast, lit};
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    #[test]
    fn numbers_are_cast_from_their_digits() {
        for (sql, expected) in [
            ("1.5", Some("1.5")),
            ("-1.5", Some("-1.5")),
            ("-(.5)", Some("-.5")),
            ("((-1.))", Some("-1.")),
            ("1", None),
            ("1e3", None),
            ("-1.5e3", None),
            ("- -1.5", None),
            ("-(-1.5)", None),
            ("'1.5'", None),
        ] {
            let mut parser = Parser::new(&GenericDialect {})
                .try_with_sql(sql)
                .expect(sql);
            let expr = parser.parse_expr().expect(sql);
            assert_eq!(written(&expr).as_deref(), expected, "{sql}");
        }
    }

    #[test]
    fn what_somebody_cast_is_no_double() {
        let long = "12345678901234567890.26";
        assert!(double(&cast(lit(long), Decimal128(22, 2))).is_some());
        assert!(double(&cast(lit(long), Decimal128(21, 1))).is_none());
        assert!(double(&cast(lit("1.26"), Decimal128(9, 1))).is_none());
    }

    #[test]
    fn numbers_are_decimals_where_a_double_would_lose_digits() {
        let type_of = |text: &str| long(text).map(|found| found.to_string());
        for (text, expected) in [
            ("12345678901234567890.0123456789", "DECIMAL(30,10)"),
            ("123456789012345678901234567890", "DECIMAL(30,0)"),
            ("0.123456789012345678", "DECIMAL(18,18)"),
            ("0.1000000000000000055511151231257827", "DECIMAL(34,34)"),
        ] {
            assert_eq!(type_of(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "1.5",
            "12",
            "18446744073709551615",
            "0.30000000000000004",
            "1e300",
            "1234567890123456789012345678901234567890",
        ] {
            assert_eq!(type_of(text), None, "{text}");
        }
    }
}
