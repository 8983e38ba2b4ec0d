//! Habilitations: immutable versions whose body is opaque to the store.

use chrono::{DateTime, Utc};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use crate::columns::{get, instant, instant_or_null, micros};
use crate::people::found;
use crate::{Put, Store, StoreError, WriteTransaction};

/// A version to write; `body` is JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHabilitation {
    pub id: String,
    /// One more than the newest version, or 1.
    pub version: u32,
    pub project: String,
    pub dataset: String,
    pub body: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HabilitationRow {
    pub id: String,
    pub version: u32,
    pub project: String,
    pub dataset: String,
    pub body: String,
    pub created_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
    /// Who entered it by command; none for the configuration's, which need no confirmation.
    pub entered_by: Option<String>,
    /// The second person.
    pub confirmed_by: Option<String>,
    /// That person is a member of the project by now, so that the confirmation does not count.
    pub confirmer_is_member: bool,
}

impl HabilitationRow {
    /// True until a second person confirms what the first entered.
    pub fn is_pending(&self) -> bool {
        self.entered_by.is_some() && self.confirmed_by.is_none()
    }
}

const ROW: &str = "SELECT h.id, h.version, h.project, h.dataset, h.body, h.created_at, \
                   h.revoked_at, h.entered_by, h.confirmed_by, CASE WHEN EXISTS (SELECT 1 \
                   FROM members m WHERE m.project = h.project AND m.person = h.confirmed_by) \
                   THEN 1 ELSE 0 END AS confirmer_is_member FROM habilitations h";

impl Store {
    /// As [`WriteTransaction::put_habilitation`], alone.
    pub async fn put_habilitation(&self, new: &NewHabilitation) -> Result<Put, StoreError> {
        let mut write = self.change_rights().await?;
        let put = write.put_habilitation(new).await?;
        write.commit().await?;
        Ok(put)
    }

    /// As [`WriteTransaction::revoke_habilitation`], alone.
    pub async fn revoke_habilitation(&self, id: &str) -> Result<(), StoreError> {
        let mut write = self.change_rights().await?;
        write.revoke_habilitation(id).await?;
        write.commit().await
    }

    /// Every version of the project's habilitations that was decided on: all but those that
    /// wait for their first confirmation. Which of them governs is the reader's to decide: the
    /// period stands in the body, and a version may have been revoked, or have a confirmer who
    /// is a member.
    pub async fn habilitations_of(
        &self,
        project: &str,
    ) -> Result<Vec<HabilitationRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "{ROW} WHERE h.project = $1 AND (h.entered_by IS NULL OR h.confirmed_by IS NOT NULL) \
             ORDER BY h.id, h.version"
        ));
        let rows = sqlx::query(sql)
            .bind(project)
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(row_of).collect()
    }

    /// Every version of every habilitation, for administrators.
    pub async fn habilitations(&self) -> Result<Vec<HabilitationRow>, StoreError> {
        all(&mut *self.pool().acquire().await?).await
    }
}

impl WriteTransaction {
    /// As [`Store::habilitations`], with what this transaction wrote.
    pub async fn habilitations(&mut self) -> Result<Vec<HabilitationRow>, StoreError> {
        all(self.connection()).await
    }

    /// Writes a version. Writing an existing version with the same content again does nothing
    /// and answers [`Put::Updated`].
    ///
    /// # Errors
    /// [`StoreError::Immutable`] when the version exists with another content or belongs to
    /// another project, [`StoreError::Invalid`] when the version is not the next one,
    /// [`StoreError::NotFound`] when the project does not exist.
    pub async fn put_habilitation(&mut self, new: &NewHabilitation) -> Result<Put, StoreError> {
        self.insert_habilitation(new, None).await
    }

    /// Writes a version that is in force only when a second person has confirmed it.
    ///
    /// # Errors
    /// As [`WriteTransaction::put_habilitation`].
    pub async fn enter_habilitation(
        &mut self,
        new: &NewHabilitation,
        entered_by: &str,
    ) -> Result<Put, StoreError> {
        self.insert_habilitation(new, Some(entered_by)).await
    }

    async fn insert_habilitation(
        &mut self,
        new: &NewHabilitation,
        entered_by: Option<&str>,
    ) -> Result<Put, StoreError> {
        let projects = sqlx::query("SELECT id FROM projects WHERE id = $1")
            .bind(&new.project)
            .fetch_all(self.connection())
            .await?;
        found(projects.len() as u64, "project", &new.project)?;
        let sql = sqlx::AssertSqlSafe(format!("{ROW} WHERE h.id = $1 ORDER BY h.version"));
        let rows = sqlx::query(sql)
            .bind(&new.id)
            .fetch_all(self.connection())
            .await?;
        let versions: Vec<HabilitationRow> = rows.iter().map(row_of).collect::<Result<_, _>>()?;
        let immutable = || StoreError::Immutable {
            what: "habilitation",
            name: format!("{} version {}", new.id, new.version),
        };
        if versions.iter().any(|old| old.project != new.project) {
            return Err(immutable());
        }
        if let Some(old) = versions.iter().find(|old| old.version == new.version) {
            let same = old.dataset == new.dataset
                && old.body == new.body
                && old.entered_by.as_deref() == entered_by;
            return if same {
                Ok(Put::Updated)
            } else {
                Err(immutable())
            };
        }
        let newest = versions.last().map_or(0, |old| old.version);
        if newest.checked_add(1) != Some(new.version) {
            return Err(StoreError::Invalid {
                what: "habilitation version",
                value: new.version.to_string(),
                expected: "write the number after the newest version, from 1",
            });
        }
        sqlx::query(
            "INSERT INTO habilitations (id, version, project, dataset, body, created_at, entered_by) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&new.id)
        .bind(i64::from(new.version))
        .bind(&new.project)
        .bind(&new.dataset)
        .bind(&new.body)
        .bind(micros(Utc::now()))
        .bind(entered_by)
        .execute(self.connection())
        .await?;
        Ok(Put::Created)
    }

    /// Revokes every version of a habilitation, from now on.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none that is not revoked.
    pub async fn revoke_habilitation(&mut self, id: &str) -> Result<(), StoreError> {
        let changed = sqlx::query(
            "UPDATE habilitations SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
        )
        .bind(id)
        .bind(micros(Utc::now()))
        .execute(self.connection())
        .await?
        .rows_affected();
        found(changed, "habilitation in force", id)
    }

    /// Revokes one version of a habilitation, from now on.
    ///
    /// # Errors
    /// As [`WriteTransaction::revoke_habilitation`].
    pub async fn revoke_version(&mut self, id: &str, version: u32) -> Result<(), StoreError> {
        let changed = sqlx::query(
            "UPDATE habilitations SET revoked_at = $3 \
             WHERE id = $1 AND version = $2 AND revoked_at IS NULL",
        )
        .bind(id)
        .bind(i64::from(version))
        .bind(micros(Utc::now()))
        .execute(self.connection())
        .await?
        .rows_affected();
        found(changed, "habilitation in force", id)
    }

    /// Confirms a version that another person entered; false where the rules do not allow it:
    /// it was revoked, was confirmed by somebody who is still no member of its project, or
    /// `person` entered it or is a member.
    pub async fn confirm_habilitation(
        &mut self,
        id: &str,
        version: u32,
        person: &str,
    ) -> Result<bool, StoreError> {
        let confirmed = sqlx::query(
            "UPDATE habilitations SET confirmed_by = $3, confirmed_at = $4 \
             WHERE id = $1 AND version = $2 AND revoked_at IS NULL AND entered_by <> $3 \
             AND (confirmed_by IS NULL OR EXISTS (SELECT 1 FROM members c \
             WHERE c.project = habilitations.project AND c.person = habilitations.confirmed_by)) \
             AND NOT EXISTS (SELECT 1 FROM members m \
             WHERE m.project = habilitations.project AND m.person = $3)",
        )
        .bind(id)
        .bind(i64::from(version))
        .bind(person)
        .bind(micros(Utc::now()))
        .execute(self.connection())
        .await?
        .rows_affected();
        Ok(confirmed > 0)
    }
}

async fn all(connection: &mut AnyConnection) -> Result<Vec<HabilitationRow>, StoreError> {
    let sql = sqlx::AssertSqlSafe(format!("{ROW} ORDER BY h.id, h.version"));
    let rows = sqlx::query(sql).fetch_all(connection).await?;
    rows.iter().map(row_of).collect()
}

fn row_of(row: &AnyRow) -> Result<HabilitationRow, StoreError> {
    Ok(HabilitationRow {
        id: get(row, "id")?,
        version: u32::try_from(get::<i64>(row, "version")?).map_err(|_| StoreError::Corrupt {
            what: "habilitation version",
        })?,
        project: get(row, "project")?,
        dataset: get(row, "dataset")?,
        body: get(row, "body")?,
        created_at: instant(get(row, "created_at")?)?,
        revoked_at: instant_or_null(get(row, "revoked_at")?)?,
        entered_by: get(row, "entered_by")?,
        confirmed_by: get(row, "confirmed_by")?,
        confirmer_is_member: get::<i64>(row, "confirmer_is_member")? != 0,
    })
}
