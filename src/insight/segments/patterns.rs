//! Patterns over many records that confirm or contradict what the company assumes (C12).
//!
//! An assumption says of which responses which share should lie above or below what. Each is tested in every value of a
//! segment, both ways: against a number by the exact binomial test, against the rest of the segment by Fisher's. All
//! these tests together are held to a false discovery rate of [`FALSE_DISCOVERIES_MAX`] (Benjamini, Hochberg).

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::digest::Row;
use super::emerging::FALSE_DISCOVERIES_MAX;
use super::gather::{EXAMPLES_MAX, Period, Question, Record};
use crate::insight::{
    document::WindowHead,
    event::RecordKey,
    settings::{About, Assumption, Expect, Measure, Than},
    statistics::{benjamini_hochberg, binomial_less, binomial_more, fisher_more, quantile, round, wilson},
};
use crate::scores::{Intent, Sentiment};
use crate::text::keyword;

/// What the records of one segment value say of one assumption.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pattern {
    /// The assumption's id and statement.
    pub assumption: String,
    pub statement: String,
    /// Of the segment.
    pub value: String,
    /// confirmed, contradicted, undecided or insufficient_evidence.
    pub verdict: String,
    /// Responses that the assumption is about, their records, and how many of them show what is measured.
    pub n: u64,
    pub records: u64,
    pub count: u64,
    pub share: Option<f64>,
    pub ci95: Option<[f64; 2]>,
    /// What it is compared with: the number assumed, or the share of the rest.
    pub compared_with: Option<f64>,
    /// Responses in the rest, where that is compared with.
    pub n_rest: Option<u64>,
    /// Of the test that the verdict rests on, and its q over all tests of the answer.
    pub p: Option<f64>,
    pub q: Option<f64>,
    /// Some of the records that show what is measured.
    pub examples: Vec<RecordKey>,
}

/// The answer about all assumptions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PatternReport {
    pub by: String,
    pub window: WindowHead,
    pub records_read: u64,
    pub pending: u64,
    pub false_discovery_rate: f64,
    /// By assumption, in the order of the settings, and value.
    pub patterns: Vec<Pattern>,
}

/// Fewest responses that an assumption is judged on.
pub const PATTERN_RESPONSES_MIN: u64 = 10;
/// Most patterns of an answer.
pub const PATTERNS_MAX: usize = 1000;

#[derive(Default)]
struct Counts {
    n: u64,
    hits: u64,
    n_rest: u64,
    hits_rest: u64,
    records: u64,
    last_record: Option<u64>,
    examples: Vec<RecordKey>,
}

/// Counts responses by assumption and value.
pub struct PatternCounter<'s> {
    assumptions: &'s [Assumption],
    /// Keys of the keywords that assumptions are about, by assumption and language, as they come up.
    keys: HashMap<(usize, String), String>,
    counts: BTreeMap<(usize, String), Counts>,
    records_read: u64,
}

impl<'s> PatternCounter<'s> {
    pub fn new(assumptions: &'s [Assumption]) -> Self {
        Self { assumptions, keys: HashMap::new(), counts: BTreeMap::new(), records_read: 0 }
    }

    /// Takes one record in. Each must come once.
    pub fn add(&mut self, question: &Question, record: &Record) {
        self.records_read += 1;
        if !question.takes(record) {
            return;
        }
        let own = super::gather::of_record(question.by, record);
        for row in record.digest.rows() {
            if !question.period.is_now(row.day()) {
                continue;
            }
            let of_row = super::gather::of_row(question.by, &row);
            for value in own.iter().copied().chain(of_row) {
                if question.value.as_deref().is_none_or(|wanted| wanted == value) {
                    self.count(value, record, &row);
                }
            }
        }
    }

    fn count(&mut self, value: &str, record: &Record, row: &Row) {
        for (i, assumption) in self.assumptions.iter().enumerate() {
            let Some(hit) = shows(assumption.measure, row) else { continue };
            let key = assumption.about.keyword.as_deref().map(|word| {
                let language = row.language().unwrap_or_default();
                let key = || keyword::key(word, row.language());
                self.keys.entry((i, language.to_owned())).or_insert_with(key)
            });
            let about = is_about(&assumption.about, key.map(|k| k.as_str()), row);
            let counts = self.counts.entry((i, value.to_owned())).or_default();
            if !about {
                counts.n_rest += 1;
                counts.hits_rest += u64::from(hit);
                continue;
            }
            counts.n += 1;
            counts.hits += u64::from(hit);
            if counts.last_record.replace(self.records_read) != Some(self.records_read) {
                counts.records += 1;
            }
            if hit && counts.examples.len() < EXAMPLES_MAX && counts.examples.last() != Some(record.key) {
                counts.examples.push(record.key.clone());
            }
        }
    }

    /// Judges what was counted.
    pub fn report(self, by: &str, period: Period, pending: u64) -> PatternReport {
        let judged: Vec<(usize, String, Counts, Option<Tested>)> = self
            .counts
            .into_iter()
            .filter(|(_, counts)| counts.n > 0)
            .take(PATTERNS_MAX)
            .map(|((i, value), counts)| {
                let tested = test(&self.assumptions[i], &counts);
                (i, value, counts, tested)
            })
            .collect();
        // Two tests each: that the share is as assumed, and that it is the other way round.
        let ps: Vec<f64> =
            judged.iter().filter_map(|j| j.3).flat_map(|t| [t.confirms, t.contradicts]).collect();
        let mut qs = benjamini_hochberg(&ps).into_iter();
        let patterns = judged.into_iter().map(|(i, value, counts, tested)| {
            let q = tested.and_then(|_| Some((qs.next()?, qs.next()?)));
            pattern(&self.assumptions[i], value, counts, tested.zip(q))
        });
        let patterns = patterns.collect();
        PatternReport {
            by: by.into(),
            window: WindowHead {
                from: period.from.map(super::gather::date),
                to: super::gather::date(period.to),
                tz: "UTC".into(),
            },
            records_read: self.records_read,
            pending,
            false_discovery_rate: FALSE_DISCOVERIES_MAX,
            patterns,
        }
    }
}

/// One-sided p of both directions.
#[derive(Clone, Copy)]
struct Tested {
    confirms: f64,
    contradicts: f64,
    against: f64,
}

fn test(assumption: &Assumption, counts: &Counts) -> Option<Tested> {
    if counts.n < PATTERN_RESPONSES_MIN {
        return None;
    }
    let (above, below, against) = match &assumption.than {
        Than::Share(share) => (
            binomial_more(counts.hits, counts.n, *share),
            binomial_less(counts.hits, counts.n, *share),
            *share,
        ),
        Than::Rest(_) => {
            if counts.n_rest < PATTERN_RESPONSES_MIN {
                return None;
            }
            let (here, rest) = ((counts.hits, counts.n), (counts.hits_rest, counts.n_rest));
            let share = counts.hits_rest as f64 / counts.n_rest as f64;
            (fisher_more(here, rest), fisher_more(rest, here), share)
        }
    };
    Some(match assumption.expect {
        Expect::Above => Tested { confirms: above, contradicts: below, against },
        Expect::Below => Tested { confirms: below, contradicts: above, against },
    })
}

fn pattern(
    assumption: &Assumption,
    value: String,
    counts: Counts,
    tested: Option<(Tested, (f64, f64))>,
) -> Pattern {
    let (verdict, p, q) = match tested {
        None => ("insufficient_evidence", None, None),
        Some((t, (q, _))) if q <= FALSE_DISCOVERIES_MAX => ("confirmed", Some(t.confirms), Some(q)),
        Some((t, (_, q))) if q <= FALSE_DISCOVERIES_MAX => ("contradicted", Some(t.contradicts), Some(q)),
        Some((t, (q, r))) => ("undecided", Some(t.confirms.min(t.contradicts)), Some(q.min(r))),
    };
    let interval = wilson(counts.hits, counts.n, quantile(0.95));
    Pattern {
        assumption: assumption.id.clone(),
        statement: assumption.statement.clone(),
        value,
        verdict: verdict.into(),
        n: counts.n,
        records: counts.records,
        count: counts.hits,
        share: Some(round(counts.hits as f64 / counts.n as f64, 4)),
        ci95: interval.map(|(low, high)| [round(low, 4), round(high, 4)]),
        compared_with: tested.map(|(t, _)| round(t.against, 4)),
        n_rest: matches!(assumption.than, Than::Rest(_)).then_some(counts.n_rest),
        p: p.map(|p| round(p, 6)),
        q: q.map(|q| round(q, 6)),
        examples: counts.examples,
    }
}

/// Whether a response shows what is measured; `None` where it cannot be told.
fn shows(measure: Measure, row: &Row) -> Option<bool> {
    let intent = |wanted: Intent| row.intent().map(|i| i == wanted);
    match measure {
        Measure::NegativeShare => Some(row.sentiment() == Sentiment::Negative),
        Measure::PositiveShare => Some(row.sentiment() == Sentiment::Positive),
        Measure::ComplaintShare => intent(Intent::Complaint),
        Measure::RequestShare => intent(Intent::Request),
        Measure::PurchaseShare => intent(Intent::Purchase),
    }
}

/// `key` is that of the keyword in the language of the response.
fn is_about(about: &About, key: Option<&str>, row: &Row) -> bool {
    let fits = |wanted: &Option<String>, is: Option<&str>| wanted.is_none() || wanted.as_deref() == is;
    fits(&about.channel, row.channel())
        && fits(&about.product, row.product())
        && fits(&about.touchpoint, row.touchpoint())
        && fits(&about.language, row.language())
        && key.is_none_or(|key| row.keywords().any(|k| k.key == key))
}
