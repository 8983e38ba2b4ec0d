//! `admin opposition …`: persons whose rows nobody sees.

use std::collections::BTreeSet;

use clap::Subcommand;
use hubflight_policy::{Opposed, Sources};
use hubflight_rights::dataset::{PERSON_DOMAIN, PersonPath};
use hubflight_store::{Opposition, Put};

use super::{Desk, Place, lists};
use crate::change::Act;
use crate::error::{Error, Result};
use crate::opposition::reference;

#[derive(Debug, Subcommand)]
pub enum OppositionCommand {
    /// Excludes a person from every scan of every dataset, on running servers within a second.
    Add {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        who: Who,
    },
    /// Ends an opposition: the person's rows are seen again.
    Remove {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        who: Who,
    },
    /// Lists who opposes, with the name that the audit has for each.
    List {
        #[command(flatten)]
        place: Place,
    },
}

/// A person of the data.
#[derive(Debug, clap::Args)]
pub struct Who {
    /// The person's identifier as the datasets store it.
    #[arg(long, value_name = "VALUE")]
    person: String,
    /// Domain of that identifier.
    #[arg(long, default_value = PERSON_DOMAIN)]
    domain: String,
}

impl OppositionCommand {
    pub(super) fn place(&self) -> &Place {
        match self {
            Self::Add { place, .. } | Self::Remove { place, .. } | Self::List { place } => place,
        }
    }
}

pub(super) async fn run(desk: &Desk, command: OppositionCommand) -> Result<String> {
    match command {
        OppositionCommand::Add { who, .. } => add(desk, &entry(&who)?).await,
        OppositionCommand::Remove { who, .. } => remove(desk, &entry(&who)?).await,
        OppositionCommand::List { .. } => lists::oppositions(&desk.store, &desk.secrets).await,
    }
}

fn entry(who: &Who) -> Result<Opposition> {
    Opposition::new(&who.domain, &who.person).map_err(|error| Error::invalid(error.to_string()))
}

/// Refuses an entry that stands in no column of any dataset: whoever enters it would believe that
/// a person is excluded, and nobody would be.
async fn check(desk: &Desk, entry: &Opposition) -> Result<()> {
    let Some(datasets) = desk.datasets().await? else {
        return Ok(());
    };
    let mut domains = BTreeSet::new();
    for dataset in datasets.iter() {
        for table in &dataset.tables {
            // Where the barrier looks for them.
            let PersonPath::Column(person) = &table.person else {
                continue;
            };
            let Some(source) = datasets.source(&dataset.name, &table.name) else {
                continue;
            };
            let domain = table.identifier(person).unwrap_or(PERSON_DOMAIN);
            let schema = source.schema();
            let fits = schema
                .column_with_name(person)
                .is_some_and(|(_, field)| Opposed::stands_in(&entry.value, field.data_type()));
            if fits && domain == entry.domain {
                return Ok(());
            }
            domains.insert(domain.to_owned());
        }
    }
    // Where no dataset is about persons yet, nothing can tell.
    if domains.is_empty() {
        return Ok(());
    }
    let domains: Vec<String> = domains.into_iter().collect();
    Err(Error::invalid(match domains.contains(&entry.domain) {
        true => format!(
            "nobody was excluded: no column of domain `{}` can hold this identifier; write it as \
             the datasets store it",
            entry.domain
        ),
        false => format!(
            "nobody was excluded: no dataset has persons of domain `{}`; there are `{}`",
            entry.domain,
            domains.join("`, `")
        ),
    }))
}

/// The entry and its record are one transaction: there is no exclusion without a trace.
async fn add(desk: &Desk, entry: &Opposition) -> Result<String> {
    check(desk, entry).await?;
    let name = reference(&desk.secrets, entry)?;
    let mut change = desk.change().await?;
    if change.write.put_opposition(entry).await? == Put::Updated {
        return Err(Error::invalid(format!(
            "this person is excluded already, as opposition `{name}`"
        )));
    }
    change.record(Act {
        event: "opposition_added",
        detail: format!("opposition {name}"),
        ..Act::default()
    });
    let said = format!("the person is excluded; the audit has it as opposition `{name}`\n");
    desk.finish(change, said).await
}

async fn remove(desk: &Desk, entry: &Opposition) -> Result<String> {
    let name = reference(&desk.secrets, entry)?;
    let mut change = desk.change().await?;
    if !change.write.remove_opposition(entry).await? {
        return Err(Error::not_found(
            "this person is on no list; `admin opposition list` shows who is",
        ));
    }
    change.record(Act {
        event: "opposition_removed",
        detail: format!("opposition {name}"),
        ..Act::default()
    });
    let said = format!("opposition `{name}` has ended\n");
    desk.finish(change, said).await
}
