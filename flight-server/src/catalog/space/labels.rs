//! Labels of an object: under which rights its rows were read.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use datafusion::catalog::TableProvider;
use hubflight_policy::{PolicyTable, table_of};
use hubflight_rights::dataset::Dataset;
use hubflight_rights::habilitation::Habilitation;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::table::SpaceTable;
use crate::airlock::ExportTable;
use crate::catalog::project::ProjectView;
use crate::error::{Error, Result};

/// What the store keeps of an object as JSON text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// The datasets that the rows come from, each right once, in order.
    #[serde(default)]
    pub sources: Vec<Source>,
    /// A view's schema of unqualified names, as it was when the view was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_schema: Option<String>,
}

/// A dataset that was read, and the right that it was read under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub dataset: String,
    pub version: u32,
    pub habilitation: String,
    pub habilitation_version: u32,
    /// What the right opened, without its name, period and decision: see [`scope_of`].
    pub scope: String,
}

impl Labels {
    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map_err(|error| Error::internal("labels of a space cannot be read", &error))
    }

    pub fn text(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|error| Error::internal("labels of a space cannot be written", &error))
    }

    /// Adds sources; an object made from several keeps all of them.
    pub fn add(&mut self, sources: impl IntoIterator<Item = Source>) {
        self.sources.extend(sources);
        self.sources.sort_unstable();
        self.sources.dedup();
    }

    /// The sources of what a plan scans: datasets through the barrier, and the tables of the
    /// space with the sources that they carry.
    pub fn of(providers: &[Arc<dyn TableProvider>], view: &ProjectView) -> Result<Self> {
        let mut labels = Self::default();
        for provider in providers {
            let any = provider.as_ref() as &dyn std::any::Any;
            if let Some(table) = table_of(provider.as_ref()) {
                labels.add([source(table, view)?]);
            } else if let Some(table) = any.downcast_ref::<SpaceTable>() {
                labels.add(table.labels().sources.iter().cloned());
            } else if let Some(export) = ExportTable::of(provider.as_ref()) {
                labels.add(export.labels().sources.iter().cloned());
            }
        }
        Ok(labels)
    }

    /// Everything that is open to the project.
    pub fn of_all(view: &ProjectView) -> Result<Self> {
        let sources = view.habilitations();
        let sources = sources.map(|(dataset, habilitation)| source_of(dataset, habilitation));
        let mut labels = Self::default();
        labels.add(sources.collect::<Result<Vec<_>>>()?);
        Ok(labels)
    }
}

fn source(table: &PolicyTable, view: &ProjectView) -> Result<Source> {
    let (dataset, habilitation) = view
        .habilitations()
        .find(|(dataset, _)| dataset.name == table.dataset())
        .ok_or_else(|| Error::internal("a table without a habilitation", &table.dataset()))?;
    source_of(dataset, habilitation)
}

fn source_of(dataset: &Dataset, habilitation: &Habilitation) -> Result<Source> {
    Ok(Source {
        dataset: dataset.name.clone(),
        version: dataset.version,
        habilitation: habilitation.id.clone(),
        habilitation_version: habilitation.version,
        scope: scope_of(habilitation)?,
    })
}

/// SHA-256 of what a habilitation opens: dataset, mode, tables, cohort, linkage. A renewal
/// that opens the same has the same scope; one that opens less or more has another.
fn scope_of(habilitation: &Habilitation) -> Result<String> {
    let unwritable =
        |error: serde_json::Error| Error::internal("a habilitation cannot be written", &error);
    let mut value = serde_json::to_value(habilitation).map_err(unwritable)?;
    if let Some(fields) = value.as_object_mut() {
        for field in [
            "id",
            "version",
            "zones",
            "export",
            "valid_from",
            "valid_to",
            "decision",
        ] {
            fields.remove(field);
        }
    }
    // The digest is stored: it may not depend on the order that some crate of a build asks for.
    value.sort_all_objects();
    let text = serde_json::to_vec(&value).map_err(unwritable)?;
    Ok(HEXLOWER.encode(&Sha256::digest(text)))
}

/// The rights in force, to compare labels with.
pub struct Rights(Vec<Right>);

struct Right {
    dataset: String,
    id: String,
    version: u32,
    scope: Option<String>,
}

impl Rights {
    pub fn new(habilitations: &[Arc<Habilitation>]) -> Self {
        let right = |habilitation: &Arc<Habilitation>| Right {
            dataset: habilitation.dataset.clone(),
            id: habilitation.id.clone(),
            version: habilitation.version,
            scope: scope_of(habilitation).ok(),
        };
        Self(habilitations.iter().map(right).collect())
    }

    /// The first dataset of the labels that no right in force opens as it did then.
    pub fn ended(&self, labels: &Labels) -> Option<String> {
        let holds = |source: &Source| {
            self.0.iter().any(|right| {
                right.dataset == source.dataset
                    && (right.scope.as_ref() == Some(&source.scope)
                        || (right.id == source.habilitation
                            && right.version == source.habilitation_version))
            })
        };
        let ended = labels.sources.iter().find(|source| !holds(source))?;
        Some(ended.dataset.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{TimeZone, Utc};
    use hubflight_rights::habilitation::{Columns, ExportRule, Mode, TableGrant, Tables};

    fn habilitation(version: u32) -> Habilitation {
        Habilitation {
            id: "h".into(),
            version,
            project: "p".into(),
            dataset: "snds".into(),
            mode: Mode::Row,
            tables: Tables::All,
            persons: None,
            linkage_group: "g".into(),
            zones: None,
            export: ExportRule::Rules,
            valid_from: Utc.timestamp_nanos(0),
            valid_to: Utc.timestamp_nanos(i64::from(version) * 1_000_000_000),
            decision: format!("decision {version}"),
        }
    }

    fn labels(habilitation: &Habilitation) -> Labels {
        let mut labels = Labels::default();
        labels.add([Source {
            dataset: habilitation.dataset.clone(),
            version: 1,
            habilitation: habilitation.id.clone(),
            habilitation_version: habilitation.version,
            scope: scope_of(habilitation).expect("serialises"),
        }]);
        labels
    }

    #[test]
    fn a_renewal_keeps_objects_open_and_a_narrower_right_locks_them() {
        let then = habilitation(1);
        let made = labels(&then);
        let ended = |rights: Vec<Habilitation>| {
            let rights: Vec<_> = rights.into_iter().map(Arc::new).collect();
            Rights::new(&rights).ended(&made)
        };
        assert_eq!(ended(vec![then.clone()]), None);
        assert_eq!(ended(vec![habilitation(2)]), None);
        assert_eq!(ended(vec![]), Some("snds".to_owned()));
        let narrower = Habilitation {
            tables: Tables::Only(vec![TableGrant {
                table: "er_prs_f".into(),
                columns: Columns::All,
                rows: None,
                masks: Vec::new(),
            }]),
            ..habilitation(2)
        };
        assert_eq!(ended(vec![narrower]), Some("snds".to_owned()));
        // What may leave is asked when it is to leave.
        let kept = Habilitation {
            export: ExportRule::None,
            ..habilitation(2)
        };
        assert_eq!(ended(vec![kept]), None);
        let other = Habilitation {
            dataset: "cardio".into(),
            ..habilitation(1)
        };
        assert_eq!(ended(vec![other]), Some("snds".to_owned()));
    }

    /// Digests that stores hold: of the same JSON, by name at every depth.
    #[test]
    fn a_scope_has_the_same_digest_for_ever() {
        let narrower = Habilitation {
            tables: Tables::Only(vec![TableGrant {
                table: "er_prs_f".into(),
                columns: Columns::All,
                rows: None,
                masks: Vec::new(),
            }]),
            ..habilitation(2)
        };
        for (habilitation, digest) in [
            (
                habilitation(1),
                "20ffb34a85d5f63e13d5d2aa6c59be58c75ab86ff587ccb812a5ad83df1974b4",
            ),
            (
                narrower,
                "9a33549046c19aff09b99dc660406d1496ab6f47f97361f06c98903d9866b2d1",
            ),
        ] {
            assert_eq!(scope_of(&habilitation).expect("serialises"), digest);
        }
    }

    #[test]
    fn labels_accumulate_once_and_travel_as_text() {
        let mut one = labels(&habilitation(1));
        one.add(labels(&habilitation(1)).sources);
        assert_eq!(one.sources.len(), 1);
        one.add(labels(&habilitation(2)).sources);
        assert_eq!(one.sources.len(), 2);
        let text = one.text().expect("writes");
        assert_eq!(Labels::parse(&text).expect("reads"), one);
        assert_eq!(Labels::parse("{}").expect("reads"), Labels::default());
        assert!(Labels::parse("null").is_err());
    }
}
