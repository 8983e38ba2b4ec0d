//! The airlock: what leaves the hub as rows, and who looked at it before.
//!
//! ```text
//!  CALL hub.request_export ──▶ query under the caller's rights ──▶ rules ──▶ refused
//!                                                                  │  └────▶ waiting ─┐
//!                                                                  ▼                  ▼
//!                          exports.NAME, for a time  ◀────────  released  ◀──  second person
//! ```
//!
//! The rules (`rules/`) judge the content, and the plan by what its columns are made from
//! (`lineage.rs`). What they do not recognise waits for an administrator with the role `audit`,
//! who is no member of the project and did not ask for it. They see findings, schema and purpose,
//! and the statement's text where it is sealed to them; never a row: no role reads data.
//!
//! A released package is what it is: it stays readable until its time is over, also when the right
//! that it was made under ends or a person of the data opposes, since what may leave tells of
//! nobody. One that waits is not released once somebody has opposed. A release does not count
//! while its giver is a member.
//!
//! What remains: who may read rows inside can ask for many overlapping tables of exact counts, the
//! difference of two of which may be one person. Therefore those released alone are limited by
//! day, and every one is in the audit.

pub mod call;
mod lineage;
pub mod package;
mod rules;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::HEXLOWER;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use hubflight_policy::Sources;
use hubflight_rights::dataset::PERSONS_MIN_DEFAULT;
use hubflight_rights::habilitation::ExportRule;
use hubflight_rights::{Action, Decision};
use hubflight_store::{ExportState, NewExport, StoreError};
use hubflight_udfs::StatementWork;
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::access::Asking;
use crate::catalog::project::{ProjectView, refusal as refusal_of};
use crate::catalog::space::{Labels, Run, Source, check_storable, declared_schema, schema_to_ipc};
use crate::catalog::visible;
use crate::change::Act;
use crate::error::{Error, ErrorKind, Result};
use crate::exec::revocation::{self, Grounds};
use crate::hub::Hub;
use crate::plan::parse::parse;
use crate::plan::wire::conform;
use crate::plan::{Optimised, Planning};
use call::Asked;
use lineage::{Doubt, Study};
use rules::{Content, judge, verdict};

pub use rules::{Finding, Verdict};
pub use table::{ExportTable, Exports, check_alone, read_by};

/// The schema of released packages.
pub const EXPORTS_SCHEMA: &str = "exports";
/// What the audit calls what the hub does itself.
const CLIENT: &str = "flight-server";
/// A longer query is seen by a person: what is written in it may be what is to leave.
const SQL_BYTES_UNSEEN_MAX: usize = 4096;
/// Columns of an export.
const COLUMNS_MAX: usize = 256;
/// Findings that who asked is told where an export is refused.
const FINDINGS_TOLD_MAX: usize = 8;
/// Findings that are kept with an export. Where a person has to look, there may be no more: what is
/// cut off is what they would have to see.
const FINDINGS_KEPT_MAX: usize = 256;
/// How often packages are looked at whose time may be over.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Makes a package of a query's result, and decides on it as far as the rules do. 1 where it is
/// released or waits; `hub.exports` tells which.
///
/// # Errors
/// `PermissionDenied` with what was found where it is refused; that is kept, its content is not.
pub async fn request(planning: &Planning<'_>, asked: &Asked, run: Run<'_>) -> Result<u64> {
    let (hub, view) = (planning.hub, planning.view);
    check_place(view)?;
    let parsed = parse(&asked.sql, hub.config.limits.sql_bytes_max)?;
    if !parsed.is_select() {
        return Err(Error::invalid(
            "an export is what a SELECT, WITH or VALUES gives; write one of these",
        ));
    }
    if parsed.placeholders > 0 {
        return Err(Error::invalid(
            "the query of an export has no parameters; write the values",
        ));
    }
    let authorised = planning.query(parsed).await?;
    let describes_persons =
        |dataset: &str, table: &str| hub.datasets.describes_persons(dataset, table);
    let mut study = Study::of(authorised.asked(), &describes_persons)?;
    if asked.sql.len() > SQL_BYTES_UNSEEN_MAX {
        study.doubts.insert(Doubt::Written);
    }
    let schema = declared_schema(&authorised.schema)?;
    check_storable(&schema)?;
    if schema.fields().len() > COLUMNS_MAX {
        return Err(Error::invalid(format!(
            "an export has at most {COLUMNS_MAX} columns; ask for those that are needed"
        )));
    }
    let query = authorised.optimise()?;
    run.meter.reads(&query.tables)?;
    let labels = Labels::of(&query.providers()?, view)?;
    let asks = check_policies(planning, &labels).await?;
    let bytes = visible::bytes(hub, view, std::slice::from_ref(&query)).await?;
    hub.take_answers(&view.project, query.answers).await?;
    run.meter.scanned(bytes);
    let packing = Packing {
        hub: Arc::clone(hub),
        work: Arc::clone(run.work),
        persons_min: persons_min(hub, &labels),
        study,
        asks,
        schema,
        query,
    };
    let task = AbortOnDropHandle::new(hub.engine.cpu().spawn(packing.pack()));
    let packed = task
        .await
        .map_err(|lost| Error::internal("an export was lost while it ran", &lost))??;
    let entry = Entry {
        hub: Arc::clone(hub),
        asked: asked.clone(),
        person: view.viewer.who.person.clone(),
        project: view.project.clone(),
        statement_id: run.work.statement_id.clone(),
        labels: labels.text()?,
        packed,
        // When its rows were read: who opposes later may be among them.
        now: planning.now,
        grounds: run.commits.grounds(),
    };
    // A commit that is sent is awaited, whatever else happens: its package must stay then.
    let _sent = run.commits.send()?;
    let entered = tokio::spawn(entry.enter()).await;
    entered.map_err(|lost| Error::internal("an export was lost", &lost))?
}

/// Takes back an export of the project that waits or is released. Any member may: nothing leaves
/// by it.
///
/// # Errors
/// `NotFound` where no such export is under way.
pub async fn withdraw(planning: &Planning<'_>, name: &str, run: Run<'_>) -> Result<u64> {
    let (hub, view) = (planning.hub, planning.view);
    let now = Utc::now();
    let none = || {
        Error::not_found(format!(
            "no export `{name}` waits or is released; `hub.exports` lists which do"
        ))
    };
    // Before the transaction, which others wait for.
    let export = hub.store.export_under_way(&view.project, name).await?;
    let export = export.filter(|export| export.state(now) != ExportState::Expired);
    let export = export.ok_or_else(none)?;
    let mut change = hub.change(CLIENT, now).await?;
    let _sent = run.commits.send()?;
    if !change.write.withdraw_export(&export.package.id).await? {
        return Err(none());
    }
    change.record(Act {
        event: "export_withdrawn",
        person: Some(view.viewer.who.person.clone()),
        project: Some(view.project.clone()),
        detail: format!("export {}", export.package.id),
    });
    change.commit().await?;
    Ok(1)
}

fn check_place(view: &ProjectView) -> Result<()> {
    if view.viewer.zone.is_outside() {
        return Err(Error::denied(format!(
            "exports are not asked for from zone `{}`; ask inside, and read them here once they \
             are released",
            view.viewer.zone
        )));
    }
    if view.space.is_none() {
        return Err(Error::denied(format!(
            "catalog `{}` has no data, and nothing to export",
            view.project
        )));
    }
    Ok(())
}

/// Reading something is one right, taking it out another: policies decide on each dataset. Gives a
/// finding for each whose habilitation has a second person decide.
async fn check_policies(planning: &Planning<'_>, labels: &Labels) -> Result<Vec<Finding>> {
    let viewer = &planning.view.viewer;
    let asking = Asking {
        who: &viewer.who,
        project: &planning.view.project,
        zone: &viewer.zone,
        at: planning.now,
    };
    let rights = planning.hub.store.rights().await?;
    let mut asks = Vec::new();
    for Source { dataset, .. } in &labels.sources {
        let may = planning.hub.may(&rights, asking, dataset, Action::Export);
        match may.await? {
            Decision::Deny(denial) => return Err(refusal_of(dataset, &denial)),
            Decision::Allow(habilitation) if habilitation.export == ExportRule::Review => {
                let text = format!(
                    "the habilitation for dataset `{dataset}` has a second person decide on every \
                     export"
                );
                asks.push(Finding::new("habilitation", Verdict::Asks, text));
            }
            Decision::Allow(_) => {}
        }
    }
    asks.dedup();
    Ok(asks)
}

/// The threshold of the datasets that the rows come from, the largest of them.
fn persons_min(hub: &Hub, labels: &Labels) -> u32 {
    let datasets = labels.sources.iter();
    let thresholds = datasets.filter_map(|source| {
        let dataset = hub.datasets.dataset(&source.dataset)?;
        Some(dataset.persons_min)
    });
    thresholds.max().unwrap_or(PERSONS_MIN_DEFAULT)
}

/// A query that is made into a package, on the CPU runtime.
struct Packing {
    hub: Arc<Hub>,
    work: Arc<StatementWork>,
    persons_min: u32,
    study: Study,
    /// What habilitations have a second person decide on.
    asks: Vec<Finding>,
    schema: SchemaRef,
    query: Optimised,
}

/// A package and what the rules made of it.
struct Packed {
    schema: SchemaRef,
    package: Vec<u8>,
    rows: u64,
    findings: Vec<Finding>,
}

impl Packing {
    async fn pack(self) -> Result<Packed> {
        let limits = &self.hub.config.limits;
        let (plan, context) = self.query.physical(&self.hub.engine, self.work).await?;
        let memory = MemoryConsumer::new("export").register(context.memory_pool());
        let mut stream = execute_stream(plan, context)?;
        let mut batches: Vec<RecordBatch> = Vec::new();
        let (mut rows, mut bytes) = (0_usize, 0_usize);
        while let Some(batch) = stream.next().await {
            let batch = conform(&batch?, &self.schema)?;
            rows += batch.num_rows();
            for column in batch.columns() {
                bytes += column.to_data().get_slice_memory_size()?;
            }
            if rows > limits.export_rows_max || bytes > limits.export_bytes_max {
                return Err(Error::exhausted(format!(
                    "an export has at most {} rows and {} bytes; aggregate more, or ask for it \
                     in parts",
                    limits.export_rows_max, limits.export_bytes_max
                )));
            }
            memory.try_grow(batch.get_array_memory_size())?;
            batches.push(batch);
        }
        let mut findings = self.asks;
        findings.extend(judge(&Content {
            schema: &self.schema,
            batches: &batches,
            study: &self.study,
            persons_min: self.persons_min,
        }));
        Ok(Packed {
            package: package::encode(&self.schema, &batches)?,
            schema: self.schema,
            rows: rows as u64,
            findings,
        })
    }
}

/// A package that is entered in the store.
struct Entry {
    hub: Arc<Hub>,
    asked: Asked,
    person: String,
    project: String,
    statement_id: String,
    labels: String,
    packed: Packed,
    now: DateTime<Utc>,
    /// What whoever asked rests on.
    grounds: Option<Arc<Grounds>>,
}

impl Entry {
    async fn enter(self) -> Result<u64> {
        let Self { hub, now, .. } = &self;
        let id = Uuid::now_v7();
        let mut findings = self.packed.findings.clone();
        let refused = verdict(&findings) == Some(Verdict::Refuses);
        if !refused && findings.len() > FINDINGS_KEPT_MAX {
            return Err(Error::denied(format!(
                "the rules ask about {} things in this export, more than anybody looks through; \
                 ask for fewer columns",
                findings.len()
            )));
        }
        // Before the transaction, which others wait for.
        let placed = match refused {
            true => None,
            false => Some(self.place(id).await?),
        };
        let mut change = hub.change(CLIENT, *now).await?;
        // Nobody else changes rights now.
        if let Some(grounds) = &self.grounds {
            revocation::confirm(hub, grounds).await?;
        }
        if let Some((_, key)) = &placed
            && !change.write.keeps_space_key(&self.project, *key).await?
        {
            return Err(Error::new(
                ErrorKind::Aborted,
                "the project's keys were dropped while the export was made; ask for it again",
            ));
        }
        expire(&mut change, *now).await?;
        if change.write.opposed_since(*now).await? {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "a person was withdrawn from the data while the export was made, which is not \
                 charged; ask for it again",
            ));
        }
        let limits = &hub.config.limits;
        let day_ago = *now - TimeDelta::days(1);
        let counts = change.write.export_counts(&self.project, day_ago).await?;
        if counts.requested >= limits.export_requests_per_day_max {
            return Err(Error::exhausted(format!(
                "project `{}` asked for {} exports within a day, the most that it may; ask again \
                 tomorrow",
                self.project, counts.requested
            )));
        }
        if !refused && counts.open >= limits.exports_open_max {
            return Err(Error::exhausted(format!(
                "{} exports of project `{}` wait or are released; ask again when one is over",
                counts.open, self.project
            )));
        }
        if findings.is_empty() && counts.released_alone >= limits.exports_per_day_max {
            let text = format!(
                "{} exports of the project were released without a second person within a day",
                counts.released_alone
            );
            findings.push(Finding::new("volume", Verdict::Asks, text));
        }
        let new = self.export(id, &findings)?;
        match change.write.put_export(&new).await {
            Ok(()) => {}
            Err(StoreError::Exists { .. }) => {
                return Err(Error::invalid(format!(
                    "an export `{}` waits or is released already; choose another name",
                    new.name
                )));
            }
            Err(error) => return Err(error.into()),
        }
        self.record(&mut change, &new, &findings);
        // A commit that fails may have happened: what nobody owns is swept later.
        if let Some((placed, _)) = placed {
            placed.keep();
        }
        change.commit().await?;
        match refused {
            true => Err(refusal(&findings)),
            false => Ok(1),
        }
    }

    /// The package in its place, with the number of the key that it needs.
    async fn place(&self, id: Uuid) -> Result<(package::Placed, u32)> {
        let (hub, package) = (Arc::clone(&self.hub), self.packed.package.clone());
        let key = hub.space_files.keys().newest(&self.project).await?;
        let key_id = key.id();
        let place = move || package::place(&hub, &key, id, &package);
        let placed = tokio::task::spawn_blocking(place).await;
        let placed = placed.map_err(|lost| Error::internal("a package was lost", &lost))?;
        Ok((placed?, key_id))
    }

    fn export(&self, id: Uuid, findings: &[Finding]) -> Result<NewExport> {
        let limits = &self.hub.config.limits;
        let (state, seconds) = match verdict(findings) {
            None => (ExportState::Released, limits.export_seconds_max),
            Some(Verdict::Asks) => (ExportState::Waiting, limits.export_wait_seconds_max),
            Some(Verdict::Refuses) => (ExportState::Refused, 0),
        };
        Ok(NewExport {
            id: id.to_string(),
            project: self.project.clone(),
            name: self.asked.name.clone(),
            purpose: self.asked.purpose.clone(),
            statement_id: self.statement_id.clone(),
            requested_by: self.person.clone(),
            requested_at: self.now,
            rows: self.packed.rows,
            bytes: self.packed.package.len() as u64,
            digest: package::digest(&self.packed.package),
            schema_ipc: schema_to_ipc(&self.packed.schema)?,
            findings: findings_text(findings)?,
            labels: self.labels.clone(),
            state,
            expires_at: self.now + Duration::from_secs(seconds),
        })
    }

    /// What was asked for and what the rules made of it. Names of columns are not in the audit,
    /// since anything can be written as one.
    fn record(&self, change: &mut crate::change::Change<'_>, new: &NewExport, found: &[Finding]) {
        let mut rules: Vec<&str> = found.iter().map(|finding| finding.rule.as_str()).collect();
        rules.sort_unstable();
        rules.dedup();
        let found = match rules.as_slice() {
            [] => "nothing found".to_owned(),
            rules => format!("found by {}", rules.join(" and ")),
        };
        change.record(Act {
            event: "export_requested",
            person: Some(self.person.clone()),
            project: Some(self.project.clone()),
            detail: format!(
                "export {} of statement {}, {} rows, sha256 {}, {found}: {}",
                new.id,
                new.statement_id,
                new.rows,
                HEXLOWER.encode(&new.digest),
                new.state.as_str()
            ),
        });
        if new.state == ExportState::Released {
            change.record(Act {
                event: "export_released",
                person: None,
                project: Some(self.project.clone()),
                detail: format!("export {} by the rules", new.id),
            });
        }
    }
}

fn refusal(findings: &[Finding]) -> Error {
    let refusing = findings.iter();
    let refusing = refusing.filter(|finding| finding.verdict == Verdict::Refuses);
    let mut texts: Vec<String> = refusing.map(ToString::to_string).collect();
    let others = texts.len().saturating_sub(FINDINGS_TOLD_MAX);
    texts.truncate(FINDINGS_TOLD_MAX);
    if others > 0 {
        texts.push(format!("and {others} more of the kind"));
    }
    Error::denied(format!("the export is refused: {}", texts.join("; ")))
}

fn findings_text(findings: &[Finding]) -> Result<String> {
    let kept = findings.len().min(FINDINGS_KEPT_MAX);
    serde_json::to_string(&findings[..kept])
        .map_err(|error| Error::internal("findings cannot be written", &error))
}

/// The findings that the store keeps of a package.
pub fn findings(package: &NewExport) -> Result<Vec<Finding>> {
    serde_json::from_str(&package.findings)
        .map_err(|error| Error::internal("findings cannot be read", &error))
}

/// Ends the packages whose time is over, each with its entry in the audit.
pub async fn expire(change: &mut crate::change::Change<'_>, now: DateTime<Utc>) -> Result<usize> {
    let due = change.write.expire_exports(now).await?;
    for export in &due {
        change.record(Act {
            event: "export_expired",
            person: None,
            project: Some(export.package.project.clone()),
            detail: format!("export {}", export.package.id),
        });
    }
    Ok(due.len())
}

/// Ends what is over, and removes its files, until it is aborted.
pub async fn watch(hub: Arc<Hub>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = sweep(&hub, Utc::now()).await {
            tracing::warn!(%error, "exports that are over stay for a while");
        }
    }
}

/// One round of [`watch`].
pub async fn sweep(hub: &Arc<Hub>, now: DateTime<Utc>) -> Result<()> {
    if hub.store.exports_are_due(now).await? {
        let mut change = hub.change(CLIENT, now).await?;
        expire(&mut change, now).await?;
        change.commit().await?;
    }
    let cannot = |error: &std::io::Error| Error::internal("packages cannot be swept", error);
    for found in package::found(&hub.config.server.state).map_err(|error| cannot(&error))? {
        let is_over = match hub.store.export(&found.id.to_string()).await? {
            Some(export) => !matches!(
                export.state(now),
                ExportState::Waiting | ExportState::Released
            ),
            None => found.is_old(),
        };
        if is_over {
            found.remove();
        }
    }
    Ok(())
}
