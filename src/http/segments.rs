//! Many records at once: segments by channel, product, language, label and more, and what they say of assumptions.

use axum::{
    Json as JsonBody, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    AppState,
    auth::{Caller, scope},
    extract::{Path, Query},
    problem::{self, Problem, ProblemBody},
    table::{Csv, Format, cell},
};
use crate::{
    insight::{
        event::RecordKey,
        segments::{
            patterns::PatternReport,
            report::{SegmentReport, SegmentRow},
        },
    },
    pipeline::{SegmentQuery, ViewQuery},
};

pub fn routes() -> Router<AppState> {
    Router::new().route("/v1/segments/{by}", get(segments)).route("/v1/segments/{by}/patterns", get(patterns))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Parameters {
    /// `90d` (any number of days), `all`, or two dates `FROM/TO`, both inside, in UTC.
    #[param(example = "90d")]
    window: Option<String>,
    /// Only this value of the segment.
    #[param(example = "email")]
    value: Option<String>,
    /// Only records of this module.
    #[param(example = "contact")]
    module: Option<String>,
    /// Only records that carry this label now.
    #[param(example = "negative_customer")]
    label: Option<String>,
    /// `json`, or `csv` for one table.
    #[serde(default)]
    #[param(inline)]
    format: Format,
    /// Which table, as CSV.
    #[serde(default)]
    #[param(inline)]
    part: Part,
}

/// The tables of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    #[default]
    Segments,
    Series,
    Emerging,
    Drivers,
    Friction,
}

/// What segments of records say, and how that moves.
///
/// `by` is one of channel, product, touchpoint, language, label, module, country, region, city, industry, stage, plan,
/// persona, activity. The window is compared with the days of the same length before it: which keywords emerge (Fisher's exact
/// test on records, false discovery rate by Benjamini and Hochberg), who turned between promoter and detractor. Exact
/// under retraction and erasure: added up anew for every question. It costs time in proportion to the responses of all
/// records.
#[utoipa::path(get, path = "/v1/segments/{by}", tag = "segments",
    params(("by" = String, Path, example = "channel"), Parameters),
    responses((status = 200, description = "The segments, those with most responses first", body = SegmentReport),
              (status = 422, description = "There are no such segments", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn segments(
    caller: Caller<scope::InsightsRead>,
    State(state): State<AppState>,
    Path(by): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Problem> {
    let (format, part) = (parameters.format, parameters.part);
    let report = state.pipeline.segments(&caller.tenant, &query(by, parameters)).await?;
    match format {
        Format::Json => Ok(JsonBody(report).into_response()),
        Format::Csv => table(&report, part)?.response(),
        Format::Jsonl => Err(not_lines()),
    }
}

/// What many records say of the company's assumptions.
///
/// The assumptions are the settings document `assumptions`. Each is tested in every value of the segment, all tests
/// together under one false discovery rate: `confirmed`, `contradicted`, `undecided`, or `insufficient_evidence`.
#[utoipa::path(get, path = "/v1/segments/{by}/patterns", tag = "segments",
    params(("by" = String, Path, example = "product"), Parameters),
    responses((status = 200, description = "By assumption and value", body = PatternReport)))]
pub async fn patterns(
    caller: Caller<scope::InsightsRead>,
    State(state): State<AppState>,
    Path(by): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Problem> {
    let format = parameters.format;
    let report = state.pipeline.patterns(&caller.tenant, &query(by, parameters)).await?;
    match format {
        Format::Json => Ok(JsonBody(report).into_response()),
        Format::Csv => {
            let mut csv = Csv::new(&[
                "assumption",
                "statement",
                "value",
                "verdict",
                "records",
                "responses",
                "count",
                "share",
                "compared_with",
                "p",
                "q",
            ])?;
            for p in report.patterns {
                csv.row([
                    p.assumption,
                    p.statement,
                    p.value,
                    p.verdict,
                    p.records.to_string(),
                    p.n.to_string(),
                    p.count.to_string(),
                    cell(p.share),
                    cell(p.compared_with),
                    cell(p.p),
                    cell(p.q),
                ])?;
            }
            csv.response()
        }
        Format::Jsonl => Err(not_lines()),
    }
}

fn query(by: String, parameters: Parameters) -> SegmentQuery {
    SegmentQuery {
        by,
        view: ViewQuery { window: parameters.window, ..ViewQuery::default() },
        value: parameters.value,
        module: parameters.module,
        label: parameters.label,
    }
}

fn not_lines() -> Problem {
    Problem::new(problem::INVALID_QUERY, "format: segments come as json or csv")
}

fn keys(records: &[RecordKey]) -> String {
    records.iter().map(|key| format!("{}/{}", key.module, key.id)).collect::<Vec<_>>().join(" ")
}

/// The rows of one table that a segment value has.
type Rows = fn(&SegmentRow) -> Vec<Vec<String>>;

/// One of the tables of a report, a row per segment value and entry.
fn table(report: &SegmentReport, part: Part) -> Result<Csv, Problem> {
    let (head, rows): (&[&str], Rows) = match part {
        Part::Segments => (
            &[
                "records",
                "responses",
                "responses_before",
                "positive",
                "neutral",
                "negative",
                "net_sentiment",
                "net_sentiment_before",
                "complaint",
                "purchase",
                "request",
                "other",
                "trend",
                "trend_p",
                "promoter_to_detractor",
                "detractor_to_promoter",
                "improved",
                "worsened",
            ],
            segment,
        ),
        Part::Series => (&["bucket", "positive", "neutral", "negative"], |row| {
            let point = |p: &crate::insight::segments::report::SegmentPoint| {
                vec![
                    p.bucket.to_string(),
                    p.positive.to_string(),
                    p.neutral.to_string(),
                    p.negative.to_string(),
                ]
            };
            row.series.iter().map(point).collect()
        }),
        Part::Emerging => (
            &[
                "keyword",
                "records",
                "share",
                "records_before",
                "share_before",
                "p",
                "q",
                "net_sentiment",
                "examples",
            ],
            |row| {
                let one = |e: &crate::insight::segments::emerging::Emerging| {
                    vec![
                        e.keyword.clone(),
                        e.records.to_string(),
                        e.share.to_string(),
                        e.records_before.to_string(),
                        e.share_before.to_string(),
                        e.p.to_string(),
                        e.q.to_string(),
                        e.net_sentiment.to_string(),
                        keys(&e.examples),
                    ]
                };
                row.emerging.iter().map(one).collect()
            },
        ),
        Part::Drivers => (
            &[
                "kind",
                "theme",
                "records",
                "responses",
                "share",
                "mean_with",
                "mean_without",
                "impact",
                "examples",
            ],
            |row| {
                let one = |d: &crate::insight::segments::themes::SegmentDriver| {
                    vec![
                        d.kind.clone(),
                        d.theme.clone(),
                        d.records.to_string(),
                        d.responses.to_string(),
                        d.share.to_string(),
                        d.mean_with.to_string(),
                        d.mean_without.to_string(),
                        d.impact.to_string(),
                        keys(&d.examples),
                    ]
                };
                row.drivers.iter().map(one).collect()
            },
        ),
        Part::Friction => (
            &[
                "kind",
                "place",
                "records",
                "responses",
                "negatives",
                "negative_pct",
                "contacted_again",
                "recovered",
                "silent",
                "churned",
                "purchased",
                "examples",
            ],
            |row| {
                let one = |f: &crate::insight::segments::themes::SegmentFriction| {
                    let a = &f.aftermath;
                    let after = [a.contacted_again, a.recovered, a.silent, a.churned, a.purchased];
                    let mut cells = vec![
                        f.kind.clone(),
                        f.place.clone(),
                        f.records.to_string(),
                        f.responses.to_string(),
                        f.negatives.to_string(),
                        f.negative_pct.to_string(),
                    ];
                    cells.extend(after.map(|n| n.to_string()));
                    cells.push(keys(&f.examples));
                    cells
                };
                row.friction.iter().map(one).collect()
            },
        ),
    };
    let mut csv = Csv::new(&[&["by", "value"], head].concat())?;
    for row in &report.segments {
        for cells in rows(row) {
            csv.row([report.by.clone(), row.value.clone()].into_iter().chain(cells))?;
        }
    }
    Ok(csv)
}

fn segment(row: &SegmentRow) -> Vec<Vec<String>> {
    let (sentiment, intent, movement) = (&row.sentiment, &row.intent, &row.movement);
    vec![vec![
        row.records.to_string(),
        row.responses.to_string(),
        row.responses_before.to_string(),
        sentiment.positive.count.to_string(),
        sentiment.neutral.count.to_string(),
        sentiment.negative.count.to_string(),
        cell(row.net_sentiment),
        cell(row.net_sentiment_before),
        intent.complaint.to_string(),
        intent.purchase.to_string(),
        intent.request.to_string(),
        intent.other.to_string(),
        row.trend.direction.clone(),
        cell(row.trend.p),
        movement.promoter_to_detractor.to_string(),
        movement.detractor_to_promoter.to_string(),
        movement.improved.to_string(),
        movement.worsened.to_string(),
    ]]
}
