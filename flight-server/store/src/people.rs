//! Organisations, persons, projects and their members.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use crate::columns::{get, instant, micros};
use crate::{Store, StoreError, WriteTransaction};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organisation {
    pub id: String,
    pub name: String,
}

/// What a person begins with; of who exists, only the name is changed with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonProfile {
    pub id: String,
    pub name: String,
    pub active: bool,
    pub is_admin: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub id: String,
    pub name: String,
    pub active: bool,
    pub is_admin: bool,
    /// Whether a password was set.
    pub has_password: bool,
    /// Sessions and bearers carry the epoch that they were made in; raising it ends them.
    pub token_epoch: i64,
    pub created_at: DateTime<Utc>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    pub id: String,
    pub title: String,
    pub purpose: String,
    /// Identifier of the organisation that pays.
    pub organisation: String,
    pub valid_from: DateTime<Utc>,
    pub valid_to: DateTime<Utc>,
    /// Bytes that the live files of its space may hold.
    pub space_quota_bytes: i64,
    /// Money that may be spent in all, in the tariff's currency; none for no limit.
    pub budget: Option<Decimal>,
}

impl Project {
    /// Whether a moment is in its period, which includes its begin and excludes its end.
    pub fn is_open(&self, at: DateTime<Utc>) -> bool {
        self.valid_from <= at && at < self.valid_to
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub project: String,
    pub person: String,
    pub role: String,
}

/// What an upsert did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    Created,
    Updated,
}

impl Put {
    pub(crate) fn of(inserted: u64) -> Self {
        if inserted > 0 {
            Put::Created
        } else {
            Put::Updated
        }
    }
}

pub(crate) const PERSON: &str = "SELECT id, name, CASE WHEN password_hash IS NULL THEN 0 ELSE 1 END AS \
                      has_password, active, is_admin, token_epoch, created_at FROM persons";
const PROJECT: &str = "SELECT p.id, p.title, p.purpose, p.organisation, p.valid_from, p.valid_to, \
                       p.space_quota_bytes, p.budget FROM projects p";

impl Store {
    /// Creates the organisation, or renames it.
    pub async fn put_organisation(&self, organisation: &Organisation) -> Result<Put, StoreError> {
        let mut write = self.write().await?;
        let inserted = sqlx::query(
            "INSERT INTO organisations (id, name) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
        )
        .bind(&organisation.id)
        .bind(&organisation.name)
        .execute(write.connection())
        .await?
        .rows_affected();
        if inserted == 0 {
            sqlx::query("UPDATE organisations SET name = $2 WHERE id = $1")
                .bind(&organisation.id)
                .bind(&organisation.name)
                .execute(write.connection())
                .await?;
        }
        write.commit().await?;
        Ok(Put::of(inserted))
    }

    pub async fn organisations(&self) -> Result<Vec<Organisation>, StoreError> {
        organisations(&mut *self.pool().acquire().await?).await
    }

    /// As [`WriteTransaction::put_person`], alone.
    pub async fn put_person(&self, person: &PersonProfile) -> Result<Put, StoreError> {
        let mut write = self.change_rights().await?;
        let put = write.put_person(person).await?;
        write.commit().await?;
        Ok(put)
    }

    pub async fn person(&self, id: &str) -> Result<Option<Person>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{PERSON} WHERE id = $1"));
        let row = sqlx::query(sql)
            .bind(id)
            .fetch_optional(self.pool())
            .await?;
        row.as_ref().map(person_of).transpose()
    }

    pub async fn persons(&self) -> Result<Vec<Person>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{PERSON} ORDER BY id"));
        let rows = sqlx::query(sql).fetch_all(self.pool()).await?;
        rows.iter().map(person_of).collect()
    }

    /// As [`WriteTransaction::raise_token_epoch`], alone.
    pub async fn raise_token_epoch(&self, person: &str) -> Result<(), StoreError> {
        let mut write = self.change_rights().await?;
        write.raise_token_epoch(person).await?;
        write.commit().await
    }

    /// As [`WriteTransaction::put_project`], alone.
    pub async fn put_project(&self, project: &Project) -> Result<Put, StoreError> {
        let mut write = self.change_rights().await?;
        let put = write.put_project(project).await?;
        write.commit().await?;
        Ok(put)
    }

    pub async fn project(&self, id: &str) -> Result<Option<Project>, StoreError> {
        project_by_id(&mut *self.pool().acquire().await?, id).await
    }

    pub async fn projects(&self) -> Result<Vec<Project>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{PROJECT} ORDER BY p.id"));
        let rows = sqlx::query(sql).fetch_all(self.pool()).await?;
        rows.iter().map(project_of).collect()
    }

    /// The projects that a command made, not the configuration.
    pub async fn projects_by_command(&self) -> Result<Vec<String>, StoreError> {
        by_command(&mut *self.pool().acquire().await?).await
    }

    /// The projects that the person is a member of, whatever their period.
    pub async fn projects_of(&self, person: &str) -> Result<Vec<Project>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "{PROJECT} JOIN members m ON m.project = p.id WHERE m.person = $1 ORDER BY p.id"
        ));
        let rows = sqlx::query(sql).bind(person).fetch_all(self.pool()).await?;
        rows.iter().map(project_of).collect()
    }

    /// As [`WriteTransaction::put_member`], alone.
    pub async fn put_member(&self, member: &Member) -> Result<Put, StoreError> {
        let mut write = self.change_rights().await?;
        let put = write.put_member(member).await?;
        write.commit().await?;
        Ok(put)
    }

    /// As [`WriteTransaction::remove_member`], alone.
    pub async fn remove_member(&self, project: &str, person: &str) -> Result<(), StoreError> {
        let mut write = self.change_rights().await?;
        write.remove_member(project, person).await?;
        write.commit().await
    }

    /// The members of one project, or of all.
    pub async fn members(&self, project: Option<&str>) -> Result<Vec<Member>, StoreError> {
        members_of(&mut *self.pool().acquire().await?, project).await
    }
}

async fn by_command(connection: &mut AnyConnection) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query("SELECT id FROM projects WHERE by_command = 1 ORDER BY id")
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| get(row, "id")).collect()
}

impl WriteTransaction {
    /// As [`Store::organisations`], with what this transaction wrote.
    pub async fn organisations(&mut self) -> Result<Vec<Organisation>, StoreError> {
        organisations(self.connection()).await
    }

    /// Creates the organisation unless it exists.
    pub async fn add_organisation(
        &mut self,
        organisation: &Organisation,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO organisations (id, name) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
        )
        .bind(&organisation.id)
        .bind(&organisation.name)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Creates the person, without a password; who exists stays as they are.
    pub async fn add_person(&mut self, person: &PersonProfile) -> Result<Put, StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO persons (id, name, active, is_admin, created_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING",
        )
        .bind(&person.id)
        .bind(&person.name)
        .bind(i64::from(person.active))
        .bind(i64::from(person.is_admin))
        .bind(micros(Utc::now()))
        .execute(self.connection())
        .await?
        .rows_affected();
        Ok(Put::of(inserted))
    }

    /// Creates the person, without a password, or renames who exists.
    pub async fn put_person(&mut self, person: &PersonProfile) -> Result<Put, StoreError> {
        let put = self.add_person(person).await?;
        if put == Put::Updated {
            sqlx::query("UPDATE persons SET name = $2 WHERE id = $1")
                .bind(&person.id)
                .bind(&person.name)
                .execute(self.connection())
                .await?;
        }
        Ok(put)
    }

    /// Lets the person in, or shuts them out.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn set_active(&mut self, person: &str, active: bool) -> Result<(), StoreError> {
        let changed = sqlx::query("UPDATE persons SET active = $2 WHERE id = $1")
            .bind(person)
            .bind(i64::from(active))
            .execute(self.connection())
            .await?
            .rows_affected();
        found(changed, "person", person)
    }

    /// Ends every session and bearer of the person.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn raise_token_epoch(&mut self, person: &str) -> Result<(), StoreError> {
        let changed = sqlx::query("UPDATE persons SET token_epoch = token_epoch + 1 WHERE id = $1")
            .bind(person)
            .execute(self.connection())
            .await?
            .rows_affected();
        found(changed, "person", person)
    }

    /// Everybody who is an administrator, disabled ones too.
    pub async fn administrators(&mut self) -> Result<Vec<Person>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{PERSON} WHERE is_admin = 1 ORDER BY id"));
        let rows = sqlx::query(sql).fetch_all(self.connection()).await?;
        rows.iter().map(person_of).collect()
    }

    /// As [`Store::persons`], with what this transaction wrote.
    pub async fn persons(&mut self) -> Result<Vec<Person>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{PERSON} ORDER BY id"));
        let rows = sqlx::query(sql).fetch_all(self.connection()).await?;
        rows.iter().map(person_of).collect()
    }

    /// As [`Store::projects`], with what this transaction wrote.
    pub async fn projects(&mut self) -> Result<Vec<Project>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{PROJECT} ORDER BY p.id"));
        let rows = sqlx::query(sql).fetch_all(self.connection()).await?;
        rows.iter().map(project_of).collect()
    }

    /// As [`Store::projects_by_command`], with what this transaction wrote.
    pub async fn projects_by_command(&mut self) -> Result<Vec<String>, StoreError> {
        by_command(self.connection()).await
    }

    /// Notes whether a command or the configuration is answerable for a project.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn set_by_command(&mut self, project: &str, by: bool) -> Result<(), StoreError> {
        let changed = sqlx::query("UPDATE projects SET by_command = $2 WHERE id = $1")
            .bind(project)
            .bind(i64::from(by))
            .execute(self.connection())
            .await?
            .rows_affected();
        found(changed, "project", project)
    }

    /// As [`Store::project`], with what this transaction wrote.
    pub async fn project(&mut self, id: &str) -> Result<Option<Project>, StoreError> {
        project_by_id(self.connection(), id).await
    }

    /// Creates the project, or changes all but its space.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the organisation does not exist.
    pub async fn put_project(&mut self, project: &Project) -> Result<Put, StoreError> {
        let paying = sqlx::query("SELECT id FROM organisations WHERE id = $1")
            .bind(&project.organisation)
            .fetch_all(self.connection())
            .await?;
        found(paying.len() as u64, "organisation", &project.organisation)?;
        let insert = "INSERT INTO projects (id, title, purpose, organisation, valid_from, \
                      valid_to, space_quota_bytes, budget) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING";
        let update = "UPDATE projects SET title = $2, purpose = $3, organisation = $4, \
                      valid_from = $5, valid_to = $6, space_quota_bytes = $7, budget = $8 \
                      WHERE id = $1";
        for (sql, put) in [(insert, Put::Created), (update, Put::Updated)] {
            let changed = sqlx::query(sql)
                .bind(&project.id)
                .bind(&project.title)
                .bind(&project.purpose)
                .bind(&project.organisation)
                .bind(micros(project.valid_from))
                .bind(micros(project.valid_to))
                .bind(project.space_quota_bytes)
                .bind(project.budget.map(|budget| budget.to_string()))
                .execute(self.connection())
                .await?
                .rows_affected();
            if changed > 0 && put == Put::Created {
                return Ok(put);
            }
        }
        Ok(Put::Updated)
    }

    /// As [`Store::members`], with what this transaction wrote.
    pub async fn members(&mut self, project: Option<&str>) -> Result<Vec<Member>, StoreError> {
        members_of(self.connection(), project).await
    }

    /// Makes the person a member of the project, or changes the role.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the person or the project does not exist.
    pub async fn put_member(&mut self, member: &Member) -> Result<Put, StoreError> {
        for (what, sql, id) in [
            (
                "project",
                "SELECT id FROM projects WHERE id = $1",
                &member.project,
            ),
            (
                "person",
                "SELECT id FROM persons WHERE id = $1",
                &member.person,
            ),
        ] {
            let rows = sqlx::query(sql)
                .bind(id)
                .fetch_all(self.connection())
                .await?;
            found(rows.len() as u64, what, id)?;
        }
        let removed = sqlx::query("DELETE FROM members WHERE project = $1 AND person = $2")
            .bind(&member.project)
            .bind(&member.person)
            .execute(self.connection())
            .await?
            .rows_affected();
        sqlx::query("INSERT INTO members (project, person, role) VALUES ($1, $2, $3)")
            .bind(&member.project)
            .bind(&member.person)
            .bind(&member.role)
            .execute(self.connection())
            .await?;
        Ok(Put::of(1 - removed.min(1)))
    }

    /// Ends a membership; the person's tokens for the project no longer verify.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn remove_member(&mut self, project: &str, person: &str) -> Result<(), StoreError> {
        let removed = sqlx::query("DELETE FROM members WHERE project = $1 AND person = $2")
            .bind(project)
            .bind(person)
            .execute(self.connection())
            .await?
            .rows_affected();
        found(removed, "member", person)
    }
}

async fn project_by_id(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<Project>, StoreError> {
    let sql = sqlx::AssertSqlSafe(format!("{PROJECT} WHERE p.id = $1"));
    let row = sqlx::query(sql).bind(id).fetch_optional(connection).await?;
    row.as_ref().map(project_of).transpose()
}

async fn members_of(
    connection: &mut AnyConnection,
    project: Option<&str>,
) -> Result<Vec<Member>, StoreError> {
    let rows = sqlx::query(
        "SELECT project, person, role FROM members WHERE $1 IS NULL OR project = $1 \
         ORDER BY project, person",
    )
    .bind(project)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Member {
                project: get(row, "project")?,
                person: get(row, "person")?,
                role: get(row, "role")?,
            })
        })
        .collect()
}

/// An error naming what is missing when no row was found.
pub(crate) fn found(rows: u64, what: &'static str, name: &str) -> Result<(), StoreError> {
    if rows == 0 {
        return Err(StoreError::NotFound {
            what,
            name: name.to_owned(),
        });
    }
    Ok(())
}

pub(crate) fn person_of(row: &AnyRow) -> Result<Person, StoreError> {
    Ok(Person {
        id: get(row, "id")?,
        name: get(row, "name")?,
        active: get::<i64>(row, "active")? != 0,
        is_admin: get::<i64>(row, "is_admin")? != 0,
        has_password: get::<i64>(row, "has_password")? != 0,
        token_epoch: get(row, "token_epoch")?,
        created_at: instant(get(row, "created_at")?)?,
    })
}

fn project_of(row: &AnyRow) -> Result<Project, StoreError> {
    let budget: Option<String> = get(row, "budget")?;
    Ok(Project {
        id: get(row, "id")?,
        title: get(row, "title")?,
        purpose: get(row, "purpose")?,
        organisation: get(row, "organisation")?,
        valid_from: instant(get(row, "valid_from")?)?,
        valid_to: instant(get(row, "valid_to")?)?,
        space_quota_bytes: get(row, "space_quota_bytes")?,
        budget: budget
            .map(|text| {
                text.parse()
                    .map_err(|_| StoreError::Corrupt { what: "budget" })
            })
            .transpose()?,
    })
}

async fn organisations(connection: &mut AnyConnection) -> Result<Vec<Organisation>, StoreError> {
    let rows = sqlx::query("SELECT id, name FROM organisations ORDER BY id")
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Organisation {
                id: get(row, "id")?,
                name: get(row, "name")?,
            })
        })
        .collect()
}
