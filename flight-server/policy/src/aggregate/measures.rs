//! The aggregates that may be published, each as parts that add up over persons.

use datafusion::common::Column;
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::{count, count_distinct, sum};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::{Expr, ExprSchemable, cast, when};

use arrow::datatypes::DataType;

use super::cell::published;
use super::expressions::{check, named};
use super::refused;
use super::rows::Rows;

/// How one aggregate is made of its measures.
pub enum Output {
    /// The measure itself.
    Total(usize),
    /// The quotient of two measures.
    Mean(usize, usize),
}

/// What a measure is of one person in one group.
#[derive(PartialEq)]
struct Part {
    value: Expr,
    /// It counts something.
    is_whole: bool,
}

/// The parts of the aggregates of one query: first a value per group and person, then cells.
#[derive(Default)]
pub struct Measures {
    parts: Vec<Part>,
}

impl Measures {
    /// Adds what an aggregate needs.
    pub fn add(&mut self, expr: &Expr, rows: &Rows) -> Result<Output> {
        let call = call(expr)?;
        let AggregateFunctionParams {
            args,
            distinct,
            filter,
            order_by,
            ..
        } = &call.params;
        let name = call.func.name();
        if !matches!(name, "count" | "sum" | "avg") {
            return unavailable(name);
        }
        if !order_by.is_empty() {
            return refused(format!(
                "`{name}` takes no ORDER BY where only aggregates may be seen"
            ));
        }
        let [arg] = args.as_slice() else {
            return refused(format!("`{name}` takes one argument"));
        };
        if let Some(filter) = filter {
            check(filter, rows)?;
        }
        let kept = |value: Expr| match filter {
            None => Ok(value),
            Some(filter) => when(filter.as_ref().clone(), value).end(),
        };
        match (name, distinct) {
            ("count", false) => {
                if !named(arg).is_some_and(|column| rows.is_identifier(column)) {
                    check(arg, rows)?;
                }
                Ok(Output::Total(self.counted(count(kept(arg.clone())?))))
            }
            ("count", true) => {
                let own = named(arg).filter(|column| is_own_key(rows, column));
                if own.is_none() {
                    return refused(
                        "`count(DISTINCT …)` counts identifiers of persons or of their records, \
                         and nothing else; group by the column and count the groups",
                    );
                }
                Ok(Output::Total(
                    self.counted(count_distinct(kept(arg.clone())?)),
                ))
            }
            ("sum", false) => {
                let number = number(arg, rows)?;
                let is_whole = number.get_type(rows.plan.schema())?.is_integer();
                Ok(Output::Total(self.summed(kept(number)?, is_whole)))
            }
            ("avg", false) => {
                let value = kept(cast(number(arg, rows)?, DataType::Float64))?;
                let values = self.counted(count(value.clone()));
                let total = self.summed(value, false);
                Ok(Output::Mean(total, values))
            }
            _ => unavailable(&format!("{name}(DISTINCT …)")),
        }
    }

    fn counted(&mut self, value: Expr) -> usize {
        self.part(Part {
            value,
            is_whole: true,
        })
    }

    fn summed(&mut self, value: Expr, is_whole: bool) -> usize {
        let value = sum(value);
        self.part(Part { value, is_whole })
    }

    fn part(&mut self, part: Part) -> usize {
        if let Some(known) = self.parts.iter().position(|known| *known == part) {
            return known;
        }
        self.parts.push(part);
        self.parts.len() - 1
    }

    /// The first aggregation: of each part, per group and person.
    pub fn of_persons(&self) -> Vec<Expr> {
        let parts = self.parts.iter().enumerate();
        let of_part = |(index, part): (usize, &Part)| part.value.clone().alias(value_name(index));
        parts.map(of_part).collect()
    }

    /// The second aggregation: what is published of each part over the persons of a cell.
    pub fn of_cells(&self, person: &Expr, persons_min: u32) -> Vec<Expr> {
        let parts = self.parts.iter().enumerate();
        let of_part = |(index, part): (usize, &Part)| {
            let value = column(value_name(index));
            published(person.clone(), value, persons_min, part.is_whole).alias(cell_name(index))
        };
        parts.map(of_part).collect()
    }
}

impl Output {
    /// The published value, over the columns of [`Measures::of_cells`].
    pub fn value(&self) -> Expr {
        match self {
            Self::Total(part) => column(cell_name(*part)),
            Self::Mean(total, values) => column(cell_name(*total)) / column(cell_name(*values)),
        }
    }
}

fn unavailable<T>(name: &str) -> Result<T> {
    refused(format!(
        "`{name}` is not available where only aggregates may be seen; there are count, \
         count(DISTINCT identifier), sum and avg"
    ))
}

/// Refuses an aggregate over one person's rows that is not one of the plain ones.
pub fn check_per_person(expr: &Expr, rows: &Rows) -> Result<()> {
    let call = call(expr)?;
    let name = call.func.name();
    if !matches!(name, "count" | "sum" | "avg" | "min" | "max") || !call.params.order_by.is_empty()
    {
        return refused(format!(
            "`{name}` is not available below another aggregate; there are count, sum, avg, min \
             and max"
        ));
    }
    for arg in call.params.args.iter().chain(call.params.filter.as_deref()) {
        let counted =
            name == "count" && named(arg).is_some_and(|column| rows.is_identifier(column));
        if !counted {
            check(arg, rows)?;
        }
        let data_type = arg.get_type(rows.plan.schema())?;
        if name == "avg" && data_type.is_decimal() {
            return refused(format!(
                "`avg` of {data_type} below another aggregate fails on some values; write \
                 `avg(CAST(… AS DOUBLE))`"
            ));
        }
    }
    Ok(())
}

fn call(expr: &Expr) -> Result<&AggregateFunction> {
    match expr {
        Expr::AggregateFunction(call) => Ok(call),
        Expr::Alias(alias) => call(&alias.expr),
        other => refused(format!("`{other}` is no aggregate")),
    }
}

/// A record of one person: counted once for that person, it is counted once in all.
fn is_own_key(rows: &Rows, column: &Column) -> bool {
    rows.keys
        .iter()
        .any(|key| key.len() == 1 && key.contains(column))
}

fn number(arg: &Expr, rows: &Rows) -> Result<Expr> {
    check(arg, rows)?;
    let data_type = arg.get_type(rows.plan.schema())?;
    if data_type.is_numeric() || data_type == DataType::Null {
        return Ok(arg.clone());
    }
    refused(format!("`{arg}` is no number but {data_type}"))
}

fn value_name(index: usize) -> String {
    format!("hub:v{index}")
}

fn cell_name(index: usize) -> String {
    format!("hub:c{index}")
}

/// A column of the plans made here; SQL has no name for it.
pub fn column(name: impl Into<String>) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}
