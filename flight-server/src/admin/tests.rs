//! The commands, as lines of words.

use clap::Parser;
use hubflight_ledger::{Filter, Ledger, Page};
use hubflight_store::Person;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: AdminCommand,
}

struct Bench {
    folder: tempfile::TempDir,
    store: Store,
    secrets: Secrets,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::default();
        config.server.state = folder.path().join("state");
        let (store, secrets) = open_store(&config).await.expect("opens");
        Self {
            folder,
            store,
            secrets,
        }
    }

    async fn run(&self, line: &str) -> Result<String> {
        let words = ["admin"].into_iter().chain(line.split_whitespace());
        let place = ["--dir", self.folder.path().to_str().expect("a path")];
        let command = Line::try_parse_from(words.chain(place))
            .expect("a command")
            .command;
        let desk = Desk {
            store: self.store.clone(),
            secrets: self.secrets.clone(),
            now: Utc::now(),
        };
        execute(&desk, command).await
    }

    /// (event, client) of everything that is recorded.
    async fn audit(&self) -> Vec<(String, String)> {
        let tariff = Config::default().tariff().expect("a tariff");
        let ledger = Ledger::open(&self.store, tariff, Default::default()).await;
        let ledger = ledger.expect("a ledger");
        let records = ledger.audit(&Filter::default(), Page::FIRST).await;
        let records = records.expect("read").into_iter();
        let audit = records
            .map(|record| (record.event, record.client))
            .collect();
        ledger.close().await.expect("closes");
        audit
    }

    async fn holder(&self, text: &str) -> Option<(String, String)> {
        let token = text.lines().last().expect("a line");
        let holder = self
            .store
            .verify_token(token, Utc::now())
            .await
            .expect("checked");
        holder.map(|holder| (holder.person, holder.project))
    }
}

#[tokio::test]
async fn the_first_administrator_is_made_once() {
    let bench = Bench::new().await;
    let said = bench.run("init --id root --name Root").await.expect("made");
    let holder = bench.holder(&said).await;
    assert_eq!(holder, Some(("root".into(), ADMIN_CATALOG.into())));
    let again = bench
        .run("init --id other --name Other")
        .await
        .expect_err("refused");
    assert!(again.to_string().contains("`root`"), "{again}");
    assert!(bench.store.person("other").await.expect("read").is_none());
    let listed = bench.run("person list").await.expect("listed");
    assert!(
        listed
            .lines()
            .any(|line| line.starts_with("root  Root  active  yes")),
        "{listed}"
    );
    bench
        .run("person disable root")
        .await
        .expect_err("the last administrator");
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let bench = Bench::new().await;
    bench.run("init --id root --name Root").await.expect("made");
    bench
        .run("person add --id ada --name Ada")
        .await
        .expect("added");
    bench
        .run("person add --id ada --name Ada")
        .await
        .expect_err("exists");
    bench
        .run("person add --id a:a --name Ada")
        .await
        .expect_err("no valid name");
    for (wrong, named) in [
        ("token create --person ada --days 5", "no project"),
        (
            "token create --person ada --project admin --days 5",
            "no member",
        ),
        ("token create --person eve --days 5", "`eve`"),
    ] {
        let error = bench.run(wrong).await.expect_err(wrong).to_string();
        assert!(error.contains(named), "{error}");
    }
    let made = bench
        .run("token create --person root --days 5 --name ci")
        .await
        .expect("made");
    assert!(bench.holder(&made).await.is_some());
    let listed = bench.run("token list --person root").await.expect("listed");
    let line = listed
        .lines()
        .find(|line| line.contains(" ci "))
        .expect("listed");
    assert!(line.ends_with("valid"), "{line}");
    let (secret, id) = (
        made.lines().last().expect("a line"),
        line.split(' ').next().expect("an id"),
    );
    assert!(!listed.contains(secret));
    bench
        .run(&format!("token revoke {id}"))
        .await
        .expect("revoked");
    bench
        .run(&format!("token revoke {id}"))
        .await
        .expect_err("revoked already");
    assert!(bench.holder(&made).await.is_none());
}

#[tokio::test]
async fn a_disabled_person_has_no_access() {
    let bench = Bench::new().await;
    bench.run("init --id root --name Root").await.expect("made");
    bench
        .run("person add --admin --id two --name Two")
        .await
        .expect("added");
    let made = bench
        .run("token create --person two --days 5")
        .await
        .expect("made");
    let epoch = |person: Option<Person>| person.expect("there").token_epoch;
    let before = epoch(bench.store.person("two").await.expect("read"));
    bench.run("person disable two").await.expect("disabled");
    assert!(bench.holder(&made).await.is_none());
    assert!(epoch(bench.store.person("two").await.expect("read")) > before);
    bench
        .run("token create --person two --days 5")
        .await
        .expect_err("disabled");
    bench.run("person enable two").await.expect("enabled");
    assert!(bench.holder(&made).await.is_some());
}

#[test]
fn a_place_is_needed_and_only_one() {
    let parse = |line: &str| Line::try_parse_from(line.split(' ')).map(|_| ());
    parse("admin person list --dir d").expect("fine");
    parse("admin person list").expect_err("no place");
    parse("admin person list --dir d --config c").expect_err("two places");
    parse("admin token create --person p --days 0 --dir d").expect_err("no days");
    parse("admin token create --person p --days 9999 --dir d").expect_err("too many days");
    let folder = tempfile::tempdir().expect("a folder");
    demo_config(folder.path()).expect_err("no demo there");
}

#[tokio::test]
async fn an_opposition_leaves_its_record_and_no_identifier_in_it() {
    let bench = Bench::new().await;
    let said = bench
        .run("opposition add --person 2551175")
        .await
        .expect("added");
    let name = said.split('`').nth(1).expect("a name").to_owned();
    bench
        .run("opposition add --person 2551175")
        .await
        .expect_err("added before");
    let other = bench.run("opposition add --person 2551175 --domain patient");
    assert!(!other.await.expect("another domain").contains(&name));
    let listed = bench.run("opposition list").await.expect("listed");
    assert_eq!(
        listed
            .lines()
            .filter(|line| line.contains("2551175"))
            .count(),
        2
    );
    assert!(
        listed.lines().any(|line| line.starts_with(&name)),
        "{listed}"
    );
    bench
        .run("opposition remove --person 2551176")
        .await
        .expect_err("on no list");
    bench
        .run("opposition remove --person 2551175")
        .await
        .expect("removed");
    for wrong in [
        "opposition add --person=",
        "opposition add --person x --domain=",
    ] {
        let error = bench.run(wrong).await.expect_err(wrong);
        assert_eq!(error.kind, crate::error::ErrorKind::InvalidArgument);
    }

    let audit = bench.audit().await;
    let events: Vec<&str> = audit.iter().map(|(event, _)| event.as_str()).collect();
    let expected = ["opposition_added", "opposition_added", "opposition_removed"];
    assert_eq!(events, expected);
    assert!(audit[0].1.contains(&name) && audit[2].1.contains(&name));
    assert!(audit.iter().all(|(_, client)| !client.contains("2551175")));
}
