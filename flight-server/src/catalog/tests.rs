//! What projects see of a hub with one dataset: a file as pandas writes it, whose schema,
//! columns and nested fields all carry notes. One project may read it, one only browse it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::writer::FileWriter;
use arrow::util::display::array_value_to_string;
use chrono::Utc;
use datafusion::physical_plan::collect;
use hubflight_store::{AdminRole, NewToken};
use tempfile::TempDir;

use super::project::{Look, ProjectView, Viewer};
use crate::auth::session::SessionOptions;
use crate::error::{ErrorKind, Result};
use crate::hub::Hub;
use crate::plan::Planning;
use crate::plan::parse::parse;
use crate::rig::{asker, inside, open_hub};

/// Ten notes, with metadata wherever Arrow has room for it.
fn write_notes(folder: &Path) {
    std::fs::create_dir_all(folder).expect("folder");
    let metadata = |key: &str| HashMap::from([(key.to_owned(), "{}".to_owned())]);
    let element = Field::new("element", DataType::Int32, true).with_metadata(metadata("element"));
    let list = DataType::List(Arc::new(element.clone()));
    let fields = vec![
        Field::new("id", DataType::Int64, true).with_metadata(metadata("column")),
        Field::new("note", DataType::Utf8, true),
        Field::new("scores", list, true).with_metadata(metadata("column")),
    ];
    let schema = Arc::new(Schema::new_with_metadata(fields, metadata("pandas")));
    let scores = ListArray::new(
        Arc::new(element),
        OffsetBuffer::from_lengths([2; 10]),
        Arc::new(Int32Array::from_iter_values(0..20)),
        None,
    );
    let notes = (0..10).map(|id| format!("note {id}"));
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            Arc::new(Int64Array::from_iter_values(0..10)),
            Arc::new(StringArray::from_iter_values(notes)),
            Arc::new(scores),
        ],
    )
    .expect("valid");
    let file = std::fs::File::create(folder.join("notes.arrow")).expect("file");
    let mut writer = FileWriter::try_new(file, &schema).expect("writer");
    writer.write(&batch).expect("writes");
    writer.finish().expect("finishes");
}

/// The folder is held for as long as the hub is used.
async fn opened() -> (Arc<Hub>, TempDir) {
    let folder = tempfile::tempdir().expect("folder");
    write_notes(&folder.path().join("data"));
    let period = "valid_from = '2000-01-01'\nvalid_to = '2999-01-01'\n";
    let mut text = "[[dataset]]\nname = 'clinic'\nfolder = 'data'\npersons = 'none'\n\
                    producer = 'x'\nformat = 'arrow'\n\
                    [[dataset]]\nname = 'ward'\nfolder = 'data'\nproducer = 'x'\nformat = 'arrow'\n\
                    [[dataset.table]]\nname = 'notes'\nlocation = 'notes.arrow'\n\
                    person = { column = 'id' }\n[[person]]\nid = 'ada'\n"
        .to_owned();
    for (project, dataset, mode) in [("reads", "clinic", "row"), ("browses", "ward", "aggregate")] {
        text += &format!(
            "[[project]]\nid = '{project}'\nmembers = ['ada']\n{period}\
             [[habilitation]]\nproject = '{project}'\ndataset = '{dataset}'\nmode = '{mode}'\n\
             decision = 'd'\n{period}"
        );
    }
    let hub = open_hub(folder.path(), &text).await;
    (hub, folder)
}

/// A query's rows as text, planned and checked as a statement is.
async fn query(hub: &Arc<Hub>, project: &str, sql: &str) -> Result<Vec<String>> {
    query_as(hub, project, &AdminRole::ALL, sql).await
}

/// The same, as an administrator of some roles where the project is theirs.
async fn query_as(
    hub: &Arc<Hub>,
    project: &str,
    roles: &[AdminRole],
    sql: &str,
) -> Result<Vec<String>> {
    let now = Utc::now();
    let viewer = Viewer {
        who: asker("ada", &["reads", "browses"]),
        zone: inside(),
        roles: roles.iter().copied().collect(),
    };
    let look = Look {
        project,
        viewer: &viewer,
        snapshot: None,
        overlay: None,
        now,
    };
    let view = Arc::new(ProjectView::load(hub, look).await?);
    let options = SessionOptions::default();
    let planning = Planning {
        hub,
        view: &view,
        options: &options,
        now,
    };
    let authorised = planning.query(parse(sql, 1 << 20)?).await?;
    let state = planning.state();
    let physical = state.create_physical_plan(authorised.asked()).await?;
    let mut rows = Vec::new();
    for batch in collect(physical, state.task_ctx()).await? {
        for row in 0..batch.num_rows() {
            let cell = |column: &Arc<dyn Array>| match column.is_null(row) {
                true => "-".to_owned(),
                false => array_value_to_string(column, row).expect("prints"),
            };
            let cells: Vec<String> = batch.columns().iter().map(cell).collect();
            rows.push(cells.join(" "));
        }
    }
    Ok(rows)
}

async fn rows(hub: &Arc<Hub>, project: &str, sql: &str) -> Vec<String> {
    query(hub, project, sql).await.expect(sql)
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_of_a_file_do_not_hinder_its_queries() {
    let (hub, _folder) = opened().await;
    for (sql, expected) in [
        ("SELECT count(*) FROM notes", "10"),
        ("SELECT note FROM notes WHERE id = 7", "note 7"),
        (
            "SELECT * FROM notes ORDER BY id DESC LIMIT 1",
            "9 note 9 [18, 19]",
        ),
        (
            "SELECT sum(s) FROM (SELECT unnest(scores) AS s FROM notes)",
            "190",
        ),
        ("SELECT array_length(scores) FROM notes WHERE id = 1", "2"),
        (
            "SELECT max(upper(note)) FROM notes GROUP BY id > 20",
            "NOTE 9",
        ),
    ] {
        assert_eq!(rows(&hub, "reads", sql).await, [expected], "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_may_not_be_read_is_still_listed() {
    let (hub, _folder) = opened().await;
    let tables = rows(&hub, "browses", "SHOW TABLES").await;
    assert!(
        tables
            .iter()
            .any(|row| row.contains("ward notes BASE TABLE")),
        "{tables:?}"
    );
    let columns = "SELECT column_name FROM information_schema.columns \
                   WHERE table_schema = 'ward' ORDER BY ordinal_position";
    assert_eq!(
        rows(&hub, "browses", columns).await,
        ["id", "note", "scores"]
    );
    let views = "SELECT count(*) FROM information_schema.views WHERE table_schema = 'hub'";
    assert_eq!(rows(&hub, "browses", views).await.len(), 1);
    for sql in [
        "SELECT max(note) OVER () FROM notes",
        "SELECT note FROM ward.notes",
        "SELECT DISTINCT note FROM ward.notes",
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM ward.notes)",
        "EXPLAIN SELECT note FROM ward.notes",
    ] {
        let error = query(&hub, "browses", sql).await.expect_err(sql);
        assert_eq!(error.kind, ErrorKind::PermissionDenied, "{sql}: {error}");
        assert!(
            error
                .to_string()
                .contains("only aggregates of dataset `ward`")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_tell_of_files_are_not_offered() {
    let (hub, _folder) = opened().await;
    for sql in [
        "SELECT input_file_name() FROM notes",
        "SELECT file_row_index() FROM notes",
        "SELECT note FROM notes WHERE id = (SELECT max(file_row_index()) FROM notes)",
    ] {
        let error = query(&hub, "reads", sql).await.expect_err(sql);
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{sql}: {error}");
    }
    assert_eq!(
        rows(&hub, "reads", "SELECT upper('a') || version() IS NULL").await,
        ["false"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_see_where_workers_listen() {
    let (hub, _folder) = opened().await;
    let sql = "SELECT name, address FROM hub.workers";
    assert_eq!(rows(&hub, "reads", sql).await, ["1 -"]);
    let asked = *hub.engine.workers_asked().lock().await;
    let admin = rows(&hub, "admin", sql).await;
    assert!(
        admin.len() == 1 && admin[0].contains("127.0.0.1:9"),
        "{admin:?}"
    );
    let again = *hub.engine.workers_asked().lock().await;
    let waited = asked.expect("asked").elapsed();
    assert!(
        asked == again || waited.as_millis() >= 1_000,
        "asked twice in {waited:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_the_tables_of_their_roles_and_no_data() {
    let (hub, _folder) = opened().await;
    use AdminRole::{Audit, Billing, People, Policy};
    let cases: [(&[AdminRole], &[&str]); 5] = [
        (&[], &[]),
        (&[People], &["members", "persons", "projects", "tokens"]),
        (&[Billing], &["datasets", "projects", "usage"]),
        (
            &[Policy],
            &[
                "access",
                "columns",
                "datasets",
                "habilitations",
                "members",
                "projects",
                "review_due",
                "tables",
            ],
        ),
        (
            &[Audit],
            &[
                "access",
                "audit",
                "habilitations",
                "members",
                "persons",
                "projects",
                "queries",
                "review_due",
                "tokens",
            ],
        ),
    ];
    let all = [
        "access",
        "audit",
        "columns",
        "datasets",
        "habilitations",
        "members",
        "persons",
        "projects",
        "queries",
        "review_due",
        "tables",
        "tokens",
        "usage",
    ];
    for (roles, shown) in cases {
        for table in all {
            let sql = format!("SELECT count(*) FROM hub.{table}");
            let seen = query_as(&hub, "admin", roles, &sql).await;
            if shown.contains(&table) {
                seen.expect(table);
                continue;
            }
            // As a table that does not exist.
            let error = seen.expect_err(table);
            assert_eq!(error.kind, ErrorKind::NotFound, "{table}");
            let missing = query_as(&hub, "admin", roles, "SELECT 1 FROM hub.nothing").await;
            let missing = missing.expect_err("missing").to_string();
            assert_eq!(error.to_string().replace(table, "nothing"), missing);
        }
        for sql in [
            "SELECT * FROM clinic.notes",
            "SELECT * FROM reads.clinic.notes",
        ] {
            let error = query_as(&hub, "admin", roles, sql).await.expect_err(sql);
            assert_eq!(error.kind, ErrorKind::NotFound, "{sql}");
        }
    }
    for table in ["access", "persons", "members", "projects", "review_due"] {
        let sql = format!("SELECT * FROM hub.{table}");
        let error = query_as(&hub, "reads", &AdminRole::ALL, &sql).await;
        assert_eq!(error.expect_err(table).kind, ErrorKind::NotFound);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_ones_own_of_this_project_and_without_secrets() {
    let (hub, _folder) = opened().await;
    let bob = hubflight_store::PersonProfile {
        id: "bob".into(),
        name: "Bob".into(),
        active: true,
        is_admin: false,
    };
    hub.store.put_person(&bob).await.expect("written");
    let member = hubflight_store::Member {
        project: "reads".into(),
        person: "bob".into(),
        role: "member".into(),
    };
    hub.store.put_member(&member).await.expect("written");
    let mut issued = Vec::new();
    for (person, project) in [("ada", "reads"), ("ada", "browses"), ("bob", "reads")] {
        let new = NewToken {
            person: person.into(),
            project: project.into(),
            name: "laptop".into(),
            expires_at: Utc::now() + chrono::TimeDelta::days(1),
        };
        issued.push(hub.store.issue_token(&new).await.expect("issues"));
    }
    let sql = "SELECT * FROM hub.tokens";
    let own = rows(&hub, "reads", sql).await;
    assert_eq!(own.len(), 1, "{own:?}");
    assert!(own[0].starts_with(&issued[0].id) && own[0].ends_with(" valid"));
    let everybodys = rows(&hub, "admin", sql).await;
    assert_eq!(everybodys.len(), 3);
    for token in &issued {
        let secret = token.text.rsplit('_').next().expect("a secret");
        assert!(everybodys.iter().all(|row| !row.contains(secret)));
    }
    hub.store
        .revoke_token(&issued[0].id, "ada")
        .await
        .expect("revokes");
    assert!(rows(&hub, "reads", sql).await[0].ends_with(" revoked"));
}
