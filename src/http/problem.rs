//! Problems: every answer that is not a success is `application/problem+json` (RFC 9457), with a stable `type`.
//!
//! The list of kinds is here and nowhere else; `/docs/problems` shows it. What went wrong inside the server is logged,
//! not told.

use std::time::Duration;

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    engine::{EngineError, TextError},
    insight::event::EventError,
    pipeline::PipelineError,
};

/// A kind of problem: what stays the same whenever it comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The fragment of the `type` URI.
    pub name: &'static str,
    pub title: &'static str,
    pub status: u16,
    /// What the caller can do.
    pub advice: &'static str,
}

macro_rules! kinds {
    ($($constant:ident = $status:literal $name:literal $title:literal $advice:literal;)*) => {
        $(pub const $constant: Kind = Kind { name: $name, title: $title, status: $status, advice: $advice };)*
        /// Every kind there is.
        pub const KINDS: &[Kind] = &[$($constant),*];
    };
}

kinds! {
    MALFORMED_JSON = 400 "malformed-json" "The body is not JSON"
        "Send JSON as RFC 8259 defines it, encoded in UTF-8; `detail` says where reading stopped.";
    BAD_REQUEST = 400 "bad-request" "The request cannot be read"
        "`detail` says which part of the path, the query or a header does not fit.";
    UNAUTHORIZED = 401 "unauthorized" "An API key is needed"
        "Send `Authorization: Bearer KEY` with a key of the configuration file.";
    FORBIDDEN = 403 "forbidden" "The key may not do this"
        "Use a key that has the scope named in `detail`, or `admin`.";
    MODULE_DISABLED = 403 "module-disabled" "The module has no insights"
        "Enable it with `PUT /v1/settings/modules`.";
    NOT_FOUND = 404 "not-found" "There is nothing at this address"
        "`/docs` lists the routes.";
    UNKNOWN_RECORD = 404 "unknown-record" "Nothing is known of this record"
        "A record exists once an event names it; ids are compared character by character.";
    UNKNOWN_ACTION = 404 "unknown-action" "There is no such action"
        "A suggestion goes when its label does; `GET /v1/actions` lists what there is.";
    UNKNOWN_WEBHOOK = 404 "unknown-webhook" "There is no such webhook, or no such delivery of it"
        "`GET /v1/webhooks` lists what there is.";
    UNKNOWN_REPLAY = 404 "unknown-replay" "There is no such replay"
        "`GET /v1/replays` lists them.";
    UNKNOWN_SETTING = 404 "unknown-setting" "There is no such setting"
        "`detail` lists the names.";
    UNKNOWN_MODEL = 404 "unknown-model" "No model has this name"
        "`GET /v1/models` lists the slots and what is in them.";
    METHOD_NOT_ALLOWED = 405 "method-not-allowed" "The route does not take this method"
        "The `Allow` header lists those that it takes.";
    CONFLICT = 409 "conflict" "The request does not fit the present state"
        "`detail` says what stands in the way, and what to do about it.";
    VERSION_CONFLICT = 412 "version-conflict" "The document has changed meanwhile"
        "Read it again, repeat the change and send the new `ETag` in `If-Match`.";
    TOO_LARGE = 413 "too-large" "The request is larger than a limit"
        "Send less at once; `detail` names the limit, which the configuration can change.";
    UNSUPPORTED_MEDIA_TYPE = 415 "unsupported-media-type" "The body is of a type that this route does not take"
        "Send a `Content-Type` of those in `detail`.";
    INVALID_BODY = 422 "invalid-body" "The body does not fit"
        "`errors` points at each part that does not fit; `/openapi.json` has the schema.";
    INVALID_QUERY = 422 "invalid-query" "A query parameter does not fit"
        "`detail` says which one and what it takes.";
    INVALID_INPUT = 422 "invalid-input" "This input cannot be scored"
        "The other inputs of the request are not touched; `errors` points at the part that does not fit.";
    INVALID_EVENT = 422 "invalid-event" "This event cannot be taken"
        "The other events of the request are not touched; `errors` points at the part that does not fit.";
    EVENTS_REJECTED = 422 "events-rejected" "No event of the request could be taken"
        "`rejected` says why, event by event.";
    INVALID_SETTING = 422 "invalid-setting" "The settings do not fit"
        "The old ones stay; `errors` points at the part that does not fit.";
    MODEL_REFUSED = 422 "model-refused" "The model cannot be loaded"
        "`detail` says what does not fit; what was in the slot stays.";
    OTHER_TASK = 422 "other-task" "The model is made for another task"
        "`GET /v1/models` shows the task of each model.";
    OVERLOADED = 429 "overloaded" "The server has as much work as it can hold"
        "Try again after the seconds in `Retry-After`.";
    INTERNAL = 500 "internal" "The server failed"
        "The request was logged under its `X-Request-Id`.";
    LOADING = 503 "loading" "The server is still loading its models"
        "Try again after the seconds in `Retry-After`.";
    STALLED = 503 "stalled" "Events are not being applied"
        "`detail` says why; events are still taken and kept.";
    DEADLINE_EXCEEDED = 503 "deadline-exceeded" "The deadline passed before the work began"
        "Give it more time or use the bulk lane.";
    SHUTTING_DOWN = 503 "shutting-down" "The server is shutting down"
        "Try again after the seconds in `Retry-After`.";
    STORE_FAILED = 503 "store-failed" "The store could not be read or written"
        "Nothing of the request was kept. Check the disk; `detail` has the store's own words.";
    TIMEOUT = 503 "timeout" "The request took too long"
        "Send less at once; `detail` names the limit.";
}

/// One part of a request that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// RFC 6901 pointer into the body; empty for the whole body.
    #[schema(example = "/inputs/3/text")]
    pub pointer: String,
    pub detail: String,
}

/// RFC 9457 problem details.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Stable name of the kind, as a link.
    #[serde(rename = "type")]
    #[schema(example = "/docs/problems#invalid-body")]
    pub type_: String,
    pub title: &'static str,
    pub status: u16,
    pub detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Members that only some kinds have.
    #[serde(flatten)]
    #[schema(ignore)]
    pub members: serde_json::Map<String, serde_json::Value>,
}

/// A problem and the headers that go with it.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    body: ProblemBody,
    headers: HeaderMap,
}

/// Seconds in `Retry-After` where nothing better is known.
const RETRY_AFTER_S: u64 = 1;

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let mut headers = HeaderMap::new();
        if matches!(kind.status, 429 | 503) {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER_S.into());
        }
        let body = ProblemBody {
            type_: format!("/docs/problems#{}", kind.name),
            title: kind.title,
            status: kind.status,
            detail: detail.into(),
            errors: vec![],
            members: serde_json::Map::new(),
        };
        Problem(Box::new(Parts { body, headers }))
    }

    /// A problem with one part of the body; `detail` stands for both.
    pub fn at(kind: Kind, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let (pointer, detail) = (pointer.into(), detail.into());
        Self::new(kind, detail.clone()).with_error(pointer, detail)
    }

    pub fn with_error(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.0.body.errors.push(FieldError { pointer: pointer.into(), detail: detail.into() });
        self
    }

    /// Adds an extension member.
    pub fn with_member(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.0.body.members.insert(name.into(), value.into());
        self
    }

    pub fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    pub fn with_retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.with_header(header::RETRY_AFTER, seconds.max(1).into())
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.body.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub fn detail(&self) -> &str {
        &self.0.body.detail
    }

    /// What goes over the wire, for answers that carry problems inside.
    pub fn into_body(self) -> ProblemBody {
        self.0.body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let Parts { body, mut headers } = *self.0;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Cannot fail: strings, numbers and maps with string keys only.
        let bytes = serde_json::to_vec(&body).unwrap_or_default();
        (status, headers, bytes).into_response()
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Overloaded { retry_after, .. } | EngineError::TooLate { retry_after, .. } => {
                Problem::new(OVERLOADED, error.to_string()).with_retry_after(retry_after)
            }
            EngineError::DeadlineExceeded => Problem::new(DEADLINE_EXCEEDED, error.to_string()),
            EngineError::ShuttingDown => Problem::new(SHUTTING_DOWN, error.to_string()),
            EngineError::UnknownModel(_) => Problem::new(UNKNOWN_MODEL, error.to_string()),
            EngineError::OtherTask { .. } => Problem::new(OTHER_TASK, error.to_string()),
            other => {
                tracing::error!(error = %other, "the engine failed");
                Problem::new(INTERNAL, format!("scoring failed: {other}"))
            }
        }
    }
}

impl From<PipelineError> for Problem {
    fn from(error: PipelineError) -> Self {
        let detail = error.to_string();
        match error {
            PipelineError::Overloaded { retry_after, .. } => {
                Problem::new(OVERLOADED, detail).with_retry_after(retry_after)
            }
            PipelineError::Query(_) => Problem::new(INVALID_QUERY, detail),
            PipelineError::UnknownSetting(_) => Problem::new(UNKNOWN_SETTING, detail),
            PipelineError::Setting { pointer, .. } => Problem::at(INVALID_SETTING, pointer, detail),
            PipelineError::Body { pointer, .. } => Problem::at(INVALID_BODY, pointer, detail),
            PipelineError::Changed { .. } => Problem::new(VERSION_CONFLICT, detail),
            PipelineError::Conflict(_) => Problem::new(CONFLICT, detail),
            PipelineError::ShuttingDown => Problem::new(SHUTTING_DOWN, detail),
            PipelineError::Store(_) => {
                tracing::error!(error = %detail, "the store failed");
                Problem::new(STORE_FAILED, detail)
            }
        }
    }
}

/// The problem of one event; `base` is the pointer to its `data`.
pub fn of_event(error: EventError, base: &str) -> Problem {
    let detail = error.to_string();
    match error {
        EventError::UnknownType(_) => Problem::at(INVALID_EVENT, "/type", detail),
        EventError::Data { pointer, .. } => Problem::at(INVALID_EVENT, format!("{base}{pointer}"), detail),
    }
}

/// The problem of one text; `pointer` leads to it.
pub fn of_text(error: &TextError, pointer: String) -> Problem {
    match error {
        TextError::NotFinite => {
            tracing::error!("the model answered with numbers that are not finite");
            Problem::at(INTERNAL, pointer, error.to_string())
        }
        other => Problem::at(INVALID_INPUT, pointer, other.to_string()),
    }
}

/// The answer to a route that does not exist.
pub async fn not_found(uri: axum::http::Uri) -> Problem {
    Problem::new(NOT_FOUND, format!("there is no route {}; /docs lists them all", uri.path()))
}

/// The answer to a method that a route does not take; axum adds the `Allow` header.
pub async fn method_not_allowed(method: axum::http::Method, uri: axum::http::Uri) -> Problem {
    Problem::new(METHOD_NOT_ALLOWED, format!("{} does not take {method}", uri.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names_of_their_own() {
        let names: std::collections::BTreeSet<_> = KINDS.iter().map(|k| k.name).collect();
        assert_eq!(names.len(), KINDS.len());
    }

    #[test]
    fn waiting_is_told_in_whole_seconds_and_never_zero() {
        let header = |wait| {
            let response = Problem::new(OVERLOADED, "full").with_retry_after(wait).into_response();
            response.headers()[header::RETRY_AFTER].to_str().unwrap().to_owned()
        };
        assert_eq!(header(Duration::from_millis(1200)), "2");
        assert_eq!(header(Duration::ZERO), "1");
    }

    #[test]
    fn members_stand_beside_the_standard_ones() {
        let problem = Problem::at(INVALID_BODY, "/a~1b", "no").with_member("accepted", 3);
        let json = serde_json::to_string(&problem.into_body()).unwrap();
        assert_eq!(
            json,
            r#"{"type":"/docs/problems#invalid-body","title":"The body does not fit","status":422,"detail":"no","errors":[{"pointer":"/a~1b","detail":"no"}],"accepted":3}"#
        );
    }
}
