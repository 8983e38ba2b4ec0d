//! What a statement of administration does, and what its dry run tells.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use chrono::NaiveDate;
use hubflight_rights::zone::OUTSIDE;
use hubflight_store::{AdminRole, ExportDecision};

use super::super::door::{Session, check_role};
use super::super::project::Said;
use super::super::{Desk, export, habilitation, person, project, token};
use super::verbs::Does;
use super::{Asked, Call};
use crate::auth::ADMIN_CATALOG;
use crate::config::{ProjectConfig, default_quota_mb, own_organisation};
use crate::error::{Error, Result};
use crate::flight::call::Caller;
use crate::hub::Hub;

/// The column of a dry run.
pub const COLUMN: &str = "effect";
/// Lines of a dry run; that others follow is said first.
const LINES_MAX: usize = 5_000;
/// Characters of an error, which may repeat what was sent.
const ERROR_CHARS_MAX: usize = 1_000;

impl Call {
    /// Refuses who may not call it in this catalog, before anything is looked up.
    ///
    /// # Errors
    /// `PermissionDenied` in another catalog, from zone `outside` and without the role.
    pub fn check_door(&self, caller: &Caller, catalog: &str) -> Result<()> {
        if catalog != ADMIN_CATALOG {
            return Err(Error::denied(format!(
                "`{}` is for administrators, in catalog `{ADMIN_CATALOG}`; choose that with the \
                 session option or header `catalog`",
                self.verb.name
            )));
        }
        if caller.zone.is_outside() {
            return Err(Error::denied(format!(
                "`{}` is not called from zone `{OUTSIDE}`; call it inside, or run the command",
                self.verb.name
            )));
        }
        check_role(&caller.principal.roles, self.verb.role)
    }
}

impl Asked {
    /// Does it, once. 1 where it is done.
    pub async fn run(self, hub: Arc<Hub>, caller: Caller) -> Result<u64> {
        self.at(&hub, &caller, false).await.map(|_| 1)
    }

    /// What it would do, a line each; nothing is changed.
    pub async fn dry_run(self, hub: &Arc<Hub>, caller: &Caller) -> Result<Vec<String>> {
        let said = self.at(hub, caller, true).await?;
        Ok(bounded(&said))
    }

    async fn at(&self, hub: &Arc<Hub>, caller: &Caller, dry_run: bool) -> Result<String> {
        let standing = &caller.principal.standing;
        let session = Session::new(hub, standing, self.verb.role).await;
        let desk = Desk::of_session(session, dry_run);
        self.execute(&desk).await.map_err(cut)
    }

    async fn execute(&self, desk: &Desk) -> Result<String> {
        let id = || self.text("id");
        match self.verb.does {
            Does::PersonAdd => person::add(desk, id()?, self.text("name")?, &self.roles()?).await,
            Does::PersonRename => person::rename(desk, id()?, self.text("name")?).await,
            Does::PersonRoles => person::roles(desk, id()?, &self.roles()?).await,
            Does::PersonDisable => person::disable(desk, id()?).await,
            Does::PersonEnable => person::enable(desk, id()?).await,
            Does::PersonUnlock => person::unlock(desk, id()?).await,
            Does::TokenRevoke => token::revoke(desk, id()?).await,
            Does::ProjectAdd => project::add(desk, &self.project()?, false).await,
            Does::ProjectChange => project::change(desk, id()?, self.said()).await,
            Does::ProjectExtend => project::extend(desk, id()?, self.day("until")?).await,
            Does::ProjectEnd => project::end(desk, id()?).await,
            Does::ProjectJoin => project::join(desk, id()?, self.text("person")?).await,
            Does::ProjectLeave => project::leave(desk, id()?, self.text("person")?).await,
            Does::HabilitationEnter => {
                habilitation::enter(desk, None, "text", self.text("text")?).await
            }
            Does::HabilitationConfirm => {
                let version = self.number("version")?.ok_or_else(|| self.verb.usage())?;
                habilitation::confirm(desk, None, id()?, version).await
            }
            Does::HabilitationRevoke => habilitation::revoke(desk, id()?).await,
            Does::ExportRelease => {
                let days = self.number("days")?;
                if days.is_some_and(|days| !(1..=export::RELEASE_DAYS_MAX).contains(&days)) {
                    return Err(Error::invalid(format!(
                        "an export is released for 1 to {} days",
                        export::RELEASE_DAYS_MAX
                    )));
                }
                export::release(desk, None, id()?, days).await
            }
            Does::ExportRefuse => export::decide(desk, None, id()?, ExportDecision::Refuse).await,
            Does::ExportWithdraw => export::withdraw(desk, None, id()?).await,
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    fn text(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| self.verb.usage())
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let read = |text: &str| {
            text.parse().map_err(|_| {
                Error::invalid(format!(
                    "argument `{name}` is no whole number that fits here"
                ))
            })
        };
        self.get(name).map(read).transpose()
    }

    fn day(&self, name: &str) -> Result<NaiveDate> {
        self.text(name)?.parse().map_err(|_| {
            Error::invalid(format!(
                "argument `{name}` is no day; write it as '2026-11-22'"
            ))
        })
    }

    /// Roles, with commas between them.
    fn roles(&self) -> Result<BTreeSet<AdminRole>> {
        let names = self.get("roles").unwrap_or_default().split(',');
        let names = names.map(str::trim).filter(|name| !name.is_empty());
        let read = |name| {
            person::role(name).map_err(|known| {
                Error::invalid(format!("argument `roles` has a role that is none; {known}"))
            })
        };
        names.map(read).collect()
    }

    fn project(&self) -> Result<ProjectConfig> {
        let text = |name: &str| self.get(name).unwrap_or_default().to_owned();
        Ok(ProjectConfig {
            id: text("id"),
            title: text("title"),
            purpose: text("purpose"),
            organisation: self
                .get("organisation")
                .map_or_else(own_organisation, str::to_owned),
            members: Vec::new(),
            valid_from: self.day("from")?,
            valid_to: self.day("until")?,
            space_quota_mb: self
                .number("space_quota_mb")?
                .unwrap_or_else(default_quota_mb),
        })
    }

    fn said(&self) -> Said {
        let text = |name: &str| self.get(name).map(str::to_owned);
        Said {
            title: text("title"),
            purpose: text("purpose"),
            organisation: text("organisation"),
            // Only a command makes one.
            new_organisation: false,
        }
    }
}

/// The lines of a dry run. Where there are too many, that is said before all others: nobody may
/// take what follows for the whole.
fn bounded(said: &str) -> Vec<String> {
    let more = said.lines().count().saturating_sub(LINES_MAX);
    let incomplete = (more > 0).then(|| {
        format!(
            "NOT COMPLETE: {more} lines are not shown here; the command with `--dry-run` shows \
             them all"
        )
    });
    let lines = said.lines().take(LINES_MAX).map(str::to_owned);
    incomplete.into_iter().chain(lines).collect()
}

/// An error is a header of the answer, which has its own limit.
fn cut(error: Error) -> Error {
    let text = error.to_string();
    match text.char_indices().nth(ERROR_CHARS_MAX) {
        None => error,
        Some((end, _)) => Error::new(error.kind, format!("{}…", &text[..end])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_said_first() {
        let whole = "a line\n".repeat(LINES_MAX);
        assert_eq!(bounded(&whole).len(), LINES_MAX);
        let lines = bounded(&(whole + "two\nmore\n"));
        assert!(
            lines[0].starts_with("NOT COMPLETE: 2 lines"),
            "{}",
            lines[0]
        );
        assert_eq!(lines.len(), LINES_MAX + 1);
    }
}
