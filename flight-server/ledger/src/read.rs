//! Reading the ledger, in pages, for the hub's tables.

use chrono::{DateTime, Utc};
use hubflight_store::{instant, instant_or_null, micros};
use rust_decimal::Decimal;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Arguments, AssertSqlSafe, Row};
use std::collections::BTreeMap;
use uuid::Uuid;

use crate::write::uuid_of;
use crate::{Ledger, LedgerError, UsageRecord};

/// Rows that one page may have.
const PAGE_ROWS_MAX: u32 = 10_000;

/// Which records: all that satisfy every condition given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub project: Option<String>,
    /// An event of the audit that is no project's and concerns every one: it passes beside those
    /// of `project`.
    pub of_all: Option<&'static str>,
    pub person: Option<String>,
    pub statement_id: Option<Uuid>,
    /// Usage that ended, statements that opened, events that happened at this time or later.
    pub since: Option<DateTime<Utc>>,
}

/// Where a page starts and how long it is; in the order of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The `seq` of the last record of the page before, 0 for the first page.
    pub after_seq: i64,
    /// At most 10,000.
    pub rows_max: u32,
}

impl Page {
    pub const FIRST: Page = Page {
        after_seq: 0,
        rows_max: PAGE_ROWS_MAX,
    };

    fn limit(self) -> i64 {
        i64::from(self.rows_max.clamp(1, PAGE_ROWS_MAX))
    }
}

/// A statement with one of its executions, or with none yet.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryRecord {
    /// Order of the statement.
    pub seq: i64,
    pub statement_id: Uuid,
    /// None while it has not run; 0 if it was refused or never redeemed.
    pub attempt: Option<u32>,
    pub person: String,
    pub project: Option<String>,
    pub kind: String,
    pub client: String,
    pub tags: BTreeMap<String, String>,
    pub opened_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    /// `open`, `running`, or the outcome.
    pub state: String,
    pub error_kind: Option<String>,
    pub rows_returned: u64,
    pub bytes_returned: u64,
    pub failed_rows: u64,
    pub row_errors: Vec<String>,
}

/// One line of the audit. Names only, never values.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRecord {
    pub seq: i64,
    pub at: DateTime<Utc>,
    /// `intent` and `statement`, the beginning and the end of an execution, or the label of
    /// another event.
    pub event: String,
    pub person: Option<String>,
    pub project: Option<String>,
    pub statement_id: Option<Uuid>,
    pub attempt: Option<u32>,
    /// `name@version`.
    pub habilitations: Vec<String>,
    /// `name@version`.
    pub datasets: Vec<String>,
    pub columns: serde_json::Value,
    /// Hexadecimal.
    pub sql_sha256: Option<String>,
    pub outcome: String,
    pub error_kind: Option<String>,
    pub rows_returned: u64,
    pub bytes_returned: u64,
    pub client: String,
}

impl Ledger {
    /// Usage records in the order in which they were settled, without their lines.
    pub async fn usage(
        &self,
        filter: &Filter,
        page: Page,
    ) -> Result<Vec<UsageRecord>, LedgerError> {
        let select = Select::new("SELECT u.* FROM usage u", "u", "ended_at");
        let rows = select.run(self, filter, page).await?;
        rows.iter().map(usage_of).collect()
    }

    /// Statements in the order in which they were opened, each with its executions. A page
    /// counts statements, so that it may hold more records than its limit.
    pub async fn queries(
        &self,
        filter: &Filter,
        page: Page,
    ) -> Result<Vec<QueryRecord>, LedgerError> {
        let mut select = Select::new("SELECT s.* FROM statements s", "s", "opened_at");
        select.around = Some((
            "SELECT q.seq, q.statement_id, q.person, q.project, q.kind, q.client, q.tags, \
             q.opened_at, e.attempt, e.started_at, u.ended_at, u.outcome, u.error_kind, \
             u.rows_returned, u.bytes_returned, u.failed_rows, u.row_errors FROM (",
            ") q LEFT JOIN executions e ON e.statement_id = q.statement_id \
             LEFT JOIN usage u ON u.statement_id = e.statement_id AND u.attempt = e.attempt \
             ORDER BY q.seq, e.attempt",
        ));
        let rows = select.run(self, filter, page).await?;
        rows.iter().map(query_of).collect()
    }

    /// Audit records in the order in which they were written.
    pub async fn audit(
        &self,
        filter: &Filter,
        page: Page,
    ) -> Result<Vec<AuditRecord>, LedgerError> {
        let select = Select::new("SELECT a.* FROM audit a", "a", "at");
        let mut rows = select.run(self, filter, page).await?;
        if let (Some(_), Some(event)) = (&filter.project, filter.of_all) {
            // Two ways along an index; either alone would be a sort of all that follows.
            rows.extend(self.of_all(event, page).await?);
        }
        let records = rows.iter().map(audit_of);
        let mut records: Vec<AuditRecord> = records.collect::<Result<_, _>>()?;
        records.sort_by_key(|record| record.seq);
        records.truncate(usize::try_from(page.limit()).unwrap_or(usize::MAX));
        Ok(records)
    }

    /// Those of an event that are no project's.
    async fn of_all(&self, event: &str, page: Page) -> Result<Vec<AnyRow>, LedgerError> {
        let rows = sqlx::query(
            "SELECT a.* FROM audit a WHERE a.seq > $1 AND a.project IS NULL AND a.event = $2 \
             ORDER BY a.seq LIMIT $3",
        )
        .bind(page.after_seq)
        .bind(event.to_owned())
        .bind(page.limit())
        .fetch_all(self.store.pool())
        .await?;
        Ok(rows)
    }
}

/// A filtered page of one table.
struct Select {
    select: &'static str,
    alias: &'static str,
    time: &'static str,
    around: Option<(&'static str, &'static str)>,
}

impl Select {
    fn new(select: &'static str, alias: &'static str, time: &'static str) -> Self {
        Select {
            select,
            alias,
            time,
            around: None,
        }
    }

    async fn run(
        self,
        ledger: &Ledger,
        filter: &Filter,
        page: Page,
    ) -> Result<Vec<AnyRow>, LedgerError> {
        let alias = self.alias;
        let mut sql = format!("{} WHERE {alias}.seq > $1", self.select);
        let mut arguments = AnyArguments::default();
        let unfit = |_| LedgerError::Corrupt { what: "parameter" };
        arguments.add(page.after_seq).map_err(unfit)?;
        filter.conditions(alias, self.time, &mut sql, &mut arguments)?;
        let number = arguments.len() + 1;
        sql.push_str(&format!(" ORDER BY {alias}.seq LIMIT ${number}"));
        arguments.add(page.limit()).map_err(unfit)?;
        if let Some((before, after)) = self.around {
            sql = format!("{before}{sql}{after}");
        }
        // Only texts of this file are in it; values are parameters.
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments);
        Ok(query.fetch_all(ledger.store.pool()).await?)
    }
}

impl Filter {
    /// Adds the conditions on the columns of `alias` to a statement that has a WHERE.
    pub(crate) fn conditions(
        &self,
        alias: &str,
        time: &str,
        sql: &mut String,
        arguments: &mut AnyArguments,
    ) -> Result<(), LedgerError> {
        let unfit = |_| LedgerError::Corrupt { what: "parameter" };
        let mut condition = |column: &str, operator: &str, number: usize| {
            sql.push_str(&format!(" AND {alias}.{column} {operator} ${number}"));
        };
        if let Some(project) = &self.project {
            arguments.add(project.clone()).map_err(unfit)?;
            condition("project", "=", arguments.len());
        }
        if let Some(person) = &self.person {
            arguments.add(person.clone()).map_err(unfit)?;
            condition("person", "=", arguments.len());
        }
        if let Some(id) = self.statement_id {
            arguments.add(id.to_string()).map_err(unfit)?;
            condition("statement_id", "=", arguments.len());
        }
        if let Some(since) = self.since {
            arguments.add(micros(since)).map_err(unfit)?;
            condition(time, ">=", arguments.len());
        }
        Ok(())
    }
}

fn usage_of(row: &AnyRow) -> Result<UsageRecord, LedgerError> {
    Ok(UsageRecord {
        seq: row.try_get("seq")?,
        usage_id: row.try_get("usage_id")?,
        statement_id: uuid_of(row, "statement_id")?,
        attempt: attempt_of(row.try_get("attempt")?)?,
        person: row.try_get("person")?,
        project: row.try_get("project")?,
        organisation: row.try_get("organisation")?,
        started_at: instant(row.try_get("started_at")?)?,
        ended_at: instant(row.try_get("ended_at")?)?,
        kind: row.try_get("kind")?,
        outcome: row.try_get("outcome")?,
        error_kind: row.try_get("error_kind")?,
        rows_returned: count_of(row, "rows_returned")?,
        bytes_returned: count_of(row, "bytes_returned")?,
        bytes_scanned: count_of(row, "bytes_scanned")?,
        units: json_of(row, "units")?,
        failed_rows: count_of(row, "failed_rows")?,
        row_errors: json_of(row, "row_errors")?,
        cost: decimal_of(row, "cost")?,
        currency: row.try_get("currency")?,
        tariff_version: row.try_get("tariff_version")?,
        lines: Vec::new(),
    })
}

fn query_of(row: &AnyRow) -> Result<QueryRecord, LedgerError> {
    let attempt: Option<i64> = row.try_get("attempt")?;
    let outcome: Option<String> = row.try_get("outcome")?;
    let settled = outcome.is_some();
    let state = match (outcome, attempt) {
        (Some(outcome), _) => outcome,
        (None, Some(_)) => "running".to_owned(),
        (None, None) => "open".to_owned(),
    };
    let count = |column| {
        if settled {
            count_of(row, column)
        } else {
            Ok(0)
        }
    };
    Ok(QueryRecord {
        seq: row.try_get("seq")?,
        statement_id: uuid_of(row, "statement_id")?,
        attempt: attempt.map(attempt_of).transpose()?,
        person: row.try_get("person")?,
        project: row.try_get("project")?,
        kind: row.try_get("kind")?,
        client: row.try_get("client")?,
        tags: json_of(row, "tags")?,
        opened_at: instant(row.try_get("opened_at")?)?,
        started_at: instant_or_null(row.try_get("started_at")?)?,
        ended_at: instant_or_null(row.try_get("ended_at")?)?,
        state,
        error_kind: row.try_get("error_kind")?,
        rows_returned: count("rows_returned")?,
        bytes_returned: count("bytes_returned")?,
        failed_rows: count("failed_rows")?,
        row_errors: if settled {
            json_of(row, "row_errors")?
        } else {
            Vec::new()
        },
    })
}

fn audit_of(row: &AnyRow) -> Result<AuditRecord, LedgerError> {
    let statement: Option<String> = row.try_get("statement_id")?;
    let attempt: Option<i64> = row.try_get("attempt")?;
    Ok(AuditRecord {
        seq: row.try_get("seq")?,
        at: instant(row.try_get("at")?)?,
        event: row.try_get("event")?,
        person: row.try_get("person")?,
        project: row.try_get("project")?,
        statement_id: statement
            .map(|_| uuid_of(row, "statement_id"))
            .transpose()?,
        attempt: attempt.map(attempt_of).transpose()?,
        habilitations: json_of(row, "habilitations")?,
        datasets: json_of(row, "datasets")?,
        columns: json_of(row, "columns")?,
        sql_sha256: row.try_get("sql_sha256")?,
        outcome: row.try_get("outcome")?,
        error_kind: row.try_get("error_kind")?,
        rows_returned: count_of(row, "rows_returned")?,
        bytes_returned: count_of(row, "bytes_returned")?,
        client: row.try_get("client")?,
    })
}

fn attempt_of(value: i64) -> Result<u32, LedgerError> {
    u32::try_from(value).map_err(|_| LedgerError::Corrupt { what: "attempt" })
}

fn count_of(row: &AnyRow, column: &str) -> Result<u64, LedgerError> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|_| LedgerError::Corrupt { what: "count" })
}

pub(crate) fn decimal_of(row: &AnyRow, column: &str) -> Result<Decimal, LedgerError> {
    let text: String = row.try_get(column)?;
    Decimal::from_str_exact(&text).map_err(|_| LedgerError::Corrupt { what: "amount" })
}

fn json_of<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T, LedgerError> {
    let text: String = row.try_get(column)?;
    serde_json::from_str(&text).map_err(|_| LedgerError::Corrupt { what: "record" })
}
