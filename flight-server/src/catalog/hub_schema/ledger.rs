//! `usage`, `queries` and `audit`: the ledger, read page by page.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, SchemaRef};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use hubflight_ledger::{AuditRecord, Filter, Page, QueryRecord, UsageRecord};
use rust_decimal::Decimal;

use super::{Batches, Scope, SystemTable, batch, instant, integer, text};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::opposition;

/// Records of one page, which is one batch.
const PAGE_ROWS: u32 = 4096;
/// Money as the ledger rounds it: millionths.
const COST: DataType = DataType::Decimal128(18, 6);

fn filter(scope: &Scope) -> Filter {
    Filter {
        project: scope.project().map(str::to_owned),
        ..Filter::default()
    }
}

/// Pages from `read` until one is not full; `seq` tells where the next one starts.
fn pages<R, F>(
    schema: SchemaRef,
    read: impl Fn(Page) -> F + Send + 'static,
    seq: fn(&R) -> i64,
    make: fn(SchemaRef, &[R]) -> Result<RecordBatch>,
) -> Batches
where
    R: Send + 'static,
    F: Future<Output = Result<Vec<R>>> + Send,
{
    let state = (Some(0_i64), read, schema);
    futures::stream::try_unfold(state, move |(after, read, schema)| async move {
        let Some(after_seq) = after else {
            return Ok::<_, Error>(None);
        };
        let page = Page {
            after_seq,
            rows_max: PAGE_ROWS,
        };
        let records = read(page).await?;
        let full = records.len() >= PAGE_ROWS as usize;
        let next = records.last().filter(|_| full).map(seq);
        let made = make(Arc::clone(&schema), &records)?;
        Ok(Some((made, (next, read, schema))))
    })
    .boxed()
}

pub fn usage(hub: Arc<Hub>, scope: Scope) -> SystemTable {
    let fields = vec![
        text("usage_id"),
        text("statement_id"),
        Field::new("attempt", DataType::Int32, true),
        text("person"),
        text("project"),
        text("organisation"),
        instant("started_at"),
        instant("ended_at"),
        text("kind"),
        text("outcome"),
        text("error_kind"),
        integer("rows_returned"),
        integer("bytes_returned"),
        integer("bytes_scanned"),
        text("units"),
        integer("failed_rows"),
        Field::new("cost", COST, true),
        text("currency"),
        text("tariff_version"),
    ];
    SystemTable::new(fields, move |schema| {
        let (hub, filter) = (Arc::clone(&hub), filter(&scope));
        let read = move |page| {
            let (hub, filter) = (Arc::clone(&hub), filter.clone());
            async move { Ok(hub.ledger.usage(&filter, page).await?) }
        };
        pages(schema, read, |record: &UsageRecord| record.seq, usage_batch)
    })
}

fn usage_batch(schema: SchemaRef, records: &[UsageRecord]) -> Result<RecordBatch> {
    let costs = records.iter().map(|record| millionths(record.cost));
    let costs: Decimal128Array = costs
        .collect::<Option<Vec<i128>>>()
        .unwrap_or_default()
        .into();
    let columns: Vec<ArrayRef> = vec![
        texts(records, |r| Some(r.usage_id.clone())),
        texts(records, |r| Some(r.statement_id.to_string())),
        Arc::new(Int32Array::from_iter(
            records.iter().map(|r| i32::try_from(r.attempt).ok()),
        )),
        texts(records, |r| Some(r.person.clone())),
        texts(records, |r| r.project.clone()),
        texts(records, |r| r.organisation.clone()),
        instants(records, |r| Some(r.started_at)),
        instants(records, |r| Some(r.ended_at)),
        texts(records, |r| Some(r.kind.clone())),
        texts(records, |r| Some(r.outcome.clone())),
        texts(records, |r| r.error_kind.clone()),
        integers(records, |r| Some(r.rows_returned)),
        integers(records, |r| Some(r.bytes_returned)),
        integers(records, |r| Some(r.bytes_scanned)),
        texts(records, |r| serde_json::to_string(&r.units).ok()),
        integers(records, |r| Some(r.failed_rows)),
        Arc::new(costs.with_precision_and_scale(18, 6)?),
        texts(records, |r| Some(r.currency.clone())),
        texts(records, |r| Some(r.tariff_version.clone())),
    ];
    batch(schema, columns)
}

pub fn queries(hub: Arc<Hub>, scope: Scope) -> SystemTable {
    let fields = vec![
        text("statement_id"),
        Field::new("attempt", DataType::Int32, true),
        text("person"),
        text("project"),
        text("kind"),
        text("client"),
        text("tags"),
        instant("opened_at"),
        instant("started_at"),
        instant("ended_at"),
        text("state"),
        text("error_kind"),
        integer("rows_returned"),
        integer("bytes_returned"),
        integer("failed_rows"),
        text("row_errors"),
    ];
    SystemTable::new(fields, move |schema| {
        let (hub, filter) = (Arc::clone(&hub), filter(&scope));
        let read = move |page| {
            let (hub, filter) = (Arc::clone(&hub), filter.clone());
            async move { Ok(hub.ledger.queries(&filter, page).await?) }
        };
        pages(
            schema,
            read,
            |record: &QueryRecord| record.seq,
            queries_batch,
        )
    })
}

fn queries_batch(schema: SchemaRef, records: &[QueryRecord]) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        texts(records, |r| Some(r.statement_id.to_string())),
        Arc::new(Int32Array::from_iter(
            records.iter().map(|r| i32::try_from(r.attempt?).ok()),
        )),
        texts(records, |r| Some(r.person.clone())),
        texts(records, |r| r.project.clone()),
        texts(records, |r| Some(r.kind.clone())),
        texts(records, |r| Some(r.client.clone())),
        texts(records, |r| serde_json::to_string(&r.tags).ok()),
        instants(records, |r| Some(r.opened_at)),
        instants(records, |r| r.started_at),
        instants(records, |r| r.ended_at),
        texts(records, |r| Some(r.state.clone())),
        texts(records, |r| r.error_kind.clone()),
        integers(records, |r| Some(r.rows_returned)),
        integers(records, |r| Some(r.bytes_returned)),
        integers(records, |r| Some(r.failed_rows)),
        texts(records, |r| serde_json::to_string(&r.row_errors).ok()),
    ];
    batch(schema, columns)
}

pub fn audit(hub: Arc<Hub>, scope: Scope) -> SystemTable {
    let fields = vec![
        integer("seq"),
        instant("at"),
        text("event"),
        text("person"),
        text("project"),
        text("statement_id"),
        Field::new("attempt", DataType::Int32, true),
        text("habilitations"),
        text("datasets"),
        text("columns"),
        text("outcome"),
        text("error_kind"),
        integer("rows_returned"),
        integer("bytes_returned"),
        text("client"),
    ];
    SystemTable::new(fields, move |schema| {
        // That persons were excluded concerns whoever reads data of persons; who they are nobody.
        let filter = Filter {
            of_all: Some(opposition::APPLIED),
            ..filter(&scope)
        };
        let hub = Arc::clone(&hub);
        let read = move |page| {
            let (hub, filter) = (Arc::clone(&hub), filter.clone());
            async move { Ok(hub.ledger.audit(&filter, page).await?) }
        };
        pages(schema, read, |record: &AuditRecord| record.seq, audit_batch)
    })
}

fn audit_batch(schema: SchemaRef, records: &[AuditRecord]) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(records.iter().map(|r| r.seq))),
        instants(records, |r| Some(r.at)),
        texts(records, |r| Some(r.event.clone())),
        texts(records, |r| r.person.clone()),
        texts(records, |r| r.project.clone()),
        texts(records, |r| Some(r.statement_id?.to_string())),
        Arc::new(Int32Array::from_iter(
            records.iter().map(|r| i32::try_from(r.attempt?).ok()),
        )),
        texts(records, |r| serde_json::to_string(&r.habilitations).ok()),
        texts(records, |r| serde_json::to_string(&r.datasets).ok()),
        texts(records, |r| Some(r.columns.to_string())),
        texts(records, |r| Some(r.outcome.clone())),
        texts(records, |r| r.error_kind.clone()),
        integers(records, |r| Some(r.rows_returned)),
        integers(records, |r| Some(r.bytes_returned)),
        texts(records, |r| Some(r.client.clone())),
    ];
    batch(schema, columns)
}

/// The ledger's amounts have at most six decimals and fit.
fn millionths(amount: Decimal) -> Option<i128> {
    let mut scaled = amount;
    scaled.rescale(6);
    (scaled.scale() == 6).then(|| scaled.mantissa())
}

fn texts<R>(records: &[R], value: impl Fn(&R) -> Option<String>) -> ArrayRef {
    Arc::new(StringArray::from_iter(records.iter().map(value)))
}

/// Counts saturate at the largest number that SQL shows.
fn integers<R>(records: &[R], value: impl Fn(&R) -> Option<u64>) -> ArrayRef {
    let shown = |record| value(record).map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    Arc::new(Int64Array::from_iter(records.iter().map(shown)))
}

fn instants<R>(records: &[R], value: impl Fn(&R) -> Option<DateTime<Utc>>) -> ArrayRef {
    let micros = records
        .iter()
        .map(|record| Some(value(record)?.timestamp_micros()));
    Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC"))
}
