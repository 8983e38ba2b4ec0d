//! Catalogs, schemas and tables.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{BinaryArray, BooleanArray, RecordBatch, Scalar, StringArray};
use arrow::compute::kernels::comparison::like;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetTables};
use arrow_flight::{IpcMessage, SchemaAsIpc};
use datafusion::catalog::information_schema::{
    INFORMATION_SCHEMA, INFORMATION_SCHEMA_TABLES, InformationSchemaProvider,
};
use datafusion::catalog::{CatalogProvider, MemoryCatalogProviderList, SchemaProvider};
use datafusion::logical_expr::TableType;
use hubflight_rights::habilitation::Mode;

use super::super::call::Caller;
use super::columns::{self, Place};
use super::strings;
use crate::catalog::project::{HUB_SCHEMA, ProjectView, SPACE_SCHEMA};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::plan::parse::is_information_schema;
use crate::plan::wire;

/// Longest pattern that is matched; names are shorter.
const PATTERN_BYTES_MAX: usize = 1024;

const TABLE: &str = "TABLE";
const VIEW: &str = "VIEW";
const SYSTEM_TABLE: &str = "SYSTEM TABLE";
/// Every type of table, in the order that the protocol asks for.
const TABLE_TYPES: [&str; 3] = [SYSTEM_TABLE, TABLE, VIEW];

pub(super) fn catalogs(caller: &Caller) -> Result<RecordBatch> {
    let names = caller.principal.catalogs();
    let column = StringArray::from_iter_values(names);
    Ok(RecordBatch::try_new(
        super::catalogs_layout(),
        vec![Arc::new(column)],
    )?)
}

pub(super) fn table_types() -> Result<RecordBatch> {
    let column = StringArray::from_iter_values(TABLE_TYPES);
    Ok(RecordBatch::try_new(
        super::table_types_layout(),
        vec![Arc::new(column)],
    )?)
}

pub(super) async fn schemas(
    hub: &Arc<Hub>,
    caller: &Caller,
    request: &CommandGetDbSchemas,
) -> Result<RecordBatch> {
    let mut rows = Vec::new();
    for view in views(hub, caller, request.catalog.as_deref()).await? {
        let names = matching(
            request.db_schema_filter_pattern.as_deref(),
            schema_names(&view),
        )?;
        rows.extend(names.into_iter().map(|name| (view.project.clone(), name)));
    }
    rows.sort_unstable();
    Ok(RecordBatch::try_new(
        super::schemas_layout(),
        vec![strings(&rows, |row| &row.0), strings(&rows, |row| &row.1)],
    )?)
}

/// A row of GetTables, compared in the order of its fields.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    catalog: String,
    schema: String,
    table: String,
    kind: &'static str,
    /// The table's schema as an IPC message, when asked for.
    encoded: Vec<u8>,
}

pub(super) async fn tables(
    hub: &Arc<Hub>,
    caller: &Caller,
    request: &CommandGetTables,
) -> Result<RecordBatch> {
    let mut rows = Vec::new();
    for view in views(hub, caller, request.catalog.as_deref()).await? {
        let names = matching(
            request.db_schema_filter_pattern.as_deref(),
            schema_names(&view),
        )?;
        for name in names {
            rows.extend(tables_of(hub, caller, &view, &name, request).await?);
        }
    }
    batch(rows, request.include_schema)
}

/// Names of schemas and tables, in order.
pub(in crate::flight) type Names = Vec<(String, String)>;

/// The tables of which the session's project may read rows, and whose `schema.table` fits a
/// pattern. Tables that only aggregates may be had of have no rows to fetch.
pub(in crate::flight) fn readable(view: &ProjectView, pattern: Option<&str>) -> Result<Names> {
    let counted = view
        .listed()
        .filter(|(_, right)| right.mode == Mode::Aggregate);
    let counted: HashSet<&str> = counted.map(|(dataset, _)| dataset.name.as_str()).collect();
    let mut found = Vec::new();
    for schema in schema_names(view) {
        if counted.contains(schema.as_str()) || view.check_closed(&schema).is_err() {
            continue;
        }
        let Some(provider) = provider(view, &schema) else {
            continue;
        };
        let names = table_names(provider.as_ref(), &schema);
        let whole = names.iter().map(|name| format!("{schema}.{name}"));
        let fits = fitting(pattern, whole.collect())?;
        let fitting = names.into_iter().zip(fits).filter(|(_, fits)| *fits);
        found.extend(fitting.map(|(name, _)| (schema.clone(), name)));
    }
    found.sort_unstable();
    Ok(found)
}

/// What the rows of a table look like, as they are fetched; no field where it cannot be opened now.
pub(in crate::flight) async fn row_schema(
    hub: &Arc<Hub>,
    view: &ProjectView,
    (schema, table): (&str, &str),
    views: bool,
) -> SchemaRef {
    let place = Place {
        catalog: &view.project,
        schema,
        table,
        writable: false,
    };
    let Some(provider) = provider(view, schema) else {
        return Arc::new(Schema::empty());
    };
    let described = described(hub, view, provider.as_ref(), &place).await;
    wire::plain_schema(&columns::annotate(&described, &place, views), views)
}

async fn tables_of(
    hub: &Arc<Hub>,
    caller: &Caller,
    view: &ProjectView,
    schema: &str,
    request: &CommandGetTables,
) -> Result<Vec<Row>> {
    let Some(provider) = provider(view, schema) else {
        return Ok(Vec::new());
    };
    let names = table_names(provider.as_ref(), schema);
    let mut rows = Vec::new();
    for table in matching(request.table_name_filter_pattern.as_deref(), names)? {
        let kind = kind(provider.as_ref(), schema, &table).await;
        if !request.table_types.is_empty() && !request.table_types.iter().any(|one| one == kind) {
            continue;
        }
        let place = Place {
            catalog: &view.project,
            schema,
            table: &table,
            writable: schema == SPACE_SCHEMA && kind == TABLE,
        };
        let encoded = if request.include_schema {
            let schema = described(hub, view, provider.as_ref(), &place).await;
            let views = caller.principal.options.wire_views;
            encode(&columns::annotate(&schema, &place, views))?
        } else {
            Vec::new()
        };
        rows.push(Row {
            catalog: view.project.clone(),
            schema: schema.to_owned(),
            table,
            kind,
            encoded,
        });
    }
    Ok(rows)
}

fn batch(mut rows: Vec<Row>, include_schema: bool) -> Result<RecordBatch> {
    rows.sort_unstable();
    let mut columns = vec![
        strings(&rows, |row| &row.catalog),
        strings(&rows, |row| &row.schema),
        strings(&rows, |row| &row.table),
        strings(&rows, |row| row.kind),
    ];
    if include_schema {
        let encoded = rows.iter().map(|row| &row.encoded);
        columns.push(Arc::new(BinaryArray::from_iter_values(encoded)));
    }
    Ok(RecordBatch::try_new(
        super::tables_layout(include_schema),
        columns,
    )?)
}

/// The caller's projects, or the one that is asked for. A catalog of others gives nothing, as
/// does the empty name, which means tables without a catalog.
pub(super) async fn views(
    hub: &Arc<Hub>,
    caller: &Caller,
    catalog: Option<&str>,
) -> Result<Vec<ProjectView>> {
    let mut views = Vec::new();
    for name in caller.principal.catalogs() {
        if catalog.is_none_or(|wanted| wanted == name) {
            views.push(caller.view(hub, name).await?);
        }
    }
    Ok(views)
}

fn schema_names(view: &ProjectView) -> Vec<String> {
    let mut names = view.schema_names();
    names.push(INFORMATION_SCHEMA.to_owned());
    names
}

fn provider(view: &ProjectView, schema: &str) -> Option<Arc<dyn SchemaProvider>> {
    if schema == INFORMATION_SCHEMA {
        // Only the layout of its tables is asked for, so it needs to know no catalog.
        let nothing = Arc::new(MemoryCatalogProviderList::new());
        return Some(Arc::new(InformationSchemaProvider::new(nothing)));
    }
    view.schema(schema)
}

fn information_schema_tables() -> Vec<String> {
    let open = |table: &&&str| is_information_schema(INFORMATION_SCHEMA, table).unwrap_or(false);
    let tables = INFORMATION_SCHEMA_TABLES.iter().filter(open);
    tables.map(|table| (*table).to_owned()).collect()
}

fn table_names(provider: &dyn SchemaProvider, schema: &str) -> Vec<String> {
    match schema {
        INFORMATION_SCHEMA => information_schema_tables(),
        _ => provider.table_names(),
    }
}

async fn kind(provider: &dyn SchemaProvider, schema: &str, table: &str) -> &'static str {
    match schema {
        HUB_SCHEMA | INFORMATION_SCHEMA => SYSTEM_TABLE,
        SPACE_SCHEMA => match provider.table_type(table).await {
            Ok(Some(TableType::View)) => VIEW,
            _ => TABLE,
        },
        _ => TABLE,
    }
}

/// What the table looks like to its project. A table that cannot be opened now (a right that
/// ended, a view over something that is gone) is listed without columns: its owner may know of
/// it, and using it tells why.
async fn described(
    hub: &Arc<Hub>,
    view: &ProjectView,
    provider: &dyn SchemaProvider,
    place: &Place<'_>,
) -> SchemaRef {
    let found = match columns::of_dataset(hub.datasets.as_ref(), view, place) {
        Some(described) => described,
        None => match provider.table(place.table).await {
            Ok(table) => Ok(table.map(|table| table.schema())),
            Err(error) => Err(Error::from(error)),
        },
    };
    match found {
        Ok(Some(schema)) => schema,
        Ok(None) => Arc::new(Schema::empty()),
        Err(error) => {
            let Place { schema, table, .. } = place;
            tracing::info!(%error, schema, table, "a table is listed without its columns");
            Arc::new(Schema::empty())
        }
    }
}

fn encode(schema: &Schema) -> Result<Vec<u8>> {
    let options = IpcWriteOptions::default();
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &options).try_into()?;
    Ok(bytes.to_vec())
}

/// The names that fit a pattern: `%` any characters, `_` one, `\` takes away their meaning.
/// No pattern fits all; the empty one fits the empty name only, as in JDBC.
fn matching(pattern: Option<&str>, names: Vec<String>) -> Result<Vec<String>> {
    let fits = fitting(pattern, names.clone())?;
    let fitting = names.into_iter().zip(fits).filter(|(_, fits)| *fits);
    Ok(fitting.map(|(name, _)| name).collect())
}

/// Which names fit.
fn fitting(pattern: Option<&str>, names: Vec<String>) -> Result<Vec<bool>> {
    let Some(pattern) = pattern else {
        return Ok(vec![true; names.len()]);
    };
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(Error::invalid(format!(
            "a pattern of names has {} bytes and at most {PATTERN_BYTES_MAX} are allowed",
            pattern.len()
        )));
    }
    let scalar = Scalar::new(StringArray::from(vec![pattern]));
    let fits: BooleanArray = like(&StringArray::from(names), &scalar)?;
    Ok(fits.iter().map(|fits| fits == Some(true)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn found(pattern: Option<&str>, names: &[&str]) -> Vec<String> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        matching(pattern, names).expect("a short pattern")
    }

    #[test]
    fn patterns_are_those_of_like() {
        let names = ["er_prs_f", "erxprs_f", "er%", "t_mco_b", "", "É"];
        let check = |pattern, expected: &[&str]| {
            assert_eq!(found(Some(pattern), &names), expected, "{pattern}");
        };
        assert_eq!(found(None, &names), names);
        check("", &[""]);
        check("%", &names);
        check("er_prs_f", &["er_prs_f", "erxprs_f"]);
        check(r"er\_prs\_f", &["er_prs_f"]);
        check(r"er\%", &["er%"]);
        check("er%", &["er_prs_f", "erxprs_f", "er%"]);
        check("%mco%", &["t_mco_b"]);
        check("_", &["É"]);
        check("ER%", &[]);
        check("%%_%%f", &["er_prs_f", "erxprs_f"]);
        // Nothing of a regular expression has a meaning here.
        check("er.prs_f", &[]);
        check(".*", &[]);
        check("(", &[]);
        check(r"\", &[]);
    }

    #[test]
    fn hostile_patterns_are_bounded() {
        let error = matching(Some(&"%a".repeat(PATTERN_BYTES_MAX)), vec!["a".into()])
            .expect_err("too long");
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
        let long = "%_".repeat(PATTERN_BYTES_MAX / 2);
        assert_eq!(found(Some(&long), &["abc"]), Vec::<String>::new());
    }

    #[test]
    fn rows_are_sorted_and_the_schema_is_there_only_when_asked_for() {
        let row = |catalog: &str, table: &str| Row {
            catalog: catalog.into(),
            schema: "s".into(),
            table: table.into(),
            kind: TABLE,
            encoded: vec![1],
        };
        let rows = || vec![row("b", "x"), row("a", "z"), row("a", "y")];
        for include_schema in [false, true] {
            let batch = batch(rows(), include_schema).expect("a batch");
            assert_eq!(batch.schema(), super::super::tables_layout(include_schema));
            let text = |column: usize, row| {
                arrow::util::display::array_value_to_string(batch.column(column), row)
                    .expect("text")
            };
            let order: Vec<_> = (0..3).map(|row| (text(0, row), text(2, row))).collect();
            let expected = [("a", "y"), ("a", "z"), ("b", "x")];
            assert_eq!(order, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        }
    }

    #[test]
    fn table_types_are_sorted() {
        let batch = table_types().expect("a batch");
        assert_eq!(batch.num_rows(), 3);
        assert!(TABLE_TYPES.is_sorted());
    }

    #[tokio::test]
    async fn information_schema_lists_what_statements_may_read() {
        let tables = information_schema_tables();
        assert!(tables.iter().any(|table| table == "columns"));
        assert!(!tables.iter().any(|table| table == "df_settings"));
        let nothing = Arc::new(MemoryCatalogProviderList::new());
        let provider = InformationSchemaProvider::new(nothing);
        for table in &tables {
            let found = provider.table(table).await.expect("opens").expect(table);
            assert!(!found.schema().fields().is_empty(), "{table}");
        }
    }

    #[test]
    fn an_encoded_schema_reads_back() {
        let schema = super::super::foreign_keys_layout();
        let bytes = encode(&schema).expect("encodes");
        let read = Schema::try_from(IpcMessage(bytes.into())).expect("reads");
        assert_eq!(read, *schema);
    }
}
