//! What happens around every request: its id and span, its place in the metrics, compression, panics and time.
//!
//! Nothing here knows what a route does.

use std::{
    any::Any,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer,
        predicate::{Predicate, SizeAbove},
    },
};
use tracing::Instrument;

use super::{
    AppState,
    problem::{self, Problem},
};

/// Answers smaller than this are not worth compressing.
const COMPRESS_BYTES_MIN: u16 = 1024;

/// Puts the layers that every route has around `routes`.
pub fn around<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    let compression = CompressionLayer::new()
        .gzip(true)
        .compress_when(SizeAbove::new(COMPRESS_BYTES_MIN).and(Compressible));
    routes
        .layer(CatchPanicLayer::custom(panicked))
        .layer(compression)
        .layer(from_fn(weaken_tag))
        .layer(from_fn(observe))
}

/// Gives up on handlers that take longer than `request_timeout_s`.
pub fn in_time(routes: Router<AppState>, state: &AppState) -> Router<AppState> {
    routes.layer(from_fn_with_state(state.clone(), time_out))
}

async fn time_out(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let seconds = state.config.limits.request_timeout_s;
    match tokio::time::timeout(Duration::from_secs(seconds), next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(problem::TIMEOUT, format!("no answer within request_timeout_s = {seconds}"))
            .into_response(),
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic = said, "a handler panicked");
    Problem::new(problem::INTERNAL, "the server failed while it handled this request").into_response()
}

/// JSON and HTML; never an event stream, whose events would sit in the compressor.
#[derive(Clone, Copy)]
struct Compressible;

impl Predicate for Compressible {
    fn should_compress<B>(&self, response: &axum::http::Response<B>) -> bool
    where
        B: axum::body::HttpBody,
    {
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        kind.contains("json") || kind.starts_with("text/html")
    }
}

/// A strong entity tag names exact bytes; compressed ones are others.
async fn weaken_tag(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if headers.contains_key(header::CONTENT_ENCODING)
        && let Some(tag) = headers.get(header::ETAG).and_then(|t| t.to_str().ok())
        && tag.starts_with('"')
        && let Ok(weak) = HeaderValue::from_str(&format!("W/{tag}"))
    {
        headers.insert(header::ETAG, weak);
    }
    response
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_BYTES_MAX: usize = 128;

async fn observe(request: Request, next: Next) -> Response {
    let start = Instant::now();
    let id = request_id(request.headers());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", |p| p.as_str()).to_owned();
    let method = request.method().clone();
    let trace = request.headers().get("traceparent").and_then(|v| v.to_str().ok()).and_then(Trace::parse);
    let span = tracing::info_span!(
        "request",
        id = %id.to_str().unwrap_or_default(),
        %method,
        route,
        path = request.uri().path(),
        trace_id = trace.as_ref().map(|t| t.id),
        parent_id = trace.as_ref().map(|t| t.parent),
    );
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    let elapsed = start.elapsed();
    super::metrics::observe_request(method.as_str(), &route, status, elapsed);
    span.in_scope(|| tracing::info!(status, ms = elapsed.as_secs_f64() * 1e3, "answered"));
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The caller's own id where it is a sane one, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    if let Some(id) = headers.get(REQUEST_ID)
        && (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
        && id.as_bytes().iter().all(u8::is_ascii_graphic)
    {
        return id.clone();
    }
    static PROCESS: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| RandomState::new().hash_one(0));
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // Cannot fail: hexadecimal digits and a hyphen.
    HeaderValue::from_str(&format!("{:016x}-{count:x}", *PROCESS)).unwrap_or(HeaderValue::from_static("-"))
}

/// The caller's place in a distributed trace, by W3C Trace Context: `00-TRACE-PARENT-FLAGS`.
struct Trace<'a> {
    id: &'a str,
    parent: &'a str,
}

impl<'a> Trace<'a> {
    fn parse(header: &'a str) -> Option<Trace<'a>> {
        let mut parts = header.trim().split('-');
        let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |s: &str, length: usize| {
            s.len() == length && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let named = |s: &str| s.bytes().any(|b| b != b'0');
        let good = hex(version, 2) && version != "ff" && hex(id, 32) && hex(parent, 16) && hex(flags, 2);
        (good && named(id) && named(parent)).then_some(Trace { id, parent })
    }
}

/// A body that is already there.
pub fn bytes_response(kind: &'static str, bytes: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], bytes.into()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent_is_taken_only_in_its_own_form() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(Trace::parse(good).unwrap().parent, "00f067aa0ba902b7");
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        ] {
            assert!(Trace::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_request_keeps_a_sane_id_and_gets_one_otherwise() {
        let with = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, id.parse().unwrap());
            request_id(&headers)
        };
        assert_eq!(with("abc-1"), "abc-1");
        assert_ne!(with("a b"), "a b");
        assert_ne!(with(&"x".repeat(129)), with(&"x".repeat(129)));
    }
}
