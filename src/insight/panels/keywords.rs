//! The keyword table: what the customer talks about, most recent first (Z13).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::insight::{
    reading::Reading,
    statistics::{Trinomial, round, same_net_p},
    tally::Count,
};
use crate::scores::Sentiment;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Keywords {
    /// The most recently mentioned keywords.
    pub rows: Vec<KeywordRow>,
    /// The `cursor` of the rows that are left out, for `GET .../keywords` under the same view; null at the end.
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
    /// Null below [`TREND_RESPONSES_MIN`] responses.
    pub trend: Option<Trend>,
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

/// How a keyword moved from the first half of the window to the second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Trend {
    /// rising, falling or steady.
    pub direction: String,
    /// Responses that mention it, in either half.
    pub before: u64,
    pub recent: u64,
    /// Two-sided p that its share of the responses is the same in both halves; null where it cannot be told.
    pub p: Option<f64>,
}

/// Fewest responses of which a trend is told.
pub const TREND_RESPONSES_MIN: usize = 3;
/// A change of share with a larger p may be chance, and is called steady.
pub const TREND_P_MAX: f64 = 0.05;

/// Most rows of the table.
pub const KEYWORD_ROWS_MAX: usize = 100;

impl Keywords {
    /// The first rows.
    pub fn of(reading: &Reading) -> Self {
        Self::after(reading, 0, KEYWORD_ROWS_MAX)
    }

    /// Rows after the first `skip`, as a page of at most `limit`. `next` says how many to skip then.
    pub fn after(reading: &Reading, skip: usize, limit: usize) -> Self {
        let shown = reading.shown();
        let mut counts: Vec<&Count> = reading.counts().iter().collect();
        let total = counts.len() as u64;
        counts.sort_by_key(|c| {
            let recent = (c.responses.last().copied(), c.mentions);
            (std::cmp::Reverse(recent), &reading.keywords[c.keyword as usize])
        });
        let half = Half::of(reading);
        let rows = counts.iter().skip(skip).take(limit).map(|count| {
            let (evidence, evidence_total) = reading.evidence(count.ids(shown));
            KeywordRow {
                keyword: count.form(),
                last_mentioned_at: count.last(shown).map(|r| r.at),
                mentions: count.mentions,
                responses: count.responses.len() as u64,
                sentiment: count.sentiment.into(),
                trend: half.trend(&count.responses),
                evidence,
                evidence_total,
            }
        });
        let rows: Vec<KeywordRow> = rows.collect();
        let shown_rows = skip + rows.len();
        let next = (!rows.is_empty() && shown_rows < counts.len()).then(|| shown_rows.to_string());
        Self { rows, next, total }
    }
}

/// The responses of the window, cut in the middle of its time.
struct Half {
    before: u64,
    recent: u64,
}

impl Half {
    /// The middle is that of the window's days; where it has no beginning, of the responses' time.
    fn of(reading: &Reading) -> Self {
        let shown = reading.shown();
        let first = reading.view.from.and_then(|day| reading.view.midnight(day));
        let first = first.or(shown.first().map(|r| r.at)).unwrap_or(reading.end);
        let last = if reading.view.from.is_some() { Some(reading.end) } else { shown.last().map(|r| r.at) };
        let length = last.unwrap_or(reading.end).duration_since(first);
        let middle = first.checked_add(length / 2).unwrap_or(reading.end);
        let before = shown.partition_point(|r| r.at < middle);
        Self { before: before as u64, recent: (shown.len() - before) as u64 }
    }

    /// Takes the positions of the responses that mention a keyword, in order.
    fn trend(&self, responses: &[u32]) -> Option<Trend> {
        if responses.len() < TREND_RESPONSES_MIN {
            return None;
        }
        let before = responses.partition_point(|i| u64::from(*i) < self.before) as u64;
        let recent = responses.len() as u64 - before;
        let share = |with: u64, of: u64| Trinomial { up: with, middle: of - with, down: 0 };
        let (then, now) = (share(before, self.before), share(recent, self.recent));
        let p = same_net_p(then, now);
        let direction = match (p.is_some_and(|p| p <= TREND_P_MAX), then.net(), now.net()) {
            (true, Some(then), Some(now)) if now > then => "rising",
            (true, Some(_), Some(_)) => "falling",
            _ => "steady",
        };
        Some(Trend { direction: direction.into(), before, recent, p: p.map(|p| round(p, 4)) })
    }
}
