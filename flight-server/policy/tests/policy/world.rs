//! A small hospital on disk, whose hidden rows are mined: text that no cast accepts, zeros to
//! divide by, integers about to overflow. Half of the stays are visible, interleaved with the
//! hidden ones in every row group, because `AND` short-circuits only when few rows pass.
//!
//! The filtered copy is made row by row in plain Rust: it shares no code with the barrier but
//! the cipher of single identifiers.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::NaiveDate;
use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::prelude::{SessionConfig, SessionContext};
use hubflight_policy::{LinkageKeys, Opposed, Secret, Selections, Sources, open_table};
use hubflight_rights::dataset::Dataset;
use hubflight_rights::habilitation::Habilitation;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;

#[path = "../../../rights/tests/decide/hospital.rs"]
mod hospital;
pub use hospital::*;

/// Not a round number, so that it can be looked for in texts.
pub const STAYS: i64 = 20_011;
pub const PERSONS: i64 = 2_503;
const ROW_GROUP: usize = 4_096;

pub struct World {
    pub dir: TempDir,
    pub datasets: Vec<Arc<Dataset>>,
    pub sources: HashMap<(String, String), Arc<dyn TableProvider>>,
    /// By the domain of their identifiers.
    pub opposed: HashMap<String, Arc<Opposed>>,
    pub selections: Option<Arc<Selections>>,
}

impl Sources for World {
    fn dataset(&self, name: &str) -> Option<Arc<Dataset>> {
        self.datasets
            .iter()
            .find(|dataset| dataset.name == name)
            .cloned()
    }

    fn source(&self, dataset: &str, table: &str) -> Option<Arc<dyn TableProvider>> {
        self.sources
            .get(&(dataset.to_owned(), table.to_owned()))
            .cloned()
    }

    fn opposed(&self, domain: &str) -> Option<Arc<Opposed>> {
        self.opposed.get(domain).cloned()
    }

    fn selections(&self) -> Option<Arc<Selections>> {
        self.selections.clone()
    }
}

pub fn days(date: NaiveDate) -> i32 {
    date.signed_duration_since(NaiveDate::default()).num_days() as i32
}

pub struct Stay {
    pub person: Option<i64>,
    pub id: i64,
    pub begun: i32,
    pub diagnosis: String,
    pub commune: Option<String>,
    pub left: Option<i32>,
    pub note: String,
    pub divisor: i32,
    pub big: i64,
    pub score: Option<f64>,
    pub urgent: Option<bool>,
    pub secret: i32,
}

pub fn stays() -> Vec<Stay> {
    let start = days(date(2023, 1, 1));
    let communes = ["75056", "2A004", "97411", "69123", "13055", "é1234"];
    (0..STAYS)
        .map(|id| {
            let begun = start + ((id * 7_919) % 1_095) as i32;
            let hidden = begun < days(first_visible_day());
            Stay {
                person: (id % 97 != 0).then_some((id * 31) % PERSONS),
                id,
                begun,
                diagnosis: format!("I{:02}", id % 89),
                commune: (id % 11 != 0).then(|| communes[(id % 6) as usize].to_owned()),
                left: (id % 13 != 0).then_some(begun + (id % 40) as i32),
                note: if hidden {
                    format!("hidden-{id}")
                } else {
                    (id % 100).to_string()
                },
                divisor: if hidden { 0 } else { 1 + (id % 7) as i32 },
                big: if hidden { i64::MAX } else { id },
                score: (id % 17 != 0).then_some((id % 50) as f64 / 4.0),
                urgent: (id % 5 != 0).then_some(id % 3 == 0),
                secret: 4_242,
            }
        })
        .collect()
}

pub struct Diagnosis {
    pub stay: i64,
    pub code: String,
    pub note: String,
}

pub fn diagnoses(stays: &[Stay]) -> Vec<Diagnosis> {
    stays
        .iter()
        .flat_map(|stay| {
            (0..stay.id % 3).map(|rank| Diagnosis {
                stay: stay.id,
                code: format!("E{:02}", (stay.id + rank) % 90),
                note: stay.note.clone(),
            })
        })
        .collect()
}

pub fn birth(person: i64) -> i32 {
    1930 + (person % 90) as i32
}

fn array<A: arrow::array::Array + 'static>(array: A) -> ArrayRef {
    Arc::new(array)
}

fn raw_stays(stays: &[Stay]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(vec![
        (
            "person",
            array(stays.iter().map(|s| s.person).collect::<Int64Array>()),
            true,
        ),
        (
            "stay",
            array(Int64Array::from_iter_values(stays.iter().map(|s| s.id))),
            true,
        ),
        (
            "begun",
            array(Date32Array::from_iter_values(stays.iter().map(|s| s.begun))),
            true,
        ),
        (
            "diagnosis",
            array(StringArray::from_iter_values(
                stays.iter().map(|s| &s.diagnosis),
            )),
            true,
        ),
        (
            "commune",
            array(
                stays
                    .iter()
                    .map(|s| s.commune.clone())
                    .collect::<StringArray>(),
            ),
            true,
        ),
        (
            "departed",
            array(stays.iter().map(|s| s.left).collect::<Date32Array>()),
            true,
        ),
        (
            "note",
            array(StringArray::from_iter_values(stays.iter().map(|s| &s.note))),
            true,
        ),
        (
            "divisor",
            array(Int32Array::from_iter_values(
                stays.iter().map(|s| s.divisor),
            )),
            true,
        ),
        (
            "big",
            array(Int64Array::from_iter_values(stays.iter().map(|s| s.big))),
            true,
        ),
        (
            "score",
            array(stays.iter().map(|s| s.score).collect::<Float64Array>()),
            true,
        ),
        (
            "urgent",
            array(stays.iter().map(|s| s.urgent).collect::<BooleanArray>()),
            true,
        ),
        (
            "secret",
            array(Int32Array::from_iter_values(stays.iter().map(|s| s.secret))),
            true,
        ),
    ])
    .unwrap()
}

fn raw_diagnoses(rows: &[Diagnosis]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(vec![
        (
            "stay",
            array(Int64Array::from_iter_values(rows.iter().map(|d| d.stay))),
            true,
        ),
        (
            "code",
            array(StringArray::from_iter_values(rows.iter().map(|d| &d.code))),
            true,
        ),
        (
            "note",
            array(StringArray::from_iter_values(rows.iter().map(|d| &d.note))),
            true,
        ),
    ])
    .unwrap()
}

fn raw_labels() -> RecordBatch {
    let codes: Vec<String> = (0..89).map(|code| format!("I{code:02}")).collect();
    RecordBatch::try_from_iter_with_nullable(vec![
        ("code", array(StringArray::from(codes.clone())), true),
        (
            "label",
            array(StringArray::from_iter_values(
                codes.iter().map(|c| format!("label of {c}")),
            )),
            true,
        ),
    ])
    .unwrap()
}

fn raw_persons() -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(vec![
        (
            "person",
            array(Int64Array::from_iter_values(0..PERSONS)),
            true,
        ),
        (
            "birth",
            array(Int32Array::from_iter_values((0..PERSONS).map(birth))),
            true,
        ),
    ])
    .unwrap()
}

/// Writes a table in many row groups over two files and opens it as the server does.
pub async fn parquet_table(
    ctx: &SessionContext,
    folder: &Path,
    batch: &RecordBatch,
) -> Arc<dyn TableProvider> {
    parquet_table_of(ctx, folder, batch, ROW_GROUP).await
}

/// The same in row groups of so many rows.
async fn parquet_table_of(
    ctx: &SessionContext,
    folder: &Path,
    batch: &RecordBatch,
    row_group: usize,
) -> Arc<dyn TableProvider> {
    std::fs::create_dir_all(folder).unwrap();
    let half = batch.num_rows() / 2;
    let parts = [
        batch.slice(0, half),
        batch.slice(half, batch.num_rows() - half),
    ];
    for (index, part) in parts.iter().enumerate() {
        let file = std::fs::File::create(folder.join(format!("part-{index}.parquet"))).unwrap();
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(row_group))
            .build();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(part).unwrap();
        writer.close().unwrap();
    }
    listed(ctx, &format!("{}/", folder.display())).await
}

/// A folder of Parquet files, opened as the server does.
pub async fn listed(ctx: &SessionContext, folder: &str) -> Arc<dyn TableProvider> {
    let url = ListingTableUrl::parse(folder).unwrap();
    let options =
        ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".parquet");
    let config = ListingTableConfig::new(url)
        .with_listing_options(options)
        .infer_schema(&ctx.state())
        .await
        .unwrap();
    let cache = ctx.runtime_env().cache_manager.get_file_statistic_cache();
    Arc::new(ListingTable::try_new(config).unwrap().with_cache(cache))
}

impl World {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ctx = SessionContext::new();
        let stays = stays();
        let tables = [
            ("hospital", "stays", raw_stays(&stays)),
            ("hospital", "diagnoses", raw_diagnoses(&diagnoses(&stays))),
            ("hospital", "labels", raw_labels()),
            ("registry", "persons", raw_persons()),
        ];
        let mut sources = HashMap::new();
        for (dataset, table, batch) in tables {
            let source = parquet_table(&ctx, &dir.path().join(dataset).join(table), &batch).await;
            sources.insert((dataset.to_owned(), table.to_owned()), source);
        }
        Self {
            dir,
            datasets: vec![Arc::new(hospital()), Arc::new(registry())],
            sources,
            opposed: HashMap::new(),
            selections: None,
        }
    }

    /// The same world, in which the rows that views show are kept in `bytes_max`.
    pub async fn keeping(bytes_max: usize) -> Self {
        let pool = Arc::new(GreedyMemoryPool::new(bytes_max)) as Arc<dyn MemoryPool>;
        Self {
            selections: Some(Arc::new(Selections::new(bytes_max, &pool))),
            ..Self::new().await
        }
    }

    /// The same world with these stays, in row groups of so many.
    pub async fn storing(mut self, stays: &[Stay], row_group: usize) -> Self {
        let folder = self.dir.path().join("hospital/other");
        let (ctx, rows) = (SessionContext::new(), raw_stays(stays));
        let table = parquet_table_of(&ctx, &folder, &rows, row_group).await;
        let name = ("hospital".to_owned(), "stays".to_owned());
        self.sources.insert(name, table);
        self
    }

    /// A session in which every table that the habilitation opens has a name.
    pub fn session(&self, habilitation: &Habilitation, config: SessionConfig) -> SessionContext {
        let ctx = SessionContext::new_with_config(config);
        self.register(&ctx, habilitation, &keys(&habilitation.project));
        ctx
    }

    pub fn register(&self, ctx: &SessionContext, habilitation: &Habilitation, keys: &LinkageKeys) {
        let dataset = self.dataset(&habilitation.dataset).unwrap();
        for name in hubflight_policy::granted_tables(&dataset, habilitation) {
            let table = open_table(self, habilitation, &name, keys)
                .unwrap()
                .unwrap();
            ctx.register_table(&name, table).unwrap();
        }
    }
}

pub fn keys(project: &str) -> LinkageKeys {
    keys_of(project, "main")
}

pub fn keys_of(project: &str, linkage_group: &str) -> LinkageKeys {
    let key = zeroize::Zeroizing::new([7; 32]);
    let secret = Secret {
        pseudonyms: key.clone(),
        cells: key,
    };
    LinkageKeys::new(secret, project, linkage_group)
}

/// As [`keys`], with another key of noise.
pub fn keys_with_noise(project: &str, cells: [u8; 32]) -> LinkageKeys {
    let secret = Secret {
        pseudonyms: zeroize::Zeroizing::new([7; 32]),
        cells: zeroize::Zeroizing::new(cells),
    };
    LinkageKeys::new(secret, project, "main")
}

pub fn config(pushdown_filters: bool) -> SessionConfig {
    SessionConfig::new()
        .with_target_partitions(3)
        .set_bool(
            "datafusion.execution.parquet.pushdown_filters",
            pushdown_filters,
        )
        .set_usize("datafusion.optimizer.repartition_file_min_size", 1_000)
}

/// What `researcher` may see, filtered and masked by hand and stored as files of its own.
/// With `born_before`, only of persons born before that year.
pub async fn filtered_copy(
    dir: &Path,
    config: SessionConfig,
    born_before: Option<i32>,
) -> SessionContext {
    let ctx = SessionContext::new_with_config(config);
    let person = keys("readmission").cipher("person");
    let stay = keys("readmission").cipher("stay");
    let show = |cipher: &hubflight_policy::Cipher, id: i64| {
        let shown = cipher.encrypt_array(&Int64Array::from(vec![id])).unwrap();
        shown.value(0).to_owned()
    };
    let mut visible = stays();
    visible.retain(|s| {
        s.begun >= days(first_visible_day())
            && born_before.is_none_or(|year| s.person.is_some_and(|person| birth(person) < year))
    });
    let of_visible = diagnoses(&visible);
    let first_of_year = |day: i32| {
        let date = NaiveDate::default() + chrono::TimeDelta::days(i64::from(day));
        let year: i32 = date.format("%Y").to_string().parse().unwrap();
        days(NaiveDate::from_ymd_opt(year, 1, 1).unwrap())
    };
    let department = |commune: &String| {
        let length = if commune.starts_with("97") { 3 } else { 2 };
        commune.chars().take(length).collect::<String>()
    };
    let raw = raw_stays(&visible);
    let mut columns: Vec<(String, ArrayRef, bool)> = Vec::new();
    for (field, column) in raw.schema().fields().iter().zip(raw.columns()) {
        let shown = match field.name().as_str() {
            "secret" => continue,
            "person" => {
                let ids = visible.iter().map(|s| s.person.map(|id| show(&person, id)));
                array(ids.collect::<StringArray>())
            }
            "stay" => array(StringArray::from_iter_values(
                visible.iter().map(|s| show(&stay, s.id)),
            )),
            "commune" => {
                let communes = visible.iter().map(|s| s.commune.as_ref().map(department));
                array(communes.collect::<StringArray>())
            }
            "departed" => array(
                visible
                    .iter()
                    .map(|s| s.left.map(first_of_year))
                    .collect::<Date32Array>(),
            ),
            _ => Arc::clone(column),
        };
        columns.push((field.name().clone(), shown, true));
    }
    let stays = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let raw = raw_diagnoses(&of_visible);
    let diagnoses = RecordBatch::try_from_iter_with_nullable(vec![
        (
            "stay",
            array(StringArray::from_iter_values(
                of_visible.iter().map(|d| show(&stay, d.stay)),
            )),
            true,
        ),
        ("code", Arc::clone(raw.column(1)), true),
        ("note", Arc::clone(raw.column(2)), true),
    ])
    .unwrap();
    for (name, batch) in [
        ("stays", stays),
        ("diagnoses", diagnoses),
        ("labels", raw_labels()),
    ] {
        let table = parquet_table(&ctx, &dir.join("copy").join(name), &batch).await;
        ctx.register_table(name, table).unwrap();
    }
    ctx
}

/// A query's rows as sorted text, or the class of its error.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Rows(Vec<String>),
    Error(String),
}

pub async fn outcome(ctx: &SessionContext, sql: &str) -> Outcome {
    match rows(ctx, sql).await {
        Ok(mut rows) => {
            rows.sort();
            Outcome::Rows(rows)
        }
        Err(error) => Outcome::Error(class(&error)),
    }
}

/// A query's rows as text, in its order.
pub async fn rows(ctx: &SessionContext, sql: &str) -> Result<Vec<String>, DataFusionError> {
    let batches = ctx.sql(sql).await?.collect().await?;
    let mut rows = Vec::new();
    for batch in &batches {
        let options = FormatOptions::default().with_null("NULL");
        let formatters: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = formatters
                .iter()
                .map(|cells| cells.value(row).to_string())
                .collect();
            rows.push(cells.join("|"));
        }
    }
    Ok(rows)
}

/// The kind of an error and of the Arrow error under it, without texts.
pub fn class(error: &DataFusionError) -> String {
    let variant = |text: String| {
        text.split(|c: char| !c.is_alphanumeric())
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    match error.find_root() {
        DataFusionError::ArrowError(arrow, _) => format!("Arrow {}", variant(format!("{arrow:?}"))),
        other => variant(format!("{other:?}")),
    }
}
