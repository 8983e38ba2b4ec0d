//! Long silences of a result. Between a client and the hub there are proxies and load balancers
//! that end what says nothing for a minute, whatever HTTP/2 pings say. So a batch of no rows is sent
//! once nothing has come for a while: messages without one are an error to PyArrow.
//!
//! It is counted from when the last message left, and made of the schema that was announced, so that
//! it tells of no row; it costs nothing, since a charge does not depend on how fast the hub is.

use std::time::Duration;

use futures::StreamExt;
use hubflight_wire::Message;
use tonic::Status;

use super::BoxStream;
use crate::error::Error;

/// The same messages, the first of which is a schema, and batches of no rows in their silences.
pub(super) fn kept(messages: BoxStream<Message>, silence_max: Duration) -> BoxStream<Message> {
    let alive = Alive {
        messages,
        silence_max,
        schema: None,
    };
    let kept = futures::stream::unfold(alive, |mut alive| async move {
        let item = alive.next().await?;
        Some((item, alive))
    });
    kept.boxed()
}

struct Alive {
    messages: BoxStream<Message>,
    silence_max: Duration,
    /// Once it was sent: nothing comes before it.
    schema: Option<Message>,
}

impl Alive {
    async fn next(&mut self) -> Option<Result<Message, Status>> {
        let Some(schema) = &self.schema else {
            let first = self.messages.next().await;
            if let Some(Ok(schema)) = &first {
                self.schema = Some(schema.clone());
            }
            return first;
        };
        // What is waited for is in the stream, and not lost with the wait.
        let next = tokio::time::timeout(self.silence_max, self.messages.next()).await;
        next.unwrap_or_else(|_| {
            let no_rows = schema.no_rows();
            Some(
                no_rows
                    .map_err(|error| Error::internal("no rows cannot be encoded", &error).into()),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
    use arrow::datatypes::Int32Type;
    use arrow_flight::FlightData;
    use arrow_flight::decode::FlightRecordBatchStream;
    use futures::TryStreamExt;
    use hubflight_tickets::Compression;
    use tokio::sync::mpsc;

    use super::*;
    use crate::exec::frames::FrameWriter;

    const SILENCE: Duration = Duration::from_millis(40);

    fn rows() -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        let lists = vec![Some(vec![Some(1), None]), None];
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists));
        RecordBatch::try_from_iter([("n", numbers), ("t", texts), ("l", lists)]).expect("valid")
    }

    #[tokio::test]
    async fn a_long_silence_is_broken_by_no_rows() {
        let rows = rows();
        for compression in [Compression::None, Compression::Lz4] {
            let writer = FrameWriter::new(rows.schema(), compression, 1 << 20);
            let mut writer = writer.expect("a writer");
            let (sender, receiver) = mpsc::channel(4);
            let sent = futures::stream::unfold(receiver, |mut receiver| async move {
                let item: Result<Message, Status> = receiver.recv().await?;
                Some((item, receiver))
            });
            let mut alive = kept(sent.boxed(), SILENCE);
            // Nothing is before the schema.
            let early = tokio::time::timeout(3 * SILENCE, alive.next()).await;
            assert!(early.is_err(), "before the schema");
            let send = async |message: Message| sender.send(Ok(message)).await.expect("room");
            send(writer.schema().message).await;
            let mut came = vec![alive.next().await.expect("the schema").expect("sent")];
            let began = Instant::now();
            for n in 1..=3 {
                came.push(alive.next().await.expect("no rows").expect("sent"));
                assert!(began.elapsed() >= n * SILENCE, "{n}: {:?}", began.elapsed());
            }
            let frame = writer.frame(std::slice::from_ref(&rows)).expect("a frame");
            send(frame.message).await;
            came.push(alive.next().await.expect("rows").expect("sent"));
            drop(sender);
            assert!(alive.next().await.is_none(), "the end");
            let data = came
                .into_iter()
                .map(|message| Ok(FlightData::from(message)));
            let read = FlightRecordBatchStream::new_from_flight_data(futures::stream::iter(data));
            let read: Vec<RecordBatch> = read.try_collect().await.expect("as Arrow reads it");
            let counts: Vec<usize> = read.iter().map(RecordBatch::num_rows).collect();
            assert_eq!(counts, [0, 0, 0, 2]);
            assert!(read.iter().all(|batch| batch.schema() == rows.schema()));
            assert_eq!(read[3], rows);
        }
    }

    #[tokio::test]
    async fn an_error_after_a_silence_comes_through() {
        let slow = futures::stream::once(async {
            tokio::time::sleep(2 * SILENCE).await;
            Err(Status::cancelled("ended"))
        });
        let writer = FrameWriter::new(rows().schema(), Compression::None, 1 << 20);
        let schema = writer.expect("a writer").schema().message;
        let messages = futures::stream::iter([Ok(schema)]).chain(slow);
        let items: Vec<_> = kept(messages.boxed(), SILENCE).collect().await;
        let (last, before) = items.split_last().expect("items");
        assert_eq!(
            last.as_ref().expect_err("it").code(),
            tonic::Code::Cancelled
        );
        assert!(before.len() >= 2 && before.iter().all(Result::is_ok));
    }
}
