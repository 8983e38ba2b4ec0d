//! Rows of the tables of `snds`, as Arrow columns in the order of the declarations.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray,
};

use super::declarations::Tables;
use crate::calendar::{self, Day, date};
use crate::care::{Claim, Detail};
use crate::diseases::PROFILES;
use crate::people::Person;
use crate::places::commune;
use crate::stays::Stay;
use crate::tables::batch;
use crate::world::World;

pub fn persons(world: &World, tables: &Tables, part: usize) -> Result<RecordBatch> {
    let mut people: Vec<&Person> = world.part(part).iter().collect();
    people.sort_by_key(|person| person.id);
    let each = || people.iter().copied();
    batch(
        &tables.persons,
        vec![
            ids(each().map(|person| person.id)),
            ints(each().map(|person| calendar::year(person.birth))),
            ints(each().map(|person| calendar::month(person.birth) as i32)),
            ints(each().map(|person| person.sex as i32)),
            texts(each().map(|person| person.department().code)),
            texts(each().map(|person| commune(person.department(), person.commune))),
            Arc::new(Date32Array::from_iter(each().map(|person| person.death))),
            ints(each().map(|_| 1)),
        ],
    )
}

pub fn conditions(world: &World, tables: &Tables, part: usize) -> Result<RecordBatch> {
    /// Days from the onset of a condition to the decision that exempts it.
    const DECISION_DAYS: Day = 30;
    /// A decision about cancer ends after five years.
    const CANCER_DAYS: Day = 1826;
    let mut rows: Vec<(i64, i32, &str, Day, Option<Day>)> = Vec::new();
    for person in world.part(part) {
        for (disease, onset) in &person.conditions {
            let Some(profile) = PROFILES.get(*disease as usize) else {
                continue;
            };
            let start = onset + DECISION_DAYS;
            let Some(ald) = profile.ald.filter(|_| start <= person.observed().1) else {
                continue;
            };
            let end = (ald == 30)
                .then_some(start + CANCER_DAYS)
                .filter(|end| *end <= person.observed().1);
            rows.push((person.id, ald, profile.diagnosis.code, start, end));
        }
    }
    rows.sort_by_key(|row| (row.3, row.0));
    batch(
        &tables.conditions,
        vec![
            ids(rows.iter().map(|row| row.0)),
            ints(rows.iter().map(|row| row.1)),
            ints(rows.iter().map(|_| 41)),
            texts(rows.iter().map(|row| row.2)),
            dates(rows.iter().map(|row| row.3)),
            Arc::new(Date32Array::from_iter(rows.iter().map(|row| row.4))),
        ],
    )
}

pub fn stays(world: &World, tables: &Tables, stays: &[&Stay]) -> Result<RecordBatch> {
    let people = stays
        .iter()
        .map(|stay| world.person(stay.person).context("a stay of nobody"))
        .collect::<Result<Vec<&Person>>>()?;
    let each = || stays.iter().copied();
    let mut letter = [0; 4];
    let mut letters = |of: fn(&Stay) -> char| -> ArrayRef {
        texts(each().map(|stay| of(stay).encode_utf8(&mut letter).to_owned()))
    };
    batch(
        &tables.stays,
        vec![
            ids(each().map(|stay| world.eta_num(stay))),
            ids(each().map(|stay| stay.rsa_num)),
            ids(people.iter().map(|person| person.id)),
            dates(each().map(|stay| stay.entry)),
            dates(each().map(|stay| stay.exit)),
            texts(each().map(|stay| stay.reason.diagnosis.code)),
            Arc::new(StringArray::from_iter(
                each().map(|stay| stay.related.map(|related| related.code)),
            )),
            texts(each().map(Stay::ghm)),
            letters(|stay| stay.entry_mode),
            Arc::new(StringArray::from_iter(
                each().map(|stay| stay.emergency.then_some("5")),
            )),
            letters(|stay| stay.exit_mode),
            ints(each().map(|stay| stay.exit - stay.entry)),
            ints(
                each()
                    .zip(&people)
                    .map(|(stay, person)| person.age(stay.entry)),
            ),
            texts(people.iter().map(|person| (person.sex as i32).to_string())),
            ints(each().map(|stay| stay.associated.len() as i32)),
        ],
    )
}

pub fn diagnoses(world: &World, tables: &Tables, stays: &[&Stay]) -> Result<RecordBatch> {
    let rows: Vec<(&Stay, &str)> = stays
        .iter()
        .flat_map(|stay| stay.associated.iter().map(|code| (*stay, code.code)))
        .collect();
    batch(
        &tables.diagnoses,
        vec![
            ids(rows.iter().map(|(stay, _)| world.eta_num(stay))),
            ids(rows.iter().map(|(stay, _)| stay.rsa_num)),
            texts(rows.iter().map(|(_, code)| code)),
        ],
    )
}

pub fn stay_acts(world: &World, tables: &Tables, stays: &[&Stay]) -> Result<RecordBatch> {
    let rows: Vec<(&Stay, &str)> = stays
        .iter()
        .filter_map(|stay| Some((*stay, stay.reason.act?.code)))
        .collect();
    batch(
        &tables.stay_acts,
        vec![
            ids(rows.iter().map(|(stay, _)| world.eta_num(stay))),
            ids(rows.iter().map(|(stay, _)| stay.rsa_num)),
            texts(rows.iter().map(|(_, code)| code)),
            // On the day after the entry, or the same day when the stay has no night.
            ints(rows.iter().map(|(stay, _)| (stay.exit - stay.entry).min(1))),
        ],
    )
}

/// The key of each line, the person and the date.
fn line_columns(claims: &[Claim], statements: &[i64]) -> Result<Vec<ArrayRef>> {
    let statement = |claim: &Claim| {
        statements
            .get(claim.statement as usize)
            .copied()
            .context("a claim without a statement")
    };
    let statements = claims.iter().map(statement).collect::<Result<Vec<i64>>>()?;
    let flow: Vec<Day> = claims.iter().map(|claim| month_after(claim.day)).collect();
    Ok(vec![
        dates(flow.iter().copied()),
        dates(claims.iter().map(|claim| claim.day + 10)),
        ints(claims.iter().map(|_| 1)),
        ints(claims.iter().map(|claim| 1 + i32::from(claim.department))),
        ints(claims.iter().map(|_| 0)),
        texts(claims.iter().map(|_| "01C01")),
        ids(statements.into_iter()),
        ints(claims.iter().map(|claim| claim.line)),
        ints(claims.iter().map(|_| 0)),
        ids(claims.iter().map(|claim| claim.person)),
        dates(claims.iter().map(|claim| claim.day)),
    ])
}

/// First day of the month in which the line reaches the database.
fn month_after(day: Day) -> Day {
    let next = date(day) + chrono::Months::new(1);
    calendar::day_of(next) - (chrono::Datelike::day(&next) as Day - 1)
}

pub fn claims(tables: &Tables, claims: &[Claim], statements: &[i64]) -> Result<RecordBatch> {
    let mut columns = line_columns(claims, statements)?;
    let each = || claims.iter();
    columns.extend([
        dates(each().map(|claim| claim.day)),
        ints(each().map(|claim| claim.nature.code)),
        ints(each().map(|claim| claim.quantity)),
        cents(each().map(|claim| claim.paid))?,
        cents(each().map(|claim| claim.basis))?,
        cents(each().map(|claim| claim.basis * i64::from(claim.rate) / 100))?,
        ints(each().map(|claim| claim.rate)),
        ints(each().map(|claim| claim.executor)),
        ints(each().map(|claim| claim.prescriber)),
    ]);
    batch(&tables.claims, columns)
}

pub fn drugs(tables: &Tables, claims: &[Claim], statements: &[i64]) -> Result<RecordBatch> {
    let mut columns = line_columns(claims, statements)?;
    let each = || {
        claims.iter().filter_map(|claim| match claim.detail {
            Detail::Drug(drug) => Some((claim, drug)),
            Detail::Act(_) | Detail::None => None,
        })
    };
    columns.extend([
        texts(each().map(|(_, drug)| drug.cip13())),
        ints(each().map(|(_, drug)| drug.cip7 as i32)),
        texts(each().map(|(_, drug)| drug.atc)),
        ints(each().map(|(claim, _)| claim.quantity)),
        cents(each().map(|(_, drug)| drug.price))?,
    ]);
    batch(&tables.drugs, columns)
}

pub fn acts(tables: &Tables, claims: &[Claim], statements: &[i64]) -> Result<RecordBatch> {
    let mut columns = line_columns(claims, statements)?;
    let each = || {
        claims.iter().filter_map(|claim| match claim.detail {
            Detail::Act(act) => Some((claim, act)),
            Detail::Drug(_) | Detail::None => None,
        })
    };
    columns.extend([
        texts(each().map(|(_, act)| act.code)),
        ints(each().map(|_| 1)),
        ints(each().map(|_| 0)),
        ints(each().map(|(claim, _)| claim.quantity)),
    ]);
    batch(&tables.acts, columns)
}

fn ids(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn ints(values: impl Iterator<Item = i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values))
}

fn dates(values: impl Iterator<Item = Day>) -> ArrayRef {
    Arc::new(Date32Array::from_iter_values(values))
}

fn texts<T: AsRef<str>>(values: impl Iterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn cents(values: impl Iterator<Item = i64>) -> Result<ArrayRef> {
    let array = Decimal128Array::from_iter_values(values.map(i128::from));
    Ok(Arc::new(array.with_precision_and_scale(12, 2)?))
}
