//! Signals: what the customer's behaviour and words mean, and what to do about it (C01-C08). The rules are settings.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::insight::{
    event::{Behaviour, EventData},
    history::Fact,
    lexicon::Cue,
    reading::Reading,
    settings::{SignalRule, Trigger},
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Signal {
    /// The rule's id.
    #[serde(rename = "type")]
    pub type_: String,
    pub meaning: String,
    pub action: String,
    pub count: u64,
    #[schema(value_type = String, format = DateTime)]
    pub last_at: Timestamp,
    /// Ids of interactions and of behaviour events, newest first.
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// Signals that were seen in the window, in the order of their rules.
pub fn of(reading: &Reading) -> Vec<Signal> {
    reading.settings.signals.iter().filter_map(|rule| signal(reading, rule)).collect()
}

fn signal(reading: &Reading, rule: &SignalRule) -> Option<Signal> {
    let hits: Vec<&Fact> = seen(reading, rule);
    let last = hits.last()?;
    if hits.len() < rule.count_min.max(1) as usize {
        return None;
    }
    let (evidence, evidence_total) = reading.evidence(hits.iter().map(|f| &f.event.id));
    Some(Signal {
        type_: rule.id.clone(),
        meaning: rule.meaning.clone(),
        action: rule.action.clone(),
        count: hits.len() as u64,
        last_at: last.event.time,
        evidence,
        evidence_total,
    })
}

/// The facts of the window that a rule listens to, in order of time. Where a rule asks for one keyword, the ones that
/// share their keyword with most others; of equals those with the first keyword in the alphabet.
pub fn seen<'a>(reading: &Reading<'a>, rule: &SignalRule) -> Vec<&'a Fact> {
    let mut hits = Vec::new();
    let mut by_keyword: Vec<Vec<&Fact>> = Vec::new();
    let of_behaviour = rule.any.iter().all(|t| matches!(t, Trigger::Behaviour { .. }));
    let facts = if of_behaviour { &reading.behaviours } else { reading.shown_facts() };
    for fact in facts {
        let Some(trigger) = rule.any.iter().find(|t| hears(t, fact)) else { continue };
        if !matches!(trigger, Trigger::Interaction { same_keyword: true, .. }) {
            hits.push(*fact);
            continue;
        }
        by_keyword.resize(reading.keywords.len(), vec![]);
        for keyword in &fact.keywords {
            let group = &mut by_keyword[*keyword as usize];
            if group.last().is_none_or(|last| last.event.id != fact.event.id) {
                group.push(fact);
            }
        }
    }
    let first_in_alphabet = |number: &usize| std::cmp::Reverse(&reading.keywords[*number]);
    let largest = (0..by_keyword.len()).max_by_key(|n| (by_keyword[*n].len(), first_in_alphabet(n)));
    let Some(largest) = largest.map(|number| by_keyword.swap_remove(number)).filter(|l| !l.is_empty()) else {
        return hits;
    };
    hits.extend(largest);
    hits.sort_by(|a, b| (a.event.time, &a.event.id).cmp(&(b.event.time, &b.event.id)));
    hits
}

fn hears(trigger: &Trigger, fact: &Fact) -> bool {
    match (trigger, &fact.event.data) {
        (Trigger::Behaviour { kinds, page, value_min, value_max }, EventData::BehaviourObserved(b)) => {
            let on_page = || {
                let address = b.page.as_deref().unwrap_or("").to_lowercase();
                page.iter().any(|part| address.contains(&part.to_lowercase()))
            };
            (kinds.is_empty() || kinds.contains(&b.kind))
                && (page.is_empty() || on_page())
                && value_min.is_none_or(|min| number(b).is_some_and(|v| v >= min))
                && value_max.is_none_or(|max| number(b).is_some_and(|v| v <= max))
        }
        (
            Trigger::Interaction { channels, sentiment, intent, wants_person, .. },
            EventData::InteractionReceived(i),
        ) => {
            let (Some(digest), scores) = (&fact.digest, fact.scores.as_ref()) else { return false };
            let label = scores.and_then(|s| s.sentiment.as_ref()).map(|c| c.label);
            let aim = scores.and_then(|s| s.intent.as_ref()).map(|c| c.label);
            (sentiment.is_none() || *sentiment == label)
                && (intent.is_none() || *intent == aim)
                && (!wants_person || digest.says(Cue::Person))
                && (channels.is_empty() || channels.contains(&i.channel))
        }
        _ => false,
    }
}

/// The value of a behaviour: a number, or the number in an object under one of its usual names.
fn number(behaviour: &Behaviour) -> Option<f64> {
    let value = behaviour.value.as_ref()?;
    let named =
        || ["value", "seconds", "duration_s", "percent"].iter().find_map(|name| value.get(name)?.as_f64());
    value.as_f64().or_else(named)
}
