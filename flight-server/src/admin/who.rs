//! `flight-server admin who`, `hub.access` and the dry runs: who can see a column, and why.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use hubflight_policy::Sources;
use hubflight_rights::dataset::Dataset;
use hubflight_rights::habilitation::{Columns, Habilitation, TableGrant, Tables};
use hubflight_rights::{Action, Asker, Decision, Register, Request, Rules, Zone};
use hubflight_store::Store;

use super::Desk;
use super::door::Door;
use super::lists::{Table, day};
use super::stored::Stored;
use crate::catalog::datasets::Datasets;
use crate::config::Config;
use crate::error::Result;
use crate::hub::Hub;
use crate::rules;

/// A column, `dataset.table.column`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnName {
    pub dataset: String,
    pub table: String,
    pub column: String,
}

impl std::str::FromStr for ColumnName {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parts: Vec<&str> = text.split('.').collect();
        match parts.as_slice() {
            [dataset, table, column] if parts.iter().all(|part| !part.is_empty()) => Ok(Self {
                dataset: (*dataset).to_owned(),
                table: (*table).to_owned(),
                column: (*column).to_owned(),
            }),
            _ => Err(format!("`{text}` is no column; write dataset.table.column")),
        }
    }
}

/// What decides who sees what, at one moment.
pub struct Judge {
    pub(super) store: Store,
    pub(super) rules: Arc<Rules>,
    /// None for a demo's, which its configuration does not name.
    pub(super) datasets: Option<Arc<Datasets>>,
    /// Of the hub's listeners.
    pub(super) zones: BTreeSet<Zone>,
    pub(super) now: DateTime<Utc>,
}

/// A dataset of a project, from a zone at a moment.
#[derive(Clone, Copy)]
pub(super) struct Spot<'a> {
    pub project: &'a str,
    pub dataset: &'a str,
    pub zone: &'a Zone,
    pub at: DateTime<Utc>,
}

/// A habilitation that opens a dataset from a zone, and to whom.
pub struct Seen {
    pub zone: Zone,
    pub habilitation: Arc<Habilitation>,
    pub members: Vec<String>,
    pub entered_by: Option<String>,
    pub confirmed_by: Option<String>,
}

/// How a column is shown.
pub struct Shown {
    pub column: ColumnName,
    /// As stored, as a pseudonym, or by which mask.
    pub how: String,
    /// Which rows it is shown in.
    pub rows: &'static str,
}

/// Who can see a column at this moment, how, from where, until when and by which decision. Who may
/// do so only by some login is listed too.
pub async fn who(desk: &Desk, name: &ColumnName) -> Result<String> {
    let judge = Judge::at(desk).await?;
    let dataset = judge.described(&name.dataset);
    let head = [
        "project", "zone", "members", "mode", "column", "rows", "export", "linkage", "until",
        "decision",
    ];
    let mut table = Table::new(&head);
    for seen in judge.seen(Some(&name.dataset)).await? {
        let habilitation = &seen.habilitation;
        let Some((how, rows)) = shown(habilitation, dataset.as_deref(), name) else {
            continue;
        };
        table.row([
            habilitation.project.clone(),
            seen.zone.to_string(),
            seen.members.join(", "),
            habilitation.mode.label().to_owned(),
            how,
            rows.to_owned(),
            habilitation.export.label().to_owned(),
            habilitation.linkage_group.clone(),
            day(habilitation.valid_to),
            format!(
                "{} ({} version {})",
                habilitation.decision, habilitation.id, habilitation.version
            ),
        ]);
    }
    Ok(table.text())
}

impl Judge {
    /// That of a running hub: what is in force there.
    pub fn of_hub(hub: &Hub, now: DateTime<Utc>) -> Self {
        Self {
            store: hub.store.clone(),
            rules: Arc::clone(&hub.rules),
            datasets: Some(Arc::clone(&hub.datasets)),
            zones: zones(&hub.config),
            now,
        }
    }

    pub(super) async fn at(desk: &Desk) -> Result<Self> {
        if let Door::Session(session) = &desk.door {
            return Ok(Self::of_hub(&session.hub, desk.now));
        }
        Ok(Self {
            store: desk.store.clone(),
            rules: Arc::new(rules::load(&desk.config.policies)?),
            datasets: desk.datasets().await?,
            zones: zones(&desk.config),
            now: desk.now,
        })
    }

    pub(super) fn described(&self, dataset: &str) -> Option<Arc<Dataset>> {
        self.datasets.as_ref()?.dataset(dataset)
    }

    /// The habilitations that are in force, or those of one dataset, for each zone, with the
    /// members whom the policies let use them.
    pub async fn seen(&self, dataset: Option<&str>) -> Result<Vec<Seen>> {
        let stored = Stored::now(&self.store).await?;
        let mut seen = Vec::new();
        for project in stored.projects() {
            let askers = stored.askers(project, self.now);
            let register = stored.register(project, self.now);
            let mut datasets = stored.datasets(project);
            datasets.retain(|name| dataset.is_none_or(|only| *name == only));
            let spots = datasets.iter();
            let spots = spots.flat_map(|name| self.zones.iter().map(move |zone| (*name, zone)));
            for (dataset, zone) in spots {
                let spot = Spot {
                    project,
                    dataset,
                    zone,
                    at: self.now,
                };
                let opened = self.opened(&register, &askers, spot);
                let Some((_, habilitation)) = opened.last().cloned() else {
                    continue;
                };
                let mut rows = stored.versions(project).iter().map(|version| &version.row);
                let row = rows
                    .find(|row| row.id == habilitation.id && row.version == habilitation.version);
                seen.push(Seen {
                    zone: zone.clone(),
                    habilitation,
                    members: opened.into_iter().map(|(id, _)| id.to_owned()).collect(),
                    entered_by: row.and_then(|row| row.entered_by.clone()),
                    confirmed_by: row.and_then(|row| row.confirmed_by.clone()),
                });
            }
        }
        Ok(seen)
    }

    /// Which of these persons may query a dataset by any of their logins, each once, with the
    /// habilitation that lets them.
    pub(super) fn opened<'a>(
        &self,
        register: &Register,
        askers: &'a [Asker],
        spot: Spot<'_>,
    ) -> Vec<(&'a str, Arc<Habilitation>)> {
        let described = self.described(spot.dataset);
        let opens = |who: &'a Asker| {
            let decide = |action| {
                let request = Request {
                    who,
                    project: spot.project,
                    dataset: spot.dataset,
                    described: described.as_deref(),
                    action,
                    zone: spot.zone,
                    at: spot.at,
                };
                match register.decide(&self.rules, &request) {
                    Decision::Allow(habilitation) => Some(habilitation),
                    Decision::Deny(_) => None,
                }
            };
            let habilitation = decide(Action::querying(decide(Action::Browse)?.mode))?;
            Some((who.person.as_str(), habilitation))
        };
        let mut opened: Vec<_> = askers.iter().filter_map(opens).collect();
        opened.dedup_by_key(|(person, _)| *person);
        opened
    }

    /// The columns that a habilitation shows of the files as they are; none where the datasets are
    /// not known.
    pub fn columns(&self, habilitation: &Habilitation) -> Vec<Shown> {
        let (Some(datasets), Some(dataset)) =
            (&self.datasets, self.described(&habilitation.dataset))
        else {
            return Vec::new();
        };
        let mut columns = Vec::new();
        for table in &dataset.tables {
            let Some(source) = datasets.source(&dataset.name, &table.name) else {
                continue;
            };
            for field in source.schema().fields() {
                let column = ColumnName {
                    dataset: dataset.name.clone(),
                    table: table.name.clone(),
                    column: field.name().clone(),
                };
                let shown = shown(habilitation, Some(&dataset), &column);
                columns.extend(shown.map(|(how, rows)| Shown { column, how, rows }));
            }
        }
        columns
    }
}

fn zones(config: &Config) -> BTreeSet<Zone> {
    let listeners = config.listeners().into_iter();
    listeners.map(|listener| listener.zone).collect()
}

/// How a habilitation shows a column, and which rows; None where it does not.
fn shown(
    habilitation: &Habilitation,
    dataset: Option<&Dataset>,
    name: &ColumnName,
) -> Option<(String, &'static str)> {
    let stored = || {
        let table = dataset.and_then(|dataset| Some((dataset, dataset.table(&name.table)?)));
        let domain = table.and_then(|(dataset, table)| dataset.identifier(table, &name.column));
        domain.map_or_else(
            || "as stored".to_owned(),
            |domain| format!("pseudonym of `{domain}`"),
        )
    };
    let cohort = habilitation.persons.as_ref().map(|_| "of a cohort");
    let every = || cohort.unwrap_or("all");
    let grant: &TableGrant = match &habilitation.tables {
        Tables::All => return Some((stored(), every())),
        Tables::Only(grants) => grants.iter().find(|grant| grant.table == name.table)?,
    };
    let is_granted = match &grant.columns {
        Columns::All => true,
        Columns::Only(names) => names.contains(&name.column),
        Columns::Except(names) => !names.contains(&name.column),
    };
    let mask = grant
        .masks
        .iter()
        .find(|(column, _)| *column == name.column);
    let column = mask.map_or_else(stored, |(_, mask)| format!("masked: {mask:?}"));
    let rows = match (&grant.rows, cohort) {
        (None, _) => every(),
        (Some(_), None) => "filtered",
        (Some(_), Some(_)) => "filtered, of a cohort",
    };
    is_granted.then_some((column, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read() {
        let name: ColumnName = "snds.er_prs_f.ben_idt".parse().expect("valid");
        assert_eq!(
            (name.dataset.as_str(), name.column.as_str()),
            ("snds", "ben_idt")
        );
        for wrong in ["", "snds", "snds.t", "a..b", "a.b.c.d"] {
            assert!(wrong.parse::<ColumnName>().is_err(), "{wrong}");
        }
    }
}
