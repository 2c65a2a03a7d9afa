//! What can happen to a record: the domain form of the events that `POST /v1/events` takes.
//!
//! `EventData` mirrors the `data` of each CloudEvents type in the public contract; unknown fields are allowed there and
//! not kept here. Parsing says where (`JSON pointer`) and why a body does not fit.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::action::{self, ActionChange};

/// A CRM record: `module` is lead, contact, account, deal or any other name the CRM uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordKey {
    pub module: String,
    pub id: String,
}

/// `source` + `id` name an event for ever; so they do for the interaction that it brought.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventId {
    pub source: String,
    pub id: String,
}

/// One event of a record's history.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub id: EventId,
    /// When it happened; the time of receipt where the sender did not say.
    pub time: Timestamp,
    pub data: EventData,
}

/// The types of event, each with its data.
#[derive(Clone, Debug, PartialEq)]
pub enum EventData {
    InteractionReceived(Box<Interaction>),
    InteractionRetracted(Retraction),
    RecordCreated(Created),
    RecordConverted(Converted),
    RecordMerged(Merge),
    RecordUnmerged(Merge),
    RecordErased(Erased),
    DealStageChanged(StageChange),
    TicketStatusChanged(TicketStatus),
    CustomerChurned(Churned),
    BehaviourObserved(Behaviour),
    /// Somebody, or a routing rule, changed a case; written by the server itself.
    ActionChanged(Box<ActionChange>),
}

/// Something a customer (or somebody on the company's side) said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interaction {
    pub record: RecordKey,
    #[serde(default)]
    pub related: Vec<RecordKey>,
    /// An open set: email, call, ticket, survey, chat, social, review, note, ...
    pub channel: String,
    #[serde(default)]
    pub direction: Direction,
    #[serde(default)]
    pub author: Option<Author>,
    #[serde(default)]
    pub thread_id: Option<String>,
    #[serde(default)]
    pub touchpoint: Option<String>,
    #[serde(default)]
    pub product: Option<String>,
    /// direct, indirect or inferred.
    #[serde(default)]
    pub feedback_kind: Option<String>,
    #[serde(default)]
    pub language: Option<String>,
    #[serde(default)]
    pub text: Option<String>,
    #[serde(default)]
    pub segments: Vec<Segment>,
    #[serde(default)]
    pub survey: Option<Survey>,
    #[serde(default)]
    pub ops: Option<Ops>,
    #[serde(default)]
    pub geo: Option<serde_json::Value>,
    /// A higher revision of the same `source` + `id` replaces the lower one.
    #[serde(default)]
    pub revision: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    #[default]
    Inbound,
    Outbound,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// Only `customer` text is scored; an absent author of an inbound interaction is the customer.
    pub role: String,
}

/// A turn of a call or chat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    pub speaker: String,
    #[serde(default)]
    pub start_ms: Option<u64>,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Survey {
    /// nps, csat, ces or cli.
    pub metric: String,
    #[serde(default)]
    pub value: Option<f64>,
    #[serde(default)]
    pub values: Vec<f64>,
    #[serde(default)]
    pub scale: Option<Scale>,
    #[serde(default)]
    pub question: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    pub min: f64,
    pub max: f64,
    /// `higher_is_better` (the default) or `lower_is_better`.
    #[serde(default)]
    pub direction: Option<String>,
}

/// How the contact went, as the telephone or ticket system measured it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ops {
    #[serde(default)]
    pub handle_s: Option<f64>,
    #[serde(default)]
    pub wait_s: Option<f64>,
    #[serde(default)]
    pub resolved: Option<bool>,
    /// How well the line could be heard, as the measuring system scales it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_quality: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retraction {
    pub interaction: EventId,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub record: RecordKey,
    #[serde(default)]
    pub attributes: Option<serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Converted {
    pub from: ConvertedFrom,
    pub to: Vec<RecordKey>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConvertedFrom {
    pub module: String,
    pub id: String,
    #[serde(default)]
    pub created_at: Option<Timestamp>,
}

impl ConvertedFrom {
    pub fn key(&self) -> RecordKey {
        RecordKey { module: self.module.clone(), id: self.id.clone() }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Merge {
    pub from: RecordKey,
    pub into: RecordKey,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Erased {
    pub record: RecordKey,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageChange {
    pub record: RecordKey,
    #[serde(default)]
    pub contacts: Vec<RecordKey>,
    #[serde(default)]
    pub from: Option<String>,
    pub to: String,
    #[serde(default)]
    pub outcome: Outcome,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub amount: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    #[default]
    Open,
    Won,
    Lost,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TicketStatus {
    pub thread_id: String,
    pub record: RecordKey,
    #[serde(default)]
    pub status: Option<String>,
    #[serde(default)]
    pub resolved: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Churned {
    pub record: RecordKey,
    #[serde(default)]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Behaviour {
    pub record: RecordKey,
    pub kind: String,
    #[serde(default)]
    pub value: Option<serde_json::Value>,
    #[serde(default)]
    pub page: Option<String>,
    #[serde(default)]
    pub position: Option<serde_json::Value>,
}

/// Why an event's `data` cannot be taken; `pointer` is an RFC 6901 path into the data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    #[error("unknown event type {0:?}; known are {known}", known = TYPES.join(", "))]
    UnknownType(String),
    #[error("{detail}")]
    Data { pointer: String, detail: String },
}

/// The event types of the public contract.
pub const TYPES: &[&str] = &[
    "voc.interaction.received.v1",
    "voc.interaction.retracted.v1",
    "voc.record.created.v1",
    "voc.record.converted.v1",
    "voc.record.merged.v1",
    "voc.record.unmerged.v1",
    "voc.record.erased.v1",
    "voc.deal.stage_changed.v1",
    "voc.ticket.status_changed.v1",
    "voc.customer.churned.v1",
    "voc.behaviour.observed.v1",
];

impl EventData {
    /// Reads the `data` of an event of type `type_` (JSON text) and checks what serde cannot: names that must not be
    /// empty, numbers that must be finite, something to read or to count in an interaction.
    pub fn parse(type_: &str, data: &str) -> Result<EventData, EventError> {
        let parsed = match type_ {
            "voc.interaction.received.v1" => Self::InteractionReceived(Box::new(read(data)?)),
            "voc.interaction.retracted.v1" => Self::InteractionRetracted(read(data)?),
            "voc.record.created.v1" => Self::RecordCreated(read(data)?),
            "voc.record.converted.v1" => Self::RecordConverted(read(data)?),
            "voc.record.merged.v1" => Self::RecordMerged(read(data)?),
            "voc.record.unmerged.v1" => Self::RecordUnmerged(read(data)?),
            "voc.record.erased.v1" => Self::RecordErased(read(data)?),
            "voc.deal.stage_changed.v1" => Self::DealStageChanged(read(data)?),
            "voc.ticket.status_changed.v1" => Self::TicketStatusChanged(read(data)?),
            "voc.customer.churned.v1" => Self::CustomerChurned(read(data)?),
            "voc.behaviour.observed.v1" => Self::BehaviourObserved(read(data)?),
            action::CHANGED => Self::ActionChanged(Box::new(read(data)?)),
            other => return Err(EventError::UnknownType(other.into())),
        };
        parsed.check()?;
        Ok(parsed)
    }

    /// The CloudEvents type, one of [`TYPES`].
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::InteractionReceived(_) => "voc.interaction.received.v1",
            Self::InteractionRetracted(_) => "voc.interaction.retracted.v1",
            Self::RecordCreated(_) => "voc.record.created.v1",
            Self::RecordConverted(_) => "voc.record.converted.v1",
            Self::RecordMerged(_) => "voc.record.merged.v1",
            Self::RecordUnmerged(_) => "voc.record.unmerged.v1",
            Self::RecordErased(_) => "voc.record.erased.v1",
            Self::DealStageChanged(_) => "voc.deal.stage_changed.v1",
            Self::TicketStatusChanged(_) => "voc.ticket.status_changed.v1",
            Self::CustomerChurned(_) => "voc.customer.churned.v1",
            Self::BehaviourObserved(_) => "voc.behaviour.observed.v1",
            Self::ActionChanged(_) => action::CHANGED,
        }
    }

    /// The records whose history this event belongs to, each once, the one it is about first.
    pub fn records(&self) -> Vec<RecordKey> {
        let mut keys: Vec<RecordKey> = match self {
            Self::InteractionReceived(i) => std::iter::once(&i.record).chain(&i.related).cloned().collect(),
            Self::InteractionRetracted(_) => vec![],
            Self::RecordCreated(c) => vec![c.record.clone()],
            Self::RecordConverted(c) => std::iter::once(c.from.key()).chain(c.to.iter().cloned()).collect(),
            Self::RecordMerged(m) | Self::RecordUnmerged(m) => vec![m.from.clone(), m.into.clone()],
            Self::RecordErased(e) => vec![e.record.clone()],
            Self::DealStageChanged(s) => std::iter::once(&s.record).chain(&s.contacts).cloned().collect(),
            Self::TicketStatusChanged(t) => vec![t.record.clone()],
            Self::CustomerChurned(c) => vec![c.record.clone()],
            Self::BehaviourObserved(b) => vec![b.record.clone()],
            Self::ActionChanged(a) => vec![a.record.clone()],
        };
        if keys.len() > 1 {
            let mut seen = std::collections::HashSet::new();
            keys.retain(|k| seen.insert(k.clone()));
        }
        keys
    }

    /// The revision that decides between two versions of the same event.
    pub fn revision(&self) -> u32 {
        match self {
            Self::InteractionReceived(i) => i.revision,
            _ => 0,
        }
    }

    fn check(&self) -> Result<(), EventError> {
        for key in self.records() {
            if key.module.trim().is_empty() || key.id.trim().is_empty() {
                return Err(data_error("/record", "a record needs a module and an id that are not empty"));
            }
        }
        match self {
            Self::InteractionReceived(i) => i.check(),
            Self::RecordConverted(c) if c.to.is_empty() => {
                Err(data_error("/to", "a conversion names at least one record that the lead became"))
            }
            Self::RecordMerged(m) if m.from == m.into => {
                Err(data_error("/into", "a record cannot be merged into itself"))
            }
            _ => Ok(()),
        }
    }
}

impl Interaction {
    fn check(&self) -> Result<(), EventError> {
        if self.channel.trim().is_empty() {
            return Err(data_error(
                "/channel",
                "the channel is empty; give email, call, ticket, survey, chat or your own name",
            ));
        }
        if self.text.is_none() && self.segments.is_empty() && self.survey.is_none() {
            return Err(data_error("/text", "an interaction needs `text`, `segments` or `survey`"));
        }
        Ok(())
    }

    /// True where the customer is speaking; `segments` decide by speaker instead.
    pub fn by_customer(&self) -> bool {
        match &self.author {
            Some(author) => author.role == "customer",
            None => self.direction == Direction::Inbound,
        }
    }

    /// The customer's own words: `text`, or the customer's turns of a transcript, a line each. `None` where the
    /// customer says nothing. This is the text that is scored and that offsets count in.
    pub fn customer_text(&self) -> Option<String> {
        if !self.segments.is_empty() {
            let turns: Vec<&str> =
                self.segments.iter().filter(|s| s.speaker == "customer").map(|s| s.text.as_str()).collect();
            return Some(turns.join("\n")).filter(|t| !t.trim().is_empty());
        }
        self.text.clone().filter(|t| self.by_customer() && !t.trim().is_empty())
    }
}

fn data_error(pointer: &str, detail: &str) -> EventError {
    EventError::Data { pointer: pointer.into(), detail: detail.into() }
}

fn read<T: serde::de::DeserializeOwned>(data: &str) -> Result<T, EventError> {
    let mut json = serde_json::Deserializer::from_str(data);
    serde_path_to_error::deserialize(&mut json)
        .map_err(|e| EventError::Data { pointer: json_pointer(e.path()), detail: e.inner().to_string() })
}

/// The RFC 6901 pointer to where reading JSON failed.
pub fn json_pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Unknown => {}
        }
    }
    pointer
}
