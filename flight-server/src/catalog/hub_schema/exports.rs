//! `exports`: packages that were asked for, what the rules found in them and where they stand.

use std::sync::Arc;

use chrono::Utc;
use hubflight_store::Export;

use super::listing::{Rows, once};
use super::{Scope, SystemTable, instant, integer, text};
use crate::airlock::findings;
use crate::catalog::space::schema_from_ipc;
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
            let is_outside = match &scope {
                Scope::Project { zone, .. } => zone.is_outside(),
                Scope::Hub(_) => false,
            };
            let mut rows = Rows::new(&schema);
            for export in hub.store.exports(scope.project()).await? {
                if is_outside && !export.is_open(now) {
                    continue;
                }
                let package = &export.package;
                let found = findings(package)?;
                let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                // Names of columns are content, of which nothing leaves but what was released.
                let found = (!is_outside).then(|| found.join("; "));
                rows.text(0, Some(&package.id));
                rows.text(1, Some(&package.project));
                rows.text(2, Some(&package.name));
                rows.text(3, Some(&package.requested_by));
                rows.instant(4, Some(package.requested_at));
                rows.text(5, Some(state(&export, now)));
                rows.integer(6, i64::try_from(package.rows).ok());
                rows.integer(7, i64::try_from(package.bytes).ok());
                rows.text(8, found.as_deref());
                rows.text(9, export.decided_by.as_deref());
                rows.instant(10, export.decided_at);
                rows.instant(11, Some(package.expires_at));
                let purpose = (!is_outside).then_some(package.purpose.as_str());
                rows.text(12, purpose);
                let columns = schema_from_ipc(&package.schema_ipc)?;
                let columns = columns.fields().iter();
                let columns =
                    columns.map(|field| format!("{} {}", field.name(), field.data_type()));
                let columns: Vec<String> = columns.collect();
                rows.text(13, (!is_outside).then(|| columns.join(", ")).as_deref());
            }
            rows.finish(schema)
        })
    })
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
