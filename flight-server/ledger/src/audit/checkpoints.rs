//! The checkpoints of the database, in order of their size, read some at a time.

use std::collections::VecDeque;

use sqlx::{AnyConnection, Row};

use crate::LedgerError;

/// Checkpoints that are read at once.
const AT_ONCE: i64 = 256;

/// A row of `audit_checkpoints`.
pub(super) struct Kept {
    pub id: i64,
    pub size: i64,
    pub seal: Option<String>,
    pub note: String,
}

pub(super) struct Checkpoints {
    next: VecDeque<Kept>,
    after: (i64, i64),
    is_whole: bool,
}

impl Checkpoints {
    pub fn new() -> Self {
        Checkpoints {
            next: VecDeque::new(),
            after: (i64::MIN, i64::MIN),
            is_whole: false,
        }
    }

    /// The next one, if it covers at most that many entries.
    pub async fn up_to(
        &mut self,
        connection: &mut AnyConnection,
        size: i64,
    ) -> Result<Option<Kept>, LedgerError> {
        if self.next.is_empty() && !self.is_whole {
            let rows = sqlx::query(
                "SELECT id, size, seal, note FROM audit_checkpoints \
                 WHERE size > $1 OR (size = $1 AND id > $2) ORDER BY size, id LIMIT $3",
            )
            .bind(self.after.0)
            .bind(self.after.1)
            .bind(AT_ONCE)
            .fetch_all(connection)
            .await?;
            self.is_whole = rows.is_empty();
            for row in &rows {
                let kept = Kept {
                    id: row.try_get("id")?,
                    size: row.try_get("size")?,
                    seal: row.try_get("seal")?,
                    note: row.try_get("note")?,
                };
                self.after = (kept.size, kept.id);
                self.next.push_back(kept);
            }
        }
        Ok(self.next.pop_front_if(|kept| kept.size <= size))
    }
}
