//! The surviving facts of records: what is left of all events after revisions, retractions and erasures.
//!
//! A history is a set. Facts can be applied in any order and any number of times: of the versions of an id the highest
//! revision survives (of equal ones the one with scores, then the one with the lower fingerprint), and a retraction or an
//! erasure also holds for what comes after it. What documents count in a text is found once, when it is applied.
//!
//! An erasure at a time takes every fact up to that time whose record it names, and unlinks facts that only name the
//! record beside another one (`related`, a deal's `contacts`). Of what was erased, only ids and fingerprints are kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::digest::Digest;
use super::event::{Event, EventData, EventId, RecordKey};
use super::lexicon::Lexicon;
use super::precedence::{Fingerprint, feed, fingerprint};
use super::settings::Settings;
use super::symbols::Symbols;
use super::timeline::Timeline;
use crate::scores::Scores;

/// Slot to revision (`sha256:...`) of the models that made some scores.
pub type ModelRevisions = BTreeMap<String, String>;

/// An event as it enters a history.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub event: Event,
    pub received_at: Timestamp,
    /// What the models said about the customer's text; `None` where there is none or it is not scored (yet).
    pub scores: Option<Scores>,
    pub models: ModelRevisions,
}

/// A surviving event, read.
#[derive(Clone, Debug)]
pub struct Fact {
    pub event: Event,
    pub received_at: Timestamp,
    pub scores: Option<Scores>,
    pub models: Arc<ModelRevisions>,
    /// What counts in the customer's words; `None` where the customer says nothing.
    pub digest: Option<Digest>,
    /// The conversation of an interaction, by its number in [`History::threads`].
    pub thread: Option<u32>,
    /// The channel, product and touchpoint of an interaction, by their numbers in [`History::names`].
    pub channel: Option<u32>,
    pub product: Option<u32>,
    pub touchpoint: Option<u32>,
    /// The keywords of `digest`, by their numbers in [`History::keywords`].
    pub keywords: Box<[u32]>,
}

/// The surviving facts of one record or of many; see the module's documentation.
pub struct History {
    lexicon: Arc<Lexicon>,
    versions: HashMap<EventId, Version>,
    /// Facts by the records that they name.
    by_record: HashMap<RecordKey, Timeline>,
    retracted: BTreeSet<EventId>,
    erased: BTreeMap<RecordKey, Timestamp>,
    /// Few different ones, shared by many facts.
    models: Vec<Arc<ModelRevisions>>,
    keywords: Symbols,
    threads: Symbols,
    names: Symbols,
}

/// The version of an event that survives so far.
enum Version {
    Live(Arc<Fact>),
    /// Enough to know which later version would win.
    Erased(Rank),
}

/// What decides between versions of one event; the highest survives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    revision: u32,
    scored: bool,
    fingerprints: std::cmp::Reverse<(Fingerprint, Fingerprint)>,
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

impl History {
    /// An empty history, without competitors and watchlists until [`History::redigest`] names them.
    pub fn new() -> Self {
        Self::with_lexicon(Arc::new(Lexicon::new(&Settings::default())))
    }

    /// An empty history that looks for what `lexicon` knows; many histories can share one.
    pub fn with_lexicon(lexicon: Arc<Lexicon>) -> Self {
        Self {
            lexicon,
            versions: HashMap::new(),
            by_record: HashMap::new(),
            retracted: BTreeSet::new(),
            erased: BTreeMap::new(),
            models: Vec::new(),
            keywords: Symbols::default(),
            threads: Symbols::default(),
            names: Symbols::default(),
        }
    }

    /// Takes one event in. Order and repeats do not matter.
    pub fn apply(&mut self, entry: Entry) {
        match &entry.event.data {
            EventData::InteractionRetracted(r) => self.retract(&r.interaction),
            EventData::RecordErased(e) => self.erase(&e.record, entry.event.time),
            _ => self.insert(entry),
        }
    }

    fn insert(&mut self, entry: Entry) {
        let id = &entry.event.id;
        if self.retracted.contains(id) {
            return;
        }
        if let Some(known) = self.versions.get(id) {
            let known = match known {
                Version::Live(fact) if is_repeat(fact, &entry) => return,
                Version::Live(fact) => rank(&fact.event, fact.scores.as_ref(), &fact.models),
                Version::Erased(rank) => *rank,
            };
            if rank(&entry.event, entry.scores.as_ref(), &entry.models) <= known {
                return;
            }
            self.forget(&entry.event.id);
        }
        let names = self.surviving_names(&entry.event);
        if names.is_empty() {
            let rank = rank(&entry.event, entry.scores.as_ref(), &entry.models);
            self.versions.insert(entry.event.id, Version::Erased(rank));
            return;
        }
        let fact = Arc::new(self.read(entry));
        for name in names {
            self.by_record.entry(name).or_default().insert(fact.clone());
        }
        self.versions.insert(fact.event.id.clone(), Version::Live(fact));
    }

    fn read(&mut self, entry: Entry) -> Fact {
        let (mut digest, mut thread) = (None, None);
        let (mut channel, mut product, mut touchpoint) = (None, None, None);
        if let EventData::InteractionReceived(interaction) = &entry.event.data {
            digest = Digest::of(interaction, entry.scores.as_ref(), &self.lexicon);
            thread = interaction.thread_id.as_deref().map(|id| self.threads.number(id));
            channel = Some(self.names.number(&interaction.channel));
            product = interaction.product.as_deref().map(|name| self.names.number(name));
            touchpoint = interaction.touchpoint.as_deref().map(|name| self.names.number(name));
        }
        let keywords = self.numbers(digest.as_ref());
        let models = match self.models.iter().find(|m| ***m == entry.models) {
            Some(models) => models.clone(),
            None => {
                let models = Arc::new(entry.models);
                self.models.push(models.clone());
                models
            }
        };
        let Entry { event, received_at, scores, .. } = entry;
        Fact { event, received_at, scores, models, digest, thread, channel, product, touchpoint, keywords }
    }

    fn numbers(&mut self, digest: Option<&Digest>) -> Box<[u32]> {
        let keywords = digest.map_or(&[][..], |digest| &digest.keywords);
        keywords.iter().map(|keyword| self.keywords.number(&keyword.key)).collect()
    }

    /// Forgets an event for ever, in all its versions, also those still to come.
    pub fn retract(&mut self, id: &EventId) {
        self.forget(id);
        self.retracted.insert(id.clone());
    }

    /// Forgets what is held on `key` up to a time, also what is still to come.
    fn erase(&mut self, key: &RecordKey, time: Timestamp) {
        let until = self.erased.entry(key.clone()).or_insert(time);
        *until = time.max(*until);
        let until = *until;
        let touched: Vec<Arc<Fact>> = self
            .by_record
            .get(key)
            .map_or(&[][..], Timeline::facts)
            .iter()
            .take_while(|fact| fact.event.time <= until)
            .cloned()
            .collect();
        for fact in touched {
            let id = &fact.event.id;
            if self.surviving_names(&fact.event).is_empty() {
                self.forget(id);
                let rank = rank(&fact.event, fact.scores.as_ref(), &fact.models);
                self.versions.insert(id.clone(), Version::Erased(rank));
            } else {
                self.unlink(key, &fact.event);
            }
        }
    }

    /// The records under which an event is kept: those that it names and that are not erased, or none where the
    /// erasure takes the event itself.
    fn surviving_names(&self, event: &Event) -> Vec<RecordKey> {
        let erased = |key: &RecordKey| self.erased.get(key).is_some_and(|until| event.time <= *until);
        let taken = match &event.data {
            EventData::InteractionReceived(i) => erased(&i.record),
            EventData::DealStageChanged(s) => erased(&s.record),
            EventData::RecordConverted(c) => erased(&c.from.key()) || c.to.iter().all(erased),
            other => other.records().iter().any(erased),
        };
        if taken {
            return vec![];
        }
        event.data.records().into_iter().filter(|key| !erased(key)).collect()
    }

    fn forget(&mut self, id: &EventId) {
        if let Some(Version::Live(fact)) = self.versions.remove(id) {
            for name in fact.event.data.records() {
                self.unlink(&name, &fact.event);
            }
        }
    }

    fn unlink(&mut self, key: &RecordKey, event: &Event) {
        if let Some(facts) = self.by_record.get_mut(key) {
            facts.remove(event);
            if facts.is_empty() {
                self.by_record.remove(key);
            }
        }
    }

    /// Looks for the competitors and watchlists of `settings` in every text again, and in all that come later.
    pub fn redigest(&mut self, settings: &Settings) {
        self.redigest_with(Arc::new(Lexicon::new(settings)));
    }

    /// [`History::redigest`] with a lexicon that many histories share.
    pub fn redigest_with(&mut self, lexicon: Arc<Lexicon>) {
        self.lexicon = lexicon;
        let facts: Vec<Arc<Fact>> = self
            .versions
            .values()
            .filter_map(|version| match version {
                Version::Live(fact) if fact.digest.is_some() => Some(fact.clone()),
                _ => None,
            })
            .collect();
        for fact in facts {
            let EventData::InteractionReceived(interaction) = &fact.event.data else { continue };
            let digest = Digest::of(interaction, fact.scores.as_ref(), &self.lexicon);
            let keywords = self.numbers(digest.as_ref());
            self.replace(Fact { digest, keywords, ..(*fact).clone() });
        }
    }

    /// Gives a surviving interaction other scores, as after a replay with another model. An event that is not held
    /// stays away.
    pub fn rescore(&mut self, id: &EventId, scores: Option<Scores>, models: ModelRevisions) {
        if let Some(Version::Live(fact)) = self.versions.get(id) {
            let entry = Entry { event: fact.event.clone(), received_at: fact.received_at, scores, models };
            let fact = self.read(entry);
            self.replace(fact);
        }
    }

    fn replace(&mut self, fact: Fact) {
        let fact = Arc::new(fact);
        for name in fact.event.data.records() {
            if let Some(facts) = self.by_record.get_mut(&name) {
                facts.replace(fact.clone());
            }
        }
        self.versions.insert(fact.event.id.clone(), Version::Live(fact));
    }

    /// A surviving event by its id.
    pub fn get(&self, id: &EventId) -> Option<&Fact> {
        match self.versions.get(id)? {
            Version::Live(fact) => Some(fact),
            Version::Erased(_) => None,
        }
    }

    /// The surviving events that name `key`, in order of time.
    pub fn of_record(&self, key: &RecordKey) -> impl DoubleEndedIterator<Item = &Fact> {
        self.timeline(key).map_or(&[][..], Timeline::facts).iter().map(|fact| &**fact)
    }

    /// The surviving events that name `key`, with their sums; `None` where there are none.
    pub fn timeline(&self, key: &RecordKey) -> Option<&Timeline> {
        self.by_record.get(key)
    }

    /// The keywords of all facts that are or were here, by number.
    pub fn keywords(&self) -> &Symbols {
        &self.keywords
    }

    /// The channels, products and touchpoints of all facts that are or were here, by number.
    pub fn names(&self) -> &Symbols {
        &self.names
    }

    /// The conversations of all facts that are or were here, by number.
    pub fn threads(&self) -> &Symbols {
        &self.threads
    }

    /// `key` and every record that one of its events names: whose documents change with an erasure of `key`.
    pub fn named_beside(&self, key: &RecordKey) -> Vec<RecordKey> {
        let mut names: BTreeSet<RecordKey> =
            self.of_record(key).flat_map(|fact| fact.event.data.records()).collect();
        names.insert(key.clone());
        names.into_iter().collect()
    }

    /// Number of surviving events.
    pub fn len(&self) -> usize {
        self.versions.values().filter(|v| matches!(v, Version::Live(_))).count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn is_repeat(fact: &Fact, entry: &Entry) -> bool {
    fact.event == entry.event && fact.scores == entry.scores && *fact.models == entry.models
}

fn rank(event: &Event, scores: Option<&Scores>, models: &ModelRevisions) -> Rank {
    let mut said = Sha256::new();
    feed(&mut said, 0, &scores);
    feed(&mut said, 1, models);
    Rank {
        revision: event.data.revision(),
        scored: scores.is_some(),
        fingerprints: std::cmp::Reverse((fingerprint(event), said.finalize().into())),
    }
}
