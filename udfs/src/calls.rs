//! Named arguments, defaults and `on_error`, as plain positional arguments.

use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, CopyToStatement, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Value, VisitMut,
    visit_expressions_mut,
};
use datafusion::sql::sqlparser::tokenizer::Location;
use hubflight_protocol::FunctionSpec;

use crate::function::{ON_ERROR, OnError};

/// A call that does not fit its function: what is wrong, where, and how to call it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{function}` {problem}{}: call it as `{signature}`", place(*.line, *.column))]
pub struct CallError {
    pub function: &'static str,
    pub problem: CallProblem,
    /// Line of the call, from 1; 0 where it is not known.
    pub line: u64,
    pub column: u64,
    pub signature: String,
}

/// What is wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallProblem {
    #[error("has no argument `{0}`")]
    Unknown(String),
    #[error("got `{0}` twice")]
    Duplicate(String),
    #[error("needs `{0}`")]
    Missing(&'static str),
    #[error("takes at most {0} arguments")]
    TooMany(usize),
    #[error("got an argument without a name after a named one")]
    PositionalAfterNamed,
    #[error("needs `on_error` to be 'null', 'fail' or 'report', written out")]
    OnError,
    #[error("takes plain arguments only, without *, DISTINCT, FILTER, OVER or ORDER BY")]
    NotPlain,
}

fn place(line: u64, column: u64) -> String {
    match line {
        0 => String::new(),
        line => format!(" at line {line}, column {column}"),
    }
}

/// Rewrites every call of a worker function in `statement`, nested ones included: named
/// arguments take their positions, omitted ones become NULL, and an `on_error` other than
/// `'null'` becomes a last argument. Leaves other calls alone; doing it twice changes nothing.
pub fn normalise_calls<V: VisitMut>(statement: &mut V) -> Result<(), CallError> {
    let flow = visit_expressions_mut(statement, |expr| match expr {
        Expr::Function(call) => match normalise(call) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        },
        _ => ControlFlow::Continue(()),
    });
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// [`normalise_calls`] for a statement as DataFusion parses it, `EXPLAIN` and `COPY` included.
pub fn normalise_statement(statement: &mut Statement) -> Result<(), CallError> {
    match statement {
        Statement::Statement(statement) => normalise_calls(statement.as_mut()),
        Statement::Explain(explain) => normalise_statement(&mut explain.statement),
        Statement::CopyTo(CopyToStatement {
            source: CopyToSource::Query(query),
            ..
        }) => normalise_calls(query.as_mut()),
        _ => Ok(()),
    }
}

/// The worker function that a call names, and where. An unquoted name is lowercase.
fn worker_function(call: &Function) -> Option<(&'static FunctionSpec, Location)> {
    let [part] = call.name.0.as_slice() else {
        return None;
    };
    let ident = part.as_ident()?;
    let spec = hubflight_protocol::function(&folded(ident))?;
    Some((spec, ident.span.start))
}

fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

fn normalise(call: &mut Function) -> Result<(), CallError> {
    let Some((spec, at)) = worker_function(call) else {
        return Ok(());
    };
    positional(spec, call).map_err(|problem| CallError {
        function: spec.name,
        problem,
        line: at.line,
        column: at.column,
        signature: spec.signature(),
    })
}

fn positional(spec: &FunctionSpec, call: &mut Function) -> Result<(), CallProblem> {
    let plain = call.filter.is_none()
        && call.null_treatment.is_none()
        && call.over.is_none()
        && call.within_group.is_empty()
        && matches!(call.parameters, FunctionArguments::None);
    let list = match &mut call.args {
        FunctionArguments::List(list)
            if plain && list.duplicate_treatment.is_none() && list.clauses.is_empty() =>
        {
            list
        }
        _ => return Err(CallProblem::NotPlain),
    };
    let (values, on_error) = assign(spec, std::mem::take(&mut list.args))?;
    let mut arguments = Vec::with_capacity(values.len() + 1);
    for (parameter, value) in spec.parameters.iter().zip(values) {
        arguments.push(match value {
            Some(value) => value,
            None if parameter.default.is_some() => Expr::value(Value::Null),
            None => return Err(CallProblem::Missing(parameter.name)),
        });
    }
    if on_error != OnError::Null {
        let mode = Value::SingleQuotedString(on_error.as_str().to_owned());
        arguments.push(Expr::value(mode));
    }
    list.args = arguments
        .into_iter()
        .map(|value| FunctionArg::Unnamed(FunctionArgExpr::Expr(value)))
        .collect();
    Ok(())
}

/// Gives each argument its parameter's slot; what follows the last parameter is `on_error`.
fn assign(
    spec: &FunctionSpec,
    arguments: Vec<FunctionArg>,
) -> Result<(Vec<Option<Expr>>, OnError), CallProblem> {
    let count = spec.parameters.len();
    if arguments.len() > count + 1 {
        return Err(CallProblem::TooMany(count));
    }
    let mut values: Vec<Option<Expr>> = vec![None; count];
    let mut on_error = None;
    let mut named = false;
    for (position, argument) in arguments.into_iter().enumerate() {
        let (name, value) = named_value(argument)?;
        let index = match &name {
            None if named => return Err(CallProblem::PositionalAfterNamed),
            None => position,
            Some(name) if name == ON_ERROR => count,
            Some(name) => spec
                .parameters
                .iter()
                .position(|parameter| parameter.name == name)
                .ok_or_else(|| CallProblem::Unknown(name.clone()))?,
        };
        named |= name.is_some();
        let duplicate = match values.get_mut(index) {
            Some(slot) => slot.replace(value).is_some(),
            None if index == count => on_error.replace(mode(&value)?).is_some(),
            None => return Err(CallProblem::TooMany(count)),
        };
        if duplicate {
            return Err(CallProblem::Duplicate(name.unwrap_or_default()));
        }
    }
    Ok((values, on_error.unwrap_or_default()))
}

fn named_value(argument: FunctionArg) -> Result<(Option<String>, Expr), CallProblem> {
    let (name, value) = match argument {
        FunctionArg::Unnamed(value) => (None, value),
        FunctionArg::Named { name, arg, .. }
        | FunctionArg::ExprNamed {
            name: Expr::Identifier(name),
            arg,
            ..
        } => (Some(folded(&name)), arg),
        FunctionArg::ExprNamed { .. } => return Err(CallProblem::NotPlain),
    };
    match value {
        FunctionArgExpr::Expr(value) => Ok((name, value)),
        _ => Err(CallProblem::NotPlain),
    }
}

fn mode(value: &Expr) -> Result<OnError, CallProblem> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => OnError::parse(text),
            Value::Null => Some(OnError::Null),
            _ => None,
        },
        _ => None,
    }
    .ok_or(CallProblem::OnError)
}
