//! The smallest and largest visible values of row groups and their parts, by column, learnt while a query reads
//! them and used to leave row groups unread.
//!
//! A file's own statistics count hidden rows: a view that begins in 2015 over files that begin in
//! 2006 is read from end to end for a date in 2010. What is learnt here comes from visible rows
//! alone, so what it saves, and the time that this takes, tells nothing of the others.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::functions_aggregate::min_max::{MaxAccumulator, MinAccumulator};
use datafusion::logical_expr::Accumulator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

use super::filters::is_simple;

/// Texts that are longer are not kept, nor anything of their column.
const VALUE_BYTES_MAX: usize = 128;

/// Of more parts of a row group nothing is kept.
const PARTS_MAX: usize = 64;

/// What is known of the visible rows of one row group, or of a part of it.
pub struct Extremes {
    columns: RwLock<HashMap<String, (ScalarValue, ScalarValue)>>,
    /// By the rows that they are.
    parts: Mutex<HashMap<Range<usize>, Arc<Extremes>>>,
    /// What is kept is reserved here, until they are dropped.
    memory: MemoryReservation,
    is_kept: bool,
}

impl Extremes {
    pub fn new(memory: MemoryReservation) -> Self {
        Self {
            columns: RwLock::default(),
            parts: Mutex::default(),
            memory,
            is_kept: true,
        }
    }

    /// Those of a part of the row group.
    pub fn of_part(&self, rows: Range<usize>) -> Arc<Self> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.get(&rows) {
            return Arc::clone(part);
        }
        let mut part = Self::new(self.memory.new_empty());
        part.is_kept = parts.len() < PARTS_MAX && part.memory.try_grow(size_of::<Self>()).is_ok();
        let part = Arc::new(part);
        if part.is_kept {
            parts.insert(rows, Arc::clone(&part));
        }
        part
    }

    /// True where no visible row can pass a filter of the user.
    pub fn exclude(&self, filter: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> bool {
        if self.known().is_empty() {
            return false;
        }
        let predicate = PruningPredicateBuilder::new()
            .with_file_schema(Arc::clone(schema))
            .build(Arc::clone(filter));
        // What cannot be judged is read.
        predicate.is_some_and(|predicate| {
            predicate
                .prune(self)
                .is_ok_and(|keep| keep.iter().all(|keep| !keep))
        })
    }

    /// The smallest and the largest visible value of a column, where they were learnt.
    pub fn range(&self, column: &str) -> Option<(ScalarValue, ScalarValue)> {
        self.known().get(column).cloned()
    }

    /// Begins to learn what is not known yet of the columns of a schema.
    pub fn learn(self: &Arc<Self>, schema: &SchemaRef) -> Lesson {
        let known = self.known();
        let columns = schema.fields().iter().enumerate();
        let columns = columns.filter(|_| self.is_kept);
        let columns = columns.filter_map(|(index, field)| {
            let data_type = field.data_type();
            if known.contains_key(field.name()) || !is_simple(data_type) || is_binary(data_type) {
                return None;
            }
            Some(Learning {
                index,
                name: field.name().clone(),
                min: MinAccumulator::try_new(data_type).ok()?,
                max: MaxAccumulator::try_new(data_type).ok()?,
            })
        });
        Lesson {
            columns: columns.collect(),
            of: Arc::clone(self),
        }
    }

    fn known(&self) -> std::sync::RwLockReadGuard<'_, HashMap<String, (ScalarValue, ScalarValue)>> {
        self.columns.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(
        &self,
        column: &Column,
        which: fn(&(ScalarValue, ScalarValue)) -> &ScalarValue,
    ) -> Option<ArrayRef> {
        which(self.known().get(&column.name)?).to_array().ok()
    }
}

fn is_binary(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, LargeBinary};
    matches!(data_type, Binary | BinaryView | LargeBinary)
}

/// One container: the row group. Null counts are not known, and need not be.
impl PruningStatistics for Extremes {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column, |(min, _)| min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column, |(_, max)| max)
    }

    fn num_containers(&self) -> usize {
        1
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(
        &self,
        _column: &Column,
        _values: &std::collections::HashSet<ScalarValue>,
    ) -> Option<BooleanArray> {
        None
    }
}

/// The extremes of one reading, kept only when all rows have been read.
pub struct Lesson {
    columns: Vec<Learning>,
    of: Arc<Extremes>,
}

struct Learning {
    index: usize,
    name: String,
    min: MinAccumulator,
    max: MaxAccumulator,
}

impl Lesson {
    /// Takes visible rows in.
    pub fn see(&mut self, rows: &RecordBatch) -> Result<()> {
        for learning in &mut self.columns {
            if let Some(values) = rows.columns().get(learning.index) {
                learning.min.update_batch(std::slice::from_ref(values))?;
                learning.max.update_batch(std::slice::from_ref(values))?;
            }
        }
        Ok(())
    }

    /// All visible rows have been seen.
    pub fn end(self) -> Result<()> {
        for mut learning in self.columns {
            let (min, max) = (learning.min.evaluate()?, learning.max.evaluate()?);
            let bytes = min.size() + max.size() + learning.name.len();
            if !is_kept(&min) || !is_kept(&max) || self.of.memory.try_grow(bytes).is_err() {
                continue;
            }
            let mut columns = self
                .of
                .columns
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            if columns.insert(learning.name, (min, max)).is_some() {
                // Two queries read the row group at once.
                self.of.memory.shrink(bytes);
            }
        }
        Ok(())
    }
}

/// A value that comparisons order as the aggregates do. NULL stands for a column without values.
fn is_kept(value: &ScalarValue) -> bool {
    let is_number = match value {
        ScalarValue::Float64(Some(value)) => !value.is_nan(),
        ScalarValue::Float32(Some(value)) => !value.is_nan(),
        ScalarValue::Float16(_) => false,
        _ => true,
    };
    is_number && !value.is_null() && value.size() <= VALUE_BYTES_MAX + size_of::<ScalarValue>()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int32Array, StringArray};
    use arrow::datatypes::{Field, Schema};
    use datafusion::execution::memory_pool::{
        GreedyMemoryPool, MemoryConsumer, MemoryPool, UnboundedMemoryPool,
    };
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::{binary, col, lit};

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("day", DataType::Int32, true),
            Field::new("code", DataType::Utf8, true),
            Field::new("dose", DataType::Float64, true),
        ]))
    }

    fn rows(days: &[i32], codes: &[&str], doses: &[f64]) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(days.to_vec())),
            Arc::new(StringArray::from(codes.to_vec())),
            Arc::new(Float64Array::from(doses.to_vec())),
        ];
        RecordBatch::try_new(schema(), columns).expect("fits")
    }

    fn extremes(pool: Arc<dyn MemoryPool>) -> Arc<Extremes> {
        Arc::new(Extremes::new(MemoryConsumer::new("test").register(&pool)))
    }

    fn excludes(known: &Extremes, column: &str, op: Operator, value: ScalarValue) -> bool {
        let column = col(column, &schema()).expect("there");
        let filter = binary(column, op, lit(value), &schema()).expect("compares");
        known.exclude(&filter, &schema())
    }

    #[test]
    fn what_was_seen_to_the_end_excludes_what_no_row_passes() {
        use Operator::{Eq, Gt, Lt};
        let known = extremes(Arc::new(UnboundedMemoryPool::default()));
        let text = |text: &str| ScalarValue::from(text);
        let mut lesson = known.learn(&schema());
        lesson
            .see(&rows(&[20, 10], &["B", "C"], &[0.5, 1.5]))
            .expect("seen");
        assert!(!excludes(&known, "day", Lt, 10.into()), "not at its end");
        drop(lesson);
        assert!(!excludes(&known, "day", Lt, 10.into()), "given up");

        let mut lesson = known.learn(&schema());
        lesson
            .see(&rows(&[20, 10], &["B", "C"], &[0.5, f64::NAN]))
            .expect("seen");
        lesson.see(&rows(&[15], &["D"], &[2.5])).expect("seen");
        lesson.end().expect("kept");
        assert!(excludes(&known, "day", Lt, 10.into()));
        assert!(excludes(&known, "day", Gt, 20.into()));
        assert!(excludes(&known, "code", Eq, text("A")) && excludes(&known, "code", Gt, text("D")));
        assert!(!excludes(&known, "day", Lt, 11.into()) && !excludes(&known, "day", Eq, 12.into()));
        assert!(!excludes(&known, "code", Eq, text("C")));
        assert!(!excludes(&known, "dose", Gt, 9.0.into()), "not ordered");
        // Nothing is learnt twice, and what is unknown is learnt later.
        assert_eq!(known.learn(&schema()).columns.len(), 1);
    }

    #[test]
    fn long_texts_and_what_finds_no_memory_are_not_kept() {
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        let small: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1));
        let wide: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        for (pool, kept) in [(small, 0), (Arc::clone(&wide), 2)] {
            let known = extremes(Arc::clone(&pool));
            let mut lesson = known.learn(&schema());
            lesson.see(&rows(&[1], &[&long], &[1.0])).expect("seen");
            lesson.end().expect("kept or not");
            assert_eq!(known.known().len(), kept);
            assert_eq!(pool.reserved() > 0, kept > 0);
        }
    }

    /// As many parts as are kept learn; the others reserve nothing, and nothing outlives them all.
    #[test]
    fn parts_learn_for_themselves_and_are_bounded() {
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let known = extremes(Arc::clone(&pool));
        let learn = |part: usize| {
            let of_part = known.of_part(part..part + 1);
            let mut lesson = of_part.learn(&schema());
            let day = i32::try_from(part).expect("small");
            lesson.see(&rows(&[day], &["A"], &[0.5])).expect("seen");
            lesson.end().expect("kept or not");
        };
        (0..PARTS_MAX).for_each(learn);
        let reserved = pool.reserved();
        (PARTS_MAX..2 * PARTS_MAX).for_each(learn);
        (0..PARTS_MAX).for_each(learn);
        assert_eq!(pool.reserved(), reserved);
        let day = |part| known.of_part(part..part + 1).range("day");
        assert_eq!(day(3), Some((3.into(), 3.into())));
        assert_eq!(day(PARTS_MAX), None);
        assert!(known.range("day").is_none(), "the whole was not read");
        drop(known);
        assert_eq!(pool.reserved(), 0);
    }
}
