//! The demo's organisations, people, projects, habilitations and prices.

use std::path::Path;

use chrono::NaiveDate;
use hubflight_ledger::Tariff;
use hubflight_rights::dataset::Dataset;
use hubflight_rights::habilitation::{
    Cohort, Columns, Comparison, ExportRule, Mask, Mode, Predicate, TableGrant, Tables, Value,
};
use hubflight_store::{AdminRole, Store};
use hubflight_synth::Facts;

use crate::auth::ADMIN_CATALOG;
use crate::catalog::datasets::read_description;
use crate::config::{Config, DatasetConfig, HabilitationConfig, PersonConfig, ProjectConfig};
use crate::error::{Error, Result};

/// Everybody's password is their name and `-demo`.
const PERSONS: [(&str, &str); 8] = [
    ("researcher", "Researcher in health services"),
    ("epidemiologist", "Epidemiologist, aggregates only"),
    ("startup", "Start-up in cardiology"),
    ("hospital", "Hospital, linked data"),
    ("curator", "Curator of raw data"),
    ("consultant", "Consultant in two projects"),
    ("visitor", "Visitor without a project"),
    ("admin", "Administrator"),
];

const DATASETS: [&str; 6] = [
    "snds",
    "cardio",
    "imaging",
    "reports",
    "imaging_raw",
    "reports_raw",
];

/// Prices of the demo: invented, in euros.
const TARIFF: &str = include_str!("tariff.toml");

pub fn tariff() -> Result<Tariff> {
    toml::from_str(TARIFF).map_err(|error| Error::invalid(format!("demo tariff: {error}")))
}

/// Gives the accounts their passwords, and `admin` its office. Argon2 takes its time, so a
/// password that is set already is left.
pub async fn set_passwords(store: &Store) -> Result<()> {
    let mut write = store.change_rights().await?;
    write
        .set_admin_roles(ADMIN_CATALOG, &AdminRole::ALL.into())
        .await?;
    write.commit().await?;
    for (person, _) in PERSONS {
        let known = store.person(person).await?;
        if known.is_some_and(|person| !person.has_password) {
            store
                .set_password(person, &format!("{person}-demo"))
                .await?;
        }
    }
    Ok(())
}

/// Adds the demo's datasets, people and rights to a configuration.
pub fn describe(config: &mut Config, datasets: &Path, facts: &Facts) -> Result<()> {
    for name in DATASETS {
        let folder = datasets.join(name);
        config.datasets.push(DatasetConfig {
            name: name.into(),
            title: String::new(),
            producer: String::new(),
            version: 1,
            synthetic: true,
            persons_min: hubflight_rights::dataset::PERSONS_MIN_DEFAULT,
            folder: folder.to_string_lossy().into_owned(),
            format: Default::default(),
            persons: None,
            tables: Vec::new(),
            storage: Default::default(),
        });
    }
    config.persons = PERSONS
        .map(|(id, name)| PersonConfig {
            id: id.into(),
            name: name.into(),
            ..PersonConfig::default()
        })
        .into();
    let snds = read_description(&datasets.join("snds").join("dataset.json"))?;
    config.projects = projects(facts)?;
    config.habilitations = habilitations(&snds, facts)?;
    Ok(())
}

fn projects(facts: &Facts) -> Result<Vec<ProjectConfig>> {
    let project = |id: &str, title: &str, organisation: &str, members: &[&str]| {
        Ok::<_, Error>(ProjectConfig {
            id: id.into(),
            title: title.into(),
            purpose: format!("{title} (demo, synthetic data)"),
            organisation: organisation.into(),
            members: members.iter().map(|member| (*member).to_owned()).collect(),
            valid_from: first_day()?,
            valid_to: last_day(facts)?,
            space_quota_mb: 1024,
        })
    };
    Ok(vec![
        project(
            "readmission",
            "30-day readmissions",
            "public-research",
            &["researcher", "consultant"],
        )?,
        project(
            "surveillance",
            "Epidemic surveillance",
            "health-agency",
            &["epidemiologist"],
        )?,
        project(
            "ecg_ai",
            "ECG screening",
            "cardio-startup",
            &["startup", "consultant"],
        )?,
        project(
            "linked",
            "Linked cohort",
            "university-hospital",
            &["hospital"],
        )?,
        project("curation", "Curation of raw data", "hub", &["curator"])?,
    ])
}

fn habilitations(snds: &Dataset, facts: &Facts) -> Result<Vec<HabilitationConfig>> {
    let grant = |project: &str, dataset: &str| {
        Ok::<_, Error>(HabilitationConfig {
            project: project.into(),
            dataset: dataset.into(),
            mode: Mode::Row,
            tables: Tables::All,
            persons: None,
            linkage_group: None,
            zones: None,
            export: ExportRule::Rules,
            decision: format!("DEMO-{project}"),
            valid_from: first_day()?,
            valid_to: last_day(facts)?,
        })
    };
    let mut all = vec![
        HabilitationConfig {
            tables: researcher_tables(snds, facts),
            ..grant("readmission", "snds")?
        },
        HabilitationConfig {
            mode: Mode::Aggregate,
            ..grant("surveillance", "snds")?
        },
        HabilitationConfig {
            persons: Some(born_before_2000()),
            ..grant("ecg_ai", "cardio")?
        },
        grant("curation", "imaging_raw")?,
        grant("curation", "reports_raw")?,
    ];
    for dataset in ["snds", "cardio", "imaging", "reports"] {
        all.push(HabilitationConfig {
            // Their linkage is authorised: persons have the same pseudonym in all four.
            linkage_group: Some("linked".into()),
            ..grant("linked", dataset)?
        });
    }
    Ok(all)
}

/// Stays of the last three years (and so their diagnoses), communes masked to departments,
/// no date of death.
fn researcher_tables(snds: &Dataset, facts: &Facts) -> Tables {
    let grants = snds.tables.iter().map(|table| {
        let mut grant = TableGrant {
            table: table.name.clone(),
            columns: Columns::All,
            rows: None,
            masks: Vec::new(),
        };
        match table.name.as_str() {
            "t_mco_b" => {
                grant.rows = Some(Predicate::Compare {
                    column: "ent_dat".into(),
                    op: Comparison::Ge,
                    value: Value::Date(facts.window_start),
                });
            }
            "ir_ben_r" => {
                grant.columns = Columns::Except(vec!["ben_dcd_dte".into()]);
                grant.masks = vec![("ben_res_com".into(), Mask::Department)];
            }
            _ => {}
        }
        grant
    });
    Tables::Only(grants.collect())
}

/// A cohort of a table that the start-up's project does not see.
fn born_before_2000() -> Cohort {
    Cohort {
        dataset: "snds".into(),
        table: "ir_ben_r".into(),
        column: "ben_idt".into(),
        rows: Predicate::Compare {
            column: "ben_nai_ann".into(),
            op: Comparison::Lt,
            value: Value::Int(2000),
        },
    }
}

fn first_day() -> Result<NaiveDate> {
    NaiveDate::from_ymd_opt(2020, 1, 1).ok_or_else(|| Error::internal("no such day", &"2020"))
}

/// The demo's rights do not end while somebody tries it.
fn last_day(facts: &Facts) -> Result<NaiveDate> {
    facts
        .data_end
        .checked_add_months(chrono::Months::new(12 * 50))
        .ok_or_else(|| Error::internal("no such day", &facts.data_end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tariff_is_valid() {
        tariff().expect("reads");
    }
}
