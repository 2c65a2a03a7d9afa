//! Moves data between the rooms: events into the log, texts to the engine, scores into the fold, documents to readers.
//!
//! [`Pipeline`] is all that HTTP, pages and the command line see of it. What is SQL lives in the store, what is a rule
//! lives in insight, what is JSON lives in http.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    engine::Engine,
    insight::event::{Event, RecordKey},
    scores::Scores,
};

/// Who an API key belongs to. Records of one tenant do not exist for another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(pub Arc<str>);

impl Default for Tenant {
    /// The only tenant of a server without keys.
    fn default() -> Self {
        Tenant("default".into())
    }
}

/// An event that was read and found good, with the JSON that it came as.
#[derive(Clone, Debug)]
pub struct IncomingEvent {
    pub event: Event,
    /// CloudEvents type, one of [`crate::insight::event::TYPES`].
    pub type_: String,
    /// The `data` as it was sent: what the log keeps.
    pub data: String,
}

/// What became of a batch of events; all of it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingested {
    pub accepted: usize,
    pub duplicates: usize,
    /// Position in the log after the last event of the batch.
    pub position: u64,
}

/// Which document of a record: the query parameters, unparsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewQuery {
    pub window: Option<String>,
    pub as_of: Option<String>,
}

/// A document, ready to send.
#[derive(Clone, Debug)]
pub struct ServedDocument {
    pub bytes: Arc<[u8]>,
    /// Strong entity tag with its quotes.
    pub etag: Arc<str>,
    pub revision: u64,
}

/// Which records a list shows.
#[derive(Clone, Debug, Default)]
pub struct RecordQuery {
    pub label: Option<String>,
    pub module: Option<String>,
    /// Part of a record's id.
    pub search: Option<String>,
    pub cursor: Option<String>,
    pub limit: Option<usize>,
}

/// A record in a list.
#[derive(Clone, Debug)]
pub struct RecordRow {
    pub key: RecordKey,
    /// Ids of the active labels.
    pub labels: Vec<String>,
    pub interactions: u64,
    /// (positive - negative) / total of the default window, -1 to 1; `None` without interactions.
    pub net_sentiment: Option<f64>,
    pub last_activity_at: Option<Timestamp>,
}

/// Part of a list, and the opaque cursor that continues it.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

/// An interaction behind a number.
#[derive(Clone, Debug)]
pub struct InteractionRow {
    pub event: Event,
    /// The customer's words that offsets count in.
    pub text: Option<String>,
    pub scores: Option<Scores>,
    /// The spans of `text` that were asked for (`/evidence`), in Unicode scalar values.
    pub spans: Vec<(u32, u32)>,
}

/// Proof of an erasure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub erased_interactions: usize,
    pub documents_changed: usize,
    pub receipt: String,
}

/// A settings document: its JSON body without `version`, and the version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub version: u64,
    pub body: String,
}

/// What `hearken verify` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    pub records: usize,
    /// Records whose stored document is not the recomputation from the log.
    pub different: Vec<RecordKey>,
}

/// How the pipeline is doing.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Position of the last event on disk.
    pub logged: u64,
    /// Position up to which documents are complete.
    pub applied: u64,
    pub records: u64,
    /// Why nothing is being applied, where that is so.
    pub stalled: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error("the backlog of {backlog_events_max} events is full")]
    Overloaded { backlog_events_max: usize, retry_after: std::time::Duration },
    #[error("{0}")]
    Query(String),
    #[error("there is no setting {0:?}; known are {known}", known = SETTINGS.join(", "))]
    UnknownSetting(String),
    #[error("{detail}")]
    Setting { pointer: String, detail: String },
    #[error("the store failed: {0}")]
    Store(String),
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// Names under `/v1/settings/`.
pub const SETTINGS: &[&str] =
    &["competitors", "modules", "channels", "watchlists", "labels", "signals", "routing"];

/// The running pipeline: cheap to clone.
#[derive(Clone)]
pub struct Pipeline {
    _engine: Engine,
}

impl Pipeline {
    /// Writes events to the log (durable when this returns) and wakes the applier. With `wait_applied` it returns only
    /// when every accepted event is in its documents.
    pub async fn ingest(
        &self,
        _tenant: &Tenant,
        _events: Vec<IncomingEvent>,
        _wait_applied: bool,
    ) -> Result<Ingested, PipelineError> {
        Err(PipelineError::ShuttingDown)
    }

    /// The document of a record (of its canonical record, where it was converted or merged); `None` where nothing is
    /// known of it. The default view is served as it is stored.
    pub async fn document(
        &self,
        _tenant: &Tenant,
        _key: &RecordKey,
        _view: &ViewQuery,
    ) -> Result<Option<ServedDocument>, PipelineError> {
        Ok(None)
    }

    /// Revisions of a record's document from now on, for the event stream.
    pub fn changes(
        &self,
        _tenant: &Tenant,
        _key: &RecordKey,
    ) -> futures::stream::BoxStream<'static, ServedDocument> {
        Box::pin(futures::stream::empty())
    }

    pub async fn records(
        &self,
        _tenant: &Tenant,
        _query: &RecordQuery,
    ) -> Result<Page<RecordRow>, PipelineError> {
        Ok(Page { items: vec![], next: None })
    }

    /// Everything a record's interactions said, newest first.
    pub async fn interactions(
        &self,
        _tenant: &Tenant,
        _key: &RecordKey,
        _cursor: Option<&str>,
    ) -> Result<Option<Page<InteractionRow>>, PipelineError> {
        Ok(None)
    }

    /// The interactions behind one number: `panel` as in the document (`keywords`, `competitors`, `sentiment`,
    /// `intent`, `labels`, ...), `item` its row (a keyword, `negative`, a label's id).
    pub async fn evidence(
        &self,
        _tenant: &Tenant,
        _key: &RecordKey,
        _panel: &str,
        _item: Option<&str>,
        _cursor: Option<&str>,
    ) -> Result<Option<Page<InteractionRow>>, PipelineError> {
        Ok(None)
    }

    /// Everything held on a record: its log entries as JSON lines.
    pub async fn export(
        &self,
        _tenant: &Tenant,
        _key: &RecordKey,
    ) -> Result<Option<Vec<String>>, PipelineError> {
        Ok(None)
    }

    /// Deletes everything that is held on a record.
    pub async fn erase(&self, _tenant: &Tenant, _key: &RecordKey) -> Result<Receipt, PipelineError> {
        Err(PipelineError::ShuttingDown)
    }

    pub async fn setting(&self, _tenant: &Tenant, name: &str) -> Result<Setting, PipelineError> {
        Err(PipelineError::UnknownSetting(name.into()))
    }

    /// Replaces a settings document and recomputes what it touches, in the background.
    pub async fn put_setting(
        &self,
        _tenant: &Tenant,
        name: &str,
        _body: &str,
    ) -> Result<Setting, PipelineError> {
        Err(PipelineError::UnknownSetting(name.into()))
    }

    /// Recomputes every document from the log and compares.
    pub async fn verify(&self) -> Result<Verification, PipelineError> {
        Ok(Verification::default())
    }

    pub fn health(&self) -> Health {
        Health::default()
    }

    /// Stops admitting, finishes what is in flight, commits.
    pub async fn shutdown(&self) {}
}
