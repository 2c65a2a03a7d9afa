//! Adding up digests: what is counted of each value of a segment, in the period asked for and in the one before it.
//!
//! Sums are of whole numbers, so the order in which records come does not show.

use std::collections::{BTreeMap, HashMap};

use jiff::{ToSpan, civil::Date};

use super::digest::{RecordDigest, Row};
use crate::insight::event::RecordKey;
use crate::scores::{Emotion, Intent, Label, Sentiment};

/// What a segment is cut by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Channel,
    Product,
    Touchpoint,
    Language,
    Label,
    Module,
    /// Segments of the record, by their name in its profile.
    Standing(&'static str),
}

/// Names of what segments can be cut by, as the API has them.
pub const BY: [&str; 14] = [
    "channel",
    "product",
    "touchpoint",
    "language",
    "label",
    "module",
    "country",
    "region",
    "city",
    "industry",
    "stage",
    "plan",
    "persona",
    "activity",
];

impl By {
    pub fn parse(name: &str) -> Option<By> {
        let place = BY.iter().position(|by| *by == name)?;
        Some(match name {
            "channel" => By::Channel,
            "product" => By::Product,
            "touchpoint" => By::Touchpoint,
            "language" => By::Language,
            "label" => By::Label,
            "module" => By::Module,
            _ => By::Standing(BY[place]),
        })
    }

    /// Whether all responses of a record fall together.
    pub fn is_of_record(self) -> bool {
        matches!(self, By::Label | By::Module | By::Standing(_))
    }
}

/// Days, both inside, since 1970; and the days before them that they are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// `None` takes everything, and compares with nothing.
    pub from: Option<i32>,
    pub to: i32,
}

impl Period {
    pub fn of(from: Option<Date>, to: Date) -> Self {
        Self { from: from.map(days), to: days(to) }
    }

    fn place(self, day: i32) -> Option<Side> {
        let Some(from) = self.from else { return (day <= self.to).then_some(Side::Now) };
        let length = self.to - from + 1;
        match day {
            day if day > self.to => None,
            day if day >= from => Some(Side::Now),
            day if day >= from - length => Some(Side::Before),
            _ => None,
        }
    }

    /// Whether a day is in the period itself.
    pub fn is_now(self, day: i32) -> bool {
        self.place(day) == Some(Side::Now)
    }

    /// First and last day of the period before.
    pub fn before(self) -> Option<(Date, Date)> {
        let from = self.from?;
        Some((date(from - (self.to - from + 1)), date(from - 1)))
    }

    pub fn days(self) -> Option<i32> {
        self.from.map(|from| self.to - from + 1)
    }
}

const EPOCH: Date = jiff::civil::date(1970, 1, 1);

fn days(date: Date) -> i32 {
    date.since(EPOCH).map_or(0, |span| span.get_days())
}

/// The date of a day since 1970.
pub fn date(day: i32) -> Date {
    EPOCH.saturating_add(day.days())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    Now,
}

/// A record with what lists know of it.
pub struct Record<'d> {
    pub key: &'d RecordKey,
    pub labels: &'d [String],
    pub digest: &'d RecordDigest,
}

/// Which records and responses are counted.
#[derive(Clone, Debug)]
pub struct Question {
    pub by: By,
    pub period: Period,
    /// Only this value.
    pub value: Option<String>,
    pub module: Option<String>,
    pub label: Option<String>,
}

impl Question {
    /// Whether a record is one of those that are asked about.
    pub fn takes(&self, record: &Record) -> bool {
        self.module.as_deref().is_none_or(|module| record.key.module == module)
            && self.label.as_deref().is_none_or(|label| record.labels.iter().any(|l| l == label))
    }
}

/// Sentiments, as counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moods {
    pub negative: u64,
    pub neutral: u64,
    pub positive: u64,
}

impl Moods {
    pub fn add(&mut self, sentiment: Sentiment) {
        match sentiment {
            Sentiment::Negative => self.negative += 1,
            Sentiment::Neutral => self.neutral += 1,
            Sentiment::Positive => self.positive += 1,
        }
    }

    pub fn total(self) -> u64 {
        self.negative + self.neutral + self.positive
    }

    /// Positive less negative.
    pub fn balance(self) -> i64 {
        self.positive as i64 - self.negative as i64
    }
}

/// A keyword, product or touchpoint within a value.
#[derive(Clone, Debug, Default)]
pub struct Theme {
    /// Responses of the period that name it, by their own sentiment.
    pub moods: Moods,
    /// Records that name it, in the period and in the one before.
    pub records: u64,
    pub records_before: u64,
    /// Of a keyword: its forms and how often each was written.
    pub forms: Vec<(String, u64)>,
    /// What followed the negatives: contacted again, recovered, churned, purchased.
    pub followed: [u64; 4],
    /// The first records that name it in the period.
    pub examples: Vec<u32>,
    last_record: Option<u32>,
    last_record_before: Option<u32>,
}

/// Records named with a theme.
pub const EXAMPLES_MAX: usize = 5;

impl Theme {
    fn add(&mut self, record: u32, side: Side, row: &Row) {
        if side == Side::Before {
            self.records_before += u64::from(self.last_record_before.replace(record) != Some(record));
            return;
        }
        if self.last_record.replace(record) != Some(record) {
            self.records += 1;
            if self.examples.len() < EXAMPLES_MAX {
                self.examples.push(record);
            }
        }
        self.moods.add(row.sentiment());
        if let Some(f) = row.followed() {
            let flags = [f.contacted_again, f.recovered, f.churned, f.purchased];
            self.followed.iter_mut().zip(flags).for_each(|(n, flag)| *n += u64::from(flag));
        }
    }

    /// The form written most often; the first in the alphabet of equals.
    pub fn form(&self) -> String {
        let best = self.forms.iter().max_by_key(|(form, n)| (*n, std::cmp::Reverse(form)));
        best.map_or_else(String::new, |(form, _)| form.clone())
    }
}

/// What was counted of one value.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub moods: Moods,
    pub moods_before: Moods,
    pub intents: [u64; Intent::ALL.len()],
    pub emotions: [u64; Emotion::ALL.len()],
    /// Records with a response in the period, and in the one before.
    pub records: u64,
    pub records_before: u64,
    /// Records of the period by label.
    pub labels: BTreeMap<String, u64>,
    /// Moods of the period by day.
    pub days: BTreeMap<i32, Moods>,
    pub keywords: HashMap<String, Theme>,
    /// By kind and name.
    pub places: BTreeMap<(&'static str, String), Theme>,
    pub moves: super::movement::Moves,
}

/// What was counted of all values.
#[derive(Default)]
pub struct Gathered {
    pub values: BTreeMap<String, Tally>,
    /// Records that were looked at, and those that had a part in it.
    pub records_read: u64,
    pub records: u64,
    /// Names of the records that stand as examples, by number.
    pub examples: HashMap<u32, RecordKey>,
}

impl Gathered {
    /// Takes one record in. Each must come once.
    pub fn add(&mut self, question: &Question, record: &Record) {
        let number = self.records_read as u32;
        self.records_read += 1;
        if !question.takes(record) {
            return;
        }
        let own: Vec<&str> = of_record(question.by, record);
        let mut sides: HashMap<&str, Sides> = HashMap::new();
        for row in record.digest.rows() {
            let Some(side) = question.period.place(row.day()) else { continue };
            let of_row = of_row(question.by, &row);
            for value in own.iter().copied().chain(of_row) {
                if question.value.as_deref().is_some_and(|wanted| wanted != value) {
                    continue;
                }
                if !self.values.contains_key(value) {
                    self.values.insert(value.to_owned(), Tally::default());
                }
                let Some(tally) = self.values.get_mut(value) else { continue };
                tally.count(number, side, &row);
                let seen = sides.entry(value).or_default();
                match side {
                    Side::Now => seen.now.add(row.sentiment()),
                    Side::Before => seen.before.add(row.sentiment()),
                }
            }
        }
        self.records += u64::from(!sides.is_empty());
        for (value, seen) in sides {
            let Some(tally) = self.values.get_mut(value) else { continue };
            let nps = if question.by.is_of_record() {
                last_nps(record.digest, question.period)
            } else {
                (None, None)
            };
            tally.moves.add(number, (seen.before, nps.0), (seen.now, nps.1));
            tally.records_before += u64::from(seen.before.total() > 0);
            if seen.now.total() > 0 {
                tally.records += 1;
                for label in record.labels {
                    *tally.labels.entry(label.clone()).or_default() += 1;
                }
            }
            // Whoever was written down as an example is in one of the lists now.
            self.examples.insert(number, record.key.clone());
        }
    }
}

/// Moods of one record under one value.
#[derive(Default)]
struct Sides {
    now: Moods,
    before: Moods,
}

/// The last answers of both periods: before, now.
fn last_nps(digest: &RecordDigest, period: Period) -> (Option<u8>, Option<u8>) {
    let last = |wanted: Side| {
        digest.nps.iter().rev().find(|(day, _)| period.place(*day) == Some(wanted)).map(|(_, answer)| *answer)
    };
    (last(Side::Before), last(Side::Now))
}

pub fn of_record<'d>(by: By, record: &Record<'d>) -> Vec<&'d str> {
    match by {
        By::Label => record.labels.iter().map(String::as_str).collect(),
        By::Module => vec![record.key.module.as_str()],
        By::Standing(name) => {
            let named = record.digest.standing.iter().filter(|(n, _)| n == name);
            named.map(|(_, value)| value.as_str()).collect()
        }
        _ => vec![],
    }
}

pub fn of_row<'d>(by: By, row: &Row<'d>) -> Option<&'d str> {
    match by {
        By::Channel => row.channel(),
        By::Product => row.product(),
        By::Touchpoint => row.touchpoint(),
        By::Language => row.language(),
        _ => None,
    }
}

impl Tally {
    fn count(&mut self, record: u32, side: Side, row: &Row) {
        let sentiment = row.sentiment();
        match side {
            Side::Before => self.moods_before.add(sentiment),
            Side::Now => {
                self.moods.add(sentiment);
                self.days.entry(row.day()).or_default().add(sentiment);
                if let Some(intent) = row.intent() {
                    self.intents[intent.index()] += 1;
                }
                if let Some(emotion) = row.emotion() {
                    self.emotions[emotion.index()] += 1;
                }
                for (kind, place) in [("product", row.product()), ("touchpoint", row.touchpoint())] {
                    if let Some(place) = place {
                        let theme = self.places.entry((kind, place.to_owned())).or_default();
                        theme.add(record, side, row);
                    }
                }
            }
        }
        let mut seen: Vec<&str> = Vec::new();
        for keyword in row.keywords() {
            if !self.keywords.contains_key(keyword.key) {
                self.keywords.insert(keyword.key.to_owned(), Theme::default());
            }
            let Some(theme) = self.keywords.get_mut(keyword.key) else { continue };
            if side == Side::Now {
                match theme.forms.iter_mut().find(|(form, _)| form == keyword.form) {
                    Some((_, n)) => *n += 1,
                    None => theme.forms.push((keyword.form.to_owned(), 1)),
                }
            }
            // A response counts once, however often it says the word.
            if !seen.contains(&keyword.key) {
                seen.push(keyword.key);
                theme.add(record, side, row);
            }
        }
    }
}
