//! The events behind one number of a document, all of them, with the spans that count.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use super::digest::Span;
use super::event::{EventData, EventId, RecordKey};
use super::history::{Fact, History};
use super::identity::Identity;
use super::lexicon::Cue;
use super::panels::{conversion::Turn, deals::decisive, emotions, predictions, signals};
use super::reading::{Reading, Response};
use super::rules::{self, raised};
use super::settings::{Settings, SignalRule};
use super::tally;
use super::view::View;
use crate::scores::{Intent, Label as _, Sentiment};
use crate::text::normalize::normalize;

/// An event behind a number: mostly an interaction; a behaviour or the churn event behind a signal or a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    pub id: EventId,
    /// Where in the customer's text, in Unicode scalar values; empty where the whole text speaks.
    pub spans: Vec<Span>,
}

/// Panels that [`behind`] knows.
pub const PANELS: [&str; 23] = [
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
    "emotions",
    "journey",
    "ops",
    "signals",
    "drivers",
    "friction",
    "needs",
    "opinions",
    "predictions",
    "hypotheses",
    "behaviour",
    "watch",
];

/// Everything behind `panel` (one of [`PANELS`]) and its `item`, newest first. An item is what names a row: a
/// sentiment, an intent, an emotion, a channel, a keyword, a competitor or its alias, a label's id, a deal's id (what
/// was said before and after), a metric, a conversation, a signal's type, a theme, a place, a watched phrase, a kind of
/// behaviour. Two names with a colon between name a part of a row: `DEAL:before`, `DEAL:after`, `COMPETITOR:KEYWORD`,
/// and where names of two kinds could be meant `product:NAME`, `touchpoint:NAME`, `keyword:NAME`, `LIST:PHRASE`.
/// Without an item, all of the panel. `None` for a panel that does not exist.
pub fn behind(
    key: &RecordKey,
    history: &History,
    identity: &Identity,
    settings: &Settings,
    view: &View,
    panel: &str,
    item: Option<&str>,
) -> Option<Vec<Witness>> {
    behind_reading(&Reading::new(key, history, identity, settings, view), panel, item)
}

/// [`behind`] of facts that are read already.
pub fn behind_reading(reading: &Reading, panel: &str, item: Option<&str>) -> Option<Vec<Witness>> {
    let (shown, settings) = (reading.shown(), reading.settings);
    let is = |name: &str| item.is_none_or(|item| item == name);
    let mut witnesses: Vec<Witness> = match panel {
        "highlights" | "sentiment" => whole(shown, |r| is(r.sentiment.name())),
        "sentiment_by_channel" => whole(shown, |r| is(&r.interaction.channel)),
        "intent" => whole(shown, |r| r.intent.is_some_and(|i| is(i.label.name()))),
        "intent_by_channel" => whole(shown, |r| r.intent.is_some() && is(&r.interaction.channel)),
        "emotions" => whole(shown, |r| emotions::of_response(r).is_some_and(|e| is(e.name()))),
        "journey" => whole(shown, |r| r.interaction.thread_id.as_deref().is_some_and(is)),
        "friction" => whole(shown, |r| r.sentiment == Sentiment::Negative && stands_at(r, item)),
        "opinions" => whole(shown, |r| r.interaction.product.as_deref().is_some_and(is)),
        "keywords" => keywords(reading, shown, item, |_| true),
        "needs" => keywords(reading, shown, item, |r| {
            r.intent.is_some_and(|i| matches!(i.label, Intent::Request | Intent::Purchase))
        }),
        "drivers" => drivers(reading, item),
        "competitors" => competitors(reading, item),
        "watch" => watched(reading, item),
        "labels" => rules::LABELS.into_iter().filter(|id| is(id)).flat_map(|id| label(reading, id)).collect(),
        "signals" | "hypotheses" => {
            let stated = |rule: &&SignalRule| panel == "signals" || rule.expects.is_some();
            let rules = settings.signals.iter().filter(|rule| is(&rule.id)).filter(stated);
            rules.flat_map(|rule| signals::seen(reading, rule)).map(said).collect()
        }
        "predictions" => predicted(reading, item),
        "conversion" => conversion(reading, item),
        "deals" => deals(reading, item),
        "metrics" => {
            let answered = |fact: &Fact| match &fact.event.data {
                EventData::InteractionReceived(i) => {
                    i.by_customer() && i.survey.as_ref().is_some_and(|s| is(&s.metric.to_lowercase()))
                }
                _ => false,
            };
            reading.shown_facts().iter().filter(|f| answered(f)).map(|f| said(f)).collect()
        }
        "ops" | "behaviour" => {
            let counts = |fact: &Fact| match &fact.event.data {
                EventData::InteractionReceived(i) => panel == "ops" && i.ops.is_some(),
                EventData::BehaviourObserved(b) => panel == "behaviour" && is(&b.kind),
                _ => false,
            };
            reading.shown_facts().iter().filter(|f| counts(f)).map(|f| said(f)).collect()
        }
        _ => return None,
    };
    // Newest first, each event once, however many rows it stands behind.
    witnesses.reverse();
    let mut seen = BTreeSet::new();
    witnesses.retain(|w| seen.insert(w.id.clone()));
    if item.is_none() {
        let times: HashMap<&EventId, Timestamp> =
            reading.facts.iter().map(|f| (&f.event.id, f.event.time)).collect();
        let time = |w: &Witness| times.get(&w.id).copied();
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

/// The places of a response, with their kind.
fn places<'r>(response: &'r Response) -> impl Iterator<Item = (&'static str, &'r str)> {
    [("product", &response.interaction.product), ("touchpoint", &response.interaction.touchpoint)]
        .into_iter()
        .filter_map(|(kind, place)| Some((kind, place.as_deref()?)))
}

/// Whether a response names a place: `NAME`, or `KIND:NAME`.
fn stands_at(response: &Response, item: Option<&str>) -> bool {
    let kind_of = |item: &str, kind: &str, place: &str| {
        item == place || item.strip_prefix(kind).and_then(|rest| rest.strip_prefix(':')) == Some(place)
    };
    places(response).any(|(kind, place)| item.is_none_or(|item| kind_of(item, kind, place)))
}

fn drivers(reading: &Reading, item: Option<&str>) -> Vec<Witness> {
    let shown = reading.shown();
    if let Some(keyword) = item.and_then(|item| item.strip_prefix("keyword:")) {
        return keywords(reading, shown, Some(keyword), |_| true);
    }
    if item.is_some() && shown.iter().any(|r| stands_at(r, item)) {
        return whole(shown, |r| stands_at(r, item));
    }
    keywords(reading, shown, item, |_| true)
}

/// The responses from which a forecast was made.
fn predicted(reading: &Reading, item: Option<&str>) -> Vec<Witness> {
    let known = &reading.responses[..reading.judged()];
    let recent = &known[known.len().saturating_sub(predictions::RESPONSES_MAX)..];
    match item {
        None | Some("next_response_negative") => whole(recent, |_| true),
        Some("next_response_complaint") => whole(recent, |r| r.intent.is_some()),
        Some(_) => vec![],
    }
}

/// All that was said, before and after the decisive change of a deal, or on one of its sides.
fn deals(reading: &Reading, item: Option<&str>) -> Vec<Witness> {
    let all = &reading.responses;
    let Some(item) = item else {
        return if reading.deals.is_empty() { vec![] } else { whole(all, |_| true) };
    };
    for (deal, changes) in &reading.deals {
        if deal.id == item {
            return whole(all, |_| true);
        }
        let side = item.strip_prefix(deal.id.as_str()).and_then(|rest| rest.strip_prefix(':'));
        let (Some(side), Some((fact, _))) = (side, decisive(changes)) else { continue };
        let (before, after) = all.split_at(all.partition_point(|r| r.at < fact.event.time));
        let (side, keyword) = match side.split_once(':') {
            Some((side, keyword)) => (side, Some(keyword)),
            None => (side, None),
        };
        let responses = match side {
            "before" => before,
            "after" => after,
            _ => continue,
        };
        return match keyword {
            Some(keyword) => keywords(reading, responses, Some(keyword), |_| true),
            None => whole(responses, |_| true),
        };
    }
    vec![]
}

/// A keyword is meant by the form under which it is shown, or else by its key or any form in which it was written.
fn keywords(
    reading: &Reading,
    responses: &[Response],
    item: Option<&str>,
    wanted: impl Fn(&Response) -> bool,
) -> Vec<Witness> {
    let mut meant = vec![item.is_none(); reading.keywords.len()];
    if let Some(item) = item {
        for count in tally::count(reading, responses, |r, _| wanted(r)) {
            meant[count.keyword as usize] = count.name() == item;
        }
        if !meant.contains(&true) {
            let item = normalize(item);
            for response in responses {
                for (keyword, number) in response.digest.keywords.iter().zip(response.keywords) {
                    if *keyword.key == *item || normalize(&keyword.surface) == item {
                        meant[*number as usize] = true;
                    }
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
    if let Some(witnesses) = beside_competitor(reading, item) {
        return witnesses;
    }
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

/// What `COMPETITOR:KEYWORD` names: the keyword in the responses that mention the competitor.
fn beside_competitor(reading: &Reading, item: Option<&str>) -> Option<Vec<Witness>> {
    let item = item?;
    reading.settings.competitors.iter().enumerate().find_map(|(i, competitor)| {
        let keyword = item.strip_prefix(competitor.name.as_str())?.strip_prefix(':')?;
        let mentions = |r: &Response| r.digest.competitors.iter().any(|m| m.competitor == i);
        Some(keywords(reading, reading.shown(), Some(keyword), mentions))
    })
}

fn watched(reading: &Reading, item: Option<&str>) -> Vec<Witness> {
    let item = item.map(normalize);
    let meant = |list: usize, phrase: usize| {
        let list = reading.settings.watchlists.get(list);
        let phrase = list.and_then(|l| l.phrases.get(phrase));
        let both = || Some(format!("{}:{}", list?.name, phrase?));
        item.as_ref().is_none_or(|i| {
            phrase.is_some_and(|p| normalize(p) == *i)
                || list.is_some_and(|l| normalize(&l.name) == *i)
                || both().is_some_and(|b| normalize(&b) == *i)
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
