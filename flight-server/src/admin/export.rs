//! `admin export …`: packages that wait for a second person, and what becomes of them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use hubflight_rights::habilitation::ExportRule;
use hubflight_store::{AdminRole, Export, ExportDecision, ExportState, StoreError};

use super::habilitation::{Actor, acting};
use super::lists::{Table, day};
use super::{Desk, Place};
use crate::airlock::{self, findings};
use crate::catalog::hub_schema::export_state;
use crate::catalog::space::{Labels, schema_from_ipc};
use crate::change::Act;
use crate::error::{Error, Result};
use crate::versions::{IN_FORCE, Version, states};

/// No release is for longer.
pub(super) const RELEASE_DAYS_MAX: u64 = 365;

#[derive(Debug, Subcommand)]
pub enum ExportCommand {
    /// Lists every export, and where it stands.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Shows what the rules found in an export, its columns and its purpose; never a row.
    Show {
        #[command(flatten)]
        place: Place,
        id: String,
    },
    /// Releases an export that waits to the members of its project; nobody who asked for it or is
    /// a member can, and a release does not count while who gave it is one.
    Release {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        actor: Actor,
        id: String,
        /// How many days it can be read; what the configuration says where absent.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=RELEASE_DAYS_MAX))]
        days: Option<u64>,
    },
    /// Refuses an export that waits.
    Refuse {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        actor: Actor,
        id: String,
    },
    /// Takes back an export that waits or is released, also under those who read it.
    Withdraw {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        actor: Actor,
        id: String,
    },
}

impl ExportCommand {
    pub(super) fn place(&self) -> &Place {
        match self {
            Self::List { place }
            | Self::Show { place, .. }
            | Self::Release { place, .. }
            | Self::Refuse { place, .. }
            | Self::Withdraw { place, .. } => place,
        }
    }
}

pub(super) async fn run(desk: &Desk, command: ExportCommand) -> Result<String> {
    match command {
        ExportCommand::List { .. } => list(desk).await,
        ExportCommand::Show { id, .. } => show(desk, &id).await,
        ExportCommand::Release {
            actor, id, days, ..
        } => release(desk, Some(&actor), &id, days).await,
        ExportCommand::Refuse { actor, id, .. } => {
            decide(desk, Some(&actor), &id, ExportDecision::Refuse).await
        }
        ExportCommand::Withdraw { actor, id, .. } => withdraw(desk, Some(&actor), &id).await,
    }
}

async fn list(desk: &Desk) -> Result<String> {
    let head = [
        "id", "project", "name", "asked by", "asked", "rows", "until", "state",
    ];
    let mut table = Table::new(&head);
    for export in desk.store.exports(None).await? {
        let state = export_state(&export, desk.now).to_owned();
        let package = export.package;
        table.row([
            package.id,
            package.project,
            package.name,
            package.requested_by,
            day(package.requested_at),
            package.rows.to_string(),
            day(package.expires_at),
            state,
        ]);
    }
    Ok(table.text())
}

async fn show(desk: &Desk, id: &str) -> Result<String> {
    let export = desk.store.export(id).await?.ok_or_else(|| missing(id))?;
    let package = &export.package;
    let mut text = format!(
        "export `{}` of project `{}`, asked by `{}`: {} rows, {} bytes, {}\n\
         for: {}\nstatement: {} (`admin audit open` shows its text to who has a key)\n\ncolumns\n",
        package.name,
        package.project,
        package.requested_by,
        package.rows,
        package.bytes,
        export_state(&export, desk.now),
        package.purpose,
        package.statement_id
    );
    let mut columns = Table::new(&["name", "type"]);
    for field in schema_from_ipc(&package.schema_ipc)?.fields() {
        // Names are the user's: nothing in them may move the cursor of who reads.
        let name = field.name().escape_debug().to_string();
        columns.row([name, field.data_type().to_string()]);
    }
    text.push_str(&columns.text());
    text.push_str("\nfindings\n");
    for finding in findings(package)? {
        let verdict = match finding.verdict {
            airlock::Verdict::Asks => "asks",
            airlock::Verdict::Refuses => "refuses",
        };
        let told = finding.to_string().escape_debug().to_string();
        text.push_str(&format!("{} {verdict}: {told}\n", finding.rule));
    }
    Ok(text)
}

fn missing(id: &str) -> Error {
    Error::not_found(format!(
        "no export `{id}` waits; `admin export list` shows which do"
    ))
}

/// Releases it for so many days, or for what the configuration says.
pub(super) async fn release(
    desk: &Desk,
    actor: Option<&Actor>,
    id: &str,
    days: Option<u64>,
) -> Result<String> {
    let seconds = days.map(|days| days.saturating_mul(86_400));
    let seconds = seconds.unwrap_or(desk.config.limits.export_seconds_max);
    let until = desk.now + Duration::from_secs(seconds);
    decide(desk, actor, id, ExportDecision::Release { until }).await
}

pub(super) async fn decide(
    desk: &Desk,
    actor: Option<&Actor>,
    id: &str,
    decision: ExportDecision,
) -> Result<String> {
    // Nobody's role or membership changes between here and the end.
    let mut change = desk.change().await?;
    let person = acting(desk, actor, AdminRole::Audit).await?;
    let export = change.write.export(id).await?;
    let export = export.ok_or_else(|| missing(id))?;
    let (event, done) = match decision {
        ExportDecision::Release { .. } => {
            check_opposition(&mut change, &export).await?;
            check_rule(&mut change, &export, desk.now).await?;
            ("export_released", "released")
        }
        ExportDecision::Refuse => ("export_refused", "refused"),
    };
    let decided = change
        .write
        .decide_export(id, decision, &person, desk.now)
        .await;
    match decided {
        Ok(true) => {}
        Ok(false) => {
            return Err(Error::denied(format!(
                "`{person}` cannot decide on it: neither who asked for it nor a member of \
                 project `{}` can",
                export.package.project
            )));
        }
        Err(StoreError::NotFound { .. }) => return Err(missing(id)),
        Err(error) => return Err(error.into()),
    }
    change.record(Act {
        event,
        person: Some(person),
        project: Some(export.package.project),
        detail: format!("export {id}"),
    });
    let said = format!("export `{}` is {done}\n", export.package.name);
    desk.finish(change, said).await
}

/// What was packed before somebody opposed holds their rows.
async fn check_opposition(change: &mut crate::change::Change<'_>, export: &Export) -> Result<()> {
    let asked_at = export.package.requested_at;
    match change.write.opposed_since(asked_at).await? {
        true => Err(Error::invalid(
            "a person opposed the use of their data after the export was made; refuse it, and let \
             it be asked for again",
        )),
        false => Ok(()),
    }
}

/// What a habilitation keeps inside by now is not released, whatever it said when it was read.
async fn check_rule(
    change: &mut crate::change::Change<'_>,
    export: &Export,
    now: DateTime<Utc>,
) -> Result<()> {
    let rows = change.write.habilitations().await?.into_iter();
    let rows = rows.filter(|row| row.project == export.package.project);
    let versions = rows.map(Version::read).collect::<Result<Vec<_>>>()?;
    let in_force = versions.iter().zip(states(&versions, now));
    let mut kept = in_force
        .filter(|(version, state)| *state == IN_FORCE && version.body.export == ExportRule::None)
        .map(|(version, _)| version.row.dataset.as_str());
    let sources = Labels::parse(&export.package.labels)?.sources;
    match kept.find(|kept| sources.iter().any(|source| source.dataset == *kept)) {
        Some(dataset) => Err(Error::invalid(format!(
            "the project may take nothing of dataset `{dataset}` out of the hub any more; refuse \
             the export"
        ))),
        None => Ok(()),
    }
}

pub(super) async fn withdraw(desk: &Desk, actor: Option<&Actor>, id: &str) -> Result<String> {
    let mut change = desk.change().await?;
    let person = acting(desk, actor, AdminRole::Audit).await?;
    let export = change.write.export(id).await?;
    let is_over = |export: &Export| {
        let state = export.state(desk.now);
        !matches!(state, ExportState::Waiting | ExportState::Released)
    };
    let export = export.filter(|export| !is_over(export));
    let export = export.ok_or_else(|| {
        Error::not_found(format!(
            "no export `{id}` waits or is released; `admin export list` shows which do"
        ))
    })?;
    change.write.withdraw_export(id).await?;
    change.record(Act {
        event: "export_withdrawn",
        person: Some(person),
        project: Some(export.package.project),
        detail: format!("export {id}"),
    });
    let said = format!("export `{}` is withdrawn\n", export.package.name);
    desk.finish(change, said).await
}
