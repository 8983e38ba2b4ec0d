//! The commands, as lines of words.

use clap::Parser;
use hubflight_ledger::{AuditRecord, AuditSettings, Filter, Ledger, Page};
use hubflight_store::Person;

use super::*;
use crate::hub::audit_signer;

mod decisions;
mod exports;
mod projects;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: HubCommand,
}

struct Bench {
    folder: tempfile::TempDir,
    config: Config,
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
            config,
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
            config: self.config.clone(),
            store: self.store.clone(),
            secrets: self.secrets.clone(),
            now: Utc::now(),
            dry_run: command.place().dry_run,
            door: Door::command(),
        };
        execute(&desk, command).await
    }

    /// The events that are recorded of a person, with what they say.
    async fn acts_on(&self, person: &str) -> Vec<String> {
        let told = self.records().await.into_iter();
        let told = told.filter(|record| record.person.as_deref() == Some(person));
        let client = door::command_client();
        told.map(|record| {
            let about = record.client.strip_prefix(&client).expect("these commands");
            format!("{}{about}", record.event)
        })
        .collect()
    }

    /// (event, client) of everything that is recorded.
    async fn audit(&self) -> Vec<(String, String)> {
        let records = self.records().await.into_iter();
        let audit = records.map(|record| (record.event, record.client));
        audit.collect()
    }

    async fn records(&self) -> Vec<AuditRecord> {
        let tariff = Config::default().tariff().expect("a tariff");
        let settings = AuditSettings {
            signer: audit_signer(&self.secrets).expect("a signer"),
            witness: None,
            syslog: None,
        };
        let ledger = Ledger::open(&self.store, tariff, Default::default(), settings).await;
        let ledger = ledger.expect("a ledger");
        let records = ledger.audit(&Filter::default(), Page::FIRST).await;
        let records = records.expect("read");
        ledger.close().await.expect("closes");
        records
    }

    async fn holder(&self, text: &str) -> Option<(String, String)> {
        let token = text.lines().last().expect("a line");
        let rights = self.store.rights().await.expect("read");
        let holder = rights.verify_token(token, Utc::now()).await;
        holder
            .expect("checked")
            .map(|holder| (holder.person, holder.project))
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
            .any(|line| line.starts_with("root  Root  active  audit, billing, people, policy")),
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

/// Whoever mistypes a domain or an identifier must not believe that somebody is excluded.
#[tokio::test]
async fn an_opposition_that_excludes_nobody_is_refused() {
    let mut bench = Bench::new().await;
    let folder = bench.folder.path().join("data");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("stays.csv"), "who,ward\n1,a\n2,b\n").expect("written");
    let datasets = format!(
        "[server]\nstate = 's'\n[[dataset]]\nname = 'clinic'\nfolder = '{}'\nformat = 'csv'\n\
         producer = 'x'\n[[dataset.table]]\nname = 'stays'\nlocation = 'stays.csv'\n\
         person = {{ column = 'who' }}\ncolumns = [{{ name = 'who', identifier = 'patient' }}]\n",
        folder.display()
    );
    bench.config.datasets = toml::from_str::<Config>(&datasets).expect("valid").datasets;
    for (line, said) in [
        ("opposition add --person 1", "there are `patient`"),
        ("opposition add --person 1x --domain patient", "can hold"),
    ] {
        let error = bench.run(line).await.expect_err(line);
        assert_eq!(error.kind, crate::error::ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(said), "{error}");
    }
    assert!(bench.audit().await.is_empty());
    let added = bench.run("opposition add --person 1 --domain patient");
    added.await.expect("stands in a column");
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

#[tokio::test]
async fn a_person_is_unlocked_by_either_word_and_it_is_recorded() {
    let bench = Bench::new().await;
    bench
        .run("person add --id ada --name Ada")
        .await
        .expect("added");
    bench.run("people unlock ada").await.expect("unlocked");
    bench.run("person unlock eve").await.expect_err("nobody");
    let login = bench.store.login("ada").await.expect("read");
    assert!(login.unlocked_at.is_some());
    assert_eq!(
        bench.acts_on("ada").await,
        ["person_added", "login_unlocked"]
    );
}

#[tokio::test]
async fn a_password_and_a_second_factor_are_shown_once_and_kept_sealed() {
    let bench = Bench::new().await;
    bench
        .run("person add --id ada --name Ada")
        .await
        .expect("added");
    let said = bench
        .run("people password --person ada")
        .await
        .expect("made");
    let password = said.lines().last().expect("a password");
    let verified = bench.store.verify_password("ada", password).await;
    assert!(verified.expect("checked").is_some());
    let said = bench
        .run("people totp --person ada")
        .await
        .expect("enrolled");
    let uri = said.lines().last().expect("a URI");
    let secret = uri
        .split("secret=")
        .nth(1)
        .and_then(|rest| rest.split('&').next());
    let secret = data_encoding::BASE32_NOPAD.decode(secret.expect("a secret").as_bytes());
    let sealed = bench.store.login("ada").await.expect("read").totp_sealed;
    let (secret, sealed) = (secret.expect("base32"), sealed.expect("enrolled"));
    assert_eq!(secret.len(), 20);
    assert!(
        !sealed.windows(20).any(|part| part == secret),
        "it is not sealed"
    );
    bench
        .run("people totp --person eve")
        .await
        .expect_err("nobody");
    bench
        .run("people totp --person ada --remove")
        .await
        .expect("removed");
    let login = bench.store.login("ada").await.expect("read");
    assert_eq!(login.totp_sealed, None);
    let audit = bench.audit().await;
    let events: Vec<&str> = audit.iter().map(|(event, _)| event.as_str()).collect();
    assert_eq!(
        events,
        [
            "person_added",
            "password_set",
            "totp_enrolled",
            "totp_removed"
        ]
    );
}

#[tokio::test]
async fn roles_are_given_one_by_one_and_one_administrator_stays() {
    let bench = Bench::new().await;
    bench.run("init --id root --name Root").await.expect("made");
    bench
        .run("person add --id bill --name Bill --role billing")
        .await
        .expect("added");
    let roles = async |id: &str| bench.store.admin_roles(id).await.expect("read");
    assert_eq!(roles("root").await, AdminRole::ALL.into());
    assert_eq!(roles("bill").await, [AdminRole::Billing].into());
    bench
        .run("person roles bill --role audit --role people")
        .await
        .expect("changed");
    assert_eq!(
        roles("bill").await,
        [AdminRole::People, AdminRole::Audit].into()
    );
    bench.run("person roles bill").await.expect("taken");
    assert!(roles("bill").await.is_empty());
    for last in [
        "person roles root",
        "person roles root --role people --role policy --role audit",
        "person disable root",
    ] {
        let error = bench.run(last).await.expect_err(last);
        assert!(error.to_string().contains("the last active"), "{error}");
    }
    bench
        .run("person roles bill --role people --role billing")
        .await
        .expect("given");
    let fewer = "person roles root --role policy --role audit";
    bench
        .run(fewer)
        .await
        .expect("somebody else has the others");
    let error = bench.run("person disable bill").await;
    error.expect_err("who gives roles");
    bench
        .run("person roles root --role policy --role audit --role people --role billing")
        .await
        .expect("given");
    bench.run("person roles bill").await.expect("taken");
    bench
        .run("person roles eve --role audit")
        .await
        .expect_err("nobody");
    let parse = |line: &str| Line::try_parse_from(line.split(' ')).map(|_| ());
    parse("admin person roles bill --role god --dir d").expect_err("no such role");
    parse("admin person add --id a --name A --admin --role audit --dir d").expect_err("either");
    let token = bench.run("token create --person bill --days 5").await;
    token.expect("still a member of the catalog, which shows nothing to no role");
}

/// What is refused leaves neither a change nor a record, and what cannot be recorded is not
/// changed.
#[tokio::test]
async fn a_change_and_its_record_are_one() {
    let mut bench = Bench::new().await;
    bench.run("init --id root --name Root").await.expect("made");
    bench
        .run("person add --id two --name Two --admin")
        .await
        .expect("added");
    let made = bench.run("token create --person two --days 5").await;
    let made = made.expect("made");
    let before = bench.audit().await.len();
    for refused in [
        "person add --id two --name Again",
        "person disable eve",
        "person roles eve --role audit",
        "habilitation revoke study.shop",
        "token create --person two --project nowhere --days 5",
    ] {
        bench.run(refused).await.expect_err(refused);
    }
    assert_eq!(bench.audit().await.len(), before);
    let two = bench.store.person("two").await.expect("read");
    assert_eq!(two.as_ref().map(|two| two.name.as_str()), Some("Two"));

    // Nothing is appended to a log whose head another key signed.
    bench.secrets = Secrets::new([1; 32]);
    let id = made.lines().last().and_then(|text| text.split('_').nth(1));
    for unrecorded in [
        "person add --id eve --name Eve".to_owned(),
        "person add --id eve --name Eve --admin".into(),
        "person disable two".into(),
        "person roles two".into(),
        "people password --person two".into(),
        "token create --person two --days 5".into(),
        format!("token revoke {}", id.expect("an id")),
    ] {
        bench.run(&unrecorded).await.expect_err(&unrecorded);
    }
    assert_eq!(bench.store.person("two").await.expect("read"), two);
    assert!(bench.store.person("eve").await.expect("read").is_none());
    assert!(bench.holder(&made).await.is_some());
    assert_eq!(
        bench.store.tokens(Some("two")).await.expect("read").len(),
        1
    );
    let roles = bench.store.admin_roles("two").await.expect("read");
    assert_eq!(roles, AdminRole::ALL.into());
}

/// Two administrators who leave at once do not both find the other.
#[tokio::test(flavor = "multi_thread")]
async fn one_administrator_stays_when_two_leave_at_once() {
    let bench = Bench::new().await;
    bench.run("init --id root --name Root").await.expect("made");
    bench
        .run("person add --id two --name Two --admin")
        .await
        .expect("added");
    let (one, two) = tokio::join!(
        bench.run("person disable root"),
        bench.run("person disable two")
    );
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    let persons = bench.store.persons().await.expect("read");
    assert_eq!(persons.iter().filter(|person| person.active).count(), 1);
}

#[tokio::test]
async fn keys_of_spaces_are_dropped_on_purpose_only_and_seen_in_the_audit() {
    let bench = Bench::new().await;
    for line in [
        "space rotate-key nobody",
        "space drop-keys nobody --confirm nobody",
    ] {
        let error = bench.run(line).await.expect_err("no project");
        assert!(error.to_string().contains("`nobody`"), "{error}");
    }
    // The administrators' catalog has no space.
    let error = bench.run("space rotate-key admin").await;
    error.expect_err("no project");
    let add = "project add --id trial --from 2000-01-01 --until 2001-01-01";
    bench.run(add).await.expect("added");
    let project = "trial";
    let drop = format!("space drop-keys {project} --confirm {project}");
    let error = bench.run(&drop).await.expect_err("nothing to drop");
    assert!(error.to_string().contains("no key"), "{error}");
    let first = bench.store.newest_space_key(project).await.expect("made");
    let rotate = format!("space rotate-key {project}");
    bench.run(&rotate).await.expect("rotated");
    let second = bench.store.newest_space_key(project).await.expect("read");
    assert_eq!((first.id, second.id), (1, 2));
    let line = format!("space drop-keys {project} --confirm other");
    let error = bench.run(&line).await.expect_err("not meant");
    assert!(error.to_string().contains("--confirm trial"), "{error}");
    for key in [&first, &second] {
        let kept = bench.store.space_key(project, key.id).await;
        assert_eq!(kept.expect("read").as_ref(), Some(key));
    }
    bench.run(&drop).await.expect("dropped");
    for key in [first, second] {
        let kept = bench.store.space_key(project, key.id).await;
        assert_eq!(kept.expect("read").expect("its number").salt, None);
    }
    let events = bench.audit().await.into_iter().map(|(event, _)| event);
    let events: Vec<String> = events.filter(|event| event.starts_with("space")).collect();
    assert_eq!(events, ["space_key_rotated", "space_keys_dropped"]);
}
