//! Personal access tokens: `hubpat_<id>_<secret>`, bound to one person and one project.
//!
//! The secret has 256 random bits, so that a plain SHA-256 of it is as safe to keep as a
//! slow hash would be, and checks in microseconds.

use chrono::{DateTime, Utc};
use data_encoding::BASE32_NOPAD_NOCASE;
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::columns::{get, instant, instant_or_null, micros};
use crate::people::found;
use crate::{Store, StoreError, WriteTransaction};

const PREFIX: &str = "hubpat";
const ID_BYTES: usize = 10;
const SECRET_BYTES: usize = 32;
/// Longer texts are not tokens and are not decoded.
const TOKEN_CHARS_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    pub person: String,
    pub project: String,
    /// What the person calls it.
    pub name: String,
    pub expires_at: DateTime<Utc>,
}

/// A token just made; the text is shown once and kept nowhere.
pub struct IssuedToken {
    pub id: String,
    pub text: Zeroizing<String>,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken")
            .field("id", &self.id)
            .field("text", &"***")
            .finish()
    }
}

/// A token as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    pub person: String,
    pub project: String,
    pub name: String,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Whom a valid token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHolder {
    pub token: String,
    pub person: String,
    pub project: String,
    pub expires_at: DateTime<Utc>,
}

/// A token as the store keeps it, whether or not its time is over.
#[derive(Clone)]
pub(crate) struct Held {
    holder: TokenHolder,
    /// SHA-256 of its secret.
    hash: Vec<u8>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held({})", self.holder.token)
    }
}

impl Held {
    /// Whom it stands for, while it does.
    pub fn holder(self, now: DateTime<Utc>) -> Option<TokenHolder> {
        (self.holder.expires_at > now).then_some(self.holder)
    }

    /// The same for who knows its secret.
    pub fn verified(self, secret: &[u8], now: DateTime<Utc>) -> Option<TokenHolder> {
        let given = Sha256::digest(secret);
        let is_known = bool::from(given[..].ct_eq(&self.hash));
        self.holder(now).filter(|_| is_known)
    }
}

impl Store {
    /// As [`WriteTransaction::issue_token`], alone.
    pub async fn issue_token(&self, new: &NewToken) -> Result<IssuedToken, StoreError> {
        let mut write = self.change_rights().await?;
        let issued = write.issue_token(new).await?;
        write.commit().await?;
        Ok(issued)
    }

    /// A token that is not revoked, of a holder who is active and a member.
    pub(crate) async fn held(&self, id: &str) -> Result<Option<Held>, StoreError> {
        let row = sqlx::query(
            "SELECT t.person, t.project, t.hash, t.expires_at FROM tokens t \
             JOIN persons p ON p.id = t.person AND p.active = 1 \
             JOIN members m ON m.person = t.person AND m.project = t.project \
             WHERE t.id = $1 AND t.revoked_at IS NULL",
        )
        .bind(id)
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let holder = TokenHolder {
            token: id.to_owned(),
            person: get(&row, "person")?,
            project: get(&row, "project")?,
            expires_at: instant(get(&row, "expires_at")?)?,
        };
        let hash = get(&row, "hash")?;
        Ok(Some(Held { holder, hash }))
    }

    /// As [`WriteTransaction::revoke_token`], alone.
    pub async fn revoke_token(&self, id: &str, person: &str) -> Result<(), StoreError> {
        let mut write = self.change_rights().await?;
        write.revoke_token(id, person).await?;
        write.commit().await
    }

    /// The tokens of one person, or of all.
    pub async fn tokens(&self, person: Option<&str>) -> Result<Vec<Token>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, person, project, name, created_at, expires_at, revoked_at FROM tokens \
             WHERE $1 IS NULL OR person = $1 ORDER BY created_at, id",
        )
        .bind(person)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(token_of).collect()
    }
}

impl WriteTransaction {
    /// Makes a token for a member of the project.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the person is not a member of the project.
    pub async fn issue_token(&mut self, new: &NewToken) -> Result<IssuedToken, StoreError> {
        let id = BASE32_NOPAD_NOCASE.encode(&random::<ID_BYTES>()?[..]);
        let id = id.to_ascii_lowercase();
        let secret = random::<SECRET_BYTES>()?;
        let encoded = Zeroizing::new(BASE32_NOPAD_NOCASE.encode(&secret[..]));
        let text = Zeroizing::new(format!("{PREFIX}_{id}_{}", encoded.to_ascii_lowercase()));
        let member = sqlx::query("SELECT role FROM members WHERE project = $1 AND person = $2")
            .bind(&new.project)
            .bind(&new.person)
            .fetch_all(self.connection())
            .await?;
        found(member.len() as u64, "member", &new.person)?;
        sqlx::query(
            "INSERT INTO tokens (id, person, project, name, hash, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&id)
        .bind(&new.person)
        .bind(&new.project)
        .bind(&new.name)
        .bind(Sha256::digest(&secret[..]).to_vec())
        .bind(micros(Utc::now()))
        .bind(micros(new.expires_at))
        .execute(self.connection())
        .await?;
        Ok(IssuedToken { id, text })
    }

    /// Revokes a token at once; a token of another person reads as missing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn revoke_token(&mut self, id: &str, person: &str) -> Result<(), StoreError> {
        let changed = sqlx::query(
            "UPDATE tokens SET revoked_at = $3 \
             WHERE id = $1 AND person = $2 AND revoked_at IS NULL",
        )
        .bind(id)
        .bind(person)
        .bind(micros(Utc::now()))
        .execute(self.connection())
        .await?
        .rows_affected();
        found(changed, "token", id)
    }
}

pub(crate) fn parse(text: &str) -> Option<(&str, Zeroizing<Vec<u8>>)> {
    if text.len() > TOKEN_CHARS_MAX {
        return None;
    }
    let (prefix, rest) = text.split_once('_')?;
    let (id, secret) = rest.split_once('_')?;
    let secret = Zeroizing::new(BASE32_NOPAD_NOCASE.decode(secret.as_bytes()).ok()?);
    (prefix == PREFIX && secret.len() == SECRET_BYTES).then_some((id, secret))
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, StoreError> {
    let mut bytes = Zeroizing::new([0; N]);
    SysRng
        .try_fill_bytes(&mut bytes[..])
        .map_err(|_| StoreError::Random)?;
    Ok(bytes)
}

fn token_of(row: &AnyRow) -> Result<Token, StoreError> {
    Ok(Token {
        id: get(row, "id")?,
        person: get(row, "person")?,
        project: get(row, "project")?,
        name: get(row, "name")?,
        created_at: instant(get(row, "created_at")?)?,
        expires_at: instant(get(row, "expires_at")?)?,
        revoked_at: instant_or_null(get(row, "revoked_at")?)?,
    })
}
