//! What the tests of the pipeline share: a scorer of few words, a clock that stands, random histories, and documents
//! without their stamps.
#![allow(dead_code)] // Each test program uses its own part.

pub mod faults;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use hearken::{
    insight::event::{Event, EventData, EventId, RecordKey},
    pipeline::{
        Clock, IncomingEvent, Pipeline, PipelineOptions, RecordQuery, Scored, Scorer, ScorerError, Tenant,
        ViewQuery,
    },
    scores::{Classified, Keyphrase, Scores, Sentence},
    store::{Store, sqlite::SqliteStore},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The moment at which all tests begin: 2026-03-02T12:00:00Z.
pub const NOON: i64 = 1_772_452_800;

pub const TENANT: fn() -> Tenant = Tenant::default;

/// A clock that only the test moves.
#[derive(Clone)]
pub struct Hands(Arc<AtomicI64>);

impl Hands {
    pub fn at_noon() -> Self {
        Self(Arc::new(AtomicI64::new(NOON)))
    }

    pub fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// Scores by a handful of words, always the same; can be made to fail or to wait.
#[derive(Clone, Default)]
pub struct Words(Arc<WordsState>);

#[derive(Default)]
struct WordsState {
    down: AtomicBool,
    held: AtomicBool,
    texts: AtomicUsize,
}

impl Words {
    /// While down, every call fails.
    pub fn set_down(&self, down: bool) {
        self.0.down.store(down, Ordering::SeqCst);
    }

    /// While held, no call answers.
    pub fn set_held(&self, held: bool) {
        self.0.held.store(held, Ordering::SeqCst);
    }

    /// Texts scored up to now.
    pub fn texts(&self) -> usize {
        self.0.texts.load(Ordering::SeqCst)
    }
}

impl Scorer for Words {
    fn score(&self, texts: Vec<String>) -> BoxFuture<'static, Result<Scored, ScorerError>> {
        let state = self.0.clone();
        Box::pin(async move {
            while state.held.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            if state.down.load(Ordering::SeqCst) {
                let reason = "the test has switched the models off".into();
                return Err(ScorerError { reason, retry_after: None, too_much: false });
            }
            state.texts.fetch_add(texts.len(), Ordering::SeqCst);
            Ok(Scored {
                results: texts.iter().map(|text| words(text)).collect(),
                models: BTreeMap::from([("sentiment".into(), "sha256:words".into())]),
            })
        })
    }
}

fn words(text: &str) -> Result<Scores, String> {
    let lower = text.to_lowercase();
    if lower.contains("unreadable") {
        return Err("the tokenizer gave up".into());
    }
    let has = |words: &[&str]| words.iter().any(|w| lower.contains(w));
    let sentiment = if has(&["outage", "slow", "broken", "cancel"]) {
        [0.9, 0.08, 0.02]
    } else if has(&["thanks", "great", "fast"]) {
        [0.02, 0.08, 0.9]
    } else {
        [0.1, 0.8, 0.1]
    };
    let intent = if has(&["outage", "broken"]) {
        [0.8, 0.0, 0.1, 0.1]
    } else if has(&["offer", "buy"]) {
        [0.0, 0.9, 0.1, 0.0]
    } else if has(&["please", "cancel"]) {
        [0.1, 0.0, 0.8, 0.1]
    } else {
        [0.0, 0.0, 0.1, 0.9]
    };
    let sentiment = Classified::new(&sentiment).unwrap();
    let phrases = ["outage", "connection quality", "price", "installation", "invoice"];
    let keyphrases = phrases.iter().filter_map(|phrase| {
        let start = lower[..lower.find(phrase)?].chars().count() as u32;
        let end = start + phrase.len() as u32;
        let text = (*phrase).into();
        Some(Keyphrase { text, start, end, score: 0.9, sentiment: Some(sentiment.label) })
    });
    Ok(Scores {
        language: Some("en".into()),
        tokens: text.split_whitespace().count() as u32,
        truncated: false,
        intent: Classified::new(&intent),
        keyphrases: Some(keyphrases.collect()),
        sentences: vec![Sentence {
            start: 0,
            end: text.chars().count() as u32,
            sentiment: sentiment.clone(),
        }],
        sentiment: Some(sentiment),
        emotion: None,
    })
}

/// A pipeline in a folder of its own.
pub struct Rig {
    pub folder: tempfile::TempDir,
    pub pipeline: Pipeline,
    pub words: Words,
    pub hands: Hands,
    pub store: Arc<dyn Store>,
}

pub fn options(hands: &Hands) -> PipelineOptions {
    PipelineOptions { clock: Arc::new(hands.clone()), ..PipelineOptions::default() }
}

impl Rig {
    pub fn new() -> Rig {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut PipelineOptions)) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let (words, hands) = (Words::default(), Hands::at_noon());
        let mut options = options(&hands);
        change(&mut options);
        let store = open_in(folder.path());
        let pipeline = Pipeline::start(store.clone(), words.clone(), options).unwrap();
        Rig { folder, pipeline, words, hands, store }
    }

    /// Takes events in and waits until they, and all before them, are in their documents.
    pub async fn apply(&self, events: Vec<IncomingEvent>) {
        self.pipeline.ingest(&TENANT(), events, true).await.unwrap();
    }

    pub async fn document(&self, record: (&str, &str)) -> Value {
        let document = self.pipeline.document(&TENANT(), &key(record), &ViewQuery::default()).await.unwrap();
        serde_json::from_slice(&document.expect("a document").bytes).unwrap()
    }

    pub async fn has_document(&self, record: (&str, &str)) -> bool {
        let found = self.pipeline.document(&TENANT(), &key(record), &ViewQuery::default()).await.unwrap();
        found.is_some()
    }
}

pub fn open_in(folder: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(&database(folder)).unwrap())
}

pub fn database(folder: &Path) -> PathBuf {
    folder.join("hearken.db")
}

pub fn key((module, id): (&str, &str)) -> RecordKey {
    RecordKey { module: module.into(), id: id.into() }
}

fn named((module, id): (&str, &str)) -> Value {
    json!({"module": module, "id": id})
}

/// An event some days before the noon at which tests begin, as if read from a body.
pub fn event(id: &str, type_: &str, day: i64, data: Value) -> IncomingEvent {
    let type_ = format!("voc.{type_}.v1");
    let data = data.to_string();
    IncomingEvent {
        event: Event {
            id: EventId { source: "crm".into(), id: id.into() },
            time: Timestamp::from_second(NOON - day * 86_400).unwrap(),
            data: EventData::parse(&type_, &data).unwrap(),
        },
        type_,
        data,
    }
}

pub fn says(id: &str, record: (&str, &str), day: i64, text: &str) -> IncomingEvent {
    let data = json!({"record": named(record), "channel": "email", "text": text});
    event(id, "interaction.received", day, data)
}

pub fn retracts(id: &str, of: &str) -> IncomingEvent {
    event(id, "interaction.retracted", 0, json!({"interaction": {"source": "crm", "id": of}}))
}

pub fn converts(id: &str, from: (&str, &str), to: (&str, &str), day: i64) -> IncomingEvent {
    event(id, "record.converted", day, json!({"from": named(from), "to": [named(to)]}))
}

pub fn merges(id: &str, from: (&str, &str), into: (&str, &str), day: i64) -> IncomingEvent {
    event(id, "record.merged", day, json!({"from": named(from), "into": named(into)}))
}

pub fn unmerges(id: &str, from: (&str, &str), into: (&str, &str), day: i64) -> IncomingEvent {
    event(id, "record.unmerged", day, json!({"from": named(from), "into": named(into)}))
}

pub fn erases(id: &str, record: (&str, &str)) -> IncomingEvent {
    event(id, "record.erased", 0, json!({"record": named(record)}))
}

/// Every document of the default tenant under the default view, without stamps. Also checks that a document is found
/// under the key that it says it has.
pub async fn documents(pipeline: &Pipeline) -> BTreeMap<RecordKey, String> {
    let mut documents = BTreeMap::new();
    let mut cursor = None;
    loop {
        let query = RecordQuery { cursor, limit: Some(7), ..RecordQuery::default() };
        let page = pipeline.records(&TENANT(), &query).await.unwrap();
        for row in page.items {
            let found = pipeline.document(&TENANT(), &row.key, &ViewQuery::default()).await.unwrap();
            let found = found.unwrap_or_else(|| panic!("{:?} is listed and has no document", row.key));
            let value: Value = serde_json::from_slice(&found.bytes).unwrap();
            assert_eq!(value["record"]["id"], row.key.id.as_str());
            documents.insert(row.key, without_stamps(&found.bytes));
        }
        cursor = page.next;
        if cursor.is_none() {
            return documents;
        }
    }
}

/// The bytes of a document with `as_of` and `lag_ms` cut out, everything else as it is.
pub fn without_stamps(bytes: &[u8]) -> String {
    let mut text = String::from_utf8(bytes.to_vec()).unwrap();
    for stamp in ["\"as_of\":", "\"lag_ms\":"] {
        let begin = text.find(stamp).expect("a stamp") + stamp.len();
        let end = begin + text[begin..].find(',').unwrap();
        text.replace_range(begin..end, "");
    }
    text
}

/// Two sets of documents are the same; where not, says what differs, short enough to read.
pub fn assert_same(found: &BTreeMap<RecordKey, String>, expected: &BTreeMap<RecordKey, String>, what: &str) {
    let keys: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    for key in keys {
        let (Some(found), Some(expected)) = (found.get(key), expected.get(key)) else {
            let side = if found.contains_key(key) { "should not have" } else { "should have" };
            panic!("{what}: {key:?} {side} a document");
        };
        if found != expected {
            let at = found.bytes().zip(expected.bytes()).take_while(|(a, b)| a == b).count();
            let near = |text: &str| {
                let bytes = &text.as_bytes()[at.saturating_sub(80)..(at + 80).min(text.len())];
                String::from_utf8_lossy(bytes).into_owned()
            };
            panic!("{what}: {key:?} differs:\n  {}\n  {}", near(found), near(expected));
        }
    }
}

/// A small generator of numbers; the same seed gives the same history (xorshift64*).
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % n
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

const CONTACTS: &[(&str, &str)] = &[("contact", "1"), ("contact", "2"), ("contact", "3"), ("contact", "4")];
const LEADS: &[(&str, &str)] = &[("lead", "L1"), ("lead", "L2")];
const DEALS: &[(&str, &str)] = &[("deal", "D1"), ("deal", "D2")];
/// What others are merged into.
const MAIN: (&str, &str) = ("contact", "5");

const TEXTS: &[&str] = &[
    "The outage is back, and Airo Networks never has one.",
    "Thanks, the installation was fast and great.",
    "Please send the invoice again.",
    "We want to buy more; send an offer with your best price.",
    "Connection quality is broken since Monday.",
    "I will cancel and switch to Airo.",
    "This one is unreadable.",
    "Ok.",
];

/// A random history over all event types but erasures, a few records and 200 days; ids are unique.
pub fn history(seed: u64, events: usize) -> Vec<IncomingEvent> {
    let mut dice = Dice::new(seed);
    let records: Vec<_> = [CONTACTS, LEADS, DEALS, &[("account", "A")]].concat();
    (0..events)
        .map(|i| {
            let id = &format!("e{i}");
            let record = *dice.pick(&records);
            let contact = *dice.pick(CONTACTS);
            let day = dice.below(200) as i64;
            let about = |type_: &str, more: Value| {
                let mut data = json!({"record": named(record)});
                data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                event(id, type_, day, data)
            };
            match dice.below(20) {
                0 => converts(id, *dice.pick(LEADS), contact, day),
                1 => merges(id, contact, MAIN, day),
                2 => unmerges(id, contact, MAIN, day),
                3 | 4 => {
                    let outcome = *dice.pick(&["open", "won", "lost"]);
                    let data = json!({"record": named(*dice.pick(DEALS)), "contacts": [named(contact)],
                                      "from": "open", "to": "closed", "outcome": outcome, "reason": "price"});
                    event(id, "deal.stage_changed", day, data)
                }
                5 => {
                    let thread = format!("t{}", dice.below(5));
                    about("ticket.status_changed", json!({"thread_id": thread, "resolved": true}))
                }
                6 => about("record.created", json!({})),
                7 => about("customer.churned", json!({"reason": "price"})),
                8 => about("behaviour.observed", json!({"kind": "billing_viewed", "page": "/billing"})),
                9 => {
                    let survey =
                        json!({"metric": "nps", "value": dice.below(11), "scale": {"min": 0, "max": 10}});
                    about("interaction.received", json!({"channel": "survey", "survey": survey}))
                }
                _ => {
                    let related = if dice.below(3) == 0 { vec![named(contact)] } else { vec![] };
                    let channel = *dice.pick(&["email", "chat", "ticket", "call"]);
                    let thread = format!("t{}", dice.below(9));
                    about(
                        "interaction.received",
                        json!({"related": related, "channel": channel, "thread_id": thread,
                               "text": (*dice.pick(TEXTS))}),
                    )
                }
            }
        })
        .collect()
}
