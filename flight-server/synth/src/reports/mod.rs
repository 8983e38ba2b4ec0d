//! `reports` and `reports_raw`: French medical documents, de-identified and as written.

mod document;
mod letters;
mod phrases;
mod scene;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{
    ArrayRef, Date32Array, Int32Builder, Int64Array, ListBuilder, RecordBatch, StringArray,
    StringBuilder, StructBuilder,
};
use arrow::datatypes::{DataType, Field, Fields};
use hubflight_rights::dataset::PersonPath;

use crate::calendar::{Day, data_end};
use crate::dice::{Dice, Purpose, permutation};
use crate::tables::{Col, Declaration, batch, by_person, describe, write_file, write_part};
use crate::world::{World, domain};
use document::Span;
use scene::Scene;

/// Documents of one file, and of one row group.
const PART_DOCUMENTS: usize = 1024;
const GROUP_ROWS: usize = 1024;
/// Documents for each person of the data.
const DOCUMENTS_PER_PERSON: f64 = 0.2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Discharge,
    Imaging,
    Pathology,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Discharge => "CRH",
            Self::Imaging => "CRI",
            Self::Pathology => "CRAP",
        }
    }
}

/// A document to write.
#[derive(Clone, Copy)]
pub struct Planned {
    doc_id: i64,
    /// Rank of the stay that it is about, among all.
    stay: usize,
    kind: Type,
    day: Day,
}

/// The documents, by date.
pub fn plan(world: &World) -> Vec<Planned> {
    let wanted = (world.people.len() as f64 * DOCUMENTS_PER_PERSON).ceil() as usize;
    let mut planned = Vec::new();
    for stay in permutation(world.seed, domain::DOCUMENT + (1 << 16), world.stays.len()) {
        if planned.len() >= wanted {
            break;
        }
        planned_about(world, stay as usize, &mut planned);
    }
    planned.truncate(wanted);
    planned.sort_by_key(|document| (document.day, document.stay, document.kind.name()));
    let ids = permutation(world.seed, domain::DOCUMENT, planned.len());
    for (document, id) in planned.iter_mut().zip(ids) {
        document.doc_id = id;
    }
    planned
}

/// The discharge letter of a stay, and the other documents that it led to.
fn planned_about(world: &World, rank: usize, planned: &mut Vec<Planned>) {
    let Some(stay) = world.stays.get(rank) else {
        return;
    };
    let mut dice = Dice::new(world.seed, Purpose::ReportChoice, rank as u64);
    let later = dice.range(0, 5);
    let mut add = |kind, day: Day| {
        planned.push(Planned {
            doc_id: 0,
            stay: rank,
            kind,
            day: day.min(data_end()),
        });
    };
    add(Type::Discharge, stay.exit + later.min(2));
    let imaged = ["04", "05", "06", "07", "11"]
        .iter()
        .any(|part| stay.reason.ghm.starts_with(part));
    if imaged && dice.chance(0.45) {
        add(Type::Imaging, dice.range(stay.entry, stay.exit));
    }
    let code = stay.reason.diagnosis.code;
    let specimen = ["C509", "C61", "C189", "C349", "K635", "K802", "K358"].contains(&code);
    if specimen && dice.chance(0.8) {
        add(Type::Pathology, stay.exit + 5 + later);
    }
}

pub fn part_count(planned: &[Planned]) -> usize {
    planned.len().div_ceil(PART_DOCUMENTS)
}

fn declaration() -> Declaration {
    Declaration {
        name: "documents",
        remarks: "Documents médicaux : un par ligne",
        person: by_person(),
        primary_key: &["doc_id"],
        foreign_keys: &[],
        columns: vec![
            Col::id("ben_idt", "person", "Identifiant du bénéficiaire"),
            Col::id("doc_id", "document", "Document"),
            Col::text(
                "doc_typ",
                "Type : CRH hospitalisation, CRI imagerie, CRAP anatomopathologie",
            ),
            Col::date("doc_dte", "Date du document"),
            Col::text("text", "Texte"),
        ],
        sorted_by: &["doc_dte"],
        group_rows: GROUP_ROWS,
    }
}

pub fn prepare(curated: &Path, raw: &Path) -> Result<()> {
    let table = declaration();
    for (dir, name, title) in [
        (
            curated,
            "reports",
            "Comptes rendus médicaux désidentifiés (données synthétiques)",
        ),
        (
            raw,
            "reports_raw",
            "Comptes rendus médicaux avec identité, pour la curation (données synthétiques)",
        ),
    ] {
        std::fs::create_dir_all(dir).with_context(|| crate::tables::unwritable(dir))?;
        describe(dir, name, title, std::slice::from_ref(&table))?;
    }
    Ok(())
}

/// What is known of a document, for the truth.
pub struct Known {
    doc_id: i64,
    person: i64,
    rsa_num: i64,
    spans: Vec<Span>,
    diagnoses: Vec<&'static str>,
}

/// Writes one part of both datasets; returns what is known of its documents.
pub fn write(
    world: &World,
    curated: &Path,
    raw: &Path,
    planned: &[Planned],
    part: usize,
) -> Result<Vec<Known>> {
    let table = declaration();
    let mine = planned.chunks(PART_DOCUMENTS).nth(part).unwrap_or_default();
    let (mut known, mut texts) = (Vec::new(), Vec::new());
    for document in mine {
        let (text, about) = written(world, document)?;
        texts.push(text);
        known.push(about);
    }
    let clean: Vec<String> = texts
        .iter()
        .map(|text| hubflight_compute::text::deidentify(text))
        .collect();
    write_part(raw, &table, part, [rows(&table, mine, &known, &texts)])?;
    write_part(curated, &table, part, [rows(&table, mine, &known, &clean)])?;
    Ok(known)
}

fn written(world: &World, planned: &Planned) -> Result<(String, Known)> {
    let stay = world
        .stays
        .get(planned.stay)
        .context("a document about no stay")?;
    let person = world
        .person(stay.person)
        .context("a document about nobody")?;
    let stream = 4 * planned.stay as u64 + planned.kind as u64;
    let dice = Dice::new(world.seed, Purpose::Report, stream);
    let mut scene = Scene::new(world.seed, dice, person, Some(stay), planned.day);
    let written = match planned.kind {
        Type::Discharge => letters::discharge(person, stay, &mut scene)?,
        Type::Imaging => letters::imaging(stay, &mut scene)?,
        Type::Pathology => letters::pathology(stay, &mut scene)?,
    };
    let known = Known {
        doc_id: planned.doc_id,
        person: person.id,
        rsa_num: stay.rsa_num,
        spans: written.document.spans,
        diagnoses: written.diagnoses,
    };
    Ok((written.document.text, known))
}

fn rows(
    table: &Declaration,
    planned: &[Planned],
    known: &[Known],
    texts: &[String],
) -> Result<RecordBatch> {
    batch(
        table,
        vec![
            Arc::new(Int64Array::from_iter_values(known.iter().map(|k| k.person))),
            Arc::new(Int64Array::from_iter_values(known.iter().map(|k| k.doc_id))),
            Arc::new(StringArray::from_iter_values(
                planned.iter().map(|p| p.kind.name()),
            )),
            Arc::new(Date32Array::from_iter_values(planned.iter().map(|p| p.day))),
            Arc::new(StringArray::from_iter_values(texts)),
        ],
    )
}

/// Writes `reports.parquet` in the folder of the truth.
pub fn write_truth(dir: &Path, known: &[Known]) -> Result<()> {
    let span = Fields::from(vec![
        Field::new("start", DataType::Int32, false),
        Field::new("end", DataType::Int32, false),
        Field::new("type", DataType::Utf8, false),
    ]);
    let list = |kind| DataType::List(Arc::new(Field::new_list_field(kind, true)));
    let table = Declaration {
        name: "reports",
        remarks: "",
        person: PersonPath::None,
        primary_key: &[],
        foreign_keys: &[],
        columns: vec![
            Col::id("doc_id", "document", ""),
            Col::id("ben_idt", "person", ""),
            Col::id("rsa_num", "stay", ""),
            Col::new("spans", list(DataType::Struct(span.clone())), ""),
            Col::new("diagnoses", list(DataType::Utf8), ""),
        ],
        sorted_by: &[],
        group_rows: 8192,
    };
    let mut spans = ListBuilder::new(StructBuilder::from_fields(span, 0));
    let mut diagnoses = ListBuilder::new(StringBuilder::new());
    for document in known {
        for span in &document.spans {
            let row = spans.values();
            let missing = "the spans have a start, an end and a type";
            row.field_builder::<Int32Builder>(0)
                .context(missing)?
                .append_value(span.start as i32);
            row.field_builder::<Int32Builder>(1)
                .context(missing)?
                .append_value(span.end as i32);
            row.field_builder::<StringBuilder>(2)
                .context(missing)?
                .append_value(span.kind.name());
            row.append(true);
        }
        spans.append(true);
        for code in &document.diagnoses {
            diagnoses.values().append_value(code);
        }
        diagnoses.append(true);
    }
    let ids = |of: fn(&Known) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(known.iter().map(of)))
    };
    let columns: Vec<ArrayRef> = vec![
        ids(|known| known.doc_id),
        ids(|known| known.person),
        ids(|known| known.rsa_num),
        Arc::new(spans.finish()),
        Arc::new(diagnoses.finish()),
    ];
    write_file(
        &dir.join("reports.parquet"),
        &table,
        [batch(&table, columns)],
    )?;
    Ok(())
}
