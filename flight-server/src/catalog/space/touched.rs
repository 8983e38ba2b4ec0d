//! What a change reads and writes, told before it runs: for its entry in the audit, as a query's
//! names what it reads.
//!
//! The change plans again when it runs, on what the space is then. What it would read beyond this
//! is refused there ([`Touched::check`]), so that the entry is never less than what happened; one
//! that cannot be planned here announces nothing, and fails there as it is or reads nothing.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Delete, FromTable, ObjectName, Query, Statement as Sql, TableFactor, TableObject,
    TableWithJoins,
};

use super::names::{Use, qualified, target};
use super::upload::Upload;
use crate::airlock::{self, EXPORTS_SCHEMA, call::Call};
use crate::catalog::project::SPACE_SCHEMA;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Planning;
use crate::plan::authorise::{TableAccess, providers, space_columns_read, tables_read};
use crate::plan::parse::{Kind, Parsed, parse};
use crate::plan::repeated;

/// What the audit calls what a statement writes.
const WRITTEN: &str = "written";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Tables of datasets that it may read, with their columns.
    pub tables: Vec<TableAccess>,
    /// Tables of the space, by their names there.
    space: BTreeMap<String, BTreeSet<String>>,
    /// Released packages.
    exports: BTreeSet<String>,
    /// Tables and views that it makes, changes or drops.
    written: BTreeSet<String>,
}

impl Touched {
    /// What a change touches, as far as it can be planned.
    pub async fn of(planning: &Planning<'_>, parsed: &Parsed) -> Self {
        let mut touched = Self::default();
        // Whatever fails here fails as the statement's own error when it runs.
        if let Err(error) = touched.add(planning, parsed).await {
            tracing::debug!(
                kind = error.kind.label(),
                "a change is not planned before it runs"
            );
            touched.tables.clear();
        }
        touched
    }

    /// What rows for a table touch: that table, where they may be stored at all.
    pub fn of_upload(planning: &Planning<'_>, upload: &Upload) -> Self {
        let mut touched = Self::default();
        if let Err(error) = touched.writes(planning, &upload.table, Use::Make) {
            tracing::debug!(
                kind = error.kind.label(),
                "rows for a table have no table that they could be for"
            );
        }
        touched
    }

    /// What the commit of a transaction touches: all that its statements have written.
    pub fn of_written<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self {
            written: names.map(|name| format!("{SPACE_SCHEMA}.{name}")).collect(),
            ..Self::default()
        }
    }

    /// Refuses what was not told of.
    ///
    /// # Errors
    /// `Unavailable` where another statement changed what this one reads, since it was planned.
    pub fn check(&self, tables: &[TableAccess]) -> Result<()> {
        let told = |read: &&TableAccess| {
            let mut told = self.tables.iter();
            !told.any(|told| told.dataset == read.dataset && told.table == read.table)
        };
        match tables.iter().find(told) {
            None => Ok(()),
            Some(read) => Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "another statement changed what this one reads: it would read `{}.{}` now; \
                     run it again",
                    read.dataset, read.table
                ),
            )),
        }
    }

    /// Names only: each table that is read with its columns, and what is written.
    pub fn columns(&self) -> serde_json::Value {
        let mut columns: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for table in &self.tables {
            let name = format!("{}.{}", table.dataset, table.table);
            let names = table.columns.iter().map(String::as_str);
            columns.entry(name).or_default().extend(names);
        }
        for (table, names) in &self.space {
            let names = names.iter().map(String::as_str);
            let table = format!("{SPACE_SCHEMA}.{table}");
            columns.entry(table).or_default().extend(names);
        }
        for (name, ids) in [(EXPORTS_SCHEMA, &self.exports), (WRITTEN, &self.written)] {
            if !ids.is_empty() {
                let ids = ids.iter().map(String::as_str).collect();
                columns.insert(name.to_owned(), ids);
            }
        }
        serde_json::json!(columns)
    }

    async fn add(&mut self, planning: &Planning<'_>, parsed: &Parsed) -> Result<()> {
        match parsed.airlock()? {
            Some(Call::Request(asked)) => {
                self.written
                    .insert(format!("{EXPORTS_SCHEMA}.{}", asked.name));
                let query = parse(&asked.sql, planning.hub.config.limits.sql_bytes_max)?;
                return self
                    .read(planning, query.statement, query.placeholders)
                    .await;
            }
            Some(Call::Withdraw(name)) => {
                self.written.insert(format!("{EXPORTS_SCHEMA}.{name}"));
                return Ok(());
            }
            None => {}
        }
        let Statement::Statement(statement) = &parsed.statement else {
            return Ok(());
        };
        let query = match statement.as_ref().clone() {
            Sql::Insert(insert) => {
                if let TableObject::TableName(name) = &insert.table {
                    self.writes(planning, name, Use::Change)?;
                }
                insert.source
            }
            Sql::CreateTable(table) => {
                self.writes(planning, &table.name, Use::Make)?;
                table.query
            }
            Sql::CreateView(view) => {
                self.writes(planning, &view.name, Use::Make)?;
                Some(view.query)
            }
            Sql::Drop { names, .. } => {
                for name in &names {
                    self.writes(planning, name, Use::Change)?;
                }
                None
            }
            Sql::Update(mut update) => {
                self.changes(planning, &mut update.table)?;
                return self.rows(planning, Sql::Update(update), parsed).await;
            }
            Sql::Delete(mut delete) => {
                for table in from(&mut delete) {
                    self.changes(planning, table)?;
                }
                return self.rows(planning, Sql::Delete(delete), parsed).await;
            }
            _ => None,
        };
        match query {
            Some(query) => self.queried(planning, query, parsed).await,
            None => Ok(()),
        }
    }

    fn writes(&mut self, planning: &Planning<'_>, name: &ObjectName, usage: Use) -> Result<String> {
        let name = target(planning, name, usage)?;
        self.written.insert(format!("{SPACE_SCHEMA}.{name}"));
        Ok(name)
    }

    /// Writes the name of the table that is changed as the planner must read it.
    fn changes(&mut self, planning: &Planning<'_>, table: &mut TableWithJoins) -> Result<()> {
        if let TableFactor::Table { name, .. } = &mut table.relation {
            *name = qualified(&self.writes(planning, name, Use::Change)?);
        }
        Ok(())
    }

    async fn queried(
        &mut self,
        planning: &Planning<'_>,
        query: Box<Query>,
        parsed: &Parsed,
    ) -> Result<()> {
        let statement = Statement::Statement(Box::new(Sql::Query(query)));
        // Rows that are written in the statement need no plan, however many they are.
        let references = planning.state().resolve_table_references(&statement)?;
        if references.is_empty() {
            return Ok(());
        }
        self.read(planning, statement, parsed.placeholders).await
    }

    async fn rows(
        &mut self,
        planning: &Planning<'_>,
        statement: Sql,
        parsed: &Parsed,
    ) -> Result<()> {
        let statement = Statement::Statement(Box::new(statement));
        self.read(planning, statement, parsed.placeholders).await
    }

    async fn read(
        &mut self,
        planning: &Planning<'_>,
        statement: Statement,
        placeholders: usize,
    ) -> Result<()> {
        let parsed = Parsed {
            statement,
            kind: Kind::Change,
            placeholders,
        };
        let state = planning.state();
        let plan = match planning.plan(&state, parsed).await? {
            LogicalPlan::Dml(dml) => dml.input.as_ref().clone(),
            plan => plan,
        };
        self.tables = tables_of(&plan, &state)?;
        self.space = space_columns_read(&plan)?;
        for provider in providers(&plan)? {
            let provider: &dyn TableProvider = provider.as_ref();
            let export = airlock::ExportTable::of(provider);
            self.exports
                .extend(export.map(|table| table.id().to_owned()));
        }
        Ok(())
    }
}

fn from(delete: &mut Delete) -> &mut [TableWithJoins] {
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &mut delete.from;
    from
}

/// The tables that a plan reads, with the columns that it needs of them where the optimiser can
/// tell before the parameters are known, and else with all.
fn tables_of(plan: &LogicalPlan, state: &SessionState) -> Result<Vec<TableAccess>> {
    let mut tables = tables_read(plan)?;
    // What would become too large is refused when it runs.
    if repeated::check(plan).is_ok()
        && let Ok(optimised) = state.optimize(plan)
    {
        for needed in tables_read(&optimised)? {
            let mut all = tables.iter_mut();
            let same = all.find(|t| t.dataset == needed.dataset && t.table == needed.table);
            if let Some(table) = same {
                table.columns = needed.columns;
            }
        }
    }
    Ok(tables)
}

#[cfg(test)]
mod tests;
