//! Opening, migrating, filling up, and the master secret.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod common;

use std::fs;

use common::{on_each_store, populate};
use hubflight_store::{Backend, Organisation, Secrets, Store, StoreError, StoreLimits};

#[test]
fn addresses() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for url in [
        "",
        "sqlite://",
        "sqlite://:memory:",
        "mysql://u:secret@h/d",
        "postgres://u:secret@ h/",
    ] {
        let error = runtime.block_on(Store::open(url)).unwrap_err();
        assert!(
            matches!(error, StoreError::Address { .. }),
            "{url}: {error}"
        );
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/missing/hub.db", folder.path().display());
    let error = runtime.block_on(Store::open(&url)).unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    let file = folder.path().join("not-a-database");
    fs::write(&file, "x".repeat(5_000)).unwrap();
    let error = runtime.block_on(Store::open(&format!("sqlite://{}", file.display())));
    assert!(error.unwrap_err().is_unavailable());
}

/// Who changes something reads beside it, whoever waits to change something too.
#[test]
fn writers_leave_connections_to_readers() {
    on_each_store("writers", |store| async move {
        let writers = match store.backend() {
            Backend::Sqlite => 1,
            Backend::Postgres => StoreLimits::default().connections_max,
        };
        let mut open = Vec::new();
        for _ in 0..writers {
            open.push(store.write().await.unwrap());
        }
        store.rights_revision().await.unwrap();
        store.oppositions().await.unwrap();
        drop(open);
    });
}

#[test]
fn a_newer_store_is_refused() {
    on_each_store("newer", |store| async move {
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, \
             execution_time) SELECT 9999, description, success, checksum, execution_time \
             FROM _sqlx_migrations WHERE version = 1",
        )
        .execute(store.pool())
        .await
        .unwrap();
        let Some(path) = store.sqlite_path() else {
            return;
        };
        let error = Store::open(&format!("sqlite://{}", path.display()))
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::Newer { store: 9999, known } if known < 9999),
            "{error}"
        );
    });
}

/// A copy is read as it is, with what stands in its write-ahead log only, and nothing is made.
#[tokio::test]
async fn a_copy_is_only_read() {
    let (folder, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = |folder: &tempfile::TempDir| format!("sqlite://{}/hub.db", folder.path().display());
    let missing = Store::open_copy(&url(&copies)).await;
    assert!(matches!(missing, Err(StoreError::Address { .. })));
    assert_eq!(fs::read_dir(copies.path()).unwrap().count(), 0);

    let store = Store::open(&url(&folder)).await.unwrap();
    let organisation = Organisation {
        id: "o".to_owned(),
        name: "logged".to_owned(),
    };
    store.put_organisation(&organisation).await.unwrap();
    for file in ["hub.db", "hub.db-wal"] {
        fs::copy(folder.path().join(file), copies.path().join(file)).unwrap();
    }
    let name = async |store: &Store| -> String {
        sqlx::query_scalar("SELECT name FROM organisations WHERE id = 'o'")
            .fetch_one(store.pool())
            .await
            .unwrap()
    };
    let copy = Store::open_copy(&url(&copies)).await.unwrap();
    assert_eq!(name(&copy).await, "logged");
    assert!(copy.put_organisation(&organisation).await.is_err());
    copy.close().await;

    // A database that was closed has no log, and gets none.
    store.close().await;
    let before = fs::read(folder.path().join("hub.db")).unwrap();
    let copy = Store::open_copy(&url(&folder)).await.unwrap();
    assert_eq!(name(&copy).await, "logged");
    copy.close().await;
    assert_eq!(fs::read(folder.path().join("hub.db")).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    let older = Store::open(&url(&folder)).await.unwrap();
    sqlx::query("DELETE FROM _sqlx_migrations WHERE version > 3")
        .execute(older.pool())
        .await
        .unwrap();
    older.close().await;
    let refused = Store::open_copy(&url(&folder)).await;
    assert!(matches!(refused, Err(StoreError::Older { store: 3, .. })));
}

#[test]
fn writers_take_turns() {
    on_each_store("turns", |store| async move {
        let tasks: Vec<_> = (0..50)
            .map(|index| {
                let store = store.clone();
                tokio::spawn(async move {
                    let organisation = Organisation {
                        id: format!("o{}", index % 10),
                        name: index.to_string(),
                    };
                    store.put_organisation(&organisation).await.unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(store.organisations().await.unwrap().len(), 10);
    });
}

#[tokio::test]
async fn a_full_or_locked_store_is_unavailable_and_keeps_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/hub.db", folder.path().display());
    let limits = StoreLimits {
        sqlite_pages_max: Some(160),
        lock_wait_ms_max: 50,
        ..StoreLimits::default()
    };
    let store = Store::open_with(&url, &limits).await.unwrap();
    let mut written = 0;
    let error = loop {
        let organisation = Organisation {
            id: format!("o{written}"),
            name: "x".repeat(2_000),
        };
        match store.put_organisation(&organisation).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1_000, "never full");
    };
    assert!(error.is_unavailable(), "{error:?}");
    assert_eq!(store.organisations().await.unwrap().len(), written);

    // A failed transaction must leave no connection behind that cannot begin another.
    for id in 0..20 {
        let one = Organisation {
            id: format!("o{}", id % 2),
            name: "y".to_owned(),
        };
        store.put_organisation(&one).await.unwrap();
    }

    let other = Store::open(&url).await.unwrap();
    let held = other.write().await.unwrap();
    let error = store.write().await.unwrap_err();
    assert!(error.is_unavailable() && !error.is_transient(), "{error:?}");
    drop(held);
}

#[test]
fn another_master_secret_is_refused() {
    on_each_store("secret", |store| async move {
        populate(&store).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let secrets = store.secrets(&path).await.unwrap();
        let again = store.secrets(&path).await.unwrap();
        assert_eq!(secrets.derive("tickets"), again.derive("tickets"));
        store.check_secrets(&secrets).await.unwrap();
        let refused = store.check_secrets(&Secrets::new([2; 32])).await;
        assert!(matches!(refused, Err(StoreError::WrongSecret)));

        // Lost: no other is made in its place.
        let backup = folder.path().join("backup");
        fs::rename(&path, &backup).unwrap();
        let error = store.secrets(&path).await.unwrap_err().to_string();
        assert!(
            error.contains("backup") && error.contains("master.key"),
            "{error}"
        );
        assert!(!path.exists());
        // Another store's.
        Secrets::load_or_create(&path).unwrap();
        let error = store.secrets(&path).await.unwrap_err().to_string();
        assert!(error.contains("does not belong"), "{error}");
        fs::rename(&backup, &path).unwrap();
        store.secrets(&path).await.unwrap();
    });
}
