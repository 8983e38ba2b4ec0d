//! Who decides on a package that waits, and what they are shown.

use arrow::datatypes::{DataType, Field, Schema};
use chrono::TimeDelta;
use hubflight_store::{Export, ExportState, NewExport, Opposition};

use super::decisions::{GRANT, deciding};
use super::*;
use crate::catalog::space::schema_to_ipc;

const FINDING: &str = r#"[{"rule":"small_cells","verdict":"asks","column":"n\u001b[2J",
                           "text":"2 rows count fewer than 11"}]"#;

impl Bench {
    /// A package of `ada` that waits.
    async fn waiting(&self, id: &str) {
        self.waiting_of(id, "{}").await;
    }

    /// One that was made of what the labels say.
    async fn waiting_of(&self, id: &str, labels: &str) {
        let schema = Schema::new(vec![Field::new("n\u{1b}[2J", DataType::Int64, true)]);
        let new = NewExport {
            id: id.into(),
            project: "study".into(),
            name: id.into(),
            purpose: "an article".into(),
            statement_id: "s".into(),
            requested_by: "ada".into(),
            requested_at: Utc::now(),
            rows: 2,
            bytes: 100,
            digest: [7; 32],
            schema_ipc: schema_to_ipc(&schema).expect("writes"),
            findings: FINDING.into(),
            labels: labels.into(),
            state: ExportState::Waiting,
            expires_at: Utc::now() + TimeDelta::days(1),
        };
        let mut write = self.store.change_rights().await.expect("begins");
        write.put_export(&new).await.expect("entered");
        write.commit().await.expect("committed");
    }

    async fn open(&self) -> usize {
        open(&self.store).await.len()
    }
}

/// The packages that members of the project may read.
async fn open(store: &Store) -> Vec<Export> {
    let rights = store.rights().await.expect("read");
    let open = rights.open_exports("study", Utc::now()).await;
    open.expect("read")
}

#[tokio::test]
async fn a_second_person_releases_an_export_and_neither_asked_nor_benefits() {
    let (bench, tokens) = deciding().await;
    for person in ["root", "two", "ada"] {
        let line = format!("person roles {person} --role audit --role policy --role people");
        bench.run(&line).await.expect("given");
    }
    bench.waiting("e1").await;
    let act = async |verb: &str, id: &str, who: &str| {
        let line = format!("export {verb} {id} --token {}", tokens[who]);
        bench.run(&line).await
    };
    for (who, why) in [("ada", "member"), ("bill", "role")] {
        let error = act("release", "e1", who).await.expect_err(who);
        assert!(error.to_string().contains(why), "{error}");
    }
    let error = bench
        .run("export release e1 --token hubpat_aaaa_bbbb")
        .await;
    error.expect_err("nobody's token");
    act("release", "e9", "root").await.expect_err("no such");
    assert_eq!(bench.open().await, 0);
    let shown = bench.run("export show e1").await.expect("shown");
    for part in [
        "an article",
        "Int64",
        "small_cells asks",
        "2 rows count fewer",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(
        !shown.contains('\u{1b}'),
        "what a user wrote moves no cursor"
    );
    let dry = bench
        .run(&format!(
            "export release e1 --dry-run --token {}",
            tokens["root"]
        ))
        .await;
    dry.expect("told");
    assert_eq!(bench.open().await, 0, "only told");
    act("release", "e1", "root").await.expect("released");
    assert_eq!(bench.open().await, 1);
    act("release", "e1", "two").await.expect_err("decided on");
    act("refuse", "e1", "two").await.expect_err("decided on");
    act("withdraw", "e1", "bill")
        .await
        .expect_err("another role");
    act("withdraw", "e1", "two").await.expect("withdrawn");
    act("withdraw", "e1", "two").await.expect_err("over");
    assert_eq!(bench.open().await, 0);

    bench.waiting("e2").await;
    act("refuse", "e2", "two").await.expect("refused");
    act("release", "e2", "root")
        .await
        .expect_err("refused before");
    assert_eq!(bench.open().await, 0);
    let listed = bench.run("export list").await.expect("listed");
    assert!(
        listed.contains("withdrawn") && listed.contains("refused"),
        "{listed}"
    );
    let audit = bench.audit().await;
    let own = door::command_client();
    let told: Vec<String> = audit
        .into_iter()
        .filter(|(event, _)| event.starts_with("export_"))
        .map(|(event, client)| format!("{event}{}", client.replace(&own, "")))
        .collect();
    let expected = [
        "export_released, export e1",
        "export_withdrawn, export e1",
        "export_refused, export e2",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_was_made_before_somebody_opposed_is_not_released() {
    let (bench, tokens) = deciding().await;
    let given = bench
        .run("person roles root --role audit --role policy")
        .await;
    given.expect("given");
    bench.waiting("e1").await;
    let mut write = bench.store.change_rights().await.expect("begins");
    let entry = Opposition::new("person", "7").expect("an entry");
    write.put_opposition(&entry).await.expect("entered");
    write.commit().await.expect("committed");
    let release = async |id: &str| {
        let line = format!("export release {id} --days 3 --token {}", tokens["root"]);
        bench.run(&line).await
    };
    let error = release("e1").await.expect_err("opposed");
    assert!(error.to_string().contains("opposed"), "{error}");
    bench.waiting("e2").await;
    release("e2").await.expect("made after");
    let open = open(&bench.store).await;
    let ends = open[0].package.expires_at - Utc::now();
    assert!(ends > TimeDelta::days(2) && ends <= TimeDelta::days(3));
}

/// What the habilitation says when somebody decides counts, not what it said before.
#[tokio::test]
async fn what_a_habilitation_keeps_inside_by_now_is_not_released() {
    let (bench, tokens) = deciding().await;
    let given = bench
        .run("person roles root --role audit --role policy")
        .await;
    given.expect("given");
    let file = bench.folder.path().join("grant.toml");
    let decide = async |export: &str, version: u32| {
        std::fs::write(&file, format!("{GRANT}export = '{export}'\n")).expect("written");
        let enter = format!(
            "habilitation enter --file {} --token {}",
            file.display(),
            tokens["root"]
        );
        bench.run(&enter).await.expect("entered");
        let confirm = format!(
            "habilitation confirm study.shop --version {version} --token {}",
            tokens["two"]
        );
        bench.run(&confirm).await.expect("confirmed");
    };
    let release = format!("export release e1 --token {}", tokens["root"]);
    decide("review", 1).await;
    let source = |dataset: &str| {
        format!(
            r#"{{"sources":[{{"dataset":"{dataset}","version":1,"habilitation":"study.shop",
                "habilitation_version":1,"scope":"x"}}]}}"#
        )
    };
    bench.waiting_of("e1", &source("shop")).await;
    bench.waiting_of("e2", &source("other")).await;
    decide("none", 2).await;
    let error = bench.run(&release).await.expect_err("kept inside");
    assert!(error.to_string().contains("take nothing"), "{error}");
    let other = release.replace("e1", "e2");
    bench.run(&other).await.expect("of another dataset");
    let refuse = release.replace("release", "refuse");
    bench.run(&refuse).await.expect("refused");
}

#[tokio::test]
async fn dropped_keys_take_the_projects_packages_with_them() {
    let (bench, _) = deciding().await;
    let id = uuid::Uuid::now_v7().to_string();
    bench.waiting(&id).await;
    let kept = bench.store.newest_space_key("study").await.expect("made");
    let airlock = bench.config.server.state.join("airlock");
    let other = uuid::Uuid::now_v7().to_string();
    for package in [&id, &other] {
        std::fs::create_dir_all(airlock.join(package)).expect("a folder");
        std::fs::write(airlock.join(package).join("package"), "sealed").expect("written");
    }
    let drop = "space drop-keys study --confirm study";
    bench.run(&format!("{drop} --dry-run")).await.expect("told");
    assert!(airlock.join(&id).exists());
    let said = bench.run(drop).await.expect("dropped");
    assert!(said.contains("1 of its exports withdrawn"), "{said}");
    assert!(!airlock.join(&id).exists());
    assert!(airlock.join(&other).exists(), "another project's");
    let exports = bench.store.exports(Some("study")).await.expect("read");
    assert_eq!(exports[0].package.state, ExportState::Withdrawn);
    let events = bench.audit().await.into_iter().map(|(event, _)| event);
    let events: Vec<String> = events.filter(|e| e.ends_with("withdrawn")).collect();
    assert_eq!(events, ["export_withdrawn"]);
    // Nothing of the store says the salt any more.
    let salt = kept.salt.expect("a salt");
    let store = bench.store.sqlite_path().expect("SQLite").to_owned();
    let log = store.with_file_name(format!(
        "{}-wal",
        store.file_name().expect("a name").to_string_lossy()
    ));
    for file in [store, log] {
        let bytes = std::fs::read(&file).unwrap_or_default();
        assert!(!bytes.windows(salt.len()).any(|window| window == salt));
    }
}
