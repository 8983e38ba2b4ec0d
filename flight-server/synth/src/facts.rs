//! `facts.json`: what those who set up the demo need to know of its data. Written last, so that
//! its presence says that the data are complete.

use std::path::Path;

use anyhow::{Context, Result, bail};
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use crate::snds::truth::Readmission;
use crate::{DATA_VERSION, Request, Summary};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// `DATA_VERSION` of the generator that made the data.
    pub data_version: u32,
    pub seed: u64,
    pub scale: f64,
    /// First and last day of the data.
    pub data_start: NaiveDate,
    pub data_end: NaiveDate,
    /// First day of the last three years of the data: what `researcher` may see of the stays.
    pub window_start: NaiveDate,
    pub persons: u64,
    pub summary: Summary,
    /// The 30-day readmission rates that follow from the generator.
    pub readmission: Readmission,
}

pub(crate) fn path(dir: &Path) -> std::path::PathBuf {
    dir.join("facts.json")
}

impl Facts {
    /// The facts of the data under `dir`.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = path(dir);
        let text = std::fs::read(&path)
            .with_context(|| format!("no complete demo data: cannot read `{}`", path.display()))?;
        serde_json::from_slice(&text).with_context(|| {
            format!(
                "`{}` is not what this version writes: remove the folder to make the data again",
                path.display()
            )
        })
    }

    /// The facts of the data under `dir` when they are complete and what `request` would make;
    /// None when they have to be made.
    pub fn current(request: &Request<'_>) -> Option<Self> {
        let facts = Self::read(request.dir).ok()?;
        let same = facts.data_version == DATA_VERSION
            && facts.seed == request.seed
            && facts.scale == request.scale
            && request.dir.join("datasets").is_dir();
        same.then_some(facts)
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let path = path(dir);
        std::fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| crate::tables::unwritable(&path))
    }
}

/// Number of persons at a scale: 10,000 at scale 1.
pub(crate) fn persons(scale: f64) -> Result<usize> {
    const PERSONS_AT_SCALE_1: f64 = 10_000.0;
    const SCALE_MIN: f64 = 0.01;
    const SCALE_MAX: f64 = 1000.0;
    if !(SCALE_MIN..=SCALE_MAX).contains(&scale) {
        bail!("scale `{scale}` is out of range: give a number from {SCALE_MIN} to {SCALE_MAX}");
    }
    Ok((scale * PERSONS_AT_SCALE_1).round() as usize)
}
