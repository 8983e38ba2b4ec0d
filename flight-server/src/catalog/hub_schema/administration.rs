//! For administrators: `projects`, `access` (who sees which column, and why) and `review_due`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use chrono::Utc;
use futures::{StreamExt, TryStreamExt};

use super::listing::{Rows, once};
use super::{SystemTable, instant, integer, text};
use crate::admin::{Judge, Seen, due};
use crate::auth::ADMIN_CATALOG;
use crate::error::{Error, Result};
use crate::hub::Hub;

/// The projects, and whether the configuration or a command is answerable for each.
pub fn projects(hub: Arc<Hub>) -> SystemTable {
    let fields = vec![
        text("id"),
        text("title"),
        text("purpose"),
        text("organisation"),
        instant("valid_from"),
        instant("valid_to"),
        text("state"),
        integer("space_quota_bytes"),
        text("made_by"),
    ];
    SystemTable::new(fields, move |schema| {
        let hub = Arc::clone(&hub);
        once(async move {
            let now = Utc::now();
            let by_command = hub.store.projects_by_command().await?;
            let mut rows = Rows::new(&schema);
            for project in hub.store.projects().await? {
                if project.id == ADMIN_CATALOG {
                    continue;
                }
                let state = match project.is_open(now) {
                    true => "open",
                    false if project.valid_to <= now => "ended",
                    false => "not yet",
                };
                let made_by = match by_command.contains(&project.id) {
                    true => "command",
                    false => "configuration",
                };
                rows.text(Some(&project.id));
                rows.text(Some(&project.title));
                rows.text(Some(&project.purpose));
                rows.text(Some(&project.organisation));
                rows.instant(Some(project.valid_from));
                rows.instant(Some(project.valid_to));
                rows.text(Some(state));
                rows.integer(Some(project.space_quota_bytes));
                rows.text(Some(made_by));
            }
            rows.finish(schema)
        })
    })
}

/// Who can see which column at this moment, a row for each column, project and zone.
pub fn access(hub: Arc<Hub>) -> SystemTable {
    let fields = vec![
        text("dataset"),
        text("table_name"),
        text("column_name"),
        text("project"),
        text("zone"),
        text("members"),
        text("mode"),
        text("linkage_group"),
        text("shown"),
        text("visible_rows"),
        text("habilitation"),
        integer("version"),
        text("decision"),
        text("entered_by"),
        text("confirmed_by"),
        instant("valid_from"),
        instant("valid_to"),
    ];
    SystemTable::new(fields, move |schema| {
        let hub = Arc::clone(&hub);
        let batches = async move {
            let judge = Judge::of_hub(&hub, Utc::now());
            let seen = judge.seen(None).await?;
            // A batch for each, when it is read: there may be many columns.
            let batches = futures::stream::iter(seen);
            Ok::<_, Error>(batches.map(move |seen| seen_columns(&judge, &seen, &schema)))
        };
        futures::stream::once(batches).try_flatten().boxed()
    })
}

fn seen_columns(judge: &Judge, seen: &Seen, schema: &SchemaRef) -> Result<RecordBatch> {
    let habilitation = &seen.habilitation;
    let (zone, members) = (seen.zone.to_string(), seen.members.join(", "));
    let mut rows = Rows::new(schema);
    for shown in judge.columns(habilitation) {
        rows.text(Some(&shown.column.dataset));
        rows.text(Some(&shown.column.table));
        rows.text(Some(&shown.column.column));
        rows.text(Some(&habilitation.project));
        rows.text(Some(&zone));
        rows.text(Some(&members));
        rows.text(Some(habilitation.mode.label()));
        rows.text(Some(&habilitation.linkage_group));
        rows.text(Some(&shown.how));
        rows.text(Some(shown.rows));
        rows.text(Some(&habilitation.id));
        rows.integer(Some(i64::from(habilitation.version)));
        rows.text(Some(&habilitation.decision));
        rows.text(seen.entered_by.as_deref());
        rows.text(seen.confirmed_by.as_deref());
        rows.instant(Some(habilitation.valid_from));
        rows.instant(Some(habilitation.valid_to));
    }
    rows.finish(Arc::clone(schema))
}

/// What waits for somebody, and what ends soon.
pub fn review_due(hub: Arc<Hub>) -> SystemTable {
    let fields = vec![
        text("what"),
        text("id"),
        integer("version"),
        text("project"),
        instant("ends"),
        text("by"),
        text("reason"),
    ];
    SystemTable::new(fields, move |schema| {
        let hub = Arc::clone(&hub);
        once(async move {
            let mut rows = Rows::new(&schema);
            for due in due(&hub.store, &hub.config, Utc::now()).await? {
                rows.text(Some(due.what));
                rows.text(Some(&due.id));
                rows.integer(due.version.map(i64::from));
                rows.text(Some(&due.project));
                rows.instant(Some(due.ends));
                rows.text(due.by.as_deref());
                rows.text(Some(&due.reason));
            }
            rows.finish(schema)
        })
    })
}
