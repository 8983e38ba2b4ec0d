//! `datasets`, `tables`, `columns`, `functions`, `habilitations` and `workers`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, BooleanBuilder, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{Field, SchemaRef};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use hubflight_policy::{
    LinkageKeys, REMARKS_KEY, Sources, UNIT_KEY, describe_table, granted_tables, open_table,
};
use hubflight_rights::dataset::Dataset;
use hubflight_rights::habilitation::Habilitation;
use hubflight_store::{Rights, VisibleSizes};
use hubflight_udfs::WorkerStatus;

use super::{Batches, Scope, SystemTable, batch, boolean, instant, integer, text};
use crate::access::Asking;
use crate::catalog::visible::{Known, known};
use crate::error::Result;
use crate::hub::Hub;
use crate::versions::{Version, states};

/// One batch, made by a future.
pub(super) fn once(made: impl Future<Output = Result<RecordBatch>> + Send + 'static) -> Batches {
    futures::stream::once(made).boxed()
}

/// A dataset as a scope sees it.
struct Seen {
    dataset: Arc<Dataset>,
    /// None for administrators, who see all of them and read none.
    habilitation: Option<Arc<Habilitation>>,
    /// It can be queried, and is not only listed.
    is_open: bool,
}

/// What a scope may see of the datasets: through its habilitations, or all of them.
async fn seen(hub: &Hub, rights: &Rights<'_>, scope: &Scope) -> Result<Vec<Seen>> {
    let Scope::Project { project, who, zone } = scope else {
        let all = hub.datasets.iter().map(|dataset| Seen {
            dataset: Arc::clone(dataset),
            habilitation: None,
            is_open: false,
        });
        return Ok(all.collect());
    };
    let at = Utc::now();
    let asking = Asking {
        who,
        project,
        zone,
        at,
    };
    let (access, _) = hub.access(rights, asking).await?;
    let listed = access.into_iter().filter_map(|(dataset, access)| {
        Some(Seen {
            dataset,
            habilitation: Some(Arc::clone(access.listed()?)),
            is_open: access.open().is_some(),
        })
    });
    Ok(listed.collect())
}

pub fn datasets(hub: Arc<Hub>, scope: Scope) -> SystemTable {
    let fields = vec![
        text("name"),
        text("title"),
        text("producer"),
        integer("version"),
        boolean("synthetic"),
        text("mode"),
    ];
    SystemTable::new(fields, move |schema| {
        let (hub, scope) = (Arc::clone(&hub), scope.clone());
        once(async move {
            let mut rows = Rows::new(&schema);
            let rights = hub.store.rights().await?;
            for seen in seen(&hub, &rights, &scope).await? {
                let (dataset, habilitation) = (&seen.dataset, &seen.habilitation);
                rows.text(Some(&dataset.name));
                rows.text(Some(&dataset.title));
                rows.text(Some(&dataset.producer));
                rows.integer(Some(i64::from(dataset.version)));
                rows.boolean(Some(dataset.synthetic));
                rows.text(
                    habilitation
                        .as_deref()
                        .map(|habilitation| habilitation.mode.label()),
                );
            }
            rows.finish(schema)
        })
    })
}

pub fn tables(hub: Arc<Hub>, scope: Scope) -> SystemTable {
    let fields = vec![
        text("dataset"),
        text("name"),
        text("remarks"),
        text("primary_key"),
        integer("rows"),
        integer("bytes"),
    ];
    SystemTable::new(fields, move |schema| {
        let (hub, scope) = (Arc::clone(&hub), scope.clone());
        once(async move {
            let mut rows = Rows::new(&schema);
            let rights = hub.store.rights().await?;
            for seen in seen(&hub, &rights, &scope).await? {
                let measured = Measured::of(&hub, &rights, &seen).await;
                let sources = hub.datasets.as_ref();
                let dataset = &seen.dataset;
                for table in visible(dataset, seen.habilitation.as_deref()) {
                    let size = match &measured {
                        Some(measured) => measured.size(sources, &table),
                        None => Known::default(),
                    };
                    let described = dataset.table(&table);
                    rows.text(Some(&dataset.name));
                    rows.text(Some(&table));
                    rows.text(described.map(|table| table.remarks.as_str()));
                    rows.text(
                        described
                            .map(|table| table.primary_key.join(", "))
                            .as_deref(),
                    );
                    for size in [size.rows, size.bytes] {
                        rows.integer(size.and_then(|size| i64::try_from(size).ok()));
                    }
                }
            }
            rows.finish(schema)
        })
    })
}

/// What was measured of a dataset that is open.
struct Measured {
    sizes: VisibleSizes,
    habilitation: Arc<Habilitation>,
    keys: Arc<LinkageKeys>,
}

impl Measured {
    /// Nothing where nothing was measured, or where that cannot be told: a listing goes on.
    async fn of(hub: &Hub, rights: &Rights<'_>, seen: &Seen) -> Option<Self> {
        let habilitation = seen.habilitation.as_ref().filter(|_| seen.is_open)?;
        Self::find(hub, rights, &seen.dataset, habilitation)
            .await
            .inspect_err(|error| {
                let dataset = &seen.dataset.name;
                tracing::warn!(%error, %dataset, "a dataset is listed without sizes");
            })
            .ok()
            .flatten()
    }

    async fn find(
        hub: &Hub,
        rights: &Rights<'_>,
        dataset: &Dataset,
        habilitation: &Arc<Habilitation>,
    ) -> Result<Option<Self>> {
        let sizes = hub.store.visible_sizes(&dataset.name, dataset.version);
        let sizes = sizes.await?;
        if sizes.is_empty() {
            return Ok(None);
        }
        let (project, group) = (&habilitation.project, &habilitation.linkage_group);
        Ok(Some(Self {
            sizes,
            habilitation: Arc::clone(habilitation),
            keys: hub.linkage_keys(rights, project, group).await?,
        }))
    }

    /// What is known of the size of a table as it is seen here; nothing where it cannot be opened,
    /// which is told to whoever queries it.
    fn size(&self, sources: &dyn Sources, table: &str) -> Known {
        if !self.sizes.contains_key(table) {
            return Known::default();
        }
        open_table(sources, &self.habilitation, table, &self.keys)
            .inspect_err(|error| tracing::info!(%error, table, "a table is listed without a size"))
            .ok()
            .flatten()
            .map_or_else(Known::default, |table| known(&self.sizes, &table))
    }
}

/// The tables that a habilitation opens, or all of them for administrators.
fn visible(dataset: &Dataset, habilitation: Option<&Habilitation>) -> Vec<String> {
    match habilitation {
        Some(habilitation) => granted_tables(dataset, habilitation),
        None => dataset
            .tables
            .iter()
            .map(|table| table.name.clone())
            .collect(),
    }
}

pub fn columns(hub: Arc<Hub>, scope: Scope) -> SystemTable {
    let fields = vec![
        text("dataset"),
        text("table_name"),
        text("name"),
        integer("position"),
        text("data_type"),
        text("unit"),
        text("remarks"),
    ];
    SystemTable::new(fields, move |schema| {
        let (hub, scope) = (Arc::clone(&hub), scope.clone());
        once(async move {
            let mut rows = Rows::new(&schema);
            let rights = hub.store.rights().await?;
            for seen in seen(&hub, &rights, &scope).await? {
                let (dataset, habilitation) = (&seen.dataset, seen.habilitation.as_deref());
                for table in visible(dataset, habilitation) {
                    let shown = shown_schema(&hub, dataset, habilitation, &table);
                    rows.columns(&dataset.name, &table, shown.as_ref());
                }
            }
            rows.finish(schema)
        })
    })
}

/// What a table looks like; nothing where it is wrongly configured, which is told to whoever
/// queries it and must not hide the columns of all the others.
fn shown_schema(
    hub: &Hub,
    dataset: &Dataset,
    habilitation: Option<&Habilitation>,
    table: &str,
) -> Option<SchemaRef> {
    let sources = hub.datasets.as_ref();
    let Some(habilitation) = habilitation else {
        let source = sources.source(&dataset.name, table)?;
        return Some(source.schema());
    };
    describe_table(sources, habilitation, table)
        .inspect_err(|error| tracing::info!(%error, table, "a table is listed without columns"))
        .ok()
        .flatten()
}

pub fn functions(hub: Arc<Hub>) -> SystemTable {
    let fields = vec![
        text("name"),
        text("signature"),
        text("unit"),
        text("remarks"),
    ];
    SystemTable::new(fields, move |schema| {
        let offered = hub.config.workers.echo;
        once(async move {
            let mut rows = Rows::new(&schema);
            for function in hubflight_protocol::functions() {
                if function.name == "echo" && !offered {
                    continue;
                }
                rows.text(Some(function.name));
                rows.text(Some(&function.signature()));
                rows.text(Some(function.unit.as_str()));
                rows.text(Some(function.doc));
            }
            rows.finish(schema)
        })
    })
}

pub fn habilitations(hub: Arc<Hub>, scope: Scope) -> SystemTable {
    let fields = vec![
        text("id"),
        integer("version"),
        text("project"),
        text("dataset"),
        text("mode"),
        text("linkage_group"),
        text("export"),
        text("decision"),
        instant("valid_from"),
        instant("valid_to"),
        instant("revoked_at"),
        text("entered_by"),
        text("confirmed_by"),
        text("state"),
    ];
    SystemTable::new(fields, move |schema| {
        let (hub, scope) = (Arc::clone(&hub), scope.clone());
        once(async move {
            let mut rows = Rows::new(&schema);
            let found = match scope.project() {
                Some(project) => hub.store.habilitations_of(project).await?,
                None => hub.store.habilitations().await?,
            };
            let found = found.into_iter().map(Version::read);
            let versions = found.collect::<Result<Vec<_>>>()?;
            let states = states(&versions, Utc::now());
            for (Version { row, body }, state) in versions.iter().zip(states) {
                rows.text(Some(&row.id));
                rows.integer(Some(i64::from(row.version)));
                rows.text(Some(&row.project));
                rows.text(Some(&row.dataset));
                rows.text(Some(body.mode.label()));
                rows.text(Some(&body.linkage_group));
                rows.text(Some(body.export.label()));
                rows.text(Some(&body.decision));
                rows.instant(Some(body.valid_from));
                rows.instant(Some(body.valid_to));
                rows.instant(row.revoked_at);
                rows.text(row.entered_by.as_deref());
                rows.text(row.confirmed_by.as_deref());
                rows.text(Some(state));
            }
            rows.finish(schema)
        })
    })
}

/// Workers are asked how they are at most this often, however many queries want to know.
const WORKERS_ASKED_EVERY: Duration = Duration::from_secs(1);

/// Where workers listen is for administrators; everybody else tells them apart by number.
pub fn workers(hub: Arc<Hub>, scope: Scope) -> SystemTable {
    let fields = vec![
        text("name"),
        text("address"),
        text("state"),
        text("device"),
        text("version"),
    ];
    SystemTable::new(fields, move |schema| {
        let (hub, shows_address) = (Arc::clone(&hub), scope.project().is_none());
        once(async move {
            let mut rows = Rows::new(&schema);
            for (index, worker) in asked_workers(&hub).await.iter().enumerate() {
                rows.text(Some(&(index + 1).to_string()));
                rows.text(shows_address.then_some(worker.address.as_str()));
                rows.text(Some(worker.state));
                let health = worker.health.as_ref();
                rows.text(health.map(|health| health.device.as_str()));
                rows.text(health.map(|health| health.version.as_str()));
            }
            rows.finish(schema)
        })
    })
}

/// The workers as they said a moment ago. Only one caller asks; the others wait for its answer.
async fn asked_workers(hub: &Hub) -> Vec<WorkerStatus> {
    let mut asked = hub.engine.workers_asked().lock().await;
    if asked.is_none_or(|at| at.elapsed() >= WORKERS_ASKED_EVERY) {
        hub.workers.refresh().await;
        *asked = Some(Instant::now());
    }
    hub.workers.status()
}

/// Columns that grow row by row, value by value in the order of the schema. A value of another
/// kind than the schema has there is a mistake of this folder that `finish` reports.
pub(super) struct Rows {
    columns: Vec<Cells>,
    /// The column of the next value.
    next: usize,
}

enum Cells {
    Text(StringBuilder),
    Integer(Int64Builder),
    Boolean(BooleanBuilder),
    Instant(TimestampMicrosecondBuilder),
}

impl Rows {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        use arrow::datatypes::DataType;
        let cells = |field: &Arc<Field>| match field.data_type() {
            DataType::Int64 => Cells::Integer(Int64Builder::new()),
            DataType::Boolean => Cells::Boolean(BooleanBuilder::new()),
            DataType::Timestamp(..) => Cells::Instant(TimestampMicrosecondBuilder::new()),
            _ => Cells::Text(StringBuilder::new()),
        };
        Self {
            columns: schema.fields().iter().map(cells).collect(),
            next: 0,
        }
    }

    fn cells(&mut self) -> Option<&mut Cells> {
        let column = self.next;
        self.next = (column + 1) % self.columns.len().max(1);
        self.columns.get_mut(column)
    }

    pub(super) fn text(&mut self, value: Option<&str>) {
        if let Some(Cells::Text(cells)) = self.cells() {
            cells.append_option(value);
        }
    }

    pub(super) fn integer(&mut self, value: Option<i64>) {
        if let Some(Cells::Integer(cells)) = self.cells() {
            cells.append_option(value);
        }
    }

    pub(super) fn boolean(&mut self, value: Option<bool>) {
        if let Some(Cells::Boolean(cells)) = self.cells() {
            cells.append_option(value);
        }
    }

    pub(super) fn instant(&mut self, value: Option<DateTime<Utc>>) {
        if let Some(Cells::Instant(cells)) = self.cells() {
            cells.append_option(value.map(|at| at.timestamp_micros()));
        }
    }

    fn columns(&mut self, dataset: &str, table: &str, schema: Option<&SchemaRef>) {
        let fields = schema.into_iter().flat_map(|schema| schema.fields().iter());
        for (position, field) in fields.enumerate() {
            self.text(Some(dataset));
            self.text(Some(table));
            self.text(Some(field.name()));
            self.integer(i64::try_from(position + 1).ok());
            self.text(Some(&field.data_type().to_string()));
            self.text(field.metadata().get(UNIT_KEY).map(String::as_str));
            self.text(field.metadata().get(REMARKS_KEY).map(String::as_str));
        }
    }

    pub(super) fn finish(self, schema: SchemaRef) -> Result<RecordBatch> {
        let columns = self
            .columns
            .into_iter()
            .map(|cells| match cells {
                Cells::Text(mut cells) => Arc::new(cells.finish()) as ArrayRef,
                Cells::Integer(mut cells) => Arc::new(cells.finish()),
                Cells::Boolean(mut cells) => Arc::new(cells.finish()),
                Cells::Instant(mut cells) => Arc::new(cells.finish().with_timezone("UTC")),
            })
            .collect();
        batch(schema, columns)
    }
}
