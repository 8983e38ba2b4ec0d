//! CommandStatementIngest: which table is meant, and the rows that come for it.

use std::collections::HashMap;

use arrow_flight::FlightData;
use arrow_flight::decode::DecodedPayload;
use arrow_flight::sql::{CommandStatementIngest, TableExistsOption, TableNotExistOption};
use datafusion::sql::sqlparser::ast::{Ident, ObjectName};
use futures::{Stream, StreamExt};
use hubflight_wire::{received, uploads};
use tokio::time::Instant as Deadline;
use tonic::Status;

use crate::catalog::project::SPACE_SCHEMA;
use crate::catalog::space::{Existing, Missing, Sent, Upload};
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::exec::run;

/// What errors call the rows.
const ROWS: &str = "the rows for a table";
/// Bytes of each part of a name, which the audit keeps whoever sends it.
const NAME_BYTES_MAX: usize = 1024;

/// What is to become of the rows, and the rows as they come; their schema has come when this
/// returns.
///
/// # Errors
/// `InvalidArgument` for what no table of the space can be or hold; as `messages` say.
pub async fn upload(
    limits: &Limits,
    command: CommandStatementIngest,
    messages: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
    deadline: Deadline,
) -> Result<Upload> {
    let table = name_of(&command)?;
    let (missing, existing) = modes_of(&command)?;
    let bytes_max = limits.message_bytes_max;
    let mut dictionaries = Dictionaries::default();
    let mut rows = received::decoded(ROWS, bytes_max, messages, move |message| {
        Ok(dictionaries.take(message, bytes_max)?)
    });
    let first = tokio::time::timeout_at(deadline, rows.next()).await;
    let first = first.map_err(|_| run::too_late())?;
    let Some(DecodedPayload::Schema(schema)) = first.transpose()? else {
        return Err(Error::invalid(format!(
            "{ROWS} have no schema; send it first, as Arrow Flight does"
        )));
    };
    uploads::check_types(ROWS, &schema)?;
    let batches = rows.filter_map(|message| {
        let batch = message.map(|payload| match payload {
            DecodedPayload::RecordBatch(batch) => Some(Sent {
                bytes: uploads::value_bytes(&batch),
                batch,
            }),
            _ => None,
        });
        std::future::ready(batch.map_err(Error::from).transpose())
    });
    Ok(Upload {
        table,
        missing,
        existing,
        schema,
        batches: batches.boxed(),
    })
}

/// The name as it is written, quoted: clients send it as it is, not as SQL. Of a catalog, rows go to
/// one schema; whether the default schema has such a table is known with the session ([`in_session`]).
fn name_of(command: &CommandStatementIngest) -> Result<ObjectName> {
    let CommandStatementIngest {
        catalog,
        schema,
        table,
        ..
    } = command;
    let schema = schema.as_deref();
    let schema = schema.or(catalog.as_ref().map(|_| SPACE_SCHEMA));
    let parts = [catalog.as_deref(), schema, Some(table.as_str())];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    if parts.iter().any(|part| part.len() > NAME_BYTES_MAX) {
        return Err(Error::invalid(format!(
            "a part of a table's name has more than {NAME_BYTES_MAX} bytes"
        )));
    }
    let quoted = parts.into_iter().map(|part| Ident::with_quote('"', part));
    Ok(ObjectName::from(quoted.collect::<Vec<_>>()))
}

/// A table of a catalog without a schema is one without either, where the catalog is the session's:
/// what the default schema has is refused, instead of another table made in the space.
pub fn in_session(mut upload: Upload, catalog: Option<&str>, project: Option<&str>) -> Upload {
    if catalog.is_some() && catalog == project {
        let table = upload.table.0.pop();
        upload.table = ObjectName(table.into_iter().collect());
    }
    upload
}

/// The catalog of a table whose schema is not said.
pub fn catalog_alone(command: &CommandStatementIngest) -> Option<String> {
    let catalog = command.catalog.clone();
    catalog.filter(|_| command.schema.is_none())
}

fn modes_of(command: &CommandStatementIngest) -> Result<(Missing, Existing)> {
    if command.temporary {
        return Err(Error::unimplemented(
            "there are no temporary tables; leave `temporary` out, and drop the table afterwards",
        ));
    }
    refuse_options(&command.options)?;
    let options = command.table_definition_options.unwrap_or_default();
    let missing = match options.if_not_exist() {
        TableNotExistOption::Create => Missing::Create,
        TableNotExistOption::Fail => Missing::Fail,
        TableNotExistOption::Unspecified => return Err(unspecified("if_not_exist")),
    };
    let existing = match options.if_exists() {
        TableExistsOption::Fail => Existing::Fail,
        TableExistsOption::Append => Existing::Append,
        TableExistsOption::Replace => Existing::Replace,
        TableExistsOption::Unspecified => return Err(unspecified("if_exists")),
    };
    Ok((missing, existing))
}

fn refuse_options(options: &HashMap<String, String>) -> Result<()> {
    match options.len() {
        0 => Ok(()),
        _ => Err(Error::invalid(
            "rows for a table take no `options` here; leave them out",
        )),
    }
}

fn unspecified(option: &str) -> Error {
    Error::invalid(format!(
        "`table_definition_options.{option}` is not given; say what is to happen to the table"
    ))
}

/// What the decoder keeps of dictionaries, until each is replaced.
#[derive(Default)]
struct Dictionaries(HashMap<i64, usize>);

impl Dictionaries {
    fn take(&mut self, message: &FlightData, bytes_max: usize) -> Result<()> {
        let Some((id, bytes)) = received::dictionary(message) else {
            return Ok(());
        };
        self.0.insert(id, bytes);
        let held = self
            .0
            .values()
            .fold(0, |sum: usize, bytes| sum.saturating_add(*bytes));
        match held > bytes_max {
            true => Err(Error::exhausted(format!(
                "the dictionaries of {ROWS} have {held} bytes together and may have {bytes_max}; \
                 send plain values"
            ))),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
