//! Aggregate mode: what a project may ask that may see aggregates only.
//!
//! The grammar is on plans. Rows about persons may be filtered, projected and joined within a
//! person (`rows`) by expressions that cannot fail (`expressions`), and must then be
//! aggregated by count, sum or avg (`measures`). That aggregate is replaced by one that
//! publishes (`publish`): what comes out of it depends on nobody alone, so that anything may
//! be done with it above (HAVING, ORDER BY, arithmetic, joins of results).
//!
//! A cell is published where enough distinct persons are in it and contribute to the measure:
//! `persons_min` of its dataset and up to [`cell::MARGIN`] more, which depends on who they are.
//! The values of those who bring most are cut to what the last of so many brings (dominance),
//! and the sum carries noise in units of it that depends on who is in it with what alone
//! ([`noise`]). All other cells become one row of NULLs, without their keys and their number,
//! which is there when there are none, too.
//!
//! A condition needs no test of its own that it selects enough persons and leaves enough
//! behind: ARCHITECTURE.md says why.
//!
//! What remains. Noise of bounded variance cannot withstand unlimited answers: whoever may ask
//! for many different supersets of one person, each with and without that person, averages
//! the noise of the differences away (Dinur and Nissim, "Revealing information while preserving
//! privacy", PODS 2003; Asghar and Kaafar, "Averaging attacks on bounded noise-based disclosure
//! control algorithms", PoPETs 2020). Therefore answers are limited, traced and reviewed. Two
//! projects that collude see the same noise, so that together they learn no more than one. Who
//! varies the values of the same persons averages the layer that depends on values away. What is
//! left is the layer of the persons, which two sums over the same ones share: their difference
//! then tells what a single person brings to one and not to the other, after some hundreds of
//! answers. A budget for each set of persons would not stop that, since every pair of sums may be
//! asked of another set that holds the one; only all answers together can be counted, and are.
//! How long an answer takes depends on the rows that it reads, and so does whether it comes in
//! time. One join may multiply the rows of a person ([`rows::MULTIPLIED_MAX`]), and answers leave
//! the hub at coarse steps of time, which the caller sees to.

mod casts;
mod cell;
mod expressions;
mod functions;
mod marked;
mod measures;
pub mod noise;
mod publish;
mod rows;

pub use cell::MARGIN;
pub use marked::published;

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::{
    Expr, JoinType, LogicalPlan, LogicalPlanBuilder, Subquery, TableScan, TableScanBuilder,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;

use crate::barrier::{PersonRows, PolicyTable};
use crate::error::PolicyError;
use expressions::named;
use rows::{Members, Rows};

/// Name of the column with the person's key; SQL names are resolved before it exists.
pub const PERSON: &str = "hub:person";

/// The plan with every aggregate over protected tables published; the same plan where it reads
/// none. To be called once, before optimisation, on a plan whose names are resolved.
///
/// # Errors
/// [`PolicyError::AggregateOnly`] where protected rows would show, and [`DataFusionError::Plan`]
/// where something is done with them that is not available, with what to ask instead.
pub fn protect(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut protected = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && protected_table(scan)?.is_some()
        {
            protected = true;
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !protected {
        return Ok(plan);
    }
    // Casts that types ask for may fail on values as written ones do: let them be seen first.
    let plan = TypeCoercion::new().analyze(plan, &ConfigOptions::default())?;
    open(visit(&functions::guarded(plan)?)?)
}

/// How many aggregates a plan publishes, each for all of its groups.
pub fn answers(plan: &LogicalPlan) -> Result<u32> {
    let mut answers = 0_u32;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Aggregate(aggregate) = node {
            let published = aggregate
                .aggr_expr
                .iter()
                .filter(|expr| cell::is_published(expr));
            // One of them tells whether a cell is large.
            let measures = published.count().saturating_sub(1);
            answers = answers.saturating_add(u32::try_from(measures).unwrap_or(u32::MAX));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(answers)
}

/// What a part of a plan shows.
enum Part {
    /// Published aggregates, and tables of other modes.
    Open(LogicalPlan),
    /// Labels: a table of a protected dataset that leads to no person.
    Public(LogicalPlan),
    Rows(Box<Rows>),
}

pub(crate) fn refused<T>(what: impl Into<String>) -> Result<T> {
    Err(DataFusionError::Plan(what.into()))
}

/// A part of which everything may be seen.
fn open(part: Part) -> Result<LogicalPlan> {
    match part {
        Part::Open(plan) | Part::Public(plan) => Ok(plan),
        Part::Rows(rows) => {
            let dataset = rows.dataset;
            let refused = PolicyError::AggregateOnly { dataset };
            Err(DataFusionError::External(Box::new(refused)))
        }
    }
}

fn visit(plan: &LogicalPlan) -> Result<Part> {
    match plan {
        LogicalPlan::TableScan(scan) => self::scan(scan),
        LogicalPlan::Aggregate(aggregate) => match visit(&aggregate.input)? {
            Part::Rows(rows) => {
                let rows = rows.linked()?;
                match rows.per_person(aggregate)? {
                    Some(rows) => Ok(Part::Rows(Box::new(rows))),
                    None => publish::publish(rows, aggregate).map(Part::Open),
                }
            }
            other => above(plan, vec![other]).map(Part::Open),
        },
        LogicalPlan::Projection(projection) => match visit(&projection.input)? {
            Part::Rows(rows) => Ok(Part::Rows(Box::new(rows.project(projection)?))),
            other => same(plan, other),
        },
        LogicalPlan::Filter(filter) => match visit(&filter.input)? {
            Part::Rows(rows) => {
                let rows = rows.filter(&filter.predicate, &members)?;
                Ok(Part::Rows(Box::new(rows)))
            }
            other => same(plan, other),
        },
        LogicalPlan::SubqueryAlias(alias) => match visit(&alias.input)? {
            Part::Rows(rows) => Ok(Part::Rows(Box::new(rows.alias(&alias.alias)?))),
            other => same(plan, other),
        },
        LogicalPlan::Join(join) => match (visit(&join.left)?, visit(&join.right)?) {
            (Part::Rows(left), Part::Rows(right)) => {
                Ok(Part::Rows(Box::new(left.join(*right, join)?)))
            }
            (Part::Rows(rows), Part::Public(labels)) => {
                Ok(Part::Rows(Box::new(rows.join_public(labels, join, true)?)))
            }
            (Part::Public(labels), Part::Rows(rows)) => {
                Ok(Part::Rows(Box::new(rows.join_public(labels, join, false)?)))
            }
            (Part::Rows(_), Part::Open(_)) | (Part::Open(_), Part::Rows(_)) => refused(
                "rows that may only be counted are joined with each other and with tables of \
                 labels; aggregate them first to join them with anything else",
            ),
            (Part::Public(left), Part::Public(right)) if join.join_type == JoinType::Inner => {
                let inputs = vec![Part::Public(left), Part::Public(right)];
                above(plan, inputs).map(Part::Public)
            }
            (left, right) => above(plan, vec![left, right]).map(Part::Open),
        },
        other => {
            let inputs: Vec<Part> = other
                .inputs()
                .into_iter()
                .map(visit)
                .collect::<Result<_>>()?;
            above(other, inputs).map(Part::Open)
        }
    }
}

/// A node that keeps what its one input is.
fn same(plan: &LogicalPlan, input: Part) -> Result<Part> {
    let public = matches!(input, Part::Public(_));
    let plan = above(plan, vec![input])?;
    Ok(if public {
        Part::Public(plan)
    } else {
        Part::Open(plan)
    })
}

/// A node above what may be seen: anything goes, its subqueries included where they may be seen.
fn above(plan: &LogicalPlan, inputs: Vec<Part>) -> Result<LogicalPlan> {
    let inputs: Vec<LogicalPlan> = inputs.into_iter().map(open).collect::<Result<_>>()?;
    let expressions = plan.expressions().into_iter();
    let expressions = expressions.map(|expr| Ok(expr.transform(subquery)?.data));
    plan.with_new_exprs(expressions.collect::<Result<_>>()?, inputs)?
        .recompute_schema()
}

fn subquery(expr: Expr) -> Result<Transformed<Expr>> {
    let inner = |subquery: &Subquery| -> Result<Subquery> {
        Ok(Subquery {
            subquery: Arc::new(open(visit(&subquery.subquery)?)?),
            ..subquery.clone()
        })
    };
    Ok(match expr {
        Expr::ScalarSubquery(query) => Transformed::yes(Expr::ScalarSubquery(inner(&query)?)),
        Expr::Exists(mut exists) => {
            exists.subquery = inner(&exists.subquery)?;
            Transformed::yes(Expr::Exists(exists))
        }
        Expr::InSubquery(mut inside) => {
            inside.subquery = inner(&inside.subquery)?;
            Transformed::yes(Expr::InSubquery(inside))
        }
        Expr::SetComparison(_) => return refused("ANY and ALL are not available here"),
        other => Transformed::no(other),
    })
}

/// The plan of `identifier IN (SELECT identifier …)`, or of `column IN (SELECT label …)`. An
/// identifier there is one that leads to one person, on both sides: whether a row is kept then
/// depends on the rows of its own person alone. That of a hospital is shared by many, all of whom
/// would be kept for the sake of one.
fn members(rows: &Rows, inside: &InSubquery) -> Result<Members> {
    let Some(tested) = named(&inside.expr) else {
        return refused("`IN (SELECT …)` below an aggregate tests a column");
    };
    let is_identifier = rows.is_identifier(tested);
    if is_identifier && !rows.leads_to_one(tested) {
        return refused(SHARED);
    }
    match visit(&inside.subquery.subquery)? {
        Part::Public(labels) if !is_identifier => {
            expressions::check_labels(&labels)?;
            Ok(Members {
                plan: labels,
                persons_min: 0,
            })
        }
        Part::Rows(others) if is_identifier => {
            let others = others.linked()?;
            let persons_min = others.persons_min;
            let shown = others.plan.schema().columns();
            let shown: Vec<Column> = shown
                .into_iter()
                .filter(|column| column.name != PERSON)
                .collect();
            match shown.as_slice() {
                [one] if others.is_identifier(one) => {
                    if !others.leads_to_one(one) {
                        return refused(SHARED);
                    }
                    // One NULL among them, which one person can bring, empties every `NOT IN`.
                    let plan = LogicalPlanBuilder::from(others.plan)
                        .filter(Expr::Column(one.clone()).is_not_null())?
                        .project(vec![Expr::Column(one.clone())])?
                        .build()?;
                    Ok(Members { plan, persons_min })
                }
                _ => refused("`IN (SELECT …)` compares an identifier with an identifier"),
            }
        }
        _ => refused(
            "`IN (SELECT …)` below an aggregate compares an identifier with an identifier of \
             protected rows, or a column with labels",
        ),
    }
}

const SHARED: &str = "`IN (SELECT …)` below an aggregate compares an identifier that leads to one \
                      person, as the person's own; join on the others";

fn protected_table(scan: &TableScan) -> Result<Option<Arc<PolicyTable>>> {
    let provider = source_as_provider(&scan.source)?;
    let any = provider as Arc<dyn std::any::Any + Send + Sync>;
    let table = any.downcast::<PolicyTable>().ok();
    Ok(table.filter(|table| table.shows_aggregates_only()))
}

fn scan(scan: &TableScan) -> Result<Part> {
    let whole = LogicalPlan::TableScan(scan.clone());
    let Some(table) = protected_table(scan)? else {
        return Ok(Part::Open(whole));
    };
    let Some(rows) = PersonRows::of(&table) else {
        return Ok(Part::Public(whole));
    };
    let persons_min = table.persons_min();
    let qualified = |name: &str| Column::new(Some(scan.table_name.clone()), name);
    let identifiers = table.identifiers().into_iter().map(qualified).collect();
    let keys = table.person_keys().iter();
    let keys = keys.map(|key| key.iter().map(|name| qualified(name)).collect());
    let unique = table.row_key();
    let unique = unique.map(|key| key.into_iter().map(qualified).collect());
    let (dataset, person) = (table.dataset().to_owned(), qualified(PERSON));
    let source = provider_as_source(Arc::new(rows));
    let plan = TableScanBuilder::new(scan.table_name.clone(), source).build()?;
    Ok(Part::Rows(Box::new(Rows {
        plan: LogicalPlan::TableScan(plan),
        person,
        identifiers,
        keys: keys.collect(),
        unique: unique.into_iter().collect(),
        unlinked: None,
        persons_min,
        joins: 0,
        multiplied: 0,
        dataset,
    })))
}
