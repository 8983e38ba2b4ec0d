//! Takes away what lies behind NULLs.
//!
//! A NULL slot of an Arrow array holds some value that no reader should look at. Readers of
//! files and filters leave there what was in memory: values of other rows, hidden ones
//! included. Clients get these bytes with the array, so they must not leave the barrier.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, downcast_primitive_array, make_array,
};
use arrow::array::{ArrayData, MutableArrayData};
use arrow::compute::cast;
use arrow::datatypes::{ArrowPrimitiveType, DataType};
use arrow::error::ArrowError;

/// The array with zeros or nothing behind its NULLs, those of nested fields included, and with
/// no value in a dictionary that no row shows.
///
/// # Errors
/// None for a valid array.
pub fn clean(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if let DataType::Dictionary(_, values) = array.data_type() {
        let plain = clean(&cast(array, values)?)?;
        return cast(&plain, array.data_type());
    }
    if array.data_type().is_nested() {
        let data = array.to_data();
        let children = data.child_data().iter().map(|child| {
            let child = clean(&make_array(child.clone()))?;
            Ok(child.to_data())
        });
        let children = children.collect::<Result<Vec<_>, ArrowError>>()?;
        let data = data.into_builder().child_data(children).build()?;
        return Ok(make_array(copied(&data)?));
    }
    if array.null_count() == 0 {
        return Ok(Arc::clone(array));
    }
    if let Some(booleans) = array.as_boolean_opt() {
        let shown = booleans.iter().map(|value| value.unwrap_or(false));
        let nulls = booleans.nulls().cloned();
        return Ok(Arc::new(BooleanArray::new(shown.collect(), nulls)));
    }
    let array = array.as_ref();
    Ok(downcast_primitive_array!(
        array => Arc::new(zeroed(array)),
        _ => make_array(copied(&array.to_data())?),
    ))
}

fn zeroed<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>) -> PrimitiveArray<T> {
    let shown = array.iter().map(Option::unwrap_or_default);
    PrimitiveArray::new(shown.collect(), array.nulls().cloned())
        .with_data_type(array.data_type().clone())
}

/// A copy of the valid slots only.
fn copied(data: &ArrayData) -> Result<ArrayData, ArrowError> {
    let Some(nulls) = data.nulls().filter(|nulls| nulls.null_count() > 0) else {
        return Ok(data.clone());
    };
    let mut copy = MutableArrayData::new(vec![data], true, data.len());
    let mut end = 0;
    for (from, to) in nulls.valid_slices() {
        copy.try_extend_nulls(from - end)?;
        copy.try_extend(0, from, to)?;
        end = to;
    }
    copy.try_extend_nulls(data.len() - end)?;
    Ok(copy.freeze())
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray, StringArray,
        StringViewArray, StructArray,
    };
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::datatypes::{Field, Int32Type};

    use super::*;

    const SECRET: i64 = 0x5ec2_e75e_c2e7_5ec2;
    const TEXT: &str = "a secret text that is longer than a view holds inline";

    /// Every byte that the array keeps, as a client would get it.
    fn bytes(data: &ArrayData) -> Vec<u8> {
        let own = data.buffers().iter().flat_map(|buffer| buffer.to_vec());
        own.chain(data.child_data().iter().flat_map(bytes))
            .collect()
    }

    fn shows_secret(array: &dyn Array) -> bool {
        let bytes = bytes(&array.to_data());
        let number = SECRET.to_le_bytes();
        let text = &TEXT.as_bytes()[..8];
        bytes
            .windows(8)
            .any(|window| window == number || window == text)
    }

    fn nulls(valid: &[bool]) -> Option<NullBuffer> {
        Some(NullBuffer::from(valid.to_vec()))
    }

    fn numbers() -> Int64Array {
        Int64Array::new(vec![1, SECRET, 3].into(), nulls(&[true, false, true]))
    }

    fn check(stale: impl Array + 'static) {
        assert!(shows_secret(&stale), "the test has nothing to find");
        let stale: ArrayRef = Arc::new(stale);
        let cleaned = clean(&stale).expect("cleans");
        assert_eq!(&cleaned, &stale, "what is shown has changed");
        assert_eq!(cleaned.data_type(), stale.data_type());
        assert!(!shows_secret(cleaned.as_ref()), "{cleaned:?}");
    }

    #[test]
    fn nothing_is_left_behind_nulls() {
        check(numbers());
        check(
            numbers()
                .reinterpret_cast::<arrow::datatypes::TimestampSecondType>()
                .with_timezone("UTC"),
        );
        check(Float64Array::new(
            vec![1.0, f64::from_bits(SECRET as u64)].into(),
            nulls(&[true, false]),
        ));
        let texts = StringArray::from(vec!["a", TEXT, ""]);
        let (offsets, values, _) = texts.into_parts();
        check(StringArray::new(
            offsets,
            values,
            nulls(&[true, false, true]),
        ));
        let (offsets, texts, _) = StringArray::from(vec![TEXT, "b"]).into_parts();
        check(StringArray::new(offsets, texts, nulls(&[false, true])));
    }

    #[test]
    fn nothing_is_left_in_nested_fields() {
        let item = Arc::new(Field::new("item", DataType::Int64, true));
        let whole = OffsetBuffer::from_lengths([1, 1, 1]);
        // A NULL inside a list, and a list that is NULL over values.
        check(ListArray::new(
            Arc::clone(&item),
            whole.clone(),
            Arc::new(numbers()),
            None,
        ));
        let values = Arc::new(Int64Array::from(vec![1, SECRET, 3]));
        check(ListArray::new(
            item,
            whole,
            values.clone(),
            nulls(&[true, false, true]),
        ));
        let fields = vec![Field::new("n", DataType::Int64, true)].into();
        check(StructArray::new(
            fields,
            vec![values],
            nulls(&[true, false, true]),
        ));
    }

    #[test]
    fn a_view_of_nothing_points_to_nothing() {
        let (views, buffers, _) = StringViewArray::from(vec!["a", TEXT]).into_parts();
        let stale: ArrayRef = Arc::new(StringViewArray::new(views, buffers, nulls(&[true, false])));
        let cleaned = clean(&stale).expect("cleans");
        assert_eq!(cleaned.as_string_view().views().get(1), Some(&0));
        assert!(!shows_secret(&cleaned.as_string_view().gc()));
    }

    #[test]
    fn a_dictionary_keeps_only_what_is_shown() {
        let keys = Int32Array::from(vec![Some(0), None, Some(0)]);
        let values = Arc::new(StringArray::from(vec!["seen", TEXT]));
        check(DictionaryArray::<Int32Type>::new(keys, values));
    }
}
