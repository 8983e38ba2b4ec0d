//! Who a person is elsewhere: at an OIDC provider, or as the holder of a client certificate.

use data_encoding::HEXLOWER;
use sqlx::any::AnyRow;

use crate::columns::get;
use crate::people::{PERSON, found, person_of};
use crate::{Person, Store, StoreError, WriteTransaction};

/// A name that somebody else gives, which stands for one person of the hub.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The provider's issuer, or [`Identity::CERTIFICATE`].
    pub issuer: String,
    /// The provider's name for the person, or the certificate's fingerprint.
    pub subject: String,
}

impl Identity {
    /// In place of an issuer, which is a URL.
    pub const CERTIFICATE: &str = "certificate";

    /// Of a certificate, by the SHA-256 of its DER.
    pub fn certificate(sha256: &[u8; 32]) -> Self {
        Self {
            issuer: Self::CERTIFICATE.into(),
            subject: HEXLOWER.encode(sha256),
        }
    }
}

/// As the tokens of sessions carry it: the issuer and the subject.
impl From<(String, String)> for Identity {
    fn from((issuer, subject): (String, String)) -> Self {
        Self { issuer, subject }
    }
}

impl From<Identity> for (String, String) {
    fn from(identity: Identity) -> Self {
        (identity.issuer, identity.subject)
    }
}

impl Store {
    /// Whom the identity stands for, active or not.
    pub async fn person_of_identity(
        &self,
        identity: &Identity,
    ) -> Result<Option<Person>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "{PERSON} WHERE id = (SELECT person FROM identities WHERE issuer = $1 AND subject = $2)"
        ));
        let row = sqlx::query(sql)
            .bind(&identity.issuer)
            .bind(&identity.subject)
            .fetch_optional(self.pool())
            .await?;
        row.as_ref().map(person_of).transpose()
    }
}

impl WriteTransaction {
    /// Every identity with its person.
    pub async fn identities(&mut self) -> Result<Vec<(Identity, String)>, StoreError> {
        let sql = "SELECT issuer, subject, person FROM identities ORDER BY issuer, subject";
        let rows = sqlx::query(sql).fetch_all(self.connection()).await?;
        rows.iter().map(identity_of).collect()
    }

    /// Lets the identity stand for a person who exists; it must stand for nobody.
    pub async fn add_identity(
        &mut self,
        identity: &Identity,
        person: &str,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO identities (issuer, subject, person) VALUES ($1, $2, $3)")
            .bind(&identity.issuer)
            .bind(&identity.subject)
            .bind(person)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Lets the identity stand for nobody, which ends what began with it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn remove_identity(&mut self, identity: &Identity) -> Result<(), StoreError> {
        let removed = sqlx::query("DELETE FROM identities WHERE issuer = $1 AND subject = $2")
            .bind(&identity.issuer)
            .bind(&identity.subject)
            .execute(self.connection())
            .await?
            .rows_affected();
        found(removed, "identity", &identity.subject)
    }
}

fn identity_of(row: &AnyRow) -> Result<(Identity, String), StoreError> {
    let identity = Identity {
        issuer: get(row, "issuer")?,
        subject: get(row, "subject")?,
    };
    Ok((identity, get(row, "person")?))
}
