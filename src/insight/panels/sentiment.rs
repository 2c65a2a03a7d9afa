//! Overall sentiment: the ring, its months, and what moved between the last two (Z09-Z12, Z19).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::insight::{
    reading::{Reading, Response, month_name},
    statistics::{Trinomial, round, same_net_p},
    tally,
};
use crate::scores::Sentiment;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SentimentPanel {
    pub distribution: SentimentCounts,
    pub unique_responses: u64,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_negative_at: Option<Timestamp>,
    /// The channel that the customer used most; the more recently used one of equals.
    pub preferred_channel: Option<String>,
    /// Months from the first to the last with interactions, those without included.
    pub series: Vec<SentimentPoint>,
    /// The last two months with interactions, compared; null where there is only one.
    pub change: Option<Change>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SentimentCounts {
    pub positive: u64,
    pub neutral: u64,
    pub negative: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SentimentPoint {
    /// `YYYY-MM`, in UTC.
    pub bucket: String,
    pub positive: u64,
    pub neutral: u64,
    pub negative: u64,
    pub unique_responses: u64,
}

/// How net sentiment moved from one month to another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    pub from: String,
    pub to: String,
    /// up, down or flat.
    pub direction: String,
    /// Two-sided p of the pooled test of both nets; null where all answers are alike.
    pub p: Option<f64>,
    pub net_from: f64,
    pub net_to: f64,
    /// Keywords whose share among the negatives (down) or positives (up) rose most.
    pub drivers: Vec<String>,
    /// `insufficient_evidence` where a month has too few interactions to say.
    pub note: Option<String>,
}

/// Empty months between the first and the last are listed while the series is no longer than this.
pub const SERIES_MONTHS_MAX: i32 = 600;
/// Keywords that a change names.
pub const CHANGE_DRIVERS_MAX: usize = 3;
/// Below this many interactions in a month a change carries the note `insufficient_evidence`.
pub const CHANGE_RESPONSES_MIN: u64 = 3;

impl SentimentCounts {
    pub fn of(responses: &[Response]) -> Self {
        let mut counts = Self::default();
        responses.iter().for_each(|r| counts.add(r.sentiment));
        counts
    }

    pub fn add(&mut self, sentiment: Sentiment) {
        match sentiment {
            Sentiment::Positive => self.positive += 1,
            Sentiment::Neutral => self.neutral += 1,
            Sentiment::Negative => self.negative += 1,
        }
    }

    pub fn total(self) -> u64 {
        self.positive + self.neutral + self.negative
    }

    /// (positive - negative) / total; `None` without interactions.
    pub fn net(self) -> Option<f64> {
        Trinomial::from(self).net()
    }
}

impl From<SentimentCounts> for Trinomial {
    fn from(counts: SentimentCounts) -> Self {
        Self { up: counts.positive, middle: counts.neutral, down: counts.negative }
    }
}

/// Some responses by month, in order: each month with its responses, those without in between.
pub fn months<'r, 'a>(responses: &'r [Response<'a>]) -> Vec<(i32, &'r [Response<'a>])> {
    let mut months: Vec<(i32, &[Response])> = Vec::new();
    let (Some(first), Some(last)) = (responses.first(), responses.last()) else { return months };
    let fill = last.month - first.month < SERIES_MONTHS_MAX;
    for group in responses.chunk_by(|a, b| a.month == b.month) {
        let month = group[0].month;
        while fill
            && let Some((before, _)) = months.last()
            && *before + 1 < month
        {
            months.push((before + 1, &[]));
        }
        months.push((month, group));
    }
    months
}

impl SentimentPanel {
    pub fn of(reading: &Reading) -> Self {
        let shown = reading.shown();
        let mut seen_in = vec![i32::MIN; reading.threads];
        let series = months(shown)
            .into_iter()
            .map(|(month, responses)| {
                let counts = SentimentCounts::of(responses);
                let is_new = |r: &&Response| std::mem::replace(&mut seen_in[r.thread], month) != month;
                SentimentPoint {
                    bucket: month_name(month),
                    positive: counts.positive,
                    neutral: counts.neutral,
                    negative: counts.negative,
                    unique_responses: responses.iter().filter(is_new).count() as u64,
                }
            })
            .collect();
        Self {
            distribution: SentimentCounts::of(shown),
            unique_responses: unique(reading, shown),
            last_negative_at: shown.iter().rfind(|r| r.sentiment == Sentiment::Negative).map(|r| r.at),
            preferred_channel: preferred_channel(shown),
            series,
            change: change(reading, shown),
        }
    }
}

/// Number of conversations among some responses.
pub fn unique(reading: &Reading, responses: &[Response]) -> u64 {
    let mut seen = vec![false; reading.threads];
    responses.iter().filter(|r| !std::mem::replace(&mut seen[r.thread], true)).count() as u64
}

fn preferred_channel(responses: &[Response]) -> Option<String> {
    let mut uses: Vec<(&str, u64, usize)> = Vec::new();
    for (i, response) in responses.iter().enumerate() {
        let channel = response.interaction.channel.as_str();
        match uses.iter_mut().find(|(name, ..)| *name == channel) {
            Some((_, n, last)) => (*n, *last) = (*n + 1, i),
            None => uses.push((channel, 1, i)),
        }
    }
    uses.into_iter().max_by_key(|(_, n, last)| (*n, *last)).map(|(channel, ..)| channel.into())
}

fn change(reading: &Reading, shown: &[Response]) -> Option<Change> {
    let groups: Vec<&[Response]> = shown.chunk_by(|a, b| a.month == b.month).collect();
    let [.., before, after] = groups.as_slice() else { return None };
    let (from, to) = (SentimentCounts::of(before), SentimentCounts::of(after));
    let (net_from, net_to) = (round(from.net()?, 2), round(to.net()?, 2));
    let (direction, class) = match net_to.partial_cmp(&net_from) {
        Some(std::cmp::Ordering::Greater) => ("up", Some(Sentiment::Positive)),
        Some(std::cmp::Ordering::Less) => ("down", Some(Sentiment::Negative)),
        _ => ("flat", None),
    };
    let few = from.total().min(to.total()) < CHANGE_RESPONSES_MIN;
    Some(Change {
        from: month_name(before[0].month),
        to: month_name(after[0].month),
        direction: direction.into(),
        p: same_net_p(from.into(), to.into()).map(|p| round(p, 4)),
        net_from,
        net_to,
        drivers: class.map_or(vec![], |class| rising(reading, before, after, class)),
        note: few.then(|| "insufficient_evidence".into()),
    })
}

/// Keywords whose share among the responses of a class rose most from one month to the other.
fn rising(reading: &Reading, before: &[Response], after: &[Response], class: Sentiment) -> Vec<String> {
    let of_class = |responses: &[Response]| responses.iter().filter(|r| r.sentiment == class).count() as f64;
    let (n_before, n_after) = (of_class(before), of_class(after));
    let counts = |responses| tally::count(reading, responses, |r, _| r.sentiment == class);
    let mut share_before = vec![0.0; reading.keywords.len()];
    for count in counts(before) {
        share_before[count.keyword as usize] = count.responses.len() as f64 / n_before;
    }
    let mut rises: Vec<(f64, tally::Count)> = counts(after)
        .into_iter()
        .map(|c| (c.responses.len() as f64 / n_after - share_before[c.keyword as usize], c))
        .filter(|(rise, _)| *rise > 0.0)
        .collect();
    rises.sort_by(|(rise_a, a), (rise_b, b)| {
        let key = |c: &tally::Count| &reading.keywords[c.keyword as usize];
        rise_b.total_cmp(rise_a).then(b.mentions.cmp(&a.mentions)).then(key(a).cmp(key(b)))
    });
    rises.iter().take(CHANGE_DRIVERS_MAX).map(|(_, count)| count.form()).collect()
}
