//! DoPut: updates, the parameters of prepared statements, and rows for tables.

use std::sync::Arc;

use arrow_flight::decode::DecodedPayload;
use arrow_flight::sql::{Command, DoPutPreparedStatementResult, DoPutUpdateResult};
use arrow_flight::{FlightData, PutResult};
use futures::{Stream, StreamExt};
use hubflight_wire::{command_of, received, uploads};
use prost::Message;
use tokio::time::Instant as Deadline;
use tonic::{Response, Status};

use super::begun::Held;
use super::call::Caller;
use super::{Answer, BoxStream, ingest, transactions};
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::exec::run;
use crate::hub::Hub;
use crate::plan::parameters;
use crate::plan::parse::parse;
use crate::statement::{self, Opened, Text};

/// What errors call the rows that are bound to a statement.
const PARAMETERS: &str = "the bound parameters";

/// `held` is what the door holds of the call: what is bound counts until it has run.
pub async fn do_put(
    hub: &Arc<Hub>,
    caller: &Caller,
    held: Held,
    mut stream: impl Stream<Item = Result<FlightData, Status>> + Send + Unpin + 'static,
) -> Answer<BoxStream<PutResult>> {
    // What a client sends, it sends in the time that its statement has.
    let time = run::statement_time(hub, caller, caller.principal.options.statement_seconds);
    let deadline = Deadline::now() + time;
    let first = tokio::time::timeout_at(deadline, stream.next()).await;
    let first = first.map_err(|_| run::too_late())?;
    let first = first.transpose()?.unwrap_or_default();
    let descriptor = first
        .flight_descriptor
        .clone()
        .ok_or_else(|| Error::invalid("the first message of DoPut has no descriptor"))?;
    let metadata = match command_of(&descriptor.cmd)? {
        Command::CommandStatementUpdate(update) => {
            let transaction = transactions::of(update.transaction_id.as_ref())?;
            let text = Text::new(update.query).within(transaction);
            // The first message may have come late.
            change(hub, &caller.again(hub).await?, text).await?
        }
        Command::CommandStatementIngest(command) => {
            let messages = futures::stream::once(async { Ok(first) }).chain(stream);
            let limits = &hub.config.limits;
            let transaction = transactions::of(command.transaction_id.as_ref())?;
            let catalog = ingest::catalog_alone(&command);
            let upload = ingest::upload(limits, command, messages, deadline).await?;
            let caller = caller.again(hub).await?;
            let project = caller.principal.project().ok();
            let upload = ingest::in_session(upload, catalog.as_deref(), project);
            counted(statement::upload(hub, &caller, upload, transaction).await?)
        }
        Command::CommandPreparedStatementUpdate(update) => {
            let mut text = hub
                .prepared
                .get(&update.prepared_statement_handle, &caller.principal)?;
            let messages = futures::stream::once(async { Ok(first) }).chain(stream);
            let bound = bound_rows(&hub.config.limits, &held, messages, deadline).await?;
            // Else it runs for what was bound before, or for itself.
            if let Some(bound) = or_no_rows(hub, &text, bound)?.filter(|bound| !bound.is_empty()) {
                text.parameters = bound;
            }
            change(hub, &caller.again(hub).await?, text).await?
        }
        Command::CommandPreparedStatementQuery(query) => {
            let handle = query.prepared_statement_handle;
            let text = hub.prepared.get(&handle, &caller.principal)?;
            let messages = futures::stream::once(async { Ok(first) }).chain(stream);
            let bound = bound_rows(&hub.config.limits, &held, messages, deadline).await?;
            let caller = caller.again(hub).await?;
            let bound = or_no_rows(hub, &text, bound)?.unwrap_or_default();
            hub.prepared.bind(&handle, &caller.principal, bound)?;
            DoPutPreparedStatementResult {
                prepared_statement_handle: Some(handle),
            }
            .encode_to_vec()
        }
        _ => {
            return Err(Error::unimplemented(
                "this DoPut command is not offered; there are updates, the parameters of prepared \
                 statements, and rows for a table (CommandStatementIngest)",
            )
            .into());
        }
    };
    let result = PutResult {
        app_metadata: metadata.into(),
    };
    Ok(Response::new(futures::stream::iter([Ok(result)]).boxed()))
}

/// What is bound, where that is no rows to parameters that there are: a statement runs for none.
fn or_no_rows(hub: &Hub, text: &Text, bound: Option<Vec<u8>>) -> Result<Option<Vec<u8>>> {
    if !bound.as_ref().is_some_and(Vec::is_empty) {
        return Ok(bound);
    }
    let parsed = parse(&text.sql, hub.config.limits.sql_bytes_max)?;
    match parsed.placeholders > 0 {
        true => parameters::of_no_rows().map(Some),
        false => Ok(bound),
    }
}

async fn change(hub: &Arc<Hub>, caller: &Caller, text: Text) -> Result<Vec<u8>> {
    match Opened::change(hub, caller, text).await? {
        Opened::Changed { rows } => Ok(counted(rows)),
        Opened::Query { .. } => Err(Error::invalid(
            "this statement is a query; execute it as one to fetch its rows",
        )),
    }
}

fn counted(rows: u64) -> Vec<u8> {
    let record_count = i64::try_from(rows).unwrap_or(i64::MAX);
    DoPutUpdateResult { record_count }.encode_to_vec()
}

/// The rows of parameters that a client sends in time, bounded in number; none where it sends no
/// parameters, which a schema without fields means too.
async fn bound_rows(
    limits: &Limits,
    held: &Held,
    messages: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
    deadline: Deadline,
) -> Result<Option<Vec<u8>>> {
    let mut taken = Taken::new(limits, held);
    let mut sent = received::decoded(
        PARAMETERS,
        limits.message_bytes_max,
        messages,
        move |message| Ok(taken.take(message)?),
    );
    let mut kept = Vec::new();
    let mut is_bound = false;
    let (mut rows, mut values, mut bytes) = (0_usize, 0_usize, 0_u64);
    let bytes_max = limits.message_bytes_max as u64;
    while let Some(message) = tokio::time::timeout_at(deadline, sent.next())
        .await
        .map_err(|_| run::too_late())?
    {
        let batch = match message? {
            DecodedPayload::Schema(schema) => {
                is_bound |= !schema.fields().is_empty();
                continue;
            }
            DecodedPayload::RecordBatch(batch) => batch,
            DecodedPayload::None => continue,
        };
        if batch.num_rows() == 0 {
            continue;
        }
        rows = rows.saturating_add(batch.num_rows());
        values = values.saturating_add(batch.num_rows().saturating_mul(batch.num_columns()));
        if rows > limits.parameter_rows_max || values > limits.parameter_values_max {
            return Err(too_many(limits));
        }
        uploads::check_value_types(PARAMETERS, &batch.schema())?;
        let held = uploads::held_bytes(&batch);
        bytes = bytes.saturating_add(uploads::value_bytes(&batch).max(held));
        if bytes > bytes_max {
            return Err(too_many(limits));
        }
        kept.push(batch);
    }
    match kept.first() {
        Some(batch) => parameters::encode(&batch.schema(), &kept).map(Some),
        None => Ok(is_bound.then(Vec::new)),
    }
}

fn too_many(limits: &Limits) -> Error {
    Error::exhausted(format!(
        "at most {} rows, {} values and {} bytes of parameters can be bound at once",
        limits.parameter_rows_max, limits.parameter_values_max, limits.message_bytes_max
    ))
}

/// What was taken from a client, from the first message of its call on: the decoder keeps
/// dictionaries without giving a batch, so that messages are counted as they come.
struct Taken {
    limits: Limits,
    held: Held,
    messages: usize,
    bytes: usize,
}

impl Taken {
    fn new(limits: &Limits, held: &Held) -> Self {
        Self {
            limits: limits.clone(),
            held: held.clone(),
            messages: 0,
            bytes: 0,
        }
    }

    fn take(&mut self, message: &FlightData) -> Result<()> {
        let bytes = message.data_header.len() + message.data_body.len();
        self.messages += 1;
        self.bytes += bytes;
        // A batch for each row, and as many dictionaries.
        let messages_max = self.limits.parameter_rows_max.saturating_mul(2) + 2;
        if self.messages > messages_max || self.bytes > self.limits.message_bytes_max {
            return Err(too_many(&self.limits));
        }
        // The door counts the first message of a call for as long as the call.
        match self.messages {
            1 => Ok(()),
            _ => self.held.keep(bytes),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::pin::Pin;
    use std::time::Duration;

    use arrow_flight::decode::FlightRecordBatchStream;
    use arrow_flight::error::FlightError;
    use futures::TryStreamExt;

    use arrow::array::{
        Array, ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray, UnionArray,
    };
    use arrow::datatypes::{Field, Int32Type, Schema, UnionFields};
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::{
        DictionaryHandling, DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions,
    };
    use datafusion::common::ScalarValue;
    use tonic::body::Body;

    use super::*;
    use crate::error::ErrorKind;
    use crate::flight::Begun;
    use crate::flight::begun::followed;

    fn limits() -> Limits {
        Limits {
            parameter_rows_max: 100,
            message_bytes_max: 1 << 20,
            ..Limits::default()
        }
    }

    fn soon() -> Deadline {
        Deadline::now() + Duration::from_secs(60)
    }

    pub(in crate::flight) fn messages(
        batches: &[RecordBatch],
        options: IpcWriteOptions,
    ) -> Vec<FlightData> {
        let (generator, mut ids) = (IpcDataGenerator::default(), DictionaryTracker::new(false));
        let schema = batches[0].schema();
        let schema = generator.schema_to_bytes_with_dictionary_tracker(&schema, &mut ids, &options);
        let mut sent = vec![FlightData::from(schema)];
        let mut context = IpcWriteContext::default();
        for batch in batches {
            let encoded = generator.encode(batch, &mut ids, &options, &mut context);
            let (dictionaries, batch) = encoded.expect("encodes");
            sent.extend(dictionaries.into_iter().map(FlightData::from));
            sent.push(batch.into());
        }
        sent
    }

    pub(in crate::flight) fn resent() -> IpcWriteOptions {
        IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Resend)
    }

    pub(in crate::flight) fn whole(batches: &[RecordBatch]) -> Vec<FlightData> {
        messages(batches, resent())
    }

    fn held() -> Held {
        Arc::new(Begun::new(&limits())).held("ada")
    }

    async fn bind(messages: Vec<FlightData>) -> Result<Vec<u8>> {
        let messages = futures::stream::iter(messages.into_iter().map(Ok));
        let bound = bound_rows(&limits(), &held(), messages, soon()).await?;
        Ok(bound.unwrap_or_default())
    }

    /// A dictionary of that many bytes, and `rows` rows that use it.
    pub(in crate::flight) fn coded(bytes: usize, rows: usize, seed: usize) -> RecordBatch {
        let words: Vec<String> = (0..bytes / 1024)
            .map(|i| format!("{seed:0512}{i:0512}"))
            .collect();
        let values: ArrayRef = Arc::new(StringArray::from(words));
        let keys = Int32Array::from(vec![0; rows]);
        let column = DictionaryArray::<Int32Type>::try_new(keys, values).expect("valid");
        let field = Field::new("", column.data_type().clone(), true);
        let schema = Arc::new(Schema::new(vec![field]));
        RecordBatch::try_new(schema, vec![Arc::new(column)]).expect("valid")
    }

    #[tokio::test]
    async fn dictionaries_that_no_row_uses_are_bounded() {
        let batches = |count: usize, rows: usize| -> Vec<RecordBatch> {
            let seeds = 0..count;
            seeds.map(|seed| coded(1 << 15, rows, seed)).collect()
        };
        let bound = bind(whole(&batches(4, 1))).await.expect("little");
        assert_eq!(parameters::decode(&bound).expect("decodes").len(), 4);
        let sent = whole(&batches(40, 0));
        let bytes: usize = sent.iter().map(|message| message.data_body.len()).sum();
        assert!(bytes > limits().message_bytes_max, "{bytes}");
        let error = bind(sent).await.expect_err("too much");
        assert_eq!(error.kind, ErrorKind::ResourceExhausted);
    }

    #[tokio::test]
    async fn dictionaries_in_pieces_are_refused() {
        let batches = [2, 4].map(|kilobytes| coded(kilobytes << 10, 1, 0));
        let pieces = IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Delta);
        let sent = messages(&batches, pieces);
        let error = bind(sent).await.expect_err("a piece");
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("pieces"), "{error}");
    }

    /// The decoder passes over a message of no kind, and over the rows that it was to bring.
    #[tokio::test]
    async fn messages_of_no_kind_are_refused() {
        let mut sent = whole(&[coded(1 << 10, 1, 0)]);
        let rows = sent.last_mut().expect("rows");
        rows.data_header = vec![0; rows.data_header.len()].into();
        let passed = decoded(sent.clone()).await.expect("is passed over");
        assert!(passed.is_empty());
        let error = bind(sent).await.expect_err("no kind");
        assert!(error.to_string().contains("neither"), "{error}");
    }

    #[tokio::test]
    async fn batches_without_rows_are_bounded() {
        let empty = RecordBatch::new_empty(Arc::new(Schema::empty()));
        let some = whole(&vec![empty.clone(); 50]);
        assert!(bind(some).await.expect("nothing").is_empty());
        let error = bind(whole(&vec![empty; 250])).await;
        let error = error.expect_err("without end");
        assert_eq!(error.kind, ErrorKind::ResourceExhausted);
    }

    /// Batches that a decoder alone gives, or its error.
    async fn decoded(sent: Vec<FlightData>) -> Result<Vec<RecordBatch>, FlightError> {
        let sent = futures::stream::iter(sent.into_iter().map(Ok));
        let batches = FlightRecordBatchStream::new_from_flight_data(sent);
        batches.try_collect().await
    }

    /// What the checks stand before: a decoder alone keeps all dictionaries, inflates, and believes
    /// the length that is claimed until it has made room for it.
    #[tokio::test]
    async fn without_the_checks_a_decoder_does_as_it_is_told() {
        let unused: Vec<RecordBatch> = (0..40).map(|seed| coded(1 << 15, 0, seed)).collect();
        let kept = decoded(whole(&unused)).await.expect("decodes");
        assert_eq!(kept.len(), 40);
        let zeros: ArrayRef = Arc::new(Int32Array::from(vec![0; 1 << 20]));
        let zeros = RecordBatch::try_from_iter([("", zeros)]).expect("valid");
        let options = resent().try_with_compression(Some(CompressionType::LZ4_FRAME));
        let mut sent = messages(&[zeros], options.expect("valid"));
        let bytes: usize = sent.iter().map(|message| message.data_body.len()).sum();
        assert!(bytes < 1 << 16, "{bytes}");
        let inflated = decoded(sent.clone()).await.expect("decodes");
        assert_eq!(inflated[0].num_rows(), 1 << 20);
        let refused = bind(sent.clone()).await.expect_err("compressed");
        assert!(refused.to_string().contains("compressed"), "{refused}");
        // The length before the values, which are the only buffer.
        let rows = sent.last_mut().expect("rows");
        let mut body = rows.data_body.to_vec();
        assert_eq!(body[..8], (4_i64 << 20).to_le_bytes());
        body[..8].copy_from_slice(&(1_i64 << 28).to_le_bytes());
        rows.data_body = body.into();
        let error = decoded(sent.clone()).await.expect_err("a lie");
        assert!(error.to_string().contains("268435456"), "{error}");
        bind(sent).await.expect_err("compressed");
    }

    #[tokio::test]
    async fn who_does_not_send_is_not_waited_for() {
        let sent = whole(&[coded(1 << 10, 1, 0)]);
        let sent = futures::stream::iter(sent.into_iter().map(Ok));
        let sent = sent.chain(futures::stream::pending());
        let deadline = Deadline::now() + Duration::from_millis(50);
        let (limits, held) = (limits(), held());
        let bound = bound_rows(&limits, &held, sent, deadline);
        let bound = tokio::time::timeout(Duration::from_secs(5), bound).await;
        let error = bound.expect("ends").expect_err("too late");
        assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
    }

    /// Whoever sends parameters and never ends holds them.
    #[tokio::test]
    async fn what_is_bound_counts_over_all_calls_of_a_person() {
        let begun = Arc::new(Begun::new(&limits()));
        let rows = whole(&[coded(900 << 10, 1, 0)]);
        let bind = |person: &str| {
            let held = begun.held(person);
            let messages = futures::stream::iter(rows.clone().into_iter().map(Ok));
            let endless = messages.chain(futures::stream::pending());
            Box::pin(async move { bound_rows(&limits(), &held, endless, soon()).await })
        };
        let mut calls = vec![bind("ada"), bind("ada")];
        for call in &mut calls {
            assert!(futures::poll!(call).is_pending());
        }
        let refused = bind("ada").await.expect_err("no room");
        assert_eq!(refused.kind, ErrorKind::ResourceExhausted);
        assert!(futures::poll!(bind("eve")).is_pending(), "another person");
        calls.pop();
        assert!(futures::poll!(bind("ada")).is_pending(), "room again");
        drop(calls);
        assert_eq!(begun.bytes(), 0);
    }

    async fn comes(body: &mut Body) -> bool {
        let next = std::future::poll_fn(|context| {
            http_body::Body::poll_frame(Pin::new(&mut *body), context)
        });
        next.await.is_some_and(|frame| frame.is_ok())
    }

    #[tokio::test]
    async fn the_first_message_of_a_call_counts_once() {
        let begun = Arc::new(Begun::new(&limits()));
        let held = begun.held("ada");
        let message = FlightData {
            data_body: vec![7; 1 << 18].into(),
            ..FlightData::default()
        };
        let encoded = message.encode_to_vec();
        let length = u32::try_from(encoded.len()).expect("short");
        let sent = [&[0_u8][..], &length.to_be_bytes(), &encoded[..]].concat();
        let twice = Body::new(axum::body::Body::from(sent.repeat(2)));
        let path = "/arrow.flight.protocol.FlightService/DoPut";
        let mut body = followed(&held, path, twice);
        assert!(comes(&mut body).await);
        let both = begun.bytes();
        assert!(both > 1 << 18, "{both}");
        let mut taken = Taken::new(&limits(), &held);
        for _ in 0..2 {
            taken.take(&message).expect("room");
        }
        // Whoever asks for more has both, but for what the second is wrapped in.
        assert!(!comes(&mut body).await);
        let wrapping = both - begun.bytes();
        assert_eq!(wrapping, sent.len() - message.data_body.len());
        drop((taken, held, body));
        assert_eq!(begun.bytes(), 0);
    }

    /// One text that every row names is as many texts when the rows are bound.
    #[tokio::test]
    async fn a_text_that_every_row_names_counts_for_each() {
        let few = bind(whole(&[coded(1 << 15, 10, 0)])).await;
        assert_eq!(
            parameters::decode(&few.expect("little"))
                .expect("decodes")
                .len(),
            10
        );
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(100_000)]));
        let keys = Int32Array::from(vec![0; 100]);
        let column = DictionaryArray::<Int32Type>::try_new(keys, text).expect("valid");
        let field = Field::new("", column.data_type().clone(), true);
        let schema = Arc::new(Schema::new(vec![field]));
        let bomb = RecordBatch::try_new(schema, vec![Arc::new(column)]).expect("valid");
        let sent = whole(&[bomb]);
        let bytes: usize = sent.iter().map(|message| message.data_body.len()).sum();
        assert!(bytes < limits().message_bytes_max / 4, "{bytes}");
        let error = bind(sent).await.expect_err("ten million bytes");
        assert_eq!(error.kind, ErrorKind::ResourceExhausted);
    }

    #[tokio::test]
    async fn rows_and_items_without_bytes_are_counted() {
        use arrow::array::{FixedSizeListArray, NullArray};
        use arrow::datatypes::DataType;
        let batch = |column: ArrayRef| {
            let field = Field::new("", column.data_type().clone(), true);
            RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).expect("valid")
        };
        let item = Arc::new(Field::new("item", DataType::Null, true));
        let nulls: ArrayRef = Arc::new(NullArray::new(1 << 23));
        let list = FixedSizeListArray::try_new(item, 1 << 23, nulls, None).expect("valid");
        for bomb in [
            // More than are decoded, and fewer.
            batch(Arc::new(NullArray::new(1 << 40))),
            batch(Arc::new(NullArray::new(1 << 23))),
            batch(Arc::new(list)),
        ] {
            let error = bind(whole(&[bomb])).await.expect_err("too many");
            assert_eq!(error.kind, ErrorKind::ResourceExhausted);
        }
    }

    /// The column of each value of a union, and which of its values.
    fn united(ids: Vec<i8>, offsets: Vec<i32>, children: Vec<ArrayRef>) -> RecordBatch {
        let fields = children.iter().enumerate().map(|(at, child)| {
            let name = format!("of_{at}");
            Field::new(name, child.data_type().clone(), true)
        });
        let fields = UnionFields::from_fields(fields.collect::<Vec<_>>());
        let union = UnionArray::try_new(fields, ids.into(), Some(offsets.into()), children);
        let union: ArrayRef = Arc::new(union.expect("valid"));
        RecordBatch::try_from_iter([("", union)]).expect("valid")
    }

    /// Clients without types of their own send each value as one of a union.
    #[tokio::test]
    async fn unions_are_taken_value_by_value() {
        let children = || -> Vec<ArrayRef> {
            vec![
                Arc::new(Int32Array::from(vec![Some(7), None])),
                Arc::new(StringArray::from(vec!["é"])),
            ]
        };
        let first = united(vec![1, 0, 0], vec![0, 1, 0], children());
        let second = united(vec![1], vec![0], children());
        let bound = bind(whole(&[first, second])).await.expect("little");
        let rows = parameters::decode(&bound).expect("decodes");
        let text = || vec![ScalarValue::from("é")];
        let number = |value: Option<i32>| vec![ScalarValue::Int32(value)];
        assert_eq!(rows, [text(), number(None), number(Some(7)), text()]);
    }

    #[tokio::test]
    async fn values_that_a_union_does_not_have_are_refused() {
        let children: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![5, 6])),
            Arc::new(StringArray::from(vec!["a"])),
        ];
        let sent = whole(&[united(vec![0, 1], vec![1, 0], children)]);
        bind(sent.clone()).await.expect("as it should be");
        let body = &sent[1].data_body;
        assert_eq!(
            (body[..2].to_vec(), body[64..72].to_vec()),
            (vec![0, 1], vec![1, 0, 0, 0, 0, 0, 0, 0])
        );
        let with = |at: usize, bytes: &[u8]| {
            let mut wrong = sent.clone();
            let mut body = wrong[1].data_body.to_vec();
            body[at..at + bytes.len()].copy_from_slice(bytes);
            wrong[1].data_body = body.into();
            wrong
        };
        // Type ids of no column, then offsets before, behind and far behind its values.
        let mut wrong: Vec<_> = [2_i8, 127, -1, -128]
            .map(|id| with(1, &id.to_le_bytes()))
            .into();
        wrong.extend([-1_i32, 2, i32::MIN, i32::MAX].map(|at| with(64, &at.to_le_bytes())));
        wrong.extend([1_i32, -1].map(|at| with(68, &at.to_le_bytes())));
        for sent in wrong {
            let error = bind(sent).await.expect_err("not there");
            assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error}");
        }
        // Fewer ids and offsets than rows.
        let mut short = sent.clone();
        short[1].data_body = short[1].data_body.slice(..4);
        let error = bind(short).await.expect_err("cut off");
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error}");
    }

    /// One text that every row takes is as many texts when the rows are bound.
    #[tokio::test]
    async fn values_that_every_row_of_a_union_takes_count_for_each() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(100_000)]));
        let few = united(vec![0; 3], vec![0; 3], vec![Arc::clone(&text)]);
        bind(whole(&[few])).await.expect("little");
        let bomb = united(vec![0; 100], vec![0; 100], vec![text]);
        let error = bind(whole(&[bomb])).await.expect_err("ten million bytes");
        assert_eq!(error.kind, ErrorKind::ResourceExhausted);
    }

    /// Messages that no Arrow library writes: an error or rows within the limits, never a panic.
    #[tokio::test]
    async fn mangled_messages_are_errors() {
        let columns = |seed: usize| {
            let coded = coded(4 << 10, 3, seed);
            let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
            let lists = vec![Some(vec![Some(1), None]), None, Some(vec![])];
            let lists = arrow::array::ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
            let text: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
            let children = vec![Arc::clone(&numbers), text];
            let union = united(vec![0, 1, 1], vec![2, 1, 0], children);
            let columns = vec![
                Arc::clone(coded.column(0)),
                numbers,
                Arc::new(lists) as ArrayRef,
                Arc::clone(union.column(0)),
            ];
            let fields = columns
                .iter()
                .map(|c| Field::new("", c.data_type().clone(), true));
            let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            RecordBatch::try_new(schema, columns).expect("valid")
        };
        let sent = whole(&[columns(1), columns(2)]);
        // A small generator of its own, so that a failure comes again.
        let mut state = 7_u64;
        let mut random = move |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % below
        };
        let mut refused = 0;
        for _ in 0..3_000 {
            let mut mangled = sent.clone();
            let message = random(mangled.len());
            let message = &mut mangled[message];
            let in_body = !message.data_body.is_empty() && random(3) == 0;
            let part = match in_body {
                true => &mut message.data_body,
                false => &mut message.data_header,
            };
            let mut bytes = part.to_vec();
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                bytes[at] = match random(3) {
                    0 => 0xff,
                    1 => 0,
                    _ => bytes[at] ^ (1 << random(8)),
                };
            }
            if random(10) == 0 {
                bytes.truncate(random(bytes.len()));
            }
            *part = bytes.into();
            match bind(mangled).await {
                Ok(bound) => {
                    let rows = parameters::decode(&bound).expect("as it was encoded");
                    assert!(rows.len() <= limits().parameter_rows_max);
                }
                Err(error) => {
                    refused += 1;
                    assert_ne!(error.kind, ErrorKind::Internal, "{error}");
                }
            }
        }
        assert!(refused > 300, "{refused}");
    }
}
