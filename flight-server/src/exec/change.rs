//! A change while it runs, apart from the call that asked for it.
//!
//! ```text
//!  begun ──▶ planning, writing ──▶ commit sent ──▶ settled: ok, or why the store refused
//!                  │                    ╳
//!                  └── deadline, cancel, withdrawal, client gone ──▶ settled: that
//! ```
//!
//! A commit that is sent may happen. From there on nothing ends the change but its outcome, so
//! that what was changed is told and recorded as changed, and nobody runs it twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::common::ScalarValue;
use hubflight_ledger::{Execution, Outcome};
use hubflight_rights::habilitation::Mode;
use hubflight_udfs::StatementWork;
use tokio::time::Instant as Deadline;
use tracing::Instrument;

use super::admission::Permit;
use super::commits::Commits;
use super::meter::Meter;
use super::registry::{Registered, Stop};
use super::revocation::Grounds;
use super::run::{priority, too_late, unix_ms};
use super::steps::Steps;
use super::transactions::Turn;
use crate::airlock::{self, call::Call};
use crate::catalog::project::ProjectView;
use crate::catalog::space::{self, Touched, Upload};
use crate::error::{Error, Result};
use crate::flight::call::Caller;
use crate::hub::Hub;
use crate::plan::Planning;
use crate::plan::parse::Parsed;
use crate::statement::outcome_of;

/// A change that may run: admitted, permitted, recorded.
pub struct Change {
    pub hub: Arc<Hub>,
    pub caller: Caller,
    pub view: Arc<ProjectView>,
    pub asked: Asked,
    /// What the audit was told that it reads and writes.
    pub touched: Touched,
    pub execution: Execution,
    pub permit: Permit,
    pub stop: Arc<Stop>,
    /// What it runs on, which must still hold when it commits.
    pub grounds: Grounds,
    pub place: Registered,
    pub time: Duration,
    /// The transaction that it is one of.
    pub turn: Option<Turn>,
}

/// What is to be changed.
#[derive(Debug)]
pub enum Asked {
    /// A statement, for each row of parameters that was bound.
    Statement {
        parsed: Parsed,
        rows: Vec<Vec<ScalarValue>>,
    },
    /// Rows for a table.
    Upload(Upload),
}

impl Asked {
    /// Whether it changes tables or views of the space, which a transaction takes part in. What is
    /// asked of the airlock is done at once.
    pub fn is_of_the_space(&self) -> Result<bool> {
        match self {
            Self::Statement { parsed, .. } => Ok(parsed.airlock()?.is_none()),
            Self::Upload(_) => Ok(true),
        }
    }
}

/// Cancels what a call runs when the call goes away.
struct CancelOnDrop(Arc<Stop>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Change {
    /// Runs it and settles it, whether or not the caller waits: who goes away cancels it.
    pub async fn run(self) -> Result<u64> {
        let _cancel = CancelOnDrop(Arc::clone(&self.stop));
        tokio::spawn(self.until_its_end().in_current_span())
            .await
            .map_err(|lost| Error::internal("a change was lost", &lost))?
    }

    async fn until_its_end(self) -> Result<u64> {
        let Self {
            hub,
            caller,
            view,
            asked,
            touched,
            execution,
            permit,
            stop,
            grounds,
            place,
            time,
            turn,
        } = self;
        let begun = Instant::now();
        let mut steps = Steps::begin();
        let deadline = Deadline::now() + time;
        let meter = Meter::of_change(&hub, Arc::clone(execution.quantities()), touched);
        let work = Arc::new(StatementWork {
            statement_id: execution.statement_id().to_string(),
            tenant: view.project.clone(),
            deadline: unix_ms(deadline),
            priority: priority(caller.principal.options.priority),
            trace: None,
            pool: Arc::clone(&hub.workers),
            meter: Arc::clone(&meter) as _,
            ended: stop.ended_flag(),
        });
        let planning = Planning {
            hub: &hub,
            view: &view,
            options: &caller.principal.options,
            now: caller.now,
        };
        let commits = Commits::on(grounds);
        commits.stage_in(turn.map(Arc::new));
        let run = space::Run {
            work: &work,
            meter: &meter,
            commits: &commits,
        };
        let changes = apply(&planning, asked, run);
        let changed = unless_ended(changes, &commits, &stop, deadline).await;
        if counts_only(&view) {
            steps.next().await;
        }
        let outcome = changed.as_ref().map_or_else(outcome_of, |_| Outcome::Ok);
        let failed = changed.as_ref().err();
        let label = failed.map_or("ok", |error| error.kind.label());
        hub.metrics.finished("change", label, begun.elapsed());
        // What happened is told as it happened: the ledger keeps what it cannot write now, and
        // whoever were told of that instead would run the change twice.
        if let Err(error) = hub.metrics.ledger(execution.settle(outcome).await) {
            tracing::error!(%error, "a change is settled later");
        }
        drop((permit, place));
        changed
    }
}

/// True where a change may count rows that its project may not see.
fn counts_only(view: &ProjectView) -> bool {
    let mut modes = view.habilitations().map(|(_, granted)| granted.mode);
    modes.any(|mode| mode == Mode::Aggregate)
}

async fn apply(planning: &Planning<'_>, asked: Asked, run: space::Run<'_>) -> Result<u64> {
    let rows = match asked {
        Asked::Statement { parsed, rows } => changed(planning, parsed, rows, run).await?,
        Asked::Upload(upload) => space::upload(planning, upload, run).await?,
    };
    // Nothing is waited for after this: what others see is what the client is told.
    run.commits.staging().map_or(Ok(()), |turn| turn.show())?;
    Ok(rows)
}

async fn changed(
    planning: &Planning<'_>,
    parsed: Parsed,
    rows: Vec<Vec<ScalarValue>>,
    run: space::Run<'_>,
) -> Result<u64> {
    match parsed.airlock()? {
        Some(Call::Request(_)) if planning.view.overlay().is_some() => Err(Error::invalid(
            "the transaction has changed something that nobody else sees; commit it before you \
             ask for an export",
        )),
        Some(Call::Request(asked)) => airlock::request(planning, &asked, run).await,
        Some(Call::Withdraw(name)) => airlock::withdraw(planning, &name, run).await,
        None => space::change_rows(planning, parsed, rows, run).await,
    }
}

/// What the change gives, unless it ends before its commit is sent.
async fn unless_ended(
    changes: impl Future<Output = Result<u64>>,
    commits: &Commits,
    stop: &Stop,
    deadline: Deadline,
) -> Result<u64> {
    tokio::pin!(changes);
    let why = tokio::select! {
        // What is done is done, and is told so.
        biased;
        changed = &mut changes => return changed.map_err(|error| stop.reason(error)),
        () = tokio::time::sleep_until(deadline) => too_late(),
        error = stop.ended() => error,
    };
    stop.end(why.clone());
    match commits.end(why.clone()) {
        true => changes.await,
        false => Err(why),
    }
}

#[cfg(test)]
mod tests;
