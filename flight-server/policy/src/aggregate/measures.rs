//! The aggregates that may be published, each as parts that add up over persons.

use datafusion::common::Column;
use datafusion::error::Result;
use datafusion::functions::math::expr_fn::abs;
use datafusion::functions_aggregate::expr_fn::{bit_xor, count, count_distinct, max, sum};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, cast, lit, when};

use arrow::datatypes::DataType;

use super::cell::{Measure, is_exact, person_in_cell, published};
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
    /// The person's share of the value.
    value: Expr,
    /// The rows that make it: the noise depends on who contributes how many, so that a cell
    /// with one row less has other noise, and one whose values are scaled has the same.
    rows: Expr,
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
                let value = kept(number(arg, rows)?)?;
                Ok(Output::Total(self.summed(value)?))
            }
            ("avg", false) => {
                let value = kept(cast(number(arg, rows)?, DataType::Float64))?;
                let values = self.counted(count(value.clone()));
                let total = self.summed(value)?;
                Ok(Output::Mean(total, values))
            }
            _ => unavailable(&format!("{name}(DISTINCT …)")),
        }
    }

    fn counted(&mut self, rows: Expr) -> usize {
        let value = rows.clone();
        self.part(Part { value, rows })
    }

    fn summed(&mut self, value: Expr) -> Result<usize> {
        let rows = count(when(value.clone().not_eq(lit(0)), lit(1)).end()?);
        let value = sum(value);
        Ok(self.part(Part { value, rows }))
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
        let of_part = |(index, part): (usize, &Part)| {
            [
                part.value.clone().alias(value_name(index)),
                part.rows.clone().alias(rows_name(index)),
            ]
        };
        self.parts.iter().enumerate().flat_map(of_part).collect()
    }

    /// The second aggregation: of each part over the persons of a cell.
    pub fn of_cells(&self, person: &Expr) -> Result<Vec<Expr>> {
        let mut cells = Vec::new();
        for index in 0..self.parts.len() {
            let (value, rows) = (column(value_name(index)), column(rows_name(index)));
            let size = abs(cast(value.clone(), DataType::Float64));
            let contributes = || rows.clone().gt(lit(0_i64));
            let key = person_in_cell(person.clone(), rows.clone());
            let aggregates = [
                sum(value),
                count(when(contributes(), lit(1)).end()?),
                bit_xor(when(contributes(), key).end()?),
                max(size.clone()),
                sum(size),
            ];
            for (which, aggregate) in aggregates.into_iter().enumerate() {
                cells.push(aggregate.alias(cell_name(index, which)));
            }
        }
        Ok(cells)
    }

    /// What of a measure is published, over the columns of [`Self::of_cells`].
    fn published(&self, index: usize, cells: &LogicalPlan, persons_min: u32) -> Result<Expr> {
        let part = |which| column(cell_name(index, which));
        let total = part(0);
        let data_type = total.get_type(cells.schema())?;
        let total = if is_exact(&data_type) {
            total
        } else {
            cast(total, DataType::Float64)
        };
        Ok(published(
            Measure {
                total,
                contributors: part(1),
                cell_key: part(2),
                largest: part(3),
                absolute: part(4),
            },
            persons_min,
        ))
    }

    /// The published value of an aggregate.
    pub fn output(&self, output: &Output, cells: &LogicalPlan, persons_min: u32) -> Result<Expr> {
        match output {
            Output::Total(index) => self.published(*index, cells, persons_min),
            Output::Mean(total, values) => {
                let total = self.published(*total, cells, persons_min)?;
                let values = self.published(*values, cells, persons_min)?;
                Ok(total / cast(values, DataType::Float64))
            }
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

fn rows_name(index: usize) -> String {
    format!("hub:n{index}")
}

fn cell_name(index: usize, which: usize) -> String {
    format!("hub:c{index}:{which}")
}

/// A column of the plans made here; SQL has no name for it.
pub fn column(name: impl Into<String>) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}
