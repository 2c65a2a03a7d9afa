//! `GET/PUT /v1/settings/{name}`: configuration as data, versioned.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Map, Value};

use super::{
    AppState,
    auth::{Caller, scope},
    extract::{JsonText, Path, parse_json},
    layers::bytes_response,
    problem::{self, Problem, ProblemBody},
};
use crate::pipeline::Setting;

pub fn routes() -> Router<AppState> {
    Router::new().route("/v1/settings/{name}", get(setting).put(put_setting))
}

/// A settings document with its version, which is the `ETag` as well.
///
/// Names: `competitors`, `modules`, `channels`, `watchlists`, `labels`, `signals`, `routing`, `alerts`,
/// `assumptions`.
#[utoipa::path(get, path = "/v1/settings/{name}", tag = "settings",
    params(("name" = String, Path, example = "competitors")),
    responses((status = 200, description = "The settings", body = Object,
               example = json!({"version": 3, "competitors": [{"name": "Airo Networks", "aliases": ["Airo"]}]})),
              (status = 404, description = "There is no such setting", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn setting(
    caller: Caller<scope::InsightsRead>,
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    respond(&state.pipeline.setting(&caller.tenant, &name).await?)
}

/// Replaces a settings document; what it touches is recomputed in the background.
///
/// The body is that of `GET` without `version`. With `If-Match` the change is made only if the version is still that one.
#[utoipa::path(put, path = "/v1/settings/{name}", tag = "settings",
    params(("name" = String, Path, example = "competitors"),
           ("If-Match" = Option<String>, Header, description = "The `ETag` of the version that was changed")),
    request_body(content = Object,
                 example = json!({"competitors": [{"name": "Airo Networks", "aliases": ["Airo", "艾罗网络"]}]})),
    responses((status = 200, description = "The settings as they are now", body = Object),
              (status = 412, description = "The version is another one", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 422, description = "The settings do not fit; the old ones stay", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn put_setting(
    caller: Caller<scope::Admin>,
    State(state): State<AppState>,
    Path(name): Path<String>,
    headers: HeaderMap,
    JsonText(body): JsonText,
) -> Result<Response, Problem> {
    let mut body: Map<String, Value> = parse_json(&body)?;
    // What was read with GET may be sent back as it is.
    body.remove("version");
    let body = Value::Object(body).to_string();
    let _writing = state.settings_write.lock().await;
    let Some(condition) = headers.get(header::IF_MATCH) else {
        return respond(&state.pipeline.put_setting(&caller.tenant, &name, &body).await?);
    };
    let current = state.pipeline.setting(&caller.tenant, &name).await?;
    let tag = tag(&current);
    let given = condition.to_str().unwrap_or_default();
    if given.trim() != "*" && !given.split(',').any(|g| g.trim() == tag) {
        let detail = format!("{name} is at version {}, not at {given}", current.version);
        return Err(Problem::new(problem::VERSION_CONFLICT, detail));
    }
    respond(&state.pipeline.put_setting(&caller.tenant, &name, &body).await?)
}

fn tag(setting: &Setting) -> String {
    format!("\"{}\"", setting.version)
}

/// `{"version": n, ...}`
fn respond(setting: &Setting) -> Result<Response, Problem> {
    let stored: Map<String, Value> = serde_json::from_str(&setting.body)
        .map_err(|e| Problem::new(problem::INTERNAL, format!("the stored settings cannot be read: {e}")))?;
    let mut body = Map::new();
    body.insert("version".into(), setting.version.into());
    body.extend(stored);
    let mut response = bytes_response("application/json", Value::Object(body).to_string()).into_response();
    if let Ok(tag) = HeaderValue::from_str(&tag(setting)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}
