//! May switch to a competitor (Z06, Z16).
//!
//! Rule `switching_cue`: in the last `window_days` days the customer named a competitor and spoke of going over or of
//! finding them better, or spoke of leaving for somebody who is not named. Rule `stance`: they named a competitor, and
//! speak at least as well of it as of us. Severity 1 for a stance, 2 for a cue, 3 for cues in several interactions.
//!
//! Where nothing is said of us anywhere in these days, a stance needs more mentions that are positive than negative.

use serde_json::json;

use super::Raised;
use crate::insight::event::EventId;
use crate::insight::history::Fact;
use crate::insight::lexicon::Cue;
use crate::insight::panels::competitors::talk;
use crate::insight::reading::Reading;
use crate::insight::statistics::round;

pub fn judge<'a>(reading: &Reading<'a>) -> Option<Raised<'a>> {
    let days = reading.settings.labels.window_days;
    let (_, facts) = reading.last_days(days);
    let names = &reading.settings.competitors;
    let mut leaning: Vec<(usize, Option<f64>, Option<f64>)> = Vec::new();
    let mut mentions: Vec<&'a Fact> = Vec::new();
    for competitor in 0..names.len() {
        let talk = talk(facts, competitor);
        let (them, us) = (talk.them.value(), talk.us.value());
        let leans = match (them, us) {
            (Some(them), Some(us)) => them >= us,
            (Some(_), None) => talk.sentiment.positive > talk.sentiment.negative,
            (None, _) => false,
        };
        if leans {
            leaning.push((competitor, them, us));
            mentions.extend(&talk.facts);
        }
    }
    let cued: Vec<&'a Fact> = facts.iter().copied().filter(|fact| speaks_of_switching(fact)).collect();
    if leaning.is_empty() && cued.is_empty() {
        return None;
    }
    let mut evidence: Vec<&'a Fact> = if cued.is_empty() { mentions } else { cued.clone() };
    evidence.sort_by(|a, b| (a.event.time, &a.event.id).cmp(&(b.event.time, &b.event.id)));
    evidence.dedup_by(|a, b| a.event.id == b.event.id);
    let stances: Vec<_> = leaning
        .iter()
        .map(|(competitor, them, us)| {
            json!({
                "competitor": names[*competitor].name,
                "stance": {"competitor": them.map(|v| round(v, 2)), "us": us.map(|v| round(v, 2))},
            })
        })
        .collect();
    Some(Raised {
        severity: match cued.len() {
            0 => 1,
            1 => 2,
            _ => 3,
        },
        basis: "inferred",
        since: evidence.first().map_or(reading.end, |fact| fact.event.time),
        cause: vec![],
        rule: if cued.is_empty() { "stance" } else { "switching_cue" },
        inputs: json!({
            "competitors": stances,
            "interactions_with_cue": cued.len(),
            "window_days": days,
        }),
        evidence: evidence.into_iter().map(|fact| -> &'a EventId { &fact.event.id }).collect(),
    })
}

fn speaks_of_switching(fact: &Fact) -> bool {
    fact.digest.as_ref().is_some_and(|digest| {
        digest.says(Cue::Leaving) || (!digest.competitors.is_empty() && digest.says(Cue::Switching))
    })
}
