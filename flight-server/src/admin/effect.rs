//! The dry run of a command: what would be recorded, and what would open and close for whom, now
//! and whenever something of it begins or ends later.
//!
//! The command does all of its work inside its transaction, which is then dropped: whatever it
//! refuses in earnest it refuses here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use hubflight_rights::habilitation::{ExportRule, Habilitation, Mode, Predicate, Tables};
use hubflight_store::{Project, Secrets};

use super::Desk;
use super::condition::Reader;
use super::stored::Stored;
use super::who::{Judge, Spot};
use crate::change::{Act, Change};
use crate::error::Result;
use crate::versions::Version;

/// Moments that a project is judged at; what begins or ends after them is not judged.
const MOMENTS_MAX: usize = 16;

/// What would become of a change, which is dropped.
pub(super) async fn of(desk: &Desk, mut change: Change<'_>) -> Result<String> {
    let before = Stored::now(&desk.store).await?;
    let mut after = Stored::within(&mut change).await?;
    // From here on others write, and make dry runs: judging may take its time.
    let acts = change.acts().to_vec();
    drop(change);
    let mut text = "dry run: nothing is changed\n".to_owned();
    for act in &acts {
        text.push_str(&format!("would record: {}\n", told(act)));
    }
    if after.assume_confirmed(&before) {
        text.push_str("once a second person has confirmed it:\n");
    }
    let view = View {
        judge: &Judge::at(desk).await?,
        secrets: &desk.secrets,
    };
    let both = before.projects().chain(after.projects());
    let mut effect = Effect::default();
    for project in both.collect::<BTreeSet<_>>() {
        if !before.is_same(&after, project) {
            effect.judge(&view, &before, &after, project).await?;
        }
    }
    text.push_str(&effect.text);
    if !effect.concerns_persons {
        text.push_str("nobody's access to data changes\n");
    }
    Ok(text)
}

fn told(act: &Act) -> String {
    let about = [("person", &act.person), ("project", &act.project)];
    let about = about
        .into_iter()
        .filter_map(|(what, name)| Some(format!("{what} `{}`", name.as_ref()?)));
    let detail = Some(act.detail.clone()).filter(|detail| !detail.is_empty());
    let words: Vec<String> = std::iter::once(act.event.to_owned())
        .chain(about)
        .chain(detail)
        .collect();
    words.join(", ")
}

/// What closes and opens, as text.
#[derive(Default)]
struct Effect {
    text: String,
    concerns_persons: bool,
}

impl Effect {
    async fn judge(
        &mut self,
        view: &View<'_>,
        before: &Stored,
        after: &Stored,
        project: &str,
    ) -> Result<()> {
        // Who only moves persons is told of persons: filters may name some of the data.
        let is_detailed = decided(before, project) != decided(after, project);
        let moments = moments(before, after, project, view.judge.now);
        // What the moment before has told is not told again.
        let mut known = Lines::default();
        for (at, begins) in moments.iter().take(MOMENTS_MAX) {
            let (was, becomes) = (
                view.lines(before, project, *at, is_detailed && *begins)
                    .await?,
                view.lines(after, project, *at, is_detailed && *begins)
                    .await?,
            );
            let changed = Lines {
                closed: was.difference(&becomes).cloned().collect(),
                opened: becomes.difference(&was).cloned().collect(),
            };
            let from = match *at > view.judge.now {
                true => format!("from {}: ", instant(*at)),
                false => String::new(),
            };
            let closed = changed.closed.difference(&known.closed);
            let opened = changed.opened.difference(&known.opened);
            let signed = closed.map(|line| ('-', line));
            for (sign, line) in signed.chain(opened.map(|line| ('+', line))) {
                self.concerns_persons |= line.starts_with('`');
                self.text.push_str(&format!("{sign} {from}{line}\n"));
            }
            known = changed;
        }
        if let Some((at, _)) = moments.iter().nth(MOMENTS_MAX) {
            self.concerns_persons = true;
            self.text.push_str(&format!(
                "what begins or ends in project `{project}` from {} on is not judged here\n",
                instant(*at)
            ));
        }
        Ok(())
    }
}

/// What differs at a moment.
#[derive(Default)]
struct Lines {
    closed: BTreeSet<String>,
    opened: BTreeSet<String>,
}

/// What was decided on the habilitations of a project.
fn decided<'a>(stored: &'a Stored, project: &str) -> Vec<(&'a str, u32, bool, Option<&'a str>)> {
    let versions = stored.versions(project).iter();
    let decided = versions.map(|Version { row, .. }| {
        let confirmed_by = row.confirmed_by.as_deref();
        (
            row.id.as_str(),
            row.version,
            row.revoked_at.is_some(),
            confirmed_by,
        )
    });
    decided.collect()
}

/// When what members of a project see may become another: now, and when the project or a
/// habilitation that is decided on begins or ends; true where a habilitation may begin to show.
fn moments(
    before: &Stored,
    after: &Stored,
    project: &str,
    now: DateTime<Utc>,
) -> BTreeMap<DateTime<Utc>, bool> {
    let mut moments = BTreeMap::from([(now, true)]);
    for stored in [before, after] {
        let bounds = |it: &Project| [(it.valid_from, true), (it.valid_to, false)];
        let of_project = stored.project(project).into_iter().flat_map(bounds);
        let versions = stored.versions(project).iter();
        let decided = versions.filter(|it| !it.row.is_pending() && it.row.revoked_at.is_none());
        let of_versions =
            decided.flat_map(|it| [(it.body.valid_from, true), (it.body.valid_to, false)]);
        for (at, begins) in of_project.chain(of_versions).filter(|(at, _)| *at > now) {
            *moments.entry(at).or_default() |= begins;
        }
    }
    moments
}

fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M").to_string()
}

/// What is told of rights at a moment.
struct View<'a> {
    judge: &'a Judge,
    secrets: &'a Secrets,
}

impl View<'_> {
    /// Who works in a project at a moment and sees what of its datasets, from each of the hub's
    /// zones and by any login; and where it `is_detailed`, what each habilitation shows.
    async fn lines(
        &self,
        stored: &Stored,
        project: &str,
        at: DateTime<Utc>,
        is_detailed: bool,
    ) -> Result<BTreeSet<String>> {
        let judge = self.judge;
        let askers = stored.askers(project, at);
        let works = |person| format!("`{person}` works in project `{project}`");
        let mut lines: BTreeSet<String> = askers.iter().map(|who| works(&who.person)).collect();
        let register = stored.register(project, judge.now);
        for dataset in stored.datasets(project) {
            for zone in &judge.zones {
                // The deadline of a statement ends it here.
                tokio::task::yield_now().await;
                let spot = Spot {
                    project,
                    dataset,
                    zone,
                    at,
                };
                for (person, habilitation) in judge.opened(&register, &askers, spot) {
                    lines.insert(format!(
                        "`{person}` in project `{project}` {} from zone `{zone}`{} \
                         (habilitation `{}` version {})",
                        sees(&habilitation),
                        leaves(habilitation.export),
                        habilitation.id,
                        habilitation.version
                    ));
                }
            }
        }
        if is_detailed {
            let in_force = stored.in_force(project, at);
            lines.extend(linked(project, &in_force));
            for version in in_force {
                self.details(&version.body, &mut lines)?;
            }
        }
        Ok(lines)
    }

    /// What a habilitation shows, whoever uses it.
    fn details(
        &self,
        habilitation: &Arc<Habilitation>,
        lines: &mut BTreeSet<String>,
    ) -> Result<()> {
        let (project, dataset) = (&habilitation.project, &habilitation.dataset);
        lines.insert(format!(
            "project `{project}`: `{dataset}` from {} until {}",
            instant(habilitation.valid_from),
            instant(habilitation.valid_to)
        ));
        let decision = &habilitation.decision;
        lines.insert(format!(
            "project `{project}`: `{dataset}` by decision {decision:?}"
        ));
        for shown in self.judge.columns(habilitation) {
            let name = &shown.column;
            lines.insert(format!(
                "project `{project}`: column `{dataset}.{}.{}` {}, rows: {}",
                name.table, name.column, shown.how, shown.rows
            ));
        }
        let filters = match &habilitation.tables {
            Tables::All => &[][..],
            Tables::Only(grants) => grants,
        };
        for grant in filters {
            if let Some(rows) = &grant.rows {
                let condition = self.condition(dataset, &grant.table, rows)?;
                let table = &grant.table;
                lines.insert(format!(
                    "project `{project}`: rows of `{dataset}.{table}` where{condition}"
                ));
            }
        }
        if let Some(cohort) = &habilitation.persons {
            let condition = self.condition(&cohort.dataset, &cohort.table, &cohort.rows)?;
            lines.insert(format!(
                "project `{project}`: persons of `{dataset}` in `{}.{}.{}` where{condition}",
                cohort.dataset, cohort.table, cohort.column
            ));
        }
        Ok(())
    }

    fn condition(&self, dataset: &str, table: &str, rows: &Predicate) -> Result<String> {
        let dataset = self.judge.described(dataset);
        let reader = Reader {
            dataset: dataset.as_deref(),
            table,
            secrets: self.secrets,
        };
        reader.lines(rows)
    }
}

/// Which datasets of a project have the same pseudonyms, a line for each linkage group.
fn linked(project: &str, in_force: &[&Version]) -> Vec<String> {
    let mut groups: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for Version { body, .. } in in_force {
        let datasets = groups.entry(&body.linkage_group).or_default();
        datasets.insert(format!("`{}`", body.dataset));
    }
    let told = |(group, datasets): (&str, BTreeSet<String>)| {
        let datasets: Vec<String> = datasets.into_iter().collect();
        let datasets = datasets.join(", ");
        format!("project `{project}`: linkage group {group:?} links identifiers of {datasets}")
    };
    groups.into_iter().map(told).collect()
}

fn sees(habilitation: &Habilitation) -> String {
    let what = match habilitation.mode {
        Mode::Row => "rows",
        Mode::Aggregate => "aggregates",
    };
    format!("sees {what} of dataset `{}`", habilitation.dataset)
}

/// How results leave the hub.
fn leaves(export: ExportRule) -> &'static str {
    match export {
        ExportRule::None => ", without exports",
        ExportRule::Review => ", each export after a second person",
        ExportRule::Rules => "",
    }
}
