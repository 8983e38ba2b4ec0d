//! Row by row, until a part of the batch is done: what every function has in common.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    Array, ArrayRef, Int32Builder, ListBuilder, StringBuilder, StructArray, UInt8Builder,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};

use crate::dicom::Image;
use crate::execute::{Output, RowError};

/// When a call stops before it has done all rows, so that neither its memory nor the time until
/// it can be cancelled grows with the batch. It always does at least one row.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of results after which no further row is begun.
    pub part_bytes_max: usize,
    /// Bytes of one row's result beyond which that row fails.
    pub row_bytes_max: usize,
    /// When no further row is begun, however small the results are.
    pub until: Instant,
}

impl Limits {
    fn are_reached(&self, bytes: usize) -> bool {
        bytes >= self.part_bytes_max || Instant::now() >= self.until
    }
}

/// What came of one row.
pub(crate) struct Row<T> {
    /// `None` is NULL; the error is for the user.
    pub(crate) value: Result<Option<T>, String>,
    pub(crate) units: u64,
}

/// Results as they are built, one value a row.
pub(crate) trait Results: Default {
    type Value;

    /// Bytes that a value adds.
    fn bytes(value: &Self::Value) -> usize;
    fn push(&mut self, value: Option<Self::Value>);
    fn into_array(self) -> ArrayRef;
}

/// Does `work` on the rows where `main` is not NULL, as far as `limits` allow.
pub(crate) fn each_row<R: Results>(
    main: &dyn Array,
    limits: &Limits,
    mut work: impl FnMut(usize) -> Row<R::Value>,
) -> Output {
    let mut results = R::default();
    let mut errors: Vec<RowError> = Vec::new();
    let (mut bytes, mut units) = (0, 0);
    for row in 0..main.len() {
        if row > 0 && limits.are_reached(bytes) {
            break;
        }
        if main.is_null(row) {
            results.push(None);
            continue;
        }
        let done = work(row);
        let size = match &done.value {
            Ok(value) => value.as_ref().map_or(0, R::bytes),
            Err(reason) => reason.len(),
        };
        let value = if size > limits.row_bytes_max {
            // Work whose result is refused is not charged either.
            Err(format!(
                "the result is over the limit of {} bytes; ask for a smaller one",
                limits.row_bytes_max
            ))
        } else {
            bytes += size;
            units += done.units;
            done.value
        };
        results.push(value.unwrap_or_else(|reason| {
            errors.push(RowError { row, reason });
            None
        }));
    }
    Output {
        values: results.into_array(),
        errors,
        units,
    }
}

impl Results for StringBuilder {
    type Value = String;

    fn bytes(value: &String) -> usize {
        value.len()
    }

    fn push(&mut self, value: Option<String>) {
        self.append_option(value);
    }

    fn into_array(mut self) -> ArrayRef {
        Arc::new(self.finish())
    }
}

impl Results for ListBuilder<Int32Builder> {
    type Value = Vec<i32>;

    fn bytes(value: &Vec<i32>) -> usize {
        size_of_val(value.as_slice())
    }

    fn push(&mut self, value: Option<Vec<i32>>) {
        if let Some(value) = &value {
            self.values().append_slice(value);
        }
        self.append(value.is_some());
    }

    fn into_array(mut self) -> ArrayRef {
        Arc::new(self.finish())
    }
}

/// Builds the struct of [`image_fields`].
#[derive(Default)]
pub(crate) struct Images {
    pixels: ListBuilder<UInt8Builder>,
    rows: Int32Builder,
    columns: Int32Builder,
    samples: Int32Builder,
    valid: Vec<bool>,
}

impl Results for Images {
    type Value = Image;

    fn bytes(value: &Image) -> usize {
        value.pixels.len()
    }

    fn push(&mut self, image: Option<Image>) {
        let side = |side: usize| i32::try_from(side).unwrap_or(i32::MAX);
        if let Some(image) = &image {
            self.pixels.values().append_slice(&image.pixels);
        }
        self.valid.push(image.is_some());
        self.pixels.append(image.is_some());
        self.rows
            .append_option(image.as_ref().map(|image| side(image.rows)));
        self.columns
            .append_option(image.as_ref().map(|image| side(image.columns)));
        self.samples
            .append_option(image.as_ref().map(|image| side(image.samples)));
    }

    fn into_array(mut self) -> ArrayRef {
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(self.pixels.finish()),
            Arc::new(self.rows.finish()),
            Arc::new(self.columns.finish()),
            Arc::new(self.samples.finish()),
        ];
        let valid = NullBuffer::from(self.valid);
        Arc::new(StructArray::new(image_fields(), arrays, Some(valid)))
    }
}

/// Fields of the struct that functions on images return.
pub fn image_fields() -> Fields {
    Fields::from(vec![
        Field::new("pixels", DataType::new_list(DataType::UInt8, true), true),
        Field::new("rows", DataType::Int32, true),
        Field::new("columns", DataType::Int32, true),
        Field::new("samples", DataType::Int32, true),
    ])
}
