//! Reading requests: bodies, paths and queries, with a problem that says where and why something does not fit.
//!
//! axum's own extractors answer with plain text; these are used instead of them everywhere.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, header, request::Parts},
};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{
    AppState,
    problem::{self, Problem},
};
use crate::insight::event::json_pointer;

/// A body of type `application/json` (or `application/*+json`).
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<AppState> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let bytes = body(request, state).await?;
        parse_json(text(&bytes)?).map(Json)
    }
}

/// A JSON body as text, still unparsed.
pub struct JsonText(pub String);

impl FromRequest<AppState> for JsonText {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let bytes = body(request, state).await?;
        Ok(JsonText(text(&bytes)?.to_owned()))
    }
}

/// A body of any type, as bytes.
pub struct Raw(pub Bytes);

impl FromRequest<AppState> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        body(request, state).await.map(Raw)
    }
}

/// The parameters of a path, percent-decoded.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Path::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(value)| Path(value))
            .map_err(|e| {
                Problem::new(problem::BAD_REQUEST, format!("the path does not fit: {}", e.body_text()))
            })
    }
}

/// The query parameters.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(value)| Query(value))
            .map_err(|e| Problem::new(problem::INVALID_QUERY, e.body_text()))
    }
}

/// The media type of the body without its parameters, in lower case; empty where the header is missing.
pub fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let given = media_type(headers);
    // A body without a type is refused: browsers let any site send one, and with it whatever the reader may do.
    let is_json =
        given == "application/json" || (given.starts_with("application/") && given.ends_with("+json"));
    if is_json { Ok(()) } else { Err(unsupported(&given, &["application/json"])) }
}

pub fn unsupported(given: &str, taken: &[&str]) -> Problem {
    let detail = format!("the Content-Type is {given:?}; this route takes {}", taken.join(", "));
    Problem::new(problem::UNSUPPORTED_MEDIA_TYPE, detail)
}

/// Bytes beyond the limit that are still read and thrown away, so that a client that writes before it reads gets to
/// see the problem instead of a broken connection.
const BODY_DISCARD_BYTES_MAX: usize = 128 << 20;

/// The whole body, within `body_bytes_max` and `request_timeout_s`.
pub async fn body(request: Request, state: &AppState) -> Result<Bytes, Problem> {
    let limits = &state.config.limits;
    let wait = Duration::from_secs(limits.request_timeout_s);
    match tokio::time::timeout(wait, collect(request.into_body(), limits.body_bytes_max)).await {
        Ok(read) => read,
        Err(_) => {
            let detail =
                format!("the body did not arrive within request_timeout_s = {}", limits.request_timeout_s);
            Err(Problem::new(problem::TIMEOUT, detail))
        }
    }
}

async fn collect(body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let mut stream = body.into_data_stream();
    let mut read: Vec<u8> = Vec::new();
    let mut length = 0usize;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| {
            Problem::new(problem::BAD_REQUEST, format!("the body could not be read to its end: {e}"))
        })?;
        length += chunk.len();
        if length <= bytes_max {
            read.extend_from_slice(&chunk);
        } else {
            read = Vec::new();
            if length > bytes_max.saturating_add(BODY_DISCARD_BYTES_MAX) {
                break;
            }
        }
    }
    if length > bytes_max {
        let detail = format!("the body is larger than body_bytes_max = {bytes_max} bytes; send it in parts");
        return Err(Problem::new(problem::TOO_LARGE, detail));
    }
    Ok(read.into())
}

/// The body as text, or a problem that says at which byte it is not UTF-8.
pub fn text(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|e| {
        let detail = format!("the body is not UTF-8: byte {} does not belong there", e.valid_up_to());
        Problem::new(problem::MALFORMED_JSON, detail)
    })
}

/// Runs what would hold up other requests (reading a large body) on a thread of its own.
pub async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a request could not be read");
        Problem::new(problem::INTERNAL, "the server failed while it read this request")
    })
}

/// Reads JSON; a problem says the line and column where it is broken, or points at what does not fit.
pub fn parse_json<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let pointer = json_pointer(e.path());
        // serde_json calls a number where a name belongs a syntax error, although the body is JSON.
        if !e.inner().is_data() && serde_json::from_str::<&RawValue>(text).is_ok() && !is_half_pair(e.inner())
        {
            return Problem::at(
                problem::INVALID_BODY,
                pointer,
                format!("another type of value belongs here: {}", e.inner()),
            );
        }
        json_problem(e.into_inner(), pointer)
    })?;
    json.end().map_err(|e| json_problem(e, String::new()))?;
    Ok(value)
}

/// Whether JSON could not be read because a string escapes half a surrogate pair, as serde_json words it.
pub fn is_half_pair(error: &serde_json::Error) -> bool {
    let text = error.to_string();
    ["surrogate", "end of hex escape", "invalid unicode code point"].iter().any(|words| text.contains(words))
}

fn json_problem(error: serde_json::Error, pointer: String) -> Problem {
    if error.is_data() {
        return Problem::at(problem::INVALID_BODY, pointer, error.to_string());
    }
    let text = error.to_string();
    let advice = if is_half_pair(&error) {
        "; an escaped character beyond U+FFFF needs both halves of its pair, and one half alone is no character"
    } else if text.starts_with("EOF") {
        "; the body ends too early"
    } else {
        ""
    };
    Problem::new(problem::MALFORMED_JSON, format!("the body is not JSON: {text}{advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug)]
    struct Sample {
        #[serde(rename = "a/b")]
        _inner: Vec<u8>,
    }

    fn problem_of(text: &str) -> String {
        let problem = parse_json::<Sample>(text).unwrap_err();
        serde_json::to_string(&problem.into_body()).unwrap()
    }

    #[test]
    fn broken_json_says_where() {
        assert!(problem_of("{\n  \"a/b\": [1,\n").contains("line 3 column 0"));
        assert!(problem_of("{\"a/b\":[]} x").contains("trailing characters"));
    }

    #[test]
    fn wrong_types_are_pointed_at() {
        let problem = problem_of(r#"{"a/b":[1,"x"]}"#);
        assert!(problem.contains(r#""pointer":"/a~1b/1""#), "{problem}");
    }

    #[test]
    fn half_a_surrogate_pair_is_explained() {
        let problem = parse_json::<String>(r#""\ud83d""#).unwrap_err();
        assert!(problem.detail().contains("both halves"), "{}", problem.detail());
    }
}
