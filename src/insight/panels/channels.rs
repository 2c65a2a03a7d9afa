//! Sentiment and intent by channel, and channels that are used for something else than intended (Z19, Z20).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{intent::IntentCounts, sentiment::SentimentCounts};
use crate::insight::{reading::Reading, statistics::pct};
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

/// Responses to surveys are opinions, not requests, unless the settings say otherwise.
const SURVEY: &str = "survey";

/// Both panels, channels in order of their names.
pub fn of(reading: &Reading) -> (Vec<ChannelSentiment>, Vec<ChannelIntent>) {
    let mut by_number = vec![<(SentimentCounts, IntentCounts)>::default(); reading.names.len()];
    for response in reading.shown() {
        let Some(channel) = response.fact.channel else { continue };
        let (sentiment, intent) = &mut by_number[channel as usize];
        sentiment.add(response.sentiment);
        if let Some(classified) = response.intent {
            intent.add(classified.label);
        }
    }
    let mut channels: Vec<(&str, (SentimentCounts, IntentCounts))> = reading
        .names
        .iter()
        .map(|name| &**name)
        .zip(by_number)
        .filter(|(_, (sentiment, _))| sentiment.total() > 0)
        .collect();
    channels.sort_by_key(|(name, _)| *name);
    let by_sentiment = channels.iter().map(|(channel, (counts, _))| ChannelSentiment {
        channel: (*channel).into(),
        positive: counts.positive,
        neutral: counts.neutral,
        negative: counts.negative,
    });
    let by_intent =
        channels.iter().filter(|(_, (_, counts))| counts.total() > 0).map(|(channel, (_, counts))| {
            let intended = intended(reading, channel);
            let off_purpose = |intent| counts.total() - counts.get(intent);
            ChannelIntent {
                channel: (*channel).into(),
                complaint: counts.complaint,
                purchase: counts.purchase,
                request: counts.request,
                other: counts.other,
                intended,
                off_purpose_pct: intended.map(|intent| pct(off_purpose(intent), counts.total())),
            }
        });
    (by_sentiment.collect(), by_intent.collect())
}

fn intended(reading: &Reading, channel: &str) -> Option<Intent> {
    let configured = reading.settings.channels.iter().find(|c| c.name == channel).map(|c| c.intended);
    configured.or((channel == SURVEY).then_some(Intent::Other))
}
