//! R peaks on synthetic electrocardiograms: sums of Gaussian waves with known beats.

use hubflight_compute::signal::{SignalError, rpeaks};

use crate::random::Random;

/// A wave: height (mV), centre relative to the R peak (s), width (s).
type Wave = (f64, f64, f64);

const NORMAL: &[Wave] = &[
    (0.12, -0.17, 0.022),
    (-0.1, -0.026, 0.008),
    (1.0, 0.0, 0.010),
    (-0.22, 0.028, 0.010),
    (0.28, 0.26, 0.05),
];
/// Fibrillation: no P wave.
const NO_P: &[Wave] = &[
    (-0.08, -0.026, 0.008),
    (0.9, 0.0, 0.011),
    (-0.2, 0.028, 0.010),
    (0.22, 0.25, 0.05),
];
/// Ventricular ectopic beats: wide and tall, T wave opposite; upright and inverted.
const WIDE: &[Wave] = &[(1.7, 0.0, 0.032), (-0.5, 0.08, 0.03), (-0.45, 0.28, 0.06)];
const WIDE_INVERTED: &[Wave] = &[(-1.6, 0.0, 0.034), (0.4, 0.085, 0.03), (0.45, 0.29, 0.06)];
/// QRS complex of about 0.2 s.
const VERY_WIDE: &[Wave] = &[(1.4, 0.0, 0.045), (-0.4, 0.11, 0.04), (-0.5, 0.33, 0.07)];
/// A lead that sees the heart from behind.
const NEGATIVE: &[Wave] = &[
    (-0.1, -0.17, 0.022),
    (0.08, -0.028, 0.008),
    (-0.95, 0.0, 0.011),
    (0.15, 0.03, 0.010),
    (-0.2, 0.26, 0.05),
];
/// Right precordial lead: small r, deep S at the truth.
const RS: &[Wave] = &[
    (0.08, -0.17, 0.022),
    (0.25, -0.022, 0.009),
    (-1.1, 0.006, 0.012),
    (0.12, 0.27, 0.05),
];
/// T wave as high as in hyperkalaemia.
const TALL_T: &[Wave] = &[
    (0.1, -0.16, 0.022),
    (0.9, 0.0, 0.010),
    (-0.3, 0.028, 0.010),
    (0.8, 0.24, 0.035),
];
const LOW: &[Wave] = &[
    (0.03, -0.17, 0.022),
    (0.22, 0.0, 0.010),
    (-0.05, 0.028, 0.010),
    (0.07, 0.26, 0.05),
];

struct Recording {
    signal: Vec<f32>,
    /// Times of the beats, s.
    truth: Vec<f64>,
    fs: i32,
}

impl Recording {
    fn new(fs: i32, seconds: f64, beats: &[(f64, &[Wave])]) -> Recording {
        let mut samples = vec![0.0; (seconds * f64::from(fs)) as usize];
        for (time, waves) in beats {
            for (height, centre, width) in *waves {
                let (middle, reach) = (time + centre, 5.0 * width);
                let from = ((middle - reach) * f64::from(fs)).max(0.0) as usize;
                let to = (((middle + reach) * f64::from(fs)) as usize + 1).min(samples.len());
                for (i, sample) in samples.iter_mut().enumerate().take(to).skip(from) {
                    let z = (i as f64 / f64::from(fs) - middle) / width;
                    *sample += height * (-0.5 * z * z).exp();
                }
            }
        }
        Recording {
            signal: samples.iter().map(|x| *x as f32).collect(),
            truth: beats.iter().map(|(time, _)| *time).collect(),
            fs,
        }
    }

    fn add(mut self, mut noise: impl FnMut(f64) -> f64) -> Recording {
        for (i, sample) in self.signal.iter_mut().enumerate() {
            *sample += noise(i as f64 / f64::from(self.fs)) as f32;
        }
        self
    }

    /// (sensitivity, positive predictive value) with the tolerance in seconds; beats within
    /// 0.1 s of the ends, which may be cut, count neither way.
    fn score(&self, tolerance: f64) -> (f64, f64) {
        let end = self.signal.len() as f64 / f64::from(self.fs);
        let inner = |time: &&f64| **time > 0.1 && **time < end - 0.1;
        let found: Vec<f64> = rpeaks(&self.signal, self.fs)
            .unwrap()
            .iter()
            .map(|i| f64::from(*i) / f64::from(self.fs))
            .collect();
        let near =
            |list: &[f64], time: f64| list.iter().any(|other| (other - time).abs() <= tolerance);
        let truth: Vec<&f64> = self.truth.iter().filter(inner).collect();
        let detected: Vec<&f64> = found.iter().filter(inner).collect();
        let hit = truth.iter().filter(|time| near(&found, ***time)).count();
        let right = detected
            .iter()
            .filter(|time| near(&self.truth, ***time))
            .count();
        assert!(
            found.windows(2).all(|pair| pair[0] < pair[1]),
            "peaks must ascend"
        );
        (
            hit as f64 / truth.len().max(1) as f64,
            right as f64 / detected.len().max(1) as f64,
        )
    }
}

/// Beats at a rate per minute with some variation, all of one shape.
fn regular<'a>(
    rate: f64,
    seconds: f64,
    waves: &'a [Wave],
    random: &mut Random,
) -> Vec<(f64, &'a [Wave])> {
    let mut beats = Vec::new();
    let mut time = 0.4;
    while time < seconds {
        beats.push((time, waves));
        time += 60.0 / rate * (1.0 + 0.03 * random.normal().clamp(-2.0, 2.0));
    }
    beats
}

fn check(name: &str, recording: &Recording, tolerance: f64, least: f64) {
    let (sensitivity, precision) = recording.score(tolerance);
    println!("{name:<40} {sensitivity:.4} {precision:.4}");
    assert!(
        sensitivity >= least && precision >= least,
        "{name}: sensitivity {sensitivity:.4}, precision {precision:.4}, wanted {least}"
    );
}

const TOLERANCE_S: f64 = 0.020;

#[test]
fn clean_rhythms_at_each_rate_of_sampling() {
    for fs in [50, 100, 128, 250, 360, 500, 1000, 2000] {
        let mut random = Random(fs as u64);
        for rate in [35.0, 60.0, 75.0, 110.0, 150.0, 180.0, 220.0] {
            // In fast rhythms the waves come closer together.
            let short: Vec<Wave> = NORMAL
                .iter()
                .map(|(h, c, w)| (*h, c * (60.0f64 / rate).min(1.0).sqrt(), *w))
                .collect();
            let beats = regular(rate, 60.0, &short, &mut random);
            let recording = Recording::new(fs, 60.0, &beats);
            check(
                &format!("sinus {rate}/min at {fs} Hz"),
                &recording,
                TOLERANCE_S,
                0.99,
            );
        }
    }
}

#[test]
fn leads_of_other_shapes() {
    for (name, waves) in [
        ("negative", NEGATIVE),
        ("rS", RS),
        ("tall T", TALL_T),
        ("low voltage", LOW),
    ] {
        for rate in [45.0, 75.0, 120.0] {
            let mut random = Random(7);
            let beats = regular(rate, 60.0, waves, &mut random);
            let recording = Recording::new(500, 60.0, &beats).add(|_| 0.01 * random.normal());
            check(
                &format!("{name} at {rate}/min"),
                &recording,
                TOLERANCE_S,
                0.99,
            );
        }
    }
}

#[test]
fn ten_second_records() {
    let mut random = Random(3);
    for i in 0..200 {
        let rate = 40.0 + 120.0 * random.unit();
        let beats = regular(rate, 10.0, NORMAL, &mut random);
        let fs = [250, 500][i % 2];
        let recording = Recording::new(fs, 10.0, &beats).add(|_| 0.02 * random.normal());
        check(&format!("ten seconds {i}"), &recording, TOLERANCE_S, 0.99);
    }
}

#[test]
fn fibrillation() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut beats: Vec<(f64, &[Wave])> = Vec::new();
        let mut time = 0.4;
        while time < 60.0 {
            beats.push((time, NO_P));
            time += (0.6 + 0.17 * random.normal()).clamp(0.31, 1.4);
        }
        let phase = random.unit();
        let recording = Recording::new(500, 60.0, &beats).add(|t| {
            let tau = std::f64::consts::TAU;
            0.06 * (tau * (5.6 * t + phase)).sin()
                + 0.03 * (tau * 8.3 * t).sin()
                + 0.015 * random.normal()
        });
        check(
            &format!("fibrillation {seed}"),
            &recording,
            TOLERANCE_S,
            0.99,
        );
    }
}

#[test]
fn ectopic_beats() {
    for seed in 0..20 {
        let mut random = Random(100 + seed);
        let mut beats: Vec<(f64, &[Wave])> = Vec::new();
        let mut time = 0.4;
        while time < 60.0 {
            beats.push((time, NORMAL));
            let interval = 0.85 + 0.03 * random.normal();
            if random.unit() < 0.15 {
                // Premature, then a compensatory pause.
                let shape = [WIDE, WIDE_INVERTED, VERY_WIDE][seed as usize % 3];
                beats.push((time + 0.55 * interval, shape));
                time += 2.0 * interval;
            } else {
                time += interval;
            }
        }
        let recording = Recording::new(500, 60.0, &beats).add(|_| 0.015 * random.normal());
        check(
            &format!("ectopic beats {seed}"),
            &recording,
            TOLERANCE_S,
            0.99,
        );
    }
}

#[test]
fn bigeminy_with_small_normal_beats() {
    let mut random = Random(5);
    let mut beats: Vec<(f64, &[Wave])> = Vec::new();
    for i in 0..40 {
        let time = 0.5 + 1.5 * f64::from(i);
        beats.push((time, NORMAL));
        beats.push((time + 0.5, WIDE));
    }
    let recording = Recording::new(360, 60.0, &beats).add(|_| 0.01 * random.normal());
    check("bigeminy", &recording, TOLERANCE_S, 0.99);
}

#[test]
fn wander_and_mains() {
    for fs in [250, 500, 1000] {
        for mains in [50.0, 60.0] {
            let mut random = Random(11);
            let beats = regular(72.0, 60.0, NORMAL, &mut random);
            let recording = Recording::new(fs, 60.0, &beats).add(|t| {
                let tau = std::f64::consts::TAU;
                1.0 * (tau * 0.23 * t).sin()
                    + 0.5 * (tau * 0.4 * t).cos()
                    + 0.2 * (tau * mains * t).sin()
                    + 5.0
            });
            check(
                &format!("wander and {mains} Hz at {fs} Hz"),
                &recording,
                TOLERANCE_S,
                0.99,
            );
        }
    }
}

#[test]
fn noise_everywhere() {
    let mut random = Random(12);
    let beats = regular(70.0, 120.0, NORMAL, &mut random);
    let recording = Recording::new(500, 120.0, &beats).add(|_| 0.12 * random.normal());
    check("white noise 0.12 mV", &recording, 0.03, 0.98);
}

#[test]
fn bursts_of_noise_do_not_disturb_the_rest() {
    let mut random = Random(13);
    let beats = regular(75.0, 120.0, NORMAL, &mut random);
    let burst = |t: f64| (20.0..23.0).contains(&t) || (70.0..74.0).contains(&t);
    let mut recording = Recording::new(500, 120.0, &beats).add(|t| {
        if burst(t) {
            1.2 * random.normal()
        } else {
            0.01 * random.normal()
        }
    });
    // Spikes of a loose electrode.
    for at in [15_000, 30_100, 45_050] {
        for k in 0..10 {
            recording.signal[at + k] += 40.0;
        }
    }
    let found = rpeaks(&recording.signal, 500).unwrap();
    let times: Vec<f64> = found.iter().map(|i| f64::from(*i) / 500.0).collect();
    let spikes = [30.0, 60.2, 90.1];
    let quiet = |t: f64| {
        !(19.5..23.5).contains(&t)
            && !(69.5..74.5).contains(&t)
            && !spikes.iter().any(|s| (t - s).abs() < 0.5)
    };
    let (mut hits, mut total) = (0, 0);
    for time in recording.truth.iter().filter(|t| quiet(**t) && **t < 119.9) {
        total += 1;
        hits += usize::from(times.iter().any(|f| (f - time).abs() <= TOLERANCE_S));
    }
    let false_ones = times
        .iter()
        .filter(|t| {
            quiet(**t)
                && !recording
                    .truth
                    .iter()
                    .any(|f| (f - **t).abs() <= TOLERANCE_S)
        })
        .count();
    assert!(hits * 100 >= total * 99, "{hits} of {total}");
    assert!(false_ones <= 1, "{false_ones} false peaks");
}

#[test]
fn the_level_may_change_within_a_record() {
    let mut random = Random(17);
    let beats = regular(70.0, 120.0, NORMAL, &mut random);
    let mut recording = Recording::new(250, 120.0, &beats);
    for (i, sample) in recording.signal.iter_mut().enumerate() {
        let t = i as f32 / 250.0;
        *sample *= 0.4 + 0.6 * (1.0 + (t / 15.0).sin()) / 2.0;
    }
    check("slow change of amplitude", &recording, TOLERANCE_S, 0.99);
}

#[test]
fn units_and_offsets_do_not_matter() {
    let mut random = Random(19);
    let beats = regular(80.0, 30.0, NORMAL, &mut random);
    let recording = Recording::new(250, 30.0, &beats);
    let plain = rpeaks(&recording.signal, 250).unwrap();
    let microvolts: Vec<f32> = recording
        .signal
        .iter()
        .map(|x| x * 1000.0 + 3_000.0)
        .collect();
    assert_eq!(rpeaks(&microvolts, 250).unwrap(), plain);
}

#[test]
fn pieces_of_a_long_record_fit_together() {
    let mut random = Random(23);
    let seconds = 1300.0;
    let beats = regular(66.0, seconds, NORMAL, &mut random);
    let recording = Recording::new(100, seconds, &beats).add(|_| 0.02 * random.normal());
    check("22 minutes", &recording, TOLERANCE_S, 0.999);
}

#[test]
fn missing_samples() {
    let mut random = Random(29);
    let beats = regular(70.0, 60.0, NORMAL, &mut random);
    let mut recording = Recording::new(250, 60.0, &beats);
    for _ in 0..300 {
        let at = random.below(recording.signal.len());
        recording.signal[at] = f32::NAN;
    }
    check("single missing samples", &recording, TOLERANCE_S, 0.99);
    // A gap of four seconds: the beats in it are gone, no other beat suffers.
    recording.signal[5000..6000].fill(f32::NAN);
    recording.truth.retain(|t| !(19.95..24.05).contains(t));
    check("a long gap", &recording, TOLERANCE_S, 0.98);
}

#[test]
fn signals_without_beats() {
    assert_eq!(rpeaks(&[], 500), Ok(vec![]));
    assert_eq!(rpeaks(&[1.0; 100], 500), Ok(vec![]));
    assert_eq!(rpeaks(&[0.7; 50_000], 500), Ok(vec![]));
    assert_eq!(rpeaks(&[0.0; 50_000], 500), Ok(vec![]));
    assert_eq!(rpeaks(&[f32::NAN; 5_000], 500), Err(SignalError::Missing));
    let mut half = vec![0.0; 5_000];
    half[..2_501].fill(f32::NAN);
    assert_eq!(rpeaks(&half, 500), Err(SignalError::Missing));
    for fs in [i32::MIN, -1, 0, 49, 2001, i32::MAX] {
        assert_eq!(
            rpeaks(&[0.0; 1000], fs),
            Err(SignalError::SamplingRate { fs: i64::from(fs) })
        );
    }
}

#[test]
fn extreme_values_stay_finite_and_quick() {
    let mut random = Random(31);
    let wild: Vec<f32> = (0..100_000)
        .map(|_| f32::from_bits(random.next() as u32))
        .map(|x| if x.is_nan() { 0.0 } else { x })
        .collect();
    let peaks = rpeaks(&wild, 250).unwrap();
    assert!(peaks.iter().all(|p| (0..100_000).contains(p)));
    // One absurd sample must not hide the beats around it.
    let beats = regular(70.0, 60.0, NORMAL, &mut random);
    let mut recording = Recording::new(250, 60.0, &beats);
    recording.signal[7_000] = f32::MAX;
    check("one absurd sample", &recording, TOLERANCE_S, 0.96);
}
