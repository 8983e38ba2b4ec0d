//! Persons who oppose the use of their data, by the identifier that the datasets store.
//!
//! The identifiers are kept as given: a scan compares values, and a keyed hash of each would
//! have to be computed for every row of every scan. Only this process and the administrator's
//! commands read them; no table of SQL shows them.

use chrono::{DateTime, Utc};

use crate::columns::{get, instant, micros};
use crate::{Put, Store, StoreError, WriteTransaction};

/// Bytes of an identifier and of the name of its domain.
const VALUE_BYTES_MAX: usize = 256;

#[derive(Clone, PartialEq, Eq)]
pub struct Opposition {
    /// Domain of the identifier (`person`, …).
    pub domain: String,
    /// The identifier as the datasets store it.
    pub value: String,
}

impl std::fmt::Debug for Opposition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opposition({}, ***)", self.domain)
    }
}

impl Opposition {
    /// # Errors
    /// [`StoreError::Invalid`] for an empty or overlong text, or one with blanks around it,
    /// which no dataset stores.
    pub fn new(domain: &str, value: &str) -> Result<Self, StoreError> {
        for (what, text) in [("identifier domain", domain), ("identifier", value)] {
            let fits = (1..=VALUE_BYTES_MAX).contains(&text.len());
            if !fits || text.trim() != text || text.contains(char::is_control) {
                return Err(StoreError::Invalid {
                    what,
                    value: "***".to_owned(),
                    expected: "write 1 to 256 bytes as they are stored, without blanks around",
                });
            }
        }
        Ok(Self {
            domain: domain.to_owned(),
            value: value.to_owned(),
        })
    }
}

impl WriteTransaction {
    /// Enters an opposition; [`Put::Updated`] where it was entered before.
    pub async fn put_opposition(&mut self, entry: &Opposition) -> Result<Put, StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO oppositions (domain, value, entered_at) VALUES ($1, $2, $3) \
             ON CONFLICT (domain, value) DO NOTHING",
        )
        .bind(&entry.domain)
        .bind(&entry.value)
        .bind(micros(Utc::now()))
        .execute(self.connection())
        .await?
        .rows_affected();
        Ok(Put::of(inserted))
    }

    /// Ends an opposition; false where there is none.
    pub async fn remove_opposition(&mut self, entry: &Opposition) -> Result<bool, StoreError> {
        let removed = sqlx::query("DELETE FROM oppositions WHERE domain = $1 AND value = $2")
            .bind(&entry.domain)
            .bind(&entry.value)
            .execute(self.connection())
            .await?
            .rows_affected();
        Ok(removed > 0)
    }
}

impl Store {
    /// Every opposition, with the time of its entry.
    pub async fn oppositions(&self) -> Result<Vec<(Opposition, DateTime<Utc>)>, StoreError> {
        let rows =
            sqlx::query("SELECT domain, value, entered_at FROM oppositions ORDER BY domain, value")
                .fetch_all(self.pool())
                .await?;
        rows.iter()
            .map(|row| {
                let entry = Opposition {
                    domain: get(row, "domain")?,
                    value: get(row, "value")?,
                };
                Ok((entry, instant(get(row, "entered_at")?)?))
            })
            .collect()
    }
}
