//! The journey through conversations: effort that piles up, feelings that escalate, and how the contacts went (K03, K04).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Journey {
    /// Conversations of at least three contacts that ended more negative than they began, worst first.
    pub escalation: Vec<Escalation>,
    pub effort: Effort,
    pub operations: Operations,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Escalation {
    pub thread_id: String,
    pub contacts: u64,
    pub channels: Vec<String>,
    /// Mean of p(positive) - p(negative) over the first half of the contacts, and over the second.
    pub net_from: f64,
    pub net_to: f64,
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub last_at: Timestamp,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// What it costs the customer to be heard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Effort {
    /// Interactions per conversation.
    pub contacts_per_response: Option<f64>,
    /// Conversations of more than one contact.
    pub repeated: u64,
    /// Conversations that went over more than one channel.
    pub channel_switches: u64,
}

/// How contacts went, as the telephone or ticket system measured them, beside how the customer felt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Operations {
    pub n: u64,
    pub handle_s_mean: Option<f64>,
    pub wait_s_mean: Option<f64>,
    pub resolved_pct: Option<f64>,
    /// Share of negatives among resolved and among unresolved contacts, in percent.
    pub negative_pct_resolved: Option<f64>,
    pub negative_pct_unresolved: Option<f64>,
}
