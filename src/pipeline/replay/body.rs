//! What is kept of a replay: what was asked for, how far it is, and what it has found.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    insight::{event::RecordKey, history::ModelRevisions},
    scores::{Intent, Label, Scores, Sentiment},
};

/// What a replay changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayRequest {
    /// Folder of another model pack; without one the scores stay.
    pub model: Option<String>,
    /// Settings documents by name, in the form in which they are put.
    #[serde(default)]
    pub settings: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayState {
    Scoring,
    Comparing,
    Ready,
    Switched,
    Cancelled,
    Failed,
}

impl ReplayState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Scoring => "scoring",
            Self::Comparing => "comparing",
            Self::Ready => "ready",
            Self::Switched => "switched",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// What another version called differently has failed.
    pub fn read(name: &str) -> Self {
        [Self::Scoring, Self::Comparing, Self::Ready, Self::Switched, Self::Cancelled]
            .into_iter()
            .find(|state| state.name() == name)
            .unwrap_or(Self::Failed)
    }
}

/// The kept form of a replay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplayBody {
    v: u32,
    pub request: ReplayRequest,
    pub created_at: Timestamp,
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
    /// Slot to revision of the other model.
    #[serde(default)]
    pub models: ModelRevisions,
    #[serde(default)]
    pub events: EventChanges,
    #[serde(default)]
    pub records: RecordChanges,
    /// Why it failed, or what it waits for.
    #[serde(default)]
    pub error: Option<String>,
}

const VERSION: u32 = 1;

impl ReplayBody {
    pub fn new(request: ReplayRequest, now: Timestamp) -> Self {
        Self {
            v: VERSION,
            request,
            created_at: now,
            finished_at: None,
            models: ModelRevisions::new(),
            events: EventChanges::default(),
            records: RecordChanges::default(),
            error: None,
        }
    }

    pub fn to_json(&self) -> String {
        // Cannot fail: string keys only.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub fn read(json: &str) -> Option<Self> {
        serde_json::from_str::<Self>(json).ok().filter(|body| body.v == VERSION)
    }
}

/// Counts by old label (rows) and new one (columns), in the order of the labels; what had or has none is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Confusion(pub Vec<Vec<u64>>);

impl Confusion {
    fn add<L: Label>(&mut self, old: Option<L>, new: Option<L>) -> bool {
        let (Some(old), Some(new)) = (old, new) else { return old.is_some() != new.is_some() };
        let n = L::ALL.len();
        if self.0.len() != n {
            self.0 = vec![vec![0; n]; n];
        }
        self.0[old.index()][new.index()] += 1;
        old != new
    }
}

/// What became of the scored texts, counted when they were scored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventChanges {
    /// Texts that went through the other model.
    pub scored: u64,
    /// Of those, how many it could not score.
    pub unscored: u64,
    pub sentiment_changed: u64,
    pub intent_changed: u64,
    pub sentiment: Confusion,
    pub intent: Confusion,
}

impl EventChanges {
    pub fn add(&mut self, old: Option<&Scores>, new: Option<&Scores>) {
        self.scored += 1;
        self.unscored += u64::from(new.is_none());
        let (sentiment, intent) = changed(old, new, &mut self.sentiment, &mut self.intent);
        self.sentiment_changed += u64::from(sentiment);
        self.intent_changed += u64::from(intent);
    }
}

/// Whether sentiment and intent of a text are others.
fn changed(
    old: Option<&Scores>,
    new: Option<&Scores>,
    sentiments: &mut Confusion,
    intents: &mut Confusion,
) -> (bool, bool) {
    let sentiment =
        |scores: Option<&Scores>| -> Option<Sentiment> { Some(scores?.sentiment.as_ref()?.label) };
    let intent = |scores: Option<&Scores>| -> Option<Intent> { Some(scores?.intent.as_ref()?.label) };
    (sentiments.add(sentiment(old), sentiment(new)), intents.add(intent(old), intent(new)))
}

/// What became of the records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordChanges {
    pub compared: u64,
    /// Records whose active labels are others, and whose sentiment or intent counts are.
    pub labels_changed: u64,
    pub counts_changed: u64,
    pub labels: BTreeMap<String, LabelChange>,
}

/// How many records gain and lose a label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelChange {
    pub gained: u64,
    pub lost: u64,
}

/// What a replay makes of one record, in the default window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordDifference {
    pub record: RecordKey,
    /// Ids of the active labels.
    pub labels_before: Vec<String>,
    pub labels_after: Vec<String>,
    pub before: SideDistributions,
    pub after: SideDistributions,
    /// Texts of the record, of any time, whose sentiment or intent is another.
    pub sentiment_changed: u64,
    pub intent_changed: u64,
}

/// Counts of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideDistributions {
    /// negative, neutral, positive.
    pub sentiment: [u64; 3],
    /// complaint, purchase, request, other.
    pub intent: [u64; 4],
}

impl RecordDifference {
    /// Takes the scores of one text of both sides in.
    pub fn add(&mut self, old: Option<&Scores>, new: Option<&Scores>) {
        let (sentiment, intent) = changed(old, new, &mut Confusion::default(), &mut Confusion::default());
        self.sentiment_changed += u64::from(sentiment);
        self.intent_changed += u64::from(intent);
    }

    pub fn labels_changed(&self) -> bool {
        self.labels_before != self.labels_after
    }
}
