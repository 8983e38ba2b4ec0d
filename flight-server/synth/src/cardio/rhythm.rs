//! When the heart beats, and how: the sequence of beats of each rhythm.

use std::f64::consts::TAU;

use crate::dice::Dice;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rhythm {
    Sinus,
    Tachycardia,
    Bradycardia,
    AtrialFibrillation,
    /// Sinus rhythm with ventricular extrasystoles.
    Ectopic,
}

impl Rhythm {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sinus => "sinus",
            Self::Tachycardia => "sinus_tachycardia",
            Self::Bradycardia => "sinus_bradycardia",
            Self::AtrialFibrillation => "atrial_fibrillation",
            Self::Ectopic => "ventricular_ectopy",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Beat {
    /// Centre of the QRS complex, seconds from the start of the recording.
    pub time: f64,
    /// Interval to the beat before, seconds: it shortens what surrounds the QRS.
    pub interval: f64,
    pub ventricular: bool,
    /// A P wave comes before.
    pub p_wave: bool,
}

/// No beat this close to either end, seconds: recordings are cut between beats. Less than a
/// quarter of the shortest interval, so that such a cut exists.
const MARGIN_S: f64 = 0.08;
/// Seconds made before the start at least, and before and after it in all, so that waves of
/// beats outside reach in: more than the longest interval.
const BEFORE_S: f64 = 1.9;
const AROUND_S: f64 = 3.2;

/// Beats around and within a recording of `duration` seconds.
pub fn beats(rhythm: Rhythm, child: bool, duration: f64, dice: &mut Dice) -> Vec<Beat> {
    let mut beats = sequence(rhythm, child, duration + 2.0 * AROUND_S, dice);
    // Moves the start, by up to 1.2 s, to where neither end falls on a beat.
    let clear = |offset: f64, beats: &[Beat]| {
        beats.iter().all(|beat| {
            let time = beat.time - offset;
            time.abs() > MARGIN_S && (time - duration).abs() > MARGIN_S
        })
    };
    let offset = (0..240)
        .map(|step| BEFORE_S + 0.005 * f64::from(step))
        .find(|offset| clear(*offset, &beats))
        .unwrap_or(BEFORE_S);
    for beat in &mut beats {
        beat.time -= offset;
    }
    beats
}

fn sequence(rhythm: Rhythm, child: bool, duration: f64, dice: &mut Dice) -> Vec<Beat> {
    let rate = match rhythm {
        Rhythm::Sinus | Rhythm::Ectopic if child => dice.between(75.0, 98.0),
        Rhythm::Sinus | Rhythm::Ectopic => dice.between(58.0, 92.0),
        Rhythm::Tachycardia => dice.between(104.0, 168.0),
        Rhythm::Bradycardia => dice.between(36.0, 51.0),
        Rhythm::AtrialFibrillation => dice.between(62.0, 138.0),
    };
    let mean = 60.0 / rate;
    let breathing = dice.between(0.18, 0.32);
    // Breathing moves the rate of the young more.
    let depth = dice.between(0.01, if child { 0.07 } else { 0.04 });
    let ectopy = dice.between(0.10, 0.28);
    let mut beats: Vec<Beat> = Vec::new();
    let mut time = dice.between(0.0, mean);
    let mut interval = mean;
    while time < duration {
        beats.push(Beat {
            time,
            interval,
            ventricular: false,
            p_wave: rhythm != Rhythm::AtrialFibrillation,
        });
        interval = match rhythm {
            // Irregularly irregular: no memory, a spread of a fifth, bounded by the node.
            Rhythm::AtrialFibrillation => (mean * (0.22 * dice.normal()).exp()).max(0.34),
            _ => {
                let phase = TAU * breathing * time;
                mean * (1.0 + depth * phase.sin() + 0.012 * dice.normal())
            }
        };
        let premature = rhythm == Rhythm::Ectopic
            && beats.last().is_some_and(|beat| !beat.ventricular)
            && dice.chance(ectopy);
        if premature {
            let early = interval * dice.between(0.58, 0.75);
            beats.push(Beat {
                time: time + early,
                interval: early,
                ventricular: true,
                p_wave: false,
            });
            // The compensatory pause: the next sinus beat comes when it would have come.
            time += 2.0 * interval;
            interval = 2.0 * interval - early;
        } else {
            time += interval;
        }
    }
    if rhythm == Rhythm::Ectopic && !beats.iter().any(|beat| beat.ventricular) {
        return sequence(rhythm, child, duration, dice);
    }
    beats
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Purpose;

    #[test]
    fn rhythms_have_their_rate_and_regularity() {
        let check = |rhythm, rates: (f64, f64), spread: (f64, f64)| {
            for index in 0..50 {
                let mut dice = Dice::new(5, Purpose::Ecg, index);
                let beats = beats(rhythm, false, 30.0, &mut dice);
                let inside: Vec<f64> = beats
                    .iter()
                    .map(|beat| beat.time)
                    .filter(|time| (0.0..30.0).contains(time))
                    .collect();
                let gaps: Vec<f64> = inside.windows(2).map(|pair| pair[1] - pair[0]).collect();
                let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
                let sd = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>()
                    / gaps.len() as f64)
                    .sqrt();
                assert!(
                    (rates.0..rates.1).contains(&(60.0 / mean)),
                    "{rhythm:?} {mean}"
                );
                assert!(
                    (spread.0..spread.1).contains(&(sd / mean)),
                    "{rhythm:?} {sd}"
                );
                assert!(inside.iter().all(|t| *t > MARGIN_S && *t < 30.0 - MARGIN_S));
                // A beat before the start, so that its waves reach in.
                assert!(beats.iter().any(|beat| beat.time < 0.0));
            }
        };
        check(Rhythm::Sinus, (55.0, 96.0), (0.0, 0.06));
        check(Rhythm::Bradycardia, (34.0, 54.0), (0.0, 0.06));
        check(Rhythm::Tachycardia, (100.0, 172.0), (0.0, 0.06));
        check(Rhythm::AtrialFibrillation, (55.0, 150.0), (0.09, 0.4));
        check(Rhythm::Ectopic, (50.0, 115.0), (0.05, 0.5));
    }
}
