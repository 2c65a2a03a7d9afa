//! What the applier and the readers share: the store, what is known of records and settings, and how far things are.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use jiff::{RoundMode, Timestamp, TimestampRound, Unit, civil::Date};
use tokio::sync::{Notify, broadcast, watch};

use super::{
    PipelineError, PipelineOptions, ServedDocument, Tenant,
    cache::DocumentCache,
    customers::Customers,
    settings::{SettingsTable, TenantSettings},
};
use crate::{
    insight::view,
    store::{Basis, Store, StoreError, StoredDocument, TenantRecord},
};

/// Most revisions that a slow reader of [`Shared::changes`] may be behind before it skips some.
const CHANGES_WAITING_MAX: usize = 1024;

/// How far the applier is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pub applied: u64,
    /// The smallest ticket under which a record became dirty and still is.
    pub dirty_since: Option<u64>,
    /// Every document is made under the settings and the day of now.
    pub swept: bool,
    /// Nothing more will be applied.
    pub stopped: bool,
}

/// A revision of a document.
pub type Change = (TenantRecord, ServedDocument);

pub struct Shared {
    pub store: Arc<dyn Store>,
    pub options: PipelineOptions,
    pub customers: Customers,
    pub settings: SettingsTable,
    pub documents: DocumentCache,
    /// Models of tenants that have been switched to one of their own.
    pub scorers: super::replay::Scorers,
    pub replaying: super::replay::Running,
    /// Records whose digests are to be made.
    pub waiting: super::segments::Waiting,
    /// Closed (`None`) at shutdown, so that streams end.
    pub changes: Mutex<Option<broadcast::Sender<Change>>>,
    pub progress: watch::Sender<Progress>,
    pub logged: AtomicU64,
    pub records: AtomicU64,
    pub admitting: AtomicBool,
    pub stalled: Mutex<Option<String>>,
    /// Appends hold it for reading; an erasure holds it for writing, so that no event comes between what it looks at
    /// and what it deletes.
    pub gate: RwLock<()>,
    /// Something new is in the outbox.
    pub deliver: Notify,
    /// Held while a case is changed, and while a webhook is.
    pub changing: tokio::sync::Mutex<()>,
    pub webhooks_changing: Mutex<()>,
    /// The last day whose digests are written, by tenant.
    pub digests: Mutex<HashMap<Tenant, Date>>,
}

impl Shared {
    pub fn load(store: Arc<dyn Store>, options: PipelineOptions) -> Result<Self, StoreError> {
        let positions = store.positions()?;
        Ok(Self {
            customers: Customers::load(&*store)?,
            settings: SettingsTable::load(&*store)?,
            documents: DocumentCache::new(options.cached_document_bytes_max),
            scorers: super::replay::Scorers::default(),
            replaying: super::replay::Running::default(),
            waiting: super::segments::Waiting::default(),
            changes: Mutex::new(Some(broadcast::Sender::new(CHANGES_WAITING_MAX))),
            progress: watch::Sender::new(Progress {
                applied: positions.applied,
                dirty_since: store.dirty_since()?,
                ..Progress::default()
            }),
            logged: AtomicU64::new(positions.logged),
            records: AtomicU64::new(store.record_count()?),
            admitting: AtomicBool::new(true),
            stalled: Mutex::default(),
            gate: RwLock::default(),
            deliver: Notify::new(),
            changing: Default::default(),
            webhooks_changing: Mutex::default(),
            digests: Mutex::default(),
            store,
            options,
        })
    }

    /// The present, in whole milliseconds as all stamps are.
    pub fn now(&self) -> Timestamp {
        let now = self.options.clock.now();
        let to_ms = TimestampRound::new().smallest(Unit::Millisecond).mode(RoundMode::Floor);
        now.round(to_ms).unwrap_or(now)
    }

    /// What a document of this tenant is made under now.
    pub fn basis(&self, settings: &TenantSettings) -> Basis {
        Basis { day: view::day(self.now()), settings: settings.generation }
    }

    pub fn is_current(&self, tenant: &Tenant, basis: Basis) -> bool {
        basis == self.basis(&self.settings.of(tenant))
    }

    /// A document as it is stored.
    pub fn stored(&self, record: &TenantRecord) -> Result<Option<Arc<StoredDocument>>, StoreError> {
        match self.documents.get(record) {
            Ok(document) => Ok(Some(document)),
            Err(gap) => {
                let document = self.store.document(&record.0, &record.1)?.map(Arc::new);
                if let Some(document) = &document {
                    self.documents.fill(record.clone(), document.clone(), gap);
                }
                Ok(document)
            }
        }
    }

    pub fn applied(&self) -> u64 {
        self.progress.borrow().applied
    }

    pub fn backlog(&self) -> usize {
        self.logged.load(Ordering::Acquire).saturating_sub(self.applied()) as usize
    }

    pub fn stall(&self, why: Option<String>) {
        *self.stalled.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    pub fn announce(&self, record: &TenantRecord, document: &StoredDocument) {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changes) = changes.as_ref().filter(|c| c.receiver_count() > 0) {
            // Fails where the last listener has just gone.
            let _ = changes.send((record.clone(), ServedDocument::of(document)));
        }
    }

    /// Whether nothing more will be applied.
    pub fn is_stopped(&self) -> bool {
        !self.admitting.load(Ordering::Acquire) || self.progress.borrow().stopped
    }

    /// Lets everyone who waits know that nothing more will come.
    pub fn stop(&self) {
        self.admitting.store(false, Ordering::Release);
        self.waiting.stop();
        self.progress.send_modify(|progress| progress.stopped = true);
        *self.changes.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl ServedDocument {
    pub(super) fn of(stored: &StoredDocument) -> Self {
        Self { bytes: stored.bytes.clone(), etag: stored.etag.clone(), revision: stored.revision }
    }
}

impl From<StoreError> for PipelineError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}
