//! The names of a statement's tree, each looked for in what its own query reads.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, Distinct, ExcludeSelectItem, Expr, FromTable, Function,
    FunctionArguments, GroupByExpr, Ident, Insert, JoinConstraint, JoinOperator, ObjectName,
    ObjectNamePart, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    Statement as Sql, TableAlias, TableFactor, TableObject, TableWithJoins, Update, Value,
    VisitMut, Visitor, VisitorMut, WildcardAdditionalOptions, With,
};

use super::{Names, Spelled, Table};
use crate::catalog::space::names::folded;

/// What the statement itself names: columns.
pub(super) struct Aliases<'a>(pub(super) &'a mut Names);

impl Visitor for Aliases<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.0.alias(&cte.alias);
        }
        // A set has the names of its first rows, which VALUES numbers.
        let mut body = query.body.as_ref();
        while let SetExpr::SetOperation { left, .. } = body {
            body = left;
        }
        if let SetExpr::Values(values) = body {
            let count = values.rows.first().map_or(0, |row| row.content.len());
            for place in 1..=count {
                self.0.made(&format!("column{place}"));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                self.0.columns.add(&folded(alias));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        // A call in FROM that is no name of a table.
        if matches!(factor, TableFactor::Function { .. }) {
            self.0.made(super::MADE);
        }
        if let Some(alias) = alias_of(factor) {
            self.0.alias(alias);
        }
        ControlFlow::Continue(())
    }
}

fn alias_of(factor: &TableFactor) -> Option<&TableAlias> {
    match factor {
        TableFactor::Table { alias, .. }
        | TableFactor::Derived { alias, .. }
        | TableFactor::Function { alias, .. }
        | TableFactor::NestedJoin { alias, .. }
        | TableFactor::UNNEST { alias, .. } => alias.as_ref(),
        _ => None,
    }
}

/// What is read from, for the names before columns.
struct Relation<'a> {
    /// The parts of the name that columns have before them, as SQL reads it.
    name: Vec<String>,
    is_alias: bool,
    /// `None` for a query, and for columns that an alias names.
    table: Option<&'a Table>,
}

impl<'a> Relation<'a> {
    /// What its name stands for.
    fn named(&self) -> Option<&'a Table> {
        self.table.filter(|_| !self.is_alias)
    }
}

/// What one query reads from.
#[derive(Default)]
struct Scope<'a> {
    relations: Vec<Relation<'a>>,
    /// Of all of them, where they are tables; none where one is not, whose columns are not known.
    columns: Spelled,
    /// The names that its SELECT gives, in small letters, once ORDER BY may have them.
    given: HashSet<String>,
    is_set: bool,
}

/// Writes the spellings into a statement.
pub(super) struct Spelling<'a> {
    names: &'a Names,
    /// Names that a WITH around has given so far, which hide tables.
    ctes: Vec<String>,
    /// The WITH of each query around, and how many names there were before it.
    withs: Vec<(Option<With>, usize)>,
    /// From the statement to the innermost query.
    scopes: Vec<Scope<'a>>,
    /// A name that may be a column of a query here or of a table around it.
    pub(super) unclear: Option<String>,
}

impl<'a> Spelling<'a> {
    pub(super) fn of(names: &'a Names) -> Self {
        Self {
            names,
            ctes: Vec::new(),
            withs: Vec::new(),
            scopes: Vec::new(),
            unclear: None,
        }
    }

    /// The table of a name, unless a WITH has it.
    fn table(&self, name: &[String]) -> Option<&'a Table> {
        let is_hidden = matches!(name, [name] if self.ctes.contains(name));
        let names = self.names;
        names.tables.get(name).filter(|_| !is_hidden)
    }

    /// Begins to read from what stands in FROM.
    fn reads<'b>(&mut self, from: impl IntoIterator<Item = &'b TableWithJoins>) {
        let mut relations = Vec::new();
        for from in from {
            self.add_relations(from, &mut relations);
        }
        let mut columns = Spelled::default();
        if relations.iter().all(|relation| relation.table.is_some()) {
            let tables = relations.iter().filter_map(|relation| relation.table);
            for name in tables.flat_map(|table| &table.columns.exact) {
                columns.add(name);
            }
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.relations = relations;
            scope.columns = columns;
        }
    }

    /// Begins with the columns of what rows are for.
    fn writes(&mut self, into: &TableObject) {
        let table = match into {
            TableObject::TableName(name) => self.table(&parts(name)),
            _ => None,
        };
        if let (Some(table), Some(scope)) = (table, self.scopes.last_mut()) {
            scope.columns = table.columns.clone();
        }
    }

    /// Spells a column with nothing before it. Tables have it before the names that a SELECT gives
    /// (`age::INT AS age`), but for ORDER BY, which has those first.
    fn column(&mut self, name: &mut Ident) {
        let Some((scope, around)) = self.scopes.split_last() else {
            return;
        };
        let small = name.value.to_lowercase();
        let mut around = around.iter().filter(|scope| !scope.relations.is_empty());
        if scope.columns.of(name).is_some() && !scope.given.contains(&small) {
            // As it is written, it is a column of a query around.
            if !around.any(|scope| scope.columns.exact.contains(&small)) {
                scope.columns.spell(name);
            }
            return;
        }
        // What a query here gives is not known: it may have either.
        let alike = self.names.columns.by_small.get(&small);
        let is_unclear = name.quote_style.is_none()
            && !self.names.made.contains(&small)
            && alike.is_some_and(|alike| alike.len() > 1)
            && scope.relations.iter().any(|read| read.table.is_none())
            && around.next().is_some();
        match is_unclear {
            true => self.unclear = Some(name.value.clone()),
            false => self.names.columns.spell(name),
        }
    }

    fn add_relations(&self, from: &TableWithJoins, found: &mut Vec<Relation<'a>>) {
        let joined = from.joins.iter().map(|join| &join.relation);
        for factor in std::iter::once(&from.relation).chain(joined) {
            match factor {
                TableFactor::NestedJoin {
                    table_with_joins,
                    alias: None,
                } => self.add_relations(table_with_joins, found),
                factor => found.push(self.relation(factor)),
            }
        }
    }

    fn relation(&self, factor: &TableFactor) -> Relation<'a> {
        let name = match factor {
            TableFactor::Table {
                name, args: None, ..
            } => parts(name),
            _ => Vec::new(),
        };
        let table = self.table(&name);
        match alias_of(factor) {
            Some(alias) => Relation {
                name: vec![folded(&alias.name)],
                is_alias: true,
                table: table.filter(|_| alias.columns.is_empty()),
            },
            None => Relation {
                name,
                is_alias: false,
                table,
            },
        }
    }

    /// What a name before columns stands for, from the innermost query outwards.
    fn relation_of(&self, name: &[String]) -> Option<&Relation<'a>> {
        let scopes = self.scopes.iter().rev();
        let mut relations = scopes.flat_map(|scope| &scope.relations);
        relations.find(|relation| {
            let known = relation.name.as_slice();
            // As the planner has it, a schema before a column is of any table without one.
            let is_longer = !relation.is_alias && !known.is_empty() && name.ends_with(known);
            known.ends_with(name) || is_longer
        })
    }

    /// Spells a column behind the name of its table, or a column and what is inside of it.
    fn compound(&mut self, parts: &mut [Ident]) {
        let Some((column, before)) = parts.split_last_mut() else {
            return;
        };
        let read: Vec<String> = before.iter().map(folded).collect();
        match self.relation_of(&read) {
            Some(relation) => {
                // A query has the columns of what it reads.
                let columns = relation.table.map(|table| &table.columns);
                columns.unwrap_or(&self.names.columns).spell(column);
                if let Some(table) = relation.named() {
                    table.spell(&mut before.iter_mut().collect::<Vec<_>>());
                }
            }
            None => self.inside(parts),
        }
    }

    /// Spells a column and what is inside of it, with its table before it or nothing.
    fn inside(&mut self, parts: &mut [Ident]) {
        let [first, others @ ..] = parts else {
            return;
        };
        let relation = self.relation_of(&[folded(first)]);
        match (relation.map(|relation| relation.table), others.first_mut()) {
            (None, _) => self.column(first),
            (Some(Some(table)), Some(column)) => table.columns.spell(column),
            _ => {}
        }
    }

    fn name(&mut self, name: &mut ObjectName) {
        if let Some(ObjectNamePart::Identifier(column)) = name.0.last_mut() {
            self.column(column);
        }
    }

    fn wildcard(&mut self, options: &mut WildcardAdditionalOptions) {
        match &mut options.opt_exclude {
            Some(ExcludeSelectItem::Single(name)) => self.name(name),
            Some(ExcludeSelectItem::Multiple(names)) => {
                names.iter_mut().for_each(|name| self.name(name));
            }
            None => {}
        }
        if let Some(except) = &mut options.opt_except {
            self.column(&mut except.first_element);
            let others = except.additional_elements.iter_mut();
            others.for_each(|name| self.column(name));
        }
        for item in options
            .opt_replace
            .iter_mut()
            .flat_map(|replace| &mut replace.items)
        {
            self.column(&mut item.column_name);
        }
    }

    fn assigned(&mut self, assignments: &mut [Assignment]) {
        for assignment in assignments {
            match &mut assignment.target {
                AssignmentTarget::ColumnName(name) => self.name(name),
                AssignmentTarget::Tuple(names) => names.iter_mut().for_each(|name| self.name(name)),
            }
        }
    }

    /// The name and value of what an expression asks of the session.
    fn asked_of_session(&self, expr: &Expr) -> Option<(String, Expr)> {
        let name = match expr {
            Expr::Identifier(name) => name,
            Expr::Function(Function { name, args, .. }) => match name.0.as_slice() {
                [ObjectNamePart::Identifier(name)] if is_empty(args) => name,
                _ => return None,
            },
            _ => return None,
        };
        Some((name.value.clone(), self.of_session(name)?))
    }

    /// What clients ask of the session before anything else.
    fn of_session(&self, name: &Ident) -> Option<Expr> {
        let here = self.names.here.as_ref()?;
        let small = name.value.to_lowercase();
        if name.quote_style.is_some() || self.names.columns.by_small.contains_key(&small) {
            return None;
        }
        let value = match small.as_str() {
            "current_schema" => &here.schema,
            "current_catalog" | "current_database" => &here.project,
            "current_user" | "session_user" => &here.person,
            _ => return None,
        };
        Some(Expr::value(Value::SingleQuotedString(value.clone())))
    }
}

impl VisitorMut for Spelling<'_> {
    type Break = ();

    fn pre_visit_relation(&mut self, name: &mut ObjectName) -> ControlFlow<()> {
        if let Some(table) = self.table(&parts(name)) {
            table.place(name);
        }
        ControlFlow::Continue(())
    }

    /// Each query of a WITH sees the names before its own, so that they are visited here; put back
    /// behind the query, they are not visited again.
    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let known = self.ctes.len();
        let mut with = query.with.take();
        if let Some(with) = &mut with {
            for cte in &mut with.cte_tables {
                let name = folded(&cte.alias.name);
                if with.recursive {
                    self.ctes.push(name.clone());
                }
                VisitMut::visit(&mut cte.query, self)?;
                self.ctes.push(name);
            }
        }
        self.withs.push((with, known));
        self.scopes.push(Scope {
            is_set: matches!(query.body.as_ref(), SetExpr::SetOperation { .. }),
            ..Scope::default()
        });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.scopes.pop();
        if let Some((with, known)) = self.withs.pop() {
            query.with = with;
            self.ctes.truncate(known);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        self.reads(&select.from);
        keep_given(select);
        for item in &mut select.projection {
            match item {
                SelectItem::Wildcard(options) => self.wildcard(options),
                SelectItem::QualifiedWildcard(of, options) => {
                    self.wildcard(options);
                    // All columns are those of just the name that FROM has.
                    if let SelectItemQualifiedWildcardKind::ObjectName(name) = of
                        && let Some(relation) = self.relation_of(&parts(name))
                        && let Some(table) = relation.named()
                    {
                        table.place(name);
                    }
                }
                SelectItem::UnnamedExpr(expr) => {
                    // It is called as what was asked.
                    if let Some((name, value)) = self.asked_of_session(expr) {
                        *item = SelectItem::ExprWithAlias {
                            expr: value,
                            alias: Ident::new(name.to_lowercase()),
                        };
                    }
                }
                _ => {}
            }
        }
        for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
            if let Some(JoinConstraint::Using(names)) = constraint(&mut join.join_operator) {
                names.iter_mut().for_each(|name| self.name(name));
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if let Some(scope) = self.scopes.last_mut() {
            let given = select.projection.iter().filter_map(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.to_lowercase()),
                _ => None,
            });
            // A set is ordered by what it gives alone.
            if scope.is_set {
                scope.relations.clear();
                scope.columns = Spelled::default();
            } else {
                scope.given.extend(given);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) => self.column(name),
            Expr::CompoundIdentifier(parts) => self.compound(parts),
            _ => {}
        }
        if let Some((_, value)) = self.asked_of_session(expr) {
            *expr = value;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, statement: &mut Sql) -> ControlFlow<()> {
        self.scopes.push(Scope::default());
        match statement {
            Sql::Insert(Insert {
                table,
                columns,
                assignments,
                ..
            }) => {
                self.writes(table);
                columns.iter_mut().for_each(|name| self.name(name));
                self.assigned(assignments);
            }
            Sql::Update(Update {
                table, assignments, ..
            }) => {
                self.reads(std::iter::once(&*table));
                self.assigned(assignments);
            }
            Sql::Delete(Delete { from, .. }) => {
                let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = from;
                self.reads(&*from);
            }
            Sql::Drop { names, .. } => {
                for name in names {
                    let _: ControlFlow<()> = self.pre_visit_relation(name);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Keeps the names that a SELECT gives where they stand behind it: there, they go before columns of
/// other letters.
fn keep_given(select: &mut Select) {
    let given = select.projection.iter().filter_map(|item| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        _ => None,
    });
    let given: HashSet<String> = given.collect();
    let mut keys: Vec<&mut Expr> = Vec::new();
    if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
        keys.extend(exprs);
    }
    if let Some(Distinct::On(exprs)) = &mut select.distinct {
        keys.extend(exprs);
    }
    // Inside of an expression to group by, a name is a column's.
    keys.retain(|key| matches!(key, Expr::Identifier(_)));
    keys.extend(select.having.iter_mut().chain(&mut select.qualify));
    keys.into_iter().for_each(|key| keep(key, &given));
}

fn keep(expr: &mut Expr, given: &HashSet<String>) {
    match expr {
        Expr::Identifier(name) if name.quote_style.is_none() => {
            let small = name.value.to_lowercase();
            if given.contains(&small) {
                *name = Ident::with_quote_and_span('"', name.span, small);
            }
        }
        Expr::Nested(inner)
        | Expr::UnaryOp { expr: inner, .. }
        | Expr::IsNull(inner)
        | Expr::IsNotNull(inner) => keep(inner, given),
        Expr::BinaryOp { left, right, .. } => {
            keep(left, given);
            keep(right, given);
        }
        Expr::Between {
            expr, low, high, ..
        } => [expr, low, high]
            .into_iter()
            .for_each(|part| keep(part, given)),
        Expr::InList { expr, list, .. } => {
            keep(expr, given);
            list.iter_mut().for_each(|part| keep(part, given));
        }
        _ => {}
    }
}

fn is_empty(args: &FunctionArguments) -> bool {
    match args {
        FunctionArguments::None => true,
        FunctionArguments::List(list) => list.args.is_empty() && list.clauses.is_empty(),
        FunctionArguments::Subquery(_) => false,
    }
}

fn constraint(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(on)
        | JoinOperator::Inner(on)
        | JoinOperator::Left(on)
        | JoinOperator::LeftOuter(on)
        | JoinOperator::Right(on)
        | JoinOperator::RightOuter(on)
        | JoinOperator::FullOuter(on)
        | JoinOperator::Semi(on)
        | JoinOperator::LeftSemi(on)
        | JoinOperator::RightSemi(on)
        | JoinOperator::Anti(on)
        | JoinOperator::LeftAnti(on)
        | JoinOperator::RightAnti(on) => Some(on),
        _ => None,
    }
}

/// The parts of a name as SQL reads them.
fn parts(name: &ObjectName) -> Vec<String> {
    let parts = name.0.iter().filter_map(|part| part.as_ident());
    parts.map(folded).collect()
}

/// The parts of a name that can be spelled.
pub(super) fn idents(name: &mut ObjectName) -> Vec<&mut Ident> {
    let parts = name.0.iter_mut().filter_map(|part| match part {
        ObjectNamePart::Identifier(ident) => Some(ident),
        ObjectNamePart::Function(_) => None,
    });
    parts.collect()
}
