//! A record in a list: the few numbers of its document that lists are filtered and sorted by.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::document::Document;
use super::event::RecordKey;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub record: RecordKey,
    /// Ids of the active labels, and the highest severity among them.
    pub labels: Vec<String>,
    pub severity: Option<u8>,
    pub interactions: u64,
    pub positive: u64,
    pub neutral: u64,
    pub negative: u64,
    /// (positive - negative) / interactions of the window, -1 to 1; `None` without interactions.
    pub net_sentiment: Option<f64>,
    pub last_activity_at: Option<Timestamp>,
}

impl Summary {
    pub fn of(document: &Document) -> Self {
        let counts = &document.sentiment.distribution;
        let total = document.highlights.total;
        let active = || document.highlights.labels.iter().filter(|l| l.active);
        Self {
            record: RecordKey { module: document.record.module.clone(), id: document.record.id.clone() },
            labels: active().map(|l| l.id.clone()).collect(),
            severity: active().filter_map(|l| l.severity).max(),
            interactions: total,
            positive: counts.positive,
            neutral: counts.neutral,
            negative: counts.negative,
            net_sentiment: (total > 0)
                .then(|| (counts.positive as f64 - counts.negative as f64) / total as f64),
            last_activity_at: document.meta.last_activity_at,
        }
    }
}
