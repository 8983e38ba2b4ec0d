//! The revision of rights: one number that every change of rights raises; and what is read of
//! rights, kept until it does.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use crate::columns::get;
use crate::tokens::{Held, parse};
use crate::{
    AdminRole, Export, HabilitationRow, Identity, LinkageGeneration, Person, Project, Store,
    StoreError, TokenHolder, WriteTransaction,
};

/// Answers of one kind that are kept at a time.
const KEPT_MAX: usize = 4_096;

impl Store {
    /// Grows with every change of a person's access, a project's period, a membership, a
    /// token, a habilitation or an opposition, in the same transaction, whichever process
    /// writes. Who reads it *before* the rights themselves misses no later change.
    pub async fn rights_revision(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT revision FROM rights")
            .fetch_one(self.pool())
            .await?;
        get(&row, "revision")
    }

    /// Rights as they are at this moment or later, for one decision: what was read before is
    /// read again only where the revision grew since.
    pub async fn rights(&self) -> Result<Rights<'_>, StoreError> {
        let revision = self.rights_revision().await?;
        let mut current = self.read.lock();
        if current.revision != Some(revision) {
            // Who still reads at an older revision keeps what they find to themselves.
            *current = Arc::new(Read {
                revision: Some(revision),
                ..Read::default()
            });
        }
        Ok(Rights {
            store: self,
            read: Arc::clone(&current),
        })
    }

    /// Begins a transaction that changes rights. Others of its kind wait for it, so that what
    /// it reads of rights stays true until it ends, also where the database would let both
    /// write.
    pub async fn change_rights(&self) -> Result<WriteTransaction, StoreError> {
        let mut write = self.write().await?;
        sqlx::query("UPDATE rights SET revision = revision + 1")
            .execute(write.connection())
            .await?;
        Ok(write)
    }
}

/// What was read since the revision became what it is.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// None before the first reading.
    revision: Option<i64>,
    persons: Kept<Person>,
    identities: Kept<Person>,
    tokens: Kept<Held>,
    roles: Kept<BTreeSet<AdminRole>>,
    projects: Kept<Arc<[Project]>>,
    habilitations: Kept<Arc<[HabilitationRow]>>,
    exports: Kept<Arc<[Export]>>,
    linkage: Kept<Arc<[LinkageGeneration]>>,
}

/// Answers by what was asked for. That nobody is there is not kept: who asks may invent names.
#[derive(Debug)]
struct Kept<T>(Mutex<HashMap<String, T>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Kept<T> {
    async fn or_read(
        &self,
        key: &str,
        read: impl Future<Output = Result<Option<T>, StoreError>>,
    ) -> Result<Option<T>, StoreError> {
        let kept = self.0.lock().get(key).cloned();
        if kept.is_some() {
            return Ok(kept);
        }
        let found = read.await?;
        if let Some(found) = &found {
            let mut kept = self.0.lock();
            if kept.len() >= KEPT_MAX {
                kept.clear();
            }
            kept.insert(key.to_owned(), found.clone());
        }
        Ok(found)
    }

    /// The same for lists, which there always are.
    async fn all_or_read<U>(
        &self,
        key: &str,
        read: impl Future<Output = Result<U, StoreError>>,
    ) -> Result<T, StoreError>
    where
        T: From<U> + Default,
    {
        let read = async { Ok(Some(read.await?.into())) };
        Ok(self.or_read(key, read).await?.unwrap_or_default())
    }
}

/// Rights since a revision that was read at the begin of a decision; see [`Store::rights`].
#[derive(Debug)]
pub struct Rights<'a> {
    store: &'a Store,
    read: Arc<Read>,
}

impl Rights<'_> {
    /// As [`Store::person`].
    pub async fn person(&self, id: &str) -> Result<Option<Person>, StoreError> {
        self.read.persons.or_read(id, self.store.person(id)).await
    }

    /// Whom the identity stands for, active or not.
    pub async fn person_of_identity(
        &self,
        identity: &Identity,
    ) -> Result<Option<Person>, StoreError> {
        // An issuer, which is a URL or a word, has no line break.
        let key = format!("{}\n{}", identity.issuer, identity.subject);
        let read = self.store.person_of_identity(identity);
        self.read.identities.or_read(&key, read).await
    }

    /// Whom the token stands for at `now`; none if it is malformed, unknown, expired or
    /// revoked, or its holder is inactive or no longer a member.
    pub async fn verify_token(
        &self,
        text: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<TokenHolder>, StoreError> {
        let Some((id, secret)) = parse(text) else {
            return Ok(None);
        };
        let held = self.held(id).await?;
        Ok(held.and_then(|held| held.verified(&secret, now)))
    }

    /// Whom a token that was verified before stands for at `now`, by its id; none under the
    /// same conditions as [`Rights::verify_token`].
    pub async fn token_holder(
        &self,
        id: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<TokenHolder>, StoreError> {
        let held = self.held(id).await?;
        Ok(held.and_then(|held| held.holder(now)))
    }

    async fn held(&self, id: &str) -> Result<Option<Held>, StoreError> {
        self.read.tokens.or_read(id, self.store.held(id)).await
    }

    /// As [`Store::admin_roles`].
    pub async fn admin_roles(&self, person: &str) -> Result<BTreeSet<AdminRole>, StoreError> {
        let read = self.store.admin_roles(person);
        self.read.roles.all_or_read(person, read).await
    }

    /// As [`Store::projects_of`].
    pub async fn projects_of(&self, person: &str) -> Result<Arc<[Project]>, StoreError> {
        let read = self.store.projects_of(person);
        self.read.projects.all_or_read(person, read).await
    }

    /// As [`Store::habilitations_of`]; the same list as long as the revision stays.
    pub async fn habilitations_of(
        &self,
        project: &str,
    ) -> Result<Arc<[HabilitationRow]>, StoreError> {
        let read = self.store.habilitations_of(project);
        self.read.habilitations.all_or_read(project, read).await
    }

    /// As [`Store::linkage_generations`].
    pub async fn linkage_generations(
        &self,
        project: &str,
    ) -> Result<Arc<[LinkageGeneration]>, StoreError> {
        let read = self.store.linkage_generations(project);
        self.read.linkage.all_or_read(project, read).await
    }

    /// The packages of a project that its members may read at `now`.
    pub async fn open_exports(
        &self,
        project: &str,
        now: DateTime<Utc>,
    ) -> Result<Vec<Export>, StoreError> {
        let read = self.store.released_exports(project);
        let exports = self.read.exports.all_or_read(project, read).await?;
        let open = exports.iter().filter(|export| export.is_open(now));
        Ok(open.cloned().collect())
    }
}
