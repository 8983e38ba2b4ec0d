//! `CALL hub.request_export('SELECT …', 'name', 'purpose')` and `CALL
//! hub.withdraw_export('name')`, from their texts to their parts.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Statement as Sql, Value,
};

use crate::catalog::space::names::moves_text;
use crate::error::{Error, Result};

/// What is called, as it must be written.
const REQUEST: &str = "hub.request_export";
const WITHDRAW: &str = "hub.withdraw_export";
/// Characters of an export's name.
const NAME_CHARS_MAX: usize = 63;
/// Characters of a purpose.
const PURPOSE_CHARS_MAX: usize = 500;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The query; not parsed yet.
    pub sql: String,
    /// Of the table that the package becomes.
    pub name: String,
    pub purpose: String,
}

/// A call of the airlock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Request(Asked),
    /// Takes an export back, by its name.
    Withdraw(String),
}

/// What a statement calls of the airlock; `None` for any other.
///
/// # Errors
/// `InvalidArgument` where it has other arguments than texts, or the name is none.
pub fn called(statement: &Sql) -> Result<Option<Call>> {
    let Sql::Call(call) = statement else {
        return Ok(None);
    };
    // A quoted name prints its quotes.
    match call.name.to_string().to_lowercase().as_str() {
        REQUEST => requested(call).map(Some),
        WITHDRAW => withdrawn(call).map(Some),
        _ => Ok(None),
    }
}

fn requested(call: &Function) -> Result<Call> {
    let Some([sql, name, purpose]) = texts(call) else {
        return Err(Error::invalid(format!(
            "write `CALL {REQUEST}('SELECT …', 'name', 'purpose')`: three texts in quotes, with \
             each quote inside the query doubled"
        )));
    };
    check_name(name)?;
    check_purpose(purpose)?;
    Ok(Call::Request(Asked {
        sql: sql.to_owned(),
        name: name.to_owned(),
        purpose: purpose.to_owned(),
    }))
}

fn withdrawn(call: &Function) -> Result<Call> {
    let Some([name]) = texts(call) else {
        return Err(Error::invalid(format!(
            "write `CALL {WITHDRAW}('name')`: the name of an export, in quotes"
        )));
    };
    check_name(name)?;
    Ok(Call::Withdraw(name.to_owned()))
}

/// The arguments, where they are so many texts and nothing else.
fn texts<const N: usize>(call: &Function) -> Option<[&str; N]> {
    let texts = values::<N>(call)?.map(|value| match value {
        Value::SingleQuotedString(text) => Some(text.as_str()),
        _ => None,
    });
    let texts: Option<Vec<&str>> = texts.into_iter().collect();
    texts?.try_into().ok()
}

/// The arguments, where they are so many values and nothing else.
pub fn values<const N: usize>(call: &Function) -> Option<[&Value; N]> {
    let FunctionArguments::List(list) = &call.args else {
        return None;
    };
    let values = list.args.iter().map(value).collect::<Option<Vec<_>>>()?;
    is_plain(call).then_some(values)?.try_into().ok()
}

fn value(argument: &FunctionArg) -> Option<&Value> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => Some(&value.value),
        _ => None,
    }
}

/// Nothing but arguments: what else a call of a function may have means nothing here.
pub fn is_plain(call: &Function) -> bool {
    let listed = match &call.args {
        FunctionArguments::List(list) => {
            list.duplicate_treatment.is_none() && list.clauses.is_empty()
        }
        _ => false,
    };
    listed
        && !call.uses_odbc_syntax
        && matches!(call.parameters, FunctionArguments::None)
        && call.filter.is_none()
        && call.null_treatment.is_none()
        && call.over.is_none()
        && call.within_group.is_empty()
}

/// A name of a table that no quotes are needed for, and that can be no path.
fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins = name.starts_with(|first: char| first.is_ascii_lowercase());
    if begins && name.len() <= NAME_CHARS_MAX && name.chars().all(plain) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "`{}` is no name of an export; write up to {NAME_CHARS_MAX} of a-z, 0-9 and `_`, a letter \
         first",
        name.escape_debug()
    )))
}

fn check_purpose(purpose: &str) -> Result<()> {
    let length = purpose.trim().chars().count();
    if (1..=PURPOSE_CHARS_MAX).contains(&length) && !purpose.contains(moves_text) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "say what the export is for in 1 to {PURPOSE_CHARS_MAX} characters without line ends"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::parse::parse;

    fn call(sql: &str) -> Result<Option<Call>> {
        parse(sql, 10_000)?.airlock()
    }

    #[test]
    fn a_call_is_three_texts() {
        let asked = call("CALL hub.request_export('SELECT ''a'' FROM t', 'cells_1', 'an article')");
        let expected = Asked {
            sql: "SELECT 'a' FROM t".into(),
            name: "cells_1".into(),
            purpose: "an article".into(),
        };
        assert_eq!(asked.expect("parses"), Some(Call::Request(expected)));
        let withdrawn = call("call HUB.Withdraw_Export ( 'cells_1' )").expect("parses");
        assert_eq!(withdrawn, Some(Call::Withdraw("cells_1".into())));
        assert_eq!(call("SELECT 1").expect("another"), None);
        for wrong in [
            "CALL hub.request_export()",
            "CALL hub.request_export",
            "CALL hub.request_export('SELECT 1', 'a')",
            "CALL hub.request_export('SELECT 1', 'a', 'p', 'q')",
            "CALL hub.request_export(SELECT 1, 'a', 'p')",
            "CALL hub.request_export((SELECT 1), 'a', 'p')",
            "CALL hub.request_export(?, 'a', 'p')",
            "CALL hub.request_export($1, 'a', 'p')",
            "CALL hub.request_export('SELECT' || ' 1', 'a', 'p')",
            "CALL hub.request_export(DISTINCT 'SELECT 1', 'a', 'p')",
            "CALL hub.request_export('SELECT 1', 'a', 'p' ORDER BY 1)",
            "CALL hub.request_export('SELECT 1', 'a', 'p') OVER ()",
            "CALL hub.request_export('SELECT 1', name => 'a', purpose => 'p')",
            "CALL hub.request_export('SELECT 1', NULL, 'p')",
            "CALL \"hub\".request_export('SELECT 1', 'a', 'p')",
            "CALL hub.hub.request_export('SELECT 1', 'a', 'p')",
            "CALL hub.request_exports('SELECT 1', 'a', 'p')",
            "CALL hub.withdraw_export()",
            "CALL hub.withdraw_export('a', 'b')",
            "CALL hub.withdraw_export('../a')",
            "CALL hub.withdraw_export(?)",
            "EXPLAIN CALL hub.request_export('SELECT 1', 'a', 'p')",
        ] {
            assert!(call(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_and_purposes_are_plain() {
        let named = |name: &str| {
            call(&format!(
                "CALL hub.request_export('SELECT 1', '{name}', 'p')"
            ))
        };
        named("a").expect("short");
        named(&"a".repeat(63)).expect("just fits");
        for wrong in [
            "",
            "../x",
            "a/b",
            "a.b",
            "A",
            "1a",
            "a b",
            "a''b",
            "é",
            "a\nb",
            "..",
            "a;b",
            &"a".repeat(64),
        ] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
        let stated = |purpose: &str| {
            call(&format!(
                "CALL hub.request_export('SELECT 1', 'a', '{purpose}')"
            ))
        };
        stated("l''article n° 3").expect("any letters");
        for wrong in ["", "  ", "a\nb", &"x".repeat(501)] {
            assert!(stated(wrong).is_err(), "{wrong}");
        }
    }
}
