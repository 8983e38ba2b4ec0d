//! The functions over Arrow arrays, by name.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray as _, BinaryArray, BooleanArray, Float32Array, Float64Array,
    Int32Builder, Int64Array, ListArray, ListBuilder, StringArray, StringBuilder,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float32Type};

use crate::dicom::{self, WindowOptions};
use crate::rows::{Images, Limits, Row, each_row};
use crate::signal::{self, SignalError};
use crate::text;

/// A call that cannot be executed at all: a mistake of the caller, not of a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ComputeError {
    #[error(
        "unknown function `{function}`; the functions are `dicom_tags`, `dicom_window`, `ecg_rpeaks` and `text_deidentify`"
    )]
    UnknownFunction { function: String },
    #[error("`{function}` takes {expected} arguments, not {got}; pass NULL for what is omitted")]
    Arity {
        function: &'static str,
        expected: usize,
        got: usize,
    },
    #[error(
        "argument {position} of `{function}` has {got} rows instead of {rows}; send columns of one length"
    )]
    Rows {
        function: &'static str,
        position: usize,
        rows: usize,
        got: usize,
    },
    #[error("argument {position} of `{function}` must be {expected}, not {got}; cast it")]
    Type {
        function: &'static str,
        position: usize,
        expected: &'static str,
        got: String,
    },
}

/// One row that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    pub row: usize,
    /// What was wrong, for the user: names limits and arguments, never the row's data.
    pub reason: String,
}

/// What one call over a batch gives, for as many of its first rows as [`Limits`] allowed.
#[derive(Clone, Debug)]
pub struct Output {
    /// One value for each row done; NULL where it failed or its main argument is NULL.
    pub values: ArrayRef,
    /// Failed rows, ascending.
    pub errors: Vec<RowError>,
    /// Work done in the function's unit (calls, pixels, samples or tokens), for failing rows
    /// as far as it was done. Depends on the input only.
    pub units: u64,
}

/// Runs `function` over the first of `rows` rows, as many as `limits` allow; the caller sends
/// the rest again. All arguments are positional and defaulted: what the user omitted is NULL, in
/// an array of the declared type or of type Null.
///
/// - `dicom_tags(content Binary, tag Utf8)` → Utf8; unit: calls
/// - `dicom_window(content Binary, center Float64, width Float64, rows Int64, columns Int64,
///   frame Int64)` → Struct(pixels List(UInt8), rows Int32, columns Int32, samples Int32);
///   unit: pixels decoded
/// - `ecg_rpeaks(signal List(Float32), fs Int64)` → List(Int32); unit: samples
/// - `text_deidentify(text Utf8, surrogates Boolean)` → Utf8; unit: tokens
///
/// # Errors
/// Only for calls that are wrong as a whole; a row that fails is in [`Output::errors`].
pub fn execute(
    function: &str,
    args: &[ArrayRef],
    rows: usize,
    limits: &Limits,
) -> Result<Output, ComputeError> {
    match function {
        "dicom_tags" => dicom_tags(&Args::new("dicom_tags", args, 2, rows)?, limits),
        "dicom_window" => dicom_window(&Args::new("dicom_window", args, 6, rows)?, limits),
        "ecg_rpeaks" => ecg_rpeaks(&Args::new("ecg_rpeaks", args, 2, rows)?, limits),
        "text_deidentify" => text_deidentify(&Args::new("text_deidentify", args, 2, rows)?, limits),
        _ => Err(ComputeError::UnknownFunction {
            function: dicom::shown(function),
        }),
    }
}

/// The arguments of one call, checked in number and length.
struct Args<'a> {
    function: &'static str,
    arrays: &'a [ArrayRef],
}

impl<'a> Args<'a> {
    fn new(
        function: &'static str,
        arrays: &'a [ArrayRef],
        expected: usize,
        rows: usize,
    ) -> Result<Args<'a>, ComputeError> {
        if arrays.len() != expected {
            return Err(ComputeError::Arity {
                function,
                expected,
                got: arrays.len(),
            });
        }
        for (i, array) in arrays.iter().enumerate() {
            if array.len() != rows {
                return Err(ComputeError::Rows {
                    function,
                    position: i + 1,
                    rows,
                    got: array.len(),
                });
            }
        }
        Ok(Args { function, arrays })
    }

    /// Argument `index` as `to`, if its type is of the same family.
    fn get(
        &self,
        index: usize,
        to: &DataType,
        expected: &'static str,
    ) -> Result<ArrayRef, ComputeError> {
        let wrong = |got: String| ComputeError::Type {
            function: self.function,
            position: index + 1,
            expected,
            got,
        };
        let array = self
            .arrays
            .get(index)
            .ok_or_else(|| wrong("missing".to_string()))?;
        if array.data_type() == to {
            return Ok(Arc::clone(array));
        }
        if !same_family(array.data_type(), to) {
            return Err(wrong(named(array.data_type())));
        }
        let options = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        cast_with_options(array, to, &options)
            .map_err(|_| wrong("a value that is too large".to_string()))
    }

    fn texts(&self, index: usize) -> Result<StringArray, ComputeError> {
        let array = self.get(index, &DataType::Utf8, "text")?;
        Ok(array.as_string::<i32>().clone())
    }

    fn binaries(&self, index: usize) -> Result<BinaryArray, ComputeError> {
        let array = self.get(index, &DataType::Binary, "binary")?;
        Ok(array.as_binary::<i32>().clone())
    }

    /// As wide as they travel: whether a value is of use is a matter of its row, not of the call.
    fn integers(&self, index: usize) -> Result<Int64Array, ComputeError> {
        let array = self.get(index, &DataType::Int64, "an integer")?;
        Ok(array.as_primitive().clone())
    }

    fn floats(&self, index: usize) -> Result<Float64Array, ComputeError> {
        let array = self.get(index, &DataType::Float64, "a number")?;
        Ok(array.as_primitive().clone())
    }

    fn booleans(&self, index: usize) -> Result<BooleanArray, ComputeError> {
        let array = self.get(index, &DataType::Boolean, "true or false")?;
        Ok(array.as_boolean().clone())
    }

    fn signals(&self, index: usize) -> Result<ListArray, ComputeError> {
        let to = DataType::new_list(DataType::Float32, true);
        let array = self.get(index, &to, "a list of numbers")?;
        Ok(array.as_list::<i32>().clone())
    }
}

/// True when a value of type `from` may stand where `to` is declared.
fn same_family(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Boolean, FixedSizeBinary, FixedSizeList, LargeBinary, LargeList,
        LargeUtf8, List, Null, Utf8, Utf8View,
    };
    match (from, to) {
        (Null, _) => true,
        (Utf8 | LargeUtf8 | Utf8View, Utf8) => true,
        (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), Binary) => true,
        (Boolean, Boolean) => true,
        (_, DataType::Int64) => from.is_integer(),
        (_, DataType::Float64) => from.is_numeric(),
        (List(item) | LargeList(item) | FixedSizeList(item, _), List(_)) => {
            item.data_type().is_numeric() || item.data_type().is_null()
        }
        _ => false,
    }
}

/// A type in words that SQL users know.
fn named(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary",
        DataType::Boolean => "boolean",
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
            "a list of something else"
        }
        DataType::Struct(_) => "a struct",
        other if other.is_integer() => "an integer",
        other if other.is_numeric() => "a number",
        other if other.is_temporal() => "a date or time",
        _ => "another type",
    }
    .to_string()
}

/// Runs the work of one row. A panic in a codec must cost that row only; none is known.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err("the value could not be processed; check that the file is intact".to_string())
    })
}

fn dicom_tags(args: &Args<'_>, limits: &Limits) -> Result<Output, ComputeError> {
    let (contents, tags) = (args.binaries(0)?, args.texts(1)?);
    Ok(each_row::<StringBuilder>(&contents, limits, |row| {
        let content = contents.value(row);
        let tag = tags.is_valid(row).then(|| tags.value(row));
        let value = guarded(|| {
            match tag {
                Some(tag) => dicom::tag_text(content, tag),
                None => dicom::json(content).map(Some),
            }
            .map_err(|error| error.to_string())
        });
        Row { value, units: 1 }
    }))
}

fn dicom_window(args: &Args<'_>, limits: &Limits) -> Result<Output, ComputeError> {
    let contents = args.binaries(0)?;
    let (centers, widths) = (args.floats(1)?, args.floats(2)?);
    let (heights, breadths, frames) = (args.integers(3)?, args.integers(4)?, args.integers(5)?);
    Ok(each_row::<Images>(&contents, limits, |row| {
        let number = |array: &Float64Array| array.is_valid(row).then(|| array.value(row));
        let integer = |array: &Int64Array| array.is_valid(row).then(|| array.value(row));
        let options = WindowOptions {
            center: number(&centers),
            width: number(&widths),
            rows: integer(&heights),
            columns: integer(&breadths),
            frame: integer(&frames),
        };
        let content = contents.value(row);
        let image = guarded(|| dicom::window(content, &options).map_err(|error| error.to_string()));
        Row {
            units: image.as_ref().map_or(0, |image| image.decoded_pixels),
            value: image.map(Some),
        }
    }))
}

fn ecg_rpeaks(args: &Args<'_>, limits: &Limits) -> Result<Output, ComputeError> {
    let (signals, rates) = (args.signals(0)?, args.integers(1)?);
    let results = each_row::<ListBuilder<Int32Builder>>(&signals, limits, |row| {
        if rates.is_null(row) {
            return Row {
                value: Ok(None),
                units: 0,
            };
        }
        let list = signals.value(row);
        let samples = list.as_primitive::<Float32Type>();
        let fs = match sampling_rate(rates.value(row)) {
            Ok(fs) => fs,
            Err(error) => {
                return Row {
                    value: Err(error.to_string()),
                    units: 0,
                };
            }
        };
        let peaks = guarded(|| {
            let missing_as_nan = with_nan(samples);
            let samples = missing_as_nan.as_deref().unwrap_or(samples.values());
            signal::rpeaks(samples, fs).map_err(|error| error.to_string())
        });
        Row {
            value: peaks.map(Some),
            units: samples.len() as u64,
        }
    });
    Ok(results)
}

fn sampling_rate(fs: i64) -> Result<i32, SignalError> {
    i32::try_from(fs)
        .ok()
        .filter(|fs| (signal::FS_MIN..=signal::FS_MAX).contains(fs))
        .ok_or(SignalError::SamplingRate { fs })
}

/// The samples with NaN for each NULL, or `None` when there is no NULL.
fn with_nan(samples: &Float32Array) -> Option<Vec<f32>> {
    (samples.null_count() > 0).then(|| samples.iter().map(|x| x.unwrap_or(f32::NAN)).collect())
}

fn text_deidentify(args: &Args<'_>, limits: &Limits) -> Result<Output, ComputeError> {
    let (texts, surrogates) = (args.texts(0)?, args.booleans(1)?);
    Ok(each_row::<StringBuilder>(&texts, limits, |row| {
        let source = texts.value(row);
        if source.len() > text::TEXT_BYTES_MAX {
            let reason = format!(
                "the text is over the limit of {} bytes; cut it into parts",
                text::TEXT_BYTES_MAX
            );
            return Row {
                value: Err(reason),
                units: 0,
            };
        }
        let fake = surrogates.is_valid(row) && surrogates.value(row);
        let value = guarded(|| {
            Ok(Some(if fake {
                text::surrogates(source)
            } else {
                text::deidentify(source)
            }))
        });
        Row {
            value,
            units: text::tokens(source),
        }
    }))
}
