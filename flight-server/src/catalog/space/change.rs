//! A change of the space: from one statement to one commit.
//!
//! ```text
//!  statement ──plan, authorise──▶ queries ──run──▶ files (nobody's) ──commit──▶ snapshot
//!                 │                                   │                  │
//!                 └── error: nothing happened         └── error, drop:   └── conflict: again,
//!                                                         files removed      a few times
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{DmlStatement, LogicalPlan};
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{SetExpr, Statement as Sql};
use futures::StreamExt;
use hubflight_policy::table_of;
use hubflight_store::{SpaceChange, SpaceCommit, SpaceFile, StoreError};
use hubflight_udfs::StatementWork;
use tokio_util::task::AbortOnDropHandle;

use super::files::{Counts, SpaceWriter, Target, Written};
use super::labels::Labels;
use super::staging::{Staged, Staging};
use super::turns::Changing;
use super::upload::Upload;
use super::{Object, Space, batch, bytes_of, clean};
use crate::airlock;
use crate::catalog::project::ProjectView;
use crate::catalog::visible;
use crate::error::{Error, Result};
use crate::exec::commits::{Commits, Read};
use crate::exec::meter::Meter;
use crate::exec::revocation::{Grounds, confirmed_at};
use crate::exec::transactions::Turn;
use crate::hub::Hub;
use crate::plan::parse::{Kind, Parsed};
use crate::plan::wire::plain_schema;
use crate::plan::{Optimised, Planning, parameters};

/// Columns of a table, those inside structs counted: each has buffers of its own while rows are
/// written.
const LEAVES_MAX: usize = 4_096;
/// How often a statement is run again because another one changed the same object.
const CONFLICT_RETRIES_MAX: u32 = 8;
/// How often a commit is decided on again because rights changed meanwhile, whosever.
const RIGHTS_TRIES_MAX: u32 = 16;
/// The pause before it runs again is random up to this, doubled each time, so that statements
/// that met do not meet again.
const CONFLICT_PAUSE_MS: u64 = 4;

/// What a change is charged to, and what ends it.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub work: &'a Arc<StatementWork>,
    pub meter: &'a Arc<Meter>,
    pub commits: &'a Commits,
}

/// Runs a prepared change for the rows of parameters that were bound to it, each seeing what
/// the one before it changed: all of them, or none.
pub async fn change_rows(
    planning: &Planning<'_>,
    parsed: Parsed,
    rows: Vec<Vec<ScalarValue>>,
    run: Run<'_>,
) -> Result<u64> {
    let mut statements = batch::statements(parsed, rows);
    if statements.len() > 1 && run.commits.staging().is_none() {
        return change_together(planning, &statements, run).await;
    }
    let charged: Vec<AtomicBool> = statements.iter().map(|_| AtomicBool::new(false)).collect();
    match statements.len() {
        1 => match statements.pop() {
            Some(bound) => change(planning, bound, &charged[0], run).await,
            None => Ok(0),
        },
        _ => change_each(planning, &statements, &charged, run).await,
    }
}

/// Changes row after row in a staging of their own, and commits that.
async fn change_together(
    planning: &Planning<'_>,
    statements: &[batch::Bound],
    run: Run<'_>,
) -> Result<u64> {
    let project = &planning.view.project;
    let charged: Vec<AtomicBool> = statements.iter().map(|_| AtomicBool::new(false)).collect();
    let turn = planning.hub.space_turns.of(project);
    let mut conflicts = 0;
    loop {
        let _changing = turn.change().await;
        let staging = Arc::new(Turn::of_rows()?);
        run.commits.stage_in(Some(Arc::clone(&staging)));
        let changed = change_each(planning, statements, &charged, run).await;
        run.commits.stage_in(None);
        let changed = changed?;
        let committed = commit_staged(planning, &staging, run).await;
        clean::after_change(planning.hub, project);
        match committed {
            Ok(()) => return Ok(changed),
            Err(Failure::Failed(error)) => return Err(error),
            Err(Failure::Conflict { error, again }) => {
                conflicts += 1;
                if !again || conflicts > CONFLICT_RETRIES_MAX {
                    return Err(error);
                }
            }
        }
        run.commits.check()?;
        tokio::time::sleep(pause(conflicts)).await;
    }
}

async fn change_each(
    planning: &Planning<'_>,
    statements: &[batch::Bound],
    charged: &[AtomicBool],
    run: Run<'_>,
) -> Result<u64> {
    let mut total = 0_u64;
    for (index, (bound, charged)) in statements.iter().zip(charged).enumerate() {
        run.commits.check()?;
        let overlay = run.commits.overlay();
        let newest = planning
            .view
            .newest(planning.hub, overlay.as_ref(), planning.now);
        let planning = Planning {
            view: &Arc::new(newest.await?),
            ..*planning
        };
        let changed = change(&planning, bound.clone(), charged, run).await;
        total += changed.map_err(|error| in_row(&error, index, statements.len()))?;
    }
    Ok(total)
}

/// Whoever bound the rows must know which one it is, and that none was changed.
fn in_row(error: &Error, index: usize, all: usize) -> Error {
    Error::new(
        error.kind,
        format!(
            "{error}; it is row {} of {all} that were bound, and none was changed",
            index + 1
        ),
    )
}

/// Runs a change and returns the affected rows: 0 for what makes or drops objects.
pub async fn change(
    planning: &Planning<'_>,
    (parsed, parameters): batch::Bound,
    charged: &AtomicBool,
    run: Run<'_>,
) -> Result<u64> {
    let Statement::Statement(statement) = parsed.statement else {
        return Err(Error::invalid(
            "this statement changes nothing in the space",
        ));
    };
    let hub = planning.hub;
    let project = planning.view.project.clone();
    let replaces = replaces_files(&statement);
    let (_changing, mut view) = in_turn(planning, replaces, run).await?;
    let mut conflicts = 0;
    loop {
        let planning = Planning {
            view: &view,
            ..*planning
        };
        let change = Change {
            planning: &planning,
            space: space_of(&view)?,
            parameters: &parameters,
            work: run.work,
            meter: run.meter,
            commits: run.commits,
            charged,
        };
        match change.run(statement.as_ref().clone()).await {
            Ok(rows) => {
                clean::after_change(hub, &project);
                return Ok(rows);
            }
            Err(Failure::Failed(error)) => {
                // It may have failed for want of room that can be had by now.
                clean::after_change(hub, &project);
                return Err(error);
            }
            Err(Failure::Conflict { error, again }) => {
                conflicts += 1;
                if !again || conflicts > CONFLICT_RETRIES_MAX {
                    return Err(error);
                }
                run.commits.check()?;
                tokio::time::sleep(pause(conflicts)).await;
            }
        }
        let overlay = run.commits.overlay();
        view = Arc::new(view.newest(hub, overlay.as_ref(), planning.now).await?);
    }
}

/// Stores the rows that a client sends and returns their number.
pub async fn upload(planning: &Planning<'_>, upload: Upload, run: Run<'_>) -> Result<u64> {
    let (_changing, view) = in_turn(planning, upload.replaces_files(), run).await?;
    let planning = Planning {
        view: &view,
        ..*planning
    };
    let change = Change {
        planning: &planning,
        space: space_of(&view)?,
        parameters: &[],
        work: run.work,
        meter: run.meter,
        commits: run.commits,
        charged: &AtomicBool::new(false),
    };
    let stored = change.upload(upload).await;
    clean::after_change(planning.hub, &view.project);
    stored.map_err(|failure| match failure {
        Failure::Failed(error) | Failure::Conflict { error, .. } => error,
    })
}

/// The statement's turn before merges, where one could disturb it, and the view to run it on.
async fn in_turn(
    planning: &Planning<'_>,
    replaces: bool,
    run: Run<'_>,
) -> Result<(Option<Changing>, Arc<ProjectView>)> {
    let (hub, view) = (planning.hub, planning.view);
    let snapshot = space_of(view)?.snapshot;
    // A transaction took its turn before it looked at the space.
    if !replaces || run.commits.staging().is_some() {
        return Ok((None, Arc::clone(view)));
    }
    let changing = hub.space_turns.of(&view.project).change().await;
    // A merge may have come between this statement's planning and its turn.
    let view = match changing.is_behind(snapshot) {
        true => Arc::new(view.newest(hub, None, planning.now).await?),
        false => Arc::clone(view),
    };
    Ok((Some(changing), view))
}

/// Whether a merge of files could disturb a statement: all but an INSERT of values, which only
/// adds files and labels nothing.
fn replaces_files(statement: &Sql) -> bool {
    let Sql::Insert(insert) = statement else {
        return true;
    };
    let source = insert.source.as_ref();
    !source.is_some_and(|query| matches!(*query.body, SetExpr::Values(_)))
}

fn pause(conflicts: u32) -> Duration {
    let longest = CONFLICT_PAUSE_MS << conflicts;
    // The low half of such an identifier is random.
    let (_, random) = uuid::Uuid::now_v7().as_u64_pair();
    Duration::from_millis(random % longest)
}

fn space_of(view: &ProjectView) -> Result<&Arc<Space>> {
    view.space.as_ref().ok_or_else(|| {
        Error::invalid(format!(
            "catalog `{}` has no space: nothing can be made or changed in it",
            view.project
        ))
    })
}

/// Why a change did not happen.
pub(super) enum Failure {
    Failed(Error),
    /// Another statement was first; `again` if running this one again costs the user nothing.
    Conflict {
        error: Error,
        again: bool,
    },
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// One run of a statement on one snapshot.
#[derive(Clone, Copy)]
pub(super) struct Change<'a> {
    pub planning: &'a Planning<'a>,
    pub space: &'a Arc<Space>,
    pub(super) parameters: &'a [ScalarValue],
    pub(super) work: &'a Arc<StatementWork>,
    pub(super) meter: &'a Arc<Meter>,
    pub(super) commits: &'a Commits,
    /// Whether the statement was charged for what it reads, in this run or one before it.
    pub(super) charged: &'a AtomicBool,
}

/// A query whose rows go to files.
pub(super) struct Job {
    pub query: Optimised,
    /// See [`SpaceWriter::write`].
    pub flagged: bool,
}

/// What a commit does, and whether the statement may simply run again if it conflicts.
pub(super) struct Commit {
    pub changes: Vec<SpaceChange>,
    pub written: Written,
    pub again: bool,
}

impl Change<'_> {
    async fn run(&self, statement: Sql) -> Result<u64, Failure> {
        match statement {
            Sql::CreateTable(table) => self.create_table(table).await,
            Sql::CreateView(view) => self.create_view(view).await,
            drop @ Sql::Drop { .. } => self.drop_objects(drop).await,
            Sql::Insert(insert) => self.insert(insert).await,
            Sql::Update(update) => self.update(update).await,
            Sql::Delete(delete) => self.delete(delete).await,
            _ => Err(Error::invalid("this statement changes nothing in the space").into()),
        }
    }

    pub fn parameters(&self) -> &[ScalarValue] {
        self.parameters
    }

    /// Every table that a statement names must be visible.
    pub async fn resolve(&self, statement: Sql) -> Result<()> {
        let parsed = Parsed {
            statement: Statement::Statement(Box::new(statement)),
            kind: Kind::Change,
            placeholders: self.parameters.len(),
        };
        self.planning.resolve(&self.planning.state(), &parsed).await
    }

    /// The plan of an INSERT, UPDATE or DELETE.
    pub async fn plan_dml(&self, statement: Sql) -> Result<(DmlStatement, SessionState)> {
        self.resolve(statement.clone()).await?;
        let state = self.planning.state();
        let statement = Statement::Statement(Box::new(statement));
        match state.statement_to_plan(statement).await? {
            LogicalPlan::Dml(dml) => Ok((dml, state)),
            other => Err(Error::internal(
                "a change has another plan",
                &other.display(),
            )),
        }
    }

    /// The plan with a value for each placeholder.
    pub fn bound(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        if self.parameters.is_empty() {
            return Ok(plan);
        }
        parameters::check_copies(&plan, self.parameters)?;
        Ok(plan.with_param_values(self.parameters.to_vec())?)
    }

    /// An authorised query that can run.
    pub fn query(&self, plan: LogicalPlan, state: &SessionState) -> Result<Optimised> {
        self.planning.authorise(plan, state.clone())?.optimise()
    }

    /// Charges what a statement's query reads, before it runs: once, however often it runs.
    pub async fn charge(&self, query: &Optimised) -> Result<()> {
        // Also when it runs again: a view that it reads may be another one by now.
        self.meter.reads(&query.tables)?;
        self.rest_on(query)?;
        if self.charged.load(Ordering::Relaxed) {
            return Ok(());
        }
        let queries = std::slice::from_ref(query);
        let (hub, view) = (self.planning.hub, self.planning.view);
        let bytes = visible::bytes(hub, view, queries).await?;
        hub.take_answers(&view.project, query.answers).await?;
        self.meter.scanned(bytes);
        self.charged.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Remembers what a statement's query rests on.
    fn rest_on(&self, query: &Optimised) -> Result<()> {
        let datasets = &self.planning.hub.datasets;
        let mut tables = query.tables.iter();
        let providers = query.providers()?;
        self.commits.reads(Read {
            labels: Labels::of(&providers, self.planning.view)?,
            exports: airlock::read_by(&providers).collect(),
            persons: tables.any(|read| datasets.describes_persons(&read.dataset, &read.table)),
        });
        Ok(())
    }

    /// Where a table's new files go; what those take that are `replaced` counts as free.
    pub async fn target(
        &self,
        name: &str,
        schema: &SchemaRef,
        replaced: &[SpaceFile],
    ) -> Result<Target> {
        let (hub, project) = (self.planning.hub, &self.planning.view.project);
        // Taken before the room is looked at.
        let share = Arc::new(hub.space_writes.share(project));
        let room = hub.store.space_room(project).await?;
        let freed = match self.commits.staging() {
            Some(turn) => turn.freed(replaced),
            None => bytes_of(replaced),
        };
        Ok(Target {
            folder: self.space.folder()?,
            table: name.to_owned(),
            schema: Arc::clone(schema),
            bytes_max: room.left(freed),
            share,
            key: hub.space_files.keys().newest(project).await?,
        })
    }

    /// Runs queries on the CPU runtime, one after the other, into files.
    pub async fn write(&self, target: Target, jobs: Vec<Job>) -> Result<(Written, Vec<Counts>)> {
        let hub = Arc::clone(self.planning.hub);
        let work = Arc::clone(self.work);
        self.on_cpu(async move { write(&hub, &work, target, jobs).await })
            .await
    }

    /// The number that a counting query gives.
    pub async fn count(&self, query: Optimised) -> Result<u64> {
        let hub = Arc::clone(self.planning.hub);
        let work = Arc::clone(self.work);
        self.on_cpu(async move {
            let (plan, context) = query.physical(&hub.engine, work).await?;
            let mut batches = execute_stream(plan, context)?;
            let mut total = 0;
            while let Some(batch) = batches.next().await {
                let batch = batch?;
                if let Some(counts) = batch.column(0).as_primitive_opt::<Int64Type>() {
                    total += counts.iter().flatten().sum::<i64>();
                }
            }
            Ok(u64::try_from(total).unwrap_or(0))
        })
        .await
    }

    /// Computes apart from the network's runtime; stops when the caller goes away.
    pub(super) async fn on_cpu<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let task = AbortOnDropHandle::new(self.planning.hub.engine.cpu().spawn(work));
        match task.await {
            Ok(result) => result,
            Err(error) => Err(Error::internal("a change was lost while it ran", &error)),
        }
    }

    /// Commits, or stages where the statement is one of a transaction. Not where it has ended.
    ///
    /// The answer is the new snapshot, or the one that the statement was run on.
    pub async fn commit(&self, commit: Commit) -> Result<i64, Failure> {
        let _sent = self.commits.send()?;
        let Commit {
            changes,
            written,
            again,
        } = commit;
        if let Some(turn) = self.commits.staging() {
            let grounds = self.commits.rests_on();
            turn.stage(self.space, (changes, written), grounds.as_ref(), again)?;
            return Ok(self.space.snapshot);
        }
        let grounds = self.commits.grounds();
        let hub = self.planning.hub;
        let request = SpaceCommit {
            project: self.planning.view.project.clone(),
            base_snapshot: self.space.snapshot,
            bases: BTreeMap::new(),
            statement_id: self.work.statement_id.clone(),
            changes,
            keys: written.key().into_iter().collect(),
            limits: hub.config.limits.space(),
            rights: None,
        };
        send(hub, grounds, request, Files::Of(written), again).await
    }
}

/// The files that a commit names.
enum Files {
    Of(Written),
    Staged(Staging),
}

impl Files {
    fn keep(&mut self) {
        match self {
            Self::Of(written) => written.keep(),
            Self::Staged(staging) => staging.keep(),
        }
    }

    fn release(&mut self) {
        match self {
            Self::Of(written) => written.release(),
            Self::Staged(staging) => staging.release(),
        }
    }
}

/// Commits what the statements of a transaction have staged, as `statement_id`.
///
/// # Errors
/// `Aborted` where another statement changed what they did; as any commit.
pub async fn commit_transaction(
    hub: &Arc<Hub>,
    project: &str,
    statement_id: &str,
    (staging, grounds): (Staging, Grounds),
) -> Result<()> {
    let sent = send_staged(
        hub,
        (project, statement_id),
        Some(Arc::new(grounds)),
        staging,
    )
    .await;
    clean::after_change(hub, project);
    sent.map_err(|failure| match failure {
        Failure::Failed(error) | Failure::Conflict { error, .. } => error,
    })
}

/// Commits the rows of parameters of one statement.
async fn commit_staged(planning: &Planning<'_>, turn: &Turn, run: Run<'_>) -> Result<(), Failure> {
    let _sent = run.commits.send()?;
    let names = (
        planning.view.project.as_str(),
        run.work.statement_id.as_str(),
    );
    send_staged(planning.hub, names, run.commits.grounds(), turn.staging()).await
}

async fn send_staged(
    hub: &Arc<Hub>,
    (project, statement_id): (&str, &str),
    grounds: Option<Arc<Grounds>>,
    staging: Staging,
) -> Result<(), Failure> {
    let Staged {
        changes,
        bases,
        keys,
        again,
    } = staging.staged()?;
    if changes.is_empty() {
        return Ok(());
    }
    let request = SpaceCommit {
        project: project.to_owned(),
        base_snapshot: bases.values().copied().min().unwrap_or(0),
        bases,
        statement_id: statement_id.to_owned(),
        changes,
        keys,
        limits: hub.config.limits.space(),
        rights: None,
    };
    let files = Files::Staged(staging);
    send(hub, grounds, request, files, again).await.map(drop)
}

/// Sends a commit, whether or not the caller waits: once it is sent it may happen, and then its
/// files must stay. They go only where the store has refused it; where nobody knows what became
/// of it they are orphans at worst.
async fn send(
    hub: &Arc<Hub>,
    grounds: Option<Arc<Grounds>>,
    request: SpaceCommit,
    mut files: Files,
    again: bool,
) -> Result<i64, Failure> {
    let hub = Arc::clone(hub);
    let committed = tokio::spawn(async move {
        files.keep();
        let result = commit_on(&hub, grounds.as_deref(), request).await;
        let is_refused = match &result {
            Ok(sent) => sent.as_ref().is_err_and(StoreError::is_refusal),
            Err(_) => true,
        };
        if is_refused {
            files.release();
        }
        result
    });
    let committed = match committed.await {
        Ok(sent) => sent?,
        Err(lost) => return Err(Error::internal("a commit was lost", &lost).into()),
    };
    committed.map_err(|error| match error {
        StoreError::Conflict { .. } | StoreError::KeyDropped { .. } => Failure::Conflict {
            error: error.into(),
            again,
        },
        StoreError::HeldExceeded { held, max } => Failure::Failed(Error::exhausted(format!(
            "the project's space would hold {held} bytes with the files that were replaced \
             lately, and it may hold {max}; try again in an hour, or ask an administrator \
             for a larger quota"
        ))),
        error => Failure::Failed(error.into()),
    })
}

/// Commits what rests on `grounds` at a moment when they hold; an error of the outer kind where
/// they do not, and then nothing was sent.
async fn commit_on(
    hub: &Hub,
    grounds: Option<&Grounds>,
    mut request: SpaceCommit,
) -> Result<Result<i64, StoreError>> {
    let mut tries = 0;
    loop {
        if let Some(grounds) = grounds {
            request.rights = Some(confirmed_at(hub, grounds).await?);
        }
        tries += 1;
        match hub.store.commit_space(&request).await {
            Err(StoreError::RightsChanged) if tries < RIGHTS_TRIES_MAX => {}
            done => return Ok(done),
        }
    }
}

/// Whether a query reads a dataset, which a statement does once only. Tables of the space are
/// read as often as another statement gets ahead of this one.
pub(super) fn reads_dataset(query: &Optimised) -> Result<bool> {
    let is_dataset = |table: &Arc<dyn TableProvider>| table_of(table.as_ref()).is_some();
    Ok(query.providers()?.iter().any(is_dataset))
}

async fn write(
    hub: &Hub,
    work: &Arc<StatementWork>,
    target: Target,
    jobs: Vec<Job>,
) -> Result<(Written, Vec<Counts>)> {
    let mut writer: Option<SpaceWriter> = None;
    let mut counts = Vec::with_capacity(jobs.len());
    for job in jobs {
        let (plan, context) = job.query.physical(&hub.engine, Arc::clone(work)).await?;
        if writer.is_none() {
            writer = Some(SpaceWriter::new(target.clone(), context.memory_pool())?);
        }
        let batches = execute_stream(plan, context)?;
        if let Some(writer) = &mut writer {
            counts.push(writer.write(batches, job.flagged).await?);
        }
    }
    let written = writer.map(SpaceWriter::finish).transpose()?;
    Ok((written.unwrap_or_default(), counts))
}

/// The columns that a table or view declares: plain types, with the nullability that was declared.
pub fn declared_schema(schema: &Schema) -> Result<SchemaRef> {
    let plain = plain_schema(schema, false);
    let fields: Vec<Field> = plain
        .fields()
        .iter()
        .zip(schema.fields())
        .map(|(plain, declared)| {
            // A column of NULLs only has no type; text is what others give it.
            let data_type = match plain.data_type() {
                DataType::Null => DataType::Utf8,
                other => other.clone(),
            };
            Field::new(plain.name(), data_type, declared.is_nullable())
        })
        .collect();
    let mut names = std::collections::HashSet::new();
    for field in &fields {
        super::names::check_new("column", field.name())?;
        if !names.insert(field.name()) {
            return Err(Error::invalid(format!(
                "there are two columns `{}`; give one another name with AS",
                field.name()
            )));
        }
    }
    if fields.is_empty() {
        return Err(Error::invalid("a table or view needs a column"));
    }
    let leaves: usize = fields.iter().map(|field| leaves(field.data_type())).sum();
    if leaves > LEAVES_MAX {
        return Err(Error::exhausted(format!(
            "a table or view would have {leaves} columns, those inside structs counted, and may \
             have {LEAVES_MAX}; leave some out, or put values of one type into a list"
        )));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Columns that a type is stored as.
fn leaves(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => leaves(field.data_type()),
        _ => 1,
    }
}

/// A table of the space that a statement changes.
pub(super) fn changeable<'a>(space: &'a Space, name: &str) -> Result<&'a Arc<Object>> {
    let object = space.object(name).ok_or_else(|| {
        Error::not_found(format!(
            "table `space.{name}` does not exist; make it with CREATE TABLE"
        ))
    })?;
    if object.kind == hubflight_store::ObjectKind::View {
        return Err(Error::invalid(format!(
            "`space.{name}` is a view; change the tables that it reads"
        )));
    }
    match &object.ended {
        Some(dataset) => Err(super::table::locked(name, dataset)),
        None => Ok(object),
    }
}
