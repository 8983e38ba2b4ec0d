//! Selected rows, dealt to partitions and cut into batches by their own number.
//!
//! Which rows are read side by side and which stand in one batch shows: in the order of rows that
//! nobody sorted, and in which of several rows that fail is met. Where files are sorted, cuts at
//! row groups would tell for each of them how many rows are hidden between two visible ones. So
//! neither depends on where row groups end, nor on whether one was left unread: a batch has the
//! rows of a window of so many selected rows, less those that the user's filters would drop anyhow.

use arrow::array::RecordBatch;
use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use super::selected::Group;

/// A partition reads so many batches, or more.
const STRIPE_BATCHES: usize = 16;
/// Several stripes where they are longer than this, since the rows that a filter keeps may stand
/// together; no shorter ones, since a row group that two stripes share is fetched for both.
const LONG_STRIPE_BATCHES: usize = 128;
const STRIPES_PER_PARTITION: usize = 4;

/// Row groups by partition, cut where a stripe ends: every stripe but the last is some whole
/// batches of selected rows.
pub fn deal(groups: Vec<Group>, partitions: usize, batch_rows: usize) -> Vec<Vec<Group>> {
    let selected: usize = groups.iter().map(Group::selected).sum();
    let batches = selected.div_ceil(batch_rows).max(1);
    let long = batches / (partitions * LONG_STRIPE_BATCHES).max(1);
    let most = partitions * long.clamp(1, STRIPES_PER_PARTITION);
    let stripes = (batches / STRIPE_BATCHES).clamp(1, most.max(1));
    let stripe_rows = batches.div_ceil(stripes) * batch_rows;
    let stripes = selected.div_ceil(stripe_rows).max(1);
    let partitions = partitions.min(stripes);
    let mut dealt = vec![Vec::new(); partitions];
    let mut first = 0;
    for group in groups {
        let mut rest = group;
        loop {
            let stripe = first / stripe_rows;
            let room = (stripe + 1) * stripe_rows - first;
            let (part, next) = match rest.split_after(room) {
                Some((part, next)) => (part, Some(next)),
                None => (rest, None),
            };
            first += part.selected();
            if let Some(dealt) = dealt.get_mut(stripe % partitions) {
                dealt.push(part);
            }
            match next {
                Some(next) => rest = next,
                None => break,
            }
        }
    }
    dealt
}

/// Cuts what one partition reads into windows.
pub struct Windows {
    /// Holds rows of one window.
    buffered: BatchCoalescer,
    rows: usize,
    /// Selected rows so far, read or not.
    place: usize,
}

impl Windows {
    pub fn new(schema: SchemaRef, rows: usize) -> Self {
        // A whole window at once passes as it is.
        let limit = Some(rows.saturating_sub(1));
        Self {
            buffered: BatchCoalescer::new(schema, rows).with_biggest_coalesce_batch_size(limit),
            rows,
            place: 0,
        }
    }

    /// Takes selected rows in.
    pub fn push(&mut self, mut batch: RecordBatch) -> Result<()> {
        while batch.num_rows() > 0 {
            let room = self.rows - self.place % self.rows;
            let taken = room.min(batch.num_rows());
            self.buffered.push_batch(batch.slice(0, taken))?;
            batch = batch.slice(taken, batch.num_rows() - taken);
            self.pass(taken)?;
        }
        Ok(())
    }

    /// Passes by selected rows that were not read.
    pub fn pass(&mut self, rows: usize) -> Result<()> {
        let window = self.place / self.rows;
        self.place += rows;
        if self.place / self.rows > window {
            self.buffered.finish_buffered_batch()?;
        }
        Ok(())
    }

    /// There are no more rows.
    pub fn end(&mut self) -> Result<()> {
        Ok(self.buffered.finish_buffered_batch()?)
    }

    /// The next window that is complete.
    pub fn next(&mut self) -> Option<RecordBatch> {
        self.buffered.next_completed_batch()
    }
}
