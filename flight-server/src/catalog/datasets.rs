//! The datasets of the hub: where their files lie and how to read them, before any policy.
//!
//! Nothing here is reachable from SQL: only the barrier asks for these tables.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use hubflight_policy::{Opposed, Selections, Sources};
use hubflight_rights::dataset::{Dataset, Format, PersonPath, Table};
use parking_lot::RwLock;

use super::bucket::Bucket;
use super::dicom_folder;
use crate::config::DatasetConfig;
use crate::error::{Error, Result};

/// Every dataset by name, with its raw tables.
#[derive(Default)]
pub struct Datasets {
    loaded: BTreeMap<String, Loaded>,
    opposition: RwLock<Opposition>,
    selections: Option<Arc<Selections>>,
}

/// The persons who oppose, by the domain of their identifiers.
#[derive(Clone, Debug, Default)]
pub struct Opposition {
    pub lists: BTreeMap<String, Arc<Opposed>>,
    /// Grows when a person is added: what was planned before may still read their rows.
    pub era: u64,
    /// The audit does not tell of these lists yet.
    pub unrecorded: bool,
}

/// Memory that the rows of restricted views may hold, one bit a stored row: two thousand
/// million rows. It is also reserved in the server's own limit.
const SELECTIONS_BYTES_MAX: usize = 256 << 20;

impl std::fmt::Debug for Datasets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.loaded.keys()).finish()
    }
}

struct Loaded {
    dataset: Arc<Dataset>,
    tables: HashMap<String, Arc<dyn TableProvider>>,
}

impl Datasets {
    /// Opens the datasets of the configuration; an error names the dataset and table.
    pub async fn open(configs: &[DatasetConfig], state: &SessionState) -> Result<Self> {
        let pool = &state.runtime_env().memory_pool;
        let mut datasets = Self {
            selections: Some(Arc::new(Selections::new(SELECTIONS_BYTES_MAX, pool))),
            ..Self::default()
        };
        for config in configs {
            let bucket = Bucket::of(config)?;
            if let Some(bucket) = &bucket {
                bucket.register(state);
            }
            let dataset = describe(config, bucket.as_ref()).await?;
            datasets.add(dataset, &config.folder, state).await?;
        }
        Ok(datasets)
    }

    /// Opens one dataset whose tables lie relative to `base`.
    pub async fn add(&mut self, dataset: Dataset, base: &str, state: &SessionState) -> Result<()> {
        dataset
            .validate()
            .map_err(|error| Error::invalid(error.to_string()))?;
        let mut tables = HashMap::new();
        for table in &dataset.tables {
            let provider = open_table(table, base, state).await.map_err(|error| {
                Error::invalid(format!(
                    "dataset `{}`, table `{}`: {error}",
                    dataset.name, table.name
                ))
            })?;
            tables.insert(table.name.clone(), provider);
        }
        let name = dataset.name.clone();
        let dataset = Arc::new(dataset);
        if self
            .loaded
            .insert(name.clone(), Loaded { dataset, tables })
            .is_some()
        {
            return Err(Error::invalid(format!(
                "dataset `{name}` is declared twice"
            )));
        }
        Ok(())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Dataset>> {
        self.loaded.values().map(|loaded| &loaded.dataset)
    }

    /// Who opposes, as every plan that is made now sees it.
    pub fn opposition(&self) -> Opposition {
        self.opposition.read().clone()
    }

    /// Replaces the lists; true where the audit does not tell of them yet.
    pub fn oppose(&self, lists: BTreeMap<String, Arc<Opposed>>) -> bool {
        let mut opposition = self.opposition.write();
        let digests = |lists: &BTreeMap<String, Arc<Opposed>>| {
            let digests = lists.iter();
            let digests = digests.map(|(domain, list)| (domain.clone(), list.digest()));
            digests.collect::<Vec<_>>()
        };
        if digests(&lists) == digests(&opposition.lists) {
            return opposition.unrecorded;
        }
        let adds = lists.iter().any(|(domain, list)| {
            let known = opposition.lists.get(domain);
            known.is_none_or(|known| list.exceeds(known))
        });
        opposition.era += u64::from(adds);
        opposition.lists = lists;
        opposition.unrecorded = true;
        true
    }

    /// The audit tells of the lists.
    pub fn opposition_recorded(&self) {
        self.opposition.write().unrecorded = false;
    }

    /// True where a table describes persons.
    pub fn describes_persons(&self, dataset: &str, table: &str) -> bool {
        let loaded = self.loaded.get(dataset);
        let table = loaded.and_then(|loaded| loaded.dataset.table(table));
        table.is_some_and(|table| table.person != PersonPath::None)
    }
}

impl Sources for Datasets {
    fn dataset(&self, name: &str) -> Option<Arc<Dataset>> {
        Some(Arc::clone(&self.loaded.get(name)?.dataset))
    }

    fn source(&self, dataset: &str, table: &str) -> Option<Arc<dyn TableProvider>> {
        Some(Arc::clone(self.loaded.get(dataset)?.tables.get(table)?))
    }

    fn opposed(&self, domain: &str) -> Option<Arc<Opposed>> {
        self.opposition.read().lists.get(domain).map(Arc::clone)
    }

    fn selections(&self) -> Option<Arc<Selections>> {
        self.selections.clone()
    }
}

/// The dataset that a configuration describes: its `dataset.json` where the producer wrote
/// one, else the tables of the configuration and, if all lead to no person, those found.
async fn describe(config: &DatasetConfig, bucket: Option<&Bucket>) -> Result<Dataset> {
    let written = Path::new(&config.folder).join("dataset.json");
    if let Some(bucket) = bucket {
        if let Some(text) = bucket.description().await? {
            return parse_description(&written, &text);
        }
    } else if written.exists() {
        return read_description(&written);
    }
    let mut tables = config.tables.clone();
    for table in &mut tables {
        if table.format == Format::default() {
            table.format = config.format;
        }
    }
    if let Some(persons) = config.persons {
        for (name, location) in discover(config, bucket).await? {
            if !tables.iter().any(|table| table.name == name) {
                tables.push(Table {
                    name,
                    remarks: String::new(),
                    location,
                    format: config.format,
                    person: PersonPath::from(persons),
                    primary_key: Vec::new(),
                    foreign_keys: Vec::new(),
                    columns: Vec::new(),
                });
            }
        }
    }
    if tables.is_empty() {
        return Err(Error::invalid(format!(
            "dataset `{}` has no table: list them with `[[dataset.table]]` and their path to \
             the person, or write `persons = \"none\"` if no table describes persons",
            config.name
        )));
    }
    Ok(Dataset {
        name: config.name.clone(),
        title: config.title.clone(),
        producer: config.producer.clone(),
        version: config.version,
        synthetic: config.synthetic,
        persons_min: config.persons_min,
        tables,
    })
}

/// Reads a producer's `dataset.json`.
pub fn read_description(path: &Path) -> Result<Dataset> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::invalid(format!("cannot read `{}`: {error}", path.display())))?;
    parse_description(path, &text)
}

fn parse_description(path: &Path, text: &str) -> Result<Dataset> {
    serde_json::from_str(text)
        .map_err(|error| Error::invalid(format!("`{}`: {error}", path.display())))
}

/// Files and folders of the dataset's folder, as (table name, location).
async fn discover(
    config: &DatasetConfig,
    bucket: Option<&Bucket>,
) -> Result<Vec<(String, String)>> {
    if config.format == Format::Dicom {
        return Ok(vec![("files".into(), ".".into())]);
    }
    let entries = match bucket {
        Some(bucket) => bucket.entries().await?,
        None => local_entries(Path::new(&config.folder)).map_err(|error| {
            Error::invalid(format!(
                "dataset `{}`: cannot read the folder `{}`: {error}",
                config.name, config.folder
            ))
        })?,
    };
    let mut found = Vec::new();
    for location in entries {
        let folder = location.strip_suffix('/');
        let file = location.strip_suffix(extension(config.format));
        if let Some(name) = folder.or(file)
            && !location.starts_with('.')
        {
            found.push((name.to_lowercase(), location));
        }
    }
    found.sort();
    Ok(found)
}

/// What lies directly in a local folder, by name: files as they are, folders with a final `/`.
fn local_entries(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let end = if entry.path().is_dir() { "/" } else { "" };
        entries.push(entry.file_name().to_string_lossy().into_owned() + end);
    }
    Ok(entries)
}

fn extension(format: Format) -> &'static str {
    match format {
        Format::Parquet => ".parquet",
        Format::Csv => ".csv",
        Format::Json => ".json",
        Format::Arrow => ".arrow",
        Format::Dicom => ".dcm",
    }
}

async fn open_table(
    table: &Table,
    base: &str,
    state: &SessionState,
) -> std::result::Result<Arc<dyn TableProvider>, DataFusionError> {
    let location = locate(base, &table.location);
    let format: Arc<dyn FileFormat> = match table.format {
        Format::Parquet => {
            Arc::new(ParquetFormat::default().with_options(state.table_options().parquet.clone()))
        }
        Format::Csv => Arc::new(CsvFormat::default().with_has_header(true)),
        Format::Json => Arc::new(JsonFormat::default()),
        Format::Arrow => Arc::new(ArrowFormat),
        Format::Dicom if location.contains("://") => {
            return Err(DataFusionError::Configuration(
                "DICOM files are read from local folders only".into(),
            ));
        }
        Format::Dicom => return Ok(Arc::new(dicom_folder::open(Path::new(&location))?)),
    };
    let url = ListingTableUrl::parse(&location)?;
    let options = ListingOptions::new(format).with_file_extension(extension(table.format));
    let written = options.infer_schema(state, &url).await?;
    // Notes of whoever wrote the files (of pandas, of ids) are no part of the columns: a view
    // does not show them, and a scan that did would differ from its plan.
    let config = ListingTableConfig::new(url)
        .with_listing_options(options)
        .with_schema(without_metadata(&written));
    let cache = state.runtime_env().cache_manager.get_file_statistic_cache();
    Ok(Arc::new(ListingTable::try_new(config)?.with_cache(cache)))
}

/// The schema without its own metadata and that of its columns, as views are. What nested
/// fields have stays: it is part of the columns' types, with which the values come.
pub(super) fn without_metadata(schema: &Schema) -> SchemaRef {
    let plain =
        |field: &FieldRef| Field::new(field.name(), field.data_type().clone(), field.is_nullable());
    let fields: Vec<Field> = schema.fields().iter().map(plain).collect();
    Arc::new(Schema::new(fields))
}

/// A table's location under its base; a folder ends in `/`, as listing needs.
fn locate(base: &str, location: &str) -> String {
    if location.contains("://") {
        return location.to_owned();
    }
    if base.contains("://") {
        return format!("{}/{location}", base.trim_end_matches('/'));
    }
    let path = Path::new(base).join(location);
    let path = path.canonicalize().unwrap_or(path);
    let text = path.to_string_lossy().into_owned();
    if path.is_dir() { text + "/" } else { text }
}
