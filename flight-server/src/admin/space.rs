//! `admin space …`: the keys that projects' spaces are encrypted with.

use std::collections::HashSet;

use clap::Subcommand;
use hubflight_store::Backend;

use super::project::existing;
use super::{Desk, Place};
use crate::airlock::package;
use crate::change::Act;
use crate::error::{Error, Result};

#[derive(Debug, Subcommand)]
pub enum SpaceCommand {
    /// Encrypts the project's new files with a new key; what is there stays readable.
    RotateKey {
        #[command(flatten)]
        place: Place,
        project: String,
    },
    /// Drops every key of the project, for good: nobody can read again what its space holds now,
    /// also not from a copy of its files.
    DropKeys {
        #[command(flatten)]
        place: Place,
        project: String,
        /// The project once more, since this cannot be undone.
        #[arg(long, value_name = "PROJECT")]
        confirm: String,
    },
}

impl SpaceCommand {
    pub(super) fn place(&self) -> &Place {
        match self {
            Self::RotateKey { place, .. } | Self::DropKeys { place, .. } => place,
        }
    }
}

pub(super) async fn run(desk: &Desk, command: SpaceCommand) -> Result<String> {
    match command {
        SpaceCommand::RotateKey { project, .. } => rotate(desk, &project).await,
        SpaceCommand::DropKeys {
            project, confirm, ..
        } if project == confirm => drop_keys(desk, &project).await,
        SpaceCommand::DropKeys { project, .. } => Err(Error::invalid(format!(
            "nothing was dropped: this makes the space of `{project}` unreadable for good; say so \
             with `--confirm {project}`"
        ))),
    }
}

async fn rotate(desk: &Desk, project: &str) -> Result<String> {
    let mut change = desk.change().await?;
    existing(&mut change, project).await?;
    change.write.add_space_key(project, desk.now).await?;
    change.record(act("space_key_rotated", project));
    let said = format!(
        "new files of `{project}` are encrypted with a new key; a table takes it whole with \
         `CREATE OR REPLACE TABLE … AS SELECT * FROM …`\n"
    );
    desk.finish(change, said).await
}

async fn drop_keys(desk: &Desk, project: &str) -> Result<String> {
    let mut change = desk.change().await?;
    existing(&mut change, project).await?;
    let dropped = change.write.drop_space_keys(project, desk.now).await?;
    if dropped == 0 {
        // An earlier drop may have left the log to others who read it; it waits for who writes.
        drop(change);
        let left = end_copies(desk, project).await;
        return Err(Error::not_found(format!(
            "the space of `{project}` has no key: nothing was ever kept in it, or its keys were \
             dropped before; {left}"
        )));
    }
    change.record(act("space_keys_dropped", project));
    let withdrawn = change.write.withdraw_exports(project).await?;
    for id in &withdrawn {
        change.record(Act {
            detail: format!("export {id}, whose key was dropped"),
            ..act("export_withdrawn", project)
        });
    }
    let said = format!(
        "the keys of `{project}` are dropped, and {} of its exports withdrawn; whoever has the \
         master key and a copy of the store from before can still read copies of its files: end \
         those too\n",
        withdrawn.len()
    );
    let said = desk.finish(change, said).await?;
    Ok(said + &end_copies(desk, project).await)
}

/// Ends what is left of what was dropped. That it was dropped is true whatever happens here, and is
/// not told as an error.
async fn end_copies(desk: &Desk, project: &str) -> String {
    if desk.dry_run {
        return String::new();
    }
    let mut said = String::new();
    if let Err(error) = remove_packages(desk, project).await {
        said += &format!("its packages lie there still, unreadable: {error}\n");
    }
    match empty_log(desk).await {
        Ok(left) => said += left,
        Err(error) => said += &format!("the store may still hold them, run this again: {error}\n"),
    }
    said
}

/// Removes the files of every package that the project ever had; nobody can read them any more.
async fn remove_packages(desk: &Desk, project: &str) -> Result<()> {
    let exports = desk.store.exports(Some(project)).await?;
    let ids: HashSet<String> = exports.into_iter().map(|e| e.package.id).collect();
    let found = package::found(&desk.config.server.state);
    let found = found.map_err(|error| Error::internal("exports cannot be listed", &error))?;
    for package in found.iter().filter(|f| ids.contains(&f.id.to_string())) {
        package.remove();
    }
    Ok(())
}

/// Ends what the store itself still holds of what was dropped, and says what it cannot end.
async fn empty_log(desk: &Desk) -> Result<&'static str> {
    Ok(
        match (desk.store.backend(), desk.store.empty_log().await?) {
            (Backend::Sqlite, true) => "",
            (Backend::Sqlite, false) => {
                "somebody reads the store, so that its file `-wal` still holds them: run this again \
             until it no longer says so\n"
            }
            (Backend::Postgres, _) => {
                "the database keeps the old rows of `space_keys` until they are vacuumed (`VACUUM \
             FULL space_keys`), and its log, archive and replicas for as long as they are set \
             up to\n"
            }
        },
    )
}

fn act(event: &'static str, project: &str) -> Act {
    Act {
        event,
        project: Some(project.to_owned()),
        ..Act::default()
    }
}
