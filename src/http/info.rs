//! What runs: `GET /info`, as text-embeddings-inference answers it, and more.

use std::collections::BTreeMap;

use axum::{Json as JsonBody, Router, extract::State, routing::get};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    AppState,
    auth::{Caller, scope},
};
use crate::scores::{Label, Sentiment};

pub fn routes() -> Router<AppState> {
    Router::new().route("/info", get(info))
}

/// The server, its models and its pipeline.
#[derive(Serialize, ToSchema)]
pub struct Info {
    /// Name of the model behind `/predict`.
    model_id: String,
    /// Its content hash.
    model_sha: Option<String>,
    /// Precision of the forward pass.
    #[schema(example = "int8")]
    model_dtype: String,
    model_type: ModelType,
    /// Requests are not counted: what limits them is `queue_tokens_max`.
    max_concurrent_requests: usize,
    /// Longest input in tokens; longer ones are read in windows, so this is the queue's limit.
    max_input_length: usize,
    max_batch_tokens: usize,
    max_batch_requests: Option<usize>,
    max_client_batch_size: usize,
    /// Nothing is ever cut off.
    auto_truncate: bool,
    tokenization_workers: usize,
    version: &'static str,
    /// `cpu` or `cuda:N`
    device: String,
    /// Why it is not the device that was asked for, or that `auto` would prefer.
    device_reason: Option<String>,
    precision: String,
    precision_reason: Option<String>,
    threads: usize,
    pipeline: PipelineInfo,
}

/// The kind of model, in the form of text-embeddings-inference.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelType {
    Classifier { id2label: BTreeMap<String, &'static str>, label2id: BTreeMap<&'static str, usize> },
}

/// How far events are.
#[derive(Serialize, ToSchema)]
pub struct PipelineInfo {
    /// Position of the last event on disk.
    logged: String,
    /// Position up to which documents are complete.
    applied: String,
    records: u64,
    /// Why nothing is being applied, where that is so.
    stalled: Option<String>,
}

/// What runs: models, device, limits, and how far the pipeline is.
#[utoipa::path(get, path = "/info", tag = "operations",
    responses((status = 200, description = "Also readable by clients of text-embeddings-inference", body = Info)))]
pub async fn info(_caller: Caller<scope::Any>, State(state): State<AppState>) -> JsonBody<Info> {
    let engine = state.engine.info();
    let health = state.pipeline.health();
    let model = engine.models.get("sentiment");
    let classifier = ModelType::Classifier {
        id2label: Sentiment::ALL.iter().map(|l| (l.index().to_string(), l.name())).collect(),
        label2id: Sentiment::ALL.iter().map(|l| (l.name(), l.index())).collect(),
    };
    JsonBody(Info {
        model_id: model.map(|m| m.name.clone()).unwrap_or_default(),
        model_sha: model.map(|m| m.revision.clone()),
        model_dtype: engine.precision.clone(),
        model_type: classifier,
        max_concurrent_requests: engine.queue_tokens_max,
        max_input_length: engine.queue_tokens_max,
        max_batch_tokens: engine.batch_tokens_max,
        max_batch_requests: None,
        max_client_batch_size: state.config.limits.score_inputs_max,
        auto_truncate: false,
        tokenization_workers: engine.threads,
        version: env!("CARGO_PKG_VERSION"),
        device: engine.device,
        device_reason: engine.device_reason,
        precision: engine.precision,
        precision_reason: engine.precision_reason,
        threads: engine.threads,
        pipeline: PipelineInfo {
            logged: health.logged.to_string(),
            applied: health.applied.to_string(),
            records: health.records,
            stalled: health.stalled,
        },
    })
}
