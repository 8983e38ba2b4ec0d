//! `tokens`, and for administrators `persons` and `members`.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use hubflight_store::Token;

use super::listing::{Rows, once};
use super::{Scope, SystemTable, boolean, instant, text};
use crate::hub::Hub;

/// One's own tokens of the project; in catalog `admin` everybody's. Never a secret.
pub fn tokens(hub: Arc<Hub>, scope: Scope) -> SystemTable {
    let fields = vec![
        text("id"),
        text("person"),
        text("project"),
        text("name"),
        instant("created_at"),
        instant("expires_at"),
        instant("revoked_at"),
        text("state"),
    ];
    SystemTable::new(fields, move |schema| {
        let (hub, scope) = (Arc::clone(&hub), scope.clone());
        once(async move {
            let now = Utc::now();
            let mut rows = Rows::new(&schema);
            for token in hub.store.tokens(scope.person()).await? {
                if scope
                    .project()
                    .is_some_and(|project| project != token.project)
                {
                    continue;
                }
                rows.text(Some(&token.id));
                rows.text(Some(&token.person));
                rows.text(Some(&token.project));
                rows.text(Some(&token.name));
                rows.instant(Some(token.created_at));
                rows.instant(Some(token.expires_at));
                rows.instant(token.revoked_at);
                rows.text(Some(state(&token, now)));
            }
            rows.finish(schema)
        })
    })
}

fn state(token: &Token, now: DateTime<Utc>) -> &'static str {
    match token.revoked_at {
        Some(_) => "revoked",
        None if token.expires_at <= now => "expired",
        None => "valid",
    }
}

pub fn persons(hub: Arc<Hub>) -> SystemTable {
    let fields = vec![
        text("id"),
        text("name"),
        boolean("active"),
        text("roles"),
        boolean("has_password"),
        instant("created_at"),
    ];
    SystemTable::new(fields, move |schema| {
        let hub = Arc::clone(&hub);
        once(async move {
            let mut roles: BTreeMap<String, Vec<&str>> = BTreeMap::new();
            for (person, role) in hub.store.all_admin_roles().await? {
                roles.entry(person).or_default().push(role.as_str());
            }
            let mut rows = Rows::new(&schema);
            for person in hub.store.persons().await? {
                let of_person = roles.get(&person.id).filter(|_| person.is_admin);
                rows.text(Some(&person.id));
                rows.text(Some(&person.name));
                rows.boolean(Some(person.active));
                rows.text(of_person.map(|roles| roles.join(", ")).as_deref());
                rows.boolean(Some(person.has_password));
                rows.instant(Some(person.created_at));
            }
            rows.finish(schema)
        })
    })
}

pub fn members(hub: Arc<Hub>) -> SystemTable {
    let fields = vec![text("project"), text("person"), text("role")];
    SystemTable::new(fields, move |schema| {
        let hub = Arc::clone(&hub);
        once(async move {
            let mut rows = Rows::new(&schema);
            for member in hub.store.members(None).await? {
                rows.text(Some(&member.project));
                rows.text(Some(&member.person));
                rows.text(Some(&member.role));
            }
            rows.finish(schema)
        })
    })
}
