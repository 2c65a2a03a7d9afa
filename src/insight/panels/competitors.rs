//! Competitors that the customer mentions: how often, with what, how they compare to us, and the risk (Z14-Z16).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::keywords::MentionSentiment;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Competitors {
    pub rows: Vec<CompetitorRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CompetitorRow {
    pub competitor: String,
    /// Interactions that mention it.
    pub responses: u64,
    /// Occurrences.
    pub mentions: u64,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_mentioned_at: Option<Timestamp>,
    pub stance: Stance,
    pub switch_risk: SwitchRisk,
    /// Sentiment of the sentences that mention it, by mention.
    pub sentiment: MentionSentiment,
    /// Keywords of the same interactions.
    pub keywords: Vec<CompetitorKeyword>,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// Mean of p(positive) - p(negative), from -1 to 1; null where no sentence speaks of the side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stance {
    pub competitor: Option<f64>,
    pub us: Option<f64>,
}

/// The share of the mentioning interactions that lean toward the competitor or speak of switching.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SwitchRisk {
    pub p: f64,
    pub ci95: [f64; 2],
    pub n: u64,
    pub leaning: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CompetitorKeyword {
    pub keyword: String,
    pub count: u64,
}
