//! The warning labels: which rule raised one, since when, how badly, and on what evidence (Z05-Z08).

mod churn;
mod negative;
mod switching;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::event::EventId;
use super::reading::Reading;

pub const NEGATIVE: &str = "negative_customer";
pub const MAY_SWITCH: &str = "may_switch_to_competitor";
pub const CHURNED: &str = "churned_customer";

/// Ids of the labels, in the order in which documents list them.
pub const LABELS: [&str; 3] = [NEGATIVE, MAY_SWITCH, CHURNED];

/// A warning label; all three are always listed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Label {
    pub id: String,
    pub active: bool,
    /// 1 (notice) to 3 (act now); null while not active.
    pub severity: Option<u8>,
    /// `fact` or `inferred`.
    pub basis: Option<String>,
    /// Since when it has been active without a break.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// product, service, communication: what the negatives are about, most frequent first.
    pub cause: Vec<String>,
    /// The rule that raised it.
    pub rule: Option<String>,
    /// What the rule was given, its thresholds included.
    #[schema(value_type = Object)]
    pub inputs: serde_json::Value,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// An active label before it is written down.
pub struct Raised<'a> {
    pub severity: u8,
    pub basis: &'static str,
    pub since: Timestamp,
    pub cause: Vec<String>,
    pub rule: &'static str,
    pub inputs: serde_json::Value,
    /// What it rests on, in order of time.
    pub evidence: Vec<&'a EventId>,
}

/// All labels of a record, in the order of [`LABELS`].
pub fn labels(reading: &Reading) -> Vec<Label> {
    LABELS
        .into_iter()
        .map(|id| match raised(reading, id) {
            Some(raised) => {
                let (evidence, evidence_total) = reading.evidence(raised.evidence.into_iter());
                Label {
                    id: id.into(),
                    active: true,
                    severity: Some(raised.severity),
                    basis: Some(raised.basis.into()),
                    since: Some(raised.since),
                    cause: raised.cause,
                    rule: Some(raised.rule.into()),
                    inputs: raised.inputs,
                    evidence,
                    evidence_total,
                }
            }
            None => Label { id: id.into(), inputs: serde_json::json!({}), ..Label::default() },
        })
        .collect()
}

/// A label by its id, where it is active.
pub fn raised<'a>(reading: &Reading<'a>, id: &str) -> Option<Raised<'a>> {
    match id {
        NEGATIVE => negative::judge(reading),
        MAY_SWITCH => switching::judge(reading),
        CHURNED => churn::judge(reading),
        _ => None,
    }
}
