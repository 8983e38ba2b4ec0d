//! A table as a habilitation shows it.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{ScanArgs, ScanResult, Session, TableProvider};
use datafusion::common::{Constraint, Constraints, Statistics};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::lit;
use sha2::{Digest, Sha256};

use super::bounds::contradict;
use super::columns::{How, Visible, described_schema, schema, visible};
use super::exec::{About, PolicyScanExec, conceal};
use super::filters::{below, is_simple, stored};
use super::persons::Persons;
use super::rows::{TABLE, visible_rows};
use super::selected::Selected;
use super::selection::{Selection, Selections, View, ViewName};
use super::{GrantedTable, Sources, reveal};
use crate::error::PolicyError;
use crate::pseudonym::{Cipher, LinkageKeys};
use hubflight_rights::dataset::{PERSON_DOMAIN, Table};
use hubflight_rights::habilitation::{Cohort, Habilitation, Mask, Mode};

/// Key domain of masked values: no dataset's identifiers have it, or a hash would join them.
const HASH_DOMAIN: &str = "\u{1}hash";

/// A visible column with what its values pass through.
#[derive(Clone, Debug)]
pub struct Shown {
    pub visible: Visible,
    pub stored_type: DataType,
    /// Present when the column shows pseudonyms or keyed hashes.
    pub cipher: Option<Cipher>,
}

/// The part of a stored table that a habilitation opens, and nothing else.
#[derive(Debug)]
pub struct PolicyTable {
    dataset: String,
    table: String,
    habilitation: (String, u32),
    source: Arc<dyn TableProvider>,
    columns: Vec<Shown>,
    schema: SchemaRef,
    described: SchemaRef,
    /// Visible rows with all stored columns.
    rows: LogicalPlan,
    all_rows: bool,
    digest: [u8; 32],
    mode: Mode,
    persons_min: u32,
    /// Present in aggregate mode, for a table that leads to persons.
    persons: Option<Persons>,
    name: ViewName,
    selections: Option<Arc<Selections>>,
    /// The primary key, where it is shown as stored and rows are counted by it.
    key: Option<Constraints>,
}

impl PolicyTable {
    pub(super) fn open(
        sources: &dyn Sources,
        habilitation: &Habilitation,
        granted: &GrantedTable,
        keys: &LinkageKeys,
    ) -> Result<Self, PolicyError> {
        let visible = visible(granted)?;
        let rows = visible_rows(sources, habilitation, granted)?;
        let persons = match habilitation.mode {
            Mode::Row => None,
            Mode::Aggregate => {
                Persons::of(sources, habilitation, granted, keys, &rows.plan, &visible)?
            }
        };
        let source_schema = granted.source.schema();
        let show = |visible: &Visible| Shown {
            visible: visible.clone(),
            stored_type: source_schema.field(visible.index).data_type().clone(),
            cipher: match &visible.how {
                How::Pseudonym(domain) => Some(keys.cipher(domain)),
                How::Masked(Mask::HashPerProject) => Some(keys.cipher(HASH_DOMAIN)),
                How::Plain | How::Masked(_) => None,
            },
        };
        Ok(Self {
            dataset: granted.dataset.name.clone(),
            table: granted.table.name.clone(),
            habilitation: (habilitation.id.clone(), habilitation.version),
            source: Arc::clone(&granted.source),
            columns: visible.iter().map(show).collect(),
            schema: schema(&visible),
            described: described_schema(&granted.table, &visible),
            digest: digest(sources, habilitation, granted, keys, rows.opposed),
            rows: rows.plan,
            all_rows: !rows.restricted,
            mode: habilitation.mode,
            persons_min: granted.dataset.persons_min,
            persons,
            name: ViewName([
                habilitation.project.clone(),
                granted.dataset.name.clone(),
                granted.table.name.clone(),
                habilitation.id.clone(),
            ]),
            selections: sources.selections(),
            key: (habilitation.mode == Mode::Aggregate)
                .then(|| key(&granted.table, &visible))
                .flatten(),
        })
    }

    /// True where rows must not show, though they may be counted.
    pub fn shows_aggregates_only(&self) -> bool {
        self.mode == Mode::Aggregate
    }

    /// Distinct persons that a published aggregate of it needs.
    pub fn persons_min(&self) -> u32 {
        self.persons_min
    }

    /// The visible columns that hold identifiers.
    pub fn identifiers(&self) -> Vec<&str> {
        let columns = self.columns.iter();
        columns
            .filter(|shown| shown.cipher.is_some())
            .map(|shown| shown.visible.field.name().as_str())
            .collect()
    }

    /// Those of them that tell persons apart.
    pub fn identifiers_of_persons(&self) -> Vec<&str> {
        let is_person = |shown: &&Shown| matches!(&shown.visible.how, How::Pseudonym(domain) if domain == PERSON_DOMAIN);
        let columns = self.columns.iter().filter(is_person);
        columns
            .map(|shown| shown.visible.field.name().as_str())
            .collect()
    }

    /// Sets of visible columns whose values belong to one person each.
    pub fn person_keys(&self) -> &[Vec<String>] {
        self.persons.as_ref().map_or(&[], |persons| &persons.keys)
    }

    /// The declared primary key, where all of it is visible as it is stored; of tables in
    /// aggregate mode only.
    pub fn row_key(&self) -> Option<Vec<&str>> {
        let Constraint::PrimaryKey(key) = self.key.as_ref()?.iter().next()? else {
            return None;
        };
        let name = |index: &usize| Some(self.columns.get(*index)?.visible.field.name().as_str());
        key.iter().map(name).collect()
    }

    pub(super) fn persons(&self) -> Option<&Persons> {
        self.persons.as_ref()
    }

    /// The dataset's name.
    pub fn dataset(&self) -> &str {
        &self.dataset
    }

    /// The table's name in the dataset.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Id and version of the habilitation that opens it.
    pub fn habilitation(&self) -> (&str, u32) {
        (&self.habilitation.0, self.habilitation.1)
    }

    /// The names of the visible columns, in order.
    pub fn visible_columns(&self) -> Vec<&str> {
        self.columns
            .iter()
            .map(|shown| shown.visible.field.name().as_str())
            .collect()
    }

    /// The schema with remarks and units in the fields' metadata, for catalogues.
    pub fn described_schema(&self) -> SchemaRef {
        Arc::clone(&self.described)
    }

    /// SHA-256 over everything that shapes what is visible: the datasets' descriptions and
    /// versions, the habilitation, the table, its types, the keys, who opposes. Equal digests show the same.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// True when every stored row is visible, whatever is done to the columns.
    pub fn shows_all_rows(&self) -> bool {
        self.all_rows
    }

    /// True when nothing but whole columns is hidden, so that the barrier steps aside. The
    /// plan of such a scan is the source's own: EXPLAIN must not be shown as it is.
    pub fn is_unrestricted(&self) -> bool {
        self.mode == Mode::Row
            && self.all_rows
            && self
                .columns
                .iter()
                .all(|shown| shown.visible.how == How::Plain)
    }

    /// Which filters may be evaluated below the barrier.
    pub(super) fn pushed_down(&self, filters: &[&Expr]) -> Vec<TableProviderFilterPushDown> {
        let support = |filter: &&Expr| match below(filter, &self.columns) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        filters.iter().map(support).collect()
    }

    /// Positions in the source of the projected visible columns.
    fn source_projection(&self, projection: Option<&[usize]>) -> Result<Vec<usize>> {
        Ok(self
            .projected(projection)?
            .iter()
            .map(|shown| shown.visible.index)
            .collect())
    }

    pub(super) fn projected(&self, projection: Option<&[usize]>) -> Result<Vec<&Shown>> {
        match projection {
            None => Ok(self.columns.iter().collect()),
            Some(indices) => indices
                .iter()
                .map(|index| {
                    self.columns.get(*index).ok_or_else(|| {
                        DataFusionError::Plan(format!(
                            "table `{}` has no column number {index}",
                            self.table
                        ))
                    })
                })
                .collect(),
        }
    }

    async fn scan_restricted(
        &self,
        state: &dyn Session,
        projection: Option<&[usize]>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let shown = self.projected(projection)?;
        let schema = match projection {
            None => Arc::clone(&self.schema),
            Some(indices) => Arc::new(self.schema.project(indices)?),
        };
        let found = match self.reads_nothing(filters) {
            // To find the visible rows takes reading.
            Ok(true) => Ok((None, Some(0))),
            Ok(false) => self.selection(state).await.map(|selection| {
                let visible = selection.as_ref().map(|selection| selection.visible());
                (selection, visible)
            }),
            Err(error) => Err(error),
        };
        let (selection, visible) =
            found.map_err(|error| conceal(&error, &self.dataset, &self.table))?;
        let plan = self
            .visible_rows(selection.as_ref())
            .and_then(|rows| self.inner_plan(rows, &shown, None, filters));
        let scan = self.scan_of(state, plan, schema, &shown, filters, visible);
        Ok(Arc::new(scan.await?.limited(limit)))
    }

    /// The barrier over a plan of [`Self::inner_plan`].
    pub(super) async fn scan_of(
        &self,
        state: &dyn Session,
        plan: Result<LogicalPlan>,
        schema: SchemaRef,
        shown: &[&Shown],
        filters: &[Expr],
        visible_rows: Option<usize>,
    ) -> Result<PolicyScanExec> {
        let plan = plan.map_err(|error| conceal(&error, &self.dataset, &self.table))?;
        let inner = state
            .create_physical_plan(&plan)
            .await
            .map_err(|error| conceal(&error, &self.dataset, &self.table))?;
        let about = About {
            dataset: self.dataset.clone(),
            table: self.table.clone(),
            filters: filters.iter().map(ToString::to_string).collect(),
            all_rows: self.all_rows && self.mode == Mode::Row,
            visible_rows,
            plain: shown
                .iter()
                .map(|shown| shown.visible.how == How::Plain)
                .collect(),
            comparable: shown
                .iter()
                .map(|shown| is_simple(&shown.stored_type))
                .collect(),
        };
        PolicyScanExec::try_new(inner, schema, about)
    }

    /// The visible rows, where they are kept.
    async fn selection(&self, state: &dyn Session) -> Result<Option<Arc<Selection>>> {
        let Some(selections) = self.selections.as_ref().filter(|_| !self.all_rows) else {
            return Ok(None);
        };
        let view = View {
            name: self.name.clone(),
            digest: self.digest,
            rows: &self.rows,
        };
        selections.of(state, &view).await
    }

    /// The plan of the visible rows with all stored columns.
    fn visible_rows(&self, selection: Option<&Arc<Selection>>) -> Result<LogicalPlan> {
        let Some(selection) = selection else {
            return Ok(self.rows.clone());
        };
        let plain = self
            .columns
            .iter()
            .filter(|shown| shown.visible.how == How::Plain);
        let plain = plain.map(|shown| shown.visible.field.name().clone());
        let rows = Selected::new(
            Arc::clone(&self.source),
            Arc::clone(selection),
            plain.collect(),
        );
        LogicalPlanBuilder::scan(TABLE, provider_as_source(Arc::new(rows)), None)?.build()
    }

    /// The filters over the stored columns.
    fn stored_filters(&self, filters: &[Expr]) -> Result<Vec<Expr>> {
        let stored = |filter| {
            below(filter, &self.columns).ok_or_else(|| {
                DataFusionError::Plan("a filter that must stay above the barrier came below".into())
            })
        };
        filters.iter().map(stored).collect()
    }

    /// True where no row can pass both the habilitation's conditions and the filters. Rows that are
    /// kept as bits have passed those, and know them no more.
    fn reads_nothing(&self, filters: &[Expr]) -> Result<bool> {
        let known = self
            .columns
            .iter()
            .filter(|shown| matches!(shown.visible.how, How::Plain | How::Masked(Mask::Year)));
        let known = known.map(|shown| shown.visible.field.name().as_str());
        contradict(&self.rows, &self.stored_filters(filters)?, &known.collect())
    }

    /// `rows` filtered, and of these the columns that are shown, then the person's key if asked.
    pub(super) fn inner_plan(
        &self,
        rows: LogicalPlan,
        shown: &[&Shown],
        person: Option<Expr>,
        filters: &[Expr],
    ) -> Result<LogicalPlan> {
        let mut plan = LogicalPlanBuilder::from(rows);
        for filter in self.stored_filters(filters)? {
            plan = plan.filter(filter)?;
        }
        if self.reads_nothing(filters)? {
            plan = plan.filter(lit(false))?;
        }
        let columns: Result<Vec<Expr>> = shown
            .iter()
            .map(|shown| {
                let name = shown.visible.field.name();
                match (&shown.visible.how, &shown.cipher) {
                    (How::Plain, _) => Ok(stored(shown)),
                    (How::Pseudonym(_) | How::Masked(Mask::HashPerProject), Some(cipher)) => {
                        Ok(reveal::pseudonym(stored(shown), cipher.clone()).alias(name))
                    }
                    (How::Pseudonym(_) | How::Masked(Mask::HashPerProject), None) => {
                        Err(DataFusionError::Plan(
                            "a column that is shown re-keyed has no cipher".to_owned(),
                        ))
                    }
                    (How::Masked(mask), _) => {
                        Ok(reveal::masked(stored(shown), *mask, &shown.stored_type)?.alias(name))
                    }
                }
            })
            .collect();
        plan.project(columns?.into_iter().chain(person))?.build()
    }
}

/// The declared primary key by the positions of its columns; none where one of them is not
/// shown, or shows something else than what is stored.
fn key(table: &Table, visible: &[Visible]) -> Option<Constraints> {
    let position = |name: &String| {
        visible
            .iter()
            .position(|shown| shown.field.name() == name && !matches!(shown.how, How::Masked(_)))
    };
    let key: Vec<usize> = table
        .primary_key
        .iter()
        .map(position)
        .collect::<Option<_>>()?;
    let key = Constraint::PrimaryKey(key);
    (!table.primary_key.is_empty()).then(|| Constraints::new_unverified(vec![key]))
}

#[async_trait]
impl TableProvider for PolicyTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn constraints(&self) -> Option<&Constraints> {
        if self.key.is_some() {
            return self.key.as_ref();
        }
        // Constraints name columns by position, which a subset of the columns would shift.
        let whole = self.columns.len() == self.source.schema().fields().len();
        if self.is_unrestricted() && whole {
            self.source.constraints()
        } else {
            None
        }
    }

    fn get_logical_plan(&'_ self) -> Option<Cow<'_, LogicalPlan>> {
        // Inlining a plan would dissolve the barrier.
        None
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let args = ScanArgs::default()
            .with_projection(projection.map(Vec::as_slice))
            .with_filters(Some(filters))
            .with_limit(limit);
        Ok(self.scan_with_args(state, args).await?.into_inner())
    }

    async fn scan_with_args<'a>(
        &self,
        state: &dyn Session,
        args: ScanArgs<'a>,
    ) -> Result<ScanResult> {
        if self.is_unrestricted() {
            let projection = self.source_projection(args.projection())?;
            let args = args.with_projection(Some(&projection));
            return self.source.scan_with_args(state, args).await;
        }
        if self.persons.is_some() {
            // Only `PersonRows` may read it, of which nothing but aggregates is published.
            let dataset = self.dataset.clone();
            let refused = PolicyError::AggregateOnly { dataset };
            return Err(DataFusionError::External(Box::new(refused)));
        }
        let filters = args.filters().unwrap_or(&[]);
        let plan = self
            .scan_restricted(state, args.projection(), filters, args.limit())
            .await?;
        Ok(ScanResult::new(plan))
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        if self.is_unrestricted() {
            return self.source.supports_filters_pushdown(filters);
        }
        Ok(self.pushed_down(filters))
    }

    fn statistics(&self) -> Option<Statistics> {
        if !self.is_unrestricted() {
            return None;
        }
        let indices = self.source_projection(None).ok()?;
        Some(self.source.statistics()?.project(Some(&indices)))
    }
}

fn digest(
    sources: &dyn Sources,
    habilitation: &Habilitation,
    granted: &GrantedTable,
    keys: &LinkageKeys,
    opposed: Option<[u8; 32]>,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    // The derived text forms cover every field, also those added later.
    part(format!("{:?}", granted.dataset).as_bytes());
    part(format!("{habilitation:?}").as_bytes());
    part(granted.table.name.as_bytes());
    part(format!("{:?}", granted.source.schema()).as_bytes());
    part(&keys.cipher("").fingerprint());
    if let Some(Cohort { dataset, .. }) = &habilitation.persons {
        part(format!("{:?}", sources.dataset(dataset)).as_bytes());
    }
    if let Some(opposed) = opposed {
        part(&opposed);
    }
    hash.finalize().into()
}
