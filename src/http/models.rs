//! `/v1/models`: what serves, and putting another model in its place while the server answers.

use std::collections::BTreeMap;

use axum::{
    Json as JsonBody, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AppState,
    auth::{Caller, scope},
    extract::{Json, Path},
    problem::{self, Problem, ProblemBody},
    records::PageBody,
    score::ModelBody,
};
use crate::engine::{
    ModelInfo, PutError,
    source::{LabelMap, ModelRequest, ModelSource},
    swap::{Swap, SwapState},
};

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{slot}", get(model).put(put_model).delete(remove_model))
        .route("/v1/models/{slot}/swaps/{id}", get(swap))
}

/// A model in its slot.
#[derive(Serialize, ToSchema)]
pub struct ModelItem {
    /// Its place: `sentiment`, `intent`, `keyphrases`, `emotion`, `zero-shot`, or a name of your own.
    #[schema(example = "sentiment")]
    slot: String,
    name: String,
    /// Hash of its content, or the commit of its repository.
    #[schema(example = "sha256:9f86d081884c7d65")]
    revision: String,
    /// `serving`
    state: SwapState,
    #[schema(example = "text-classification")]
    task: &'static str,
    /// `model_type` of its configuration.
    #[schema(example = "xlm-roberta")]
    family: String,
    /// The model's own labels, in its order.
    labels: Vec<String>,
    /// What its labels were mapped to, where a request said so.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    mapping: LabelMap,
    /// Where it came from: a folder or a repository.
    #[schema(example = "models/default")]
    source: String,
    /// The same for models that share one forward pass.
    trunk: String,
    device: String,
    /// Why it is not the device that was asked for, or that `auto` would prefer.
    device_reason: Option<String>,
    precision: String,
    precision_reason: Option<String>,
    /// Tokens of one window; longer texts are read in several.
    window_tokens_max: usize,
    /// The last swap of this slot, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_swap: Option<SwapBody>,
}

/// The course of a swap.
#[derive(Serialize, ToSchema)]
pub struct SwapBody {
    #[schema(example = "7")]
    id: String,
    slot: String,
    /// `loading`, `validating`, `warming`, `serving` or `failed`.
    state: SwapState,
    /// Why it failed; the old model still serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What was asked for.
    source: String,
    /// What serves, once it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<ModelBody>,
}

/// A model for a slot: a repository of the hub, or a folder on the server.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutModelRequest {
    #[schema(example = "cardiffnlp/twitter-xlm-roberta-base-sentiment")]
    pub repo: Option<String>,
    /// A commit, branch or tag of the repository.
    pub revision: Option<String>,
    pub path: Option<String>,
    /// From the model's labels to those of the slot.
    #[serde(default)]
    #[schema(example = json!({"LABEL_0": "negative", "LABEL_1": "positive"}))]
    pub labels: LabelMap,
}

/// Labels in one mapping.
const LABELS_MAX: usize = 1_000;

impl PutModelRequest {
    pub fn request(self) -> Result<ModelRequest, Problem> {
        let source = match (self.repo, self.path) {
            (Some(repo), None) => ModelSource::Repo { repo, revision: self.revision },
            (None, Some(_)) if self.revision.is_some() => {
                let detail = "a folder has no revision; leave it out, or give `repo` instead of `path`";
                return Err(Problem::at(problem::INVALID_BODY, "/revision", detail));
            }
            (None, Some(path)) => ModelSource::Path(path.into()),
            _ => {
                let detail = "give either `repo` (with `revision`) or `path`";
                return Err(Problem::new(problem::INVALID_BODY, detail));
            }
        };
        if self.labels.len() > LABELS_MAX {
            let detail = format!("{} labels are more than {LABELS_MAX}", self.labels.len());
            return Err(Problem::at(problem::INVALID_BODY, "/labels", detail));
        }
        Ok(ModelRequest { source, labels: self.labels })
    }
}

impl From<PutError> for Problem {
    fn from(error: PutError) -> Self {
        let kind = match &error {
            PutError::SlotName(_) => problem::BAD_REQUEST,
            PutError::TooManySlots | PutError::NeverEmpty(_) => problem::CONFLICT,
            PutError::TooManyWaiting => problem::OVERLOADED,
            PutError::NoModel(_) => problem::UNKNOWN_MODEL,
            PutError::ShuttingDown => problem::SHUTTING_DOWN,
        };
        Problem::new(kind, error.to_string())
    }
}

impl From<Swap> for SwapBody {
    fn from(swap: Swap) -> Self {
        SwapBody {
            id: swap.id.to_string(),
            slot: swap.slot,
            state: swap.state,
            reason: swap.reason,
            source: swap.request.source.to_string(),
            model: swap.model.map(Into::into),
        }
    }
}

fn item(state: &AppState, model: ModelInfo) -> ModelItem {
    ModelItem {
        last_swap: state.engine.latest_swap(&model.slot).map(Into::into),
        slot: model.slot,
        name: model.reference.name,
        revision: model.reference.revision,
        state: SwapState::Serving,
        task: model.task.name(),
        family: model.family,
        labels: model.labels,
        mapping: model.mapping,
        source: model.source.to_string(),
        trunk: model.trunk,
        device: model.executor.device,
        device_reason: model.device_reason,
        precision: model.executor.precision.into(),
        precision_reason: model.precision_reason,
        window_tokens_max: model.window_tokens_max,
    }
}

/// The loaded models, by slot.
#[utoipa::path(get, path = "/v1/models", tag = "models",
    responses((status = 200, description = "All of them", body = PageBody<ModelItem>)))]
pub async fn models(
    _caller: Caller<scope::Any>,
    State(state): State<AppState>,
) -> JsonBody<PageBody<ModelItem>> {
    let items = state.engine.models().into_iter().map(|m| item(&state, m)).collect();
    JsonBody(PageBody { items, next: None })
}

/// The model in a slot.
#[utoipa::path(get, path = "/v1/models/{slot}", tag = "models",
    params(("slot" = String, Path, example = "sentiment")),
    responses((status = 200, description = "What serves there", body = ModelItem),
              (status = 404, description = "The slot is empty", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn model(
    _caller: Caller<scope::Any>,
    State(state): State<AppState>,
    Path(slot): Path<String>,
) -> Result<JsonBody<ModelItem>, Problem> {
    let model = state.engine.models().into_iter().find(|m| m.slot == slot);
    model.map(|m| JsonBody(item(&state, m))).ok_or_else(|| PutError::NoModel(slot).into())
}

/// Puts a model into a slot while the server answers.
///
/// The answer comes at once; `Location` leads to the course of the swap. Until the new model serves the old one answers,
/// and where the swap fails the old one stays. Requests that are in flight keep the model they began with.
#[utoipa::path(put, path = "/v1/models/{slot}", tag = "models", request_body = PutModelRequest,
    params(("slot" = String, Path, description = "`sentiment`, `intent`, `keyphrases`, `emotion`, `zero-shot`, or a \
            name of your own", example = "sentiment")),
    responses((status = 202, description = "Begun; follow `Location`", body = SwapBody),
              (status = 409, description = "No slot is free", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 422, description = "The request does not fit", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 429, description = "Too many swaps wait", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn put_model(
    _caller: Caller<scope::ModelsAdmin>,
    State(state): State<AppState>,
    Path(slot): Path<String>,
    Json(request): Json<PutModelRequest>,
) -> Result<Response, Problem> {
    let id = state.engine.put_model(&slot, request.request()?)?;
    let swap = state.engine.swap(id).ok_or_else(|| unknown_swap(id))?;
    let location = format!("/v1/models/{slot}/swaps/{id}");
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], JsonBody(SwapBody::from(swap))).into_response())
}

/// Takes a model out of its slot. Slots whose answers go into documents cannot be emptied.
#[utoipa::path(delete, path = "/v1/models/{slot}", tag = "models",
    params(("slot" = String, Path, example = "ner")),
    responses((status = 204, description = "Taken out; requests that hold it are answered"),
              (status = 404, description = "The slot is empty", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 409, description = "Documents need it", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn remove_model(
    _caller: Caller<scope::ModelsAdmin>,
    State(state): State<AppState>,
    Path(slot): Path<String>,
) -> Result<StatusCode, Problem> {
    state.engine.remove_model(&slot)?;
    Ok(StatusCode::NO_CONTENT)
}

/// How far a swap is.
#[utoipa::path(get, path = "/v1/models/{slot}/swaps/{id}", tag = "models",
    params(("slot" = String, Path, example = "sentiment"), ("id" = String, Path, example = "7")),
    responses((status = 200, description = "Its state, and why it failed where it did", body = SwapBody),
              (status = 404, description = "No such swap; the last 256 are remembered", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn swap(
    _caller: Caller<scope::ModelsAdmin>,
    State(state): State<AppState>,
    Path((slot, id)): Path<(String, String)>,
) -> Result<JsonBody<SwapBody>, Problem> {
    let number = id.parse().ok();
    let swap = number.and_then(|n| state.engine.swap(n)).filter(|s| s.slot == slot);
    swap.map(|s| JsonBody(s.into())).ok_or_else(|| unknown_swap(id))
}

fn unknown_swap(id: impl std::fmt::Display) -> Problem {
    Problem::new(
        problem::NOT_FOUND,
        format!("there is no swap {id} of this slot; the last 256 are remembered"),
    )
}
