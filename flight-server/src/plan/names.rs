//! Names whatever their case: an unquoted name that nothing has in small letters, and that exactly
//! one column or table has in other ones, is that column or table. pandas makes columns `Age`;
//! `age`, `Age` and `AGE` are it. Quoted names are exact.
//!
//! Only what the project sees is looked at, so that a hidden column is as one that is not there.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

use arrow::datatypes::Schema;
use datafusion::catalog::CatalogProvider;
use datafusion::common::TableReference;
use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, ExcludeSelectItem, Expr, FromTable, Function,
    FunctionArguments, Ident, Insert, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart,
    Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement as Sql,
    TableAlias, TableFactor, TableWithJoins, Update, Value, Visit, VisitMut, Visitor, VisitorMut,
    WildcardAdditionalOptions, With,
};

use super::Planning;
use super::parse::Parsed;
use crate::catalog::space::names::folded;
use crate::error::Result;

/// The column of `generate_series` and `range`.
const MADE: &str = "value";

impl Planning<'_> {
    /// Gives each name of a statement the spelling of what it names, and the tables that the
    /// project does not have.
    pub async fn named(
        &self,
        state: &SessionState,
        parsed: &mut Parsed,
    ) -> Result<Vec<TableReference>> {
        let mut names = Names::default();
        let mut unknown = Vec::new();
        let mut references = state.resolve_table_references(&parsed.statement)?;
        references.extend(dropped(&parsed.statement));
        for reference in references {
            if is_function(state, &reference) {
                names.columns.add(MADE);
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
            let found = self.spelled(&full.schema, &full.table);
            let table = match &found {
                Some((schema, table)) => self.view.table(schema, table).await.ok().flatten(),
                None => None,
            };
            match table {
                Some(table) => names.table(&reference, &table.schema(), found),
                None => unknown.push(reference),
            }
        }
        if let Statement::Statement(inner) = &mut parsed.statement {
            self.apply(names, inner);
        }
        Ok(unknown)
    }

    fn apply(&self, mut names: Names, statement: &mut Sql) {
        // A view answers of who reads it.
        names.here = (!matches!(statement, Sql::CreateView(_))).then(|| Here {
            schema: self.default_schema(),
            project: self.view.project.clone(),
            person: self.view.viewer.who.person.clone(),
        });
        // Neither breaks.
        let _: ControlFlow<()> = Visit::visit(statement, &mut Aliases(&mut names));
        let _: ControlFlow<()> = VisitMut::visit(statement, &mut Spelling::of(&names));
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

/// A table that the project has.
#[derive(Debug)]
struct Table {
    columns: Spelled,
    /// Its schema and its name as they are, where the statement has other letters.
    exact: Option<(String, String)>,
}

impl Table {
    /// Writes its name as it is.
    fn spell(&self, parts: &mut [&mut Ident]) {
        if let (Some((schema, exact)), [before @ .., table]) = (&self.exact, parts) {
            quote(table, exact);
            if let Some(of) = before.last_mut() {
                quote(of, schema);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Names {
    /// Of all tables, and what the statement itself names.
    columns: Spelled,
    /// By the parts of a table's name as SQL reads them.
    tables: HashMap<Vec<String>, Table>,
    here: Option<Here>,
}

impl Names {
    fn table(
        &mut self,
        reference: &TableReference,
        schema: &Schema,
        exact: Option<(String, String)>,
    ) {
        let mut columns = Spelled::default();
        for field in schema.fields() {
            columns.add(field.name());
            self.columns.add(field.name());
        }
        let table = Table { columns, exact };
        self.tables.insert(reference.to_vec(), table);
    }

    /// The columns that an alias names.
    fn alias(&mut self, alias: &TableAlias) {
        for column in &alias.columns {
            self.columns.add(&folded(&column.name));
        }
    }
}

fn quote(name: &mut Ident, exact: &str) {
    if name.quote_style.is_none() {
        *name = Ident::with_quote_and_span('"', name.span, exact);
    }
}

/// The parts of a name that can be spelled.
fn idents(name: &mut ObjectName) -> Vec<&mut Ident> {
    let parts = name.0.iter_mut().filter_map(|part| match part {
        ObjectNamePart::Identifier(ident) => Some(ident),
        ObjectNamePart::Function(_) => None,
    });
    parts.collect()
}

/// What the statement itself names: columns.
struct Aliases<'a>(&'a mut Names);

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
                self.0.columns.add(&format!("column{place}"));
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

impl Relation<'_> {
    fn spell(&self, parts: &mut [&mut Ident]) {
        if let Some(table) = self.table.filter(|_| !self.is_alias) {
            table.spell(parts);
        }
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
struct Spelling<'a> {
    names: &'a Names,
    /// Names that a WITH around has given so far, which hide tables.
    ctes: Vec<String>,
    /// The WITH of each query around, and how many names there were before it.
    withs: Vec<(Option<With>, usize)>,
    /// From the statement to the innermost query.
    scopes: Vec<Scope<'a>>,
}

impl<'a> Spelling<'a> {
    fn of(names: &'a Names) -> Self {
        Self {
            names,
            ctes: Vec::new(),
            withs: Vec::new(),
            scopes: Vec::new(),
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

    /// Spells a column with nothing before it. Tables have it before the names that a SELECT gives
    /// (`age::INT AS age`), but for ORDER BY, which has those first.
    fn column(&self, name: &mut Ident) {
        let scope = self.scopes.last();
        let tables = scope.filter(|scope| !scope.given.contains(&name.value.to_lowercase()));
        match tables.filter(|scope| scope.columns.of(name).is_some()) {
            Some(scope) => scope.columns.spell(name),
            None => self.names.columns.spell(name),
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
        let parts: Vec<String> = match factor {
            TableFactor::Table {
                name, args: None, ..
            } => {
                let parts = name.0.iter().filter_map(|part| part.as_ident());
                parts.map(folded).collect()
            }
            _ => Vec::new(),
        };
        let table = self.table(&parts);
        match alias_of(factor) {
            Some(alias) => Relation {
                name: vec![folded(&alias.name)],
                is_alias: true,
                table: table.filter(|_| alias.columns.is_empty()),
            },
            None => Relation {
                name: parts,
                is_alias: false,
                table,
            },
        }
    }

    /// What a name before columns stands for, from the innermost query outwards.
    fn relation_of(&self, name: &[String]) -> Option<&Relation<'a>> {
        let scopes = self.scopes.iter().rev();
        let mut relations = scopes.flat_map(|scope| &scope.relations);
        relations.find(|relation| relation.name.ends_with(name))
    }

    /// Spells a column behind the name of its table, or a column and what is inside of it.
    fn compound(&self, parts: &mut [Ident]) {
        let Some((column, before)) = parts.split_last_mut() else {
            return;
        };
        let read: Vec<String> = before.iter().map(folded).collect();
        match self.relation_of(&read) {
            Some(relation) => {
                // A query has the columns of what it reads.
                let columns = relation.table.map(|table| &table.columns);
                columns.unwrap_or(&self.names.columns).spell(column);
                relation.spell(&mut before.iter_mut().collect::<Vec<_>>());
            }
            None => {
                if let Some(first) = parts.first_mut() {
                    self.column(first);
                }
            }
        }
    }

    fn name(&self, name: &mut ObjectName) {
        if let Some(ObjectNamePart::Identifier(column)) = name.0.last_mut() {
            self.column(column);
        }
    }

    fn wildcard(&self, options: &mut WildcardAdditionalOptions) {
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

    fn assigned(&self, assignments: &mut [Assignment]) {
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
        let mut parts = idents(name);
        let read: Vec<String> = parts.iter().map(|part| folded(part)).collect();
        if let Some(table) = self.table(&read) {
            table.spell(&mut parts);
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
        for item in &mut select.projection {
            match item {
                SelectItem::Wildcard(options) => self.wildcard(options),
                SelectItem::QualifiedWildcard(of, options) => {
                    self.wildcard(options);
                    if let SelectItemQualifiedWildcardKind::ObjectName(name) = of {
                        let mut parts = idents(name);
                        let read: Vec<String> = parts.iter().map(|part| folded(part)).collect();
                        if let Some(relation) = self.relation_of(&read) {
                            relation.spell(&mut parts);
                        }
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
                columns,
                assignments,
                ..
            }) => {
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

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn spelled(sql: &str) -> String {
        let columns = |names: &[&str]| {
            let fields = names
                .iter()
                .map(|name| Field::new(*name, DataType::Int64, true));
            Schema::new(fields.collect::<Vec<_>>())
        };
        let mut names = Names::default();
        let visits = columns(&["Age", "id", "Né_le", "Cost", "COST"]);
        for reference in [
            TableReference::partial("space", "visits"),
            TableReference::bare("visits"),
        ] {
            let exact = ("space".to_owned(), "Visits".to_owned());
            names.table(&reference, &visits, Some(exact));
        }
        // As of a statement that calls a function of rows.
        names.columns.add(MADE);
        let measured = TableReference::bare("measured");
        names.table(&measured, &columns(&["id", "Value", "Column1"]), None);
        let persons = TableReference::bare("persons");
        names.table(&persons, &columns(&["age", "Id"]), None);
        let mut parsed = Parser::parse_sql(&GenericDialect {}, sql).expect(sql);
        let _: ControlFlow<()> = Visit::visit(&parsed[0], &mut Aliases(&mut names));
        let _: ControlFlow<()> = VisitMut::visit(&mut parsed[0], &mut Spelling::of(&names));
        parsed[0].to_string()
    }

    #[test]
    fn names_are_spelled_as_what_they_name() {
        for (sql, expected) in [
            (
                "SELECT v.AGE, v.id FROM space.visits v",
                r#"SELECT v."Age", v.id FROM "space"."Visits" v"#,
            ),
            (
                "SELECT né_le FROM space.Visits",
                r#"SELECT "Né_le" FROM "space"."Visits""#,
            ),
            (
                "SELECT visits.age FROM space.visits",
                r#"SELECT "Visits"."Age" FROM "space"."Visits""#,
            ),
            (
                "SELECT p.age, p.ID FROM persons p",
                r#"SELECT p.age, p."Id" FROM persons p"#,
            ),
            // What is exact is left, and so is what may be two.
            (
                "SELECT age, cost FROM space.visits, persons",
                r#"SELECT age, cost FROM "space"."Visits", persons"#,
            ),
            (
                "SELECT age FROM space.visits",
                r#"SELECT "Age" FROM "space"."Visits""#,
            ),
            (
                r#"SELECT "AGE" FROM persons"#,
                r#"SELECT "AGE" FROM persons"#,
            ),
            (
                "SELECT q.NÉ_LE FROM (SELECT * FROM t) q",
                r#"SELECT q."Né_le" FROM (SELECT * FROM t) q"#,
            ),
            (
                r#"SELECT 1 AS "Sum" ORDER BY sum"#,
                r#"SELECT 1 AS "Sum" ORDER BY "Sum""#,
            ),
            (
                "SELECT * EXCLUDE (né_le) FROM t JOIN u USING (NÉ_LE)",
                r#"SELECT * EXCLUDE ("Né_le") FROM t JOIN u USING("Né_le")"#,
            ),
            (
                "UPDATE t SET né_le = 1 WHERE NÉ_LE = 2",
                r#"UPDATE t SET "Né_le" = 1 WHERE "Né_le" = 2"#,
            ),
            (
                "INSERT INTO t (né_le) VALUES (1)",
                r#"INSERT INTO t ("Né_le") VALUES (1)"#,
            ),
        ] {
            assert_eq!(spelled(sql), expected, "{sql}");
        }
    }

    #[test]
    fn columns_are_spelled_by_what_a_query_reads() {
        for (sql, expected) in [
            (
                "SELECT value FROM measured WHERE id IN (SELECT value FROM generate_series(1, 3))",
                r#"SELECT "Value" FROM measured WHERE id IN (SELECT value FROM generate_series(1, 3))"#,
            ),
            (
                "SELECT id FROM measured m WHERE id IN (SELECT g.value FROM range(3) g)",
                r#"SELECT id FROM measured m WHERE id IN (SELECT g.value FROM range(3) g)"#,
            ),
            (
                "SELECT column1 FROM measured WHERE id IN (SELECT column1 FROM (VALUES (1)) v)",
                r#"SELECT "Column1" FROM measured WHERE id IN (SELECT column1 FROM (VALUES (1)) v)"#,
            ),
            // What a SELECT gives a name to hides nothing that it reads itself.
            (
                "SELECT né_le::INT AS né_le FROM visits WHERE né_le > 1 ORDER BY né_le",
                r#"SELECT "Né_le"::INT AS né_le FROM "Visits" WHERE "Né_le" > 1 ORDER BY né_le"#,
            ),
            (
                "SELECT max(né_le) AS né_le FROM visits UNION ALL SELECT max(né_le) AS né_le FROM visits ORDER BY né_le",
                r#"SELECT max("Né_le") AS né_le FROM "Visits" UNION ALL SELECT max("Né_le") AS né_le FROM "Visits" ORDER BY né_le"#,
            ),
            (
                "SELECT né_le FROM (SELECT max(né_le) AS né_le FROM visits) q",
                r#"SELECT né_le FROM (SELECT max("Né_le") AS né_le FROM "Visits") q"#,
            ),
            (
                "SELECT né_le FROM visits, (SELECT 1 AS né_le) q",
                r#"SELECT né_le FROM "Visits", (SELECT 1 AS né_le) q"#,
            ),
        ] {
            assert_eq!(spelled(sql), expected, "{sql}");
        }
    }

    #[test]
    fn names_of_with_and_aliases_hide_tables() {
        for (sql, expected) in [
            (
                "WITH visits AS (SELECT * FROM visits WHERE visits.id = 1) SELECT visits.id, visits.* FROM visits",
                r#"WITH visits AS (SELECT * FROM "Visits" WHERE "Visits".id = 1) SELECT visits.id, visits.* FROM visits"#,
            ),
            // The second sees the first, and nothing sees either behind the query.
            (
                "SELECT 1 FROM (WITH visits AS (SELECT 1), b AS (SELECT * FROM visits) SELECT * FROM b) q, visits",
                r#"SELECT 1 FROM (WITH visits AS (SELECT 1), b AS (SELECT * FROM visits) SELECT * FROM b) q, "Visits""#,
            ),
            (
                "WITH RECURSIVE visits AS (SELECT 1 UNION ALL SELECT * FROM visits) SELECT * FROM space.visits",
                r#"WITH RECURSIVE visits AS (SELECT 1 UNION ALL SELECT * FROM visits) SELECT * FROM "space"."Visits""#,
            ),
            // A name before a column is of the innermost query that has it.
            (
                "SELECT (SELECT max(visits.id) FROM space.visits), visits.id FROM persons visits",
                r#"SELECT (SELECT max("Visits".id) FROM "space"."Visits"), visits."Id" FROM persons visits"#,
            ),
            (
                "WITH visits AS (SELECT 1) SELECT (SELECT max(visits.age) FROM space.visits) FROM visits ORDER BY visits.id",
                r#"WITH visits AS (SELECT 1) SELECT (SELECT max("Visits"."Age") FROM "space"."Visits") FROM visits ORDER BY visits.id"#,
            ),
            (
                "SELECT visits.* FROM (persons JOIN space.visits ON visits.age = persons.age) ORDER BY visits.age",
                r#"SELECT "Visits".* FROM (persons JOIN "space"."Visits" ON "Visits"."Age" = persons.age) ORDER BY "Visits"."Age""#,
            ),
            (
                "DELETE FROM space.visits WHERE visits.age = 1",
                r#"DELETE FROM "space"."Visits" WHERE "Visits"."Age" = 1"#,
            ),
        ] {
            assert_eq!(spelled(sql), expected, "{sql}");
        }
    }
}
