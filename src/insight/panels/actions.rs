//! What should be done: a suggestion for each active label, and the cases that somebody works on (C10, X11).
//!
//! A label asks for one case at a time. While a case of it is open, that is shown; a closed one quiets the label until
//! the customer gives new evidence. Open cases are always shown, whatever has become of their label; a done one until
//! the customer was told, and both kinds of closed ones within the window.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::highlights::Highlights;
use crate::insight::{
    action::{self, ActionChange, ActionState, Case},
    event::{EventData, EventId},
    history::{Fact, History},
    reading::Reading,
    rules,
};

/// The state of an action that nobody has taken up.
pub const SUGGESTED: &str = "suggested";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Action {
    /// For `PATCH /v1/actions/{id}`; a suggestion becomes a case of the same id.
    #[schema(example = "act_5f0c6d2b1e9a4c7788d1e2f3")]
    pub id: String,
    /// What to do: call_back, save, win_back, answer, review.
    pub kind: String,
    /// The label that asks for it, or the rule of the alert that did.
    pub label: String,
    /// 1 (notice) to 3 (act now): of the label, for a case when it was opened.
    pub severity: Option<u8>,
    /// suggested, open, in_progress, done or dismissed.
    pub state: String,
    pub owner_team: Option<String>,
    pub assignee: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub opened_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub changed_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub customer_told_at: Option<Timestamp>,
    pub note: Option<String>,
    /// Changes of the case up to now; 0 for a suggestion.
    pub changes: u64,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// What to do about a label or an alert.
pub fn kind(label: &str) -> &'static str {
    match label {
        rules::CHURNED => "win_back",
        rules::MAY_SWITCH | "competitor_mentioned" => "save",
        "critical_feedback" => "answer",
        "watch_hit" => "review",
        _ => "call_back",
    }
}

/// Whether a fact has a part in documents. A case that a rule opened falls with the event that made it do so, as if that
/// had never come; what a person did about it stays.
pub fn stands(history: &History, fact: &Fact) -> bool {
    match &fact.event.data {
        EventData::ActionChanged(change) if change.by_rule => {
            change.cause.as_ref().is_none_or(|cause| history.get(cause).is_some())
        }
        _ => true,
    }
}

/// Suggestions and cases: what is left to do first, and of that the most severe.
pub fn of(reading: &Reading, highlights: &Highlights) -> Vec<Action> {
    let cases = cases(reading);
    let mut actions: Vec<Action> = Vec::new();
    for label in highlights.labels.iter().filter(|l| l.active) {
        let of_label = || cases.iter().filter(|case| case.label == label.id);
        let closed_at = of_label().map(|case| case.changed_at).max();
        let quiet = of_label().any(|case| !case.state.is_closed())
            || closed_at.is_some_and(|at| newest_evidence(reading, label).is_none_or(|newest| newest <= at));
        if !quiet {
            actions.push(suggestion(reading, label, of_label().count()));
        }
    }
    for case in &cases {
        let told = case.customer_told_at.is_some() || case.state == ActionState::Dismissed;
        if !case.state.is_closed() || !told || reading.view.shows(case.changed_at) {
            actions.push(of_case(reading, highlights, case));
        }
    }
    // Stable: equals stay in the order of the labels, cases in that of their opening.
    let closed = |a: &Action| matches!(a.state.as_str(), "done" | "dismissed");
    actions.sort_by_key(|a| (closed(a), std::cmp::Reverse(a.severity)));
    actions
}

/// The cases of the record itself and of what has become it.
fn cases(reading: &Reading) -> Vec<Case> {
    let changes = reading.rare.iter().filter_map(|fact| match &fact.event.data {
        EventData::ActionChanged(change) if reading.is_alias(&change.record) => {
            Some((fact.event.time, &**change))
        }
        _ => None,
    });
    action::cases(changes.map(|(at, change): (Timestamp, &ActionChange)| (at, change)))
}

fn newest_evidence(reading: &Reading, label: &rules::Label) -> Option<Timestamp> {
    let newest = label.evidence.first()?;
    // Only what ends like the name can be called so.
    let named =
        |fact: &&&Fact| newest.ends_with(&fact.event.id.id) && reading.name(&fact.event.id) == *newest;
    reading.facts.iter().rev().find(named).map(|fact| fact.event.time)
}

fn suggestion(reading: &Reading, label: &rules::Label, number: usize) -> Action {
    let route = reading.settings.route(&label.id);
    Action {
        id: action::id(reading.key, &label.id, number),
        kind: kind(&label.id).into(),
        label: label.id.clone(),
        severity: label.severity,
        state: SUGGESTED.into(),
        owner_team: route.map(|r| r.team.clone()),
        due_at: route.and_then(|r| r.due_at(label.since?, label.severity.unwrap_or(1))),
        evidence: label.evidence.clone(),
        evidence_total: label.evidence_total,
        ..Action::default()
    }
}

/// A case of an active label rests on what the label rests on; another one on what it was opened for.
fn of_case(reading: &Reading, highlights: &Highlights, case: &Case) -> Action {
    let label = highlights.labels.iter().find(|l| l.active && l.id == case.label && !case.state.is_closed());
    let (evidence, evidence_total) = match label {
        Some(label) => (label.evidence.clone(), label.evidence_total),
        None => {
            let known = |id: &&EventId| reading.facts.iter().any(|fact| fact.event.id == **id);
            reading.evidence(case.cause.iter().filter(known))
        }
    };
    Action {
        id: case.id.clone(),
        kind: case.kind.clone(),
        label: case.label.clone(),
        severity: case.severity,
        state: case.state.name().into(),
        owner_team: case.owner_team.clone(),
        assignee: case.assignee.clone(),
        due_at: case.due_at,
        opened_at: Some(case.opened_at),
        changed_at: Some(case.changed_at),
        customer_told_at: case.customer_told_at,
        note: case.note.clone(),
        changes: case.changes,
        evidence,
        evidence_total,
    }
}
