//! A fresh store for each test, on SQLite and, where a server is given, on PostgreSQL.

use std::future::Future;

use hubflight_store::{Member, Organisation, PersonProfile, Project, Store, StoreLimits};
use rust_decimal::Decimal;
use sqlx::migrate::MigrateDatabase;

/// Address of a PostgreSQL server on which databases may be made and dropped.
const POSTGRES: &str = "HUBFLIGHT_TEST_POSTGRES_URL";

/// Runs the test on a new store of each kind.
pub fn on_each_store<F, T>(name: &str, test: F)
where
    F: Fn(Store) -> T,
    T: Future<Output = ()>,
{
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a hub?#%.db");
    runtime.block_on(async {
        let store = Store::open(&format!("sqlite://{}", path.display()))
            .await
            .unwrap();
        assert_eq!(store.sqlite_path(), Some(path.as_path()));
        test(store.clone()).await;
        store.close().await;
        assert!(path.is_file());
    });
    let Ok(server) = std::env::var(POSTGRES) else {
        println!("{name}: skipped on PostgreSQL, {POSTGRES} is not set");
        return;
    };
    runtime.block_on(async {
        let (head, _) = server.rsplit_once('/').unwrap();
        let url = format!("{head}/hubflight_test_{name}_{}", std::process::id());
        sqlx::any::install_default_drivers();
        sqlx::Any::create_database(&url).await.unwrap();
        let store = Store::open_with(&url, &StoreLimits::default())
            .await
            .unwrap();
        test(store.clone()).await;
        store.close().await;
        sqlx::Any::drop_database(&url).await.unwrap();
    });
}

pub fn project(id: &str, space_quota_bytes: i64) -> Project {
    Project {
        id: id.to_owned(),
        title: format!("Title of {id}"),
        purpose: "research".to_owned(),
        organisation: "chu".to_owned(),
        valid_from: "2026-01-01T00:00:00Z".parse().unwrap(),
        valid_to: "2027-01-01T00:00:00.000001Z".parse().unwrap(),
        space_quota_bytes,
        budget: Some(Decimal::new(12_345, 2)),
    }
}

/// Two persons, two projects; `ada` is a member of `p`.
pub async fn populate(store: &Store) {
    let organisation = Organisation {
        id: "chu".to_owned(),
        name: "CHU".to_owned(),
    };
    store.put_organisation(&organisation).await.unwrap();
    for id in ["ada", "bob"] {
        let profile = PersonProfile {
            id: id.to_owned(),
            name: id.to_uppercase(),
            active: true,
            is_admin: id == "bob",
        };
        store.put_person(&profile).await.unwrap();
    }
    for id in ["p", "q"] {
        store.put_project(&project(id, 1_000)).await.unwrap();
    }
    let member = Member {
        project: "p".to_owned(),
        person: "ada".to_owned(),
        role: "member".to_owned(),
    };
    store.put_member(&member).await.unwrap();
}
