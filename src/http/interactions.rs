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
    records::{PageBody, check_limit, require_enabled, unknown},
    scored::Scored,
};
use crate::{
    insight::{
        document::KeywordRow,
        event::{Direction, EventData, RecordKey, Survey},
    },
    pipeline::{EvidenceQuery, InteractionQuery, InteractionRow, Page, ViewQuery},
};

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/v1/records/{module}/{id}/interactions", get(interactions))
        .route("/v1/records/{module}/{id}/evidence", get(evidence))
        .route("/v1/records/{module}/{id}/keywords", get(keywords))
}

/// An interaction with what the models said about it.
#[derive(Serialize, ToSchema)]
pub struct InteractionItem {
    /// As in the `evidence` lists of the document.
    #[schema(example = "em-771")]
    id: String,
    source: String,
    /// The CloudEvents type.
    #[serde(rename = "type")]
    #[schema(example = "voc.interaction.received.v1")]
    type_: &'static str,
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
    /// What was observed, where it is no interaction.
    #[schema(value_type = Option<Object>)]
    behaviour: Option<Observed>,
    /// Why the customer left, where the event says so.
    reason: Option<String>,
    /// The customer's own words; offsets count in them.
    text: Option<String>,
    scores: Option<Scored>,
    /// Where in `text` the evidence stands.
    spans: Vec<Span>,
}

/// An observed behaviour.
#[derive(Serialize, ToSchema)]
pub struct Observed {
    kind: String,
    #[schema(value_type = Option<Object>)]
    value: Option<serde_json::Value>,
    page: Option<String>,
}

/// A part of a text, in Unicode scalar values: `text[start:end]` in Python.
#[derive(Serialize, ToSchema)]
pub struct Span {
    start: u32,
    end: u32,
}

impl From<InteractionRow> for InteractionItem {
    fn from(row: InteractionRow) -> Self {
        let type_ = row.event.data.type_name();
        let (mut interaction, mut behaviour, mut reason, mut record) = (None, None, None, None);
        match row.event.data {
            EventData::InteractionReceived(received) => {
                record = Some(received.record.clone());
                interaction = Some(*received);
            }
            EventData::BehaviourObserved(b) => {
                record = Some(b.record);
                behaviour = Some(Observed { kind: b.kind, value: b.value, page: b.page });
            }
            EventData::CustomerChurned(churned) => {
                record = Some(churned.record);
                reason = churned.reason;
            }
            _ => {}
        }
        let of = interaction.as_ref();
        InteractionItem {
            id: row.name,
            source: row.event.id.source,
            type_,
            at: row.event.time,
            record,
            channel: of.map(|i| i.channel.clone()),
            direction: of.map(|i| i.direction),
            author: of.and_then(|i| i.author.as_ref()).map(|a| a.role.clone()),
            thread_id: of.and_then(|i| i.thread_id.clone()),
            product: of.and_then(|i| i.product.clone()),
            touchpoint: of.and_then(|i| i.touchpoint.clone()),
            survey: interaction.and_then(|i| i.survey),
            behaviour,
            reason,
            text: row.text,
            scores: row.scores.map(Into::into),
            spans: row.spans.into_iter().map(|(start, end)| Span { start, end }).collect(),
        }
    }
}

/// Which part of the history, and of the list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Part {
    /// As for the document; without it everything, whenever it happened.
    #[param(example = "90d")]
    window: Option<String>,
    /// As it was then, RFC 3339.
    as_of: Option<String>,
    /// IANA time zone of the window's days; UTC where absent.
    tz: Option<String>,
    /// Only the event that the document's evidence names so.
    id: Option<String>,
    /// The `next` of the page before.
    cursor: Option<String>,
    limit: Option<usize>,
}

/// What a record's interactions said, and what was observed of the customer, the newest first.
///
/// Everything that the document can name as evidence: interactions, observed behaviour, departures; `type` tells which.
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
    check_limit(&state, part.limit)?;
    let query = InteractionQuery {
        view: ViewQuery { window: part.window, as_of: part.as_of, tz: part.tz },
        id: part.id,
        cursor: part.cursor,
        limit: part.limit,
    };
    body(state.pipeline.interactions(&caller.tenant, &key, &query).await?, &key)
}

/// Which number of the document.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Number {
    /// A panel of the document: `keywords`, `competitors`, `sentiment`, `intent`, `emotions`, `labels`, ...
    #[param(example = "keywords")]
    panel: String,
    /// A row of the panel: a keyword, a competitor, `negative`, the id of a label, ...
    #[param(example = "outage")]
    key: Option<String>,
    /// The view of the document whose number is meant.
    #[param(example = "90d")]
    window: Option<String>,
    as_of: Option<String>,
    tz: Option<String>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// The events behind one number, with the spans of text that it rests on.
///
/// As many as the number says, under the same `window`, `as_of` and `tz` as the document.
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
    let query = EvidenceQuery {
        view: ViewQuery { window: number.window, as_of: number.as_of, tz: number.tz },
        panel: number.panel,
        item: number.key,
        cursor: number.cursor,
    };
    body(state.pipeline.evidence(&caller.tenant, &key, &query).await?, &key)
}

/// Rows of the keyword table.
#[derive(Serialize, ToSchema)]
pub struct KeywordsBody {
    items: Vec<KeywordRow>,
    /// The `cursor` that continues the list, null at the end.
    next: Option<String>,
    /// All keywords of the window.
    total: u64,
}

/// The keyword table beyond what the document shows.
///
/// `cursor` is the document's `keywords.next`, or the `next` of the page before, under the same view.
#[utoipa::path(get, path = "/v1/records/{module}/{id}/keywords", tag = "records",
    params(("module" = String, Path), ("id" = String, Path), Part),
    responses((status = 200, description = "Part of the table", body = KeywordsBody),
              (status = 404, description = "Nothing is known of this record", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn keywords(
    caller: Caller<scope::InsightsRead>,
    State(state): State<AppState>,
    Path(key): Path<RecordKey>,
    Query(part): Query<Part>,
) -> Result<JsonBody<KeywordsBody>, Problem> {
    require_enabled(&state, &caller.tenant, &key)?;
    check_limit(&state, part.limit)?;
    let query = InteractionQuery {
        view: ViewQuery { window: part.window, as_of: part.as_of, tz: part.tz },
        id: None,
        cursor: part.cursor,
        limit: part.limit,
    };
    let found = state.pipeline.keywords(&caller.tenant, &key, &query).await?;
    let found = found.ok_or_else(|| unknown(&key))?;
    Ok(JsonBody(KeywordsBody { items: found.page.items, next: found.page.next, total: found.total }))
}

fn body(
    page: Option<Page<InteractionRow>>,
    key: &RecordKey,
) -> Result<JsonBody<PageBody<InteractionItem>>, Problem> {
    let page = page.ok_or_else(|| unknown(key))?;
    Ok(JsonBody(PageBody { items: page.items.into_iter().map(Into::into).collect(), next: page.next }))
}
