//! The functions that may be evaluated on rows that are only counted, and the arguments with
//! which they are defined for every value.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, lit, when};

use arrow::datatypes::DataType;

use super::casts::is_text;
use super::expressions::{Value, check_text, value_of};
use super::refused;

/// What the arguments of a function must be.
enum Arguments {
    /// One type, whatever it is.
    Any,
    Floats,
    /// A text, and constants that may be texts.
    Text,
    /// A text, and counts of characters.
    Slice,
    /// The name of a part, then a date or a timestamp.
    Part,
}

#[rustfmt::skip]
const FUNCTIONS: &[(&str, Arguments)] = &[
    ("btrim", Arguments::Text), ("ceil", Arguments::Floats),
    ("character_length", Arguments::Text), ("coalesce", Arguments::Any),
    ("contains", Arguments::Text), ("date_part", Arguments::Part),
    ("date_trunc", Arguments::Part), ("ends_with", Arguments::Text),
    ("floor", Arguments::Floats), ("greatest", Arguments::Any), ("initcap", Arguments::Text),
    ("least", Arguments::Any), ("left", Arguments::Slice), ("lower", Arguments::Text),
    ("ltrim", Arguments::Text), ("nullif", Arguments::Any), ("nvl", Arguments::Any),
    ("octet_length", Arguments::Text), ("right", Arguments::Slice),
    ("round", Arguments::Floats), ("rtrim", Arguments::Text), ("signum", Arguments::Floats),
    ("starts_with", Arguments::Text), ("strpos", Arguments::Text),
    ("substr", Arguments::Slice), ("trunc", Arguments::Floats), ("upper", Arguments::Text),
];

/// Parts of dates, and of timestamps besides.
const DATE_PARTS: &[&str] = &[
    "year", "isoyear", "quarter", "month", "week", "day", "doy", "dow", "isodow",
];
const TIME_PARTS: &[&str] = &["hour", "minute"];
const TRUNC_PARTS: &[&str] = &[
    "year", "quarter", "month", "week", "day", "hour", "minute", "second",
];

/// Characters and decimal places: beyond it, arithmetic on positions may overflow.
const COUNT_MAX: i64 = 1_000_000;

pub fn is_known(name: &str) -> bool {
    arguments(name).is_some()
}

fn arguments(name: &str) -> Option<&'static Arguments> {
    let found = FUNCTIONS.iter().find(|(known, _)| *known == name);
    found.map(|(_, arguments)| arguments)
}

/// Refuses a call that could fail on a value. Gives the arguments that are still to be checked
/// themselves.
pub fn check<'a>(call: &'a ScalarFunction, schema: &DFSchema) -> Result<Vec<&'a Expr>> {
    let name = call.name();
    let all = || call.args.iter().collect();
    match arguments(name) {
        None => {
            let known: Vec<&str> = FUNCTIONS.iter().map(|(known, _)| *known).collect();
            refused(format!(
                "function `{name}` is not available below an aggregate; there are {}",
                known.join(", ")
            ))
        }
        Some(Arguments::Any) => Ok(all()),
        Some(Arguments::Floats) => {
            let number = first(call)?.get_type(schema)?;
            if !matches!(number, DataType::Float32 | DataType::Float64) {
                return refused(format!(
                    "`{name}` of {number} fails on some values; write `{name}(CAST(… AS DOUBLE))`"
                ));
            }
            counts(call)?;
            Ok(vec![first(call)?])
        }
        Some(Arguments::Text) => {
            text(call, schema)?;
            for rest in call.args.iter().skip(1) {
                constant(call, rest)?.map_or(Ok(()), |value| check_text(&value))?;
            }
            Ok(vec![first(call)?])
        }
        Some(Arguments::Slice) => {
            text(call, schema)?;
            counts(call)?;
            Ok(vec![first(call)?])
        }
        Some(Arguments::Part) => Ok(vec![moment(call, schema)?]),
    }
}

fn first(call: &ScalarFunction) -> Result<&Expr> {
    match call.args.first() {
        Some(first) => Ok(first),
        None => refused(format!("`{}` needs an argument", call.name())),
    }
}

fn text(call: &ScalarFunction, schema: &DFSchema) -> Result<()> {
    let found = first(call)?.get_type(schema)?;
    if is_text(&found) || matches!(&found, DataType::Dictionary(_, values) if is_text(values)) {
        return Ok(());
    }
    refused(format!("`{}` takes a text and not {found}", call.name()))
}

/// None where it is a parameter that is not bound yet; such a plan never runs.
fn constant(call: &ScalarFunction, expr: &Expr) -> Result<Option<ScalarValue>> {
    match value_of(expr)? {
        Value::Constant(value) if !value.is_null() => Ok(Some(value)),
        Value::Unbound => Ok(None),
        _ => refused(format!(
            "below an aggregate, `{}` takes a column first and constants besides",
            call.name()
        )),
    }
}

/// Every argument but the first is a count that no arithmetic on positions overflows.
fn counts(call: &ScalarFunction) -> Result<()> {
    for (position, expr) in call.args.iter().enumerate().skip(1) {
        let Some(value) = constant(call, expr)? else {
            continue;
        };
        let count = match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(Some(count))) => count,
            _ => return refused(format!("`{expr}` in `{}` is no number", call.name())),
        };
        let is_length = call.name() == "substr" && position == 2;
        let least = if is_length { 0 } else { -COUNT_MAX };
        if !(least..=COUNT_MAX).contains(&count) {
            return refused(format!(
                "`{expr}` in `{}` is out of range; it goes from {least} to {COUNT_MAX}",
                call.name()
            ));
        }
    }
    Ok(())
}

/// The date or timestamp of `date_part` and of [`guarded`] `date_trunc`.
fn moment<'a>(call: &'a ScalarFunction, schema: &DFSchema) -> Result<&'a Expr> {
    let name = call.name();
    let [part, whole] = call.args.as_slice() else {
        return refused(format!("`{name}` takes a part and a date"));
    };
    let of = if name == "date_trunc" {
        uncast(whole)
    } else {
        whole
    };
    let data_type = of.get_type(schema)?;
    let parts: Vec<&str> = match (&data_type, name) {
        (DataType::Date32 | DataType::Timestamp(_, None), "date_trunc") => TRUNC_PARTS.to_vec(),
        (DataType::Date32, _) => DATE_PARTS.to_vec(),
        (DataType::Timestamp(_, None), _) => [DATE_PARTS, TIME_PARTS].concat(),
        _ => {
            return refused(format!(
                "below an aggregate, `{name}` takes a date or a timestamp without time zone and \
                 not {data_type}"
            ));
        }
    };
    let Some(value) = constant(call, part)? else {
        return Ok(of);
    };
    let known = value.try_as_str().flatten().map(str::to_lowercase);
    if known.is_some_and(|known| parts.contains(&known.as_str())) {
        return Ok(of);
    }
    refused(format!(
        "`{name}` below an aggregate has no part {part} of {data_type}; there are {}",
        parts.join(", ")
    ))
}

/// A date behind the cast to a timestamp that `date_trunc` needs.
fn uncast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(Cast { expr: date, field }) if is_timestamp(field.data_type()) => date,
        other => other,
    }
}

fn is_timestamp(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, None))
}

/// The plan with every `date_trunc` evaluated on dates of the years 1678 to 2261 only, and NULL
/// for others: it fails where a truncated date lies outside the range of nanoseconds.
pub fn guarded(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| {
        let inputs: Vec<_> = node.inputs().into_iter().map(LogicalPlan::schema).collect();
        let mut schema = DFSchema::empty();
        for input in inputs {
            schema.merge(input);
        }
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|part| guard(part, &schema))?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })?;
        if node.transformed {
            node.map_data(LogicalPlan::recompute_schema)
        } else {
            Ok(node)
        }
    })?;
    Ok(plan.data)
}

fn guard(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::ScalarFunction(call) = &expr else {
        return Ok(Transformed::no(expr));
    };
    let (true, [_, whole]) = (call.name() == "date_trunc", call.args.as_slice()) else {
        return Ok(Transformed::no(expr));
    };
    let of = uncast(whole);
    let data_type = of.get_type(schema)?;
    if !matches!(data_type, DataType::Date32) && !is_timestamp(&data_type) {
        return Ok(Transformed::no(expr));
    }
    let bound = |date: &str| {
        let date = ScalarValue::from(date).cast_to(&data_type)?;
        Ok::<_, datafusion::error::DataFusionError>(lit(date))
    };
    let inside = of
        .clone()
        .between(bound("1678-01-01")?, bound("2261-12-31")?);
    Ok(Transformed::yes(when(inside, expr).end()?))
}
