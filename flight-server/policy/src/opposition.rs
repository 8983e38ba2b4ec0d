//! Persons who oppose the use of their data: their identifiers, as they are stored.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::compute::{cast, filter, is_not_null};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use sha2::{Digest, Sha256};

use crate::pseudonym::is_number;

/// The column of the identifiers in [`Opposed::table`].
pub(crate) const OPPOSED_COLUMN: &str = "person";

/// The persons of one domain of identifiers whose rows nobody sees. Never printed.
pub struct Opposed {
    values: BTreeSet<String>,
    digest: [u8; 32],
    /// The identifiers as values of the types that were asked for.
    tables: Mutex<HashMap<DataType, Arc<MemTable>>>,
}

impl fmt::Debug for Opposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opposed({} persons)", self.values.len())
    }
}

impl Opposed {
    /// None for nobody, so that an empty list restricts nothing.
    pub fn new(values: BTreeSet<String>) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let mut hash = Sha256::new();
        for value in &values {
            hash.update((value.len() as u64).to_be_bytes());
            hash.update(value.as_bytes());
        }
        Some(Self {
            values,
            digest: hash.finalize().into(),
            tables: Mutex::default(),
        })
    }

    /// Tells lists apart.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// True where somebody opposes who does not in `other`.
    pub fn exceeds(&self, other: &Self) -> bool {
        !self.values.is_subset(&other.values)
    }

    pub fn persons(&self) -> usize {
        self.values.len()
    }

    /// True where somebody's identifier can stand in a column of this type.
    pub fn stands_in(value: &str, data_type: &DataType) -> bool {
        let text: ArrayRef = Arc::new(StringArray::from(vec![value]));
        match data_type {
            text if text.is_string() => true,
            number if is_number(number) => {
                cast(&text, number).is_ok_and(|typed| typed.null_count() == 0)
            }
            _ => false,
        }
    }

    /// One column of the identifiers in exactly this type; an identifier that is no value of
    /// it stands in no such column. None for a type that no identifier has.
    pub(crate) fn table(
        &self,
        data_type: &DataType,
    ) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if !data_type.is_string() && !is_number(data_type) {
            return Ok(None);
        }
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables.get(data_type) {
            return Ok(Some(Arc::clone(table) as _));
        }
        let column = self.column(data_type)?;
        let field = Field::new(OPPOSED_COLUMN, data_type.clone(), true);
        let schema = Arc::new(Schema::new(vec![field]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column])?;
        let table = Arc::new(MemTable::try_new(schema, vec![vec![batch]])?);
        tables.insert(data_type.clone(), Arc::clone(&table));
        Ok(Some(table))
    }

    fn column(&self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(&self.values));
        // What is no number becomes NULL.
        let typed = cast(&texts, data_type)?;
        if typed.null_count() == 0 {
            return Ok(typed);
        }
        filter(&typed, &is_not_null(&typed)?)
    }
}
