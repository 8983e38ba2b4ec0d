//! `flight-server admin review` and `flight-server admin who`: what is looked through every
//! month, and who can see a column.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{Months, NaiveDate, NaiveTime};
use hubflight_ledger::review;
use hubflight_policy::Sources;
use hubflight_rights::dataset::Dataset;
use hubflight_rights::habilitation::{Columns, Habilitation, Mode, TableGrant, Tables};
use hubflight_rights::{Action, Asker, Decision, Granted, Login, Method, Register, Request, Zone};

use super::Desk;
use super::lists::{Table, day};
use crate::catalog::datasets::Datasets;
use crate::config::Listener;
use crate::error::{Error, Result};
use crate::rules;
use crate::versions::Version;

/// Months before the one that is reviewed, which say what is usual.
const MONTHS_BEFORE: u32 = 3;
/// A volume is unusual where it is this many times the mean of the months before, …
const GROWTH_UNUSUAL: f64 = 3.0;
/// … and larger than this.
const BYTES_UNUSUAL_MIN: u64 = 100 << 20;

/// The month of `2026-11`.
pub fn month(text: &str) -> std::result::Result<NaiveDate, String> {
    NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d")
        .map_err(|_| format!("`{text}` is no month; write it as 2026-11"))
}

/// The review of a month, as text.
pub async fn of_month(desk: &Desk, month: NaiveDate) -> Result<String> {
    let from = month.and_time(NaiveTime::MIN).and_utc();
    let to = from
        .checked_add_months(Months::new(1))
        .ok_or_else(|| Error::invalid("there is no month after that one"))?;
    let review = review(&desk.store, from, to, MONTHS_BEFORE).await?;
    let mut volumes = Table::new(&["project", "statements", "rows", "bytes", "mean before", ""]);
    for volume in review.volumes {
        let growth = volume.growth();
        let large = volume.bytes_returned >= BYTES_UNUSUAL_MIN;
        let note = match growth {
            Some(growth) if large && growth >= GROWTH_UNUSUAL => format!("unusual: {growth:.1} ×"),
            None if large => "unusual: nothing before".to_owned(),
            _ => String::new(),
        };
        let before = volume.bytes_before;
        volumes.row([
            volume.project,
            volume.statements.to_string(),
            volume.rows_returned.to_string(),
            volume.bytes_returned.to_string(),
            before.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.0}")),
            note,
        ]);
    }
    let mut refused = Table::new(&["person", "event", "refusal", "times"]);
    for entry in review.refused {
        let person = entry.person.unwrap_or_else(|| "-".to_owned());
        refused.row([person, entry.event, entry.kind, entry.times.to_string()]);
    }
    let mut acts = Table::new(&["at", "act", "person", "project", "outcome", "by"]);
    for act in review.acts {
        let [person, project] =
            [act.person, act.project].map(|id| id.unwrap_or_else(|| "-".into()));
        let at = act.at.format("%Y-%m-%d %H:%M:%S").to_string();
        acts.row([at, act.event, person, project, act.outcome, act.client]);
    }
    Ok(format!(
        "Volumes of {month}\n{}\nRefusals and failures\n{}\nActs on rights, keys and logs\n{}",
        volumes.text(),
        refused.text(),
        acts.text(),
        month = month.format("%Y-%m"),
    ))
}

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

/// Who can see a column at this moment, how, from where, until when and by which decision. Who may
/// do so only by some login is listed too.
pub async fn who(desk: &Desk, name: &ColumnName) -> Result<String> {
    let datasets = datasets(desk).await?;
    let dataset = datasets.as_ref().and_then(|all| all.dataset(&name.dataset));
    let head = [
        "project", "zone", "members", "mode", "column", "rows", "export", "until", "decision",
    ];
    let mut table = Table::new(&head);
    for found in in_force(desk, &name.dataset, dataset.as_deref()).await? {
        let habilitation = &found.habilitation;
        let Some((shown, rows)) = shown(habilitation, dataset.as_deref(), name) else {
            continue;
        };
        table.row([
            habilitation.project.clone(),
            found.zone.to_string(),
            found.members.join(", "),
            match habilitation.mode {
                Mode::Row => "row".to_owned(),
                Mode::Aggregate => "aggregate".to_owned(),
            },
            shown,
            rows,
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

/// Descriptions of the datasets; a demo's are not in its configuration.
pub(super) async fn datasets(desk: &Desk) -> Result<Option<Datasets>> {
    if desk.config.datasets.is_empty() {
        return Ok(None);
    }
    let state = datafusion::prelude::SessionContext::new().state();
    Ok(Some(Datasets::open(&desk.config.datasets, &state).await?))
}

/// A habilitation that opens a dataset from a zone, and to whom.
struct InForce {
    zone: Zone,
    habilitation: Arc<Habilitation>,
    members: Vec<String>,
}

/// The habilitations of a dataset that are in force, for each zone of the hub's listeners, with
/// the members whom the policies let use them.
async fn in_force(desk: &Desk, dataset: &str, described: Option<&Dataset>) -> Result<Vec<InForce>> {
    let rules = rules::load(&desk.config.policies)?;
    let mut granted: BTreeMap<String, Vec<Granted>> = BTreeMap::new();
    for row in desk.store.habilitations().await? {
        if row.dataset != dataset || row.is_pending() {
            continue;
        }
        let version = Version::read(row)?;
        let of_project = granted.entry(version.row.project.clone()).or_default();
        of_project.push(version.granted(desk.now));
    }
    let mut found = Vec::new();
    for (project, granted) in granted {
        let register: Register = granted.into_iter().collect();
        let askers = askers(desk, &project).await?;
        for Listener { zone, .. } in desk.config.listeners() {
            let opened = |who: &Asker| {
                let decide = |action| {
                    let request = Request {
                        who,
                        project: &project,
                        dataset,
                        described,
                        action,
                        zone: &zone,
                        at: desk.now,
                    };
                    match register.decide(&rules, &request) {
                        Decision::Allow(habilitation) => Some(habilitation),
                        Decision::Deny(_) => None,
                    }
                };
                decide(Action::querying(decide(Action::Browse)?.mode))
            };
            let mut members: Vec<String> = Vec::new();
            let mut governing = None;
            for who in &askers {
                if let Some(habilitation) = opened(who) {
                    governing = Some(habilitation);
                    members.push(who.person.clone());
                }
            }
            members.dedup();
            found.extend(governing.map(|habilitation| InForce {
                zone: zone.clone(),
                habilitation,
                members,
            }));
        }
    }
    Ok(found)
}

/// The members of a project who may enter it, in each of the ways to log in: with two factors, of
/// which an access token is none: it is good for this project only and carries no role.
async fn askers(desk: &Desk, project: &str) -> Result<Vec<Asker>> {
    let mut askers = Vec::new();
    for member in desk.store.members(Some(project)).await? {
        let person = desk.store.person(&member.person).await?;
        if !person.is_some_and(|person| person.active) {
            continue;
        }
        let roles = desk.store.admin_roles(&member.person).await?;
        let mut projects = desk.store.projects_of(&member.person).await?;
        projects.retain(|project| project.valid_from <= desk.now && desk.now < project.valid_to);
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

/// How a habilitation shows a column, and which rows; None where it does not.
fn shown(
    habilitation: &Habilitation,
    dataset: Option<&Dataset>,
    name: &ColumnName,
) -> Option<(String, String)> {
    let stored = || {
        let table = dataset.and_then(|dataset| Some((dataset, dataset.table(&name.table)?)));
        let domain = table.and_then(|(dataset, table)| dataset.identifier(table, &name.column));
        domain.map_or_else(
            || "as stored".to_owned(),
            |domain| format!("pseudonym of `{domain}`"),
        )
    };
    let cohort = habilitation.persons.as_ref().map(|_| "of a cohort");
    let every = || cohort.unwrap_or("all").to_owned();
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
        (Some(_), None) => "filtered".to_owned(),
        (Some(_), Some(_)) => "filtered, of a cohort".to_owned(),
    };
    is_granted.then_some((column, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_and_columns_are_read() {
        assert_eq!(
            month("2026-11").expect("valid"),
            NaiveDate::from_ymd_opt(2026, 11, 1).expect("valid")
        );
        for wrong in ["", "2026", "2026-13", "2026-11-01", "x"] {
            assert!(month(wrong).is_err(), "{wrong}");
        }
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
