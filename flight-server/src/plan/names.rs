//! Names whatever their case: an unquoted name that nothing has in small letters, and that exactly
//! one column or table has in other ones, is that column or table. pandas makes columns `Age`;
//! `age`, `Age` and `AGE` are it. Quoted names are exact.
//!
//! A table without a schema that the default schema does not have is looked for in the space, where
//! CREATE, DROP and rows for a table go that name none: as with a `search_path` of both. What is
//! dropped IF EXISTS has exactly the name that is written.
//!
//! Only what the project sees is looked at, so that a hidden column is as one that is not there.

mod spelling;
mod targets;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

use arrow::datatypes::Schema;
use datafusion::catalog::CatalogProvider;
use datafusion::common::{ResolvedTableReference, TableReference};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Ident, ObjectName, ObjectNamePart, Statement as Sql, TableAlias, Visit, VisitMut,
};

use self::spelling::{Aliases, Spelling};
use super::Planning;
use super::parse::Parsed;
use crate::catalog::project::SPACE_SCHEMA;
use crate::catalog::space::names::folded;
use crate::error::{Error, Result};

/// The column of `generate_series` and `range`.
const MADE: &str = "value";

impl Planning<'_> {
    /// Plans a statement whose tables all exist for this project. What means something as it is
    /// written means that; else its names are given the spelling of what they name.
    pub async fn plan(&self, state: &SessionState, mut parsed: Parsed) -> Result<LogicalPlan> {
        if let Ok(plan) = self.as_written(state, &parsed).await {
            return Ok(plan);
        }
        let unknown = self.named(state, &mut parsed).await?;
        self.check_known(state, &parsed, unknown).await?;
        Ok(state.statement_to_plan(parsed.statement).await?)
    }

    pub(super) async fn as_written(
        &self,
        state: &SessionState,
        parsed: &Parsed,
    ) -> Result<LogicalPlan> {
        self.resolve(state, parsed).await?;
        Ok(state.statement_to_plan(parsed.statement.clone()).await?)
    }

    /// A change with the spelling of what it names, where it means nothing as it is written. What is
    /// wrong with its names is told when it runs.
    pub async fn spelled_change(&self, mut parsed: Parsed) -> Parsed {
        let Statement::Statement(inner) = &mut parsed.statement else {
            return parsed;
        };
        targets::place(self, inner);
        let state = self.state();
        if let Some(read) = targets::read(inner) {
            let read = Parsed {
                statement: Statement::Statement(Box::new(read)),
                kind: parsed.kind.clone(),
                placeholders: parsed.placeholders,
            };
            let is_known = self.resolve(&state, &read).await.is_ok();
            if is_known && state.statement_to_plan(read.statement).await.is_ok() {
                return parsed;
            }
        }
        let mut spelled = parsed.clone();
        match self.named(&state, &mut spelled).await {
            Ok(_) => spelled,
            Err(_) => parsed,
        }
    }

    /// Gives each name of a statement the spelling of what it names, and the tables that the
    /// project does not have.
    async fn named(
        &self,
        state: &SessionState,
        parsed: &mut Parsed,
    ) -> Result<Vec<TableReference>> {
        let mut names = Names::default();
        let mut unknown = Vec::new();
        let mut references = state.resolve_table_references(&parsed.statement)?;
        references.extend(dropped(&parsed.statement));
        let may_be_nothing = drops_if_there(&parsed.statement);
        for reference in references {
            if is_function(state, &reference) {
                names.made(MADE);
                continue;
            }
            let options = &state.config().options().catalog;
            let full = reference
                .clone()
                .resolve(&options.default_catalog, &options.default_schema);
            if *full.catalog != *self.view.project || &*full.schema == "information_schema" {
                // What the server lists of itself has columns too.
                if let Ok(schema) = state.schema_for_ref(reference.clone())
                    && let Ok(Some(table)) = schema.table(&full.table).await
                {
                    names.table(&reference, &table.schema(), None);
                }
                unknown.push(reference);
                continue;
            }
            if let Ok(Some(table)) = self.view.table(&full.schema, &full.table).await {
                names.table(&reference, &table.schema(), None);
                continue;
            }
            let found = self
                .found(&reference, &full)
                .filter(|found| !may_be_nothing || found.is_not_lost_as(&full.table));
            let table = match &found {
                Some(exact) => {
                    let table = self.view.table(&exact.schema, &exact.table);
                    table.await.ok().flatten()
                }
                None => None,
            };
            match table {
                Some(table) => names.table(&reference, &table.schema(), found),
                None => unknown.push(reference),
            }
        }
        if let Statement::Statement(inner) = &mut parsed.statement {
            self.apply(names, inner)?;
        }
        Ok(unknown)
    }

    fn apply(&self, mut names: Names, statement: &mut Sql) -> Result<()> {
        // A view answers of who reads it.
        names.here = (!matches!(statement, Sql::CreateView(_))).then(|| Here {
            schema: self.default_schema(),
            project: self.view.project.clone(),
            person: self.view.viewer.who.person.clone(),
        });
        // Neither breaks.
        let _: ControlFlow<()> = Visit::visit(statement, &mut Aliases(&mut names));
        let mut spelling = Spelling::of(&names);
        let _: ControlFlow<()> = VisitMut::visit(statement, &mut spelling);
        match spelling.unclear {
            None => Ok(()),
            Some(name) => Err(Error::invalid(format!(
                "column `{name}` may be one of two that differ in their capitals; write it in \
                 quotes, and its table before it"
            ))),
        }
    }

    /// What a name means that is no table as it is written: the only table that has it in other
    /// letters, or, where it has no schema and is not in the default one, that of the space.
    fn found(&self, reference: &TableReference, full: &ResolvedTableReference) -> Option<Exact> {
        // In quotes, since others are in small letters here, and so exact.
        if full.table.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let is_bare = matches!(reference, TableReference::Bare { .. });
        if let Some((schema, table)) = self.spelled(&full.schema, &full.table) {
            let is_elsewhere = is_bare && *schema != *full.schema;
            return Some(Exact {
                schema,
                table,
                is_elsewhere,
            });
        }
        // What is closed to the caller, or may be two, is there. And a view means what it meant when
        // it was made, whoever reads it: its text names the space where it is of it.
        let is_closed = self.view.schema(&full.schema).is_none();
        let is_there = is_closed || self.has(&full.schema, &full.table);
        if !is_bare || &*full.schema == SPACE_SCHEMA || is_there || self.view.is_of_a_view() {
            return None;
        }
        let (schema, table) = self.spelled(SPACE_SCHEMA, &full.table)?;
        Some(Exact {
            schema,
            table,
            is_elsewhere: true,
        })
    }

    /// Whether a schema that the project sees has a table of this name in any letters.
    fn has(&self, schema: &str, table: &str) -> bool {
        let table = table.to_lowercase();
        let tables = self.view.schema(schema).map(|schema| schema.table_names());
        let mut tables = tables.into_iter().flatten();
        tables.any(|name| name.to_lowercase() == table)
    }

    /// The only table that has this name in other letters, with its schema.
    fn spelled(&self, schema: &str, table: &str) -> Option<(String, String)> {
        let schema = match self.view.schema(schema) {
            Some(_) => schema.to_owned(),
            None => only(self.view.schema_names(), schema)?,
        };
        let tables = self.view.schema(&schema)?.table_names();
        let is_there = tables.iter().any(|name| name == table);
        let table = match is_there {
            true => table.to_owned(),
            false => only(tables, table)?,
        };
        Some((schema, table))
    }
}

/// Whether a name is that of rows that are made as they are read.
pub(super) fn is_function(state: &SessionState, reference: &TableReference) -> bool {
    matches!(reference, TableReference::Bare { table }
        if state.table_functions().contains_key(table.as_ref()))
}

/// The tables that a statement drops, which are no references of it.
fn dropped(statement: &Statement) -> Vec<TableReference> {
    let names = match statement {
        Statement::Statement(inner) => match inner.as_ref() {
            Sql::Drop { names, .. } => names.as_slice(),
            _ => &[],
        },
        _ => &[],
    };
    let reference = |name: &ObjectName| {
        let parts = name.0.iter().map(|part| Some(folded(part.as_ident()?)));
        match parts.collect::<Option<Vec<_>>>()?.as_slice() {
            [table] => Some(TableReference::bare(table.clone())),
            [schema, table] => Some(TableReference::partial(schema.clone(), table.clone())),
            [catalog, schema, table] => Some(TableReference::full(
                catalog.clone(),
                schema.clone(),
                table.clone(),
            )),
            _ => None,
        }
    };
    names.iter().filter_map(reference).collect()
}

/// Whether a statement drops what may not be there.
fn drops_if_there(statement: &Statement) -> bool {
    matches!(statement, Statement::Statement(inner)
        if matches!(inner.as_ref(), Sql::Drop { if_exists: true, .. }))
}

fn only(names: Vec<String>, wanted: &str) -> Option<String> {
    let wanted = wanted.to_lowercase();
    let mut alike = names
        .into_iter()
        .filter(|name| name.to_lowercase() == wanted);
    let first = alike.next()?;
    alike.next().is_none().then_some(first)
}

/// Names as they are spelled, by their small letters.
#[derive(Clone, Debug, Default)]
struct Spelled {
    exact: HashSet<String>,
    by_small: HashMap<String, BTreeSet<String>>,
}

impl Spelled {
    fn add(&mut self, name: &str) {
        if self.exact.insert(name.to_owned()) {
            let alike = self.by_small.entry(name.to_lowercase()).or_default();
            alike.insert(name.to_owned());
        }
    }

    /// The spelling of an unquoted name, where it is another than its small letters.
    fn of(&self, name: &Ident) -> Option<&str> {
        if name.quote_style.is_some() {
            return None;
        }
        let small = name.value.to_lowercase();
        if self.exact.contains(&small) {
            return None;
        }
        let alike = self.by_small.get(&small)?;
        alike
            .first()
            .filter(|_| alike.len() == 1)
            .map(String::as_str)
    }

    fn spell(&self, name: &mut Ident) {
        if let Some(spelled) = self.of(name) {
            *name = Ident::with_quote_and_span('"', name.span, spelled);
        }
    }
}

/// Where a statement is sent from.
#[derive(Debug)]
struct Here {
    schema: String,
    project: String,
    person: String,
}

/// What a table is called, where a statement calls it otherwise.
#[derive(Debug)]
struct Exact {
    schema: String,
    table: String,
    /// The statement names no schema, and means another than the default one.
    is_elsewhere: bool,
}

impl Exact {
    /// Whether `DROP … IF EXISTS` of this name may mean it: of the space, the table of exactly that
    /// name, since scripts begin so where it is not there yet, and another in other letters is not
    /// theirs. What is a dataset's is refused in any letters.
    fn is_not_lost_as(&self, name: &str) -> bool {
        self.table == name || self.schema != SPACE_SCHEMA
    }
}

/// A table that the project has.
#[derive(Debug)]
struct Table {
    columns: Spelled,
    exact: Option<Exact>,
}

impl Table {
    /// Writes its name as it is.
    fn spell(&self, parts: &mut [&mut Ident]) {
        if let (Some(exact), [before @ .., table]) = (&self.exact, parts) {
            quote(table, &exact.table);
            if let Some(of) = before.last_mut() {
                quote(of, &exact.schema);
            }
        }
    }

    /// The same, with its schema where that is not of names without one. A quoted name of other
    /// letters is another table's.
    fn place(&self, name: &mut ObjectName) {
        self.spell(&mut spelling::idents(name));
        if let (Some(exact), [ObjectNamePart::Identifier(table)]) = (&self.exact, &*name.0)
            && exact.is_elsewhere
            && table.value == exact.table
        {
            let schema = Ident::with_quote_and_span('"', table.span, exact.schema.as_str());
            name.0.insert(0, ObjectNamePart::Identifier(schema));
        }
    }
}

#[derive(Debug, Default)]
struct Names {
    /// Of all tables, and what the statement itself names.
    columns: Spelled,
    /// Of those, what rows have that the statement makes.
    made: HashSet<String>,
    /// By the parts of a table's name as SQL reads them.
    tables: HashMap<Vec<String>, Table>,
    here: Option<Here>,
}

impl Names {
    fn table(&mut self, reference: &TableReference, schema: &Schema, exact: Option<Exact>) {
        let mut columns = Spelled::default();
        for field in schema.fields() {
            columns.add(field.name());
            self.columns.add(field.name());
        }
        let table = Table { columns, exact };
        self.tables.insert(reference.to_vec(), table);
    }

    /// A column of rows that the statement makes.
    fn made(&mut self, column: &str) {
        self.columns.add(column);
        self.made.insert(column.to_owned());
    }

    /// The columns that an alias names.
    fn alias(&mut self, alias: &TableAlias) {
        for column in &alias.columns {
            self.made(&folded(&column.name));
        }
    }
}

fn quote(name: &mut Ident, exact: &str) {
    if name.quote_style.is_none() {
        *name = Ident::with_quote_and_span('"', name.span, exact);
    }
}

#[cfg(test)]
mod tests;
