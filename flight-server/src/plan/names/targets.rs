//! What a change changes, apart from what it reads.

use datafusion::catalog::CatalogProvider;
use datafusion::sql::sqlparser::ast::{
    Delete, FromTable, Ident, ObjectName, ObjectNamePart, SetExpr, Statement as Sql, TableFactor,
    TableObject, TableWithJoins,
};

use super::only;
use crate::catalog::project::SPACE_SCHEMA;
use crate::catalog::space::names::{Use, folded, qualified, target};
use crate::plan::Planning;

/// Writes what a change changes as the space's, where nothing else can be meant. What is made has
/// the name that is written; what is there is found in other letters too.
pub(super) fn place(planning: &Planning<'_>, statement: &mut Sql) {
    match statement {
        Sql::CreateTable(table) => made(planning, &mut table.name),
        Sql::CreateView(view) => made(planning, &mut view.name),
        Sql::Drop { names, .. } => names.iter_mut().for_each(|name| changed(planning, name)),
        Sql::Insert(insert) => {
            if let TableObject::TableName(name) = &mut insert.table {
                changed(planning, name);
            }
        }
        Sql::Update(update) => of_table(planning, &mut update.table),
        Sql::Delete(Delete { from, .. }) => {
            let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = from;
            from.iter_mut().for_each(|table| of_table(planning, table));
        }
        _ => {}
    }
}

fn of_table(planning: &Planning<'_>, table: &mut TableWithJoins) {
    if let TableFactor::Table { name, .. } = &mut table.relation {
        changed(planning, name);
    }
}

fn made(planning: &Planning<'_>, name: &mut ObjectName) {
    if let Ok(found) = target(planning, name, Use::Make) {
        *name = qualified(&found);
    }
}

/// Puts the space before a name that nothing is before, where the space has it.
fn changed(planning: &Planning<'_>, name: &mut ObjectName) {
    let [ObjectNamePart::Identifier(table)] = name.0.as_slice() else {
        return;
    };
    let Some(space) = planning.view.schema(SPACE_SCHEMA) else {
        return;
    };
    let folded = folded(table);
    let is_there = space.table_exist(&folded)
        || (table.quote_style.is_none() && only(space.table_names(), &folded).is_some());
    // What the default schema has goes first, in any letters, and is refused where it is changed.
    let default = planning.default_schema();
    let is_elsewhere = default != SPACE_SCHEMA && planning.has(&default, &folded);
    if is_there && !is_elsewhere && target(planning, name, Use::Change).is_ok() {
        let space = Ident::new(SPACE_SCHEMA);
        name.0.insert(0, ObjectNamePart::Identifier(space));
    }
}

/// What of a change is planned to know whether it means something: nothing of one that names only
/// what it changes.
pub(super) fn read(statement: &Sql) -> Option<Sql> {
    match statement {
        Sql::CreateTable(table) => Some(Sql::Query(table.query.clone()?)),
        Sql::CreateView(view) => Some(Sql::Query(view.query.clone())),
        Sql::Insert(insert) => {
            let source = insert.source.as_ref()?;
            let is_written = matches!(source.body.as_ref(), SetExpr::Values(_));
            (!is_written).then(|| statement.clone())
        }
        Sql::Update(_) | Sql::Delete(_) => Some(statement.clone()),
        _ => None,
    }
}
