//! `admin habilitation …`.

use clap::Subcommand;

use super::{Desk, Place, lists};
use crate::error::{Error, Result};

#[derive(Debug, Subcommand)]
pub enum HabilitationCommand {
    /// Lists every version of every habilitation.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Ends a habilitation at once, also under statements that run; one of the configuration
    /// comes back with the next start unless it is taken out there.
    Revoke {
        #[command(flatten)]
        place: Place,
        id: String,
    },
}

impl HabilitationCommand {
    pub(super) fn place(&self) -> &Place {
        match self {
            Self::List { place } | Self::Revoke { place, .. } => place,
        }
    }
}

pub(super) async fn run(desk: &Desk, command: HabilitationCommand) -> Result<String> {
    match command {
        HabilitationCommand::List { .. } => lists::habilitations(&desk.store, desk.now).await,
        HabilitationCommand::Revoke { id, .. } => revoke(desk, &id).await,
    }
}

async fn revoke(desk: &Desk, id: &str) -> Result<String> {
    let rows = desk.store.habilitations().await?;
    let in_force =
        |row: &hubflight_store::HabilitationRow| row.id == id && row.revoked_at.is_none();
    if !rows.iter().any(in_force) {
        return Err(Error::not_found(format!(
            "no habilitation `{id}` is in force; `admin habilitation list` shows which are"
        )));
    }
    desk.store.revoke_habilitation(id).await?;
    Ok(format!("habilitation `{id}` is revoked\n"))
}
