//! Names that a change speaks of: which object of the space is meant, and what may be a name.

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use crate::airlock::EXPORTS_SCHEMA;
use crate::catalog::project::{HUB_SCHEMA, SPACE_SCHEMA};
use crate::error::{Error, Result};
use crate::plan::Planning;

/// Characters of a table's or column's name.
const NAME_CHARACTERS_MAX: usize = 128;
/// Schemas of the hub itself and those that it keeps for later.
const HUB_SCHEMAS: [&str; 4] = [EXPORTS_SCHEMA, HUB_SCHEMA, "information_schema", "sample"];

const ALLOWED: &str = "tables and views can be made and changed in schema `space` only";

/// What a statement does to the name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// The name need not exist.
    Make,
    /// The object should exist.
    Change,
}

/// The name in the space that `name` means.
///
/// # Errors
/// INVALID_ARGUMENT for what the project sees but cannot change; NOT_FOUND for other
/// projects' and hidden things as for missing ones.
pub fn target(planning: &Planning<'_>, name: &ObjectName, usage: Use) -> Result<String> {
    let parts = parts(name)?;
    let missing = || {
        Error::not_found(format!(
            "table `{}` does not exist in project `{}`; {ALLOWED}",
            parts.join("."),
            planning.view.project
        ))
    };
    let (schema, table) = match parts.as_slice() {
        [table] => return unqualified(planning, table),
        [schema, table] => (schema, table),
        [catalog, schema, table] if *catalog == planning.view.project => (schema, table),
        _ => return Err(missing()),
    };
    if schema == SPACE_SCHEMA {
        return Ok(table.clone());
    }
    if HUB_SCHEMAS.contains(&schema.as_str()) {
        return Err(Error::invalid(format!(
            "schema `{schema}` is kept by the hub; {ALLOWED}"
        )));
    }
    if !shows(planning, schema, None) {
        return Err(missing());
    }
    if usage == Use::Change && !shows(planning, schema, Some(table)) {
        return Err(missing());
    }
    Err(unchangeable(schema))
}

/// An unqualified name is of the space, unless it names a table that is read without a schema.
fn unqualified(planning: &Planning<'_>, table: &str) -> Result<String> {
    let schema = planning.default_schema();
    if schema != SPACE_SCHEMA && shows(planning, &schema, Some(table)) {
        return Err(unchangeable(&schema));
    }
    Ok(table.to_owned())
}

fn unchangeable(schema: &str) -> Error {
    Error::invalid(format!(
        "`{schema}` is a dataset, which nobody can change; {ALLOWED}"
    ))
}

/// Whether the project sees the schema, or a table of it.
fn shows(planning: &Planning<'_>, schema: &str, table: Option<&str>) -> bool {
    use datafusion::catalog::CatalogProvider;
    match (planning.view.schema(schema), table) {
        (Some(schema), Some(table)) => schema.table_exist(table),
        (schema, None) => schema.is_some(),
        (None, Some(_)) => false,
    }
}

/// The parts of a name as SQL reads them: lowercase unless quoted.
fn parts(name: &ObjectName) -> Result<Vec<String>> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Ok(folded(ident)),
            ObjectNamePart::Function(_) => Err(Error::invalid(format!(
                "`{name}` is no name of a table; write `space.NAME`"
            ))),
        })
        .collect()
}

/// An identifier as SQL reads it.
pub fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// `space."name"`, which the planner reads as that and nothing else.
pub fn qualified(name: &str) -> ObjectName {
    ObjectName::from(vec![
        Ident::with_quote('"', SPACE_SCHEMA),
        Ident::with_quote('"', name),
    ])
}

/// What moves the cursor of who reads it, or turns the direction of what follows (UAX #9).
pub fn moves_text(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether `name` can be the name of a new table, view or column.
pub fn check_new(what: &str, name: &str) -> Result<()> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.chars().count() > NAME_CHARACTERS_MAX {
        "is too long"
    } else if name.chars().any(moves_text) {
        "has control characters"
    } else {
        return Ok(());
    };
    let shown: String = name
        .chars()
        .take(NAME_CHARACTERS_MAX)
        .filter(|c| !moves_text(*c))
        .collect();
    Err(Error::invalid(format!(
        "the name `{shown}` of a {what} {problem}; use 1 to {NAME_CHARACTERS_MAX} characters \
         without control characters"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded() {
        check_new("table", "cohort_2024").expect("plain");
        check_new("table", "Étude n°1").expect("any letters");
        check_new("table", &"x".repeat(128)).expect("just fits");
        for wrong in [
            String::new(),
            "x".repeat(129),
            "a\u{0}b".into(),
            "a\nb".into(),
        ] {
            let error = check_new("table", &wrong)
                .expect_err("must fail")
                .to_string();
            assert!(!error.contains(['\u{0}', '\n']), "{error}");
        }
    }

    #[test]
    fn quotes_keep_case() {
        assert_eq!(folded(&Ident::new("Cohort")), "cohort");
        assert_eq!(folded(&Ident::with_quote('"', "Cohort")), "Cohort");
        assert_eq!(
            qualified("Co\"hort").to_string(),
            "\"space\".\"Co\"\"hort\""
        );
    }
}
