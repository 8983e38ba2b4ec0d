//! The rows of a table in aggregate mode, each with the key of its person.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Column;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::columns::Visible;
use super::reveal;
use super::rows::rows_of_persons;
use super::table::PolicyTable;
use super::{GrantedTable, Sources};
use crate::aggregate::PERSON;
use crate::error::PolicyError;
use crate::pseudonym::{Cipher, LinkageKeys};
use hubflight_rights::dataset::{PERSON_DOMAIN, PersonPath};
use hubflight_rights::habilitation::Habilitation;

/// How the rows of a table lead to their persons.
#[derive(Debug)]
pub struct Persons {
    rows: LogicalPlan,
    column: Column,
    cipher: Cipher,
    /// Sets of visible columns whose values belong to one person each.
    pub keys: Vec<Vec<String>>,
}

impl Persons {
    /// None for a table that leads to nobody.
    pub(super) fn of(
        sources: &dyn Sources,
        habilitation: &Habilitation,
        granted: &GrantedTable,
        keys: &LinkageKeys,
        rows: &LogicalPlan,
        visible: &[Visible],
    ) -> Result<Option<Self>, PolicyError> {
        let found = rows_of_persons(sources, habilitation, granted, rows.clone())?;
        let Some((rows, column)) = found else {
            return Ok(None);
        };
        let table = &granted.table;
        let leads: Vec<String> = match &table.person {
            PersonPath::None => Vec::new(),
            PersonPath::Column(person) => vec![person.clone()],
            PersonPath::Parent { on, .. } => on.iter().map(|(own, _)| own.clone()).collect(),
        };
        let is_visible = |name: &String| visible.iter().any(|shown| shown.field.name() == name);
        let keys_of_rows = [leads, table.primary_key.clone()];
        Ok(Some(Self {
            rows,
            column,
            cipher: keys.cells(PERSON_DOMAIN),
            keys: keys_of_rows
                .into_iter()
                .filter(|key| !key.is_empty() && key.iter().all(is_visible))
                .collect(),
        }))
    }
}

/// A table in aggregate mode as only published aggregates read it: its visible columns, then
/// the key of the person ([`PERSON`]).
#[derive(Debug)]
pub struct PersonRows {
    table: Arc<PolicyTable>,
    schema: SchemaRef,
}

impl PersonRows {
    /// None for a table that leads to nobody, and outside aggregate mode.
    pub fn of(table: &Arc<PolicyTable>) -> Option<Self> {
        table.persons()?;
        let mut fields = table.schema().fields().to_vec();
        fields.push(Arc::new(Field::new(PERSON, DataType::UInt64, true)));
        Some(Self {
            table: Arc::clone(table),
            schema: Arc::new(Schema::new(fields)),
        })
    }
}

/// The table of a dataset that a provider of a plan reads, in rows or only to count them; None
/// for other tables.
pub fn table_of(provider: &dyn TableProvider) -> Option<&PolicyTable> {
    let provider = provider as &dyn std::any::Any;
    let counted = || Some(provider.downcast_ref::<PersonRows>()?.table.as_ref());
    provider.downcast_ref::<PolicyTable>().or_else(counted)
}

#[async_trait]
impl TableProvider for PersonRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let bug = |what: &str| DataFusionError::Internal(what.to_owned());
        let Some(persons) = self.table.persons() else {
            return Err(bug("a table without persons is read with persons"));
        };
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let projection = projection.unwrap_or(&all);
        let last = all.len() - 1;
        let (visible, person) = match projection.split_last() {
            Some((position, others)) if *position == last => (others, true),
            _ => (projection.as_slice(), false),
        };
        let person = person.then(|| {
            let column = Expr::Column(persons.column.clone());
            reveal::person_key(column, persons.cipher.clone()).alias(PERSON)
        });
        let shown = self.table.projected(Some(visible))?;
        let plan = self
            .table
            .inner_plan(persons.rows.clone(), &shown, person, filters);
        let schema = Arc::new(self.schema.project(projection)?);
        let scan = self
            .table
            .scan_of(state, plan, schema, &shown, filters, None);
        Ok(Arc::new(scan.await?.limited(limit)))
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(self.table.pushed_down(filters))
    }
}
