//! text-embeddings-inference: `POST /predict` on the sentiment model.
//!
//! Its forms of `inputs` are a text, a pair (a list of two texts), or a list of those, each in a list of its own. This
//! model judges single texts, so a pair is refused in words. Errors are problems that also carry TEI's own `error` and
//! `error_type`. `truncate` changes nothing: long texts are read in windows and never cut.

use axum::{Json as JsonBody, Router, extract::State, routing::post};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    engine::{Lane, ScoreOptions, Tasks},
    http::{
        AppState,
        auth::{Caller, scope},
        extract::Json,
        problem::{self, Problem, ProblemBody},
        score::{check_count, within},
        scored::ranked,
    },
    scores::{Classified, Sentiment},
};

pub fn routes() -> Router<AppState> {
    Router::new().route("/predict", post(predict))
}

/// Texts to classify.
#[derive(Deserialize, ToSchema)]
pub struct PredictRequest {
    inputs: PredictInputs,
    /// Log-probabilities instead of probabilities: logits up to a constant, from probabilities of four decimals.
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

/// A text, or a list of texts each in a list of its own.
#[derive(Deserialize, ToSchema)]
#[serde(untagged, expecting = "a text, or a list of lists with one text each, belongs here")]
#[schema(example = json!([["I love it"], ["It broke again"]]))]
pub enum PredictInputs {
    Single(String),
    /// One text; two would be a pair.
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
    label: &'static str,
}

/// One list for a text, a list of lists for a batch.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum PredictResponse {
    Single(Vec<Prediction>),
    Batch(Vec<Vec<Prediction>>),
}

/// Sentiment, as text-embeddings-inference answers it: every label, the likeliest first.
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

async fn answer(state: &AppState, request: PredictRequest) -> Result<PredictResponse, Problem> {
    let limits = &state.config.limits;
    let (texts, batch) = texts(request.inputs)?;
    check_count(texts.len(), limits.score_inputs_max)?;
    let texts = texts
        .into_iter()
        .enumerate()
        .map(|(i, text)| within(text, limits.text_bytes_max, &pointer(i, batch)))
        .collect::<Result<Vec<_>, _>>()?;
    let tasks = Tasks { sentiment: true, intent: false, keyphrases: false, emotion: false };
    let options = ScoreOptions { tasks, lane: Lane::Interactive, deadline: None };
    let reply = state.engine.score(texts, options).await?;
    let mut predictions = Vec::with_capacity(reply.results.len());
    for (i, result) in reply.results.into_iter().enumerate() {
        let sentiment = result.map_err(|e| problem::of_text(&e, pointer(i, batch)))?.sentiment;
        let sentiment =
            sentiment.ok_or_else(|| Problem::new(problem::INTERNAL, "no sentiment model is loaded"))?;
        predictions.push(labels(&sentiment, request.raw_scores));
    }
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

/// The texts, and whether they came as a batch.
fn texts(inputs: PredictInputs) -> Result<(Vec<String>, bool), Problem> {
    match inputs {
        PredictInputs::Single(text) => Ok((vec![text], false)),
        PredictInputs::Sequence(texts) if texts.is_empty() => Ok((vec![], true)),
        PredictInputs::Sequence(texts) => Ok((vec![one(texts, "/inputs".into())?], false)),
        PredictInputs::Batch(sequences) => {
            let read = |(i, sequence)| match sequence {
                Sequence::Text(text) => Ok(text),
                Sequence::Texts(texts) => one(texts, format!("/inputs/{i}")),
            };
            Ok((sequences.into_iter().enumerate().map(read).collect::<Result<_, _>>()?, true))
        }
    }
}

fn one(texts: Vec<String>, pointer: String) -> Result<String, Problem> {
    match <[String; 1]>::try_from(texts) {
        Ok([text]) => Ok(text),
        Err(texts) if texts.len() == 2 => {
            let detail = "two texts in a list are a pair, and this model judges single texts; for a batch give each \
                          text its own list: [[\"a\"], [\"b\"]]";
            Err(Problem::at(problem::INVALID_INPUT, pointer, detail))
        }
        Err(texts) => {
            let detail = format!(
                "{} texts in one list; for a batch give each text its own list: [[\"a\"], [\"b\"]]",
                texts.len()
            );
            Err(Problem::at(problem::INVALID_INPUT, pointer, detail))
        }
    }
}

fn labels(sentiment: &Classified<Sentiment>, raw: bool) -> Vec<Prediction> {
    // A probability that was rounded to zero is below half of the last decimal.
    let score = |p: f32| if raw { p.max(crate::scores::PROBABILITY_STEP / 2.0).ln() } else { p };
    ranked(sentiment).into_iter().map(|(label, p)| Prediction { label, score: score(p) }).collect()
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

    fn read(json: &str) -> Result<(Vec<String>, bool), String> {
        texts(serde_json::from_str(json).map_err(|e| e.to_string())?).map_err(|p| p.detail().to_owned())
    }

    #[test]
    fn every_form_of_inputs_is_read() {
        let owned = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect::<Vec<_>>();
        assert_eq!(read(r#""a""#), Ok((owned(&["a"]), false)));
        assert_eq!(read(r#"["a"]"#), Ok((owned(&["a"]), false)));
        assert_eq!(read(r#"[["a"]]"#), Ok((owned(&["a"]), true)));
        assert_eq!(read(r#"[["a"],["b"]]"#), Ok((owned(&["a", "b"]), true)));
        assert_eq!(read("[]"), Ok((vec![], true)));
    }

    #[test]
    fn pairs_and_other_things_are_refused_in_words() {
        assert!(read(r#"["a","b"]"#).unwrap_err().contains("pair"));
        assert!(read(r#"[["a","b"]]"#).unwrap_err().contains("pair"));
        assert!(read(r#"["a","b","c"]"#).unwrap_err().contains("own list"));
        assert!(read("3").unwrap_err().contains("belongs here"));
    }

    #[test]
    fn raw_scores_are_finite_logarithms() {
        let sentiment = Classified::new(&[1.0, 0.0, 0.0]).unwrap();
        let raw = labels(&sentiment, true);
        assert_eq!(raw[0].score, 0.0);
        assert!(raw[1].score.is_finite() && raw[1].score < -9.0);
    }
}
