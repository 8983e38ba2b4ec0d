//! The label tables: every code that the data use.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, Int32Array, StringArray};

use super::declarations::Tables;
use crate::codes::{ACTS, DIAGNOSES, DRUGS, Diagnosis, NATURES, SPECIALTIES};
use crate::diseases::PROFILES;
use crate::tables::{Declaration, batch, write_part};

pub fn write(dir: &Path, tables: &Tables) -> Result<()> {
    let put = |table: &Declaration, columns| write_part(dir, table, 0, [batch(table, columns)]);
    put(
        &tables.cim,
        vec![
            text(DIAGNOSES.iter().map(|diagnosis| diagnosis.code)),
            text(DIAGNOSES.iter().map(|diagnosis| diagnosis.label)),
            Arc::new(Int32Array::from_iter(
                DIAGNOSES.iter().map(|d| long_term(d)),
            )),
        ],
    )?;
    let substances: BTreeMap<&str, &str> = DRUGS
        .iter()
        .map(|drug| (drug.atc, drug.substance))
        .collect();
    put(
        &tables.atc,
        vec![
            text(substances.keys().copied()),
            text(substances.values().copied()),
        ],
    )?;
    put(
        &tables.pharmacy,
        vec![
            text(DRUGS.iter().map(|drug| drug.cip13())),
            numbers(DRUGS.iter().map(|drug| drug.cip7 as i32)),
            text(DRUGS.iter().map(|drug| drug.name)),
            text(DRUGS.iter().map(|drug| drug.atc)),
            text(DRUGS.iter().map(|drug| drug.substance)),
        ],
    )?;
    put(
        &tables.ccam,
        vec![
            text(ACTS.iter().map(|act| act.code)),
            text(ACTS.iter().map(|act| act.label)),
        ],
    )?;
    put(
        &tables.natures,
        vec![
            numbers(NATURES.iter().map(|nature| nature.code)),
            text(NATURES.iter().map(|nature| nature.label)),
        ],
    )?;
    put(
        &tables.specialties,
        vec![
            numbers(SPECIALTIES.iter().map(|(code, _)| *code)),
            text(SPECIALTIES.iter().map(|(_, label)| *label)),
        ],
    )?;
    Ok(())
}

/// Number of the long-term condition that the diagnosis belongs to.
fn long_term(diagnosis: &Diagnosis) -> Option<i32> {
    PROFILES
        .iter()
        .find(|profile| profile.diagnosis.code == diagnosis.code)
        .and_then(|profile| profile.ald)
}

fn text<T: AsRef<str>>(values: impl Iterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn numbers(values: impl Iterator<Item = i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values))
}
