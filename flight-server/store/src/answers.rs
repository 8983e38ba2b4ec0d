//! How many aggregates a project was answered, where it may see nothing else.

use chrono::{DateTime, Utc};

use crate::{Store, StoreError};

const DAY_SECONDS: i64 = 86_400;

impl Store {
    /// Takes `answers` from the `max` that a project has on a day (UTC); false, and nothing is
    /// taken, where that would be more.
    pub async fn take_answers(
        &self,
        project: &str,
        at: DateTime<Utc>,
        answers: u32,
        max: u32,
    ) -> Result<bool, StoreError> {
        if answers > max {
            return Ok(false);
        }
        let mut write = self.write().await?;
        let taken = sqlx::query(
            "INSERT INTO aggregate_answers (project, day, answers) VALUES ($1, $2, $3) \
             ON CONFLICT (project, day) \
             DO UPDATE SET answers = aggregate_answers.answers + excluded.answers \
             WHERE aggregate_answers.answers + excluded.answers <= $4",
        )
        .bind(project)
        .bind(at.timestamp().div_euclid(DAY_SECONDS))
        .bind(i64::from(answers))
        .bind(i64::from(max))
        .execute(write.connection())
        .await?
        .rows_affected();
        write.commit().await?;
        Ok(taken == 1)
    }
}
