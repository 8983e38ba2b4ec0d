//! Text to one statement of an allowed kind, with its calls and placeholders normalised.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, ObjectType, Statement as Sql, Value, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;

use uuid::Uuid;

use super::{doubled, lists, read, shape, spelled, text};
use crate::admin::call as admin;
use crate::airlock::call::{self, Call};
use crate::error::{Error, Result};
use crate::own;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads, and gives rows; `explain` gives its plan instead.
    Query { explain: bool },
    /// Changes the project's space, and gives a count.
    Change,
}

/// One statement of an allowed kind.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub statement: Statement,
    pub kind: Kind,
    /// Number of placeholders, `?` counted one by one and `$n` by the highest.
    pub placeholders: usize,
}

impl Parsed {
    /// True for `SHOW TABLES` and `SHOW COLUMNS`, which the planner turns into queries.
    pub fn is_show(&self) -> bool {
        matches!(&self.statement, Statement::Statement(inner)
            if matches!(inner.as_ref(), Sql::ShowTables { .. } | Sql::ShowColumns { .. }))
    }

    pub fn is_explain(&self) -> bool {
        matches!(self.kind, Kind::Query { explain: true })
    }

    /// True for INSERT, UPDATE and DELETE.
    pub fn is_dml(&self) -> bool {
        matches!(&self.statement, Statement::Statement(inner)
            if matches!(**inner, Sql::Insert(_) | Sql::Update(_) | Sql::Delete(_)))
    }

    /// True for a change of what tables and views there are.
    pub fn is_ddl(&self) -> bool {
        matches!(&self.statement, Statement::Statement(inner)
            if matches!(inner.as_ref(), Sql::CreateTable(_) | Sql::CreateView(_) | Sql::Drop { .. }))
    }

    /// The statement that `CALL hub.cancel('…')` is to stop.
    pub fn cancels(&self) -> Option<Uuid> {
        match &self.statement {
            Statement::Statement(inner) => cancelled(inner),
            _ => None,
        }
    }

    /// True for what gives rows of tables: SELECT, WITH, VALUES.
    pub fn is_select(&self) -> bool {
        let is_select = matches!(&self.statement, Statement::Statement(inner)
            if matches!(inner.as_ref(), Sql::Query(_)));
        is_select && !self.is_explain()
    }

    /// What it calls of the airlock.
    pub fn airlock(&self) -> Result<Option<Call>> {
        match &self.statement {
            Statement::Statement(inner) => call::called(inner),
            _ => Ok(None),
        }
    }

    /// What it calls of the person's own.
    pub fn own(&self) -> Result<Option<own::Call>> {
        match &self.statement {
            Statement::Statement(inner) => own::called(inner),
            _ => Ok(None),
        }
    }

    /// What it calls of administration, or, with EXPLAIN, would call.
    pub fn admin(&self) -> Result<Option<admin::Call>> {
        match &self.statement {
            Statement::Statement(inner) => admin::called(inner),
            _ => Ok(None),
        }
    }

    pub fn is_query(&self) -> bool {
        matches!(self.kind, Kind::Query { .. })
    }
}

/// Parses `sql`, which must be one statement of at most `sql_bytes_max` bytes.
pub fn parse(sql: &str, sql_bytes_max: usize) -> Result<Parsed> {
    if sql.len() > sql_bytes_max {
        return Err(Error::invalid(format!(
            "the statement has {} bytes and at most {sql_bytes_max} are allowed",
            sql.len()
        )));
    }
    shape::check_text(sql, &GenericDialect {})?;
    let sql = text::readable(sql, &GenericDialect {});
    let mut statements = read::statements(sql.as_ref())?;
    let (Some(statement), None) = (statements.pop_front(), statements.pop_front()) else {
        return Err(Error::invalid("send exactly one SQL statement at a time"));
    };
    let (mut statement, explain) = unwrap_explain(statement)?;
    let kind = classify(&statement, explain)?;
    let mut placeholders = 0;
    if let Statement::Statement(inner) = &mut statement {
        shape::check_relations(inner)?;
        lists::check(inner)?;
        hubflight_udfs::normalise_calls(inner)
            .map_err(|error| Error::invalid(error.to_string()))?;
        placeholders = number_placeholders(inner)?;
        // Behind the numbers, which are by place.
        spelled::rewrite(inner)?;
        // As the planner will see it, with windows in the places of their names.
        doubled::check(inner)?;
        lists::check(inner)?;
        if sql.to_ascii_lowercase().contains("window") {
            shape::check_text(&inner.to_string(), &GenericDialect {})?;
        }
    }
    Ok(Parsed {
        statement,
        kind,
        placeholders,
    })
}

fn unwrap_explain(statement: Statement) -> Result<(Statement, bool)> {
    match statement {
        Statement::Explain(explain) => {
            if explain.options.analyze || explain.options.verbose {
                return Err(Error::invalid(
                    "`EXPLAIN ANALYZE` and `EXPLAIN VERBOSE` show internals of the hub and are \
                     not available; write plain `EXPLAIN`",
                ));
            }
            Ok((*explain.statement, true))
        }
        other => Ok((other, false)),
    }
}

/// Statements by allow-list: what is not named here is refused.
fn classify(statement: &Statement, explain: bool) -> Result<Kind> {
    let Statement::Statement(inner) = statement else {
        return Err(refused(&first_words(&statement.to_string())));
    };
    let kind = match inner.as_ref() {
        Sql::Query(_)
        | Sql::ShowTables { .. }
        | Sql::ShowColumns { .. }
        | Sql::ExplainTable { .. } => Kind::Query { explain },
        Sql::Insert(_) | Sql::Update(_) | Sql::Delete(_) | Sql::CreateView(_) => Kind::Change,
        Sql::CreateTable(table) if !table.external && table.location.is_none() => Kind::Change,
        Sql::Drop {
            object_type: ObjectType::Table | ObjectType::View,
            ..
        } => Kind::Change,
        Sql::Call(_) if cancelled(inner).is_some() => Kind::Change,
        Sql::Call(_) if call::called(inner)?.is_some() => Kind::Change,
        Sql::Call(_) if own::called(inner)?.is_some() => Kind::Change,
        // Explained, it is a dry run.
        Sql::Call(_) if admin::called(inner)?.is_some() => match explain {
            true => Kind::Query { explain },
            false => Kind::Change,
        },
        Sql::Call(_) => return Err(refused("CALL")),
        other => return Err(refused(&first_words(&other.to_string()))),
    };
    if explain && kind == Kind::Change {
        return Err(Error::invalid("`EXPLAIN` is for queries"));
    }
    Ok(kind)
}

/// The argument of `CALL hub.cancel('…')`, which can be nothing but the id of a statement: as
/// that is all that may stand between the quotes, the text of the call tells.
fn cancelled(statement: &Sql) -> Option<Uuid> {
    let Sql::Call(call) = statement else {
        return None;
    };
    let text = call.to_string().to_lowercase();
    let id = text.strip_prefix("hub.cancel('")?.strip_suffix("')")?;
    Uuid::parse_str(id).ok()
}

/// The verb of a statement, for its refusal: never more of the text than that.
fn first_words(text: &str) -> String {
    text.split_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .join(" ")
}

fn refused(verb: &str) -> Error {
    Error::invalid(format!(
        "`{verb}` is not available; there are SELECT, WITH, VALUES, EXPLAIN, SHOW TABLES, SHOW \
         COLUMNS, DESCRIBE, and in schema `space` CREATE TABLE, CREATE VIEW, INSERT, UPDATE, \
         DELETE and DROP; `CALL hub.cancel('statement id')` stops a statement of yours, \
         `CALL hub.request_export('SELECT …', 'name', 'purpose')` asks for an export and `CALL \
         hub.withdraw_export('name')` takes it back, `CALL hub.change_password('old', 'new')` and \
         `CALL hub.revoke_token('id')` are for your own, catalog `admin` has those of \
         administrators; options are set on the session"
    ))
}

/// Turns each `?` into `$1`, `$2`, … in the order of the text, and counts placeholders.
fn number_placeholders(statement: &mut Sql) -> Result<usize> {
    // The tree has its own order: LIMIT comes before OFFSET, however they are written.
    let mut places = Vec::new();
    let _: ControlFlow<()> = visit_expressions_mut(statement, |expr: &mut Expr| {
        if let Expr::Value(value) = expr
            && matches!(&value.value, Value::Placeholder(name) if name == "?")
        {
            places.push(value.span.start);
        }
        ControlFlow::Continue(())
    });
    places.sort();
    let questions = places.len();
    let mut highest = 0_usize;
    let mut wrong = None;
    let _: ControlFlow<()> = visit_expressions_mut(statement, |expr: &mut Expr| {
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &mut value.value
        {
            if name == "?" {
                let before = places.partition_point(|place| *place < value.span.start);
                *name = format!("${}", before + 1);
            } else {
                match name
                    .strip_prefix('$')
                    .and_then(|digits| digits.parse().ok())
                {
                    Some(index) if (1..=1000).contains(&index) => highest = highest.max(index),
                    _ => wrong = Some(name.clone()),
                }
            }
        }
        ControlFlow::Continue(())
    });
    if let Some(name) = wrong {
        return Err(Error::invalid(format!(
            "placeholder `{name}` is not understood; write `?`, or `$1`, `$2`, …"
        )));
    }
    if questions > 0 && highest > 0 {
        return Err(Error::invalid(
            "write placeholders as `?` or as `$1`, not both",
        ));
    }
    Ok(questions.max(highest))
}

/// True for the tables of `information_schema` that say nothing of the server itself.
pub fn is_information_schema(schema: &str, table: &str) -> Result<bool> {
    if schema != "information_schema" {
        return Ok(false);
    }
    match table {
        "tables" | "columns" | "views" | "schemata" | "routines" | "parameters" => Ok(true),
        _ => Err(Error::not_found(format!(
            "table `information_schema.{table}` does not exist; there are `tables`, `columns`, \
             `views`, `schemata`, `routines` and `parameters`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(sql: &str) -> Result<Kind> {
        parse(sql, 1000).map(|parsed| parsed.kind)
    }

    #[test]
    fn statements_are_allowed_by_name_only() {
        for query in [
            "SELECT 1",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "VALUES (1)",
            "SHOW TABLES",
        ] {
            assert_eq!(kind(query).expect(query), Kind::Query { explain: false });
        }
        assert_eq!(
            kind("EXPLAIN SELECT 1").expect("plain"),
            Kind::Query { explain: true }
        );
        for change in [
            "CREATE TABLE space.t (a INT)",
            "CREATE TABLE t AS SELECT 1",
            "INSERT INTO t VALUES (1)",
            "UPDATE t SET a = 1",
            "DELETE FROM t",
            "DROP TABLE t",
            "CREATE VIEW v AS SELECT 1",
        ] {
            assert_eq!(kind(change).expect(change), Kind::Change);
        }
    }

    #[test]
    fn doors_stay_shut() {
        for sql in [
            "COPY (SELECT 1) TO '/tmp/x.csv'",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "SET datafusion.execution.batch_size = 1",
            "RESET datafusion.execution.batch_size",
            "SHOW ALL",
            "EXPLAIN ANALYZE SELECT 1",
            "EXPLAIN VERBOSE SELECT 1",
            "CREATE FUNCTION f() RETURNS INT RETURN 1",
            "CREATE DATABASE d",
            "CREATE SCHEMA s",
            "DROP SCHEMA s",
            "PREPARE p AS SELECT 1",
            "EXECUTE p",
            "TRUNCATE TABLE t",
            "START TRANSACTION",
            "COMMIT",
            "SELECT 1; SELECT 2",
            "",
            "GRANT SELECT ON t TO u",
            "CALL hub.cancel()",
            "CALL hub.cancel('x')",
            "CALL hub.cancel(NULL)",
            "CALL hub.cancel(?)",
            "CALL hub.cancel((SELECT statement_id FROM hub.queries))",
            "CALL hub.cancel('0198f2c0-0000-7000-8000-000000000001', '')",
            "CALL other.cancel('0198f2c0-0000-7000-8000-000000000001')",
            "CALL space.cancel('0198f2c0-0000-7000-8000-000000000001')",
            "EXPLAIN CALL hub.cancel('0198f2c0-0000-7000-8000-000000000001')",
            "CALL system.shutdown()",
        ] {
            assert!(kind(sql).is_err(), "{sql}");
        }
    }

    #[test]
    fn a_call_cancels_one_statement() {
        let id = "0198f2c0-0000-7000-8000-00000000abcd";
        for sql in [
            format!("CALL hub.cancel('{id}')"),
            format!("call HUB.Cancel ( '{}' )", id.to_uppercase()),
        ] {
            let parsed = parse(&sql, 1000).expect("parses");
            assert_eq!(parsed.cancels(), Uuid::parse_str(id).ok());
            assert!(!parsed.is_query() && !parsed.is_ddl());
        }
        assert_eq!(parse("SELECT 1", 1000).expect("parses").cancels(), None);
    }

    #[test]
    fn placeholders_are_numbered_in_order() {
        let parsed =
            parse("SELECT ? + ? FROM t WHERE a BETWEEN ? AND ? LIMIT ?", 1000).expect("parses");
        assert_eq!(parsed.placeholders, 5);
        let text = parsed.statement.to_string();
        assert!(
            text.contains("$1 + $2") && text.contains("$3 AND $4") && text.contains("LIMIT $5"),
            "{text}"
        );
        let parsed = parse("SELECT a FROM t\nOFFSET ?\nLIMIT ?", 1000).expect("parses");
        let text = parsed.statement.to_string();
        assert!(
            text.contains("OFFSET $1") && text.contains("LIMIT $2"),
            "{text}"
        );
        assert_eq!(parse("SELECT $2", 1000).expect("parses").placeholders, 2);
        assert!(parse("SELECT ?, $1", 1000).is_err());
        assert!(parse("SELECT $9999999", 1000).is_err());
    }

    #[test]
    fn depth_and_length_are_bounded() {
        assert!(
            parse(
                &format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000)),
                1 << 20
            )
            .is_err()
        );
        assert!(parse(&"x".repeat(1001), 1000).is_err());
    }
}
