//! What this customer wants, feels and thinks, and whether they can still be won (Z26, C09, C11).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::keywords::MentionSentiment;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Profile {
    /// Keywords of requests and purchases, most frequent first.
    pub needs: Vec<Topic>,
    /// Net sentiment of the window, -1 to 1.
    pub feeling: Option<f64>,
    /// What they think of each product they speak of.
    pub opinions: Vec<Opinion>,
    /// promoter, passive or detractor.
    pub stance: Option<String>,
    /// nps (their last answer) or sentiment.
    pub stance_basis: Option<String>,
    /// True where a warning label is active and nothing says that the customer has left; null without a warning.
    pub saveable: Option<bool>,
    /// Sum of the amounts of won deals.
    pub value: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Topic {
    pub keyword: String,
    pub count: u64,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Opinion {
    pub product: String,
    pub sentiment: MentionSentiment,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}
