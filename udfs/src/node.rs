//! The logical operator that computes calls of worker functions beside its input's columns.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    Expr, ExprSchemable, Extension, LogicalPlan, UserDefinedLogicalNodeCore,
};

use crate::function::WorkerFunction;

/// The input's columns, then one column per call. Rows and their order are the input's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dispatch {
    pub(crate) input: LogicalPlan,
    pub(crate) calls: Vec<Call>,
    schema: DFSchemaRef,
}

/// One call of a worker function, whose arguments hold no other such call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) struct Call {
    /// Name of the column that holds the result; unique in the plan.
    pub(crate) column: String,
    pub(crate) function: ScalarFunction,
}

impl Call {
    pub(crate) fn expr(&self) -> Expr {
        Expr::ScalarFunction(self.function.clone())
    }

    pub(crate) fn column(&self) -> Column {
        Column::new_unqualified(&self.column)
    }
}

impl Dispatch {
    pub(crate) fn try_new(input: LogicalPlan, calls: Vec<Call>) -> Result<Self> {
        let mut fields: Vec<_> = input
            .schema()
            .iter()
            .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
            .collect();
        for call in &calls {
            let data_type = call.expr().get_type(input.schema().as_ref())?;
            fields.push((None, Arc::new(Field::new(&call.column, data_type, true))));
        }
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?
            .with_functional_dependencies(input.schema().functional_dependencies().clone())?;
        Ok(Self {
            input,
            calls,
            schema: Arc::new(schema),
        })
    }

    pub(crate) fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension {
            node: Arc::new(self),
        })
    }

    /// The node behind a plan, if it is one.
    pub(crate) fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }
}

impl PartialOrd for Dispatch {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.calls.partial_cmp(&other.calls) {
            Some(Ordering::Equal) => self.input.partial_cmp(&other.input),
            order => order,
        }
        .filter(|order| *order != Ordering::Equal || self == other)
    }
}

impl UserDefinedLogicalNodeCore for Dispatch {
    fn name(&self) -> &str {
        "Dispatch"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.calls.iter().map(Call::expr).collect()
    }

    /// Only what depends on a result has to stay above.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.calls.iter().map(|call| call.column.clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Dispatch: ")?;
        for (index, call) in self.calls.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} AS {}", call.expr().schema_name(), call.column)?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Ok([input]) = <[LogicalPlan; 1]>::try_from(inputs) else {
            return internal_err!("Dispatch has one input");
        };
        if exprs.len() != self.calls.len() {
            return internal_err!("Dispatch has one expression per call");
        }
        let mut calls = Vec::with_capacity(exprs.len());
        for (call, expr) in self.calls.iter().zip(exprs) {
            // A rule that rewrote an argument may have put the old name around the call.
            let Expr::ScalarFunction(function) = expr.unalias() else {
                return internal_err!("a call in Dispatch was replaced by something else");
            };
            if WorkerFunction::of(&function.func).is_none() {
                return internal_err!("a call in Dispatch was replaced by another function");
            }
            calls.push(Call {
                column: call.column.clone(),
                function,
            });
        }
        Self::try_new(input, calls)
    }

    /// Output columns are the input's, at the same places; the calls' own are added by the caller.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        let kept = output_columns
            .iter()
            .copied()
            .filter(|index| *index < width);
        Some(vec![kept.collect()])
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }
}
