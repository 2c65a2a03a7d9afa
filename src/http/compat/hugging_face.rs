//! `POST /models/NAME`: what Hugging Face's `InferenceClient` asks of a model, by the model's own task.
//!
//! Text and pair classification, token classification, zero-shot classification (a model trained for inference that is
//! given `candidate_labels`), feature extraction and sentence similarity. Answers have the shapes and the scores of the
//! pipelines of `transformers`; long texts are read in windows instead of being cut.

use axum::{Json as JsonBody, Router, extract::State, routing::post};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{
    engine::{
        Activation, Aggregation, HeadTask, Lane, ModelInfo, Pooling, RawAnswer, RawInput, RawOutput, RawTask,
        ZeroShot,
    },
    http::{
        AppState,
        auth::{Caller, scope},
        extract::{Json, Path},
        problem::{self, Problem, ProblemBody},
        score::{check_count, within},
    },
};

pub fn routes() -> Router<AppState> {
    Router::new().route("/models/{*name}", post(infer))
}

/// Inputs of a model, and parameters of its task.
#[derive(Deserialize, ToSchema)]
pub struct InferenceRequest {
    /// A text, a list of texts, `{"text", "text_pair"}`, or `{"source_sentence", "sentences"}`.
    #[schema(example = "It broke again")]
    inputs: Value,
    #[serde(default)]
    parameters: Parameters,
}

/// Parameters of all tasks; those of other tasks have no effect.
#[derive(Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
pub struct Parameters {
    /// Text classification: how many labels; all where absent.
    top_k: Option<usize>,
    /// Text classification: `softmax`, `sigmoid` or `none`.
    function_to_apply: Option<String>,
    /// Token classification: `none`, `simple`, `first`, `average` or `max`.
    aggregation_strategy: Option<String>,
    ignore_labels: Option<Vec<String>>,
    /// Zero-shot classification.
    candidate_labels: Option<CandidateLabels>,
    hypothesis_template: Option<String>,
    multi_label: Option<bool>,
    /// Feature extraction: vectors of length 1.
    normalize: Option<bool>,
    /// Feature extraction: one vector for a text, `cls` or `mean`.
    pooling: Option<String>,
}

/// A list, or names with commas between.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(untagged)]
pub enum CandidateLabels {
    List(Vec<String>),
    Text(String),
}

/// One answer for one input, a list of them for a list.
#[utoipa::path(post, path = "/models/{name}", tag = "compatibility", request_body = InferenceRequest,
    params(("name" = String, Path, description = "A slot or a model's name, which may have a slash in it",
            example = "sentiment")),
    responses((status = 200, description = "As the pipeline of the model's task answers", body = Value),
              (status = 404, description = "No model has this name", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 422, description = "An input or a parameter does not fit", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 429, description = "The queue is full; see `Retry-After`", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn infer(
    _caller: Caller<scope::Score>,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Json(request): Json<InferenceRequest>,
) -> Result<JsonBody<Value>, Problem> {
    answer(&state, &name, request).await.map(JsonBody).map_err(|problem| {
        let detail = problem.detail().to_owned();
        problem.with_member("error", detail)
    })
}

async fn answer(state: &AppState, name: &str, request: InferenceRequest) -> Result<Value, Problem> {
    let model = state
        .engine
        .model(name)
        .ok_or_else(|| Problem::new(problem::UNKNOWN_MODEL, format!("no model is named {name:?}")))?;
    let InferenceRequest { inputs, parameters } = request;
    match model.task {
        HeadTask::TextClassification if parameters.candidate_labels.is_some() => {
            zero_shot(state, name, inputs, parameters).await
        }
        HeadTask::TextClassification => classify(state, name, inputs, &parameters).await,
        HeadTask::TokenClassification => entities(state, name, inputs, &parameters).await,
        HeadTask::Embedding if inputs.get("source_sentence").is_some() => {
            similarity(state, name, &inputs).await
        }
        HeadTask::Embedding => features(state, &model, name, inputs, &parameters).await,
    }
}

/// Texts or pairs, and whether they came as a list.
struct Inputs {
    inputs: Vec<RawInput>,
    many: bool,
}

impl Inputs {
    fn read(inputs: Value, state: &AppState) -> Result<Self, Problem> {
        let (items, many) = match inputs {
            Value::Array(items) => (items, true),
            one => (vec![one], false),
        };
        let limits = &state.config.limits;
        check_count(items.len(), limits.score_inputs_max)?;
        let pointer = |i: usize| if many { format!("/inputs/{i}") } else { "/inputs".into() };
        let inputs = items
            .into_iter()
            .enumerate()
            .map(|(i, item)| one(item, &pointer(i), limits.text_bytes_max))
            .collect::<Result<_, _>>()?;
        Ok(Self { inputs, many })
    }

    fn texts(self) -> Result<(Vec<String>, bool), Problem> {
        match self.inputs.iter().position(|i| i.pair.is_some()) {
            Some(i) => Err(Problem::at(
                problem::INVALID_INPUT,
                format!("/inputs/{i}"),
                "this task takes single texts",
            )),
            None => Ok((self.inputs.into_iter().map(|i| i.text).collect(), self.many)),
        }
    }
}

fn one(item: Value, pointer: &str, text_bytes_max: usize) -> Result<RawInput, Problem> {
    let refuse = || {
        let detail = "a text, or an object with `text` and perhaps `text_pair`, belongs here";
        Problem::at(problem::INVALID_INPUT, pointer, detail)
    };
    let (text, pair) = match item {
        Value::String(text) => (text, None),
        Value::Object(mut object) => {
            let mut take = |key: &str| match object.remove(key) {
                Some(Value::String(text)) => Ok(Some(text)),
                Some(Value::Null) | None => Ok(None),
                Some(_) => Err(refuse()),
            };
            (take("text")?.ok_or_else(refuse)?, take("text_pair")?)
        }
        _ => return Err(refuse()),
    };
    let pair = pair.map(|pair| within(pair, text_bytes_max, pointer)).transpose()?;
    Ok(RawInput { text: within(text, text_bytes_max, pointer)?, pair })
}

/// Answers of a model, each a problem that points at its input where it has none.
pub async fn ask(
    state: &AppState,
    name: &str,
    inputs: Vec<RawInput>,
    task: RawTask,
    pointer: impl Fn(usize) -> String,
) -> Result<(Vec<RawAnswer>, ModelInfo, usize), Problem> {
    let reply = state.engine.ask(name, inputs, task, Lane::Interactive, None).await?;
    let answers = reply
        .results
        .into_iter()
        .enumerate()
        .map(|(i, result)| result.map_err(|e| problem::of_text(&e, pointer(i))))
        .collect::<Result<_, _>>()?;
    Ok((answers, reply.model, reply.tokens))
}

fn pointer(many: bool) -> impl Fn(usize) -> String {
    move |i| if many { format!("/inputs/{i}") } else { "/inputs".into() }
}

async fn classify(
    state: &AppState,
    name: &str,
    inputs: Value,
    parameters: &Parameters,
) -> Result<Value, Problem> {
    let Inputs { inputs, many } = Inputs::read(inputs, state)?;
    let apply = match parameters.function_to_apply.as_deref() {
        None => None,
        Some("softmax") => Some(Activation::Softmax),
        Some("sigmoid") => Some(Activation::Sigmoid),
        Some("none") => Some(Activation::Identity),
        Some(other) => {
            let detail = format!("{other:?} is none of softmax, sigmoid, none");
            return Err(Problem::at(problem::INVALID_BODY, "/parameters/function_to_apply", detail));
        }
    };
    let (answers, model, _) = ask(state, name, inputs, RawTask::Labels, pointer(many)).await?;
    let rows: Vec<Value> = answers
        .into_iter()
        .map(|answer| {
            let mut rows = labelled(&model, &answer, apply);
            rows.sort_by(|a, b| b.1.total_cmp(&a.1));
            rows.truncate(parameters.top_k.unwrap_or(usize::MAX));
            rows.into_iter().map(|(label, score)| json!({"label": label, "score": score})).collect()
        })
        .collect();
    // For one text too there is a list around it: the client takes its first element.
    Ok(Value::Array(rows))
}

/// Labels of a model with their scores, in its order.
pub fn labelled<'m>(
    model: &'m ModelInfo,
    answer: &RawAnswer,
    apply: Option<Activation>,
) -> Vec<(&'m str, f64)> {
    let RawOutput::Labels { logits, probabilities } = &answer.output else { return Vec::new() };
    let widened = || logits.iter().map(|l| f64::from(*l));
    let scores: Vec<f64> = match apply {
        None => probabilities.clone(),
        Some(Activation::Identity) => widened().collect(),
        Some(Activation::Sigmoid) => widened().map(|l| 1.0 / (1.0 + (-l).exp())).collect(),
        Some(Activation::Softmax) => {
            let max = widened().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = widened().map(|l| (l - max).exp()).sum();
            widened().map(|l| (l - max).exp() / sum).collect()
        }
    };
    model.labels.iter().map(String::as_str).zip(scores).collect()
}

async fn entities(
    state: &AppState,
    name: &str,
    inputs: Value,
    parameters: &Parameters,
) -> Result<Value, Problem> {
    let aggregation = match parameters.aggregation_strategy.as_deref() {
        // What the hub's own inference servers use where nothing is said.
        None | Some("simple") => Aggregation::Simple,
        Some("none") => Aggregation::None,
        Some("first") => Aggregation::First,
        Some("average") => Aggregation::Average,
        Some("max") => Aggregation::Max,
        Some(other) => {
            let detail = format!("{other:?} is none of none, simple, first, average, max");
            return Err(Problem::at(problem::INVALID_BODY, "/parameters/aggregation_strategy", detail));
        }
    };
    let (texts, many) = Inputs::read(inputs, state)?.texts()?;
    let inputs = texts.into_iter().map(Into::into).collect();
    let (answers, _, _) = ask(state, name, inputs, RawTask::Entities(aggregation), pointer(many)).await?;
    let ignored =
        |label: &str| parameters.ignore_labels.as_ref().is_some_and(|l| l.iter().any(|i| i == label));
    let mut rows: Vec<Value> = answers
        .into_iter()
        .map(|answer| {
            let RawOutput::Entities(found) = answer.output else { return Value::Array(Vec::new()) };
            let rows = found.into_iter().filter(|e| !ignored(&e.label)).map(|e| match e.index {
                Some(index) => json!({"entity": e.label, "score": e.score, "index": index, "word": e.word,
                                      "start": e.start, "end": e.end}),
                None => json!({"entity_group": e.label, "score": e.score, "word": e.word,
                               "start": e.start, "end": e.end}),
            });
            Value::Array(rows.collect())
        })
        .collect();
    Ok(if many { Value::Array(rows) } else { rows.pop().unwrap_or_default() })
}

async fn zero_shot(
    state: &AppState,
    name: &str,
    inputs: Value,
    parameters: Parameters,
) -> Result<Value, Problem> {
    let labels = match parameters.candidate_labels {
        Some(CandidateLabels::List(labels)) => labels,
        Some(CandidateLabels::Text(text)) => text.split(',').map(|l| l.trim().to_owned()).collect(),
        None => Vec::new(),
    };
    let (texts, many) = Inputs::read(inputs, state)?.texts()?;
    check_count(texts.len().saturating_mul(labels.len().max(1)), state.config.limits.score_inputs_max)?;
    let question =
        ZeroShot::new(labels, parameters.hypothesis_template, parameters.multi_label.unwrap_or(false))
            .map_err(|e| Problem::at(problem::INVALID_BODY, "/parameters", e.to_string()))?;
    let reply = state.engine.zero_shot(name, texts, &question, Lane::Interactive, None).await?;
    let point = pointer(many);
    let mut rows = Vec::with_capacity(reply.results.len());
    for (i, result) in reply.results.into_iter().enumerate() {
        let result = result.map_err(|e| problem::of_text(&e, point(i)))?;
        let mut scored: Vec<(&String, f64)> = question.labels().iter().zip(result.scores).collect();
        scored.sort_by(|a, b| b.1.total_cmp(&a.1));
        rows.push(scored.into_iter().map(|(label, score)| json!({"label": label, "score": score})).collect());
    }
    Ok(if many { Value::Array(rows) } else { rows.pop().unwrap_or_default() })
}

async fn features(
    state: &AppState,
    model: &ModelInfo,
    name: &str,
    inputs: Value,
    parameters: &Parameters,
) -> Result<Value, Problem> {
    let pooling = match parameters.pooling.as_deref() {
        None => None,
        Some("cls") => Some(Pooling::First),
        Some("mean") => Some(Pooling::MeanWithSpecial),
        Some(other) => {
            let detail = format!("{other:?} is none of cls, mean");
            return Err(Problem::at(problem::INVALID_BODY, "/parameters/pooling", detail));
        }
    };
    let (texts, many) = Inputs::read(inputs, state)?.texts()?;
    let inputs = texts.into_iter().map(Into::into).collect();
    let normalize = parameters.normalize.unwrap_or(false);
    // One vector for a text where the model was made for that, or where the request asks for it; else one a token.
    let task = if model.pools || pooling.is_some() || normalize {
        RawTask::Embedding { pooling, normalize }
    } else {
        RawTask::TokenEmbeddings
    };
    let (answers, _, _) = ask(state, name, inputs, task, pointer(many)).await?;
    let mut rows: Vec<Value> = answers
        .into_iter()
        .map(|answer| match answer.output {
            RawOutput::Embedding(vector) => json!(vector),
            // A batch of one around the tokens, as the pipeline has it.
            RawOutput::TokenEmbeddings(vectors) => json!([vectors]),
            _ => Value::Null,
        })
        .collect();
    Ok(if many { Value::Array(rows) } else { rows.pop().unwrap_or_default() })
}

/// Cosine similarity of a sentence to others.
async fn similarity(state: &AppState, name: &str, inputs: &Value) -> Result<Value, Problem> {
    let source = inputs["source_sentence"].clone();
    let others = inputs["sentences"].as_array().cloned().unwrap_or_default();
    let all = Value::Array([source].into_iter().chain(others).collect());
    let (texts, _) = Inputs::read(all, state)?.texts()?;
    let inputs = texts.into_iter().map(Into::into).collect();
    let task = RawTask::Embedding { pooling: None, normalize: true };
    let (answers, _, _) = ask(state, name, inputs, task, |i| match i {
        0 => "/inputs/source_sentence".into(),
        i => format!("/inputs/sentences/{}", i - 1),
    })
    .await?;
    let vectors: Vec<Vec<f32>> = answers
        .into_iter()
        .filter_map(|a| match a.output {
            RawOutput::Embedding(vector) => Some(vector),
            _ => None,
        })
        .collect();
    let Some((source, others)) = vectors.split_first() else { return Ok(json!([])) };
    let dot =
        |other: &Vec<f32>| source.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    Ok(others.iter().map(dot).collect())
}
