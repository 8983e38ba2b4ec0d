//! Independent jobs on a few threads, results in the order of the jobs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Result, anyhow};

/// Runs `job(0..count)` on at most `threads` threads. The first failure stops what has not
/// started yet; its error is returned.
pub fn map<T: Send>(
    threads: usize,
    count: usize,
    job: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let done = Mutex::new(Vec::with_capacity(count));
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            let result = job(index);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            if let Ok(mut done) = done.lock() {
                done.push((index, result));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, count.max(1)) {
            scope.spawn(work);
        }
        work();
    });
    let mut done = done
        .into_inner()
        .map_err(|_| anyhow!("a thread that makes synthetic data stopped"))?;
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_their_order_and_failures_surface() {
        for threads in [1, 2, 7] {
            let squares = map(threads, 100, |index| Ok(index * index)).expect("no job fails");
            assert_eq!(squares, (0..100).map(|n| n * n).collect::<Vec<_>>());
        }
        assert!(map(2, 0, |_| Ok(())).expect("no job").is_empty());
        let error = map(2, 9, |index| {
            if index == 4 {
                Err(anyhow!("4"))
            } else {
                Ok(())
            }
        });
        assert_eq!(error.expect_err("job 4 fails").to_string(), "4");
    }
}
