//! `POST /classify`, as vLLM answers it: the likeliest label of each text and the probabilities of all.

use axum::{Json as JsonBody, Router, extract::State, routing::post};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::hugging_face::{ask, labelled};
use crate::{
    engine::{RawInput, RawTask},
    http::{
        AppState,
        auth::{Caller, scope},
        extract::Json,
        problem::{Problem, ProblemBody},
        score::{check_count, within},
    },
};

pub fn routes() -> Router<AppState> {
    Router::new().route("/classify", post(classify))
}

/// The slot that is asked where a request names no model.
const SLOT: &str = "sentiment";

#[derive(Deserialize, ToSchema)]
pub struct ClassifyRequest {
    /// A slot or a model's name; the slot `sentiment` where absent.
    model: Option<String>,
    input: ClassifyInput,
}

/// A text or a list of texts.
#[derive(Deserialize, ToSchema)]
#[serde(untagged, expecting = "a text or a list of texts belongs here")]
pub enum ClassifyInput {
    Text(String),
    Texts(Vec<String>),
}

#[derive(Serialize, ToSchema)]
pub struct ClassifyResponse {
    id: String,
    /// `list`
    object: &'static str,
    /// Seconds since 1970.
    created: i64,
    model: String,
    data: Vec<ClassifyItem>,
    usage: ClassifyUsage,
}

#[derive(Serialize, ToSchema)]
pub struct ClassifyItem {
    index: usize,
    #[schema(example = "negative")]
    label: String,
    /// In the order of the model's labels.
    probs: Vec<f64>,
    num_classes: usize,
}

#[derive(Serialize, ToSchema)]
pub struct ClassifyUsage {
    prompt_tokens: usize,
    total_tokens: usize,
    completion_tokens: usize,
    prompt_tokens_details: Option<()>,
}

/// Labels of texts, as vLLM answers.
#[utoipa::path(post, path = "/classify", tag = "compatibility", request_body = ClassifyRequest,
    responses((status = 200, description = "One entry per text, in order", body = ClassifyResponse),
              (status = 404, description = "No model has this name", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 422, description = "An input does not fit", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 429, description = "The queue is full; see `Retry-After`", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn classify(
    _caller: Caller<scope::Score>,
    State(state): State<AppState>,
    Json(request): Json<ClassifyRequest>,
) -> Result<JsonBody<ClassifyResponse>, Problem> {
    let limits = &state.config.limits;
    let texts = match request.input {
        ClassifyInput::Text(text) => vec![text],
        ClassifyInput::Texts(texts) => texts,
    };
    check_count(texts.len(), limits.score_inputs_max)?;
    let pointer = |i: usize| format!("/input/{i}");
    let inputs = texts
        .into_iter()
        .enumerate()
        .map(|(i, text)| within(text, limits.text_bytes_max, &pointer(i)).map(RawInput::from))
        .collect::<Result<Vec<_>, _>>()?;
    let name = request.model.as_deref().unwrap_or(SLOT);
    let (answers, model, tokens) = ask(&state, name, inputs, RawTask::Labels, pointer).await?;
    let data = answers
        .iter()
        .enumerate()
        .map(|(index, answer)| {
            let rows = labelled(&model, answer, None);
            let best = rows.iter().reduce(|best, row| if row.1 > best.1 { row } else { best });
            ClassifyItem {
                index,
                label: best.map(|(label, _)| label.to_string()).unwrap_or_default(),
                num_classes: rows.len(),
                probs: rows.iter().map(|(_, p)| *p).collect(),
            }
        })
        .collect();
    let created = jiff::Timestamp::now();
    Ok(JsonBody(ClassifyResponse {
        id: format!("classify-{:x}", created.as_nanosecond()),
        object: "list",
        created: created.as_second(),
        model: model.reference.name,
        data,
        usage: ClassifyUsage {
            prompt_tokens: tokens,
            total_tokens: tokens,
            completion_tokens: 0,
            prompt_tokens_details: None,
        },
    }))
}
