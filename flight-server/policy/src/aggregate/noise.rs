//! The noise of a cell: a function of who is in it with what, and of nothing else.
//!
//! Each person has a secret random key. The key of a cell is the exclusive or of those of all
//! who contribute to it, and is looked up in a perturbation table, so that the same persons
//! give the same noise to everyone, in every query that finds them, and asking again in other
//! words averages nothing away (cell-key method: Fraser and Wooton, "A proposed method for
//! confidentialising tabular output to protect against differencing", UNECE 2005; Thompson,
//! Broadfoot and Elazar, "Methodology for the automatic confidentialisation of statistical
//! outputs from remote servers", UNECE 2013; R packages `cellKey` and `ptable`).
//!
//! Two such layers are added, as a layer alone is either averaged or cancelled. That of the
//! persons alone stays when values are scaled or rows multiplied; that of persons with their
//! values differs between two sums over the same persons, so that no difference is exact
//! (layered noise: Francis, Probst Eide and Munz, "Diffix: High-utility database
//! anonymization", APF 2017). Both are real numbers: whole ones would stand out in remainders.

use std::sync::LazyLock;

use hubflight_rights::dataset::PERSONS_MIN_LEAST;

/// Largest change of a count by noise. Below every threshold, so that no cell turns negative.
pub const NOISE_MAX: i64 = 5;
const _: () = assert!(NOISE_MAX < PERSONS_MIN_LEAST as i64);
/// Largest whole step of one layer, which is spread by half a step to each side.
const LAYER_MAX: i64 = 2;
/// Variance of the steps of one layer, in persons squared.
pub const VARIANCE: f64 = 1.5;

const VALUES: usize = 2 * LAYER_MAX as usize + 1;

static TABLE: LazyLock<[f64; VALUES]> = LazyLock::new(|| cumulative(VARIANCE));

/// The noise of a cell, between -[`NOISE_MAX`] and [`NOISE_MAX`]: `persons` is the key of who
/// is in it, `values` that of who brings what.
pub fn noise(persons: u64, values: u64) -> f64 {
    layer(mixed(persons, 1)) + layer(mixed(values, 2))
}

/// One layer: a step of the table, and what spreads it.
fn layer(key: u64) -> f64 {
    let step = uniform(key);
    let below = TABLE.iter().filter(|bound| **bound <= step).count();
    let step = below.min(VALUES - 1) as i64 - LAYER_MAX;
    step as f64 + uniform(mixed(key, 3)) - 0.5
}

/// From 0 to 1, without 1.
fn uniform(key: u64) -> f64 {
    // 53 bits are what a double holds exactly.
    (key >> 11) as f64 / (1_u64 << 53) as f64
}

/// A number that looks random for each pair (the finaliser of SplitMix64: Steele, Lea and Flood,
/// "Fast splittable pseudorandom number generators", OOPSLA 2014). The secret is in `key`.
pub fn mixed(key: u64, with: u64) -> u64 {
    let mut key = key.wrapping_add(with.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

/// Probabilities of the steps of the distribution of maximum entropy with mean 0 and this
/// variance, which is proportional to exp(-λ k²) (Marley and Leaver, "A method for
/// confidentialising user-defined tables", ISI 2011).
fn probabilities(variance: f64) -> [f64; VALUES] {
    let weights = |lambda: f64| {
        let mut weights = [0.0; VALUES];
        for (weight, k) in weights.iter_mut().zip(-LAYER_MAX..=LAYER_MAX) {
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
    let squares = (-LAYER_MAX..=LAYER_MAX).map(|k| (k * k) as f64);
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
        for k in 1..=LAYER_MAX as usize {
            let middle = LAYER_MAX as usize;
            assert!((p[middle - k] - p[middle + k]).abs() < 1e-15, "mean 0");
            // log p falls by λ k²: the condition of Lagrange for this entropy.
            let lambda = (p[middle] / p[middle + 1]).ln();
            let expected = p[middle] * (-lambda * (k * k) as f64).exp();
            assert!((p[middle + k] - expected).abs() < 1e-12);
        }
    }

    /// What R's `ptable::create_cnt_ptable(D = 2, V = 1.5)` solves for counts of 2 and more: the
    /// greatest entropy with sum 1, mean 0 and variance V (Giessing, "Computational issues in the
    /// design of transition probabilities and disclosure risk estimation for additive noise",
    /// PSD 2016; Enderle, vignette of `ptable`). `tests/python/test_ptable.py` solves it apart
    /// from this code, checks its solver on numbers that R printed, and reads these.
    #[test]
    fn the_table_is_that_of_ptable() {
        const PTABLE: [f64; VALUES] = [
            0.129_861_640_81,
            0.230_553_436_75,
            0.279_169_844_88,
            0.230_553_436_75,
            0.129_861_640_81,
        ];
        for (own, theirs) in probabilities(VARIANCE).iter().zip(PTABLE) {
            assert!((own - theirs).abs() < 1e-9, "{own} is not {theirs}");
        }
    }

    /// Steps of variance 1.5, spread over one (1/12): each layer has both, independently.
    #[test]
    fn noise_has_the_variance_of_two_layers_and_its_bound() {
        let draws = 1_000_000_u64;
        let (mut sum, mut squares, mut both) = (0.0, 0.0, 0.0);
        for index in 0..draws {
            let (persons, values) = (mixed(index, 11), mixed(index, 12));
            let drawn = noise(persons, values);
            assert!(drawn.abs() <= NOISE_MAX as f64);
            sum += drawn;
            squares += drawn * drawn;
            both += layer(mixed(persons, 1)) * layer(mixed(values, 2));
        }
        let draws = draws as f64;
        assert!((sum / draws).abs() < 0.01, "{sum}");
        let expected = 2.0 * (VARIANCE + 1.0 / 12.0);
        assert!((squares / draws - expected).abs() < 0.02, "{squares}");
        assert!((both / draws).abs() < 0.01, "the layers are correlated");
    }
}
