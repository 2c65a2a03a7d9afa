//! text-embeddings-inference: `POST /predict` on the sentiment model.
//!
//! Its forms of `inputs` are a text, a pair (a list of two texts), or a list of those, each in a list of its own. Labels
//! are the model's own. Errors are problems that also carry TEI's own `error` and `error_type`. `truncate` changes
//! nothing: long texts are read in windows and never cut.

use axum::{Json as JsonBody, Router, extract::State, routing::post};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::hugging_face::{ask, labelled};
use crate::{
    engine::{Activation, RawInput, RawTask},
    http::{
        AppState,
        auth::{Caller, scope},
        extract::Json,
        problem::{self, Problem, ProblemBody},
        score::{check_count, within},
    },
};

pub fn routes() -> Router<AppState> {
    Router::new().route("/predict", post(predict))
}

/// Texts to classify.
#[derive(Deserialize, ToSchema)]
pub struct PredictRequest {
    inputs: PredictInputs,
    /// Logits instead of probabilities.
    #[serde(default)]
    raw_scores: bool,
    /// Accepted and without effect: nothing is cut.
    #[serde(default)]
    #[allow(dead_code, reason = "part of the shape")]
    truncate: Option<bool>,
    #[serde(default)]
    #[allow(dead_code, reason = "part of the shape")]
    #[schema(example = "right")]
    truncation_direction: Option<String>,
}

/// A text, a pair of texts in a list, or a list of those, each in a list of its own.
#[derive(Deserialize, ToSchema)]
#[serde(untagged, expecting = "a text, or a list of lists with one text or two each, belongs here")]
#[schema(example = json!([["I love it"], ["It broke again"]]))]
pub enum PredictInputs {
    Single(String),
    /// One text, or a pair.
    Sequence(Vec<String>),
    Batch(Vec<Sequence>),
}

#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Sequence {
    Text(String),
    Texts(Vec<String>),
}

/// A label and its probability.
#[derive(Serialize, ToSchema)]
pub struct Prediction {
    score: f32,
    #[schema(example = "negative")]
    label: String,
}

/// One list for a text, a list of lists for a batch.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum PredictResponse {
    Single(Vec<Prediction>),
    Batch(Vec<Vec<Prediction>>),
}

/// The model in the slot `sentiment`, as text-embeddings-inference answers: every label, the likeliest first.
#[utoipa::path(post, path = "/predict", tag = "compatibility", request_body = PredictRequest,
    responses((status = 200, description = "Labels with their scores", body = PredictResponse),
              (status = 413, description = "Too many inputs", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 422, description = "An input does not fit", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 429, description = "The queue is full; see `Retry-After`", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn predict(
    _caller: Caller<scope::Score>,
    State(state): State<AppState>,
    Json(request): Json<PredictRequest>,
) -> Result<JsonBody<PredictResponse>, Problem> {
    answer(&state, request).await.map(JsonBody).map_err(in_their_words)
}

/// The slot that is asked.
const SLOT: &str = "sentiment";

async fn answer(state: &AppState, request: PredictRequest) -> Result<PredictResponse, Problem> {
    let limits = &state.config.limits;
    let (inputs, batch) = inputs(request.inputs)?;
    check_count(inputs.len(), limits.score_inputs_max)?;
    for (i, input) in inputs.iter().enumerate() {
        for text in [Some(&input.text), input.pair.as_ref()].into_iter().flatten() {
            within(text.clone(), limits.text_bytes_max, &pointer(i, batch))?;
        }
    }
    let (answers, model, _) = ask(state, SLOT, inputs, RawTask::Labels, |i| pointer(i, batch)).await?;
    let apply = request.raw_scores.then_some(Activation::Identity);
    let mut predictions: Vec<Vec<Prediction>> = answers
        .iter()
        .map(|answer| {
            let mut rows = labelled(&model, answer, apply);
            rows.sort_by(|a, b| b.1.total_cmp(&a.1));
            rows.into_iter().map(|(label, p)| Prediction { score: p as f32, label: label.into() }).collect()
        })
        .collect();
    Ok(match (batch, predictions.pop()) {
        (false, Some(only)) => PredictResponse::Single(only),
        (_, last) => {
            predictions.extend(last);
            PredictResponse::Batch(predictions)
        }
    })
}

fn pointer(i: usize, batch: bool) -> String {
    if batch { format!("/inputs/{i}") } else { "/inputs".into() }
}

/// Texts and pairs, and whether they came as a batch.
fn inputs(inputs: PredictInputs) -> Result<(Vec<RawInput>, bool), Problem> {
    match inputs {
        PredictInputs::Single(text) => Ok((vec![text.into()], false)),
        PredictInputs::Sequence(texts) if texts.is_empty() => Ok((vec![], true)),
        PredictInputs::Sequence(texts) => Ok((vec![one(texts, "/inputs".into())?], false)),
        PredictInputs::Batch(sequences) => {
            let read = |(i, sequence)| match sequence {
                Sequence::Text(text) => Ok(RawInput::from(text)),
                Sequence::Texts(texts) => one(texts, format!("/inputs/{i}")),
            };
            Ok((sequences.into_iter().enumerate().map(read).collect::<Result<_, _>>()?, true))
        }
    }
}

fn one(texts: Vec<String>, pointer: String) -> Result<RawInput, Problem> {
    let count = texts.len();
    let mut texts = texts.into_iter();
    match (texts.next(), texts.next(), texts.next()) {
        (Some(text), pair, None) => Ok(RawInput { text, pair }),
        _ => {
            let detail = format!(
                "{count} texts in one list; for a batch give each text its own list: [[\"a\"], [\"b\"]]"
            );
            Err(Problem::at(problem::INVALID_INPUT, pointer, detail))
        }
    }
}

/// Adds the members that clients of text-embeddings-inference read.
fn in_their_words(problem: Problem) -> Problem {
    let kind = match problem.status().as_u16() {
        413 | 422 => "Validation",
        429 | 503 => "Overloaded",
        _ => "Backend",
    };
    let detail = problem.detail().to_owned();
    problem.with_member("error", detail).with_member("error_type", kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts with their second parts, and whether they came as a batch.
    type Read = (Vec<(String, Option<String>)>, bool);

    fn read(json: &str) -> Result<Read, String> {
        let read = serde_json::from_str(json).map_err(|e| e.to_string())?;
        let (inputs, batch) = inputs(read).map_err(|p| p.detail().to_owned())?;
        Ok((inputs.into_iter().map(|i| (i.text, i.pair)).collect(), batch))
    }

    #[test]
    fn every_form_of_inputs_is_read() {
        let texts = |texts: &[&str]| texts.iter().map(|t| (t.to_string(), None)).collect::<Vec<_>>();
        assert_eq!(read(r#""a""#), Ok((texts(&["a"]), false)));
        assert_eq!(read(r#"["a"]"#), Ok((texts(&["a"]), false)));
        assert_eq!(read(r#"[["a"]]"#), Ok((texts(&["a"]), true)));
        assert_eq!(read(r#"[["a"],["b"]]"#), Ok((texts(&["a", "b"]), true)));
        assert_eq!(read("[]"), Ok((vec![], true)));
        let pair = ("a".to_string(), Some("b".to_string()));
        assert_eq!(read(r#"["a","b"]"#), Ok((vec![pair.clone()], false)));
        assert_eq!(read(r#"[["a","b"]]"#), Ok((vec![pair], true)));
    }

    #[test]
    fn other_things_are_refused_in_words() {
        assert!(read(r#"["a","b","c"]"#).unwrap_err().contains("own list"));
        assert!(read("[[]]").unwrap_err().contains("0 texts"));
        assert!(read("3").unwrap_err().contains("belongs here"));
    }
}
