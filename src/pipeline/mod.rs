//! Moves data between the rooms: events into the log, texts to the engine, scores into the fold, documents to readers.
//!
//! [`Pipeline`] is all that HTTP, pages and the command line see of it. What is SQL lives in the store, what is a rule
//! lives in insight, what is JSON lives in http.

mod actions;
mod alerting;
mod applier;
mod cache;
mod cursor;
mod customers;
mod digest;
mod erasure;
mod export;
mod facts;
mod fold;
mod ingest;
mod options;
mod reading;
mod replay;
mod scoring;
mod segments;
mod settings;
mod shared;
mod stamps;
pub mod telemetry;
mod verify;
mod views;
mod webhooks;
mod witnesses;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::Ordering,
    mpsc::{Sender, channel},
};

use jiff::Timestamp;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    insight::event::{Event, RecordKey},
    scores::Scores,
    store::Store,
};
use applier::{Applier, Message};
use shared::Shared;

pub use actions::{ActionQuery, AlertQuery, ChangeRow, RecordAction};
pub use digest::{Digest, DigestActions, DigestAlerts};
pub use options::{Clock, PipelineOptions, SystemClock};
pub use replay::{
    Confusion, EventChanges, LabelChange, OpenModel, RecordChanges, RecordDifference, Replay, ReplayBody,
    ReplayRequest, ReplayState, SideDistributions,
};
pub use scoring::{Scored, Scorer, ScorerError};
pub use verify::verify_store;
pub use webhooks::{Delivery, OVERLAP_HOURS, Webhook, WebhookOptions, WebhookPatch, event_types};

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
    /// IANA time zone whose days are meant.
    pub tz: Option<String>,
}

/// Which events of a record.
#[derive(Clone, Debug, Default)]
pub struct InteractionQuery {
    pub view: ViewQuery,
    /// Only the event that evidence names so.
    pub id: Option<String>,
    pub cursor: Option<String>,
    pub limit: Option<usize>,
}

/// Which number of a document.
#[derive(Clone, Debug, Default)]
pub struct EvidenceQuery {
    pub view: ViewQuery,
    pub panel: String,
    pub item: Option<String>,
    pub cursor: Option<String>,
}

/// Which segments of many records, in which period.
#[derive(Clone, Debug, Default)]
pub struct SegmentQuery {
    /// One of [`crate::insight::segments::gather::BY`].
    pub by: String,
    pub view: ViewQuery,
    /// Only this value of the segment.
    pub value: Option<String>,
    /// Only records of this module, or with this label.
    pub module: Option<String>,
    pub label: Option<String>,
}

/// Rows of the keyword table, and how many there are in all.
#[derive(Clone, Debug)]
pub struct KeywordPage {
    pub page: Page<crate::insight::document::KeywordRow>,
    pub total: u64,
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
    /// `negative`, `neutral` or `positive`: the sign of the net sentiment.
    pub sentiment: Option<String>,
    /// Name of a competitor that the document lists.
    pub competitor: Option<String>,
    /// RFC 3339; only records whose document has changed since then.
    pub updated_since: Option<String>,
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

/// An event behind a number: an interaction, mostly.
#[derive(Clone, Debug)]
pub struct InteractionRow {
    /// What the document's evidence calls it.
    pub name: String,
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
    /// Records that wait to be made anew, and so were not compared.
    pub pending: usize,
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
    #[error("{detail}")]
    Body { pointer: String, detail: String },
    #[error("{what} is at version {is}, not at {expected}")]
    Changed { what: String, is: u64, expected: u64 },
    #[error("{0}")]
    Conflict(String),
    #[error("the store failed: {0}")]
    Store(String),
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// Names under `/v1/settings/`.
pub const SETTINGS: &[&str] = &[
    "competitors",
    "modules",
    "channels",
    "watchlists",
    "labels",
    "signals",
    "routing",
    "alerts",
    "assumptions",
];

/// The running pipeline: cheap to clone. When the last clone goes without [`Pipeline::shutdown`], it stops where it is;
/// the next start goes on from there.
#[derive(Clone)]
pub struct Pipeline {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    applier: Sender<Message>,
    /// Sends webhooks.
    courier: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Fails where the applier has stopped already.
        let _ = self.applier.send(Message::Dropped);
    }
}

impl Pipeline {
    /// Reads settings and links from the store and goes on where the last run stopped. Blocks while it reads; must be
    /// called inside a tokio runtime, on which texts are scored.
    pub fn start(
        store: Arc<dyn Store>,
        scorer: impl Scorer,
        options: PipelineOptions,
    ) -> Result<Pipeline, PipelineError> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| PipelineError::Store(format!("the pipeline cannot start: {error}")))?;
        telemetry::describe();
        let shared = Arc::new(Shared::load(store, options)?);
        let (applier, inbox) = channel();
        replay::resume(&shared, &runtime)?;
        let work = Applier::new(shared.clone(), Arc::new(scorer), runtime.clone(), inbox, applier.clone());
        std::thread::Builder::new()
            .name("applier".into())
            .spawn(move || work.run())
            .map_err(|error| PipelineError::Store(format!("no thread for the applier: {error}")))?;
        segments::start(&shared)
            .map_err(|error| PipelineError::Store(format!("no thread for the digests: {error}")))?;
        let courier = Mutex::new(Some(runtime.spawn(webhooks::run(shared.clone()))));
        Ok(Pipeline { inner: Arc::new(Inner { shared, applier, courier }) })
    }

    fn send(&self, message: Message) -> Result<(), PipelineError> {
        self.inner.applier.send(message).map_err(|_| PipelineError::ShuttingDown)
    }

    /// Whether records of `module` have insights.
    pub fn module_enabled(&self, tenant: &Tenant, module: &str) -> bool {
        self.inner.shared.settings.of(tenant).fold.module_enabled(module)
    }

    pub async fn setting(&self, tenant: &Tenant, name: &str) -> Result<Setting, PipelineError> {
        self.inner.shared.settings.of(tenant).document(name)
    }

    /// Replaces a settings document and recomputes what it touches, in the background.
    pub async fn put_setting(
        &self,
        tenant: &Tenant,
        name: &str,
        body: &str,
    ) -> Result<Setting, PipelineError> {
        let shared = self.inner.shared.clone();
        if !shared.admitting.load(Ordering::Acquire) {
            return Err(PipelineError::ShuttingDown);
        }
        if !SETTINGS.contains(&name) {
            return Err(PipelineError::UnknownSetting(name.into()));
        }
        let (checked, body) = settings::check(name, body, shared.options.settings_phrases_max)?;
        let (tenant, name) = (tenant.clone(), name.to_owned());
        let applier = self.inner.applier.clone();
        ingest::blocking(move || {
            let setting = shared.settings.put(&*shared.store, &tenant, &name, checked, &body)?;
            shared.progress.send_modify(|progress| progress.swept = false);
            // Fails where the applier has stopped; the next start finds the documents aged.
            let _ = applier.send(Message::SettingsChanged);
            Ok(setting)
        })
        .await
    }

    /// Stops admitting, finishes what is in flight, commits.
    pub async fn shutdown(&self) {
        self.inner.shared.admitting.store(false, Ordering::Release);
        let (done, finished) = oneshot::channel();
        if self.send(Message::Shutdown(done)).is_ok() {
            // Fails where the applier has stopped by itself.
            let _ = finished.await;
        }
        let courier = self.inner.courier.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(courier) = courier {
            // It gives up by itself; the rest is for its last write.
            let wait = std::time::Duration::from_millis(2 * webhooks::DRAIN_MS_MAX);
            let _ = tokio::time::timeout(wait, courier).await;
        }
    }
}
