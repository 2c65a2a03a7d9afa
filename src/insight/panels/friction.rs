//! Where the customer meets friction, by touchpoint and product, and what they did afterwards (K06-K09, X05).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Friction {
    /// touchpoint or product.
    pub kind: String,
    pub place: String,
    pub responses: u64,
    pub negatives: u64,
    pub negative_pct: f64,
    pub ci95: Option<[f64; 2]>,
    pub aftermath: Aftermath,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// What followed the negatives within a named number of days.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Aftermath {
    pub within_days: u32,
    /// Negatives that were followed by another contact; of these, by one that was positive.
    pub contacted_again: u64,
    pub recovered: u64,
    pub silent: u64,
    pub churned: u64,
    pub purchased: u64,
}
