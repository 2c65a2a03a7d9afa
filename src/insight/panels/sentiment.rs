//! Overall sentiment: the ring, its months, and what moved between the last two (Z09-Z12, Z19).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SentimentPanel {
    pub distribution: SentimentCounts,
    pub unique_responses: u64,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_negative_at: Option<Timestamp>,
    /// The channel that the customer used most; the more recently used one of equals.
    pub preferred_channel: Option<String>,
    /// Months from the first to the last with interactions, those without included.
    pub series: Vec<SentimentPoint>,
    /// The last two months with interactions, compared; null where there is only one.
    pub change: Option<Change>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SentimentCounts {
    pub positive: u64,
    pub neutral: u64,
    pub negative: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SentimentPoint {
    /// `YYYY-MM`, in UTC.
    pub bucket: String,
    pub positive: u64,
    pub neutral: u64,
    pub negative: u64,
    pub unique_responses: u64,
}

/// How net sentiment moved from one month to another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    pub from: String,
    pub to: String,
    /// up, down or flat.
    pub direction: String,
    /// Two-sided p of the pooled test of both nets; null where all answers are alike.
    pub p: Option<f64>,
    pub net_from: f64,
    pub net_to: f64,
    /// Keywords whose share among the negatives (down) or positives (up) rose most.
    pub drivers: Vec<String>,
    /// `insufficient_evidence` where a month has too few interactions to say.
    pub note: Option<String>,
}
