//! The demo from nothing: how long until it answers, and what it holds when idle.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::Options;
use crate::process::{Process, between, proportional_mb};
use crate::report::Report;

/// How long the demo rests after its showcase before its memory is read: when it has just
/// ended, and when nobody has asked for a minute (the allocator gives pages back by and by).
const RESTS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];

pub async fn run(options: &Options) -> Result<Report> {
    let dir = options.data.join("demo");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&options.data)?;
    let scale = options.scale.to_string();
    let folder = dir.to_string_lossy().into_owned();
    let arguments = [
        "demo",
        "--dir",
        &folder,
        "--scale",
        &scale,
        "--flight-addr",
        "127.0.0.1:0",
        "--http-addr",
        "127.0.0.1:0",
        "--worker-addr",
        "127.0.0.1:0",
    ];
    let mut report = Report::new(
        "start",
        "the demo in a process of its own: seconds, and MB of proportional set size; less is better",
        vec!["what", "measured", "asked"],
    );
    let log = options.data.join("demo.log");
    let demo = Process::start(&arguments, &log)?;
    let number = |before, after| -> Result<f64> {
        let text = between(&demo.said, before, after).context("the demo prints no time")?;
        Ok(text.parse()?)
    };
    let data = number("Made synthetic data in ", " s")?;
    let ready = number("ready in ", " s")?;
    let begun = Instant::now();
    while !std::fs::read_to_string(&log)?.contains("Serving until") {
        anyhow::ensure!(
            begun.elapsed() < Duration::from_secs(120),
            "the showcase does not end"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut held = [0.0; RESTS.len()];
    let ended = tokio::time::Instant::now();
    for (held, rest) in held.iter_mut().zip(RESTS) {
        tokio::time::sleep_until(ended + rest).await;
        *held = held_by(&demo)?;
    }
    let [just_used, used] = held;
    for (what, measured, asked) in [
        ("data, s", format!("{data:.1}"), "20 at scale 1"),
        ("ready after the data, s", format!("{ready:.1}"), "1"),
        (
            "5 s after the showcase, worker included, MB",
            format!("{just_used:.0}"),
            "",
        ),
        (
            "idle for a minute, worker included, MB",
            format!("{used:.0}"),
            "200",
        ),
    ] {
        report.row([what.to_owned(), measured, asked.to_owned()]);
    }
    report.summary = format!(
        "data at scale {scale} in {data:.1} s, ready {ready:.1} s later, {used:.0} MB after a minute idle"
    );
    Ok(report)
}

/// Memory of the server and its worker, in MB; pages that they share count once.
fn held_by(demo: &Process) -> Result<f64> {
    let family = demo.family()?;
    anyhow::ensure!(
        family.len() == 2,
        "a server and one worker, not {} processes",
        family.len()
    );
    family.into_iter().map(proportional_mb).sum()
}
