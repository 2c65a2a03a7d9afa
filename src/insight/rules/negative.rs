//! Negative customer: unhappy with the product, the service, or how the company communicates (Z05).
//!
//! Rule `negative_share`: at least `negatives_min` negatives in the last `window_days` days, and the lower bound of the
//! 80 % Wilson interval of their share above `negative_share_min`. Rule `last_two_negative`: the last `last_negatives`
//! responses are negative, however long ago. Severity 1 where one rule holds, 2 where both do, 3 where both do on twice
//! the negatives that the rule asks for.

use jiff::Timestamp;
use serde_json::json;

use super::Raised;
use crate::insight::event::EventId;
use crate::insight::lexicon::{self, Cause};
use crate::insight::reading::{Reading, Response, days_long};
use crate::insight::statistics::{quantile, round, wilson};
use crate::scores::{Label as _, Sentiment};
use crate::text::normalize::Normalized;

/// The rules at one moment, over the responses before it.
struct State {
    share: bool,
    last: bool,
}

pub fn judge<'a>(reading: &Reading<'a>) -> Option<Raised<'a>> {
    let rules = &reading.settings.labels;
    let judged = &reading.responses[..reading.judged()];
    let (recent, _) = reading.last_days(rules.window_days);
    let last_n = rules.last_negatives.max(1) as usize;
    let z = quantile(0.80);

    let negatives = recent.iter().filter(|r| is_negative(r)).count() as u64;
    let lower = wilson(negatives, recent.len() as u64, z).map_or(0.0, |(low, _)| low);
    let last = &judged[judged.len().saturating_sub(last_n)..];
    let now = State {
        share: holds(negatives, lower, reading),
        last: last.len() == last_n && last.iter().all(is_negative),
    };
    if !now.share && !now.last {
        return None;
    }
    let rests_on: Vec<&Response> =
        if now.share { recent.iter().filter(|r| is_negative(r)).collect() } else { last.iter().collect() };
    let twice = negatives >= 2 * u64::from(rules.negatives_min);
    Some(Raised {
        severity: 1 + u8::from(now.share && now.last) + u8::from(now.share && now.last && twice),
        basis: "inferred",
        since: since(reading, judged, z, last_n).or(rests_on.last().map(|r| r.at)).unwrap_or(reading.end),
        cause: cause(&rests_on),
        rule: match (now.share, last_n) {
            (true, _) => "negative_share",
            (_, 2) => "last_two_negative",
            _ => "last_negatives",
        },
        inputs: json!({
            "last": last.iter().map(|r| r.sentiment.name()).collect::<Vec<_>>(),
            "negatives": negatives,
            "responses": recent.len(),
            "share_lower80": round(lower, 3),
            "window_days": rules.window_days,
            "negatives_min": rules.negatives_min,
            "negative_share_min": rules.negative_share_min,
            "last_negatives": rules.last_negatives,
        }),
        evidence: rests_on.iter().map(|r| -> &'a EventId { &r.fact.event.id }).collect(),
    })
}

fn is_negative(response: &Response) -> bool {
    response.sentiment == Sentiment::Negative
}

fn holds(negatives: u64, lower: f64, reading: &Reading) -> bool {
    let rules = &reading.settings.labels;
    negatives >= u64::from(rules.negatives_min) && lower > rules.negative_share_min
}

/// The first response of the unbroken run, up to the last one, after each of which a rule held.
fn since(reading: &Reading, judged: &[Response], z: f64, last_n: usize) -> Option<Timestamp> {
    let days = days_long(reading.settings.labels.window_days);
    let (mut oldest, mut negatives, mut run) = (0, 0, 0);
    let mut since = None;
    for (i, response) in judged.iter().enumerate() {
        negatives += u64::from(is_negative(response));
        run = if is_negative(response) { run + 1 } else { 0 };
        while judged[oldest].at.duration_since(response.at) < -days {
            negatives -= u64::from(is_negative(&judged[oldest]));
            oldest += 1;
        }
        let lower = wilson(negatives, (i + 1 - oldest) as u64, z).map_or(0.0, |(low, _)| low);
        if run >= last_n || holds(negatives, lower, reading) {
            since = since.or(Some(response.at));
        } else {
            since = None;
        }
    }
    since
}

/// What the negatives are about, most frequent first: by the words of their negative sentences, or else by their
/// touchpoint.
fn cause(negatives: &[&Response]) -> Vec<String> {
    let mut counts = Cause::ALL.map(|cause| (cause, 0));
    for response in negatives {
        let words: Vec<Cause> = response.digest.causes.iter().map(|(cause, _)| *cause).collect();
        let named = if words.is_empty() {
            let touchpoint =
                response.interaction.touchpoint.as_deref().unwrap_or("").replace(['_', '-'], " ");
            lexicon::causes(&Normalized::new(&touchpoint), None).into_iter().map(|(cause, _)| cause).collect()
        } else {
            words
        };
        for (cause, n) in &mut counts {
            *n += u32::from(named.contains(cause));
        }
    }
    counts.sort_by_key(|(cause, n)| (std::cmp::Reverse(*n), *cause));
    counts.into_iter().filter(|(_, n)| *n > 0).map(|(cause, _)| cause.name().into()).collect()
}
