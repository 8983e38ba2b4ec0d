//! R peaks, after Pan and Tompkins (IEEE Trans Biomed Eng 1985;32:230-236): band-pass,
//! energy of the QRS complex, thresholds that follow the signal, search back after long gaps,
//! discrimination of T waves by their slope.
//!
//! What differs, because the whole signal is at hand: the filters are zero-phase, thresholds
//! look at both sides of a beat and use medians (a burst of noise does not raise them), and
//! each peak is then placed at the extremum of the lightly filtered signal.

use super::filter::{high_pass, low_pass, moving_average, zero_phase};
use super::place::placed;
use super::{FS_MAX, FS_MIN, SignalError, median, samples};

/// Shortest signal that can hold a beat to be found.
const DURATION_S_MIN: f64 = 0.5;
/// Long signals are processed in pieces of this length, so that memory stays bounded …
const PIECE_S_MAX: f64 = 300.0;
/// … with this much of their neighbours on each side.
const MARGIN_S: f64 = 15.0;
/// Gaps longer than this hold no beats.
const GAP_S_MAX: f64 = 0.15;

/// Band of the QRS complex, Hz: wide ectopic beats are still in it, T waves hardly.
const BAND_HZ: (f64, f64) = (5.0, 18.0);
/// Width of the energy window, about one QRS complex.
const ENERGY_S: f64 = 0.1;
/// No two beats are closer (300 per minute).
const REFRACTORY_S: f64 = 0.2;
/// The slope of a complex is the steepest within this time of its middle.
const SLOPE_S: f64 = 0.06;
/// Within this time after a beat, a flat deflection is its T wave.
const T_WAVE_S: f64 = 0.36;
/// Slope of a T wave, relative to the beat before.
const T_SLOPE_MAX: f64 = 0.4;
/// Windows whose highest energies give the local level of beats, and their number.
const LEVEL_WINDOW_S: f64 = 2.0;
const LEVEL_WINDOWS: usize = 11;
/// Thresholds, relative to the local level (amplitudes, not energies).
const THRESHOLD: f64 = 0.35;
const SEARCH_BACK_THRESHOLD: f64 = 0.2;
/// Slope of a beat found by searching back, relative to its neighbours.
const SEARCH_BACK_SLOPE: f64 = 0.3;
/// A gap longer than this many local intervals is searched again.
const SEARCH_BACK_INTERVALS: f64 = 1.6;
/// Peaks this much higher than the local level are no beats.
const ARTEFACT_LEVEL: f64 = 12.0;
/// The local level counts at least as this part of the level of the whole piece.
const LEVEL_FLOOR: f64 = 0.15;
/// Samples are clamped to this many times the usual deflection, so that a spike does not
/// ring through the filters over the beats beside it.
const CLAMP: f64 = 20.0;
/// The part of the deflections that is below the usual one.
const USUAL_QUANTILE: f64 = 0.95;

/// Sample indices of the R peaks (of the dominant deflection of each QRS complex), ascending.
///
/// `signal` in any unit, `fs` in samples per second from 50 to 2000. Missing samples (NaN,
/// infinite) are interpolated; gaps over 150 ms hold no beats. A signal that is constant or
/// shorter than 0.5 s has no peaks. Time is linear in the length, memory bounded by it.
///
/// # Errors
/// When `fs` is out of range, or more than half of the samples are missing.
pub fn rpeaks(signal: &[f32], fs: i32) -> Result<Vec<i32>, SignalError> {
    if !(FS_MIN..=FS_MAX).contains(&fs) {
        return Err(SignalError::SamplingRate { fs: i64::from(fs) });
    }
    let n = signal.len();
    if i32::try_from(n).is_err() {
        return Err(SignalError::TooLong);
    }
    let missing = signal.iter().filter(|x| !x.is_finite()).count();
    if missing * 2 > n {
        return Err(SignalError::Missing);
    }
    let rate = f64::from(fs);
    if (n as f64) < DURATION_S_MIN * rate {
        return Ok(Vec::new());
    }
    let piece = samples(PIECE_S_MAX, rate);
    let margin = samples(MARGIN_S, rate);
    let mut peaks: Vec<i32> = Vec::new();
    let mut start = 0;
    while start < n {
        // A short rest goes with the last piece, which must not be too short to judge.
        let end = if n - start < piece + margin {
            n
        } else {
            start + piece
        };
        let from = start.saturating_sub(margin);
        let to = (end + margin).min(n);
        for peak in piece_peaks(&signal[from..to], rate) {
            let at = from + peak;
            let apart = peaks
                .last()
                .is_none_or(|last| at as i32 - last > samples(REFRACTORY_S, rate) as i32);
            if (start..end).contains(&at) && apart {
                peaks.push(at as i32);
            }
        }
        start = end;
    }
    Ok(peaks)
}

/// A maximum of the energy that may be a beat.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    at: usize,
    /// Square root of the energy.
    height: f64,
    /// Steepest slope around it.
    slope: f64,
}

fn piece_peaks(signal: &[f32], fs: f64) -> Vec<usize> {
    let (mut clean, gaps) = filled(signal, samples(GAP_S_MAX, fs));
    clamp(&mut clean);
    let pad = samples(1.0, fs);
    let band = zero_phase(
        &clean,
        &[high_pass(BAND_HZ.0, fs), low_pass(BAND_HZ.1, fs)],
        pad,
    );
    let slope = slopes(&band);
    let squares: Vec<f64> = slope.iter().map(|x| x * x).collect();
    let energy = moving_average(&squares, samples(ENERGY_S, fs));
    let mut candidates = candidates(&energy, &slope, fs);
    candidates.retain(|c| !gaps.iter().any(|(from, to)| (*from..*to).contains(&c.at)));
    let levels = levels(&candidates, energy.len(), fs);
    let beats = beats(&candidates, &levels, fs);
    let places: Vec<usize> = beats.iter().map(|beat| beat.at).collect();
    placed(&places, &clean, fs)
}

/// Limits absurd samples to a multiple of the usual deflection from the median.
fn clamp(signal: &mut [f64]) {
    let centre = median(signal.to_vec());
    let mut deflections: Vec<f64> = signal.iter().map(|x| (x - centre).abs()).collect();
    let at = (deflections.len() as f64 * USUAL_QUANTILE) as usize;
    if at >= deflections.len() {
        return;
    }
    let (_, usual, _) = deflections.select_nth_unstable_by(at, f64::total_cmp);
    let limit = CLAMP * *usual;
    if limit > 0.0 {
        for sample in signal {
            *sample = sample.clamp(centre - limit, centre + limit);
        }
    }
}

/// The signal without missing samples, and the gaps that are too long to hold a beat.
fn filled(signal: &[f32], gap_max: usize) -> (Vec<f64>, Vec<(usize, usize)>) {
    let mut out: Vec<f64> = signal.iter().map(|x| f64::from(*x)).collect();
    let mut gaps = Vec::new();
    let n = out.len();
    let mut i = 0;
    while i < n {
        if out[i].is_finite() {
            i += 1;
            continue;
        }
        let from = i;
        while i < n && !out[i].is_finite() {
            i += 1;
        }
        let before = from.checked_sub(1).map(|b| out[b]);
        let after = out.get(i).copied();
        let (a, b) = match (before, after) {
            (Some(a), Some(b)) => (a, b),
            (Some(a), None) => (a, a),
            (None, Some(b)) => (b, b),
            (None, None) => (0.0, 0.0),
        };
        let steps = (i - from + 1) as f64;
        for (k, sample) in out[from..i].iter_mut().enumerate() {
            *sample = a + (b - a) * (k + 1) as f64 / steps;
        }
        if i - from > gap_max {
            gaps.push((from, i));
        }
    }
    (out, gaps)
}

/// Central differences; the first and last are those of their neighbours.
fn slopes(band: &[f64]) -> Vec<f64> {
    let inner = band.windows(3).map(|x| match x {
        [before, _, after] => (after - before) / 2.0,
        _ => 0.0,
    });
    let mut out = Vec::with_capacity(band.len());
    out.push(0.0);
    out.extend(inner);
    out.push(0.0);
    out.truncate(band.len());
    out
}

/// Local maxima of the energy, the highest first where two are closer than a beat can be.
fn candidates(energy: &[f64], slopes: &[f64], fs: f64) -> Vec<Candidate> {
    let refractory = samples(REFRACTORY_S, fs);
    let reach = samples(SLOPE_S, fs);
    let mut kept: Vec<Candidate> = Vec::new();
    for (i, window) in energy.windows(3).enumerate() {
        let [before, here, after] = window else {
            continue;
        };
        if !(here > before && here >= after) || *here <= 0.0 {
            continue;
        }
        let at = i + 1;
        let around = &slopes[at.saturating_sub(reach)..(at + reach + 1).min(slopes.len())];
        let slope = around
            .iter()
            .fold(0.0f64, |steepest, x| steepest.max(x.abs()));
        let candidate = Candidate {
            at,
            height: here.sqrt(),
            slope,
        };
        // Of maxima that are too close, the highest stays.
        let mut best = true;
        while let Some(last) = kept.last() {
            if at - last.at >= refractory {
                break;
            }
            if last.height >= candidate.height {
                best = false;
                break;
            }
            kept.pop();
        }
        if best {
            kept.push(candidate);
        }
    }
    kept
}

/// Level of the beats around each window of `LEVEL_WINDOW_S`: the median over neighbouring
/// windows of the highest candidate in each.
fn levels(candidates: &[Candidate], n: usize, fs: f64) -> Vec<f64> {
    let window = samples(LEVEL_WINDOW_S, fs);
    let mut highest = vec![0.0f64; n.div_ceil(window).max(1)];
    for candidate in candidates {
        if let Some(top) = highest.get_mut(candidate.at / window) {
            *top = top.max(candidate.height);
        }
    }
    // A last window that is hardly begun holds no beat and says nothing.
    if highest.len() > 1 && (1..window * 3 / 4).contains(&(n % window)) {
        highest.pop();
    }
    let overall = median(highest.iter().copied().filter(|h| *h > 0.0).collect());
    let half = LEVEL_WINDOWS / 2;
    (0..highest.len())
        .map(|i| {
            let around = &highest[i.saturating_sub(half)..(i + half + 1).min(highest.len())];
            median(around.iter().copied().filter(|h| *h > 0.0).collect()).max(LEVEL_FLOOR * overall)
        })
        .collect()
}

fn beats(candidates: &[Candidate], levels: &[f64], fs: f64) -> Vec<Candidate> {
    let window = samples(LEVEL_WINDOW_S, fs);
    let level = |at: usize| -> f64 {
        levels
            .get(at / window)
            .or(levels.last())
            .copied()
            .unwrap_or(0.0)
    };
    let t_wave = samples(T_WAVE_S, fs);
    let mut beats: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        let local = level(candidate.at);
        if candidate.height < THRESHOLD * local || candidate.height > ARTEFACT_LEVEL * local {
            continue;
        }
        if let Some(last) = beats.last()
            && candidate.at - last.at < t_wave
            && candidate.slope < T_SLOPE_MAX * last.slope
        {
            continue;
        }
        beats.push(*candidate);
    }
    search_back(beats, candidates, level, fs)
}

/// Adds the highest weaker candidate where a beat seems to be missing.
fn search_back(
    beats: Vec<Candidate>,
    candidates: &[Candidate],
    level: impl Fn(usize) -> f64,
    fs: f64,
) -> Vec<Candidate> {
    const INTERVALS_AROUND: usize = 8;
    let intervals: Vec<f64> = beats
        .windows(2)
        .map(|pair| (pair[1].at - pair[0].at) as f64)
        .collect();
    let guard = samples(T_WAVE_S, fs);
    let mut out: Vec<Candidate> = Vec::with_capacity(beats.len());
    for (i, beat) in beats.iter().enumerate() {
        if let Some(last) = out.last().copied() {
            let from = i.saturating_sub(INTERVALS_AROUND);
            let around = &intervals[from..(i + INTERVALS_AROUND).min(intervals.len())];
            let usual = median(around.to_vec());
            let gap = (beat.at - last.at) as f64;
            if gap > SEARCH_BACK_INTERVALS * usual {
                let first = candidates.partition_point(|c| c.at <= last.at + guard);
                let end =
                    candidates.partition_point(|c| c.at + samples(REFRACTORY_S, fs) < beat.at);
                let missed = candidates
                    .get(first..end)
                    .unwrap_or(&[])
                    .iter()
                    .filter(|c| c.height >= SEARCH_BACK_THRESHOLD * level(c.at))
                    .filter(|c| c.height <= ARTEFACT_LEVEL * level(c.at))
                    .filter(|c| c.slope >= SEARCH_BACK_SLOPE * beat.slope.min(last.slope))
                    .max_by(|a, b| a.height.total_cmp(&b.height));
                out.extend(missed);
            }
        }
        out.push(*beat);
    }
    out
}
