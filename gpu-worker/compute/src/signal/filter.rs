//! Zero-phase Butterworth filters of second order.

/// A section of second order, normalised so that a0 = 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    b: [f64; 3],
    a: [f64; 2],
}

/// Butterworth low pass of second order by the bilinear transform. `cut` in Hz below `fs / 2`.
pub(super) fn low_pass(cut: f64, fs: f64) -> Section {
    let k = (std::f64::consts::PI * cut / fs).tan();
    let norm = 1.0 / (1.0 + std::f64::consts::SQRT_2 * k + k * k);
    let b0 = k * k * norm;
    Section {
        b: [b0, 2.0 * b0, b0],
        a: [
            2.0 * (k * k - 1.0) * norm,
            (1.0 - std::f64::consts::SQRT_2 * k + k * k) * norm,
        ],
    }
}

/// Butterworth high pass of second order by the bilinear transform.
pub(super) fn high_pass(cut: f64, fs: f64) -> Section {
    let k = (std::f64::consts::PI * cut / fs).tan();
    let norm = 1.0 / (1.0 + std::f64::consts::SQRT_2 * k + k * k);
    Section {
        b: [norm, -2.0 * norm, norm],
        a: [
            2.0 * (k * k - 1.0) * norm,
            (1.0 - std::f64::consts::SQRT_2 * k + k * k) * norm,
        ],
    }
}

impl Section {
    /// Runs over `samples` in place, begun in the steady state of the first sample so that
    /// an offset makes no transient.
    fn run<'a>(&self, samples: impl Iterator<Item = &'a mut f64>) {
        let [b0, b1, b2] = self.b;
        let [a1, a2] = self.a;
        let mut state: Option<(f64, f64)> = None;
        for sample in samples {
            let x = *sample;
            let (s1, s2) = state.unwrap_or_else(|| {
                // Steady state for a constant input x: the output is x times the gain at 0 Hz.
                let y = x * (b0 + b1 + b2) / (1.0 + a1 + a2);
                let s2 = b2 * x - a2 * y;
                (b1 * x - a1 * y + s2, s2)
            });
            let y = b0 * x + s1;
            state = Some((b1 * x - a1 * y + s2, b2 * x - a2 * y));
            *sample = y;
        }
    }
}

/// Filters forwards and backwards, so that peaks stay where they are. The ends are extended
/// by their odd reflection over `pad` samples against transients.
pub(super) fn zero_phase(signal: &[f64], sections: &[Section], pad: usize) -> Vec<f64> {
    let n = signal.len();
    let (Some(first), Some(last)) = (signal.first(), signal.last()) else {
        return Vec::new();
    };
    let pad = pad.min(n - 1);
    let mut out = Vec::with_capacity(n + 2 * pad);
    out.extend(
        signal
            .iter()
            .skip(1)
            .take(pad)
            .rev()
            .map(|x| 2.0 * first - x),
    );
    out.extend_from_slice(signal);
    out.extend(
        signal
            .iter()
            .rev()
            .skip(1)
            .take(pad)
            .map(|x| 2.0 * last - x),
    );
    for section in sections {
        section.run(out.iter_mut());
    }
    for section in sections {
        section.run(out.iter_mut().rev());
    }
    out.truncate(pad + n);
    out.drain(..pad);
    out
}

/// Centred moving average over `width` samples (made odd); narrower at the ends.
pub(super) fn moving_average(signal: &[f64], width: usize) -> Vec<f64> {
    let half = width / 2;
    let n = signal.len();
    let mut out = Vec::with_capacity(n);
    let mut sum = 0.0;
    let (mut from, mut to) = (0, 0);
    for i in 0..n {
        let end = (i + half + 1).min(n);
        let start = i.saturating_sub(half);
        sum += signal.get(to..end).map_or(0.0, |new| new.iter().sum());
        sum -= signal.get(from..start).map_or(0.0, |old| old.iter().sum());
        (from, to) = (start, end);
        out.push(sum / (end - start) as f64);
    }
    out
}
