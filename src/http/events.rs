//! `POST /v1/events`: CloudEvents 1.0 in structured mode: one, a batch, or one a line.
//!
//! Good events are taken even where others of the request are not; 202 means that they are on disk. Where no event
//! could be taken the answer is 422, with the same members beside those of a problem.

use axum::{
    Json as JsonBody, Router,
    body::Bytes,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::{
    AppState,
    auth::{Caller, scope},
    cloudevent,
    extract::{self, Query, media_type, parse_json},
    problem::{self, Problem, ProblemBody},
};
use crate::{
    config::Limits,
    pipeline::{IncomingEvent, telemetry::EVENTS},
};

pub fn routes() -> Router<AppState> {
    Router::new().route("/v1/events", post(events))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Parameters {
    /// `applied` answers only when every accepted event is in its documents.
    #[serde(default)]
    #[param(inline, required = false)]
    wait: Option<Wait>,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    Applied,
}

/// What became of the events of a request.
#[derive(Serialize, ToSchema)]
pub struct EventsResponse {
    accepted: usize,
    /// Known before, by `source` and `id`; they change nothing.
    duplicates: usize,
    rejected: Vec<Rejected>,
    /// Where the log stands after the last event.
    #[schema(example = "418")]
    position: String,
}

/// An event that was not taken. Pointers in the problem lead into the event.
#[derive(Serialize, ToSchema)]
pub struct Rejected {
    /// Place in the request, from 0; blank lines do not count.
    index: usize,
    problem: ProblemBody,
}

/// A CloudEvents 1.0 envelope in structured mode; `data` by `type`, see the description of the operation.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used: envelopes are read with errors of their own")]
#[schema(example = json!({
    "specversion": "1.0", "id": "em-771", "source": "mail", "type": "voc.interaction.received.v1",
    "time": "2026-03-02T09:14:07Z",
    "data": {"record": {"module": "contact", "id": "554023000125"}, "channel": "email", "direction": "inbound",
             "text": "The line has been down since Monday and nobody calls back."}
}))]
pub struct CloudEvent {
    /// `1.0`
    specversion: String,
    /// Together with `source` it names the event for ever.
    id: String,
    source: String,
    #[schema(rename = "type")]
    r#type: String,
    /// RFC 3339; the time of receipt where absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    time: Option<String>,
    #[schema(value_type = Object)]
    data: (),
}

/// Takes events: durable before the answer, each exactly once.
///
/// The body is one event (`application/cloudevents+json`), a list (`application/cloudevents-batch+json`) or one event
/// a line (`application/x-ndjson`); `application/json` is read as one of the first two by its first character.
/// Events that do not fit are listed in `rejected` while the others are taken (202). Where none could be taken the
/// answer is 422: a problem that has the same members. A repeat of `source` and `id` is a duplicate and changes
/// nothing, unless its `data.revision` is higher.
#[utoipa::path(post, path = "/v1/events", tag = "events", params(Parameters),
    request_body(content((CloudEvent = "application/cloudevents+json"),
                         (Vec<CloudEvent> = "application/cloudevents-batch+json"),
                         (String = "application/x-ndjson"))),
    responses((status = 202, description = "The accepted events are on disk", body = EventsResponse),
              (status = 413, description = "More than a limit allows", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 422, description = "No event could be taken", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 429, description = "The backlog is full; see `Retry-After`", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn events(
    caller: Caller<scope::Ingest>,
    Query(parameters): Query<Parameters>,
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, Problem> {
    let form = Form::of(&media_type(request.headers()))?;
    let body = extract::body(request, &state).await?;
    let config = state.config.clone();
    let read = extract::off_thread(move || read(form, &body, &config.limits, Timestamp::now())).await??;
    metrics::counter!(EVENTS, "outcome" => "rejected").increment(read.rejected.len() as u64);
    let wait = matches!(parameters.wait, Some(Wait::Applied));
    if read.good.is_empty() {
        let position = state.pipeline.health().logged.to_string();
        return Ok(all_rejected(read, position).into_response());
    }
    let ingested = state.pipeline.ingest(&caller.tenant, read.good, wait).await?;
    let response = EventsResponse {
        accepted: ingested.accepted,
        duplicates: ingested.duplicates,
        rejected: read.rejected,
        position: ingested.position.to_string(),
    };
    Ok((StatusCode::ACCEPTED, JsonBody(response)).into_response())
}

/// A lone event's own problem, or one for all of them; with the members of the usual answer.
fn all_rejected(read: Read, position: String) -> Problem {
    let rejected = serde_json::to_value(&read.rejected).unwrap_or_default();
    let problem = match (read.single, read.first_problem) {
        (true, Some(problem)) => problem,
        _ => {
            let detail =
                format!("none of {} events could be taken; `rejected` says why", read.rejected.len());
            Problem::new(problem::EVENTS_REJECTED, detail)
        }
    };
    problem
        .with_member("accepted", 0)
        .with_member("duplicates", 0)
        .with_member("rejected", rejected)
        .with_member("position", position)
}

/// How a body holds its events.
#[derive(Clone, Copy)]
enum Form {
    One,
    Batch,
    Lines,
    /// One or a batch, by the first character.
    Json,
}

impl Form {
    fn of(media_type: &str) -> Result<Form, Problem> {
        const TAKEN: &[&str] = &[
            "application/cloudevents+json",
            "application/cloudevents-batch+json",
            "application/x-ndjson",
            "application/json",
        ];
        match media_type {
            "application/cloudevents+json" => Ok(Form::One),
            "application/cloudevents-batch+json" => Ok(Form::Batch),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Form::Lines),
            "application/json" => Ok(Form::Json),
            other => Err(extract::unsupported(other, TAKEN)),
        }
    }
}

/// The events of a body, the good and the others.
struct Read {
    good: Vec<IncomingEvent>,
    rejected: Vec<Rejected>,
    first_problem: Option<Problem>,
    single: bool,
}

impl Read {
    fn take(&mut self, index: usize, event: Result<IncomingEvent, Problem>) {
        match event {
            Ok(event) => self.good.push(event),
            Err(problem) => {
                self.rejected.push(Rejected { index, problem: problem.clone().into_body() });
                self.first_problem.get_or_insert(problem);
            }
        }
    }
}

fn read(form: Form, body: &Bytes, limits: &Limits, received_at: Timestamp) -> Result<Read, Problem> {
    let mut read = Read { good: vec![], rejected: vec![], first_problem: None, single: false };
    let event = |json: &str| cloudevent::read(json, limits.event_bytes_max, received_at);
    let form = match form {
        Form::Json if body.trim_ascii_start().starts_with(b"[") => Form::Batch,
        Form::Json => Form::One,
        other => other,
    };
    match form {
        Form::Lines => {
            let lines = body.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty());
            for (index, line) in lines.enumerate() {
                check_count(index + 1, limits)?;
                read.take(index, extract::text(line).and_then(event));
            }
        }
        Form::Batch => {
            let elements: Vec<&RawValue> = parse_json(extract::text(body)?)?;
            check_count(elements.len(), limits)?;
            for (index, element) in elements.iter().enumerate() {
                read.take(index, event(element.get()));
            }
        }
        Form::One | Form::Json => {
            read.single = true;
            // Broken JSON is the request's problem, not the event's.
            let element: &RawValue = parse_json(extract::text(body)?)?;
            read.take(0, event(element.get()));
        }
    }
    if read.good.is_empty() && read.rejected.is_empty() {
        return Err(Problem::at(problem::INVALID_BODY, "", "there are no events in the body"));
    }
    Ok(read)
}

fn check_count(events: usize, limits: &Limits) -> Result<(), Problem> {
    if events <= limits.events_batch_max {
        return Ok(());
    }
    let detail =
        format!("more than events_batch_max = {} events; send them in parts", limits.events_batch_max);
    Err(Problem::new(problem::TOO_LARGE, detail))
}
