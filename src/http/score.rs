//! `POST /v1/score`: sentiment, intent, keyphrases and emotion of many texts at once.
//!
//! Each input is judged by itself: one that cannot be scored gets a problem in its own place and never fails the
//! others. The command line's `hearken score` gives the same results, through [`results`].

use std::{collections::BTreeMap, time::Duration};

use axum::{Json as JsonBody, Router, extract::State, routing::post};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    AppState,
    auth::{Caller, scope},
    extract::{Json, is_half_pair},
    problem::{self, Problem, ProblemBody},
    scored::Scored,
};
use crate::engine::{Engine, Lane, ModelRef, ScoreOptions, Tasks, Timing};

pub fn routes() -> Router<AppState> {
    Router::new().route("/v1/score", post(score))
}

/// A batch of texts to score.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreRequest {
    /// Texts, or objects with an `id` that comes back with the result.
    #[schema(value_type = Vec<ScoreInput>)]
    inputs: Vec<Box<RawValue>>,
    /// All of them where absent.
    #[serde(default)]
    #[schema(example = json!(["sentiment", "intent", "keyphrases", "emotion"]))]
    tasks: Option<Vec<Task>>,
    #[serde(default)]
    options: RequestOptions,
}

#[derive(ToSchema)]
#[schema(example = json!({"id": "a", "text": "La connexion coupe toutes les dix minutes."}))]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used: inputs are read one by one, each with its own errors")]
pub enum ScoreInput {
    Text(String),
    WithId { id: Option<String>, text: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    Sentiment,
    Intent,
    Keyphrases,
    Emotion,
}

#[derive(Default, Deserialize, Serialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RequestOptions {
    lane: RequestLane,
    /// Work that has not begun after this many milliseconds is given up with 503.
    deadline_ms: Option<u64>,
}

impl RequestOptions {
    /// Lane and deadline.
    pub fn treatment(&self) -> (Lane, Option<Duration>) {
        let lane = match self.lane {
            RequestLane::Interactive => Lane::Interactive,
            RequestLane::Bulk => Lane::Bulk,
        };
        (lane, self.deadline_ms.map(Duration::from_millis))
    }
}

/// Interactive work goes first; bulk work is never starved.
#[derive(Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestLane {
    #[default]
    Interactive,
    Bulk,
}

/// One result per input, in the same order.
#[derive(Serialize, ToSchema)]
pub struct ScoreResponse {
    results: Vec<ScoreResult>,
    /// What answered, by task.
    models: BTreeMap<&'static str, ModelBody>,
    usage: Usage,
    timing_ms: TimingBody,
}

/// The scores of an input, or why it has none.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum ScoreResult {
    Scored {
        #[schema(value_type = Option<String>)]
        id: Option<Box<RawValue>>,
        #[serde(flatten)]
        scored: Scored,
    },
    Failed {
        #[schema(value_type = Option<String>)]
        id: Option<Box<RawValue>>,
        error: ProblemBody,
    },
}

#[derive(Clone, Serialize, ToSchema)]
pub struct ModelBody {
    pub name: String,
    #[schema(example = "sha256:9f86d081884c7d65")]
    pub revision: String,
}

#[derive(Serialize, ToSchema)]
pub struct Usage {
    texts: usize,
    tokens: usize,
}

impl Usage {
    pub fn new(texts: usize, tokens: usize) -> Self {
        Usage { texts, tokens }
    }
}

/// Where the time went, in milliseconds.
#[derive(Serialize, ToSchema)]
pub struct TimingBody {
    tokenize: f64,
    queue: f64,
    forward: f64,
    total: f64,
}

impl From<ModelRef> for ModelBody {
    fn from(model: ModelRef) -> Self {
        ModelBody { name: model.name, revision: model.revision }
    }
}

impl From<Timing> for TimingBody {
    fn from(t: Timing) -> Self {
        let microseconds = |ms: f64| (ms * 1e3).round() / 1e3;
        TimingBody {
            tokenize: microseconds(t.tokenize_ms),
            queue: microseconds(t.queue_ms),
            forward: microseconds(t.forward_ms),
            total: microseconds(t.total_ms),
        }
    }
}

/// Scores texts in any mix of languages.
///
/// Inputs are plain strings or objects with an `id`. One that cannot be scored (not a text, empty, longer than
/// `text_bytes_max`) gets an `error` in its own place and never fails the others. Long texts are read in windows.
#[utoipa::path(post, path = "/v1/score", tag = "scoring", request_body = ScoreRequest,
    responses((status = 200, description = "One result per input, in order", body = ScoreResponse),
              (status = 422, description = "The request does not fit", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 429, description = "The queue is full; see `Retry-After`", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 503, description = "The deadline passed, or the server is closing", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn score(
    _caller: Caller<scope::Score>,
    State(state): State<AppState>,
    Json(request): Json<ScoreRequest>,
) -> Result<JsonBody<ScoreResponse>, Problem> {
    let limits = &state.config.limits;
    check_count(request.inputs.len(), limits.score_inputs_max)?;
    let inputs: Vec<Input> = request
        .inputs
        .iter()
        .enumerate()
        .map(|(i, raw)| Input::read(raw, &format!("/inputs/{i}"), limits.text_bytes_max))
        .collect();
    let (lane, deadline) = request.options.treatment();
    let options = ScoreOptions { tasks: wanted(request.tasks.as_deref())?, lane, deadline };
    let texts = inputs.len();
    let scored = results(&state.engine, inputs, options).await?;
    Ok(JsonBody(ScoreResponse {
        results: scored.results,
        models: scored.models,
        usage: Usage { texts, tokens: scored.tokens },
        timing_ms: scored.timing.into(),
    }))
}

/// Refuses a request without inputs or with too many.
pub fn check_count(inputs: usize, inputs_max: usize) -> Result<(), Problem> {
    if inputs == 0 {
        return Err(Problem::at(
            problem::INVALID_BODY,
            "/inputs",
            "there is nothing to score: give at least one input",
        ));
    }
    if inputs > inputs_max {
        let detail =
            format!("{inputs} inputs are more than score_inputs_max = {inputs_max}; send them in parts");
        return Err(Problem::at(problem::TOO_LARGE, "/inputs", detail));
    }
    Ok(())
}

fn wanted(tasks: Option<&[Task]>) -> Result<Tasks, Problem> {
    let Some(tasks) = tasks else { return Ok(Tasks::ALL) };
    if tasks.is_empty() {
        let detail =
            "no task is asked for; leave `tasks` out for all of sentiment, intent, keyphrases, emotion";
        return Err(Problem::at(problem::INVALID_BODY, "/tasks", detail));
    }
    Ok(tasks_of(tasks))
}

pub fn tasks_of(tasks: &[Task]) -> Tasks {
    Tasks {
        sentiment: tasks.contains(&Task::Sentiment),
        intent: tasks.contains(&Task::Intent),
        keyphrases: tasks.contains(&Task::Keyphrases),
        emotion: tasks.contains(&Task::Emotion),
    }
}

/// One input: its id, and its text or why it has none.
pub struct Input {
    id: Option<Box<RawValue>>,
    text: Result<String, Problem>,
    /// Where the text is in the request, for problems that come up later.
    pointer: String,
}

#[derive(Deserialize)]
struct InputObject<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

impl Input {
    /// Judges one element of `inputs`: a string, or an object with `text` and perhaps an `id`.
    pub fn read(raw: &RawValue, pointer: &str, text_bytes_max: usize) -> Input {
        let json = raw.get();
        let refuse = |detail: String| Problem::at(problem::INVALID_INPUT, pointer, detail);
        let (id, text, pointer) = match json.as_bytes().first() {
            Some(b'"') => (None, string(json, pointer), pointer.to_owned()),
            Some(b'{') => match serde_json::from_str::<InputObject>(json) {
                Err(error) => (None, Err(refuse(error.to_string())), pointer.to_owned()),
                Ok(object) => {
                    let (id, id_problem) = match id(object.id, pointer) {
                        Ok(id) => (id, None),
                        Err(problem) => (None, Some(problem)),
                    };
                    let at = format!("{pointer}/text");
                    let text = match (id_problem, object.text) {
                        (Some(problem), _) => Err(problem),
                        (None, None) => {
                            Err(Problem::at(problem::INVALID_INPUT, &at, "the input has no `text`"))
                        }
                        (None, Some(raw)) => string(raw.get(), &at),
                    };
                    (id, text, at)
                }
            },
            _ => {
                let detail = format!("{} stands where a text or an object with `text` belongs", kind(json));
                (None, Err(refuse(detail)), pointer.to_owned())
            }
        };
        Input { id, text: text.and_then(|t| within(t, text_bytes_max, &pointer)), pointer }
    }

    /// The id, and the text or why there is none.
    pub fn into_parts(self) -> (Option<Box<RawValue>>, Result<String, Problem>) {
        (self.id, self.text)
    }

    /// An input that did not come in a JSON request; `text` may say why there is none.
    pub fn new(id: Option<Box<RawValue>>, text: Result<String, String>, text_bytes_max: usize) -> Input {
        let text = text
            .map_err(|detail| Problem::new(problem::INVALID_INPUT, detail))
            .and_then(|t| within(t, text_bytes_max, ""));
        Input { id, text, pointer: String::new() }
    }
}

/// The text, unless it is longer than the limit allows.
pub fn within(text: String, text_bytes_max: usize, pointer: &str) -> Result<String, Problem> {
    if text.len() <= text_bytes_max {
        return Ok(text);
    }
    let detail = format!(
        "the text has {} bytes, more than text_bytes_max = {text_bytes_max}; send it in parts",
        text.len()
    );
    Err(Problem::at(problem::INVALID_INPUT, pointer, detail))
}

/// A string or a number comes back as it was given.
fn id(raw: Option<&RawValue>, pointer: &str) -> Result<Option<Box<RawValue>>, Problem> {
    let Some(raw) = raw else { return Ok(None) };
    let pointer = format!("{pointer}/id");
    match raw.get().as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => string(raw.get(), &pointer).map(|_| Some(raw.to_owned())),
        Some(b'-' | b'0'..=b'9') => Ok(Some(raw.to_owned())),
        _ => Err(Problem::at(
            problem::INVALID_INPUT,
            pointer,
            format!("{} stands where an id, a string or a number, belongs", kind(raw.get())),
        )),
    }
}

fn string(json: &str, pointer: &str) -> Result<String, Problem> {
    if !json.starts_with('"') {
        let detail = format!("{} stands where text belongs", kind(json));
        return Err(Problem::at(problem::INVALID_INPUT, pointer, detail));
    }
    serde_json::from_str(json).map_err(|error| {
        let detail = if is_half_pair(&error) {
            "the text has one half of a surrogate pair (a \\uD800 to \\uDFFF escape alone), which is no character"
                .to_owned()
        } else {
            format!("the text cannot be read: {error}")
        };
        Problem::at(problem::INVALID_INPUT, pointer, detail)
    })
}

/// What a JSON value is, in words.
fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        Some(b'"') => "a string",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        _ => "a number",
    }
}

/// Results of many inputs, and what made them.
pub struct Results {
    pub results: Vec<ScoreResult>,
    pub models: BTreeMap<&'static str, ModelBody>,
    pub tokens: usize,
    pub timing: Timing,
}

/// Scores those inputs that can be scored, and puts every result in its place.
pub async fn results(engine: &Engine, inputs: Vec<Input>, options: ScoreOptions) -> Result<Results, Problem> {
    let mut texts = Vec::with_capacity(inputs.len());
    let places: Vec<_> = inputs
        .into_iter()
        .map(|input| {
            let place = input.text.map(|text| texts.push(text));
            (input.id, place, input.pointer)
        })
        .collect();
    let reply = engine.score(texts, options).await?;
    let mut scored = reply.results.into_iter();
    let results = places
        .into_iter()
        .map(|(id, place, pointer)| {
            let scored = place.and_then(|()| match scored.next() {
                Some(result) => result.map_err(|e| problem::of_text(&e, pointer)),
                None => {
                    Err(Problem::at(problem::INTERNAL, pointer, "the engine gave no result for this input"))
                }
            });
            match scored {
                Ok(scores) => ScoreResult::Scored { id, scored: scores.into() },
                Err(problem) => ScoreResult::Failed { id, error: problem.into_body() },
            }
        })
        .collect();
    Ok(Results {
        results,
        models: reply.models.into_iter().map(|(task, model)| (task, model.into())).collect(),
        tokens: reply.tokens,
        timing: reply.timing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> (Option<String>, Result<String, String>) {
        let raw = RawValue::from_string(json.into()).unwrap();
        let input = Input::read(&raw, "/inputs/0", 20);
        let text = input.text.map_err(|p| {
            let body = p.into_body();
            format!("{} {}", body.errors[0].pointer, body.detail)
        });
        (input.id.map(|id| id.get().to_owned()), text)
    }

    #[test]
    fn inputs_are_texts_or_objects() {
        assert_eq!(read(r#""a\u00e9""#), (None, Ok("aé".into())));
        assert_eq!(read(r#"{"text":"t","id":"x","more":[1]}"#), (Some("\"x\"".into()), Ok("t".into())));
        assert_eq!(read(r#"{"text":"t","id":7}"#).0, Some("7".into()));
        assert_eq!(read(r#"{"text":"t","id":null}"#).0, None);
    }

    #[test]
    fn what_is_no_text_is_pointed_at_and_keeps_its_id() {
        for (json, id, expected) in [
            ("3", None, "/inputs/0 a number stands"),
            ("null", None, "/inputs/0 null stands"),
            (r#"{"id":"a"}"#, Some("\"a\""), "/inputs/0/text the input has no"),
            (r#"{"id":"a","text":3}"#, Some("\"a\""), "/inputs/0/text a number stands"),
            (r#"{"id":[],"text":"t"}"#, None, "/inputs/0/id a list stands"),
            (r#"{"id":"a","text":"\ud800"}"#, Some("\"a\""), "/inputs/0/text the text has one half"),
            (r#""012345678901234567890""#, None, "/inputs/0 the text has 21 bytes"),
        ] {
            let (found, text) = read(json);
            assert_eq!(found.as_deref(), id, "{json}");
            let error = text.unwrap_err();
            assert!(error.starts_with(expected), "{json}: {error}");
        }
    }
}
