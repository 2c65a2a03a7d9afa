//! One CloudEvents 1.0 envelope in structured JSON form: read, checked, and turned into an event of the pipeline.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::problem::{self, Problem, of_event};
use crate::{
    insight::{
        action,
        event::{Event, EventData, EventError, EventId, json_pointer},
    },
    pipeline::IncomingEvent,
};

#[derive(Deserialize)]
struct Envelope<'a> {
    specversion: Option<String>,
    id: Option<String>,
    source: Option<String>,
    #[serde(rename = "type")]
    type_: Option<String>,
    time: Option<String>,
    datacontenttype: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_base64: Option<&'a RawValue>,
}

/// Reads one event. `received_at` is its time where the sender gives none.
pub fn read(json: &str, event_bytes_max: usize, received_at: Timestamp) -> Result<IncomingEvent, Problem> {
    if json.len() > event_bytes_max {
        let detail =
            format!("the event has {} bytes, more than event_bytes_max = {event_bytes_max}", json.len());
        return Err(Problem::new(problem::TOO_LARGE, detail));
    }
    let envelope = envelope(json)?;
    let required = |value: Option<String>, name: &str| match value {
        Some(value) if !value.trim().is_empty() => Ok(value),
        Some(_) => Err(at(&format!("/{name}"), format!("`{name}` is empty"))),
        None => Err(at(&format!("/{name}"), format!("a CloudEvent needs `{name}`"))),
    };
    let version = required(envelope.specversion, "specversion")?;
    if version != "1.0" {
        return Err(at(
            "/specversion",
            format!("specversion {version:?} is not known; this server reads \"1.0\""),
        ));
    }
    let id = EventId { source: required(envelope.source, "source")?, id: required(envelope.id, "id")? };
    let type_ = required(envelope.type_, "type")?;
    if envelope.data_base64.is_some() {
        return Err(at("/data_base64", "`data_base64` is not taken; give the JSON object in `data`"));
    }
    if let Some(content) = envelope.datacontenttype.filter(|c| !is_json(c)) {
        return Err(at("/datacontenttype", format!("`data` is JSON here, not {content:?}")));
    }
    let time = match envelope.time {
        None => received_at,
        Some(time) => time.parse().map_err(|_| {
            at("/time", format!("{time:?} is not an RFC 3339 time such as 2026-03-02T09:14:07Z"))
        })?,
    };
    if type_ == action::CHANGED {
        return Err(of_event(EventError::UnknownType(type_), "/data"));
    }
    if id.source == action::SOURCE {
        return Err(at(
            "/source",
            "this source is the server's own; change actions with PATCH /v1/actions/{id}",
        ));
    }
    let data = data(envelope.data)?;
    let parsed = EventData::parse(&type_, &data).map_err(|e| of_event(e, "/data"))?;
    Ok(IncomingEvent { event: Event { id, time, data: parsed }, type_, data })
}

fn envelope(json: &str) -> Result<Envelope<'_>, Problem> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let envelope = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        if e.inner().is_data() {
            at(&json_pointer(e.path()), e.inner().to_string())
        } else {
            broken(e.inner())
        }
    })?;
    reader.end().map_err(|e| broken(&e))?;
    Ok(envelope)
}

fn broken(error: &serde_json::Error) -> Problem {
    Problem::new(problem::MALFORMED_JSON, format!("the event is not JSON: {error}"))
}

fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    media == "application/json" || media == "text/json" || media.ends_with("+json")
}

/// The `data` as the log keeps it: on one line, so that it fits into JSON lines.
fn data(raw: Option<&RawValue>) -> Result<String, Problem> {
    let raw = raw.map_or("null", RawValue::get);
    if !raw.starts_with('{') {
        return Err(at("/data", "a CloudEvent of this API needs `data`, a JSON object"));
    }
    if raw.contains("\\u") {
        // Parts that no event type names are kept unread; half a surrogate pair in them would spoil every later reader.
        serde_json::from_str::<serde_json::Value>(raw)
            .map_err(|e| at("/data", format!("the data cannot be read: {e}")))?;
    }
    // Line ends cannot stand inside a JSON string, so what is replaced here is white space between tokens.
    Ok(raw.replace(['\n', '\r'], " "))
}

fn at(pointer: &str, detail: impl Into<String>) -> Problem {
    Problem::at(problem::INVALID_EVENT, pointer, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"specversion":"1.0","id":"1","source":"crm","type":"voc.customer.churned.v1","extra":1,
        "time":"2026-03-02T09:14:07+01:00","data":{"record":{"module":"contact","id":"7"},
        "reason":"price"}}"#;

    fn refused(change: impl Fn(&mut serde_json::Value)) -> String {
        let mut event: serde_json::Value = serde_json::from_str(GOOD).unwrap();
        change(&mut event);
        let problem = read(&event.to_string(), 1000, Timestamp::UNIX_EPOCH).unwrap_err();
        let body = problem.into_body();
        let pointer = body.errors.first().map(|e| e.pointer.clone()).unwrap_or_default();
        format!("{pointer} {}", body.detail)
    }

    #[test]
    fn a_good_event_is_read_and_its_data_kept_on_one_line() {
        let event = read(GOOD, 1000, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(event.event.time.to_string(), "2026-03-02T08:14:07Z");
        assert_eq!(event.event.id, EventId { source: "crm".into(), id: "1".into() });
        assert!(event.data.starts_with(r#"{"record":"#) && !event.data.contains('\n'));
        let timeless = GOOD.replace("\"time\"", "\"when\"");
        assert_eq!(read(&timeless, 1000, Timestamp::UNIX_EPOCH).unwrap().event.time, Timestamp::UNIX_EPOCH);
    }

    #[test]
    fn what_does_not_fit_is_pointed_at() {
        use serde_json::json;
        for (found, expected) in [
            (refused(|e| e["specversion"] = json!("0.3")), "/specversion specversion \"0.3\""),
            (refused(|e| e["id"] = json!(" ")), "/id `id` is empty"),
            (refused(|e| e["id"] = json!(3)), "/id invalid type: integer"),
            (refused(|e| e["source"] = json!(null)), "/source a CloudEvent needs `source`"),
            (refused(|e| e["time"] = json!("yesterday")), "/time \"yesterday\""),
            (refused(|e| e["type"] = json!("voc.other.v1")), "/type unknown event type"),
            (refused(|e| e["type"] = json!(action::CHANGED)), "/type unknown event type"),
            (refused(|e| e["source"] = json!(action::SOURCE)), "/source this source is the server's own"),
            (refused(|e| e["data"] = json!("text")), "/data a CloudEvent of this API"),
            (refused(|e| e["data"] = json!({"reason": 1})), "/data"),
            (refused(|e| e["data"]["record"]["id"] = json!(7)), "/data/record/id invalid type"),
            (refused(|e| e["data_base64"] = json!("eA==")), "/data_base64"),
            (refused(|e| e["datacontenttype"] = json!("text/xml")), "/datacontenttype"),
            (refused(|e| e["long"] = json!("x".repeat(1000))), " the event has"),
        ] {
            assert!(found.starts_with(expected), "{found} is not {expected}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_refused_wherever_it_stands() {
        let event = GOOD.replace("\"price\"", r#""price","unknown":"\ud800""#);
        assert!(read(&event, 1000, Timestamp::UNIX_EPOCH).is_err());
    }
}
