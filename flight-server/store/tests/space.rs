//! Spaces of projects: snapshots, conflicts, quotas.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{TimeDelta, Utc};
use common::{on_each_store, populate};
use hubflight_store::{
    Backend, NewObject, ObjectKind, SpaceChange, SpaceCommit, SpaceFile, SpaceLimits, SpaceView,
    Store, StoreError,
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
            column_bytes: format!("{{\"a\":{bytes}}}").into(),
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

const LIMITS: SpaceLimits = SpaceLimits {
    objects_max: 100,
    files_max: 1_000,
};

async fn commit(store: &Store, base: i64, changes: Vec<SpaceChange>) -> Result<i64, StoreError> {
    commit_in(store, base, changes, LIMITS).await
}

async fn commit_in(
    store: &Store,
    base: i64,
    changes: Vec<SpaceChange>,
    limits: SpaceLimits,
) -> Result<i64, StoreError> {
    store
        .commit_space(&SpaceCommit {
            project: "p".to_owned(),
            base_snapshot: base,
            statement_id: "s".to_owned(),
            changes,
            bases: BTreeMap::new(),
            keys: BTreeSet::new(),
            limits,
            rights: None,
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
        let sizes = |view: SpaceView| view.objects[0].files[0].column_bytes.to_string();
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

#[test]
fn tables_and_files_are_counted_when_they_are_committed() {
    on_each_store("counts", |store| async move {
        populate(&store).await;
        let few = SpaceLimits {
            objects_max: 2,
            files_max: 3,
        };
        let first = vec![table("t"), add("t", "f1", 1)];
        commit_in(&store, 0, first, few).await.unwrap();
        // Each of the two would fit alone; what both saw is snapshot 1.
        let two = ["u", "v"].map(|name| {
            let store = store.clone();
            tokio::spawn(async move { commit_in(&store, 1, vec![table(name)], few).await })
        });
        let mut refused = 0;
        for task in two {
            if let Err(error) = task.await.unwrap() {
                let StoreError::TooMany { what, max: 2 } = error else {
                    panic!("{error}");
                };
                assert_eq!(what, "tables and views");
                assert!(StoreError::TooMany { what, max: 2 }.is_refusal());
                refused += 1;
            }
        }
        assert_eq!(refused, 1, "one fits");
        // Replacing one is no more than there were.
        let base = store.current_snapshot("p").await.unwrap();
        let again = vec![drop_object("t"), table("t"), add("t", "f2", 1)];
        commit_in(&store, base, again, few).await.unwrap();
        // The file that it replaced is still on disk, and counts.
        commit_in(&store, base + 1, vec![add("t", "f3", 1)], few)
            .await
            .unwrap();
        let full = commit_in(&store, base + 2, vec![add("t", "f4", 1)], few).await;
        assert!(matches!(
            full,
            Err(StoreError::TooMany {
                what: "files",
                max: 3
            })
        ));
        assert_eq!(store.space_room("p").await.unwrap().files, 3);
        // What adds nothing is never refused.
        let none = SpaceLimits {
            objects_max: 0,
            files_max: 0,
        };
        commit_in(&store, base + 2, vec![drop_object("t")], none)
            .await
            .unwrap();
    });
}

/// Whether any file of a SQLite store holds these bytes.
fn is_on_disk(store: &Store, bytes: &[u8]) -> bool {
    let path = store.sqlite_path().unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let files = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let mut paths = files.map(|file| file.unwrap().path());
    paths.any(|path| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(name)
            && std::fs::read(&path)
                .unwrap()
                .windows(bytes.len())
                .any(|window| window == bytes)
    })
}

#[test]
fn what_is_written_while_its_key_is_dropped_is_refused_and_the_salts_are_gone() {
    on_each_store("dropped_keys", |store| async move {
        populate(&store).await;
        commit(&store, 0, vec![table("t")]).await.unwrap();
        let key = store.newest_space_key("p").await.unwrap();
        let written = |key| SpaceCommit {
            project: "p".to_owned(),
            base_snapshot: 1,
            statement_id: "s".to_owned(),
            changes: vec![add("t", "f1", 1)],
            bases: BTreeMap::new(),
            keys: [key].into(),
            limits: LIMITS,
            rights: None,
        };
        let salts: Vec<_> = [key.salt.unwrap()].into();
        let mut write = store.write().await.unwrap();
        write.drop_space_keys("p", Utc::now()).await.unwrap();
        write.commit().await.unwrap();
        let refused = store.commit_space(&written(key.id)).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::KeyDropped { .. }),
            "{refused}"
        );
        assert!(refused.is_refusal());
        let fresh = store.newest_space_key("p").await.unwrap();
        store.commit_space(&written(fresh.id)).await.unwrap();
        if store.backend() == Backend::Sqlite {
            assert!(is_on_disk(&store, &salts[0]), "in the log until then");
            assert!(store.empty_log().await.unwrap());
            assert!(!is_on_disk(&store, &salts[0]));
            assert!(is_on_disk(&store, &fresh.salt.unwrap()), "it can be found");
        } else {
            assert!(!store.empty_log().await.unwrap());
        }
    });
}

#[test]
fn keys_of_spaces_are_made_once_rotated_and_dropped_for_good() {
    on_each_store("space_keys", |store| async move {
        populate(&store).await;
        let race: Vec<_> = (0..8)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { store.newest_space_key("p").await })
            })
            .collect();
        let first = store.newest_space_key("p").await.unwrap();
        assert_eq!(first.id, 1);
        for task in race {
            assert_eq!(task.await.unwrap().unwrap(), first);
        }
        let other = store.newest_space_key("q").await.unwrap();
        assert_ne!(other.salt, first.salt);
        assert!(store.newest_space_key("nothing").await.is_err());

        let mut write = store.write().await.unwrap();
        write.add_space_key("p", Utc::now()).await.unwrap();
        write.commit().await.unwrap();
        let second = store.newest_space_key("p").await.unwrap();
        assert_eq!(second.id, 2);
        assert_ne!(second.salt, first.salt);
        // Files that were written before are still read.
        assert_eq!(store.space_key("p", 1).await.unwrap(), Some(first));
        assert_eq!(store.space_key("p", 3).await.unwrap(), None);

        let revision = store.rights_revision().await.unwrap();
        let mut write = store.write().await.unwrap();
        assert_eq!(write.drop_space_keys("p", Utc::now()).await.unwrap(), 2);
        write.commit().await.unwrap();
        assert!(
            store.rights_revision().await.unwrap() > revision,
            "servers see it"
        );
        for id in [1, 2] {
            let dropped = store.space_key("p", id).await.unwrap().unwrap();
            assert_eq!(dropped.salt, None);
        }
        assert_eq!(store.space_key("q", 1).await.unwrap(), Some(other));
        // A new key has a new number, and nobody brings the old one back.
        assert_eq!(store.newest_space_key("p").await.unwrap().id, 3);
        let mut write = store.write().await.unwrap();
        let back = sqlx::query(
            "UPDATE space_keys SET salt = $1, dropped_at = NULL WHERE project = 'p' AND key_id = 1",
        )
        .bind(vec![0_u8; 32])
        .execute(write.connection())
        .await;
        assert!(back.is_err());
    });
}

/// Whatever else a commit would do, it does nothing once rights are others than it was decided on.
#[test]
fn nothing_is_committed_under_rights_that_have_changed() {
    on_each_store("rights_changed", |store| async move {
        populate(&store).await;
        let decided = store.rights_revision().await.unwrap();
        let under = |rights, name| SpaceCommit {
            project: "p".to_owned(),
            base_snapshot: 0,
            statement_id: "s".to_owned(),
            changes: vec![table(name)],
            bases: BTreeMap::new(),
            keys: BTreeSet::new(),
            limits: LIMITS,
            rights,
        };
        let write = store.change_rights().await.unwrap();
        let waits = tokio::spawn({
            let (store, commit) = (store.clone(), under(Some(decided), "a"));
            async move { store.commit_space(&commit).await }
        });
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert!(!waits.is_finished(), "it overtakes the change");
        write.commit().await.unwrap();
        let refused = waits.await.unwrap().unwrap_err();
        assert!(matches!(refused, StoreError::RightsChanged), "{refused}");
        assert!(refused.is_refusal());
        assert_eq!(store.current_snapshot("p").await.unwrap(), 0);
        let now = store.rights_revision().await.unwrap();
        store.commit_space(&under(Some(now), "a")).await.unwrap();
        // What the hub does itself rests on nobody's rights.
        let own = SpaceCommit {
            base_snapshot: 1,
            ..under(None, "b")
        };
        store.commit_space(&own).await.unwrap();
    });
}

/// Objects that were read at other snapshots than the commit's own are judged by theirs.
#[test]
fn each_object_of_a_commit_is_judged_by_the_snapshot_that_it_was_read_at() {
    on_each_store("bases", |store| async move {
        populate(&store).await;
        commit(&store, 0, vec![table("a"), table("b")])
            .await
            .unwrap();
        commit(&store, 1, vec![add("a", "f1", 1)]).await.unwrap();
        let removes = |base, own: &[(&str, i64)]| SpaceCommit {
            project: "p".to_owned(),
            base_snapshot: base,
            bases: own
                .iter()
                .map(|(name, at)| ((*name).to_owned(), *at))
                .collect(),
            statement_id: "s".to_owned(),
            changes: vec![remove("a", "f1"), add("b", "f2", 1)],
            keys: BTreeSet::new(),
            limits: LIMITS,
            rights: None,
        };
        for refused in [
            removes(1, &[]),
            removes(2, &[("a", 1)]),
            removes(2, &[("a", 3)]),
        ] {
            let error = store.commit_space(&refused).await.unwrap_err();
            assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
            assert_eq!(store.current_snapshot("p").await.unwrap(), 2);
        }
        store.commit_space(&removes(1, &[("a", 2)])).await.unwrap();
    });
}
