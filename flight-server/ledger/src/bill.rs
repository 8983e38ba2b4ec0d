//! Sums of the ledger: what a session, a project or everyone owes.
//!
//! Amounts are decimal texts, which SQLite cannot add exactly; rows are added here as they
//! stream by, in memory that does not grow with their number.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use rust_decimal::Decimal;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Arguments, AssertSqlSafe, Row};
use uuid::Uuid;

use crate::read::decimal_of;
use crate::{Filter, Ledger, LedgerError, Unit};

/// Statements asked for in one trip.
const IDS_PER_STATEMENT: usize = 500;

/// What a bill is for.
#[derive(Clone, Copy, Debug)]
pub enum BillScope<'a> {
    Statements(&'a [Uuid]),
    /// What ended at `since` or later.
    Project {
        project: &'a str,
        since: DateTime<Utc>,
    },
    /// Every project.
    All {
        since: DateTime<Utc>,
    },
}

/// The sum of the lines of one unit and function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillLine {
    pub unit: Unit,
    /// None for bytes.
    pub function: Option<String>,
    pub currency: String,
    pub quantity: u128,
    pub amount: Decimal,
}

/// What one project used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectTotal {
    pub project: Option<String>,
    pub currency: String,
    /// Usage records.
    pub records: u64,
    pub cost: Decimal,
}

type LineKey = (Unit, Option<String>, String);

impl Ledger {
    /// The lines in scope, summed by unit and function, in that order. Their sum equals the
    /// sum of the records' costs, exactly.
    pub async fn bill(&self, scope: BillScope<'_>) -> Result<Vec<BillLine>, LedgerError> {
        let mut sums = BTreeMap::new();
        match scope {
            BillScope::Statements(ids) => {
                for ids in ids.chunks(IDS_PER_STATEMENT) {
                    let mut arguments = AnyArguments::default();
                    let mut numbers = Vec::with_capacity(ids.len());
                    for id in ids {
                        arguments.add(id.to_string()).map_err(unfit)?;
                        numbers.push(format!("${}", arguments.len()));
                    }
                    let condition = format!(" AND u.statement_id IN ({})", numbers.join(", "));
                    self.add_lines(&condition, arguments, &mut sums).await?;
                }
            }
            BillScope::Project { project, since } => {
                let filter = Filter {
                    project: Some(project.to_owned()),
                    since: Some(since),
                    ..Filter::default()
                };
                self.add_filtered(&filter, &mut sums).await?;
            }
            BillScope::All { since } => {
                let filter = Filter {
                    since: Some(since),
                    ..Filter::default()
                };
                self.add_filtered(&filter, &mut sums).await?;
            }
        }
        Ok(sums
            .into_iter()
            .map(
                |((unit, function, currency), (quantity, amount))| BillLine {
                    unit,
                    function,
                    currency,
                    quantity,
                    amount,
                },
            )
            .collect())
    }

    /// Records and cost by project, of what ended at `since` or later.
    pub async fn totals(&self, since: DateTime<Utc>) -> Result<Vec<ProjectTotal>, LedgerError> {
        let mut sums: BTreeMap<(Option<String>, String), (u64, Decimal)> = BTreeMap::new();
        let mut rows =
            sqlx::query("SELECT project, currency, cost FROM usage WHERE ended_at >= $1")
                .bind(hubflight_store::micros(since))
                .fetch(self.store.pool());
        while let Some(row) = rows.try_next().await? {
            let key = (row.try_get("project")?, row.try_get("currency")?);
            let (records, cost) = sums.entry(key).or_default();
            *records += 1;
            *cost = plus(*cost, decimal_of(&row, "cost")?)?;
        }
        Ok(sums
            .into_iter()
            .map(|((project, currency), (records, cost))| ProjectTotal {
                project,
                currency,
                records,
                cost,
            })
            .collect())
    }

    async fn add_filtered(
        &self,
        filter: &Filter,
        sums: &mut BTreeMap<LineKey, (u128, Decimal)>,
    ) -> Result<(), LedgerError> {
        let mut condition = String::new();
        let mut arguments = AnyArguments::default();
        filter.conditions("u", "ended_at", &mut condition, &mut arguments)?;
        self.add_lines(&condition, arguments, sums).await
    }

    async fn add_lines(
        &self,
        condition: &str,
        arguments: AnyArguments,
        sums: &mut BTreeMap<LineKey, (u128, Decimal)>,
    ) -> Result<(), LedgerError> {
        let sql = format!(
            "SELECT l.unit, l.function, u.currency, l.quantity, l.amount FROM usage u \
             JOIN usage_lines l ON l.usage_id = u.usage_id WHERE 1 = 1{condition}"
        );
        // Only texts of this crate are in it; values are parameters.
        let mut rows = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch(self.store.pool());
        while let Some(row) = rows.try_next().await? {
            add_line(&row, sums)?;
        }
        Ok(())
    }
}

fn add_line(
    row: &AnyRow,
    sums: &mut BTreeMap<LineKey, (u128, Decimal)>,
) -> Result<(), LedgerError> {
    let unit: String = row.try_get("unit")?;
    let unit = Unit::parse(&unit).ok_or(LedgerError::Corrupt { what: "unit" })?;
    let quantity: String = row.try_get("quantity")?;
    let added: u64 = quantity
        .parse()
        .map_err(|_| LedgerError::Corrupt { what: "quantity" })?;
    let key = (unit, row.try_get("function")?, row.try_get("currency")?);
    let (quantity, amount) = sums.entry(key).or_default();
    // 2⁶⁴ records of `u64::MAX` each would be needed to overflow.
    *quantity += u128::from(added);
    *amount = plus(*amount, decimal_of(row, "amount")?)?;
    Ok(())
}

fn plus(sum: Decimal, added: Decimal) -> Result<Decimal, LedgerError> {
    sum.checked_add(added)
        .ok_or(LedgerError::Corrupt { what: "amount" })
}

fn unfit(_: sqlx::error::BoxDynError) -> LedgerError {
    LedgerError::Corrupt { what: "parameter" }
}
