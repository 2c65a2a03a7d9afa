//! `GET .../insights/stream`: server-sent events, one per new revision of a record's document.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    extract::State,
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
    routing::get,
};
use futures::{Stream, StreamExt, stream};

use super::{
    AppState,
    auth::{Caller, scope},
    extract::Path,
    problem::Problem,
    records::require_enabled,
};
use crate::{
    insight::event::RecordKey,
    pipeline::{ServedDocument, ViewQuery},
};

/// Proxies cut connections on which nothing is said for a minute.
const KEEP_ALIVE_S: u64 = 15;

pub fn routes() -> Router<AppState> {
    Router::new().route("/v1/records/{module}/{id}/insights/stream", get(insights_stream))
}

/// The document of a record, again whenever it changes.
///
/// Server-sent events named `revision`; `data` is the document, `id` its revision. A client that comes back with
/// `Last-Event-ID` first gets what it has missed: the document as it is now. The record may be one that is yet to come.
#[utoipa::path(get, path = "/v1/records/{module}/{id}/insights/stream", tag = "records",
    params(("module" = String, Path), ("id" = String, Path),
           ("Last-Event-ID" = Option<u64>, Header, description = "The last revision that was seen")),
    responses((status = 200, description = "Events until either side closes", content_type = "text/event-stream",
               body = String)))]
pub async fn insights_stream(
    caller: Caller<scope::InsightsRead>,
    State(state): State<AppState>,
    Path(key): Path<RecordKey>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    require_enabled(&state, &caller.tenant, &key)?;
    // Listen first, then look: a change in between is seen twice rather than never.
    let changes = state.pipeline.changes(&caller.tenant, &key);
    let seen: Option<u64> = headers.get("last-event-id").and_then(|v| v.to_str().ok()?.trim().parse().ok());
    let missed = match seen {
        Some(seen) => state
            .pipeline
            .document(&caller.tenant, &key, &ViewQuery::default())
            .await?
            .filter(|d| d.revision != seen),
        None => None,
    };
    let events = stream::iter(missed).chain(changes).map(|document| Ok(event(&document)));
    let events = events.take_until(Box::pin(state.closed()));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(KEEP_ALIVE_S))))
}

fn event(document: &ServedDocument) -> Event {
    Event::default()
        .event("revision")
        .id(document.revision.to_string())
        .data(String::from_utf8_lossy(&document.bytes))
}
