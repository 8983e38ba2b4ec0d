//! What of a cell is published: NULL, or its value with noise.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, UInt64Array,
};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, UInt64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::noise::noise;

/// A cell is suppressed where one person brings more than this share of it: the dominance rule
/// (1, 75 %) (Hundepool et al., "Statistical Disclosure Control", 2012, §4.2).
pub const SHARE_MAX: f64 = 0.75;

/// One measure of a cell, each an expression.
pub struct Measure {
    /// Int64, Float64 or Decimal128: the true value.
    pub total: Expr,
    /// Int64: persons whose part of it is not zero.
    pub contributors: Expr,
    /// UInt64: exclusive or of [`person_in_cell`].
    pub cell_key: Expr,
    /// Float64: the largest absolute part of one person.
    pub largest: Expr,
    /// Float64: the sum of the absolute parts of all.
    pub absolute: Expr,
}

/// The published value, of the total's type: NULL where fewer than `persons_min` contribute or
/// one dominates, else the total with the cell's noise in units of the largest part.
pub fn published(measure: Measure, persons_min: u32) -> Expr {
    let function = ScalarUDF::new_from_impl(Publish {
        persons_min,
        signature: Signature::any(5, Volatility::Immutable),
    });
    function.call(vec![
        measure.total,
        measure.contributors,
        measure.cell_key,
        measure.largest,
        measure.absolute,
    ])
}

/// What a person adds to the key of a cell: other for each number of contributing rows.
pub fn person_in_cell(person: Expr, rows: Expr) -> Expr {
    ScalarUDF::new_from_impl(InCell {
        signature: Signature::exact(
            vec![DataType::UInt64, DataType::Int64],
            Volatility::Immutable,
        ),
    })
    .call(vec![person, rows])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct InCell {
    signature: Signature,
}

impl ScalarUDFImpl for InCell {
    fn name(&self) -> &str {
        "person_in_cell"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::UInt64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [persons, rows] = arrays.as_slice() else {
            return exec_err!("`person_in_cell` takes two arguments");
        };
        let rows = rows.as_primitive::<Int64Type>();
        let keys = persons.as_primitive::<UInt64Type>().iter().zip(rows.iter());
        let keys = keys.map(|(person, rows)| Some(mixed(person?, rows? as u64)));
        Ok(ColumnarValue::Array(Arc::new(
            keys.collect::<UInt64Array>(),
        )))
    }
}

/// A number that looks random for each pair (the finaliser of SplitMix64: Steele, Lea and Flood,
/// "Fast splittable pseudorandom number generators", OOPSLA 2014). The secret is in `person`.
fn mixed(person: u64, rows: u64) -> u64 {
    let mut key = person.wrapping_add(rows.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

/// Whether totals of this type can be published as they are.
pub fn is_exact(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int64 | DataType::Float64 | DataType::Decimal128(_, _)
    )
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Publish {
    persons_min: u32,
    signature: Signature,
}

impl ScalarUDFImpl for Publish {
    fn name(&self) -> &str {
        "publish"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types.first() {
            Some(data_type) if is_exact(data_type) => Ok(data_type.clone()),
            other => exec_err!("a total of type {other:?} cannot be published"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [total, contributors, keys, largest, absolute] = arrays.as_slice() else {
            return exec_err!("`publish` takes five arguments");
        };
        let contributors = contributors.as_primitive::<Int64Type>();
        let keys = keys.as_primitive::<UInt64Type>();
        let largest = largest.as_primitive::<Float64Type>();
        let absolute = absolute.as_primitive::<Float64Type>();
        // The noise of each row, in units of the total; None where the cell is suppressed.
        let noise = |row: usize| {
            let usable = !total.is_null(row) && !keys.is_null(row) && !largest.is_null(row);
            let enough = contributors.value(row) >= i64::from(self.persons_min);
            let spread = largest.value(row) <= SHARE_MAX * absolute.value(row);
            (usable && enough && spread).then(|| noise(keys.value(row)) as f64 * largest.value(row))
        };
        Ok(ColumnarValue::Array(add(total, noise)?))
    }
}

/// Adds noise row by row; NULL where there is none to add.
fn add(total: &ArrayRef, noise: impl Fn(usize) -> Option<f64>) -> Result<ArrayRef> {
    let rows = 0..total.len();
    Ok(match total.data_type() {
        DataType::Int64 => {
            let values = total.as_primitive::<Int64Type>();
            let add = |row| Some(values.value(row).saturating_add(noise(row)?.round() as i64));
            Arc::new(rows.map(add).collect::<Int64Array>())
        }
        DataType::Float64 => {
            let values = total.as_primitive::<Float64Type>();
            let add = |row| Some(values.value(row) + noise(row)?).filter(|sum| sum.is_finite());
            Arc::new(rows.map(add).collect::<Float64Array>())
        }
        DataType::Decimal128(precision, scale) => {
            let values = total.as_primitive::<Decimal128Type>();
            let unit = 10_f64.powi(i32::from(*scale));
            let add = |row| {
                let noise = (noise(row)? * unit).round() as i128;
                Some(values.value(row).saturating_add(noise))
            };
            let sums = rows.map(add).collect::<Decimal128Array>();
            Arc::new(sums.with_precision_and_scale(*precision, *scale)?)
        }
        other => return exec_err!("a total of type {other} cannot be published"),
    })
}
