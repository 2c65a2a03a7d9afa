//! A bundled multilingual history, so that a fresh machine shows what hearken does.
//!
//! `history.jsonl` is the story of a fictitious network company, Northline, and a dozen of its customers: one event a
//! line, in the form in which `POST /v1/events` takes it, except that `age` (how long ago: `12d4h`) stands in for
//! `time`, so that the history is always recent. Times inside `data` are named by JSON pointer in `ages`.
//!
//! Nothing is read or written here: whoever runs the demo passes the events to the pipeline.

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use serde::Deserialize;

use crate::{
    insight::event::{Event, EventData, EventId, RecordKey},
    pipeline::IncomingEvent,
};

const HISTORY: &str = include_str!("history.jsonl");

/// One line of the history.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    source: String,
    #[serde(rename = "type")]
    type_: String,
    age: String,
    /// JSON pointer into `data` to the age that becomes a time there.
    #[serde(default)]
    ages: std::collections::BTreeMap<String, String>,
    data: serde_json::Value,
}

/// The history as it would have arrived by `now`, oldest first.
///
/// # Panics
/// Where a line of the bundled file is not an event. The file is part of the program and a test reads all of it.
pub fn events(now: Timestamp) -> Vec<IncomingEvent> {
    HISTORY
        .lines()
        .enumerate()
        .map(|(i, line)| {
            read(line, now).unwrap_or_else(|problem| panic!("the bundled history, line {}: {problem}", i + 1))
        })
        .collect()
}

/// The body of the `competitors` setting: the rivals that the history mentions, in the scripts in which it does.
pub fn competitors() -> String {
    serde_json::json!({"competitors": [
        {"name": "Airo Networks",
         "aliases": ["Airo", "艾罗网络", "アイロネットワークス", "아이로 네트웍스", "아이로", "إيرو نتوركس", "Айро", "एयरो नेटवर्क्स"]},
        {"name": "Fibrenova", "aliases": ["Fibre Nova", "فايبرنوفا", "Фибренова", "파이버노바", "फ़ाइबरनोवा"]},
        {"name": "Wavelark", "aliases": ["Wavelark Mobile"]},
    ]})
    .to_string()
}

/// The record whose page shows most: a lead that became a contact, with a won deal that went wrong afterwards.
pub fn featured() -> RecordKey {
    RecordKey { module: "contact".into(), id: "C-1042".into() }
}

fn read(line: &str, now: Timestamp) -> Result<IncomingEvent, String> {
    let mut line: Line = serde_json::from_str(line).map_err(|e| e.to_string())?;
    for (pointer, age) in &line.ages {
        let place = line.data.pointer_mut(pointer).ok_or_else(|| format!("nothing at {pointer}"))?;
        *place = ago(age, now)?.to_string().into();
    }
    let data = line.data.to_string();
    Ok(IncomingEvent {
        event: Event {
            id: EventId { source: line.source, id: line.id },
            time: ago(&line.age, now)?,
            data: EventData::parse(&line.type_, &data).map_err(|e| e.to_string())?,
        },
        type_: line.type_,
        data,
    })
}

/// The moment that was `age` (`12d4h`, days of 24 hours) before `now`.
fn ago(age: &str, now: Timestamp) -> Result<Timestamp, String> {
    let span: Span = age.parse().map_err(|e: jiff::Error| e.to_string())?;
    let duration: SignedDuration =
        span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|e| e.to_string())?;
    now.checked_sub(duration).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::event::TYPES;
    use std::collections::BTreeSet;

    fn now() -> Timestamp {
        "2026-03-02T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn tells_of_every_type_of_event_and_every_channel_in_many_languages() {
        let events = events(now());
        let types: BTreeSet<&str> = events.iter().map(|e| e.type_.as_str()).collect();
        assert_eq!(types, TYPES.iter().copied().collect());
        let mut channels = BTreeSet::new();
        let mut languages = BTreeSet::new();
        for event in &events {
            if let EventData::InteractionReceived(i) = &event.event.data {
                channels.insert(i.channel.clone());
                languages.extend(i.language.clone());
            }
        }
        let known = ["call", "chat", "email", "note", "review", "social", "survey", "ticket"];
        assert_eq!(channels.iter().map(String::as_str).collect::<Vec<_>>(), known);
        for language in ["ar", "de", "en", "es", "fr", "hi", "ja", "ko", "pl", "pt", "ru", "th", "tr", "zh"] {
            assert!(languages.contains(language), "nobody writes in {language}");
        }
    }

    #[test]
    fn lies_in_the_past_in_order_and_within_four_months() {
        let events = events(now());
        assert!(events.windows(2).all(|w| w[0].event.time <= w[1].event.time));
        let (first, last) = (&events[0].event.time, &events[events.len() - 1].event.time);
        assert!(*last < now());
        assert!(now().duration_since(*last) < SignedDuration::from_hours(24), "nothing happened today");
        assert!(now().duration_since(*first) < SignedDuration::from_hours(24 * 120));
    }

    #[test]
    fn names_every_event_once() {
        let events = events(now());
        let ids: BTreeSet<&EventId> = events.iter().map(|e| &e.event.id).collect();
        assert_eq!(ids.len(), events.len());
    }

    #[test]
    fn featured_record_was_a_lead_created_before_it_was_converted() {
        let converted = events(now())
            .into_iter()
            .find_map(|e| match e.event.data {
                EventData::RecordConverted(c) if c.to.contains(&featured()) => Some((e.event.time, c)),
                _ => None,
            })
            .expect("the featured record comes from a lead");
        assert!(converted.1.from.created_at.unwrap() < converted.0);
    }

    #[test]
    fn competitors_are_a_settings_body() {
        #[derive(Deserialize)]
        struct Body {
            competitors: Vec<crate::insight::settings::Competitor>,
        }
        let body: Body = serde_json::from_str(&competitors()).unwrap();
        let text: String = HISTORY.into();
        for competitor in &body.competitors {
            assert!(text.contains(&competitor.name), "{} is never mentioned", competitor.name);
        }
    }
}
