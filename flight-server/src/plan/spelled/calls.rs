//! Calls of functions by the names that PostgreSQL, DuckDB and others have for them.

use std::ops::ControlFlow;

use arrow::compute::kernels::cast_utils::{
    IntervalParseConfig, IntervalUnit, parse_interval_month_day_nano_config,
};
use arrow::datatypes::IntervalMonthDayNano;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident, Interval,
    NullTreatment, ObjectName, OrderByExpr, OrderByOptions, TimezoneInfo, Value, visit_expressions,
};

use super::formats::{one_group, strftime};
use super::{has_query, windows};
use crate::error::{Error, Result};

/// Other names of functions, sorted.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("approx_count_distinct", "approx_distinct"),
    ("ceiling", "ceil"),
    ("datediff", "date_diff"),
    ("every", "bool_and"),
    ("first", "first_value"),
    ("gen_random_uuid", "uuid"),
    ("group_concat", "string_agg"),
    ("last", "last_value"),
    ("len", "character_length"),
    ("list", "array_agg"),
    ("list_max", "array_max"),
    ("list_min", "array_min"),
    ("list_value", "make_array"),
    ("listagg", "string_agg"),
    ("prefix", "starts_with"),
    ("regexp_matches", "regexp_like"),
    ("sign", "signum"),
    ("str_split", "string_to_array"),
    ("string_split", "string_to_array"),
    ("strlen", "octet_length"),
    ("strptime", "to_timestamp"),
    ("suffix", "ends_with"),
    ("unaccent", "strip_accents"),
    ("variance", "var_samp"),
];

/// Functions that are a part of a date, sorted.
const PARTS: &[(&str, &str)] = &[
    ("day", "day"),
    ("dayofmonth", "day"),
    ("dayofweek", "dow"),
    ("dayofyear", "doy"),
    ("epoch", "epoch"),
    ("hour", "hour"),
    ("isodow", "isodow"),
    ("minute", "minute"),
    ("month", "month"),
    ("quarter", "quarter"),
    ("second", "second"),
    ("week", "week"),
    ("weekday", "dow"),
    ("weekofyear", "week"),
    ("year", "year"),
];

/// Bytes of what `max_by` is by where another is in it: it is written twice, with all that was written
/// twice within it.
const KEY_BYTES_MAX: usize = 128;

/// Changes a call to one that the planner knows, or gives what stands for it.
///
/// # Errors
/// `InvalidArgument` for what the planner would leave out of a call, or read as something else.
pub fn rewritten(call: &mut Function) -> Result<Option<Expr>> {
    windows::check(call)?;
    if call.parameters != FunctionArguments::None {
        return Err(Error::invalid(format!(
            "`{}` is called with two lists of arguments; write all of them in one",
            call.name
        )));
    }
    let Some(name) = name_of(call) else {
        return Ok(None);
    };
    if let Some(other) = look_up(OTHER_NAMES, &name) {
        call.name = ObjectName::from(vec![Ident::new(other)]);
    }
    if matches!(name.as_str(), "listagg" | "string_agg" | "group_concat") {
        order_inside(call);
    }
    if matches!(name.as_str(), "arg_max" | "max_by" | "arg_min" | "min_by") {
        of_extreme(call, name.contains("max"))?;
        return Ok(None);
    }
    if matches!(name.as_str(), "count_if" | "countif") {
        count_where(call);
        return Ok(None);
    }
    let is_plain = call.over.is_none() && call.filter.is_none() && call.within_group.is_empty();
    let Some(args) = arguments(call).filter(|_| is_plain) else {
        return Ok(None);
    };
    of_plain(&name, args)
}

/// The unquoted name of a call, in small letters.
pub(super) fn name_of(call: &Function) -> Option<String> {
    let [part] = call.name.0.as_slice() else {
        return None;
    };
    let name = part.as_ident().filter(|name| name.quote_style.is_none())?;
    Some(name.value.to_lowercase())
}

fn look_up(table: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    let found = table.binary_search_by_key(&name, |(name, _)| name).ok()?;
    Some(table[found].1)
}

/// The arguments of a call that has nothing but arguments without names.
fn arguments(call: &mut Function) -> Option<&mut Vec<FunctionArg>> {
    match &mut call.args {
        FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses,
        }) if clauses.is_empty() => {
            let is_plain =
                |arg: &FunctionArg| matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Expr(_)));
            args.iter().all(is_plain).then_some(args)
        }
        _ => None,
    }
}

fn of_plain(name: &str, args: &mut Vec<FunctionArg>) -> Result<Option<Expr>> {
    let count = args.len();
    let take =
        |args: &mut Vec<FunctionArg>| -> Vec<Expr> { args.drain(..).filter_map(value).collect() };
    if let Some(part) = look_up(PARTS, name).filter(|_| count == 1) {
        let mut of = vec![text(part)];
        of.extend(take(args));
        return Ok(Some(call("date_part", of)));
    }
    let made = match (name, count) {
        ("dayname", 1) | ("monthname", 1) => {
            let pattern = if name == "dayname" { "%A" } else { "%B" };
            let mut of = take(args);
            of.push(text(pattern));
            call("to_char", of)
        }
        ("strftime", 2) => {
            let mut of = take(args);
            // SQLite has the pattern first.
            if literal(&of[0]).is_some() && literal(&of[1]).is_none() {
                of.swap(0, 1);
            }
            call("to_char", of)
        }
        ("to_char" | "to_date" | "to_timestamp", 2) => {
            let Some(pattern) = args.get(1).and_then(argument).and_then(literal) else {
                return Ok(None);
            };
            let pattern = strftime(pattern).ok_or_else(|| unknown_pattern(name, pattern))?;
            let mut of = take(args);
            of[1] = text(&pattern);
            call(name, of)
        }
        ("date_format", 2) => {
            // MySQL's is strftime's, others' have other letters for hours than PostgreSQL.
            let pattern = args.get(1).and_then(argument).and_then(literal);
            let is_known = |pattern: &str| {
                pattern.contains('%') || !pattern.bytes().any(|byte| byte.is_ascii_alphabetic())
            };
            return match pattern {
                Some(pattern) if !is_known(pattern) => Err(unknown_pattern(name, pattern)),
                _ => Ok(None),
            };
        }
        ("date_diff" | "datediff", 3) => {
            let mut of = take(args);
            // Others write the part as a word.
            if let Expr::Identifier(part) = &of[0] {
                of[0] = text(&part.value);
            }
            call("date_diff", of)
        }
        ("date_add" | "date_sub", 2)
            if matches!(args.get(1).and_then(argument), Some(Expr::Interval(_))) =>
        {
            let op = match name {
                "date_add" => BinaryOperator::Plus,
                _ => BinaryOperator::Minus,
            };
            operation(op, take(args))
        }
        ("age", 1) => {
            let mut of = take(args);
            of.insert(0, call("current_date", Vec::new()));
            call("age", of)
        }
        ("mod", 2) => operation(BinaryOperator::Modulo, take(args)),
        ("if" | "iif", 3) => choice(take(args)),
        ("time_bucket", 2) => {
            let width = args.first().and_then(argument);
            let origin = width.and_then(origin).ok_or_else(unclear_width)?;
            let mut of = take(args);
            of.push(origin);
            call("date_bin", of)
        }
        ("regexp_extract" | "regexp_substr", 2)
        | ("regexp_extract", 3)
        | ("regexp_full_match", 2) => {
            return of_pattern(name, take(args)).map(Some);
        }
        _ => return Ok(None),
    };
    Ok(Some(made))
}

fn unknown_pattern(name: &str, pattern: &str) -> Error {
    Error::invalid(format!(
        "`{name}`: pattern `{pattern}` has letters that are not understood; there are YYYY, YY, MM, \
         Mon, FMMonth, DD, Dy, FMDay, DDD, HH24, HH12, MI, SS, MS, US, AM, IYYY, IW and ID, or \
         those of strftime (`%d/%m/%Y`); put text of its own in double quotes"
    ))
}

/// What matches a pattern that is written out.
fn of_pattern(name: &str, mut args: Vec<Expr>) -> Result<Expr> {
    let group = match args.get(2).map(number) {
        None => 0,
        Some(Some(group)) => group,
        Some(None) => return Err(written_out(name)),
    };
    args.truncate(2);
    let pattern = literal(&args[1]).ok_or_else(|| written_out(name))?;
    if name == "regexp_full_match" {
        args[1] = text(&format!("^(?:{pattern})$"));
        return Ok(call("regexp_like", args));
    }
    let one = one_group(pattern, group).ok_or_else(|| {
        Error::invalid(format!(
            "`{name}`: the pattern has no group {group} without a name; count its parentheses \
             from 1"
        ))
    })?;
    // An empty text where nothing matches, as DuckDB has it; PostgreSQL's has NULL.
    args[1] = match name {
        "regexp_extract" => text(&format!("{one}|()$")),
        _ => text(&one),
    };
    let found = call("regexp_match", args);
    Ok(call("array_element", vec![found, digits("1")]))
}

fn written_out(name: &str) -> Error {
    Error::invalid(format!(
        "`{name}` takes a pattern and a number of its group that are written out"
    ))
}

/// Where DuckDB and TimescaleDB begin to count: a Monday, or the first of a year for months.
fn origin(width: &Expr) -> Option<Expr> {
    let width = written_interval(width)?;
    let day = match (width.months, width.days, width.nanoseconds) {
        (0, _, _) => "2000-01-03",
        (_, 0, 0) => "2000-01-01",
        _ => return None,
    };
    Some(Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(text(day)),
        data_type: DataType::Timestamp(None, TimezoneInfo::None),
        array: false,
        format: None,
    })
}

/// `INTERVAL '…' unit` as the planner reads it.
fn written_interval(expr: &Expr) -> Option<IntervalMonthDayNano> {
    let Expr::Interval(Interval {
        value,
        leading_field,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    }) = expr
    else {
        return None;
    };
    let count = match value.as_ref() {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(count) | Value::Number(count, false) => count,
            _ => return None,
        },
        _ => return None,
    };
    let written = match leading_field {
        Some(unit) => format!("{count} {unit}"),
        None => count.clone(),
    };
    let config = IntervalParseConfig::new(IntervalUnit::Second);
    parse_interval_month_day_nano_config(&written, config).ok()
}

fn unclear_width() -> Error {
    Error::invalid(
        "`time_bucket` takes an INTERVAL that is written out, of months or of days and less; write \
         `date_bin(width, time, origin)` for others",
    )
}

/// `WITHIN GROUP (ORDER BY …)` of texts is an ORDER BY of theirs.
fn order_inside(call: &mut Function) {
    let order = std::mem::take(&mut call.within_group);
    if order.is_empty() {
        return;
    }
    match &mut call.args {
        FunctionArguments::List(list) => {
            list.clauses.push(FunctionArgumentClause::OrderBy(order));
        }
        _ => call.within_group = order,
    }
}

/// `max_by(x, y)` is the first `x` that is one, from the greatest `y` down; rows without `y` have no
/// place in that, as in DuckDB.
fn of_extreme(call: &mut Function, is_greatest: bool) -> Result<()> {
    let FunctionArguments::List(list) = &mut call.args else {
        return Ok(());
    };
    let is_pair =
        list.args.len() == 2 && list.clauses.is_empty() && list.duplicate_treatment.is_none();
    if !is_pair || call.over.is_some() || call.null_treatment.is_some() {
        return Ok(());
    }
    let Some(by) = list.args.pop().and_then(value) else {
        return Ok(());
    };
    let is_column = matches!(by, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
    let is_doubled = has_extreme(&by) && by.to_string().len() > KEY_BYTES_MAX;
    if !is_column && (is_doubled || has_query(&by)) {
        return Err(Error::invalid(format!(
            "`{}` is by a column, or an expression without a query and, where another such call is \
             in it, of at most {KEY_BYTES_MAX} bytes; make it a column of a WITH",
            call.name
        )));
    }
    let is_known = match is_column {
        true => Expr::IsNotNull(Box::new(by.clone())),
        false => Expr::IsNotNull(Box::new(Expr::Nested(Box::new(by.clone())))),
    };
    list.clauses
        .push(FunctionArgumentClause::OrderBy(vec![OrderByExpr {
            expr: by,
            options: OrderByOptions {
                asc: Some(!is_greatest),
                nulls_first: Some(false),
            },
            with_fill: None,
        }]));
    call.filter = Some(Box::new(match call.filter.take() {
        Some(filter) => operation(BinaryOperator::And, vec![*filter, is_known]),
        None => is_known,
    }));
    call.null_treatment = Some(NullTreatment::IgnoreNulls);
    call.name = ObjectName::from(vec![Ident::new("first_value")]);
    Ok(())
}

/// Whether `max_by` or a like call stands in an expression, as which it is written by now.
fn has_extreme(expr: &Expr) -> bool {
    let found = visit_expressions(expr, |part| match part {
        Expr::Function(call) if name_of(call).as_deref() == Some("first_value") => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// `count_if(x)` counts 1 where `x` is true.
fn count_where(call: &mut Function) {
    let FunctionArguments::List(list) = &mut call.args else {
        return;
    };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(condition))] = list.args.as_mut_slice() else {
        return;
    };
    let null = Expr::value(Value::Null);
    let asked = std::mem::replace(condition, null.clone());
    *condition = choice(vec![asked, digits("1"), null]);
    call.name = ObjectName::from(vec![Ident::new("count")]);
}

/// `CASE WHEN a THEN b ELSE c END`
fn choice(of: Vec<Expr>) -> Expr {
    let mut of = of.into_iter();
    let mut next = || of.next().unwrap_or_else(|| Expr::value(Value::Null));
    let (condition, result, otherwise) = (next(), next(), next());
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result }],
        else_result: Some(Box::new(otherwise)),
    }
}

fn operation(op: BinaryOperator, of: Vec<Expr>) -> Expr {
    let mut of = of.into_iter();
    let mut side = || {
        let next = of.next().unwrap_or_else(|| Expr::value(Value::Null));
        Box::new(Expr::Nested(Box::new(next)))
    };
    let (left, right) = (side(), side());
    Expr::Nested(Box::new(Expr::BinaryOp { left, op, right }))
}

pub fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args
        .into_iter()
        .map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn argument(arg: &FunctionArg) -> Option<&Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

fn value(arg: FunctionArg) -> Option<Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

fn text(text: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(text.to_owned()))
}

fn digits(number: &str) -> Expr {
    Expr::value(Value::Number(number.to_owned(), false))
}

fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text)
            | Value::EscapedStringLiteral(text)
            | Value::SingleQuotedRawStringLiteral(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn number(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, false) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        assert!(OTHER_NAMES.is_sorted() && PARTS.is_sorted());
    }
}
