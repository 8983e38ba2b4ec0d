//! `flight-server admin due` and `hub.review_due`: what waits for somebody, and what ends soon.

use chrono::{DateTime, Days, Months, Utc};
use hubflight_ledger::overdue;
use hubflight_store::{ExportState, Store};

use super::Desk;
use super::lists::{Table, day};
use crate::auth::ADMIN_CATALOG;
use crate::config::Config;
use crate::error::Result;
use crate::versions::{IN_FORCE, UNCONFIRMED, Version, WAITING, states};

/// Days before its end from which somebody should look at a right.
const ENDING_DAYS: u64 = 60;

/// Something that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// `habilitation`, `project`, `export` or `audit`.
    pub what: &'static str,
    pub id: String,
    pub version: Option<u32>,
    pub project: String,
    pub reason: String,
    /// When it ends by itself.
    pub ends: DateTime<Utc>,
    /// Who entered or asked for it, and so decides on nothing of it.
    pub by: Option<String>,
}

pub(super) async fn listed(desk: &Desk) -> Result<String> {
    let mut table = Table::new(&["what", "id", "version", "project", "ends", "by", "reason"]);
    for due in due(&desk.store, &desk.config, desk.now).await? {
        let version = due.version.map(|version| version.to_string());
        table.row([
            due.what.to_owned(),
            due.id,
            version.unwrap_or_else(|| "-".to_owned()),
            due.project,
            day(due.ends),
            due.by.unwrap_or_else(|| "-".to_owned()),
            due.reason,
        ]);
    }
    Ok(table.text())
}

/// What is due at `now`: habilitations that wait for a confirmation, or for another, those and
/// projects that end within 60 days, exports that wait for a decision, and an audit that says longer
/// who did what than it is kept for.
pub async fn due(store: &Store, config: &Config, now: DateTime<Utc>) -> Result<Vec<Due>> {
    let soon = now.checked_add_days(Days::new(ENDING_DAYS)).unwrap_or(now);
    let ends_soon = |ends: DateTime<Utc>| now < ends && ends <= soon;
    let ending = || format!("ends within {ENDING_DAYS} days");
    let mut found = Vec::new();
    let rows = store.habilitations().await?.into_iter();
    let versions = rows.map(Version::read).collect::<Result<Vec<_>>>()?;
    for (version, state) in versions.iter().zip(states(&versions, now)) {
        let reason = match state {
            WAITING | UNCONFIRMED if now < version.body.valid_to => state.to_owned(),
            IN_FORCE | "not yet" if ends_soon(version.body.valid_to) => ending(),
            _ => continue,
        };
        found.push(Due {
            what: "habilitation",
            id: version.row.id.clone(),
            version: Some(version.row.version),
            project: version.row.project.clone(),
            reason,
            ends: version.body.valid_to,
            by: version.row.entered_by.clone(),
        });
    }
    for project in store.projects().await? {
        if project.id != ADMIN_CATALOG && ends_soon(project.valid_to) {
            found.push(Due {
                what: "project",
                id: project.id.clone(),
                version: None,
                project: project.id,
                reason: ending(),
                ends: project.valid_to,
                by: None,
            });
        }
    }
    for export in store.waiting_exports().await? {
        if export.state(now) == ExportState::Waiting {
            found.push(Due {
                what: "export",
                id: export.package.id,
                version: None,
                project: export.package.project,
                reason: "waits for a decision".to_owned(),
                ends: export.package.expires_at,
                by: Some(export.package.requested_by),
            });
        }
    }
    let kept = config.audit.kept_months;
    if let Some(oldest) = overdue(store, kept, now).await? {
        found.push(Due {
            what: "audit",
            id: oldest.format("%Y-%m").to_string(),
            version: None,
            project: ADMIN_CATALOG.to_owned(),
            reason: format!(
                "says who did what for longer than {kept} months; `admin audit purge` ends that"
            ),
            ends: oldest.checked_add_months(Months::new(kept)).unwrap_or(now),
            by: None,
        });
    }
    Ok(found)
}
