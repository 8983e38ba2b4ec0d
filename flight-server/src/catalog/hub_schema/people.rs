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
                rows.text(0, Some(&token.id));
                rows.text(1, Some(&token.person));
                rows.text(2, Some(&token.project));
                rows.text(3, Some(&token.name));
                rows.instant(4, Some(token.created_at));
                rows.instant(5, Some(token.expires_at));
                rows.instant(6, token.revoked_at);
                rows.text(7, Some(state(&token, now)));
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
                rows.text(0, Some(&person.id));
                rows.text(1, Some(&person.name));
                rows.boolean(2, Some(person.active));
                rows.text(3, of_person.map(|roles| roles.join(", ")).as_deref());
                rows.boolean(4, Some(person.has_password));
                rows.instant(5, Some(person.created_at));
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
                rows.text(0, Some(&member.project));
                rows.text(1, Some(&member.person));
                rows.text(2, Some(&member.role));
            }
            rows.finish(schema)
        })
    })
}
