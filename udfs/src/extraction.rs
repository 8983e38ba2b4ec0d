//! A plan that grows by the calls that are taken out of expressions.

use std::sync::Arc;

use datafusion::common::alias::AliasGenerator;
use datafusion::common::{Column, Result, internal_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Projection};

use crate::Dispatch;
use crate::guard::{Calls, replace_calls};
use crate::node::Call;

/// Prefix of the columns that hold results of calls.
const COLUMN_PREFIX: &str = "__work";

/// A plan under construction: the input with every call so far as a column.
pub(crate) struct Extraction<'a> {
    pub(crate) plan: LogicalPlan,
    /// Calls whose results `plan` already has, or will have once `pending` is in it.
    known: Vec<(Expr, Column)>,
    pending: Vec<Call>,
    names: &'a AliasGenerator,
}

impl<'a> Extraction<'a> {
    /// Starts above `input`, or beneath its restoring projection, where results of calls that
    /// were extracted before are still to be had.
    pub(crate) fn over(input: Arc<LogicalPlan>, names: &'a AliasGenerator) -> Self {
        let plan = match Arc::unwrap_or_clone(input) {
            LogicalPlan::Projection(projection) if is_restoring(&projection) => {
                Arc::unwrap_or_clone(projection.input)
            }
            other => other,
        };
        let mut known = Vec::new();
        collect_known(&plan, &mut known);
        Self {
            plan,
            known,
            pending: Vec::new(),
            names,
        }
    }

    /// `exprs` with each call replaced by a column of `plan`, which gets the columns.
    pub(crate) fn extract(&mut self, exprs: Vec<Expr>) -> Result<Vec<Expr>> {
        let exprs = replace_calls(exprs, self)?;
        self.dispatch()?;
        Ok(exprs)
    }

    pub(crate) fn extract_one(&mut self, expr: Expr) -> Result<Expr> {
        Ok(self.extract(vec![expr])?.pop().unwrap_or_default())
    }

    /// Puts the pending calls into the plan: those that need no others in one node, and those
    /// that need their results above.
    pub(crate) fn dispatch(&mut self) -> Result<()> {
        while !self.pending.is_empty() {
            let schema = Arc::clone(self.plan.schema());
            let has_arguments = |call: &Call| {
                let call = call.expr();
                let columns = call.column_refs();
                columns.iter().all(|column| schema.has_column(column))
            };
            let pending = std::mem::take(&mut self.pending);
            let (ready, waiting): (Vec<_>, Vec<_>) = pending.into_iter().partition(has_arguments);
            if ready.is_empty() {
                return internal_err!("calls of worker functions need each other's results");
            }
            self.pending = waiting;
            let input = std::mem::take(&mut self.plan);
            self.plan = Dispatch::try_new(input, ready)?.into_plan();
        }
        Ok(())
    }

    /// Keeps the rows on which `predicate` is true.
    pub(crate) fn filter(&mut self, predicate: Expr) -> Result<()> {
        let input = Arc::new(std::mem::take(&mut self.plan));
        self.plan = LogicalPlan::Filter(Filter::try_new(predicate, input)?);
        Ok(())
    }

    /// True where the columns of `expr` are in the plan, or will be.
    fn holds(&self, expr: &Expr) -> bool {
        let schema = self.plan.schema();
        let pending = |column: &Column| self.pending.iter().any(|call| call.column() == *column);
        let columns = expr.column_refs();
        columns
            .iter()
            .all(|column| schema.has_column(column) || pending(column))
    }

    /// Arguments must come from the rows of `plan`: not from a lambda, nor from an outer query
    /// that the optimiser could not turn into a join.
    fn check_columns(&self, call: &Expr, name: &str) -> Result<()> {
        if self.holds(call) && !call.contains_outer() {
            return Ok(());
        }
        plan_err!(
            "`{name}` can only be called on columns of its own query's rows: join the tables first, or unnest the list"
        )
    }
}

impl Calls for Extraction<'_> {
    fn known(&self, call: &Expr) -> Option<Column> {
        let known = self.known.iter().find(|(known, _)| known == call);
        known.map(|(_, column)| column.clone())
    }

    fn column(&mut self, call: ScalarFunction) -> Result<Option<Column>> {
        let name = call.func.name().to_owned();
        let expr = Expr::ScalarFunction(call.clone());
        if let Some(known) = self.known(&expr) {
            return Ok(Some(known));
        }
        self.check_columns(&expr, &name)?;
        let call = Call {
            column: self.names.next(COLUMN_PREFIX),
            function: call,
        };
        let column = call.column();
        self.known.push((expr, column.clone()));
        self.pending.push(call);
        Ok(Some(column))
    }
}

/// The inputs of a join: a call is computed on the side that has its columns.
pub(crate) struct Sides<'s, 'a> {
    pub(crate) left: &'s mut Extraction<'a>,
    pub(crate) right: &'s mut Extraction<'a>,
}

impl Calls for Sides<'_, '_> {
    fn known(&self, call: &Expr) -> Option<Column> {
        self.left.known(call).or_else(|| self.right.known(call))
    }

    fn column(&mut self, call: ScalarFunction) -> Result<Option<Column>> {
        let expr = Expr::ScalarFunction(call.clone());
        if self.left.holds(&expr) {
            self.left.column(call)
        } else if self.right.holds(&expr) {
            self.right.column(call)
        } else {
            Ok(None)
        }
    }
}

/// True for a projection of ours that only hides results of calls.
pub(crate) fn is_restoring(projection: &Projection) -> bool {
    let plain = projection
        .expr
        .iter()
        .all(|expr| matches!(expr, Expr::Column(_)));
    plain
        && projection
            .input
            .schema()
            .fields()
            .iter()
            .any(|field| field.name().starts_with(COLUMN_PREFIX))
        && projection
            .schema
            .columns()
            .into_iter()
            .zip(&projection.expr)
            .all(|(column, expr)| *expr == Expr::Column(column))
}

/// The calls whose results are columns of `plan`, through nodes that keep all columns.
fn collect_known(plan: &LogicalPlan, known: &mut Vec<(Expr, Column)>) {
    match plan {
        LogicalPlan::Filter(filter) => collect_known(&filter.input, known),
        LogicalPlan::Sort(sort) => collect_known(&sort.input, known),
        LogicalPlan::Limit(limit) => collect_known(&limit.input, known),
        other => {
            if let Some(dispatch) = Dispatch::of(other) {
                known.extend(
                    dispatch
                        .calls
                        .iter()
                        .map(|call| (call.expr(), call.column())),
                );
                collect_known(&dispatch.input, known);
            }
        }
    }
}
