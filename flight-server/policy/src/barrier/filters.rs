//! Which of the user's filters may be evaluated on stored rows, hidden ones included.
//!
//! Only those that cannot fail, and of whose outcome on a hidden row nothing is seen: plain
//! comparisons of visible, unmasked columns with literals of exactly the column's type, and
//! AND, OR and NOT of these. A comparison of a pseudonym with a literal is turned into one of
//! the stored identifier, and one of the year of a date into one of the date ([`years`]).
//! Everything else stays above the barrier.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use datafusion::prelude::lit;

use super::columns::{How, Visible};
use super::rows::{TABLE, scalar_of};
use super::table::Shown;
use super::years;
use crate::pseudonym::{Cipher, is_number};
use hubflight_rights::habilitation::{Mask, Value};

/// The filter over the stored columns (`t.column`), or None when it must stay above.
pub fn below(filter: &Expr, columns: &[Shown]) -> Option<Expr> {
    Below { columns }.filter(filter, Polarity::Positive)
}

/// Whether NULL and FALSE are the same where an expression stands. Under NOT they are not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Polarity {
    Positive,
    Any,
}

struct Below<'a> {
    columns: &'a [Shown],
}

impl Below<'_> {
    fn filter(&self, filter: &Expr, polarity: Polarity) -> Option<Expr> {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                Operator::And | Operator::Or => {
                    let left = self.filter(left, polarity)?;
                    let right = self.filter(right, polarity)?;
                    Some(Expr::BinaryExpr(BinaryExpr::new(
                        Box::new(left),
                        *op,
                        Box::new(right),
                    )))
                }
                _ => self.comparison(left, *op, right, polarity),
            },
            Expr::Not(inner) => Some(Expr::Not(Box::new(self.filter(inner, Polarity::Any)?))),
            Expr::IsNull(inner) => Some(self.nullable(inner)?.is_null()),
            Expr::IsNotNull(inner) => Some(self.nullable(inner)?.is_not_null()),
            Expr::Between(between) => self.between(between, polarity),
            Expr::InList(list) => self.in_list(list, polarity),
            Expr::Column(column) => {
                let shown = self.plain(column)?;
                let boolean = *shown.visible.field.data_type() == DataType::Boolean;
                boolean.then(|| stored(shown))
            }
            _ => None,
        }
    }

    fn comparison(
        &self,
        left: &Expr,
        op: Operator,
        right: &Expr,
        polarity: Polarity,
    ) -> Option<Expr> {
        let (column, op, literal) = match (left, right) {
            (Expr::Column(column), Expr::Literal(literal, _)) => (column, op, literal),
            (Expr::Literal(literal, _), Expr::Column(column)) => (column, op.swap()?, literal),
            _ => return None,
        };
        let comparison = matches!(
            op,
            Operator::Eq
                | Operator::NotEq
                | Operator::Lt
                | Operator::LtEq
                | Operator::Gt
                | Operator::GtEq
                | Operator::IsDistinctFrom
                | Operator::IsNotDistinctFrom
        );
        if !comparison {
            return None;
        }
        if let Some(shown) = self.plain(column) {
            let literal = Box::new(exact(literal, shown)?);
            return Some(Expr::BinaryExpr(BinaryExpr::new(
                Box::new(stored(shown)),
                op,
                literal,
            )));
        }
        if let Some(shown) = self.year(column) {
            return years::comparison(&stored(shown), op, literal, polarity);
        }
        self.identifier_comparison(column, op, literal, polarity)
    }

    fn between(&self, between: &Between, polarity: Polarity) -> Option<Expr> {
        let (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) = (
            between.expr.as_ref(),
            between.low.as_ref(),
            between.high.as_ref(),
        ) else {
            return None;
        };
        if let Some(shown) = self.year(column) {
            let end = |op, literal| years::comparison(&stored(shown), op, literal, polarity);
            let both = end(Operator::GtEq, low)?.and(end(Operator::LtEq, high)?);
            return (!between.negated).then_some(both);
        }
        let shown = self.plain(column)?;
        Some(Expr::Between(Between {
            expr: Box::new(stored(shown)),
            negated: between.negated,
            low: Box::new(exact(low, shown)?),
            high: Box::new(exact(high, shown)?),
        }))
    }

    fn in_list(&self, list: &InList, polarity: Polarity) -> Option<Expr> {
        let Expr::Column(column) = list.expr.as_ref() else {
            return None;
        };
        let literals: Option<Vec<&ScalarValue>> = list
            .list
            .iter()
            .map(|item| match item {
                Expr::Literal(literal, _) => Some(literal),
                _ => None,
            })
            .collect();
        let literals = literals?;
        if let Some(shown) = self.plain(column) {
            let items: Option<Vec<Expr>> = literals
                .into_iter()
                .map(|literal| exact(literal, shown))
                .collect();
            return Some(stored(shown).in_list(items?, list.negated));
        }
        self.identifier_in(column, literals, list.negated, polarity)
    }

    /// `pseudonym op literal` as the same comparison of the stored identifier: the cipher is
    /// one-to-one, so that both are true, false and NULL on the same rows. Order is not kept.
    fn identifier_comparison(
        &self,
        column: &Column,
        op: Operator,
        literal: &ScalarValue,
        polarity: Polarity,
    ) -> Option<Expr> {
        let (shown, cipher) = self.identifier(column)?;
        let text = literal.try_as_str()??;
        let id = stored_identifier(cipher, text, &shown.stored_type);
        match (op, id) {
            (
                Operator::Eq
                | Operator::NotEq
                | Operator::IsDistinctFrom
                | Operator::IsNotDistinctFrom,
                Some(id),
            ) => Some(Expr::BinaryExpr(BinaryExpr::new(
                Box::new(stored(shown)),
                op,
                Box::new(id),
            ))),
            (Operator::Eq, None) => Some(equals_nothing(shown, polarity)),
            (Operator::NotEq, None) => Some(differs_from_all(shown, polarity)),
            (Operator::IsDistinctFrom, None) => Some(lit(true)),
            (Operator::IsNotDistinctFrom, None) => Some(lit(false)),
            _ => None,
        }
    }

    /// `pseudonym [NOT] IN (literals)` as the same of the stored identifier. A literal that is
    /// no pseudonym under this key equals nothing.
    fn identifier_in(
        &self,
        column: &Column,
        literals: Vec<&ScalarValue>,
        negated: bool,
        polarity: Polarity,
    ) -> Option<Expr> {
        let (shown, cipher) = self.identifier(column)?;
        let mut ids = Vec::new();
        for literal in literals {
            match literal.try_as_str()? {
                Some(text) => ids.extend(stored_identifier(cipher, text, &shown.stored_type)),
                // NULL makes the rest of the list NULL where it is FALSE: the same only here.
                None if polarity == Polarity::Positive && !negated => {}
                None => return None,
            }
        }
        Some(match (ids.is_empty(), negated) {
            (true, false) => equals_nothing(shown, polarity),
            (true, true) => differs_from_all(shown, polarity),
            (false, _) => stored(shown).in_list(ids, negated),
        })
    }

    /// A column of pseudonyms that can be inverted: those of texts cannot.
    fn identifier(&self, column: &Column) -> Option<(&Shown, &Cipher)> {
        let shown = self.find(column)?;
        let cipher = shown.cipher.as_ref()?;
        let invertible =
            matches!(shown.visible.how, How::Pseudonym(_)) && is_number(&shown.stored_type);
        invertible.then_some((shown, cipher))
    }

    fn nullable(&self, inner: &Expr) -> Option<Expr> {
        let Expr::Column(column) = inner else {
            return None;
        };
        let shown = self.find(column)?;
        // A pseudonym is NULL exactly where its identifier is; a mask may differ.
        (!matches!(shown.visible.how, How::Masked(_))).then(|| stored(shown))
    }

    fn plain(&self, column: &Column) -> Option<&Shown> {
        self.find(column)
            .filter(|shown| shown.visible.how == How::Plain)
    }

    /// A date that shows the first day of its year.
    fn year(&self, column: &Column) -> Option<&Shown> {
        let is_year = |shown: &&Shown| {
            shown.visible.how == How::Masked(Mask::Year) && shown.stored_type == DataType::Date32
        };
        self.find(column).filter(is_year)
    }

    fn find(&self, column: &Column) -> Option<&Shown> {
        self.columns
            .iter()
            .find(|shown| *shown.visible.field.name() == column.name)
    }
}

/// The stored column behind a visible one.
pub fn stored(shown: &Shown) -> Expr {
    stored_column(&shown.visible)
}

pub fn stored_column(visible: &Visible) -> Expr {
    Expr::Column(Column::new(Some(TABLE), visible.field.name()))
}

/// The literal, if it is not NULL, has exactly the column's type and this type compares
/// without any chance of failing.
fn exact(literal: &ScalarValue, shown: &Shown) -> Option<Expr> {
    let data_type = shown.visible.field.data_type();
    let fits = !literal.is_null() && literal.data_type() == *data_type && is_simple(data_type);
    fits.then(|| Expr::Literal(literal.clone(), None))
}

/// Types whose comparison is defined for every pair of values.
pub fn is_simple(data_type: &DataType) -> bool {
    data_type.is_numeric()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::Date32
                | DataType::Date64
                | DataType::Timestamp(
                    TimeUnit::Second
                        | TimeUnit::Millisecond
                        | TimeUnit::Microsecond
                        | TimeUnit::Nanosecond,
                    _
                )
                | DataType::Time32(_)
                | DataType::Time64(_)
                | DataType::Duration(_)
        )
}

/// The identifier behind a pseudonym, if it is one under this key and of this type.
fn stored_identifier(cipher: &Cipher, text: &str, data_type: &DataType) -> Option<Expr> {
    let id = cipher.decrypt(text)?;
    let id = match data_type {
        // The cipher keeps the 64 bits of unsigned identifiers as they are.
        DataType::UInt64 => ScalarValue::UInt64(Some(id as u64)),
        other => scalar_of(&Value::Int(id), other)?,
    };
    Some(Expr::Literal(id, None))
}

/// FALSE, and NULL where the identifier is NULL, if that makes a difference.
fn equals_nothing(shown: &Shown, polarity: Polarity) -> Expr {
    match polarity {
        Polarity::Positive => lit(false),
        Polarity::Any => stored(shown).is_null().and(null()),
    }
}

/// TRUE, and NULL where the identifier is NULL.
fn differs_from_all(shown: &Shown, polarity: Polarity) -> Expr {
    match polarity {
        Polarity::Positive => stored(shown).is_not_null(),
        Polarity::Any => stored(shown).is_not_null().or(null()),
    }
}

fn null() -> Expr {
    Expr::Literal(ScalarValue::Boolean(None), None)
}
