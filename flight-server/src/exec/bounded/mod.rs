//! What expressions make is bounded before it is made, and held in the statement's memory.
//!
//! A count or a replacement of a few characters asks for gigabytes; `a || a`, `make_array(a, a)`
//! and the like double their argument, and twenty subqueries do that a million times. Expressions
//! are in no memory pool of DataFusion, and constants are computed while a statement is planned.
//! So every function that makes values of variable size, and the operator `||`, is wrapped
//! ([`Bounded`]), wherever the planner had it from ([`rule`]): its result is reckoned from its
//! arguments, reserved, made, measured, and stays reserved for as long as anybody holds it
//! ([`account`]). Constants that operators would copy into every row become columns by such a function
//! ([`spread`]).

pub mod account;
mod check;
mod growth;
mod join;
mod pass;
pub mod rule;
mod sizes;
mod spread;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};
use hubflight_udfs::is_worker_function;

use crate::error::Error;
use account::{Account, Reserved};
use growth::{Arguments, Growth};
use sizes::{memory, sizes};

/// Size of one value that a function may make of smaller ones.
pub const VALUE_BYTES_MAX: u64 = 16 << 20;
/// What one call may make at most at a time. A batch that could be larger is made in parts.
const PART_BYTES_MAX: u64 = 256 << 20;
/// Constants that one call may go through, those of each row together: it may compare every element
/// of a list.
const READ_BYTES_MAX: u64 = 1 << 30;
/// Functions that compare each part of one argument with each of the other.
const COMPARES_PAIRS: [&str; 3] = ["array_has_all", "array_has_any", "levenshtein"];
/// Pairs that a call compares in a few seconds.
const PAIRS_MAX: u64 = 1 << 32;
/// What a call can make without being reckoned: functions are called on small batches millions
/// of times, and no number of threads and columns makes this much.
const SMALL_BYTES: u64 = 512 << 10;
/// Types that a value may consist of, those inside lists and structs counted: `struct(a, a)`
/// doubles them.
const TYPE_NODES_MAX: usize = 4_096;

/// The function, or one that refuses to make more than it may.
pub fn bounded(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    let is_bounded = function.inner().is::<Bounded>();
    let Some(growth) = Growth::of(function.name()) else {
        return function;
    };
    if is_bounded || is_worker_function(&function) {
        return function;
    }
    Arc::new(ScalarUDF::new_from_impl(Bounded {
        inner: function,
        growth,
    }))
}

/// A function whose results do not grow, but which copies a constant argument into every row; None
/// where it is bounded already.
fn bounded_scratch(function: &Arc<ScalarUDF>) -> Option<Arc<ScalarUDF>> {
    if function.inner().is::<Bounded>() || Growth::of(function.name()).is_some() {
        return None;
    }
    Some(Arc::new(ScalarUDF::new_from_impl(Bounded {
        inner: Arc::clone(function),
        growth: Growth::Scratch,
    })))
}

/// True for a function whose values may be long texts whatever its arguments are: those of workers,
/// and what repeats. Not for all that grow: small batches of usual texts each keep the buffers of
/// many others, so that a sort of them would take far more memory than they have.
pub fn makes_long_values(function: &ScalarUDF) -> bool {
    is_worker_function(function) || matches!(function.name(), "repeat" | "lpad" | "rpad")
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
}

/// What is not here has the trait's default on purpose: a simplification by the inner function
/// would put that one, which has no bound, in this one's place.
impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = self.inner.return_field_from_args(args)?;
        if type_nodes(field.data_type()) > TYPE_NODES_MAX {
            return Err(Error::invalid(format!(
                "`{}` would make a value of more than {TYPE_NODES_MAX} nested types; nest fewer",
                self.name()
            ))
            .into());
        }
        Ok(field)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let account = args.config_options.extensions.get::<Account>().cloned();
        let account = account.unwrap_or_default();
        if !account.counts_all() && self.growth.is_small(&args) {
            return self.inner.invoke_with_args(args);
        }
        let rows = match args.args.iter().any(is_array) || self.growth == Growth::Spread {
            true => args.number_rows,
            false => 1,
        };
        let arguments = Arguments {
            values: &args.args,
            rows,
        };
        if matches!(self.growth, Growth::Scratch | Growth::Sum(_)) {
            self.check_read(&arguments)?;
        }
        let bounds = arguments.bounds(self.growth)?;
        let largest = bounds.iter().copied().max().unwrap_or(0);
        let allowed = match self.growth.is_close() {
            true => VALUE_BYTES_MAX,
            false => PART_BYTES_MAX,
        };
        if largest > allowed && !matches!(self.growth, Growth::Spread | Growth::Sum(_)) {
            return Err(self.too_large(largest));
        }
        // What is no larger than an argument did not grow.
        let grown = match largest > VALUE_BYTES_MAX {
            true => Some(arguments.largest()?.max(VALUE_BYTES_MAX)),
            false => None,
        };
        self.made(args, &bounds, &account, grown)
    }
}

fn is_array(value: &ColumnarValue) -> bool {
    matches!(value, ColumnarValue::Array(_))
}

/// Types that a type consists of, itself included; counted up to a little above the limit.
fn type_nodes(data_type: &DataType) -> usize {
    fn count(data_type: &DataType, nodes: &mut usize) {
        *nodes += 1;
        if *nodes > TYPE_NODES_MAX {
            return;
        }
        match data_type {
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _)
            | DataType::Map(item, _) => count(item.data_type(), nodes),
            DataType::Struct(fields) => {
                fields.iter().for_each(|f| count(f.data_type(), nodes));
            }
            DataType::Union(fields, _) => {
                fields.iter().for_each(|(_, f)| count(f.data_type(), nodes));
            }
            DataType::Dictionary(_, values) => count(values, nodes),
            _ => {}
        }
    }
    let mut nodes = 0;
    count(data_type, &mut nodes);
    nodes
}

impl Bounded {
    fn too_large(&self, bytes: u64) -> DataFusionError {
        Error::exhausted(format!(
            "`{}` could make a value of {bytes} bytes and at most {VALUE_BYTES_MAX} are made; \
             ask for less",
            self.name()
        ))
        .into()
    }

    /// Nothing ends a call before its batch is done.
    fn check_read(&self, arguments: &Arguments) -> Result<()> {
        match arguments.bytes_read() {
            bytes if bytes > READ_BYTES_MAX => Err(Error::exhausted(format!(
                "`{}` would go through its constants for each row, {bytes} bytes at once, and at \
                 most {READ_BYTES_MAX} are allowed; make them smaller, or join a table",
                self.name()
            ))
            .into()),
            _ => self.check_pairs(arguments),
        }
    }

    fn check_pairs(&self, arguments: &Arguments) -> Result<()> {
        if !COMPARES_PAIRS.contains(&self.name()) {
            return Ok(());
        }
        match arguments.pairs()? {
            pairs if pairs > PAIRS_MAX => Err(Error::exhausted(format!(
                "`{}` would compare {pairs} pairs of a batch and at most {PAIRS_MAX} are allowed; \
                 make its arguments smaller",
                self.name()
            ))
            .into()),
            _ => Ok(()),
        }
    }

    /// The result, in parts where it could be much; none of its values larger than `value_max`.
    fn made(
        &self,
        args: ScalarFunctionArgs,
        bounds: &[u64],
        account: &Account,
        value_max: Option<u64>,
    ) -> Result<ColumnarValue> {
        let parts = parts(bounds);
        if parts.len() > 1 {
            return self.made_in_parts(&args, bounds, &parts, account, value_max);
        }
        let mut reserved = account.reserve(self.name(), sum(bounds))?;
        let made = self.inner.invoke_with_args(args)?;
        match made {
            ColumnarValue::Array(array) => {
                self.check(&array, value_max)?;
                reserved.resize(memory(&array)?)?;
                Ok(ColumnarValue::Array(reserved.hold(array)?))
            }
            ColumnarValue::Scalar(scalar) => {
                if value_max.is_some() {
                    self.check(&scalar.to_array()?, value_max)?;
                }
                // Copied into every row or dropped at once; planning keeps it.
                reserved.resize(scalar.size() as u64)?;
                Ok(ColumnarValue::Scalar(scalar))
            }
        }
    }

    fn check(&self, made: &ArrayRef, value_max: Option<u64>) -> Result<()> {
        let Some(value_max) = value_max else {
            return Ok(());
        };
        match sizes(made)?.into_iter().max() {
            Some(largest) if largest > value_max => Err(self.too_large(largest)),
            _ => Ok(()),
        }
    }

    fn made_in_parts(
        &self,
        args: &ScalarFunctionArgs,
        bounds: &[u64],
        parts: &[Range<usize>],
        account: &Account,
        value_max: Option<u64>,
    ) -> Result<ColumnarValue> {
        let mut made: Vec<(ArrayRef, Reserved)> = Vec::with_capacity(parts.len());
        let mut bytes = 0;
        for part in parts {
            let slice = |value: &ColumnarValue| match value {
                ColumnarValue::Array(array) => {
                    ColumnarValue::Array(array.slice(part.start, part.len()))
                }
                scalar => scalar.clone(),
            };
            let part_args = ScalarFunctionArgs {
                args: args.args.iter().map(slice).collect(),
                number_rows: part.len(),
                ..args.clone()
            };
            let mut reserved = account.reserve(self.name(), sum(&bounds[part.clone()]))?;
            let array = self.inner.invoke_with_args(part_args)?;
            let array = array.into_array(part.len())?;
            self.check(&array, value_max)?;
            let made_bytes = memory(&array)?;
            reserved.resize(made_bytes)?;
            bytes += made_bytes;
            made.push((array, reserved));
        }
        let whole = account.reserve(self.name(), bytes)?;
        let arrays: Vec<&dyn Array> = made.iter().map(|(array, _)| array.as_ref()).collect();
        Ok(ColumnarValue::Array(whole.hold(concat(&arrays)?)?))
    }
}

fn sum(bounds: &[u64]) -> u64 {
    bounds.iter().copied().fold(0, u64::saturating_add)
}

/// Cuts rows so that each part stays below [`PART_BYTES_MAX`], if each row does.
fn parts(bounds: &[u64]) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let (mut start, mut bytes) = (0, 0_u64);
    for (row, bound) in bounds.iter().enumerate() {
        let sum = bytes.saturating_add(*bound);
        if sum > PART_BYTES_MAX && row > start {
            parts.push(start..row);
            (start, bytes) = (row, *bound);
        } else {
            bytes = sum;
        }
    }
    if start < bounds.len() {
        parts.push(start..bounds.len());
    }
    parts
}
