//! The insight document of a record: its shape on the wire, in the order in which it is served.
//!
//! Every key is always there, also when there is nothing to say. `meta.as_of` and `meta.lag_ms` say when and how fast
//! the document was brought up to date; whoever applies a change stamps them. Everything else is a function of the
//! surviving events, the settings and the view, so two documents of the same history are the same bytes.
//!
//! What is not known here stays empty: `emotions` while no model names them, and the state of cases beyond `suggested`
//! in `actions`. The parts of each panel live beside the code that fills them, in [`super::panels`].

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::event::RecordKey;
use super::history::ModelRevisions;
pub use super::panels::{
    actions::Action,
    channels::{ChannelIntent, ChannelSentiment},
    competitors::{CompetitorKeyword, CompetitorRow, Competitors, Stance, SwitchRisk},
    conversion::{Conversion, KeywordBefore},
    deals::{Deal, DealKeyword, DealOutcome, DealSide, Flip, Reason, Transition},
    drivers::Driver,
    emotions::Feeling,
    friction::{Aftermath, Friction},
    highlights::{Highlights, Share, Shares},
    hypotheses::Hypothesis,
    intent::{IntentCounts, IntentItem, IntentPanel, IntentPoint},
    journey::{Effort, Escalation, Journey},
    keywords::{KeywordRow, Keywords, MentionSentiment, Trend},
    operations::{Measures, Operations},
    predictions::{Calibration, Prediction},
    profile::{LifetimeValue, Opinion, Profile, Topic},
    sentiment::{Change, SentimentCounts, SentimentPanel, SentimentPoint},
    signals::Signal,
    watch::{Watch, WatchHit},
};
pub use super::{metrics::Metrics, rules::Label, standing::Segment};

/// Name and version of the shape.
pub const SCHEMA: &str = "hearken.record-insight/1";

/// Most evidence ids that stand beside a number; the full count stands in `evidence_total`.
pub const EVIDENCE_IDS_MAX: usize = 20;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Document {
    pub record: RecordHead,
    pub meta: Meta,
    pub highlights: Highlights,
    pub sentiment: SentimentPanel,
    pub keywords: Keywords,
    pub competitors: Competitors,
    pub intent: IntentPanel,
    pub sentiment_by_channel: Vec<ChannelSentiment>,
    pub intent_by_channel: Vec<ChannelIntent>,
    pub conversion: Conversion,
    pub deals: Vec<Deal>,
    pub metrics: Metrics,
    /// Responses by their likeliest emotion; empty while no model names emotions.
    pub emotions: BTreeMap<String, u64>,
    pub journey: Journey,
    pub ops: Operations,
    pub signals: Vec<Signal>,
    pub drivers: Vec<Driver>,
    pub friction: Vec<Friction>,
    pub profile: Profile,
    pub predictions: Vec<Prediction>,
    pub hypotheses: Vec<Hypothesis>,
    pub actions: Vec<Action>,
    pub watch: Watch,
    pub links: Links,
}

impl Document {
    /// The document as it is stored and served: compact JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Cannot fail: string keys only, and numbers that are not finite never get into a document.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Whose document it is. `aliases` are the records that were merged or converted into it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecordHead {
    pub module: String,
    pub id: String,
    pub aliases: Vec<RecordKey>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Meta {
    pub schema: String,
    /// The sum over the record's surviving events of one plus the revision of each.
    pub revision: u64,
    /// When the document was last brought up to date. Stamped by whoever applies a change.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub as_of: Option<Timestamp>,
    /// From the receipt of the last event to its place in the document, in milliseconds. Stamped likewise.
    pub lag_ms: Option<u64>,
    pub window: WindowHead,
    /// Slot to revision of the model that scored the newest interaction.
    pub models: ModelRevisions,
    /// True where the window holds scores of more than one revision of a model.
    pub models_mixed: bool,
    pub rules: String,
    /// Whether this record has insights at all: its module is enabled.
    pub eligible: bool,
    pub module_enabled: bool,
    pub coverage: Coverage,
    /// The newest thing that the customer said or did, also outside the window.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_activity_at: Option<Timestamp>,
}

/// Days from `from` to `to`, both inside; `from` is null where the window has no beginning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WindowHead {
    #[schema(value_type = Option<String>, format = Date)]
    pub from: Option<Date>,
    #[schema(value_type = String, format = Date)]
    pub to: Date,
    pub tz: String,
}

/// What the panels rest on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Coverage {
    /// Customer interactions in the window that carry a sentiment: what all panels count.
    pub interactions: u64,
    /// Conversations among them: distinct `thread_id`, an interaction without one being its own.
    pub unique_responses: u64,
    /// Customer texts in the window without a sentiment.
    pub unscored: u64,
    /// Of the interactions, in percent, and its 95 % Wilson interval.
    pub survey_pct: f64,
    pub survey_ci95: Option<[f64; 2]>,
    pub by_channel: BTreeMap<String, u64>,
    /// Interactions in the window in which the customer says nothing: the company's own messages and bare survey answers.
    pub without_customer_text: u64,
    /// Interactions sent by the company.
    pub outbound: u64,
    /// Survey answers in the window, with or without a text.
    pub survey_answers: u64,
    /// direct (told to the company), indirect (told to others: social, review), inferred (behaviour).
    pub by_feedback_kind: BTreeMap<String, u64>,
    /// Observed behaviour in the window, by kind.
    pub behaviour: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Links {
    #[serde(rename = "self")]
    pub self_: String,
    pub evidence: String,
    pub interactions: String,
    pub keywords: String,
    pub stream: String,
}
