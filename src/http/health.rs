//! Whether the server lives and whether it can work: `/health`, `/health/live`, `/health/ready`.
//!
//! Open without a key: they say nothing about anybody's data.

use axum::{Router, extract::State, http::StatusCode, routing::get};

use super::{
    AppState,
    problem::{self, Problem},
};

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/health", get(health))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(super::metrics::metrics))
}

/// The server and its models work (as text-embeddings-inference answers it).
#[utoipa::path(get, path = "/health", tag = "operations",
    responses((status = 200, description = "Everything works"),
              (status = 503, description = "Still loading", body = super::problem::ProblemBody,
               content_type = "application/problem+json")))]
pub async fn health() -> StatusCode {
    StatusCode::OK
}

/// The process answers.
#[utoipa::path(get, path = "/health/live", tag = "operations",
    responses((status = 200, description = "The process answers")))]
pub async fn live() -> StatusCode {
    StatusCode::OK
}

/// Texts can be scored and events are being applied.
#[utoipa::path(get, path = "/health/ready", tag = "operations",
    responses((status = 200, description = "Ready for work"),
              (status = 503, description = "Still loading, stalled or shutting down",
               body = super::problem::ProblemBody, content_type = "application/problem+json")))]
pub async fn ready(State(state): State<AppState>) -> Result<StatusCode, Problem> {
    if *state.closing.borrow() {
        return Err(Problem::new(problem::SHUTTING_DOWN, "the server is shutting down"));
    }
    match state.pipeline.health().stalled {
        Some(reason) => Err(Problem::new(problem::STALLED, reason)),
        None => Ok(StatusCode::OK),
    }
}
