//! CREATE and DROP of tables and views.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    ColumnOption, CreateTable, CreateView, Ident, ObjectType, Statement as Sql,
};
use hubflight_store::{NewObject, ObjectKind, SpaceChange, SpaceFile};

use super::change::{Change, Commit, Failure, Job, declared_schema, reads_dataset};
use super::dml::plan_calls_worker;
use super::files::{Written, check_storable};
use super::labels::Labels;
use super::names::{Use, check_new, qualified, target};
use super::{Object, schema_to_ipc, view};
use crate::auth::session::SessionOptions;
use crate::error::{Error, Result};
use crate::plan::Planning;
use crate::plan::parse::parse;

/// How a statement wants what is there already treated.
#[derive(Clone, Copy)]
pub(super) struct Existing {
    pub replace: bool,
    pub keep: bool,
}

impl Change<'_> {
    pub(super) async fn create_table(&self, mut table: CreateTable) -> Result<u64, Failure> {
        check_columns(&table)?;
        let name = target(self.planning, &table.name, Use::Make)?;
        let existing = Existing {
            replace: table.or_replace,
            keep: table.if_not_exists,
        };
        let Some(replaced) = self.room_for(&name, ObjectKind::Table, existing)? else {
            return Ok(0);
        };
        table.name = qualified(&name);
        let query = table.query.take();
        let declared = match table.columns.is_empty() {
            true => None,
            false => {
                let (input, _) = self.created(Sql::CreateTable(table.clone())).await?;
                Some(declared_schema(input.schema().as_arrow())?)
            }
        };
        let Some(query) = query else {
            let schema = declared.ok_or_else(|| {
                Error::invalid("a table needs columns: list them, or write AS SELECT …")
            })?;
            check_storable(&schema)?;
            let object = new_table(&name, &schema, &Labels::default())?;
            return self.make(replaced, object, Written::default(), true).await;
        };
        // The target is no table that the query reads, so it is left out where names resolve.
        self.resolve(Sql::Query(query.clone())).await?;
        table.query = Some(query);
        let (input, state) = self.created(Sql::CreateTable(table)).await?;
        self.fill(&name, declared, input, &state, replaced).await
    }

    /// CREATE TABLE AS: runs the query into the files of the new table.
    async fn fill(
        &self,
        name: &str,
        declared: Option<SchemaRef>,
        input: LogicalPlan,
        state: &SessionState,
        replaced: Option<&Arc<Object>>,
    ) -> Result<u64, Failure> {
        let input = self.bound(input)?;
        let worked = plan_calls_worker(&input)?;
        let query = self.query(input, state)?;
        // Without declared columns all may be NULL: what a query happens to know of its rows
        // is no promise about later ones.
        let schema = match declared {
            Some(schema) => schema,
            None => declared_schema(&query.schema)?,
        };
        check_storable(&schema)?;
        self.charge(&query).await?;
        let labels = Labels::of(&query.providers()?, self.planning.view)?;
        let again = !reads_dataset(&query)? && !worked;
        let target = self.target(name, &schema, files_of(replaced)).await?;
        let job = Job {
            query,
            flagged: false,
        };
        let (written, _) = self.write(target, vec![job]).await?;
        let object = new_table(name, &schema, &labels)?;
        self.make(replaced, object, written, again).await
    }

    pub(super) async fn create_view(&self, view: CreateView) -> Result<u64, Failure> {
        if view.temporary || view.materialized || view.secure || view.or_alter {
            return Err(Error::invalid(
                "views are plain here: CREATE [OR REPLACE] VIEW name [(columns)] AS SELECT …; for \
                 stored rows write CREATE TABLE AS",
            )
            .into());
        }
        if !self.parameters().is_empty() {
            return Err(Error::invalid("a view cannot have parameters; write the values").into());
        }
        let name = target(self.planning, &view.name, Use::Make)?;
        let existing = Existing {
            replace: view.or_replace,
            keep: view.if_not_exists,
        };
        let Some(replaced) = self.room_for(&name, ObjectKind::View, existing)? else {
            return Ok(0);
        };
        let sql = text_of(&name, &view)?;
        let schema = self.viewed(&name, &sql).await?;
        let labels = Labels {
            default_schema: Some(self.planning.default_schema()),
            ..Labels::default()
        };
        let object = NewObject {
            schema_ipc: schema_to_ipc(&schema)?,
            kind: ObjectKind::View,
            view_sql: Some(sql),
            labels: labels.text()?,
            name,
        };
        self.make(replaced, object, Written::default(), true).await
    }

    /// Plans a view's text as its use will, and gives its columns.
    async fn viewed(&self, name: &str, sql: &str) -> Result<SchemaRef> {
        let inside = self.planning.view.with_space(self.space.inside_new(name));
        let options = SessionOptions {
            schema: Some(self.planning.default_schema()),
            ..SessionOptions::default()
        };
        let planning = Planning {
            view: &Arc::new(inside),
            options: &options,
            ..*self.planning
        };
        let limit = self.planning.hub.config.limits.sql_bytes_max;
        let authorised = planning.query(parse(sql, limit)?).await?;
        view::check_size(name, authorised.asked())?;
        declared_schema(&authorised.schema)
    }

    pub(super) async fn drop_objects(&self, statement: Sql) -> Result<u64, Failure> {
        let Sql::Drop {
            object_type,
            if_exists,
            names,
            cascade,
            ..
        } = statement
        else {
            return Err(Error::invalid("this statement drops nothing").into());
        };
        let kind = match object_type {
            ObjectType::Table => ObjectKind::Table,
            ObjectType::View => ObjectKind::View,
            _ => return Err(Error::invalid("only tables and views can be dropped").into()),
        };
        if cascade {
            return Err(
                Error::invalid("CASCADE is not available; drop each object by its name").into(),
            );
        }
        let mut changes = Vec::new();
        for name in &names {
            let name = target(self.planning, name, Use::Change)?;
            match self.space.object(&name) {
                Some(object) => {
                    check_kind(object, kind)?;
                    let drop = SpaceChange::Drop { name };
                    if !changes.contains(&drop) {
                        changes.push(drop);
                    }
                }
                None if if_exists => {}
                None => {
                    return Err(Error::not_found(format!(
                        "{} `space.{name}` does not exist",
                        kind.as_str()
                    ))
                    .into());
                }
            }
        }
        if changes.is_empty() {
            return Ok(0);
        }
        let commit = Commit {
            changes,
            written: Written::default(),
            again: true,
        };
        self.commit(commit).await?;
        Ok(0)
    }

    /// Whether a new object may have this name: `None` if what is there is to stay, else what
    /// it replaces.
    #[allow(
        clippy::option_option,
        reason = "nothing to do differs from nothing to replace"
    )]
    pub(super) fn room_for(
        &self,
        name: &str,
        kind: ObjectKind,
        existing: Existing,
    ) -> Result<Option<Option<&Arc<Object>>>> {
        check_new(kind.as_str(), name)?;
        if existing.replace && existing.keep {
            return Err(Error::invalid(
                "OR REPLACE and IF NOT EXISTS contradict each other; write one of them",
            ));
        }
        let objects_max = self.planning.hub.config.limits.space_objects_max;
        match self.space.object(name) {
            None if self.space.objects.len() >= objects_max => Err(Error::exhausted(format!(
                "the space has {} tables and views, and may have {objects_max}; drop some, or ask \
                 an administrator for more",
                self.space.objects.len()
            ))),
            None => Ok(Some(None)),
            Some(_) if existing.keep => Ok(None),
            Some(object) if existing.replace => {
                check_kind(object, kind)?;
                Ok(Some(Some(object)))
            }
            Some(object) => Err(Error::invalid(format!(
                "{} `space.{name}` exists already; write CREATE OR REPLACE, or choose another name",
                object.kind.as_str()
            ))),
        }
    }

    /// The rows and columns that a CREATE TABLE statement describes.
    async fn created(&self, statement: Sql) -> Result<(LogicalPlan, SessionState)> {
        let state = self.planning.state();
        let statement = datafusion::sql::parser::Statement::Statement(Box::new(statement));
        match state.statement_to_plan(statement).await? {
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(table)) => {
                Ok((Arc::unwrap_or_clone(table.input), state))
            }
            other => Err(Error::internal(
                "a new table has another plan",
                &other.display(),
            )),
        }
    }

    pub(super) async fn make(
        &self,
        replaced: Option<&Arc<Object>>,
        object: NewObject,
        written: Written,
        again: bool,
    ) -> Result<u64, Failure> {
        let name = object.name.clone();
        let mut changes = Vec::new();
        if replaced.is_some() {
            changes.push(SpaceChange::Drop { name: name.clone() });
        }
        changes.push(SpaceChange::Create(object));
        if !written.files.is_empty() {
            changes.push(SpaceChange::AddFiles {
                object: name,
                files: written.files.clone(),
            });
        }
        let commit = Commit {
            changes,
            written,
            again,
        };
        self.commit(commit).await?;
        Ok(0)
    }
}

/// The files of what is replaced, if anything is.
pub(super) fn files_of(replaced: Option<&Arc<Object>>) -> &[SpaceFile] {
    replaced.map_or(&[], |object| &object.files)
}

pub(super) fn new_table(name: &str, schema: &SchemaRef, labels: &Labels) -> Result<NewObject> {
    Ok(NewObject {
        name: name.to_owned(),
        kind: ObjectKind::Table,
        schema_ipc: schema_to_ipc(schema)?,
        view_sql: None,
        labels: labels.text()?,
    })
}

fn check_kind(object: &Object, kind: ObjectKind) -> Result<()> {
    if object.kind == kind {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "`space.{}` is a {}, not a {}; drop it with DROP {}",
        object.name,
        object.kind.as_str(),
        kind.as_str(),
        object.kind.as_str().to_uppercase(),
    )))
}

/// Promises that the hub would not keep are refused, rather than forgotten.
fn check_columns(table: &CreateTable) -> Result<()> {
    let not_kept = |what: &str| {
        Error::invalid(format!(
            "{what} is not kept in the space; leave it out (NOT NULL is kept)"
        ))
    };
    if let Some(constraint) = table.constraints.first() {
        return Err(not_kept(&format!("the constraint `{constraint}`")));
    }
    for column in &table.columns {
        for option in &column.options {
            match &option.option {
                ColumnOption::Null | ColumnOption::NotNull => {}
                other => {
                    return Err(not_kept(&format!("`{other}` of column `{}`", column.name)));
                }
            }
        }
    }
    Ok(())
}

/// A view's text: the query, with the columns' names where the statement gives them.
fn text_of(name: &str, view: &CreateView) -> Result<String> {
    if view.columns.is_empty() {
        return Ok(view.query.to_string());
    }
    if view
        .columns
        .iter()
        .any(|column| column.options.is_some() || column.data_type.is_some())
    {
        return Err(Error::invalid(
            "columns of a view have names only; CAST them in its query",
        ));
    }
    let columns: Vec<String> = view
        .columns
        .iter()
        .map(|column| Ident::with_quote('"', super::names::folded(&column.name)).to_string())
        .collect();
    Ok(format!(
        "SELECT * FROM ({}) AS {} ({})",
        view.query,
        Ident::with_quote('"', name),
        columns.join(", ")
    ))
}
