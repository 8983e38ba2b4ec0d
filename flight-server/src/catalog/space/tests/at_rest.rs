//! What of a space is on the disk, and what becomes of a statement where that was changed.

use super::*;

const CANARY: &str = "canary of a patient 2 71 03";

/// Every byte that the hub keeps, by file.
fn kept(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("lists") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            files.extend(kept(&path));
        } else {
            let bytes = std::fs::read(&path).expect("reads");
            files.push((path, bytes));
        }
    }
    files
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

impl Bench {
    /// The one file of the space.
    fn file(&self) -> PathBuf {
        let [file] = self.files().try_into().expect("one file");
        file
    }

    /// What a scan says once the file that it reads was changed outside.
    async fn unreadable(&self, part: &str) {
        self.hub.space_files.forget();
        for sql in [
            "SELECT * FROM space.t",
            "SELECT count(*) FROM space.t",
            "SELECT max(a) FROM space.t",
        ] {
            self.fails(sql, ErrorKind::Unavailable, part).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_of_a_table_is_on_the_disk_in_clear() {
    let bench = bench().await;
    let text = format!("'{CANARY}'");
    bench
        .done(&format!(
            "CREATE TABLE space.t AS SELECT name, {text} AS note FROM data.people"
        ))
        .await;
    bench
        .done(&format!(
            "INSERT INTO space.t VALUES ('x', {text}), ('y', {text})"
        ))
        .await;
    bench
        .done(&format!(
            "UPDATE space.t SET note = concat({text}, name) WHERE name > 'p3'"
        ))
        .await;
    bench.done("DELETE FROM space.t WHERE name = 'p1'").await;
    let state = bench.folder.path().join("state [of] the hub?");
    let kept = kept(&state);
    assert!(kept.iter().any(|(path, _)| path.ends_with("hub.sqlite")));
    let files = bench.files();
    assert!(files.len() >= 3);
    for (path, bytes) in &kept {
        assert!(!holds(bytes, CANARY), "{}", path.display());
        if files.contains(path) {
            // Neither names of columns nor what tells that it is Parquet.
            assert!(
                !holds(bytes, "PAR1") && !holds(bytes, "note"),
                "{}",
                path.display()
            );
        }
    }
    let rows = bench
        .rows("SELECT count(*), count(DISTINCT note) FROM space.t")
        .await;
    assert_eq!(rows, ["11 9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_an_error_and_never_other_rows() {
    let bench = bench().await;
    let sql = "CREATE TABLE space.t AS SELECT value AS a, md5(CAST(value AS VARCHAR)) AS h \
               FROM generate_series(1, 20000)";
    bench.done(sql).await;
    let path = bench.file();
    let whole = std::fs::read(&path).expect("reads");
    assert_eq!(
        bench.rows("SELECT count(*), max(a) FROM space.t").await,
        ["20000 20000"]
    );

    let mut flipped = whole.clone();
    let middle = whole.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(&path, &flipped).expect("writes");
    bench.hub.space_files.forget();
    let part = "changed, cut or replaced";
    bench
        .fails("SELECT * FROM space.t", ErrorKind::Unavailable, part)
        .await;

    std::fs::write(&path, &whole[..whole.len() - 1]).expect("writes");
    bench.unreadable(part).await;
    // As short as a file without rows, which a scan would skip.
    std::fs::write(&path, &whole[..44 + 16]).expect("writes");
    bench.unreadable(part).await;
    std::fs::remove_file(&path).expect("removes");
    bench.unreadable("missing").await;
    std::fs::write(&path, &whole).expect("writes");
    bench.hub.space_files.forget();
    assert_eq!(
        bench.rows("SELECT count(*), max(a) FROM space.t").await,
        ["20000 20000"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_clear_or_of_another_table_is_not_read() {
    let bench = bench().await;
    bench.done("CREATE TABLE space.t AS SELECT 1 AS a").await;
    let path = bench.file();
    let forged = bench.folder.path().join("data/people.parquet");
    std::fs::copy(forged, &path).expect("copies");
    bench.unreadable("not encrypted").await;
    bench.done("CREATE TABLE space.u AS SELECT 2 AS a").await;
    let other = bench.files().into_iter().find(|file| *file != path);
    std::fs::copy(other.expect("two files"), &path).expect("copies");
    bench.unreadable("replaced").await;
    assert_eq!(bench.rows("SELECT a FROM space.u").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_live_on_with_a_new_key_and_end_with_theirs() {
    let bench = bench().await;
    bench
        .done("CREATE TABLE space.t AS SELECT name AS a FROM data.people")
        .await;
    let change = async |drop: bool| {
        let mut write = bench.hub.store.write().await.expect("begins");
        match drop {
            true => drop_all(&mut write).await,
            false => write.add_space_key("p", Utc::now()).await.expect("adds"),
        }
        write.commit().await.expect("commits");
        bench.hub.space_files.forget();
    };
    change(false).await;
    bench.done("INSERT INTO space.t VALUES ('new')").await;
    assert_eq!(bench.rows("SELECT count(*) FROM space.t").await, ["11"]);
    bench
        .done("CREATE OR REPLACE TABLE space.t AS SELECT a FROM space.t")
        .await;
    assert_eq!(bench.rows("SELECT count(*) FROM space.t").await, ["11"]);
    change(true).await;
    for sql in ["SELECT * FROM space.t", "SELECT count(*) FROM space.t"] {
        bench
            .fails(sql, ErrorKind::PermissionDenied, "dropped")
            .await;
    }
    let part = "dropped";
    bench
        .refused(
            "UPDATE space.t SET a = 'x'",
            ErrorKind::PermissionDenied,
            part,
        )
        .await;
    bench.done("DROP TABLE space.t").await;
    bench.done("CREATE TABLE space.t AS SELECT 1 AS a").await;
    assert_eq!(bench.rows("SELECT a FROM space.t").await, ["1"]);
}

async fn drop_all(write: &mut hubflight_store::WriteTransaction) {
    let dropped = write.drop_space_keys("p", Utc::now()).await;
    assert_eq!(dropped.expect("drops"), 2);
}

/// The second of two would fit alone.
#[tokio::test(flavor = "multi_thread")]
async fn statements_at_the_same_time_share_the_quota() {
    let bench = Arc::new(bench_with("", 1).await);
    let statements: Vec<_> = (0..5)
        .map(|n| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move {
                let sql = format!(
                    "CREATE TABLE space.t{n} AS SELECT md5(CAST(value + {n} AS VARCHAR)) AS h \
                     FROM generate_series(1, 20000)"
                );
                bench.run(&sql).await
            })
        })
        .collect();
    let mut made = 0;
    for statement in statements {
        match statement.await.expect("runs") {
            Ok(_) => made += 1,
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::ResourceExhausted, "{error}");
                assert!(error.to_string().contains("quota"), "{error}");
            }
        }
    }
    assert!(made < 5, "{made} were made");
    let sizes = bench.files().into_iter();
    let sizes = sizes.map(|file| file.metadata().expect("size").len());
    assert!(sizes.sum::<u64>() <= 1 << 20);
    let room = bench.hub.store.space_room("p").await.expect("room");
    assert!(room.used <= room.quota);
    // What was refused holds nothing any more.
    for n in 0..made {
        bench
            .run(&format!("DROP TABLE IF EXISTS space.t{n}"))
            .await
            .expect("drops");
    }
    bench
        .hub
        .space_writes
        .share("p")
        .hold(1 << 19, 1 << 20)
        .expect("is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_counts_while_it_is_written() {
    let bench = bench_with("", 1).await;
    let half = bench.hub.space_writes.share("p");
    half.hold(900_000, 1 << 20).expect("fits");
    let sql = "CREATE TABLE space.t AS SELECT md5(CAST(value AS VARCHAR)) AS h \
               FROM generate_series(1, 10000)";
    bench
        .refused(sql, ErrorKind::ResourceExhausted, "leaves 148576 bytes")
        .await;
    assert!(bench.files().is_empty());
    drop(half);
    bench.done(sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_has_so_many_tables_and_files() {
    let bench = bench_with("space_objects_max = 2\nspace_files_max = 3", 100).await;
    bench.done("CREATE TABLE space.t (a INT)").await;
    bench
        .done("CREATE VIEW space.v AS SELECT a FROM space.t")
        .await;
    for sql in [
        "CREATE TABLE space.u (a INT)",
        "CREATE VIEW space.u AS SELECT 1 AS a",
    ] {
        let part = "has 2 tables and views, and may have 2; drop some, or ask an administrator";
        bench.refused(sql, ErrorKind::ResourceExhausted, part).await;
    }
    bench.done("CREATE OR REPLACE TABLE space.t (a INT)").await;
    for n in 0..3 {
        bench
            .done(&format!("INSERT INTO space.t VALUES ({n})"))
            .await;
    }
    let insert = "INSERT INTO space.t VALUES (3)";
    bench
        .refused(insert, ErrorKind::ResourceExhausted, "more than 3 files")
        .await;
    assert_eq!(bench.files().len(), 3, "what was refused is removed");
    assert_eq!(bench.rows("SELECT count(*) FROM space.t").await, ["3"]);
    bench.done("DROP VIEW space.v").await;
    bench.done("CREATE TABLE space.u (a INT)").await;
}

/// The hub keeps a text as it came: whoever opens it as a spreadsheet must quote it there.
#[tokio::test(flavor = "multi_thread")]
async fn formulas_are_texts() {
    let bench = bench().await;
    bench.done("CREATE TABLE space.t (n INT, a VARCHAR)").await;
    let formulas = [
        "=cmd|' /C calc'!A0",
        "+1+1",
        "-2+3",
        "@SUM(1)",
        "\t=1",
        "\r=1",
        "=1\u{0}",
    ];
    for (n, formula) in formulas.iter().enumerate() {
        let values = vec![ScalarValue::from(n as i32), ScalarValue::from(*formula)];
        let sql = "INSERT INTO space.t VALUES ($1, $2)";
        bench.bound(sql, values).await.expect("inserts");
    }
    assert_eq!(
        bench.rows("SELECT a FROM space.t ORDER BY n").await,
        formulas
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_has_so_many_columns_those_of_structs_counted() {
    let bench = bench().await;
    let wide = |columns: usize| {
        let fields: Vec<String> = (0..columns).map(|n| format!("'f{n}', 1")).collect();
        let list = fields.join(", ");
        format!("named_struct({list}) AS s, named_struct({list}) AS r, named_struct({list}) AS q")
    };
    let sql = format!("CREATE TABLE space.t AS SELECT {}", wide(1_400));
    bench
        .refused(&sql, ErrorKind::ResourceExhausted, "4200 columns")
        .await;
    assert!(bench.files().is_empty());
    bench
        .done(&format!("CREATE TABLE space.t AS SELECT {}", wide(100)))
        .await;
    let name = "x".repeat(2_000);
    let sql = format!("CREATE TABLE space.u AS SELECT 1 AS {name}");
    bench
        .refused(&sql, ErrorKind::InvalidArgument, "name")
        .await;
}
