//! `imaging` and `imaging_raw`: DICOM files of phantoms, de-identified and as a scanner would
//! write them.

mod file;
mod phantom;
mod rle;
mod series;
mod study;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray,
};
use arrow::datatypes::DataType;
use hubflight_rights::dataset::PersonPath;

use crate::dice::{Dice, Purpose};
use crate::tables::{Col, Declaration, batch, by_person, describe, write_file, write_part};
use crate::world::World;
use phantom::Lesion;
pub use study::{Plan, plan};

/// Studies of one file.
const PART_STUDIES: usize = 64;
/// Instances of a row group: about 8 MB.
const GROUP_ROWS: usize = 64;

/// One instance as made.
struct Instance {
    /// Ranks in the plan, as stored.
    study: i64,
    series: i64,
    instance: i64,
    person: i64,
    day: i32,
    modality: &'static str,
    lesion: Option<Lesion>,
    rows: usize,
    columns: usize,
    raw: Vec<u8>,
    curated: Vec<u8>,
}

fn declaration() -> Declaration {
    Declaration {
        name: "instances",
        remarks: "Images médicales : un fichier DICOM par ligne",
        person: by_person(),
        primary_key: &["instance_uid"],
        foreign_keys: &[],
        columns: vec![
            Col::id("ben_idt", "person", "Identifiant du bénéficiaire"),
            Col::id("study_uid", "study", "Examen"),
            Col::id("series_uid", "series", "Série"),
            Col::id("instance_uid", "instance", "Image"),
            Col::text("modality", "Modalité : CR, DX, CT, MR, US, XC"),
            Col::date("study_dte", "Date de l'examen"),
            Col::new("content", DataType::Binary, "Fichier DICOM (Part 10)"),
        ],
        sorted_by: &["study_dte"],
        group_rows: GROUP_ROWS,
    }
}

pub fn prepare(curated: &Path, raw: &Path) -> Result<()> {
    let table = declaration();
    for (dir, name, title) in [
        (
            curated,
            "imaging",
            "Images médicales désidentifiées (données synthétiques)",
        ),
        (
            raw,
            "imaging_raw",
            "Images médicales avec identité, pour la curation (données synthétiques)",
        ),
    ] {
        std::fs::create_dir_all(dir).with_context(|| crate::tables::unwritable(dir))?;
        describe(dir, name, title, std::slice::from_ref(&table))?;
    }
    Ok(())
}

pub fn part_count(plan: &Plan) -> usize {
    plan.studies.len().div_ceil(PART_STUDIES)
}

/// Where the lesion of an instance is, for the truth.
pub struct Known {
    instance: i64,
    modality: &'static str,
    lesion: Option<Lesion>,
    rows: usize,
    columns: usize,
}

/// Writes one part of both datasets; returns what is known of its images.
pub fn write(
    world: &World,
    curated: &Path,
    raw: &Path,
    plan: &Plan,
    part: usize,
) -> Result<Vec<Known>> {
    let table = declaration();
    let key = Dice::new(world.seed, Purpose::UidKey, 0).key();
    let mut made = Vec::new();
    for planned in plan
        .studies
        .chunks(PART_STUDIES)
        .nth(part)
        .unwrap_or_default()
    {
        made.extend(study::make(world, plan, planned, &key)?);
    }
    for (dir, content) in [
        (
            curated,
            (|instance| &instance.curated) as fn(&Instance) -> &Vec<u8>,
        ),
        (raw, |instance| &instance.raw),
    ] {
        let batches = made
            .chunks(GROUP_ROWS)
            .map(|group| rows(&table, group, content));
        write_part(dir, &table, part, batches)?;
    }
    Ok(made
        .into_iter()
        .map(|instance| Known {
            instance: instance.instance,
            modality: instance.modality,
            lesion: instance.lesion,
            rows: instance.rows,
            columns: instance.columns,
        })
        .collect())
}

fn rows(
    table: &Declaration,
    made: &[Instance],
    content: fn(&Instance) -> &Vec<u8>,
) -> Result<RecordBatch> {
    let ids = |of: fn(&Instance) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(made.iter().map(of)))
    };
    batch(
        table,
        vec![
            ids(|instance| instance.person),
            ids(|instance| instance.study),
            ids(|instance| instance.series),
            ids(|instance| instance.instance),
            Arc::new(StringArray::from_iter_values(
                made.iter().map(|i| i.modality),
            )),
            Arc::new(Date32Array::from_iter_values(made.iter().map(|i| i.day))),
            Arc::new(BinaryArray::from_iter_values(made.iter().map(content))),
        ],
    )
}

/// Writes `imaging.parquet` in the folder of the truth.
pub fn write_truth(dir: &Path, known: &[Known]) -> Result<()> {
    let table = Declaration {
        name: "imaging",
        remarks: "",
        person: PersonPath::None,
        primary_key: &[],
        foreign_keys: &[],
        columns: vec![
            Col::id("instance_uid", "instance", ""),
            Col::text("modality", ""),
            Col::int("rows", ""),
            Col::int("columns", ""),
            Col::new("has_lesion", DataType::Boolean, ""),
            Col::new("lesion_row", DataType::Float64, "").nullable(),
            Col::new("lesion_column", DataType::Float64, "").nullable(),
            Col::new("lesion_radius", DataType::Float64, "").nullable(),
            Col::int("lesion_contrast", "").nullable(),
        ],
        sorted_by: &[],
        group_rows: 8192,
    };
    let each = || known.iter();
    let part_of = |of: fn(Lesion) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter(each().map(|k| k.lesion.map(of))))
    };
    // Brighter than what is around it, or darker, as displayed.
    let contrast = |known: &Known| {
        let sign = if known.modality == "XC" { -1 } else { 1 };
        known.lesion.map(|_| sign)
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(each().map(|k| k.instance))),
        Arc::new(StringArray::from_iter_values(each().map(|k| k.modality))),
        Arc::new(Int32Array::from_iter_values(each().map(|k| k.rows as i32))),
        Arc::new(Int32Array::from_iter_values(
            each().map(|k| k.columns as i32),
        )),
        Arc::new(BooleanArray::from_iter(
            each().map(|k| Some(k.lesion.is_some())),
        )),
        part_of(|lesion| lesion.row),
        part_of(|lesion| lesion.column),
        part_of(|lesion| lesion.radius),
        Arc::new(Int32Array::from_iter(each().map(contrast))),
    ];
    write_file(
        &dir.join("imaging.parquet"),
        &table,
        [batch(&table, columns)],
    )?;
    Ok(())
}
