//! The warning labels: which rule raised one, since when, how badly, and on what evidence (Z05-Z08).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Ids of the labels, in the order in which documents list them.
pub const LABELS: [&str; 3] = ["negative_customer", "may_switch_to_competitor", "churned_customer"];

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
