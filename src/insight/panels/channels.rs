//! Sentiment and intent by channel, and channels that are used for something else than intended (Z19, Z20).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::scores::Intent;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChannelSentiment {
    pub channel: String,
    pub positive: u64,
    pub neutral: u64,
    pub negative: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChannelIntent {
    pub channel: String,
    pub complaint: u64,
    pub purchase: u64,
    pub request: u64,
    pub other: u64,
    /// What the channel is meant for; null where nothing is configured.
    pub intended: Option<Intent>,
    /// Share of its responses with another intent, in percent; null without `intended`.
    pub off_purpose_pct: Option<f64>,
}
