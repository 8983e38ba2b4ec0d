//! A small hospital, a register of persons, and what a researcher may see of them: descriptions
//! only, for the tests of this crate and of the barrier.

use chrono::{DateTime, NaiveDate};
use hubflight_rights::dataset::{Column, Dataset, Format, PERSONS_MIN_DEFAULT, PersonPath, Table};
use hubflight_rights::habilitation::{
    Cohort, Columns, Comparison, ExportRule, Habilitation, Mask, Mode, Predicate, TableGrant,
    Tables, Value,
};

pub fn date(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).unwrap()
}

pub fn first_visible_day() -> NaiveDate {
    date(2024, 7, 1)
}

fn column(name: &str, identifier: Option<&str>) -> Column {
    Column {
        name: name.to_owned(),
        remarks: format!("remarks on {name}"),
        unit: (name == "score").then(|| "points".to_owned()),
        not_null: false,
        identifier: identifier.map(str::to_owned),
    }
}

pub fn table(name: &str, person: PersonPath, columns: Vec<Column>) -> Table {
    Table {
        name: name.to_owned(),
        remarks: String::new(),
        location: name.to_owned(),
        format: Format::Parquet,
        person,
        primary_key: Vec::new(),
        foreign_keys: Vec::new(),
        columns,
    }
}

pub fn hospital() -> Dataset {
    let stay_columns = [
        "begun",
        "diagnosis",
        "commune",
        "departed",
        "note",
        "divisor",
        "big",
        "score",
        "urgent",
        "secret",
    ];
    let mut of_stays = vec![
        column("person", Some("person")),
        column("stay", Some("stay")),
    ];
    of_stays.extend(stay_columns.map(|name| column(name, None)));
    Dataset {
        name: "hospital".to_owned(),
        title: "A hospital".to_owned(),
        producer: "test".to_owned(),
        version: 1,
        synthetic: true,
        persons_min: PERSONS_MIN_DEFAULT,
        tables: vec![
            table("stays", PersonPath::Column("person".to_owned()), of_stays),
            table(
                "diagnoses",
                PersonPath::Parent {
                    table: "stays".to_owned(),
                    on: vec![("stay".to_owned(), "stay".to_owned())],
                },
                vec![
                    column("stay", Some("stay")),
                    column("code", None),
                    column("note", None),
                ],
            ),
            table(
                "labels",
                PersonPath::None,
                vec![column("code", None), column("label", None)],
            ),
        ],
    }
}

pub fn registry() -> Dataset {
    Dataset {
        name: "registry".to_owned(),
        title: "A register of persons".to_owned(),
        producer: "test".to_owned(),
        version: 1,
        synthetic: true,
        persons_min: PERSONS_MIN_DEFAULT,
        tables: vec![table(
            "persons",
            PersonPath::Column("person".to_owned()),
            vec![column("person", Some("person")), column("birth", None)],
        )],
    }
}

pub fn grant(table: &str) -> TableGrant {
    TableGrant {
        table: table.to_owned(),
        columns: Columns::All,
        rows: None,
        masks: Vec::new(),
    }
}

pub fn since(day: NaiveDate) -> Predicate {
    Predicate::Compare {
        column: "begun".to_owned(),
        op: Comparison::Ge,
        value: Value::Date(day),
    }
}

pub fn habilitation(project: &str, tables: Tables) -> Habilitation {
    Habilitation {
        id: format!("{project}-hospital"),
        version: 3,
        project: project.to_owned(),
        dataset: "hospital".to_owned(),
        mode: Mode::Row,
        tables,
        persons: None,
        linkage_group: "main".to_owned(),
        zones: None,
        export: ExportRule::Rules,
        valid_from: DateTime::UNIX_EPOCH,
        valid_to: DateTime::UNIX_EPOCH + chrono::TimeDelta::days(1),
        decision: "test".to_owned(),
    }
}

/// Stays since July 2024, without `secret`, commune and departure masked; their diagnoses;
/// labels.
pub fn researcher() -> Habilitation {
    let stays = TableGrant {
        columns: Columns::Except(vec!["secret".to_owned()]),
        rows: Some(since(first_visible_day())),
        masks: vec![
            ("commune".to_owned(), Mask::Department),
            ("departed".to_owned(), Mask::Year),
        ],
        ..grant("stays")
    };
    habilitation(
        "readmission",
        Tables::Only(vec![stays, grant("diagnoses"), grant("labels")]),
    )
}

/// Persons born before 1970, found in a register that the project does not see.
pub fn cohort() -> Cohort {
    Cohort {
        dataset: "registry".to_owned(),
        table: "persons".to_owned(),
        column: "person".to_owned(),
        rows: Predicate::Compare {
            column: "birth".to_owned(),
            op: Comparison::Lt,
            value: Value::Int(1970),
        },
    }
}
