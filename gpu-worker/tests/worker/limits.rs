//! Keys and proofs, answers in parts, and streams that must not disturb others.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, StringArray};
use hubflight_protocol::envelope::unix_ms;
use hubflight_protocol::wire::{BatchWriter, read_schema};
use hubflight_protocol::{BatchTag, Envelope, Health, Key, user_key_file};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::{Client, ask, column, connect, key, numbers, seal, start};

/// Whoever cannot prove that it holds the key gets no batch, so the proof comes before any.
#[tokio::test]
async fn a_worker_proves_itself_first() -> Result<()> {
    let worker = start().await?;
    let sealed = seal("echo", 60_000)?;
    let mut client = Client::open(&worker, &sealed, &numbers(0..1)?.schema()).await?;
    let first = tokio::time::timeout(Duration::from_secs(10), client.answers.message()).await??;
    let first = first.context("a message")?;
    assert!(key().verify_proof(&sealed, &first.app_metadata));
    assert!(!key().verify_proof(&seal("echo", 60_000)?, &first.app_metadata));
    client.schema = Some(read_schema(&first)?);
    client.send(0, &numbers(0..1)?).await?;
    assert!(client.next().await?.is_some());
    Ok(())
}

/// More results than a part holds: every row comes, in order, and the last part sums up.
#[tokio::test]
async fn a_large_answer_comes_in_parts() -> Result<()> {
    const ROWS: usize = 24;
    let worker = start().await?;
    let texts: Vec<String> = (0..ROWS)
        .map(|row| format!("{row:08}").repeat(1 << 17))
        .collect();
    let sent = StringArray::from_iter_values(&texts);
    let batch = column("value", Arc::new(sent.clone()))?;
    let mut client = Client::open(&worker, &seal("echo", 60_000)?, &batch.schema()).await?;
    client.send(5, &batch).await?;
    let (mut rows, mut parts) = (0, 0);
    let last = loop {
        let (usage, answer) = client.next().await?.context("a part")?;
        assert_eq!((usage.seq, usage.row), (5, rows as u64));
        let length = answer.num_rows();
        assert_eq!(answer.column(0).as_string(), &sent.slice(rows, length));
        assert_eq!(answer.column(1).null_count(), length);
        rows += length;
        parts += 1;
        if usage.last {
            break usage;
        }
        assert_eq!((usage.items, usage.units), (0, 0));
    };
    assert_eq!(rows, ROWS);
    assert!(parts >= 3, "{parts} parts of 24 MiB");
    let rows = ROWS as u64;
    assert_eq!((last.items, last.units, last.failed), (rows, rows, 0));
    let metrics = worker.action("metrics", seal("metrics", 5_000)?).await?;
    let done = "gpu_worker_batches_total{function=\"echo\",outcome=\"done\"} 1\n";
    assert!(metrics.contains(done), "{metrics}");
    Ok(())
}

/// A batch of some seconds ends within a part when its stream goes away.
#[tokio::test]
async fn a_cancelled_batch_ends_soon() -> Result<()> {
    const ROWS: usize = 64;
    let worker = start().await?;
    let text = "Bonjour Madame DUPONT, née le 12/03/1950. ".repeat(24_000);
    let texts = column("text", Arc::new(StringArray::from(vec![text; ROWS])))?;
    let mut client =
        Client::open(&worker, &seal("text_deidentify", 60_000)?, &texts.schema()).await?;
    client.send(0, &texts).await?;
    let (usage, _) = client.next().await?.context("the first part")?;
    assert!(!usage.last);
    drop(client);
    let cancelled =
        "gpu_worker_batches_total{function=\"text_deidentify\",outcome=\"cancelled\"} 1\n";
    let ended = async {
        loop {
            let metrics = worker.action("metrics", seal("metrics", 5_000)?).await?;
            if metrics.contains(cancelled) {
                return Ok::<_, anyhow::Error>(metrics);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let metrics = tokio::time::timeout(Duration::from_secs(10), ended).await??;
    let all = format!("gpu_worker_rows_total{{function=\"text_deidentify\"}} {ROWS}\n");
    assert!(!metrics.contains(&all), "{metrics}");
    Ok(())
}

/// Ten streams that are full and unread leave their connection room for others.
#[tokio::test]
async fn full_streams_hold_no_other_up() -> Result<()> {
    let worker = start().await?;
    let connection = connect(worker.address).await?;
    let text = "x".repeat(512 << 10);
    let batch = column("value", Arc::new(StringArray::from(vec![text])))?;
    let message = BatchWriter::default().batch(&batch, &BatchTag { seq: 0 })?;
    let mut full = Vec::new();
    for _ in 0..10 {
        let sealed = seal("echo", 60_000)?;
        let client = Client::open_on(connection.clone(), &sealed, &batch.schema()).await?;
        loop {
            let send = client.outbox.send(message.clone());
            match tokio::time::timeout(Duration::from_millis(300), send).await {
                Ok(sent) => sent?,
                Err(_) => break,
            }
        }
        full.push(client);
    }
    let health = ask(connection, "health", seal("health", 5_000)?);
    let health = tokio::time::timeout(Duration::from_secs(5), health).await??;
    let health: Health = serde_json::from_str(&health)?;
    assert_eq!(health.streams, 10);
    Ok(())
}

/// On loopback the key of the user is made and found by itself; elsewhere it has to be told.
#[tokio::test]
async fn a_worker_on_loopback_needs_no_key_to_be_told() -> Result<()> {
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("worker-key-of-a-user");
    // What an earlier run may have left.
    let _ = std::fs::remove_dir_all(&data);
    let serve = |address: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-worker"));
        command
            .args([
                "serve",
                "--threads",
                "1",
                "--stop-with-stdin",
                "--listen",
                address,
            ])
            .env_remove("HUBFLIGHT_WORKER_KEY")
            .env("XDG_DATA_HOME", &data)
            .env("HUBFLIGHT_LOG", "info")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    };
    let mut child = serve("127.0.0.1:0").spawn()?;
    let mut log = BufReader::new(child.stderr.take().context("a log")?).lines();
    let address: SocketAddr = loop {
        let line = log.next_line().await?.context("the worker has ended")?;
        if let Some((_, rest)) = line.split_once("address=") {
            break rest.split(' ').next().unwrap_or_default().parse()?;
        }
    };
    let file = user_key_file(Some(data.clone()), None).context("a file")?;
    let key = Key::from_hex(&std::fs::read_to_string(&file)?)?;
    let envelope = Envelope::new("health", "tenant", "statement", unix_ms() + 5_000);
    let health = ask(connect(address).await?, "health", envelope.seal(&key)?).await?;
    assert!(health.contains("\"ready\""), "{health}");
    drop(child.stdin.take());
    assert!(child.wait().await?.success());

    let refused = serve("0.0.0.0:0").output().await?;
    assert!(!refused.status.success());
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("HUBFLIGHT_WORKER_KEY"), "{told}");
    Ok(())
}
