//! Bilinear resizing.

use super::{DicomError, Image};

/// The image with these rows and columns; one that is `None` keeps the proportions.
pub(crate) fn resized(
    image: Image,
    rows: Option<i64>,
    columns: Option<i64>,
) -> Result<Image, DicomError> {
    let scaled = |side: usize, by: i64, of: usize| {
        (side as f64 * by as f64 / of as f64).round().max(1.0) as usize
    };
    let (rows, columns) = match (rows, columns) {
        (None, None) => return Ok(image),
        (Some(rows), Some(columns)) => (rows as usize, columns as usize),
        (Some(rows), None) => (rows as usize, scaled(image.columns, rows, image.rows)),
        (None, Some(columns)) => (scaled(image.rows, columns, image.columns), columns as usize),
    };
    if rows.saturating_mul(columns).saturating_mul(image.samples) > super::FRAME_SAMPLES_MAX {
        return Err(DicomError::TooLarge {
            what: "number of pixels asked for",
            limit: super::FRAME_SAMPLES_MAX as u64,
        });
    }
    if (rows, columns) == (image.rows, image.columns) {
        return Ok(image);
    }
    Ok(Image {
        pixels: bilinear(&image, rows, columns),
        rows,
        columns,
        ..image
    })
}

/// Source pixels and weight of the second for each of `to` places along an axis of `from`.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            let at = ((i as f64 + 0.5) * scale - 0.5).clamp(0.0, (from - 1) as f64);
            let low = at.floor() as usize;
            (low, (low + 1).min(from - 1), (at - low as f64) as f32)
        })
        .collect()
}

fn bilinear(image: &Image, rows: usize, columns: usize) -> Vec<u8> {
    let stride = image.columns * image.samples;
    let across = taps(image.columns, columns);
    let mut out = Vec::with_capacity(rows * columns * image.samples);
    for (top, bottom, down) in taps(image.rows, rows) {
        let (Some(upper), Some(lower)) = (
            image.pixels.get(top * stride..(top + 1) * stride),
            image.pixels.get(bottom * stride..(bottom + 1) * stride),
        ) else {
            continue;
        };
        for (left, right, along) in &across {
            for sample in 0..image.samples {
                let at = |row: &[u8], column: usize| {
                    f32::from(
                        row.get(column * image.samples + sample)
                            .copied()
                            .unwrap_or(0),
                    )
                };
                let above = at(upper, *left) * (1.0 - along) + at(upper, *right) * along;
                let below = at(lower, *left) * (1.0 - along) + at(lower, *right) * along;
                out.push((above * (1.0 - down) + below * down).round() as u8);
            }
        }
    }
    out
}
