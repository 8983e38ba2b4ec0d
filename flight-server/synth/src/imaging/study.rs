//! Studies: who, when, what modality; and the making of their instances.

use anyhow::{Context, Result};
use dicom_dictionary_std::uids;

use super::Instance;
use super::file::{Pixels, Syntax, encode};
use super::phantom::{self, Body, Lesion};
use super::series::{Series, Subject};
use crate::calendar::Day;
use crate::choice;
use crate::codes as c;
use crate::dice::{Dice, Purpose, permutation};
use crate::world::{World, domain};

/// Persons for one study.
const PERSONS_PER_STUDY: usize = 80;
/// Fewest studies, so that each modality and syntax is there at any scale.
const STUDIES_MIN: usize = 10;

/// Modality, instances of a study, and the syntaxes that its studies use in turn.
struct Protocol {
    modality: &'static str,
    class: &'static str,
    slices: usize,
    syntaxes: &'static [Syntax],
    description: &'static str,
    part: &'static str,
}

use Syntax::{ExplicitLittle, ImplicitLittle, Jpeg, Rle};

/// A study's protocol is that of its rank: the mix is the same at every scale.
static PROTOCOLS: [Protocol; 10] = {
    const DX: Protocol = Protocol {
        modality: "DX",
        class: uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
        slices: 1,
        syntaxes: &[ExplicitLittle, Rle],
        description: "RADIOGRAPHIE DU THORAX",
        part: "CHEST",
    };
    const CR: Protocol = Protocol {
        modality: "CR",
        class: uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
        syntaxes: &[ImplicitLittle, ExplicitLittle],
        ..DX
    };
    const CT: Protocol = Protocol {
        modality: "CT",
        class: uids::CT_IMAGE_STORAGE,
        slices: 4,
        syntaxes: &[ExplicitLittle, Rle, ImplicitLittle],
        description: "SCANNER THORACIQUE",
        part: "CHEST",
    };
    const MR: Protocol = Protocol {
        modality: "MR",
        class: uids::MR_IMAGE_STORAGE,
        slices: 4,
        syntaxes: &[ExplicitLittle, Rle],
        description: "IRM CEREBRALE",
        part: "HEAD",
    };
    const US: Protocol = Protocol {
        modality: "US",
        class: uids::ULTRASOUND_IMAGE_STORAGE,
        slices: 2,
        syntaxes: &[Jpeg, ExplicitLittle, Rle],
        description: "ECHOGRAPHIE ABDOMINALE",
        part: "ABDOMEN",
    };
    const XC: Protocol = Protocol {
        modality: "XC",
        class: uids::VL_PHOTOGRAPHIC_IMAGE_STORAGE,
        slices: 1,
        syntaxes: &[Jpeg, ExplicitLittle, Rle],
        description: "PHOTOGRAPHIE CUTANEE",
        part: "SKIN",
    };
    [DX, CT, CR, MR, US, DX, XC, CT, CR, MR]
};

/// A study to make.
#[derive(Clone, Copy)]
pub struct Planned {
    /// Rank, which names the study's random stream and its protocol.
    rank: usize,
    person: u64,
    day: Day,
    study: i64,
    series: i64,
    /// Identifiers of its instances in `World`-wide order: the first one's rank.
    first_instance: usize,
}

/// The studies, by date, and the identifiers of all their instances.
pub struct Plan {
    pub studies: Vec<Planned>,
    pub instance_ids: Vec<i64>,
}

pub fn plan(world: &World) -> Plan {
    let wanted = (world.people.len() / PERSONS_PER_STUDY).max(STUDIES_MIN);
    let chosen = choice::persons(world, Purpose::ImagingChoice, wanted, |person, stays| {
        if person.age(person.observed().1) < 15 {
            0.0
        } else {
            1.0 + stays.len() as f64
        }
    });
    let imaging = [c::IMAGING.code, c::ULTRASOUND.code, c::GENERALIST.code];
    let mut dated: Vec<(Day, u64)> = chosen
        .into_iter()
        .filter_map(|person| {
            let mut dice = Dice::new(world.seed, Purpose::ImagingDay, person.index);
            let day = choice::day_of_care(world, person, &mut dice, |claim| {
                imaging.contains(&claim.nature.code)
            })?;
            Some((day, person.index))
        })
        .collect();
    dated.sort_unstable();
    let studies = permutation(world.seed, domain::STUDY, dated.len());
    let series = permutation(world.seed, domain::SERIES, dated.len());
    let mut instances = 0;
    let planned = dated
        .into_iter()
        .zip(studies.into_iter().zip(series))
        .enumerate()
        .map(|(rank, ((day, person), (study, series)))| {
            let first_instance = instances;
            instances += PROTOCOLS[rank % PROTOCOLS.len()].slices;
            Planned {
                rank,
                person,
                day,
                study,
                series,
                first_instance,
            }
        })
        .collect();
    Plan {
        studies: planned,
        instance_ids: permutation(world.seed, domain::INSTANCE, instances),
    }
}

/// The instances of a study, raw and de-identified.
pub fn make(
    world: &World,
    plan: &Plan,
    planned: &Planned,
    key: &[u8; 32],
) -> Result<Vec<Instance>> {
    let protocol = &PROTOCOLS[planned.rank % PROTOCOLS.len()];
    // Most modalities stand once in each five ranks: each time with the next syntax.
    let turn = planned.rank / (PROTOCOLS.len() / 2);
    let syntax = protocol.syntaxes[turn % protocol.syntaxes.len()];
    let person = world.person(planned.person).context("a study of nobody")?;
    let mut dice = Dice::new(world.seed, Purpose::Image, planned.rank as u64);
    let body = Body::new(&mut dice);
    let series = Series::new(
        &Subject {
            seed: world.seed,
            person,
            day: planned.day,
            modality: protocol.modality,
            class: protocol.class,
            description: protocol.description,
            part: protocol.part,
        },
        &mut dice,
    );
    let (rows, columns) = size(protocol.modality);
    let in_lung = (protocol.part == "CHEST").then_some(body);
    let sick = dice.chance(0.5);
    let place = phantom::place(rows, columns, in_lung, &mut dice);
    (0..protocol.slices)
        .map(|slice| {
            let lesion = sick
                .then(|| slice_of(place, slice, protocol.slices))
                .flatten();
            let level = (slice as f64 + 0.5) / protocol.slices as f64 * 2.0 - 1.0;
            let pixels = pixels(
                protocol.modality,
                (rows, columns),
                body,
                lesion,
                level,
                &mut dice,
            );
            let attributes = series.attributes(slice, protocol.modality, &mut dice);
            let raw = encode(syntax, &attributes, &pixels)?;
            let curated = hubflight_compute::dicom::deidentify(&raw, key)
                .context("de-identifying a DICOM file")?;
            let instance = plan
                .instance_ids
                .get(planned.first_instance + slice)
                .context("an instance without an identifier")?;
            Ok(Instance {
                study: planned.study,
                series: planned.series,
                instance: *instance,
                person: person.id,
                day: planned.day,
                modality: protocol.modality,
                lesion,
                rows,
                columns,
                raw,
                curated,
            })
        })
        .collect()
}

fn size(modality: &str) -> (usize, usize) {
    match modality {
        "DX" => (288, 256),
        "CR" => (256, 224),
        "CT" => (256, 256),
        "MR" => (192, 192),
        "US" => (200, 256),
        _ => (192, 256),
    }
}

/// The disc that a sphere makes in a slice; slices are a third of its radius apart, so that it
/// fades towards the ends.
fn slice_of(lesion: Lesion, slice: usize, slices: usize) -> Option<Lesion> {
    let middle = (slices as f64 - 1.0) / 2.0;
    let away = (slice as f64 - middle).abs() * lesion.radius / 3.0;
    let radius = (lesion.radius.powi(2) - away.powi(2)).max(0.0).sqrt();
    (radius >= 2.0).then_some(Lesion { radius, ..lesion })
}

fn pixels(
    modality: &str,
    (rows, columns): (usize, usize),
    body: Body,
    lesion: Option<Lesion>,
    level: f64,
    dice: &mut Dice,
) -> Pixels {
    let window = |centre: &str, width: &str| Some((centre.to_owned(), width.to_owned()));
    match modality {
        "DX" => {
            let plane = phantom::chest(rows, columns, body, lesion, dice);
            Pixels {
                window: window("30000", "52000"),
                ..Pixels::grey(&plane, "MONOCHROME2", 16, |value| 2000.0 + 58_000.0 * value)
            }
        }
        "CR" => {
            // MONOCHROME1: the lowest value is shown white.
            let plane = phantom::chest(rows, columns, body, lesion, dice);
            Pixels {
                window: window("2048", "4096"),
                ..Pixels::grey(&plane, "MONOCHROME1", 12, |value| 4095.0 * (1.0 - value))
            }
        }
        "CT" => {
            let plane = phantom::thorax(rows, columns, body, lesion, level, dice);
            Pixels {
                rescale: Some(("1", "-1024")),
                // Two windows: lungs, then soft tissue.
                window: window("-600\\40", "1500\\400"),
                ..Pixels::signed(&plane, |value| value + 1024.0)
            }
        }
        "MR" => {
            let plane = phantom::brain(rows, columns, body, lesion, level, dice);
            Pixels {
                window: window("500", "1000"),
                ..Pixels::grey(&plane, "MONOCHROME2", 12, |value| 1000.0 * value)
            }
        }
        "US" => Pixels::grey(
            &phantom::sector(rows, columns, lesion, dice),
            "MONOCHROME2",
            8,
            |value| 255.0 * value,
        ),
        _ => Pixels::colour(&phantom::skin(rows, columns, lesion, dice)),
    }
}
