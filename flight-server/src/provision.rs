//! The persons, projects and habilitations of the configuration, brought into the store.
//!
//! The file is what counts: what it lists is made or changed, and the memberships, identities and
//! habilitations that it no longer lists end, but for habilitations that were entered by command.
//! Whoever wrote the file has decided, so that its habilitations need no confirmation. A person
//! stays (an administrator may have made them), and so do their flags and budgets, which the file
//! does not hold. Everything is checked before anything is written, and all that is written is one
//! transaction with its entries in the audit.

mod identities;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use hubflight_policy::Sources;
use hubflight_rights::habilitation::{Habilitation, Mode};
use hubflight_store::{
    HabilitationRow, Member, NewHabilitation, Organisation, PersonProfile, Project, Put, Secrets,
    Store,
};

use crate::auth::ADMIN_CATALOG;
use crate::catalog::datasets::Datasets;
use crate::change::{Act, Change};
use crate::config::{Config, HabilitationConfig, PersonConfig, ProjectConfig};
use crate::error::{Error, Result};
use crate::linkage;
use crate::versions::{UNCONFIRMED, Version, states};

/// What the audit calls the configuration.
const CLIENT: &str = "flight-server configuration";
/// The only role that the file gives.
const ROLE: &str = "member";
/// Characters of a person's or project's identifier.
const ID_CHARS_MAX: usize = 63;

/// Brings the store to what `config` says; doing it again changes nothing.
///
/// # Errors
/// `InvalidArgument` naming the entry that is wrong; nothing has been written then.
pub async fn provision(
    store: &Store,
    secrets: &Secrets,
    config: &Config,
    datasets: &Datasets,
) -> Result<()> {
    check_persons(&config.persons)?;
    check_projects(config, &known_persons(store, config).await?)?;
    let wanted = habilitations(config, datasets)?;
    let identities = config.identities()?;

    let now = Utc::now();
    let mut change = Change::begin(store, secrets, CLIENT, now).await?;
    let stored = change.write.habilitations().await?;
    end_habilitations(&mut change, &stored, &wanted).await?;
    end_memberships(&mut change, config).await?;
    identities::end(&mut change, &identities).await?;
    for person in &config.persons {
        put_person(&mut change, person).await?;
    }
    identities::begin(&mut change, identities).await?;
    for project in &config.projects {
        put_project(&mut change, project).await?;
    }
    begin_habilitations(&mut change, &stored, wanted).await?;
    tell_unconfirmed(&mut change, now).await?;
    change.commit().await
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
        check_project(project, persons)?;
        if !seen.insert(&project.id) {
            return Err(Error::invalid(format!(
                "project `{}`: it is listed twice; keep one",
                project.id
            )));
        }
    }
    Ok(())
}

/// A project by itself, of persons who are known.
pub(crate) fn check_project(project: &ProjectConfig, persons: &BTreeSet<String>) -> Result<()> {
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
pub(crate) fn end_of(day: NaiveDate) -> DateTime<Utc> {
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
        export: entry.export,
        valid_from: begin_of(entry.valid_from),
        valid_to: end_of(entry.valid_to),
        decision: entry.decision.clone(),
    }
}

/// Checks the description, then opens every table, which checks it against the files.
pub(crate) fn check_habilitation(habilitation: &Habilitation, datasets: &Datasets) -> Result<()> {
    habilitation
        .validate(|name| datasets.dataset(name))
        .map_err(|error| Error::invalid(error.to_string()))?;
    let Some(dataset) = datasets.dataset(&habilitation.dataset) else {
        return Ok(());
    };
    if habilitation.mode == Mode::Row {
        // Which keys is of no matter here: nothing is read.
        let (nobodys, group) = (Secrets::new([0; 32]), &habilitation.linkage_group);
        let keys = linkage::keys(&nobodys, &habilitation.project, group, 1)?;
        let wrong = |error: hubflight_policy::PolicyError| Error::invalid(error.to_string());
        for table in hubflight_policy::granted_tables(&dataset, habilitation) {
            hubflight_policy::open_table(datasets, habilitation, &table, &keys).map_err(wrong)?;
        }
    }
    Ok(())
}

/// The newest version of each habilitation that was decided on, by identifier: drafts decide
/// nothing. Rows come by version, so that the newest remains.
fn newest_decided(stored: &[HabilitationRow]) -> BTreeMap<&str, &HabilitationRow> {
    let decided = stored.iter().filter(|row| !row.is_pending());
    decided.map(|row| (row.id.as_str(), row)).collect()
}

/// True where the stored version is the file's, is in force and says what the file says. Both
/// are read from text, which may round a number in its last digit.
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

/// Revokes, version by version, what the file does not say any more. What was entered by
/// command is not the file's to end, unless the file decides on the same.
async fn end_habilitations(
    change: &mut Change<'_>,
    stored: &[HabilitationRow],
    wanted: &BTreeMap<String, Habilitation>,
) -> Result<()> {
    let newest = newest_decided(stored);
    for row in stored.iter().filter(|row| row.revoked_at.is_none()) {
        let stays = match wanted.get(&row.id) {
            Some(wanted) => {
                let newest = newest.get(row.id.as_str());
                newest.is_some_and(|newest| newest.version == row.version) && is_same(row, wanted)
            }
            None => row.entered_by.is_some(),
        };
        if !stays {
            change.write.revoke_version(&row.id, row.version).await?;
            change.record(Act {
                event: "habilitation_revoked",
                project: Some(row.project.clone()),
                detail: format!("habilitation {} version {}", row.id, row.version),
                ..Act::default()
            });
            tracing::info!(id = %row.id, version = row.version, "habilitation revoked");
        }
    }
    Ok(())
}

/// `stored` is what there was before [`end_habilitations`].
async fn begin_habilitations(
    change: &mut Change<'_>,
    stored: &[HabilitationRow],
    wanted: BTreeMap<String, Habilitation>,
) -> Result<()> {
    let newest = newest_decided(stored);
    let last: BTreeMap<&str, u32> = stored
        .iter()
        .map(|row| (row.id.as_str(), row.version))
        .collect();
    for (id, mut habilitation) in wanted {
        let decided = newest.get(id.as_str());
        if decided.is_some_and(|row| is_same(row, &habilitation)) {
            continue;
        }
        let last = last.get(id.as_str()).copied().unwrap_or(0);
        habilitation.version = last.checked_add(1).ok_or_else(|| {
            Error::invalid(format!("habilitation `{id}` has no version number left"))
        })?;
        let body = serde_json::to_string(&habilitation)
            .map_err(|error| Error::internal("a habilitation cannot be written", &error))?;
        let new = NewHabilitation {
            id: id.clone(),
            version: habilitation.version,
            project: habilitation.project,
            dataset: habilitation.dataset,
            body,
        };
        change.write.put_habilitation(&new).await?;
        tracing::info!(%id, version = new.version, "habilitation begun");
        change.record(Act {
            event: "habilitation_begun",
            project: Some(new.project),
            detail: format!("habilitation {id} version {}", new.version),
            ..Act::default()
        });
    }
    Ok(())
}

/// Tells, at each start, which rights are shut because who confirmed them has become a member.
/// A version that cannot be read is an error where somebody uses it.
pub(crate) async fn tell_unconfirmed(change: &mut Change<'_>, now: DateTime<Utc>) -> Result<()> {
    let rows = change.write.habilitations().await?.into_iter();
    let versions: Vec<Version> = rows.filter_map(|row| Version::read(row).ok()).collect();
    let states = states(&versions, now);
    for (Version { row, .. }, state) in versions.into_iter().zip(states) {
        if state != UNCONFIRMED {
            continue;
        }
        let (id, version) = (&row.id, row.version);
        let confirmer = row.confirmed_by.as_deref().unwrap_or_default();
        tracing::warn!(
            "habilitation `{id}` version {version} is not in force: `{confirmer}`, who confirmed \
             it, is a member of the project; let another administrator run `admin habilitation \
             confirm {id} --version {version}`"
        );
        change.record(Act {
            event: "habilitation_unconfirmed",
            detail: format!("habilitation {id} version {version}"),
            person: row.confirmed_by,
            project: Some(row.project),
        });
    }
    Ok(())
}

/// Ends memberships that the file does not list. The administrators' catalog is not the file's,
/// nor are projects that a command made.
async fn end_memberships(change: &mut Change<'_>, config: &Config) -> Result<()> {
    let mut others = change.write.projects_by_command().await?;
    others.retain(|id| !config.projects.iter().any(|listed| listed.id == *id));
    others.push(ADMIN_CATALOG.to_owned());
    for member in change.write.members(None).await? {
        let listed = config.projects.iter().any(|project| {
            project.id == member.project && project.members.contains(&member.person)
        });
        if listed || others.contains(&member.project) {
            continue;
        }
        remove_member(change, &member.project, &member.person).await?;
    }
    Ok(())
}

/// Ends a membership.
pub(crate) async fn remove_member(
    change: &mut Change<'_>,
    project: &str,
    person: &str,
) -> Result<()> {
    change.write.remove_member(project, person).await?;
    tracing::info!(%project, %person, "membership ended");
    change.record(Act {
        event: "member_removed",
        person: Some(person.to_owned()),
        project: Some(project.to_owned()),
        ..Act::default()
    });
    Ok(())
}

/// Who was disabled by an administrator stays so.
async fn put_person(change: &mut Change<'_>, listed: &PersonConfig) -> Result<()> {
    let mut profile = PersonProfile {
        id: listed.id.clone(),
        name: listed.name.clone(),
        active: true,
        is_admin: false,
    };
    let put = if listed.name.is_empty() {
        profile.name.clone_from(&listed.id);
        change.write.add_person(&profile).await?
    } else {
        change.write.put_person(&profile).await?
    };
    if put == Put::Created {
        change.record(Act {
            event: "person_added",
            person: Some(profile.id),
            ..Act::default()
        });
    }
    Ok(())
}

async fn put_project(change: &mut Change<'_>, listed: &ProjectConfig) -> Result<()> {
    put_stored(change, listed).await?;
    change.write.set_by_command(&listed.id, false).await?;
    for person in &listed.members {
        add_member(change, &listed.id, person).await?;
    }
    Ok(())
}

/// The project as it is listed, without its members; with an entry where that changes it.
pub(crate) async fn put_stored(change: &mut Change<'_>, listed: &ProjectConfig) -> Result<()> {
    let organisation = Organisation {
        id: listed.organisation.clone(),
        name: listed.organisation.clone(),
    };
    change.write.add_organisation(&organisation).await?;
    let stored = change.write.project(&listed.id).await?;
    let project = Project {
        id: listed.id.clone(),
        title: listed.title.clone(),
        purpose: listed.purpose.clone(),
        organisation: listed.organisation.clone(),
        valid_from: begin_of(listed.valid_from),
        valid_to: end_of(listed.valid_to),
        space_quota_bytes: quota_bytes(listed)?,
        budget: stored.as_ref().and_then(|project| project.budget),
    };
    if stored.as_ref() != Some(&project) {
        let put = change.write.put_project(&project).await?;
        change.record(Act {
            event: match put {
                Put::Created => "project_added",
                Put::Updated => "project_changed",
            },
            project: Some(project.id),
            detail: format!("from {} to {}", listed.valid_from, listed.valid_to),
            ..Act::default()
        });
    }
    Ok(())
}

/// Makes a person a member, unless they are one.
pub(crate) async fn add_member(
    change: &mut Change<'_>,
    project: &str,
    person: &str,
) -> Result<Put> {
    let members = change.write.members(Some(project)).await?;
    if members.iter().any(|member| member.person == person) {
        return Ok(Put::Updated);
    }
    let member = Member {
        project: project.to_owned(),
        person: person.to_owned(),
        role: ROLE.into(),
    };
    let put = change.write.put_member(&member).await?;
    change.record(Act {
        event: "member_added",
        person: Some(member.person),
        project: Some(member.project),
        ..Act::default()
    });
    Ok(put)
}

#[cfg(test)]
mod tests;
