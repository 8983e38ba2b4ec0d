//! Selected rows, dealt to partitions and cut into batches by their own number.
//!
//! Which rows are read side by side and which stand in one batch shows: in the order of rows that
//! nobody sorted, and in which of several rows that fail is met. Where files are sorted, cuts at
//! row groups would tell for each of them how many rows are hidden between two visible ones. So
//! neither depends on where row groups end, nor on whether one was left unread: a batch has the
//! rows of a window of so many selected rows, less those that the user's filters drop. Each row
//! meets those filters, also the dynamic ones (`dynamic.rs`).

use arrow::array::RecordBatch;
use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use super::selected::Group;

/// A partition of a large table reads so many selected rows in a row, or more, since a row group
/// that two stripes share is fetched for both; and several stripes, since the rows that a filter
/// keeps may stand together.
const STRIPE_ROWS: usize = 1 << 20;
const STRIPES_PER_PARTITION: usize = 4;
/// A stripe of a small table has so many batches, or more.
const STRIPE_BATCHES: usize = 8;

/// Row groups by partition, cut where a stripe ends: every stripe but the last is some whole
/// batches of selected rows.
///
/// All partitions are there as soon as there is more than a batch, some of them without rows:
/// of fewer, DataFusion would deal batches anew as they come, and one that is empty since its rows
/// were left unread does not come.
pub fn deal(groups: Vec<Group>, partitions: usize, batch_rows: usize) -> Vec<Vec<Group>> {
    let (partitions, batch_rows) = (partitions.max(1), batch_rows.max(1));
    let selected: usize = groups.iter().map(Group::selected).sum();
    if selected <= batch_rows || partitions == 1 {
        return vec![groups];
    }
    let laps = (selected / STRIPE_ROWS / partitions).clamp(1, STRIPES_PER_PARTITION);
    let batches = selected.div_ceil(batch_rows);
    let stripe_batches = batches.div_ceil(partitions * laps).max(STRIPE_BATCHES);
    let stripe_rows = stripe_batches * batch_rows;
    let mut dealt = vec![Vec::new(); partitions];
    let mut first = 0;
    for mut group in groups {
        loop {
            let stripe = first / stripe_rows;
            let room = (stripe + 1) * stripe_rows - first;
            let (part, rest) = match group.split_after(room) {
                Some((part, rest)) => (part, Some(rest)),
                None => (group, None),
            };
            first += part.selected();
            if let Some(dealt) = dealt.get_mut(stripe % partitions) {
                dealt.push(part);
            }
            match rest {
                Some(rest) => group = rest,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, RecordBatchOptions};
    use arrow::buffer::BooleanBuffer;
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::datasource::listing::PartitionedFile;
    use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, UnboundedMemoryPool};

    use super::super::extremes::Extremes;
    use super::*;

    /// Row groups of so many rows, of which every `step`th is selected.
    fn groups(rows: &[usize], step: usize) -> Vec<Group> {
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let file = Arc::new(PartitionedFile::new("file", 1));
        let group = |(index, rows): (usize, &usize)| {
            let bits = BooleanBuffer::collect_bool(*rows, |row| row % step == step - 1);
            let memory = MemoryConsumer::new("test").register(&pool);
            let extremes = Arc::new(Extremes::new(memory.new_empty()));
            Group::new(&file, [index, 3], bits, &extremes, &Arc::new(memory))
        };
        rows.iter().enumerate().map(group).collect()
    }

    fn selected(dealt: &[Vec<Group>]) -> Vec<Vec<usize>> {
        let of = |groups: &Vec<Group>| groups.iter().map(Group::selected).collect();
        dealt.iter().map(of).collect()
    }

    #[test]
    fn partitions_are_cut_by_selected_rows_alone() {
        let sums = |dealt: Vec<Vec<Group>>| -> Vec<usize> {
            let dealt = selected(&dealt);
            dealt.iter().map(|parts| parts.iter().sum()).collect()
        };
        for (rows, step) in [
            (&[100, 900][..], 1),
            (&[1_200, 300, 500][..], 2),
            (&[9_000][..], 9),
        ] {
            assert_eq!(sums(deal(groups(rows, step), 3, 10)), [340, 340, 320]);
            assert_eq!(sums(deal(groups(rows, step), 3, 50)), [400, 400, 200]);
            assert_eq!(
                sums(deal(groups(rows, step), 5, 30)),
                [240, 240, 240, 240, 40]
            );
            assert_eq!(
                sums(deal(groups(rows, step), 6, 100)),
                [800, 200, 0, 0, 0, 0]
            );
            assert_eq!(sums(deal(groups(rows, step), 1, 100)), [1_000]);
            assert_eq!(
                sums(deal(groups(rows, step), 3, 1_000)),
                [1_000],
                "one batch"
            );
            assert_eq!(sums(deal(groups(rows, step), 3, 1)), [334, 334, 332]);
        }
        assert_eq!(sums(deal(Vec::new(), 3, 100)), [0]);
        // What is cut is whole: a group's end, then the next one's begin.
        assert_eq!(
            selected(&deal(groups(&[500, 500], 1), 2, 30)),
            [vec![500, 10], vec![490]]
        );
    }

    #[test]
    fn partitions_of_a_large_table_read_several_stripes() {
        let rows = [3 << 20, 1 << 20, (1 << 20) + 5];
        // Four stripes of 21 batches.
        let dealt = selected(&deal(groups(&rows, 1), 2, 1 << 16));
        let stripe = 21 << 16;
        let (of_first, of_second) = ((3 << 20) - 2 * stripe, 3 * stripe - (3 << 20));
        let rest = (1 << 20) - of_second;
        let odd = vec![stripe, rest, (1 << 20) + 5];
        assert_eq!(dealt, [vec![stripe, of_first, of_second], odd]);
        let of_half = selected(&deal(groups(&rows, 2), 2, 1 << 16));
        assert_eq!(of_half.iter().flatten().sum::<usize>(), (5 << 19) + 2);
    }

    fn batch(from: i32, to: i32) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("n", DataType::Int32, false)]);
        let numbers = Int32Array::from_iter_values(from..to);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(numbers)]).expect("fits")
    }

    fn lengths(windows: &mut Windows) -> Vec<usize> {
        windows.end().expect("ends");
        std::iter::from_fn(|| windows.next())
            .map(|batch| batch.num_rows())
            .collect()
    }

    #[test]
    fn a_window_has_its_rows_whether_or_not_others_were_read() {
        let mut windows = Windows::new(batch(0, 0).schema(), 10);
        windows.push(batch(0, 4)).expect("taken");
        windows.pass(3).expect("passed");
        windows.push(batch(7, 25)).expect("taken");
        windows.pass(15).expect("passed");
        windows.push(batch(40, 50)).expect("taken");
        windows.push(batch(50, 51)).expect("taken");
        windows.end().expect("ends");
        let next = std::iter::from_fn(|| windows.next());
        let found: Vec<RecordBatch> = next.collect();
        let first = [batch(0, 4), batch(7, 10)];
        let first = arrow::compute::concat_batches(&batch(0, 0).schema(), &first);
        assert_eq!(
            found,
            [
                first.expect("fits"),
                batch(10, 20),
                batch(20, 25),
                batch(40, 50),
                batch(50, 51)
            ]
        );
    }

    #[test]
    fn windows_of_one_row_and_rows_without_columns() {
        let mut windows = Windows::new(batch(0, 0).schema(), 1);
        windows.push(batch(0, 3)).expect("taken");
        assert_eq!(lengths(&mut windows), [1, 1, 1]);
        let options = RecordBatchOptions::new().with_row_count(Some(25));
        let bare = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options);
        let mut windows = Windows::new(Arc::new(Schema::empty()), 10);
        windows.push(bare.expect("fits")).expect("taken");
        assert_eq!(lengths(&mut windows), [10, 10, 5]);
    }
}
