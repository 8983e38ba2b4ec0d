//! `generate DIR [SCALE [SEED]]`: makes the demo data and prints what was made.

use std::path::PathBuf;

use anyhow::{Context, Result};
use hubflight_synth::{Request, generate};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(
        arguments
            .next()
            .context("usage: generate DIR [SCALE [SEED]]")?,
    );
    let scale = arguments.next().map_or(Ok(1.0), |text| text.parse())?;
    let seed = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let summary = generate(&Request {
        dir: &dir,
        scale,
        seed,
        progress: true,
    })?;
    println!("{summary:#?}");
    Ok(())
}
