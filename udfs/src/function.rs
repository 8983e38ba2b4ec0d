//! The worker functions as the planner sees them: names, types, and no implementation.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::schema_name_from_exprs;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use hubflight_protocol::{ERROR_COLUMN, FunctionSpec, VALUE_COLUMN};

use crate::WorkError;

/// Name of the argument that says what a failing row does.
pub(crate) const ON_ERROR: &str = "on_error";

/// Which functions a session offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Offer `echo` too: for benchmarks and health checks.
    pub echo: bool,
}

/// What a failing row does to its query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OnError {
    /// The row's value is NULL; the failure is counted.
    #[default]
    Null,
    /// The query stops.
    Fail,
    /// The function returns a struct of `value` and `error`.
    Report,
}

impl OnError {
    /// Reads what the user wrote; letters' case does not matter.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Null, Self::Fail, Self::Report]
            .into_iter()
            .find(|mode| mode.as_str().eq_ignore_ascii_case(text))
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Fail => "fail",
            Self::Report => "report",
        }
    }

    /// The type of the SQL function where the worker's function returns `value`.
    pub(crate) fn returns(self, value: DataType) -> DataType {
        match self {
            Self::Null | Self::Fail => value,
            Self::Report => DataType::Struct(Fields::from(vec![
                Field::new(VALUE_COLUMN, value, true),
                Field::new(ERROR_COLUMN, DataType::Utf8, true),
            ])),
        }
    }
}

/// The functions, to be registered with a session.
pub fn functions(options: &Options) -> Vec<Arc<ScalarUDF>> {
    hubflight_protocol::functions()
        .iter()
        .filter(|spec| options.echo || spec.name != "echo")
        .map(|spec| Arc::new(ScalarUDF::new_from_impl(WorkerFunction::new(spec))))
        .collect()
}

/// True for a function of [`functions`].
pub fn is_worker_function(function: &ScalarUDF) -> bool {
    WorkerFunction::of(function).is_some()
}

/// A function that only workers can execute.
///
/// It is declared volatile, although it is not, so that the optimiser neither evaluates it
/// at planning, nor pushes it into scans, nor evaluates it twice.
#[derive(Clone)]
pub(crate) struct WorkerFunction {
    pub(crate) spec: &'static FunctionSpec,
    signature: Signature,
}

impl WorkerFunction {
    fn new(spec: &'static FunctionSpec) -> Self {
        Self {
            spec,
            signature: Signature::user_defined(Volatility::Volatile),
        }
    }

    /// The worker function behind a scalar function, if it is one.
    pub(crate) fn of(function: &ScalarUDF) -> Option<&Self> {
        (function.inner().as_ref() as &dyn std::any::Any).downcast_ref()
    }

    /// What `on_error` says among `arguments`; it follows the function's own parameters.
    pub(crate) fn on_error(&self, arguments: &[Expr]) -> Result<OnError> {
        match arguments.get(self.spec.parameters.len()) {
            None => Ok(OnError::default()),
            Some(Expr::Literal(value, _)) => self.on_error_of(Some(value)),
            Some(Expr::Cast(cast)) => match cast.expr.as_ref() {
                Expr::Literal(value, _) => self.on_error_of(Some(value)),
                _ => self.on_error_of(None),
            },
            Some(_) => self.on_error_of(None),
        }
    }

    fn on_error_of(&self, value: Option<&ScalarValue>) -> Result<OnError> {
        value
            .and_then(|value| value.try_as_str().flatten())
            .and_then(OnError::parse)
            .map_or_else(
                || {
                    plan_err!(
                        "`{ON_ERROR}` of `{}` must be 'null', 'fail' or 'report', written out",
                        self.spec.name
                    )
                },
                Ok,
            )
    }

    fn usage(&self) -> String {
        format!("call it as `{}`", self.spec.signature())
    }

    /// The types in which arguments of `given` types travel.
    fn wire_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let (name, parameters) = (self.spec.name, &self.spec.parameters);
        if given.len() < self.spec.required() || given.len() > parameters.len() + 1 {
            return plan_err!("`{name}` got {} arguments: {}", given.len(), self.usage());
        }
        let mut types = Vec::with_capacity(given.len());
        for (parameter, given) in parameters.iter().zip(given) {
            let Some(wire) = parameter.kind.wire(given) else {
                return plan_err!(
                    "`{}` of `{name}` must be {}, not {}: {}",
                    parameter.name,
                    parameter.kind.in_words(),
                    given,
                    self.usage()
                );
            };
            types.push(wire);
        }
        types.extend((given.len() > parameters.len()).then_some(DataType::Utf8));
        Ok(types)
    }

    /// The arguments that the user has reason to see: trailing NULLs are defaults.
    fn shown<'a>(&self, arguments: &'a [Expr]) -> &'a [Expr] {
        if arguments.len() > self.spec.parameters.len() {
            return arguments;
        }
        let is_default = |expr: &Expr| {
            let mut expr = expr;
            while let Expr::Cast(cast) = expr {
                expr = &cast.expr;
            }
            matches!(expr, Expr::Literal(value, _) if value.is_null())
        };
        let omitted = arguments.iter().rev().take_while(|e| is_default(e)).count();
        let shown = (arguments.len() - omitted).max(self.spec.required());
        arguments.get(..shown).unwrap_or(arguments)
    }
}

impl fmt::Debug for WorkerFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerFunction({})", self.spec.name)
    }
}

impl PartialEq for WorkerFunction {
    fn eq(&self, other: &Self) -> bool {
        self.spec.name == other.spec.name
    }
}

impl Eq for WorkerFunction {}

impl std::hash::Hash for WorkerFunction {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.spec.name.hash(state);
    }
}

impl ScalarUDFImpl for WorkerFunction {
    fn name(&self) -> &str {
        self.spec.name
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let shown = schema_name_from_exprs(self.shown(args)).map_err(DataFusionError::from)?;
        Ok(format!("{}({shown})", self.spec.name))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok((self.spec.returns)(arg_types))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args
            .arg_fields
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        let on_error = match args.scalar_arguments.get(self.spec.parameters.len()) {
            None => OnError::default(),
            Some(value) => self.on_error_of(*value)?,
        };
        let value = self.return_type(&types)?;
        Ok(Arc::new(Field::new(
            self.name(),
            on_error.returns(value),
            true,
        )))
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.wire_types(arg_types)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(WorkError::InvalidArgument(format!(
            "`{}` runs on compute workers only and cannot be used in this place: compute it in a subquery's select list",
            self.spec.name
        ))
        .into())
    }
}
