//! Passwords: Argon2id (RFC 9106), checked on threads of their own.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::columns::get;
use crate::people::{found, person_of};
use crate::{Person, Store, StoreError, WriteTransaction};

/// Parameters of the OWASP password storage cheat sheet for Argon2id: 19 MiB, two passes.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Longer passwords are refused, so that hashing them cannot be made expensive.
const PASSWORD_BYTES_MAX: usize = 1024;
const PASSWORD_BYTES_MIN: usize = 8;
/// Salt of the hash that is computed for a person who does not exist.
const NOBODYS_SALT: [u8; 16] = *b"hubflight nobody";

/// A password as it is kept; never printed.
pub struct HashedPassword(String);

impl std::fmt::Debug for HashedPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashedPassword(***)")
    }
}

impl Store {
    /// Sets the password and ends the person's sessions.
    ///
    /// # Errors
    /// As [`Store::hash_password`] and [`WriteTransaction::set_password`].
    pub async fn set_password(&self, person: &str, password: &str) -> Result<(), StoreError> {
        let hashed = self.hash_password(password).await?;
        let mut write = self.change_rights().await?;
        write.set_password(person, &hashed).await?;
        write.commit().await
    }

    /// Hashes a password, which takes long and so is done before a transaction begins.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a length outside 8 to 1024 bytes.
    pub async fn hash_password(&self, password: &str) -> Result<HashedPassword, StoreError> {
        if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
            return Err(StoreError::Invalid {
                what: "password",
                value: "***".to_owned(),
                expected: "write 8 to 1024 bytes",
            });
        }
        let password = password.to_owned();
        let hash = self
            .on_password_thread(move || {
                hasher()?
                    .hash_password(password.as_bytes())
                    .map(|hash: PasswordHash| hash.to_string())
                    .map_err(|_| StoreError::Password)
            })
            .await?;
        Ok(HashedPassword(hash))
    }

    /// The person, if active and the password is theirs; none otherwise.
    ///
    /// An unknown or inactive person, and one without a password, take as long as a wrong
    /// password: a hash is computed for each.
    pub async fn verify_password(
        &self,
        person: &str,
        password: &str,
    ) -> Result<Option<Person>, StoreError> {
        let row = sqlx::query(
            "SELECT id, name, password_hash, CASE WHEN password_hash IS NULL THEN 0 ELSE 1 END \
             AS has_password, active, is_admin, token_epoch, created_at FROM persons \
             WHERE id = $1",
        )
        .bind(person)
        .fetch_optional(self.pool())
        .await?;
        let person = row.as_ref().map(person_of).transpose()?;
        let hash: Option<String> = match &row {
            Some(row) => get(row, "password_hash")?,
            None => None,
        };
        // A password that is too long is cut for the hash, and refused below.
        let fits = password.len() <= PASSWORD_BYTES_MAX;
        let bytes = password.as_bytes();
        let password = bytes.get(..PASSWORD_BYTES_MAX).unwrap_or(bytes).to_vec();
        let verified = self
            .on_password_thread(move || matches_hash(&password, hash.as_deref()))
            .await?;
        Ok(person.filter(|person| verified && fits && person.active))
    }

    async fn on_password_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        // The permit travels with the work: a caller that gives up does not free its memory.
        let permit = self
            .password_checks
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| StoreError::Password)?;
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        })
        .await
        .map_err(|_| StoreError::Password)?
    }
}

impl WriteTransaction {
    /// Sets the password and ends the person's sessions.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn set_password(
        &mut self,
        person: &str,
        password: &HashedPassword,
    ) -> Result<(), StoreError> {
        let changed = sqlx::query(
            "UPDATE persons SET password_hash = $2, token_epoch = token_epoch + 1 WHERE id = $1",
        )
        .bind(person)
        .bind(&password.0)
        .execute(self.connection())
        .await?
        .rows_affected();
        found(changed, "person", person)
    }
}

fn hasher() -> Result<Argon2<'static>, StoreError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| StoreError::Password)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn matches_hash(password: &[u8], hash: Option<&str>) -> Result<bool, StoreError> {
    let argon2 = hasher()?;
    match hash {
        Some(hash) => {
            let hash = PasswordHash::new(hash).map_err(|_| StoreError::Corrupt {
                what: "password hash",
            })?;
            Ok(argon2.verify_password(password, &hash).is_ok())
        }
        None => {
            argon2
                .hash_password_with_salt(password, &NOBODYS_SALT)
                .map_err(|_| StoreError::Password)?;
            Ok(false)
        }
    }
}
