//! Random draws: one independent ChaCha8 stream per (seed, purpose, index).
//!
//! A person's data depends on the seed and on that person's index alone, so the result is the
//! same whatever the number of threads and in whatever order the parts are made.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream is for; two purposes never share random numbers.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub enum Purpose {
    Person = 1,
    Stays,
    Care,
    Identity,
    CardioChoice,
    Ecg,
    EcgSignal,
    ImagingChoice,
    ImagingDay,
    Image,
    ReportChoice,
    Report,
    Order,
    UidKey,
}

#[derive(Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// ChaCha is a pseudo-random function of its key, so distinct keys are distinct streams.
    pub fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        let mut key = [0_u8; 32];
        for (place, word) in key
            .chunks_exact_mut(8)
            .zip([seed, purpose as u64, index, 0x4855_4246])
        {
            place.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    pub fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub fn key(&mut self) -> [u8; 32] {
        let mut key = [0_u8; 32];
        self.0.fill_bytes(&mut key);
        key
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform in `0..bound`; 0 when `bound` is 0. The multiply-shift bias is below 2⁻³² here.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.word()) * bound as u128) >> 64) as usize
    }

    /// Uniform in `low..=high`; `low` when the range is empty.
    pub fn range(&mut self, low: i32, high: i32) -> i32 {
        let span = i64::from(high) - i64::from(low) + 1;
        low + self.below(span.max(0) as usize) as i32
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Standard normal: the sum of four 16-bit uniforms, scaled. Tails end at 3.46, which is
    /// what noise and spread of synthetic values need, at one draw a value.
    pub fn normal(&mut self) -> f64 {
        let word = self.word();
        let sum: u64 = (0..4).map(|lane| (word >> (16 * lane)) & 0xffff).sum();
        // Each uniform has variance 65536²/12, four of them 65536²/3.
        (sum as f64 - 2.0 * 65_535.0) * (3.0_f64.sqrt() / 65_536.0)
    }

    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Poisson by multiplication of uniforms, for the small means used here.
    pub fn poisson(&mut self, mean: f64) -> u32 {
        if mean <= 0.0 {
            return 0;
        }
        let limit = (-mean.min(500.0)).exp();
        let mut product = self.unit();
        let mut count = 0;
        while product > limit {
            product *= self.unit();
            count += 1;
        }
        count
    }

    /// One element of a list that is not empty.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.below(list.len()))
    }

    /// Index drawn in proportion to the weights; the last one when they sum to nothing.
    pub fn weighted(&mut self, weights: impl Iterator<Item = f64> + Clone) -> usize {
        let total: f64 = weights.clone().sum();
        let mut left = self.unit() * total;
        let mut last = 0;
        for (index, weight) in weights.enumerate() {
            last = index;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        last
    }
}

/// `0..count` in an order that depends on the seed alone (Fisher–Yates), so that a stored
/// identifier says nothing about how its record was made.
pub fn permutation(seed: u64, domain: u64, count: usize) -> Vec<i64> {
    let mut dice = Dice::new(seed, Purpose::Order, domain);
    let mut order: Vec<i64> = (0..count as i64).collect();
    for last in (1..count).rev() {
        order.swap(last, dice.below(last + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_holds_each_number_once_and_moves_them() {
        let order = permutation(7, 1, 1000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<i64>>());
        assert!(order.iter().zip(0..).filter(|(id, at)| **id == *at).count() < 20);
        assert_ne!(order, permutation(8, 1, 1000));
        assert_ne!(order, permutation(7, 2, 1000));
    }

    #[test]
    fn draws_have_their_moments() {
        let mut dice = Dice::new(1, Purpose::Person, 0);
        let draws = 200_000;
        let (mut sum, mut squares, mut events) = (0.0, 0.0, 0_u64);
        for _ in 0..draws {
            let value = dice.normal();
            sum += value;
            squares += value * value;
            events += u64::from(dice.poisson(3.0));
        }
        let n = f64::from(draws);
        assert!((sum / n).abs() < 0.01, "mean {}", sum / n);
        assert!((squares / n - 1.0).abs() < 0.02, "variance {}", squares / n);
        assert!((events as f64 / n - 3.0).abs() < 0.02);
    }
}
