//! Administration in SQL: `CALL hub.person_add(id => 'bill', name => 'Bill')` and the like, in
//! catalog `admin` and by role, with the code of the commands. `EXPLAIN CALL …` is their dry run,
//! whose lines it gives as rows.
//!
//! A call runs once, when it is opened, and gives a count; only the dry run has a ticket. What is
//! shown once, what destroys keys and what lists persons of the data stays with the commands; what
//! a habilitation says of stored identifiers is told as their number and a digest.

mod run;
mod verbs;

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArguments, Ident,
    Statement as Sql, Value,
};

use crate::airlock::call::is_plain;
use crate::catalog::space::names::moves_text;
use crate::error::{Error, Result};
use verbs::{COMMANDS, Takes, VERBS, Verb};

pub use run::COLUMN;

/// Characters of an argument.
const TEXT_CHARS_MAX: usize = 500;
/// Bytes of a habilitation's text.
const DOCUMENT_BYTES_MAX: usize = 64 << 10;

/// A statement of administration, as it was written.
#[derive(Clone, Debug)]
pub struct Call {
    verb: &'static Verb,
    arguments: BTreeMap<&'static str, Argument>,
}

#[derive(Clone, Debug)]
enum Argument {
    Written(String),
    /// The number of the placeholder, from 0.
    Bound(usize),
}

/// A statement of administration whose arguments are known.
#[derive(Clone, Debug)]
pub struct Asked {
    verb: &'static Verb,
    values: BTreeMap<&'static str, String>,
}

/// What a statement calls of administration; `None` for any other.
///
/// # Errors
/// `InvalidArgument` where it has other arguments, or only a command does it.
pub fn called(statement: &Sql) -> Result<Option<Call>> {
    let Sql::Call(call) = statement else {
        return Ok(None);
    };
    // A quoted name prints its quotes.
    let name = call.name.to_string().to_lowercase();
    if let Some((_, command)) = COMMANDS.iter().find(|(own, _)| *own == name) {
        return Err(Error::invalid(format!(
            "`{name}` is no statement; run `flight-server admin {command}` where the hub is"
        )));
    }
    let Some(verb) = VERBS.iter().find(|verb| verb.name == name) else {
        return Ok(None);
    };
    let arguments = arguments(verb, call).ok_or_else(|| verb.usage())?;
    Ok(Some(Call { verb, arguments }))
}

/// The arguments by name; `None` where they are not what the verb takes.
fn arguments(verb: &'static Verb, call: &Function) -> Option<BTreeMap<&'static str, Argument>> {
    let FunctionArguments::List(list) = &call.args else {
        return None;
    };
    let mut found = BTreeMap::new();
    let mut names_begun = false;
    for (place, argument) in list.args.iter().enumerate() {
        let (takes, value) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) if !names_begun => {
                (verb.takes.get(place)?, value)
            }
            FunctionArg::Named {
                name,
                arg: FunctionArgExpr::Expr(value),
                operator: FunctionArgOperator::RightArrow,
            } => {
                names_begun = true;
                let name = folded(name);
                (verb.takes.iter().find(|takes| takes.name == name)?, value)
            }
            _ => return None,
        };
        let Expr::Value(value) = value else {
            return None;
        };
        let argument = match &value.value {
            Value::SingleQuotedString(text) => Argument::Written(text.clone()),
            Value::Number(digits, false) => Argument::Written(digits.to_string()),
            Value::Placeholder(name) => Argument::Bound(placeholder(name)?),
            _ => return None,
        };
        if found.insert(takes.name, argument).is_some() {
            return None;
        }
    }
    let mut needed = verb.takes.iter().filter(|takes| takes.needed);
    let complete = needed.all(|takes| found.contains_key(takes.name));
    (is_plain(call) && complete).then_some(found)
}

fn folded(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    }
}

fn placeholder(name: &str) -> Option<usize> {
    // It is numbered once the statement is known to be allowed.
    if name == "?" {
        return Some(0);
    }
    let number: usize = name.strip_prefix('$')?.parse().ok()?;
    number.checked_sub(1)
}

impl Call {
    /// The statement for the row of parameters that is bound to it; NULL is an argument that is
    /// not given.
    ///
    /// # Errors
    /// `InvalidArgument` where an argument is missing, of another type or too long, or where
    /// several rows are bound: a statement of administration is made once.
    pub fn bind(self, rows: Vec<Vec<ScalarValue>>) -> Result<Asked> {
        if rows.len() > 1 {
            return Err(Error::invalid(
                "a statement of administration is made once; bind one row of parameters",
            ));
        }
        let row = rows.into_iter().next().unwrap_or_default();
        let mut values = BTreeMap::new();
        for (name, argument) in self.arguments {
            let value = match argument {
                Argument::Written(text) => Some(text),
                Argument::Bound(number) => match row.get(number) {
                    Some(value) => text_of(name, value)?,
                    None => return Err(self.verb.usage()),
                },
            };
            if let Some(value) = value {
                values.insert(name, value);
            }
        }
        for takes in self.verb.takes {
            match values.get(takes.name) {
                Some(value) => check(takes, value)?,
                None if takes.needed => return Err(self.verb.usage()),
                None => {}
            }
        }
        Ok(Asked {
            verb: self.verb,
            values,
        })
    }
}

/// A bound value as it would be written; `None` for NULL.
fn text_of(name: &str, value: &ScalarValue) -> Result<Option<String>> {
    if value.is_null() {
        return Ok(None);
    }
    if let Some(Some(text)) = value.try_as_str() {
        return Ok(Some(text.to_owned()));
    }
    let kind = value.data_type();
    let is_day = matches!(kind, DataType::Date32 | DataType::Date64);
    if kind.is_integer() || is_day {
        let value = match is_day {
            true => &value.cast_to(&DataType::Date32)?,
            false => value,
        };
        let text = value.cast_to(&DataType::Utf8)?;
        return Ok(text.try_as_str().flatten().map(str::to_owned));
    }
    Err(Error::invalid(format!(
        "argument `{name}` is bound to a value of type {kind}; bind a text, a whole number or a day"
    )))
}

/// What is kept of an argument, and told of it, is short and moves no cursor.
fn check(takes: &Takes, value: &str) -> Result<()> {
    let name = takes.name;
    if takes.is_document {
        if value.len() > DOCUMENT_BYTES_MAX {
            return Err(Error::invalid(format!(
                "argument `{name}` has more than {DOCUMENT_BYTES_MAX} bytes"
            )));
        }
        return Ok(());
    }
    if value.chars().nth(TEXT_CHARS_MAX).is_some() || value.contains(moves_text) {
        return Err(Error::invalid(format!(
            "argument `{name}` is not up to {TEXT_CHARS_MAX} characters without line ends and \
             control characters"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
