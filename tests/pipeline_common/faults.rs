//! A store that fails where a test says so: before a write, or after it, when it is on disk and nobody learns of it.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use hearken::{
    insight::event::RecordKey,
    pipeline::{Setting, Tenant},
    store::*,
};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    Append,
    Commit,
    PutSetting,
    Erase,
    Scrub,
}

/// Decides which writes fail.
pub trait Fault: Send + Sync + 'static {
    fn before(&self, write: Write) -> Result<(), StoreError>;
    fn after(&self, write: Write) -> Result<(), StoreError>;
}

/// A store with a [`Fault`]. Writes come one after the other, so that a fault can look at files in between.
pub struct Faulty<F> {
    pub inner: Arc<dyn Store>,
    pub fault: F,
    one: Mutex<()>,
}

impl<F: Fault> Faulty<F> {
    pub fn new(inner: Arc<dyn Store>, fault: F) -> Self {
        Self { inner, fault, one: Mutex::default() }
    }

    fn write<T>(
        &self,
        what: Write,
        run: impl FnOnce(&dyn Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _one = self.one.lock().unwrap_or_else(PoisonError::into_inner);
        self.fault.before(what)?;
        let answer = run(&*self.inner)?;
        self.fault.after(what)?;
        Ok(answer)
    }
}

impl<F: Fault> Store for Faulty<F> {
    fn append(&self, events: Vec<NewEvent>) -> Result<Batch, StoreError> {
        self.write(Write::Append, |store| store.append(events))
    }
    fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        self.write(Write::Commit, |store| store.commit(commit))
    }
    fn put_setting(&self, tenant: &Tenant, name: &str, body: &str) -> Result<Setting, StoreError> {
        self.write(Write::PutSetting, |store| store.put_setting(tenant, name, body))
    }
    fn erase(&self, erasure: Erasure) -> Result<Option<Erased>, StoreError> {
        self.write(Write::Erase, |store| store.erase(erasure))
    }
    fn scrub(&self) -> Result<(), StoreError> {
        self.write(Write::Scrub, |store| store.scrub())
    }
    fn positions(&self) -> Result<Positions, StoreError> {
        self.inner.positions()
    }
    fn read_after(&self, position: u64, events: usize, bytes: usize) -> Result<Vec<LogRow>, StoreError> {
        self.inner.read_after(position, events, bytes)
    }
    fn history(&self, tenant: &Tenant, records: &[RecordKey]) -> Result<Vec<LogRow>, StoreError> {
        self.inner.history(tenant, records)
    }
    fn links(&self) -> Result<Vec<LogRow>, StoreError> {
        self.inner.links()
    }
    fn dirty(&self, limit: usize) -> Result<Vec<DirtyMark>, StoreError> {
        self.inner.dirty(limit)
    }
    fn dirty_since(&self) -> Result<Option<u64>, StoreError> {
        self.inner.dirty_since()
    }
    fn document(&self, tenant: &Tenant, record: &RecordKey) -> Result<Option<StoredDocument>, StoreError> {
        self.inner.document(tenant, record)
    }
    fn records(&self, tenant: &Tenant, filter: &RecordFilter) -> Result<Vec<RecordEntry>, StoreError> {
        self.inner.records(tenant, filter)
    }
    fn known_records(
        &self,
        after: Option<&TenantRecord>,
        limit: usize,
    ) -> Result<Vec<TenantRecord>, StoreError> {
        self.inner.known_records(after, limit)
    }
    fn bases(
        &self,
        after: Option<&TenantRecord>,
        limit: usize,
    ) -> Result<Vec<(TenantRecord, Basis)>, StoreError> {
        self.inner.bases(after, limit)
    }
    fn record_count(&self) -> Result<u64, StoreError> {
        self.inner.record_count()
    }
    fn setting(&self, tenant: &Tenant, name: &str) -> Result<Option<Setting>, StoreError> {
        self.inner.setting(tenant, name)
    }
    fn settings(&self) -> Result<Vec<(Tenant, String, Setting)>, StoreError> {
        self.inner.settings()
    }
    fn outbox(&self) -> &dyn Outbox {
        self.inner.outbox()
    }
    fn digests(&self) -> &dyn Digests {
        self
    }
    fn replays(&self) -> &dyn Replays {
        self.inner.replays()
    }
    fn backup(&self, path: &Path) -> Result<(), StoreError> {
        self.inner.backup(path)
    }
}

/// Digests are made anew where they are missing, so no fault strikes them; but they too are written one after the other.
impl<F: Fault> Digests for Faulty<F> {
    fn put_digests(&self, digests: Vec<NewDigest>) -> Result<(), StoreError> {
        let _one = self.one.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.digests().put_digests(digests)
    }
    fn digests(
        &self,
        tenant: &Tenant,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Result<Vec<DigestRow>, StoreError> {
        self.inner.digests().digests(tenant, after, limit)
    }
    fn digest_states(
        &self,
        after: Option<&TenantRecord>,
        limit: usize,
    ) -> Result<Vec<(TenantRecord, bool)>, StoreError> {
        self.inner.digests().digest_states(after, limit)
    }
}

/// Whether any file of a folder has this text in it.
pub fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}
