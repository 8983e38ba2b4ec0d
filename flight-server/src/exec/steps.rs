//! When what aggregate mode answers may leave the hub.
//!
//! How long an answer takes follows the rows that are read for it, hidden ones among them, and
//! whoever may see aggregates only could tell from it whether somebody is in a cell that is not
//! shown. So nothing leaves but at the ends of steps that are coarse beside such differences
//! (predictive mitigation of timing channels with a fixed schedule: Askarov, Zhang and Myers,
//! "Predictive black-box mitigation of timing channels", CCS 2010). What remains is the number of
//! the step.

use std::time::Duration;

use tokio::time::Instant;

/// End of the first step. Most answers come within it.
const FIRST: Duration = Duration::from_millis(100);
/// How many times as late as the one before it each other step ends.
const GROWTH: f64 = 1.25;

/// Steps of one call. Those of what follows begin where the last one ended, so that they grow with
/// the time that an answer takes and not with the number of its frames.
#[derive(Debug)]
pub struct Steps {
    began: Instant,
}

impl Steps {
    pub fn begin() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// Waits for the end of the step that this moment is in.
    pub async fn next(&mut self) {
        let end = self.began + end_of_step(self.began.elapsed());
        tokio::time::sleep_until(end).await;
        self.began = end;
    }
}

fn end_of_step(elapsed: Duration) -> Duration {
    let mut end = FIRST;
    while end < elapsed {
        end = end.mul_f64(GROWTH);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_ends_after_the_moment_and_not_long_after() {
        for micros in (0..20_000_000).step_by(997) {
            let elapsed = Duration::from_micros(micros);
            let end = end_of_step(elapsed);
            assert!(end >= elapsed && end <= elapsed.mul_f64(GROWTH).max(FIRST));
        }
        let ends: std::collections::BTreeSet<Duration> = (0..10_000)
            .map(|ms| end_of_step(Duration::from_millis(ms)))
            .collect();
        assert_eq!(ends.len(), 22, "an answer within 10 s tells one of so many");
    }

    #[tokio::test]
    async fn what_takes_less_than_a_step_leaves_at_its_end() {
        for ms in [0, 20, 60] {
            let (mut steps, began) = (Steps::begin(), Instant::now());
            tokio::time::sleep(Duration::from_millis(ms)).await;
            steps.next().await;
            let left = began.elapsed();
            assert!(left >= FIRST, "{ms}: {left:?}");
        }
    }

    /// A large answer takes as many first steps as it has frames, and not ever longer ones.
    #[tokio::test]
    async fn frames_that_are_ready_take_a_first_step_each() {
        let (mut steps, began) = (Steps::begin(), Instant::now());
        for _ in 0..20 {
            steps.next().await;
        }
        let left = began.elapsed();
        assert!(left >= 20 * FIRST && left < 40 * FIRST, "{left:?}");
    }
}
