//! Rows that are only counted, and the plans that may be made of them before they are.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::{Column, Dependency, JoinType, TableReference};
use datafusion::error::Result;
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Aggregate, Expr, Filter, Join, LogicalPlan, Operator, Projection, Subquery, SubqueryAlias,
};

use super::expressions::{check, check_labels, named};
use super::{PERSON, refused};

/// A plan whose rows describe persons. It carries the person's key in a column that no SQL can
/// name, because names were resolved before it was added.
#[derive(Clone, Debug)]
pub struct Rows {
    pub plan: LogicalPlan,
    pub person: Column,
    pub identifiers: BTreeSet<Column>,
    /// Sets of columns whose values belong to one person each: the person's own identifier, the
    /// key of a stay, …
    pub keys: Vec<BTreeSet<Column>>,
    /// Sets of columns of which each row has values of its own.
    pub unique: Vec<BTreeSet<Column>>,
    /// Two tables came together and nothing says yet that they speak of the same person.
    pub unlinked: Option<Unlinked>,
    pub persons_min: u32,
    /// Joins with other rows of the same persons.
    pub joins: u32,
    /// Those of them in which both sides may meet several rows of the other.
    pub multiplied: u32,
    pub dataset: String,
}

/// Joins below one aggregate.
pub const JOINS_MAX: u32 = 4;
/// Joins below one aggregate in which the rows of a person multiply. With each the time that an
/// answer takes grows by as many times as somebody has rows, which would tell that they are in it.
pub const MULTIPLIED_MAX: u32 = 1;

/// Both sides of a join that has no condition yet (`FROM a, b WHERE …`).
#[derive(Clone, Debug)]
pub struct Unlinked {
    left: Side,
    right: Side,
}

/// What a join needs to know of a side.
#[derive(Clone, Debug)]
struct Side {
    columns: BTreeSet<Column>,
    keys: Vec<BTreeSet<Column>>,
    unique: Vec<BTreeSet<Column>>,
}

impl Rows {
    pub fn is_identifier(&self, column: &Column) -> bool {
        self.identifiers.contains(column)
    }

    /// True where all rows with the same value of a column are of one person.
    pub fn leads_to_one(&self, column: &Column) -> bool {
        let alone = BTreeSet::from([column.clone()]);
        self.keys.contains(&alone)
    }

    /// Refuses tables that were put side by side and never linked.
    pub fn linked(self) -> Result<Self> {
        match self.unlinked {
            None => Ok(self),
            Some(_) => refused(
                "tables about persons are joined on an identifier that both have \
                 (`a.ben_idt = b.ben_idt`, or the whole key of a stay)",
            ),
        }
    }

    pub fn project(self, projection: &Projection) -> Result<Self> {
        let rows = self.linked()?;
        let mut renamed: Vec<(Column, Column)> = Vec::new();
        for (expr, (qualifier, field)) in projection.expr.iter().zip(projection.schema.iter()) {
            match named(expr) {
                Some(from) => {
                    renamed.push((from.clone(), Column::new(qualifier.cloned(), field.name())));
                }
                None => check(expr, &rows)?,
            }
        }
        let mut exprs = projection.expr.clone();
        exprs.push(Expr::Column(rows.person.clone()));
        let plan = Projection::try_new(exprs, Arc::new(rows.plan.clone()))?;
        Ok(Self {
            plan: LogicalPlan::Projection(plan),
            ..rows.renamed(&renamed)
        })
    }

    /// What is known of the columns, under the names that they have above.
    fn renamed(self, names: &[(Column, Column)]) -> Self {
        let all = |old: &Column| {
            let found = names.iter().filter(|(from, _)| from == old);
            found.map(|(_, to)| to.clone()).collect::<Vec<_>>()
        };
        let key = |key: &BTreeSet<Column>| {
            let new: BTreeSet<Column> = key
                .iter()
                .filter_map(|old| all(old).into_iter().next())
                .collect();
            (new.len() == key.len()).then_some(new)
        };
        Self {
            identifiers: self.identifiers.iter().flat_map(all).collect(),
            keys: self.keys.iter().filter_map(key).collect(),
            unique: self.unique.iter().filter_map(key).collect(),
            ..self
        }
    }

    pub fn alias(self, alias: &TableReference) -> Result<Self> {
        let rows = self.linked()?;
        let fields = rows.plan.schema().columns();
        let names: Vec<(Column, Column)> = fields
            .into_iter()
            .map(|column| {
                let above = Column::new(Some(alias.clone()), column.name.clone());
                (column, above)
            })
            .collect();
        let plan = SubqueryAlias::try_new(Arc::new(rows.plan.clone()), alias.clone())?;
        let person = Column::new(Some(alias.clone()), PERSON);
        Ok(Self {
            plan: LogicalPlan::SubqueryAlias(plan),
            person,
            ..rows.renamed(&names)
        })
    }

    /// `subqueries` gives the plan of a subquery of `IN`, checked against the identifier.
    pub fn filter(
        mut self,
        predicate: &Expr,
        subqueries: &dyn Fn(&Rows, &InSubquery) -> Result<Members>,
    ) -> Result<Self> {
        let mut conditions = Vec::new();
        let mut links = Vec::new();
        for condition in split_conjunction(predicate) {
            if let Some(pair) = self.link(condition)? {
                links.push(pair);
                conditions.push(condition.clone());
                continue;
            }
            let (condition, persons_min) = self.condition(condition, subqueries)?;
            self.persons_min = self.persons_min.max(persons_min);
            conditions.push(condition);
        }
        if let Some(unlinked) = self
            .unlinked
            .take_if(|unlinked| unlinked.is_linked_by(&links, &self.identifiers))
        {
            self = self.met(&unlinked, &links)?;
        }
        let Some(predicate) = conjunction(conditions) else {
            return Ok(self);
        };
        let plan = Filter::try_new(predicate, Arc::new(self.plan.clone()))?;
        Ok(Self {
            plan: LogicalPlan::Filter(plan),
            ..self
        })
    }

    /// Both columns of `column = column`, of identifiers or of neither.
    fn link(&self, condition: &Expr) -> Result<Option<(Column, Column)>> {
        let Expr::BinaryExpr(binary) = condition else {
            return Ok(None);
        };
        let (Expr::Column(left), Expr::Column(right)) =
            (binary.left.as_ref(), binary.right.as_ref())
        else {
            return Ok(None);
        };
        let alike = self.is_identifier(left) == self.is_identifier(right);
        if binary.op != Operator::Eq || !alike {
            return Ok(None);
        }
        if !self.is_identifier(left) {
            check(condition, self)?;
        }
        Ok(Some((left.clone(), right.clone())))
    }

    /// The condition as it is evaluated, and how many persons a cell needs for its sake.
    fn condition(
        &self,
        condition: &Expr,
        subqueries: &dyn Fn(&Rows, &InSubquery) -> Result<Members>,
    ) -> Result<(Expr, u32)> {
        match condition {
            Expr::InSubquery(inside) => {
                let Members { plan, persons_min } = subqueries(self, inside)?;
                let outer = &inside.subquery.outer_ref_columns;
                if !outer.is_empty() {
                    return refused(
                        "a subquery below an aggregate cannot refer to the query around it",
                    );
                }
                let tested = InSubquery::new(
                    inside.expr.clone(),
                    Subquery {
                        subquery: Arc::new(plan),
                        ..inside.subquery.clone()
                    },
                    inside.negated,
                );
                let tested = Expr::InSubquery(tested);
                if !named(&inside.expr).is_some_and(|column| self.is_identifier(column)) {
                    return Ok((tested, persons_min));
                }
                // A row without it would be kept by `NOT IN` where the subquery finds nobody at
                // all, which may hang on one person.
                let known = inside.expr.as_ref().clone().is_not_null();
                Ok((tested.and(known), persons_min))
            }
            Expr::IsNull(inner) | Expr::IsNotNull(inner)
                if named(inner).is_some_and(|column| self.is_identifier(column)) =>
            {
                Ok((condition.clone(), 0))
            }
            other => {
                check(other, self)?;
                Ok((other.clone(), 0))
            }
        }
    }

    /// What is unique in the rows of a join on these links, and whether they multiply.
    fn met(mut self, sides: &Unlinked, links: &[(Column, Column)]) -> Result<Self> {
        let Unlinked { left, right } = sides;
        let meets_one_left = left.has_one_for(right, links);
        let meets_one_right = right.has_one_for(left, links);
        if !meets_one_left && !meets_one_right {
            self.multiplied += 1;
        }
        if self.multiplied > MULTIPLIED_MAX {
            return refused(format!(
                "rows about persons may meet several of each other in {MULTIPLIED_MAX} join below \
                 an aggregate; join on the whole primary key of one of the tables, test with `IN \
                 (SELECT …)` or aggregate by person first"
            ));
        }
        let pairs = left.unique.iter().flat_map(|left| {
            let both = |right: &BTreeSet<Column>| left.union(right).cloned().collect();
            right.unique.iter().map(both)
        });
        self.unique = pairs.collect();
        if meets_one_right {
            self.unique.extend(left.unique.iter().cloned());
        }
        if meets_one_left {
            self.unique.extend(right.unique.iter().cloned());
        }
        Ok(self)
    }

    fn side(&self) -> Side {
        Side {
            columns: self.plan.schema().columns().into_iter().collect(),
            keys: self.keys.clone(),
            unique: self.unique.clone(),
        }
    }

    /// Joins two sets of rows about persons. Rows of different persons never meet.
    pub fn join(self, other: Self, join: &Join) -> Result<Self> {
        let (left, right) = (self.linked()?, other.linked()?);
        if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
            return refused(format!(
                "a {} join below an aggregate is not available; write an inner or left join",
                join.join_type
            ));
        }
        let joins = left.joins + right.joins + 1;
        if joins > JOINS_MAX {
            return refused(format!(
                "at most {JOINS_MAX} joins of rows about persons are available below an \
                 aggregate; test with `IN (SELECT …)` or aggregate by person first"
            ));
        }
        let persons_min = left.persons_min.max(right.persons_min);
        let both = Self {
            plan: LogicalPlan::Join(join.clone()),
            person: left.person.clone(),
            identifiers: left
                .identifiers
                .union(&right.identifiers)
                .cloned()
                .collect(),
            keys: left.keys.iter().chain(&right.keys).cloned().collect(),
            unique: Vec::new(),
            unlinked: None,
            persons_min,
            joins,
            multiplied: left.multiplied + right.multiplied,
            dataset: left.dataset.clone(),
        };
        let pairs = join.on.iter().map(|(a, b)| a.clone().eq(b.clone()));
        let mut links = Vec::new();
        let filter: Vec<&Expr> = join.filter.iter().flat_map(split_conjunction).collect();
        for condition in pairs.collect::<Vec<_>>().iter().chain(filter) {
            match both.link(condition)? {
                Some(pair) => links.push(pair),
                None => check(condition, &both)?,
            }
        }
        let unlinked = Unlinked {
            left: left.side(),
            right: right.side(),
        };
        let is_cross = join.on.is_empty() && join.filter.is_none();
        let linked = unlinked.is_linked_by(&links, &both.identifiers);
        if !linked && !is_cross {
            return Self {
                unlinked: Some(unlinked),
                ..both
            }
            .linked();
        }
        let mut on = join.on.clone();
        on.push((
            Expr::Column(left.person.clone()),
            Expr::Column(right.person.clone()),
        ));
        let plan = rejoined(join, left.plan, right.plan, on)?;
        let plan = without(plan, &right.person)?;
        let both = Self { plan, ..both };
        if linked {
            return both.met(&unlinked, &links);
        }
        Ok(Self {
            unlinked: Some(unlinked),
            ..both
        })
    }

    /// Joins a table that describes no person: labels.
    pub fn join_public(self, public: LogicalPlan, join: &Join, rows_left: bool) -> Result<Self> {
        let keeps = if rows_left {
            JoinType::Left
        } else {
            JoinType::Right
        };
        if join.join_type != JoinType::Inner && join.join_type != keeps {
            return refused(
                "a join with a table of labels keeps the rows about persons; write an inner or left join",
            );
        }
        check_labels(&public)?;
        if !has_key_of(&public, join) {
            return refused(
                "tables of labels are joined on their whole primary key (`l.code = s.code`), so \
                 that each row has one label; a table without a declared key cannot be joined",
            );
        }
        let (left, right) = if rows_left {
            (self.plan.clone(), public)
        } else {
            (public, self.plan.clone())
        };
        let plan = rejoined(join, left, right, join.on.clone())?;
        let both = Self { plan, ..self };
        for (a, b) in &join.on {
            check(a, &both)?;
            check(b, &both)?;
        }
        join.filter
            .iter()
            .try_for_each(|filter| check(filter, &both))?;
        Ok(both)
    }

    /// Groups by person first: `SELECT ben_idt, count(*) … GROUP BY ben_idt`, to be counted
    /// above. None where the groups hold several persons.
    pub fn per_person(&self, aggregate: &Aggregate) -> Result<Option<Self>> {
        let groups: BTreeSet<Column> = aggregate
            .group_expr
            .iter()
            .filter_map(named)
            .cloned()
            .collect();
        if !self.keys.iter().any(|key| key.is_subset(&groups)) {
            return Ok(None);
        }
        let is_known = |expr: &Expr| named(expr).is_some();
        for expr in aggregate.group_expr.iter().filter(|expr| !is_known(expr)) {
            check(expr, self)?;
        }
        for expr in &aggregate.aggr_expr {
            super::measures::check_per_person(expr, self)?;
        }
        let names: Vec<(Column, Column)> = aggregate
            .group_expr
            .iter()
            .zip(aggregate.schema.columns())
            .filter_map(|(expr, above)| Some((named(expr)?.clone(), above)))
            .collect();
        let mut groups = aggregate.group_expr.clone();
        groups.push(Expr::Column(self.person.clone()));
        let input = Arc::new(self.plan.clone());
        let plan = Aggregate::try_new(input, groups, aggregate.aggr_expr.clone())?;
        let group = names.iter().map(|(_, above)| above.clone()).collect();
        let is_whole = names.len() == aggregate.group_expr.len();
        Ok(Some(Self {
            plan: LogicalPlan::Aggregate(plan),
            unique: is_whole.then_some(group).into_iter().collect(),
            ..self.clone().renamed(&names)
        }))
    }
}

impl Unlinked {
    /// True where whole keys of both sides are equal, so that a pair of rows is one person's.
    /// Keys without an identifier may be equal in datasets that nobody linked.
    fn is_linked_by(&self, links: &[(Column, Column)], identifiers: &BTreeSet<Column>) -> bool {
        let linked = |left: &BTreeSet<Column>, right: &BTreeSet<Column>| {
            left.iter().all(|column| {
                links.iter().any(|(a, b)| {
                    (a == column && right.contains(b)) || (b == column && right.contains(a))
                })
            })
        };
        self.left.keys.iter().any(|left| {
            let mut right = self.right.keys.iter();
            right.any(|right| left.len() == right.len() && linked(left, right))
                && left.iter().any(|column| identifiers.contains(column))
        })
    }
}

impl Side {
    /// True where a row of the other side meets at most one of this: a set of unique columns is
    /// compared with columns of the other.
    fn has_one_for(&self, other: &Self, links: &[(Column, Column)]) -> bool {
        let compared = |column: &Column| {
            links.iter().any(|(a, b)| {
                (a == column && other.columns.contains(b))
                    || (b == column && other.columns.contains(a))
            })
        };
        let mut unique = self.unique.iter();
        unique.any(|columns| columns.iter().all(compared))
    }
}

/// The plan of a subquery of `IN`.
pub struct Members {
    pub plan: LogicalPlan,
    /// How many persons a cell needs where it is asked of them.
    pub persons_min: u32,
}

/// True where a join finds at most one label for each row: it compares a whole key of theirs
/// with columns of the rows.
fn has_key_of(labels: &LogicalPlan, join: &Join) -> bool {
    let schema = labels.schema();
    let label = |expr: &Expr| named(expr).and_then(|column| schema.maybe_index_of_column(column));
    let pairs = join.on.iter().map(|(a, b)| (a, b));
    let filter = join.filter.iter().flat_map(split_conjunction);
    let filter = filter.filter_map(|condition| match condition {
        Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
            Some((binary.left.as_ref(), binary.right.as_ref()))
        }
        _ => None,
    });
    let compared: BTreeSet<usize> = pairs
        .chain(filter)
        .filter_map(|(a, b)| match (label(a), label(b)) {
            (Some(index), None) if named(b).is_some() => Some(index),
            (None, Some(index)) if named(a).is_some() => Some(index),
            _ => None,
        })
        .collect();
    schema.functional_dependencies().iter().any(|dependence| {
        let mut key = dependence.source_indices.iter();
        dependence.mode == Dependency::Single && key.all(|index| compared.contains(index))
    })
}

fn rejoined(
    join: &Join,
    left: LogicalPlan,
    right: LogicalPlan,
    on: Vec<(Expr, Expr)>,
) -> Result<LogicalPlan> {
    Ok(LogicalPlan::Join(Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on,
        join.filter.clone(),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        false,
    )?))
}

/// The plan without one column.
fn without(plan: LogicalPlan, column: &Column) -> Result<LogicalPlan> {
    let columns = plan.schema().columns().into_iter();
    let kept = columns
        .filter(|kept| kept != column)
        .map(Expr::Column)
        .collect();
    let plan = Projection::try_new(kept, Arc::new(plan))?;
    Ok(LogicalPlan::Projection(plan))
}
