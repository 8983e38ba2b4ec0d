//! Projects that commands make, and what a dry run tells.

use super::decisions::{GRANT, deciding};
use super::*;

const ADD: &str = "project add --id trial --from 2000-01-01 --until 2998-12-31";

/// Everything that a command may change, as text.
async fn everything(bench: &Bench) -> String {
    let (store, now) = (&bench.store, Utc::now());
    let mut all = Vec::new();
    all.push(lists::persons(store).await.expect("listed"));
    all.push(lists::projects(store).await.expect("listed"));
    all.push(lists::habilitations(store, now).await.expect("listed"));
    all.push(lists::tokens(store, None, now).await.expect("listed"));
    all.push(format!("{:?}", bench.audit().await));
    all.concat()
}

#[tokio::test]
async fn a_project_of_a_command_is_not_the_configurations() {
    let (mut bench, _) = deciding().await;
    for (wrong, named) in [
        (
            "project add --id admin --from 2000-01-01 --until 2001-01-01",
            "catalog",
        ),
        (
            "project add --id Trial --from 2000-01-01 --until 2001-01-01",
            "catalog",
        ),
        (
            "project add --id trial --from 2000-01-02 --until 2000-01-01",
            "before it begins",
        ),
        (
            "project add --id study --from 2000-01-01 --until 2001-01-01",
            "exists",
        ),
        ("project join study --person two", "configuration"),
        ("project extend study --until 2998-01-01", "configuration"),
        ("project join nowhere --person two", "does not exist"),
        ("project leave admin --person root", "does not exist"),
        ("project end admin", "does not exist"),
    ] {
        let error = bench.run(wrong).await.expect_err(wrong).to_string();
        assert!(error.contains(named), "{wrong}: {error}");
    }
    bench.run(ADD).await.expect("added");
    bench.run(ADD).await.expect_err("exists");
    bench
        .run("project join trial --person eve")
        .await
        .expect_err("nobody");
    bench
        .run("project join trial --person two")
        .await
        .expect("joined");
    bench
        .run("project join trial --person two")
        .await
        .expect_err("a member");
    let made = bench
        .run("token create --person two --project trial --days 5")
        .await;
    let made = made.expect("made");
    // The file does not list the project, and so does not end its memberships.
    bench.provision().await;
    assert!(bench.holder(&made).await.is_some());
    bench
        .run("project leave trial --person two")
        .await
        .expect("left");
    assert!(bench.holder(&made).await.is_none());
    bench
        .run("project leave trial --person two")
        .await
        .expect_err("no member");

    let ends = async || {
        let project = bench.store.project("trial").await.expect("read");
        project.expect("there").valid_to
    };
    assert_eq!(ends().await.to_rfc3339(), "2999-01-01T00:00:00+00:00");
    bench
        .run("project extend trial --until 1999-01-01")
        .await
        .expect_err("before its begin");
    bench
        .run("project extend trial --until 2997-12-31")
        .await
        .expect("moved");
    assert_eq!(ends().await.to_rfc3339(), "2998-01-01T00:00:00+00:00");
    bench.run("project end trial").await.expect("ended");
    assert!(ends().await <= Utc::now());
    bench
        .run("project end trial")
        .await
        .expect_err("ended already");
    let audit = bench.audit().await;
    let events: Vec<&str> = audit.iter().map(|(event, _)| event.as_str()).collect();
    let expected = [
        "project_added",
        "member_added",
        "token_created",
        "member_removed",
        "project_changed",
        "project_changed",
    ];
    assert!(events.ends_with(&expected), "{events:?}");

    // What the file begins to list is the file's.
    let listed = "[[project]]\nid = 'trial'\nmembers = []\nvalid_from = '2000-01-01'\n\
                  valid_to = '2999-01-01'\n";
    let listed: Config = toml::from_str(listed).expect("a configuration");
    bench.config.projects.extend(listed.projects);
    bench.provision().await;
    let refused = bench.run("project join trial --person two").await;
    assert!(
        refused
            .expect_err("the file's")
            .to_string()
            .contains("configuration")
    );
    let said = bench.run("project end trial").await.expect("ended");
    assert!(said.contains("comes back"), "{said}");
}

/// Each command in a dry run says what it does in earnest, and does nothing.
#[tokio::test]
async fn a_dry_run_tells_who_would_see_what_and_changes_nothing() {
    let (bench, tokens) = deciding().await;
    let file = bench.folder.path().join("grant.toml").display().to_string();
    let enter = format!(
        "habilitation enter --file {file} --token {}",
        tokens["root"]
    );
    let confirm = format!(
        "habilitation confirm study.shop --version 1 --token {}",
        tokens["two"]
    );
    let other = "person add --id ben --name Ben --role billing";
    bench.run(other).await.expect("added");
    let dry = async |line: &str| {
        let before = everything(&bench).await;
        let told = bench.run(&format!("{line} --dry-run")).await.expect(line);
        assert_eq!(everything(&bench).await, before, "{line}");
        assert!(told.starts_with("dry run: nothing is changed\n"), "{told}");
        told
    };
    let sees = "`ada` in project `study` sees rows of dataset `shop` from zone";

    let told = dry(&enter).await;
    assert!(
        told.contains("would record: habilitation_entered"),
        "{told}"
    );
    assert!(told.contains("once a second person"), "{told}");
    assert!(told.contains(&format!("+ {sees}")), "{told}");
    bench.run(&enter).await.expect("entered");
    let told = dry(&confirm).await;
    assert!(
        told.contains(&format!("+ {sees}")) && !told.contains("once a"),
        "{told}"
    );
    bench.run(&confirm).await.expect("confirmed");

    // The same without exports is another thing to the same person.
    std::fs::write(&file, format!("{GRANT}export = 'none'\n")).expect("written");
    let told = dry(&enter).await;
    for (sign, leaves) in [('-', ""), ('+', ", without exports")] {
        let line = format!("{sign} {sees} `inside`{leaves} (");
        assert!(told.contains(&line), "{told}");
    }

    for (line, closed) in [
        ("habilitation revoke study.shop", true),
        ("person disable ada", true),
        ("project leave study --person ada", true),
        ("project end study", true),
        ("person disable bill", false),
        ("person add --id eve --name Eve", false),
        ("person roles bill --role audit", false),
        ("people password --person ada", false),
        ("people totp --person ada", false),
        ("people unlock ada", false),
        ("token create --person root --project admin --days 5", false),
        ("opposition add --person 12", false),
        (ADD, false),
    ] {
        let told = dry(line).await;
        assert_eq!(
            told.contains(&format!("- {sees}")),
            closed,
            "{line}: {told}"
        );
        let unchanged = told.contains("nobody's access to data changes");
        assert_eq!(unchanged, !closed, "{line}: {told}");
        assert!(told.contains("would record: "), "{line}: {told}");
        // No secret is shown that does not come to be.
        assert_eq!(told.matches("hubpat_").count(), 0, "{told}");
    }
    dry("project leave study --person ada").await;
    let error = bench.run("person disable eve --dry-run").await;
    error.expect_err("refused as in earnest");
}

/// Somebody who has another login than a password is somebody too.
#[tokio::test]
async fn a_dry_run_asks_for_each_way_to_log_in() {
    let (mut bench, tokens) = deciding().await;
    let policy = bench.folder.path().join("operator.cedar");
    let text = "@id(\"no-passwords\") forbid (principal, action, resource) \
                when { context.login.method == \"password\" };";
    std::fs::write(&policy, text).expect("written");
    let policies = format!(
        "[server]\nstate = 's'\n[policies]\nfiles = ['{}']",
        policy.display()
    );
    bench.config.policies = toml::from_str::<Config>(&policies).expect("valid").policies;
    let file = bench.folder.path().join("grant.toml").display().to_string();
    let token = &tokens["root"];
    let told = bench
        .run(&format!(
            "habilitation enter --dry-run --file {file} --token {token}"
        ))
        .await
        .expect("told");
    let sees = "+ `ada` in project `study` sees rows of dataset `shop`";
    assert!(told.contains(sees), "{told}");
}

/// An organisation is made where the command says so.
#[tokio::test]
async fn an_organisation_that_pays_is_new_only_where_it_is_said_to_be() {
    let (bench, _) = deciding().await;
    bench.run(ADD).await.expect("added");
    let change = "project change trial --organisation clinic";
    let error = bench.run(change).await.expect_err("unknown");
    assert!(error.to_string().contains("--new-organisation"), "{error}");
    let change = format!("{change} --new-organisation");
    bench.run(&change).await.expect("made");
    let (_, client) = bench.audit().await.pop().expect("an entry");
    assert!(
        client.ends_with("organisation `clinic` after `default`"),
        "{client}"
    );
    bench
        .run("project add --id more --organisation clinic --from 2000-01-01 --until 2001-01-01")
        .await
        .expect("known by now");
}

/// Who confirmed a habilitation joins its project: the dry run says that it closes.
#[tokio::test]
async fn a_dry_run_sees_that_a_confirmation_would_lapse() {
    let (bench, tokens) = deciding().await;
    bench.run(ADD).await.expect("added");
    bench
        .run("project join trial --person ada")
        .await
        .expect("joined");
    let file = bench.folder.path().join("trial.toml");
    std::fs::write(&file, GRANT.replace("'study'", "'trial'")).expect("written");
    let enter = format!(
        "habilitation enter --file {} --token {}",
        file.display(),
        tokens["root"]
    );
    bench.run(&enter).await.expect("entered");
    let confirm = format!(
        "habilitation confirm trial.shop --version 1 --token {}",
        tokens["two"]
    );
    bench.run(&confirm).await.expect("confirmed");
    let told = bench.run("project join trial --person two --dry-run").await;
    let told = told.expect("told");
    assert!(
        told.contains("- `ada` in project `trial` sees rows"),
        "{told}"
    );
    assert!(told.contains("+ `two` works in project `trial`"), "{told}");
    assert!(told.contains("habilitation_unconfirmed"), "{told}");
}
