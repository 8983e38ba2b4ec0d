//! What the generator knows of readmissions, for those who measure, not for users.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array};
use arrow::datatypes::DataType;
use chrono::NaiveDate;
use hubflight_rights::dataset::PersonPath;
use serde::{Deserialize, Serialize};

use crate::calendar::{Day, data_end, data_start, date, window_start};
use crate::stays::{READMISSION_DAYS, Stay};
use crate::tables::{Col, Declaration, batch, unwritable, write_file};
use crate::world::World;

/// `truth/readmission.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Readmission {
    pub definition: String,
    /// Computes the rate on a table `t_mco_b`; `{from}` and `{last_exit}` are dates.
    pub sql: String,
    pub data_end: NaiveDate,
    /// All stays of the data.
    pub overall: Rate,
    /// Stays that began in the last three years of the data.
    pub window: Rate,
    pub by_diagnosis: Vec<DiagnosisRate>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Only stays that began on that day or later are seen, as index and as readmission.
    pub from: NaiveDate,
    /// Index stays end on that day at the latest.
    pub last_exit: NaiveDate,
    pub index_stays: u64,
    pub readmitted: u64,
    pub rate: f64,
    /// Mean probability with which the generator decided on a return; the rate is a little
    /// lower, since death prevents some returns.
    pub decided: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiagnosisRate {
    pub dgn_pal: String,
    /// Probability with which the generator decides on a return after a stay that ends alive.
    pub probability: f64,
    pub index_stays: u64,
    pub readmitted: u64,
}

const DEFINITION: &str = "An index stay is any stay of t_mco_b, deaths included, with \
     ent_dat >= `from` and sor_dat <= `last_exit` (the end of the data less 30 days). It is \
     followed by a readmission when another stay of the same person, also with ent_dat >= `from`, \
     begins 1 to 30 days after its end: 0 < ent_dat - sor_dat <= 30. The rate is the share of \
     index stays that are followed by one. Stays of a person do not overlap.";

const SQL: &str = "WITH s AS (SELECT ben_idt, ent_dat, sor_dat, \
     LEAD(ent_dat) OVER (PARTITION BY ben_idt ORDER BY ent_dat, sor_dat) AS next_dat \
     FROM t_mco_b WHERE ent_dat >= DATE '{from}') \
     SELECT COUNT(*) AS index_stays, \
     SUM(CASE WHEN next_dat > sor_dat AND next_dat <= sor_dat + INTERVAL '30' DAY THEN 1 ELSE 0 END) AS readmitted \
     FROM s WHERE sor_dat <= DATE '{last_exit}'";

/// A stay with what followed it.
struct Followed<'a> {
    stay: &'a Stay,
    person: i64,
    next: Option<Day>,
}

impl Followed<'_> {
    fn readmitted(&self) -> bool {
        self.next
            .is_some_and(|next| (1..=READMISSION_DAYS).contains(&(next - self.stay.exit)))
    }
}

/// Writes `readmission.json` and `readmission.parquet` under `dir`.
pub fn write(world: &World, dir: &Path) -> Result<Readmission> {
    let mut followed = Vec::with_capacity(world.stays.len());
    for person in &world.people {
        let stays = world.stays_of(person);
        for (rank, stay) in stays.iter().enumerate() {
            followed.push(Followed {
                stay,
                person: person.id,
                next: stays.get(rank + 1).map(|next| next.entry),
            });
        }
    }
    let truth = Readmission {
        definition: DEFINITION.to_owned(),
        sql: SQL.to_owned(),
        data_end: date(data_end()),
        overall: rate(&followed, data_start()),
        window: rate(&followed, window_start()),
        by_diagnosis: by_diagnosis(&followed),
    };
    let path = dir.join("readmission.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&truth)?).with_context(|| unwritable(&path))?;
    write_rows(&followed, &dir.join("readmission.parquet"))?;
    Ok(truth)
}

fn last_exit() -> Day {
    data_end() - READMISSION_DAYS
}

fn index_stays<'a>(
    followed: &'a [Followed<'a>],
    from: Day,
) -> impl Iterator<Item = &'a Followed<'a>> {
    followed
        .iter()
        .filter(move |f| f.stay.entry >= from && f.stay.exit <= last_exit())
}

fn rate(followed: &[Followed<'_>], from: Day) -> Rate {
    let (mut index, mut readmitted, mut decided) = (0_u64, 0_u64, 0.0);
    for each in index_stays(followed, from) {
        index += 1;
        readmitted += u64::from(each.readmitted());
        decided += each.stay.return_probability;
    }
    let of = |count: f64| {
        if index == 0 {
            0.0
        } else {
            count / index as f64
        }
    };
    Rate {
        from: date(from),
        last_exit: date(last_exit()),
        index_stays: index,
        readmitted,
        rate: of(readmitted as f64),
        decided: of(decided),
    }
}

fn by_diagnosis(followed: &[Followed<'_>]) -> Vec<DiagnosisRate> {
    crate::reasons::REASONS
        .iter()
        .map(|reason| {
            let of_reason: Vec<&Followed<'_>> = index_stays(followed, data_start())
                .filter(|each| std::ptr::eq(each.stay.reason, *reason))
                .collect();
            DiagnosisRate {
                dgn_pal: reason.diagnosis.code.to_owned(),
                probability: reason.readmission,
                index_stays: of_reason.len() as u64,
                readmitted: of_reason.iter().filter(|each| each.readmitted()).count() as u64,
            }
        })
        .collect()
}

fn write_rows(followed: &[Followed<'_>], path: &Path) -> Result<()> {
    let table = Declaration {
        name: "readmission",
        remarks: "",
        person: PersonPath::None,
        primary_key: &[],
        foreign_keys: &[],
        columns: vec![
            Col::id("rsa_num", "stay", ""),
            Col::id("ben_idt", "person", ""),
            Col::date("ent_dat", ""),
            Col::date("sor_dat", ""),
            Col::new("probability", DataType::Float64, ""),
            Col::new("is_index", DataType::Boolean, ""),
            Col::new("readmitted", DataType::Boolean, ""),
            Col::int("days_to_next", "").nullable(),
        ],
        sorted_by: &[],
        group_rows: 131_072,
    };
    let each = || followed.iter();
    let rows = batch(
        &table,
        vec![
            Arc::new(Int64Array::from_iter_values(each().map(|f| f.stay.rsa_num))),
            Arc::new(Int64Array::from_iter_values(each().map(|f| f.person))),
            Arc::new(Date32Array::from_iter_values(each().map(|f| f.stay.entry))),
            Arc::new(Date32Array::from_iter_values(each().map(|f| f.stay.exit))),
            Arc::new(Float64Array::from_iter_values(
                each().map(|f| f.stay.return_probability),
            )),
            Arc::new(BooleanArray::from_iter(
                each().map(|f| Some(f.stay.exit <= last_exit())),
            )),
            Arc::new(BooleanArray::from_iter(
                each().map(|f| Some(f.readmitted())),
            )),
            Arc::new(Int32Array::from_iter(
                each().map(|f| f.next.map(|next| next - f.stay.exit)),
            )),
        ],
    );
    write_file(path, &table, [rows])?;
    Ok(())
}
