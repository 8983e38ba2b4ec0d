//! `exports`: packages that were asked for, what the rules found in them and where they stand.

use std::sync::Arc;

use chrono::Utc;
use hubflight_store::{Export, NewExport};

use super::listing::{Rows, once};
use super::{Scope, SystemTable, instant, integer, text};
use crate::airlock::findings;
use crate::catalog::space::schema_from_ipc;
use crate::error::Result;
use crate::hub::Hub;

/// The packages of the project, or of all for administrators: never their content. Outside there
/// are only those that are read there.
pub fn exports(hub: Arc<Hub>, scope: Scope) -> SystemTable {
    let fields = vec![
        text("id"),
        text("project"),
        text("name"),
        text("requested_by"),
        instant("requested_at"),
        text("state"),
        integer("rows"),
        integer("bytes"),
        text("findings"),
        text("decided_by"),
        instant("decided_at"),
        instant("expires_at"),
        text("purpose"),
        text("columns"),
    ];
    SystemTable::new(fields, move |schema| {
        let (hub, scope) = (Arc::clone(&hub), scope.clone());
        once(async move {
            let now = Utc::now();
            // Purposes and names of columns are content, of which nothing leaves but what was
            // released.
            let is_outside = scope.zone().is_outside();
            let is_member = scope.project().is_some();
            let mut rows = Rows::new(&schema);
            for export in hub.store.exports(scope.project()).await? {
                if is_outside && is_member && !export.is_open(now) {
                    continue;
                }
                let package = &export.package;
                let [found, purpose, columns] = match is_outside {
                    true => [None, None, None],
                    false => [
                        Some(found(package)?),
                        Some(package.purpose.clone()),
                        Some(columns(package)?),
                    ],
                };
                rows.text(Some(&package.id));
                rows.text(Some(&package.project));
                rows.text(Some(&package.name));
                rows.text(Some(&package.requested_by));
                rows.instant(Some(package.requested_at));
                rows.text(Some(state(&export, now)));
                rows.integer(i64::try_from(package.rows).ok());
                rows.integer(i64::try_from(package.bytes).ok());
                rows.text(found.as_deref());
                rows.text(export.decided_by.as_deref());
                rows.instant(export.decided_at);
                rows.instant(Some(package.expires_at));
                rows.text(purpose.as_deref());
                rows.text(columns.as_deref());
            }
            rows.finish(schema)
        })
    })
}

fn found(package: &NewExport) -> Result<String> {
    let found = findings(package)?;
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    Ok(found.join("; "))
}

/// The columns with their types; names are quoted, since a name may be written like two columns.
fn columns(package: &NewExport) -> Result<String> {
    let columns = schema_from_ipc(&package.schema_ipc)?;
    let columns = columns.fields().iter();
    let columns = columns.map(|field| format!("{:?} {}", field.name(), field.data_type()));
    Ok(columns.collect::<Vec<_>>().join(", "))
}

/// Where a package stands, as members and administrators are told.
pub fn state(export: &Export, now: chrono::DateTime<Utc>) -> &'static str {
    match export.state(now) {
        hubflight_store::ExportState::Released if export.decider_is_member => {
            "released by a member"
        }
        state => state.as_str(),
    }
}
