//! Which parts of a message are which column's, before the message is decoded.

use std::vec::IntoIter;

use arrow::datatypes::{DataType, UnionMode};
use arrow::ipc::{self, FieldNode, MetadataVersion};
use flatbuffers::VectorIter;

use super::part;

/// Bytes of a view: its length, then its text, or where that is.
const VIEW_BYTES: usize = 16;
/// Longer texts are not in their view.
const TEXT_IN_VIEW_BYTES_MAX: u32 = 12;

/// The parts of a batch, taken in the order in which Arrow's decoder takes them, and what the columns
/// that were taken cost beside the bytes of the body.
pub(super) struct Parts<'a> {
    version: MetadataVersion,
    body: &'a [u8],
    nodes: VectorIter<'a, FieldNode>,
    buffers: VectorIter<'a, ipc::Buffer>,
    /// Of each column of views, the number of buffers behind its views.
    blocks: IntoIter<i64>,
    /// Bytes that views lead to: each is validated, and several may lead to the same.
    pub(super) viewed: u64,
    /// Values that have no bytes, for which the decoder may make room all the same.
    pub(super) bare: u64,
}

impl<'a> Parts<'a> {
    /// None where a batch lacks what each has.
    pub(super) fn new(
        version: MetadataVersion,
        batch: &ipc::RecordBatch<'a>,
        body: &'a [u8],
    ) -> Option<Self> {
        let blocks: Vec<i64> = batch.variadicBufferCounts().into_iter().flatten().collect();
        Some(Self {
            version,
            body,
            nodes: batch.nodes()?.iter(),
            buffers: batch.buffers()?.iter(),
            blocks: blocks.into_iter(),
            viewed: 0,
            bare: 0,
        })
    }

    /// Takes the parts of a column; none where one is missing.
    pub(super) fn take(&mut self, data_type: &DataType) -> Option<()> {
        let rows = u64::try_from(self.nodes.next()?.length()).ok()?;
        if is_bare(data_type) {
            self.bare = self.bare.saturating_add(rows);
        }
        match data_type {
            DataType::Null => Some(()),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
                self.skip(3)
            }
            DataType::Utf8View | DataType::BinaryView => self.take_views(rows),
            DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => {
                self.skip(2)?;
                self.take(item.data_type())
            }
            DataType::ListView(item) | DataType::LargeListView(item) => {
                self.skip(3)?;
                self.take(item.data_type())
            }
            DataType::FixedSizeList(item, _) => {
                self.skip(1)?;
                self.take(item.data_type())
            }
            DataType::Struct(fields) => {
                self.skip(1)?;
                let mut fields = fields.iter();
                fields.try_for_each(|field| self.take(field.data_type()))
            }
            DataType::RunEndEncoded(ends, values) => {
                self.take(ends.data_type())?;
                self.take(values.data_type())
            }
            DataType::Union(fields, mode) => {
                // Which rows there are, until the fifth version; type ids; offsets.
                let rows = usize::from(self.version < MetadataVersion::V5);
                self.skip(rows + 1 + usize::from(*mode == UnionMode::Dense))?;
                let mut fields = fields.iter();
                fields.try_for_each(|(_, field)| self.take(field.data_type()))
            }
            // Whether there is a value, and the value, or its place in a dictionary.
            _ => self.skip(2),
        }
    }

    fn take_views(&mut self, rows: u64) -> Option<()> {
        let blocks = usize::try_from(self.blocks.next()?).ok()?;
        self.skip(1)?;
        let (views, _) = part(self.body, self.buffers.next()?)?.as_chunks::<VIEW_BYTES>();
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        for [a, b, c, d, ..] in views.iter().take(rows) {
            let length = u32::from_le_bytes([*a, *b, *c, *d]);
            if length > TEXT_IN_VIEW_BYTES_MAX {
                self.viewed = self.viewed.saturating_add(u64::from(length));
            }
        }
        self.skip(blocks)
    }

    fn skip(&mut self, buffers: usize) -> Option<()> {
        if buffers > self.buffers.len() {
            return None;
        }
        if let Some(last) = buffers.checked_sub(1) {
            self.buffers.nth(last)?;
        }
        Some(())
    }
}

/// Whether any number of values is no byte.
fn is_bare(data_type: &DataType) -> bool {
    match data_type {
        DataType::Null
        | DataType::FixedSizeBinary(..=0)
        | DataType::FixedSizeList(_, ..=0)
        | DataType::RunEndEncoded(..) => true,
        DataType::Struct(fields) => fields.is_empty(),
        _ => false,
    }
}
