//! Dynamic filters, applied to each row as far as they may leave row groups unread.
//!
//! Pruning drops the rows of whole row groups. Where these end would show in which of the user's
//! expressions meet which rows, unless a row that pruning could drop is dropped wherever it stands,
//! and before rows of several windows come together.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, Literal, NotExpr,
    TryCastExpr,
};
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;

/// The rows that pass dynamic filters as they are by now; what they let pass only shrinks.
pub fn passing(batch: RecordBatch, dynamic: &[Arc<dyn PhysicalExpr>]) -> Result<RecordBatch> {
    dynamic.iter().try_fold(batch, |batch, filter| {
        let now = snapshot_physical_expr(Arc::clone(filter))?;
        let Some(prunes) = prunable(&now) else {
            return Ok(batch);
        };
        let keep = prunes.evaluate(&batch)?.into_array(batch.num_rows())?;
        Ok(filter_record_batch(&batch, as_boolean_array(&keep)?)?)
    })
}

/// The part of a filter that pruning can use, which lets at least as much pass; none where it uses
/// nothing. The rest looks each row up in the hash table of a join, which is as dear as the join:
/// DataFusion's `PruningPredicate` takes it as true, and so does this.
fn prunable(filter: &Arc<dyn PhysicalExpr>) -> Option<Arc<dyn PhysicalExpr>> {
    let both = filter.downcast_ref::<BinaryExpr>();
    match both.map(|both| (both, both.op())) {
        Some((both, op @ Operator::And)) => match (prunable(both.left()), prunable(both.right())) {
            (Some(left), Some(right)) => Some(Arc::new(BinaryExpr::new(left, *op, right))),
            (left, right) => left.or(right),
        },
        Some((both, op @ Operator::Or)) => {
            let (left, right) = (prunable(both.left())?, prunable(both.right())?);
            Some(Arc::new(BinaryExpr::new(left, *op, right)))
        }
        _ => is_comparison(filter).then(|| Arc::clone(filter)),
    }
}

fn is_comparison(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let mut is_plain = true;
    let walked = expr.apply(|node| {
        is_plain &= node.is::<Column>()
            || node.is::<Literal>()
            || node.is::<BinaryExpr>()
            || node.is::<InListExpr>()
            || node.is::<IsNullExpr>()
            || node.is::<IsNotNullExpr>()
            || node.is::<NotExpr>()
            || node.is::<CastExpr>()
            || node.is::<TryCastExpr>();
        Ok(if is_plain {
            TreeNodeRecursion::Continue
        } else {
            TreeNodeRecursion::Stop
        })
    });
    walked.is_ok() && is_plain
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Array;
    use datafusion::physical_expr::expressions::{CaseExpr, binary, col, in_list, is_null, lit};

    use super::*;

    /// Of the lookup in a hash table nothing is left, wherever it stands.
    #[test]
    fn what_pruning_cannot_use_passes() {
        let numbers = Int32Array::from(vec![Some(1), Some(2), None, Some(4), Some(5)]);
        let batch = RecordBatch::try_from_iter_with_nullable([("n", Arc::new(numbers) as _, true)]);
        let batch = batch.expect("fits");
        let schema = batch.schema();
        let n = || col("n", &schema).expect("there");
        let compare = |op, value: i32| binary(n(), op, lit(value), &schema).expect("compares");
        let and = |left, right| binary(left, Operator::And, right, &schema).expect("joins");
        let or = |left, right| binary(left, Operator::Or, right, &schema).expect("joins");
        // As unknown to pruning as a lookup is.
        let lookup = || -> Arc<dyn PhysicalExpr> {
            let when = vec![(compare(Operator::Eq, 1), lit(false))];
            Arc::new(CaseExpr::try_new(None, when, Some(lit(false))).expect("valid"))
        };
        let passes = |filter: Arc<dyn PhysicalExpr>| {
            let passed = passing(batch.clone(), &[filter]).expect("passes");
            let numbers = passed.column(0).as_any().downcast_ref::<Int32Array>();
            numbers.expect("numbers").iter().collect::<Vec<_>>()
        };
        let all = vec![Some(1), Some(2), None, Some(4), Some(5)];
        let bounds = || and(compare(Operator::GtEq, 2), compare(Operator::LtEq, 4));
        assert_eq!(passes(lookup()), all);
        assert_eq!(passes(and(bounds(), lookup())), [Some(2), Some(4)]);
        let nulls = is_null(n()).expect("valid");
        assert_eq!(
            passes(or(and(lookup(), bounds()), nulls)),
            [Some(2), None, Some(4)]
        );
        assert_eq!(passes(or(bounds(), lookup())), all);
        let list = in_list(n(), vec![lit(1), lit(5)], &false, &schema).expect("valid");
        assert_eq!(passes(list), [Some(1), Some(5)]);
    }
}
