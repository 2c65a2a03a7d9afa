//! What holds for the documents of every history: arrival does not matter, what was retracted or erased never was,
//! the panels agree, evidence can be found, documents refresh where they must. Random histories over all event types.
//!
//! What each panel shows is in `insight_panels.rs`. A quick run tries 48 histories for each law;
//! `PROPTEST_CASES=1000 cargo test --release --test insight_laws` tries a thousand.

mod insight_story;

use std::collections::{BTreeMap, BTreeSet};

use hearken::insight::document::{Document, EVIDENCE_IDS_MAX};
use hearken::insight::event::{EventData, EventId, RecordKey};
use hearken::insight::evidence::{PANELS, behind};
use hearken::insight::history::{Entry, History, ModelRevisions};
use hearken::insight::identity::Identity;
use hearken::insight::render::{View, document};
use hearken::insight::settings::Settings;
use hearken::insight::summary::Summary;
use hearken::scores::{Emotion, Intent, Label, Sentiment};
use insight_story::{NOW, classified, event, fold, key, scores};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

const RECORDS: [(&str, &str); 8] = [
    ("contact", "1"),
    ("contact", "2"),
    ("contact", "3"),
    ("lead", "L1"),
    ("lead", "L2"),
    ("account", "A"),
    ("deal", "D1"),
    ("deal", "D2"),
];

const TEXTS: [&str; 6] = [
    "The outage is back. Airo never has one.",
    "We are switching to Airo.",
    "Please cancel my subscription.",
    "Solar panels work well, the outage was short.",
    "On Monday we wrote to you.\n> Airo said so",
    "断网了。我打算换到艾罗。",
];

fn records() -> Vec<RecordKey> {
    RECORDS.iter().map(|(module, id)| key(module, id)).collect()
}

fn settings() -> Settings {
    serde_json::from_value(json!({
        "competitors": [{"name": "Airo Networks", "aliases": ["Airo", "艾罗"]}],
        "watchlists": [{"name": "range", "kind": "product", "phrases": ["solar panels"]}],
    }))
    .unwrap()
}

fn views() -> Vec<View> {
    [
        (None, None),
        (Some("all"), None),
        (Some("all"), Some("2026-01-15T00:00:00Z")),
        (Some("2025-12-15/2026-01-10"), None),
    ]
    .into_iter()
    .map(|(window, as_of)| View::parse(window, as_of, NOW.parse().unwrap()).unwrap())
    .chain(std::iter::once(tokyo()))
    .collect()
}

/// Days of another part of the world.
fn tokyo() -> View {
    let zone = jiff::tz::TimeZone::get("Asia/Tokyo").unwrap();
    View::parse_in(Some("40d"), Some("2026-01-20T20:00:00Z"), zone, NOW.parse().unwrap()).unwrap()
}

/// All documents of all records under all views.
fn documents(history: &History, identity: &Identity, settings: &Settings) -> Vec<Document> {
    let views = views();
    let of = |key: &RecordKey| {
        views.iter().map(|view| document(key, history, identity, settings, view)).collect::<Vec<_>>()
    };
    records().iter().flat_map(of).collect()
}

fn bytes(entries: &[Entry]) -> Vec<String> {
    let settings = settings();
    let (history, identity) = fold(entries, &settings);
    let documents = documents(&history, &identity, &settings);
    documents.iter().map(|d| String::from_utf8(d.to_bytes()).unwrap()).collect()
}

/// Dice for one event.
type Dice = (u8, u8, u8, u8, u8, u8, u32);

fn dice() -> impl Strategy<Value = Dice> {
    (0..20u8, 0..8u8, 0..8u8, 0..8u8, 0..6u8, 0..12u8, 0..100u32)
}

/// An event from dice: interactions mostly, with few ids, so that versions of one meet.
fn entry((kind, a, b, c, text, id, day): Dice) -> Entry {
    let record = |i: u8| key(RECORDS[i as usize].0, RECORDS[i as usize].1);
    let time = format!(
        "{}T{:02}:00:00Z",
        Timestamp::from_second(1_763_000_000 + i64::from(day) * 86_400).unwrap().strftime("%Y-%m-%d"),
        day % 5
    );
    let contact = |i: u8| record(i % 3);
    let thread = format!("T{}", b % 3);
    let (type_, id, data) = match kind {
        0 => {
            let target = json!({"source": "crm", "id": format!("i{}", c % 12)});
            ("voc.interaction.retracted.v1", format!("retract{c}"), json!({"interaction": target}))
        }
        1 => {
            let target = json!({"source": "crm", "id": format!("merge{}", c % 4)});
            ("voc.interaction.retracted.v1", format!("unlink{c}"), json!({"interaction": target}))
        }
        2 => ("voc.record.erased.v1", format!("erase{a}-{day}"), json!({"record": record(a)})),
        3 => ("voc.record.created.v1", format!("new{a}"), json!({"record": record(a)})),
        4 => {
            let from = json!({"module": "lead", "id": format!("L{}", 1 + a % 2)});
            let to = [contact(b), record(5)];
            ("voc.record.converted.v1", format!("convert{}", a % 2), json!({"from": from, "to": to}))
        }
        5 | 6 if a % 3 != b % 3 => {
            let pair = json!({"from": contact(a), "into": contact(b)});
            ("voc.record.merged.v1", format!("merge{}", c % 4), pair)
        }
        7 => {
            let pair = json!({"from": contact(a), "into": contact(b)});
            ("voc.record.unmerged.v1", format!("unmerge{c}"), pair)
        }
        8 | 9 => {
            let outcome = ["open", "won", "lost"][c as usize % 3];
            let data = json!({"record": record(6 + a % 2), "contacts": if c % 4 == 0 { vec![] } else { vec![contact(b)] },
                "to": format!("stage{c}"), "outcome": outcome, "reason": "price", "amount": f64::from(c) * 10.5});
            ("voc.deal.stage_changed.v1", format!("stage{}", id % 6), data)
        }
        10 => {
            let data = json!({"thread_id": thread, "record": record(a), "resolved": c % 2 == 0});
            ("voc.ticket.status_changed.v1", format!("status{id}"), data)
        }
        11 => ("voc.customer.churned.v1", format!("churn{a}"), json!({"record": record(a)})),
        12 => {
            let kind = ["cart_abandoned", "purchase", "billing_viewed"][c as usize % 3];
            ("voc.behaviour.observed.v1", format!("saw{id}"), json!({"record": record(a), "kind": kind}))
        }
        _ => {
            let channel = ["email", "call", "survey"][b as usize % 3];
            let mut data = json!({"record": record(a), "related": if c % 2 == 0 { vec![] } else { vec![record(b)] },
                "channel": channel, "language": "en",
                "text": TEXTS[text as usize], "revision": c / 4, "product": "app"});
            if c % 3 != 0 {
                data["thread_id"] = json!(thread);
            }
            if b % 3 == 2 {
                let metric = ["nps", "csat", "ces"][c as usize % 3];
                data["survey"] = json!({"metric": metric, "value": 1 + a % 5});
            }
            ("voc.interaction.received.v1", format!("i{id}"), data)
        }
    };
    let mut event = event(&time, type_, &id, data);
    let mut scored = None;
    if let EventData::InteractionReceived(interaction) = &event.data {
        if a % 4 == 3 {
            event.id.source = "shop".into();
        }
        let text = interaction.text.as_deref().unwrap();
        let phrases: Vec<_> =
            text.match_indices("outage").map(|(at, word)| (at..at + word.len(), None)).collect();
        let sentiment = Sentiment::ALL[(b + c) as usize % 3];
        let intent = (c != 5).then(|| Intent::ALL[(a + c) as usize % 4]);
        scored = (b != 7)
            .then(|| scores(text, sentiment, intent, &phrases, &[(0, Sentiment::ALL[c as usize % 3])]));
        if let Some(scored) = scored.as_mut().filter(|_| c != 6) {
            scored.emotion = Some(classified(Emotion::ALL[(a + b + c) as usize % 11], 0.7));
        }
    }
    let models = ModelRevisions::from([("sentiment".into(), format!("sha256:{}", c % 2))]);
    Entry { event, received_at: NOW.parse().unwrap(), scores: scored, models }
}

fn history(most: usize) -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::vec(dice(), 0..most).prop_map(|dice| dice.into_iter().map(entry).collect())
}

/// What survives, worked out from the definition: one version of each event, none of what was retracted, none of what
/// was erased up to its time, and no word of an erased record in what is left.
fn survivors(entries: &[Entry]) -> Vec<Entry> {
    let mut retracted: BTreeSet<EventId> = BTreeSet::new();
    let mut erased: BTreeMap<RecordKey, Timestamp> = BTreeMap::new();
    let mut versions: BTreeMap<EventId, Entry> = BTreeMap::new();
    for entry in entries {
        match &entry.event.data {
            EventData::InteractionRetracted(r) => {
                retracted.insert(r.interaction.clone());
            }
            EventData::RecordErased(e) => {
                let until = erased.entry(e.record.clone()).or_insert(entry.event.time);
                *until = entry.event.time.max(*until);
            }
            data => {
                let known = versions.get(&entry.event.id);
                if known.is_none_or(|known| known.event.data.revision() < data.revision()) {
                    versions.insert(entry.event.id.clone(), entry.clone());
                }
            }
        }
    }
    versions.retain(|id, _| !retracted.contains(id));
    let mut left: Vec<Entry> = versions.into_values().collect();
    left.retain_mut(|entry| {
        let time = entry.event.time;
        let gone = |key: &RecordKey| erased.get(key).is_some_and(|until| time <= *until);
        match &mut entry.event.data {
            EventData::InteractionReceived(i) => {
                i.related.retain(|key| !gone(key));
                !gone(&i.record)
            }
            EventData::DealStageChanged(s) => {
                s.contacts.retain(|key| !gone(key));
                !gone(&s.record)
            }
            EventData::RecordConverted(c) => {
                c.to.retain(|key| !gone(key));
                !gone(&c.from.key()) && !c.to.is_empty()
            }
            other => !other.records().iter().any(gone),
        }
    });
    left
}

/// Keeps the first of the versions of an id that have the same revision: which of them survives is not laid down.
fn without_rivals(mut entries: Vec<Entry>) -> Vec<Entry> {
    let mut seen = BTreeSet::new();
    entries.retain(|e| seen.insert((e.event.id.clone(), e.event.data.revision())));
    entries
}

/// Every `evidence` in a document, with its count where one stands beside it.
fn evidence(value: &Value, found: &mut Vec<(Vec<String>, Option<u64>)>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(ids)) = map.get("evidence") {
                let ids = ids.iter().map(|id| id.as_str().unwrap().to_string()).collect();
                found.push((ids, map.get("evidence_total").and_then(Value::as_u64)));
            }
            map.values().for_each(|v| evidence(v, found));
        }
        Value::Array(items) => items.iter().for_each(|v| evidence(v, found)),
        _ => {}
    }
}

fn panels_agree(d: &Document) {
    let total = d.highlights.total;
    let ring = &d.sentiment.distribution;
    let shares = &d.highlights.sentiment;
    assert_eq!(total, d.meta.coverage.interactions);
    assert_eq!(total, ring.total());
    assert_eq!(total, d.meta.coverage.by_channel.values().sum::<u64>());
    assert_eq!(d.sentiment.unique_responses, d.meta.coverage.unique_responses);
    for (share, count) in [
        (&shares.positive, ring.positive),
        (&shares.neutral, ring.neutral),
        (&shares.negative, ring.negative),
    ] {
        assert_eq!(share.count, count);
        let pct = if total == 0 { 0.0 } else { 100.0 * count as f64 / total as f64 };
        assert!((share.pct - pct).abs() <= 0.05 + 1e-9);
        assert_eq!(share.ci95.is_some(), total > 0);
        assert!(share.ci95.is_none_or(|[low, high]| low - 0.05 <= pct && pct <= high + 0.05));
    }
    let by_time = |f: fn(&hearken::insight::document::SentimentPoint) -> u64| {
        d.sentiment.series.iter().map(f).sum::<u64>()
    };
    assert_eq!(
        (ring.positive, ring.neutral, ring.negative),
        (by_time(|p| p.positive), by_time(|p| p.neutral), by_time(|p| p.negative))
    );
    let by_channel = |f: fn(&hearken::insight::document::ChannelSentiment) -> u64| {
        d.sentiment_by_channel.iter().map(f).sum::<u64>()
    };
    assert_eq!(
        (ring.positive, ring.neutral, ring.negative),
        (by_channel(|c| c.positive), by_channel(|c| c.neutral), by_channel(|c| c.negative))
    );
    let intents = d.intent.distribution;
    let by_time = d.intent.series.iter().map(|p| [p.complaint, p.purchase, p.request, p.other]);
    let by_channel = d.intent_by_channel.iter().map(|c| [c.complaint, c.purchase, c.request, c.other]);
    let sum = |rows: &mut dyn Iterator<Item = [u64; 4]>| {
        rows.fold([0; 4], |sum, row| std::array::from_fn(|i| sum[i] + row[i]))
    };
    let ring = [intents.complaint, intents.purchase, intents.request, intents.other];
    assert_eq!(ring, sum(&mut by_time.into_iter()));
    assert_eq!(ring, sum(&mut by_channel.into_iter()));
    assert_eq!(d.intent.items_total, intents.total() - intents.other);
    for pair in d.sentiment.series.windows(2) {
        assert!(pair[0].bucket < pair[1].bucket);
    }
    for row in &d.keywords.rows {
        assert!(row.responses <= row.mentions && row.responses == row.evidence_total);
    }
}

/// Random histories for each law; `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn arrival_does_not_matter(
        (entries, shuffled) in history(40).prop_flat_map(|entries| {
            let mut twice = entries.clone();
            twice.extend(entries.iter().take(10).cloned());
            (Just(entries), Just(twice).prop_shuffle())
        })
    ) {
        prop_assert_eq!(bytes(&entries), bytes(&shuffled));
    }

    #[test]
    fn after_every_event_a_history_that_grew_is_one_made_anew(entries in history(14), at in 0..14usize) {
        let settings = settings();
        let (mut grown, mut identity) = (History::new(), Identity::new());
        for (i, entry) in entries.iter().enumerate() {
            if i == at {
                grown.redigest(&settings);
            }
            identity.apply(&entry.event);
            grown.apply(entry.clone());
            if i < at {
                continue;
            }
            let (anew, _) = fold(&survivors(&without_rivals(entries[..=i].to_vec())), &settings);
            let is_rival = |e: &Entry| {
                entries[..=i].iter().any(|o| {
                    o.event.id == e.event.id && o.event.data.revision() == e.event.data.revision() && o != e
                })
            };
            // Which of two rivals survives is not laid down for `survivors`.
            if entries[..=i].iter().any(is_rival) {
                continue;
            }
            prop_assert_eq!(grown.len(), anew.len());
            prop_assert_eq!(
                documents(&grown, &identity, &settings),
                documents(&anew, &identity, &settings)
            );
        }
    }

    #[test]
    fn what_does_not_survive_never_was(entries in history(40)) {
        let entries = without_rivals(entries);
        prop_assert_eq!(bytes(&entries), bytes(&survivors(&entries)));
    }

    #[test]
    fn panels_agree_and_evidence_is_found(entries in history(40)) {
        let settings = settings();
        let (history, identity) = fold(&entries, &settings);
        let mut names: BTreeSet<String> = BTreeSet::new();
        for e in survivors(&without_rivals(entries.clone())).iter().chain(&entries) {
            if history.get(&e.event.id).is_some() {
                names.insert(e.event.id.id.clone());
                names.insert(format!("{}#{}", e.event.id.source, e.event.id.id));
            }
        }
        for d in documents(&history, &identity, &settings) {
            panels_agree(&d);
            prop_assert_eq!(&serde_json::from_slice::<Document>(&d.to_bytes()).unwrap(), &d);
            prop_assert_eq!(Summary::of(&d).interactions, d.highlights.total);
            let mut found = vec![];
            evidence(&serde_json::to_value(&d).unwrap(), &mut found);
            for (ids, total) in found {
                prop_assert!(ids.iter().all(|id| names.contains(id)), "{ids:?}");
                prop_assert!(ids.len() <= EVIDENCE_IDS_MAX);
                prop_assert!(total.is_none_or(|t| t as usize == ids.len() || ids.len() == EVIDENCE_IDS_MAX));
            }
        }
    }

    #[test]
    fn the_past_does_not_know_the_future(entries in history(40)) {
        let settings = settings();
        let as_of = "2026-01-15T00:00:00Z";
        let then: Timestamp = as_of.parse().unwrap();
        // What is retracted or erased later is gone from the past too.
        let past: Vec<Entry> = survivors(&without_rivals(entries.clone()))
            .into_iter().filter(|e| e.event.time <= then).collect();
        let entries = without_rivals(entries);
        let view = View::parse(None, Some(as_of), NOW.parse().unwrap()).unwrap();
        let (history, identity) = fold(&entries, &settings);
        let (history_then, identity_then) = fold(&past, &settings);
        for key in records() {
            prop_assert_eq!(
                document(&key, &history, &identity, &settings, &view),
                document(&key, &history_then, &identity_then, &settings, &view)
            );
        }
    }

    #[test]
    fn sources_are_all_that_a_document_needs(entries in history(30)) {
        let settings = settings();
        let (full, identity) = fold(&entries, &settings);
        for key in records() {
            let sources = identity.sources(&key);
            prop_assert!(identity.members(&key).iter().all(|k| sources.contains(k)));
            // All versions of an event: one may name a source that another does not.
            let wanted: BTreeSet<&EventId> = entries
                .iter()
                .filter(|e| e.event.data.records().iter().any(|k| sources.contains(k)))
                .map(|e| &e.event.id)
                .collect();
            let forgets = |e: &Entry| {
                matches!(e.event.data, EventData::InteractionRetracted(_) | EventData::RecordErased(_))
            };
            let some: Vec<Entry> =
                entries.iter().filter(|e| forgets(e) || wanted.contains(&e.event.id)).cloned().collect();
            let (own, _) = fold(&some, &settings);
            for view in views() {
                prop_assert_eq!(
                    document(&key, &own, &identity, &settings, &view),
                    document(&key, &full, &identity, &settings, &view)
                );
            }
        }
    }

    #[test]
    fn dependents_are_all_that_change(entries in history(30), last in dice().prop_map(entry)) {
        let settings = settings();
        let view = View::parse(Some("all"), None, NOW.parse().unwrap()).unwrap();
        let (mut history, mut identity) = fold(&entries, &settings);
        let render = |history: &History, identity: &Identity| -> BTreeMap<RecordKey, Document> {
            records().into_iter().map(|k| (k.clone(), document(&k, history, identity, &settings, &view))).collect()
        };
        let named = match &last.event.data {
            EventData::InteractionRetracted(r) => {
                history.get(&r.interaction).map_or(vec![], |f| f.event.data.records())
            }
            EventData::RecordErased(e) => history.named_beside(&e.record),
            // A new version may name other records than the one that it replaces.
            data => {
                let replaced = history.get(&last.event.id).map_or(vec![], |f| f.event.data.records());
                data.records().into_iter().chain(replaced).collect()
            }
        };
        let refresh = |identity: &Identity| -> BTreeSet<RecordKey> {
            named.iter().flat_map(|k| identity.dependents(k)).collect()
        };
        let before = render(&history, &identity);
        let mut refreshed = refresh(&identity);
        identity.apply(&last.event);
        history.apply(last);
        refreshed.extend(refresh(&identity));
        for (key, after) in render(&history, &identity) {
            prop_assert!(after == before[&key] || refreshed.contains(&key), "{key:?} changed unseen");
        }
    }

    #[test]
    fn new_settings_read_every_text_again(entries in history(30)) {
        let (old, new) = (Settings::default(), settings());
        let (mut history, identity) = fold(&entries, &old);
        history.redigest(&new);
        let (fresh, _) = fold(&entries, &new);
        prop_assert_eq!(documents(&history, &identity, &new), documents(&fresh, &identity, &new));
    }

    #[test]
    fn behind_every_number_stand_its_events(entries in history(30), view in 0..5usize) {
        let settings = settings();
        let (history, identity) = fold(&entries, &settings);
        let view = &views()[view];
        for key in records() {
            let d = document(&key, &history, &identity, &settings, view);
            let behind = |panel: &str, item: Option<&str>| {
                behind(&key, &history, &identity, &settings, view, panel, item).unwrap()
            };
            for (panel, item, count) in counts(&d) {
                prop_assert_eq!(behind(panel, item.as_deref()).len() as u64, count, "{} {:?}", panel, item);
            }
            for (panel, item, mentions) in mentions(&d) {
                let spans: usize = behind(panel, Some(&item)).iter().map(|w| w.spans.len()).sum();
                prop_assert_eq!(spans as u64, mentions, "mentions of {} {:?}", panel, item);
            }
            for panel in PANELS {
                behind(panel, None);
            }
        }
    }
}

/// Every number of a document that counts events, and what asks for its evidence.
fn counts(d: &Document) -> Vec<(&'static str, Option<String>, u64)> {
    let mut counts: Vec<(&'static str, Option<String>, u64)> = vec![
        ("highlights", None, d.highlights.total),
        ("sentiment", Some("negative".into()), d.sentiment.distribution.negative),
        ("sentiment", Some("neutral".into()), d.sentiment.distribution.neutral),
        ("sentiment", Some("positive".into()), d.sentiment.distribution.positive),
        ("intent", Some("complaint".into()), d.intent.distribution.complaint),
        ("intent", Some("request".into()), d.intent.distribution.request),
        ("intent", Some("purchase".into()), d.intent.distribution.purchase),
        ("intent", Some("other".into()), d.intent.distribution.other),
        ("conversion", None, d.conversion.responses_before),
        ("metrics", Some("nps".into()), d.metrics.nps.n + d.metrics.nps.excluded),
        ("metrics", Some("csat".into()), d.metrics.csat.n + d.metrics.csat.excluded),
        ("metrics", Some("ces".into()), d.metrics.ces.n + d.metrics.ces.excluded),
        ("ops", None, d.ops.n),
    ];
    let mut add = |panel, item: &str, count| counts.push((panel, Some(item.to_owned()), count));
    d.emotions.iter().for_each(|(emotion, n)| add("emotions", emotion, *n));
    d.profile.emotions.iter().for_each(|f| add("emotions", &f.emotion, f.evidence_total));
    d.sentiment_by_channel.iter().for_each(|c| {
        add("sentiment_by_channel", &c.channel, c.positive + c.neutral + c.negative);
    });
    d.intent_by_channel.iter().for_each(|c| {
        add("intent_by_channel", &c.channel, c.complaint + c.purchase + c.request + c.other);
    });
    d.meta.coverage.behaviour.iter().for_each(|(kind, n)| add("behaviour", kind, *n));
    d.keywords.rows.iter().for_each(|row| add("keywords", &row.keyword, row.responses));
    d.competitors.rows.iter().for_each(|row| add("competitors", &row.competitor, row.responses));
    d.highlights.labels.iter().for_each(|label| add("labels", &label.id, label.evidence_total));
    d.signals.iter().for_each(|signal| add("signals", &signal.type_, signal.count));
    d.hypotheses.iter().for_each(|h| add("hypotheses", &h.id, h.sightings));
    d.predictions.iter().for_each(|p| add("predictions", &p.id, p.evidence_total));
    d.drivers.iter().for_each(|x| add("drivers", &format!("{}:{}", x.kind, x.theme), x.responses));
    d.friction.iter().for_each(|x| add("friction", &format!("{}:{}", x.kind, x.place), x.negatives));
    d.profile.needs.iter().for_each(|need| add("needs", &need.keyword, need.evidence_total));
    d.profile.opinions.iter().for_each(|x| add("opinions", &x.product, x.evidence_total));
    d.watch.hits.iter().for_each(|h| add("watch", &format!("{}:{}", h.name, h.phrase), h.evidence_total));
    d.journey.escalation.iter().for_each(|e| add("journey", &e.thread_id, e.contacts));
    d.conversion.keywords_before.iter().for_each(|k| add("conversion", &k.keyword, k.evidence_total));
    for deal in &d.deals {
        add("deals", &format!("{}:before", deal.deal_id), deal.before.responses);
        add("deals", &format!("{}:after", deal.deal_id), deal.after.responses);
        add("deals", &deal.deal_id, deal.before.responses + deal.after.responses);
    }
    counts
}

/// Every number of a document that counts occurrences in texts.
fn mentions(d: &Document) -> Vec<(&'static str, String, u64)> {
    let mut mentions = vec![];
    d.keywords.rows.iter().for_each(|row| mentions.push(("keywords", row.keyword.clone(), row.mentions)));
    d.profile.needs.iter().for_each(|need| mentions.push(("needs", need.keyword.clone(), need.count)));
    d.watch.hits.iter().for_each(|h| mentions.push(("watch", format!("{}:{}", h.name, h.phrase), h.count)));
    for row in &d.competitors.rows {
        mentions.push(("competitors", row.competitor.clone(), row.mentions));
        for keyword in &row.keywords {
            let item = format!("{}:{}", row.competitor, keyword.keyword);
            mentions.push(("competitors", item, keyword.count));
        }
    }
    for deal in &d.deals {
        for (side, keywords) in [("before", &deal.before.keywords), ("after", &deal.after.keywords)] {
            for keyword in keywords {
                let item = format!("{}:{side}:{}", deal.deal_id, keyword.keyword);
                mentions.push(("deals", item, keyword.count));
            }
        }
    }
    mentions
}
