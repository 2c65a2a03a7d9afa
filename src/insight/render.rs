//! From a history to the document of one record: reads the facts once, lets every panel count, fills the head.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::document::{Coverage, Document, Links, Meta, RecordHead, SCHEMA, WindowHead};
use super::event::{Direction, EventData, Interaction, RecordKey};
use super::history::{History, ModelRevisions};
use super::identity::Identity;
use super::metrics::Metrics;
use super::panels::{
    actions, channels,
    competitors::Competitors,
    conversion::Conversion,
    deals, drivers, emotions, friction,
    highlights::Highlights,
    hypotheses,
    intent::IntentPanel,
    journey::Journey,
    keywords::Keywords,
    operations::Operations,
    predictions,
    profile::Profile,
    sentiment::{self, SentimentPanel},
    signals,
    watch::Watch,
};
use super::reading::Reading;
use super::settings::Settings;
use super::statistics::{pct, wilson_pct95};
pub use super::view::{View, ViewError};

/// The document of `key`. `history` must hold the facts of every record in `identity.sources(key)`, as digested under
/// the same `settings`; facts of other records are ignored. It must have heard of every version of these events, also of
/// one that names other records, and of every retraction and erasure.
pub fn document(
    key: &RecordKey,
    history: &History,
    identity: &Identity,
    settings: &Settings,
    view: &View,
) -> Document {
    let reading = &Reading::new(key, history, identity, settings, view);
    let highlights = Highlights::of(reading);
    let metrics = Metrics::of(reading);
    let (sentiment_by_channel, intent_by_channel) = channels::of(reading);
    Document {
        record: RecordHead {
            module: key.module.clone(),
            id: key.id.clone(),
            aliases: reading.aliases.iter().filter(|alias| *alias != key).cloned().collect(),
        },
        meta: meta(reading),
        sentiment: SentimentPanel::of(reading),
        keywords: Keywords::of(reading),
        competitors: Competitors::of(reading),
        intent: IntentPanel::of(reading),
        sentiment_by_channel,
        intent_by_channel,
        conversion: Conversion::of(reading),
        deals: deals::of(reading),
        emotions: emotions::counts(reading),
        journey: Journey::of(reading),
        ops: Operations::of(reading),
        signals: signals::of(reading),
        drivers: drivers::of(reading),
        friction: friction::of(reading),
        profile: Profile::of(reading, &highlights, &metrics),
        predictions: predictions::of(reading),
        hypotheses: hypotheses::of(reading),
        actions: actions::of(reading, &highlights),
        watch: Watch::of(reading),
        links: links(key),
        highlights,
        metrics,
    }
}

fn meta(reading: &Reading) -> Meta {
    let (models, models_mixed) = models(reading);
    let enabled = reading.settings.module_enabled(&reading.key.module);
    Meta {
        schema: SCHEMA.into(),
        revision: revision(reading),
        as_of: None,
        lag_ms: None,
        window: window(reading),
        models,
        models_mixed,
        rules: format!("labels@{}", reading.settings.labels_version),
        eligible: enabled,
        module_enabled: enabled,
        coverage: coverage(reading),
        last_activity_at: last_activity_at(reading),
    }
}

/// Counts every fact of the document once: those that it folds and the stage changes of its deals.
fn revision(reading: &Reading) -> u64 {
    let is_folded = |time: Timestamp, id: &super::event::EventId| {
        reading.facts.binary_search_by(|f| (f.event.time, &f.event.id).cmp(&(time, id))).is_ok()
    };
    let stages = reading.deals.values().flatten().map(|(fact, _)| fact);
    reading.revision + stages.filter(|f| !is_folded(f.event.time, &f.event.id)).count() as u64
}

/// A window without a beginning ends with what is dated in the future, if anything is.
fn window(reading: &Reading) -> WindowHead {
    let view = reading.view;
    let last = reading.facts.last().map(|f| super::view::day_in(f.event.time, &view.zone));
    let to = match (view.from, last) {
        (None, Some(last)) => view.to.max(last),
        _ => view.to,
    };
    WindowHead { from: view.from, to, tz: view.zone_name() }
}

fn models(reading: &Reading) -> (ModelRevisions, bool) {
    let mut models = ModelRevisions::new();
    let mut mixed = false;
    let mut last: Option<&ModelRevisions> = None;
    // Newest first: the first revision of a slot is the newest. Runs of the same models are looked at once.
    for response in reading.shown().iter().rev() {
        let used = &*response.fact.models;
        if last.is_some_and(|last| std::ptr::eq(last, used)) {
            continue;
        }
        last = Some(used);
        for (slot, revision) in used {
            mixed |= models.entry(slot.clone()).or_insert_with(|| revision.clone()) != revision;
        }
    }
    (models, mixed)
}

/// Told to the company itself, or to others about it.
fn feedback_kind(interaction: &Interaction) -> &str {
    match (&interaction.feedback_kind, interaction.channel.as_str()) {
        (Some(kind), _) => kind,
        (None, "social" | "review") => "indirect",
        (None, _) => "direct",
    }
}

fn coverage(reading: &Reading) -> Coverage {
    let shown = reading.shown();
    let total = shown.len() as u64;
    let mut coverage = Coverage {
        interactions: total,
        unique_responses: sentiment::unique(reading, shown),
        ..Coverage::default()
    };
    let mut channels = vec![0u64; reading.names.len()];
    let mut by_kind: BTreeMap<&str, u64> = BTreeMap::new();
    for fact in reading.shown_facts() {
        match &fact.event.data {
            EventData::InteractionReceived(interaction) => {
                let scored = fact.scores.as_ref().is_some_and(|s| s.sentiment.is_some());
                let is_answer = interaction.survey.is_some() && interaction.by_customer();
                coverage.survey_answers += u64::from(is_answer);
                coverage.outbound += u64::from(interaction.direction == Direction::Outbound);
                match (&fact.digest, scored) {
                    (Some(_), true) => channels[fact.channel.unwrap_or(0) as usize] += 1,
                    (Some(_), false) => coverage.unscored += 1,
                    (None, _) => coverage.without_customer_text += 1,
                }
                if fact.digest.is_some() || is_answer {
                    *by_kind.entry(feedback_kind(interaction)).or_default() += 1;
                }
            }
            EventData::BehaviourObserved(behaviour) => {
                *by_kind.entry("inferred").or_default() += 1;
                *coverage.behaviour.entry(behaviour.kind.clone()).or_default() += 1;
            }
            _ => {}
        }
    }
    let by_channel: BTreeMap<&str, u64> =
        reading.names.iter().zip(channels).filter(|(_, n)| *n > 0).map(|(name, n)| (&**name, n)).collect();
    let surveys = by_channel.get("survey").copied().unwrap_or(0);
    coverage.survey_pct = pct(surveys, total);
    coverage.survey_ci95 = wilson_pct95(surveys, total);
    let owned = |counts: BTreeMap<&str, u64>| counts.into_iter().map(|(name, n)| (name.into(), n)).collect();
    coverage.by_channel = owned(by_channel);
    coverage.by_feedback_kind = owned(by_kind);
    coverage
}

/// The newest interaction by the customer, or behaviour.
fn last_activity_at(reading: &Reading) -> Option<Timestamp> {
    let active = |data: &EventData| match data {
        EventData::InteractionReceived(i) => i.by_customer() || i.customer_text().is_some(),
        EventData::BehaviourObserved(_) => true,
        _ => false,
    };
    reading.facts.iter().rev().find(|f| active(&f.event.data)).map(|f| f.event.time)
}

fn links(key: &RecordKey) -> Links {
    let record = format!("/v1/records/{}/{}", path_segment(&key.module), path_segment(&key.id));
    Links {
        self_: format!("{record}/insights"),
        evidence: format!("{record}/evidence"),
        interactions: format!("{record}/interactions"),
        keywords: format!("{record}/keywords"),
        stream: format!("{record}/insights/stream"),
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn path_segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
