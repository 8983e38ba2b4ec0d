//! One cell of a published aggregate: what its persons bring, and what of it is shown.
//!
//! The values of those who bring most are cut to what the T-th of them brings, so that nobody
//! stands out and values that fewer than T persons have do not show; T is the threshold of the
//! cell. It lies between `persons_min` and [`MARGIN`] more and depends on who is in the cell, not
//! on what they bring: nobody draws it anew by asking for other values of the same persons.

use std::mem::size_of_val;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, UInt64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility, cast,
};

use super::noise::{mixed, noise};

/// No SQL has a function of this name.
const NAME: &str = "hub:cell";
/// How much larger than `persons_min` the threshold of a cell may be.
pub const MARGIN: u32 = 5;
/// Values count with 17 significant bits, in the sum as in the key of the noise: what changes
/// less changes neither.
const IGNORED_BITS: u32 = 36;
/// Published numbers have at most this many digits below the unit of their noise.
const DIGITS_BELOW_NOISE: i32 = 3;

/// The published sum of `value` over the persons of a group, Float64, NULL where too few
/// contribute. `person` is the person's secret key, once a group.
pub fn published(person: Expr, value: Expr, persons_min: u32, is_whole: bool) -> Expr {
    AggregateUDF::new_from_impl(Cell {
        persons_min,
        is_whole,
        signature: Signature::exact(
            vec![DataType::UInt64, DataType::Float64],
            Volatility::Immutable,
        ),
    })
    .call(vec![person, cast(value, DataType::Float64)])
}

/// Whether an expression is a [`published`] sum.
pub fn is_published(expr: &Expr) -> bool {
    match expr {
        Expr::AggregateFunction(call) => call.func.name() == NAME,
        Expr::Alias(alias) => is_published(&alias.expr),
        _ => false,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Cell {
    persons_min: u32,
    /// The sum counts something.
    is_whole: bool,
    signature: Signature,
}

impl AggregateUDFImpl for Cell {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Persons {
            persons_min: self.persons_min,
            is_whole: self.is_whole,
            ..Persons::default()
        }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name, data_type| {
            Arc::new(Field::new(
                format_state_name(args.name, name),
                data_type,
                true,
            ))
        };
        Ok(vec![
            field("contributors", DataType::Int64),
            field("persons", DataType::UInt64),
            field("values", DataType::UInt64),
            field("total", DataType::Float64),
            field("largest", DataType::new_list(DataType::Float64, true)),
        ])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The persons of a cell so far.
#[derive(Debug, Default)]
struct Persons {
    persons_min: u32,
    is_whole: bool,
    /// Those whose value is not zero.
    contributors: i64,
    /// Exclusive or of the keys of contributors.
    persons: u64,
    /// The same, of keys that differ with the value.
    values: u64,
    total: f64,
    /// The values of largest size, among others.
    largest: Vec<f64>,
    /// No value of smaller size is among the largest any more.
    floor: f64,
}

impl Persons {
    fn thresholds_max(&self) -> usize {
        (self.persons_min + MARGIN) as usize
    }

    fn add(&mut self, person: u64, value: f64) {
        let value = significant(value);
        if value == 0.0 || !value.is_finite() {
            return;
        }
        self.contributors += 1;
        self.persons ^= mixed(person, 0);
        self.values ^= mixed(person, value.to_bits());
        self.total += value;
        self.keep(value);
    }

    fn keep(&mut self, value: f64) {
        if value.abs() <= self.floor {
            return;
        }
        self.largest.push(value);
        if self.largest.len() >= 2 * self.thresholds_max() {
            self.shorten();
        }
    }

    fn shorten(&mut self) {
        let size = |value: &f64| value.abs();
        self.largest.sort_by(|a, b| size(b).total_cmp(&size(a)));
        self.largest.truncate(self.thresholds_max());
        if self.largest.len() == self.thresholds_max() {
            self.floor = self.largest.last().map_or(0.0, size);
        }
    }

    fn published(&mut self) -> Option<f64> {
        // Of the persons alone: whoever asks for other values of the same ones draws the same.
        let margin = mixed(self.persons, 4) % u64::from(MARGIN + 1);
        let threshold = self.persons_min as usize + margin as usize;
        if self.contributors < i64::try_from(threshold).ok()? {
            return None;
        }
        self.shorten();
        let unit = self.largest.get(threshold.checked_sub(1)?)?.abs();
        let above = |value: &f64| value - value.clamp(-unit, unit);
        let above: f64 = self.largest.iter().map(above).sum();
        let value = self.total - above + noise(self.persons, self.values) * unit;
        let step = 10_f64.powi(unit.log10().floor() as i32 - DIGITS_BELOW_NOISE);
        let value = (value / step).round() * step;
        let value = if self.is_whole { value.round() } else { value };
        value.is_finite().then_some(value)
    }
}

/// The value with 17 significant bits.
fn significant(value: f64) -> f64 {
    let half = 1_u64 << (IGNORED_BITS - 1);
    let rounded = value.to_bits().wrapping_add(half) >> IGNORED_BITS << IGNORED_BITS;
    f64::from_bits(rounded)
}

impl Accumulator for Persons {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [persons, values] = values else {
            return exec_err!("a cell takes persons and values");
        };
        let persons = persons.as_primitive::<UInt64Type>();
        let values = values.as_primitive::<Float64Type>();
        for (person, value) in persons.iter().zip(values) {
            if let (Some(person), Some(value)) = (person, value) {
                self.add(person, value);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.published()))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.largest.capacity() * size_of::<f64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.shorten();
        let largest = self.largest.iter().map(|value| ScalarValue::from(*value));
        let largest: Vec<_> = largest.collect();
        Ok(vec![
            ScalarValue::from(self.contributors),
            ScalarValue::from(self.persons),
            ScalarValue::from(self.values),
            ScalarValue::from(self.total),
            ScalarValue::List(ScalarValue::new_list_nullable(&largest, &DataType::Float64)),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [contributors, persons, values, total, largest] = states else {
            return exec_err!("the state of a cell has five parts");
        };
        let contributors = contributors.as_primitive::<Int64Type>();
        let persons = persons.as_primitive::<UInt64Type>();
        let values = values.as_primitive::<UInt64Type>();
        let total = total.as_primitive::<Float64Type>();
        let largest = largest.as_list::<i32>();
        for row in 0..contributors.len() {
            self.contributors += contributors.value(row);
            self.persons ^= persons.value(row);
            self.values ^= values.value(row);
            self.total += total.value(row);
            let largest = largest.value(row);
            let largest: &Float64Array = largest.as_primitive();
            largest.iter().flatten().for_each(|value| self.keep(value));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(values: impl IntoIterator<Item = f64>) -> Persons {
        let mut cell = Persons {
            persons_min: 11,
            ..Persons::default()
        };
        for (person, value) in values.into_iter().enumerate() {
            cell.add(mixed(person as u64, 99), value);
        }
        cell
    }

    #[test]
    fn in_parts_it_is_the_same() {
        let values = (0..500).map(|i| f64::from((i * 7919) % 1000) - 200.0);
        let mut whole = cell(values.clone());
        let mut merged = Persons {
            persons_min: 11,
            ..Persons::default()
        };
        for part in [0..100, 100..101, 101..500] {
            let mut other = Persons {
                persons_min: 11,
                ..Persons::default()
            };
            for index in part {
                let value = values.clone().nth(index).expect("valid");
                other.add(mixed(index as u64, 99), value);
            }
            let state = other.state().expect("valid");
            let state: Vec<ArrayRef> = state.iter().map(|s| s.to_array().expect("valid")).collect();
            merged.merge_batch(&state).expect("valid");
        }
        assert_eq!(whole.published(), merged.published());
        let exact: f64 = values.sum();
        assert!((whole.published().expect("valid") - exact).abs() < 6.0 * 1000.0);
    }

    #[test]
    fn fewer_than_the_threshold_never_show() {
        for persons in 0..11 {
            assert_eq!(cell(vec![1.0; persons]).published(), None);
        }
        assert!(cell(vec![1.0; 16]).published().is_some());
        // In between it depends on who they are.
        let shown = (0..200).filter(|who| {
            let mut cell = cell([]);
            (0..13).for_each(|person| cell.add(mixed(who * 100 + person, 5), 1.0));
            cell.published().is_some()
        });
        assert!((50..150).contains(&shown.count()));
    }

    #[test]
    fn other_values_of_the_same_persons_draw_no_other_threshold() {
        for who in 0..200 {
            let shown = |value: u64| {
                let mut cell = cell([]);
                (0..13).for_each(|one| cell.add(mixed(who * 100 + one, 5), (value + one) as f64));
                cell.published().is_some()
            };
            let first = shown(1);
            assert!((2..60).all(|value| shown(value) == first), "{who}");
        }
    }

    #[test]
    fn who_brings_most_is_cut_to_what_others_bring() {
        for few in 0..11_u32 {
            let values = (0..1000).map(|i| if i < few { 1e9 } else { 1.0 });
            let value = cell(values).published().expect("valid");
            assert!((value - 1000.0).abs() <= 5.0, "{few}: {value}");
        }
        let (zero, small) = (vec![0.0; 1000], vec![1e-12; 1000]);
        assert_eq!(cell(zero).published(), None);
        let few = cell(small.into_iter().chain([1.0; 5]))
            .published()
            .expect("valid");
        assert!(few < 1e-8, "{few}");
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let value = cell(vec![1.0; 100].into_iter().chain(odd)).published();
        assert!((value.expect("valid") - 100.0).abs() <= 5.0);
    }

    #[test]
    fn values_have_seventeen_bits() {
        for exact in [0.0, 1.0, -3.0, 131_071.0, 0.5, 1e300] {
            assert!((significant(exact) - exact).abs() <= exact.abs() / 131_072.0);
        }
        assert_eq!(significant(131_071.0), 131_071.0);
        assert_eq!(significant(1.0 + 1e-9), 1.0);
        assert!(!significant(f64::MAX).is_finite());
    }
}
