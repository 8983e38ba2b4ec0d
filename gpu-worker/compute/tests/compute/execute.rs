//! The functions over Arrow arrays.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, FixedSizeListArray,
    Float32Array, Float64Array, Int32Array, Int64Array, LargeBinaryArray, LargeListArray,
    LargeStringArray, ListArray, NullArray, StringArray, StringViewArray,
};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int32Type, UInt8Type};
use hubflight_compute::{ComputeError, Limits, Output, RowError, image_fields};

use crate::dicom::ct;

const VALUES: [i16; 6] = [-100, 0, 480, 500, 520, 1000];

/// Limits that nothing here reaches.
fn unlimited() -> Limits {
    Limits {
        part_bytes_max: 64 << 20,
        row_bytes_max: 128 << 20,
        until: Instant::now() + Duration::from_secs(3_600),
    }
}

fn execute(function: &str, args: &[ArrayRef], rows: usize) -> Result<Output, ComputeError> {
    hubflight_compute::execute(function, args, rows, &unlimited())
}

fn nulls(rows: usize) -> ArrayRef {
    Arc::new(NullArray::new(rows))
}

fn array(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}

#[test]
fn tags_over_rows() {
    let file = ct(&VALUES, vec![]);
    let contents = array(BinaryArray::from_opt_vec(vec![
        Some(&file),
        None,
        Some(b"no file"),
        Some(&file),
        Some(&file),
    ]));
    let tags = array(StringArray::from(vec![
        Some("PatientID"),
        Some("PatientID"),
        Some("PatientID"),
        Some("AccessionNumber"),
        Some("NoSuchKeyword"),
    ]));
    let output = execute("dicom_tags", &[contents, tags], 5).unwrap();
    let values = output.values.as_string::<i32>();
    assert_eq!(
        values.iter().collect::<Vec<_>>(),
        [Some("P0001"), None, None, None, None]
    );
    let rows: Vec<usize> = output.errors.iter().map(|error| error.row).collect();
    assert_eq!(rows, [2, 4]);
    assert!(
        output.errors[1].reason.contains("`NoSuchKeyword`"),
        "{:?}",
        output.errors
    );
    assert_eq!(output.units, 4);
}

#[test]
fn tags_of_each_binary_and_text_type() {
    let file = ct(&VALUES, vec![]);
    let slice: &[u8] = &file;
    let contents: [ArrayRef; 3] = [
        array(BinaryArray::from_vec(vec![slice])),
        array(LargeBinaryArray::from_vec(vec![slice])),
        array(BinaryViewArray::from_iter_values([slice])),
    ];
    let tags: [ArrayRef; 3] = [
        array(StringArray::from(vec!["Rows"])),
        array(LargeStringArray::from(vec!["Rows"])),
        array(StringViewArray::from(vec!["Rows"])),
    ];
    for content in &contents {
        for tag in &tags {
            let output = execute("dicom_tags", &[Arc::clone(content), Arc::clone(tag)], 1).unwrap();
            assert_eq!(output.values.as_string::<i32>().value(0), "2");
        }
        for omitted in [nulls(1), array(StringArray::new_null(1))] {
            let output = execute("dicom_tags", &[Arc::clone(content), omitted], 1).unwrap();
            assert!(output.values.as_string::<i32>().value(0).starts_with('{'));
        }
    }
}

#[test]
fn windows_over_rows() {
    let file = ct(&VALUES, vec![]);
    let contents = array(BinaryArray::from_opt_vec(vec![
        Some(&file),
        None,
        Some(&file),
        Some(&file),
        Some(&file[..200]),
    ]));
    let args = [
        contents,
        array(Float64Array::from(vec![
            Some(40.0),
            Some(40.0),
            None,
            Some(40.0),
            None,
        ])),
        array(Float64Array::from(vec![
            Some(400.0),
            Some(400.0),
            None,
            Some(0.5),
            None,
        ])),
        array(Int32Array::from(vec![None, None, Some(4), None, None])),
        nulls(5),
        array(Int64Array::from(vec![0, 0, 0, 0, 0])),
    ];
    let output = execute("dicom_window", &args, 5).unwrap();
    assert_eq!(output.values.data_type(), &DataType::Struct(image_fields()));
    let images = output.values.as_struct();
    let pixels = images.column(0).as_list::<i32>();
    assert_eq!(
        pixels
            .value(0)
            .as_primitive::<UInt8Type>()
            .values()
            .as_ref(),
        [0, 0, 77, 102, 128, 255]
    );
    assert_eq!(pixels.value(2).len(), 24);
    let rows = images.column(1).as_primitive::<Int32Type>();
    let columns = images.column(2).as_primitive::<Int32Type>();
    assert_eq!((rows.value(0), columns.value(0)), (2, 3));
    assert_eq!((rows.value(2), columns.value(2)), (4, 6));
    assert_eq!(
        (0..5).map(|i| images.is_null(i)).collect::<Vec<_>>(),
        [false, true, false, true, true]
    );
    assert_eq!(
        output.errors.iter().map(|e| e.row).collect::<Vec<_>>(),
        [3, 4]
    );
    assert_eq!(output.units, 12);
}

fn beat(i: usize) -> f32 {
    let t = (i % 250) as f32 / 250.0 - 0.5;
    (-0.5 * (t / 0.01).powi(2)).exp()
}

#[test]
fn peaks_of_each_list_type() {
    let signal: Vec<f32> = (0..2500).map(beat).collect();
    let singles = Some(signal.iter().map(|x| Some(*x)));
    let doubles = Some(signal.iter().map(|x| Some(f64::from(*x))));
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    let fixed =
        FixedSizeListArray::new(item, 2500, array(Float32Array::from(signal.clone())), None);
    let expected: Vec<i32> = (0..10).map(|i| 125 + 250 * i).collect();
    let lists: [ArrayRef; 5] = [
        array(ListArray::from_iter_primitive::<Float32Type, _, _>([
            singles.clone(),
        ])),
        array(LargeListArray::from_iter_primitive::<Float32Type, _, _>([
            singles,
        ])),
        array(ListArray::from_iter_primitive::<Float64Type, _, _>([
            doubles.clone(),
        ])),
        array(LargeListArray::from_iter_primitive::<Float64Type, _, _>([
            doubles,
        ])),
        array(fixed),
    ];
    for list in lists {
        let output = execute("ecg_rpeaks", &[list, array(Int32Array::from(vec![250]))], 1).unwrap();
        let peaks = output.values.as_list::<i32>().value(0);
        assert_eq!(
            peaks.as_primitive::<Int32Type>().values().as_ref(),
            expected
        );
        assert_eq!(output.units, 2500);
        assert!(output.errors.is_empty());
    }
}

#[test]
fn peaks_over_rows() {
    let signal = |n: usize| Some((0..n).map(|i| Some(beat(i))).collect::<Vec<_>>());
    let missing = Some(vec![None; 1000]);
    let lists = ListArray::from_iter_primitive::<Float32Type, _, _>([
        signal(2500),
        None,
        Some(vec![]),
        missing,
        signal(2500),
        signal(100),
    ]);
    let rates = Int32Array::from(vec![
        Some(250),
        Some(250),
        Some(250),
        Some(250),
        Some(10),
        Some(250),
    ]);
    let output = execute("ecg_rpeaks", &[array(lists), array(rates)], 6).unwrap();
    let peaks = output.values.as_list::<i32>();
    assert_eq!(
        peaks.data_type(),
        &DataType::new_list(DataType::Int32, true)
    );
    let lengths: Vec<Option<usize>> = peaks
        .iter()
        .map(|list| list.map(|list| list.len()))
        .collect();
    assert_eq!(lengths, [Some(10), None, Some(0), None, None, Some(0)]);
    assert_eq!(
        output.errors.iter().map(|e| e.row).collect::<Vec<_>>(),
        [3, 4]
    );
    assert!(output.errors[1].reason.contains("`10`"));
    assert_eq!(output.units, 2500 + 1000 + 100);
}

#[test]
fn texts_over_rows() {
    let long = "a ".repeat(9 << 20);
    let texts = array(StringArray::from(vec![
        Some("Mme Dupont, 12/03/2021"),
        None,
        Some(""),
        Some(long.as_str()),
    ]));
    let output = execute("text_deidentify", &[Arc::clone(&texts), nulls(4)], 4).unwrap();
    let values = output.values.as_string::<i32>();
    assert_eq!(
        values.iter().collect::<Vec<_>>(),
        [Some("Mme <NOM>, <DATE>"), None, Some(""), None]
    );
    assert_eq!(output.errors.iter().map(|e| e.row).collect::<Vec<_>>(), [3]);
    assert_eq!(output.units, 5);
    let fake = array(BooleanArray::from(vec![true; 4]));
    let output = execute("text_deidentify", &[texts, fake], 4).unwrap();
    let value = output.values.as_string::<i32>().value(0);
    assert!(
        value.starts_with("Mme ") && !value.contains('<') && !value.contains("Dupont"),
        "{value}"
    );
}

#[test]
fn wrong_calls() {
    let text = array(StringArray::from(vec!["x"]));
    let number = array(Int32Array::from(vec![1]));
    assert!(matches!(
        execute("dicom_tag", &[], 0),
        Err(ComputeError::UnknownFunction { .. })
    ));
    assert!(matches!(
        execute("dicom_tags", &[Arc::clone(&text)], 1),
        Err(ComputeError::Arity {
            expected: 2,
            got: 1,
            ..
        })
    ));
    assert!(matches!(
        execute("text_deidentify", &[Arc::clone(&text), nulls(2)], 1),
        Err(ComputeError::Rows {
            position: 2,
            got: 2,
            ..
        })
    ));
    assert!(matches!(
        execute("text_deidentify", &[Arc::clone(&number), nulls(1)], 1),
        Err(ComputeError::Type { position: 1, .. })
    ));
    assert!(matches!(
        execute("ecg_rpeaks", &[Arc::clone(&text), number], 1),
        Err(ComputeError::Type { position: 1, .. })
    ));
    for function in [
        "dicom_tags",
        "dicom_window",
        "ecg_rpeaks",
        "text_deidentify",
    ] {
        assert!(
            matches!(execute(function, &[], 0), Err(ComputeError::Arity { .. })),
            "{function}"
        );
    }
}

#[test]
fn empty_batches() {
    for (function, arguments) in [
        ("dicom_tags", 2),
        ("dicom_window", 6),
        ("ecg_rpeaks", 2),
        ("text_deidentify", 2),
    ] {
        let args: Vec<ArrayRef> = (0..arguments).map(|_| nulls(0)).collect();
        let output = execute(function, &args, 0).unwrap();
        assert_eq!((output.values.len(), output.units), (0, 0));
        let args: Vec<ArrayRef> = (0..arguments).map(|_| nulls(3)).collect();
        let output = execute(function, &args, 3).unwrap();
        assert_eq!(
            (
                output.values.len(),
                output.values.logical_null_count(),
                output.errors.len()
            ),
            (3, 3, 0)
        );
    }
}

/// Calls again for the rest until all rows are done: the rows of each part, and all together.
fn in_parts(
    function: &str,
    args: &[ArrayRef],
    rows: usize,
    limits: &Limits,
) -> (Vec<usize>, Output) {
    let mut parts: Vec<Output> = Vec::new();
    let mut start = 0;
    while start < rows {
        let rest: Vec<ArrayRef> = args.iter().map(|a| a.slice(start, rows - start)).collect();
        let mut part = hubflight_compute::execute(function, &rest, rows - start, limits).unwrap();
        part.errors.iter_mut().for_each(|error| error.row += start);
        start += part.values.len();
        parts.push(part);
    }
    let values: Vec<&dyn Array> = parts.iter().map(|part| part.values.as_ref()).collect();
    let whole = Output {
        values: concat(&values).unwrap(),
        errors: parts.iter().flat_map(|part| part.errors.clone()).collect(),
        units: parts.iter().map(|part| part.units).sum(),
    };
    (parts.iter().map(|part| part.values.len()).collect(), whole)
}

/// What is over the budget comes in further parts: no row fails because of its neighbours.
#[test]
fn parts_make_the_whole() {
    let file = ct(&VALUES, vec![]);
    let contents = array(BinaryArray::from_opt_vec(vec![
        Some(&file),
        None,
        Some(b"no file"),
        Some(&file),
        Some(&file),
    ]));
    let signal = (0..2500).map(|i| Some(beat(i))).collect::<Vec<_>>();
    let signals = array(ListArray::from_iter_primitive::<Float32Type, _, _>(vec![
        Some(signal.clone()),
        None,
        Some(vec![None; 500]),
        Some(signal.clone()),
        Some(signal),
    ]));
    let text = Some("Mme Dupont, 12/03/2021");
    let texts = array(StringArray::from(vec![text, None, Some(""), text, text]));
    let rates = array(Int32Array::from(vec![250; 5]));
    let window = [
        Arc::clone(&contents),
        nulls(5),
        nulls(5),
        nulls(5),
        nulls(5),
        nulls(5),
    ];
    let calls: [(&str, &[ArrayRef]); 4] = [
        ("dicom_tags", &[contents, nulls(5)]),
        ("dicom_window", &window),
        ("ecg_rpeaks", &[signals, rates]),
        ("text_deidentify", &[texts, nulls(5)]),
    ];
    for (function, args) in calls {
        let expected = execute(function, args, 5).unwrap();
        let small = Limits {
            part_bytes_max: 6,
            ..unlimited()
        };
        let late = Limits {
            until: Instant::now(),
            ..unlimited()
        };
        for (limits, most) in [(small, 4), (late, 1)] {
            let (lengths, output) = in_parts(function, args, 5, &limits);
            assert!(lengths.len() > 1, "{function}: {lengths:?}");
            assert!(lengths.iter().all(|length| (1..=most).contains(length)));
            assert_eq!(&output.values, &expected.values, "{function}");
            assert_eq!(output.errors, expected.errors, "{function}");
            assert_eq!(output.units, expected.units, "{function}");
        }
    }
}

/// A result that is too large fails alone, and its refused work is not charged.
#[test]
fn a_row_over_the_limit_fails_alone() {
    let long = "mot ".repeat(100);
    let texts = array(StringArray::from(vec![
        "un mot",
        long.as_str(),
        "deux mots",
    ]));
    let limits = Limits {
        row_bytes_max: 100,
        ..unlimited()
    };
    let output =
        hubflight_compute::execute("text_deidentify", &[texts, nulls(3)], 3, &limits).unwrap();
    let values: Vec<Option<&str>> = output.values.as_string::<i32>().iter().collect();
    assert_eq!(values, [Some("un mot"), None, Some("deux mots")]);
    let expected = RowError {
        row: 1,
        reason: "the result is over the limit of 100 bytes; ask for a smaller one".into(),
    };
    assert_eq!(output.errors, [expected]);
    assert_eq!(output.units, 4);
}

/// An integer that means nothing fails its row, however large it is.
#[test]
fn wide_integers_fail_their_row() {
    let signal = || Some((0..2500).map(|i| Some(beat(i))).collect::<Vec<_>>());
    let lists = ListArray::from_iter_primitive::<Float32Type, _, _>([signal(), signal()]);
    let rates = array(Int64Array::from(vec![3_000_000_000, 250]));
    let output = execute("ecg_rpeaks", &[array(lists), rates], 2).unwrap();
    assert_eq!(output.values.as_list::<i32>().value(1).len(), 10);
    let [error] = &output.errors[..] else {
        panic!("{:?}", output.errors);
    };
    assert_eq!(error.row, 0);
    assert!(
        error.reason.contains("`3000000000`") && error.reason.contains("from 50 to 2000"),
        "{}",
        error.reason
    );
    assert_eq!(output.units, 2500);

    let file = ct(&VALUES, vec![]);
    let contents = array(BinaryArray::from_vec(vec![file.as_slice(); 4]));
    let at = |row: usize| {
        let mut values = vec![None; 4];
        values[row] = Some(1 << 40);
        array(Int64Array::from(values))
    };
    let args = [contents, nulls(4), nulls(4), at(0), at(1), at(2)];
    let output = execute("dicom_window", &args, 4).unwrap();
    let valid: Vec<bool> = (0..4).map(|row| output.values.is_valid(row)).collect();
    assert_eq!(valid, [false, false, false, true]);
    let named = |row: usize| output.errors[row].reason.contains("1099511627776");
    assert!((0..3).all(named), "{:?}", output.errors);
}
