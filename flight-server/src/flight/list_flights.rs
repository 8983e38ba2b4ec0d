//! ListFlights: the tables of the session's project, each as the path that fetches its rows.

use std::sync::Arc;

use arrow_flight::{Criteria, FlightDescriptor, FlightInfo};
use futures::StreamExt;
use tonic::{Response, Status};

use super::call::Caller;
use super::metadata::{readable, row_schema};
use super::{Answer, BoxStream};
use crate::catalog::project::ProjectView;
use crate::error::{Error, Result};
use crate::hub::Hub;

/// Lists the tables whose `schema.table` fits the expression, a pattern as GetTables has it; an
/// empty one fits all. Each is described when the client takes it.
///
/// # Errors
/// `InvalidArgument` for an expression that is no text, or too long.
pub async fn list(
    hub: &Arc<Hub>,
    caller: &Caller,
    criteria: Criteria,
) -> Answer<BoxStream<FlightInfo>> {
    let pattern = std::str::from_utf8(&criteria.expression)
        .map_err(|_| Error::invalid("the expression of ListFlights is no text"))?;
    let pattern = Some(pattern).filter(|pattern| !pattern.is_empty());
    let Ok(project) = caller.principal.project() else {
        return Ok(Response::new(futures::stream::empty().boxed()));
    };
    let view = Arc::new(caller.view(hub, project).await?);
    let names = readable(&view, pattern)?;
    let (hub, views) = (Arc::clone(hub), caller.principal.options.wire_views);
    let flights = futures::stream::iter(names).filter_map(move |(schema, table)| {
        let (hub, view) = (Arc::clone(&hub), Arc::clone(&view));
        async move {
            let flight = flight(&hub, &view, schema, table, views).await;
            flight.map_err(Status::from).transpose()
        }
    });
    Ok(Response::new(flights.boxed()))
}

/// None for a table that cannot be opened now.
async fn flight(
    hub: &Arc<Hub>,
    view: &ProjectView,
    schema: String,
    table: String,
    views: bool,
) -> Result<Option<FlightInfo>> {
    let rows = row_schema(hub, view, (&schema, &table), views).await;
    if rows.fields().is_empty() {
        return Ok(None);
    }
    let path = vec![view.project.clone(), schema, table];
    let info = FlightInfo::new()
        .try_with_schema(&rows)?
        .with_descriptor(FlightDescriptor::new_path(path))
        .with_total_records(-1)
        .with_total_bytes(-1);
    Ok(Some(info))
}
