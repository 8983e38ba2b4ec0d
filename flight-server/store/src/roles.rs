//! What an administrator may see and do; no role reads data.

use std::collections::BTreeSet;

use sqlx::AnyConnection;

use crate::columns::get;
use crate::people::found;
use crate::{Store, StoreError, WriteTransaction};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AdminRole {
    /// Persons, members and tokens.
    People,
    /// Datasets and habilitations.
    Policy,
    /// Usage and its cost.
    Billing,
    /// The audit, and which statements ran.
    Audit,
}

impl AdminRole {
    pub const ALL: [Self; 4] = [Self::People, Self::Policy, Self::Billing, Self::Audit];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::People => "people",
            Self::Policy => "policy",
            Self::Billing => "billing",
            Self::Audit => "audit",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

impl Store {
    /// The roles of a person; none for who is no administrator.
    pub async fn admin_roles(&self, person: &str) -> Result<BTreeSet<AdminRole>, StoreError> {
        let rows = sqlx::query(
            "SELECT r.role FROM admin_roles r JOIN persons p ON p.id = r.person \
             AND p.is_admin = 1 AND p.active = 1 WHERE r.person = $1",
        )
        .bind(person)
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| role(&get::<String>(row, "role")?))
            .collect()
    }

    /// Every role that was given, by person.
    pub async fn all_admin_roles(&self) -> Result<Vec<(String, AdminRole)>, StoreError> {
        all_roles(&mut *self.pool().acquire().await?).await
    }
}

impl WriteTransaction {
    /// As [`Store::all_admin_roles`], with what this transaction wrote.
    pub async fn all_admin_roles(&mut self) -> Result<Vec<(String, AdminRole)>, StoreError> {
        all_roles(self.connection()).await
    }

    /// Gives a person these roles and no others; without any they are no administrator.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn set_admin_roles(
        &mut self,
        person: &str,
        roles: &BTreeSet<AdminRole>,
    ) -> Result<(), StoreError> {
        let changed = sqlx::query("UPDATE persons SET is_admin = $2 WHERE id = $1")
            .bind(person)
            .bind(i64::from(!roles.is_empty()))
            .execute(self.connection())
            .await?
            .rows_affected();
        found(changed, "person", person)?;
        sqlx::query("DELETE FROM admin_roles WHERE person = $1")
            .bind(person)
            .execute(self.connection())
            .await?;
        for role in roles {
            sqlx::query("INSERT INTO admin_roles (person, role) VALUES ($1, $2)")
                .bind(person)
                .bind(role.as_str())
                .execute(self.connection())
                .await?;
        }
        Ok(())
    }
}

async fn all_roles(connection: &mut AnyConnection) -> Result<Vec<(String, AdminRole)>, StoreError> {
    let rows = sqlx::query("SELECT person, role FROM admin_roles ORDER BY person, role")
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| Ok((get(row, "person")?, role(&get::<String>(row, "role")?)?)))
        .collect()
}

fn role(text: &str) -> Result<AdminRole, StoreError> {
    AdminRole::parse(text).ok_or(StoreError::Corrupt {
        what: "administrator's role",
    })
}
