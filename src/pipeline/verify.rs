//! The proof that documents are what the log says: every one is made anew from nothing and compared byte for byte.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use tokio::sync::oneshot;

use super::{
    Pipeline, PipelineError, Tenant, Verification,
    applier::Message,
    customers::identity_of,
    fold::{Family, Held, Stamps, default_view},
    ingest::blocking,
    settings::{SettingsTable, TenantSettings},
};
use crate::{
    insight::{event::RecordKey, identity::Identity},
    store::{Store, StoreError, TenantRecord},
};

/// Records that are read from the store at once.
const PAGE_RECORDS: usize = 1000;
/// How often a difference is looked at again, since events may have come in between.
const TRIES_MAX: usize = 5;

impl Pipeline {
    /// Recomputes every document from the log and compares, and likewise the histories that have grown in memory event
    /// by event. Waits first until nothing is left to apply, unless the pipeline is stalled.
    pub async fn verify(&self) -> Result<Verification, PipelineError> {
        let mut only: Option<Vec<TenantRecord>> = None;
        let mut found = Verification::default();
        for _ in 0..TRIES_MAX {
            self.wait_quiet().await?;
            let store = self.inner.shared.store.clone();
            let which = only.take();
            let (verification, mut different) = blocking(move || Ok(check(&*store, which)?)).await?;
            if found.records == 0 {
                found = verification;
            } else {
                found.different = verification.different;
            }
            for record in self.audit().await? {
                if !different.contains(&record) {
                    found.different.push(record.1.clone());
                    different.push(record);
                }
            }
            if different.is_empty() {
                break;
            }
            only = Some(different);
        }
        Ok(found)
    }

    /// The records whose history in memory is not what the log gives; none where the applier has stopped.
    async fn audit(&self) -> Result<Vec<TenantRecord>, PipelineError> {
        let (done, audited) = oneshot::channel();
        match self.send(Message::Audit(done)) {
            Ok(()) => audited.await.unwrap_or(Ok(vec![])),
            Err(_) => Ok(vec![]),
        }
    }

    /// Waits until all that is logged is applied and no document has aged.
    async fn wait_quiet(&self) -> Result<(), PipelineError> {
        let mut progress = self.inner.shared.progress.subscribe();
        loop {
            let logged = self.health().logged;
            let seen = *progress.borrow_and_update();
            let quiet = seen.applied >= logged && seen.dirty_since.is_none() && seen.swept;
            if quiet || seen.stopped || self.health().stalled.is_some() {
                return Ok(());
            }
            // A stall makes no progress: look at it now and then.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(200), progress.changed()).await;
        }
    }
}

/// Compares the documents of a store that nobody is writing to; `hearken verify` on a stopped server.
pub fn verify_store(store: &dyn Store) -> Result<Verification, PipelineError> {
    Ok(check(store, None)?.0)
}

/// What the documents of a tenant are made with.
struct Ground {
    identity: Identity,
    settings: Arc<TenantSettings>,
}

struct Check<'a> {
    store: &'a dyn Store,
    applied: u64,
    settings: SettingsTable,
    grounds: HashMap<Tenant, Ground>,
    dirty: HashSet<TenantRecord>,
    seen: Verification,
    different: Vec<TenantRecord>,
}

fn check(
    store: &dyn Store,
    only: Option<Vec<TenantRecord>>,
) -> Result<(Verification, Vec<TenantRecord>), StoreError> {
    let mut check = Check {
        store,
        applied: store.positions()?.applied,
        settings: SettingsTable::load(store)?,
        grounds: HashMap::new(),
        dirty: store.dirty(usize::MAX >> 1)?.into_iter().map(|mark| mark.record).collect(),
        seen: Verification::default(),
        different: Vec::new(),
    };
    match only {
        Some(records) => {
            for record in &records {
                check.compare(record)?;
            }
        }
        None => check.all()?,
    }
    check.seen.different = check.different.iter().map(|(_, key)| key.clone()).collect();
    Ok((check.seen, check.different))
}

impl Check<'_> {
    fn ground(&mut self, tenant: &Tenant) -> Result<&Ground, StoreError> {
        if !self.grounds.contains_key(tenant) {
            let identity = identity_of(self.store, tenant)?;
            let settings = self.settings.of(tenant);
            self.grounds.insert(tenant.clone(), Ground { identity, settings });
        }
        // Cannot fail: it was put there in the line before.
        self.grounds.get(tenant).ok_or(StoreError::Closed)
    }

    /// Every record that an event names, and every one that has a document.
    fn all(&mut self) -> Result<(), StoreError> {
        let mut canonical: BTreeSet<TenantRecord> = BTreeSet::new();
        let mut after: Option<TenantRecord> = None;
        loop {
            let records = self.store.known_records(after.as_ref(), PAGE_RECORDS)?;
            let Some(last) = records.last() else { break };
            after = Some(last.clone());
            for (tenant, key) in records {
                let key: RecordKey = self.ground(&tenant)?.identity.canonical(&key);
                canonical.insert((tenant, key));
            }
        }
        after = None;
        loop {
            let documents = self.store.bases(after.as_ref(), PAGE_RECORDS)?;
            let Some((last, _)) = documents.last() else { break };
            after = Some(last.clone());
            canonical.extend(documents.into_iter().map(|(record, _)| record));
        }
        for record in &canonical {
            self.compare(record)?;
        }
        Ok(())
    }

    fn compare(&mut self, record: &TenantRecord) -> Result<(), StoreError> {
        let (tenant, key) = record;
        let (store, applied) = (self.store, self.applied);
        let ground = self.ground(tenant)?;
        let stored = store.document(tenant, key)?;
        let made = match Family::of(&ground.identity, key) {
            Some(family) => {
                let held = Held::load(store, tenant, &family, &ground.settings, applied)?;
                // The window of the stored document; without one any will do to see that one is missing.
                let day = stored.as_ref().map_or(jiff::civil::date(2000, 1, 1), |stored| stored.basis.day);
                held.document(key, &ground.identity, &default_view(day))
            }
            None => None,
        };
        let pending = stored.as_ref().is_some_and(|s| s.basis.settings != ground.settings.generation);
        if pending || self.dirty.contains(record) {
            self.seen.pending += 1;
            return Ok(());
        }
        let same = match (stored, made) {
            (Some(stored), Some(mut made)) => {
                self.seen.records += 1;
                Stamps::read(&stored.bytes).put(&mut made);
                made.to_bytes()[..] == stored.bytes[..]
            }
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.different.push(record.clone());
        }
        Ok(())
    }
}
