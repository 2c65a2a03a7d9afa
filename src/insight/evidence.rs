//! The events behind one number of a document, all of them, with the spans that count.

use std::collections::BTreeSet;

use super::digest::Span;
use super::event::{EventData, EventId, RecordKey};
use super::history::{Fact, History};
use super::identity::Identity;
use super::lexicon::Cue;
use super::panels::{conversion::Turn, signals};
use super::reading::{Reading, Response};
use super::rules::{self, raised};
use super::settings::Settings;
use super::view::View;
use crate::scores::{Label as _, Sentiment};
use crate::text::normalize::normalize;

/// An event behind a number: mostly an interaction; a behaviour or the churn event behind a signal or a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    pub id: EventId,
    /// Where in the customer's text, in Unicode scalar values; empty where the whole text speaks.
    pub spans: Vec<Span>,
}

/// Panels that [`behind`] knows.
pub const PANELS: [&str; 16] = [
    "highlights",
    "labels",
    "sentiment",
    "sentiment_by_channel",
    "keywords",
    "competitors",
    "intent",
    "intent_by_channel",
    "conversion",
    "deals",
    "metrics",
    "journey",
    "signals",
    "drivers",
    "friction",
    "watch",
];

/// Everything behind `panel` (one of [`PANELS`]) and its `item`, newest first. An item is what names a row: a
/// sentiment, an intent, a channel, a keyword, a competitor or its alias, a label's id, a deal's id (what was said
/// before and after), a metric, a conversation, a signal's type, a theme, a place, a watched phrase. Without it, all of
/// the panel. `None` for a panel that does not exist.
pub fn behind(
    key: &RecordKey,
    history: &History,
    identity: &Identity,
    settings: &Settings,
    view: &View,
    panel: &str,
    item: Option<&str>,
) -> Option<Vec<Witness>> {
    let reading = &Reading::new(key, history, identity, settings, view);
    let shown = reading.shown();
    let is = |name: &str| item.is_none_or(|item| item == name);
    let mut witnesses: Vec<Witness> = match panel {
        "highlights" | "sentiment" => whole(shown, |r| is(r.sentiment.name())),
        "sentiment_by_channel" => whole(shown, |r| is(&r.interaction.channel)),
        "intent" => whole(shown, |r| r.intent.is_some_and(|i| is(i.label.name()))),
        "intent_by_channel" => whole(shown, |r| r.intent.is_some() && is(&r.interaction.channel)),
        "journey" => whole(shown, |r| r.interaction.thread_id.as_deref().is_some_and(is)),
        "friction" => whole(shown, |r| r.sentiment == Sentiment::Negative && places(r).any(is)),
        "keywords" => keywords(reading, shown, item, |_| true),
        "drivers" => match item {
            Some(theme) if shown.iter().any(|r| places(r).any(is)) => {
                whole(shown, |r| places(r).any(|place| place == theme))
            }
            _ => keywords(reading, shown, item, |_| true),
        },
        "competitors" => competitors(reading, item),
        "watch" => watched(reading, item),
        "labels" => rules::LABELS.into_iter().filter(|id| is(id)).flat_map(|id| label(reading, id)).collect(),
        "signals" => {
            let rules = settings.signals.iter().filter(|rule| is(&rule.id));
            rules.flat_map(|rule| signals::seen(reading, rule)).map(said).collect()
        }
        "conversion" => conversion(reading, item),
        "deals" => {
            let named = reading.deals.keys().any(|deal| is(&deal.id));
            if named { whole(&reading.responses, |_| true) } else { vec![] }
        }
        "metrics" => {
            let answered = |fact: &Fact| match &fact.event.data {
                EventData::InteractionReceived(i) => {
                    i.by_customer() && i.survey.as_ref().is_some_and(|s| is(&s.metric.to_lowercase()))
                }
                _ => false,
            };
            reading.shown_facts().iter().filter(|f| answered(f)).map(|f| said(f)).collect()
        }
        _ => return None,
    };
    // Newest first, each event once, however many rows it stands behind.
    witnesses.reverse();
    let mut seen = BTreeSet::new();
    witnesses.retain(|w| seen.insert(w.id.clone()));
    if item.is_none() {
        let time = |w: &Witness| history.get(&w.id).map(|f| f.event.time);
        witnesses.sort_by(|a, b| (time(b), &b.id).cmp(&(time(a), &a.id)));
    }
    Some(witnesses)
}

fn said(fact: &Fact) -> Witness {
    Witness { id: fact.event.id.clone(), spans: vec![] }
}

fn whole(responses: &[Response], wanted: impl Fn(&Response) -> bool) -> Vec<Witness> {
    responses.iter().filter(|r| wanted(r)).map(|r| said(r.fact)).collect()
}

fn at(fact: &Fact, spans: Vec<Span>) -> Option<Witness> {
    (!spans.is_empty()).then(|| Witness { id: fact.event.id.clone(), spans })
}

fn places<'r>(response: &'r Response) -> impl Iterator<Item = &'r str> {
    [&response.interaction.product, &response.interaction.touchpoint]
        .into_iter()
        .flatten()
        .map(String::as_str)
}

/// A keyword is meant by any form in which it was written.
fn keywords(
    reading: &Reading,
    responses: &[Response],
    item: Option<&str>,
    wanted: impl Fn(&Response) -> bool,
) -> Vec<Witness> {
    let item = item.map(normalize);
    let mut meant = vec![item.is_none(); reading.keywords.len()];
    if let Some(item) = &item {
        for response in responses {
            for (keyword, number) in response.digest.keywords.iter().zip(response.keywords) {
                if *keyword.key == **item || normalize(&keyword.surface) == *item {
                    meant[*number as usize] = true;
                }
            }
        }
    }
    let spans = |r: &Response| {
        let keywords = r.digest.keywords.iter().zip(r.keywords);
        keywords.filter(|(_, number)| meant[**number as usize]).map(|(keyword, _)| keyword.span).collect()
    };
    responses.iter().filter(|r| wanted(r)).filter_map(|r| at(r.fact, spans(r))).collect()
}

fn competitors(reading: &Reading, item: Option<&str>) -> Vec<Witness> {
    let item = item.map(normalize);
    let meant: Vec<bool> = reading
        .settings
        .competitors
        .iter()
        .map(|c| {
            item.as_ref()
                .is_none_or(|i| std::iter::once(&c.name).chain(&c.aliases).any(|n| normalize(n) == *i))
        })
        .collect();
    let spans = |fact: &Fact| -> Vec<Span> {
        let mentions = fact.digest.iter().flat_map(|d| &d.competitors);
        mentions.filter(|m| meant.get(m.competitor).is_some_and(|m| *m)).map(|m| m.span).collect()
    };
    reading.shown_facts().iter().filter_map(|f| at(f, spans(f))).collect()
}

fn watched(reading: &Reading, item: Option<&str>) -> Vec<Witness> {
    let item = item.map(normalize);
    let meant = |list: usize, phrase: usize| {
        let list = reading.settings.watchlists.get(list);
        let phrase = list.and_then(|l| l.phrases.get(phrase));
        item.as_ref().is_none_or(|i| {
            phrase.is_some_and(|p| normalize(p) == *i) || list.is_some_and(|l| normalize(&l.name) == *i)
        })
    };
    let spans = |fact: &Fact| -> Vec<Span> {
        let watched = fact.digest.iter().flat_map(|d| &d.watched);
        watched.filter(|w| meant(w.list, w.phrase)).map(|w| w.span).collect()
    };
    reading.shown_facts().iter().filter_map(|f| at(f, spans(f))).collect()
}

/// The words that raised a label, where words did.
fn label(reading: &Reading, id: &str) -> Vec<Witness> {
    let Some(raised) = raised(reading, id) else { return vec![] };
    let telling = |cue: Cue| match id {
        rules::MAY_SWITCH => matches!(cue, Cue::Switching | Cue::Leaving),
        rules::CHURNED => cue == Cue::Churn,
        _ => false,
    };
    let ids: BTreeSet<&EventId> = raised.evidence.into_iter().collect();
    let spans = |fact: &Fact| {
        let cues = fact.digest.iter().flat_map(|d| &d.cues);
        cues.filter(|(cue, _)| telling(*cue)).map(|(_, span)| *span).collect()
    };
    let facts = reading.facts.iter().filter(|f| ids.contains(&f.event.id));
    facts.map(|f| Witness { id: f.event.id.clone(), spans: spans(f) }).collect()
}

fn conversion(reading: &Reading, item: Option<&str>) -> Vec<Witness> {
    let Some(turn) = Turn::of(reading) else { return vec![] };
    let before = &reading.responses[..reading.responses.partition_point(|r| r.at < turn.fact.event.time)];
    match item {
        None => whole(before, |r| turn.is_lead(r.interaction)),
        Some(_) => keywords(reading, before, item, |r| turn.is_lead(r.interaction)),
    }
}
