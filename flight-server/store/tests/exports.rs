//! Packages that are to leave the hub: who may decide, once, and what ends them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod common;

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use common::{on_each_store, populate};
use hubflight_store::{
    Export, ExportDecision, ExportState, Member, NewExport, Opposition, PersonProfile, Store,
    StoreError,
};

fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 6, 1, 12, 0, 0).unwrap()
}

fn package(id: &str, name: &str, state: ExportState) -> NewExport {
    NewExport {
        id: id.to_owned(),
        project: "p".to_owned(),
        name: name.to_owned(),
        purpose: "an article".to_owned(),
        statement_id: "s".to_owned(),
        requested_by: "ada".to_owned(),
        requested_at: now(),
        rows: 3,
        bytes: u64::MAX,
        digest: [7; 32],
        schema_ipc: vec![1, 2],
        findings: "[]".to_owned(),
        labels: "{}".to_owned(),
        state,
        expires_at: now() + TimeDelta::days(1),
    }
}

/// The packages that members may read.
async fn open(store: &Store, project: &str, at: DateTime<Utc>) -> Vec<Export> {
    let rights = store.rights().await.unwrap();
    rights.open_exports(project, at).await.unwrap()
}

async fn put(store: &Store, new: &NewExport) -> Result<(), StoreError> {
    let mut write = store.change_rights().await?;
    write.put_export(new).await?;
    write.commit().await
}

async fn export(store: &Store, id: &str) -> Export {
    let all = store.exports(Some("p")).await.unwrap();
    let found = all.into_iter().find(|export| export.package.id == id);
    found.unwrap()
}

async fn decide(
    store: &Store,
    id: &str,
    decision: ExportDecision,
    person: &str,
) -> Result<bool, StoreError> {
    let mut write = store.change_rights().await?;
    let decided = write.decide_export(id, decision, person, now()).await?;
    write.commit().await?;
    Ok(decided)
}

#[test]
fn a_package_is_kept_as_it_was_asked_for() {
    on_each_store("exports", |store| async move {
        populate(&store).await;
        let new = package("e1", "cells", ExportState::Waiting);
        put(&store, &new).await.unwrap();
        let kept = export(&store, "e1").await;
        let as_asked = NewExport {
            bytes: i64::MAX as u64,
            ..new.clone()
        };
        assert_eq!(kept.package, as_asked);
        assert_eq!((kept.decided_by, kept.decided_at), (None, None));
        // Another of the name has to wait for its end.
        let same = package("e2", "cells", ExportState::Released);
        let error = put(&store, &same).await.unwrap_err();
        assert!(matches!(error, StoreError::Exists { .. }), "{error}");
        let refused = package("e3", "cells", ExportState::Refused);
        put(&store, &refused).await.unwrap();
        assert!(store.exports(Some("q")).await.unwrap().is_empty());
        assert_eq!(store.exports(None).await.unwrap().len(), 2);
        let waiting = store.waiting_exports().await.unwrap();
        assert_eq!(waiting, [export(&store, "e1").await]);
        for sql in [
            "UPDATE exports SET digest = schema_ipc WHERE id = 'e1'",
            "UPDATE exports SET project = 'q' WHERE id = 'e1'",
            "UPDATE exports SET state = 'released' WHERE id = 'e1'",
            "UPDATE exports SET state = 'released', decided_by = 'ada' WHERE id = 'e1'",
            "UPDATE exports SET state = 'released', decided_by = 'bob' WHERE id = 'e3'",
            "UPDATE exports SET expires_at = expires_at + 1, state = 'expired' WHERE id = 'e1'",
            "DELETE FROM exports WHERE id = 'e1'",
        ] {
            let mut write = store.write().await.unwrap();
            let done = sqlx::query(sql).execute(write.connection()).await;
            assert!(done.is_err(), "{sql}");
        }
    });
}

#[test]
fn a_second_person_decides_once_and_is_no_member() {
    on_each_store("decides", |store| async move {
        populate(&store).await;
        for id in ["eve", "carol"] {
            let profile = PersonProfile {
                id: id.to_owned(),
                name: id.to_owned(),
                active: true,
                is_admin: true,
            };
            store.put_person(&profile).await.unwrap();
        }
        let member = |person: &str| Member {
            project: "p".to_owned(),
            person: person.to_owned(),
            role: "member".to_owned(),
        };
        store.put_member(&member("eve")).await.unwrap();
        let new = package("e1", "cells", ExportState::Waiting);
        put(&store, &new).await.unwrap();
        let until = now() + TimeDelta::days(7);
        let release = ExportDecision::Release { until };
        for person in ["ada", "eve"] {
            assert!(
                !decide(&store, "e1", release, person).await.unwrap(),
                "{person}"
            );
        }
        assert!(open(&store, "p", now()).await.is_empty());
        let before = store.rights_revision().await.unwrap();
        assert!(decide(&store, "e1", release, "bob").await.unwrap());
        assert!(store.rights_revision().await.unwrap() > before);
        let again = decide(&store, "e1", ExportDecision::Refuse, "carol").await;
        assert!(matches!(again, Err(StoreError::NotFound { .. })));
        let kept = export(&store, "e1").await;
        assert_eq!(kept.decided_by.as_deref(), Some("bob"));
        assert_eq!(kept.package.expires_at, until);

        let open_at = async |at| open(&store, "p", at).await.len();
        assert_eq!(open_at(now()).await, 1);
        assert_eq!(open_at(until).await, 0, "its time has come");
        assert_eq!(kept.state(until), ExportState::Expired);
        assert!(open(&store, "q", now()).await.is_empty());
        // A release does not count while its giver is a member.
        store.put_member(&member("bob")).await.unwrap();
        assert_eq!(open_at(now()).await, 0);
        store.remove_member("p", "bob").await.unwrap();
        assert_eq!(open_at(now()).await, 1);
    });
}

#[test]
fn what_ends_a_package_is_counted_as_a_right() {
    on_each_store("ends", |store| async move {
        populate(&store).await;
        for (id, state) in [("e1", ExportState::Released), ("e2", ExportState::Waiting)] {
            put(&store, &package(id, id, state)).await.unwrap();
        }
        let late = NewExport {
            requested_at: now() + TimeDelta::hours(1),
            expires_at: now() + TimeDelta::days(9),
            ..package("e3", "e3", ExportState::Released)
        };
        put(&store, &late).await.unwrap();
        let mut write = store.write().await.unwrap();
        let counts = write.export_counts("p", now()).await.unwrap();
        assert_eq!((counts.open, counts.released_alone), (3, 1));
        assert!(!write.opposed_since(now()).await.unwrap());
        let entry = Opposition::new("person", "1").unwrap();
        write.put_opposition(&entry).await.unwrap();
        assert!(
            write
                .opposed_since(now() - TimeDelta::days(9999))
                .await
                .unwrap()
        );

        let before = store.rights_revision().await.unwrap();
        assert!(write.withdraw_export("e3").await.unwrap());
        assert!(!write.withdraw_export("e3").await.unwrap(), "once");
        assert!(!write.withdraw_export("e9").await.unwrap());
        let due = write
            .expire_exports(now() + TimeDelta::days(1))
            .await
            .unwrap();
        let due: Vec<&str> = due
            .iter()
            .map(|export| export.package.id.as_str())
            .collect();
        assert_eq!(due, ["e1", "e2"]);
        let again = write
            .expire_exports(now() + TimeDelta::days(2))
            .await
            .unwrap();
        assert!(again.is_empty());
        write.commit().await.unwrap();
        assert!(store.rights_revision().await.unwrap() > before);
        assert!(open(&store, "p", now()).await.is_empty());
        // Their names are free again.
        put(&store, &package("e4", "e1", ExportState::Waiting))
            .await
            .unwrap();
    });
}
