//! What drives the sentiment up or down, ranked by impact (K06-K08).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// impact = share x (mean with - mean without), where a response counts 1, 0 or -1. Negative impact pulls down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Driver {
    /// keyword, product or touchpoint.
    pub kind: String,
    pub theme: String,
    pub responses: u64,
    pub share: f64,
    pub mean_with: f64,
    pub mean_without: f64,
    pub impact: f64,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}
