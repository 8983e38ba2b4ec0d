//! DoExchange: the command `echo` gives back what is sent, by which clients are tried (Arrow's scenario
//! `do_exchange:echo`). It reads nothing of the hub, nor of what is sent, runs no SQL and costs nothing.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::FlightData;
use arrow_flight::flight_descriptor::DescriptorType;
use futures::stream::BoxStream as Messages;
use futures::{Stream, StreamExt};
use tokio::time::Instant as Deadline;
use tonic::{Response, Status};

use super::call::Caller;
use super::{Answer, BoxStream};
use crate::error::{Error, ErrorKind, Result};
use crate::exec::run;
use crate::hub::Hub;

const ECHO: &[u8] = b"echo";
/// Bytes of a message, which waits in memory for a client that does not read.
const ECHO_BYTES_MAX: usize = 64 << 10;
/// How long an echo may go on.
const ECHO_TIME_MAX: Duration = Duration::from_secs(60);

pub async fn do_exchange(
    hub: &Arc<Hub>,
    caller: &Caller,
    mut stream: impl Stream<Item = Result<FlightData, Status>> + Send + Unpin + 'static,
) -> Answer<BoxStream<FlightData>> {
    let time = run::statement_time(hub, caller, caller.principal.options.statement_seconds);
    let deadline = Deadline::now() + time.min(ECHO_TIME_MAX);
    let first = tokio::time::timeout_at(deadline, stream.next()).await;
    let first = first.map_err(|_| too_late())?.transpose()?;
    let first = first.unwrap_or_default();
    check_command(&first)?;
    let messages = futures::stream::once(async { Ok(first) }).chain(stream);
    // One of its person's calls for as long as it goes on.
    let place = caller.place.clone();
    let echoed = echoed(messages, deadline).map(move |message| {
        let _held = &place;
        message
    });
    Ok(Response::new(echoed.boxed()))
}

/// # Errors
/// `Unimplemented` for what is no echo.
fn check_command(first: &FlightData) -> Result<()> {
    let descriptor = first.flight_descriptor.as_ref();
    let command = descriptor.filter(|asked| asked.r#type() == DescriptorType::Cmd);
    match command.is_some_and(|asked| asked.cmd[..] == *ECHO) {
        true => Ok(()),
        false => Err(Error::unimplemented(
            "DoExchange has the command `echo` alone; send SQL",
        )),
    }
}

fn too_late() -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "an exchange may not go on for so long; begin another",
    )
}

/// Each message as it came: its sender is the only one who reads it, so that nothing here does. An
/// error is the last.
fn echoed(
    messages: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
    deadline: Deadline,
) -> BoxStream<FlightData> {
    let echo = Echo {
        messages: messages.boxed(),
        deadline,
    };
    let echoed = futures::stream::try_unfold(echo, |mut echo| async move {
        let message = echo.next().await?;
        Ok(message.map(|message| (message, echo)))
    });
    echoed.boxed()
}

struct Echo {
    messages: Messages<'static, Result<FlightData, Status>>,
    deadline: Deadline,
}

impl Echo {
    async fn next(&mut self) -> Result<Option<FlightData>, Status> {
        loop {
            // Who always has another message is not waited for.
            if Deadline::now() >= self.deadline {
                return Err(too_late().into());
            }
            let message = tokio::time::timeout_at(self.deadline, self.messages.next()).await;
            let Some(message) = message.map_err(|_| too_late())?.transpose()? else {
                return Ok(None);
            };
            let echo = FlightData {
                flight_descriptor: None,
                ..message
            };
            check_size(&echo)?;
            if echo != FlightData::default() {
                return Ok(Some(echo));
            }
            // The descriptor in a message of its own; however many come, others have their turn.
            tokio::task::yield_now().await;
        }
    }
}

fn check_size(message: &FlightData) -> Result<(), Status> {
    let bytes = message.data_header.len() + message.data_body.len() + message.app_metadata.len();
    match bytes > ECHO_BYTES_MAX {
        true => Err(Status::resource_exhausted(format!(
            "a message of an echo has {bytes} bytes and may have {ECHO_BYTES_MAX}"
        ))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use arrow::ipc::CompressionType;
    use arrow_flight::FlightDescriptor;
    use tonic::Code;

    use super::super::put::tests::{coded, messages, resent, whole};
    use super::*;

    fn batch() -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["é", ""]));
        RecordBatch::try_from_iter([("a", numbers), ("b", texts)]).expect("valid")
    }

    fn soon() -> Deadline {
        Deadline::now() + Duration::from_secs(60)
    }

    /// What comes back, and how it ends.
    async fn echo(sent: Vec<FlightData>) -> (Vec<FlightData>, Option<Status>) {
        let sent = futures::stream::iter(sent.into_iter().map(Ok));
        let (mut back, mut error) = (Vec::new(), None);
        let mut echoed = echoed(sent, soon());
        while let Some(message) = echoed.next().await {
            assert!(error.is_none(), "more came behind an error");
            match message {
                Ok(message) => back.push(message),
                Err(status) => error = Some(status),
            }
        }
        (back, error)
    }

    #[tokio::test]
    async fn batches_and_metadata_come_back() {
        let mut sent = whole(&[batch(), batch()]);
        sent[1].app_metadata = "first".into();
        let alone = FlightData::new().with_app_metadata("alone");
        sent.insert(2, alone.clone());
        sent.insert(0, alone);
        let expected = sent.clone();
        // A descriptor is not told back, and may come by itself.
        let descriptor = FlightDescriptor::new_cmd(ECHO);
        sent[0].flight_descriptor = Some(descriptor.clone());
        sent.insert(0, FlightData::new().with_descriptor(descriptor));
        let (back, error) = echo(sent).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(back, expected);
        assert!(echo(Vec::new()).await.0.is_empty());
    }

    /// What would cost more than its bytes to read costs its bytes.
    #[tokio::test]
    async fn nothing_is_read_of_what_is_sent() {
        let plain = whole(&[batch()]);
        let mut junk = plain.clone();
        junk[1].data_header = vec![0xff; 64].into();
        let mut short = plain.clone();
        short[1].data_body = short[1].data_body.slice(..8);
        let options = resent().try_with_compression(Some(CompressionType::LZ4_FRAME));
        for sent in [
            junk,
            short,
            plain[1..].to_vec(),
            [&plain[..1], &plain[..1]].concat(),
            whole(&[coded(2 << 10, 1, 0)]),
            messages(&[batch()], options.expect("valid")),
            vec![FlightData::new().with_data_body(vec![1])],
        ] {
            let (back, error) = echo(sent.clone()).await;
            assert!(error.is_none(), "{error:?}");
            assert_eq!(back, sent);
        }
    }

    #[tokio::test]
    async fn large_messages_are_refused() {
        let large: ArrayRef = Arc::new(Int64Array::from(vec![0; ECHO_BYTES_MAX / 8]));
        let large = whole(&[RecordBatch::try_from_iter([("a", large)]).expect("valid")]);
        let metadata = FlightData::new().with_app_metadata(vec![0_u8; ECHO_BYTES_MAX + 1]);
        let hidden = FlightData::new().with_data_body(vec![0_u8; ECHO_BYTES_MAX + 1]);
        for sent in [large, vec![metadata], vec![hidden]] {
            let (_, error) = echo(sent).await;
            assert_eq!(error.expect("large").code(), Code::ResourceExhausted);
        }
    }

    /// Whoever says nothing, and whoever says nothing of use without end.
    #[tokio::test]
    async fn an_echo_ends_in_time() {
        let silent = futures::stream::pending().boxed();
        let empty = futures::stream::repeat_with(|| Ok(FlightData::new())).boxed();
        let both: [Messages<'static, Result<FlightData, Status>>; 2] = [silent, empty];
        for sent in both {
            let mut echoed = echoed(sent, Deadline::now() + Duration::from_millis(50));
            let last = tokio::time::timeout(Duration::from_secs(5), echoed.next()).await;
            let error = last.expect("ends").expect("tells").expect_err("too late");
            assert_eq!(error.code(), Code::DeadlineExceeded);
            assert!(echoed.next().await.is_none());
        }
    }

    #[test]
    fn there_is_no_other_command() {
        let of = |descriptor: FlightDescriptor| FlightData::new().with_descriptor(descriptor);
        check_command(&of(FlightDescriptor::new_cmd(ECHO))).expect("an echo");
        for other in [
            FlightData::new(),
            of(FlightDescriptor::new_cmd("SELECT 1")),
            of(FlightDescriptor::new_cmd("echo ")),
            of(FlightDescriptor::new_path(vec!["echo".to_owned()])),
        ] {
            let error = check_command(&other).expect_err("no echo");
            assert_eq!(error.kind, ErrorKind::Unimplemented);
        }
    }
}
