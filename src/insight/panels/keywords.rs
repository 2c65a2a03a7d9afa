//! The keyword table: what the customer talks about, most recent first (Z13).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::insight::{reading::Reading, tally::Count};
use crate::scores::Sentiment;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Keywords {
    /// The most recently mentioned keywords.
    pub rows: Vec<KeywordRow>,
    /// Always null: the rows that are left out are counted in `total`.
    pub next: Option<String>,
    /// All keywords of the window.
    pub total: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KeywordRow {
    /// The form in which it was written most often.
    pub keyword: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_mentioned_at: Option<Timestamp>,
    /// Occurrences.
    pub mentions: u64,
    /// Interactions that mention it.
    pub responses: u64,
    pub sentiment: MentionSentiment,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// Sentiment toward something, by mention; `label` is the most frequent one, the more urgent of equals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MentionSentiment {
    pub label: Option<Sentiment>,
    pub positive: u64,
    pub neutral: u64,
    pub negative: u64,
}

/// Most rows of the table.
pub const KEYWORD_ROWS_MAX: usize = 100;

impl Keywords {
    pub fn of(reading: &Reading) -> Self {
        let shown = reading.shown();
        let mut counts: Vec<&Count> = reading.counts().iter().collect();
        let total = counts.len() as u64;
        counts.sort_by_key(|c| {
            let recent = (c.responses.last().copied(), c.mentions);
            (std::cmp::Reverse(recent), &reading.keywords[c.keyword as usize])
        });
        let rows = counts.iter().take(KEYWORD_ROWS_MAX).map(|count| {
            let (evidence, evidence_total) = reading.evidence(count.ids(shown));
            KeywordRow {
                keyword: count.form(),
                last_mentioned_at: count.last(shown).map(|r| r.at),
                mentions: count.mentions,
                responses: count.responses.len() as u64,
                sentiment: count.sentiment.into(),
                evidence,
                evidence_total,
            }
        });
        Self { rows: rows.collect(), next: None, total }
    }
}
