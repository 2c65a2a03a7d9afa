//! `GET /metrics`: the process's counters and histograms in the Prometheus text format.
//!
//! The recorder is installed once per process; any room may count with the `metrics` macros.

use std::{sync::OnceLock, time::Duration};

use axum::response::Response;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::layers::bytes_response;

/// Tokens of a forward pass.
const TOKENS: &[f64] = &[8.0, 32.0, 128.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 65536.0];

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Seconds; from a document in memory to a long batch on a slow machine.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 60.0,
];

/// Installs the recorder, unless that was done before. What counts earlier than this counts for nothing.
pub fn install() {
    RECORDER.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
            .and_then(|b| b.set_buckets_for_metric(Matcher::Suffix("_tokens".into()), TOKENS))
            .ok()?;
        let handle = match builder.install_recorder() {
            Ok(handle) => handle,
            Err(error) => {
                tracing::warn!(%error, "/metrics stays empty: another recorder is installed");
                return None;
            }
        };
        metrics::describe_counter!("hearken_http_requests_total", "Requests by method, route and status");
        metrics::describe_histogram!(
            "hearken_http_request_seconds",
            metrics::Unit::Seconds,
            "Time from the head of a request to the head of its answer, by route"
        );
        Some(handle)
    });
}

/// Counts one answered request.
pub fn observe_request(method: &str, route: &str, status: u16, elapsed: Duration) {
    // A made-up method must not make a new time series.
    let method = match method {
        "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => method,
        _ => "other",
    };
    let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("status", status.to_string())];
    metrics::counter!("hearken_http_requests_total", &labels).increment(1);
    metrics::histogram!("hearken_http_request_seconds", "route" => route.to_owned()).record(elapsed);
}

/// Prometheus metrics of the server.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "Prometheus text format", content_type = "text/plain", body = String)))]
pub async fn metrics() -> Response {
    let text = RECORDER.get().and_then(Option::as_ref).map(PrometheusHandle::render).unwrap_or_default();
    bytes_response("text/plain; version=0.0.4; charset=utf-8", text)
}
