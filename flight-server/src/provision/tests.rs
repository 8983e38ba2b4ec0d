use super::*;
use datafusion::prelude::SessionContext;
use hubflight_ledger::{AuditSettings, Filter, Ledger, Page};
use hubflight_rights::habilitation::{ExportRule, Tables};
use hubflight_store::Identity;

use crate::hub::audit_signer;

const FILE: &str = r#"
        [[dataset]]
        name = "shop"
        producer = "somebody"
        persons = "none"
        format = "csv"
        folder = "FOLDER"
        [[person]]
        id = "ada"
        name = "Ada L."
        [[person]]
        id = "bob"
        [[project]]
        id = "study"
        members = ["ada", "bob"]
        valid_from = "2026-01-01"
        valid_to = "2030-12-31"
        [[habilitation]]
        project = "study"
        dataset = "shop"
        decision = "DR-1"
        valid_from = "2026-01-01"
        valid_to = "2030-12-31"
    "#;

fn secrets() -> Secrets {
    Secrets::new([9; 32])
}

struct Bench {
    folder: tempfile::TempDir,
    store: Store,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("sales.csv"), "item,price\na,1\n").expect("written");
        let url = format!("sqlite://{}", folder.path().join("hub.db").display());
        Self {
            store: Store::open(&url).await.expect("opens"),
            folder,
        }
    }

    fn config(&self, edit: impl Fn(&str) -> String) -> Config {
        let text = FILE.replace("FOLDER", &self.folder.path().display().to_string());
        toml::from_str(&edit(&text)).expect("a configuration")
    }

    async fn provision(&self, config: &Config) -> Result<()> {
        let state = SessionContext::new().state();
        let datasets = Datasets::open(&config.datasets, &state).await?;
        provision(&self.store, &secrets(), config, &datasets).await
    }

    /// The versions that are not revoked, with who entered them.
    async fn standing(&self) -> Vec<(u32, Option<String>)> {
        let rows = self.store.habilitations().await.expect("read");
        rows.into_iter()
            .filter(|row| row.revoked_at.is_none())
            .map(|row| (row.version, row.entered_by))
            .collect()
    }

    /// A version of `study.shop` that root enters by command.
    async fn enter(&self, version: u32) {
        let mut write = self.store.change_rights().await.expect("begins");
        let rows = write.habilitations().await.expect("read");
        let mut body: Habilitation = serde_json::from_str(&rows[0].body).expect("a body");
        body.version = version;
        let new = NewHabilitation {
            id: body.id.clone(),
            version,
            project: body.project.clone(),
            dataset: body.dataset.clone(),
            body: serde_json::to_string(&body).expect("writes"),
        };
        let entered = write.enter_habilitation(&new, "root").await;
        entered.expect("entered");
        write.commit().await.expect("committed");
    }

    async fn confirm(&self, version: u32, person: &str) {
        let mut write = self.store.change_rights().await.expect("begins");
        let confirmed = write.confirm_habilitation("study.shop", version, person);
        assert!(confirmed.await.expect("asked"), "{person} cannot");
        write.commit().await.expect("committed");
    }

    /// What the audit has: the event, whom it names, and what it says.
    async fn audit(&self) -> Vec<String> {
        let tariff = Config::default().tariff().expect("a tariff");
        let settings = AuditSettings {
            signer: audit_signer(&secrets()).expect("a signer"),
            witness: None,
            syslog: None,
        };
        let ledger = Ledger::open(&self.store, tariff, Default::default(), settings).await;
        let ledger = ledger.expect("a ledger");
        let records = ledger.audit(&Filter::default(), Page::FIRST).await;
        let told = records.expect("read").into_iter().map(|record| {
            let about = record.client.strip_prefix(CLIENT).unwrap_or("?");
            let person = record.person.unwrap_or_default();
            let project = record.project.unwrap_or_default();
            format!("{} {person} {project}{about}", record.event)
        });
        let told = told.collect();
        ledger.close().await.expect("closes");
        told
    }

    async fn in_force(&self) -> Vec<(u32, Habilitation)> {
        let rows = self.store.habilitations_of("study").await.expect("read");
        rows.iter()
            .filter(|row| row.revoked_at.is_none() && !row.confirmer_is_member)
            .map(|row| {
                (
                    row.version,
                    serde_json::from_str(&row.body).expect("a body"),
                )
            })
            .collect()
    }
}

#[tokio::test]
async fn the_file_is_written_once() {
    let bench = Bench::new().await;
    let config = bench.config(str::to_owned);
    for _ in 0..2 {
        bench.provision(&config).await.expect("valid");
        let in_force = bench.in_force().await;
        let [(1, habilitation)] = in_force.as_slice() else {
            panic!("not one in version 1: {in_force:?}");
        };
        assert_eq!(habilitation.tables, Tables::All);
        assert_eq!(habilitation.linkage_group, "dataset:shop");
        assert_eq!(
            habilitation.valid_to.to_rfc3339(),
            "2031-01-01T00:00:00+00:00"
        );
    }
    let ada = bench
        .store
        .person("ada")
        .await
        .expect("read")
        .expect("there");
    assert_eq!(
        (ada.name.as_str(), ada.active, ada.is_admin),
        ("Ada L.", true, false)
    );
    let projects = bench.store.projects_of("bob").await.expect("read");
    assert_eq!(projects.len(), 1);
}

#[tokio::test]
async fn a_change_is_a_new_version_and_what_vanished_is_revoked() {
    let bench = Bench::new().await;
    bench
        .provision(&bench.config(str::to_owned))
        .await
        .expect("valid");
    let changed = bench.config(|text| text.replace("DR-1", "DR-2"));
    bench.provision(&changed).await.expect("valid");
    let in_force = bench.in_force().await;
    assert_eq!(in_force.len(), 1);
    assert_eq!(
        (in_force[0].0, in_force[0].1.decision.as_str()),
        (2, "DR-2")
    );
    assert_eq!(in_force[0].1.version, 2, "the body says its own version");
    let all = bench.store.habilitations().await.expect("read");
    assert!(
        all.iter()
            .any(|row| row.version == 1 && row.revoked_at.is_some())
    );

    let without = |text: &str| {
        let (kept, _) = text.split_once("[[habilitation]]").expect("there");
        kept.replace(r#"["ada", "bob"]"#, r#"["bob"]"#)
    };
    bench
        .provision(&bench.config(without))
        .await
        .expect("valid");
    assert!(bench.in_force().await.is_empty());
    assert!(
        bench
            .store
            .projects_of("ada")
            .await
            .expect("read")
            .is_empty()
    );
    assert_eq!(bench.store.projects_of("bob").await.expect("read").len(), 1);

    bench.provision(&changed).await.expect("valid");
    assert_eq!(
        bench.in_force().await[0].0,
        3,
        "what comes back is a new version"
    );
}

#[tokio::test]
async fn a_disabled_person_and_a_budget_survive() {
    let bench = Bench::new().await;
    let config = bench.config(str::to_owned);
    bench.provision(&config).await.expect("valid");
    let mut write = bench.store.change_rights().await.expect("begins");
    write.set_active("ada", false).await.expect("written");
    write.commit().await.expect("committed");
    let mut project = bench
        .store
        .project("study")
        .await
        .expect("read")
        .expect("there");
    project.budget = Some(rust_decimal::Decimal::ONE_HUNDRED);
    bench.store.put_project(&project).await.expect("written");
    bench.provision(&config).await.expect("valid");
    let ada = bench
        .store
        .person("ada")
        .await
        .expect("read")
        .expect("there");
    assert_eq!((ada.name.as_str(), ada.active), ("Ada L.", false));
    let project = bench
        .store
        .project("study")
        .await
        .expect("read")
        .expect("there");
    assert_eq!(project.budget, Some(rust_decimal::Decimal::ONE_HUNDRED));
}

#[tokio::test]
async fn what_is_wrong_is_named_and_nothing_is_written() {
    let cases = [
        (r#"id = "bob""#, r#"id = "b:b""#, "`b:b`"),
        (r#"id = "bob""#, r#"id = "ada""#, "listed twice"),
        (r#"["ada", "bob"]"#, r#"["ada", "eve"]"#, "`eve`"),
        (r#"id = "study""#, r#"id = "admin""#, "`admin`"),
        (r#"id = "study""#, r#"id = "Study""#, "`Study`"),
        (r#"project = "study""#, r#"project = "other""#, "`other`"),
        (r#"dataset = "shop""#, r#"dataset = "shoe""#, "`shoe`"),
        (r#"decision = "DR-1""#, r#"decision = """#, "decision"),
        (
            "[[project]]",
            "[[project]]\nspace_quota_mb = 9000000000000000000",
            "space_quota_mb",
        ),
        (
            r#"decision = "DR-1""#,
            "decision = 'DR-1'\ntables.only = [{ table = 'sales', columns = { only = ['prize'] } }]",
            "`prize`",
        ),
    ];
    for (from, to, named) in cases {
        let bench = Bench::new().await;
        let config = bench.config(|text| text.replacen(from, to, 1));
        let error = bench.provision(&config).await.expect_err(to).to_string();
        assert!(error.contains(named), "{to}: {error}");
        assert!(
            bench.store.persons().await.expect("read").is_empty(),
            "{to}"
        );
        assert!(
            bench.store.projects().await.expect("read").is_empty(),
            "{to}"
        );
    }
}

fn without_habilitation(text: &str) -> String {
    let (kept, _) = text.split_once("[[habilitation]]").expect("there");
    kept.to_owned()
}

/// A draft that waits, or that nobody ever confirms, does not keep what the file withdrew.
#[tokio::test]
async fn what_the_file_withdrew_ends_under_a_draft() {
    let bench = Bench::new().await;
    let config = bench.config(str::to_owned);
    bench.provision(&config).await.expect("valid");
    bench.enter(2).await;
    // The file still says version 1, and decides: the draft ends, not what is in force.
    bench.provision(&config).await.expect("valid");
    assert_eq!(bench.standing().await, [(1, None)]);
    assert_eq!(bench.in_force().await[0].0, 1);

    bench.enter(3).await;
    let without = bench.config(without_habilitation);
    bench.provision(&without).await.expect("valid");
    assert!(bench.in_force().await.is_empty());
    assert_eq!(bench.standing().await, [(3, Some("root".into()))]);

    // Once confirmed it is nobody's but the administrators', until the file says otherwise.
    bench.confirm(3, "zoe").await;
    bench.provision(&without).await.expect("valid");
    assert_eq!(bench.in_force().await[0].0, 3);
    bench.provision(&config).await.expect("valid");
    assert_eq!(bench.standing().await, [(4, None)]);
    bench.provision(&config).await.expect("valid");
    assert_eq!(bench.standing().await, [(4, None)], "again changes nothing");
}

/// Every change of who may see what is in the audit, with whom it is about.
#[tokio::test]
async fn what_the_file_changes_is_recorded() {
    let bench = Bench::new().await;
    let config = bench.config(str::to_owned);
    for _ in 0..2 {
        bench.provision(&config).await.expect("valid");
    }
    let first = [
        "person_added ada ",
        "person_added bob ",
        "project_added  study, from 2026-01-01 to 2030-12-31",
        "member_added ada study",
        "member_added bob study",
        "habilitation_begun  study, habilitation study.shop version 1",
    ];
    assert_eq!(bench.audit().await, first);
    let changed = bench.config(|text| {
        without_habilitation(text)
            .replace(r#"["ada", "bob"]"#, r#"["bob"]"#)
            .replace(r#"valid_to = "2030"#, r#"valid_to = "2031"#)
    });
    bench.provision(&changed).await.expect("valid");
    let then = [
        "habilitation_revoked  study, habilitation study.shop version 1",
        "member_removed ada study",
        "project_changed  study, from 2026-01-01 to 2031-12-31",
    ];
    assert_eq!(bench.audit().await[first.len()..], then);
}

/// Out of the file, confirmed, back into the file: the beneficiary's own word does not count.
#[tokio::test]
async fn who_confirms_and_comes_back_has_confirmed_nothing() {
    let bench = Bench::new().await;
    let all = bench.config(without_habilitation);
    bench
        .provision(&bench.config(str::to_owned))
        .await
        .expect("valid");
    bench.provision(&all).await.expect("valid");
    bench.enter(2).await;
    let out =
        bench.config(|text| without_habilitation(text).replace(r#"["ada", "bob"]"#, r#"["bob"]"#));
    bench.provision(&out).await.expect("valid");
    bench.confirm(2, "ada").await;
    assert_eq!(bench.in_force().await.len(), 1);
    bench.provision(&all).await.expect("valid");
    assert!(bench.in_force().await.is_empty());
    let audit = bench.audit().await;
    let told = audit.last().map(String::as_str);
    assert_eq!(
        told,
        Some("habilitation_unconfirmed ada study, habilitation study.shop version 2")
    );
    bench.confirm(2, "zoe").await;
    bench.provision(&all).await.expect("valid");
    assert_eq!(bench.in_force().await.len(), 1);
    assert_eq!(bench.audit().await.len(), audit.len(), "it told once more");
}

#[tokio::test]
async fn identities_follow_the_file() {
    const PROVIDER: &str = "\n[[oidc]]\nissuer = \"https://login.example.org\"\n\
                            audiences = [\"hub\"]\namr = [\"otp\"]\n";
    let bench = Bench::new().await;
    let of = |person: &str| {
        let named = format!("id = \"{person}\"");
        bench.config(|text| {
            text.replace(&named, &format!("{named}\n        subject = \"7f\"")) + PROVIDER
        })
    };
    let identity = Identity {
        issuer: "https://login.example.org".into(),
        subject: "7f".into(),
    };
    let whom = async || {
        let person = bench.store.person_of_identity(&identity).await;
        person.expect("read").map(|person| person.id)
    };
    for person in ["ada", "ada", "bob"] {
        bench.provision(&of(person)).await.expect("valid");
        assert_eq!(whom().await.as_deref(), Some(person));
    }
    // A file that is wrong takes nothing away.
    let mut wrong = of("ada");
    wrong.oidc.clear();
    let error = bench.provision(&wrong).await.expect_err("no provider");
    assert!(error.to_string().contains("`[[oidc]]`"), "{error}");
    assert_eq!(whom().await.as_deref(), Some("bob"));
    let plain = bench.config(str::to_owned);
    bench.provision(&plain).await.expect("valid");
    assert_eq!(whom().await, None);
    let audit = bench.audit().await.into_iter();
    let told: Vec<String> = audit.filter(|act| act.starts_with("identity")).collect();
    let at = ", subject 7f of https://login.example.org";
    let expected = [
        ("added", "ada"),
        ("removed", "ada"),
        ("added", "bob"),
        ("removed", "bob"),
    ];
    let expected = expected.map(|(what, whom)| format!("identity_{what} {whom} {at}"));
    assert_eq!(told, expected);
}

/// What was written before there was a rule of exports reads as it did, and is written as it was.
#[tokio::test]
async fn exports_are_as_the_rules_decide_where_nothing_else_is_written() {
    let bench = Bench::new().await;
    bench
        .provision(&bench.config(str::to_owned))
        .await
        .expect("valid");
    let rows = bench.store.habilitations_of("study").await.expect("read");
    assert!(!rows[0].body.contains("export"), "{}", rows[0].body);
    let ruled = |export: &str| format!("decision = \"DR-1\"\nexport = \"{export}\"");
    let written =
        |export: &str| bench.config(|text| text.replace("decision = \"DR-1\"", &ruled(export)));
    for (export, version, rule) in [
        ("rules", 1, ExportRule::Rules),
        ("review", 2, ExportRule::Review),
        ("none", 3, ExportRule::None),
    ] {
        bench.provision(&written(export)).await.expect(export);
        let in_force = bench.in_force().await;
        let (number, habilitation) = in_force.last().expect("one");
        assert_eq!((*number, habilitation.export), (version, rule), "{export}");
        assert_eq!(rule.label(), export);
    }
    let text = FILE.replace("decision = \"DR-1\"", &ruled("sometimes"));
    let error = toml::from_str::<Config>(&text).expect_err("no rule");
    assert!(
        error.to_string().contains("`none`, `review`, `rules`"),
        "{error}"
    );
}
