//! Hypotheses that the customer's behaviour suggests, and whether what they expect came true (X10).
//!
//! A signal rule can state what it expects (`expects` in its settings). Every sighting in the window is then followed:
//! confirmed where the outcome came within the days, refuted where the days have passed without it, open until then.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::signals;
use crate::insight::{
    event::{EventData, Outcome},
    history::Fact,
    reading::{Reading, days_long},
    settings::{Expectation, Expected, SignalRule},
    statistics::wilson_pct95,
};
use crate::scores::Intent;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Hypothesis {
    /// The id of the signal rule that states it.
    pub id: String,
    pub statement: String,
    /// What is expected to follow, and within how many days.
    pub expects: Expected,
    pub within_days: u32,
    /// open, supported, contradicted, or insufficient_evidence.
    pub state: String,
    /// Sightings, each followed on its own.
    pub sightings: u64,
    pub confirmed: u64,
    pub refuted: u64,
    pub open: u64,
    /// 95 % Wilson interval of the confirmed share of those that are decided, in percent.
    pub ci95: Option<[f64; 2]>,
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// Fewest decided sightings from which a hypothesis is called supported or contradicted.
pub const DECIDED_MIN: u64 = 3;

/// Hypotheses with a sighting in the window, in the order of their rules.
pub fn of(reading: &Reading) -> Vec<Hypothesis> {
    reading.settings.signals.iter().filter_map(|rule| follow(reading, rule, rule.expects.as_ref()?)).collect()
}

fn follow(reading: &Reading, rule: &SignalRule, expects: &Expectation) -> Option<Hypothesis> {
    let seen = signals::seen(reading, rule);
    let first = seen.first()?.event.time;
    let mut outcomes: Vec<Timestamp> =
        reading.facts.iter().filter(|f| comes_true(f, expects.outcome)).map(|f| f.event.time).collect();
    outcomes.extend(won(reading, expects.outcome));
    outcomes.sort();
    let within = days_long(expects.within_days);
    let (mut confirmed, mut refuted, mut open) = (0, 0, 0);
    for fact in &seen {
        let at = fact.event.time;
        let next = outcomes.get(outcomes.partition_point(|t| *t <= at)).filter(|t| **t < reading.end);
        if next.is_some_and(|t| t.duration_since(at) <= within) {
            confirmed += 1;
        } else if reading.end.duration_since(at) > within {
            refuted += 1;
        } else {
            open += 1;
        }
    }
    let decided = confirmed + refuted;
    let state = match decided {
        0 => "open",
        n if n < DECIDED_MIN => "insufficient_evidence",
        n if 2 * confirmed > n => "supported",
        _ => "contradicted",
    };
    let (evidence, evidence_total) = reading.evidence(seen.iter().map(|f| &f.event.id));
    Some(Hypothesis {
        id: rule.id.clone(),
        statement: expects.statement.clone(),
        expects: expects.outcome,
        within_days: expects.within_days,
        state: state.into(),
        sightings: seen.len() as u64,
        confirmed,
        refuted,
        open,
        ci95: wilson_pct95(confirmed, decided),
        since: first,
        evidence,
        evidence_total,
    })
}

fn comes_true(fact: &Fact, outcome: Expected) -> bool {
    let intent = || fact.scores.as_ref().and_then(|s| s.intent.as_ref()).map(|c| c.label);
    match (outcome, &fact.event.data) {
        (Expected::Purchase, EventData::BehaviourObserved(b)) => b.kind == "purchase",
        (Expected::Contact, EventData::InteractionReceived(i)) => i.by_customer() && fact.digest.is_some(),
        (Expected::Complaint, EventData::InteractionReceived(_)) => intent() == Some(Intent::Complaint),
        (Expected::Request, EventData::InteractionReceived(_)) => intent() == Some(Intent::Request),
        (Expected::Churn, EventData::CustomerChurned(_)) => true,
        _ => false,
    }
}

/// A won deal is a purchase.
fn won<'r>(reading: &'r Reading, outcome: Expected) -> impl Iterator<Item = Timestamp> + use<'r> {
    let changes = reading.deals.values().flatten().filter(move |_| outcome == Expected::Purchase);
    changes.filter(|(_, s)| s.outcome == Outcome::Won).map(|(fact, _)| fact.event.time)
}
