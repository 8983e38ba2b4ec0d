//! What a view shows instead of a stored value: pseudonyms and masks, as a function that only
//! the barrier's own plans contain and that no registry knows by name.

pub(super) mod masks;

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::pseudonym::Cipher;
use hubflight_rights::habilitation::Mask;

/// The pseudonym of an identifier, or the keyed hash of a value.
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
            What::Mask(mask) => masks::apply(*mask, array)?,
        };
        Ok(ColumnarValue::Array(shown))
    }
}
