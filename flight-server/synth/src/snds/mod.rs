//! `snds`: beneficiaries, reimbursed care and hospital stays, under the names of the SNDS.

mod declarations;
mod labels;
mod rows;
pub mod truth;

use std::path::Path;

use anyhow::Result;

use crate::care::{self, Claim, Detail};
use crate::dice::permutation;
use crate::stays::Stay;
use crate::tables::{describe, write_part};
use crate::world::{World, domain};
use declarations::Tables;

/// Folder of the dataset, its description and its label tables.
pub fn prepare(dir: &Path) -> Result<()> {
    let tables = Tables::new();
    std::fs::create_dir_all(dir)?;
    labels::write(dir, &tables)?;
    describe(
        dir,
        "snds",
        "Système national des données de santé : remboursements et séjours hospitaliers (données synthétiques)",
        &tables.all(),
    )
}

/// Writes one part of every table that is about persons; returns the number of claims.
pub fn write(world: &World, dir: &Path, part: usize) -> Result<u64> {
    let tables = Tables::new();
    write_part(
        dir,
        &tables.persons,
        part,
        [rows::persons(world, &tables, part)],
    )?;
    write_part(
        dir,
        &tables.conditions,
        part,
        [rows::conditions(world, &tables, part)],
    )?;
    let stays = stays_by_date(world, part);
    write_part(
        dir,
        &tables.stays,
        part,
        [rows::stays(world, &tables, &stays)],
    )?;
    write_part(
        dir,
        &tables.diagnoses,
        part,
        [rows::diagnoses(world, &tables, &stays)],
    )?;
    write_part(
        dir,
        &tables.stay_acts,
        part,
        [rows::stay_acts(world, &tables, &stays)],
    )?;
    let (claims, statements) = claims_by_date(world, part);
    let ids = statement_ids(world.seed, part, statements);
    let groups = |group_rows: usize| claims.chunks(group_rows);
    write_part(
        dir,
        &tables.claims,
        part,
        groups(tables.claims.group_rows).map(|group| rows::claims(&tables, group, &ids)),
    )?;
    let drugs: Vec<Claim> = only(&claims, |detail| matches!(detail, Detail::Drug(_)));
    write_part(
        dir,
        &tables.drugs,
        part,
        drugs
            .chunks(tables.drugs.group_rows)
            .map(|group| rows::drugs(&tables, group, &ids)),
    )?;
    let acts: Vec<Claim> = only(&claims, |detail| matches!(detail, Detail::Act(_)));
    write_part(
        dir,
        &tables.acts,
        part,
        acts.chunks(tables.acts.group_rows)
            .map(|group| rows::acts(&tables, group, &ids)),
    )?;
    Ok(claims.len() as u64)
}

fn only(claims: &[Claim], test: impl Fn(&Detail) -> bool) -> Vec<Claim> {
    claims
        .iter()
        .filter(|claim| test(&claim.detail))
        .copied()
        .collect()
}

/// Stays of a part by date, then by identifier, so that the order within a day says nothing.
fn stays_by_date(world: &World, part: usize) -> Vec<&Stay> {
    let mut stays: Vec<&Stay> = world
        .part(part)
        .iter()
        .flat_map(|person| world.stays_of(person))
        .collect();
    stays.sort_by_key(|stay| (stay.entry, stay.rsa_num));
    stays
}

/// Claims of a part by date, and the number of statements that they belong to.
fn claims_by_date(world: &World, part: usize) -> (Vec<Claim>, u32) {
    let mut claims = Vec::new();
    let mut statements = 0;
    for person in world.part(part) {
        let stays = world.stays_of(person);
        statements = care::of_person(world.seed, person, stays, &mut claims, statements);
    }
    // Stable, so that the lines of a statement keep their order.
    claims.sort_by_key(|claim| (claim.day, claim.person));
    (claims, statements)
}

/// Identifiers of a part's statements: each part has a range of its own.
fn statement_ids(seed: u64, part: usize, statements: u32) -> Vec<i64> {
    const PART_STATEMENTS: i64 = 1 << 24;
    let mut ids = permutation(seed, domain::STATEMENTS + part as u64, statements as usize);
    for id in &mut ids {
        *id += part as i64 * PART_STATEMENTS;
    }
    ids
}
