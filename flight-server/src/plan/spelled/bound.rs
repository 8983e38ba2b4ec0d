//! What `IS DISTINCT FROM` compares with. The parser (sqlparser 0.62) takes all that follows for it,
//! so that `a IS DISTINCT FROM b AND c` would compare with `b AND c`.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, UnaryOperator};

use super::null;

/// Ends the comparison before AND and OR.
pub fn distinct(expr: &mut Expr) {
    let (Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right)) = expr else {
        return;
    };
    if !is_logical(right) {
        return;
    }
    let mut tree = std::mem::replace(&mut **right, null());
    let first = leftmost(&mut tree, is_logical);
    if let Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right) = expr {
        **right = std::mem::replace(first, null());
    }
    *first = std::mem::replace(expr, null());
    *expr = tree;
}

/// `NOT` before such a comparison is of it alone.
pub fn negated(expr: &mut Expr) {
    let Expr::UnaryOp {
        op: UnaryOperator::Not,
        expr: inner,
    } = expr
    else {
        return;
    };
    if !is_logical(inner) {
        return;
    }
    let mut tree = std::mem::replace(&mut **inner, null());
    let first = leftmost(&mut tree, is_logical);
    let negated = Expr::UnaryOp {
        op: UnaryOperator::Not,
        expr: Box::new(std::mem::replace(first, null())),
    };
    *first = negated;
    *expr = tree;
}

/// `AND` before one that an OR follows ends before the OR.
pub fn joined(expr: &mut Expr) {
    let Expr::BinaryOp {
        left,
        op: BinaryOperator::And,
        right,
    } = expr
    else {
        return;
    };
    if !is_or(right) {
        return;
    }
    let left = std::mem::replace(&mut **left, null());
    let mut tree = std::mem::replace(&mut **right, null());
    let first = leftmost(&mut tree, is_or);
    let both = Expr::BinaryOp {
        left: Box::new(left),
        op: BinaryOperator::And,
        right: Box::new(std::mem::replace(first, null())),
    };
    *first = both;
    *expr = tree;
}

fn is_logical(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::BinaryOp {
            op: BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Xor,
            ..
        }
    )
}

fn is_or(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::BinaryOp {
            op: BinaryOperator::Or,
            ..
        }
    )
}

/// What a tree of such operators, without parentheses, begins with.
fn leftmost(mut expr: &mut Expr, through: fn(&Expr) -> bool) -> &mut Expr {
    while through(expr) {
        let Expr::BinaryOp { left, .. } = expr else {
            break;
        };
        expr = left;
    }
    expr
}
