//! Where events, scores, settings and documents are kept: one trait, one folder per backend.
//!
//! The log holds *surviving* events only: an event that was replaced by a higher revision, retracted or erased leaves
//! in the same transaction that says so, and the records that it belonged to become *dirty*, to be folded anew. So a
//! document is always the fold over the rows that are there, and what is erased is gone. No business rule lives here:
//! the caller says to which records an event belongs and what it takes back.

use std::{path::Path, sync::Arc};

use jiff::Timestamp;

use crate::{
    insight::event::{EventId, RecordKey},
    pipeline::{Setting, Tenant},
};

pub mod digests;
pub mod outbox;
pub mod replays;
pub mod sqlite;

pub use digests::*;
pub use outbox::*;
pub use replays::*;

/// An event to be written.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub tenant: Tenant,
    pub id: EventId,
    pub revision: u32,
    /// CloudEvents type.
    pub type_: String,
    pub time: Timestamp,
    pub received_at: Timestamp,
    /// The `data` as JSON text.
    pub data: String,
    /// The records whose history it belongs to.
    pub records: Vec<Membership>,
    /// The event that it takes back, for ever, whether that has come already or not.
    pub retracts: Option<EventId>,
    /// Whether it ties records together (conversion, merge, deal contacts); see [`Store::links`].
    pub link: bool,
}

/// An event's place in the history of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub record: RecordKey,
    /// Whether erasing the record deletes the event. A deal's stage change outlives its contacts.
    pub owned: bool,
}

/// What became of a batch of new events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// One per event, in order.
    pub events: Vec<Appended>,
    /// The last position of the log after the batch.
    pub logged: u64,
    /// Dirty marks that the batch made have tickets up to this one.
    pub ticket: u64,
}

/// What became of a new event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// On disk at this position.
    At(u64),
    /// Its `source` + `id` is there with the same or a higher revision, or was retracted or erased.
    Duplicate,
}

/// An event of the log, with the scores of its text once it has some.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRow {
    pub position: u64,
    pub tenant: Tenant,
    pub id: EventId,
    pub revision: u32,
    pub type_: String,
    pub time: Timestamp,
    pub received_at: Timestamp,
    pub data: String,
    /// JSON of what the pipeline stored with [`Commit::scores`].
    pub scores: Option<String>,
}

/// A document to keep, with what lists need to know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredDocument {
    pub bytes: Arc<[u8]>,
    pub etag: Arc<str>,
    pub revision: u64,
    /// Ids of the active labels.
    pub labels: Vec<String>,
    pub interactions: u64,
    pub net_sentiment: Option<f64>,
    pub last_activity_at: Option<Timestamp>,
    /// What the document was made under, and has to be made anew when that has changed.
    pub basis: Basis,
}

/// What a document depends on beside the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Basis {
    /// The last day (UTC) of the default window.
    pub day: jiff::civil::Date,
    /// Sum of the versions of all settings of the tenant: grows with every change.
    pub settings: u64,
}

/// A record of a tenant.
pub type TenantRecord = (Tenant, RecordKey);

/// One step of the applier, written at once or not at all.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Everything up to this position is in its documents; `None` leaves it.
    pub applied: Option<u64>,
    /// Scores (JSON) by position.
    pub scores: Vec<(u64, String)>,
    pub documents: Vec<(TenantRecord, StoredDocument)>,
    /// Records of which nothing is left.
    pub removed: Vec<TenantRecord>,
    /// Dirty marks that this commit has dealt with, as [`Store::dirty`] gave them.
    pub clean: Vec<DirtyMark>,
    /// What the step raises; one that is known already stays as it is.
    pub alerts: Vec<NewAlert>,
    /// The actions of records whose actions have changed.
    pub actions: Vec<RecordActions>,
    /// Events that the step itself adds to the log.
    pub opened: Vec<NewEvent>,
}

/// A record that must be folded anew, since an event of it is gone. The ticket tells a mark from a later one for the
/// same record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirtyMark {
    pub ticket: u64,
    /// Position of the event that took the other one back; for an erasure, the end of the log.
    pub position: u64,
    pub record: TenantRecord,
}

/// What an erasure takes away.
#[derive(Clone, Debug)]
pub struct Erasure {
    pub tenant: Tenant,
    pub records: Vec<RecordKey>,
    /// New `data` for events that outlive the records but name them, by position.
    pub rewritten: Vec<(u64, String)>,
    /// The event that asked for it, if one did: done once.
    pub because: Option<EventId>,
    pub at: Timestamp,
}

/// What an erasure has taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// Position and CloudEvents type of each deleted event.
    pub events: Vec<(u64, String)>,
    /// Other records that have lost an event; they are dirty now.
    pub shared: Vec<RecordKey>,
    /// A name for this erasure that says nothing about whom it concerned.
    pub receipt: String,
}

/// How far the log reaches, and how much of it is in documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    pub logged: u64,
    pub applied: u64,
}

/// Which records [`Store::records`] lists; the newest activity comes first.
#[derive(Clone, Debug, Default)]
pub struct RecordFilter {
    pub label: Option<String>,
    pub module: Option<String>,
    /// Part of the id.
    pub search: Option<String>,
    /// Net sentiment below 0, 0 or above it.
    pub mood: Option<std::cmp::Ordering>,
    /// Names this competitor, as far as digests know.
    pub competitor: Option<String>,
    /// Has a document that has changed since then, as far as digests know.
    pub changed_since: Option<Timestamp>,
    /// Continue after this one, as a row of the page before gave it.
    pub after: Option<(Option<Timestamp>, RecordKey)>,
    pub limit: usize,
}

/// A record in a list; `document.bytes` is empty here.
pub type RecordEntry = (RecordKey, StoredDocument);

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}: {source}; check that the folder exists, is writable and that the disk is not full")]
    Open { path: String, source: rusqlite::Error },
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0} is a database of another program")]
    Foreign(String),
    #[error("readers kept the write-ahead log open, so what was deleted may still be in it")]
    NotScrubbed,
    #[error("what was deleted may still be in the file: {0}")]
    Scrub(std::io::Error),
    #[error("the store was written by a newer hearken (schema {found}, this one knows {known})")]
    Newer { found: i64, known: i64 },
    #[error("{0} is not a store that this build knows; use sqlite:PATH")]
    Unknown(String),
    #[error("the stored {what} cannot be read: {why}")]
    Corrupt { what: &'static str, why: String },
    #[error("the store is closed")]
    Closed,
}

/// The contract of a store. Calls block; the pipeline makes them off the async threads.
pub trait Store: Send + Sync + 'static {
    /// Appends events in order, durably, all of them or none; concurrent callers share one sync of the disk.
    fn append(&self, events: Vec<NewEvent>) -> Result<Batch, StoreError>;

    fn positions(&self) -> Result<Positions, StoreError>;

    /// Events after `position`, in order: at most `events_max`, and none more once `data_bytes_max` is reached.
    fn read_after(
        &self,
        position: u64,
        events_max: usize,
        data_bytes_max: usize,
    ) -> Result<Vec<LogRow>, StoreError>;

    /// Every event that belongs to one of `records`, in order of position.
    fn history(&self, tenant: &Tenant, records: &[RecordKey]) -> Result<Vec<LogRow>, StoreError>;

    /// The events that tie records together, of all tenants, in order of position.
    fn links(&self) -> Result<Vec<LogRow>, StoreError>;

    fn commit(&self, commit: Commit) -> Result<(), StoreError>;

    /// The oldest dirty marks.
    fn dirty(&self, limit: usize) -> Result<Vec<DirtyMark>, StoreError>;

    /// The smallest ticket under which a record that is still dirty became so.
    fn dirty_since(&self) -> Result<Option<u64>, StoreError>;

    fn document(&self, tenant: &Tenant, record: &RecordKey) -> Result<Option<StoredDocument>, StoreError>;

    fn records(&self, tenant: &Tenant, filter: &RecordFilter) -> Result<Vec<RecordEntry>, StoreError>;

    /// Every record that some event names, with or without a document, in order after `after`.
    fn known_records(
        &self,
        after: Option<&TenantRecord>,
        limit: usize,
    ) -> Result<Vec<TenantRecord>, StoreError>;

    /// What every document was made under, in order after `after`.
    fn bases(
        &self,
        after: Option<&TenantRecord>,
        limit: usize,
    ) -> Result<Vec<(TenantRecord, Basis)>, StoreError>;

    /// Number of documents.
    fn record_count(&self) -> Result<u64, StoreError>;

    fn setting(&self, tenant: &Tenant, name: &str) -> Result<Option<Setting>, StoreError>;

    /// All settings, for the start.
    fn settings(&self) -> Result<Vec<(Tenant, String, Setting)>, StoreError>;

    /// Writes the next version and gives it back.
    fn put_setting(&self, tenant: &Tenant, name: &str, body: &str) -> Result<Setting, StoreError>;

    /// Deletes every event that one of the records owns, their place in other events, and their documents; other
    /// records that shared these events become dirty. Erased events stay known by a digest, so that a repeat changes
    /// nothing. `None` where the event that asks for it was here before. [`Store::scrub`] completes it.
    fn erase(&self, erasure: Erasure) -> Result<Option<Erased>, StoreError>;

    /// Removes what deleted rows left in files: in the write-ahead log, and in unused parts of pages. Reads the whole
    /// store.
    fn scrub(&self) -> Result<(), StoreError>;

    /// Alerts, webhooks and actions.
    fn outbox(&self) -> &dyn Outbox;

    /// What questions about many records read.
    fn digests(&self) -> &dyn Digests;

    /// History under other scores and settings.
    fn replays(&self) -> &dyn Replays;

    /// Writes a consistent copy while others go on reading and writing.
    fn backup(&self, path: &Path) -> Result<(), StoreError>;
}

/// Opens a store by its URL; `sqlite:PATH` is the embedded one.
pub fn open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    match url.split_once(':') {
        Some(("sqlite", path)) => Ok(Arc::new(sqlite::SqliteStore::open(Path::new(path))?)),
        _ => Err(StoreError::Unknown(url.into())),
    }
}
