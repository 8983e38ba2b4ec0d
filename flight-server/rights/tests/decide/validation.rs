//! Each rule, broken once.

use std::sync::Arc;

use chrono::TimeDelta;
use hubflight_rights::Zone;
use hubflight_rights::dataset::{Dataset, ForeignKey, PersonPath};
use hubflight_rights::habilitation::{
    Columns, Comparison, ExportRule, Habilitation, Mask, Mode, Predicate, TableGrant, Tables, Value,
};

use crate::hospital::{cohort, grant, hospital, registry, researcher};

fn lookup(name: &str) -> Option<Arc<Dataset>> {
    [hospital(), registry()]
        .into_iter()
        .find(|dataset| dataset.name == name)
        .map(Arc::new)
}

#[test]
fn the_worlds_own_are_valid() {
    hospital().validate().unwrap();
    registry().validate().unwrap();
    researcher().validate(lookup).unwrap();
    Habilitation {
        persons: Some(cohort()),
        ..researcher()
    }
    .validate(lookup)
    .unwrap();
}

#[test]
fn datasets() {
    let check = |change: &dyn Fn(&mut Dataset), expected: &str| {
        let mut dataset = hospital();
        change(&mut dataset);
        let error = dataset.validate().expect_err(expected).to_string();
        assert!(error.contains(expected), "{error} instead of {expected}");
    };
    check(&|d| d.name = "Hospital".to_owned(), "lowercase");
    check(&|d| d.name = "a; DROP".to_owned(), "lowercase");
    check(&|d| d.name = String::new(), "lowercase");
    check(&|d| d.name = "a".repeat(64), "63");
    check(&|d| d.name = "space".to_owned(), "reserved");
    check(&|d| d.producer.clear(), "producer");
    check(&|d| d.tables[1].name = "stays".to_owned(), "declared twice");
    check(
        &|d| d.tables[0].location.clear(),
        "table `stays`: has no location",
    );
    check(
        &|d| d.tables[0].columns[1].name = "person".to_owned(),
        "column `person`",
    );
    check(
        &|d| d.tables[0].columns[1].identifier = Some(String::new()),
        "no domain",
    );
    check(
        &|d| d.tables[0].primary_key = vec!["x".to_owned()],
        "column `x`: is in the primary key",
    );
    let person = |path: PersonPath| move |d: &mut Dataset| d.tables[0].person = path.clone();
    check(
        &person(PersonPath::Column("x".to_owned())),
        "column `x`: identifies the person",
    );
    let parent = |table: &str, on: &[(&str, &str)]| PersonPath::Parent {
        table: table.to_owned(),
        on: on
            .iter()
            .map(|(own, other)| ((*own).to_owned(), (*other).to_owned()))
            .collect(),
    };
    check(
        &person(parent("x", &[("stay", "stay")])),
        "`x`, which is missing",
    );
    check(&person(parent("diagnoses", &[])), "by no column");
    check(
        &person(parent("diagnoses", &[("x", "stay")])),
        "column `x`: leads",
    );
    check(
        &person(parent("diagnoses", &[("stay", "x")])),
        "column `x`: leads",
    );
    check(&person(parent("stays", &[("stay", "stay")])), "in a circle");
    check(
        &person(parent("diagnoses", &[("stay", "stay")])),
        "in a circle",
    );
    check(
        &|d| d.tables[1].columns[0].identifier = Some("visit".to_owned()),
        "column `stay`: is an identifier of domain `visit` but leads to `stays.stay` of domain",
    );
    check(
        &|d| d.tables[0].columns[1].identifier = None,
        "which is none; declare it there too",
    );
    let key = |columns: &[&str], parent: &str, parent_columns: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let key = ForeignKey {
            columns: names(columns),
            parent: parent.to_owned(),
            parent_columns: names(parent_columns),
        };
        move |d: &mut Dataset| d.tables[1].foreign_keys = vec![key.clone()]
    };
    check(&key(&["stay"], "x", &["stay"]), "foreign key to `x`");
    check(
        &key(&["stay"], "stays", &["stay", "person"]),
        "1 columns to 2",
    );
    check(&key(&[], "stays", &[]), "pair them");
    check(&key(&["x"], "stays", &["stay"]), "column `x`");
    check(&key(&["stay"], "stays", &["x"]), "column `x`");
}

/// Keys along the path to the person are identifiers though nobody declared them.
#[test]
fn keys_inherit_their_domain() {
    let mut dataset = hospital();
    for table in &mut dataset.tables {
        table.columns.clear();
    }
    dataset.tables[1].person = PersonPath::Parent {
        table: "stays".to_owned(),
        on: vec![("whose".to_owned(), "person".to_owned())],
    };
    let mut grandchild = dataset.tables[1].clone();
    grandchild.name = "codes".to_owned();
    grandchild.person = PersonPath::Parent {
        table: "diagnoses".to_owned(),
        on: vec![("who".to_owned(), "whose".to_owned())],
    };
    dataset.tables.push(grandchild);
    dataset.validate().unwrap();
    let domain = |table: &str, column: &str| {
        let table = dataset.table(table).unwrap();
        dataset.identifier(table, column).map(str::to_owned)
    };
    assert_eq!(domain("diagnoses", "whose").as_deref(), Some("person"));
    assert_eq!(domain("codes", "who").as_deref(), Some("person"));
    assert_eq!(domain("codes", "code"), None);
    assert_eq!(domain("labels", "person"), None);
    let mut circle = dataset.clone();
    circle.tables[0].person = PersonPath::Parent {
        table: "codes".to_owned(),
        on: vec![("person".to_owned(), "who".to_owned())],
    };
    let table = circle.table("codes").unwrap();
    assert_eq!(circle.identifier(table, "who"), None, "a circle ends");
    let granted = TableGrant {
        masks: vec![("who".to_owned(), Mask::Null)],
        ..grant("codes")
    };
    let habilitation = Habilitation {
        tables: Tables::Only(vec![granted]),
        ..researcher()
    };
    let dataset = Arc::new(dataset);
    let error = habilitation.validate(|_| Some(Arc::clone(&dataset)));
    assert!(error.unwrap_err().to_string().contains("is an identifier"));
}

#[test]
fn habilitations() {
    let check = |change: &dyn Fn(&mut Habilitation), expected: &str| {
        let mut habilitation = researcher();
        change(&mut habilitation);
        let error = habilitation
            .validate(lookup)
            .expect_err(expected)
            .to_string();
        assert!(error.contains(expected), "{error} instead of {expected}");
    };
    check(&|h| h.id.clear(), "no id");
    check(&|h| h.project.clear(), "no project");
    check(&|h| h.linkage_group.clear(), "no linkage group");
    check(&|h| h.decision.clear(), "no decision");
    check(&|h| h.valid_to = h.valid_from, "ends before it begins");
    check(
        &|h| h.valid_to = h.valid_from - TimeDelta::seconds(1),
        "ends before it begins",
    );
    check(
        &|h| {
            (h.mode, h.export) = (Mode::Aggregate, ExportRule::Review);
            h.zones = Some(vec![Zone::default()]);
        },
        "names no zone from which it may be used",
    );
    check(
        &|h| h.zones = Some(vec![Zone::default()]),
        "outside only aggregates with `export = \"rules\"` are read",
    );
    check(&|h| h.dataset = "x".to_owned(), "dataset `x`");
    let with = |grants: Vec<TableGrant>| {
        move |h: &mut Habilitation| h.tables = Tables::Only(grants.clone())
    };
    let stays = || grant("stays");
    let rows = |predicate: Predicate| {
        with(vec![TableGrant {
            rows: Some(predicate),
            ..stays()
        }])
    };
    let masks = |masks: &[(&str, Mask)], columns: Columns| {
        let masks = masks
            .iter()
            .map(|(name, mask)| ((*name).to_owned(), *mask))
            .collect();
        with(vec![TableGrant {
            masks,
            columns,
            ..stays()
        }])
    };
    check(&with(vec![grant("x")]), "table `x`: does not exist");
    check(&with(vec![stays(), stays()]), "granted twice");
    let only = |names: &[&str]| Columns::Only(names.iter().map(|n| (*n).to_owned()).collect());
    check(&masks(&[], only(&[])), "without a column");
    check(&masks(&[], only(&["x"])), "column `x`: does not exist");
    check(
        &masks(&[], Columns::Except(vec!["x".to_owned()])),
        "column `x`: does not exist",
    );
    check(
        &masks(&[("x", Mask::Null)], Columns::All),
        "column `x`: is masked",
    );
    check(
        &masks(&[("person", Mask::Null)], Columns::All),
        "is an identifier",
    );
    check(
        &masks(&[("note", Mask::Null), ("note", Mask::Null)], Columns::All),
        "two masks",
    );
    check(
        &masks(&[("note", Mask::Null)], only(&["big"])),
        "masked but not granted",
    );
    let is_null = |column: &str| Predicate::IsNull {
        column: column.to_owned(),
    };
    check(&rows(is_null("x")), "column `x`: is in a row predicate");
    check(&rows(Predicate::Not(Box::new(is_null("x")))), "column `x`");
    check(
        &rows(Predicate::And(vec![is_null("note"), is_null("x")])),
        "column `x`",
    );
    check(&rows(Predicate::Or(Vec::new())), "of no parts");
    check(
        &rows(Predicate::In {
            column: "note".to_owned(),
            values: Vec::new(),
        }),
        "empty list",
    );
    let infinite = Value::Float(f64::INFINITY);
    let compare = Predicate::Compare {
        column: "score".to_owned(),
        op: Comparison::Lt,
        value: infinite.clone(),
    };
    check(&rows(compare), "not finite");
    check(
        &rows(Predicate::In {
            column: "score".to_owned(),
            values: vec![infinite],
        }),
        "not finite",
    );
    let between = |low: Value, high: Value| {
        rows(Predicate::Or(vec![
            is_null("note"),
            Predicate::Not(Box::new(Predicate::Between {
                column: "score".to_owned(),
                low,
                high,
            })),
        ]))
    };
    check(&between(Value::Int(2), Value::Int(1)), "wrong order");
    check(&between(Value::Int(2), Value::Float(3.0)), "two types");
    check(
        &between(Value::Float(f64::NAN), Value::Float(1.0)),
        "not finite",
    );
    // The whole text: who, where, what, and which rule.
    check(
        &between(Value::Int(2), Value::Int(1)),
        "habilitation `readmission-hospital` version 3, table `stays`, column `score`: is between \
         bounds in the wrong order; swap them (rule `rows.or[1].not`)",
    );
    check(
        &masks(
            &[("note", Mask::Null), ("big", Mask::Round(0))],
            Columns::All,
        ),
        "column `big`: is masked to multiples of zero; name a step of 1 or more (rule `masks[1]`)",
    );
    check(&masks(&[("big", Mask::AgeBand(0))], Columns::All), "zero");
    let deep = (0..100).fold(is_null("note"), |inner, _| Predicate::Not(Box::new(inner)));
    check(&rows(deep), "too deep");
    let persons = |change: &dyn Fn(&mut hubflight_rights::habilitation::Cohort)| {
        let mut cohort = cohort();
        change(&mut cohort);
        move |h: &mut Habilitation| h.persons = Some(cohort.clone())
    };
    check(&persons(&|c| c.dataset = "x".to_owned()), "dataset `x`");
    check(&persons(&|c| c.table = "x".to_owned()), "table `x`");
    check(&persons(&|c| c.column = "x".to_owned()), "column `x`");
    check(&persons(&|c| c.rows = is_null("x")), "column `x`");
    check(
        &persons(&|c| c.rows = is_null("x")),
        "(rule `persons.rows`)",
    );
}
