//! What a hub opens, and what is in force in it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta};
use hubflight_ledger::{Filter, Page};
use hubflight_rights::habilitation::Habilitation;
use hubflight_rights::{Action, Asker, Decision, Denial, Zone};
use hubflight_store::{HabilitationRow, NewHabilitation, Rights, StoreError};

use super::*;
use crate::access::{Access, Asking};
use crate::rig::{SHOP, ada, asker, inside, open_hub};
use crate::rules;

async fn opened() -> (Arc<Hub>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("folder");
    fs::create_dir(folder.path().join("data")).expect("folder");
    fs::write(folder.path().join("data/sales.csv"), "item\na\n").expect("written");
    (open_hub(folder.path(), SHOP).await, folder)
}

async fn rights(hub: &Hub) -> Rights<'_> {
    hub.store.rights().await.expect("read")
}

/// What `who` asks for from inside.
fn asking(who: &Asker, at: DateTime<Utc>) -> Asking<'_> {
    static INSIDE: LazyLock<Zone> = LazyLock::new(inside);
    Asking {
        who,
        project: "p",
        zone: &INSIDE,
        at,
    }
}

fn state_in(folder: &Path) -> Config {
    let mut config = Config::default();
    config.server.state = folder.to_owned();
    config
}

fn mode_of(folder: &Path) -> u32 {
    let permissions = fs::metadata(folder).expect("there").permissions();
    permissions.mode() & 0o7777
}

#[tokio::test]
async fn a_state_folder_that_others_can_open_is_closed_or_refused() {
    let folder = tempfile::tempdir().expect("folder");
    for open in [0o755, 0o750, 0o701, 0o770] {
        fs::set_permissions(folder.path(), Permissions::from_mode(open)).expect("opened");
        open_store(&state_in(folder.path())).await.expect("opens");
        assert_eq!(mode_of(folder.path()), 0o700, "{open:o}");
    }
    // Everybody's on purpose, or nobody's to close.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).expect("shared");
    let mut refused = vec![folder.path()];
    if cfg!(target_os = "linux") {
        refused.push(Path::new("/proc/self"));
    }
    for place in refused {
        let error = open_store(&state_in(place)).await.expect_err("refused");
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }
    assert_eq!(mode_of(folder.path()), 0o1777);
}

#[tokio::test]
async fn a_store_opens_with_its_own_secret_only() {
    let folder = tempfile::tempdir().expect("folder");
    let config = state_in(&folder.path().join("state"));
    let key = config.server.state.join("master.key");
    let (store, secrets) = open_store(&config).await.expect("opens");
    store.close().await;
    let text = fs::read_to_string(&key).expect("a secret");

    fs::remove_file(&key).expect("lost");
    let error = open_store(&config).await.expect_err("lost").to_string();
    assert!(error.contains("backup"), "{error}");
    assert!(!key.exists(), "another was made in its place");

    let other: String = text.chars().rev().collect();
    fs::write(&key, other.trim()).expect("written");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("private");
    let error = open_store(&config).await.expect_err("another's");
    assert!(error.to_string().contains("does not belong"), "{error}");

    fs::write(&key, text).expect("put back");
    let (_, again) = open_store(&config).await.expect("opens");
    assert_eq!(secrets.derive("tickets"), again.derive("tickets"));
}

/// Version 2 of the habilitation, entered by `root` and confirmed by `zoe`.
async fn confirm_next(
    hub: &Hub,
    edit: impl FnOnce(&mut Habilitation),
) -> std::result::Result<(), StoreError> {
    let mut write = hub.store.change_rights().await?;
    let rows: Vec<HabilitationRow> = write.habilitations().await?;
    let newest = rows.last().expect("a version");
    let mut next: Habilitation = serde_json::from_str(&newest.body).expect("a body");
    next.version = newest.version + 1;
    edit(&mut next);
    let new = NewHabilitation {
        id: next.id.clone(),
        version: next.version,
        project: "p".into(),
        dataset: "shop".into(),
        body: serde_json::to_string(&next).expect("writes"),
    };
    write.enter_habilitation(&new, "root").await?;
    assert!(
        write
            .confirm_habilitation(&new.id, new.version, "zoe")
            .await?
    );
    write.commit().await
}

#[tokio::test]
async fn a_renewal_that_begins_later_leaves_the_current_right_open() {
    let (hub, _folder) = opened().await;
    let now = Utc::now();
    let begins = now + TimeDelta::days(30);
    confirm_next(&hub, |next| next.valid_from = begins)
        .await
        .expect("confirmed");
    let versions = async |at: DateTime<Utc>| -> (Vec<u32>, Option<DateTime<Utc>>) {
        let (access, next) = hub
            .access(&rights(&hub).await, asking(&ada(), at))
            .await
            .expect("read");
        let rights = access.iter().filter_map(|(_, access)| access.open());
        (rights.map(|right| right.version).collect(), next)
    };
    assert_eq!(versions(now).await, (vec![1], Some(begins)));
    assert_eq!(versions(begins).await, (vec![2], None));

    // One that has begun governs, also where it opens less or has lost its confirmation.
    confirm_next(&hub, |next| next.valid_from = now)
        .await
        .expect("confirmed");
    assert_eq!(versions(now).await.0, [3]);
    let member = hubflight_store::Member {
        project: "p".into(),
        person: "zoe".into(),
        role: "member".into(),
    };
    let mut write = hub.store.change_rights().await.expect("begins");
    let zoe = hubflight_store::PersonProfile {
        id: "zoe".into(),
        name: "Zoe".into(),
        active: true,
        is_admin: false,
    };
    write.add_person(&zoe).await.expect("added");
    write.put_member(&member).await.expect("a member");
    write.commit().await.expect("committed");
    assert!(versions(now).await.0.is_empty());

    // What is revoked is so for calls that began before, too.
    hub.store.remove_member("p", "zoe").await.expect("removed");
    assert_eq!(versions(now).await.0, [3]);
    hub.store
        .revoke_habilitation("p.shop")
        .await
        .expect("revoked");
    let earlier = now + TimeDelta::microseconds(1);
    for at in [earlier, begins] {
        assert!(versions(at).await.0.is_empty(), "{at}");
    }
}

/// A hub whose operator forbids.
async fn ruled(policies: &str) -> (Arc<Hub>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("folder");
    fs::create_dir(folder.path().join("data")).expect("folder");
    fs::write(folder.path().join("data/sales.csv"), "item\na\n").expect("written");
    fs::write(folder.path().join("operator.cedar"), policies).expect("written");
    let text = format!("{SHOP}[policies]\nfiles = ['operator.cedar']\n");
    (open_hub(folder.path(), &text).await, folder)
}

#[tokio::test]
async fn an_operator_forbids_by_person_time_and_action() {
    let (hub, _folder) = ruled(
        r#"
        @id("not-eve") forbid (principal == Person::"eve", action, resource);
        @id("past") forbid (principal, action == Action::"read_rows", resource == Dataset::"shop")
        when { context.now >= datetime("2100-01-01") };
        @id("kept") forbid (principal, action == Action::"export", resource)
        unless { context.login.second_factor };
        "#,
    )
    .await;
    let now = Utc::now();
    let later = DateTime::parse_from_rfc3339("2100-01-01T00:00:00Z").expect("a time");
    let later = later.to_utc();
    let access = async |who: &Asker, at: DateTime<Utc>| {
        let (access, _) = hub
            .access(&rights(&hub).await, asking(who, at))
            .await
            .expect("read");
        access.into_iter().next().expect("a dataset").1
    };
    let by = |id: &str| Denial::Rule {
        ids: vec![id.to_owned()],
    };
    let instant = TimeDelta::nanoseconds(1);
    for at in [now, later - instant] {
        assert!(access(&ada(), at).await.open().is_some(), "{at}");
    }
    // At night, so to say, she still sees which tables there are.
    let at_night = access(&ada(), later).await;
    assert!(
        matches!(&at_night, Access::Listed(_, denial) if *denial == by("past")),
        "{at_night:?}"
    );
    assert_eq!(
        access(&asker("eve", &["p"]), now).await,
        Access::Closed(by("not-eve"))
    );
    // Who is no member is told nothing, whatever else forbids.
    let mut stranger = asker("eve", &["p"]);
    stranger.projects.clear();
    assert_eq!(
        access(&stranger, now).await,
        Access::Closed(Denial::NoHabilitation)
    );

    let mut who = ada();
    let may = async |who: &Asker, dataset: &str| {
        let may = hub
            .may(
                &rights(&hub).await,
                asking(who, now),
                dataset,
                Action::Export,
            )
            .await;
        may.expect("read")
    };
    assert_eq!(may(&who, "shop").await, Decision::Deny(by("kept")));
    who.login.second_factor = true;
    assert!(matches!(may(&who, "shop").await, Decision::Allow(_)));
    assert_eq!(
        may(&who, "shoe").await,
        Decision::Deny(Denial::NoHabilitation)
    );
}

#[tokio::test]
async fn a_change_of_the_policies_is_in_the_audit_once() {
    let (hub, folder) =
        ruled(r#"@id("a") forbid (principal == Person::"eve", action, resource);"#).await;
    let told = async |hub: &Hub| {
        let audit = hub
            .ledger
            .audit(&Filter::default(), Page::FIRST)
            .await
            .expect("read");
        audit
            .iter()
            .filter(|entry| entry.event == "policies_changed")
            .count()
    };
    let secrets = hub.secrets.clone();
    for _ in 0..2 {
        rules::record(&hub, &secrets).await.expect("recorded");
        assert_eq!(told(&hub).await, 1);
    }
    hub.ledger.close().await.expect("closes");
    drop(hub);
    // Without any again is a change too.
    let hub = open_hub(folder.path(), SHOP).await;
    for _ in 0..2 {
        rules::record(&hub, &secrets).await.expect("recorded");
        assert_eq!(told(&hub).await, 2);
    }
    let (other, _folder) = opened().await;
    rules::record(&other, &other.secrets)
        .await
        .expect("nothing to say");
    assert_eq!(told(&other).await, 0, "a hub that never had any");
}

#[tokio::test]
async fn wrong_policies_stop_the_start_with_their_place() {
    let folder = tempfile::tempdir().expect("folder");
    let config = crate::config::Policies {
        files: vec![folder.path().join("operator.cedar")],
    };
    let error = rules::load(&config)
        .expect_err("there is no file")
        .to_string();
    assert!(error.contains("operator.cedar"), "{error}");
    let text = "@id(\"x\") forbid (principal, action, resource)\nwhen { context.purpose == 1 };";
    fs::write(&config.files[0], text).expect("written");
    let error = rules::load(&config).expect_err("no such fact").to_string();
    for part in ["operator.cedar`, line 2, policy `x`", "purpose"] {
        assert!(error.contains(part), "{error}");
    }
}
