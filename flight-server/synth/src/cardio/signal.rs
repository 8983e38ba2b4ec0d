//! The 12-lead electrocardiogram of a sequence of beats.
//!
//! The heart's vector is a sum of Gaussian waves (P, Q, R, S, T) along each of Frank's axes, as
//! in McSharry et al., IEEE Trans. Biomed. Eng. 50:289 (2003) and Sameni et al., EURASIP J. Adv.
//! Signal Process. 2007:043407; the leads are its projections by Dower's matrix (Dower et al.,
//! J. Electrocardiol. 13:109, 1980). Axes: x to the left, y down, z to the back.

use std::f64::consts::TAU;

use super::rhythm::{Beat, Rhythm};
use crate::dice::Dice;

pub const LEADS: [&str; 12] = [
    "I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6",
];

/// Dower's coefficients of x, y, z for I, II, V1 … V6.
const DOWER: [[f64; 3]; 8] = [
    [0.632, -0.235, 0.059],
    [0.235, 1.066, -0.132],
    [-0.515, 0.157, -0.917],
    [0.044, 0.164, -1.387],
    [0.882, 0.098, -1.277],
    [1.213, 0.127, -0.601],
    [1.125, 0.127, -0.086],
    [0.831, 0.076, 0.230],
];

/// Step of the converter, millivolt.
const STEP_MV: f64 = 0.005;

/// A Gaussian wave of the heart's vector.
#[derive(Clone, Copy)]
struct Wave {
    /// Centre, seconds after that of the QRS, before scaling with the interval.
    at: f64,
    /// Standard deviation, seconds.
    width: f64,
    /// Amplitude along x, y, z, millivolt.
    vector: [f64; 3],
    /// Moves and widens with the square root of the interval (P and T do, the QRS does not).
    scales: bool,
}

const fn wave(at: f64, width: f64, vector: [f64; 3], scales: bool) -> Wave {
    Wave {
        at,
        width,
        vector,
        scales,
    }
}

const P: Wave = wave(-0.165, 0.022, [0.06, 0.11, -0.02], true);
const QRS: [Wave; 3] = [
    wave(-0.026, 0.009, [-0.12, -0.06, -0.24], false),
    wave(0.0, 0.0115, [1.0, 0.9, 0.32], false),
    wave(0.028, 0.011, [-0.22, -0.18, 0.42], false),
];
const T: [Wave; 2] = [
    wave(0.255, 0.050, [0.17, 0.15, -0.14], true),
    wave(0.300, 0.032, [0.12, 0.11, -0.09], true),
];
const VENTRICULAR: [Wave; 2] = [
    wave(0.0, 0.030, [-0.55, 1.45, 0.9], false),
    wave(0.30, 0.065, [0.25, -0.48, -0.35], true),
];

/// Samples of one recording.
pub struct Recorded {
    /// 12 leads, millivolt.
    pub leads: Vec<Vec<f32>>,
    /// Samples of the R peaks (of the extremum of the QRS for ventricular beats), from 0.
    pub peaks: Vec<i32>,
    /// Whether each is ventricular.
    pub ventricular: Vec<bool>,
}

/// What disturbs a recording.
#[derive(Clone, Copy, Debug)]
pub struct Disturbance {
    /// Amplitudes, millivolt: breathing and drift, muscle, mains.
    wander: f64,
    muscle: f64,
    mains: f64,
    /// Bursts of movement.
    bursts: u32,
}

impl Disturbance {
    pub fn new(clean: bool, dice: &mut Dice) -> Self {
        if clean {
            Self {
                wander: dice.between(0.01, 0.08),
                muscle: dice.between(0.003, 0.012),
                mains: dice.between(0.0, 0.008),
                bursts: 0,
            }
        } else {
            Self {
                wander: dice.between(0.2, 0.7),
                muscle: dice.between(0.04, 0.11),
                mains: dice.between(0.02, 0.15),
                bursts: 1 + dice.below(3) as u32,
            }
        }
    }
}

/// Records `duration` seconds at `fs` hertz.
pub fn record(
    beats: &[Beat],
    rhythm: Rhythm,
    disturbance: Disturbance,
    fs: u32,
    duration: u32,
    dice: &mut Dice,
) -> Recorded {
    let samples = (fs * duration) as usize;
    let rate = f64::from(fs);
    let heart = Heart::new(dice);
    let mut vector = vec![[0.0_f64; 3]; samples];
    let fires = rhythm == Rhythm::AtrialFibrillation;
    for beat in beats {
        heart.beat(beat, rate, &mut vector);
    }
    if fires {
        fibrillate(&mut vector, rate, dice);
    }
    let lead_two: Vec<f64> = vector.iter().map(|v| project(&DOWER[1], v)).collect();
    let (mut peaks, mut ventricular) = (Vec::new(), Vec::new());
    for beat in beats {
        if let Some(peak) = peak(&lead_two, beat, rate) {
            peaks.push(peak as i32);
            ventricular.push(beat.ventricular);
        }
    }
    let measured: Vec<Vec<f64>> = DOWER
        .iter()
        .map(|axis| {
            let mut lead: Vec<f64> = vector.iter().map(|v| project(axis, v)).collect();
            disturb(&mut lead, disturbance, rate, dice);
            lead
        })
        .collect();
    Recorded {
        leads: twelve(&measured),
        peaks,
        ventricular,
    }
}

fn project(axis: &[f64; 3], vector: &[f64; 3]) -> f64 {
    axis.iter().zip(vector).map(|(a, v)| a * v).sum()
}

/// A person's heart: the axis and size of its vector.
struct Heart {
    scale: f64,
    turn: (f64, f64),
    t_scale: f64,
    ventricular: f64,
}

impl Heart {
    fn new(dice: &mut Dice) -> Self {
        let angle = dice.between(-0.35, 0.35);
        Self {
            scale: dice.between(0.75, 1.4),
            turn: (angle.cos(), angle.sin()),
            t_scale: dice.between(0.5, 1.3),
            ventricular: if dice.chance(0.65) { 1.0 } else { -1.0 },
        }
    }

    fn beat(&self, beat: &Beat, rate: f64, vector: &mut [[f64; 3]]) {
        let stretch = beat.interval.clamp(0.3, 1.3).sqrt();
        if beat.ventricular {
            for wave in VENTRICULAR {
                self.add(wave, self.ventricular, beat, stretch, rate, vector);
            }
            return;
        }
        if beat.p_wave {
            self.add(P, 1.0, beat, stretch, rate, vector);
        }
        for wave in QRS {
            self.add(wave, 1.0, beat, stretch, rate, vector);
        }
        for wave in T {
            self.add(wave, self.t_scale, beat, stretch, rate, vector);
        }
    }

    fn add(
        &self,
        wave: Wave,
        factor: f64,
        beat: &Beat,
        stretch: f64,
        rate: f64,
        vector: &mut [[f64; 3]],
    ) {
        let stretch = if wave.scales { stretch } else { 1.0 };
        let (centre, width) = (beat.time + wave.at * stretch, wave.width * stretch);
        let [x, y, z] = wave.vector.map(|value| value * factor * self.scale);
        let (cos, sin) = self.turn;
        let turned = [x * cos - y * sin, x * sin + y * cos, z];
        let first = ((centre - 4.5 * width) * rate).ceil().max(0.0) as usize;
        let last = ((centre + 4.5 * width) * rate).floor();
        if last < 0.0 {
            return;
        }
        let end = (last as usize + 1).min(vector.len());
        for (sample, value) in vector.iter_mut().enumerate().take(end).skip(first) {
            let distance = (sample as f64 / rate - centre) / width;
            let height = (-0.5 * distance * distance).exp();
            for (axis, amplitude) in value.iter_mut().zip(turned) {
                *axis += amplitude * height;
            }
        }
    }
}

/// Fibrillatory waves: 4 to 8 a second, of changing size, largest in V1.
fn fibrillate(vector: &mut [[f64; 3]], rate: f64, dice: &mut Dice) {
    let frequency = dice.between(4.5, 7.5);
    let size = dice.between(0.02, 0.05);
    let (slow, phase) = (dice.between(0.3, 0.9), dice.between(0.0, TAU));
    for (sample, value) in vector.iter_mut().enumerate() {
        let time = sample as f64 / rate;
        let wobble = 0.8 * (TAU * slow * time + phase).sin();
        let angle = TAU * frequency * time + wobble;
        let height = size * (1.0 + 0.4 * (TAU * 0.5 * slow * time).sin());
        let shape = angle.sin() + 0.3 * (2.0 * angle).sin();
        for (axis, share) in value.iter_mut().zip([-0.4, 0.5, -1.0]) {
            *axis += share * height * shape;
        }
    }
}

/// The sample of lead II's maximum near the beat (extremum, for a ventricular one), where the
/// beat lies within the recording.
fn peak(lead: &[f64], beat: &Beat, rate: f64) -> Option<usize> {
    let reach = if beat.ventricular { 0.045 } else { 0.025 };
    if beat.time < 0.0 || beat.time * rate >= lead.len() as f64 {
        return None;
    }
    let first = ((beat.time - reach) * rate).max(0.0) as usize;
    let last = (((beat.time + reach) * rate) as usize + 1).min(lead.len());
    let height = |sample: usize| {
        let value = lead.get(sample).copied().unwrap_or_default();
        if beat.ventricular { value.abs() } else { value }
    };
    (first..last).max_by(|a, b| height(*a).total_cmp(&height(*b)))
}

/// Adds drift, muscle and mains noise, and bursts of movement.
fn disturb(lead: &mut [f64], by: Disturbance, rate: f64, dice: &mut Dice) {
    let drift: [(f64, f64, f64); 3] = std::array::from_fn(|index| {
        let frequency = [0.07, 0.25, 0.4][index] * dice.between(0.8, 1.2);
        let amplitude = by.wander * dice.between(0.2, 0.6);
        (amplitude, TAU * frequency / rate, dice.between(0.0, TAU))
    });
    let (mains, phase) = (by.mains * dice.between(0.3, 1.0), dice.between(0.0, TAU));
    let muscle = by.muscle * dice.between(0.7, 1.3);
    let mut bursts: Vec<(f64, f64, f64)> = Vec::new();
    for _ in 0..by.bursts {
        if dice.chance(0.6) {
            let centre = dice.between(0.0, lead.len() as f64);
            let width = rate * dice.between(0.2, 0.6);
            bursts.push((centre, width, dice.between(0.1, 0.35)));
        }
    }
    for (sample, value) in lead.iter_mut().enumerate() {
        let at = sample as f64;
        let mut noise = muscle;
        for (centre, width, size) in &bursts {
            let distance = (at - centre) / width;
            noise += size * (-0.5 * distance * distance).exp();
        }
        let slow: f64 = drift.iter().map(|(a, w, p)| a * (w * at + p).sin()).sum();
        *value += slow + noise * dice.normal() + mains * (TAU * 50.0 * at / rate + phase).sin();
    }
}

/// The twelve leads from the eight measured ones, by Einthoven's and Goldberger's relations.
fn twelve(measured: &[Vec<f64>]) -> Vec<Vec<f32>> {
    let step = |value: f64| (value / STEP_MV).round() * STEP_MV;
    let quantised: Vec<Vec<f64>> = measured
        .iter()
        .map(|lead| lead.iter().map(|value| step(*value)).collect())
        .collect();
    let (Some(one), Some(two)) = (quantised.first(), quantised.get(1)) else {
        return Vec::new();
    };
    let derived = |of: fn(f64, f64) -> f64| -> Vec<f32> {
        one.iter()
            .zip(two)
            .map(|(one, two)| of(*one, *two) as f32)
            .collect()
    };
    let mut leads = vec![
        derived(|one, _| one),
        derived(|_, two| two),
        derived(|one, two| two - one),
        derived(|one, two| -(one + two) / 2.0),
        derived(|one, two| one - two / 2.0),
        derived(|one, two| two - one / 2.0),
    ];
    for chest in quantised.iter().skip(2) {
        leads.push(chest.iter().map(|value| *value as f32).collect());
    }
    leads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cardio::rhythm::beats;
    use crate::dice::Purpose;

    #[test]
    fn peaks_are_the_maxima_of_lead_two() {
        for (index, rhythm) in [Rhythm::Sinus, Rhythm::AtrialFibrillation, Rhythm::Ectopic]
            .into_iter()
            .cycle()
            .take(30)
            .enumerate()
        {
            let mut dice = Dice::new(2, Purpose::Ecg, index as u64);
            let beats = beats(rhythm, false, 10.0, &mut dice);
            let disturbance = Disturbance::new(true, &mut dice);
            let recorded = record(&beats, rhythm, disturbance, 500, 10, &mut dice);
            assert_eq!(recorded.leads.len(), 12);
            assert!(recorded.leads.iter().all(|lead| lead.len() == 5000));
            let lead = &recorded.leads[1];
            for (peak, ventricular) in recorded.peaks.iter().zip(&recorded.ventricular) {
                // Within 50 ms nothing is higher, but for noise.
                let around =
                    &lead[(*peak as usize).saturating_sub(25)..(*peak as usize + 25).min(5000)];
                let height = |value: f32| if *ventricular { value.abs() } else { value };
                let highest = around.iter().copied().map(height).fold(f32::MIN, f32::max);
                let found = height(lead[*peak as usize]);
                assert!(found > 0.35, "{rhythm:?} {found}");
                assert!(highest - found < 0.08, "{rhythm:?} {highest} {found}");
            }
            let beats_inside = beats
                .iter()
                .filter(|b| (0.0..10.0).contains(&b.time))
                .count();
            assert_eq!(beats_inside, recorded.peaks.len());
            for sample in (0..5000).step_by(97) {
                let [one, two, three] = [0, 1, 2].map(|lead| recorded.leads[lead][sample]);
                assert!((one + three - two).abs() < 1e-5);
            }
        }
    }
}
