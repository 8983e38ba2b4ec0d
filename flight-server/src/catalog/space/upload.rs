//! Rows that a client sends for a table, all or none of them.
//!
//! They are written as they come, and belong to nobody until they are committed. What was sent is
//! stored as it was sent, or refused: a value that another type would change is an error. Since
//! they come once, a conflict with another statement is the client's to try again; two that append
//! to one table have none.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::sql::sqlparser::ast::ObjectName;
use futures::StreamExt;
use futures::stream::BoxStream;
use hubflight_store::ObjectKind;
use hubflight_wire::uploads;

use super::change::{Change, Failure, changeable, declared_schema};
use super::ddl::{self, files_of, new_table};
use super::files::{SpaceWriter, Target, Written, check_storable};
use super::labels::Labels;
use super::names::{Use, target};
use super::rows::changes;
use crate::error::{Error, Result};
use crate::plan::wire::{conform, plain_schema};

/// What a client wants where the table is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Create,
    Fail,
}

/// What a client wants where the table is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Fail,
    Append,
    Replace,
}

/// A batch as it was sent.
#[derive(Debug)]
pub struct Sent {
    pub batch: RecordBatch,
    /// What its rows take as plain values.
    pub bytes: u64,
}

/// Rows for a table, as they come.
pub struct Upload {
    pub table: ObjectName,
    pub missing: Missing,
    pub existing: Existing,
    /// Of each batch.
    pub schema: SchemaRef,
    pub batches: BoxStream<'static, Result<Sent>>,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({self})")
    }
}

/// As the audit keeps it, in place of a text.
impl fmt::Display for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = match self.missing {
            Missing::Create => "create",
            Missing::Fail => "fail",
        };
        let existing = match self.existing {
            Existing::Fail => "fail",
            Existing::Append => "append",
            Existing::Replace => "replace",
        };
        let table = &self.table;
        write!(
            f,
            "CommandStatementIngest {table} (if_not_exist: {missing}, if_exists: {existing})"
        )
    }
}

impl Upload {
    /// Whether a merge of files could disturb it: adding rows does not.
    pub(super) fn replaces_files(&self) -> bool {
        self.existing == Existing::Replace
    }
}

impl Change<'_> {
    /// Stores the rows and returns their number.
    pub(super) async fn upload(&self, upload: Upload) -> Result<u64, Failure> {
        let usage = match upload.missing {
            Missing::Create => Use::Make,
            Missing::Fail => Use::Change,
        };
        let name = target(self.planning, &upload.table, usage)?;
        let is_there = self.space.object(&name).is_some();
        match (is_there, upload.missing, upload.existing) {
            (false, Missing::Fail, _) | (true, _, Existing::Append) => {
                self.append(&name, upload).await
            }
            _ => self.store(&name, upload).await,
        }
    }

    async fn append(&self, name: &str, upload: Upload) -> Result<u64, Failure> {
        let object = changeable(self.space, name)?;
        let fitting = Fitting::new(name, &upload.schema, &object.schema)?;
        let target = self.target(name, &object.schema, &[]).await?;
        let (written, rows) = self.receive(target, fitting, upload).await?;
        let added = written.files.clone();
        let changes = changes(object, &written, Vec::new(), None)?;
        self.commit_changes(changes, written, false).await?;
        self.compact_later(object, &added);
        Ok(rows)
    }

    /// A new table, in the place of one that is there where that is asked for.
    async fn store(&self, name: &str, upload: Upload) -> Result<u64, Failure> {
        let existing = ddl::Existing {
            replace: upload.existing == Existing::Replace,
            keep: false,
        };
        let replaced = self.room_for(name, ObjectKind::Table, existing)?.flatten();
        let schema = declared_schema(&upload.schema)?;
        check_storable(&schema)?;
        let fitting = Fitting::new(name, &upload.schema, &schema)?;
        let target = self.target(name, &schema, files_of(replaced)).await?;
        let (written, rows) = self.receive(target, fitting, upload).await?;
        let object = new_table(name, &schema, &Labels::default())?;
        self.make(replaced, object, written, false).await?;
        Ok(rows)
    }

    /// Writes the rows as they come; each batch is in the memory of the statement meanwhile.
    async fn receive(
        &self,
        target: Target,
        fitting: Fitting,
        upload: Upload,
    ) -> Result<(Written, u64)> {
        let hub = Arc::clone(self.planning.hub);
        let mut batches = upload.batches;
        self.on_cpu(async move {
            let (_, pool) = hub.engine.query_environment();
            let pool: Arc<dyn MemoryPool> = pool;
            let held = MemoryConsumer::new("rows for a table").register(&pool);
            let mut writer = SpaceWriter::new(target, &pool)?;
            let mut rows = 0;
            while let Some(sent) = batches.next().await {
                let Sent { batch, bytes } = sent?;
                hold(&held, &batch, bytes)?;
                writer.append_all(&fitting.fit(&batch)?)?;
                rows += batch.num_rows() as u64;
                drop(batch);
                held.free();
            }
            Ok((writer.finish()?, rows))
        })
        .await
    }
}

/// Reserves what a batch takes: as it came, and as the plain values that are made of it.
fn hold(held: &MemoryReservation, batch: &RecordBatch, bytes: u64) -> Result<()> {
    let values = usize::try_from(bytes).unwrap_or(usize::MAX);
    // A column of NULLs has no bytes, and text that is made of it has offsets.
    let offsets = batch.num_rows().saturating_mul(batch.num_columns() * 8);
    let made = values.saturating_mul(2).saturating_add(offsets);
    let came = usize::try_from(uploads::held_bytes(batch)).unwrap_or(usize::MAX);
    let all = came.saturating_add(made);
    held.try_resize(all).map_err(|_| {
        Error::exhausted(format!(
            "a batch of the rows for a table takes {all} bytes of memory, more than is left to \
             the statement; send smaller batches"
        ))
    })
}

/// How the columns that are sent become those of a table, each by its name.
#[derive(Debug)]
struct Fitting {
    /// As the rows are sent, without dictionaries and views.
    plain: SchemaRef,
    /// Where each column of the table is among those that are sent.
    places: Vec<usize>,
    schema: SchemaRef,
}

impl Fitting {
    fn new(table: &str, sent: &Schema, schema: &SchemaRef) -> Result<Self> {
        let plain = plain_schema(sent, false);
        let mut named = HashMap::new();
        for (place, field) in plain.fields().iter().enumerate() {
            if named.insert(field.name().as_str(), place).is_some() {
                return Err(Error::invalid(format!(
                    "the rows for `space.{table}` have two columns `{}`; give one another name",
                    field.name()
                )));
            }
        }
        let mut places = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let place = named.remove(field.name().as_str()).ok_or_else(|| {
                Error::invalid(format!(
                    "the rows for `space.{table}` lack its column `{}`; send all of its columns",
                    field.name()
                ))
            })?;
            check_fits(table, plain.field(place), field)?;
            places.push(place);
        }
        if let Some(name) = named.keys().min() {
            return Err(Error::invalid(format!(
                "the rows for `space.{table}` have a column `{name}`, which the table has not; \
                 leave it out, or replace the table"
            )));
        }
        Ok(Self {
            plain,
            places,
            schema: Arc::clone(schema),
        })
    }

    /// The rows as the table's columns.
    fn fit(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let batch = conform(batch, &self.plain)?;
        let columns = self.places.iter().zip(self.schema.fields());
        let columns = columns.map(|(place, field)| exactly(batch.column(*place), field));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let fields = self.schema.fields().iter();
        // Whether there are NULLs where none may be is looked at where rows are written.
        let fields = fields.map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Schema::new(fields.collect::<Vec<_>>());
        Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
    }
}

/// Whether values of one type can become another's and be compared with what they were. Those of
/// a fixed length would have that length where there is no value.
fn check_fits(table: &str, sent: &Field, field: &Field) -> Result<()> {
    let (from, to) = (sent.data_type(), field.data_type());
    check_counted(table, sent)?;
    let fits = from == to
        || *from == DataType::Null && !is_fixed(to)
        || !is_fixed(from) && !is_fixed(to) && can_cast_types(from, to) && can_cast_types(to, from);
    match fits {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "column `{}` of `space.{table}` has type {to}, and the rows have {from} for it; cast \
             it before you send it",
            field.name()
        ))),
    }
}

/// Refuses types whose values take no bytes, so that any number of them is a short message.
fn check_counted(table: &str, sent: &Field) -> Result<()> {
    let counts = match sent.data_type() {
        DataType::Null => true,
        other => all_inside(other, &|inner| {
            !matches!(inner, DataType::Null | DataType::FixedSizeBinary(..=0))
                && !matches!(inner, DataType::Struct(fields) if fields.is_empty())
                && !matches!(inner, DataType::FixedSizeList(_, ..=0))
        }),
    };
    match counts {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "column `{}` of the rows for `space.{table}` has type {}, whose values hold nothing; \
             leave it out",
            sent.name(),
            sent.data_type()
        ))),
    }
}

fn is_fixed(data_type: &DataType) -> bool {
    let free = |inner: &DataType| {
        !matches!(
            inner,
            DataType::FixedSizeBinary(_) | DataType::FixedSizeList(..)
        )
    };
    !all_inside(data_type, &free)
}

/// Whether a type and all types inside it are as `is` asks.
fn all_inside(data_type: &DataType, is: &impl Fn(&DataType) -> bool) -> bool {
    let inside = match data_type {
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => all_inside(field.data_type(), is),
        DataType::Struct(fields) => fields.iter().all(|field| all_inside(field.data_type(), is)),
        _ => true,
    };
    inside && is(data_type)
}

/// The values in the field's type; an error where that would change one.
fn exactly(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    let (from, to) = (column.data_type(), field.data_type());
    if from == to {
        return Ok(Arc::clone(column));
    }
    let exact = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let stored = cast_with_options(column, to, &exact);
    let back = match (&stored, from) {
        // There is no value to compare.
        (Ok(stored), DataType::Null) => return Ok(Arc::clone(stored)),
        (Ok(stored), _) => cast_with_options(stored, from, &exact),
        (Err(_), _) => return Err(changed(column, field)),
    };
    match (stored, back) {
        (Ok(stored), Ok(back)) if &back == column => Ok(stored),
        _ => Err(changed(column, field)),
    }
}

fn changed(column: &ArrayRef, field: &Field) -> Error {
    Error::invalid(format!(
        "a value of column `{}` has type {} and would be another one as {}, the table's type; \
         cast it before you send it",
        field.name(),
        column.data_type(),
        field.data_type()
    ))
}
