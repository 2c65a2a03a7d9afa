//! What is held on a customer, written out: one line of JSON per event of the log.
//!
//! A line is the CloudEvent as it came, with `received_at` and what the models said beside it.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::store::LogRow;

#[derive(Serialize)]
struct Line<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    type_: &'a str,
    time: String,
    received_at: String,
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<&'a RawValue>,
}

pub fn line(row: &LogRow) -> String {
    // Both were JSON when they were stored; a damaged file shows as null. Line ends in pretty printed data are JSON
    // space, so a line stays one.
    let raw = |json: &str| -> Option<Box<RawValue>> {
        let value: serde_json::Value = serde_json::from_str(json).ok()?;
        serde_json::value::to_raw_value(&value).ok()
    };
    let data = raw(&row.data);
    let scores = row.scores.as_deref().and_then(raw);
    let line = Line {
        specversion: "1.0",
        id: &row.id.id,
        source: &row.id.source,
        type_: &row.type_,
        time: row.time.to_string(),
        received_at: row.received_at.to_string(),
        data: data.as_deref(),
        scores: scores.as_deref(),
    };
    // Cannot fail: string keys only.
    serde_json::to_string(&line).unwrap_or_default()
}
