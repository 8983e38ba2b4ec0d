//! A view: a text that is planned when it is used, as whoever uses it.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;

use super::table::SpaceTable;
use super::{Object, Space};
use crate::auth::session::SessionOptions;
use crate::catalog::project::ProjectView;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Planning;
use crate::plan::parse::parse;

/// Nodes of a view's plan with those of the views under it: each level may name the one below
/// several times.
const VIEW_NODES_MAX: usize = 2_000;

/// The view's plan, or why it cannot be read now: a listing still shows its columns.
pub(super) async fn open(
    space: &Space,
    object: &Object,
    project: &Arc<ProjectView>,
) -> Arc<dyn TableProvider> {
    match plan(space, object, project).await {
        Ok(plan) => Arc::new(ViewTable::new(plan, object.view_sql.clone())),
        Err(error) => Arc::new(SpaceTable::closed(object, unreadable(&object.name, error))),
    }
}

async fn plan(space: &Space, object: &Object, project: &Arc<ProjectView>) -> Result<LogicalPlan> {
    let sql = object
        .view_sql
        .as_deref()
        .ok_or_else(|| Error::internal("a view has no text", &object.name))?;
    let view = Arc::new(project.with_space(space.inside(&object.name)));
    let options = SessionOptions {
        schema: object.labels.default_schema.clone(),
        ..SessionOptions::default()
    };
    let planning = Planning {
        hub: &space.hub,
        view: &view,
        options: &options,
        now: space.now,
    };
    let parsed = parse(sql, space.hub.config.limits.sql_bytes_max)?;
    let authorised = planning.query(parsed).await?;
    let plan = authorised.asked().clone();
    check_size(&object.name, &plan)?;
    Ok(plan)
}

pub(super) fn check_size(name: &str, plan: &LogicalPlan) -> Result<()> {
    let mut nodes = 0_usize;
    plan.apply_with_subqueries(|_| {
        nodes += 1;
        Ok(if nodes > VIEW_NODES_MAX {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    })?;
    if nodes > VIEW_NODES_MAX {
        return Err(Error::invalid(format!(
            "view `space.{name}` with the views that it reads is larger than {VIEW_NODES_MAX} \
             steps; store a part of it with CREATE TABLE AS"
        )));
    }
    Ok(())
}

/// What the view reads is missing, has changed or is closed to the reader.
fn unreadable(name: &str, error: Error) -> Error {
    let kind = match error.kind {
        ErrorKind::InvalidArgument => ErrorKind::NotFound,
        other => other,
    };
    Error::new(kind, format!("view `space.{name}` cannot be read: {error}"))
}
