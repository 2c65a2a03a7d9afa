//! Digests of records, kept beside their documents, and the questions about many records that read them.
//!
//! One thread makes digests of what has changed, a moment after the documents, from the same rows of the log. A
//! question reads all digests of its tenant: linear in the tenant's responses. What has no digest of its present
//! document yet is counted as `pending` in the answer.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{
    Pipeline, PipelineError, SegmentQuery, Tenant, ingest::blocking, shared::Shared, witnesses::load,
};
use crate::{
    insight::{
        event::RecordKey,
        reading::Reading,
        segments::{
            digest::RecordDigest,
            gather::{BY, By, Gathered, Period, Question, Record},
            patterns::{PatternCounter, PatternReport},
            report::{SegmentReport, report},
        },
        view::{View, day},
    },
    store::{DigestRow, NewDigest, StoreError, TenantRecord},
};

/// Records whose digests are written in one transaction.
const BATCH_RECORDS: usize = 128;
/// Digests that a question reads at once.
const PAGE_RECORDS: usize = 1000;
/// Records that wait for a digest by name; where more have changed all documents are looked through.
const WAITING_RECORDS_MAX: usize = 100_000;
/// A batch waits this long for more, so that a record that changes often costs one digest.
const SETTLE_MS: u64 = 200;
/// How long a question waits for digests that are being made.
const FRESH_MS_MAX: u64 = 2_000;
/// Pause after a failure of the store.
const RETRY_MS: u64 = 1_000;
/// How often the thread looks whether the pipeline is still there.
const IDLE_MS: u64 = 500;

/// Which documents still need a digest.
#[derive(Default)]
pub struct Waiting {
    state: Mutex<WaitingState>,
    changed: Condvar,
    stopped: AtomicBool,
}

#[derive(Default)]
struct WaitingState {
    records: BTreeSet<TenantRecord>,
    /// All documents are to be looked through.
    all: bool,
    /// Taken and not written yet.
    in_work: usize,
    /// A question waits.
    urgent: bool,
}

impl Waiting {
    fn state(&self) -> MutexGuard<'_, WaitingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes documents that were written or removed.
    pub fn touch<'r>(&self, records: impl Iterator<Item = &'r TenantRecord>) {
        let mut state = self.state();
        for record in records {
            if state.records.len() >= WAITING_RECORDS_MAX {
                state.records.clear();
                state.all = true;
            }
            if !state.all {
                state.records.insert(record.clone());
            }
        }
        self.changed.notify_all();
    }

    fn touch_all(&self) {
        self.state().all = true;
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// Waits until nothing is left to do, or the time is over; gives what is left.
    fn settled(&self, most: Duration) -> u64 {
        let until = Instant::now() + most;
        let mut state = self.state();
        loop {
            let left = state.records.len() + state.in_work;
            let now = Instant::now();
            if (left == 0 && !state.all) || now >= until || self.stopped.load(Ordering::Acquire) {
                return left as u64;
            }
            state.urgent = true;
            self.changed.notify_all();
            state = self
                .changed
                .wait_timeout(state, (until - now).min(Duration::from_millis(50)))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// Starts the thread that makes digests; it ends when the pipeline has gone.
pub fn start(shared: &Arc<Shared>) -> std::io::Result<()> {
    shared.waiting.touch_all();
    let shared = Arc::downgrade(shared);
    std::thread::Builder::new().name("digests".into()).spawn(move || serve(&shared)).map(|_| ())
}

fn serve(shared: &Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        if shared.waiting.stopped.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = step(&shared) {
            tracing::warn!(%error, "digests could not be made; trying again");
            shared.waiting.touch_all();
            std::thread::sleep(Duration::from_millis(RETRY_MS));
        }
    }
}

/// Takes some records and makes their digests; waits a while where there are none.
fn step(shared: &Shared) -> Result<(), StoreError> {
    let waiting = &shared.waiting;
    let all = std::mem::take(&mut waiting.state().all);
    if all {
        look_through(shared)?;
    }
    let mut state = waiting.state();
    if state.records.is_empty() {
        drop(waiting.changed.wait_timeout(state, Duration::from_millis(IDLE_MS)));
        return Ok(());
    }
    if !std::mem::take(&mut state.urgent) && state.records.len() < BATCH_RECORDS {
        state = waiting
            .changed
            .wait_timeout_while(state, Duration::from_millis(SETTLE_MS), |s| {
                !s.urgent && s.records.len() < BATCH_RECORDS && !waiting.stopped.load(Ordering::Acquire)
            })
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
    let batch: Vec<TenantRecord> = {
        let mut batch = Vec::new();
        while batch.len() < BATCH_RECORDS {
            let Some(record) = state.records.pop_first() else { break };
            batch.push(record);
        }
        batch
    };
    state.in_work = batch.len();
    drop(state);
    let done = make(shared, &batch);
    let mut state = waiting.state();
    state.in_work = 0;
    waiting.changed.notify_all();
    drop(state);
    done
}

/// Finds all documents whose digest is missing or old.
fn look_through(shared: &Shared) -> Result<(), StoreError> {
    let mut after: Option<TenantRecord> = None;
    loop {
        let seen = shared.store.digests().digest_states(after.as_ref(), PAGE_RECORDS)?;
        let Some((last, _)) = seen.last() else { return Ok(()) };
        after = Some(last.clone());
        let mut state = shared.waiting.state();
        state.records.extend(seen.into_iter().filter(|(_, fresh)| !fresh).map(|(record, _)| record));
    }
}

#[derive(Deserialize)]
struct Head {
    meta: Meta,
    competitors: Competitors,
}

#[derive(Deserialize)]
struct Meta {
    as_of: Option<jiff::Timestamp>,
}

#[derive(Deserialize)]
struct Competitors {
    rows: Vec<CompetitorName>,
}

#[derive(Deserialize)]
struct CompetitorName {
    competitor: String,
}

fn make(shared: &Shared, batch: &[TenantRecord]) -> Result<(), StoreError> {
    // No erasure may come between what is read here and what is written.
    let _open = shared.gate.read().unwrap_or_else(PoisonError::into_inner);
    let mut digests = Vec::with_capacity(batch.len());
    for record in batch {
        let Some(document) = shared.stored(record)? else { continue };
        let Some(body) = digest(shared, record)? else { continue };
        let head: Option<Head> = serde_json::from_slice(&document.bytes).ok();
        digests.push(NewDigest {
            record: record.clone(),
            etag: document.etag.clone(),
            changed_at: head.as_ref().and_then(|h| h.meta.as_of),
            competitors: head
                .map(|h| h.competitors.rows.into_iter().map(|row| row.competitor).collect())
                .unwrap_or_default(),
            body,
        });
    }
    shared.store.digests().put_digests(digests)
}

/// A record's digest as it is stored; `None` where nothing is known of it any more.
fn digest(shared: &Shared, (tenant, key): &TenantRecord) -> Result<Option<String>, StoreError> {
    let found = match load(shared, tenant, key) {
        Ok(found) => found,
        Err(error) => return Err(StoreError::Corrupt { what: "history", why: error.to_string() }),
    };
    let Some(found) = found else { return Ok(None) };
    let view = View { from: None, to: day(shared.now()), as_of: None, zone: jiff::tz::TimeZone::UTC };
    Ok(shared.customers.with(tenant, |identity| {
        let (history, settings) = (found.held.history(), found.held.settings());
        let reading = Reading::new(&found.key, history, identity, settings, &view);
        Some(RecordDigest::of(&reading).to_json())
    }))
}

impl Pipeline {
    /// Waits a while until every document has its digest.
    pub(super) async fn digested(&self) -> Result<(), PipelineError> {
        let shared = self.inner.shared.clone();
        blocking(move || {
            shared.waiting.settled(Duration::from_millis(FRESH_MS_MAX));
            Ok(())
        })
        .await
    }

    /// What segments of records say; see [`crate::insight::segments`].
    pub async fn segments(
        &self,
        tenant: &Tenant,
        query: &SegmentQuery,
    ) -> Result<SegmentReport, PipelineError> {
        let shared = self.inner.shared.clone();
        let question = question(&shared, query)?;
        let (tenant, by) = (tenant.clone(), query.by.clone());
        blocking(move || {
            let pending = shared.waiting.settled(Duration::from_millis(FRESH_MS_MAX));
            let mut gathered = Gathered::default();
            each(&shared, &tenant, |key, labels, digest| {
                gathered.add(&question, &Record { key, labels, digest });
            })?;
            Ok(report(&by, question.period, &gathered, pending))
        })
        .await
    }

    /// What segments of records say of the company's assumptions.
    pub async fn patterns(
        &self,
        tenant: &Tenant,
        query: &SegmentQuery,
    ) -> Result<PatternReport, PipelineError> {
        let shared = self.inner.shared.clone();
        let question = question(&shared, query)?;
        let (tenant, by) = (tenant.clone(), query.by.clone());
        blocking(move || {
            let settings = shared.settings.of(&tenant);
            let pending = shared.waiting.settled(Duration::from_millis(FRESH_MS_MAX));
            let mut counter = PatternCounter::new(&settings.assumptions);
            each(&shared, &tenant, |key, labels, digest| {
                counter.add(&question, &Record { key, labels, digest });
            })?;
            Ok(counter.report(&by, question.period, pending))
        })
        .await
    }
}

fn question(shared: &Shared, query: &SegmentQuery) -> Result<Question, PipelineError> {
    let by = By::parse(&query.by).ok_or_else(|| {
        PipelineError::Query(format!("there are no segments by {:?}; known are {}", query.by, BY.join(", ")))
    })?;
    let view = query.view.view(shared.now())?;
    if view.as_of.is_some() || query.view.tz.is_some() {
        return Err(PipelineError::Query("segments take `window` and neither `as_of` nor `tz`".into()));
    }
    Ok(Question {
        by,
        period: Period::of(view.from, view.to),
        value: query.value.clone(),
        module: query.module.clone(),
        label: query.label.clone(),
    })
}

/// Reads every digest of a tenant, some at a time.
fn each(
    shared: &Shared,
    tenant: &Tenant,
    mut take: impl FnMut(&RecordKey, &[String], &RecordDigest),
) -> Result<(), PipelineError> {
    let mut after: Option<RecordKey> = None;
    loop {
        let rows = shared.store.digests().digests(tenant, after.as_ref(), PAGE_RECORDS)?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = Some(last.key.clone());
        for DigestRow { key, labels, body } in &rows {
            // One of an older form waits to be made anew.
            if let Some(digest) = RecordDigest::read(body) {
                take(key, labels, &digest);
            }
        }
    }
}
