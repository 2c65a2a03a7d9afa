//! Keywords that emerge: named by a larger share of records than in the period before, told from chance.
//!
//! The unit is the record, so that one loud customer makes no trend. Each keyword is tested by Fisher's exact test, and
//! the tests of a value together by Benjamini and Hochberg, so that of the keywords called emerging at most
//! [`FALSE_DISCOVERIES_MAX`] are expected to be chance.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::gather::{Tally, Theme};
use crate::insight::statistics::{benjamini_hochberg, fisher_more, round};

/// A keyword that more records name than before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Emerging {
    pub keyword: String,
    /// Records that name it, and their share of the records with a response, in the period and in the one before.
    pub records: u64,
    pub share: f64,
    pub records_before: u64,
    pub share_before: f64,
    /// One-sided p of Fisher's exact test, and the q of Benjamini and Hochberg over all keywords of the value.
    pub p: f64,
    pub q: f64,
    /// Net sentiment, -1 to 1, of the responses that name it.
    pub net_sentiment: f64,
    /// Some of the records.
    pub examples: Vec<crate::insight::event::RecordKey>,
}

/// The share of false findings that is accepted among emerging keywords.
pub const FALSE_DISCOVERIES_MAX: f64 = 0.05;
/// A keyword of fewer records, in both periods together, is not tested.
pub const EMERGING_RECORDS_MIN: u64 = 3;
/// Most emerging keywords of a value that are listed.
pub const EMERGING_MAX: usize = 20;

/// The keywords of a value that emerge, and how many were tested. Nothing is tested without a period before.
pub fn emerging(tally: &Tally) -> (Vec<(Emerging, &Theme)>, u64) {
    let mut tested: Vec<(&String, &Theme)> = tally
        .keywords
        .iter()
        .filter(|(_, theme)| theme.records + theme.records_before >= EMERGING_RECORDS_MIN)
        .collect();
    tested.sort_by_key(|(key, _)| *key);
    let ps: Vec<f64> = tested
        .iter()
        .map(|(_, t)| fisher_more((t.records, tally.records), (t.records_before, tally.records_before)))
        .collect();
    let qs = benjamini_hochberg(&ps);
    let share = |n: u64, of: u64| if of == 0 { 0.0 } else { round(n as f64 / of as f64, 4) };
    let mut found: Vec<(Emerging, &Theme)> = tested
        .iter()
        .zip(ps.iter().zip(&qs))
        .filter(|(_, (_, q))| **q <= FALSE_DISCOVERIES_MAX)
        .map(|((_, theme), (p, q))| {
            let emerging = Emerging {
                keyword: theme.form(),
                records: theme.records,
                share: share(theme.records, tally.records),
                records_before: theme.records_before,
                share_before: share(theme.records_before, tally.records_before),
                p: round(*p, 6),
                q: round(*q, 6),
                net_sentiment: round(theme.moods.balance() as f64 / theme.moods.total().max(1) as f64, 2),
                examples: vec![],
            };
            (emerging, *theme)
        })
        .collect();
    // Stable: equals stay in order of their keys.
    found.sort_by(|(a, _), (b, _)| a.p.total_cmp(&b.p).then(b.records.cmp(&a.records)));
    found.truncate(EMERGING_MAX);
    (found, tested.len() as u64)
}
