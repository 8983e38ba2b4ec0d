//! Who decides on habilitations, and what of it is recorded.

use std::collections::HashMap;

use super::*;

pub(super) const GRANT: &str = "project = 'study'\ndataset = 'shop'\ndecision = 'DR-1'\n\
                     valid_from = '2000-01-01'\nvalid_to = '2999-01-01'\n";

/// A hub with a dataset and a project that `ada` is in; tokens of `root` and `two`, who may
/// decide, of `bill`, who may not, and of `ada`, who may decide and is a beneficiary.
pub(super) async fn deciding() -> (Bench, HashMap<&'static str, String>) {
    let mut bench = Bench::new().await;
    let folder = bench.folder.path().to_owned();
    // Beside the state, which is a folder too.
    std::fs::create_dir(folder.join("data")).expect("a folder");
    std::fs::write(folder.join("data/sales.csv"), "item\na\n").expect("written");
    std::fs::write(folder.join("grant.toml"), GRANT).expect("written");
    let text = format!(
        "[server]\nstate = '{}/state'\nzone = 'inside'\n[[dataset]]\nname = 'shop'\n\
         producer = 'x'\npersons = 'none'\nformat = 'csv'\nfolder = '{}/data'\n\
         [[person]]\nid = 'ada'\n[[project]]\nid = 'study'\nmembers = ['ada']\n\
         valid_from = '2000-01-01'\nvalid_to = '2999-01-01'\n",
        folder.display(),
        folder.display()
    );
    bench.config = toml::from_str(&text).expect("a configuration");
    bench.provision().await;
    let mut tokens = HashMap::new();
    for (id, role) in [("two", "policy"), ("bill", "billing"), ("root", "policy")] {
        let line = format!("person add --id {id} --name {id} --role {role}");
        bench.run(&line).await.expect("added");
    }
    bench
        .run("person roles ada --role policy")
        .await
        .expect("given");
    for id in ["root", "two", "bill", "ada"] {
        let line = format!("token create --person {id} --project admin --days 5");
        let made = bench.run(&line).await.expect("made");
        tokens.insert(id, made.lines().last().expect("a token").to_owned());
    }
    (bench, tokens)
}

impl Bench {
    pub(super) async fn provision(&self) {
        let state = datafusion::prelude::SessionContext::new().state();
        let datasets = crate::catalog::datasets::Datasets::open(&self.config.datasets, &state);
        let datasets = datasets.await.expect("datasets");
        crate::provision::provision(&self.store, &self.secrets, &self.config, &datasets)
            .await
            .expect("provisions");
    }

    async fn in_force(&self) -> usize {
        let rows = self.store.habilitations_of("study").await.expect("read");
        let in_force = rows
            .iter()
            .filter(|row| row.revoked_at.is_none() && !row.confirmer_is_member);
        in_force.count()
    }

    /// Where version 1 of the habilitation stands, as the list says.
    async fn state(&self) -> String {
        let listed = self.run("habilitation list").await.expect("listed");
        let line = listed
            .lines()
            .find(|line| line.starts_with("study.shop  1"));
        line.expect("version 1").to_owned()
    }
}

#[tokio::test]
async fn two_persons_decide_on_a_habilitation_and_neither_benefits() {
    let (bench, tokens) = deciding().await;
    let file = bench.folder.path().join("grant.toml").display().to_string();
    let enter = async |token: &str| {
        let line = format!("habilitation enter --file {file} --token {token}");
        bench.run(&line).await
    };
    let confirm = async |token: &str| {
        let line = format!("habilitation confirm study.shop --version 1 --token {token}");
        bench.run(&line).await
    };
    enter(&tokens["bill"]).await.expect_err("another role");
    enter("hubpat_aaaa_bbbb").await.expect_err("nobody's token");
    enter(&tokens["root"]).await.expect("entered");
    assert_eq!(bench.in_force().await, 0);
    for refused in ["root", "ada", "bill"] {
        confirm(&tokens[refused]).await.expect_err(refused);
    }
    assert_eq!(bench.in_force().await, 0);
    confirm(&tokens["two"]).await.expect("confirmed");
    assert_eq!(bench.in_force().await, 1);
    confirm(&tokens["two"]).await.expect_err("confirmed before");
    // The file does not list it, and so does not end it.
    bench.provision().await;
    assert_eq!(bench.in_force().await, 1);
    let audit = bench.audit().await;
    let decided = audit
        .iter()
        .filter(|(event, _)| event.starts_with("habilitation_"));
    assert_eq!(decided.count(), 2);

    let mut bench = bench;
    let text = format!("[[habilitation]]\n{GRANT}");
    let listed: Config = toml::from_str(&text).expect("a configuration");
    bench.config.habilitations = listed.habilitations;
    // The operator decides alone, in the file.
    bench.provision().await;
    assert_eq!(bench.in_force().await, 1);
    let line = format!(
        "habilitation enter --file {file} --token {}",
        tokens["root"]
    );
    let error = bench.run(&line).await.expect_err("the file's");
    assert!(error.to_string().contains("configuration"), "{error}");
}

/// Whoever works on the store can take the part of both persons, but not unseen: each act that
/// this takes is in the audit, and stays there.
#[tokio::test]
async fn no_act_that_the_two_person_rule_rests_on_is_without_a_record() {
    let bench = Bench::new().await;
    bench.run("init --id root --name Root").await.expect("made");
    bench
        .run("person add --id eve --name Eve")
        .await
        .expect("added");
    bench
        .run("person roles eve --role policy")
        .await
        .expect("given");
    let made = bench
        .run("token create --person eve --project admin --days 5")
        .await
        .expect("made");
    let id = made.lines().last().and_then(|text| text.split('_').nth(1));
    let id = id.expect("a token's id").to_owned();
    for line in [
        format!("token revoke {id}"),
        "person disable eve".into(),
        "person enable eve".into(),
        "person roles eve".into(),
    ] {
        bench.run(&line).await.expect(&line);
    }
    let expected = [
        "person_added".to_owned(),
        "admin_roles_set, roles policy".into(),
        format!("token_created, token {id} for catalog admin, 5 days"),
        format!("token_revoked, token {id} for catalog admin"),
        "person_disabled".into(),
        "person_enabled".into(),
        "admin_roles_set, roles none".into(),
    ];
    assert_eq!(bench.acts_on("eve").await, expected);
    let of_root = bench.acts_on("root").await;
    assert!(
        of_root.len() == 3 && of_root[2].starts_with("token_created"),
        "{of_root:?}"
    );
    // No secret is in it.
    let secret = made.rsplit('_').next().expect("a secret").trim();
    let audit = bench.audit().await;
    assert!(audit.iter().all(|(_, client)| !client.contains(secret)));
}

/// The beneficiary leaves the project, confirms, and comes back.
#[tokio::test]
async fn a_confirmation_ends_when_its_giver_becomes_a_member() {
    let (mut bench, tokens) = deciding().await;
    let file = bench.folder.path().join("grant.toml").display().to_string();
    let confirm = "habilitation confirm study.shop --version 1 --token";
    let listed = bench.config.projects[0].members.clone();
    bench
        .run(&format!(
            "habilitation enter --file {file} --token {}",
            tokens["root"]
        ))
        .await
        .expect("entered");
    assert!(bench.state().await.contains("waits for confirmation"));
    bench.config.projects[0].members.clear();
    bench.provision().await;
    bench
        .run(&format!("{confirm} {}", tokens["ada"]))
        .await
        .expect("confirmed, as no member");
    assert_eq!(bench.in_force().await, 1);
    bench.config.projects[0].members = listed;
    bench.provision().await;
    assert_eq!(bench.in_force().await, 0);
    assert!(bench.state().await.contains("who confirmed it is a member"));
    let audit = bench.audit().await;
    let (event, client) = audit.last().expect("an entry");
    assert_eq!(event, "habilitation_unconfirmed");
    assert!(client.contains("study.shop version 1"), "{client}");

    let error = bench
        .run(&format!("{confirm} {}", tokens["ada"]))
        .await
        .expect_err("a member");
    assert!(error.to_string().contains("does not count"), "{error}");
    bench
        .run(&format!("{confirm} {}", tokens["two"]))
        .await
        .expect("somebody else");
    assert_eq!(bench.in_force().await, 1);
    assert!(bench.state().await.contains("in force"));
    bench
        .run("habilitation revoke study.shop")
        .await
        .expect("revoked");
    assert!(bench.state().await.contains("revoked"));
    let audit = bench.audit().await;
    assert!(
        audit
            .iter()
            .any(|(event, _)| event == "habilitation_revoked")
    );
}
