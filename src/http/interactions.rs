//! The interactions of a record: all of them, and those behind one number of its document.

use axum::{Json as JsonBody, Router, extract::State, routing::get};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    AppState,
    auth::{Caller, scope},
    extract::{Path, Query},
    problem::{Problem, ProblemBody},
    records::{PageBody, require_enabled, unknown},
    scored::Scored,
};
use crate::{
    insight::event::{Direction, EventData, RecordKey, Survey},
    pipeline::{InteractionRow, Page},
};

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/v1/records/{module}/{id}/interactions", get(interactions))
        .route("/v1/records/{module}/{id}/evidence", get(evidence))
}

/// An interaction with what the models said about it.
#[derive(Serialize, ToSchema)]
pub struct InteractionItem {
    /// As in the `evidence` lists of the document.
    #[schema(example = "em-771")]
    id: String,
    source: String,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    record: Option<RecordKey>,
    channel: Option<String>,
    /// `inbound` or `outbound`
    #[schema(value_type = Option<String>)]
    direction: Option<Direction>,
    /// `customer`, `agent`, ...
    author: Option<String>,
    thread_id: Option<String>,
    product: Option<String>,
    touchpoint: Option<String>,
    #[schema(value_type = Option<Object>)]
    survey: Option<Survey>,
    /// The customer's own words; offsets count in them.
    text: Option<String>,
    scores: Option<Scored>,
    /// Where in `text` the evidence stands.
    spans: Vec<Span>,
}

/// A part of a text, in Unicode scalar values: `text[start:end]` in Python.
#[derive(Serialize, ToSchema)]
pub struct Span {
    start: u32,
    end: u32,
}

impl From<InteractionRow> for InteractionItem {
    fn from(row: InteractionRow) -> Self {
        let interaction = match row.event.data {
            EventData::InteractionReceived(interaction) => Some(*interaction),
            _ => None,
        };
        let of = interaction.as_ref();
        InteractionItem {
            id: row.event.id.id,
            source: row.event.id.source,
            at: row.event.time,
            record: of.map(|i| i.record.clone()),
            channel: of.map(|i| i.channel.clone()),
            direction: of.map(|i| i.direction),
            author: of.and_then(|i| i.author.as_ref()).map(|a| a.role.clone()),
            thread_id: of.and_then(|i| i.thread_id.clone()),
            product: of.and_then(|i| i.product.clone()),
            touchpoint: of.and_then(|i| i.touchpoint.clone()),
            survey: interaction.and_then(|i| i.survey),
            text: row.text,
            scores: row.scores.map(Into::into),
            spans: row.spans.into_iter().map(|(start, end)| Span { start, end }).collect(),
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Part {
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// Everything a record's interactions said, the newest first.
#[utoipa::path(get, path = "/v1/records/{module}/{id}/interactions", tag = "records",
    params(("module" = String, Path), ("id" = String, Path), Part),
    responses((status = 200, description = "Part of the list", body = PageBody<InteractionItem>),
              (status = 404, description = "Nothing is known of this record", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn interactions(
    caller: Caller<scope::InsightsRead>,
    State(state): State<AppState>,
    Path(key): Path<RecordKey>,
    Query(part): Query<Part>,
) -> Result<JsonBody<PageBody<InteractionItem>>, Problem> {
    require_enabled(&state, &caller.tenant, &key)?;
    let page = state.pipeline.interactions(&caller.tenant, &key, part.cursor.as_deref()).await?;
    body(page, &key)
}

/// Which number of the document.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Number {
    /// A panel of the document: `keywords`, `competitors`, `sentiment`, `intent`, `labels`, ...
    #[param(example = "keywords")]
    panel: String,
    /// A row of the panel: a keyword, a competitor, `negative`, the id of a label, ...
    #[param(example = "outage")]
    key: Option<String>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// The interactions behind one number, with the spans of text that it rests on.
#[utoipa::path(get, path = "/v1/records/{module}/{id}/evidence", tag = "records",
    params(("module" = String, Path), ("id" = String, Path), Number),
    responses((status = 200, description = "Part of the list", body = PageBody<InteractionItem>),
              (status = 404, description = "Nothing is known of this record", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn evidence(
    caller: Caller<scope::InsightsRead>,
    State(state): State<AppState>,
    Path(key): Path<RecordKey>,
    Query(number): Query<Number>,
) -> Result<JsonBody<PageBody<InteractionItem>>, Problem> {
    require_enabled(&state, &caller.tenant, &key)?;
    let (item, cursor) = (number.key.as_deref(), number.cursor.as_deref());
    let page = state.pipeline.evidence(&caller.tenant, &key, &number.panel, item, cursor).await?;
    body(page, &key)
}

fn body(
    page: Option<Page<InteractionRow>>,
    key: &RecordKey,
) -> Result<JsonBody<PageBody<InteractionItem>>, Problem> {
    let page = page.ok_or_else(|| unknown(key))?;
    Ok(JsonBody(PageBody { items: page.items.into_iter().map(Into::into).collect(), next: page.next }))
}
