//! What a dry run tells: the same as the command's, of each column, and nothing happens.

use clap::Parser;

use hubflight_store::{ExportState, NewExport};

use super::super::super::door::{Door, Session};
use super::super::super::habilitation::acting;
use super::super::super::{Desk, HubCommand, execute};
use super::*;
use crate::catalog::space::schema_to_ipc;

/// What a habilitation of `trial` says, with more keys.
pub(super) fn grant(more: &str) -> String {
    format!(
        "project = 'trial'\ndataset = 'shop'\ndecision = 'DR-1'\nvalid_from = '2000-01-01'\n\
         valid_to = '2999-01-01'\n{more}"
    )
}

const MASKED: &str =
    "tables = { only = [{ table = 'sales', masks = [['commune', 'department']] }] }";
const FILTERED: &str = "tables = { only = [{ table = 'sales', rows = { compare = \
                        { column = 'year', op = 'ge', value = { int = 1990 } } } }] }";

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: HubCommand,
}

impl Bench {
    /// A dry run as a command's.
    async fn command(&self, line: &str) -> Vec<String> {
        let words = ["admin"].into_iter().chain(line.split_whitespace());
        let words = words.chain(["--dry-run", "--dir", "nowhere"]);
        let command = Line::try_parse_from(words).expect(line).command;
        let desk = Desk {
            config: self.hub.config.clone(),
            store: self.hub.store.clone(),
            secrets: self.hub.secrets().clone(),
            now: Utc::now(),
            dry_run: true,
            door: Door::command(),
        };
        let told = execute(&desk, command).await.expect(line);
        told.lines().map(str::to_owned).collect()
    }

    /// A dry run by both doors, which change nothing and say the same; then it is done.
    async fn told_and_done(&self, caller: &Caller, sql: &str, line: &str) -> Vec<String> {
        let before = (self.revision().await, self.acts().await.len());
        let told = self.rows(caller, &format!("EXPLAIN {sql}")).await;
        let commanded = self.command(line).await;
        assert_eq!(told, commanded, "{sql}");
        assert_eq!(told[0], "dry run: nothing is changed", "{sql}");
        let after = (self.revision().await, self.acts().await.len());
        assert_eq!(after, before, "{sql}");
        self.done(caller, sql).await;
        assert!(self.revision().await > before.0, "{sql}");
        told
    }

    async fn token(&self, person: &str) -> String {
        let token = NewToken {
            person: person.into(),
            project: ADMIN_CATALOG.into(),
            name: String::new(),
            expires_at: Utc::now() + TimeDelta::days(1),
        };
        let issued = self.hub.store.issue_token(&token).await.expect("issued");
        issued.text.to_string()
    }

    /// Enters a version of the habilitation, and lets `two` confirm it; what both are told.
    async fn decide(&self, more: &str, version: u32) -> (Vec<String>, Vec<String>) {
        let (root, two) = (self.admin("root").await, self.admin("two").await);
        let (text, file) = (grant(more), self.folder.path().join("grant.toml"));
        std::fs::write(&file, &text).expect("written");
        let enter = format!(
            "CALL hub.habilitation_enter('{}')",
            text.replace('\'', "''")
        );
        let line = format!(
            "habilitation enter --file {} --token {}",
            file.display(),
            self.token("root").await
        );
        let entering = self.told_and_done(&root, &enter, &line).await;
        let confirm = format!("CALL hub.habilitation_confirm('trial.shop', {version})");
        let line = format!(
            "habilitation confirm trial.shop --version {version} --token {}",
            self.token("two").await
        );
        (entering, self.told_and_done(&two, &confirm, &line).await)
    }
}

fn has(told: &[String], part: &str) -> bool {
    told.iter().any(|line| line.contains(part))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_what_the_command_tells_and_changes_nothing() {
    let bench = Bench::new().await;
    let root = bench.admin("root").await;
    for (sql, line) in [
        (
            "CALL hub.person_add('eve', 'Eve')",
            "person add --id eve --name Eve",
        ),
        (
            "CALL hub.person_rename('eve', 'Eva')",
            "person rename eve --name Eva",
        ),
        (
            "CALL hub.person_roles('eve', 'audit, billing')",
            "person roles eve --role audit --role billing",
        ),
        ("CALL hub.person_unlock('eve')", "person unlock eve"),
        (
            "CALL hub.project_add('trial', '2000-01-01', '2998-12-31')",
            "project add --id trial --from 2000-01-01 --until 2998-12-31",
        ),
        (
            "CALL hub.project_change('trial', title => 'T')",
            "project change trial --title T",
        ),
        (
            "CALL hub.project_extend('trial', '2997-12-31')",
            "project extend trial --until 2997-12-31",
        ),
        (
            "CALL hub.project_join('trial', 'ada')",
            "project join trial --person ada",
        ),
    ] {
        let told = bench.told_and_done(&root, sql, line).await;
        assert!(has(&told, "would record: "), "{sql}: {told:?}");
    }
    let sees = "`ada` in project `trial` sees rows of dataset `shop`";
    let (entering, confirming) = bench.decide("", 1).await;
    assert!(
        has(&entering, "once a second person has confirmed it"),
        "{entering:?}"
    );
    for told in [&entering, &confirming] {
        assert!(has(told, &format!("+ {sees}")), "{told:?}");
        for column in ["item", "commune", "year"] {
            let line =
                format!("+ project `trial`: column `shop.sales.{column}` as stored, rows: all");
            assert!(told.contains(&line), "{told:?}");
        }
    }

    // Another mask is told of its column alone, another filter of each column that it shows.
    let (_, told) = bench.decide(MASKED, 2).await;
    let of_commune = "project `trial`: column `shop.sales.commune`";
    assert!(
        told.contains(&format!("- {of_commune} as stored, rows: all")),
        "{told:?}"
    );
    assert!(
        told.contains(&format!("+ {of_commune} masked: Department, rows: all")),
        "{told:?}"
    );
    assert!(!has(&told, "shop.sales.item"), "{told:?}");
    let (_, told) = bench.decide(FILTERED, 3).await;
    assert!(
        told.contains(&format!("+ {of_commune} as stored, rows: filtered")),
        "{told:?}"
    );
    let filter = "+ project `trial`: rows of `shop.sales` where";
    let begins = told.iter().position(|line| line == filter);
    let condition = begins.map(|begins| told[begins + 1].as_str());
    assert_eq!(condition, Some("    \"year\" >= 1990"), "{told:?}");

    for (sql, line) in [
        ("CALL hub.person_disable('ada')", "person disable ada"),
        ("CALL hub.person_enable('ada')", "person enable ada"),
        (
            "CALL hub.project_leave('trial', 'ada')",
            "project leave trial --person ada",
        ),
        (
            "CALL hub.project_join('trial', 'ada')",
            "project join trial --person ada",
        ),
        (
            "CALL hub.habilitation_revoke('trial.shop')",
            "habilitation revoke trial.shop",
        ),
        ("CALL hub.project_end('trial')", "project end trial"),
    ] {
        let told = bench.told_and_done(&root, sql, line).await;
        // Who moves persons is not told what filters say.
        let is_told = has(&told, "shop.sales");
        assert_eq!(is_told, sql.contains("habilitation"), "{sql}: {told:?}");
    }
}

/// Whoever confirms is told of all that a version says, also where nobody is a member yet.
#[tokio::test(flavor = "multi_thread")]
async fn no_part_of_a_habilitation_is_confirmed_unseen() {
    let bench = Bench::new().await;
    let root = bench.admin("root").await;
    let add = "CALL hub.project_add('trial', '2000-01-01', '2998-12-31')";
    bench.done(&root, add).await;
    let (_, told) = bench.decide("", 1).await;
    for line in [
        "+ project `trial`: `shop` from 2000-01-01 00:00 until 2999-01-02 00:00",
        "+ project `trial`: `shop` by decision \"DR-1\"",
        "+ project `trial`: linkage group \"dataset:shop\" links identifiers of `shop`",
        "+ project `trial`: column `shop.sales.item` as stored, rows: all",
        "nobody's access to data changes",
    ] {
        assert!(told.iter().any(|told| told == line), "{line}: {told:?}");
    }
    let join = "CALL hub.project_join('trial', 'ada')";
    bench.done(&root, join).await;
    // Another linkage group alone.
    let (_, told) = bench.decide("linkage_group = 'joined'", 2).await;
    for line in [
        "- project `trial`: linkage group \"dataset:shop\" links identifiers of `shop`",
        "+ project `trial`: linkage group \"joined\" links identifiers of `shop`",
    ] {
        assert!(told.iter().any(|told| told == line), "{line}: {told:?}");
    }
    assert!(!has(&told, "column `shop"), "{told:?}");
    // A condition is told to its end.
    let years: Vec<String> = (1900..2000)
        .map(|year| {
            format!("{{ compare = {{ column = 'year', op = 'eq', value = {{ int = {year} }} }} }}")
        })
        .collect();
    let long = format!(
        "tables = {{ only = [{{ table = 'sales', rows = {{ or = [{}, {{ is_null = {{ column = \
         'item' }} }}] }} }}] }}",
        years.join(", ")
    );
    let (_, told) = bench.decide(&long, 3).await;
    for line in [
        "    any of",
        "        \"year\" = 1999",
        "        \"item\" is null",
    ] {
        assert!(told.iter().any(|told| told == line), "{line}: {told:?}");
    }
}

/// What begins or goes on later is told with its day.
#[tokio::test(flavor = "multi_thread")]
async fn what_opens_later_is_told_too() {
    let bench = Bench::new().await;
    let root = bench.admin("root").await;
    let add = "CALL hub.project_add('trial', '2000-01-01', '2500-12-31')";
    bench.done(&root, add).await;
    bench
        .done(&root, "CALL hub.project_join('trial', 'ada')")
        .await;
    let text = grant("")
        .replace("2000-01-01", "2400-06-01")
        .replace('\'', "''");
    let enter = format!("CALL hub.habilitation_enter('{text}')");
    let sees = "+ from 2400-06-01 00:00: `ada` in project `trial` sees rows";
    let told = bench.rows(&root, &format!("EXPLAIN {enter}")).await;
    assert!(
        has(&told, sees) && !has(&told, "nobody's access"),
        "{told:?}"
    );
    bench.done(&root, &enter).await;
    let two = bench.admin("two").await;
    let confirm = "CALL hub.habilitation_confirm('trial.shop', 1)";
    let told = bench.rows(&two, &format!("EXPLAIN {confirm}")).await;
    assert!(
        has(&told, sees) && !has(&told, "nobody's access"),
        "{told:?}"
    );
    bench.done(&two, confirm).await;
    let extend = "EXPLAIN CALL hub.project_extend('trial', '2600-12-31')";
    let told = bench.rows(&root, extend).await;
    for line in [
        "+ from 2501-01-01 00:00: `ada` works in project `trial`",
        "+ from 2501-01-01 00:00: `ada` in project `trial` sees rows",
    ] {
        assert!(has(&told, line), "{told:?}");
    }
    let end = "EXPLAIN CALL hub.project_end('trial')";
    let told = bench.rows(&root, end).await;
    let line = "- from 2400-06-01 00:00: `ada` in project `trial` sees rows";
    assert!(has(&told, line), "{told:?}");
}

/// Others administer while a dry run judges.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_ends_with_its_change() {
    let bench = Bench::new().await;
    let caller = bench.admin("root").await;
    let standing = &caller.principal.standing;
    let session = Session::new(&bench.hub, standing, AdminRole::People).await;
    let desk = Desk::of_session(session, true);
    assert!(bench.hub.administering.try_lock().is_err());
    let change = desk.change().await.expect("begins");
    assert!(bench.hub.administering.try_lock().is_err());
    drop(change);
    assert!(bench.hub.administering.try_lock().is_ok());
    // Who has the role of a statement has no other by it.
    let acting = acting(&desk, None, AdminRole::Policy).await;
    let error = acting.expect_err("another role");
    assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error}");
}

/// Purposes, findings and columns of what was not released do not leave by catalog `admin` either.
#[tokio::test(flavor = "multi_thread")]
async fn what_exports_hold_is_shown_inside_alone() {
    let bench = Bench::new().await;
    let schema = Schema::new(vec![Field::new("sex Utf8, age", DataType::Int64, true)]);
    let new = NewExport {
        id: "e1".into(),
        project: "p".into(),
        name: "e1".into(),
        purpose: "an article".into(),
        statement_id: "s".into(),
        requested_by: "ada".into(),
        requested_at: Utc::now(),
        rows: 2,
        bytes: 100,
        digest: [7; 32],
        schema_ipc: schema_to_ipc(&schema).expect("writes"),
        findings: "[]".into(),
        labels: "{}".into(),
        state: ExportState::Waiting,
        expires_at: Utc::now() + TimeDelta::days(1),
    };
    let mut write = bench.hub.store.change_rights().await.expect("begins");
    write.put_export(&new).await.expect("entered");
    write.commit().await.expect("committed");
    let sql = "SELECT id, purpose, findings, columns FROM hub.exports";
    let mut aude = bench.admin("aude").await;
    let expected = ["e1|an article||\"sex Utf8, age\" Int64"];
    assert_eq!(bench.rows(&aude, sql).await, expected);
    aude.zone = Zone::default();
    assert_eq!(bench.rows(&aude, sql).await, ["e1|||"]);
}

/// Nobody says who runs a command, but the system does.
#[tokio::test]
async fn the_audit_names_the_user_of_a_command() {
    let client = Door::command().client();
    let uid = client.strip_prefix("flight-server admin by uid ");
    let uid = uid.and_then(|uid| uid.parse::<u32>().ok());
    use std::os::unix::fs::MetadataExt;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let own = file.as_file().metadata().expect("its owner").uid();
    assert_eq!(uid, Some(own), "{client}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_tell_who_sees_what_and_what_is_due() {
    let bench = Bench::new().await;
    let (root, two) = (bench.admin("root").await, bench.admin("two").await);
    let until = (Utc::now() + TimeDelta::days(30)).format("%Y-%m-%d");
    bench
        .done(
            &root,
            &format!("CALL hub.project_add('trial', '2000-01-01', '{until}', 'T')"),
        )
        .await;
    bench
        .done(&root, "CALL hub.project_join('trial', 'ada')")
        .await;
    let projects = "SELECT id, title, state, made_by FROM hub.projects ORDER BY id";
    let expected = ["p||open|configuration", "trial|T|open|command"];
    assert_eq!(bench.rows(&root, projects).await, expected);

    let text = grant(MASKED).replace('\'', "''");
    bench
        .done(&root, &format!("CALL hub.habilitation_enter('{text}')"))
        .await;
    let due = "SELECT what, id, version, by, reason FROM hub.review_due ORDER BY what";
    let expected = [
        "habilitation|trial.shop|1|root|waits for confirmation",
        "project|trial|||ends within 60 days",
    ];
    assert_eq!(bench.rows(&two, due).await, expected);
    let listed = bench.command("due").await;
    assert!(
        listed.len() == 3 && has(&listed, "waits for confirmation"),
        "{listed:?}"
    );

    let access = "SELECT column_name, zone, members, linkage_group, shown, visible_rows, \
                  habilitation, version, decision, \
                  entered_by, confirmed_by FROM hub.access WHERE project = 'trial' ORDER BY 1";
    assert!(
        bench.rows(&two, access).await.is_empty(),
        "nobody has confirmed it"
    );
    bench
        .done(&two, "CALL hub.habilitation_confirm('trial.shop', 1)")
        .await;
    let why = "trial.shop|1|DR-1|root|two";
    let expected = [
        format!("commune|inside|ada|dataset:shop|masked: Department|all|{why}"),
        format!("item|inside|ada|dataset:shop|as stored|all|{why}"),
        format!("year|inside|ada|dataset:shop|as stored|all|{why}"),
    ];
    let habilitations = "SELECT linkage_group, export FROM hub.habilitations \
                         WHERE project = 'trial'";
    assert_eq!(
        bench.rows(&two, habilitations).await,
        ["dataset:shop|rules"]
    );
    for line in ["habilitation list", "who shop.sales.item"] {
        assert!(
            has(&bench.command(line).await, "  dataset:shop  "),
            "{line}"
        );
    }
    assert_eq!(bench.rows(&two, access).await, expected);
    assert!(
        !has(&bench.rows(&two, due).await, "waits"),
        "it is confirmed"
    );

    // They are for their roles, and in no project.
    for (person, catalog) in [
        ("bill", ADMIN_CATALOG),
        ("pia", ADMIN_CATALOG),
        ("both", "p"),
    ] {
        let caller = bench.caller(person, catalog).await;
        for table in ["access", "review_due"] {
            let sql = format!("SELECT * FROM hub.{table}");
            let error = bench.call(&caller, &sql).await.expect_err(&sql);
            assert_eq!(error.kind, ErrorKind::NotFound, "{person}: {error}");
        }
    }
}
