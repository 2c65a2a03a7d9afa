//! Watched phrases that the customer used (C14, C15).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Watch {
    pub hits: Vec<WatchHit>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WatchHit {
    /// The watchlist's name and kind.
    pub name: String,
    pub kind: String,
    pub phrase: String,
    /// Occurrences.
    pub count: u64,
    /// Conversations in which it was said.
    pub reach: u64,
    #[schema(value_type = String, format = DateTime)]
    pub last_at: Timestamp,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}
