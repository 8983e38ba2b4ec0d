//! What is known of a schema that was sent, gone through once.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, Schema};

/// Fields that a decoder may look through for dictionaries of few bytes: about a second's work.
const FIELDS_FREE: u64 = 1 << 24;
/// As many more for each byte that was sent: a writer sends the dictionary of each of a thousand
/// columns again with each batch.
const FIELDS_PER_BYTE: u64 = 4;

/// A schema as the decoder has it.
pub(super) struct Known {
    schema: Schema,
    /// The types of the values of its dictionaries, by their numbers: of the first field of each, as
    /// the decoder takes it.
    dictionaries: HashMap<i64, DataType>,
    /// Fields, with those inside others.
    fields: u64,
    /// How many of them may still be looked through.
    left: u64,
}

impl Known {
    pub(super) fn of(schema: Schema) -> Self {
        let mut known = Self {
            schema: Schema::empty(),
            dictionaries: HashMap::new(),
            fields: 0,
            left: FIELDS_FREE,
        };
        for field in schema.fields() {
            known.look_at(field);
        }
        Self { schema, ..known }
    }

    /// In the decoder's order: a field before those inside it.
    #[expect(deprecated, reason = "the decoder finds dictionaries so")]
    fn look_at(&mut self, field: &Field) {
        self.fields = self.fields.saturating_add(1);
        if let (DataType::Dictionary(_, values), Some(id)) = (field.data_type(), field.dict_id()) {
            let first = self.dictionaries.entry(id);
            first.or_insert_with(|| values.as_ref().clone());
        }
        self.look_into(field.data_type());
    }

    fn look_into(&mut self, data_type: &DataType) {
        match data_type {
            DataType::Struct(fields) => fields.iter().for_each(|field| self.look_at(field)),
            DataType::Union(fields, _) => fields.iter().for_each(|(_, field)| self.look_at(field)),
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::ListView(field)
            | DataType::LargeListView(field)
            | DataType::FixedSizeList(field, _)
            | DataType::Map(field, _)
            | DataType::RunEndEncoded(_, field) => self.look_at(field),
            DataType::Dictionary(_, values) => self.look_into(values),
            _ => {}
        }
    }

    /// The types of a batch's columns.
    pub(super) fn columns(&self) -> Vec<&DataType> {
        let fields = self.schema.fields().iter();
        fields.map(|field| field.data_type()).collect()
    }

    /// The type of a dictionary's values; none where no field has such a dictionary.
    pub(super) fn values(&self, dictionary: i64) -> Option<&DataType> {
        self.dictionaries.get(&dictionary)
    }

    /// Counts what a message costs the decoder, which looks through all fields for each dictionary.
    /// None where it looked through too many for the bytes that came.
    pub(super) fn pay(&mut self, bytes: usize, is_dictionary: bool) -> Option<()> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.left = self
            .left
            .saturating_add(bytes.saturating_mul(FIELDS_PER_BYTE));
        if is_dictionary {
            self.left = self.left.checked_sub(self.fields)?;
        }
        Some(())
    }

    #[cfg(test)]
    pub(super) fn fields(&self) -> u64 {
        self.fields
    }
}
