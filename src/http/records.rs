//! Records: their insight document, the list of them, what is held on one, and its erasure.
//!
//! Documents are ready-made bytes; nothing is computed here.

use axum::{
    Json as JsonBody, Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{delete, get},
};
use futures::StreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    AppState,
    auth::{Caller, scope},
    extract::{Path, Query},
    layers::bytes_response,
    problem::{self, Problem, ProblemBody},
    table::{Csv, Format, cell},
};
use crate::{
    insight::event::RecordKey,
    pipeline::{RecordQuery, RecordRow, ServedDocument, Tenant, ViewQuery},
};

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/v1/records", get(records))
        .route("/v1/records/{module}/{id}", delete(erase))
        .route("/v1/records/{module}/{id}/insights", get(insights))
        .route("/v1/records/{module}/{id}/export", get(export))
}

/// Which view of a document.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct View {
    /// `90d` (any number of days), `all`, or two dates `FROM/TO`, both inside.
    #[param(example = "90d")]
    window: Option<String>,
    /// The document as it was then, RFC 3339.
    #[param(example = "2026-03-02T09:14:07Z")]
    as_of: Option<String>,
    /// IANA time zone whose days, weeks and months are counted; UTC where absent.
    #[param(example = "Europe/Berlin")]
    tz: Option<String>,
}

impl From<View> for ViewQuery {
    fn from(view: View) -> ViewQuery {
        ViewQuery { window: view.window, as_of: view.as_of, tz: view.tz }
    }
}

/// The insight document of a record, ready made.
///
/// A record that was converted or merged answers with the document of what it became. The `ETag` names the bytes:
/// send it in `If-None-Match` to get 304 while nothing has changed.
#[utoipa::path(get, path = "/v1/records/{module}/{id}/insights", tag = "records",
    params(("module" = String, Path, example = "contact"), ("id" = String, Path, example = "554023000125"), View),
    responses((status = 200, description = "The document", body = crate::insight::document::Document),
              (status = 304, description = "The document is still the one of `If-None-Match`"),
              (status = 403, description = "The key may not, or the module is not enabled", body = ProblemBody,
               content_type = "application/problem+json"),
              (status = 404, description = "Nothing is known of this record", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn insights(
    caller: Caller<scope::InsightsRead>,
    State(state): State<AppState>,
    Path(key): Path<RecordKey>,
    Query(view): Query<View>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    require_enabled(&state, &caller.tenant, &key)?;
    let document = state.pipeline.document(&caller.tenant, &key, &view.into()).await?;
    Ok(document_response(document.ok_or_else(|| unknown(&key))?, &headers))
}

fn document_response(document: ServedDocument, headers: &HeaderMap) -> Response {
    let tag = HeaderValue::from_str(&document.etag).ok();
    let fresh = tag.as_ref().is_some_and(|tag| none_match(headers, tag));
    let mut response = if fresh {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        bytes_response("application/json", Bytes::from_owner(document.bytes))
    };
    if let Some(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

/// Whether `If-None-Match` names `tag` (RFC 9110, 13.1.2: the weak comparison).
fn none_match(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let tag = opaque(tag.to_str().unwrap_or_default());
    let lists = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|given| given.trim() == "*" || opaque(given) == tag)
}

/// Records of modules that are not enabled show nothing.
pub fn require_enabled(state: &AppState, tenant: &Tenant, key: &RecordKey) -> Result<(), Problem> {
    if state.pipeline.module_enabled(tenant, &key.module) {
        return Ok(());
    }
    let detail = format!("the module {:?} is not enabled in the settings `modules`", key.module);
    let meta = serde_json::json!({"eligible": false, "module_enabled": false});
    Err(Problem::new(problem::MODULE_DISABLED, detail).with_member("meta", meta))
}

pub fn unknown(key: &RecordKey) -> Problem {
    let detail =
        format!("nothing is known of {}/{}; a record exists once an event names it", key.module, key.id);
    Problem::new(problem::UNKNOWN_RECORD, detail)
}

/// Which records, and which part of the list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParameters {
    /// Only records that carry this label now.
    #[param(example = "negative_customer")]
    label: Option<String>,
    #[param(example = "contact")]
    module: Option<String>,
    /// Part of the id.
    q: Option<String>,
    /// `negative`, `neutral` or `positive`: the sign of the net sentiment.
    #[param(example = "negative")]
    sentiment: Option<String>,
    /// Only records whose document names this competitor.
    competitor: Option<String>,
    /// Only records whose document has changed since then, RFC 3339.
    #[param(example = "2026-03-01T00:00:00Z")]
    updated_since: Option<String>,
    /// The `next` of the page before.
    cursor: Option<String>,
    limit: Option<usize>,
    /// `json` gives a page; `csv` and `jsonl` give the whole list as a file, or one page of it with `limit`.
    #[serde(default)]
    #[param(inline)]
    format: Format,
}

/// Part of a list; `next` is the `cursor` that continues it, null at the end.
#[derive(Serialize, ToSchema)]
pub struct PageBody<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

/// A record in a list.
#[derive(Serialize, ToSchema)]
pub struct RecordItem {
    record: RecordKey,
    /// Ids of the active labels.
    #[schema(example = json!(["negative_customer"]))]
    labels: Vec<String>,
    interactions: u64,
    /// (positive - negative) / all, of the default window; null without interactions.
    net_sentiment: Option<f64>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_activity_at: Option<Timestamp>,
}

impl From<RecordRow> for RecordItem {
    fn from(row: RecordRow) -> Self {
        RecordItem {
            record: row.key,
            labels: row.labels,
            interactions: row.interactions,
            net_sentiment: row.net_sentiment,
            last_activity_at: row.last_activity_at,
        }
    }
}

/// Refuses a page of no rows or of too many.
pub fn check_limit(state: &AppState, limit: Option<usize>) -> Result<(), Problem> {
    let limit_max = state.config.limits.page_items_max;
    if limit.is_some_and(|limit| limit == 0 || limit > limit_max) {
        let detail = format!("limit: give 1 to page_items_max = {limit_max}");
        return Err(Problem::new(problem::INVALID_QUERY, detail));
    }
    Ok(())
}

/// Records, those with the newest activity first.
///
/// As a file (`format=csv` or `jsonl`) the list comes whole, read page by page while it is sent.
#[utoipa::path(get, path = "/v1/records", tag = "records", params(ListParameters),
    responses((status = 200, description = "Part of the list", body = PageBody<RecordItem>)))]
pub async fn records(
    caller: Caller<scope::InsightsRead>,
    State(state): State<AppState>,
    Query(parameters): Query<ListParameters>,
) -> Result<Response, Problem> {
    check_limit(&state, parameters.limit)?;
    let format = parameters.format;
    let mut query = RecordQuery {
        label: parameters.label,
        module: parameters.module,
        search: parameters.q,
        sentiment: parameters.sentiment,
        competitor: parameters.competitor,
        updated_since: parameters.updated_since,
        cursor: parameters.cursor,
        limit: parameters.limit,
    };
    let whole = format != Format::Json && query.limit.is_none();
    if whole {
        query.limit = Some(state.config.limits.page_items_max);
    }
    let page = state.pipeline.records(&caller.tenant, &query).await?;
    if format == Format::Json {
        let items = page.items.into_iter().map(Into::into).collect();
        return Ok(JsonBody(PageBody::<RecordItem> { items, next: page.next }).into_response());
    }
    let first = written(page.items, format, true)?;
    let next = page.next.filter(|_| whole).map(|cursor| RecordQuery { cursor: Some(cursor), ..query });
    let (pipeline, tenant) = (state.pipeline.clone(), caller.tenant.clone());
    let rest = futures::stream::try_unfold(next, move |query| {
        let (pipeline, tenant) = (pipeline.clone(), tenant.clone());
        async move {
            let Some(query) = query else { return Ok(None) };
            let page = pipeline.records(&tenant, &query).await.map_err(std::io::Error::other)?;
            let part = written(page.items, format, false)
                .map_err(|p| std::io::Error::other(p.detail().to_owned()))?;
            let next = page.next.map(|cursor| RecordQuery { cursor: Some(cursor), ..query });
            Ok(Some((Bytes::from(part), next)))
        }
    });
    let begin = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from(first))]);
    Ok(bytes_response(format.media_type(), Body::from_stream(begin.chain(rest))))
}

/// Rows of the list as a part of a file.
fn written(rows: Vec<RecordRow>, format: Format, first: bool) -> Result<Vec<u8>, Problem> {
    const HEAD: [&str; 6] = ["module", "id", "labels", "interactions", "net_sentiment", "last_activity_at"];
    if format == Format::Csv {
        let mut csv = if first { Csv::new(&HEAD)? } else { Csv::without_head() };
        for row in rows {
            csv.row([
                row.key.module,
                row.key.id,
                row.labels.join(" "),
                row.interactions.to_string(),
                cell(row.net_sentiment),
                cell(row.last_activity_at),
            ])?;
        }
        return csv.finish();
    }
    let mut lines = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut lines, &RecordItem::from(row))
            .map_err(|error| Problem::new(problem::INTERNAL, error.to_string()))?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// Everything that is held on a record, as JSON lines.
#[utoipa::path(get, path = "/v1/records/{module}/{id}/export", tag = "records",
    params(("module" = String, Path), ("id" = String, Path)),
    responses((status = 200, description = "One event of the log a line", body = String,
               content_type = "application/x-ndjson"),
              (status = 404, description = "Nothing is known of this record", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn export(
    caller: Caller<scope::InsightsRead>,
    State(state): State<AppState>,
    Path(key): Path<RecordKey>,
) -> Result<Response, Problem> {
    require_enabled(&state, &caller.tenant, &key)?;
    let lines = state.pipeline.export(&caller.tenant, &key).await?.ok_or_else(|| unknown(&key))?;
    let mut body = String::with_capacity(lines.iter().map(|l| l.len() + 1).sum());
    for line in &lines {
        body.push_str(line);
        body.push('\n');
    }
    Ok(bytes_response("application/x-ndjson", body))
}

/// Proof of an erasure.
#[derive(Serialize, ToSchema)]
pub struct ReceiptBody {
    erased_interactions: usize,
    /// Documents of other records that shared an erased interaction, and the record's own.
    documents_changed: usize,
    receipt: String,
}

/// Erases everything that is held on a record, for ever.
#[utoipa::path(delete, path = "/v1/records/{module}/{id}", tag = "records",
    params(("module" = String, Path), ("id" = String, Path)),
    responses((status = 200, description = "It is gone", body = ReceiptBody)))]
pub async fn erase(
    caller: Caller<scope::Ingest>,
    State(state): State<AppState>,
    Path(key): Path<RecordKey>,
) -> Result<JsonBody<ReceiptBody>, Problem> {
    let receipt = state.pipeline.erase(&caller.tenant, &key).await?;
    Ok(JsonBody(ReceiptBody {
        erased_interactions: receipt.erased_interactions,
        documents_changed: receipt.documents_changed,
        receipt: receipt.receipt,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_compares_weakly() {
        let matches = |given: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, given.parse().unwrap());
            none_match(&headers, &HeaderValue::from_static("\"a1\""))
        };
        assert!(matches("\"a1\"") && matches("W/\"a1\"") && matches("\"b\", \"a1\"") && matches("*"));
        assert!(!matches("\"a\"") && !matches("a1"));
    }
}
