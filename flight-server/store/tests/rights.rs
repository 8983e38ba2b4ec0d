//! The revision of rights: whatever ends a right raises it, in this process or another.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod common;

use chrono::{TimeDelta, Utc};
use common::{on_each_store, populate, project};
use hubflight_store::{
    Member, NewHabilitation, NewToken, Opposition, PersonProfile, Put, Store, StoreError,
};

/// Runs a change, and tells whether the revision grew.
async fn counted<T>(store: &Store, change: impl Future<Output = T>) -> (T, bool) {
    let before = store.rights_revision().await.unwrap();
    let done = change.await;
    (done, store.rights_revision().await.unwrap() > before)
}

#[test]
fn every_way_to_lose_a_right_is_counted() {
    on_each_store("revision", |store| async move {
        populate(&store).await;
        let token = NewToken {
            person: "ada".to_owned(),
            project: "p".to_owned(),
            name: String::new(),
            expires_at: Utc::now() + TimeDelta::hours(1),
        };
        // What gives more access to nobody who runs something is free to go uncounted.
        let issued = store.issue_token(&token).await.unwrap();
        let habilitation = |version| NewHabilitation {
            id: "h".to_owned(),
            version,
            project: "p".to_owned(),
            dataset: "snds".to_owned(),
            body: "{}".to_owned(),
        };
        store.put_habilitation(&habilitation(1)).await.unwrap();

        let (done, grew) = counted(&store, store.put_habilitation(&habilitation(2))).await;
        assert!(done.is_ok() && grew, "a newer version governs");
        let (done, grew) = counted(&store, store.revoke_habilitation("h")).await;
        assert!(done.is_ok() && grew, "habilitation");
        let (done, grew) = counted(&store, store.revoke_token(&issued.id, "ada")).await;
        assert!(done.is_ok() && grew, "token");
        let (done, grew) = counted(&store, store.raise_token_epoch("ada")).await;
        assert!(done.is_ok() && grew, "session");
        let (done, grew) = counted(&store, store.set_password("ada", "correct horse")).await;
        assert!(done.is_ok() && grew, "password");
        let disabled = PersonProfile {
            id: "ada".to_owned(),
            name: "Ada".to_owned(),
            active: false,
            is_admin: false,
        };
        let (done, grew) = counted(&store, store.put_person(&disabled)).await;
        assert!(done.is_ok() && grew, "person");
        let mut ended = project("p", 5);
        ended.valid_to = Utc::now();
        let (done, grew) = counted(&store, store.put_project(&ended)).await;
        assert!(done.is_ok() && grew, "project");
        let (done, grew) = counted(&store, store.remove_member("p", "ada")).await;
        assert!(done.is_ok() && grew, "membership");
        let member = Member {
            project: "p".to_owned(),
            person: "ada".to_owned(),
            role: "member".to_owned(),
        };
        let (done, grew) = counted(&store, store.put_member(&member)).await;
        assert!(done.is_ok() && grew, "a role may change");
    });
}

#[test]
fn a_change_is_counted_when_it_can_be_seen_and_not_before() {
    on_each_store("visible", |store| async move {
        populate(&store).await;
        let before = store.rights_revision().await.unwrap();
        let mut write = store.write().await.unwrap();
        sqlx::query("UPDATE persons SET active = 0 WHERE id = 'ada'")
            .execute(write.connection())
            .await
            .unwrap();
        assert_eq!(store.rights_revision().await.unwrap(), before);
        drop(write);
        assert_eq!(store.rights_revision().await.unwrap(), before);
        assert!(store.person("ada").await.unwrap().unwrap().active);
    });
}

#[test]
fn oppositions_are_entered_once_counted_and_ended() {
    on_each_store("oppositions", |store| async move {
        let entry = Opposition::new("person", "1 2'3").unwrap();
        let put = async || {
            let mut write = store.write().await.unwrap();
            let put = write.put_opposition(&entry).await.unwrap();
            write.commit().await.unwrap();
            put
        };
        let (put_first, grew) = counted(&store, put()).await;
        assert!(put_first == Put::Created && grew);
        let (put_again, _) = counted(&store, put()).await;
        assert_eq!(put_again, Put::Updated);
        let listed = store.oppositions().await.unwrap();
        assert_eq!((listed.len(), &listed[0].0), (1, &entry));
        assert!(!format!("{listed:?}").contains("2'3"), "it prints");

        let mut write = store.write().await.unwrap();
        let other = Opposition::new("patient", "1 2'3").unwrap();
        assert!(!write.remove_opposition(&other).await.unwrap());
        assert!(write.remove_opposition(&entry).await.unwrap());
        // Not committed: nothing has ended.
        drop(write);
        assert_eq!(store.oppositions().await.unwrap().len(), 1);
        for (domain, value) in [
            ("", "1"),
            ("person", ""),
            ("person", " 1"),
            ("person", "1\n"),
        ] {
            let refused = Opposition::new(domain, value);
            assert!(matches!(refused, Err(StoreError::Invalid { .. })));
        }
    });
}
