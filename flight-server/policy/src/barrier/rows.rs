//! Which stored rows a view shows: the habilitation's predicate on the table and on every
//! table along its path to the person, then the cohort, as one logical plan.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use chrono::NaiveDate;
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, JoinType, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, not};
use datafusion::prelude::lit;

use super::{GrantedTable, Sources, grant, source_error, source_of};
use crate::dataset::{Dataset, PersonPath, Table};
use crate::error::PolicyError;
use crate::habilitation::{Cohort, Comparison, Habilitation, Predicate, Value};
use crate::pseudonym::is_number;

/// Name of the table itself in the plan; its stored columns are `t.column`.
pub const TABLE: &str = "t";

/// Tables between a row and its person, that row's table included.
pub const PATH_TABLES_MAX: usize = 16;

/// A plan over all stored columns of one table, qualified by an alias of its own.
struct Part {
    plan: LogicalPlanBuilder,
    alias: String,
    source: Arc<dyn TableProvider>,
    restricted: bool,
}

/// The plan of the visible rows with all stored columns, and whether it hides any row.
pub fn visible_rows(
    sources: &dyn Sources,
    habilitation: &Habilitation,
    granted: &GrantedTable,
) -> Result<(LogicalPlan, bool), PolicyError> {
    let path = Path {
        sources,
        habilitation,
        dataset: &granted.dataset,
    };
    let part = path.part(
        &granted.table,
        Arc::clone(&granted.source),
        TABLE.to_owned(),
        1,
    )?;
    let restricted = part.restricted;
    let plan = part
        .plan
        .build()
        .map_err(|error| path.bug(&granted.table.name, &error))?;
    Ok((plan, restricted))
}

struct Path<'a> {
    sources: &'a dyn Sources,
    habilitation: &'a Habilitation,
    dataset: &'a Dataset,
}

impl Path<'_> {
    fn part(
        &self,
        table: &Table,
        source: Arc<dyn TableProvider>,
        alias: String,
        depth: usize,
    ) -> Result<Part, PolicyError> {
        if depth > PATH_TABLES_MAX {
            return Err(self.error(
                &table.name,
                None,
                format!("has a path to the person longer than {PATH_TABLES_MAX} tables"),
            ));
        }
        let mut part = self.scan(&self.dataset.name, &table.name, alias, source)?;
        let rows = grant(self.habilitation, &table.name)
            .flatten()
            .and_then(|grant| grant.rows.as_ref());
        if let Some(rows) = rows {
            part = self.filter(part, &self.dataset.name, &table.name, rows)?;
        }
        match &table.person {
            PersonPath::None => Ok(part),
            PersonPath::Column(person) => match &self.habilitation.persons {
                None => Ok(part),
                Some(cohort) => self.keep_cohort(part, table, person, cohort),
            },
            PersonPath::Parent { table: parent, on } => {
                let Some(parent) = self.dataset.table(parent) else {
                    return Err(self.error(&table.name, None, "has a parent that does not exist"));
                };
                let source = source_of(self.sources, &self.dataset.name, &parent.name)?;
                let parent_part = self.part(parent, source, format!("parent{depth}"), depth + 1)?;
                if !parent_part.restricted {
                    return Ok(part);
                }
                self.semi_join(part, &table.name, parent_part, on)
            }
        }
    }

    fn scan(
        &self,
        dataset: &str,
        table: &str,
        alias: String,
        source: Arc<dyn TableProvider>,
    ) -> Result<Part, PolicyError> {
        let plan = LogicalPlanBuilder::scan(
            alias.as_str(),
            provider_as_source(Arc::clone(&source)),
            None,
        )
        .map_err(|error| {
            tracing::error!(%error, dataset, table, "the scan cannot be planned");
            source_error(
                dataset,
                table,
                None,
                "cannot be planned; see the server's log",
            )
        })?;
        Ok(Part {
            plan,
            alias,
            source,
            restricted: false,
        })
    }

    fn filter(
        &self,
        part: Part,
        dataset: &str,
        table: &str,
        rows: &Predicate,
    ) -> Result<Part, PolicyError> {
        let predicate = Typed {
            dataset,
            table,
            part: &part,
        }
        .expr(rows)?;
        let plan = part
            .plan
            .filter(predicate)
            .map_err(|error| self.bug(table, &error))?;
        Ok(Part {
            plan,
            restricted: true,
            ..part
        })
    }

    fn keep_cohort(
        &self,
        part: Part,
        table: &Table,
        person: &str,
        cohort: &Cohort,
    ) -> Result<Part, PolicyError> {
        let source = source_of(self.sources, &cohort.dataset, &cohort.table)?;
        let persons = self.scan(&cohort.dataset, &cohort.table, "cohort".to_owned(), source)?;
        let persons = self.filter(persons, &cohort.dataset, &cohort.table, &cohort.rows)?;
        let on = [(person.to_owned(), cohort.column.clone())];
        self.semi_join(part, &table.name, persons, &on)
    }

    /// Keeps the rows of `part` that have a partner in `other`; NULL has none.
    fn semi_join(
        &self,
        part: Part,
        table: &str,
        other: Part,
        on: &[(String, String)],
    ) -> Result<Part, PolicyError> {
        if on.is_empty() {
            return Err(self.error(table, None, "has a parent but no columns that lead to it"));
        }
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for (own, others) in on {
            let type_of = |part: &Part, column: &String| {
                let schema = part.source.schema();
                let field = schema.field_with_name(column).map_err(|_| {
                    self.error(
                        table,
                        Some(column),
                        "leads to the person but does not exist",
                    )
                })?;
                Ok(field.data_type().clone())
            };
            let (own_type, others_type) = (type_of(&part, own)?, type_of(&other, others)?);
            if !comparable(&own_type, &others_type) {
                return Err(self.error(
                    table,
                    Some(own),
                    format!("has type {own_type} but leads to `{others}` of type {others_type}"),
                ));
            }
            left.push(Column::new(Some(part.alias.as_str()), own));
            right.push(Column::new(Some(other.alias.as_str()), others));
        }
        let plan = other
            .plan
            .build()
            .and_then(|others| {
                part.plan
                    .join(others, JoinType::LeftSemi, (left, right), None)
            })
            .map_err(|error| self.bug(table, &error))?;
        Ok(Part {
            plan,
            restricted: true,
            ..part
        })
    }

    fn error(&self, table: &str, column: Option<&str>, problem: impl Into<String>) -> PolicyError {
        source_error(&self.dataset.name, table, column, problem)
    }

    fn bug(&self, table: &str, error: &datafusion::error::DataFusionError) -> PolicyError {
        tracing::error!(%error, table, "the policy's plan cannot be built");
        self.error(table, None, "cannot be planned; see the server's log")
    }
}

/// Equal without a cast that could fail on a value.
fn comparable(left: &DataType, right: &DataType) -> bool {
    let text = |data_type: &DataType| {
        matches!(
            data_type,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        )
    };
    left == right || (is_number(left) && is_number(right)) || (text(left) && text(right))
}

/// A predicate over the stored columns of one table, with literals of the columns' own types:
/// no cast, so that evaluating it cannot fail on any row.
struct Typed<'a> {
    dataset: &'a str,
    table: &'a str,
    part: &'a Part,
}

impl Typed<'_> {
    fn expr(&self, predicate: &Predicate) -> Result<Expr, PolicyError> {
        match predicate {
            Predicate::Compare { column, op, value } => {
                let (column, data_type) = self.column(column)?;
                let value = self.value(&column, &data_type, value)?;
                let column = Expr::Column(column);
                Ok(match op {
                    Comparison::Eq => column.eq(value),
                    Comparison::Ne => column.not_eq(value),
                    Comparison::Lt => column.lt(value),
                    Comparison::Le => column.lt_eq(value),
                    Comparison::Gt => column.gt(value),
                    Comparison::Ge => column.gt_eq(value),
                })
            }
            Predicate::In { column, values } => {
                let (column, data_type) = self.column(column)?;
                let values: Result<Vec<Expr>, PolicyError> = values
                    .iter()
                    .map(|value| self.value(&column, &data_type, value))
                    .collect();
                Ok(Expr::Column(column).in_list(values?, false))
            }
            Predicate::Between { column, low, high } => {
                let (column, data_type) = self.column(column)?;
                let low = self.value(&column, &data_type, low)?;
                let high = self.value(&column, &data_type, high)?;
                Ok(Expr::Column(column).between(low, high))
            }
            Predicate::IsNull { column } => Ok(Expr::Column(self.column(column)?.0).is_null()),
            Predicate::And(parts) => self.fold(parts, true, Expr::and),
            Predicate::Or(parts) => self.fold(parts, false, Expr::or),
            Predicate::Not(part) => Ok(not(self.expr(part)?)),
        }
    }

    fn fold(
        &self,
        parts: &[Predicate],
        empty: bool,
        join: fn(Expr, Expr) -> Expr,
    ) -> Result<Expr, PolicyError> {
        let mut exprs = parts.iter().map(|part| self.expr(part));
        let first = exprs.next().transpose()?.unwrap_or_else(|| lit(empty));
        exprs.try_fold(first, |all, expr| Ok(join(all, expr?)))
    }

    fn column(&self, name: &str) -> Result<(Column, DataType), PolicyError> {
        let schema = self.part.source.schema();
        let field = schema.field_with_name(name).map_err(|_| {
            source_error(
                self.dataset,
                self.table,
                Some(name),
                "is in a row predicate of the habilitation but does not exist",
            )
        })?;
        let column = Column::new(Some(self.part.alias.as_str()), name);
        Ok((column, field.data_type().clone()))
    }

    fn value(
        &self,
        column: &Column,
        data_type: &DataType,
        value: &Value,
    ) -> Result<Expr, PolicyError> {
        let scalar = scalar_of(value, data_type).ok_or_else(|| {
            source_error(
                self.dataset,
                self.table,
                Some(&column.name),
                format!("has type {data_type}, to which a row predicate's value does not fit"),
            )
        })?;
        Ok(Expr::Literal(scalar, None))
    }
}

/// The value as a scalar of exactly this type, or None where it does not fit.
pub fn scalar_of(value: &Value, data_type: &DataType) -> Option<ScalarValue> {
    match value {
        Value::Bool(value) => (*data_type == DataType::Boolean).then(|| ScalarValue::from(*value)),
        Value::Int(value) => integer(*value, data_type),
        Value::Float(value) if value.is_finite() => match data_type {
            DataType::Float64 => Some(ScalarValue::Float64(Some(*value))),
            DataType::Float32 => Some(ScalarValue::Float32(Some(*value as f32))),
            _ => None,
        },
        Value::Float(_) => None,
        Value::Text(value) => match data_type {
            DataType::Utf8 => Some(ScalarValue::Utf8(Some(value.clone()))),
            DataType::LargeUtf8 => Some(ScalarValue::LargeUtf8(Some(value.clone()))),
            DataType::Utf8View => Some(ScalarValue::Utf8View(Some(value.clone()))),
            _ => None,
        },
        Value::Date(value) => date(*value, data_type),
    }
}

fn integer(value: i64, data_type: &DataType) -> Option<ScalarValue> {
    // Larger integers are not exact in a double.
    const EXACT_MAX: u64 = 1 << 53;
    Some(match data_type {
        DataType::Int8 => ScalarValue::from(i8::try_from(value).ok()?),
        DataType::Int16 => ScalarValue::from(i16::try_from(value).ok()?),
        DataType::Int32 => ScalarValue::from(i32::try_from(value).ok()?),
        DataType::Int64 => ScalarValue::from(value),
        DataType::UInt8 => ScalarValue::from(u8::try_from(value).ok()?),
        DataType::UInt16 => ScalarValue::from(u16::try_from(value).ok()?),
        DataType::UInt32 => ScalarValue::from(u32::try_from(value).ok()?),
        DataType::UInt64 => ScalarValue::from(u64::try_from(value).ok()?),
        DataType::Float64 if value.unsigned_abs() <= EXACT_MAX => ScalarValue::from(value as f64),
        DataType::Decimal128(precision, scale) => {
            let unit = 10_i128.checked_pow(u32::try_from(*scale).ok()?)?;
            let scaled = i128::from(value).checked_mul(unit)?;
            if scaled.unsigned_abs() >= 10_u128.checked_pow(u32::from(*precision))? {
                return None;
            }
            ScalarValue::Decimal128(Some(scaled), *precision, *scale)
        }
        _ => return None,
    })
}

fn date(value: NaiveDate, data_type: &DataType) -> Option<ScalarValue> {
    let days = value.signed_duration_since(NaiveDate::default()).num_days();
    let seconds = days.checked_mul(86_400)?;
    Some(match data_type {
        DataType::Date32 => ScalarValue::Date32(Some(i32::try_from(days).ok()?)),
        DataType::Date64 => ScalarValue::Date64(Some(seconds.checked_mul(1_000)?)),
        DataType::Timestamp(unit, zone) => {
            let zone = zone.clone();
            match unit {
                TimeUnit::Second => ScalarValue::TimestampSecond(Some(seconds), zone),
                TimeUnit::Millisecond => {
                    ScalarValue::TimestampMillisecond(Some(seconds.checked_mul(1_000)?), zone)
                }
                TimeUnit::Microsecond => {
                    ScalarValue::TimestampMicrosecond(Some(seconds.checked_mul(1_000_000)?), zone)
                }
                TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(
                    Some(seconds.checked_mul(1_000_000_000)?),
                    zone,
                ),
            }
        }
        _ => return None,
    })
}
