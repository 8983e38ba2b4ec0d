//! Batches, answers, refusals, deadlines and ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int64Array, LargeStringArray, RecordBatch, StringArray,
};
use arrow::datatypes::Int64Type;
use arrow_flight::FlightData;
use gpu_worker::{Device, WorkerConfig, run};
use hubflight_protocol::envelope::unix_ms;
use hubflight_protocol::wire::BatchWriter;
use hubflight_protocol::{BatchTag, Envelope, Key, WorkUnit};
use tokio::net::TcpListener;
use tonic::{Code, Status};

use crate::support::{Client, Worker, column, connect, key, numbers, seal, start};

#[tokio::test]
async fn batches_come_back_with_their_usage() -> Result<()> {
    let worker = start().await?;
    let mut client =
        Client::open(&worker, &seal("echo", 60_000)?, &numbers(0..1)?.schema()).await?;
    for seq in 0..40 {
        client
            .send(100 + seq, &numbers(seq as i64 * 10..seq as i64 * 10 + 10)?)
            .await?;
    }
    let mut seen = Vec::new();
    while seen.len() < 40 {
        let (usage, answer) = client.next().await?.context("an answer")?;
        let first = answer.column(0).as_primitive::<Int64Type>().value(0);
        assert_eq!(first, (usage.seq as i64 - 100) * 10);
        assert_eq!(answer.num_rows(), 10);
        assert_eq!(answer.column(1).null_count(), 10);
        assert_eq!((usage.items, usage.units, usage.failed), (10, 10, 0));
        assert_eq!(
            (usage.unit, usage.last, usage.device_us),
            (WorkUnit::Calls, true, 0)
        );
        seen.push(usage.seq);
    }
    seen.sort_unstable();
    assert_eq!(seen, (100..140).collect::<Vec<_>>());
    // The client has sent all: the worker ends the stream without an error.
    let Client {
        outbox,
        mut answers,
        ..
    } = client;
    drop(outbox);
    assert!(answers.message().await?.is_none());

    let metrics = worker.action("metrics", seal("metrics", 5_000)?).await?;
    assert!(
        metrics.contains("gpu_worker_rows_total{function=\"echo\"} 400"),
        "{metrics}"
    );
    worker.stop.send(()).ok();
    worker.running.await?
}

#[tokio::test]
async fn failing_rows_are_reported_one_by_one() -> Result<()> {
    let worker = start().await?;
    let files: ArrayRef = Arc::new(arrow::array::BinaryArray::from_opt_vec(vec![
        Some(b"not a DICOM file"),
        None,
        Some(b""),
    ]));
    // Optional arguments may be left out altogether.
    let batch = column("content", files)?;
    let mut client = Client::open(&worker, &seal("dicom_tags", 60_000)?, &batch.schema()).await?;
    client.send(0, &batch).await?;
    let (usage, answer) = client.next().await?.context("an answer")?;
    assert_eq!(answer.column(0).null_count(), 3);
    let errors = answer.column(1).as_string::<i32>();
    let failed: Vec<bool> = errors.iter().map(|error| error.is_some()).collect();
    assert_eq!(failed, [true, false, true]);
    assert_eq!((usage.failed, usage.items), (2, 3));
    Ok(())
}

#[tokio::test]
async fn near_types_are_cast() -> Result<()> {
    let worker = start().await?;
    let texts = column(
        "text",
        Arc::new(LargeStringArray::from(vec!["Bonjour Monsieur MARTIN"])),
    )?;
    let mut client =
        Client::open(&worker, &seal("text_deidentify", 60_000)?, &texts.schema()).await?;
    client.send(0, &texts).await?;
    let (usage, answer) = client.next().await?.context("an answer")?;
    assert_eq!(
        answer.column(0).as_string::<i32>().value(0),
        "Bonjour Monsieur <NOM>"
    );
    assert_eq!((usage.unit, usage.units), (WorkUnit::Tokens, 3));

    let signal =
        arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::Float64Type, _, _>([
            Some(vec![Some(0.0); 2000]),
        ]);
    let batch = RecordBatch::try_from_iter([
        ("signal", Arc::new(signal) as ArrayRef),
        ("fs", Arc::new(Int64Array::from(vec![500])) as ArrayRef),
    ])?;
    let mut client = Client::open(&worker, &seal("ecg_rpeaks", 60_000)?, &batch.schema()).await?;
    client.send(0, &batch).await?;
    let (usage, answer) = client.next().await?.context("an answer")?;
    assert_eq!(answer.column(0).data_type().to_string(), "List(Int32)");
    assert_eq!(
        (usage.unit, usage.units, usage.failed),
        (WorkUnit::Samples, 2000, 0)
    );
    Ok(())
}

async fn refused(worker: &Worker, sealed: &str, batch: &RecordBatch) -> Result<Status> {
    match Client::open(worker, sealed, &batch.schema()).await {
        Err(status) => Ok(status),
        Ok(_) => bail!("the stream was opened"),
    }
}

#[tokio::test]
async fn wrong_openings_are_refused() -> Result<()> {
    let worker = start().await?;
    let good = numbers(0..1)?;
    let envelope = Envelope::new("echo", "tenant", "statement", unix_ms() + 60_000);
    let forged = envelope.seal(&Key::new([8; 32]))?;
    let texts = column("text", Arc::new(StringArray::from(vec!["a"])))?;
    let floats = column("value", Arc::new(Float64Array::from(vec![1.0])))?;
    let many =
        RecordBatch::try_from_iter([("a", good.column(0).clone()), ("b", good.column(0).clone())])?;
    let cases = [
        (forged, &good, Code::Unauthenticated, "same key"),
        ("".into(), &good, Code::Unauthenticated, "JWS"),
        (seal("echo", 0)?, &good, Code::DeadlineExceeded, "deadline"),
        (seal("rm", 60_000)?, &good, Code::NotFound, "`rm`"),
        (
            seal("echo", 60_000)?,
            &floats,
            Code::InvalidArgument,
            "text or an integer",
        ),
        (
            seal("echo", 60_000)?,
            &many,
            Code::InvalidArgument,
            "echo(value)",
        ),
        (
            seal("ecg_rpeaks", 60_000)?,
            &texts,
            Code::InvalidArgument,
            "ecg_rpeaks(signal, fs)",
        ),
    ];
    for (sealed, batch, code, text) in cases {
        let status = refused(&worker, &sealed, batch).await?;
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(text), "{status}");
    }
    for (action, body, code) in [
        ("health", String::new(), Code::Unauthenticated),
        ("health", seal("metrics", 5_000)?, Code::Unauthenticated),
        ("shutdown", seal("shutdown", 5_000)?, Code::NotFound),
    ] {
        let status = worker.action(action, body).await.err().context("refused")?;
        assert_eq!(status.code(), code, "{action}: {status}");
    }
    Ok(())
}

/// What comes after a good opening is not trusted either, and costs its own stream only.
#[tokio::test]
async fn wrong_batches_end_their_stream() -> Result<()> {
    let worker = start().await?;
    let good = numbers(0..8)?;
    let schema = good.schema();
    let mut writer = BatchWriter::default();
    let tagged = writer.batch(&good, &BatchTag { seq: 0 })?;
    let without_tag = FlightData {
        app_metadata: Default::default(),
        ..tagged.clone()
    };
    let short = FlightData {
        data_body: tagged.data_body.slice(..16),
        ..tagged.clone()
    };
    let noise = FlightData {
        data_header: vec![0x42; 64].into(),
        ..tagged.clone()
    };
    let many = writer.batch(&numbers(0..70_000)?, &BatchTag { seq: 0 })?;
    let cases = [
        (without_tag, "app_metadata"),
        (short, "not readable"),
        (noise, "not readable"),
        (many, "65536"),
    ];
    for (message, text) in cases {
        let mut client = Client::open(&worker, &seal("echo", 60_000)?, &schema).await?;
        client.outbox.send(message).await?;
        let status = client.next().await.err().context("an error")?;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(text), "{status}");
    }
    let mut client = Client::open(&worker, &seal("echo", 60_000)?, &schema).await?;
    client.send(1, &good).await?;
    assert!(client.next().await?.is_some(), "the worker still works");
    Ok(())
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline() -> Result<()> {
    let worker = start().await?;
    let batch = numbers(0..1)?;
    let mut client = Client::open(&worker, &seal("echo", 300)?, &batch.schema()).await?;
    client.send(0, &batch).await?;
    assert!(client.next().await?.is_some());
    let status = client.next().await.err().context("an error")?;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    Ok(())
}

/// A client that sends and never reads is read no further; when it goes away, nothing is left.
#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() -> Result<()> {
    let worker = start().await?;
    let text = column(
        "text",
        Arc::new(StringArray::from(vec!["mot ".repeat(50_000); 8])),
    )?;
    // The client's process, whose end closes its connection whatever is blocked on it.
    let process = tokio::runtime::Runtime::new()?;
    let (address, schema) = (worker.address, text.schema());
    let sealed = seal("text_deidentify", 60_000)?;
    let opening = async move {
        Client::open_on(connect(address).await?, &sealed, &schema)
            .await
            .map_err(anyhow::Error::from)
    };
    let mut client = process.spawn(opening).await??;
    let mut sent = 0;
    while sent < 200 {
        let send = client.send(sent, &text);
        match tokio::time::timeout(Duration::from_millis(500), send).await {
            Ok(sent) => sent?,
            Err(_) => break,
        }
        sent += 1;
    }
    assert!(sent < 200, "the worker read 320 MB that nobody fetched");
    assert_eq!(worker.health().await?.streams, 1);
    process.shutdown_background();
    let gone = async {
        loop {
            let health = worker.health().await?;
            if health.streams == 0 && health.queue_batches == 0 {
                return Ok::<_, anyhow::Error>(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await??;
    Ok(())
}

#[tokio::test]
async fn a_worker_told_to_stop_finishes_what_is_open() -> Result<()> {
    let worker = start().await?;
    let batch = numbers(0..5)?;
    let mut client = Client::open(&worker, &seal("echo", 60_000)?, &batch.schema()).await?;
    client.send(0, &batch).await?;
    assert!(client.next().await?.is_some());
    worker.stop.send(()).ok();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!worker.running.is_finished(), "a stream is open");
    client.send(1, &batch).await?;
    assert!(client.next().await?.is_some(), "an open stream goes on");
    let Client {
        outbox,
        mut answers,
        ..
    } = client;
    drop(outbox);
    assert!(answers.message().await?.is_none());
    drop(answers);
    tokio::time::timeout(Duration::from_secs(10), worker.running).await??
}

#[tokio::test]
async fn set_ups_that_cannot_serve_are_refused() -> Result<()> {
    let cuda = WorkerConfig {
        device: Device::Cuda(0),
        ..WorkerConfig::new(key())
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let error = run(cuda, listener, std::future::pending())
        .await
        .err()
        .context("refused")?;
    assert!(error.to_string().contains("--device cuda:0"), "{error}");

    let listener = TcpListener::bind("0.0.0.0:0").await?;
    let open = WorkerConfig::new(key());
    let error = run(open, listener, std::future::pending())
        .await
        .err()
        .context("refused")?;
    assert!(error.to_string().contains("--tls-cert"), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let models = WorkerConfig {
        models: Some("/nowhere/at/all".into()),
        ..WorkerConfig::new(key())
    };
    let error = run(models, listener, std::future::pending())
        .await
        .err()
        .context("refused")?;
    assert!(error.to_string().contains("--models"), "{error}");

    assert_eq!("cuda:3".parse(), Ok(Device::Cuda(3)));
    assert!("cuda".parse::<Device>().is_err() && "cuda:-1".parse::<Device>().is_err());
    Ok(())
}
