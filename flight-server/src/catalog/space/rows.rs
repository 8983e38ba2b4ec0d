//! INSERT, UPDATE and DELETE: new files, and copies of those that have changed rows.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::DmlStatement;
use datafusion::sql::sqlparser::ast::{
    AssignmentTarget, Delete, FromTable, Ident, Insert, ObjectName, ObjectNamePart,
    Statement as Sql, TableFactor, TableObject, TableWithJoins, Update,
};
use hubflight_store::{SpaceChange, SpaceFile};

use super::change::{Change, Commit, Failure, Job, changeable, reads_dataset};
use super::dml::{Rewriting, inserted, plan_calls_worker};
use super::files::Written;
use super::labels::Labels;
use super::names::{Use, folded, qualified, target};
use super::table::SpaceTable;
use super::{Object, rows_of};
use crate::error::{Error, Result};
use crate::plan::Optimised;

/// A file of a table that a statement rewrites.
struct Affected {
    file: SpaceFile,
    rewriting: Rewriting,
}

impl Change<'_> {
    pub(super) async fn insert(&self, mut insert: Insert) -> Result<u64, Failure> {
        let TableObject::TableName(name) = &insert.table else {
            return Err(Error::invalid("INSERT needs the name of a table").into());
        };
        refuse(&[
            (insert.returning.is_some(), "RETURNING"),
            (insert.on.is_some(), "ON CONFLICT"),
        ])?;
        plain_names(&insert.columns)?;
        let name = target(self.planning, name, Use::Change)?;
        let object = changeable(self.space, &name)?;
        insert.table = TableObject::TableName(qualified(&name));
        let (dml, state) = self.plan_dml(Sql::Insert(insert)).await?;
        let plan = self.bound(inserted(&dml)?)?;
        let worked = plan_calls_worker(&plan)?;
        let query = self.query(plan, &state)?;
        self.charge(&query).await?;
        let labels = self.labels_with(object, &query)?;
        let again = !reads_dataset(&query)? && !worked;
        let target = self.target(&name, &object.schema, &[]).await?;
        let job = Job {
            query,
            flagged: false,
        };
        let (written, counts) = self.write(target, vec![job]).await?;
        let rows = counts.iter().map(|count| count.rows).sum();
        let changes = changes(object, &written, Vec::new(), labels)?;
        let added = written.files.clone();
        self.commit_changes(changes, written, again).await?;
        self.compact_later(object, &added);
        Ok(rows)
    }

    pub(super) async fn update(&self, mut update: Update) -> Result<u64, Failure> {
        refuse(&[
            (update.from.is_some(), "FROM"),
            (!update.table.joins.is_empty(), "a join"),
            (update.returning.is_some(), "RETURNING"),
            (update.limit.is_some(), "LIMIT"),
            (!update.order_by.is_empty(), "ORDER BY"),
        ])?;
        assigned_once(&mut update)?;
        let name = self.rename(&mut update.table)?;
        let (dml, state) = self.plan_dml(Sql::Update(update)).await?;
        self.rewrite(&name, &dml, &state).await
    }

    pub(super) async fn delete(&self, mut delete: Delete) -> Result<u64, Failure> {
        refuse(&[
            (delete.using.is_some(), "USING"),
            (delete.returning.is_some(), "RETURNING"),
            (delete.limit.is_some(), "LIMIT"),
            (!delete.order_by.is_empty(), "ORDER BY"),
        ])?;
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &mut delete.from;
        let [table] = from.as_mut_slice() else {
            return Err(Error::invalid("DELETE changes one table at a time").into());
        };
        refuse(&[
            (!table.joins.is_empty(), "a join"),
            (!delete.tables.is_empty(), "a list of tables"),
        ])?;
        let name = self.rename(table)?;
        let (dml, state) = self.plan_dml(Sql::Delete(delete)).await?;
        self.rewrite(&name, &dml, &state).await
    }

    /// Writes the name of the table that is changed as the planner must read it.
    fn rename(&self, table: &mut TableWithJoins) -> Result<String> {
        let TableFactor::Table { name, .. } = &mut table.relation else {
            return Err(Error::invalid("UPDATE and DELETE need the name of a table"));
        };
        let found = target(self.planning, name, Use::Change)?;
        *name = qualified(&found);
        Ok(found)
    }

    async fn rewrite(
        &self,
        name: &str,
        dml: &DmlStatement,
        state: &SessionState,
    ) -> Result<u64, Failure> {
        let object = changeable(self.space, name)?;
        let input = self.bound(dml.input.as_ref().clone())?;
        let rewriting = Rewriting::new(&dml.op, &input)?;
        let worked = plan_calls_worker(&input)?;
        // The statement as it was written: what it reads is charged and labelled once.
        let asked = self.query(input, state)?;
        self.charge(&asked).await?;
        let labels = self.labels_with(object, &asked)?;
        let again = !reads_dataset(&asked)? && !worked;
        let affected = self.affected(object, &rewriting, state).await?;
        let before: u64 = affected.iter().map(|part| rows_of(&part.file)).sum();
        if before == 0 {
            return Ok(0);
        }
        let (written, rows) = self.copy(object, &affected, state, before).await?;
        let old = affected.into_iter().map(|part| part.file.file).collect();
        let changes = changes(object, &written, old, labels)?;
        self.commit_changes(changes, written, again).await?;
        Ok(rows)
    }

    /// The files that may have rows to change.
    async fn affected(
        &self,
        object: &Object,
        rewriting: &Rewriting,
        state: &SessionState,
    ) -> Result<Vec<Affected>> {
        let project = &self.planning.view.project;
        let mut affected = Vec::new();
        for file in &object.files {
            let one = std::slice::from_ref(file);
            let table = SpaceTable::of_files(self.planning.hub, project, object, one)?;
            let provider: Arc<dyn TableProvider> = Arc::new(table);
            let rewriting = rewriting.of(&provider)?;
            let hits = match rewriting.count()? {
                Some(plan) => Some(self.count(self.query(plan, state)?).await?),
                None => None,
            };
            if hits != Some(0) {
                affected.push(Affected {
                    file: file.clone(),
                    rewriting,
                });
            }
        }
        Ok(affected)
    }

    /// Copies of the affected files with the change made, and how many rows it changed.
    async fn copy(
        &self,
        object: &Object,
        affected: &[Affected],
        state: &SessionState,
        before: u64,
    ) -> Result<(Written, u64)> {
        let mut jobs = Vec::with_capacity(affected.len());
        let mut flagged = false;
        for part in affected {
            if part.rewriting.deletes_all() {
                continue;
            }
            let rewritten = part.rewriting.rewritten()?;
            flagged = rewritten.flagged;
            jobs.push(Job {
                query: self.query(rewritten.plan, state)?,
                flagged,
            });
        }
        let replaced: Vec<SpaceFile> = affected.iter().map(|part| part.file.clone()).collect();
        let target = self.target(&object.name, &object.schema, &replaced).await?;
        let (written, counts) = self.write(target, jobs).await?;
        let after: u64 = counts.iter().map(|count| count.rows).sum();
        if flagged && after != before || after > before {
            return Err(Error::internal(
                "a rewritten table has other rows",
                &object.name,
            ));
        }
        let changed = if flagged {
            counts.iter().map(|count| count.flagged).sum()
        } else {
            before - after
        };
        Ok((written, changed))
    }

    /// The object's labels with the sources of a query, if that adds any.
    fn labels_with(&self, object: &Object, query: &Optimised) -> Result<Option<Labels>> {
        let read = Labels::of(&query.providers()?, self.planning.view)?;
        let mut labels = object.labels.clone();
        labels.add(read.sources);
        Ok((labels != object.labels).then_some(labels))
    }

    pub(super) async fn commit_changes(
        &self,
        changes: Vec<SpaceChange>,
        written: Written,
        again: bool,
    ) -> Result<(), Failure> {
        if changes.is_empty() {
            return Ok(());
        }
        let commit = Commit {
            changes,
            written,
            again,
        };
        self.commit(commit).await.map(drop)
    }
}

/// What a commit does to a table: files out, files in, labels; nothing if no row changed.
pub(super) fn changes(
    object: &Object,
    written: &Written,
    old: Vec<String>,
    labels: Option<Labels>,
) -> Result<Vec<SpaceChange>> {
    let mut changes = Vec::new();
    if !old.is_empty() {
        changes.push(SpaceChange::RemoveFiles {
            object: object.name.clone(),
            files: old,
        });
    }
    if !written.files.is_empty() {
        changes.push(SpaceChange::AddFiles {
            object: object.name.clone(),
            files: written.files.clone(),
        });
    }
    if let Some(labels) = labels
        && !changes.is_empty()
    {
        changes.push(SpaceChange::SetLabels {
            object: object.name.clone(),
            labels: labels.text()?,
        });
    }
    Ok(changes)
}

/// Refuses the clauses that are present.
fn refuse(clauses: &[(bool, &str)]) -> Result<()> {
    match clauses.iter().find(|(present, _)| *present) {
        Some((_, clause)) => Err(Error::invalid(format!(
            "a statement that changes a table cannot have {clause}; put a subquery in WHERE or \
             SET, or SELECT afterwards"
        ))),
        None => Ok(()),
    }
}

/// The columns that an UPDATE assigns, lowercase unless quoted, each once.
fn assigned_once(update: &mut Update) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for assignment in &mut update.assignments {
        let AssignmentTarget::ColumnName(name) = &mut assignment.target else {
            return Err(Error::invalid(
                "SET takes one column at a time; write SET a = …, b = …",
            ));
        };
        plain_names(std::slice::from_ref(name))?;
        let Some(ObjectNamePart::Identifier(ident)) = name.0.last() else {
            return Err(Error::invalid("SET needs the name of a column"));
        };
        let column = folded(ident);
        if !seen.insert(column.clone()) {
            return Err(Error::invalid(format!(
                "column `{column}` is set twice; set it once"
            )));
        }
        *name = ObjectName::from(vec![Ident::with_quote('"', column)]);
    }
    Ok(())
}

/// Refuses computed names, which the planner takes for granted not to be there.
fn plain_names(names: &[ObjectName]) -> Result<()> {
    let plain = |part: &ObjectNamePart| matches!(part, ObjectNamePart::Identifier(_));
    match names.iter().find(|name| !name.0.iter().all(plain)) {
        Some(name) => Err(Error::invalid(format!("`{name}` is no name of a column"))),
        None => Ok(()),
    }
}
