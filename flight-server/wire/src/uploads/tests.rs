use std::sync::Arc;

use arrow::array::{
    ArrayData, DictionaryArray, FixedSizeListArray, Int32Array, Int64Array, LargeListArray,
    ListArray, MapBuilder, NullArray, RunArray, StringArray, StringBuilder, StringViewArray,
    StructArray, UnionArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{Field, Int32Type, UnionFields, UnionMode};

use super::*;

fn check(array: impl Array + 'static, expected: u64) {
    let array: ArrayRef = Arc::new(array);
    assert_eq!(bytes_of(&array), expected, "{}", array.data_type());
}

fn item(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", data_type, true))
}

#[test]
fn values_count_where_they_come() {
    check(StringArray::from(vec![Some("ab"), None, Some("é")]), 4);
    check(StringArray::from(vec!["", ""]), 2);
    check(Int64Array::from(vec![Some(1), None]), 16);
    check(StringViewArray::from(vec!["a text longer than twelve"]), 25);
    let lists = vec![Some(vec![Some(1), Some(2)]), None, Some(vec![Some(3)])];
    check(ListArray::from_iter_primitive::<Int32Type, _, _>(lists), 12);
    let fields: Vec<(Arc<Field>, ArrayRef)> = vec![
        (
            item(DataType::Int32),
            Arc::new(Int32Array::from(vec![1, 2])),
        ),
        (
            Arc::new(Field::new("t", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec!["abc", ""])),
        ),
    ];
    check(StructArray::from(fields), 11);
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    maps.keys().append_value("key");
    maps.values().append_value("four");
    maps.append(true).expect("appends");
    check(maps.finish(), 7);
}

/// A thousand rows that name one text of a million bytes are a thousand million bytes.
#[test]
fn what_many_rows_name_counts_for_each() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1_000_000)]));
    let keys = Int32Array::from(vec![0; 1_000]);
    let coded = DictionaryArray::<Int32Type>::try_new(keys, text).expect("valid");
    assert!(coded.get_array_memory_size() < 2_000_000);
    check(coded, 1_000_000_000);
    let text = "x".repeat(1_000_000);
    let mut views = arrow::array::StringViewBuilder::new();
    let block = views.append_block(text.into_bytes().into());
    for _ in 0..1_000 {
        views.try_append_view(block, 0, 1_000_000).expect("a view");
    }
    check(views.finish(), 1_000_000_000);
    let none: ArrayRef = Arc::new(StringArray::from(Vec::<&str>::new()));
    let keys = Int32Array::from(vec![None, None]);
    let empty = DictionaryArray::<Int32Type>::try_new(keys, none).expect("valid");
    check(empty, 2);
}

/// Items without bytes are counted: whoever unnests them has as many rows.
#[test]
fn lists_of_nothing_have_their_lengths() {
    let wide = 1 << 30;
    let nulls: ArrayRef = Arc::new(NullArray::new(4 << 30));
    let list = FixedSizeListArray::try_new(item(DataType::Null), wide, nulls, None);
    check(list.expect("valid"), 4 << 30);
    let nulls: ArrayRef = Arc::new(NullArray::new(1 << 40));
    let offsets = OffsetBuffer::new(vec![0_i64, 1 << 40].into());
    let list = LargeListArray::try_new(item(DataType::Null), offsets, nulls, None);
    check(list.expect("valid"), 1 << 40);
}

#[test]
fn types_that_repeat_values_are_refused() {
    let run = Arc::new(Field::new("run_ends", DataType::Int32, false));
    let key = Box::new(DataType::Int32);
    let coded = DataType::Dictionary(key.clone(), Box::new(DataType::Utf8));
    let union = UnionFields::try_new([0], [Field::new("a", DataType::Utf8, true)]).expect("valid");
    let text = || item(DataType::Utf8);
    for wild in [
        DataType::RunEndEncoded(run, text()),
        DataType::ListView(text()),
        DataType::LargeListView(text()),
        DataType::Union(union, UnionMode::Dense),
        DataType::List(item(coded.clone())),
        DataType::Struct(vec![Field::new("a", coded.clone(), true)].into()),
        DataType::Dictionary(key.clone(), Box::new(coded.clone())),
        DataType::Dictionary(key, Box::new(DataType::List(text()))),
    ] {
        let schema = Schema::new(vec![Field::new("", wild.clone(), true)]);
        let error = check_types("the rows", &schema).expect_err("refused");
        assert!(
            error.to_string().contains("plain values"),
            "{wild}: {error}"
        );
    }
    for plain in [
        coded,
        DataType::List(text()),
        DataType::Utf8View,
        DataType::Null,
        DataType::Decimal128(38, 2),
    ] {
        check_types("the rows", &Schema::new(vec![Field::new("", plain, true)])).expect("taken");
    }
    let runs = RunArray::<Int32Type>::try_new(
        &Int32Array::from(vec![1_000]),
        &StringArray::from(vec!["x"]),
    );
    let runs: ArrayData = runs.expect("valid").into_data();
    assert!(!is_bound(runs.data_type()));
}

fn union(ids: Vec<i8>, offsets: Option<Vec<i32>>, children: Vec<ArrayRef>) -> UnionArray {
    let fields = children.iter().enumerate().map(|(at, child)| {
        let name = format!("of_{at}");
        Field::new(name, child.data_type().clone(), true)
    });
    let fields = UnionFields::from_fields(fields.collect::<Vec<_>>());
    let offsets = offsets.map(ScalarBuffer::from);
    UnionArray::try_new(fields, ids.into(), offsets, children).expect("valid")
}

#[test]
fn values_of_unions_count_where_they_are_taken() {
    let number: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1_000_000)]));
    let none: ArrayRef = Arc::new(StringArray::from(Vec::<&str>::new()));
    let one = [Arc::clone(&number), none].into();
    check(union(vec![0], Some(vec![0]), one), 8);
    let both: Vec<ArrayRef> = [number, text].into();
    let ids = [vec![0], vec![1; 200]].concat();
    check(union(ids, Some(vec![0; 201]), both.clone()), 200_000_008);
    let ids = vec![1; 1_000];
    check(union(ids, Some(vec![0; 1_000]), both), u64::MAX);
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["abc", "de"]));
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    check(union(vec![1, 0], None, [texts, numbers].into()), 6);
    let nulls: ArrayRef = Arc::new(NullArray::new(4 << 24));
    let list = FixedSizeListArray::try_new(item(DataType::Null), 1 << 24, nulls, None);
    let lists: ArrayRef = Arc::new(list.expect("valid"));
    check(union(vec![0], Some(vec![3]), vec![lists]), 1 << 24);
}

/// Each row is looked at in each column of its value: few bytes are many looks.
#[test]
fn unions_of_wide_structs_are_not_counted_without_end() {
    let structs = |columns: usize| -> ArrayRef {
        let nulls: ArrayRef = Arc::new(NullArray::new(1));
        let fields = vec![Field::new("n", DataType::Null, true); columns];
        Arc::new(StructArray::new(fields.into(), vec![nulls; columns], None))
    };
    let of = |rows: usize, columns: usize| {
        union(vec![0; rows], Some(vec![0; rows]), vec![structs(columns)])
    };
    check(of(100, 1_000), 100_000);
    let began = std::time::Instant::now();
    check(of(10_000, 40_000), u64::MAX);
    assert!(began.elapsed().as_secs() < 5);
}

#[test]
fn unions_are_taken_as_values_only() {
    let of = |data_type: DataType| {
        let fields = [Field::new("a", data_type, true)];
        DataType::Union(UnionFields::from_fields(fields), UnionMode::Dense)
    };
    let told = |data_type: &DataType| {
        let schema = Schema::new(vec![Field::new("", data_type.clone(), true)]);
        check_value_types("the values", &schema)
    };
    let plain = of(DataType::Utf8);
    told(&plain).expect("taken");
    let key = Box::new(DataType::Int32);
    for wild in [
        of(plain.clone()),
        of(DataType::Dictionary(key, Box::new(DataType::Utf8))),
        of(DataType::ListView(item(DataType::Utf8))),
        DataType::List(item(plain.clone())),
        DataType::Struct(vec![Field::new("a", plain, true)].into()),
    ] {
        let error = told(&wild).expect_err("refused");
        assert!(error.message().contains("plain values"), "{wild}: {error}");
    }
}

#[test]
fn what_columns_share_is_held_once() {
    let whole: ArrayRef = Arc::new(Int64Array::from((0..1_000).collect::<Vec<i64>>()));
    let half = whole.slice(500, 500);
    let nulls: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(1)]));
    let list: ArrayRef = Arc::new(FixedSizeListArray::new(
        item(DataType::Int64),
        2,
        Arc::clone(&whole),
        None,
    ));
    let held = |columns: &[&ArrayRef]| {
        let columns = columns.iter().map(|&column| ("c", Arc::clone(column)));
        held_bytes(&RecordBatch::try_from_iter(columns).expect("valid"))
    };
    let one = held(&[&whole]);
    assert!((8_000..8_200).contains(&one), "{one}");
    assert_eq!(held(&[&list]), one);
    assert_eq!(held(&[&list, &list]), one);
    assert_eq!(held(&[&half, &half, &half]), one);
    assert!(held(&[&nulls]) > 16);
    let apart: ArrayRef = Arc::new(Int64Array::from((0..500).collect::<Vec<i64>>()));
    assert_eq!(held(&[&half, &apart]), one + held(&[&apart]));
}
