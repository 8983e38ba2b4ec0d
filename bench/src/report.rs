//! A result: a table for people, JSON for keeping, with machine and commit.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::Options;

/// What a workload found.
#[derive(Debug, Serialize)]
pub struct Report {
    pub workload: &'static str,
    /// One sentence: what is compared with what, and which way is better.
    pub question: String,
    pub columns: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
    /// The figure that targets speak of.
    pub summary: String,
    machine: Machine,
    commit: String,
    at: String,
}

#[derive(Debug, Serialize)]
struct Machine {
    cpu: String,
    cores: usize,
    memory_gib: u64,
}

impl Report {
    pub fn new(workload: &'static str, question: &str, columns: Vec<&'static str>) -> Self {
        Self {
            workload,
            question: question.to_owned(),
            columns,
            rows: Vec::new(),
            summary: String::new(),
            machine: machine(),
            commit: commit(),
            at: chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub fn print(&self) {
        println!("{}: {}", self.workload, self.question);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            widest.max(self.columns.get(column).map_or(0, |name| name.len()))
        };
        let line = |cells: Vec<&str>| {
            let padded = cells.iter().enumerate().map(|(column, cell)| {
                let width = width(column);
                format!("{cell:>width$}")
            });
            println!("  {}", padded.collect::<Vec<_>>().join("  "));
        };
        line(self.columns.clone());
        for row in &self.rows {
            line(row.iter().map(String::as_str).collect());
        }
        println!("{}", self.summary);
    }

    pub fn write(&self, options: &Options) -> Result<()> {
        if options.results.as_os_str().is_empty() {
            return Ok(());
        }
        std::fs::create_dir_all(&options.results)?;
        let path = options.results.join(format!("{}.json", self.workload));
        std::fs::write(&path, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        println!("written to {}", path.display());
        Ok(())
    }
}

fn machine() -> Machine {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default();
        line.split(':').nth(1).unwrap_or_default().trim().to_owned()
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kib: u64 = memory
        .split(' ')
        .next()
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(0);
    Machine {
        cpu: field(&read("/proc/cpuinfo"), "model name"),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_gib: kib >> 20,
    }
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        String::from_utf8(output.stdout)
            .ok()
            .map(|text| text.trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_default();
    let changed = git(&["status", "--porcelain", "--", "*.rs", "*.toml"]);
    match changed.as_deref() {
        Some("") => commit,
        _ => format!("{commit}, changed"),
    }
}

/// Geometric mean of ratios.
pub fn geometric_mean(ratios: &[f64]) -> f64 {
    let logs: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    (logs / ratios.len().max(1) as f64).exp()
}

/// The value below which `share` of the sorted values lie.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let index = ((sorted.len() as f64 - 1.0) * share).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
