//! The keyword table: what the customer talks about, most recent first (Z13).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::scores::Sentiment;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Keywords {
    /// The most recently mentioned keywords.
    pub rows: Vec<KeywordRow>,
    /// Always null: the rows that are left out are counted in `total`.
    pub next: Option<String>,
    /// All keywords of the window.
    pub total: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KeywordRow {
    /// The form in which it was written most often.
    pub keyword: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_mentioned_at: Option<Timestamp>,
    /// Occurrences.
    pub mentions: u64,
    /// Interactions that mention it.
    pub responses: u64,
    pub sentiment: MentionSentiment,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// Sentiment toward something, by mention; `label` is the most frequent one, the more urgent of equals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MentionSentiment {
    pub label: Option<Sentiment>,
    pub positive: u64,
    pub neutral: u64,
    pub negative: u64,
}
