//! Errors as pages: what a browser gets where a program would get a problem document.

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use maud::{Markup, html};

use super::{layout, links, panels::theirs};
use crate::{insight::event::RecordKey, pipeline::PipelineError};

/// Most bytes of a problem document that are read for its words.
const PROBLEM_BYTES_MAX: usize = 64 << 10;

/// A page that could not be made, and why, in words for the reader.
pub struct Failure {
    pub status: StatusCode,
    pub detail: String,
    pub retry_after_s: Option<u64>,
}

impl Failure {
    pub fn unknown_record(key: &RecordKey) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            detail: format!("Nothing is known of {} {}.", key.module, key.id),
            retry_after_s: None,
        }
    }

    pub fn module_disabled(module: &str) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            detail: format!("Insights are switched off for the module {module:?}."),
            retry_after_s: None,
        }
    }
}

impl From<PipelineError> for Failure {
    /// What the store said stays inside: it goes to the log, not to the reader.
    fn from(error: PipelineError) -> Self {
        let (status, detail, retry_after_s) = match &error {
            PipelineError::Query(detail) => (StatusCode::BAD_REQUEST, detail.clone(), None),
            PipelineError::Overloaded { retry_after, .. } => {
                let detail = "There is too much to do at the moment.".into();
                (StatusCode::SERVICE_UNAVAILABLE, detail, Some(retry_after.as_secs().max(1)))
            }
            PipelineError::ShuttingDown => {
                (StatusCode::SERVICE_UNAVAILABLE, "The server is shutting down.".into(), Some(5))
            }
            _ => {
                tracing::error!(%error, "a page could not be made");
                let detail = "The server failed while it made this page.".into();
                (StatusCode::INTERNAL_SERVER_ERROR, detail, None)
            }
        };
        Self { status, detail, retry_after_s }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Html(page(self.status, &self.detail).into_string())).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

pub fn page(status: StatusCode, detail: &str) -> Markup {
    let title = status.canonical_reason().unwrap_or("Error");
    layout::page(
        title,
        None,
        html! {
            section .panel .failure {
                p .kicker { (status.as_u16()) }
                h1 { (title) }
                p { (theirs(detail)) }
                form .filter method="get" action="/" role="search" {
                    label { "Look for a record" input type="search" name="q" placeholder="part of an id"; }
                    button type="submit" { "Find" }
                }
                p { a href=(links::query("/", &[])) { "All records" } }
            }
        },
    )
}

/// Turns an answer that is an error and not a page (a refused key, a query that cannot be read) into a page with the
/// same status and headers.
pub async fn as_page(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let failed = parts.status.is_client_error() || parts.status.is_server_error();
    if !failed || is_html(&parts.headers) {
        return Response::from_parts(parts, body);
    }
    let detail = words(body).await.unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let page = page(parts.status, &detail).into_string();
    Response::from_parts(parts, Body::from(page))
}

fn is_html(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/html"))
}

/// The `detail` of a problem document, or the text as it is.
async fn words(body: Body) -> Option<String> {
    let bytes = to_bytes(body, PROBLEM_BYTES_MAX).await.ok()?;
    match serde_json::from_slice::<serde_json::Value>(&bytes) {
        Ok(problem) => problem.get("detail")?.as_str().map(str::to_owned),
        Err(_) => String::from_utf8(bytes.to_vec()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn problem_documents_become_pages_that_keep_status_and_headers() {
        let refused = (
            StatusCode::UNAUTHORIZED,
            [(header::CONTENT_TYPE, "application/problem+json"), (header::WWW_AUTHENTICATE, "Bearer")],
            r#"{"status":401,"detail":"a key is <needed>"}"#,
        );
        let response = as_page(refused.into_response()).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
        assert!(is_html(response.headers()));
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        assert!(String::from_utf8_lossy(&body).contains("a key is &lt;needed&gt;"));
    }

    #[test]
    fn store_errors_do_not_reach_the_reader() {
        let failure = Failure::from(PipelineError::Store("disk /dev/sda1 is on fire".into()));
        assert_eq!(failure.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!failure.detail.contains("sda1"));
    }
}
