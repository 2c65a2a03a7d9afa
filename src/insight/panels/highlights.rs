//! Highlights: how many of all interactions are positive, neutral and negative, and the warning labels (Z04-Z08).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::insight::{
    reading::Reading,
    rules::{self, Label},
    statistics::{pct, wilson_pct95},
};

use super::sentiment::SentimentCounts;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Highlights {
    pub total: u64,
    pub sentiment: Shares,
    pub labels: Vec<Label>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Shares {
    pub positive: Share,
    pub neutral: Share,
    pub negative: Share,
}

/// `pct` of all interactions, with the 95 % Wilson interval, both in percent. No interval without interactions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Share {
    pub count: u64,
    pub pct: f64,
    pub ci95: Option<[f64; 2]>,
}

impl Highlights {
    pub fn of(reading: &Reading) -> Self {
        let counts = SentimentCounts::of(reading.shown());
        let total = counts.total();
        let share = |count| Share { count, pct: pct(count, total), ci95: wilson_pct95(count, total) };
        Self {
            total,
            sentiment: Shares {
                positive: share(counts.positive),
                neutral: share(counts.neutral),
                negative: share(counts.negative),
            },
            labels: rules::labels(reading),
        }
    }
}
