//! What the administrator's commands list, as tables of text.

use chrono::{DateTime, Utc};
use hubflight_store::{Secrets, Store};

use crate::catalog::space::names::moves_text;
use crate::error::Result;
use crate::opposition::reference;
use crate::versions::{Version, states};

pub(super) async fn tokens(
    store: &Store,
    person: Option<&str>,
    now: DateTime<Utc>,
) -> Result<String> {
    let mut table = Table::new(&[
        "id", "person", "project", "name", "created", "expires", "state",
    ]);
    for token in store.tokens(person).await? {
        let state = match token.revoked_at {
            Some(_) => "revoked",
            None if token.expires_at <= now => "expired",
            None => "valid",
        };
        table.row([
            token.id,
            token.person,
            token.project,
            token.name,
            day(token.created_at),
            day(token.expires_at),
            state.into(),
        ]);
    }
    Ok(table.text())
}

pub(super) async fn persons(store: &Store) -> Result<String> {
    let mut table = Table::new(&["id", "name", "state", "administrator", "created"]);
    let given = store.all_admin_roles().await?;
    for person in store.persons().await? {
        let roles = given.iter().filter(|(id, _)| *id == person.id);
        let roles: Vec<&str> = roles.map(|(_, role)| role.as_str()).collect();
        table.row([
            person.id,
            person.name,
            if person.active { "active" } else { "disabled" }.into(),
            match (person.is_admin, roles.as_slice()) {
                (true, []) => "no role".into(),
                (true, roles) => roles.join(", "),
                (false, _) => "no".into(),
            },
            day(person.created_at),
        ]);
    }
    Ok(table.text())
}

pub(super) async fn projects(store: &Store) -> Result<String> {
    let members = store.members(None).await?;
    let mut table = Table::new(&["id", "title", "organisation", "from", "until", "members"]);
    for project in store.projects().await? {
        let own = members
            .iter()
            .filter(|member| member.project == project.id)
            .map(|member| member.person.as_str())
            .collect::<Vec<_>>();
        table.row([
            project.id,
            project.title,
            project.organisation,
            day(project.valid_from),
            day(project.valid_to),
            own.join(", "),
        ]);
    }
    Ok(table.text())
}

pub(super) async fn habilitations(store: &Store, now: DateTime<Utc>) -> Result<String> {
    let head = [
        "id", "version", "project", "dataset", "mode", "linkage", "from", "until", "state",
        "decision",
    ];
    let mut table = Table::new(&head);
    let rows = store.habilitations().await?.into_iter();
    let versions = rows.map(Version::read).collect::<Result<Vec<_>>>()?;
    let states = states(&versions, now);
    for (Version { row, body }, state) in versions.into_iter().zip(states) {
        table.row([
            row.id,
            row.version.to_string(),
            row.project,
            row.dataset,
            body.mode.label().into(),
            body.linkage_group.clone(),
            day(body.valid_from),
            day(body.valid_to),
            state.into(),
            body.decision.clone(),
        ]);
    }
    Ok(table.text())
}

pub(super) async fn oppositions(store: &Store, secrets: &Secrets) -> Result<String> {
    let mut table = Table::new(&["opposition", "domain", "person", "entered"]);
    for (entry, entered_at) in store.oppositions().await? {
        let name = reference(secrets, &entry)?;
        table.row([name, entry.domain, entry.value, entered_at.to_rfc3339()]);
    }
    Ok(table.text())
}

pub(super) fn day(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d").to_string()
}

/// A table of text: columns as wide as their widest cell, two spaces apart.
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(head: &[&str; N]) -> Self {
        Self {
            rows: vec![head.map(str::to_owned)],
        }
    }

    /// Adds a row; control characters, which could move a terminal's cursor, become spaces.
    pub(super) fn row(&mut self, cells: [String; N]) {
        let clean = |cell: String| cell.replace(moves_text, " ");
        self.rows.push(cells.map(clean));
    }

    pub(super) fn text(&self) -> String {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(widths);
            let line: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            text.push_str(line.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_clean() {
        let mut table = Table::new(&["a", "b"]);
        table.row(["éé".into(), "x\u{1b}[2J".into()]);
        assert_eq!(table.text(), "a   b\néé  x [2J\n");
    }
}
