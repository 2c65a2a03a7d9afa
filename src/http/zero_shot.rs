//! `POST /v1/zero-shot`: texts against labels that the caller brings.

use std::time::Duration;

use axum::{Json as JsonBody, Router, extract::State, routing::post};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    AppState,
    auth::{Caller, scope},
    extract::Json,
    problem::{self, Problem, ProblemBody},
    score::{Input, ModelBody, RequestOptions, ScoreInput, TimingBody, Usage, check_count},
};
use crate::engine::{ZeroShot, ZeroShotResult};

pub fn routes() -> Router<AppState> {
    Router::new().route("/v1/zero-shot", post(zero_shot))
}

/// The slot that is asked where a request names no model.
pub const SLOT: &str = "zero-shot";

/// Texts, and the labels to choose from.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ZeroShotRequest {
    /// Texts, or objects with an `id` that comes back with the result.
    #[schema(value_type = Vec<ScoreInput>)]
    inputs: Vec<Box<RawValue>>,
    #[schema(example = json!(["billing", "outage", "praise"]))]
    labels: Vec<String>,
    /// A sentence with `{}` where the label goes.
    #[schema(example = "This example is {}.")]
    hypothesis_template: Option<String>,
    /// Whether several labels may hold for one text.
    #[serde(default)]
    multi_label: bool,
    /// A slot or a model's name; the slot `zero-shot` where absent.
    model: Option<String>,
    #[serde(default)]
    options: RequestOptions,
}

/// One result per input, in the same order.
#[derive(Serialize, ToSchema)]
pub struct ZeroShotResponse {
    results: Vec<ZeroShotItem>,
    /// What answered.
    model: ModelBody,
    usage: Usage,
    timing_ms: TimingBody,
}

/// The labels of an input with their scores, or why it has none.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum ZeroShotItem {
    Scored {
        #[schema(value_type = Option<String>)]
        id: Option<Box<RawValue>>,
        /// The likeliest label.
        label: String,
        score: f64,
        /// Scores by label, in the order of the request.
        scores: serde_json::Map<String, serde_json::Value>,
        tokens: u32,
        /// True where part of the text did not go through the model.
        truncated: bool,
    },
    Failed {
        #[schema(value_type = Option<String>)]
        id: Option<Box<RawValue>>,
        error: ProblemBody,
    },
}

/// Says which of the caller's own labels fit each text.
///
/// Needs a model trained for natural language inference in the slot `zero-shot`. Without `multi_label` the scores of a
/// text sum to 1.
#[utoipa::path(post, path = "/v1/zero-shot", tag = "scoring", request_body = ZeroShotRequest,
    responses((status = 200, description = "One result per input, in order", body = ZeroShotResponse),
              (status = 404, description = "No model is in the slot", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 422, description = "The request does not fit", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 429, description = "The queue is full; see `Retry-After`", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn zero_shot(
    _caller: Caller<scope::Score>,
    State(state): State<AppState>,
    Json(request): Json<ZeroShotRequest>,
) -> Result<JsonBody<ZeroShotResponse>, Problem> {
    let limits = &state.config.limits;
    check_count(request.inputs.len().saturating_mul(request.labels.len().max(1)), limits.score_inputs_max)?;
    check_count(request.inputs.len(), limits.score_inputs_max)?;
    let question = ZeroShot::new(request.labels, request.hypothesis_template, request.multi_label)
        .map_err(|e| Problem::new(problem::INVALID_BODY, e.to_string()))?;
    let (lane, deadline): (_, Option<Duration>) = request.options.treatment();
    let mut texts = Vec::new();
    let places: Vec<_> = request
        .inputs
        .iter()
        .enumerate()
        .map(|(i, raw)| {
            let pointer = format!("/inputs/{i}");
            let (id, text) = Input::read(raw, &pointer, limits.text_bytes_max).into_parts();
            (id, text.map(|text| texts.push(text)), pointer)
        })
        .collect();
    let name = request.model.as_deref().unwrap_or(SLOT);
    let reply = state.engine.zero_shot(name, texts, &question, lane, deadline).await?;
    let mut answers = reply.results.into_iter();
    let count = places.len();
    let results = places
        .into_iter()
        .map(|(id, place, pointer)| {
            let answer = place.and_then(|()| match answers.next() {
                Some(answer) => answer.map_err(|e| problem::of_text(&e, pointer)),
                None => {
                    Err(Problem::at(problem::INTERNAL, pointer, "the engine gave no result for this input"))
                }
            });
            match answer {
                Ok(result) => scored(id, question.labels(), result),
                Err(problem) => ZeroShotItem::Failed { id, error: problem.into_body() },
            }
        })
        .collect();
    Ok(JsonBody(ZeroShotResponse {
        results,
        model: reply.model.reference.into(),
        usage: Usage::new(count, reply.tokens),
        timing_ms: reply.timing.into(),
    }))
}

/// Four decimals, as everywhere in this API.
fn rounded(score: f64) -> f64 {
    (score * 1e4).round() / 1e4
}

fn scored(id: Option<Box<RawValue>>, labels: &[String], result: ZeroShotResult) -> ZeroShotItem {
    let best =
        (0..labels.len()).fold(0, |best, i| if result.scores[i] > result.scores[best] { i } else { best });
    ZeroShotItem::Scored {
        id,
        label: labels[best].clone(),
        score: rounded(result.scores[best]),
        scores: labels.iter().zip(&result.scores).map(|(l, s)| (l.clone(), rounded(*s).into())).collect(),
        tokens: result.tokens,
        truncated: result.truncated,
    }
}
