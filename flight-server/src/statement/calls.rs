//! Statements that are calls of the hub itself: they need no place to run, are done once and
//! recorded as any other.

use std::sync::Arc;
use std::time::Duration;

use hubflight_ledger::{Execution, Outcome, StatementKind};
use hubflight_tickets::Ticket;
use tokio::task::JoinHandle;
use tracing::Instrument;
use uuid::Uuid;

use super::{Failure, Opened, Opening, Text, outcome_of};
use crate::admin::call::Asked;
use crate::catalog::project::ProjectView;
use crate::catalog::space::Touched;
use crate::error::{Error, Result};
use crate::own::{self, WantedToken};
use crate::plan::Planning;

/// After which a call that did not begin counts as never run.
const CALL_TIME_MAX: Duration = Duration::from_secs(60);

impl Opening<'_> {
    /// Stops a statement of the caller's own, and is recorded as any other. It needs no place
    /// to run: who has taken all of theirs can still free one. A statement of somebody else
    /// reads as one that does not run.
    pub(super) async fn cancel(
        &self,
        view: &ProjectView,
        statement: Uuid,
    ) -> Result<Opened, Failure> {
        let told = Touched::default();
        let execution = self.begun(Some(view), &told, &self.asked()).await?;
        let done = match self.hub.running.cancel(statement, self.person()) {
            true => Ok(Opened::Changed { rows: 1 }),
            false => Err(Error::not_found(format!(
                "no statement `{statement}` of yours runs; `hub.queries` lists what ran"
            ))),
        };
        self.settled(execution, done).await
    }

    /// Changes what is the person's own. It needs no project, and no place to run: who is shut out
    /// of their work can still shut out whoever has their password.
    pub(super) async fn own(
        &self,
        call: own::Call,
        placeholders: usize,
    ) -> Result<Opened, Failure> {
        let rows = self.rows(placeholders)?;
        let told = Touched::default();
        let execution = self.begun(None, &told, &call.kept(self.text)).await?;
        if rows.is_empty() && placeholders > 0 {
            return self
                .settled(execution, Ok(Opened::Changed { rows: 0 }))
                .await;
        }
        let run = call.run(Arc::clone(self.hub), self.caller.clone(), rows);
        let done = done(tokio::spawn(run.in_current_span())).await;
        // Passwords among them, which a driver may leave there for as long as it likes.
        let prepared = &self.hub.prepared;
        prepared.forget_bound(self.person(), own::is_about_passwords);
        self.settled(execution, done).await
    }

    /// Makes a token of the person's own. Its text is in the sealed ticket, for whoever asked.
    pub(super) async fn create_token(&self, wanted: WantedToken) -> Result<Opened> {
        let view = Arc::new(self.view(self.caller).await?);
        let ticket = self.ticket(&view);
        let kind = StatementKind::Metadata;
        self.record(kind, ticket.expires, &self.asked()).await?;
        // A token that nobody has on record as asked for is not made.
        let ledger = &self.hub.ledger;
        self.hub.metrics.ledger(ledger.flush().await)?;
        let Text {
            sql, parameters, ..
        } = wanted.make(self.hub, self.caller).await?;
        let ticket = Ticket {
            sql,
            parameters,
            // It shows a secret.
            renewable: false,
            ..ticket
        };
        Ok(Opened::Query {
            schema: Arc::new(WantedToken::schema()),
            handle: ticket.seal(&self.hub.tickets)?,
            others: Vec::new(),
            expires: ticket.expires,
            ordered: false,
            statement: self.statement_id,
        })
    }

    /// Does what an administrator asks for. Its intent is durable before, as that of a statement
    /// is; who is refused within the change is recorded as refused there.
    pub(super) async fn administer(&self, asked: Asked) -> Result<Opened, Failure> {
        let told = Touched::default();
        let execution = self.begun(None, &told, &self.asked()).await?;
        let run = asked.run(Arc::clone(self.hub), self.caller.clone());
        let done = done(tokio::spawn(run.in_current_span())).await;
        self.settled(execution, done).await
    }

    /// A change for no rows of parameters, which does nothing and leaves its record as any other.
    pub(super) async fn for_none(&self, view: Option<&ProjectView>) -> Result<Opened, Failure> {
        let told = Touched::default();
        let execution = self.begun(view, &told, &self.asked()).await?;
        self.settled(execution, Ok(Opened::Changed { rows: 0 }))
            .await
    }

    /// A ticket for the dry run, which is made when it is redeemed.
    pub(super) async fn explain(&self) -> Result<Opened> {
        let view = Arc::new(self.view(self.caller).await?);
        let planning = Planning {
            hub: self.hub,
            view: &view,
            options: &self.caller.principal.options,
            now: self.caller.now,
        };
        let schema = planning.told(&[])?.schema;
        let ticket = self.ticket(&view);
        let handle = ticket.seal(&self.hub.tickets)?;
        let kind = StatementKind::Metadata;
        self.record(kind, self.begins_until(), &self.asked())
            .await?;
        Ok(Opened::Query {
            schema,
            handle,
            others: Vec::new(),
            expires: ticket.expires,
            ordered: false,
            statement: self.statement_id,
        })
    }

    /// Records the call, of which `kept` is kept, and its intent.
    pub(super) async fn begun(
        &self,
        view: Option<&ProjectView>,
        told: &Touched,
        kept: &str,
    ) -> Result<Execution> {
        let expires_at = self.caller.now + CALL_TIME_MAX;
        self.record(StatementKind::Dml, expires_at, kept).await?;
        let started = self.started(view, told);
        let begun = self.hub.ledger.begin(started).await;
        Ok(self.hub.metrics.ledger(begun)?)
    }

    async fn settled(&self, execution: Execution, done: Result<Opened>) -> Result<Opened, Failure> {
        let outcome = match &done {
            Ok(_) => Outcome::Ok,
            Err(error) => outcome_of(error),
        };
        // What was done is told so, and the ledger keeps what it cannot write now.
        if let Err(error) = self.hub.metrics.ledger(execution.settle(outcome).await) {
            tracing::error!(%error, "a call is settled later");
        }
        done.map_err(Failure::Settled)
    }
}

/// Waits for a call that goes on whether or not its caller waits: what is done is recorded as done.
async fn done(run: JoinHandle<Result<u64>>) -> Result<Opened> {
    match run.await {
        Ok(done) => done.map(|rows| Opened::Changed { rows }),
        Err(lost) => Err(Error::internal("a call was lost", &lost)),
    }
}
