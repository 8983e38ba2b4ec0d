//! The noise of a cell: a function of who is in it with how many rows, and of nothing else.
//!
//! Each person has a secret random key, other for each number of rows that the person brings to
//! a cell; the key of a cell is the exclusive or of those of all who contribute to it. It is looked up in a perturbation table, so that the same
//! persons give the same noise to everyone, in every query that finds them, and asking again
//! in other words averages nothing away (cell-key method: Fraser and Wooton, "A proposed method
//! for confidentialising tabular output to protect against differencing", UNECE 2005; Thompson,
//! Broadfoot and Elazar, "Methodology for the automatic confidentialisation of statistical
//! outputs from remote servers", UNECE 2013; R packages `cellKey` and `ptable`).

use std::sync::LazyLock;

/// Largest change of a count by noise. Below every threshold, so that no cell turns negative.
pub const NOISE_MAX: i64 = 5;
/// Variance of the noise, in persons squared.
pub const VARIANCE: f64 = 2.0;

const VALUES: usize = 2 * NOISE_MAX as usize + 1;

static TABLE: LazyLock<[f64; VALUES]> = LazyLock::new(|| cumulative(VARIANCE));

/// The noise of a cell with this key: between -[`NOISE_MAX`] and [`NOISE_MAX`].
pub fn noise(cell_key: u64) -> i64 {
    // 53 bits are what a double holds exactly.
    let uniform = (cell_key >> 11) as f64 / (1_u64 << 53) as f64;
    let below = TABLE.iter().filter(|bound| **bound <= uniform).count();
    below.min(VALUES - 1) as i64 - NOISE_MAX
}

/// Probabilities of -D, …, D of the distribution of maximum entropy with mean 0 and this
/// variance, which is proportional to exp(-λ k²) (Marley and Leaver, "A method for
/// confidentialising user-defined tables", ISI 2011).
fn probabilities(variance: f64) -> [f64; VALUES] {
    let weights = |lambda: f64| {
        let mut weights = [0.0; VALUES];
        for (weight, k) in weights.iter_mut().zip(-NOISE_MAX..=NOISE_MAX) {
            *weight = (-lambda * (k * k) as f64).exp();
        }
        let total: f64 = weights.iter().sum();
        weights.map(|weight| weight / total)
    };
    // The variance falls as λ grows.
    let (mut low, mut high) = (0.0, 50.0);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if variance_of(&weights(middle)) > variance {
            low = middle;
        } else {
            high = middle;
        }
    }
    weights(low)
}

fn variance_of(probabilities: &[f64; VALUES]) -> f64 {
    let squares = (-NOISE_MAX..=NOISE_MAX).map(|k| (k * k) as f64);
    probabilities.iter().zip(squares).map(|(p, s)| p * s).sum()
}

fn cumulative(variance: f64) -> [f64; VALUES] {
    let mut sum = 0.0;
    probabilities(variance).map(|probability| {
        sum += probability;
        sum
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_stated_mean_variance_and_the_form_of_greatest_entropy() {
        let p = probabilities(VARIANCE);
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((variance_of(&p) - VARIANCE).abs() < 1e-9);
        for k in 1..=NOISE_MAX as usize {
            let middle = NOISE_MAX as usize;
            assert!((p[middle - k] - p[middle + k]).abs() < 1e-15, "mean 0");
            // log p falls by λ k²: the condition of Lagrange for this entropy.
            let lambda = (p[middle] / p[middle + 1]).ln();
            let expected = p[middle] * (-lambda * (k * k) as f64).exp();
            assert!((p[middle + k] - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn keys_spread_over_the_table_as_its_probabilities_say() {
        let draws = 1_000_000_u64;
        let mut counts = [0_u64; VALUES];
        for index in 0..draws {
            let key = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            counts[(noise(key) + NOISE_MAX) as usize] += 1;
        }
        for (count, p) in counts.iter().zip(probabilities(VARIANCE)) {
            assert!((*count as f64 / draws as f64 - p).abs() < 2e-3);
        }
        assert_eq!(noise(0), -NOISE_MAX);
        assert_eq!(noise(u64::MAX), NOISE_MAX);
    }
}
