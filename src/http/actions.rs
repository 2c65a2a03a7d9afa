//! Actions: what is suggested for records and the cases that somebody works on. And alerts and digests, which lead to them.
//!
//! Reading needs `insights:read`. Changing a case needs `ingest`: it adds to what is known of a record, as an event does.

use axum::{
    Json as JsonBody, Router,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::{
    AppState,
    auth::{Caller, scope},
    extract::{Json, Path, Query},
    problem::{self, Problem, ProblemBody},
    records::PageBody,
};
use crate::{
    insight::{action::ActionPatch, document::Action, event::RecordKey},
    pipeline::{ActionQuery, AlertQuery, Digest, RecordAction},
};

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/v1/actions", get(actions))
        .route("/v1/actions/{id}", get(action).patch(change_action))
        .route("/v1/alerts", get(alerts))
        .route("/v1/digest", get(digest))
}

/// An action and its record.
#[derive(Serialize, ToSchema)]
pub struct ActionItem {
    record: RecordKey,
    #[serde(flatten)]
    action: Action,
}

impl From<RecordAction> for ActionItem {
    fn from(found: RecordAction) -> Self {
        ActionItem { record: found.record, action: found.action }
    }
}

/// A change of a case.
#[derive(Serialize, ToSchema)]
pub struct ActionChangeItem {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// `rule` where a route opened the case, else `api`.
    by: &'static str,
    /// What was set.
    set: ActionPatch,
}

/// An action with its changes.
#[derive(Serialize, ToSchema)]
pub struct ActionBody {
    #[serde(flatten)]
    action: ActionItem,
    /// Oldest first; none for a suggestion.
    history: Vec<ActionChangeItem>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ActionParameters {
    /// suggested, open, in_progress, done or dismissed.
    #[param(example = "open")]
    state: Option<String>,
    owner_team: Option<String>,
    /// A label, or the rule of an alert.
    #[param(example = "negative_customer")]
    label: Option<String>,
    /// Only what was due before this.
    #[param(value_type = Option<String>, example = "2026-03-02T09:00:00Z")]
    due_before: Option<Timestamp>,
    /// The `next` of the page before.
    cursor: Option<String>,
    limit: Option<usize>,
}

pub fn check_limit(state: &AppState, limit: Option<usize>) -> Result<(), Problem> {
    let limit_max = state.config.limits.page_items_max;
    if limit.is_some_and(|limit| limit == 0 || limit > limit_max) {
        return Err(Problem::new(
            problem::INVALID_QUERY,
            format!("limit: give 1 to page_items_max = {limit_max}"),
        ));
    }
    Ok(())
}

const STATES: [&str; 5] = ["suggested", "open", "in_progress", "done", "dismissed"];

/// Suggestions and cases of all records; those due first come first, those without a due time last.
#[utoipa::path(get, path = "/v1/actions", tag = "actions", params(ActionParameters),
    responses((status = 200, description = "Part of the list", body = PageBody<ActionItem>)))]
pub async fn actions(
    caller: Caller<scope::InsightsRead>,
    State(state): State<AppState>,
    Query(parameters): Query<ActionParameters>,
) -> Result<JsonBody<PageBody<ActionItem>>, Problem> {
    check_limit(&state, parameters.limit)?;
    if parameters.state.as_deref().is_some_and(|state| !STATES.contains(&state)) {
        return Err(Problem::new(
            problem::INVALID_QUERY,
            format!("state: give one of {}", STATES.join(", ")),
        ));
    }
    let query = ActionQuery {
        state: parameters.state,
        owner_team: parameters.owner_team,
        label: parameters.label,
        due_before: parameters.due_before,
        cursor: parameters.cursor,
        limit: parameters.limit,
    };
    let page = state.pipeline.actions(&caller.tenant, &query).await?;
    Ok(JsonBody(PageBody { items: page.items.into_iter().map(Into::into).collect(), next: page.next }))
}

/// One action, and what was done about it.
///
/// The `ETag` counts its changes; send it in `If-Match` to change the case only if nobody else has.
#[utoipa::path(get, path = "/v1/actions/{id}", tag = "actions", params(("id" = String, Path)),
    responses((status = 200, description = "The action", body = ActionBody),
              (status = 404, description = "There is no such action", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn action(
    caller: Caller<scope::InsightsRead>,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (found, changes) = state.pipeline.action(&caller.tenant, &id).await?.ok_or_else(|| unknown(&id))?;
    let item = |change: crate::pipeline::ChangeRow| ActionChangeItem {
        at: change.at,
        by: if change.by_rule { "rule" } else { "api" },
        set: change.set,
    };
    let tag = tag(&found);
    let body = ActionBody { action: found.into(), history: changes.into_iter().map(item).collect() };
    Ok(with_tag(tag, JsonBody(body).into_response()))
}

/// Changes a case, or takes up a suggestion.
///
/// Absent fields stay, null clears (RFC 7396). When this answers, the record's document shows the change. Set
/// `customer_told_at` once the customer knows that it is fixed, also weeks after `done`.
#[utoipa::path(patch, path = "/v1/actions/{id}", tag = "actions",
    params(("id" = String, Path),
           ("If-Match" = Option<String>, Header, description = "The `ETag` of the action that was changed")),
    request_body(content = ActionPatch,
                 example = json!({"state": "done", "note": "New router sent.", "customer_told_at": "2026-03-02T09:14:07Z"})),
    responses((status = 200, description = "The action as it is now", body = ActionItem),
              (status = 404, description = "There is no such action", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 412, description = "Somebody else has changed it", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 422, description = "The body does not fit", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn change_action(
    caller: Caller<scope::Ingest>,
    State(state): State<AppState>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(patch): Json<ActionPatch>,
) -> Result<Response, Problem> {
    let expected = expected(&headers)?;
    let changed = state.pipeline.change_action(&caller.tenant, &id, patch, expected).await?;
    let changed = changed.ok_or_else(|| unknown(&id))?;
    Ok(with_tag(tag(&changed), JsonBody(ActionItem::from(changed)).into_response()))
}

fn unknown(id: &str) -> Problem {
    Problem::new(problem::UNKNOWN_ACTION, format!("there is no action {id:?}"))
}

fn tag(found: &RecordAction) -> String {
    format!("\"{}\"", found.action.changes)
}

fn with_tag(tag: String, mut response: Response) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// The number of changes that `If-Match` names; none for `*`.
fn expected(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(given) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let given = given.to_str().unwrap_or_default().trim();
    if given == "*" {
        return Ok(None);
    }
    let number = given.trim_start_matches("W/").trim_matches('"').parse().ok();
    let unreadable = || {
        let detail = format!("{given:?} is not the ETag of an action; read it with GET /v1/actions/{{id}}");
        Problem::new(problem::VERSION_CONFLICT, detail)
    };
    number.ok_or_else(unreadable).map(Some)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AlertParameters {
    /// Only those about this record, `module/id`.
    #[param(example = "contact/554023000125")]
    record: Option<String>,
    /// label_raised, competitor_mentioned, turned_negative, critical_feedback or watch_hit.
    rule: Option<String>,
    owner_team: Option<String>,
    /// The `next` of the page before.
    cursor: Option<String>,
    limit: Option<usize>,
}

/// Alerts as they were sent, the newest first; kept for 90 days.
#[utoipa::path(get, path = "/v1/alerts", tag = "actions", params(AlertParameters),
    responses((status = 200, description = "Part of the list: CloudEvents", body = PageBody<Object>)))]
pub async fn alerts(
    caller: Caller<scope::InsightsRead>,
    State(state): State<AppState>,
    Query(parameters): Query<AlertParameters>,
) -> Result<JsonBody<PageBody<Box<RawValue>>>, Problem> {
    check_limit(&state, parameters.limit)?;
    let record = parameters.record.as_deref().map(|name| {
        let (module, id) = name.split_once('/').unwrap_or_default();
        if module.is_empty() || id.is_empty() {
            return Err(Problem::new(problem::INVALID_QUERY, "record: give MODULE/ID, such as contact/42"));
        }
        Ok(RecordKey { module: module.into(), id: id.into() })
    });
    let query = AlertQuery {
        record: record.transpose()?,
        rule: parameters.rule,
        owner_team: parameters.owner_team,
        cursor: parameters.cursor,
        limit: parameters.limit,
    };
    let page = state.pipeline.alerts(&caller.tenant, &query).await?;
    let raw = |body: String| {
        RawValue::from_string(body)
            .map_err(|e| Problem::new(problem::INTERNAL, format!("a stored alert cannot be read: {e}")))
    };
    let items = page.items.into_iter().map(raw).collect::<Result<_, _>>()?;
    Ok(JsonBody(PageBody { items, next: page.next }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DigestParameters {
    /// Team of the routes; without one, what is nobody's.
    #[param(example = "retention")]
    team: Option<String>,
    /// Day in the tenant's time zone (settings `alerts`, `digest.tz`); yesterday where absent.
    #[param(value_type = Option<String>, example = "2026-03-01")]
    date: Option<Date>,
}

/// What was raised for a team on a day, and what it has to do now.
#[utoipa::path(get, path = "/v1/digest", tag = "actions", params(DigestParameters),
    responses((status = 200, description = "The digest; webhooks get the same once a day", body = Digest)))]
pub async fn digest(
    caller: Caller<scope::InsightsRead>,
    State(state): State<AppState>,
    Query(parameters): Query<DigestParameters>,
) -> Result<JsonBody<Digest>, Problem> {
    Ok(JsonBody(state.pipeline.digest(&caller.tenant, parameters.team.as_deref(), parameters.date).await?))
}
