//! Flight SQL's metadata: catalogs, schemas, tables, keys, types and server information.
//!
//! Browsing spans every project of the caller, although a statement works in one, and is
//! free. An answer is made only of what the caller's habilitations open at that moment, so a
//! hidden table and a missing one cannot be told apart: neither is there. Layouts, nullability
//! included, are those of `FlightSql.proto`, and clients compare them to the letter.

mod browse;
pub mod columns;
#[cfg(test)]
mod fixture;
mod keys;
mod types;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::sql::Command;

pub(super) use browse::{readable, row_schema};

use super::call::Caller;
use super::sql_info;
use crate::error::{Error, Result};
use crate::hub::Hub;

/// True for the commands that this module answers.
pub fn handles(command: &Command) -> bool {
    matches!(
        command,
        Command::CommandGetCatalogs(_)
            | Command::CommandGetDbSchemas(_)
            | Command::CommandGetTables(_)
            | Command::CommandGetTableTypes(_)
            | Command::CommandGetPrimaryKeys(_)
            | Command::CommandGetImportedKeys(_)
            | Command::CommandGetExportedKeys(_)
            | Command::CommandGetCrossReference(_)
            | Command::CommandGetSqlInfo(_)
            | Command::CommandGetXdbcTypeInfo(_)
    )
}

/// The schema of the answer, equal in GetFlightInfo, GetSchema and DoGet.
///
/// # Errors
/// `Unimplemented` for other commands; `InvalidArgument` for a request that cannot be answered.
pub fn schema(command: &Command) -> Result<SchemaRef> {
    Ok(match command {
        Command::CommandGetCatalogs(_) => catalogs_layout(),
        Command::CommandGetDbSchemas(_) => schemas_layout(),
        Command::CommandGetTables(request) => tables_layout(request.include_schema),
        Command::CommandGetTableTypes(_) => table_types_layout(),
        Command::CommandGetPrimaryKeys(_) => primary_keys_layout(),
        Command::CommandGetImportedKeys(_)
        | Command::CommandGetExportedKeys(_)
        | Command::CommandGetCrossReference(_) => foreign_keys_layout(),
        Command::CommandGetSqlInfo(request) => {
            sql_info::requested(&request.info)?;
            sql_info::layout()
        }
        Command::CommandGetXdbcTypeInfo(_) => types::layout()?,
        other => return Err(not_metadata(other)),
    })
}

/// The whole answer, for a caller whose rights were read for this call.
pub async fn answer(hub: &Arc<Hub>, caller: &Caller, command: &Command) -> Result<RecordBatch> {
    match command {
        Command::CommandGetCatalogs(_) => browse::catalogs(caller),
        Command::CommandGetDbSchemas(request) => browse::schemas(hub, caller, request).await,
        Command::CommandGetTables(request) => browse::tables(hub, caller, request).await,
        Command::CommandGetTableTypes(_) => browse::table_types(),
        Command::CommandGetPrimaryKeys(request) => keys::primary(hub, caller, request).await,
        Command::CommandGetImportedKeys(request) => keys::imported(hub, caller, request).await,
        Command::CommandGetExportedKeys(request) => keys::exported(hub, caller, request).await,
        Command::CommandGetCrossReference(request) => keys::cross(hub, caller, request).await,
        Command::CommandGetSqlInfo(request) => {
            sql_info::answer(&request.info, hub.engine.template(), &hub.config.limits)
        }
        Command::CommandGetXdbcTypeInfo(request) => types::answer(request.data_type),
        other => Err(not_metadata(other)),
    }
}

fn not_metadata(command: &Command) -> Error {
    Error::unimplemented(format!("`{}` asks for no metadata", command.type_url()))
}

fn catalogs_layout() -> SchemaRef {
    fields([text("catalog_name", false)])
}

fn schemas_layout() -> SchemaRef {
    fields([text("catalog_name", true), text("db_schema_name", false)])
}

fn tables_layout(include_schema: bool) -> SchemaRef {
    let mut all = vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("table_type", false),
    ];
    if include_schema {
        all.push(Field::new("table_schema", DataType::Binary, false));
    }
    fields(all)
}

fn table_types_layout() -> SchemaRef {
    fields([text("table_type", false)])
}

fn primary_keys_layout() -> SchemaRef {
    fields([
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        // In the order of Arrow's C++, Go and Java; the text of the protocol has them the other way.
        Field::new("key_sequence", DataType::Int32, false),
        text("key_name", true),
    ])
}

fn foreign_keys_layout() -> SchemaRef {
    fields([
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ])
}

fn fields(all: impl IntoIterator<Item = Field>) -> SchemaRef {
    Arc::new(Schema::new(all.into_iter().collect::<Vec<_>>()))
}

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

/// One column of text, from the rows of an answer.
fn strings<'a, R>(rows: &'a [R], value: impl Fn(&'a R) -> &'a str) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_flight::sql::{
        CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys,
        CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes,
        CommandGetTables, CommandGetXdbcTypeInfo, CommandStatementQuery,
    };

    fn tables(include_schema: bool) -> Command {
        Command::CommandGetTables(CommandGetTables {
            include_schema,
            ..Default::default()
        })
    }

    /// `name: type`, with `?` where the protocol allows NULL.
    fn written(command: &Command) -> Vec<String> {
        let schema = schema(command).expect("metadata");
        let each = schema.fields().iter().map(|field| {
            let mark = if field.is_nullable() { "?" } else { "" };
            format!("{}{mark}: {}", field.name(), field.data_type())
        });
        each.collect()
    }

    #[test]
    fn layouts_are_those_of_the_protocol() {
        let catalogs = Command::CommandGetCatalogs(CommandGetCatalogs {});
        assert_eq!(written(&catalogs), ["catalog_name: Utf8"]);
        let schemas = Command::CommandGetDbSchemas(CommandGetDbSchemas::default());
        assert_eq!(
            written(&schemas),
            ["catalog_name?: Utf8", "db_schema_name: Utf8"]
        );
        let types = Command::CommandGetTableTypes(CommandGetTableTypes {});
        assert_eq!(written(&types), ["table_type: Utf8"]);
        let without = [
            "catalog_name?: Utf8",
            "db_schema_name?: Utf8",
            "table_name: Utf8",
            "table_type: Utf8",
        ];
        assert_eq!(written(&tables(false)), without);
        assert_eq!(
            written(&tables(true)),
            [&without[..], &["table_schema: Binary"]].concat()
        );
        let primary = Command::CommandGetPrimaryKeys(CommandGetPrimaryKeys::default());
        assert_eq!(
            written(&primary),
            [
                "catalog_name?: Utf8",
                "db_schema_name?: Utf8",
                "table_name: Utf8",
                "column_name: Utf8",
                "key_sequence: Int32",
                "key_name?: Utf8"
            ]
        );
    }

    #[test]
    fn foreign_keys_have_one_layout() {
        let expected = [
            "pk_catalog_name?: Utf8",
            "pk_db_schema_name?: Utf8",
            "pk_table_name: Utf8",
            "pk_column_name: Utf8",
            "fk_catalog_name?: Utf8",
            "fk_db_schema_name?: Utf8",
            "fk_table_name: Utf8",
            "fk_column_name: Utf8",
            "key_sequence: Int32",
            "fk_key_name?: Utf8",
            "pk_key_name?: Utf8",
            "update_rule: UInt8",
            "delete_rule: UInt8",
        ];
        for command in [
            Command::CommandGetImportedKeys(CommandGetImportedKeys::default()),
            Command::CommandGetExportedKeys(CommandGetExportedKeys::default()),
            Command::CommandGetCrossReference(CommandGetCrossReference::default()),
        ] {
            assert_eq!(written(&command), expected);
        }
    }

    #[test]
    fn only_metadata_is_handled() {
        assert!(handles(&tables(true)));
        assert!(handles(&Command::CommandGetXdbcTypeInfo(
            CommandGetXdbcTypeInfo::default()
        )));
        let query = Command::CommandStatementQuery(CommandStatementQuery::default());
        assert!(!handles(&query));
        assert_eq!(
            schema(&query).expect_err("no metadata").kind,
            crate::error::ErrorKind::Unimplemented
        );
    }

    #[test]
    fn an_unknown_information_code_is_refused_before_the_ticket() {
        let wrong = Command::CommandGetSqlInfo(CommandGetSqlInfo {
            info: vec![0, 9_999],
        });
        let error = schema(&wrong).expect_err("unknown code");
        assert_eq!(error.kind, crate::error::ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("`9999`"), "{error}");
    }
}
