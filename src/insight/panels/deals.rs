//! Deals: what the customer said before and after the decisive stage change, and why it was won or lost (Z23-Z25).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{insight::event::Outcome, scores::Sentiment};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Deal {
    pub deal_id: String,
    /// The last change to won or lost, or the last change while the deal is open.
    pub transition: Transition,
    pub before: DealSide,
    pub after: DealSide,
    /// Null where sentiment did not turn over.
    pub flip: Option<Flip>,
    pub reasons: Vec<Reason>,
    pub outcome: DealOutcome,
    pub amount: Option<f64>,
    /// All stage changes, oldest first.
    pub transitions: Vec<Transition>,
}

/// open, won or lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DealOutcome {
    #[default]
    Open,
    Won,
    Lost,
}

impl From<Outcome> for DealOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Open => Self::Open,
            Outcome::Won => Self::Won,
            Outcome::Lost => Self::Lost,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Transition {
    pub from: Option<String>,
    pub to: String,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    pub outcome: DealOutcome,
}

/// The interactions on one side of the transition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DealSide {
    pub responses: u64,
    /// (positive - negative) / responses; null without responses.
    pub net_sentiment: Option<f64>,
    pub keywords: Vec<DealKeyword>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DealKeyword {
    pub keyword: String,
    pub count: u64,
    pub sentiment: Option<Sentiment>,
    /// How much more typical of this side than of the other, in standard deviations.
    pub z: Option<f64>,
}

/// Sentiment turned over at the transition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Flip {
    /// positive_to_negative or negative_to_positive.
    #[serde(rename = "type")]
    pub type_: String,
    pub advice: String,
    /// `insufficient_evidence` where a side has too few responses.
    pub note: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// won or lost.
    pub kind: String,
    /// The reason as the stage change gives it, or a keyword of the interactions before it.
    pub keyword: String,
    pub count: u64,
    /// stage or keywords.
    pub from: String,
}
