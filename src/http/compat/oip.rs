//! The Open Inference Protocol, version 2: server and model metadata, `infer`, and its repository extension.
//!
//! A model takes the tensor `TEXT` (and `TEXT_PAIR`) of `BYTES`. A text classifier answers `LABEL`, `SCORE` and `SCORES`,
//! a token classifier `ENTITIES` (JSON, one list a text), an encoder `EMBEDDING`. A model's name is its slot's.

use std::collections::BTreeMap;

use axum::{
    Json as JsonBody, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    hugging_face::{ask, labelled},
    oip_tensor::{self, InferRequest, InferResponse, Output, Values},
};
use crate::{
    engine::{
        Aggregation, HeadTask, ModelInfo, RawAnswer, RawInput, RawOutput, RawTask,
        source::{LabelMap, ModelRequest},
        swap::SwapState,
    },
    http::{
        AppState,
        auth::{Caller, scope},
        extract::{self, Path},
        models::PutModelRequest,
        problem::{self, Problem, ProblemBody},
        score::{check_count, within},
    },
};

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/v2", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/{name}", get(metadata))
        .route("/v2/models/{name}/ready", get(model_ready))
        .route("/v2/models/{name}/infer", post(infer))
        .route("/v2/repository/index", post(index))
        .route("/v2/repository/models/{name}/unload", post(unload))
}

/// Routes that take as long as a model needs to load.
pub fn slow_routes() -> Router<AppState> {
    Router::new().route("/v2/repository/models/{name}/load", post(load))
}

#[derive(Serialize, ToSchema)]
pub struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: Vec<&'static str>,
}

/// Name, version and extensions of the server.
#[utoipa::path(get, path = "/v2", tag = "compatibility",
    responses((status = 200, description = "Metadata", body = ServerMetadata)))]
pub async fn server(_caller: Caller<scope::Any>) -> JsonBody<ServerMetadata> {
    JsonBody(ServerMetadata {
        name: "hearken",
        version: env!("CARGO_PKG_VERSION"),
        extensions: vec!["binary_tensor_data", "model_repository", "model_repository(unload_dependents)"],
    })
}

/// The process runs.
#[utoipa::path(get, path = "/v2/health/live", tag = "compatibility",
    responses((status = 200, description = "It does")))]
pub async fn live() -> StatusCode {
    StatusCode::OK
}

/// Models are loaded.
#[utoipa::path(get, path = "/v2/health/ready", tag = "compatibility",
    responses((status = 200, description = "They are")))]
pub async fn ready() -> StatusCode {
    StatusCode::OK
}

#[derive(Serialize, ToSchema)]
pub struct ModelMetadata {
    name: String,
    /// Its revision.
    versions: Vec<String>,
    platform: &'static str,
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
}

#[derive(Serialize, ToSchema)]
pub struct TensorMetadata {
    name: &'static str,
    datatype: &'static str,
    /// -1 where a dimension is the number of texts.
    shape: Vec<i64>,
}

fn model(state: &AppState, name: &str) -> Result<ModelInfo, Problem> {
    state.engine.model(name).ok_or_else(|| {
        in_their_words(Problem::new(problem::UNKNOWN_MODEL, format!("no model is named {name:?}")))
    })
}

/// Tensors that a model takes and gives.
#[utoipa::path(get, path = "/v2/models/{name}", tag = "compatibility",
    params(("name" = String, Path, example = "sentiment")),
    responses((status = 200, description = "Metadata", body = ModelMetadata),
              (status = 404, description = "No model has this name", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn metadata(
    _caller: Caller<scope::Any>,
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<JsonBody<ModelMetadata>, Problem> {
    let model = model(&state, &name)?;
    let tensor = |name, datatype, shape: &[i64]| TensorMetadata { name, datatype, shape: shape.to_vec() };
    let outputs = match model.task {
        HeadTask::TextClassification => vec![
            tensor("LABEL", "BYTES", &[-1]),
            tensor("SCORE", "FP32", &[-1]),
            tensor("SCORES", "FP32", &[-1, model.labels.len() as i64]),
        ],
        HeadTask::TokenClassification => vec![tensor("ENTITIES", "BYTES", &[-1])],
        HeadTask::Embedding => vec![tensor("EMBEDDING", "FP32", &[-1, model.hidden as i64])],
    };
    Ok(JsonBody(ModelMetadata {
        name,
        versions: vec![model.reference.revision],
        platform: "hearken",
        inputs: vec![tensor("TEXT", "BYTES", &[-1]), tensor("TEXT_PAIR", "BYTES", &[-1])],
        outputs,
    }))
}

/// Whether a model answers.
#[utoipa::path(get, path = "/v2/models/{name}/ready", tag = "compatibility",
    params(("name" = String, Path, example = "sentiment")),
    responses((status = 200, description = "It does"),
              (status = 404, description = "No model has this name", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn model_ready(
    _caller: Caller<scope::Any>,
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    model(&state, &name).map(|_| StatusCode::OK)
}

/// Asks a model.
///
/// Tensors come as JSON, or behind it in the binary extension (`Inference-Header-Content-Length`).
#[utoipa::path(post, path = "/v2/models/{name}/infer", tag = "compatibility", request_body = InferRequest,
    params(("name" = String, Path, example = "sentiment")),
    responses((status = 200, description = "The outputs that were asked for", body = InferResponse),
              (status = 404, description = "No model has this name", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 422, description = "A tensor does not fit", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 429, description = "The queue is full; see `Retry-After`", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn infer(
    _caller: Caller<scope::Score>,
    State(state): State<AppState>,
    Path(name): Path<String>,
    headers: HeaderMap,
    request: extract::Raw,
) -> Result<Response, Problem> {
    answer(&state, name, &headers, &request.0).await.map_err(in_their_words)
}

async fn answer(
    state: &AppState,
    name: String,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, Problem> {
    let limits = &state.config.limits;
    let (request, binary) = oip_tensor::read(headers, body)?;
    let texts = oip_tensor::texts(&request, "TEXT", &binary)?
        .ok_or_else(|| Problem::at(problem::INVALID_BODY, "/inputs", "the tensor TEXT is missing"))?;
    let pairs = oip_tensor::texts(&request, "TEXT_PAIR", &binary)?;
    check_count(texts.len(), limits.score_inputs_max)?;
    if pairs.as_ref().is_some_and(|p| p.len() != texts.len()) {
        return Err(Problem::at(
            problem::INVALID_BODY,
            "/inputs",
            "TEXT and TEXT_PAIR are not of one length",
        ));
    }
    let mut pairs = pairs.map(Vec::into_iter);
    let inputs = texts
        .into_iter()
        .map(|text| {
            let text = within(text, limits.text_bytes_max, "/inputs")?;
            let pair = pairs.as_mut().and_then(Iterator::next);
            Ok(RawInput {
                text,
                pair: pair.map(|p| within(p, limits.text_bytes_max, "/inputs")).transpose()?,
            })
        })
        .collect::<Result<Vec<_>, Problem>>()?;
    let known = model(state, &name)?;
    let task = match known.task {
        HeadTask::TextClassification => RawTask::Labels,
        HeadTask::TokenClassification => RawTask::Entities(Aggregation::Simple),
        HeadTask::Embedding => RawTask::Embedding { pooling: None, normalize: false },
    };
    let (answers, model, _) = ask(state, &name, inputs, task, |_| "/inputs".into()).await?;
    let outputs = outputs(&model, answers);
    oip_tensor::respond(request, name, model.reference.revision, outputs)
}

fn outputs(model: &ModelInfo, answers: Vec<RawAnswer>) -> Vec<Output> {
    let n = answers.len();
    match model.task {
        HeadTask::TextClassification => {
            let (mut labels, mut best, mut all) = (Vec::new(), Vec::new(), Vec::new());
            for answer in &answers {
                let rows = labelled(model, answer, None);
                let top = rows.iter().reduce(|best, row| if row.1 > best.1 { row } else { best });
                labels.push(top.map(|(label, _)| label.to_string()).unwrap_or_default());
                best.push(top.map_or(0.0, |(_, p)| *p as f32));
                all.extend(rows.iter().map(|(_, p)| *p as f32));
            }
            vec![
                Output { name: "LABEL", shape: vec![n], values: Values::Texts(labels) },
                Output { name: "SCORE", shape: vec![n], values: Values::Floats(best) },
                Output { name: "SCORES", shape: vec![n, model.labels.len()], values: Values::Floats(all) },
            ]
        }
        HeadTask::TokenClassification => {
            let lists = answers.into_iter().map(|answer| {
                let RawOutput::Entities(found) = answer.output else { return String::from("[]") };
                let rows = found.into_iter().map(|e| {
                    json!({"entity_group": e.label, "score": e.score, "word": e.word, "start": e.start, "end": e.end})
                });
                Value::Array(rows.collect()).to_string()
            });
            vec![Output { name: "ENTITIES", shape: vec![n], values: Values::Texts(lists.collect()) }]
        }
        HeadTask::Embedding => {
            let values = answers.into_iter().flat_map(|answer| match answer.output {
                RawOutput::Embedding(vector) => vector,
                _ => Vec::new(),
            });
            let values = Values::Floats(values.collect());
            vec![Output { name: "EMBEDDING", shape: vec![n, model.hidden], values }]
        }
    }
}

/// A model of the repository.
#[derive(Serialize, ToSchema)]
pub struct IndexItem {
    name: String,
    version: String,
    /// `READY`, `LOADING` or `UNAVAILABLE`.
    state: &'static str,
    /// Why it is not ready.
    reason: String,
}

/// The slots and what is in them.
#[utoipa::path(post, path = "/v2/repository/index", tag = "compatibility",
    responses((status = 200, description = "One entry per slot", body = Vec<IndexItem>)))]
pub async fn index(_caller: Caller<scope::Any>, State(state): State<AppState>) -> JsonBody<Vec<IndexItem>> {
    let item = |model: ModelInfo| {
        let swap = state.engine.latest_swap(&model.slot);
        let reason = match swap {
            Some(swap) if swap.state == SwapState::Failed => {
                format!(
                    "the last load failed, and the model before it serves: {}",
                    swap.reason.unwrap_or_default()
                )
            }
            Some(swap) if !swap.is_over() => "another model is loading".into(),
            _ => String::new(),
        };
        IndexItem { name: model.slot, version: model.reference.revision, state: "READY", reason }
    };
    JsonBody(state.engine.models().into_iter().map(item).collect())
}

/// What to load; without parameters, what the slot held last.
#[derive(Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
pub struct LoadRequest {
    parameters: LoadParameters,
}

#[derive(Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
pub struct LoadParameters {
    repo: Option<String>,
    revision: Option<String>,
    path: Option<String>,
    labels: BTreeMap<String, String>,
}

/// Loads a model into the slot of its name and answers when it serves.
#[utoipa::path(post, path = "/v2/repository/models/{name}/load", tag = "compatibility", request_body = LoadRequest,
    params(("name" = String, Path, example = "ner")),
    responses((status = 200, description = "It serves"),
              (status = 404, description = "Nothing was ever in the slot, and nothing is named", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 422, description = "It cannot be loaded; what was there stays", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn load(
    _caller: Caller<scope::ModelsAdmin>,
    State(state): State<AppState>,
    Path(name): Path<String>,
    body: extract::Raw,
) -> Result<StatusCode, Problem> {
    load_model(&state, name, &body.0).await.map(|()| StatusCode::OK).map_err(in_their_words)
}

async fn load_model(state: &AppState, name: String, body: &Bytes) -> Result<(), Problem> {
    let request: LoadRequest =
        if body.is_empty() { LoadRequest::default() } else { extract::parse_json(extract::text(body)?)? };
    let LoadParameters { repo, revision, path, labels } = request.parameters;
    let request = if repo.is_none() && path.is_none() {
        let current = state.engine.models().into_iter().find(|m| m.slot == name);
        let known = current.map(|m| (m.source, m.mapping));
        let known = known.or_else(|| Some((state.engine.last_source(&name)?, LabelMap::new())));
        let (source, mapping) = known.ok_or_else(|| {
            let detail = format!("nothing was ever in {name:?}; give `repo` or `path` in `parameters`");
            Problem::new(problem::UNKNOWN_MODEL, detail)
        })?;
        ModelRequest { source, labels: if labels.is_empty() { mapping } else { labels } }
    } else {
        PutModelRequest { repo, revision, path, labels }.request()?
    };
    let id = state.engine.put_model(&name, request)?;
    let engine = state.engine.clone();
    let swap = extract::off_thread(move || engine.wait_for_swap(id)).await?;
    match swap {
        Some(swap) if swap.state == SwapState::Serving => Ok(()),
        swap => {
            let reason = swap.and_then(|s| s.reason).unwrap_or_default();
            Err(Problem::new(problem::MODEL_REFUSED, reason))
        }
    }
}

/// Takes a model out of its slot. Slots whose answers go into documents cannot be emptied.
#[utoipa::path(post, path = "/v2/repository/models/{name}/unload", tag = "compatibility",
    params(("name" = String, Path, example = "ner")),
    responses((status = 200, description = "Taken out"),
              (status = 404, description = "The slot is empty", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 409, description = "Documents need it", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn unload(
    _caller: Caller<scope::ModelsAdmin>,
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    let removed = state.engine.remove_model(&name);
    removed.map(|_| StatusCode::OK).map_err(|e| in_their_words(e.into()))
}

/// Adds the member that clients of the protocol read.
fn in_their_words(problem: Problem) -> Problem {
    let detail = problem.detail().to_owned();
    problem.with_member("error", detail)
}
