//! Where a customer stands: place, line of business, stage of life, dealings, activity. What segments are cut by
//! (X03), read from attributes, behaviour and deals, each with what it rests on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::event::{EventData, Outcome};
use super::identity::LEAD_MODULE;
use super::reading::{Reading, days_long};

/// One segment that a customer belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Segment {
    /// demography, place, behaviour, transaction, attitude or stage.
    pub kind: String,
    /// What is told apart: country, industry, activity, ...
    pub name: String,
    pub value: String,
    /// What it rests on: `attribute`, `interaction`, `events`, `nps` or `sentiment`.
    pub basis: String,
}

/// Attributes that make a segment, by kind. Others are kept with the record and cut nothing.
const ATTRIBUTES: [(&str, &str); 11] = [
    ("place", "country"),
    ("place", "region"),
    ("place", "city"),
    ("demography", "age_group"),
    ("demography", "gender"),
    ("demography", "industry"),
    ("demography", "company_size"),
    ("transaction", "plan"),
    ("transaction", "tier"),
    ("attitude", "persona"),
    ("stage", "stage"),
];

/// A customer without a sign of life for longer than this is quiet, and then lapsed.
pub const ACTIVE_DAYS: u32 = 30;
pub const QUIET_DAYS: u32 = 90;

/// All segments but the attitude, which the profile judges. In order of kind and name.
pub fn segments(reading: &Reading) -> Vec<Segment> {
    let mut segments = attributes(reading);
    let has = |segments: &[Segment], name: &str| segments.iter().any(|s| s.name == name);
    let segment = |kind: &str, name: &str, value: &str, basis: &str| Segment {
        kind: kind.into(),
        name: name.into(),
        value: value.into(),
        basis: basis.into(),
    };
    if !has(&segments, "country")
        && let Some(country) = country_of_interactions(reading)
    {
        segments.push(segment("place", "country", country, "interaction"));
    }
    if let Some(language) = language(reading) {
        segments.push(segment("demography", "language", &language, "interaction"));
    }
    let bought = purchases(reading);
    if !has(&segments, "stage") {
        segments.push(segment("stage", "stage", stage(reading, bought), "events"));
    }
    let dealings = match bought {
        0 => "no_purchase",
        1 => "bought_once",
        _ => "bought_again",
    };
    segments.push(segment("transaction", "dealings", dealings, "events"));
    if let Some(activity) = activity(reading) {
        segments.push(segment("behaviour", "activity", activity, "events"));
    }
    segments.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
    segments
}

/// The value of one segment.
pub fn value<'s>(segments: &'s [Segment], name: &str) -> Option<&'s str> {
    segments.iter().find(|s| s.name == name).map(|s| s.value.as_str())
}

/// The last word on each attribute counts.
fn attributes(reading: &Reading) -> Vec<Segment> {
    let created = reading.facts.iter().rev().filter_map(|fact| match &fact.event.data {
        EventData::RecordCreated(c) if reading.is_alias(&c.record) => c.attributes.as_ref(),
        _ => None,
    });
    let created: Vec<_> = created.collect();
    let read = |name: &str| {
        created.iter().find_map(|attributes| match attributes.get(name)? {
            serde_json::Value::String(text) => Some(text.trim().to_owned()).filter(|t| !t.is_empty()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    };
    let segment = |(kind, name): (&str, &str)| {
        Some(Segment { kind: kind.into(), name: name.into(), value: read(name)?, basis: "attribute".into() })
    };
    ATTRIBUTES.into_iter().filter_map(segment).collect()
}

fn country_of_interactions<'r>(reading: &'r Reading) -> Option<&'r str> {
    reading.facts.iter().rev().find_map(|fact| match &fact.event.data {
        EventData::InteractionReceived(i) => i.geo.as_ref()?.get("country")?.as_str(),
        _ => None,
    })
}

/// The language of most responses; of equals the first in the alphabet.
fn language(reading: &Reading) -> Option<String> {
    let mut counts = std::collections::BTreeMap::new();
    for response in &reading.responses {
        if let Some(language) = response.language() {
            *counts.entry(language).or_insert(0u64) += 1;
        }
    }
    counts.into_iter().rev().max_by_key(|(_, n)| *n).map(|(language, _)| language)
}

/// Purchases and won deals.
pub fn purchases(reading: &Reading) -> u64 {
    let bought = reading
        .facts
        .iter()
        .filter(|f| f.event.time < reading.end)
        .filter(|f| matches!(&f.event.data, EventData::BehaviourObserved(b) if b.kind == "purchase"));
    let won = reading.deals.values().filter(|changes| {
        super::panels::deals::decisive(changes)
            .is_some_and(|(fact, s)| s.outcome == Outcome::Won && fact.event.time < reading.end)
    });
    bought.count() as u64 + won.count() as u64
}

fn stage(reading: &Reading, bought: u64) -> &'static str {
    if super::rules::raised(reading, super::rules::CHURNED).is_some_and(|r| r.basis == "fact") {
        "former_customer"
    } else if bought > 0 {
        "customer"
    } else if reading.key.module == LEAD_MODULE {
        "lead"
    } else {
        "contact"
    }
}

/// new, active, quiet or lapsed, by the first and the last sign of life before the end of the view.
fn activity(reading: &Reading) -> Option<&'static str> {
    let alive = |data: &EventData| match data {
        EventData::InteractionReceived(i) => i.by_customer() || i.customer_text().is_some(),
        EventData::BehaviourObserved(_) => true,
        _ => false,
    };
    let known = &reading.facts[..reading.facts.partition_point(|f| f.event.time < reading.end)];
    let first = known.iter().find(|f| alive(&f.event.data))?.event.time;
    let last = known.iter().rfind(|f| alive(&f.event.data))?.event.time;
    let within = |time: Timestamp, days: u32| reading.end.duration_since(time) <= days_long(days);
    Some(match () {
        () if within(first, ACTIVE_DAYS) => "new",
        () if within(last, ACTIVE_DAYS) => "active",
        () if within(last, QUIET_DAYS) => "quiet",
        () => "lapsed",
    })
}
