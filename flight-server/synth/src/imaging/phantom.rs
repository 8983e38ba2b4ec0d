//! Phantoms: images that look like those of each modality, with or without a lesion whose place
//! is known. Values are in display terms (larger is brighter), before any coding.

use std::f64::consts::TAU;

use crate::dice::Dice;

/// A lesion: centre (row, column, from 0, centres of pixels) and radius, pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lesion {
    pub row: f64,
    pub column: f64,
    pub radius: f64,
}

/// One channel of an image.
pub struct Plane {
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<f64>,
}

impl Plane {
    /// Each value from the pixel's place, in -1..1 along both axes, and its (row, column).
    fn new(
        rows: usize,
        columns: usize,
        mut value: impl FnMut(f64, f64, (f64, f64)) -> f64,
    ) -> Self {
        let mut values = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            for column in 0..columns {
                let y = 2.0 * (row as f64 + 0.5) / rows as f64 - 1.0;
                let x = 2.0 * (column as f64 + 0.5) / columns as f64 - 1.0;
                values.push(value(x, y, (row as f64, column as f64)));
            }
        }
        Self {
            rows,
            columns,
            values,
        }
    }
}

/// 1 inside an ellipse, 0 outside, soft over about a tenth of its size.
fn ellipse(x: f64, y: f64, centre: (f64, f64), size: (f64, f64)) -> f64 {
    let distance = ((x - centre.0) / size.0).hypot((y - centre.1) / size.1);
    soft((1.0 - distance) * 10.0)
}

fn soft(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

/// 1 within a lesion, 0 outside, soft over a pixel.
fn within(lesion: Option<Lesion>, at: (f64, f64)) -> f64 {
    lesion.map_or(0.0, |lesion| {
        let distance = (at.0 - lesion.row).hypot(at.1 - lesion.column);
        soft((lesion.radius - distance) * 2.0)
    })
}

/// A body's proportions, which differ between persons.
#[derive(Clone, Copy)]
pub struct Body {
    width: f64,
    height: f64,
    heart: f64,
    tilt: f64,
}

impl Body {
    pub fn new(dice: &mut Dice) -> Self {
        Self {
            width: dice.between(0.9, 1.08),
            height: dice.between(0.92, 1.06),
            heart: dice.between(0.85, 1.25),
            tilt: dice.between(-0.03, 0.03),
        }
    }

    /// Centres and size of the lungs, in -1..1.
    fn lungs(&self) -> [((f64, f64), (f64, f64)); 2] {
        let size = (0.30 * self.width, 0.62 * self.height);
        [
            ((-0.42 * self.width, -0.05 + self.tilt), size),
            ((0.42 * self.width, -0.05 - self.tilt), size),
        ]
    }
}

/// A place for a lesion: in a lung (chest, thorax) or in the middle part (other modalities).
pub fn place(rows: usize, columns: usize, in_lung: Option<Body>, dice: &mut Dice) -> Lesion {
    let radius = dice.between(5.0, 12.0);
    let (x, y) = match in_lung {
        Some(body) => {
            let [left, right] = body.lungs();
            let (centre, size) = if dice.chance(0.5) { left } else { right };
            let (angle, reach) = (dice.between(0.0, TAU), 0.55 * dice.unit().sqrt());
            (
                centre.0 + reach * size.0 * angle.cos(),
                centre.1 + reach * size.1 * angle.sin(),
            )
        }
        None => {
            let (angle, reach) = (dice.between(0.0, TAU), 0.15 + 0.3 * dice.unit());
            (reach * angle.cos(), reach * angle.sin())
        }
    };
    Lesion {
        row: ((y + 1.0) / 2.0 * rows as f64 - 0.5).round(),
        column: ((x + 1.0) / 2.0 * columns as f64 - 0.5).round(),
        radius: (radius * 2.0).round() / 2.0,
    }
}

/// Chest radiograph, 0 to 1: lungs are dark, bones and the heart bright.
pub fn chest(
    rows: usize,
    columns: usize,
    body: Body,
    lesion: Option<Lesion>,
    dice: &mut Dice,
) -> Plane {
    let lungs = body.lungs();
    let ribs = dice.between(16.0, 20.0);
    let phase = dice.between(0.0, TAU);
    Plane::new(rows, columns, |x, y, at| {
        let trunk = ellipse(x, y, (0.0, 0.15), (0.95 * body.width, 1.25));
        let lung: f64 = lungs
            .iter()
            .map(|(centre, size)| ellipse(x, y, *centre, *size))
            .sum();
        let heart = ellipse(x, y, (0.14, 0.28), (0.26 * body.heart, 0.34 * body.heart));
        let spine = (-(x / 0.07).powi(2)).exp();
        let rib = 0.5 + 0.5 * (ribs * (y + 0.35 * x * x) + phase).sin();
        let value = 0.08 + 0.55 * trunk - 0.42 * lung
            + 0.24 * heart
            + 0.16 * spine
            + 0.07 * rib * lung
            + 0.20 * within(lesion, at);
        (value + 0.012 * dice.normal()).clamp(0.0, 1.0)
    })
}

/// Axial slice of the thorax, Hounsfield units, air -1000 to bone.
pub fn thorax(
    rows: usize,
    columns: usize,
    body: Body,
    lesion: Option<Lesion>,
    level: f64,
    dice: &mut Dice,
) -> Plane {
    let shrink = 1.0 - 0.25 * level.abs();
    let lungs = body.lungs();
    Plane::new(rows, columns, |x, y, at| {
        let trunk = ellipse(x, y, (0.0, 0.0), (0.92 * body.width, 0.72 * body.height));
        let lung: f64 = lungs
            .iter()
            .map(|((cx, cy), (w, h))| ellipse(x, y, (*cx, *cy), (w * shrink, h * 0.72 * shrink)))
            .sum::<f64>()
            .min(1.0);
        let heart = ellipse(x, y, (0.10, -0.08), (0.24 * body.heart, 0.22 * body.heart))
            * (1.0 - level.max(0.0));
        let spine = ellipse(x, y, (0.0, 0.48), (0.10, 0.12));
        let tissue = -1000.0 + 1040.0 * trunk;
        let air = tissue + (-820.0 - tissue) * lung * (1.0 - heart);
        let bone = air + 500.0 * spine * trunk;
        let nodule = within(lesion, at);
        bone + (60.0 - bone) * nodule + 14.0 * dice.normal()
    })
}

/// Axial slice of the head, 0 to 1 (T2-like: fluid is bright).
pub fn brain(
    rows: usize,
    columns: usize,
    body: Body,
    lesion: Option<Lesion>,
    level: f64,
    dice: &mut Dice,
) -> Plane {
    let shrink = 1.0 - 0.3 * level.abs();
    let folds = dice.between(9.0, 13.0);
    Plane::new(rows, columns, |x, y, at| {
        let skull = ellipse(
            x,
            y,
            (0.0, 0.0),
            (0.72 * body.width * shrink, 0.88 * shrink),
        );
        let inside = ellipse(
            x,
            y,
            (0.0, 0.0),
            (0.64 * body.width * shrink, 0.80 * shrink),
        );
        let left = ellipse(x, y, (-0.12, -0.05), (0.07, 0.26 * shrink));
        let right = ellipse(x, y, (0.12, -0.05), (0.07, 0.26 * shrink));
        let cortex = 0.05 * (folds * x.atan2(y)).sin() * x.hypot(y);
        let value = 0.02
            + 0.16 * (skull - inside)
            + (0.34 + cortex) * inside
            + 0.42 * (left + right) * inside
            + 0.34 * within(lesion, at);
        (value + 0.015 * dice.normal()).clamp(0.0, 1.0)
    })
}

/// Ultrasound sector, 0 to 1, with speckle.
pub fn sector(rows: usize, columns: usize, lesion: Option<Lesion>, dice: &mut Dice) -> Plane {
    let layers = dice.between(7.0, 11.0);
    Plane::new(rows, columns, |x, y, at| {
        let (depth, angle) = (x.hypot(y + 1.15), x.atan2(y + 1.15));
        let fan = soft((0.62 - angle.abs()) * 40.0)
            * soft((2.05 - depth) * 30.0)
            * soft((depth - 0.2) * 30.0);
        let tissue = 0.22 + 0.06 * (layers * depth).sin() - 0.05 * depth;
        let speckle = (0.30 * dice.normal()).exp();
        let echo = tissue + 0.45 * within(lesion, at);
        (fan * echo * speckle).clamp(0.0, 1.0)
    })
}

/// Photograph of skin: red, green, blue, 0 to 1; the lesion is dark.
pub fn skin(rows: usize, columns: usize, lesion: Option<Lesion>, dice: &mut Dice) -> [Plane; 3] {
    let tone = dice.between(0.55, 1.0);
    let light = dice.between(-0.08, 0.08);
    [(0.86, 0.55), (0.66, 0.42), (0.56, 0.36)].map(|(base, loss)| {
        Plane::new(rows, columns, |x, y, at| {
            let grain = 0.012 * dice.normal();
            let shade = light * (x + y);
            let value = base * tone + shade + grain;
            (value * (1.0 - loss * within(lesion, at))).clamp(0.0, 1.0)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Purpose;

    #[test]
    fn a_lesion_stands_out_where_the_truth_says() {
        for index in 0..40 {
            let mut dice = Dice::new(9, Purpose::Image, index);
            let body = Body::new(&mut dice);
            let lesion = place(288, 256, Some(body), &mut dice);
            let mut again = Dice::new(9, Purpose::Image, 1000 + index);
            let with = chest(288, 256, body, Some(lesion), &mut again);
            let mut again = Dice::new(9, Purpose::Image, 1000 + index);
            let without = chest(288, 256, body, None, &mut again);
            let difference = |row: f64, column: f64| {
                let at = row as usize * 256 + column as usize;
                with.values[at] - without.values[at]
            };
            assert!(difference(lesion.row, lesion.column) > 0.1);
            let outside = lesion.column + lesion.radius + 6.0;
            if outside < 255.0 {
                assert!(difference(lesion.row, outside).abs() < 1e-3);
            }
        }
    }
}
