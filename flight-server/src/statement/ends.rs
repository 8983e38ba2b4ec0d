//! The commit of a transaction: one statement more, recorded before it happens. A rollback leaves
//! no record: what has no commit was not kept.

use std::sync::Arc;

use chrono::Utc;
use hubflight_udfs::StatementWork;
use tokio::time::Instant as Deadline;
use tracing::Instrument;
use uuid::Uuid;

use super::calls::done;
use super::{Failure, Opened, Opening, Text, transaction};
use crate::catalog::space::{self, Touched};
use crate::error::Result;
use crate::exec::meter::Meter;
use crate::exec::revocation::Grounds;
use crate::exec::run::{self, priority, unix_ms};
use crate::exec::transactions::Turn;
use crate::flight::call::Caller;
use crate::hub::Hub;

/// Commits a transaction of the caller's; whatever comes of it, the transaction has ended.
///
/// # Errors
/// `NotFound` where it is none of theirs that is open; `Aborted` where others changed what it
/// changed; as a change where what its statements rested on does not hold any more, or what they
/// made does not fit. Nothing of it is kept then.
pub async fn commit(hub: &Arc<Hub>, caller: &Caller, id: Uuid) -> Result<()> {
    let text = Text::new(format!("COMMIT TRANSACTION '{id}'")).within(Some(id));
    let time = run::statement_time(hub, caller, caller.principal.options.statement_seconds);
    let deadline = Deadline::now() + time;
    let own = transaction(hub, caller, &text)?;
    let turn = match own {
        Some(own) => own.turn(hub, deadline).await?,
        None => return Ok(()),
    };
    // Its statements that wait for their turn find that it has ended.
    hub.transactions.end(id);
    if turn.staging().is_empty() {
        return Ok(());
    }
    // It may have waited for long.
    let caller = caller.at(Utc::now());
    let opening = Opening::new(hub, &caller, &text, Uuid::now_v7());
    let committed = opening.commit(turn, deadline).await;
    opening.told(committed).await.map(drop)
}

impl Opening<'_> {
    async fn commit(&self, turn: Turn, deadline: Deadline) -> Result<Opened, Failure> {
        let project = self.caller.principal.project()?;
        let view = Arc::new(self.caller.view(self.hub, project).await?);
        let staging = turn.staging();
        let now = self.grounds(&view)?;
        let grounds = match turn.grounds() {
            // Who commits must be let in now, and what was read must have been open all along.
            Some(then) => Grounds {
                labels: then.labels,
                exports: then.exports,
                era: then.era,
                ..now
            },
            None => now,
        };
        let told = Touched::of_written(staging.names());
        let execution = self.begun(Some(&view), &told, &self.asked()).await?;
        let meter = Meter::of_change(self.hub, Arc::clone(execution.quantities()), told);
        let options = &self.caller.principal.options;
        let work = Arc::new(StatementWork {
            statement_id: self.statement_id.to_string(),
            tenant: project.to_owned(),
            deadline: unix_ms(deadline),
            priority: priority(options.priority),
            trace: None,
            pool: Arc::clone(&self.hub.workers),
            meter: Arc::clone(&meter) as _,
            ended: Arc::default(),
        });
        let hub = Arc::clone(self.hub);
        let commit = async move {
            let names: Vec<String> = staging.names().map(str::to_owned).collect();
            let statement = &work.statement_id;
            let committed =
                space::commit_transaction(&hub, &view.project, statement, (staging, grounds)).await;
            // Merges may begin.
            drop(turn);
            committed?;
            space::compact_after(&hub, &view, (&work, &meter), names);
            Ok(0)
        };
        let done = done(tokio::spawn(commit.in_current_span())).await;
        self.settled(execution, done).await
    }
}
