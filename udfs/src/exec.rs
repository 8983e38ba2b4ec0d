//! The physical operator: arguments evaluated here, calls executed by workers, in order.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, NullArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, Result, Statistics, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_expr::expressions::{CastExpr, Literal};
use datafusion::physical_expr::projection::ProjectionMapping;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    CardinalityEffect, ChildrenPropertiesMode, ReplaceChildrenOptions, apply_expression_roots,
};
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterDescription, FilterDescription, FilterPushdownPhase,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
    SendableRecordBatchStream,
};
use hubflight_protocol::FunctionSpec;

use crate::caller::Caller;
use crate::function::OnError;
use crate::partition::PartitionCall;
use crate::slice::content_bytes;
use crate::stream::DispatchStream;
use crate::{StatementWork, WorkError};

/// One call, ready to be evaluated on batches of the input.
#[derive(Clone, Debug)]
pub(crate) struct ExecCall {
    pub(crate) spec: &'static FunctionSpec,
    /// One a parameter; `None` is a NULL that travels as nothing.
    arguments: Vec<Option<Arc<dyn PhysicalExpr>>>,
    pub(crate) on_error: OnError,
    /// Schema of the arguments as they travel.
    schema: SchemaRef,
    /// Type of the worker's result.
    pub(crate) value: DataType,
    /// Columns of the input that the arguments are made of.
    inputs: Vec<usize>,
    /// Name of the output column.
    column: String,
}

impl ExecCall {
    pub(crate) fn try_new(
        spec: &'static FunctionSpec,
        arguments: Vec<Arc<dyn PhysicalExpr>>,
        on_error: OnError,
        column: String,
        input: &Schema,
    ) -> Result<Self> {
        let mut types = Vec::with_capacity(spec.parameters.len());
        let mut fields = Vec::with_capacity(spec.parameters.len());
        let mut kept = Vec::with_capacity(spec.parameters.len());
        let mut given = arguments.into_iter();
        for (index, parameter) in spec.parameters.iter().enumerate() {
            let argument = given.next();
            let data_type = match &argument {
                Some(argument) => argument.data_type(input)?,
                None => parameter.kind.declared(),
            };
            if parameter.kind.wire(&data_type).as_ref() != Some(&data_type) {
                return internal_err!("`{}` of `{}` was not coerced", parameter.name, spec.name);
            }
            // The main argument decides which rows travel, so it stays even where it is NULL.
            let argument = argument.filter(|argument| index == 0 || !is_null_literal(argument));
            let wire = match &argument {
                Some(_) => data_type.clone(),
                None => DataType::Null,
            };
            types.push(data_type);
            fields.push(Field::new(parameter.name, wire, true));
            kept.push(argument);
        }
        let inputs = kept.iter().flatten().flat_map(collect_columns);
        let inputs: BTreeSet<usize> = inputs.map(|column| column.index()).collect();
        Ok(Self {
            inputs: inputs.into_iter().collect(),
            spec,
            arguments: kept,
            on_error,
            schema: Arc::new(Schema::new(fields)),
            value: (spec.returns)(&types),
            column,
        })
    }

    fn field(&self) -> Field {
        let data_type = self.on_error.returns(self.value.clone());
        Field::new(&self.column, data_type, true)
    }

    /// Bytes of text and binary in the columns of `batch` that the arguments are made of.
    pub(crate) fn input_bytes(&self, batch: &RecordBatch) -> usize {
        let columns = self.inputs.iter().filter_map(|at| batch.columns().get(*at));
        columns.map(|column| content_bytes(column.as_ref())).sum()
    }

    /// The arguments for every row of `batch`.
    pub(crate) fn evaluate(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let rows = batch.num_rows();
        self.arguments
            .iter()
            .map(|argument| match argument {
                Some(argument) => argument.evaluate(batch)?.into_array(rows),
                None => Ok(Arc::new(NullArray::new(rows)) as ArrayRef),
            })
            .collect()
    }
}

fn is_null_literal(expr: &Arc<dyn PhysicalExpr>) -> bool {
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        return is_null_literal(cast.expr());
    }
    expr.downcast_ref::<Literal>()
        .is_some_and(|literal| literal.value().is_null())
}

/// The input's columns, then one column per call, partition by partition and in order.
#[derive(Clone, Debug)]
pub struct DispatchExec {
    input: Arc<dyn ExecutionPlan>,
    calls: Vec<ExecCall>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl DispatchExec {
    pub(crate) fn try_new(input: Arc<dyn ExecutionPlan>, calls: Vec<ExecCall>) -> Result<Self> {
        let properties = Arc::new(properties(&input, &calls)?);
        Ok(Self {
            input,
            calls,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    fn width(&self) -> usize {
        self.input.schema().fields().len()
    }
}

/// The input's orders, equivalences and partitions all hold.
fn properties(input: &Arc<dyn ExecutionPlan>, calls: &[ExecCall]) -> Result<PlanProperties> {
    let below = input.schema();
    let mut fields: Vec<_> = below.fields().iter().cloned().collect();
    fields.extend(calls.iter().map(|call| Arc::new(call.field())));
    let schema = Arc::new(Schema::new_with_metadata(fields, below.metadata().clone()));
    let indices: Vec<usize> = (0..below.fields().len()).collect();
    let mapping = ProjectionMapping::from_indices(&indices, &below)?;
    let equivalence: EquivalenceProperties =
        input.equivalence_properties().project(&mapping, schema);
    let partitioning = input.output_partitioning().clone();
    Ok(PlanProperties::new(
        equivalence,
        partitioning,
        input.pipeline_behavior(),
        input.boundedness(),
    ))
}

impl DisplayAs for DispatchExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("DispatchExec: ")?;
        for (index, call) in self.calls.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}(", call.spec.name)?;
            for (index, argument) in call.arguments.iter().enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                match argument {
                    Some(argument) => write!(f, "{comma}{argument}")?,
                    None => write!(f, "{comma}NULL")?,
                }
            }
            write!(f, ") as {}", call.column)?;
        }
        Ok(())
    }
}

impl ExecutionPlan for DispatchExec {
    fn name(&self) -> &str {
        "DispatchExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let arguments = self.calls.iter().flat_map(|call| call.arguments.iter());
        apply_expression_roots(arguments.flatten().cloned(), f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([input]) = <[_; 1]>::try_from(children) else {
            return internal_err!("DispatchExec has one input");
        };
        Ok(match options.children_properties {
            ChildrenPropertiesMode::Keep => Arc::new(Self {
                input,
                metrics: ExecutionPlanMetricsSet::new(),
                ..Self::clone(&self)
            }),
            ChildrenPropertiesMode::Recompute => {
                Arc::new(Self::try_new(input, self.calls.clone())?)
            }
        })
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mode = ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(mode))
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    /// Several batches are in flight on each partition: more partitions would gain nothing.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let [input] = input_stats else {
            return internal_err!("DispatchExec has one input");
        };
        let mut statistics = input.as_ref().clone();
        statistics.total_byte_size = Precision::Absent;
        let unknown = self.calls.iter().map(|_| ColumnStatistics::new_unknown());
        statistics.column_statistics.extend(unknown);
        Ok(Arc::new(statistics))
    }

    /// Filters on the input's columns go on down. They are matched by name, so a name that the
    /// input has twice stops them.
    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let schema = self.input.schema();
        let mut count: HashMap<&str, usize> = HashMap::new();
        for field in schema.fields() {
            *count.entry(field.name().as_str()).or_default() += 1;
        }
        let unique: HashSet<usize> = (0..self.width())
            .filter(|index| count.get(schema.field(*index).name().as_str()) == Some(&1))
            .collect();
        let child = ChildFilterDescription::from_child_with_allowed_indices(
            &parent_filters,
            unique,
            &self.input,
        )?;
        Ok(FilterDescription::new().with_child(child))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let work = context
            .session_config()
            .get_extension::<StatementWork>()
            .ok_or_else(|| {
                WorkError::Internal("the session has no statement to work for".into())
            })?;
        let mut calls = Vec::with_capacity(self.calls.len());
        for call in &self.calls {
            let (schema, value) = (Arc::clone(&call.schema), call.value.clone());
            calls.push(PartitionCall {
                call: call.clone(),
                caller: Caller::new(Arc::clone(&work), call.spec, schema, value)?,
                meter: Arc::clone(&work.meter),
            });
        }
        let memory = MemoryConsumer::new(format!("DispatchExec[{partition}]"))
            .register(context.memory_pool());
        Ok(Box::pin(DispatchStream::new(
            self.input.execute(partition, context)?,
            self.schema(),
            calls,
            memory,
            BaselineMetrics::new(&self.metrics, partition),
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
