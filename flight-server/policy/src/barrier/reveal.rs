//! What a view shows instead of a stored value: pseudonyms and masks, as a function that only
//! the barrier's own plans contain and that no registry knows by name.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, GenericStringArray, OffsetSizeTrait, StringViewArray,
};
use arrow::datatypes::{DataType, Date32Type, Date64Type, Field, FieldRef};
use arrow::error::ArrowError;
use chrono::{DateTime, Datelike, NaiveDate};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::habilitation::Mask;
use crate::pseudonym::Cipher;

/// The pseudonym of an identifier.
pub fn pseudonym(column: Expr, cipher: Cipher) -> Expr {
    reveal(column, What::Pseudonym(cipher))
}

/// The secret number of a person, from which the noise of cells is made.
pub fn person_key(column: Expr, cipher: Cipher) -> Expr {
    reveal(column, What::Key(cipher))
}

/// What the mask leaves of a column of this type.
pub fn masked(column: Expr, mask: Mask, data_type: &DataType) -> Result<Expr> {
    match mask {
        // A literal, so that the stored column is not even read.
        Mask::Null => Ok(Expr::Literal(ScalarValue::try_from(data_type)?, None)),
        other => Ok(reveal(column, What::Mask(other))),
    }
}

fn reveal(column: Expr, what: What) -> Expr {
    ScalarUDF::new_from_impl(Reveal {
        what,
        signature: Signature::any(1, Volatility::Immutable),
    })
    .call(vec![column])
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum What {
    Pseudonym(Cipher),
    Key(Cipher),
    Mask(Mask),
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Reveal {
    what: What,
    signature: Signature,
}

impl ScalarUDFImpl for Reveal {
    fn name(&self) -> &str {
        match self.what {
            What::Pseudonym(_) => "pseudonym",
            What::Key(_) => "person_key",
            What::Mask(_) => "mask",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match (&self.what, arg_types) {
            (What::Mask(_), [data_type]) => Ok(data_type.clone()),
            (What::Key(_), _) => Ok(DataType::UInt64),
            _ => Ok(DataType::Utf8View),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args
            .arg_fields
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        let nullable = match self.what {
            What::Pseudonym(_) | What::Key(_) => {
                args.arg_fields.iter().any(|field| field.is_nullable())
            }
            What::Mask(_) => true,
        };
        Ok(Arc::new(Field::new(
            self.name(),
            self.return_type(&types)?,
            nullable,
        )))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [array] = arrays.as_slice() else {
            return datafusion::common::exec_err!("`{}` takes one argument", self.name());
        };
        let shown: ArrayRef = match &self.what {
            What::Pseudonym(cipher) => Arc::new(cipher.encrypt_array(array.as_ref())?),
            What::Key(cipher) => Arc::new(cipher.key_array(array.as_ref())?),
            What::Mask(mask) => apply(*mask, array)?,
        };
        Ok(ColumnarValue::Array(shown))
    }
}

/// Masks a column; as long as the input, of the same type, NULL where it is NULL.
pub fn apply(mask: Mask, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match (mask, array.data_type()) {
        (Mask::Null, data_type) => Ok(arrow::array::new_null_array(data_type, array.len())),
        (Mask::Year, DataType::Date32) => {
            let days = array.as_primitive::<Date32Type>();
            Ok(Arc::new(days.unary_opt::<_, Date32Type>(|days| {
                let first = first_of_year(i64::from(days).checked_mul(MILLIS_PER_DAY)?)?;
                i32::try_from(first / MILLIS_PER_DAY).ok()
            })))
        }
        (Mask::Year, DataType::Date64) => {
            let millis = array.as_primitive::<Date64Type>();
            Ok(Arc::new(millis.unary_opt::<_, Date64Type>(first_of_year)))
        }
        (Mask::Department | Mask::Prefix(_), DataType::Utf8) => Ok(prefixes::<i32>(mask, array)),
        (Mask::Department | Mask::Prefix(_), DataType::LargeUtf8) => {
            Ok(prefixes::<i64>(mask, array))
        }
        (Mask::Department | Mask::Prefix(_), DataType::Utf8View) => {
            let texts = array.as_string_view().iter();
            let shown = texts.map(|text| text.map(|text| kept(mask, text)));
            Ok(Arc::new(shown.collect::<StringViewArray>()))
        }
        (_, data_type) => Err(ArrowError::InvalidArgumentError(format!(
            "a column of type {data_type} cannot be masked so"
        ))),
    }
}

const MILLIS_PER_DAY: i64 = 86_400_000;

/// None beyond the calendar (about 262,000 years): such a date shows as NULL.
fn first_of_year(millis: i64) -> Option<i64> {
    let year = DateTime::from_timestamp_millis(millis)?.year();
    let first = NaiveDate::from_ymd_opt(year, 1, 1)?;
    Some(first.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
}

fn prefixes<O: OffsetSizeTrait>(mask: Mask, array: &ArrayRef) -> ArrayRef {
    let texts = array.as_string::<O>().iter();
    let shown = texts.map(|text| text.map(|text| kept(mask, text)));
    Arc::new(shown.collect::<GenericStringArray<O>>())
}

/// The part of a text that a mask leaves.
fn kept(mask: Mask, text: &str) -> &str {
    let characters = match mask {
        // Overseas departments (971…) and territories (98…) have three characters.
        Mask::Department if matches!(text.as_bytes(), [b'9', b'7'..=b'9', ..]) => 3,
        Mask::Department => 2,
        Mask::Prefix(characters) => usize::from(characters),
        Mask::Null | Mask::Year => 0,
    };
    let end = text
        .char_indices()
        .nth(characters)
        .map_or(text.len(), |(index, _)| index);
    text.get(..end).unwrap_or_default()
}
