//! Churned customer: a fact where an event says so, inferred where the customer gives notice in their own words (Z07).
//!
//! Rule `churn_event`: the last churn event, until a later purchase or won deal. Rule `statement`: in the last
//! `window_days` days the customer said that they cancel or have left, and did not buy since. Severity 3 for a fact and
//! for repeated statements, 2 for one statement.

use jiff::Timestamp;
use serde_json::json;

use super::Raised;
use crate::insight::event::{EventData, Outcome};
use crate::insight::history::Fact;
use crate::insight::lexicon::Cue;
use crate::insight::reading::Reading;

pub fn judge<'a>(reading: &Reading<'a>) -> Option<Raised<'a>> {
    let known: Vec<&'a Fact> = reading.rare.iter().copied().filter(|f| f.event.time < reading.end).collect();
    let came_back = came_back(reading, &known);
    let still = |fact: &&Fact| came_back.is_none_or(|back| fact.event.time > back);
    let churn = known.iter().copied().filter(still).rev().find_map(|fact| match &fact.event.data {
        EventData::CustomerChurned(churned) => Some((fact, churned)),
        _ => None,
    });
    if let Some((fact, churned)) = churn {
        return Some(Raised {
            severity: 3,
            basis: "fact",
            since: fact.event.time,
            cause: vec![],
            rule: "churn_event",
            inputs: json!({"event": {"source": fact.event.id.source, "id": fact.event.id.id}, "reason": churned.reason}),
            evidence: vec![&fact.event.id],
        });
    }
    let days = reading.settings.labels.window_days;
    let (_, recent) = reading.last_days(days);
    let says = |fact: &&Fact| fact.digest.as_ref().is_some_and(|d| d.says(Cue::Churn));
    let statements: Vec<&'a Fact> = recent.iter().copied().filter(says).filter(still).collect();
    let first = statements.first()?;
    Some(Raised {
        severity: if statements.len() > 1 { 3 } else { 2 },
        basis: "inferred",
        since: first.event.time,
        cause: vec![],
        rule: "statement",
        inputs: json!({"statements": statements.len(), "window_days": days}),
        evidence: statements.iter().map(|fact| &fact.event.id).collect(),
    })
}

/// The last purchase or won deal.
fn came_back(reading: &Reading, known: &[&Fact]) -> Option<Timestamp> {
    let bought = known.iter().rev().find_map(|fact| match &fact.event.data {
        EventData::BehaviourObserved(b) if b.kind == "purchase" => Some(fact.event.time),
        _ => None,
    });
    let won = reading.deals.values().flatten().filter(|(_, s)| s.outcome == Outcome::Won);
    won.map(|(fact, _)| fact.event.time).filter(|at| *at < reading.end).chain(bought).max()
}
