use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int32Array, NullArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::CompressionType;
use arrow_flight::sql::TableDefinitionOptions;

use super::super::put::tests::{coded, messages, resent, whole};
use super::*;
use crate::error::ErrorKind;

fn limits() -> Limits {
    Limits {
        message_bytes_max: 1 << 20,
        ..Limits::default()
    }
}

fn command() -> CommandStatementIngest {
    CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: TableNotExistOption::Create.into(),
            if_exists: TableExistsOption::Append.into(),
        }),
        table: "T".into(),
        schema: None,
        catalog: None,
        temporary: false,
        transaction_id: None,
        options: HashMap::new(),
    }
}

async fn opened(command: CommandStatementIngest, sent: Vec<FlightData>) -> Result<Upload> {
    let sent = futures::stream::iter(sent.into_iter().map(Ok));
    let deadline = Deadline::now() + Duration::from_secs(60);
    upload(&limits(), command, sent, deadline).await
}

async fn taken(sent: Vec<FlightData>) -> Result<Vec<Sent>> {
    let upload = opened(command(), sent).await?;
    let taken: Vec<Result<Sent>> = upload.batches.collect().await;
    taken.into_iter().collect()
}

fn numbers() -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
    RecordBatch::try_from_iter([("a", numbers)]).expect("valid")
}

#[tokio::test]
async fn what_is_asked_is_read() {
    let upload = opened(command(), whole(&[numbers()])).await.expect("opens");
    assert_eq!(
        upload.to_string(),
        "CommandStatementIngest \"T\" (if_not_exist: create, if_exists: append)"
    );
    assert_eq!(upload.schema, numbers().schema());
    let batches: Vec<Result<Sent>> = upload.batches.collect().await;
    let [Ok(Sent { batch, bytes: 12 })] = batches.as_slice() else {
        panic!("{batches:?}");
    };
    assert_eq!(*batch, numbers());
    let named = CommandStatementIngest {
        catalog: Some("p".into()),
        schema: Some("space".into()),
        table: "a\".b".into(),
        ..command()
    };
    let upload = opened(named, whole(&[numbers()])).await.expect("opens");
    assert_eq!(upload.table.to_string(), "\"p\".\"space\".\"a\"\".b\"");
    let in_catalog = CommandStatementIngest {
        catalog: Some("p".into()),
        ..command()
    };
    let upload = opened(in_catalog, whole(&[numbers()]))
        .await
        .expect("opens");
    assert_eq!(upload.table.to_string(), "\"p\".\"space\".\"T\"");
}

/// A catalog alone says no more of a table than nothing does, and another project's is not passed over.
#[tokio::test]
async fn a_catalog_without_a_schema_names_no_schema() {
    let asked = |catalog: Option<&str>, schema: Option<&str>| CommandStatementIngest {
        catalog: catalog.map(str::to_owned),
        schema: schema.map(str::to_owned),
        ..command()
    };
    let alone = "\"T\"";
    for (catalog, schema, project, expected) in [
        (Some("p"), None, Some("p"), alone),
        (Some("p"), None, Some("q"), "\"p\".\"space\".\"T\""),
        (Some("p"), None, None, "\"p\".\"space\".\"T\""),
        (Some("p"), Some("space"), Some("p"), "\"p\".\"space\".\"T\""),
        (Some("p"), Some(""), Some("p"), "\"p\".\"\".\"T\""),
        (None, Some("space"), Some("p"), "\"space\".\"T\""),
        (None, None, Some("p"), alone),
        (None, None, None, alone),
    ] {
        let command = asked(catalog, schema);
        let catalog = catalog_alone(&command);
        let upload = opened(command, whole(&[numbers()])).await.expect("opens");
        let upload = in_session(upload, catalog.as_deref(), project);
        assert_eq!(upload.table.to_string(), expected);
    }
}

#[tokio::test]
async fn what_is_not_said_or_not_offered_is_refused() {
    let unsaid = |if_not_exist: TableNotExistOption, if_exists: TableExistsOption| {
        let options = TableDefinitionOptions {
            if_not_exist: if_not_exist.into(),
            if_exists: if_exists.into(),
        };
        CommandStatementIngest {
            table_definition_options: Some(options),
            ..command()
        }
    };
    let cases = [
        (
            CommandStatementIngest {
                table_definition_options: None,
                ..command()
            },
            "if_not_exist",
        ),
        (
            unsaid(TableNotExistOption::Unspecified, TableExistsOption::Append),
            "if_not_exist",
        ),
        (
            unsaid(TableNotExistOption::Fail, TableExistsOption::Unspecified),
            "if_exists",
        ),
        (
            CommandStatementIngest {
                temporary: true,
                ..command()
            },
            "temporary",
        ),
        (
            CommandStatementIngest {
                options: HashMap::from([("a".to_owned(), "b".to_owned())]),
                ..command()
            },
            "options",
        ),
        (
            CommandStatementIngest {
                table: "x".repeat(NAME_BYTES_MAX + 1),
                ..command()
            },
            "bytes",
        ),
        (
            CommandStatementIngest {
                catalog: Some("x".repeat(NAME_BYTES_MAX + 1)),
                ..command()
            },
            "bytes",
        ),
    ];
    for (command, named) in cases {
        let error = opened(command, whole(&[numbers()])).await.expect_err(named);
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[tokio::test]
async fn rows_need_a_schema_and_only_one() {
    for sent in [Vec::new(), whole(&[numbers()]).split_off(1)] {
        let error = taken(sent).await.expect_err("no schema");
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error}");
    }
    let twice = [whole(&[numbers()]), whole(&[numbers()])].concat();
    let error = taken(twice).await.expect_err("two schemas");
    assert!(error.to_string().contains("two schemas"), "{error}");
}

#[tokio::test]
async fn dictionaries_are_bounded_by_what_is_kept_of_them() {
    // Each replaces the one before, so that any number of them fits.
    let replaced: Vec<RecordBatch> = (0..40).map(|seed| coded(1 << 16, 1, seed)).collect();
    let taken_of = taken(whole(&replaced)).await.expect("one at a time");
    assert_eq!(taken_of.len(), 40);
    let columns = (0..20).map(|seed| Arc::clone(coded(1 << 16, 1, seed).column(0)));
    let names = (0..20).map(|n| format!("c{n}"));
    let wide = RecordBatch::try_from_iter(names.zip(columns)).expect("valid");
    let error = taken(whole(&[wide])).await.expect_err("20 of 64 KiB");
    assert_eq!(error.kind, ErrorKind::ResourceExhausted, "{error}");
}

#[tokio::test]
async fn what_the_decoder_would_believe_is_refused() {
    let options = resent().try_with_compression(Some(CompressionType::ZSTD));
    let sent = messages(&[numbers()], options.expect("valid"));
    let error = taken(sent).await.expect_err("compressed");
    assert!(error.to_string().contains("compressed"), "{error}");
    let union = arrow::datatypes::UnionFields::try_new(
        vec![0],
        vec![Field::new("x", DataType::Int32, true)],
    );
    let union = DataType::Union(union.expect("valid"), arrow::datatypes::UnionMode::Sparse);
    let schema = Arc::new(Schema::new(vec![Field::new("u", union, true)]));
    let error = taken(whole(&[RecordBatch::new_empty(schema)])).await;
    let error = error.expect_err("a union");
    assert!(error.to_string().contains("column 1"), "{error}");
}

/// Rows without bytes are told with what they count, for whoever stores them.
#[tokio::test]
async fn rows_without_bytes_count() {
    let of = |rows: usize| {
        let nulls: ArrayRef = Arc::new(NullArray::new(rows));
        whole(&[RecordBatch::try_from_iter([("n", nulls)]).expect("valid")])
    };
    let sent = taken(of(1 << 23)).await.expect("decodes");
    assert_eq!(sent[0].bytes, 1 << 23);
    let error = taken(of(1 << 40)).await.expect_err("too many");
    assert_eq!(error.kind, ErrorKind::ResourceExhausted, "{error}");
}

/// Messages that no Arrow library writes: an error or rows, never a panic.
#[tokio::test]
async fn mangled_messages_are_errors() {
    let sent = whole(&[coded(4 << 10, 3, 1), coded(4 << 10, 3, 2)]);
    let (mut state, mut refused) = (11_u64, 0);
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    for _ in 0..2_000 {
        let mut mangled = sent.clone();
        let message = random(mangled.len());
        let message = &mut mangled[message];
        let mut bytes = message.data_header.to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            bytes[at] ^= 1 << random(8);
        }
        message.data_header = bytes.into();
        if let Err(error) = taken(mangled).await {
            refused += 1;
            assert_ne!(error.kind, ErrorKind::Internal, "{error}");
        }
    }
    assert!(refused > 300, "{refused}");
}
