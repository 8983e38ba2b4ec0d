//! The revision of rights: whatever ends a right raises it, in this process or another.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod common;

use std::collections::BTreeSet;

use chrono::{TimeDelta, TimeZone, Utc};
use common::{on_each_store, populate, project};
use hubflight_store::{
    AdminRole, Backend, Identity, Login, Member, NewHabilitation, NewToken, Opposition, Put, Store,
    StoreError,
};

/// Runs a change, and tells whether the revision grew.
async fn counted<T>(store: &Store, change: impl Future<Output = T>) -> (T, bool) {
    let before = store.rights_revision().await.unwrap();
    let done = change.await;
    (done, store.rights_revision().await.unwrap() > before)
}

/// Whether a change is counted by the store itself: its transaction is a plain one, which
/// counts nothing.
macro_rules! counts {
    ($store:expr, $write:ident => $change:expr) => {{
        let change = async {
            let mut $write = $store.write().await.unwrap();
            $change.await.unwrap();
            $write.commit().await.unwrap();
        };
        counted(&$store, change).await.1
    }};
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
        let (newer, id) = (habilitation(2), issued.id.as_str());
        assert!(
            counts!(store, write => write.put_habilitation(&newer)),
            "a newer version governs"
        );
        assert!(
            counts!(store, write => write.revoke_version("h", 1)),
            "version"
        );
        assert!(
            counts!(store, write => write.revoke_habilitation("h")),
            "habilitation"
        );
        assert!(counts!(store, write => write.revoke_token(id, "ada")));
        let identity = Identity::certificate(&[7; 32]);
        let mut write = store.write().await.unwrap();
        write.add_identity(&identity, "ada").await.unwrap();
        write.commit().await.unwrap();
        assert!(counts!(store, write => write.remove_identity(&identity)));
        assert!(counts!(store, write => write.raise_token_epoch("ada")));
        let hashed = store.hash_password("correct horse").await.unwrap();
        assert!(!format!("{hashed:?}").contains("argon2"), "it prints");
        assert!(counts!(store, write => write.set_password("ada", &hashed)));
        assert!(counts!(store, write => write.set_active("ada", false)));
        let mut ended = project("p", 5);
        ended.valid_to = Utc::now();
        assert!(counts!(store, write => write.put_project(&ended)));
        assert!(
            counts!(store, write => write.remove_member("p", "ada")),
            "membership"
        );
        let member = Member {
            project: "p".to_owned(),
            person: "ada".to_owned(),
            role: "member".to_owned(),
        };
        assert!(
            counts!(store, write => write.put_member(&member)),
            "a role may change, and a confirmation end"
        );
    });
}

/// What a store says of rights, kept from before or read now.
async fn told(store: &Store, kept: bool) -> String {
    let identity = Identity::certificate(&[7; 32]);
    let rights = store.rights().await.unwrap();
    let now = Utc::now();
    let (mut persons, mut projects, mut exports) = (Vec::new(), Vec::new(), Vec::new());
    for id in ["ada", "bob"] {
        persons.push(match kept {
            true => (
                rights.person(id).await.unwrap(),
                rights.admin_roles(id).await.unwrap(),
            ),
            false => (
                store.person(id).await.unwrap(),
                store.admin_roles(id).await.unwrap(),
            ),
        });
        projects.push(match kept {
            true => rights.projects_of(id).await.unwrap().to_vec(),
            false => store.projects_of(id).await.unwrap(),
        });
    }
    let stands_for = match kept {
        true => rights.person_of_identity(&identity).await.unwrap(),
        false => store.person_of_identity(&identity).await.unwrap(),
    };
    let habilitations = match kept {
        true => rights.habilitations_of("p").await.unwrap().to_vec(),
        false => store.habilitations_of("p").await.unwrap(),
    };
    exports.extend(match kept {
        true => rights.open_exports("p", now).await.unwrap(),
        false => store.exports(Some("p")).await.unwrap(),
    });
    exports.retain(|export| export.is_open(now));
    format!("{persons:?} {projects:?} {stands_for:?} {habilitations:?} {exports:?}")
}

/// Every change below is made as another process would, in a transaction that counts nothing
/// itself.
#[test]
fn what_is_kept_of_rights_is_what_is_there() {
    on_each_store("kept", |store| async move {
        populate(&store).await;
        let mut write = store.write().await.unwrap();
        write
            .add_identity(&Identity::certificate(&[7; 32]), "ada")
            .await
            .unwrap();
        write.commit().await.unwrap();
        let export = "INSERT INTO exports (id, project, name, purpose, statement_id, \
                      requested_by, requested_at, row_count, byte_count, digest, schema_ipc, \
                      findings, labels, state, expires_at) SELECT 'e', 'p', 'n', '', '', 'ada', \
                      0, 1, 1, s.digest, s.digest, '[]', '{}', 'released', 9000000000000000 \
                      FROM (SELECT CAST('0123456789abcdef0123456789abcdef' AS %) AS digest) s";
        let bytes = match store.backend() {
            Backend::Sqlite => "BLOB",
            Backend::Postgres => "BYTEA",
        };
        let export = export.replace('%', bytes);
        let changes = [
            "UPDATE persons SET name = 'Ada L.' WHERE id = 'ada'",
            "UPDATE persons SET password_hash = 'h' WHERE id = 'ada'",
            "UPDATE persons SET token_epoch = 7 WHERE id = 'ada'",
            "INSERT INTO admin_roles (person, role) VALUES ('bob', 'billing')",
            "UPDATE admin_roles SET role = 'audit' WHERE person = 'bob'",
            "DELETE FROM admin_roles",
            "UPDATE persons SET is_admin = 0 WHERE id = 'bob'",
            "UPDATE persons SET active = 0 WHERE id = 'bob'",
            "INSERT INTO members (project, person, role) VALUES ('q', 'ada', 'member')",
            "UPDATE projects SET title = 't' WHERE id = 'q'",
            "UPDATE projects SET purpose = 'u' WHERE id = 'q'",
            "UPDATE projects SET organisation = 'other' WHERE id = 'q'",
            "UPDATE projects SET space_quota_bytes = 1 WHERE id = 'q'",
            "UPDATE projects SET budget = '3' WHERE id = 'q'",
            "UPDATE projects SET valid_from = 1 WHERE id = 'q'",
            "UPDATE projects SET valid_to = 2 WHERE id = 'q'",
            "DELETE FROM members WHERE project = 'q'",
            "INSERT INTO habilitations (id, version, project, dataset, body, created_at) \
             VALUES ('h', 1, 'p', 'snds', '{}', 0)",
            "UPDATE habilitations SET revoked_at = 5 WHERE id = 'h'",
            &export,
            "UPDATE exports SET state = 'withdrawn' WHERE id = 'e'",
            "UPDATE identities SET person = 'bob'",
            "DELETE FROM identities",
        ];
        let organisation = "INSERT INTO organisations (id, name) VALUES ('other', 'Other')";
        sqlx::query(organisation)
            .execute(store.pool())
            .await
            .unwrap();
        let mut before = told(&store, true).await;
        assert_eq!(before, told(&store, false).await);
        for change in changes {
            let mut write = store.write().await.unwrap();
            sqlx::query(sqlx::AssertSqlSafe(change.to_owned()))
                .execute(write.connection())
                .await
                .unwrap();
            assert_eq!(told(&store, true).await, before, "{change}: not yet");
            write.commit().await.unwrap();
            let kept = told(&store, true).await;
            assert_ne!(kept, before, "{change}: kept from before");
            assert_eq!(kept, told(&store, false).await, "{change}");
            before = kept;
        }
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

#[test]
fn only_a_person_who_exists_is_unlocked() {
    on_each_store("unlock", |store| async move {
        populate(&store).await;
        assert_eq!(store.login("ada").await.unwrap(), Login::default());
        assert_eq!(store.login("nobody").await.unwrap(), Login::default());
        // The store keeps microseconds.
        let now = Utc.timestamp_micros(Utc::now().timestamp_micros()).unwrap();
        for _ in 0..2 {
            let mut write = store.write().await.unwrap();
            write.unlock("ada", now).await.unwrap();
            write.commit().await.unwrap();
        }
        assert_eq!(store.login("ada").await.unwrap().unlocked_at, Some(now));
        let mut write = store.write().await.unwrap();
        let refused = write.unlock("nobody", now).await;
        assert!(matches!(refused, Err(StoreError::NotFound { .. })));
    });
}

#[test]
fn a_step_is_taken_once_and_never_an_older_one() {
    on_each_store("totp", |store| async move {
        populate(&store).await;
        let take = async |step| store.take_totp_step("ada", step, b"sealed").await.unwrap();
        assert!(!take(5).await, "no factor");
        let epoch = store.person("ada").await.unwrap().unwrap().token_epoch;
        let mut write = store.write().await.unwrap();
        write.set_totp("ada", Some(b"sealed")).await.unwrap();
        write.commit().await.unwrap();
        let login = store.login("ada").await.unwrap();
        assert_eq!(login.totp_sealed.as_deref(), Some(&b"sealed"[..]));
        let raised = store.person("ada").await.unwrap().unwrap().token_epoch;
        assert_eq!(raised, epoch + 1);
        for (step, taken) in [(5, true), (5, false), (4, false), (6, true), (6, false)] {
            assert_eq!(take(step).await, taken, "{step}");
        }
        let (one, two) = tokio::join!(take(7), take(7));
        assert_ne!(one, two, "one of two at once");
        // A code of a secret that was replaced while the password was hashed.
        let other = store.take_totp_step("ada", 8, b"other").await.unwrap();
        assert!(!other, "another secret");
        let mut write = store.write().await.unwrap();
        write.set_totp("ada", None).await.unwrap();
        let refused = write.set_totp("nobody", None).await;
        assert!(matches!(refused, Err(StoreError::NotFound { .. })));
        write.commit().await.unwrap();
        assert!(!take(9).await, "taken away");
    });
}

#[test]
fn roles_are_given_taken_and_end_with_the_person() {
    on_each_store("roles", |store| async move {
        populate(&store).await;
        let set = async |person: &str, roles: &[AdminRole]| {
            let mut write = store.write().await.unwrap();
            let roles = roles.iter().copied().collect::<BTreeSet<_>>();
            let done = write.set_admin_roles(person, &roles).await;
            write.commit().await.unwrap();
            done
        };
        set("ada", &[AdminRole::Audit, AdminRole::People])
            .await
            .unwrap();
        let of_ada = store.admin_roles("ada").await.unwrap();
        assert!(of_ada.iter().eq(&[AdminRole::People, AdminRole::Audit]));
        assert!(store.person("ada").await.unwrap().unwrap().is_admin);
        // The flag alone gives nothing.
        assert!(store.person("bob").await.unwrap().unwrap().is_admin);
        assert!(store.admin_roles("bob").await.unwrap().is_empty());
        let (done, grew) = counted(&store, set("ada", &[AdminRole::Audit])).await;
        assert!(done.is_ok() && grew);
        assert_eq!(store.all_admin_roles().await.unwrap().len(), 1);
        assert!(counts!(store, write => write.set_active("ada", false)));
        assert!(store.admin_roles("ada").await.unwrap().is_empty());
        set("ada", &[]).await.unwrap();
        assert!(!store.person("ada").await.unwrap().unwrap().is_admin);
        let refused = set("nobody", &[AdminRole::Audit]).await;
        assert!(matches!(refused, Err(StoreError::NotFound { .. })));
    });
}

/// Habilitation `h` of project `p`.
fn draft(version: u32) -> NewHabilitation {
    NewHabilitation {
        id: "h".to_owned(),
        version,
        project: "p".to_owned(),
        dataset: "snds".to_owned(),
        body: format!("{{\"v\":{version}}}"),
    }
}

async fn enter(store: &Store, version: u32, person: &str) {
    let mut write = store.write().await.unwrap();
    let entered = write.enter_habilitation(&draft(version), person).await;
    assert_eq!(entered.unwrap(), Put::Created);
    write.commit().await.unwrap();
}

async fn confirm(store: &Store, version: u32, person: &str) -> bool {
    let mut write = store.write().await.unwrap();
    let confirmed = write.confirm_habilitation("h", version, person).await;
    write.commit().await.unwrap();
    confirmed.unwrap()
}

/// The versions that may be in force.
async fn confirmed(store: &Store) -> Vec<u32> {
    let rows = store.habilitations_of("p").await.unwrap();
    rows.iter()
        .filter(|row| row.revoked_at.is_none() && !row.confirmer_is_member)
        .map(|row| row.version)
        .collect()
}

#[test]
fn what_one_person_entered_a_second_one_confirms() {
    on_each_store("confirmation", |store| async move {
        populate(&store).await;
        let store = &store;
        enter(store, 1, "root").await;
        assert!(store.habilitations_of("p").await.unwrap().is_empty());
        assert!(!confirm(store, 1, "root").await, "who entered it");
        assert!(!confirm(store, 1, "ada").await, "a member");
        assert!(!confirm(store, 2, "bob").await, "no such version");
        assert!(confirm(store, 1, "bob").await);
        assert!(!confirm(store, 1, "eve").await, "confirmed before");
        assert_eq!(confirmed(store).await, [1]);
        // A draft ends nothing.
        enter(store, 2, "bob").await;
        assert_eq!(confirmed(store).await, [1]);
        // Nor does its confirmation: it may begin later.
        assert!(confirm(store, 2, "root").await);
        assert_eq!(confirmed(store).await, [1, 2]);
        // Revoked before it was confirmed.
        enter(store, 3, "bob").await;
        store.revoke_habilitation("h").await.unwrap();
        assert!(!confirm(store, 3, "root").await);
        assert!(confirmed(store).await.is_empty());
        // Not even a statement of our own may confirm for whoever entered it, or rewrite that.
        enter(store, 4, "bob").await;
        for sql in [
            "UPDATE habilitations SET confirmed_by = 'bob' WHERE version = 4",
            "UPDATE habilitations SET entered_by = NULL WHERE version = 4",
            "UPDATE habilitations SET confirmed_by = NULL WHERE version = 1",
            "UPDATE habilitations SET confirmed_by = 'eve' WHERE version = 1",
        ] {
            assert!(
                sqlx::query(sql).execute(store.pool()).await.is_err(),
                "{sql}"
            );
        }
        // The configuration's needs nobody else, and nobody can have confirmed it.
        store.put_habilitation(&draft(5)).await.unwrap();
        assert_eq!(confirmed(store).await, [5]);
        assert!(!confirm(store, 5, "root").await);
    });
}

#[test]
fn a_confirmation_does_not_count_while_its_giver_is_a_member() {
    on_each_store("confirmers", |store| async move {
        populate(&store).await;
        let store = &store;
        // Ada leaves, confirms, and comes back.
        enter(store, 1, "root").await;
        store.remove_member("p", "ada").await.unwrap();
        assert!(confirm(store, 1, "ada").await);
        assert_eq!(confirmed(store).await, [1]);
        let ada = Member {
            project: "p".to_owned(),
            person: "ada".to_owned(),
            role: "member".to_owned(),
        };
        store.put_member(&ada).await.unwrap();
        assert!(confirmed(store).await.is_empty());
        let rows = store.habilitations_of("p").await.unwrap();
        assert!(rows.len() == 1 && rows[0].confirmer_is_member, "{rows:?}");

        for refused in ["ada", "root"] {
            assert!(!confirm(store, 1, refused).await, "{refused}");
        }
        let erased = "UPDATE habilitations SET confirmed_by = NULL";
        assert!(sqlx::query(erased).execute(store.pool()).await.is_err());
        assert!(confirm(store, 1, "bob").await, "somebody else");
        assert_eq!(confirmed(store).await, [1]);
        assert!(!confirm(store, 1, "eve").await, "it counts again");
    });
}

#[test]
fn a_project_is_answered_so_often_a_day() {
    on_each_store("answers", |store| async move {
        populate(&store).await;
        let at = |hour| Utc.with_ymd_and_hms(2026, 11, 22, hour, 0, 0).unwrap();
        let take = async |hour, answers| {
            store
                .take_answers("p", at(hour), answers, 10)
                .await
                .unwrap()
        };
        assert!(!take(1, 11).await, "more than there are");
        assert!(take(1, 7).await);
        assert!(!take(2, 4).await, "more than are left");
        assert!(take(23, 3).await);
        assert!(!take(23, 1).await);
        let tomorrow = at(23) + TimeDelta::hours(1);
        assert!(store.take_answers("p", tomorrow, 10, 10).await.unwrap());
        // Together they take no more than there are.
        let many = (0..40).map(|_| store.take_answers("p", tomorrow + TimeDelta::days(1), 1, 10));
        let taken = futures::future::join_all(many).await;
        assert_eq!(
            taken
                .into_iter()
                .filter(|taken| *taken.as_ref().unwrap())
                .count(),
            10
        );
    });
}

#[test]
fn an_identity_stands_for_one_person() {
    on_each_store("identities", |store| async move {
        populate(&store).await;
        let at = |issuer: &str, subject: &str| Identity {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
        };
        let (ada, other) = (at("https://a.example", "7f"), at("https://b.example", "7f"));
        let mut write = store.change_rights().await.unwrap();
        write.add_identity(&ada, "ada").await.unwrap();
        write.commit().await.unwrap();
        let whom = async |identity: &Identity| {
            let person = store.person_of_identity(identity).await.unwrap();
            person.map(|person| person.id)
        };
        assert_eq!(whom(&ada).await.as_deref(), Some("ada"));
        for nobody in [&other, &at("https://a.example", "7F"), &at("", "7f")] {
            assert_eq!(whom(nobody).await, None, "{nobody:?}");
        }
        // It is nobody else's too, and stands for nobody who does not exist.
        for (identity, person) in [(&ada, "bob"), (&other, "eve")] {
            let mut write = store.change_rights().await.unwrap();
            write.add_identity(identity, person).await.unwrap_err();
        }
        let mut write = store.change_rights().await.unwrap();
        assert_eq!(
            write.identities().await.unwrap(),
            [(ada.clone(), "ada".to_owned())]
        );
        write.remove_identity(&ada).await.unwrap();
        assert!(write.remove_identity(&ada).await.is_err());
        write.commit().await.unwrap();
        assert_eq!(whom(&ada).await, None);
    });
}
