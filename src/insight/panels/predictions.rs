//! What the next response will be like, and how well such forecasts have held for this customer (X04).
//!
//! The forecast is the mean of a Beta posterior over the customer's own responses, where an older response weighs less
//! ([`DECAY`] per step). Its calibration is prequential (Dawid 1984): every past response is forecast from those before
//! it, and the Brier score of these forecasts stands beside that of the plain running share. While fewer than
//! [`FORECASTS_MIN`] were made there is no forecast, only `insufficient_evidence`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::insight::{
    reading::{Reading, Response},
    statistics::{quantile, round},
};
use crate::scores::{Intent, Sentiment};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Prediction {
    /// next_response_negative or next_response_complaint.
    pub id: String,
    /// How likely it is; null with a note.
    pub p: Option<f64>,
    /// 95 %, by the normal approximation of the posterior.
    pub ci95: Option<[f64; 2]>,
    /// How it was made.
    pub method: String,
    pub calibration: Calibration,
    /// `insufficient_evidence`, or `no_better_than_base_rate` where the plain share forecasts as well.
    pub note: Option<String>,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// How the same forecasts have held so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Calibration {
    /// Past responses that were forecast.
    pub n: u64,
    pub mean_predicted: Option<f64>,
    pub observed: Option<f64>,
    /// Mean squared error of the forecasts; lower is better.
    pub brier: Option<f64>,
    /// The same of the running share of all responses before.
    pub brier_base_rate: Option<f64>,
}

/// Weight of a response relative to the one after it.
pub const DECAY: f64 = 0.9;
/// The Beta prior: worth this many responses, a third of which are as forecast.
const PRIOR: (f64, f64) = (0.5, 1.0);
/// Fewest past forecasts from which a forecast is given.
pub const FORECASTS_MIN: u64 = 10;
/// Only so many of the last responses are looked at.
pub const RESPONSES_MAX: usize = 200;

/// Both forecasts, as of the end of the view.
pub fn of(reading: &Reading) -> Vec<Prediction> {
    let known = &reading.responses[..reading.judged()];
    let recent = &known[known.len().saturating_sub(RESPONSES_MAX)..];
    let negative = |r: &Response| Some(r.sentiment == Sentiment::Negative);
    let complaint = |r: &Response| r.intent.map(|i| i.label == Intent::Complaint);
    vec![
        forecast(reading, recent, "next_response_negative", negative),
        forecast(reading, recent, "next_response_complaint", complaint),
    ]
}

fn forecast(
    reading: &Reading,
    recent: &[Response],
    id: &str,
    happened: impl Fn(&Response) -> Option<bool>,
) -> Prediction {
    let (mut hits, mut weight) = PRIOR;
    weight += hits;
    let (mut plain_hits, mut plain_weight) = (hits, weight);
    let (mut n, mut predicted, mut observed, mut brier, mut brier_plain) = (0u64, 0.0, 0.0, 0.0, 0.0);
    let mut seen = Vec::new();
    for response in recent {
        let Some(hit) = happened(response) else { continue };
        let outcome = f64::from(u8::from(hit));
        if !seen.is_empty() {
            let (p, plain) = (hits / weight, plain_hits / plain_weight);
            n += 1;
            predicted += p;
            observed += outcome;
            brier += (p - outcome).powi(2);
            brier_plain += (plain - outcome).powi(2);
        }
        seen.push(&response.fact.event.id);
        // The prior does not fade: only what was seen does.
        hits = PRIOR.0 + DECAY * (hits - PRIOR.0) + outcome;
        weight = PRIOR.0 + PRIOR.1 + DECAY * (weight - PRIOR.0 - PRIOR.1) + 1.0;
        plain_hits += outcome;
        plain_weight += 1.0;
    }
    let mean = |sum: f64| (n > 0).then(|| round(sum / n as f64, 3));
    let enough = n >= FORECASTS_MIN;
    let p = hits / weight;
    let half = quantile(0.95) * (p * (1.0 - p) / (weight + 1.0)).sqrt();
    let note = match enough {
        false => Some("insufficient_evidence"),
        true if brier >= brier_plain => Some("no_better_than_base_rate"),
        true => None,
    };
    let (evidence, evidence_total) = reading.evidence(seen.into_iter());
    Prediction {
        id: id.into(),
        p: enough.then(|| round(p, 3)),
        ci95: enough.then(|| [round((p - half).max(0.0), 3), round((p + half).min(1.0), 3)]),
        method: "share of the last responses, older ones fading by a tenth each; Beta(0.5, 1) prior".into(),
        calibration: Calibration {
            n,
            mean_predicted: mean(predicted),
            observed: mean(observed),
            brier: mean(brier),
            brier_base_rate: mean(brier_plain),
        },
        note: note.map(Into::into),
        evidence,
        evidence_total,
    }
}
