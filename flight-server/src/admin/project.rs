//! `admin project …`.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use clap::{Args, Subcommand};
use hubflight_rights::habilitation::Habilitation;
use hubflight_store::{Organisation, Project, Put};

use super::{Desk, Place, lists};
use crate::auth::ADMIN_CATALOG;
use crate::catalog::space::names::moves_text;
use crate::change::{Act, Change};
use crate::config::{ProjectConfig, default_quota_mb, own_organisation};
use crate::error::{Error, Result};
use crate::provision;

#[derive(Debug, Subcommand)]
pub enum ProjectCommand {
    /// Lists projects and their members.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Adds a project, which nobody is in yet.
    Add {
        #[command(flatten)]
        place: Place,
        /// Its name, which is the name of its SQL catalog.
        #[arg(long)]
        id: String,
        #[arg(long, default_value = "")]
        title: String,
        #[arg(long, default_value = "")]
        purpose: String,
        /// The organisation that pays.
        #[arg(long, default_value_t = own_organisation())]
        organisation: String,
        /// The organisation is new to the hub.
        #[arg(long, requires = "organisation")]
        new_organisation: bool,
        /// Its first day (UTC), as 2026-11-22.
        #[arg(long, value_name = "DAY")]
        from: NaiveDate,
        /// Its last day (UTC).
        #[arg(long, value_name = "DAY")]
        until: NaiveDate,
        #[arg(long, default_value_t = default_quota_mb())]
        space_quota_mb: u64,
    },
    /// Changes what is said of a project, and who pays.
    Change {
        #[command(flatten)]
        place: Place,
        id: String,
        #[command(flatten)]
        said: Said,
    },
    /// Moves the last day of a project.
    Extend {
        #[command(flatten)]
        place: Place,
        id: String,
        /// Its last day (UTC).
        #[arg(long, value_name = "DAY")]
        until: NaiveDate,
    },
    /// Ends a project at once, also under statements that run.
    End {
        #[command(flatten)]
        place: Place,
        id: String,
    },
    /// Makes a person a member.
    Join {
        #[command(flatten)]
        place: Place,
        id: String,
        #[arg(long)]
        person: String,
    },
    /// Ends a membership at once, also under statements that run.
    Leave {
        #[command(flatten)]
        place: Place,
        id: String,
        #[arg(long)]
        person: String,
    },
    /// Gives every identifier of a linkage group another pseudonym: what the project kept before
    /// links with what it reads from now on no more.
    RotatePseudonyms {
        #[command(flatten)]
        place: Place,
        id: String,
        /// The linkage group, as its habilitations name it.
        #[arg(long, value_name = "NAME")]
        group: String,
    },
}

/// What is said of a project; what is absent stays as it is.
#[derive(Debug, Default, Args)]
#[group(required = true, multiple = true)]
pub struct Said {
    #[arg(long)]
    pub title: Option<String>,
    #[arg(long)]
    pub purpose: Option<String>,
    /// The organisation that pays.
    #[arg(long)]
    pub organisation: Option<String>,
    /// The organisation is new to the hub.
    #[arg(long, requires = "organisation")]
    pub new_organisation: bool,
}

impl ProjectCommand {
    pub(super) fn place(&self) -> &Place {
        match self {
            Self::List { place }
            | Self::Add { place, .. }
            | Self::Change { place, .. }
            | Self::Extend { place, .. }
            | Self::End { place, .. }
            | Self::Join { place, .. }
            | Self::Leave { place, .. }
            | Self::RotatePseudonyms { place, .. } => place,
        }
    }
}

pub(super) async fn run(desk: &Desk, command: ProjectCommand) -> Result<String> {
    match command {
        ProjectCommand::List { .. } => lists::projects(&desk.store).await,
        ProjectCommand::Add {
            id,
            title,
            purpose,
            organisation,
            new_organisation,
            from,
            until,
            space_quota_mb,
            ..
        } => {
            let wanted = ProjectConfig {
                id,
                title,
                purpose,
                organisation,
                members: Vec::new(),
                valid_from: from,
                valid_to: until,
                space_quota_mb,
            };
            add(desk, &wanted, new_organisation).await
        }
        ProjectCommand::Change { id, said, .. } => change(desk, &id, said).await,
        ProjectCommand::Extend { id, until, .. } => extend(desk, &id, until).await,
        ProjectCommand::End { id, .. } => end(desk, &id).await,
        ProjectCommand::Join { id, person, .. } => join(desk, &id, &person).await,
        ProjectCommand::Leave { id, person, .. } => leave(desk, &id, &person).await,
        ProjectCommand::RotatePseudonyms { id, group, .. } => rotate(desk, &id, &group).await,
    }
}

pub(super) async fn add(
    desk: &Desk,
    wanted: &ProjectConfig,
    new_organisation: bool,
) -> Result<String> {
    let id = &wanted.id;
    provision::check_project(wanted, &BTreeSet::new())?;
    let mut change = desk.change().await?;
    if change.write.project(id).await?.is_some() {
        return Err(Error::invalid(format!(
            "project `{id}` exists already; choose another name"
        )));
    }
    put_organisation(&mut change, &wanted.organisation, new_organisation).await?;
    provision::put_stored(&mut change, wanted).await?;
    change.write.set_by_command(id, true).await?;
    let said = format!(
        "project `{id}` is added; `admin project join {id} --person …` gives it members, `admin \
         habilitation enter` data\n"
    );
    desk.finish(change, said).await
}

pub(super) async fn change(desk: &Desk, id: &str, said: Said) -> Result<String> {
    let mut change = desk.change().await?;
    let stored = of_command(&mut change, id).await?;
    // Texts of a project's are not told in the audit, since anything can be written in them.
    let names = [
        said.title.as_ref().map(|_| "title".to_owned()),
        said.purpose.as_ref().map(|_| "purpose".to_owned()),
        said.organisation
            .as_ref()
            .map(|new| format!("organisation `{new}` after `{}`", stored.organisation)),
    ];
    let names: Vec<String> = names.into_iter().flatten().collect();
    let project = Project {
        title: said.title.unwrap_or(stored.title),
        purpose: said.purpose.unwrap_or(stored.purpose),
        organisation: said.organisation.unwrap_or(stored.organisation),
        ..stored
    };
    if names.is_empty() {
        return Err(Error::invalid(format!(
            "say what project `{id}` is to have: a title, a purpose or the organisation that pays"
        )));
    }
    put_organisation(&mut change, &project.organisation, said.new_organisation).await?;
    put(&mut change, &project, &names.join(", ")).await?;
    let said = format!("{} of project `{id}` changed\n", names.join(", "));
    desk.finish(change, said).await
}

pub(super) async fn extend(desk: &Desk, id: &str, until: NaiveDate) -> Result<String> {
    let mut change = desk.change().await?;
    let stored = of_command(&mut change, id).await?;
    let project = Project {
        valid_to: provision::end_of(until),
        ..stored
    };
    if project.valid_to <= project.valid_from {
        return Err(Error::invalid(format!(
            "project `{id}` would end before it begins; choose a later day"
        )));
    }
    put(&mut change, &project, &format!("until {until}")).await?;
    let said = format!("the last day of project `{id}` is {until}\n");
    desk.finish(change, said).await
}

pub(super) async fn end(desk: &Desk, id: &str) -> Result<String> {
    let mut change = desk.change().await?;
    let stored = existing(&mut change, id).await?;
    if stored.valid_to <= desk.now {
        return Err(Error::invalid(format!("project `{id}` has ended already")));
    }
    let project = Project {
        // One that has not begun ends as it begins.
        valid_to: desk.now.max(stored.valid_from),
        ..stored
    };
    put(&mut change, &project, "ended").await?;
    let mut said = format!("project `{id}` has ended\n");
    if !is_of_command(&mut change, id).await? {
        said.push_str(COMES_BACK);
    }
    desk.finish(change, said).await
}

pub(super) async fn join(desk: &Desk, id: &str, person: &str) -> Result<String> {
    desk.refuse_oneself(person, "makes themselves a member of a project")?;
    super::person::existing(&desk.store, person).await?;
    let mut change = desk.change().await?;
    of_command(&mut change, id).await?;
    if provision::add_member(&mut change, id, person).await? == Put::Updated {
        return Err(Error::invalid(format!(
            "`{person}` is a member of project `{id}` already"
        )));
    }
    // Their own confirmations do not count any more.
    provision::tell_unconfirmed(&mut change, desk.now).await?;
    let said = format!("`{person}` is a member of project `{id}`\n");
    desk.finish(change, said).await
}

pub(super) async fn leave(desk: &Desk, id: &str, person: &str) -> Result<String> {
    // Who is no member any more may decide on the project's exports and habilitations.
    desk.refuse_oneself(person, "ends their own membership of a project")?;
    let mut change = desk.change().await?;
    existing(&mut change, id).await?;
    provision::remove_member(&mut change, id, person).await?;
    let mut said = format!("`{person}` is no member of project `{id}` any more\n");
    if !is_of_command(&mut change, id).await? {
        said.push_str(COMES_BACK);
    }
    desk.finish(change, said).await
}

async fn rotate(desk: &Desk, id: &str, group: &str) -> Result<String> {
    let mut change = desk.change().await?;
    existing(&mut change, id).await?;
    let groups = linkage_groups(&mut change, id).await?;
    let Some(datasets) = groups.get(group) else {
        let names: Vec<String> = groups.keys().map(|name| format!("`{name}`")).collect();
        return Err(Error::not_found(format!(
            "no habilitation of project `{id}` has linkage group `{group}`; there is {}",
            names.join(", ")
        )));
    };
    let generation = change.write.rotate_linkage_key(id, group, desk.now).await?;
    let datasets: Vec<&str> = datasets.iter().map(String::as_str).collect();
    let datasets = datasets.join(", ");
    change.record(Act {
        event: "pseudonyms_rotated",
        project: Some(id.to_owned()),
        detail: format!("linkage group {group}, generation {generation}: {datasets}"),
        ..Act::default()
    });
    let said = format!(
        "identifiers of {datasets} have other pseudonyms in project `{id}` from the next statement \
         on; what its space holds from before links with them no more\n"
    );
    desk.finish(change, said).await
}

/// The datasets of each linkage group that the project's habilitations name, also those that are
/// over or wait.
async fn linkage_groups(
    change: &mut Change<'_>,
    id: &str,
) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let rows = change.write.habilitations().await?.into_iter();
    for row in rows.filter(|row| row.project == id) {
        let read: Habilitation = serde_json::from_str(&row.body)
            .map_err(|error| Error::internal("a habilitation cannot be read", &error))?;
        let datasets = groups.entry(read.linkage_group).or_default();
        datasets.insert(read.dataset);
    }
    Ok(groups)
}

/// Of a project that the configuration lists.
const COMES_BACK: &str = "the configuration lists this: it comes back with the next start unless it is taken out there\n";

/// Characters of the name of an organisation that a command makes.
const ORGANISATION_CHARS_MAX: usize = 63;

/// The organisation that pays, which the hub knows unless it is said to be new.
async fn put_organisation(change: &mut Change<'_>, id: &str, is_new: bool) -> Result<()> {
    let known = change.write.organisations().await?;
    let is_known = id == own_organisation() || known.iter().any(|known| known.id == id);
    if !is_known && !is_new {
        return Err(Error::not_found(format!(
            "no organisation `{}` pays for a project yet; name one that does, or run the command \
             with `--new-organisation`",
            id.escape_debug()
        )));
    }
    let is_long = id.chars().nth(ORGANISATION_CHARS_MAX).is_some();
    if !is_known && (id.is_empty() || is_long || id.contains(moves_text)) {
        return Err(Error::invalid(format!(
            "an organisation has a name of 1 to {ORGANISATION_CHARS_MAX} characters in one line"
        )));
    }
    let (id, name) = (id.to_owned(), id.to_owned());
    Ok(change
        .write
        .add_organisation(&Organisation { id, name })
        .await?)
}

async fn put(change: &mut Change<'_>, project: &Project, detail: &str) -> Result<()> {
    change.write.put_project(project).await?;
    change.record(Act {
        event: "project_changed",
        project: Some(project.id.clone()),
        detail: detail.to_owned(),
        ..Act::default()
    });
    Ok(())
}

/// The administrators' catalog is none: roles make and end its members.
pub(super) async fn existing(change: &mut Change<'_>, id: &str) -> Result<Project> {
    let stored = change.write.project(id).await?;
    let stored = stored.filter(|project| project.id != ADMIN_CATALOG);
    stored.ok_or_else(|| {
        Error::not_found(format!(
            "project `{id}` does not exist; `admin project list` shows which do"
        ))
    })
}

/// A project that commands may give more to: what the configuration lists, it decides on.
async fn of_command(change: &mut Change<'_>, id: &str) -> Result<Project> {
    let project = existing(change, id).await?;
    if is_of_command(change, id).await? {
        return Ok(project);
    }
    Err(Error::invalid(format!(
        "project `{id}` is of the configuration; change it there"
    )))
}

async fn is_of_command(change: &mut Change<'_>, id: &str) -> Result<bool> {
    let made = change.write.projects_by_command().await?;
    Ok(made.iter().any(|made| made == id))
}
