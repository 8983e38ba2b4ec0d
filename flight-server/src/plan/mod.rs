//! From SQL text to an authorised plan. Phases are types: execution takes an `Authorised`,
//! which only this module can make.
//!
//! ```text
//!  text ──parse──▶ Parsed ──resolve, plan, check──▶ Authorised ──▶ exec
//!                    │                                  │
//!                    └─ a change of the space           └─ tables, columns (audit, metering)
//! ```

pub mod authorise;
pub mod casts;
pub mod distinct;
mod doubled;
mod listed;
mod lists;
pub mod mended;
mod names;
pub mod numbers;
mod ordered;
pub mod parameters;
pub mod parse;
mod read;
pub mod repeated;
mod session;
mod shape;
mod spelled;
mod text;
pub mod wire;

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use chrono::{DateTime, Utc};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProviderList, Session, TableProvider,
};
use datafusion::common::{DFSchema, TableReference};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{EmptyRelation, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use hubflight_policy::aggregate;
use hubflight_udfs::StatementWork;

use crate::admin::call::COLUMN;
use crate::airlock;
use crate::auth::session::SessionOptions;
use crate::catalog::project::ProjectView;
use crate::catalog::space;
use crate::error::{Error, Result};
use crate::exec::Engine;
use crate::exec::bounded::account::Account;
use crate::exec::{ended, watched};
use crate::hub::Hub;
use authorise::{TableAccess, check_plan, space_bytes_read, tables_read};
use parse::{Kind, Parsed};
use session::StatementSession;

/// What a statement is planned with.
pub struct Planning<'a> {
    pub hub: &'a Arc<Hub>,
    pub view: &'a Arc<ProjectView>,
    pub options: &'a SessionOptions,
    /// What `now()` says.
    pub now: DateTime<Utc>,
}

/// A query whose tables, columns and functions are all permitted.
#[derive(Clone, Debug)]
pub struct Authorised {
    /// As it was asked, with its placeholders: aggregates are published once these are values,
    /// since what may be evaluated depends on them.
    asked: LogicalPlan,
    plan: LogicalPlan,
    /// Shared by the rows of parameters that are bound to it.
    state: Arc<SessionState>,
    /// What the client is told, and what its batches are cast to.
    pub schema: SchemaRef,
    /// The client reads views.
    views: bool,
}

/// An authorised query, optimised: what it reads is known, and it can run.
#[derive(Debug)]
pub struct Optimised {
    plan: LogicalPlan,
    state: Arc<SessionState>,
    pub schema: SchemaRef,
    /// Of datasets.
    pub tables: Vec<TableAccess>,
    /// Logical bytes of what it reads of the project's space.
    pub space_bytes: u64,
    /// Aggregates that it publishes.
    pub answers: u32,
}

impl Planning<'_> {
    /// Plans a query; its placeholders may still be open.
    pub async fn query(&self, parsed: Parsed) -> Result<Authorised> {
        let Kind::Query { explain } = parsed.kind else {
            return Err(Error::invalid(
                "this statement changes something and has no result",
            ));
        };
        let state = self.state();
        let plan = self.plan(&state, parsed).await?;
        if explain {
            shape::check_plan_size(&plan)?;
            check_plan(&plan)?;
            aggregate::protect(plan.clone())?;
            return self.authorise(explained(&plan)?, state);
        }
        self.authorise(plan, state)
    }

    /// What the dry run of a statement of administration told, as the rows of a query. Before it
    /// has run, the schema is all that is known.
    pub fn told(&self, told: &[String]) -> Result<Authorised> {
        let rows = match told {
            [] => lines(COLUMN, std::iter::once("")),
            told => lines(COLUMN, told.iter().map(String::as_str)),
        };
        self.authorise(rows?, self.state())
    }

    /// Authorises a plan that was made from a statement in [`Self::state`]: the rows that a
    /// change of the space reads.
    pub fn authorise(&self, plan: LogicalPlan, state: SessionState) -> Result<Authorised> {
        shape::check_plan_size(&plan)?;
        check_plan(&plan)?;
        airlock::check_alone(&plan, &self.view.viewer)?;
        let plan = listed::without_settings(plan)?;
        let asked = plan.clone();
        let plan = aggregate::protect(plan)?;
        let views = self.options.wire_views;
        let schema = wire::schema_of(&plan, &state, views)?;
        Ok(Authorised {
            asked,
            plan,
            state: Arc::new(state),
            schema,
            views,
        })
    }

    /// No rows of a schema: what a query gives whose parameters have no rows.
    pub fn nothing(&self, schema: SchemaRef) -> Result<Authorised> {
        let plan = LogicalPlan::EmptyRelation(EmptyRelation {
            produce_one_row: false,
            schema: Arc::new(DFSchema::try_from(Schema::clone(&schema))?),
        });
        let nothing = self.authorise(plan, self.state())?;
        Ok(Authorised { schema, ..nothing })
    }

    /// The placeholders of a change, with the types that they get from the columns that they are for.
    pub async fn placeholders_of(&self, parsed: &Parsed) -> Result<Schema> {
        let state = self.state();
        let parsed = self.spelled_change(parsed.clone()).await;
        match self.as_written(&state, &parsed).await? {
            LogicalPlan::Dml(change) => {
                shape::check_plan_size(&change.input)?;
                parameters::schema(&change.input)
            }
            _ => Ok(Schema::empty()),
        }
    }

    /// A session of this statement alone, in which only the project's catalog exists.
    pub fn state(&self) -> SessionState {
        let catalogs = MemoryCatalogProviderList::new();
        let catalog = Arc::clone(self.view) as Arc<dyn CatalogProvider>;
        catalogs.register_catalog(self.view.project.clone(), catalog);
        // Changed in place, as `session.rs` says.
        let mut state = self.hub.engine.template().clone();
        state.register_catalog_list(Arc::new(catalogs));
        let options = state.config_mut().options_mut();
        options.catalog.default_catalog = self.view.project.clone();
        options.catalog.default_schema = self.default_schema();
        // Of what is written without one; functions keep theirs, where the session has none.
        let zone = self.options.time_zone.as_deref().unwrap_or("UTC");
        options.execution.time_zone = Some(zone.to_owned());
        options.extensions.insert(Account::planning());
        if self.options.time_zone.is_some() {
            follow_options(&mut state);
        }
        state.execution_props_mut().query_execution_start_time = Some(self.now);
        state
    }

    /// The schema of unqualified names: the session's, else the only dataset's, else the space.
    pub fn default_schema(&self) -> String {
        if let Some(schema) = &self.options.schema {
            return schema.clone();
        }
        let mut datasets = self.view.listed();
        match (datasets.next(), datasets.next()) {
            (Some((dataset, _)), None) => dataset.name.clone(),
            _ => crate::catalog::project::SPACE_SCHEMA.to_owned(),
        }
    }

    /// Every table must exist for this project. A hidden table, another project's and a
    /// missing one take the same path and give the same answer.
    pub async fn resolve(&self, state: &SessionState, parsed: &Parsed) -> Result<()> {
        let named = state.resolve_table_references(&parsed.statement)?;
        self.check_known(state, parsed, named).await
    }

    async fn check_known(
        &self,
        state: &SessionState,
        parsed: &Parsed,
        references: Vec<TableReference>,
    ) -> Result<()> {
        for reference in references {
            if names::is_function(state, &reference) {
                continue;
            }
            let options = &state.config().options().catalog;
            let named = reference
                .clone()
                .resolve(&options.default_catalog, &options.default_schema);
            // `SHOW` reads what it needs of `information_schema`, and nothing else.
            let shown = parsed.is_show() && &*named.schema == "information_schema";
            let known = *named.catalog == *self.view.project
                && (shown
                    || parse::is_information_schema(&named.schema, &named.table)?
                    || self
                        .view
                        .table(&named.schema, &named.table)
                        .await?
                        .is_some());
            if !known {
                self.view.check_closed(&named.schema)?;
                return Err(Error::not_found(format!(
                    "table `{reference}` does not exist in project `{}`; `SHOW TABLES` lists \
                     what there is",
                    self.view.project
                )));
            }
        }
        Ok(())
    }
}

impl Authorised {
    /// Binds one row of parameters. Types that depended on them are known now.
    pub fn bind(self, values: Vec<datafusion::common::ScalarValue>) -> Result<Self> {
        if values.is_empty() {
            return Ok(self);
        }
        parameters::check_copies(&self.asked, &values)?;
        let asked = self.asked.with_param_values(values)?;
        let plan = aggregate::protect(asked.clone())?;
        let schema = wire::schema_of(&plan, &self.state, self.views)?;
        Ok(Self {
            asked,
            plan,
            schema,
            ..self
        })
    }

    /// The plan as it was asked, for a view to be read inside another query: the whole is
    /// authorised, and its aggregates are published, once.
    pub fn asked(&self) -> &LogicalPlan {
        &self.asked
    }

    /// True where it reads schema `hub` or `information_schema` and nothing else.
    pub fn reads_metadata_only(&self) -> Result<bool> {
        let tables = authorise::providers(&self.plan)?;
        // Tables of datasets and of the space, and table functions, are of other types.
        let of_the_hub = |table: &Arc<dyn TableProvider>| {
            (table.as_ref() as &dyn std::any::Any).is::<StreamingTable>()
        };
        Ok(!tables.is_empty()
            && tables.iter().all(of_the_hub)
            && !space::plan_calls_worker(&self.plan)?)
    }

    /// Whether it says in which order its rows come.
    pub fn is_ordered(&self) -> bool {
        is_ordered(&self.asked)
    }

    /// Whether its rows come by nobody's clock: one that publishes aggregates of rows that nobody may
    /// see answers in steps.
    pub fn splits(&self) -> Result<bool> {
        Ok(aggregate::answers(&self.plan)? == 0)
    }

    /// The placeholders of the query with the types that the planner found, in order.
    pub fn parameters(&self) -> Result<Schema> {
        parameters::schema(&self.plan)
    }

    pub fn optimise(self) -> Result<Optimised> {
        if !self.plan.get_parameter_names()?.is_empty() {
            return Err(Error::invalid(
                "the statement has parameters that are not bound; bind one value for each",
            ));
        }
        repeated::check(&self.plan)?;
        let plan = self.state.optimize(&self.plan)?;
        shape::check_cases(&plan)?;
        ordered::check(&plan)?;
        let tables = tables_read(&plan)?;
        let space_bytes = space_bytes_read(&plan)?;
        let answers = aggregate::answers(&plan)?;
        Ok(Optimised {
            plan,
            state: self.state,
            schema: self.schema,
            tables,
            space_bytes,
            answers,
        })
    }
}

impl Optimised {
    /// The tables that the plan scans.
    pub fn providers(&self) -> Result<Vec<Arc<dyn TableProvider>>> {
        authorise::providers(&self.plan)
    }

    /// The physical plan and the context that it runs in, on whose account.
    pub async fn physical(
        self,
        engine: &Engine,
        work: Arc<StatementWork>,
    ) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>)> {
        let (environment, _) = engine.query_environment();
        self.physical_in(environment, work).await
    }

    /// The same, in an environment that several plans share.
    pub async fn physical_in(
        self,
        environment: Arc<RuntimeEnv>,
        work: Arc<StatementWork>,
    ) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>)> {
        let batch_rows = watched::batch_rows(&self.plan)?;
        let is_ended = Arc::clone(&work.ended);
        let session = StatementSession::new(self.state, environment, work, batch_rows);
        let physical = session.physical(&self.plan).await?;
        let physical = watched::watched(ended::ending(physical, &is_ended)?)?;
        Ok((physical, session.task_ctx()))
    }
}

/// Whether a query says in which order its rows come.
fn is_ordered(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(projection) => is_ordered(&projection.input),
        LogicalPlan::Limit(limit) => is_ordered(&limit.input),
        LogicalPlan::SubqueryAlias(alias) => is_ordered(&alias.input),
        _ => false,
    }
}

/// Functions that keep options since they were made, as `now()` keeps the time zone, are made again.
fn follow_options(state: &mut SessionState) {
    let options = Arc::clone(state.config().options());
    let functions = state.scalar_functions().values();
    let made = functions.filter_map(|function| function.inner().with_updated_config(&options));
    for function in made.collect::<Vec<_>>() {
        // A state takes every function.
        let _ = state.register_udf(Arc::new(function));
    }
}

/// The plan as text, one row a line: tables and expressions that the user wrote or may see,
/// before the barrier is opened.
fn explained(plan: &LogicalPlan) -> Result<LogicalPlan> {
    let text = plan.display_indent().to_string();
    lines("plan", text.lines())
}

fn lines<'a>(name: &str, lines: impl Iterator<Item = &'a str>) -> Result<LogicalPlan> {
    use datafusion::logical_expr::{LogicalPlanBuilder, lit};
    let rows = lines.map(|line| vec![lit(line)]).collect();
    Ok(LogicalPlanBuilder::values(rows)?
        .project(vec![datafusion::prelude::col("column1").alias(name)])?
        .build()?)
}
