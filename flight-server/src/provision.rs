//! The persons, projects and habilitations of the configuration, brought into the store.
//!
//! The file is what counts: what it lists is made or changed, and the memberships and
//! habilitations that it no longer lists end, but for habilitations that were entered by command.
//! Whoever wrote the file has decided, so that its habilitations need no confirmation. A person stays (an administrator may have made
//! them), and so do their flags and budgets, which the file does not hold. Everything is
//! checked before anything is written, and what ends is written before what begins, so that a
//! crash on the way leaves less access than meant, never more; the next start completes it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use hubflight_policy::habilitation::{Habilitation, Mode};
use hubflight_policy::{LinkageKeys, Sources};
use hubflight_store::{
    HabilitationRow, Member, NewHabilitation, Organisation, PersonProfile, Project, Store,
};

use crate::auth::ADMIN_CATALOG;
use crate::catalog::datasets::Datasets;
use crate::config::{Config, HabilitationConfig, PersonConfig, ProjectConfig};
use crate::error::{Error, Result};

/// The only role that the file gives.
const ROLE: &str = "member";
/// Characters of a person's or project's identifier.
const ID_CHARS_MAX: usize = 63;

/// Brings the store to what `config` says; doing it again changes nothing.
///
/// # Errors
/// `InvalidArgument` naming the entry that is wrong; nothing has been written then.
pub async fn provision(store: &Store, config: &Config, datasets: &Datasets) -> Result<()> {
    check_persons(&config.persons)?;
    check_projects(config, &known_persons(store, config).await?)?;
    let wanted = habilitations(config, datasets)?;

    end_habilitations(store, &wanted).await?;
    end_memberships(store, config).await?;
    for person in &config.persons {
        put_person(store, person).await?;
    }
    for project in &config.projects {
        put_project(store, project).await?;
    }
    begin_habilitations(store, wanted).await
}

/// An identifier of a person that `Basic` can carry and that no log can be forged with.
pub(crate) fn check_person_id(id: &str) -> Result<()> {
    let valid = !id.is_empty()
        && id.chars().count() <= ID_CHARS_MAX
        && id
            .chars()
            .all(|c| c.is_alphanumeric() || "._-@+".contains(c));
    if valid {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "person `{}`: write 1 to {ID_CHARS_MAX} letters, digits and `.`, `_`, `-`, `@`, `+`",
        id.escape_default()
    )))
}

fn check_persons(persons: &[PersonConfig]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for person in persons {
        check_person_id(&person.id)?;
        if !seen.insert(&person.id) {
            return Err(Error::invalid(format!(
                "person `{}` is listed twice; keep one",
                person.id
            )));
        }
    }
    Ok(())
}

/// Everybody whom a project may list: the file's persons and the store's.
async fn known_persons(store: &Store, config: &Config) -> Result<BTreeSet<String>> {
    let stored = store.persons().await?.into_iter().map(|person| person.id);
    let listed = config.persons.iter().map(|person| person.id.clone());
    Ok(stored.chain(listed).collect())
}

fn check_projects(config: &Config, persons: &BTreeSet<String>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for project in &config.projects {
        let wrong = |problem: String| {
            Err(Error::invalid(format!(
                "project `{}`: {problem}",
                project.id
            )))
        };
        if !is_catalog_name(&project.id) {
            return wrong(format!(
                "its name becomes a SQL catalog; write lowercase letters, digits and `_`, a \
                 letter first, at most {ID_CHARS_MAX}, and not `{ADMIN_CATALOG}`"
            ));
        }
        if !seen.insert(&project.id) {
            return wrong("it is listed twice; keep one".into());
        }
        if project.organisation.is_empty() {
            return wrong("its `organisation`, which pays, has no name".into());
        }
        if project.valid_to < project.valid_from {
            return wrong("it ends before it begins; set `valid_to` later".into());
        }
        if let Some(unknown) = project
            .members
            .iter()
            .find(|member| !persons.contains(*member))
        {
            return wrong(format!(
                "its member `{unknown}` is no person of the hub; add a `[[person]]`"
            ));
        }
        quota_bytes(project)?;
    }
    Ok(())
}

fn is_catalog_name(id: &str) -> bool {
    id != ADMIN_CATALOG
        && id.len() <= ID_CHARS_MAX
        && id.starts_with(|first: char| first.is_ascii_lowercase())
        && id
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn quota_bytes(project: &ProjectConfig) -> Result<i64> {
    project
        .space_quota_mb
        .checked_mul(1 << 20)
        .and_then(|bytes| i64::try_from(bytes).ok())
        .ok_or_else(|| {
            Error::invalid(format!(
                "project `{}`: `space_quota_mb` is too large; write a smaller number",
                project.id
            ))
        })
}

/// The first instant of a day.
fn begin_of(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

/// The instant after a day, which is the last that a period includes.
fn end_of(day: NaiveDate) -> DateTime<Utc> {
    begin_of(day.checked_add_days(Days::new(1)).unwrap_or(day))
}

/// The habilitations of the file by identifier, each checked against the datasets and their
/// files. Their version is 1 until the store says which it is.
fn habilitations(config: &Config, datasets: &Datasets) -> Result<BTreeMap<String, Habilitation>> {
    let mut wanted = BTreeMap::new();
    for entry in &config.habilitations {
        let habilitation = habilitation(entry);
        let id = habilitation.id.clone();
        if !config
            .projects
            .iter()
            .any(|project| project.id == entry.project)
        {
            return Err(Error::invalid(format!(
                "habilitation `{id}` is for project `{}`, which is not listed; add a \
                 `[[project]]`",
                entry.project
            )));
        }
        check_habilitation(&habilitation, datasets)?;
        if wanted.insert(id.clone(), habilitation).is_some() {
            return Err(Error::invalid(format!(
                "project `{}` has two habilitations for dataset `{}`; merge them",
                entry.project, entry.dataset
            )));
        }
    }
    Ok(wanted)
}

pub(crate) fn habilitation(entry: &HabilitationConfig) -> Habilitation {
    // Without a group of its own choice a dataset is linked with no other: no group that the
    // file can name is written like this one by accident.
    let unlinked = || format!("dataset:{}", entry.dataset);
    Habilitation {
        id: format!("{}.{}", entry.project, entry.dataset),
        version: 1,
        project: entry.project.clone(),
        dataset: entry.dataset.clone(),
        mode: entry.mode,
        tables: entry.tables.clone(),
        persons: entry.persons.clone(),
        linkage_group: entry.linkage_group.clone().unwrap_or_else(unlinked),
        zones: entry.zones.clone(),
        valid_from: begin_of(entry.valid_from),
        valid_to: end_of(entry.valid_to),
        decision: entry.decision.clone(),
    }
}

/// Checks the description, then opens every table, which checks it against the files.
pub(crate) fn check_habilitation(habilitation: &Habilitation, datasets: &Datasets) -> Result<()> {
    let wrong = |error: hubflight_policy::PolicyError| Error::invalid(error.to_string());
    habilitation
        .validate(|name| datasets.dataset(name))
        .map_err(wrong)?;
    let Some(dataset) = datasets.dataset(&habilitation.dataset) else {
        return Ok(());
    };
    if habilitation.mode == Mode::Row {
        // Which keys is of no matter here: nothing is read.
        let keys = LinkageKeys::new([0; 32], &habilitation.project);
        for table in hubflight_policy::granted_tables(&dataset, habilitation) {
            hubflight_policy::open_table(datasets, habilitation, &table, &keys).map_err(wrong)?;
        }
    }
    Ok(())
}

/// The newest version of every habilitation that was ever stored.
async fn newest(store: &Store) -> Result<BTreeMap<String, HabilitationRow>> {
    // Rows come by version, so that the newest remains.
    let rows = store.habilitations().await?;
    Ok(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
}

/// True where the stored version is in force and says what the file says. Both are read from
/// text, which may round a number in its last digit.
fn is_same(stored: &HabilitationRow, wanted: &Habilitation) -> bool {
    let candidate = Habilitation {
        version: stored.version,
        ..wanted.clone()
    };
    let read = |text: &str| serde_json::from_str::<Habilitation>(text).ok();
    let candidate = serde_json::to_string(&candidate).ok();
    let candidate = candidate.as_deref().and_then(read);
    stored.revoked_at.is_none()
        && stored.entered_by.is_none()
        && candidate.is_some()
        && candidate == read(&stored.body)
}

/// Revokes what is not in the file any more, or says something else there.
async fn end_habilitations(store: &Store, wanted: &BTreeMap<String, Habilitation>) -> Result<()> {
    for (id, stored) in newest(store).await? {
        let same = wanted
            .get(&id)
            .is_some_and(|wanted| is_same(&stored, wanted));
        // What was entered by command is not the file's to end, unless the file decides on it.
        let foreign = stored.entered_by.is_some() && !wanted.contains_key(&id);
        if !same && !foreign && stored.revoked_at.is_none() {
            store.revoke_habilitation(&id).await?;
            tracing::info!(%id, version = stored.version, "habilitation revoked");
        }
    }
    Ok(())
}

async fn begin_habilitations(store: &Store, wanted: BTreeMap<String, Habilitation>) -> Result<()> {
    let stored = newest(store).await?;
    for (id, mut habilitation) in wanted {
        match stored.get(&id) {
            Some(row) if is_same(row, &habilitation) => continue,
            Some(row) => {
                habilitation.version = row.version.checked_add(1).ok_or_else(|| {
                    Error::invalid(format!("habilitation `{id}` has no version number left"))
                })?;
            }
            None => {}
        }
        let body = serde_json::to_string(&habilitation)
            .map_err(|error| Error::internal("a habilitation cannot be written", &error))?;
        let new = NewHabilitation {
            id: id.clone(),
            version: habilitation.version,
            project: habilitation.project,
            dataset: habilitation.dataset,
            body,
        };
        store.put_habilitation(&new).await?;
        tracing::info!(%id, version = new.version, "habilitation begun");
    }
    Ok(())
}

/// Ends memberships that the file does not list. The administrators' catalog is not the file's.
async fn end_memberships(store: &Store, config: &Config) -> Result<()> {
    for member in store.members(None).await? {
        let listed = config.projects.iter().any(|project| {
            project.id == member.project && project.members.contains(&member.person)
        });
        if !listed && member.project != ADMIN_CATALOG {
            store.remove_member(&member.project, &member.person).await?;
            tracing::info!(project = %member.project, person = %member.person, "membership ended");
        }
    }
    Ok(())
}

async fn put_person(store: &Store, listed: &PersonConfig) -> Result<()> {
    let stored = store.person(&listed.id).await?;
    let name = match (&stored, listed.name.is_empty()) {
        (Some(stored), true) => stored.name.clone(),
        (None, true) => listed.id.clone(),
        (_, false) => listed.name.clone(),
    };
    // Who was disabled by an administrator stays so.
    let profile = PersonProfile {
        id: listed.id.clone(),
        name,
        active: stored.as_ref().is_none_or(|person| person.active),
        is_admin: stored.as_ref().is_some_and(|person| person.is_admin),
    };
    store.put_person(&profile).await?;
    Ok(())
}

async fn put_project(store: &Store, listed: &ProjectConfig) -> Result<()> {
    let organisations = store.organisations().await?;
    if !organisations
        .iter()
        .any(|known| known.id == listed.organisation)
    {
        let organisation = Organisation {
            id: listed.organisation.clone(),
            name: listed.organisation.clone(),
        };
        store.put_organisation(&organisation).await?;
    }
    let stored = store.project(&listed.id).await?;
    let project = Project {
        id: listed.id.clone(),
        title: listed.title.clone(),
        purpose: listed.purpose.clone(),
        organisation: listed.organisation.clone(),
        valid_from: begin_of(listed.valid_from),
        valid_to: end_of(listed.valid_to),
        space_quota_bytes: quota_bytes(listed)?,
        budget: stored.and_then(|project| project.budget),
    };
    store.put_project(&project).await?;
    let members = store.members(Some(&listed.id)).await?;
    for person in &listed.members {
        if !members.iter().any(|member| member.person == *person) {
            let member = Member {
                project: listed.id.clone(),
                person: person.clone(),
                role: ROLE.into(),
            };
            store.put_member(&member).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::SessionContext;
    use hubflight_policy::habilitation::Tables;

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
            provision(&self.store, config, &datasets).await
        }

        async fn in_force(&self) -> Vec<(u32, Habilitation)> {
            let rows = self.store.habilitations_of("study").await.expect("read");
            rows.iter()
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
        let disabled = PersonProfile {
            id: "ada".into(),
            name: "x".into(),
            active: false,
            is_admin: false,
        };
        bench.store.put_person(&disabled).await.expect("written");
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
}
