//! Persons, projects, habilitations, passwords and tokens.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod common;

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use common::{on_each_store, populate, project};
use hubflight_store::{
    Member, NewHabilitation, NewToken, PersonProfile, Put, Store, StoreError, TokenHolder,
    VisibleSize,
};

/// Whom a token stands for.
async fn verified(store: &Store, text: &str, now: DateTime<Utc>) -> Option<TokenHolder> {
    let rights = store.rights().await.unwrap();
    rights.verify_token(text, now).await.unwrap()
}

async fn holder_of(store: &Store, id: &str, now: DateTime<Utc>) -> Option<TokenHolder> {
    let rights = store.rights().await.unwrap();
    rights.token_holder(id, now).await.unwrap()
}

#[test]
fn people_projects_members() {
    on_each_store("people", |store| async move {
        populate(&store).await;
        let ada = store.person("ada").await.unwrap().unwrap();
        assert_eq!(
            (ada.name.as_str(), ada.active, ada.is_admin),
            ("ADA", true, false)
        );
        assert!(!ada.has_password);
        assert!(store.person("nobody").await.unwrap().is_none());
        assert_eq!(
            store.projects_of("ada").await.unwrap(),
            [project("p", 1_000)]
        );
        assert!(store.projects_of("bob").await.unwrap().is_empty());
        assert_eq!(store.persons().await.unwrap().len(), 2);
        assert_eq!(store.organisations().await.unwrap().len(), 1);

        let changed = project("p", 5);
        assert_eq!(store.put_project(&changed).await.unwrap(), Put::Updated);
        assert_eq!(store.project("p").await.unwrap(), Some(changed));
        assert_eq!(store.projects().await.unwrap().len(), 2);
        let mut orphan = project("r", 5);
        orphan.organisation = "none".to_owned();
        let refused = store.put_project(&orphan).await;
        assert!(matches!(
            refused,
            Err(StoreError::NotFound {
                what: "organisation",
                ..
            })
        ));

        let lead = Member {
            project: "p".to_owned(),
            person: "ada".to_owned(),
            role: "lead".to_owned(),
        };
        assert_eq!(store.put_member(&lead).await.unwrap(), Put::Updated);
        assert_eq!(store.members(None).await.unwrap(), [lead]);
        assert!(store.members(Some("q")).await.unwrap().is_empty());
        store.remove_member("p", "ada").await.unwrap();
        assert!(store.remove_member("p", "ada").await.is_err());
        assert!(store.projects_of("ada").await.unwrap().is_empty());
    });
}

/// A server that starts again writes the persons of its file; what an administrator decides at
/// the same time must not be undone by it.
#[test]
fn a_name_that_is_written_again_changes_nothing_but_the_name() {
    on_each_store("renamed", |store| async move {
        populate(&store).await;
        let stale = PersonProfile {
            id: "bob".to_owned(),
            name: "Bob the second".to_owned(),
            active: true,
            is_admin: false,
        };
        let mut write = store.change_rights().await.unwrap();
        write.set_active("bob", false).await.unwrap();
        assert!(write.set_active("nobody", true).await.is_err());
        // Another who changes rights waits for this one.
        let renaming = store.put_person(&stale);
        tokio::pin!(renaming);
        let early = tokio::time::timeout(Duration::from_millis(200), &mut renaming).await;
        assert!(early.is_err(), "it did not wait");
        write.commit().await.unwrap();
        assert_eq!(renaming.await.unwrap(), Put::Updated);
        let bob = store.person("bob").await.unwrap().unwrap();
        assert_eq!(
            (bob.name.as_str(), bob.active, bob.is_admin),
            ("Bob the second", false, true)
        );
        let mut write = store.change_rights().await.unwrap();
        assert_eq!(write.add_person(&stale).await.unwrap(), Put::Updated);
        assert_eq!(write.administrators().await.unwrap(), [bob]);
        drop(write);
    });
}

#[test]
fn habilitations_are_versioned_and_immutable() {
    let new = |version, project: &str, body: &str| NewHabilitation {
        id: "h1".to_owned(),
        version,
        project: project.to_owned(),
        dataset: "snds".to_owned(),
        body: body.to_owned(),
    };
    on_each_store("habilitations", |store| async move {
        populate(&store).await;
        let put = |h| {
            let store = &store;
            async move { store.put_habilitation(&h).await }
        };
        assert_eq!(put(new(1, "p", "{}")).await.unwrap(), Put::Created);
        assert_eq!(put(new(1, "p", "{}")).await.unwrap(), Put::Updated);
        for refused in [new(1, "p", "{\"a\":1}"), new(2, "q", "{}")] {
            assert!(matches!(
                put(refused).await,
                Err(StoreError::Immutable { .. })
            ));
        }
        for refused in [new(3, "p", "{}"), new(0, "p", "{}")] {
            assert!(matches!(
                put(refused).await,
                Err(StoreError::Invalid { .. })
            ));
        }
        assert_eq!(put(new(2, "p", "{\"a\":2}")).await.unwrap(), Put::Created);
        // Both were decided on: which of them governs depends on what they say.
        let decided = store.habilitations_of("p").await.unwrap();
        let bodies: Vec<_> = decided.iter().map(|row| row.body.as_str()).collect();
        assert_eq!(bodies, ["{}", "{\"a\":2}"]);
        assert!(store.habilitations_of("q").await.unwrap().is_empty());
        // Not even a statement of our own may change a version.
        let changed = sqlx::query("UPDATE habilitations SET body = '[]'")
            .execute(store.pool())
            .await;
        assert!(changed.is_err());
        let revoked = async || -> Vec<bool> {
            let rows = store.habilitations_of("p").await.unwrap();
            rows.iter().map(|row| row.revoked_at.is_some()).collect()
        };
        let mut write = store.write().await.unwrap();
        write.revoke_version("h1", 1).await.unwrap();
        assert!(write.revoke_version("h1", 1).await.is_err(), "only once");
        assert!(write.revoke_version("h1", 3).await.is_err(), "no such");
        write.commit().await.unwrap();
        assert_eq!(revoked().await, [true, false]);
        store.revoke_habilitation("h1").await.unwrap();
        assert_eq!(revoked().await, [true, true]);
        assert_eq!(store.habilitations().await.unwrap().len(), 2);
        assert!(store.revoke_habilitation("h1").await.is_err());
    });
}

#[test]
fn passwords() {
    on_each_store("passwords", |store| async move {
        populate(&store).await;
        let before = store.person("ada").await.unwrap().unwrap();
        store.set_password("ada", "correct horse").await.unwrap();
        let ada = store
            .verify_password("ada", "correct horse")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(ada.token_epoch, before.token_epoch + 1);
        for (person, password) in [
            ("ada", "wrong horse"),
            ("ada", ""),
            ("bob", "correct horse"),
            ("nobody", "correct horse"),
            ("ada", "correct horse\0"),
        ] {
            assert_eq!(store.verify_password(person, password).await.unwrap(), None);
        }
        let long = "x".repeat(1024);
        store.set_password("bob", &long).await.unwrap();
        assert!(store.verify_password("bob", &long).await.unwrap().is_some());
        assert!(
            store
                .verify_password("bob", &format!("{long}x"))
                .await
                .unwrap()
                .is_none()
        );
        for refused in ["short", &format!("{long}x")] {
            assert!(matches!(
                store.set_password("bob", refused).await,
                Err(StoreError::Invalid { .. })
            ));
        }
        assert!(matches!(
            store.set_password("nobody", "correct horse").await,
            Err(StoreError::NotFound { .. })
        ));
        let mut write = store.write().await.unwrap();
        write.set_active("ada", false).await.unwrap();
        write.commit().await.unwrap();
        assert_eq!(
            store.verify_password("ada", "correct horse").await.unwrap(),
            None
        );
        store.raise_token_epoch("ada").await.unwrap();
        assert_eq!(
            store.person("ada").await.unwrap().unwrap().token_epoch,
            ada.token_epoch + 1
        );
    });
}

#[test]
fn an_unknown_person_takes_as_long_as_a_wrong_password() {
    on_each_store("timing", |store| async move {
        populate(&store).await;
        store.set_password("ada", "correct horse").await.unwrap();
        // The best of alternate tries, which other work on the machine disturbs least.
        let mut best = [Duration::MAX; 2];
        for _ in 0..20 {
            for (best, person) in best.iter_mut().zip(["ada", "nobody"]) {
                let start = Instant::now();
                store.verify_password(person, "a wrong one").await.unwrap();
                *best = start.elapsed().min(*best);
            }
        }
        let [wrong, unknown] = best;
        println!("wrong password {wrong:?}, unknown person {unknown:?}");
        let ratio = wrong.as_secs_f64() / unknown.as_secs_f64();
        assert!((0.5..2.0).contains(&ratio), "{wrong:?} and {unknown:?}");
    });
}

#[test]
fn tokens() {
    on_each_store("tokens", |store| async move {
        populate(&store).await;
        let now = Utc::now();
        let new = |person: &str, minutes| NewToken {
            person: person.to_owned(),
            project: "p".to_owned(),
            name: "laptop".to_owned(),
            expires_at: now + TimeDelta::minutes(minutes),
        };
        let issued = store.issue_token(&new("ada", 5)).await.unwrap();
        let text = issued.text.as_str();
        assert!(text.starts_with(&format!("hubpat_{}_", issued.id)));
        assert!(!format!("{issued:?}").contains(text));
        let holder = verified(&store, text, now).await.unwrap();
        assert_eq!(
            (holder.person.as_str(), holder.project.as_str()),
            ("ada", "p")
        );
        assert!(
            store.issue_token(&new("bob", 5)).await.is_err(),
            "not a member"
        );

        let again = holder_of(&store, &issued.id, now).await;
        assert_eq!(again, Some(holder));
        assert_eq!(holder_of(&store, "", now).await, None);

        let other = store.issue_token(&new("ada", 5)).await.unwrap();
        let secret = text.rsplit_once('_').unwrap().1;
        for bad in [
            "",
            "hubpat__",
            &text[..text.len() - 1],
            &format!("{text}a"),
            &format!("hubpat_{}_{secret}", other.id),
            &text.replace("hubpat", "hubpar"),
            &"é".repeat(100_000),
        ] {
            assert_eq!(verified(&store, bad, now).await, None, "{bad:.80}");
        }
        let late = now + TimeDelta::minutes(5);
        assert_eq!(verified(&store, text, late).await, None, "expired");
        assert_eq!(holder_of(&store, &issued.id, late).await, None);

        assert!(
            store.revoke_token(&issued.id, "bob").await.is_err(),
            "another's token"
        );
        store.revoke_token(&issued.id, "ada").await.unwrap();
        assert_eq!(verified(&store, text, now).await, None, "revoked");
        assert_eq!(holder_of(&store, &issued.id, now).await, None);
        assert!(verified(&store, &other.text, now).await.is_some());
        store.remove_member("p", "ada").await.unwrap();
        assert_eq!(verified(&store, &other.text, now).await, None, "left");
        assert_eq!(holder_of(&store, &other.id, now).await, None);
        assert_eq!(store.tokens(Some("ada")).await.unwrap().len(), 2);
        assert_eq!(store.tokens(None).await.unwrap().len(), 2);
        let stored: Vec<Vec<u8>> = sqlx::query_scalar("SELECT hash FROM tokens")
            .fetch_all(store.pool())
            .await
            .unwrap();
        assert!(stored.iter().all(|hash| hash.len() == 32));
    });
}

#[test]
fn visible_sizes() {
    on_each_store("sizes", |store| async move {
        let of = VisibleSize {
            dataset: "snds",
            version: 3,
            view_digest: "ab",
            table: "er_prs_f",
            column: "ben_idt",
        };
        assert_eq!(store.visible_size(of).await.unwrap(), None);
        let other = VisibleSize { version: 4, ..of };
        store
            .put_visible_sizes(&[(of, 7), (other, u64::MAX)])
            .await
            .unwrap();
        store.put_visible_sizes(&[(of, 8)]).await.unwrap();
        assert_eq!(store.visible_size(of).await.unwrap(), Some(7));
        let more = [("ben_nir", "er_prs_f"), ("ben_idt", "ir_ben_r")];
        for (column, table) in more {
            let size = VisibleSize {
                column,
                table,
                ..of
            };
            store.put_visible_sizes(&[(size, 9)]).await.unwrap();
        }
        let elsewhere = VisibleSize {
            view_digest: "cd",
            ..of
        };
        store.put_visible_sizes(&[(elsewhere, 1)]).await.unwrap();
        let all = store.visible_sizes("snds", 3).await.unwrap();
        let mut found = Vec::new();
        for (table, views) in &all {
            for (digest, columns) in views {
                let columns = columns.iter();
                found.extend(columns.map(|(column, bytes)| {
                    (table.as_str(), digest.as_str(), column.as_str(), *bytes)
                }));
            }
        }
        found.sort_unstable();
        let expected = [
            ("er_prs_f", "ab", "ben_idt", 7_u64),
            ("er_prs_f", "ab", "ben_nir", 9),
            ("er_prs_f", "cd", "ben_idt", 1),
            ("ir_ben_r", "ab", "ben_idt", 9),
        ];
        assert_eq!(found, expected);
        for (dataset, version) in [("snds", 5), ("others", 3)] {
            let none = store.visible_sizes(dataset, version).await.unwrap();
            assert!(none.is_empty(), "{dataset} {version}");
        }
        assert_eq!(
            store.visible_size(other).await.unwrap(),
            Some(i64::MAX as u64)
        );
    });
}
