//! What there is to call, for whom, and with which arguments.

use hubflight_store::AdminRole;

use crate::error::Error;

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    PersonAdd,
    PersonRename,
    PersonRoles,
    PersonDisable,
    PersonEnable,
    PersonUnlock,
    TokenRevoke,
    ProjectAdd,
    ProjectChange,
    ProjectExtend,
    ProjectEnd,
    ProjectJoin,
    ProjectLeave,
    HabilitationEnter,
    HabilitationConfirm,
    HabilitationRevoke,
    ExportRelease,
    ExportRefuse,
    ExportWithdraw,
}

#[derive(Debug)]
pub(super) struct Verb {
    pub does: Does,
    pub name: &'static str,
    pub role: AdminRole,
    pub takes: &'static [Takes],
}

/// An argument.
#[derive(Debug)]
pub(super) struct Takes {
    pub name: &'static str,
    pub needed: bool,
    /// A text of many lines.
    pub is_document: bool,
}

const fn needed(name: &'static str) -> Takes {
    Takes {
        name,
        needed: true,
        is_document: false,
    }
}

const fn optional(name: &'static str) -> Takes {
    Takes {
        needed: false,
        ..needed(name)
    }
}

const fn verb(does: Does, name: &'static str, role: AdminRole, takes: &'static [Takes]) -> Verb {
    Verb {
        does,
        name,
        role,
        takes,
    }
}

const ID: &[Takes] = &[needed("id")];
const MEMBER: &[Takes] = &[needed("id"), needed("person")];
const PROJECT: &[Takes] = &[
    needed("id"),
    needed("from"),
    needed("until"),
    optional("title"),
    optional("purpose"),
    optional("organisation"),
    optional("space_quota_mb"),
];
const SAID: &[Takes] = &[
    needed("id"),
    optional("title"),
    optional("purpose"),
    optional("organisation"),
];
const DOCUMENT: &[Takes] = &[Takes {
    name: "text",
    needed: true,
    is_document: true,
}];

const NAMED: &[Takes] = &[needed("id"), needed("name")];
const ADDED: &[Takes] = &[needed("id"), needed("name"), optional("roles")];
const ROLES: &[Takes] = &[needed("id"), needed("roles")];
const UNTIL: &[Takes] = &[needed("id"), needed("until")];
const VERSION: &[Takes] = &[needed("id"), needed("version")];
const DAYS: &[Takes] = &[needed("id"), optional("days")];

pub(super) const VERBS: [Verb; 19] = {
    use AdminRole::{Audit, People, Policy};
    use Does::*;
    [
        verb(PersonAdd, "hub.person_add", People, ADDED),
        verb(PersonRename, "hub.person_rename", People, NAMED),
        verb(PersonRoles, "hub.person_roles", People, ROLES),
        verb(PersonDisable, "hub.person_disable", People, ID),
        verb(PersonEnable, "hub.person_enable", People, ID),
        verb(PersonUnlock, "hub.person_unlock", People, ID),
        verb(TokenRevoke, "hub.token_revoke", People, ID),
        verb(ProjectAdd, "hub.project_add", Policy, PROJECT),
        verb(ProjectChange, "hub.project_change", Policy, SAID),
        verb(ProjectExtend, "hub.project_extend", Policy, UNTIL),
        verb(ProjectEnd, "hub.project_end", Policy, ID),
        verb(ProjectJoin, "hub.project_join", People, MEMBER),
        verb(ProjectLeave, "hub.project_leave", People, MEMBER),
        verb(
            HabilitationEnter,
            "hub.habilitation_enter",
            Policy,
            DOCUMENT,
        ),
        verb(
            HabilitationConfirm,
            "hub.habilitation_confirm",
            Policy,
            VERSION,
        ),
        verb(HabilitationRevoke, "hub.habilitation_revoke", Policy, ID),
        verb(ExportRelease, "hub.export_release", Audit, DAYS),
        verb(ExportRefuse, "hub.export_refuse", Audit, ID),
        verb(ExportWithdraw, "hub.export_withdraw", Audit, ID),
    ]
};

/// What only commands do, and which: secrets that are shown once, keys, persons of the data.
pub(super) const COMMANDS: [(&str, &str); 11] = [
    ("hub.init", "init"),
    ("hub.token_create", "token create"),
    ("hub.person_password", "person password"),
    ("hub.person_totp", "person totp"),
    ("hub.project_rotate_pseudonyms", "project rotate-pseudonyms"),
    ("hub.opposition_add", "opposition add"),
    ("hub.opposition_remove", "opposition remove"),
    ("hub.space_rotate_key", "space rotate-key"),
    ("hub.space_drop_keys", "space drop-keys"),
    ("hub.audit_purge", "audit purge"),
    ("hub.audit_keys_create", "audit keys create"),
];

impl Verb {
    pub(super) fn usage(&self) -> Error {
        let written = |takes: &Takes| match takes.needed {
            true => format!("{} => …", takes.name),
            false => format!("[{} => …]", takes.name),
        };
        let takes: Vec<String> = self.takes.iter().map(written).collect();
        Error::invalid(format!(
            "write `CALL {}({})`: texts in quotes, numbers or placeholders, by name or in this \
             order",
            self.name,
            takes.join(", ")
        ))
    }
}
