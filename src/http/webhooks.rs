//! Webhooks: the endpoints that alerts go to, how their deliveries are doing, tests and resends. All of it needs `admin`.

use axum::{
    Json as JsonBody, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    AppState,
    auth::{Caller, scope},
    extract::{Json, Path, Query},
    problem::{self, Problem, ProblemBody},
    records::PageBody,
};
use crate::pipeline::{Delivery, OVERLAP_HOURS, Webhook, WebhookPatch};

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/v1/webhooks", get(webhooks).post(create_webhook))
        .route("/v1/webhooks/{id}", get(webhook).patch(change_webhook).delete(delete_webhook))
        .route("/v1/webhooks/{id}/test", post(test_webhook))
        .route("/v1/webhooks/{id}/secret", post(rotate_secret))
        .route("/v1/webhooks/{id}/deliveries", get(deliveries))
        .route("/v1/webhooks/{id}/deliveries/{alert}/resend", post(resend))
}

/// A new endpoint.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWebhook {
    #[schema(example = "https://crm.example.com/hooks/hearken")]
    url: String,
    #[serde(default)]
    description: Option<String>,
    /// CloudEvents types to send; all where empty.
    #[serde(default)]
    #[schema(example = json!(["hearken.alert.label_raised.v1"]))]
    event_types: Vec<String>,
    /// Only what these teams own; all where empty.
    #[serde(default)]
    teams: Vec<String>,
    /// `whsec_` and 24 to 64 bytes in base64; one is made where absent.
    #[serde(default)]
    secret: Option<String>,
}

/// What changes; absent fields stay.
#[derive(Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
pub struct WebhookChange {
    url: Option<String>,
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    event_types: Option<Vec<String>>,
    teams: Option<Vec<String>>,
    /// True also revives an endpoint that was disabled by its 410.
    enabled: Option<bool>,
}

/// Tells null from absent.
fn said<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(value).map(Some)
}

/// An endpoint.
#[derive(Serialize, ToSchema)]
pub struct WebhookBody {
    id: String,
    url: String,
    description: Option<String>,
    event_types: Vec<String>,
    teams: Vec<String>,
    enabled: bool,
    /// Why the server has disabled it.
    disabled_reason: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Until when the secret before the present one signs too.
    #[schema(value_type = Option<String>, format = DateTime)]
    previous_secret_until: Option<Timestamp>,
    /// Only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl WebhookBody {
    fn of(webhook: Webhook, secret: Option<String>) -> Self {
        WebhookBody {
            id: webhook.id,
            url: webhook.url,
            description: webhook.description,
            event_types: webhook.event_types,
            teams: webhook.teams,
            enabled: webhook.enabled,
            disabled_reason: webhook.disabled_reason,
            created_at: webhook.created_at,
            previous_secret_until: webhook.previous_secret_until,
            secret,
        }
    }
}

fn unknown(id: &str) -> Problem {
    Problem::new(problem::UNKNOWN_WEBHOOK, format!("there is no webhook {id:?}"))
}

/// Adds an endpoint that alerts are sent to.
///
/// Each delivery is a `POST` of a CloudEvent (`application/cloudevents+json`), signed as Standard Webhooks 1.0 has it
/// (`webhook-id`, `webhook-timestamp`, `webhook-signature`). 2xx ends it, 410 disables the endpoint, anything else is
/// tried again with growing pauses. The `secret` is told here and never again.
#[utoipa::path(post, path = "/v1/webhooks", tag = "webhooks", request_body = NewWebhook,
    responses((status = 201, description = "The endpoint and its secret", body = WebhookBody),
              (status = 422, description = "The body does not fit", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn create_webhook(
    caller: Caller<scope::Admin>,
    State(state): State<AppState>,
    Json(new): Json<NewWebhook>,
) -> Result<Response, Problem> {
    let patch = WebhookPatch {
        url: Some(new.url),
        description: Some(new.description),
        event_types: Some(new.event_types),
        teams: Some(new.teams),
        enabled: None,
    };
    let (webhook, secret) = state.pipeline.create_webhook(&caller.tenant, patch, new.secret).await?;
    Ok((StatusCode::CREATED, JsonBody(WebhookBody::of(webhook, Some(secret)))).into_response())
}

/// The endpoints, without their secrets.
#[utoipa::path(get, path = "/v1/webhooks", tag = "webhooks",
    responses((status = 200, description = "All of them", body = PageBody<WebhookBody>)))]
pub async fn webhooks(
    caller: Caller<scope::Admin>,
    State(state): State<AppState>,
) -> Result<JsonBody<PageBody<WebhookBody>>, Problem> {
    let webhooks = state.pipeline.webhooks(&caller.tenant).await?;
    let items = webhooks.into_iter().map(|webhook| WebhookBody::of(webhook, None)).collect();
    Ok(JsonBody(PageBody { items, next: None }))
}

/// One endpoint.
#[utoipa::path(get, path = "/v1/webhooks/{id}", tag = "webhooks", params(("id" = String, Path)),
    responses((status = 200, description = "The endpoint", body = WebhookBody),
              (status = 404, description = "There is none of this id", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn webhook(
    caller: Caller<scope::Admin>,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<JsonBody<WebhookBody>, Problem> {
    let webhooks = state.pipeline.webhooks(&caller.tenant).await?;
    let found = webhooks.into_iter().find(|webhook| webhook.id == id).ok_or_else(|| unknown(&id))?;
    Ok(JsonBody(WebhookBody::of(found, None)))
}

/// Changes an endpoint.
#[utoipa::path(patch, path = "/v1/webhooks/{id}", tag = "webhooks", params(("id" = String, Path)),
    request_body(content = WebhookChange, example = json!({"enabled": true})),
    responses((status = 200, description = "The endpoint as it is now", body = WebhookBody),
              (status = 404, description = "There is none of this id", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn change_webhook(
    caller: Caller<scope::Admin>,
    State(state): State<AppState>,
    Path(id): Path<String>,
    Json(change): Json<WebhookChange>,
) -> Result<JsonBody<WebhookBody>, Problem> {
    let patch = WebhookPatch {
        url: change.url,
        description: change.description,
        event_types: change.event_types,
        teams: change.teams,
        enabled: change.enabled,
    };
    let changed = state.pipeline.change_webhook(&caller.tenant, &id, patch).await?;
    Ok(JsonBody(WebhookBody::of(changed.ok_or_else(|| unknown(&id))?, None)))
}

/// Deletes an endpoint and what waits for it.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", tag = "webhooks", params(("id" = String, Path)),
    responses((status = 204, description = "It is gone"),
              (status = 404, description = "There is none of this id", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn delete_webhook(
    caller: Caller<scope::Admin>,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    if state.pipeline.delete_webhook(&caller.tenant, &id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown(&id))
    }
}

/// The event that is on its way.
#[derive(Serialize, ToSchema)]
pub struct TestBody {
    /// Its `webhook-id`.
    id: String,
}

/// Sends a test event (`hearken.webhook.test.v1`); `/deliveries` shows what came of it.
#[utoipa::path(post, path = "/v1/webhooks/{id}/test", tag = "webhooks", params(("id" = String, Path)),
    responses((status = 202, description = "It is in the outbox", body = TestBody),
              (status = 404, description = "There is none of this id", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn test_webhook(
    caller: Caller<scope::Admin>,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let event = state.pipeline.test_webhook(&caller.tenant, &id).await?.ok_or_else(|| unknown(&id))?;
    Ok((StatusCode::ACCEPTED, JsonBody(TestBody { id: event })).into_response())
}

/// How to rotate.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// The new secret; one is made where absent.
    #[serde(default)]
    secret: Option<String>,
    /// How long the old one signs as well.
    #[serde(default = "overlap_hours")]
    #[schema(default = 24)]
    overlap_hours: u32,
}

fn overlap_hours() -> u32 {
    OVERLAP_HOURS
}

/// Gives an endpoint a new secret.
///
/// For `overlap_hours` every delivery carries two signatures, by the new secret and the old one, so that a receiver can
/// change its own at leisure.
#[utoipa::path(post, path = "/v1/webhooks/{id}/secret", tag = "webhooks", params(("id" = String, Path)),
    request_body(content = Rotation, example = json!({"overlap_hours": 24})),
    responses((status = 200, description = "The endpoint and its new secret", body = WebhookBody),
              (status = 404, description = "There is none of this id", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn rotate_secret(
    caller: Caller<scope::Admin>,
    State(state): State<AppState>,
    Path(id): Path<String>,
    Json(rotation): Json<Rotation>,
) -> Result<JsonBody<WebhookBody>, Problem> {
    let rotated =
        state.pipeline.rotate_secret(&caller.tenant, &id, rotation.secret, rotation.overlap_hours).await?;
    let (webhook, secret) = rotated.ok_or_else(|| unknown(&id))?;
    Ok(JsonBody(WebhookBody::of(webhook, Some(secret))))
}

/// A delivery of one alert.
#[derive(Serialize, ToSchema)]
pub struct DeliveryItem {
    /// The alert's id, which is the `webhook-id` of every attempt.
    alert: String,
    #[serde(rename = "type")]
    type_: String,
    /// pending, delivered or dead.
    state: &'static str,
    attempts: u32,
    /// When a pending one is tried next.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// HTTP status of the last attempt.
    last_status: Option<u16>,
    last_error: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    changed_at: Timestamp,
}

impl From<Delivery> for DeliveryItem {
    fn from(delivery: Delivery) -> Self {
        DeliveryItem {
            alert: delivery.alert,
            type_: delivery.type_,
            state: delivery.state,
            attempts: delivery.attempts,
            next_attempt_at: delivery.next_attempt_at,
            last_status: delivery.status,
            last_error: delivery.error,
            changed_at: delivery.changed_at,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeliveryParameters {
    /// pending, delivered or dead.
    #[param(example = "dead")]
    state: Option<String>,
    /// The `next` of the page before.
    cursor: Option<String>,
    limit: Option<usize>,
}

/// What became of the alerts for an endpoint, the newest first; kept for 90 days.
#[utoipa::path(get, path = "/v1/webhooks/{id}/deliveries", tag = "webhooks",
    params(("id" = String, Path), DeliveryParameters),
    responses((status = 200, description = "Part of the list", body = PageBody<DeliveryItem>),
              (status = 404, description = "There is none of this id", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn deliveries(
    caller: Caller<scope::Admin>,
    State(state): State<AppState>,
    Path(id): Path<String>,
    Query(parameters): Query<DeliveryParameters>,
) -> Result<JsonBody<PageBody<DeliveryItem>>, Problem> {
    super::actions::check_limit(&state, parameters.limit)?;
    let page = state
        .pipeline
        .deliveries(
            &caller.tenant,
            &id,
            parameters.state.as_deref(),
            parameters.cursor.as_deref(),
            parameters.limit,
        )
        .await?
        .ok_or_else(|| unknown(&id))?;
    Ok(JsonBody(PageBody { items: page.items.into_iter().map(Into::into).collect(), next: page.next }))
}

/// Sends an alert to an endpoint again, with all its attempts.
#[utoipa::path(post, path = "/v1/webhooks/{id}/deliveries/{alert}/resend", tag = "webhooks",
    params(("id" = String, Path), ("alert" = String, Path)),
    responses((status = 202, description = "It is in the outbox"),
              (status = 404, description = "It never was for this endpoint", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn resend(
    caller: Caller<scope::Admin>,
    State(state): State<AppState>,
    Path((id, alert)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    if state.pipeline.resend(&caller.tenant, &id, &alert).await? {
        return Ok(StatusCode::ACCEPTED);
    }
    let detail = format!("the webhook {id:?} has no delivery of {alert:?}");
    Err(Problem::new(problem::UNKNOWN_WEBHOOK, detail))
}
