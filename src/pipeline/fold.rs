//! From facts to documents: which records an event touches, their histories, and what changes on disk.
//!
//! Histories of busy records stay in memory, so that an event costs its own fold and not a read of all before it. A
//! document that comes out with the same content keeps its bytes and its stamps. How a document is made of a history is
//! for insight to know.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic,
    sync::Arc,
};

use jiff::Timestamp;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

pub use super::stamps::Stamps;
use super::{
    Tenant,
    cache::Generations,
    customers::same_customer,
    facts::{Fact, ties_records},
    settings::TenantSettings,
    shared::Shared,
    stamps::same_content,
    telemetry,
};
use crate::{
    insight::{
        document::Document,
        event::{EventData, RecordKey},
        history::History,
        identity::Identity,
        render,
        settings::Settings,
        summary::Summary,
        view::View,
    },
    store::{Basis, DirtyMark, LogRow, Store, StoreError, StoredDocument, TenantRecord},
};

/// The records that have a part in one document.
pub struct Family {
    /// Those that are the same customer.
    pub same: Vec<RecordKey>,
    /// Those whose facts are read for it: the same, a deal's contacts, a contact's deals.
    pub sources: Vec<RecordKey>,
}

impl Family {
    /// `None` where `key` has become another record, which has the document.
    pub fn of(identity: &Identity, key: &RecordKey) -> Option<Family> {
        (identity.canonical(key) == *key)
            .then(|| Family { same: same_customer(identity, key), sources: identity.sources(key) })
    }
}

/// The facts behind one document.
pub struct Held {
    history: History,
    /// The records that it holds the facts of.
    sources: Vec<RecordKey>,
    settings: Arc<TenantSettings>,
    interactions: usize,
    /// Whether an event names this customer, and not only its deals.
    known: bool,
    /// Receipt of the newest event.
    received_at: Option<Timestamp>,
}

impl Held {
    /// Reads the facts behind a document up to a position of the log.
    pub fn load(
        store: &dyn Store,
        tenant: &Tenant,
        family: &Family,
        settings: &Arc<TenantSettings>,
        up_to: u64,
    ) -> Result<Held, StoreError> {
        let mut rows = store.history(tenant, &family.sources)?;
        rows.retain(|row| row.position <= up_to);
        Ok(Self::of_rows(rows, family, settings))
    }

    /// Reads the facts behind a document from rows of the log.
    pub fn of_rows(rows: Vec<LogRow>, family: &Family, settings: &Arc<TenantSettings>) -> Held {
        let mut held = Held {
            history: History::with_lexicon(settings.lexicon.clone()),
            sources: family.sources.clone(),
            settings: settings.clone(),
            interactions: 0,
            known: false,
            received_at: None,
        };
        for fact in rows.into_iter().filter_map(Fact::read) {
            held.apply(&fact, &family.same);
        }
        held
    }

    fn apply(&mut self, fact: &Fact, same: &[RecordKey]) {
        self.known |= fact.names_any(same);
        self.interactions += 1;
        self.received_at = self.received_at.max(Some(fact.entry.received_at));
        self.history.apply(fact.entry.clone());
    }

    /// Whether an event names this customer.
    pub fn is_known(&self) -> bool {
        self.known
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    pub fn settings(&self) -> &Settings {
        &self.settings.fold
    }

    /// The document of `key`, without stamps; `None` where nothing is known of it.
    pub fn document(&self, key: &RecordKey, identity: &Identity, view: &View) -> Option<Document> {
        self.known.then(|| render::document(key, &self.history, identity, &self.settings.fold, view))
    }
}

/// The view that is kept ready made.
pub fn default_view(day: jiff::civil::Date) -> View {
    let noon = day.at(12, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).map(|z| z.timestamp());
    // Cannot fail: the default view has no part that could be misread, and every day has a noon.
    View::parse(None, None, noon.unwrap_or_default()).unwrap_or(View {
        from: None,
        to: day,
        as_of: None,
        zone: jiff::tz::TimeZone::UTC,
    })
}

/// A strong entity tag: the beginning of the SHA-256 of the bytes, quoted.
pub fn etag(bytes: &[u8]) -> Arc<str> {
    let hex: String = Sha256::digest(bytes).iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!("\"{hex}\"").into()
}

/// What a step changes on disk.
#[derive(Default)]
pub struct Folded {
    pub written: Vec<(TenantRecord, Arc<StoredDocument>)>,
    /// Of those, how many are new records.
    pub new: usize,
    pub removed: Vec<TenantRecord>,
    /// Those of `written` whose content has changed.
    pub changed: Vec<usize>,
}

/// Why a record is folded.
#[derive(Default)]
struct Touch {
    facts: Vec<usize>,
    /// What is in memory of it is no longer true.
    forget: bool,
}

/// Keeps histories and makes documents of them.
pub struct Folder {
    shared: Arc<Shared>,
    histories: Generations<TenantRecord, Held>,
}

/// One record's part of a step.
struct Work {
    record: TenantRecord,
    touch: Touch,
    held: Option<Held>,
    outcome: Outcome,
}

#[derive(Default)]
enum Outcome {
    /// As it was, on disk too.
    #[default]
    Same,
    Written {
        document: Arc<StoredDocument>,
        new: bool,
        changed: bool,
    },
    Removed,
}

impl Folder {
    pub fn new(shared: Arc<Shared>) -> Self {
        let histories = Generations::new(shared.options.history_interactions_max);
        Self { shared, histories }
    }

    /// Forgets all histories, so that the next fold reads what is on disk.
    pub fn forget(&mut self) {
        self.histories.clear();
    }

    /// Folds new facts in, and records anew that lost a fact (`dirty`) or whose basis has changed (`aged`). Histories
    /// that are read from the store are read up to `applied`; `facts` come after that. What comes out is in memory only:
    /// commit it, then [`Folder::publish`] it; if that fails, [`Folder::forget`].
    pub fn fold(
        &mut self,
        facts: &[Fact],
        dirty: &[DirtyMark],
        aged: &[TenantRecord],
        applied: u64,
    ) -> Result<Folded, StoreError> {
        let customers = &self.shared.customers;
        let mut touched: BTreeMap<TenantRecord, Touch> = BTreeMap::new();
        let dependents = |fact: &Fact| -> BTreeSet<RecordKey> {
            customers.with(&fact.tenant, |identity| {
                fact.records.iter().flat_map(|record| identity.dependents(record)).collect()
            })
        };
        for fact in facts {
            let data = &fact.entry.event.data;
            if ties_records(data) || matches!(data, EventData::InteractionRetracted(_)) {
                // Those that depended on it before; the loop below finds those that do now.
                for key in dependents(fact) {
                    touched.entry((fact.tenant.clone(), key)).or_default();
                }
                customers.apply(&fact.tenant, &fact.entry.event);
            }
        }
        for (index, fact) in facts.iter().enumerate() {
            for key in dependents(fact) {
                touched.entry((fact.tenant.clone(), key)).or_default().facts.push(index);
            }
        }
        for DirtyMark { record: (tenant, key), .. } in dirty {
            for key in customers.with(tenant, |identity| identity.dependents(key)) {
                touched.entry((tenant.clone(), key)).or_default().forget = true;
            }
        }
        for record in aged {
            touched.entry(record.clone()).or_default();
        }
        let mut work: Vec<Work> = touched
            .into_iter()
            .map(|(record, touch)| {
                let held = self.histories.take(&record).map(|(held, _)| held).filter(|_| !touch.forget);
                Work { record, touch, held, outcome: Outcome::Same }
            })
            .collect();
        let shared = &self.shared;
        work.par_iter_mut().try_for_each(|work| work.run_guarded(shared, facts, applied))?;

        let mut folded = Folded::default();
        for Work { record, held, outcome, .. } in work {
            if let Some(held) = held {
                let weight = held.interactions + 1;
                self.histories.put(record.clone(), held, weight);
            }
            match outcome {
                Outcome::Same => {}
                Outcome::Removed => folded.removed.push(record),
                Outcome::Written { document, new, changed } => {
                    folded.new += usize::from(new);
                    if changed {
                        folded.changed.push(folded.written.len());
                    }
                    folded.written.push((record, document));
                }
            }
        }
        Ok(folded)
    }

    /// Compares the histories in memory, each as it has grown event by event, with what the log gives when it is read
    /// anew; answers with those that differ. Those that would be read anew anyway before they are used are left out.
    pub fn audit(&self, applied: u64) -> Result<Vec<TenantRecord>, StoreError> {
        let shared = &self.shared;
        let mut different = Vec::new();
        for (record, held) in self.histories.iter() {
            let (tenant, key) = record;
            let settings = shared.settings.of(tenant);
            let family = shared.customers.with(tenant, |identity| Family::of(identity, key));
            let Some(family) = family.filter(|family| family.sources == held.sources) else { continue };
            let fresh = Held::load(&*shared.store, tenant, &family, &held.settings, applied)?;
            let day = shared.basis(&settings).day;
            let views = [default_view(day), View { from: None, ..default_view(day) }];
            let same = shared.customers.with(tenant, |identity| {
                views
                    .iter()
                    .all(|view| held.document(key, identity, view) == fresh.document(key, identity, view))
            });
            if !same {
                different.push(record.clone());
            }
        }
        Ok(different)
    }

    /// Shows readers what has been committed.
    pub fn publish(&self, folded: &Folded) {
        for (record, document) in &folded.written {
            self.shared.documents.set(record.clone(), Some(document.clone()));
        }
        for record in &folded.removed {
            self.shared.documents.set(record.clone(), None);
        }
        self.shared.waiting.touch(folded.written.iter().map(|(record, _)| record));
        use std::sync::atomic::Ordering;
        self.shared.records.fetch_add(folded.new as u64, Ordering::AcqRel);
        self.shared.records.fetch_sub(folded.removed.len() as u64, Ordering::AcqRel);
        for index in &folded.changed {
            let (record, document) = &folded.written[*index];
            self.shared.announce(record, document);
        }
        metrics::counter!(telemetry::DOCUMENTS).increment(folded.changed.len() as u64);
    }
}

impl Work {
    /// A fault in one record's document leaves that document as it is and holds up no other.
    fn run_guarded(&mut self, shared: &Shared, facts: &[Fact], applied: u64) -> Result<(), StoreError> {
        let run = panic::AssertUnwindSafe(|| self.run(shared, facts, applied));
        panic::catch_unwind(run).unwrap_or_else(|_| {
            let (tenant, key) = &self.record;
            tracing::error!(tenant = &*tenant.0, ?key, "the document of a record could not be made");
            self.held = None;
            self.outcome = Outcome::Same;
            Ok(())
        })
    }

    fn run(&mut self, shared: &Shared, facts: &[Fact], applied: u64) -> Result<(), StoreError> {
        let (tenant, key) = &self.record;
        let old = shared.stored(&self.record)?;
        let settings = shared.settings.of(tenant);
        let basis = shared.basis(&settings);
        let family = shared.customers.with(tenant, |identity| Family::of(identity, key));
        let made = match family {
            None => {
                self.held = None;
                None
            }
            Some(family) => {
                let held = match self.held.take() {
                    Some(held) if held.sources == family.sources => held,
                    _ => {
                        metrics::counter!(telemetry::REFOLDS).increment(1);
                        Held::load(&*shared.store, tenant, &family, &settings, applied)?
                    }
                };
                let held = self.held.insert(held);
                if !Arc::ptr_eq(&held.settings.lexicon, &settings.lexicon) {
                    held.history.redigest_with(settings.lexicon.clone());
                }
                held.settings = settings.clone();
                for index in &self.touch.facts {
                    let fact = &facts[*index];
                    if fact.names_any(&held.sources) {
                        held.apply(fact, &family.same);
                    }
                }
                let view = default_view(basis.day);
                shared.customers.with(tenant, |identity| held.document(key, identity, &view))
            }
        };
        self.outcome = match made {
            Some(document) => self.compare(shared, document, old, basis, facts),
            None if old.is_some() => Outcome::Removed,
            None => Outcome::Same,
        };
        Ok(())
    }

    /// Stamps a document: as it was, where its content has not changed.
    fn compare(
        &self,
        shared: &Shared,
        document: Document,
        old: Option<Arc<StoredDocument>>,
        basis: Basis,
        facts: &[Fact],
    ) -> Outcome {
        let bytes = document.to_bytes();
        if let Some(old) = old.as_ref().filter(|old| same_content(&bytes, &old.bytes)) {
            if old.basis == basis {
                return Outcome::Same;
            }
            let document = Arc::new(StoredDocument { basis, ..(**old).clone() });
            return Outcome::Written { document, new: false, changed: false };
        }
        let now = shared.now();
        let newest = self.touch.facts.iter().map(|i| facts[*i].entry.received_at).max();
        // Without a new event it is the window or a rule that moved: the lag stays what it was.
        let since =
            newest.or(if old.is_none() { self.held.as_ref().and_then(|h| h.received_at) } else { None });
        let before = || old.as_ref().and_then(|old| Stamps::read(&old.bytes).lag_ms);
        let lag_ms = since.map(|since| lag_ms(since, now)).or_else(before);
        let bytes: Arc<[u8]> = Stamps { as_of: Some(now), lag_ms }.put_bytes(&bytes).into();
        let summary = Summary::of(&document);
        let document = Arc::new(StoredDocument {
            etag: etag(&bytes),
            bytes,
            revision: document.meta.revision,
            labels: summary.labels,
            interactions: summary.interactions,
            net_sentiment: summary.net_sentiment,
            last_activity_at: summary.last_activity_at,
            basis,
        });
        Outcome::Written { document, new: old.is_none(), changed: true }
    }
}

/// Milliseconds between two moments; 0 where the clock went back.
pub fn lag_ms(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_millisecond() - from.as_millisecond()).unwrap_or(0)
}
