//! Where exactly the peak of each beat is.

use super::filter::{high_pass, low_pass, zero_phase};
use super::{median, samples};

/// How far the extremum may lie from the middle of the energy.
const REFINE_S: f64 = 0.06;
/// Bands in which the extremum is sought, Hz: first from the second cut on, where no T wave
/// slopes under the complex, then from the first cut on, where a wide complex has its shape.
const REFINE_HZ: (f64, f64, f64) = (0.7, 4.0, 30.0);
/// How far the second search may move the peak.
const CLIMB_S: f64 = 0.02;
/// An upward deflection before a downward one is the R wave if it is at least this part of it.
const R_RATIO: f64 = 0.45;
/// An extremum of the unusual polarity must be this much higher than usual to be taken.
const POLARITY_RATIO: f64 = 1.6;
/// Below this rate a QRS complex is a few samples, and the smooth signal's highest one may be
/// the neighbour of the true one.
const SNAP_FS_MAX: f64 = 150.0;

/// Moves each beat from the middle of its energy to its peak in the signal `clean`.
pub(super) fn placed(beats: &[usize], clean: &[f64], fs: f64) -> Vec<usize> {
    let pad = samples(1.0, fs);
    let top = REFINE_HZ.2.min(0.4 * fs);
    let sharp = zero_phase(clean, &[high_pass(REFINE_HZ.1, fs), low_pass(top, fs)], pad);
    let soft = zero_phase(clean, &[high_pass(REFINE_HZ.0, fs), low_pass(top, fs)], pad);
    let mut peaks = refine(beats, &sharp, &soft, fs);
    for peak in &mut peaks {
        let up = sharp.get(*peak).is_some_and(|x| *x >= 0.0);
        *peak = climb(&soft, *peak, samples(CLIMB_S, fs), up);
    }
    peaks.dedup();
    if fs < SNAP_FS_MAX {
        snap(&mut peaks, clean, &sharp);
    }
    peaks
}

/// A deflection of a QRS complex.
struct Deflection {
    at: usize,
    /// Size in the signal without slow waves, in which single beats are compared.
    sharp: f64,
    /// Size in the signal whose shape the filter leaves as it is, for the whole record.
    soft: f64,
}

/// Moves each beat to its dominant deflection: in most beats of the record the higher one, or
/// a clear R wave before a deeper S wave. A beat whose other deflection is much larger than
/// the record's habit (an ectopic beat) is placed there.
fn refine(beats: &[usize], sharp: &[f64], soft: &[f64], fs: f64) -> Vec<usize> {
    let found: Vec<(Deflection, Deflection)> = beats
        .iter()
        .map(|beat| deflections(*beat, sharp, soft, fs))
        .collect();
    let of = |size: fn(&(Deflection, Deflection)) -> f64| median(found.iter().map(size).collect());
    let (high, low) = (of(|(high, _)| high.soft), of(|(_, low)| low.soft));
    let before = found.iter().filter(|(high, low)| high.at < low.at).count() * 2 > found.len();
    let upright = high >= low || (before && high >= R_RATIO * low);
    let (high, low) = (of(|(high, _)| high.sharp), of(|(_, low)| low.sharp));
    let habit = if upright { low / high } else { high / low };
    let turned = POLARITY_RATIO * habit.max(1.0);
    let mut peaks: Vec<usize> = found
        .into_iter()
        .map(|(high, low)| {
            let (usual, other) = if upright { (high, low) } else { (low, high) };
            if other.sharp > turned * usual.sharp {
                other.at
            } else {
                usual.at
            }
        })
        .collect();
    peaks.dedup();
    peaks
}

/// The highest and the lowest place of a complex, by the signal without slow waves: a T wave
/// that slopes under it would be the highest otherwise.
fn deflections(at: usize, sharp: &[f64], soft: &[f64], fs: f64) -> (Deflection, Deflection) {
    let reach = samples(REFINE_S, fs);
    // A beat that the record cuts has its peak at the very end.
    let from = if at < 2 * reach { 0 } else { at - reach };
    let late = at + 2 * reach >= sharp.len();
    let to = if late { sharp.len() } else { at + reach + 1 };
    let around = || (from..).zip(sharp.get(from..to).unwrap_or(&[]));
    let highest = around()
        .max_by(|a, b| a.1.total_cmp(b.1))
        .map_or(at, |(i, _)| i);
    let lowest = around()
        .min_by(|a, b| a.1.total_cmp(b.1))
        .map_or(at, |(i, _)| i);
    let (sharp_base, soft_base) = (baseline(sharp, at, fs), baseline(soft, at, fs));
    let deflection = |i: usize, sign: f64| Deflection {
        at: i,
        sharp: sharp
            .get(i)
            .map_or(0.0, |x| (sign * (x - sharp_base)).max(0.0)),
        soft: soft
            .get(i)
            .map_or(0.0, |x| (sign * (x - soft_base)).max(0.0)),
    };
    (deflection(highest, 1.0), deflection(lowest, -1.0))
}

/// The nearest local extremum uphill (downhill for downward peaks), at most `reach` away.
fn climb(soft: &[f64], from: usize, reach: usize, up: bool) -> usize {
    let height = |i: usize| {
        soft.get(i)
            .map_or(f64::NEG_INFINITY, |x| if up { *x } else { -*x })
    };
    let mut at = from;
    loop {
        let right = height(at + 1);
        let left = at.checked_sub(1).map_or(f64::NEG_INFINITY, height);
        let next = if right > height(at) && right >= left {
            at + 1
        } else if left > height(at) {
            at - 1
        } else {
            return at;
        };
        if next.abs_diff(from) > reach {
            // No summit near: a slope of something else, so the first place was better.
            return from;
        }
        at = next;
    }
}

/// Moves each peak to the highest of three samples (the lowest for downward peaks).
fn snap(peaks: &mut [usize], clean: &[f64], soft: &[f64]) {
    for peak in peaks {
        let up = soft.get(*peak).is_some_and(|x| *x >= 0.0);
        let from = peak.saturating_sub(1);
        let to = (*peak + 2).min(clean.len());
        let best = (from..to).max_by(|a, b| {
            let (a, b) = (clean[*a], clean[*b]);
            if up { a.total_cmp(&b) } else { b.total_cmp(&a) }
        });
        *peak = best.unwrap_or(*peak);
    }
}

/// Level of the signal around a beat: the median of what surrounds its QRS complex.
fn baseline(signal: &[f64], at: usize, fs: f64) -> f64 {
    let near = samples(0.08, fs);
    let far = samples(0.2, fs);
    let before = signal
        .get(at.saturating_sub(far)..at.saturating_sub(near))
        .unwrap_or(&[]);
    let after = signal
        .get((at + near).min(signal.len())..(at + far).min(signal.len()))
        .unwrap_or(&[]);
    median(before.iter().chain(after).copied().collect())
}
