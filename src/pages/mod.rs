//! Server-rendered pages over what the pipeline serves; no data access of its own.
//!
//! `/` lists records, `/records/{module}/{id}` shows a record's document as charts and tables, `.../evidence` the
//! interactions behind a number. The pages work without JavaScript and load nothing from elsewhere. Where a number comes
//! from is the pipeline's and the document's business: a page writes down what they say.
//!
//! Start with [`record`], which puts the [`panels`] together; [`charts`] draws.

pub mod charts;

pub mod show;

pub mod links;

pub mod layout;

pub mod panels;

pub mod record;

pub mod records;

pub mod passages;

pub mod evidence;

pub mod problem;

mod assets;

use axum::{
    Router,
    extract::{FromRef, FromRequestParts, Path, Query, State},
    http::{HeaderMap, HeaderValue, header},
    middleware::map_response,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;

use crate::{
    insight::{document::Document, event::RecordKey},
    pipeline::{EvidenceQuery, Pipeline, PipelineError, RecordQuery, Tenant, ViewQuery},
};
use problem::Failure;

/// Everything a page needs comes from the same host; nobody may frame it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

/// The routes of all pages. `C` is the reader of a request, who has shown the permission to view insights: an extractor
/// whose refusal becomes a page.
pub fn router<S, C>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Pipeline: FromRef<S>,
    C: FromRequestParts<S> + Into<Tenant> + Send + 'static,
{
    let pages = Router::new()
        .route("/", get(list::<C>))
        .route("/records/{module}/{id}", get(show_record::<C>))
        .route("/records/{module}/{id}/evidence", get(show_evidence::<C>))
        .layer(map_response(problem::as_page))
        .layer(map_response(protect));
    [&*assets::STYLE, &*assets::LIVE, &*assets::ICON]
        .into_iter()
        .fold(pages, |routes, asset| routes.route(asset.path(), get(async move || asset.response())))
}

#[derive(Deserialize)]
struct ListParameters {
    q: Option<String>,
    module: Option<String>,
    label: Option<String>,
    cursor: Option<String>,
}

/// An empty field of a form means no filter.
fn filled(text: Option<String>) -> Option<String> {
    text.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty())
}

async fn list<C: Into<Tenant>>(
    State(pipeline): State<Pipeline>,
    caller: C,
    Query(parameters): Query<ListParameters>,
    headers: HeaderMap,
) -> Result<Html<String>, Failure> {
    let query = RecordQuery {
        label: filled(parameters.label),
        module: filled(parameters.module),
        search: filled(parameters.q),
        cursor: filled(parameters.cursor),
        ..RecordQuery::default()
    };
    let rows = pipeline.records(&caller.into(), &query).await?;
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or("127.0.0.1:8080");
    Ok(Html(records::page(&query, &rows, &pipeline.health(), host).into_string()))
}

#[derive(Deserialize)]
struct ViewParameters {
    window: Option<String>,
    as_of: Option<String>,
    tz: Option<String>,
}

async fn show_record<C: Into<Tenant>>(
    State(pipeline): State<Pipeline>,
    caller: C,
    Path((module, id)): Path<(String, String)>,
    Query(parameters): Query<ViewParameters>,
) -> Result<Html<String>, Failure> {
    let (tenant, key) = (caller.into(), RecordKey { module, id });
    require_enabled(&pipeline, &tenant, &key)?;
    let view = ViewQuery {
        window: filled(parameters.window),
        as_of: filled(parameters.as_of),
        tz: filled(parameters.tz),
    };
    let served = pipeline.document(&tenant, &key, &view).await?;
    let served = served.ok_or_else(|| Failure::unknown_record(&key))?;
    let document: Document = serde_json::from_slice(&served.bytes)
        .map_err(|e| PipelineError::Store(format!("the document of {key:?} cannot be read: {e}")))?;
    Ok(Html(record::page(&document, &view).into_string()))
}

#[derive(Deserialize)]
struct EvidenceParameters {
    panel: String,
    key: Option<String>,
    cursor: Option<String>,
    window: Option<String>,
    as_of: Option<String>,
    tz: Option<String>,
}

async fn show_evidence<C: Into<Tenant>>(
    State(pipeline): State<Pipeline>,
    caller: C,
    Path((module, id)): Path<(String, String)>,
    Query(parameters): Query<EvidenceParameters>,
) -> Result<Html<String>, Failure> {
    let (tenant, key) = (caller.into(), RecordKey { module, id });
    require_enabled(&pipeline, &tenant, &key)?;
    let query = EvidenceQuery {
        view: ViewQuery {
            window: filled(parameters.window),
            as_of: filled(parameters.as_of),
            tz: filled(parameters.tz),
        },
        panel: parameters.panel,
        item: parameters.key,
        cursor: parameters.cursor,
    };
    let rows = pipeline.evidence(&tenant, &key, &query).await?;
    let rows = rows.ok_or_else(|| Failure::unknown_record(&key))?;
    let question = evidence::Question { key: &key, panel: &query.panel, item: query.item.as_deref() };
    Ok(Html(evidence::page(&question, &rows).into_string()))
}

/// Records of modules that are not enabled show nothing.
fn require_enabled(pipeline: &Pipeline, tenant: &Tenant, key: &RecordKey) -> Result<(), Failure> {
    if pipeline.module_enabled(tenant, &key.module) {
        Ok(())
    } else {
        Err(Failure::module_disabled(&key.module))
    }
}

async fn protect(response: Response) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
    ];
    (headers, response)
}
