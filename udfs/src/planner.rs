//! Registration with a session, and the step from [`Dispatch`] to [`DispatchExec`].

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{Result, internal_err};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::optimizer::OptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use crate::exec::ExecCall;
use crate::extract::ExtractCalls;
use crate::function::WorkerFunction;
use crate::physical::HandOnAnswers;
use crate::{Dispatch, DispatchExec, Options, functions};

/// DataFusion's rule that spreads rows over partitions.
const ADDS_REPARTITIONS: &str = "EnsureRequirements";

/// Adds the functions, the optimiser rules (the logical one last, so that filters and limits
/// come first) and, unless the builder already has a query planner, one that knows [`Dispatch`].
///
/// A server with a query planner of its own adds [`extension_planner`] to it.
pub fn register(mut builder: SessionStateBuilder, options: &Options) -> SessionStateBuilder {
    let registered = builder.scalar_functions().get_or_insert_default();
    registered.extend(functions(options));
    if builder.query_planner().is_none() {
        builder = builder.with_query_planner(Arc::new(Planner));
    }
    let mut rules = builder
        .physical_optimizers()
        .take()
        .unwrap_or_default()
        .rules;
    // Behind the rule that adds repartitionings, before those that rely on what is left.
    let added = rules
        .iter()
        .position(|rule| rule.name() == ADDS_REPARTITIONS);
    rules.insert(
        added.map_or(rules.len(), |added| added + 1),
        Arc::new(HandOnAnswers),
    );
    builder
        .with_physical_optimizer_rules(rules)
        .with_optimizer_rule(optimizer_rule())
}

/// The rule that moves calls into [`Dispatch`] nodes; it belongs after DataFusion's own rules.
pub fn optimizer_rule() -> Arc<dyn OptimizerRule + Send + Sync> {
    Arc::new(ExtractCalls)
}

/// Plans [`Dispatch`] nodes.
pub fn extension_planner() -> Arc<dyn ExtensionPlanner + Send + Sync> {
    Arc::new(DispatchPlanner)
}

/// DataFusion's planner, with [`extension_planner`].
#[derive(Debug)]
struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::with_extension_planners(vec![extension_planner()])
            .create_physical_plan(plan, session)
            .await
    }
}

struct DispatchPlanner;

#[async_trait]
impl ExtensionPlanner for DispatchPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        planning: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<Dispatch>() else {
            return Ok(None);
        };
        let [input] = physical_inputs else {
            return internal_err!("Dispatch has one input");
        };
        let schema = node.input.schema();
        let mut calls = Vec::with_capacity(node.calls.len());
        for call in &node.calls {
            let Some(function) = WorkerFunction::of(&call.function.func) else {
                return internal_err!("Dispatch holds a function that is not a worker's");
            };
            let parameters = function.spec.parameters.len();
            let mut arguments = Vec::with_capacity(parameters);
            for argument in call.function.args.iter().take(parameters) {
                arguments.push(planner.create_physical_expr(argument, schema, session, planning)?);
            }
            calls.push(ExecCall::try_new(
                function.spec,
                arguments,
                function.on_error(&call.function.args)?,
                call.column.clone(),
                &input.schema(),
            )?);
        }
        Ok(Some(Arc::new(DispatchExec::try_new(
            Arc::clone(input),
            calls,
        )?)))
    }
}
