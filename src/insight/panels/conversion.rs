//! How a lead became a contact: when, how fast, and what they spoke of before (Z21, Z22).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::scores::Sentiment;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Conversion {
    /// `converted`, `open` (a lead that is not converted) or `none`.
    pub status: String,
    pub lead_id: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    /// From the creation of the lead to its conversion, one decimal; null where its creation is not known.
    pub days_to_convert: Option<f64>,
    /// What the lead's interactions before the conversion spoke of, most frequent first.
    pub keywords_before: Vec<KeywordBefore>,
    /// The lead's interactions before the conversion.
    pub responses_before: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KeywordBefore {
    pub keyword: String,
    pub count: u64,
    pub sentiment: Option<Sentiment>,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}
