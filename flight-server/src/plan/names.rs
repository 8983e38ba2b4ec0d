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
    Assignment, AssignmentTarget, ExcludeSelectItem, Expr, Function, FunctionArguments, Ident,
    Insert, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, Statement as Sql, TableAlias, TableFactor, Update, Value,
    Visit, VisitMut, Visitor, VisitorMut, WildcardAdditionalOptions,
};

use super::Planning;
use super::parse::Parsed;
use crate::catalog::space::names::folded;
use crate::error::Result;

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
                continue;
            }
            let options = &state.config().options().catalog;
            let full = reference
                .clone()
                .resolve(&options.default_catalog, &options.default_schema);
            if *full.catalog != *self.view.project || &*full.schema == "information_schema" {
                unknown.push(reference);
                continue;
            }
            if let Ok(Some(table)) = self.view.table(&full.schema, &full.table).await {
                names.table(&full.table, &table.schema());
                continue;
            }
            let found = self.spelled(&full.schema, &full.table);
            let table = match &found {
                Some((schema, table)) => self.view.table(schema, table).await.ok().flatten(),
                None => None,
            };
            match (found, table) {
                (Some((schema, exact)), Some(table)) => {
                    names.table(&full.table, &table.schema());
                    names.renamed(&reference, schema, exact);
                }
                _ => unknown.push(reference),
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
        let _: ControlFlow<()> = VisitMut::visit(statement, &mut Spelling(&names));
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

#[derive(Debug, Default)]
struct Names {
    /// Of all tables, and what the statement itself names.
    columns: Spelled,
    /// Of each table, by its name as the statement has it.
    of_tables: HashMap<String, Spelled>,
    /// The parts of a table's name as SQL reads them, with its schema and its name as they are.
    renamed: HashMap<Vec<String>, (String, String)>,
    here: Option<Here>,
}

impl Names {
    fn table(&mut self, name: &str, schema: &Schema) {
        let of_table = self.of_tables.entry(name.to_owned()).or_default();
        for field in schema.fields() {
            of_table.add(field.name());
            self.columns.add(field.name());
        }
    }

    fn renamed(&mut self, reference: &TableReference, schema: String, table: String) {
        self.renamed.insert(reference.to_vec(), (schema, table));
    }

    /// The columns of what `alias` stands for.
    fn alias(&mut self, alias: &TableAlias, table: Option<&ObjectName>) {
        let columns = table.and_then(|name| self.of_tables.get(&last(name)?).cloned());
        let mut of_alias = columns.unwrap_or_default();
        for column in &alias.columns {
            of_alias.add(&folded(&column.name));
            self.columns.add(&folded(&column.name));
        }
        let known = self.of_tables.entry(folded(&alias.name)).or_default();
        for name in of_alias.exact {
            known.add(&name);
        }
    }

    /// Spells a column behind the name of its table, or a column and what is inside of it.
    fn spell_compound(&self, parts: &mut [Ident]) {
        let [.., table, column] = parts else {
            return;
        };
        match self.of_tables.get(&folded(table)) {
            Some(columns) if !columns.exact.is_empty() => {
                columns.spell(column);
                self.spell_tables(parts);
            }
            // A query has the columns of what it reads.
            Some(_) => self.columns.spell(column),
            None => {
                if let Some(first) = parts.first_mut() {
                    self.columns.spell(first);
                }
            }
        }
    }

    /// Spells the name of a table before one of its columns.
    fn spell_tables(&self, parts: &mut [Ident]) {
        let Some((_, tables)) = parts.split_last_mut() else {
            return;
        };
        let read: Vec<String> = tables.iter().map(folded).collect();
        let mut renamed = self.renamed.iter();
        let found = renamed.find(|(parts, _)| parts.ends_with(&read));
        if let (Some((_, (schema, exact))), [before @ .., table]) = (found, tables) {
            quote(table, exact);
            if let Some(of) = before.last_mut() {
                quote(of, schema);
            }
        }
    }
}

fn quote(name: &mut Ident, exact: &str) {
    if name.quote_style.is_none() {
        *name = Ident::with_quote_and_span('"', name.span, exact);
    }
}

/// The last part of a name, as SQL reads it.
fn last(name: &ObjectName) -> Option<String> {
    Some(folded(name.0.last()?.as_ident()?))
}

/// What the statement itself names: tables, columns, queries.
struct Aliases<'a>(&'a mut Names);

impl Visitor for Aliases<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.0.alias(&cte.alias, None);
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
        match factor {
            TableFactor::Table {
                name,
                alias: Some(alias),
                ..
            } => self.0.alias(alias, Some(name)),
            TableFactor::Derived {
                alias: Some(alias), ..
            }
            | TableFactor::Function {
                alias: Some(alias), ..
            }
            | TableFactor::UNNEST {
                alias: Some(alias), ..
            } => self.0.alias(alias, None),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Writes the spellings into a statement.
struct Spelling<'a>(&'a Names);

impl Spelling<'_> {
    fn name(&self, name: &mut ObjectName) {
        if let Some(ObjectNamePart::Identifier(column)) = name.0.last_mut() {
            self.0.columns.spell(column);
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
            self.0.columns.spell(&mut except.first_element);
            let others = except.additional_elements.iter_mut();
            others.for_each(|name| self.0.columns.spell(name));
        }
        for item in options
            .opt_replace
            .iter_mut()
            .flat_map(|replace| &mut replace.items)
        {
            self.0.columns.spell(&mut item.column_name);
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
        let here = self.0.here.as_ref()?;
        let small = name.value.to_lowercase();
        if name.quote_style.is_some() || self.0.columns.by_small.contains_key(&small) {
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
        let idents = name.0.iter_mut().filter_map(|part| match part {
            ObjectNamePart::Identifier(ident) => Some(ident),
            ObjectNamePart::Function(_) => None,
        });
        let mut idents: Vec<&mut Ident> = idents.collect();
        let read: Vec<String> = idents.iter().map(|ident| folded(ident)).collect();
        if let Some((schema, exact)) = self.0.renamed.get(&read)
            && let [before @ .., table] = idents.as_mut_slice()
        {
            quote(table, exact);
            if let Some(of) = before.last_mut() {
                quote(of, schema);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            match item {
                SelectItem::Wildcard(options) => self.wildcard(options),
                SelectItem::QualifiedWildcard(of, options) => {
                    self.wildcard(options);
                    if let SelectItemQualifiedWildcardKind::ObjectName(name) = of {
                        let _: ControlFlow<()> = self.pre_visit_relation(name);
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

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) => self.0.columns.spell(name),
            Expr::CompoundIdentifier(parts) => self.0.spell_compound(parts),
            _ => {}
        }
        if let Some((_, value)) = self.asked_of_session(expr) {
            *expr = value;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, statement: &mut Sql) -> ControlFlow<()> {
        match statement {
            Sql::Insert(Insert {
                columns,
                assignments,
                ..
            }) => {
                columns.iter_mut().for_each(|name| self.name(name));
                self.assigned(assignments);
            }
            Sql::Update(Update { assignments, .. }) => self.assigned(assignments),
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
        names.table("visits", &columns(&["Age", "id", "Né_le", "Cost", "COST"]));
        names.table("persons", &columns(&["age", "Id"]));
        names.renamed(
            &TableReference::partial("space", "visits"),
            "space".into(),
            "Visits".into(),
        );
        let mut parsed = Parser::parse_sql(&GenericDialect {}, sql).expect(sql);
        let _: ControlFlow<()> = Visit::visit(&parsed[0], &mut Aliases(&mut names));
        let _: ControlFlow<()> = VisitMut::visit(&mut parsed[0], &mut Spelling(&names));
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
                "SELECT age, cost FROM space.visits",
                r#"SELECT age, cost FROM "space"."Visits""#,
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
}
