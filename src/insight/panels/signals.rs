//! Signals: what the customer's behaviour and words mean, and what to do about it (C01-C08). The rules are settings.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Signal {
    /// The rule's id.
    #[serde(rename = "type")]
    pub type_: String,
    pub meaning: String,
    pub action: String,
    pub count: u64,
    #[schema(value_type = String, format = DateTime)]
    pub last_at: Timestamp,
    /// Ids of interactions and of behaviour events, newest first.
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}
