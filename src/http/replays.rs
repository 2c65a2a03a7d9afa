//! Replays: history under another model or other settings, compared with what is served, and switched to.

use std::collections::BTreeMap;

use axum::{
    Json as JsonBody, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    AppState,
    auth::{Caller, scope},
    extract::{Json, Path, Query},
    problem::{self, Problem, ProblemBody},
    records::{PageBody, check_limit},
};
use crate::{
    insight::event::RecordKey,
    pipeline::{Confusion, RecordDifference, Replay, ReplayRequest},
    scores::{Intent, Label, Sentiment},
};

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/v1/replays", get(replays).post(start))
        .route("/v1/replays/{id}", get(replay).delete(cancel))
        .route("/v1/replays/{id}/diff", get(diff))
        .route("/v1/replays/{id}/switch", post(switch))
}

/// What to replay history with: another model, other settings, or both.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayOrder {
    #[serde(default)]
    model: Option<ReplayModel>,
    /// Settings documents by name, as they are put; the others stay as they are.
    #[serde(default)]
    #[schema(value_type = Object, example = json!({"labels": {"last_negatives": 3}}))]
    settings: BTreeMap<String, serde_json::Value>,
}

/// A model pack on the server's disk.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayModel {
    #[schema(example = "/srv/models/next")]
    path: String,
}

/// How a replay stands, and what it has found so far.
#[derive(Serialize, ToSchema)]
pub struct ReplayStatus {
    #[schema(example = "7")]
    id: String,
    /// `scoring`, `comparing`, `ready`, `switched`, `cancelled` or `failed`
    #[schema(example = "ready")]
    state: &'static str,
    model: Option<String>,
    /// Slot to revision of the model that scored.
    models: BTreeMap<String, String>,
    /// Names of the settings documents that are others.
    settings: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    progress: Progress,
    diff: DiffSummary,
    /// Why it failed.
    error: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Progress {
    /// Position in the log up to which texts are scored, and up to which documents are complete.
    scored_to: u64,
    applied: u64,
    texts_scored: u64,
    records_compared: u64,
}

/// What changes, over all texts and records.
#[derive(Serialize, ToSchema)]
pub struct DiffSummary {
    /// Texts that the other model could not score.
    unscored: u64,
    sentiment_changed: u64,
    intent_changed: u64,
    /// Texts by old label, then by new one.
    sentiment_confusion: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    intent_confusion: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    /// Records whose active labels are others, and whose sentiment or intent counts are.
    records_labels_changed: u64,
    records_counts_changed: u64,
    /// Records that gain and lose each label.
    labels: BTreeMap<String, LabelChangeBody>,
}

#[derive(Serialize, ToSchema)]
pub struct LabelChangeBody {
    gained: u64,
    lost: u64,
}

fn confusion<L: Label>(counts: &Confusion) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
    let row = |(old, row): (&L, &Vec<u64>)| {
        (old.name(), L::ALL.iter().zip(row).map(|(new, n)| (new.name(), *n)).collect())
    };
    L::ALL.iter().zip(&counts.0).map(row).collect()
}

impl From<Replay> for ReplayStatus {
    fn from(replay: Replay) -> Self {
        let body = replay.body;
        ReplayStatus {
            id: replay.id.to_string(),
            state: replay.state.name(),
            model: body.request.model,
            models: body.models,
            settings: body.request.settings.into_keys().collect(),
            created_at: body.created_at,
            finished_at: body.finished_at,
            progress: Progress {
                scored_to: replay.scored_to,
                applied: replay.applied,
                texts_scored: body.events.scored,
                records_compared: body.records.compared,
            },
            diff: DiffSummary {
                unscored: body.events.unscored,
                sentiment_changed: body.events.sentiment_changed,
                intent_changed: body.events.intent_changed,
                sentiment_confusion: confusion::<Sentiment>(&body.events.sentiment),
                intent_confusion: confusion::<Intent>(&body.events.intent),
                records_labels_changed: body.records.labels_changed,
                records_counts_changed: body.records.counts_changed,
                labels: body
                    .records
                    .labels
                    .into_iter()
                    .map(|(id, c)| (id, LabelChangeBody { gained: c.gained, lost: c.lost }))
                    .collect(),
            },
            error: body.error,
        }
    }
}

/// What a replay makes of one record, in the default window.
#[derive(Serialize, ToSchema)]
pub struct DiffItem {
    record: RecordKey,
    /// Ids of the active labels.
    labels_before: Vec<String>,
    labels_after: Vec<String>,
    sentiment_before: BTreeMap<&'static str, u64>,
    sentiment_after: BTreeMap<&'static str, u64>,
    intent_before: BTreeMap<&'static str, u64>,
    intent_after: BTreeMap<&'static str, u64>,
    /// Texts of the record, of any time, that change.
    sentiment_changed: u64,
    intent_changed: u64,
}

impl From<RecordDifference> for DiffItem {
    fn from(d: RecordDifference) -> Self {
        fn named<L: Label>(counts: &[u64]) -> BTreeMap<&'static str, u64> {
            L::ALL.iter().zip(counts).map(|(label, n)| (label.name(), *n)).collect()
        }
        DiffItem {
            record: d.record,
            labels_before: d.labels_before,
            labels_after: d.labels_after,
            sentiment_before: named::<Sentiment>(&d.before.sentiment),
            sentiment_after: named::<Sentiment>(&d.after.sentiment),
            intent_before: named::<Intent>(&d.before.intent),
            intent_after: named::<Intent>(&d.after.intent),
            sentiment_changed: d.sentiment_changed,
            intent_changed: d.intent_changed,
        }
    }
}

/// Begins a replay of the tenant's history, in the background.
///
/// Texts are scored anew where another `model` is named, behind all other work; documents are made in the shadow under
/// the other `settings`. Nothing that is served changes before the switch. One replay at a time.
#[utoipa::path(post, path = "/v1/replays", tag = "replays", request_body = ReplayOrder,
    responses((status = 202, description = "It has begun; `Location` tells how it stands", body = ReplayStatus),
              (status = 409, description = "Another replay is open", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 422, description = "Neither model nor settings, or settings that do not fit",
               body = ProblemBody, content_type = "application/problem+json")))]
pub async fn start(
    caller: Caller<scope::Admin>,
    State(state): State<AppState>,
    Json(order): Json<ReplayOrder>,
) -> Result<Response, Problem> {
    let request = ReplayRequest { model: order.model.map(|m| m.path), settings: order.settings };
    let replay = state.pipeline.start_replay(&caller.tenant, request).await?;
    let place = format!("/v1/replays/{}", replay.id);
    let mut response = (StatusCode::ACCEPTED, JsonBody(ReplayStatus::from(replay))).into_response();
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// All replays, the newest first.
#[utoipa::path(get, path = "/v1/replays", tag = "replays",
    responses((status = 200, description = "The replays", body = PageBody<ReplayStatus>)))]
pub async fn replays(
    caller: Caller<scope::InsightsRead>,
    State(state): State<AppState>,
) -> Result<JsonBody<PageBody<ReplayStatus>>, Problem> {
    let all = state.pipeline.replays(&caller.tenant).await?;
    Ok(JsonBody(PageBody { items: all.into_iter().map(Into::into).collect(), next: None }))
}

/// How a replay stands, and what it changes.
#[utoipa::path(get, path = "/v1/replays/{id}", tag = "replays", params(("id" = String, Path, example = "7")),
    responses((status = 200, description = "The replay", body = ReplayStatus),
              (status = 404, description = "There is no such replay", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn replay(
    caller: Caller<scope::InsightsRead>,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<JsonBody<ReplayStatus>, Problem> {
    let found = state.pipeline.replay(&caller.tenant, number(&id)?).await?;
    Ok(JsonBody(found.ok_or_else(|| unknown(&id))?.into()))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DiffParameters {
    /// `true`: only records whose labels change (the default); `false`: all.
    changed: Option<bool>,
    /// The `next` of the page before.
    cursor: Option<String>,
    limit: Option<usize>,
}

/// What a replay makes of each record.
#[utoipa::path(get, path = "/v1/replays/{id}/diff", tag = "replays",
    params(("id" = String, Path, example = "7"), DiffParameters),
    responses((status = 200, description = "Part of the list", body = PageBody<DiffItem>)))]
pub async fn diff(
    caller: Caller<scope::InsightsRead>,
    State(state): State<AppState>,
    Path(id): Path<String>,
    Query(parameters): Query<DiffParameters>,
) -> Result<JsonBody<PageBody<DiffItem>>, Problem> {
    check_limit(&state, parameters.limit)?;
    let changed = parameters.changed.unwrap_or(true);
    let (cursor, limit) = (parameters.cursor.as_deref(), parameters.limit);
    let page =
        state.pipeline.replay_differences(&caller.tenant, number(&id)?, changed, cursor, limit).await?;
    let page = page.ok_or_else(|| unknown(&id))?;
    Ok(JsonBody(PageBody { items: page.items.into_iter().map(Into::into).collect(), next: page.next }))
}

/// Serves what a replay has made.
///
/// One transaction, however long the history: every document that is read after the answer is made with the new scores
/// and settings, and new texts go to the new model. What came in since the comparison is scored first.
#[utoipa::path(post, path = "/v1/replays/{id}/switch", tag = "replays", params(("id" = String, Path, example = "7")),
    responses((status = 200, description = "It is served now", body = ReplayStatus),
              (status = 409, description = "It is not ready", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn switch(
    caller: Caller<scope::Admin>,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<JsonBody<ReplayStatus>, Problem> {
    let done = state.pipeline.switch_replay(&caller.tenant, number(&id)?).await?;
    Ok(JsonBody(done.ok_or_else(|| unknown(&id))?.into()))
}

/// Gives a replay up and deletes what it has made; what is served stays as it is.
#[utoipa::path(delete, path = "/v1/replays/{id}", tag = "replays", params(("id" = String, Path, example = "7")),
    responses((status = 200, description = "It is cancelled", body = ReplayStatus),
              (status = 409, description = "It is what is served", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn cancel(
    caller: Caller<scope::Admin>,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<JsonBody<ReplayStatus>, Problem> {
    let done = state.pipeline.cancel_replay(&caller.tenant, number(&id)?).await?;
    Ok(JsonBody(done.ok_or_else(|| unknown(&id))?.into()))
}

fn number(id: &str) -> Result<u64, Problem> {
    id.parse().map_err(|_| unknown(id))
}

fn unknown(id: &str) -> Problem {
    Problem::new(problem::UNKNOWN_REPLAY, format!("there is no replay {id:?}; GET /v1/replays lists them"))
}
