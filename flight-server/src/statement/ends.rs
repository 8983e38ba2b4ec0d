//! The commit of a transaction: one statement more, recorded before it happens. A rollback leaves
//! no record: what has no commit was not kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::Utc;
use hubflight_ledger::{Execution, Outcome};
use hubflight_udfs::StatementWork;
use tokio::time::Instant as Deadline;
use tracing::Instrument;
use uuid::Uuid;

use super::{Failure, Opening, Text, outcome_of};
use crate::catalog::project::ProjectView;
use crate::catalog::space::{self, Staging, Touched};
use crate::error::{Error, ErrorKind, Result};
use crate::exec::meter::Meter;
use crate::exec::registry::Registered;
use crate::exec::revocation::Grounds;
use crate::exec::run::{self, priority, unix_ms};
use crate::exec::transactions::Turn;
use crate::flight::call::Caller;
use crate::hub::Hub;

/// Commits a transaction of the caller's. Where it is theirs and open it has ended then, whatever
/// comes of it.
///
/// # Errors
/// `NotFound` where it is none of theirs that is open; `Aborted` where others changed what it
/// changed; as a change where what its statements rested on does not hold any more, or what they
/// made does not fit. Nothing of it is kept then.
pub async fn commit(hub: &Arc<Hub>, caller: &Caller, id: Uuid) -> Result<()> {
    let text = Text::new(format!("COMMIT TRANSACTION '{id}'")).within(Some(id));
    let opening = Opening::new(hub, caller, &text, Uuid::now_v7());
    let time = run::statement_time(hub, caller, caller.principal.options.statement_seconds);
    let committed = opening.commit(id, Deadline::now() + time).await;
    opening.told(committed).await
}

impl Opening<'_> {
    async fn commit(&self, id: Uuid, deadline: Deadline) -> Result<(), Failure> {
        let (hub, limits) = (self.hub, &self.hub.config.limits);
        let own = hub.transactions.find(id, self.person(), limits)?;
        let turn = own.turn(hub, deadline).await?;
        // Its statements that wait for their turn find that it has ended.
        hub.transactions.take(id, limits)?;
        let staging = turn.staging();
        if staging.is_empty() {
            return Ok(());
        }
        // It may have waited for long.
        let caller = self.caller.at(Utc::now());
        let project = caller.principal.project()?;
        own.enter(project)?;
        let view = Arc::new(caller.view(hub, project).await?);
        // Who commits must be let in now, and what was read must have been open all along.
        let mut grounds = Grounds {
            labels: staging.labels(),
            exports: BTreeSet::new(),
            era: None,
            ..self.grounds(&view)?
        };
        if let Some(then) = turn.grounds() {
            grounds.add(&then);
        }
        let told = Touched::of_written(staging.names());
        let execution = self.begun(Some(&view), &told, &self.asked()).await?;
        let meter = Meter::of_change(hub, Arc::clone(execution.quantities()), told);
        let options = &caller.principal.options;
        let work = Arc::new(StatementWork {
            statement_id: self.statement_id.to_string(),
            tenant: project.to_owned(),
            deadline: unix_ms(deadline),
            priority: priority(options.priority),
            trace: None,
            pool: Arc::clone(&hub.workers),
            meter: Arc::clone(&meter) as _,
            ended: Arc::default(),
        });
        let commit = Commit {
            hub: Arc::clone(hub),
            view,
            turn,
            place: hub
                .running
                .enter(self.statement_id, Arc::default(), grounds.clone()),
            staged: (staging, grounds),
            account: (work, meter),
            execution,
        };
        // Whether or not its caller waits: what becomes of it is recorded.
        let done = tokio::spawn(commit.run().in_current_span()).await;
        let done = done.map_err(|lost| Error::internal("a commit was lost", &lost))?;
        done.map_err(Failure::Settled)
    }
}

/// A commit that may be sent: permitted, and its intent recorded.
struct Commit {
    hub: Arc<Hub>,
    view: Arc<ProjectView>,
    turn: Turn,
    staged: (Staging, Grounds),
    account: (Arc<StatementWork>, Arc<Meter>),
    execution: Execution,
    /// The hub does not stop before it has settled.
    place: Registered,
}

impl Commit {
    /// Commits and settles, and then lets merges begin.
    async fn run(self) -> Result<()> {
        let (hub, view, (work, meter)) = (self.hub, self.view, self.account);
        let grown = self.staged.0.grown();
        let statement = &work.statement_id;
        let sent = space::commit_transaction(&hub, &view.project, statement, self.staged);
        let committed = sent.await.map_err(|error| match error.kind {
            // Refused, for certain.
            ErrorKind::Aborted | ErrorKind::ResourceExhausted | ErrorKind::PermissionDenied => {
                let text = format!("{error}; the transaction was rolled back");
                Error::new(error.kind, text)
            }
            _ => error,
        });
        let outcome = committed.as_ref().map_or_else(outcome_of, |()| Outcome::Ok);
        // What happened is told as it happened: the ledger keeps what it cannot write now.
        if let Err(error) = hub.metrics.ledger(self.execution.settle(outcome).await) {
            tracing::error!(%error, "a commit is settled later");
        }
        drop((self.turn, self.place));
        if committed.is_ok() {
            space::compact_after(&hub, &view, (&work, &meter), grown);
        }
        committed
    }
}
