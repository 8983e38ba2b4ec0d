//! Rows that a client sends: stored whole and as they were, or not at all.

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int32Array,
    NullArray, StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type};
use datafusion::sql::sqlparser::ast::{Ident, ObjectName};

use super::super::upload::{Existing, Missing, Sent, Upload};
use super::*;

const CREATE: (Missing, Existing) = (Missing::Create, Existing::Fail);
const APPEND: (Missing, Existing) = (Missing::Fail, Existing::Append);
const REPLACE: (Missing, Existing) = (Missing::Create, Existing::Replace);

fn column<A: Array + 'static>(name: &str, array: A) -> (String, ArrayRef) {
    (name.to_owned(), Arc::new(array) as ArrayRef)
}

fn batch(columns: Vec<(String, ArrayRef)>) -> RecordBatch {
    let fields = columns
        .iter()
        .map(|(name, column)| Field::new(name, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(schema, columns).expect("valid")
}

fn numbers(name: &str, values: impl IntoIterator<Item = i64>) -> (String, ArrayRef) {
    column(name, Int64Array::from_iter_values(values))
}

fn sent(batch: RecordBatch) -> Result<Sent> {
    let bytes = batch.get_array_memory_size() as u64;
    Ok(Sent { batch, bytes })
}

fn quoted(parts: &[&str]) -> ObjectName {
    let parts = parts.iter().map(|part| Ident::with_quote('"', *part));
    ObjectName::from(parts.collect::<Vec<_>>())
}

impl Bench {
    async fn upload_to(
        &self,
        table: ObjectName,
        (missing, existing): (Missing, Existing),
        schema: SchemaRef,
        batches: Vec<Result<Sent>>,
    ) -> Result<u64> {
        let (work, meter, _) = self.work();
        let view = self.view().await;
        let options = SessionOptions::default();
        let asked = Upload {
            table,
            missing,
            existing,
            schema,
            batches: futures::stream::iter(batches).boxed(),
        };
        let run = Run {
            work: &work,
            meter: &meter,
            commits: &Commits::default(),
        };
        upload(&self.planning(&view, &options), asked, run).await
    }

    async fn upload(&self, modes: (Missing, Existing), rows: RecordBatch) -> Result<u64> {
        let schema = rows.schema();
        self.upload_to(quoted(&["t"]), modes, schema, vec![sent(rows)])
            .await
    }

    async fn upload_fails(&self, rows: RecordBatch, part: &str) {
        let error = self.upload(APPEND, rows).await.expect_err(part);
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn each_mode_does_what_it_says() {
    let bench = bench().await;
    let row = |n| batch(vec![numbers("a", [n])]);
    let error = bench.upload(APPEND, row(1)).await.expect_err("missing");
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    assert_eq!(bench.upload(CREATE, row(1)).await.expect("new"), 1);
    let error = bench.upload(CREATE, row(2)).await.expect_err("there");
    assert!(error.to_string().contains("exists already"), "{error}");
    bench.upload(APPEND, row(3)).await.expect("added");
    let both = (Missing::Create, Existing::Append);
    bench.upload(both, row(4)).await.expect("added");
    assert_eq!(
        bench.rows("SELECT a FROM space.t ORDER BY a").await,
        ["1", "3", "4"]
    );
    bench.upload(REPLACE, row(5)).await.expect("replaced");
    assert_eq!(bench.rows("SELECT a FROM space.t").await, ["5"]);
    // Columns of another name and type too, where all is replaced.
    let other = batch(vec![column("b", StringArray::from(vec!["é"]))]);
    bench.upload(REPLACE, other).await.expect("replaced");
    assert_eq!(bench.rows("SELECT b FROM space.t").await, ["é"]);
}

#[tokio::test]
async fn an_upload_is_whole_or_nothing() {
    let bench = bench().await;
    bench.done("CREATE TABLE space.t (a BIGINT NOT NULL)").await;
    let good = || batch(vec![numbers("a", 0..20_000)]);
    let broken = batch(vec![column("a", Int64Array::from(vec![Some(1), None]))]);
    let ends = [
        (sent(broken), "is NOT NULL"),
        (Err(Error::invalid("the client went away")), "went away"),
    ];
    for (end, part) in ends {
        let batches = vec![sent(good()), end];
        let schema = good().schema();
        let error = bench
            .upload_to(quoted(&["space", "t"]), APPEND, schema, batches)
            .await
            .expect_err(part);
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(bench.rows("SELECT count(*) FROM space.t").await, ["0"]);
    assert!(bench.files().is_empty(), "{:?}", bench.files());
    let batches = vec![sent(good()), sent(good())];
    let rows = bench.upload_to(
        quoted(&["p", "space", "t"]),
        APPEND,
        good().schema(),
        batches,
    );
    assert_eq!(rows.await.expect("stored"), 40_000);
    assert_eq!(
        bench.rows("SELECT count(*), sum(a) FROM space.t").await,
        ["40000 399980000"]
    );
}

#[tokio::test]
async fn values_are_stored_as_they_were_or_refused() {
    let bench = bench().await;
    bench
        .done("CREATE TABLE space.t (n INT, x DOUBLE, s VARCHAR, d DATE)")
        .await;
    let row = |n: ArrayRef, x: ArrayRef, s: ArrayRef| {
        let day = arrow::array::Date32Array::from(vec![19_000]);
        // In another order.
        batch(vec![
            ("s".to_owned(), s),
            column("d", day),
            ("x".to_owned(), x),
            ("n".to_owned(), n),
        ])
    };
    let int = |n: i64| Arc::new(Int64Array::from(vec![n])) as ArrayRef;
    let float = |x: f64| Arc::new(Float64Array::from(vec![x])) as ArrayRef;
    let text = |s: &str| Arc::new(StringArray::from(vec![s])) as ArrayRef;
    let coded: DictionaryArray<Int32Type> = ["c"].into_iter().collect();
    let view = StringViewArray::from(vec!["a text longer than twelve"]);
    let nothing = || Arc::new(NullArray::new(1)) as ArrayRef;
    for good in [
        row(int(7), float(0.1), text("é")),
        row(float(8.0), int(3), Arc::new(coded)),
        row(text("9"), float(f64::NAN), Arc::new(view)),
        row(nothing(), nothing(), nothing()),
    ] {
        bench.upload(APPEND, good).await.expect("fits");
    }
    assert_eq!(
        bench
            .rows("SELECT n, x, s, d FROM space.t ORDER BY n")
            .await,
        [
            "7 0.1 é 2022-01-08",
            "8 3.0 c 2022-01-08",
            "9 NaN a text longer than twelve 2022-01-08",
            "- - - 2022-01-08"
        ]
    );
    for (wrong, part) in [
        (row(int(3_000_000_000), float(0.0), text("")), "column `n`"),
        (row(float(1.5), float(0.0), text("")), "column `n`"),
        (row(text("x"), float(0.0), text("")), "column `n`"),
        (row(text("07"), float(0.0), text("")), "column `n`"),
        (row(int(1), int((1 << 53) + 1), text("")), "column `x`"),
    ] {
        bench.upload_fails(wrong, part).await;
    }
    assert_eq!(bench.rows("SELECT count(*) FROM space.t").await, ["4"]);
}

#[tokio::test]
async fn columns_are_those_of_the_table() {
    let bench = bench().await;
    bench
        .done("CREATE TABLE space.t (a BIGINT, b BIGINT)")
        .await;
    let (a, b) = (|| numbers("a", [1]), || numbers("b", [2]));
    for (wrong, part) in [
        (batch(vec![a()]), "lack its column `b`"),
        (batch(vec![a(), b(), numbers("c", [3])]), "a column `c`"),
        (batch(vec![a(), b(), a()]), "two columns `a`"),
        (batch(vec![numbers("A", [1]), b()]), "lack its column `a`"),
        (
            batch(vec![
                column("a", TimestampMicrosecondArray::from(vec![0])),
                column(
                    "b",
                    FixedSizeBinaryArray::try_from(vec![b"8 bytes!"]).expect("valid"),
                ),
            ]),
            "column `b`",
        ),
    ] {
        bench.upload_fails(wrong, part).await;
    }
    bench
        .upload(APPEND, batch(vec![b(), a()]))
        .await
        .expect("fits");
    assert_eq!(bench.rows("SELECT a, b FROM space.t").await, ["1 2"]);
}

#[tokio::test]
async fn nobody_stores_rows_where_nobody_can_change_any() {
    let bench = bench().await;
    bench.done("CREATE VIEW space.seen AS SELECT 1 AS a").await;
    let row = || batch(vec![numbers("a", [1])]);
    for (name, kind) in [
        (vec!["data", "people"], ErrorKind::InvalidArgument),
        (vec!["data", "new"], ErrorKind::InvalidArgument),
        (vec!["hub", "tables"], ErrorKind::InvalidArgument),
        (
            vec!["information_schema", "tables"],
            ErrorKind::InvalidArgument,
        ),
        (vec!["exports", "x"], ErrorKind::InvalidArgument),
        (vec!["space", "seen"], ErrorKind::InvalidArgument),
        (vec!["space", ""], ErrorKind::InvalidArgument),
        (vec!["space", "a\nb"], ErrorKind::InvalidArgument),
        (vec!["elsewhere", "t"], ErrorKind::NotFound),
        (vec!["q", "space", "t"], ErrorKind::NotFound),
    ] {
        for modes in [CREATE, REPLACE, (Missing::Create, Existing::Append)] {
            let schema = row().schema();
            let rows = vec![sent(row())];
            let error = bench.upload_to(quoted(&name), modes, schema, rows).await;
            let error = error.expect_err("refused");
            assert_eq!(error.kind, kind, "{name:?}: {error}");
        }
    }
    // A name is a name, whatever it looks like.
    let odd = quoted(&["space", "../t; DROP TABLE x --"]);
    let rows = vec![sent(row())];
    bench
        .upload_to(odd, CREATE, row().schema(), rows)
        .await
        .expect("a name");
    assert!(bench.files().iter().all(|file| file.exists()));
    assert_eq!(
        bench
            .rows("SELECT a FROM space.\"../t; DROP TABLE x --\"")
            .await,
        ["1"]
    );
}

#[tokio::test]
async fn what_has_no_bytes_is_bounded() {
    let bench = bench().await;
    let nulls = |rows: usize| batch(vec![column("a", NullArray::new(rows))]);
    bench.upload(CREATE, nulls(10_000)).await.expect("few");
    let endless = nulls(1 << 40);
    let schema = endless.schema();
    let bytes = 1 << 40;
    let all = vec![Ok(Sent {
        batch: endless,
        bytes,
    })];
    let error = bench.upload_to(quoted(&["t"]), APPEND, schema, all).await;
    let error = error.expect_err("too many");
    assert_eq!(error.kind, ErrorKind::ResourceExhausted, "{error}");
    let null = || Arc::new(Field::new("item", DataType::Null, true));
    for hollow in [
        DataType::List(null()),
        DataType::FixedSizeList(null(), 1 << 30),
        DataType::FixedSizeBinary(0),
        DataType::List(Arc::new(Field::new(
            "item",
            DataType::Struct(Fields::empty()),
            true,
        ))),
    ] {
        let schema = Arc::new(Schema::new(vec![Field::new("a", hollow.clone(), true)]));
        let error = bench.upload(REPLACE, RecordBatch::new_empty(schema)).await;
        let error = error.expect_err("hollow").to_string();
        assert!(
            error.contains("hold nothing") || error.contains("cannot hold"),
            "{error}"
        );
    }
    // A wide column of a table is not filled with NULLs by a short message.
    let wide = DataType::FixedSizeBinary(1 << 30);
    let schema = Arc::new(Schema::new(vec![Field::new("a", wide, true)]));
    bench
        .upload(REPLACE, RecordBatch::new_empty(schema))
        .await
        .expect("no rows");
    bench.upload_fails(nulls(100), "cast it").await;
    let texts = column(
        "a",
        arrow::array::BinaryArray::from_opt_vec(vec![None; 100]),
    );
    bench.upload_fails(batch(vec![texts]), "cast it").await;
    assert_eq!(bench.rows("SELECT count(*) FROM space.t").await, ["0"]);
}

#[tokio::test]
async fn an_upload_stays_inside_the_quota() {
    let bench = bench_with("", 1).await;
    // Digits that do not compress.
    let mut state = 1_u64;
    let mut rows = || {
        let values = (0..200_000).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 1).cast_signed()
        });
        batch(vec![numbers("a", values)])
    };
    let batches: Vec<_> = (0..20).map(|_| sent(rows())).collect();
    let schema = rows().schema();
    let error = bench
        .upload_to(quoted(&["t"]), CREATE, schema, batches)
        .await;
    let error = error.expect_err("32 MB");
    assert_eq!(error.kind, ErrorKind::ResourceExhausted, "{error}");
    assert!(error.to_string().contains("quota"), "{error}");
    assert!(bench.files().is_empty(), "{:?}", bench.files());
}

#[tokio::test]
async fn appends_at_once_are_all_stored() {
    let bench = bench().await;
    bench
        .done("CREATE TABLE space.t (a BIGINT, b BOOLEAN)")
        .await;
    let rows = |n: i64| {
        let flags = BooleanArray::from(vec![true; 1000]);
        batch(vec![
            numbers("a", n * 1000..(n + 1) * 1000),
            column("b", flags),
        ])
    };
    let both = futures::future::join_all((0..8).map(|n| bench.upload(APPEND, rows(n)))).await;
    assert!(both.iter().all(Result::is_ok), "{both:?}");
    assert_eq!(
        bench
            .rows("SELECT count(*), count(DISTINCT a) FROM space.t")
            .await,
        ["8000 8000"]
    );
    let narrow = batch(vec![
        column("a", Int32Array::from(vec![1])),
        column("b", BooleanArray::from(vec![None])),
    ]);
    bench.upload(APPEND, narrow).await.expect("an INT fits");
}
