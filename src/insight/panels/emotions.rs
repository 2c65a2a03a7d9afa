//! What the customer feels, finer than the sentiment: counts by emotion, and the feelings that stand out (K02, Z26).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::insight::{
    event::EventId,
    reading::{Reading, Response},
    statistics::pct,
};
use crate::scores::{Emotion, Label};

/// A feeling that was expressed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Feeling {
    pub emotion: String,
    /// Responses whose likeliest emotion it is.
    pub count: u64,
    /// Of all responses with an emotion, in percent.
    pub pct: f64,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// The likeliest emotion of a response; `None` where no model named one.
pub fn of_response(response: &Response) -> Option<Emotion> {
    response.fact.scores.as_ref()?.emotion.as_ref().map(|c| c.label)
}

/// Responses of the window by their likeliest emotion; empty while no model names emotions.
pub fn counts(reading: &Reading) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for emotion in reading.shown().iter().filter_map(of_response) {
        *counts.entry(emotion.name().to_owned()).or_default() += 1;
    }
    counts
}

/// The emotions of the window, neutral left out, most frequent first.
pub fn feelings(reading: &Reading) -> Vec<Feeling> {
    let shown = reading.shown();
    let mut felt: BTreeMap<Emotion, Vec<&EventId>> = BTreeMap::new();
    let mut total = 0;
    for response in shown {
        let Some(emotion) = of_response(response) else { continue };
        total += 1;
        if emotion != Emotion::Neutral {
            felt.entry(emotion).or_default().push(&response.fact.event.id);
        }
    }
    let mut felt: Vec<_> = felt.into_iter().collect();
    // Stable: equals stay in the order of the labels.
    felt.sort_by_key(|(_, ids)| std::cmp::Reverse(ids.len()));
    felt.into_iter()
        .map(|(emotion, ids)| {
            let count = ids.len() as u64;
            let (evidence, evidence_total) = reading.evidence(ids.into_iter());
            Feeling {
                emotion: emotion.name().into(),
                count,
                pct: pct(count, total),
                evidence,
                evidence_total,
            }
        })
        .collect()
}
