//! Batches in parts: defects, deadlines, streams that go away or do not read.

use super::*;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use hubflight_compute::ComputeError;
use hubflight_protocol::function;
use tokio::sync::Semaphore;

/// Does to a batch what its first value says; of a batch of tens, a row at a time.
struct Moody;

impl Backend for Moody {
    fn device(&self) -> &str {
        "moody"
    }

    fn execute(
        &mut self,
        _function: &str,
        args: &[ArrayRef],
        _rows: usize,
        _limits: &Limits,
    ) -> Result<Output, ComputeError> {
        let values = args[0].as_primitive::<Int64Type>();
        let output = |values: ArrayRef| {
            Ok(Output {
                units: values.len() as u64,
                values,
                errors: Vec::new(),
            })
        };
        match values.value(0) {
            0 => panic!("a defect in a codec"),
            1 => output(Arc::new(Int64Array::from(vec![1; 9]))),
            2 => output(Arc::new(Int64Array::from(Vec::<i64>::new()))),
            10.. => output(args[0].slice(0, 1)),
            _ => output(Arc::clone(&args[0])),
        }
    }
}

fn engine() -> anyhow::Result<Engine> {
    let engine = Engine::new(QueueLimits::default())?;
    // The threads then end where they would wait.
    engine.stop();
    Ok(engine)
}

/// Queues batches of a stream that reads at most `parts` ahead.
fn submit(
    engine: &Engine,
    stream: u64,
    batches: &[&[i64]],
    parts: usize,
    deadline: u64,
) -> anyhow::Result<mpsc::Receiver<Outcome>> {
    let (reply, outcomes) = mpsc::channel(parts);
    let places = Arc::new(Semaphore::new(batches.len()));
    let spec = function("echo").ok_or_else(|| anyhow::anyhow!("no echo"))?;
    for (seq, batch) in batches.iter().enumerate() {
        let job = Job {
            spec,
            args: vec![Arc::new(Int64Array::from(batch.to_vec()))],
            rows: batch.len(),
            value: DataType::Int64,
            arrived: Instant::now(),
            reply: reply.clone(),
            place: Arc::new(Arc::clone(&places).try_acquire_owned()?),
            usage: Job::usage(seq as u64, spec),
        };
        let waiting = Waiting {
            stream,
            tenant: "t".into(),
            priority: 0,
            deadline,
            rows: batch.len(),
            bytes: 8 * batch.len(),
            work: job,
        };
        assert!(engine.try_push(&mut Some(waiting)));
    }
    Ok(outcomes)
}

fn received(outcomes: &mut mpsc::Receiver<Outcome>) -> Vec<Outcome> {
    std::iter::from_fn(|| outcomes.try_recv().ok()).collect()
}

/// Number, first row, failed rows, NULLs and units of each part; the latter of a batch.
fn told(outcomes: &[Outcome]) -> Vec<(u64, u64, u64, usize, u64)> {
    let told = |outcome: &Outcome| match outcome {
        Outcome::Done(done) => {
            let usage = &done.usage;
            let nulls = done.output.values.null_count();
            (usage.seq, usage.row, usage.failed, nulls, usage.units)
        }
        _ => (u64::MAX, 0, 0, 0, 0),
    };
    outcomes.iter().map(told).collect()
}

fn batches(engine: &Engine, outcome: &str) -> u64 {
    let labels = ["echo", outcome];
    engine.metrics.batches.with_label_values(&labels).get()
}

/// A panic and a wrong result cost their own batch, every row of it, and nothing else.
#[test]
fn a_defect_costs_its_own_batch() -> anyhow::Result<()> {
    let engine = engine()?;
    let batches: [&[i64]; 5] = [&[5, 6], &[0, 7, 8], &[1, 3], &[2], &[9]];
    let mut outcomes = submit(&engine, 1, &batches, 16, u64::MAX)?;
    engine.work(&mut Moody);
    assert_eq!(engine.load(), Load::default());
    let expected = [
        (0, 0, 0, 0, 2),
        (1, 0, 3, 3, 0),
        (2, 0, 2, 2, 0),
        (3, 0, 1, 1, 0),
        (4, 0, 0, 0, 1),
    ];
    assert_eq!(told(&received(&mut outcomes)), expected);
    // A defect in a later part costs the rows that are left.
    let mut outcomes = submit(&engine, 1, &[&[10, 0, 3]], 16, u64::MAX)?;
    engine.work(&mut Moody);
    let expected = [(0, 0, 0, 0, 0), (0, 1, 2, 2, 1)];
    assert_eq!(told(&received(&mut outcomes)), expected);
    Ok(())
}

#[test]
fn what_expired_is_told_so() -> anyhow::Result<()> {
    let engine = engine()?;
    let mut outcomes = submit(&engine, 1, &[&[5], &[6]], 2, unix_ms())?;
    engine.work(&mut Moody);
    let outcomes = received(&mut outcomes);
    assert_eq!(outcomes.len(), 2);
    let is_expired = |outcome: &Outcome| matches!(outcome, Outcome::Expired);
    assert!(outcomes.iter().all(is_expired));
    Ok(())
}

/// Who does not read gets as many parts as it has slots, and no thread waits for it.
#[test]
fn a_stream_that_does_not_read_holds_nobody_up() -> anyhow::Result<()> {
    let engine = engine()?;
    let mut slow = submit(&engine, 1, &[&[10, 11, 12, 13, 14]], 2, u64::MAX)?;
    let mut other = submit(&engine, 2, &[&[5], &[6]], 16, u64::MAX)?;
    let (mut rows, mut reads) = (Vec::new(), 0);
    while engine.load().batches > 0 {
        engine.work(&mut Moody);
        let parts = received(&mut slow);
        assert!(parts.len() <= 2, "the stream has two slots");
        reads += 1;
        for part in parts {
            let Outcome::Done(done) = part else {
                anyhow::bail!("not done");
            };
            assert_eq!(done.usage.row, rows.len() as u64);
            assert_eq!(done.usage.last, rows.len() == 4);
            let values = done.output.values.as_primitive::<Int64Type>();
            rows.extend_from_slice(values.values());
            if done.usage.last {
                assert_eq!((done.usage.items, done.usage.units), (5, 5));
            }
        }
        if reads == 1 {
            assert_eq!(received(&mut other).len(), 2);
        }
    }
    assert_eq!((rows, reads), (vec![10, 11, 12, 13, 14], 3));
    assert_eq!(batches(&engine, "done"), 3);
    Ok(())
}

/// The rest of a batch is dropped when its stream has gone, or at its deadline.
#[test]
fn a_batch_ends_between_its_parts() -> anyhow::Result<()> {
    let engine = engine()?;
    let outcomes = submit(&engine, 1, &[&[10, 11, 12]], 1, u64::MAX)?;
    engine.work(&mut Moody);
    assert_eq!(engine.load().rows, 2, "it waits for its reader");
    drop(outcomes);
    engine.work(&mut Moody);
    assert_eq!(batches(&engine, "cancelled"), 1);

    let soon = unix_ms() + 300;
    let mut outcomes = submit(&engine, 1, &[&[10, 11, 12]], 1, soon)?;
    engine.work(&mut Moody);
    assert_eq!(received(&mut outcomes).len(), 1);
    std::thread::sleep(Duration::from_millis(350));
    engine.work(&mut Moody);
    assert!(matches!(received(&mut outcomes)[..], [Outcome::Expired]));
    assert_eq!(batches(&engine, "expired"), 1);
    let label = ["echo"];
    assert_eq!(engine.metrics.rows.with_label_values(&label).get(), 2);
    assert_eq!(engine.load(), Load::default());
    Ok(())
}
