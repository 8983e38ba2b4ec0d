//! `flight-server admin who`, `hub.access` and the dry runs: who can see a column, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use hubflight_policy::Sources;
use hubflight_rights::dataset::Dataset;
use hubflight_rights::habilitation::{Columns, Habilitation, Mode, TableGrant, Tables};
use hubflight_rights::{Action, Asker, Decision, Login, Method, Register, Request, Rules, Zone};
use hubflight_store::Store;

use super::Desk;
use super::door::Door;
use super::lists::{Table, day};
use crate::catalog::datasets::Datasets;
use crate::config::Config;
use crate::error::Result;
use crate::hub::Hub;
use crate::rules;
use crate::versions::Version;

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
        "project", "zone", "members", "mode", "column", "rows", "export", "until", "decision",
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
            seen.mode().to_owned(),
            how,
            rows.to_owned(),
            habilitation.export.label().to_owned(),
            day(habilitation.valid_to),
            format!(
                "{} ({} version {})",
                habilitation.decision, habilitation.id, habilitation.version
            ),
        ]);
    }
    Ok(table.text())
}

impl Seen {
    pub fn mode(&self) -> &'static str {
        match self.habilitation.mode {
            Mode::Row => "row",
            Mode::Aggregate => "aggregate",
        }
    }
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
        // By project and dataset.
        let mut granted: BTreeMap<(String, String), Vec<Version>> = BTreeMap::new();
        for row in self.store.habilitations().await? {
            if row.is_pending() || dataset.is_some_and(|dataset| row.dataset != dataset) {
                continue;
            }
            let place = (row.project.clone(), row.dataset.clone());
            granted.entry(place).or_default().push(Version::read(row)?);
        }
        let mut askers: BTreeMap<&str, Vec<Asker>> = BTreeMap::new();
        let mut seen = Vec::new();
        for ((project, dataset), versions) in &granted {
            if !askers.contains_key(project.as_str()) {
                askers.insert(project, self.askers(project).await?);
            }
            let askers = askers.get(project.as_str()).map_or(&[][..], Vec::as_slice);
            let register: Register = versions.iter().map(|it| it.granted(self.now)).collect();
            let described = self.described(dataset);
            for zone in &self.zones {
                let opened = |who| {
                    let opened = self.opened(
                        &register,
                        who,
                        (project, dataset),
                        described.as_deref(),
                        zone,
                    );
                    Some((who.person.clone(), opened?))
                };
                let opened: Vec<(String, Arc<Habilitation>)> =
                    askers.iter().filter_map(opened).collect();
                let Some((_, habilitation)) = opened.last().cloned() else {
                    continue;
                };
                let mut members: Vec<String> = opened.into_iter().map(|(id, _)| id).collect();
                members.dedup();
                let mut rows = versions.iter().map(|version| &version.row);
                let row = rows
                    .find(|row| row.id == habilitation.id && row.version == habilitation.version);
                seen.push(Seen {
                    zone: zone.clone(),
                    habilitation,
                    members,
                    entered_by: row.and_then(|row| row.entered_by.clone()),
                    confirmed_by: row.and_then(|row| row.confirmed_by.clone()),
                });
            }
        }
        Ok(seen)
    }

    /// The habilitation that lets somebody query a dataset from a zone.
    pub(super) fn opened(
        &self,
        register: &Register,
        who: &Asker,
        (project, dataset): (&str, &str),
        described: Option<&Dataset>,
        zone: &Zone,
    ) -> Option<Arc<Habilitation>> {
        let decide = |action| {
            let request = Request {
                who,
                project,
                dataset,
                described,
                action,
                zone,
                at: self.now,
            };
            match register.decide(&self.rules, &request) {
                Decision::Allow(habilitation) => Some(habilitation),
                Decision::Deny(_) => None,
            }
        };
        decide(Action::querying(decide(Action::Browse)?.mode))
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

    /// The members of a project who may enter it, in each of the ways to log in: with two factors, of
    /// which an access token is none: it is good for this project only and carries no role.
    async fn askers(&self, project: &str) -> Result<Vec<Asker>> {
        let mut askers = Vec::new();
        for member in self.store.members(Some(project)).await? {
            let person = self.store.person(&member.person).await?;
            if !person.is_some_and(|person| person.active) {
                continue;
            }
            let roles = self.store.admin_roles(&member.person).await?;
            let mut projects = self.store.projects_of(&member.person).await?;
            projects
                .retain(|project| project.valid_from <= self.now && self.now < project.valid_to);
            let projects = projects.into_iter();
            let projects = projects.map(|project| (project.id, project.organisation));
            let mut by_token = Asker {
                person: member.person,
                roles: roles.iter().map(|role| role.as_str().to_owned()).collect(),
                projects: projects.collect(),
                login: Login::default(),
            };
            for method in [Method::Password, Method::Oidc, Method::Certificate] {
                let login = Login {
                    method,
                    second_factor: true,
                };
                let who = by_token.clone();
                askers.push(Asker { login, ..who });
            }
            by_token.roles.clear();
            by_token.projects.retain(|id, _| id == project);
            by_token.login = Login {
                method: Method::AccessToken,
                second_factor: false,
            };
            askers.push(by_token);
        }
        Ok(askers)
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
