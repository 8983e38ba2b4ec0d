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
                let state = match (project.valid_from <= now, now < project.valid_to) {
                    (_, false) => "ended",
                    (false, true) => "not yet",
                    (true, true) => "open",
                };
                let made_by = match by_command.contains(&project.id) {
                    true => "command",
                    false => "configuration",
                };
                rows.text(0, Some(&project.id));
                rows.text(1, Some(&project.title));
                rows.text(2, Some(&project.purpose));
                rows.text(3, Some(&project.organisation));
                rows.instant(4, Some(project.valid_from));
                rows.instant(5, Some(project.valid_to));
                rows.text(6, Some(state));
                rows.integer(7, Some(project.space_quota_bytes));
                rows.text(8, Some(made_by));
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
        rows.text(0, Some(&shown.column.dataset));
        rows.text(1, Some(&shown.column.table));
        rows.text(2, Some(&shown.column.column));
        rows.text(3, Some(&habilitation.project));
        rows.text(4, Some(&zone));
        rows.text(5, Some(&members));
        rows.text(6, Some(seen.mode()));
        rows.text(7, Some(&shown.how));
        rows.text(8, Some(shown.rows));
        rows.text(9, Some(&habilitation.id));
        rows.integer(10, Some(i64::from(habilitation.version)));
        rows.text(11, Some(&habilitation.decision));
        rows.text(12, seen.entered_by.as_deref());
        rows.text(13, seen.confirmed_by.as_deref());
        rows.instant(14, Some(habilitation.valid_from));
        rows.instant(15, Some(habilitation.valid_to));
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
            for due in due(&hub.store, Utc::now()).await? {
                rows.text(0, Some(due.what));
                rows.text(1, Some(&due.id));
                rows.integer(2, due.version.map(i64::from));
                rows.text(3, Some(&due.project));
                rows.instant(4, Some(due.ends));
                rows.text(5, due.by.as_deref());
                rows.text(6, Some(&due.reason));
            }
            rows.finish(schema)
        })
    })
}
