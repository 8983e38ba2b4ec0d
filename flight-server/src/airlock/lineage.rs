//! What the rows and columns of a query's result are about, told from its plan.
//!
//! The plan is the one that was asked, before aggregates are published and before the optimiser:
//! what is written is what is judged. Whatever is not recognised is a doubt, and a doubt is for
//! a person: a package is released alone only where the plan says that each of its rows counts
//! persons who are alike.

use std::collections::BTreeSet;

use datafusion::common::{Column, DFSchema};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, Join, JoinType, LogicalPlan, Operator, TableScan,
};
use hubflight_policy::table_of;

use crate::catalog::space::SpaceTable;
use crate::error::{Error, Result};
use crate::plan::authorise::providers;

/// What one row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grain {
    /// Labels, constants, and aggregates that were published.
    Public,
    /// Rows that only published aggregates read.
    Protected,
    /// Persons who are counted together.
    Cells,
    /// At most one person, or a table of the space, of which nobody knows.
    Rows,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Plain,
    /// What the persons of a cell have in common.
    Key,
    /// A number of distinct persons.
    Persons,
    /// Another number of rows.
    Count,
    /// A value that was computed of the rows of a cell.
    Measure,
    /// A published aggregate, with its noise.
    Published,
    /// An identifier of something else than a person, as a stay or a recording, or made from one of
    /// either: it may be several for one person, and one for several.
    Identifier,
    /// A person's identifier itself.
    Person,
}

impl Origin {
    pub fn is_identifier(self) -> bool {
        matches!(self, Self::Identifier | Self::Person)
    }
}

/// Why a person has to look, beside what is found in the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    Rows,
    Uncounted,
    Measures,
    Subquery,
    Nested,
    Joined,
    Combined,
    Written,
    Unknown,
}

impl Doubt {
    pub fn text(self) -> &'static str {
        match self {
            Self::Rows => {
                "rows are not counted together, so that each may be about one person; count \
                 persons in groups"
            }
            Self::Uncounted => {
                "no column counts the distinct persons of each row; add \
                 `count(DISTINCT …)` of a person's identifier"
            }
            Self::Measures => {
                "a sum, an average or the like may be the value of one person mostly; counts \
                 alone are released without a second person"
            }
            Self::Subquery => "a subquery stands in an expression; join it, or leave it out",
            Self::Nested => "aggregates are computed of other aggregates; aggregate once",
            Self::Joined => {
                "tables of persons are not joined on the person's identifier, so that a row may \
                 hold what is another's; write `JOIN … ON` with it"
            }
            Self::Combined => {
                "counted rows are joined, united or computed with, or rows look at others through \
                 a window; ask for them as they are counted"
            }
            Self::Written => {
                "values are written in the query itself, where anything can be; leave them out"
            }
            Self::Unknown => "a part of the query is not one that the rules know",
        }
    }
}

/// What a plan's result is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Study {
    pub grain: Grain,
    /// In the order of the plan's schema.
    pub columns: Vec<Origin>,
    pub doubts: BTreeSet<Doubt>,
}

impl Study {
    /// Studies the plan of a query. `describes_persons` tells of a dataset's table whether its
    /// rows lead to persons.
    ///
    /// # Errors
    /// `InvalidArgument` where it reads anything but datasets and the space.
    pub fn of(plan: &LogicalPlan, describes_persons: &dyn Fn(&str, &str) -> bool) -> Result<Self> {
        check_sources(plan)?;
        let mut study = Walk { describes_persons }.visit(plan)?;
        match study.grain {
            Grain::Public => {}
            Grain::Cells => {
                if !study.columns.contains(&Origin::Persons) {
                    study.doubts.insert(Doubt::Uncounted);
                }
                if study.columns.contains(&Origin::Measure) {
                    study.doubts.insert(Doubt::Measures);
                }
            }
            Grain::Protected | Grain::Rows => {
                study.doubts.insert(Doubt::Rows);
            }
        }
        Ok(study)
    }

    fn new(grain: Grain, columns: Vec<Origin>) -> Self {
        Self {
            grain,
            columns,
            doubts: BTreeSet::new(),
        }
    }

    fn doubt(mut self, doubt: Doubt, is_there: bool) -> Self {
        if is_there {
            self.doubts.insert(doubt);
        }
        self
    }

    /// What an expression over the rows is made from.
    fn origin(&self, expr: &Expr, schema: &DFSchema) -> Origin {
        if let Some(column) = renamed(expr) {
            return match self.column(column, schema) {
                Origin::Person if !keeps_apart(expr) => Origin::Identifier,
                origin => origin,
            };
        }
        let made_from = |wanted: fn(Origin) -> bool| {
            let columns = expr.column_refs();
            columns
                .into_iter()
                .any(|column| wanted(self.column(column, schema)))
        };
        if made_from(Origin::is_identifier) {
            Origin::Identifier
        } else if made_from(|origin| {
            matches!(origin, Origin::Persons | Origin::Count | Origin::Measure)
        }) {
            Origin::Measure
        } else if made_from(|origin| origin == Origin::Published) {
            Origin::Published
        } else {
            Origin::Plain
        }
    }

    /// True where which rows there are, or their order, tells of a value of a cell.
    fn measures(&self, expr: &Expr, schema: &DFSchema) -> bool {
        let mut columns = expr.column_refs().into_iter();
        self.grain == Grain::Cells
            && columns.any(|column| self.column(column, schema) == Origin::Measure)
    }

    fn column(&self, column: &Column, schema: &DFSchema) -> Origin {
        let index = schema.maybe_index_of_column(column);
        let origin = index.and_then(|index| self.columns.get(index));
        origin.copied().unwrap_or(Origin::Plain)
    }

    fn origins<'e>(
        &self,
        exprs: impl IntoIterator<Item = &'e Expr>,
        schema: &DFSchema,
    ) -> Vec<Origin> {
        let exprs = exprs.into_iter();
        exprs.map(|expr| self.origin(expr, schema)).collect()
    }
}

/// A column, however it is named or cast.
fn renamed(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => renamed(&alias.expr),
        Expr::Cast(cast) => renamed(&cast.expr),
        _ => None,
    }
}

/// True where a column that is named anew or cast still tells the same values apart, and no
/// others: every identifier has one text.
fn keeps_apart(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Alias(alias) => keeps_apart(&alias.expr),
        Expr::Cast(cast) => cast.field.data_type().is_string() && keeps_apart(&cast.expr),
        _ => false,
    }
}

/// An expression that depends on no row.
fn is_literal(expr: &Expr) -> bool {
    expr.column_refs().is_empty() && !has_subquery(expr)
}

fn has_subquery(expr: &Expr) -> bool {
    use datafusion::common::tree_node::TreeNode;
    let is_subquery = |part: &Expr| {
        Ok(matches!(
            part,
            Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::SetComparison(_)
        ))
    };
    // The closure never fails; were it to, a doubt is right.
    expr.exists(is_subquery).unwrap_or(true)
}

/// Refuses a query that reads anything but datasets and the space, also in a subquery.
fn check_sources(plan: &LogicalPlan) -> Result<()> {
    for provider in providers(plan)? {
        let is_space = (provider.as_ref() as &dyn std::any::Any).is::<SpaceTable>();
        if !is_space && table_of(provider.as_ref()).is_none() {
            return Err(Error::invalid(
                "only what is made from datasets and from schema `space` is exported: leave out \
                 schemas `hub`, `information_schema` and `exports`",
            ));
        }
    }
    Ok(())
}

struct Walk<'a> {
    describes_persons: &'a dyn Fn(&str, &str) -> bool,
}

impl Walk<'_> {
    fn visit(&self, plan: &LogicalPlan) -> Result<Study> {
        let asks = plan.expressions().iter().any(has_subquery);
        let study = self.node(plan)?.doubt(Doubt::Subquery, asks);
        Ok(study)
    }

    fn node(&self, plan: &LogicalPlan) -> Result<Study> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Projection(projection) => {
                let input = self.visit(&projection.input)?;
                let columns = input.origins(&projection.expr, projection.input.schema());
                let is_combined = input.grain == Grain::Cells
                    && projection.expr.iter().any(|expr| {
                        let origin = input.origin(expr, projection.input.schema());
                        origin == Origin::Measure && renamed(expr).is_none()
                    });
                let is_written = projection.expr.iter().any(is_literal);
                let study = Study { columns, ..input };
                Ok(study
                    .doubt(Doubt::Combined, is_combined)
                    .doubt(Doubt::Written, is_written))
            }
            LogicalPlan::Filter(filter) => {
                let input = self.visit(&filter.input)?;
                let is_chosen = input.measures(&filter.predicate, filter.input.schema());
                Ok(input.doubt(Doubt::Measures, is_chosen))
            }
            LogicalPlan::Sort(sort) => {
                let input = self.visit(&sort.input)?;
                let mut keys = sort.expr.iter().map(|key| &key.expr);
                let is_ordered = keys.any(|key| input.measures(key, sort.input.schema()));
                Ok(input.doubt(Doubt::Measures, is_ordered))
            }
            LogicalPlan::Limit(limit) => self.visit(&limit.input),
            LogicalPlan::SubqueryAlias(alias) => self.visit(&alias.input),
            LogicalPlan::Subquery(subquery) => self.visit(&subquery.subquery),
            LogicalPlan::Repartition(repartition) => self.visit(&repartition.input),
            LogicalPlan::Distinct(Distinct::All(input)) => self.visit(input),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Window(window) => {
                let mut study = self.visit(&window.input)?;
                let added = study.origins(&window.window_expr, window.input.schema());
                study.columns.extend(added);
                // Over rows, it puts what is one person's beside another.
                let is_combined = study.grain != Grain::Public;
                Ok(study.doubt(Doubt::Combined, is_combined))
            }
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|input| self.visit(input));
                let inputs = inputs.collect::<Result<Vec<_>>>()?;
                Ok(united(inputs, plan))
            }
            LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
                let columns = plan.schema().fields().len();
                let study = Study::new(Grain::Public, vec![Origin::Plain; columns]);
                Ok(study.doubt(Doubt::Written, true))
            }
            other => self.unknown(other),
        }
    }

    /// Nothing is taken for granted of what is not known: all that is read shows in all columns.
    fn unknown(&self, plan: &LogicalPlan) -> Result<Study> {
        let inputs = plan.inputs().into_iter().map(|input| self.visit(input));
        let study = united(inputs.collect::<Result<Vec<_>>>()?, plan);
        Ok(study.doubt(Doubt::Unknown, true))
    }

    fn scan(&self, scan: &TableScan) -> Result<Study> {
        let provider = source_as_provider(&scan.source)?;
        let fields = scan.projected_schema.fields();
        let plain = || vec![Origin::Plain; fields.len()];
        if (provider.as_ref() as &dyn std::any::Any).is::<SpaceTable>() {
            return Ok(Study::new(Grain::Rows, plain()));
        }
        let Some(table) = table_of(provider.as_ref()) else {
            return self.unknown(&LogicalPlan::TableScan(scan.clone()));
        };
        let (identifiers, persons) = (table.identifiers(), table.identifiers_of_persons());
        let columns = fields.iter().map(|field| {
            let name = field.name().as_str();
            if persons.contains(&name) {
                Origin::Person
            } else if identifiers.contains(&name) {
                Origin::Identifier
            } else {
                Origin::Plain
            }
        });
        let grain = if !(self.describes_persons)(table.dataset(), table.table()) {
            Grain::Public
        } else if table.shows_aggregates_only() {
            Grain::Protected
        } else {
            Grain::Rows
        };
        Ok(Study::new(grain, columns.collect()))
    }

    fn aggregate(&self, aggregate: &Aggregate) -> Result<Study> {
        let input = self.visit(&aggregate.input)?;
        let schema = aggregate.input.schema();
        let keys = input.origins(&aggregate.group_expr, schema);
        // A group for each person, stay or recording is a row about one person.
        let by_identifier = keys.iter().any(|origin| origin.is_identifier());
        let grain = match input.grain {
            Grain::Public => Grain::Public,
            Grain::Protected if by_identifier => Grain::Protected,
            Grain::Protected => Grain::Public,
            Grain::Rows if by_identifier => Grain::Rows,
            Grain::Rows | Grain::Cells => Grain::Cells,
        };
        let key = |origin: Origin| match (origin, grain) {
            (Origin::Plain, Grain::Cells) => Origin::Key,
            (Origin::Plain, Grain::Public) if input.grain == Grain::Protected => Origin::Key,
            (origin, _) => origin,
        };
        let measure = |expr: &Expr| match (input.grain, grain) {
            (Grain::Protected, Grain::Public) => Origin::Published,
            (Grain::Rows, Grain::Cells) => counted(&input, expr, schema),
            (Grain::Cells, _) => Origin::Measure,
            _ => Origin::Plain,
        };
        let mut columns: Vec<Origin> = keys.iter().map(|origin| key(*origin)).collect();
        columns.extend(aggregate.aggr_expr.iter().map(measure));
        // Sets of groups are one expression, with another column, and with keys that are NULL
        // for all.
        let fields = aggregate.schema.fields().len();
        let has_sets = columns.len() != fields;
        if has_sets {
            let worst = match by_identifier {
                true => Origin::Identifier,
                false => Origin::Measure,
            };
            columns = vec![worst; fields];
        }
        let study = Study {
            grain,
            columns,
            doubts: input.doubts,
        };
        let is_nested = input.grain == Grain::Cells;
        Ok(study
            .doubt(Doubt::Unknown, has_sets)
            .doubt(Doubt::Nested, is_nested))
    }

    fn join(&self, join: &Join) -> Result<Study> {
        let (left, right) = (self.visit(&join.left)?, self.visit(&join.right)?);
        let both = |grain| left.grain == grain && right.grain == grain;
        let is_apart = both(Grain::Rows) && !is_within(join, &left, &right);
        let is_combined = left.grain == Grain::Cells || right.grain == Grain::Cells;
        let columns = match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => left.columns,
            JoinType::RightSemi | JoinType::RightAnti => right.columns,
            JoinType::LeftMark => [left.columns, vec![Origin::Plain]].concat(),
            JoinType::RightMark => [right.columns, vec![Origin::Plain]].concat(),
            _ => [left.columns, right.columns].concat(),
        };
        let study = Study {
            grain: left.grain.max(right.grain),
            columns,
            doubts: left.doubts.union(&right.doubts).copied().collect(),
        };
        Ok(study
            .doubt(Doubt::Joined, is_apart)
            .doubt(Doubt::Combined, is_combined))
    }
}

/// What a measure of a cell is, where it is one of rows about persons.
fn counted(input: &Study, expr: &Expr, schema: &DFSchema) -> Origin {
    let expr = match expr {
        Expr::Alias(alias) => alias.expr.as_ref(),
        other => other,
    };
    let Expr::AggregateFunction(call) = expr else {
        return Origin::Measure;
    };
    if call.func.name() != "count" {
        // The largest of identifiers is one.
        let mut made = call.params.args.iter().map(|one| input.origin(one, schema));
        return match made.any(Origin::is_identifier) {
            true => Origin::Identifier,
            false => Origin::Measure,
        };
    }
    // The difference between all of a cell and some of it may be one person.
    let ([one], None) = (call.params.args.as_slice(), &call.params.filter) else {
        return Origin::Measure;
    };
    match renamed(one) {
        Some(_) if call.params.distinct && input.origin(one, schema) == Origin::Person => {
            Origin::Persons
        }
        Some(_) => Origin::Count,
        None if matches!(one, Expr::Literal(..)) => Origin::Count,
        None => Origin::Measure,
    }
}

/// True where rows that are joined lead to the same person. Another identifier is not enough: a
/// hospital has many.
fn is_within(join: &Join, left: &Study, right: &Study) -> bool {
    let identifies = |one: &Expr, other: &Expr| {
        left.origin(one, join.left.schema()) == Origin::Person
            && right.origin(other, join.right.schema()) == Origin::Person
    };
    let equal = |expr: &Expr| match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if *op == Operator::Eq => {
            identifies(left, right) || identifies(right, left)
        }
        _ => false,
    };
    let on = join.on.iter();
    let filters = join.filter.iter().flat_map(split_conjunction);
    on.into_iter().any(|(one, other)| identifies(one, other)) || filters.into_iter().any(equal)
}

/// Rows of several inputs in the same columns.
fn united(inputs: Vec<Study>, plan: &LogicalPlan) -> Study {
    let fields = plan.schema().fields().len();
    let grain = inputs.iter().map(|input| input.grain).max();
    let origin = |index: usize| {
        let mut origins = inputs
            .iter()
            .map(|input| match input.columns.len() == fields {
                true => input.columns.get(index).copied().unwrap_or(Origin::Plain),
                // Not column by column: the worst of all.
                false => worst(&input.columns),
            });
        let first = origins.next().unwrap_or(Origin::Plain);
        origins.fold(first, |one, other| match one == other {
            true => one,
            false => worst(&[one, other]),
        })
    };
    let columns = (0..fields).map(origin).collect();
    let doubts = inputs.iter().flat_map(|input| input.doubts.iter().copied());
    let is_combined = inputs.iter().any(|input| input.grain == Grain::Cells);
    let study = Study {
        grain: grain.unwrap_or(Grain::Rows),
        columns,
        doubts: doubts.collect(),
    };
    study.doubt(Doubt::Combined, is_combined)
}

fn worst(origins: &[Origin]) -> Origin {
    if origins.iter().any(|origin| origin.is_identifier()) {
        Origin::Identifier
    } else {
        Origin::Measure
    }
}
