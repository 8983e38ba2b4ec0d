//! What persons change of their own in SQL: `CALL hub.change_password('old', 'new')` and `CALL
//! hub.revoke_token('id')`.
//!
//! Neither password is kept anywhere but as the new one's hash. The audit's text of the statement
//! is a constant ([`KEPT`]), without its parameters; of a refused statement that seems to be about
//! passwords it is what stands before them ([`kept_of_refused`]), and what its sender is told then
//! repeats nothing of it ([`told`]). A prepared statement is kept for later, so that it has
//! placeholders in their place.
//!
//! A new password ends all sessions of its person, that of the call too, and none of their access
//! tokens. Somebody else's session or token cannot set one: it takes the old password, in a
//! session that began with it, and wrong ones count as failed logins do.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use chrono::{SecondsFormat, TimeDelta, Utc};
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{Function, Statement as Sql, Value};
use hubflight_store::Token;
use zeroize::Zeroizing;

use crate::admin::{TOKEN_DAYS_MAX, Wanted, issue};
use crate::airlock::call::values;
use crate::asked;
use crate::auth::{ADMIN_CATALOG, Method, project_of};
use crate::catalog::space::names::moves_text;
use crate::change::Act;
use crate::error::{Error, Result};
use crate::flight::call::Caller;
use crate::flight::metadata::columns::column_metadata;
use crate::hub::Hub;
use crate::plan::parameters;
use crate::plan::parse::parse;
use crate::statement::Text;

const CHANGE_PASSWORD: &str = "hub.change_password";
const REVOKE_TOKEN: &str = "hub.revoke_token";
const CREATE_TOKEN: &str = "hub.create_token";
/// Tokens in force that one person may have for one project, those made by command included.
const TOKENS_MAX: usize = 50;
/// Characters of a token's name.
const NAME_CHARACTERS_MAX: usize = 128;
/// What is kept of the text of a statement that changes a password.
pub const KEPT: &str = "CALL hub.change_password(…)";
/// What the audit calls what a person does by themselves.
const CLIENT: &str = "flight-server";

/// What is called.
#[derive(Clone)]
pub enum Call {
    ChangePassword {
        old: Password,
        new: Password,
    },
    /// Revokes a token, by its identifier.
    RevokeToken(String),
    CreateToken(WantedToken),
}

/// A token that somebody asks for, for the project of their session.
#[derive(Clone, Debug)]
pub struct WantedToken {
    name: String,
    days: u64,
}

/// A password, or the placeholder that stands for it.
#[derive(Clone)]
pub enum Password {
    Written(Zeroizing<String>),
    /// The number of the placeholder, from 0.
    Bound(usize),
}

/// What a statement calls of a person's own; `None` for any other.
///
/// # Errors
/// `InvalidArgument` where it has other arguments; nothing of them is repeated.
pub fn called(statement: &Sql) -> Result<Option<Call>> {
    let Sql::Call(call) = statement else {
        return Ok(None);
    };
    // A quoted name prints its quotes.
    match call.name.to_string().to_lowercase().as_str() {
        CHANGE_PASSWORD => {
            let passwords = values(call).and_then(|[old, new]| {
                let (old, new) = (password(old)?, password(new)?);
                Some(Call::ChangePassword { old, new })
            });
            passwords.map(Some).ok_or_else(usage)
        }
        REVOKE_TOKEN => match values(call) {
            Some([Value::SingleQuotedString(id)]) => Ok(Some(Call::RevokeToken(id.clone()))),
            _ => Err(Error::invalid(format!(
                "write `CALL {REVOKE_TOKEN}('id')`: the identifier of a token of yours, in \
                 quotes; `hub.tokens` lists them"
            ))),
        },
        CREATE_TOKEN => wanted_token(call).map(|wanted| Some(Call::CreateToken(wanted))),
        _ => Ok(None),
    }
}

fn wanted_token(call: &Function) -> Result<WantedToken> {
    let wrong = || {
        Error::invalid(format!(
            "write `CALL {CREATE_TOKEN}('what it is for', 30)`: a text of at most \
             {NAME_CHARACTERS_MAX} characters, and for how many days it is valid, 1 to \
             {TOKEN_DAYS_MAX}"
        ))
    };
    let Some([Value::SingleQuotedString(name), Value::Number(days, _)]) = values(call) else {
        return Err(wrong());
    };
    let days: u64 = days.parse().map_err(|_| wrong())?;
    let is_name = name.chars().count() <= NAME_CHARACTERS_MAX && !name.chars().any(moves_text);
    match is_name && (1..=TOKEN_DAYS_MAX).contains(&days) {
        true => Ok(WantedToken {
            name: name.clone(),
            days,
        }),
        false => Err(wrong()),
    }
}

fn password(value: &Value) -> Option<Password> {
    match value {
        Value::SingleQuotedString(text) => Some(Password::Written(text.clone().into())),
        // It is numbered once the statement is known to be allowed.
        Value::Placeholder(name) if name == "?" => Some(Password::Bound(0)),
        Value::Placeholder(name) => {
            let number: usize = name.strip_prefix('$')?.parse().ok()?;
            Some(Password::Bound(number.checked_sub(1)?))
        }
        _ => None,
    }
}

fn usage() -> Error {
    Error::invalid(format!(
        "write `CALL {CHANGE_PASSWORD}('old', 'new')` as a statement of its own: two texts in \
         quotes, with each quote inside doubled, or two placeholders; somebody else's is made by \
         `flight-server admin person password`; nothing of what was sent is repeated or kept"
    ))
}

impl Call {
    /// Refuses to keep a prepared statement with passwords in it.
    pub fn check_prepared(&self) -> Result<()> {
        match self {
            Call::ChangePassword {
                old: Password::Bound(_),
                new: Password::Bound(_),
            }
            | Call::RevokeToken(_)
            | Call::CreateToken(_) => Ok(()),
            Call::ChangePassword { .. } => Err(Error::invalid(format!(
                "a prepared statement is kept, and passwords are not: prepare `CALL \
                 {CHANGE_PASSWORD}(?, ?)` and bind them"
            ))),
        }
    }

    /// The text of the statement as the audit keeps it.
    pub fn kept(&self, text: &Text) -> String {
        match self {
            Call::ChangePassword { .. } => KEPT.to_owned(),
            Call::RevokeToken(_) | Call::CreateToken(_) => {
                asked::encode(&text.sql, &text.parameters).into_owned()
            }
        }
    }

    /// Does it, for the one row of parameters that may be bound. 1 where it is done.
    pub async fn run(
        self,
        hub: Arc<Hub>,
        caller: Caller,
        rows: Vec<Vec<ScalarValue>>,
    ) -> Result<u64> {
        match self {
            Call::RevokeToken(id) => revoke_token(&hub, &caller, &id).await,
            Call::CreateToken(_) => Err(Error::invalid(format!(
                "`CALL {CREATE_TOKEN}` gives the token as a row; execute it as a query"
            ))),
            Call::ChangePassword { old, new } => {
                if rows.len() > 1 {
                    return Err(Error::invalid(
                        "a password is changed once; bind one row of parameters",
                    ));
                }
                let row = rows.into_iter().next().unwrap_or_default();
                let (old, new) = (old.text(&row)?, new.text(&row)?);
                change_password(&hub, &caller, &old, &new).await
            }
        }
    }
}

impl Password {
    fn text(self, row: &[ScalarValue]) -> Result<Zeroizing<String>> {
        match self {
            Password::Written(text) => Ok(text),
            Password::Bound(number) => {
                let bound = row
                    .get(number)
                    .and_then(|value| value.try_as_str().flatten());
                bound
                    .map(|text| Zeroizing::new(text.to_owned()))
                    .ok_or_else(usage)
            }
        }
    }
}

async fn change_password(hub: &Arc<Hub>, caller: &Caller, old: &str, new: &str) -> Result<u64> {
    let standing = &caller.principal.standing;
    if standing.login.method != Method::Password {
        return Err(Error::denied(
            "a password is changed in a session that began with it: log in with the old one; an \
             access token, a login provider or a certificate does not do",
        ));
    }
    if old == new {
        return Err(Error::invalid("the new password is the old one"));
    }
    let now = Utc::now();
    let id = &caller.principal.person.id;
    let verified = hub.auth.confirm_password(id, old, now).await?;
    let hashed = hub.auth.passwords.hash(&hub.store, new).await?;
    let mut change = hub.change(CLIENT, now).await?;
    // What was verified may have ended since, by an administrator who shuts somebody out.
    let persons = change.write.persons().await?;
    let is_theirs = |epoch: i64| standing.epoch.is_none_or(|own| own == epoch);
    let stands = persons.iter().any(|person| {
        let same = person.id == *id && person.active && person.token_epoch == verified.token_epoch;
        same && is_theirs(person.token_epoch)
    });
    if !stands {
        return Err(Error::unauthenticated(
            "the session has ended meanwhile; log in again",
        ));
    }
    change.write.set_password(id, &hashed).await?;
    change.record(Act {
        event: "password_changed",
        person: Some(id.clone()),
        detail: "by themselves, which ends their sessions".to_owned(),
        ..Act::default()
    });
    change.commit().await?;
    Ok(1)
}

impl WantedToken {
    /// What its caller is given: a query of constants, with the values that are bound to it.
    const SHOWN: &str = "SELECT $1 AS id, $2 AS token, $3 AS expires_at";

    pub fn schema() -> Schema {
        let columns = ["id", "token", "expires_at"].map(|name| {
            let field = Field::new(name, DataType::Utf8, true);
            // As a result says it of its columns.
            let metadata = column_metadata(&field, None);
            field.with_metadata(metadata)
        });
        Schema::new(columns.to_vec())
    }

    /// Makes the token of the session's project. Its text is in what this returns and, of the hub,
    /// nowhere else: the store keeps a digest.
    ///
    /// # Errors
    /// `PermissionDenied` for a session that did not begin with a login, since a token that makes
    /// tokens would never end; `ResourceExhausted` beyond the number that one may have.
    pub async fn make(self, hub: &Arc<Hub>, caller: &Caller) -> Result<Text> {
        let standing = &caller.principal.standing;
        let project = caller.principal.project()?;
        if standing.access_token.is_some() || standing.login.method == Method::AccessToken {
            return Err(Error::denied(
                "an access token makes no other; log in with your password, your login provider \
                 or your certificate",
            ));
        }
        if project == ADMIN_CATALOG {
            return Err(Error::denied(
                "a token for catalog `admin` is made by `flight-server admin token create`",
            ));
        }
        let now = Utc::now();
        let mut change = hub.change(CLIENT, now).await?;
        // Nobody is shut out from here on, or leaves the project.
        let rights = hub.store.rights().await?;
        let admitted = hub.auth.admit(&rights, standing, now).await?;
        if !admitted.projects.iter().any(|own| own.id == project) {
            return Err(Error::denied(format!(
                "you are a member of project `{project}` no more"
            )));
        }
        let tokens = hub.store.tokens(Some(&standing.person)).await?;
        let is_open = |token: &&Token| {
            token.project == project && token.revoked_at.is_none() && token.expires_at > now
        };
        if tokens.iter().filter(is_open).count() >= TOKENS_MAX {
            return Err(Error::exhausted(format!(
                "you have {TOKENS_MAX} tokens for project `{project}`, the most that one may have; \
                 revoke some with `CALL {REVOKE_TOKEN}('id')`"
            )));
        }
        let wanted = Wanted {
            person: &standing.person,
            project,
            name: &self.name,
            days: self.days,
        };
        let issued = issue(&mut change, &wanted, now).await?;
        change.commit().await?;
        let expires = now + TimeDelta::days(i64::try_from(self.days).unwrap_or(0));
        let values = [
            issued.id,
            issued.text.as_str().to_owned(),
            expires.to_rfc3339_opts(SecondsFormat::Secs, true),
        ];
        let schema = Arc::new(Self::schema());
        let columns = values.map(|value| Arc::new(StringArray::from(vec![value])) as ArrayRef);
        let row = RecordBatch::try_new(Arc::clone(&schema), columns.to_vec())?;
        Ok(Text {
            sql: Self::SHOWN.to_owned(),
            parameters: parameters::encode(&schema, &[row])?,
            transaction: None,
        })
    }
}

/// Revokes a token of the caller's own; somebody else's reads as one that is not there, and so
/// does one of another project where the caller's credential is good for one alone.
async fn revoke_token(hub: &Arc<Hub>, caller: &Caller, id: &str) -> Result<u64> {
    let standing = &caller.principal.standing;
    let is_within = |token: &Token| {
        let mut bound = standing.bound_to.iter();
        bound.all(|project| *project == token.project)
    };
    let tokens = hub.store.tokens(Some(&standing.person)).await?;
    let mut tokens = tokens.into_iter();
    let token = tokens
        .find(|token| token.id == id && token.revoked_at.is_none() && is_within(token))
        .ok_or_else(|| {
            Error::not_found("no such token of yours is in force; `hub.tokens` lists which are")
        })?;
    let mut change = hub.change(CLIENT, Utc::now()).await?;
    change.write.revoke_token(id, &token.person).await?;
    change.record(Act {
        event: "token_revoked",
        project: project_of(&token.project),
        person: Some(token.person),
        detail: format!("by themselves, token {id} for catalog {}", token.project),
    });
    change.commit().await?;
    Ok(1)
}

/// What the audit keeps of the text of a statement that was refused, so that nothing ran.
pub fn kept_of_refused<'a>(text: &'a Text, sql_bytes_max: usize) -> Cow<'a, str> {
    if !is_about_passwords(&text.sql) || administers(&text.sql, sql_bytes_max) {
        return asked::encode(&text.sql, &text.parameters);
    }
    if changes_password(&text.sql, sql_bytes_max) {
        return Cow::Borrowed(KEPT);
    }
    let lower = text.sql.to_ascii_lowercase();
    let end = lower.find("password").map_or(0, |at| at + "password".len());
    // Of a word that only looks like it, what stands before anything that is written.
    let written = text.sql.find(['(', '\'', '"']).unwrap_or(text.sql.len());
    let end = match end {
        0 => written,
        end => end.min(written),
    };
    Cow::Owned(format!("{}…", text.sql.get(..end).unwrap_or_default()))
}

/// What the sender of a refused statement is told: an error of the planner repeats what it did not
/// understand, and logs keep errors.
pub fn told(sql: &str, sql_bytes_max: usize, error: Error) -> Error {
    let is_understood = || changes_password(sql, sql_bytes_max) || administers(sql, sql_bytes_max);
    if !is_about_passwords(sql) || is_understood() {
        return error;
    }
    Error::new(error.kind, usage().to_string())
}

/// Whether somebody may have meant to change a password.
pub fn is_about_passwords(sql: &str) -> bool {
    let lower = sql.to_ascii_lowercase();
    let is_call = ["call", "alter", "user"]
        .iter()
        .any(|word| lower.contains(word));
    let is_meant = ["passw", "change_p", "pwd", "_pw"];
    lower.contains("change_password")
        || (is_call && is_meant.iter().any(|word| lower.contains(word)))
}

/// Whether a statement is understood as the call that changes a password.
fn changes_password(sql: &str, sql_bytes_max: usize) -> bool {
    let call = parse(sql, sql_bytes_max).and_then(|parsed| parsed.own());
    matches!(call, Ok(Some(Call::ChangePassword { .. })))
}

/// Whether it is understood as a statement of administration, none of which is about passwords,
/// whatever its texts say.
fn administers(sql: &str, sql_bytes_max: usize) -> bool {
    let call = parse(sql, sql_bytes_max).and_then(|parsed| parsed.admin());
    matches!(call, Ok(Some(_)))
}

#[cfg(test)]
mod tests;
