//! The answer about segments: its shape on the wire, and how it is put together from what was gathered.

use std::collections::{BTreeMap, HashMap};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::emerging::{Emerging, FALSE_DISCOVERIES_MAX, emerging};
use super::gather::{Gathered, Moods, Period, Tally, Theme, date};
use super::movement::Movement;
use super::themes::{SegmentDriver, SegmentFriction, drivers, friction};
use crate::insight::{
    document::{IntentCounts, WindowHead},
    event::RecordKey,
    panels::highlights::{Share, Shares},
    statistics::{mann_kendall, pct, round, wilson_pct95},
};
use crate::scores::{Emotion, Intent, Label};

/// The segments of a tenant's records by one thing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SegmentReport {
    pub by: String,
    pub window: WindowHead,
    /// The period before, of the same length, that this one is compared with; null for a window without a beginning.
    pub compared_with: Option<WindowHead>,
    /// Records with a response in either period, and all that were read.
    pub records: u64,
    pub records_read: u64,
    /// Records whose document has changed and is not counted anew yet.
    pub pending: u64,
    /// The accepted share of false findings among emerging keywords.
    pub false_discovery_rate: f64,
    /// One per value, those with most responses first.
    pub segments: Vec<SegmentRow>,
    /// Values that are left out.
    pub omitted: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SegmentRow {
    pub value: String,
    pub records: u64,
    pub responses: u64,
    pub responses_before: u64,
    pub sentiment: Shares,
    /// (positive - negative) / responses, now and in the period before; null without responses.
    pub net_sentiment: Option<f64>,
    pub net_sentiment_before: Option<f64>,
    pub intent: IntentCounts,
    pub emotions: BTreeMap<String, u64>,
    /// Records of the segment by active label.
    pub labels: BTreeMap<String, u64>,
    pub series: Vec<SegmentPoint>,
    pub trend: SegmentTrend,
    pub emerging: Vec<Emerging>,
    /// Keywords that were tested for emerging.
    pub keywords_tested: u64,
    pub drivers: Vec<SegmentDriver>,
    pub friction: Vec<SegmentFriction>,
    pub movement: Movement,
    /// Some of the records that turned from promoter to detractor.
    pub turned: Vec<RecordKey>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SegmentPoint {
    /// The first day of a week (Monday), or of a month where the window is longer than half a year.
    #[schema(value_type = String, format = Date)]
    pub bucket: Date,
    pub positive: u64,
    pub neutral: u64,
    pub negative: u64,
}

/// How net sentiment goes over the buckets that have enough responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SegmentTrend {
    /// rising, falling or steady.
    pub direction: String,
    pub buckets: u64,
    /// Kendall's tau, its two-sided p (Mann-Kendall), and the median slope (Theil-Sen) from one
    /// bucket that counts to the next.
    pub tau: Option<f64>,
    pub p: Option<f64>,
    pub slope: Option<f64>,
    /// `insufficient_evidence` where too few buckets have enough responses.
    pub note: Option<String>,
}

/// Most values that are listed.
pub const VALUES_MAX: usize = 200;
/// Longer windows are shown by months.
pub const WEEKS_DAYS_MAX: i32 = 184;
/// Fewest responses of a bucket that has a part in the trend.
pub const BUCKET_RESPONSES_MIN: u64 = 3;
/// A trend with a larger p may be chance, and is called steady.
pub const TREND_P_MAX: f64 = 0.05;

/// Writes down what was gathered.
pub fn report(by: &str, period: Period, gathered: &Gathered, pending: u64) -> SegmentReport {
    let mut values: Vec<(&String, &Tally)> =
        gathered.values.iter().filter(|(_, t)| t.moods.total() + t.moods_before.total() > 0).collect();
    // Stable: equals stay in order of their names.
    values.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.moods.total()));
    let omitted = values.len().saturating_sub(VALUES_MAX) as u64;
    let head = |from, to| WindowHead { from, to, tz: "UTC".into() };
    SegmentReport {
        by: by.into(),
        window: head(period.from.map(date), date(period.to)),
        compared_with: period.before().map(|(from, to)| head(Some(from), to)),
        records: gathered.records,
        records_read: gathered.records_read,
        pending,
        false_discovery_rate: FALSE_DISCOVERIES_MAX,
        segments: values
            .into_iter()
            .take(VALUES_MAX)
            .map(|(value, tally)| row(value, tally, period, &gathered.examples))
            .collect(),
        omitted,
    }
}

fn row(value: &str, tally: &Tally, period: Period, names: &HashMap<u32, RecordKey>) -> SegmentRow {
    let keys = |numbers: &[u32]| numbers.iter().filter_map(|n| names.get(n).cloned()).collect::<Vec<_>>();
    let examples = |theme: &Theme| keys(&theme.examples);
    let total = tally.moods.total();
    let share = |count| Share { count, pct: pct(count, total), ci95: wilson_pct95(count, total) };
    let (found, keywords_tested) = if period.from.is_some() { emerging(tally) } else { Default::default() };
    let series = series(tally, period);
    SegmentRow {
        value: value.into(),
        records: tally.records,
        responses: total,
        responses_before: tally.moods_before.total(),
        sentiment: Shares {
            positive: share(tally.moods.positive),
            neutral: share(tally.moods.neutral),
            negative: share(tally.moods.negative),
        },
        net_sentiment: net(tally.moods),
        net_sentiment_before: net(tally.moods_before),
        intent: intents(&tally.intents),
        emotions: Emotion::ALL
            .iter()
            .zip(tally.emotions)
            .filter(|(_, n)| *n > 0)
            .map(|(emotion, n)| (emotion.name().to_owned(), n))
            .collect(),
        labels: tally.labels.clone(),
        trend: trend(&series),
        series,
        emerging: found.into_iter().map(|(e, t)| Emerging { examples: examples(t), ..e }).collect(),
        keywords_tested,
        drivers: drivers(tally)
            .into_iter()
            .map(|(d, t)| SegmentDriver { examples: examples(t), ..d })
            .collect(),
        friction: friction(tally)
            .into_iter()
            .map(|(f, t)| SegmentFriction { examples: examples(t), ..f })
            .collect(),
        movement: tally.moves.movement(),
        turned: keys(&tally.moves.turned),
    }
}

fn net(moods: Moods) -> Option<f64> {
    (moods.total() > 0).then(|| round(moods.balance() as f64 / moods.total() as f64, 4))
}

fn intents(counts: &[u64; Intent::ALL.len()]) -> IntentCounts {
    IntentCounts {
        complaint: counts[Intent::Complaint.index()],
        purchase: counts[Intent::Purchase.index()],
        request: counts[Intent::Request.index()],
        other: counts[Intent::Other.index()],
    }
}

/// Weeks or months, those without responses left out.
fn series(tally: &Tally, period: Period) -> Vec<SegmentPoint> {
    let by_week = period.days().is_some_and(|days| days <= WEEKS_DAYS_MAX);
    let mut points: Vec<SegmentPoint> = Vec::new();
    for (day, moods) in &tally.days {
        let day = date(*day);
        let bucket = if by_week {
            day.saturating_sub(jiff::Span::new().days(i64::from(day.weekday().to_monday_zero_offset())))
        } else {
            day.first_of_month()
        };
        if points.last().is_none_or(|last| last.bucket != bucket) {
            points.push(SegmentPoint { bucket, ..SegmentPoint::default() });
        }
        if let Some(point) = points.last_mut() {
            point.positive += moods.positive;
            point.neutral += moods.neutral;
            point.negative += moods.negative;
        }
    }
    points
}

fn trend(series: &[SegmentPoint]) -> SegmentTrend {
    let points: Vec<(f64, f64)> = series
        .iter()
        .enumerate()
        .filter_map(|(i, point)| {
            let n = point.positive + point.neutral + point.negative;
            let balance = point.positive as f64 - point.negative as f64;
            (n >= BUCKET_RESPONSES_MIN).then(|| (i as f64, balance / n as f64))
        })
        .collect();
    let buckets = points.len() as u64;
    let Some(found) = mann_kendall(&points) else {
        let note = Some("insufficient_evidence".into());
        return SegmentTrend { direction: "steady".into(), buckets, note, ..SegmentTrend::default() };
    };
    let direction = match found {
        f if f.p > TREND_P_MAX => "steady",
        f if f.tau > 0.0 => "rising",
        _ => "falling",
    };
    SegmentTrend {
        direction: direction.into(),
        buckets,
        tau: Some(round(found.tau, 3)),
        p: Some(round(found.p, 4)),
        slope: Some(round(found.slope, 4)),
        note: None,
    }
}
