//! Spaces of projects: snapshots, conflicts, quotas.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod common;

use std::collections::BTreeMap;

use chrono::{TimeDelta, Utc};
use common::{on_each_store, populate};
use hubflight_store::{
    NewObject, ObjectKind, SpaceChange, SpaceCommit, SpaceFile, SpaceView, Store, StoreError,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

fn table(name: &str) -> SpaceChange {
    SpaceChange::Create(NewObject {
        name: name.to_owned(),
        kind: ObjectKind::Table,
        schema_ipc: vec![1, 2, 3],
        view_sql: None,
        labels: "{}".to_owned(),
    })
}

fn add(object: &str, file: &str, bytes: i64) -> SpaceChange {
    SpaceChange::AddFiles {
        object: object.to_owned(),
        files: vec![SpaceFile {
            file: file.to_owned(),
            rows: 10,
            bytes,
            column_bytes: format!("{{\"a\":{bytes}}}"),
        }],
    }
}

fn merge(object: &str, old: &[&str], new: &str, bytes: i64) -> SpaceChange {
    let SpaceChange::AddFiles { object, files } = add(object, new, bytes) else {
        unreachable!("that is what `add` makes");
    };
    SpaceChange::MergeFiles {
        object,
        old: old.iter().map(ToString::to_string).collect(),
        new: files,
    }
}

fn remove(object: &str, file: &str) -> SpaceChange {
    SpaceChange::RemoveFiles {
        object: object.to_owned(),
        files: vec![file.to_owned()],
    }
}

fn drop_object(name: &str) -> SpaceChange {
    SpaceChange::Drop {
        name: name.to_owned(),
    }
}

async fn commit(store: &Store, base: i64, changes: Vec<SpaceChange>) -> Result<i64, StoreError> {
    store
        .commit_space(&SpaceCommit {
            project: "p".to_owned(),
            base_snapshot: base,
            statement_id: "s".to_owned(),
            changes,
        })
        .await
}

/// Names of objects with their files.
fn shape(view: &SpaceView) -> BTreeMap<String, Vec<String>> {
    view.objects
        .iter()
        .map(|object| {
            let files = object.files.iter().map(|file| file.file.clone()).collect();
            (object.name.clone(), files)
        })
        .collect()
}

#[test]
fn snapshots_conflicts_and_errors() {
    on_each_store("space", |store| async move {
        populate(&store).await;
        assert_eq!(store.current_snapshot("p").await.unwrap(), 0);
        assert!(store.space_at("p", 0).await.unwrap().objects.is_empty());
        assert!(store.space_at("p", 1).await.is_err());
        assert!(store.current_snapshot("nothing").await.is_err());
        let one = commit(&store, 0, vec![table("t"), add("t", "f1", 100)])
            .await
            .unwrap();
        assert_eq!(one, 1);
        // Appends made from the same base do not conflict.
        commit(&store, 1, vec![add("t", "f2", 100)]).await.unwrap();
        commit(&store, 1, vec![add("t", "f3", 100)]).await.unwrap();
        // A rewrite made from a base before them does, and so does what follows a drop.
        let rewrite = vec![remove("t", "f1"), add("t", "f4", 50)];
        let conflict = commit(&store, 1, rewrite.clone()).await;
        assert!(matches!(
            conflict,
            Err(StoreError::Conflict {
                base: 1,
                current: 3,
                ..
            })
        ));
        assert_eq!(commit(&store, 3, rewrite).await.unwrap(), 4);
        let view = store.space_at("p", 4).await.unwrap();
        assert_eq!(shape(&view)["t"], ["f2", "f3", "f4"]);
        assert_eq!(shape(&store.space_at("p", 1).await.unwrap())["t"], ["f1"]);
        let sizes = |view: SpaceView| view.objects[0].files[0].column_bytes.clone();
        assert_eq!(sizes(store.space_at("p", 1).await.unwrap()), "{\"a\":100}");
        commit(
            &store,
            4,
            vec![drop_object("t"), table("t"), add("t", "f5", 5)],
        )
        .await
        .unwrap();
        let conflict = commit(&store, 4, vec![add("t", "f6", 1)]).await;
        assert!(matches!(conflict, Err(StoreError::Conflict { .. })));
        let future = commit(&store, 99, vec![table("u")]).await;
        assert!(matches!(future, Err(StoreError::Conflict { .. })));

        for (changes, expected) in [
            (vec![table("t")], "table `t` exists"),
            (vec![drop_object("u")], "`u` does not exist"),
            (vec![add("u", "f9", 1)], "table `u` does not exist"),
            (vec![remove("t", "f1")], "file `f1` does not exist"),
            (vec![add("t", "f5", 1)], "file `f5` exists"),
            (vec![add("t", "f9", -1)], "must not be negative"),
        ] {
            let error = commit(&store, 5, changes).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(
            store.current_snapshot("p").await.unwrap(),
            5,
            "errors change nothing"
        );

        let labels = SpaceChange::SetLabels {
            object: "t".to_owned(),
            labels: "{\"mode\":\"row\"}".to_owned(),
        };
        commit(&store, 5, vec![labels]).await.unwrap();
        let label = |view: SpaceView| view.objects[0].labels.clone();
        assert_eq!(label(store.space_at("p", 5).await.unwrap()), "{}");
        assert_eq!(
            label(store.space_at("p", 6).await.unwrap()),
            "{\"mode\":\"row\"}"
        );
        assert_eq!(shape(&store.space_at("p", 6).await.unwrap())["t"], ["f5"]);
    });
}

#[test]
fn quota_and_clean_up() {
    on_each_store("quota", |store| async move {
        populate(&store).await;
        commit(&store, 0, vec![table("t"), add("t", "f1", 900)])
            .await
            .unwrap();
        let full = commit(&store, 1, vec![add("t", "f2", 101)]).await;
        assert!(matches!(
            full,
            Err(StoreError::QuotaExceeded {
                used: 1001,
                quota: 1000
            })
        ));
        commit(&store, 1, vec![add("t", "f2", 100)]).await.unwrap();
        let room = store.space_room("p").await.unwrap();
        assert_eq!((room.used, room.held, room.quota), (1000, 1000, 1000));
        assert_eq!(
            (room.left(0), room.left(900), room.left(5000)),
            (0, 900, 1000)
        );
        let swap = vec![remove("t", "f1"), add("t", "f3", 900)];
        commit(&store, 2, swap).await.unwrap();
        // What was replaced is still on disk: rewriting again and again does not go on for ever.
        let room = store.space_room("p").await.unwrap();
        assert_eq!((room.used, room.held, room.left(900)), (1000, 1900, 100));
        let again = commit(&store, 3, vec![remove("t", "f3"), add("t", "f4", 101)]).await;
        assert!(matches!(
            again,
            Err(StoreError::HeldExceeded {
                held: 2001,
                max: 2000
            })
        ));
        assert!(again.unwrap_err().is_refusal());
        let hour = TimeDelta::hours(1);
        assert!(
            store
                .unreferenced_files("p", Utc::now() - hour)
                .await
                .unwrap()
                .is_empty()
        );
        let old = store
            .unreferenced_files("p", Utc::now() + hour)
            .await
            .unwrap();
        assert_eq!(old, ["f1"]);
        let all = ["f1".to_owned(), "f2".to_owned()];
        store.forget_files("p", &all).await.unwrap();
        assert_eq!(
            store.space_file_names("p").await.unwrap(),
            ["f2", "f3"],
            "a live file stays"
        );
        // The room is back when they are gone.
        let swap = vec![remove("t", "f3"), add("t", "f4", 901)];
        let refused = commit(&store, 3, swap).await;
        assert!(matches!(refused, Err(StoreError::QuotaExceeded { .. })));
        let swap = vec![remove("t", "f3"), add("t", "f4", 900)];
        commit(&store, 3, swap).await.unwrap();
        assert!(store.space_room("nothing").await.is_err());
    });
}

#[test]
fn racing_commits() {
    on_each_store("races", |store| async move {
        populate(&store).await;
        commit(&store, 0, vec![table("t")]).await.unwrap();
        let race = async |changes: &dyn Fn(usize) -> Vec<SpaceChange>, base| {
            let tasks: Vec<_> = (0..12)
                .map(|index| {
                    let (store, changes) = (store.clone(), changes(index));
                    tokio::spawn(async move { commit(&store, base, changes).await })
                })
                .collect();
            let mut won = 0;
            for task in tasks {
                match task.await.unwrap() {
                    Ok(_) => won += 1,
                    Err(error) => assert!(matches!(error, StoreError::Conflict { .. }), "{error}"),
                }
            }
            won
        };
        assert_eq!(
            race(&|index| vec![add("t", &format!("f{index}"), 1)], 1).await,
            12
        );
        let base = store.current_snapshot("p").await.unwrap();
        assert_eq!(base, 13);
        assert_eq!(race(&|_| vec![drop_object("t"), table("t")], base).await, 1);
    });
}

#[test]
fn merging_meets_appends_but_no_rewrites() {
    on_each_store("merges", |store| async move {
        populate(&store).await;
        let filled = vec![table("t"), add("t", "f1", 1), add("t", "f2", 1)];
        commit(&store, 0, filled).await.unwrap();
        commit(&store, 1, vec![add("t", "f3", 1)]).await.unwrap();
        let merged = vec![merge("t", &["f1", "f2"], "f4", 2)];
        commit(&store, 1, merged.clone()).await.unwrap();
        let view = store.space_at("p", 3).await.unwrap();
        assert_eq!(shape(&view)["t"], ["f3", "f4"]);
        // Who read before the merge and changes rows, or merges too, starts anew.
        for late in [
            vec![remove("t", "f1"), add("t", "f5", 1)],
            vec![remove("t", "f3")],
            merged,
        ] {
            let conflict = commit(&store, 2, late).await;
            assert!(matches!(conflict, Err(StoreError::Conflict { .. })));
        }
        // Appends meet it, and a table that is another by now does not.
        commit(&store, 2, vec![add("t", "f6", 1)]).await.unwrap();
        commit(&store, 4, vec![drop_object("t"), table("t")])
            .await
            .unwrap();
        let conflict = commit(&store, 4, vec![merge("t", &["f3"], "f7", 1)]).await;
        assert!(matches!(conflict, Err(StoreError::Conflict { .. })));
    });
}

/// Random commits against a naive model that keeps every snapshot whole.
#[test]
fn random_commits_equal_a_model() {
    on_each_store("model", |store| async move {
        populate(&store).await;
        let mut random = StdRng::seed_from_u64(7);
        let mut history = vec![BTreeMap::<String, Vec<String>>::new()];
        for step in 0..60 {
            let mut model = history.last().unwrap().clone();
            let mut changes = Vec::new();
            for part in 0..random.random_range(1..4) {
                let name = format!("t{}", random.random_range(0..4));
                let files = model.get(&name).cloned();
                match (files, random.random_range(0..4)) {
                    (None, _) => {
                        changes.push(table(&name));
                        model.insert(name, Vec::new());
                    }
                    (Some(_), 0) => {
                        changes.push(drop_object(&name));
                        model.remove(&name);
                    }
                    (Some(files), 1) if !files.is_empty() => {
                        let file = &files[random.random_range(0..files.len())];
                        changes.push(remove(&name, file));
                        model.get_mut(&name).unwrap().retain(|kept| kept != file);
                    }
                    (Some(_), _) => {
                        let file = format!("f{step:03}{part}");
                        changes.push(add(&name, &file, 1));
                        model.get_mut(&name).unwrap().push(file);
                    }
                }
            }
            let base = history.len() as i64 - 1;
            assert_eq!(commit(&store, base, changes).await.unwrap(), base + 1);
            history.push(model);
        }
        for (snapshot, model) in history.iter().enumerate() {
            let view = store.space_at("p", snapshot as i64).await.unwrap();
            assert_eq!(&shape(&view), model, "snapshot {snapshot}");
        }
    });
}
