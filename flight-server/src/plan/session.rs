//! The session that a statement is planned and run in: another's state, with the memory that
//! this statement may take and the account of its work.
//!
//! To build a state of its own would register every function and rule anew, which takes longer
//! than to plan a small query.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProviderList, Session};
use datafusion::common::DFSchema;
use datafusion::common::config::TableOptions;
use datafusion::error::Result;
use datafusion::execution::config::SessionConfig;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::registry::ExtensionTypeRegistryRef;
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, WindowUDF,
};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use hubflight_udfs::StatementWork;

use crate::exec::bounded::account::Account;

pub struct StatementSession {
    state: Arc<SessionState>,
    config: SessionConfig,
    table_options: TableOptions,
    environment: Arc<RuntimeEnv>,
    /// With the options that functions see.
    props: ExecutionProps,
}

impl StatementSession {
    /// A session whose batches have so many rows.
    pub fn new(
        state: Arc<SessionState>,
        environment: Arc<RuntimeEnv>,
        work: Arc<StatementWork>,
        batch_rows: usize,
    ) -> Self {
        let config = state.config().clone().with_extension(work);
        let mut config = config.with_batch_size(batch_rows);
        let account = Account::running(Arc::clone(&environment.memory_pool));
        config.options_mut().extensions.insert(account);
        let mut props = SessionState::execution_props(&state).clone();
        props.config_options = Some(Arc::clone(config.options()));
        Self {
            config,
            props,
            table_options: state.table_options().clone(),
            state,
            environment,
        }
    }

    /// The physical plan of an optimised plan.
    pub async fn physical(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = SessionState::query_planner(&self.state);
        planner.create_physical_plan(plan, self).await
    }
}

#[async_trait]
impl Session for StatementSession {
    fn session_id(&self) -> &str {
        self.state.session_id()
    }

    fn config(&self) -> &SessionConfig {
        &self.config
    }

    fn catalog_list(&self) -> Arc<dyn CatalogProviderList> {
        Arc::clone(SessionState::catalog_list(&self.state))
    }

    fn query_planner(&self) -> Arc<dyn QueryPlanner + Send + Sync> {
        Arc::clone(SessionState::query_planner(&self.state))
    }

    fn optimize(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        SessionState::optimize(&self.state, plan)
    }

    fn physical_optimizers(&self) -> &[Arc<dyn PhysicalOptimizerRule + Send + Sync>] {
        SessionState::physical_optimizers(&self.state)
    }

    async fn create_physical_plan(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        self.physical(&self.optimize(plan)?).await
    }

    fn create_physical_expr(&self, expr: Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        SessionState::create_physical_expr(&self.state, expr, schema)
    }

    fn scalar_functions(&self) -> &HashMap<String, Arc<ScalarUDF>> {
        SessionState::scalar_functions(&self.state)
    }

    fn higher_order_functions(&self) -> &HashMap<String, Arc<HigherOrderUDF>> {
        SessionState::higher_order_functions(&self.state)
    }

    fn aggregate_functions(&self) -> &HashMap<String, Arc<AggregateUDF>> {
        SessionState::aggregate_functions(&self.state)
    }

    fn window_functions(&self) -> &HashMap<String, Arc<WindowUDF>> {
        SessionState::window_functions(&self.state)
    }

    fn extension_type_registry(&self) -> &ExtensionTypeRegistryRef {
        Session::extension_type_registry(&*self.state)
    }

    fn runtime_env(&self) -> &Arc<RuntimeEnv> {
        &self.environment
    }

    fn execution_props(&self) -> &ExecutionProps {
        &self.props
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn table_options(&self) -> &TableOptions {
        &self.table_options
    }

    fn table_options_mut(&mut self) -> &mut TableOptions {
        &mut self.table_options
    }

    /// Without functions: operators hold those that they call, and look none up by name.
    fn task_ctx(&self) -> Arc<TaskContext> {
        Arc::new(TaskContext::new(
            None,
            self.state.session_id().to_owned(),
            self.config.clone(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            Arc::clone(&self.environment),
        ))
    }
}
