//! The run: everything is made in a folder aside, then moved into place.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::calendar::{data_end, data_start, date, window_start};
use crate::facts::{self, Facts};
use crate::tables::unwritable;
use crate::world::World;
use crate::{DATA_VERSION, cardio, imaging, parallel, reports, snds};

/// What to make, and where.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub dir: &'a Path,
    /// 1 is 10,000 persons and about a million claims; from 0.01 up.
    pub scale: f64,
    pub seed: u64,
    /// Shows progress on stderr when that is a terminal.
    pub progress: bool,
}

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub persons: u64,
    pub claims: u64,
    pub stays: u64,
    pub recordings: u64,
    pub images: u64,
    pub documents: u64,
    /// Wall time of the run, seconds.
    pub seconds: f64,
}

/// What a job added, for the summary and the truth.
enum Made {
    Claims(u64),
    Recordings(Vec<cardio::Known>),
    Images(Vec<imaging::Known>),
    Documents(Vec<reports::Known>),
}

/// Writes everything under `request.dir`: `datasets/`, `truth/` and, last, `facts.json`. What
/// was there under these names is replaced. A run that is cut off leaves nothing half made
/// under them; the next one removes its remains.
pub fn generate(request: &Request<'_>) -> Result<Summary> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    generate_with(request, threads)
}

/// `generate` on a given number of threads. The files do not depend on it.
pub fn generate_with(request: &Request<'_>, threads: usize) -> Result<Summary> {
    let started = Instant::now();
    let persons = facts::persons(request.scale)?;
    let partial = request.dir.join(".partial");
    remove(&partial)?;
    let (datasets, truth) = (partial.join("datasets"), partial.join("truth"));
    for folder in [&datasets, &truth] {
        std::fs::create_dir_all(folder).with_context(|| unwritable(folder))?;
    }
    let bar = progress_bar(request.progress);
    let world = World::new(request.seed, persons, threads)?;
    let plans = Plans {
        recordings: cardio::plan(&world),
        images: imaging::plan(&world),
        documents: reports::plan(&world),
    };
    let jobs = plans.jobs(&world);
    bar.set_length(jobs.len() as u64);
    let places = Places { datasets, truth };
    places.prepare()?;
    let made = parallel::map(threads, jobs.len(), |index| {
        let job = jobs.get(index).context("a job beyond the last")?;
        let made = job.run(&world, &plans, &places)?;
        bar.inc(1);
        Ok(made)
    })?;
    let counted = places.write_truth(made)?;
    let readmission = snds::truth::write(&world, &places.truth)?;
    bar.finish_and_clear();
    let summary = Summary {
        persons: persons as u64,
        stays: world.stays.len() as u64,
        seconds: started.elapsed().as_secs_f64(),
        ..counted
    };
    let facts = Facts {
        data_version: DATA_VERSION,
        seed: request.seed,
        scale: request.scale,
        data_start: date(data_start()),
        data_end: date(data_end()),
        window_start: date(window_start()),
        persons: summary.persons,
        summary,
        readmission,
    };
    facts.write(&partial)?;
    put_in_place(request.dir, &partial)?;
    Ok(summary)
}

/// Folders of the run.
struct Places {
    datasets: PathBuf,
    truth: PathBuf,
}

impl Places {
    fn dataset(&self, name: &str) -> PathBuf {
        self.datasets.join(name)
    }

    fn prepare(&self) -> Result<()> {
        snds::prepare(&self.dataset("snds"))?;
        cardio::prepare(&self.dataset("cardio"))?;
        imaging::prepare(&self.dataset("imaging"), &self.dataset("imaging_raw"))?;
        reports::prepare(&self.dataset("reports"), &self.dataset("reports_raw"))
    }

    /// Writes what the jobs know, in the order of the jobs, and counts it.
    fn write_truth(&self, made: Vec<Made>) -> Result<Summary> {
        let mut claims = 0;
        let (mut recordings, mut images, mut documents) = (Vec::new(), Vec::new(), Vec::new());
        for made in made {
            match made {
                Made::Claims(count) => claims += count,
                Made::Recordings(known) => recordings.extend(known),
                Made::Images(known) => images.extend(known),
                Made::Documents(known) => documents.extend(known),
            }
        }
        cardio::write_truth(&self.truth, &recordings)?;
        imaging::write_truth(&self.truth, &images)?;
        reports::write_truth(&self.truth, &documents)?;
        Ok(Summary {
            claims,
            recordings: recordings.len() as u64,
            images: images.len() as u64,
            documents: documents.len() as u64,
            ..Summary::default()
        })
    }
}

/// What is to be made of the datasets that do not cover everyone.
struct Plans {
    recordings: Vec<cardio::Planned>,
    images: imaging::Plan,
    documents: Vec<reports::Planned>,
}

/// An independent piece of work: a part of a dataset.
#[derive(Clone, Copy)]
enum Job {
    Snds(usize),
    Cardio(usize),
    Imaging(usize),
    Reports(usize),
}

impl Plans {
    /// The longest jobs first, so that threads end together.
    fn jobs(&self, world: &World) -> Vec<Job> {
        let snds = (0..world.part_count()).map(Job::Snds);
        let cardio = (0..cardio::part_count(&self.recordings)).map(Job::Cardio);
        let imaging = (0..imaging::part_count(&self.images)).map(Job::Imaging);
        let reports = (0..reports::part_count(&self.documents)).map(Job::Reports);
        snds.chain(imaging).chain(cardio).chain(reports).collect()
    }
}

impl Job {
    fn run(self, world: &World, plans: &Plans, places: &Places) -> Result<Made> {
        Ok(match self {
            Self::Snds(part) => Made::Claims(snds::write(world, &places.dataset("snds"), part)?),
            Self::Cardio(part) => {
                let dir = places.dataset("cardio");
                Made::Recordings(cardio::write(world, &dir, &plans.recordings, part)?)
            }
            Self::Imaging(part) => {
                let (curated, raw) = (places.dataset("imaging"), places.dataset("imaging_raw"));
                Made::Images(imaging::write(world, &curated, &raw, &plans.images, part)?)
            }
            Self::Reports(part) => {
                let (curated, raw) = (places.dataset("reports"), places.dataset("reports_raw"));
                Made::Documents(reports::write(
                    world,
                    &curated,
                    &raw,
                    &plans.documents,
                    part,
                )?)
            }
        })
    }
}

/// Time between two drawings of the progress.
const TICK: Duration = Duration::from_millis(200);

fn progress_bar(wanted: bool) -> ProgressBar {
    // Drawn on stderr when that is a terminal, hidden otherwise.
    let target = if wanted {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("demo data [{bar:30}] {pos}/{len} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(None, target).with_style(style);
    if !bar.is_hidden() {
        bar.enable_steady_tick(TICK);
    }
    bar
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        std::fs::remove_dir_all(path)
    } else if path.exists() {
        std::fs::remove_file(path)
    } else {
        Ok(())
    };
    removed.with_context(|| format!("cannot remove `{}`: check its permissions", path.display()))
}

/// Moves what was made to its place: the facts go first and come back last, so that at no time
/// do they stand beside data that are not theirs.
fn put_in_place(dir: &Path, partial: &Path) -> Result<()> {
    remove(&facts::path(dir))?;
    for name in ["datasets", "truth", "facts.json"] {
        let (from, to) = (partial.join(name), dir.join(name));
        remove(&to)?;
        std::fs::rename(&from, &to).with_context(|| unwritable(&to))?;
    }
    remove(partial)
}
