//! Which stored rows a view shows: the habilitation's predicate on the table and on every
//! table along its path to the person, then the cohort, without the persons who oppose, as one
//! logical plan.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use chrono::NaiveDate;
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, JoinType, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, not};
use datafusion::prelude::lit;

use super::{GrantedTable, Sources, grant, source_error, source_of};
use crate::error::PolicyError;
use crate::opposition::OPPOSED_COLUMN;
use crate::pseudonym::is_number;
use hubflight_rights::dataset::{Dataset, PERSON_DOMAIN, PersonPath, Table};
use hubflight_rights::habilitation::{Cohort, Comparison, Habilitation, Predicate, Value};

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

/// The rows whose partners in a table belong to persons who oppose.
struct Excluded {
    part: Part,
    /// (column of the table, column of the part)
    on: Vec<(String, String)>,
    digest: [u8; 32],
}

/// What of a table's rows is visible.
pub struct VisibleRows {
    /// The visible rows with all stored columns.
    pub plan: LogicalPlan,
    /// Whether any row is hidden.
    pub restricted: bool,
    /// Tells the lists of persons who oppose apart; none where nobody does.
    pub opposed: Option<[u8; 32]>,
}

pub fn visible_rows(
    sources: &dyn Sources,
    habilitation: &Habilitation,
    granted: &GrantedTable,
) -> Result<VisibleRows, PolicyError> {
    let path = Path {
        sources,
        habilitation,
        dataset: &granted.dataset,
    };
    let (table, source) = (&granted.table, Arc::clone(&granted.source));
    let mut part = path.part(table, Arc::clone(&source), TABLE.to_owned(), 1)?;
    let excluded = path.excluded(table, source, 1)?;
    let opposed = excluded.as_ref().map(|excluded| excluded.digest);
    if let Some(Excluded { part: rows, on, .. }) = excluded {
        part = path.join(part, &table.name, rows, &on, JoinType::LeftAnti)?;
    }
    let restricted = part.restricted;
    let plan = part
        .plan
        .build()
        .map_err(|error| path.bug(&table.name, &error))?;
    Ok(VisibleRows {
        plan,
        restricted,
        opposed,
    })
}

/// The visible rows joined with their persons, and the stored column that identifies these;
/// None for a table that leads to nobody.
pub fn rows_of_persons(
    sources: &dyn Sources,
    habilitation: &Habilitation,
    granted: &GrantedTable,
    rows: LogicalPlan,
) -> Result<Option<(LogicalPlan, Column)>, PolicyError> {
    let path = Path {
        sources,
        habilitation,
        dataset: &granted.dataset,
    };
    let mut table = &granted.table;
    let mut alias = TABLE.to_owned();
    let mut plan = LogicalPlanBuilder::from(rows);
    for depth in 1..=PATH_TABLES_MAX {
        let (parent, on) = match &table.person {
            PersonPath::None => return Ok(None),
            PersonPath::Column(person) => {
                let person = Column::new(Some(alias), person);
                let known = plan.filter(Expr::Column(person.clone()).is_not_null());
                let plan = known.and_then(LogicalPlanBuilder::build);
                return Ok(Some((
                    plan.map_err(|error| path.bug(&table.name, &error))?,
                    person,
                )));
            }
            PersonPath::Parent { table: parent, on } => {
                (path.parent_with_unique_key(table, parent, on)?, on)
            }
        };
        let source = source_of(sources, &granted.dataset.name, &parent.name)?;
        let next = format!("person{depth}");
        let part = path.scan(&granted.dataset.name, &parent.name, next.clone(), source)?;
        let side = |alias: &str, column: &String| Column::new(Some(alias), column);
        let left: Vec<Column> = on.iter().map(|(own, _)| side(&alias, own)).collect();
        let right: Vec<Column> = on.iter().map(|(_, theirs)| side(&next, theirs)).collect();
        let joined = part
            .plan
            .build()
            .and_then(|parent| plan.join(parent, JoinType::Inner, (left, right), None));
        plan = joined.map_err(|error| path.bug(&table.name, &error))?;
        (table, alias) = (parent, next);
    }
    Err(path.error(
        &granted.table.name,
        None,
        format!("has a path to the person longer than {PATH_TABLES_MAX} tables"),
    ))
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

    /// The parent, if its rows are told apart by the columns that lead to it: a row that led to
    /// two persons would count for both.
    fn parent_with_unique_key(
        &self,
        table: &Table,
        parent: &str,
        on: &[(String, String)],
    ) -> Result<&Table, PolicyError> {
        let Some(parent) = self.dataset.table(parent) else {
            return Err(self.error(&table.name, None, "has a parent that does not exist"));
        };
        let leads: BTreeSet<&String> = on.iter().map(|(_, theirs)| theirs).collect();
        let key: BTreeSet<&String> = parent.primary_key.iter().collect();
        if !key.is_empty() && key.is_subset(&leads) {
            return Ok(parent);
        }
        Err(self.error(
            &table.name,
            None,
            format!(
                "leads to `{}` by columns that are not declared as its primary key, which \
                 aggregate mode needs",
                parent.name
            ),
        ))
    }

    /// What leads from a table to persons who oppose; none where nobody does. A row that leads
    /// to nobody, because its person or its parent is missing, is nobody's to exclude.
    fn excluded(
        &self,
        table: &Table,
        source: Arc<dyn TableProvider>,
        depth: usize,
    ) -> Result<Option<Excluded>, PolicyError> {
        // The path's length and its tables were checked with its rows.
        match &table.person {
            PersonPath::None => Ok(None),
            PersonPath::Column(person) => self.opposed(table, &source, person),
            PersonPath::Parent { table: parent, on } => {
                let Some(parent) = self.dataset.table(parent) else {
                    return Err(self.error(&table.name, None, "has a parent that does not exist"));
                };
                let source = source_of(self.sources, &self.dataset.name, &parent.name)?;
                let persons = self.excluded(parent, Arc::clone(&source), depth + 1)?;
                let Some(persons) = persons else {
                    return Ok(None);
                };
                let alias = format!("excluded{depth}");
                let rows = self.scan(&self.dataset.name, &parent.name, alias, source)?;
                let rows = self.semi_join(rows, &parent.name, persons.part, &persons.on)?;
                Ok(Some(Excluded {
                    part: rows,
                    on: on.clone(),
                    digest: persons.digest,
                }))
            }
        }
    }

    /// The persons of the column's domain who oppose, as values of the column's own type.
    fn opposed(
        &self,
        table: &Table,
        source: &Arc<dyn TableProvider>,
        person: &str,
    ) -> Result<Option<Excluded>, PolicyError> {
        let domain = self.dataset.identifier(table, person);
        let Some(opposed) = self.sources.opposed(domain.unwrap_or(PERSON_DOMAIN)) else {
            return Ok(None);
        };
        let wrong = |problem: &str| self.error(&table.name, Some(person), problem);
        let schema = source.schema();
        let field = schema
            .field_with_name(person)
            .map_err(|_| wrong("leads to the person but does not exist"))?;
        let persons = opposed
            .table(field.data_type())
            .map_err(|error| self.bug(&table.name, &error))?
            .ok_or_else(|| wrong("has a type in which persons who oppose cannot be told"))?;
        let part = self.scan(&self.dataset.name, &table.name, "opposed".into(), persons)?;
        Ok(Some(Excluded {
            part,
            on: vec![(person.to_owned(), OPPOSED_COLUMN.to_owned())],
            digest: opposed.digest(),
        }))
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
        self.join(part, table, other, on, JoinType::LeftSemi)
    }

    /// Keeps the rows of `part` that have a partner in `other`, or those that have none.
    fn join(
        &self,
        part: Part,
        table: &str,
        other: Part,
        on: &[(String, String)],
        kind: JoinType,
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
            .and_then(|others| part.plan.join(others, kind, (left, right), None))
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
