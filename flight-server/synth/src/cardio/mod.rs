//! `cardio`: 12-lead electrocardiograms, with the rhythm and the R peaks in the truth.

mod rhythm;
mod signal;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float32Builder, Int32Array, Int32Builder, Int64Array,
    ListBuilder, RecordBatch, StringArray, StringBuilder,
};
use arrow::datatypes::{DataType, Field};
use hubflight_rights::dataset::PersonPath;

use crate::calendar::Day;
use crate::choice;
use crate::codes as c;
use crate::dice::{Dice, Purpose, permutation};
use crate::diseases::Disease;
use crate::people::Person;
use crate::tables::{Col, Declaration, batch, by_person, describe, write_file, write_part};
use crate::world::{World, domain};
use rhythm::Rhythm;
use signal::{Disturbance, LEADS, Recorded};

/// Recordings of one file, and of one row group (about 8 MB of samples).
const PART_RECORDINGS: usize = 128;
const GROUP_ROWS: usize = 32;
/// Persons for one recording.
const PERSONS_PER_RECORDING: usize = 10;
/// Children younger than this have no recording.
const AGE_MIN: i32 = 8;

/// A recording to make.
#[derive(Clone, Copy)]
pub struct Planned {
    index: u64,
    rec_id: i64,
    person: i64,
    day: Day,
    child: bool,
    rhythm: Rhythm,
    clean: bool,
    fs: u32,
    duration: u32,
}

/// The recordings, by date.
pub fn plan(world: &World) -> Vec<Planned> {
    let wanted = (world.people.len() / PERSONS_PER_RECORDING).max(1);
    let chosen = choice::persons(world, Purpose::CardioChoice, wanted, |person, stays| {
        let last = person.observed().1;
        let heart = [
            Disease::AtrialFibrillation,
            Disease::HeartFailure,
            Disease::Ischaemic,
        ]
        .iter()
        .any(|disease| person.has(*disease, last));
        match person.age(last) {
            ..AGE_MIN => 0.0,
            age => {
                1.0 + if heart { 8.0 } else { 0.0 }
                    + if age >= 50 { 1.0 } else { 0.0 }
                    + if stays.is_empty() { 0.0 } else { 0.5 }
            }
        }
    });
    let mut planned: Vec<Planned> = chosen
        .into_iter()
        .filter_map(|person| planned(world, person))
        .collect();
    planned.sort_by_key(|recording| (recording.day, recording.index));
    let ids = permutation(world.seed, domain::RECORDING, planned.len());
    for (recording, id) in planned.iter_mut().zip(ids) {
        recording.rec_id = id;
    }
    planned
}

fn planned(world: &World, person: &Person) -> Option<Planned> {
    let mut dice = Dice::new(world.seed, Purpose::Ecg, person.index);
    let visit =
        |code: i32| [c::GENERALIST.code, c::CARDIOLOGIST.code, c::TECHNICAL.code].contains(&code);
    let day = choice::day_of_care(world, person, &mut dice, |claim| visit(claim.nature.code))?;
    let fibrillates = person.has(Disease::AtrialFibrillation, day);
    let rhythm = match dice.unit() {
        draw if fibrillates && draw < 0.65 => Rhythm::AtrialFibrillation,
        draw if draw < 0.50 => Rhythm::Sinus,
        draw if draw < 0.64 => Rhythm::Tachycardia,
        draw if draw < 0.77 => Rhythm::Bradycardia,
        draw if draw < 0.97 => Rhythm::Ectopic,
        _ => Rhythm::AtrialFibrillation,
    };
    Some(Planned {
        index: person.index,
        rec_id: 0,
        person: person.id,
        day,
        child: person.age(day) < 16,
        rhythm,
        clean: dice.chance(0.85),
        fs: if dice.chance(0.6) { 500 } else { 250 },
        duration: if dice.chance(0.06) { 30 } else { 10 },
    })
}

pub fn part_count(planned: &[Planned]) -> usize {
    planned.len().div_ceil(PART_RECORDINGS)
}

fn declaration() -> Declaration {
    let samples = DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true)));
    Declaration {
        name: "ecg",
        remarks: "Électrocardiogrammes à 12 dérivations : un enregistrement par ligne",
        person: by_person(),
        primary_key: &["rec_id"],
        foreign_keys: &[],
        columns: vec![
            Col::id("ben_idt", "person", "Identifiant du bénéficiaire"),
            Col::id("rec_id", "recording", "Enregistrement"),
            Col::date("rec_dte", "Date de l'enregistrement"),
            Col::int("fs", "Fréquence d'échantillonnage").unit("Hz"),
            Col::int("dur_s", "Durée").unit("s"),
            Col::new(
                "leads",
                DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))),
                "Noms des dérivations, dans l'ordre de `signal`",
            ),
            Col::new(
                "signal",
                DataType::List(Arc::new(Field::new_list_field(samples, true))),
                "Une liste d'échantillons par dérivation",
            )
            .unit("mV"),
        ],
        sorted_by: &["rec_dte"],
        group_rows: GROUP_ROWS,
    }
}

pub fn prepare(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| crate::tables::unwritable(dir))?;
    describe(
        dir,
        "cardio",
        "Électrocardiogrammes (données synthétiques)",
        &[declaration()],
    )
}

/// R peaks of one recording, for the truth.
pub struct Known {
    recording: Planned,
    peaks: Vec<i32>,
    ventricular: Vec<bool>,
}

/// Writes one part; returns what is known of its recordings.
pub fn write(world: &World, dir: &Path, planned: &[Planned], part: usize) -> Result<Vec<Known>> {
    let table = declaration();
    let mut known = Vec::new();
    let mine = planned
        .chunks(PART_RECORDINGS)
        .nth(part)
        .unwrap_or_default();
    let batches = mine.chunks(GROUP_ROWS).map(|group| {
        let recorded: Vec<Recorded> = group
            .iter()
            .map(|each| recorded(world.seed, each))
            .collect();
        let rows = rows(&table, group, &recorded);
        known.extend(group.iter().zip(recorded).map(|(recording, made)| Known {
            recording: *recording,
            peaks: made.peaks,
            ventricular: made.ventricular,
        }));
        rows
    });
    write_part(dir, &table, part, batches)?;
    Ok(known)
}

fn recorded(seed: u64, planned: &Planned) -> Recorded {
    // Its own stream, past what `planned` drew from the person's.
    let mut dice = Dice::new(seed, Purpose::EcgSignal, planned.index);
    let duration = f64::from(planned.duration);
    let beats = rhythm::beats(planned.rhythm, planned.child, duration, &mut dice);
    let disturbance = Disturbance::new(planned.clean, &mut dice);
    signal::record(
        &beats,
        planned.rhythm,
        disturbance,
        planned.fs,
        planned.duration,
        &mut dice,
    )
}

fn rows(table: &Declaration, planned: &[Planned], recorded: &[Recorded]) -> Result<RecordBatch> {
    let mut leads = ListBuilder::new(StringBuilder::new());
    let mut signal = ListBuilder::new(ListBuilder::new(Float32Builder::new()));
    for each in recorded {
        for (name, samples) in LEADS.iter().zip(&each.leads) {
            leads.values().append_value(name);
            signal.values().values().append_slice(samples);
            signal.values().append(true);
        }
        leads.append(true);
        signal.append(true);
    }
    let each = || planned.iter();
    batch(
        table,
        vec![
            Arc::new(Int64Array::from_iter_values(each().map(|r| r.person))),
            Arc::new(Int64Array::from_iter_values(each().map(|r| r.rec_id))),
            Arc::new(Date32Array::from_iter_values(each().map(|r| r.day))),
            Arc::new(Int32Array::from_iter_values(each().map(|r| r.fs as i32))),
            Arc::new(Int32Array::from_iter_values(
                each().map(|r| r.duration as i32),
            )),
            Arc::new(leads.finish()),
            Arc::new(signal.finish()),
        ],
    )
}

/// Writes `ecg.parquet` in the folder of the truth.
pub fn write_truth(dir: &Path, known: &[Known]) -> Result<()> {
    let list = |kind| DataType::List(Arc::new(Field::new_list_field(kind, true)));
    let table = Declaration {
        name: "ecg",
        remarks: "",
        person: PersonPath::None,
        primary_key: &[],
        foreign_keys: &[],
        columns: vec![
            Col::id("rec_id", "recording", ""),
            Col::id("ben_idt", "person", ""),
            Col::int("fs", ""),
            Col::text("rhythm", ""),
            Col::new("clean", DataType::Boolean, ""),
            Col::new("rpeaks", list(DataType::Int32), ""),
            Col::new("beats", list(DataType::Utf8), ""),
        ],
        sorted_by: &[],
        group_rows: 8192,
    };
    let mut peaks = ListBuilder::new(Int32Builder::new());
    let mut beats = ListBuilder::new(StringBuilder::new());
    for each in known {
        peaks.values().append_slice(&each.peaks);
        peaks.append(true);
        for ventricular in &each.ventricular {
            beats
                .values()
                .append_value(if *ventricular { "V" } else { "N" });
        }
        beats.append(true);
    }
    let each = || known.iter().map(|known| &known.recording);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(each().map(|r| r.rec_id))),
        Arc::new(Int64Array::from_iter_values(each().map(|r| r.person))),
        Arc::new(Int32Array::from_iter_values(each().map(|r| r.fs as i32))),
        Arc::new(StringArray::from_iter_values(
            each().map(|r| r.rhythm.name()),
        )),
        Arc::new(BooleanArray::from_iter(each().map(|r| Some(r.clean)))),
        Arc::new(peaks.finish()),
        Arc::new(beats.finish()),
    ];
    write_file(&dir.join("ecg.parquet"), &table, [batch(&table, columns)])?;
    Ok(())
}
