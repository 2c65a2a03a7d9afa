//! Intent: the ring, its months, and what was asked for and whether it was resolved (Z17, Z18).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::scores::Intent;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IntentPanel {
    pub distribution: IntentCounts,
    pub series: Vec<IntentPoint>,
    /// Complaints, purchases and requests, newest first.
    pub items: Vec<IntentItem>,
    /// All of them, also those that `items` leaves out.
    pub items_total: u64,
    /// Complaints and requests that are not resolved.
    pub open_total: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IntentCounts {
    pub complaint: u64,
    pub purchase: u64,
    pub request: u64,
    pub other: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IntentPoint {
    /// `YYYY-MM`, in UTC.
    pub bucket: String,
    pub complaint: u64,
    pub purchase: u64,
    pub request: u64,
    pub other: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IntentItem {
    /// The interaction's evidence id.
    pub id: String,
    pub intent: Intent,
    pub confidence: f64,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Its best keyphrase, or the first words.
    pub summary: String,
    pub resolved: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub resolved_at: Option<Timestamp>,
    pub channel: String,
    pub thread_id: Option<String>,
}
