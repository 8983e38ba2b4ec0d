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
        let exact = Exact {
            schema: "space".to_owned(),
            table: "Visits".to_owned(),
            is_elsewhere: false,
        };
        names.table(&reference, &visits, Some(exact));
    }
    // Where the default schema is another than the space.
    for (name, table) in [("cars", "cars"), ("bikes", "Bikes"), ("CARS", "cars")] {
        let exact = Exact {
            schema: "space".to_owned(),
            table: table.to_owned(),
            is_elsewhere: true,
        };
        let columns = columns(&["Speed", "id"]);
        names.table(&TableReference::bare(name), &columns, Some(exact));
    }
    // As of a statement that calls a function of rows.
    names.made(MADE);
    let measured = TableReference::bare("measured");
    names.table(&measured, &columns(&["id", "Value", "Column1"]), None);
    let persons = TableReference::bare("persons");
    names.table(&persons, &columns(&["age", "Id"]), None);
    let mut parsed = Parser::parse_sql(&GenericDialect {}, sql).expect(sql);
    let _: ControlFlow<()> = Visit::visit(&parsed[0], &mut Aliases(&mut names));
    let mut spelling = Spelling::of(&names);
    let _: ControlFlow<()> = VisitMut::visit(&mut parsed[0], &mut spelling);
    match spelling.unclear {
        Some(name) => format!("unclear: {name}"),
        None => parsed[0].to_string(),
    }
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
        (
            "INSERT INTO visits (né_le) SELECT id::INT AS né_le FROM persons",
            r#"INSERT INTO "Visits" ("Né_le") SELECT "Id"::INT AS né_le FROM persons"#,
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
            "SELECT space.visits.age FROM visits",
            r#"SELECT "space"."Visits"."Age" FROM "Visits""#,
        ),
        (
            "DELETE FROM space.visits WHERE visits.age = 1",
            r#"DELETE FROM "space"."Visits" WHERE "Visits"."Age" = 1"#,
        ),
    ] {
        assert_eq!(spelled(sql), expected, "{sql}");
    }
}

#[test]
fn tables_of_the_space_are_found_behind_the_default_schema() {
    for (sql, expected) in [
        (
            "SELECT cars.id, speed FROM cars WHERE CARS.Speed > 1",
            r#"SELECT "cars".id, "Speed" FROM "space"."cars" WHERE "cars"."Speed" > 1"#,
        ),
        (
            r#"SELECT cars.*, bikes.* FROM "cars" JOIN BIKES ON cars.id = bikes.id"#,
            r#"SELECT "space"."cars".*, "space"."Bikes".* FROM "space"."cars" JOIN "space"."Bikes" ON "cars".id = "Bikes".id"#,
        ),
        (
            "SELECT c.*, space.bikes.* FROM cars c, bikes",
            r#"SELECT c.*, "space"."Bikes".* FROM "space"."cars" c, "space"."Bikes""#,
        ),
        // Quoted names are exact: the planner does not find this one.
        (r#"SELECT 1 FROM "CARS""#, r#"SELECT 1 FROM "CARS""#),
        (r#"SELECT 1 FROM "bikes""#, r#"SELECT 1 FROM "bikes""#),
        // A WITH wins, and not in itself.
        (
            "WITH cars AS (SELECT * FROM cars) SELECT cars.* FROM cars",
            r#"WITH cars AS (SELECT * FROM "space"."cars") SELECT cars.* FROM cars"#,
        ),
        (
            "SELECT (SELECT max(cars.speed) FROM visits) FROM cars",
            r#"SELECT (SELECT max("cars"."Speed") FROM "Visits") FROM "space"."cars""#,
        ),
        (
            "INSERT INTO cars (speed) SELECT speed FROM bikes",
            r#"INSERT INTO "space"."cars" ("Speed") SELECT "Speed" FROM "space"."Bikes""#,
        ),
        (
            "UPDATE cars SET speed = 1 WHERE cars.id = 2",
            r#"UPDATE "space"."cars" SET "Speed" = 1 WHERE "cars".id = 2"#,
        ),
        (
            "DELETE FROM cars WHERE cars.speed = 1",
            r#"DELETE FROM "space"."cars" WHERE "cars"."Speed" = 1"#,
        ),
        (
            "DROP TABLE cars, bikes",
            r#"DROP TABLE "space"."cars", "space"."Bikes""#,
        ),
    ] {
        assert_eq!(spelled(sql), expected, "{sql}");
    }
}

#[test]
fn what_a_select_gives_goes_first_behind_it() {
    for (sql, expected) in [
        (
            "SELECT id % 2 AS age, count(*) FROM visits GROUP BY age",
            r#"SELECT id % 2 AS age, count(*) FROM "Visits" GROUP BY "age""#,
        ),
        (
            "SELECT DISTINCT ON (age) id AS age FROM visits",
            r#"SELECT DISTINCT ON ("age") id AS age FROM "Visits""#,
        ),
        (
            "SELECT sum(cost) AS age FROM visits HAVING age > 10 AND max(age) IN (1)",
            r#"SELECT sum(cost) AS age FROM "Visits" HAVING "age" > 10 AND max("Age") IN (1)"#,
        ),
        (
            "SELECT id AS age FROM visits GROUP BY age + 1",
            r#"SELECT id AS age FROM "Visits" GROUP BY "Age" + 1"#,
        ),
        (
            r#"SELECT id AS "Other" FROM visits GROUP BY other, Age"#,
            r#"SELECT id AS "Other" FROM "Visits" GROUP BY "Other", "Age""#,
        ),
    ] {
        assert_eq!(spelled(sql), expected, "{sql}");
    }
}

#[test]
fn a_name_of_two_queries_is_that_which_is_written_or_unclear() {
    for (sql, expected) in [
        // As it is written, `age` is that of `persons`.
        (
            "SELECT 1 FROM persons WHERE EXISTS (SELECT 1 FROM visits v WHERE v.id = 1 AND age > 17)",
            r#"SELECT 1 FROM persons WHERE EXISTS (SELECT 1 FROM "Visits" v WHERE v.id = 1 AND age > 17)"#,
        ),
        // `v` may have either.
        (
            "WITH v AS (SELECT id, age FROM visits) \
             SELECT 1 FROM persons WHERE id IN (SELECT id FROM v WHERE age > 80)",
            "unclear: age",
        ),
        (
            "SELECT 1 FROM persons p WHERE 1 IN (SELECT q.id FROM (SELECT * FROM visits) q WHERE age > 1)",
            "unclear: age",
        ),
        // One of the columns that rows which are made have.
        (
            "SELECT 1 FROM measured WHERE id IN (SELECT value FROM LATERAL generate_series(1, 3))",
            "SELECT 1 FROM measured WHERE id IN (SELECT value FROM LATERAL generate_series(1, 3))",
        ),
        // The columns of the table that rows are for are nobody's in the query.
        (
            "INSERT INTO persons (age) SELECT age FROM visits",
            r#"INSERT INTO persons (age) SELECT "Age" FROM "Visits""#,
        ),
    ] {
        assert_eq!(spelled(sql), expected, "{sql}");
    }
}

#[test]
fn what_is_dropped_if_it_is_there_is_not_lost_in_other_letters() {
    for (sql, may_be_nothing) in [
        ("DROP TABLE IF EXISTS cohort", true),
        ("DROP VIEW IF EXISTS space.cohort, b", true),
        ("DROP TABLE cohort", false),
    ] {
        let parsed = Parser::parse_sql(&GenericDialect {}, sql).expect(sql);
        let statement = Statement::Statement(Box::new(parsed[0].clone()));
        assert_eq!(drops_if_there(&statement), may_be_nothing, "{sql}");
        let first = dropped(&statement).into_iter().next();
        assert_eq!(first.expect(sql).table(), "cohort");
    }
    let exact = |schema: &str, table: &str| Exact {
        schema: schema.to_owned(),
        table: table.to_owned(),
        is_elsewhere: true,
    };
    assert!(exact("space", "cohort").is_not_lost_as("cohort"));
    assert!(!exact("space", "Cohort").is_not_lost_as("cohort"));
    // Which is refused.
    assert!(exact("clinic", "Cohort").is_not_lost_as("cohort"));
}
