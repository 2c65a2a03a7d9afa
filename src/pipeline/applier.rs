//! The one thread that turns the log into documents.
//!
//! It reads events in batches, has their texts scored, folds, and commits scores, documents and its position in one
//! transaction. While a batch is being scored the next one is read and sent after it. Whatever changes documents for
//! another reason (erasures, settings, a new day) happens on this thread too, between two batches, so that nothing ever
//! races with a fold. What fails is tried again and shows as stalled; nothing is skipped.

mod switch;

use std::{
    collections::{HashSet, VecDeque},
    panic,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use futures::FutureExt;
use jiff::civil::Date;
use tokio::{runtime::Handle, sync::oneshot};

use super::{
    PipelineError, Receipt, alerting,
    erasure::{self, EraseRequest},
    facts::Fact,
    fold::{Folded, Folder, lag_ms},
    replay::{Scorers, SwitchRequest, Switched},
    scoring::{Scored, Scorer, ScorerError, StoredScores, text_to_score},
    shared::Shared,
    telemetry,
};
use crate::{
    insight::{event::EventData, view},
    store::{Commit, DirtyMark, StoreError, TenantRecord},
};

/// Batches that are read and not yet committed: one is folded while the next is scored.
const BATCHES_IN_FLIGHT_MAX: usize = 2;
/// Most texts that go to the scorer in one call.
const SCORE_TEXTS_MAX: usize = 512;
/// Most dirty records that join a batch.
const DIRTY_BATCH_MAX: usize = 256;
/// Documents that are looked at, and made anew where they have aged, between two batches.
const SWEEP_RECORDS_MAX: usize = 64;
/// First and longest pause before what failed is tried again.
const RETRY_MS_MIN: u64 = 50;
const RETRY_MS_MAX: u64 = 10_000;
/// How often the day is looked at while nothing happens.
const IDLE_MS_MAX: u64 = 15_000;
/// How long a shutdown waits for batches in flight; what is not committed then is read again at the next start.
const SHUTDOWN_MS_MAX: u64 = 10_000;
/// Pause before another try to scrub what readers held on to.
const SCRUB_AGAIN_MS: u64 = 10_000;

/// What the applier is asked to do.
pub enum Message {
    /// There is something new in the log.
    Wake,
    Scored {
        number: u64,
        outcome: Result<Scored, ScorerError>,
    },
    /// Documents that a reader found to have aged.
    Refresh {
        record: TenantRecord,
        done: oneshot::Sender<()>,
    },
    Erase {
        request: EraseRequest,
        done: oneshot::Sender<Result<Option<Receipt>, PipelineError>>,
    },
    SettingsChanged,
    /// Compare the histories in memory with the log.
    Audit(oneshot::Sender<Result<Vec<TenantRecord>, PipelineError>>),
    /// Serve what a replay has made.
    Switch {
        request: Box<SwitchRequest>,
        done: oneshot::Sender<Result<Switched, PipelineError>>,
    },
    /// Finish what is in flight, then stop.
    Shutdown(oneshot::Sender<()>),
    /// Nobody holds the pipeline any more.
    Dropped,
}

/// The model of a tenant that does not use the common one.
type OwnScorer = Option<Arc<dyn Scorer>>;

enum State {
    Scoring,
    /// The scorer failed; the texts go to it again.
    Again {
        at: Instant,
    },
    Ready,
}

struct Batch {
    number: u64,
    /// Everything up to here is in this batch or an earlier one.
    end: u64,
    facts: Vec<Fact>,
    dirty: Vec<DirtyMark>,
    /// Scores of this batch, to be stored with it.
    scores: Vec<(u64, String)>,
    state: State,
    /// Most texts in one call; halved where the scorer finds them too many.
    texts_max: usize,
}

impl Batch {
    fn is_scored(&self) -> bool {
        self.facts.iter().all(|fact| fact.scored)
    }

    /// Positions and texts that still have no scores, as many as go into one call, and whom to ask where it is not the
    /// common model. Texts of a tenant with a model of its own go alone.
    fn unscored(&self, scorers: &Scorers) -> (OwnScorer, Vec<(u64, String)>) {
        let unscored = || self.facts.iter().filter(|fact| !fact.scored);
        let Some(first) = unscored().next() else { return (None, vec![]) };
        let own = scorers.of(&first.tenant);
        let together = |fact: &&Fact| match &own {
            Some(_) => fact.tenant == first.tenant,
            None => fact.tenant == first.tenant || scorers.of(&fact.tenant).is_none(),
        };
        let text = |fact: &Fact| match &fact.entry.event.data {
            EventData::InteractionReceived(interaction) => {
                text_to_score(interaction).map(|text| (fact.position, text))
            }
            _ => None,
        };
        let texts = unscored().filter(together).filter_map(text).take(self.texts_max).collect();
        (own, texts)
    }

    fn take_scores(&mut self, positions: &[u64], scored: Scored) {
        let mut results: std::collections::HashMap<u64, _> =
            positions.iter().copied().zip(scored.results).collect();
        for fact in &mut self.facts {
            let Some(result) = results.remove(&fact.position) else { continue };
            if let Err(why) = &result {
                tracing::warn!(position = fact.position, why, "a text cannot be scored");
                metrics::counter!(telemetry::UNSCORED).increment(1);
            }
            let stored = StoredScores::new(result, &scored.models);
            self.scores.push((fact.position, stored.to_json()));
            fact.entry.scores = stored.scores;
            fact.entry.models = stored.models;
            fact.scored = true;
        }
    }
}

/// Doubles from one failure to the next.
struct Backoff {
    pause_ms: u64,
}

impl Backoff {
    fn next(&mut self, wish: Option<Duration>) -> Instant {
        metrics::counter!(telemetry::RETRIES).increment(1);
        let pause = Duration::from_millis(self.pause_ms).max(wish.unwrap_or_default());
        self.pause_ms = (self.pause_ms * 2).min(RETRY_MS_MAX);
        Instant::now() + pause.min(Duration::from_millis(RETRY_MS_MAX))
    }

    fn reset(&mut self) {
        self.pause_ms = RETRY_MS_MIN;
    }
}

pub struct Applier {
    shared: Arc<Shared>,
    scorer: Arc<dyn Scorer>,
    runtime: Handle,
    inbox: Receiver<Message>,
    outbox: Sender<Message>,
    folder: Folder,
    flight: VecDeque<Batch>,
    /// The positions that a call to the scorer is about, by number of the batch.
    asked: std::collections::HashMap<u64, Vec<u64>>,
    numbers: u64,
    scorer_backoff: Backoff,
    store_backoff: Backoff,
    /// The store failed; nothing is tried before this.
    store_again: Option<Instant>,
    /// Where the sweep for aged documents goes on; `None` when it is through.
    sweep: Option<Option<TenantRecord>>,
    day: Date,
    /// When to scrub what an erasure has left behind.
    scrub_at: Option<Instant>,
    /// Why nothing moves, from either side.
    store_trouble: Option<String>,
    scorer_trouble: Option<String>,
    shutdown: Option<(oneshot::Sender<()>, Instant)>,
}

impl Applier {
    pub fn new(
        shared: Arc<Shared>,
        scorer: Arc<dyn Scorer>,
        runtime: Handle,
        inbox: Receiver<Message>,
        outbox: Sender<Message>,
    ) -> Self {
        let backoff = || Backoff { pause_ms: RETRY_MS_MIN };
        Self {
            folder: Folder::new(shared.clone()),
            day: view::day(shared.now()),
            shared,
            scorer,
            runtime,
            inbox,
            outbox,
            flight: VecDeque::new(),
            asked: Default::default(),
            numbers: 0,
            scorer_backoff: backoff(),
            store_backoff: backoff(),
            store_again: None,
            sweep: Some(None),
            // A crash may have come between an erasure and its scrub.
            scrub_at: Some(Instant::now()),
            store_trouble: None,
            scorer_trouble: None,
            shutdown: None,
        }
    }

    /// Runs until the pipeline is shut down or dropped.
    pub fn run(mut self) {
        let shared = self.shared.clone();
        if panic::catch_unwind(panic::AssertUnwindSafe(|| self.serve())).is_err() {
            shared.stall(Some("the applier has failed; the log has the reason; restart the server".into()));
            tracing::error!("the applier has failed; nothing more is applied until a restart");
        }
        shared.stop();
        if let Some((done, _)) = self.shutdown.take() {
            // The caller may have gone.
            let _ = done.send(());
        }
    }

    fn serve(&mut self) {
        loop {
            if self.store_again.is_none_or(|at| at <= Instant::now()) {
                self.store_again = None;
                if let Err(error) = self.step() {
                    self.store_failed(&error);
                }
            }
            if self.finished() {
                return;
            }
            match self.inbox.recv_timeout(self.pause()) {
                Ok(message) => {
                    if !self.receive(message) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(message) = self.inbox.try_recv() {
                if !self.receive(message) {
                    return;
                }
            }
        }
    }

    /// One round: read, commit one batch if it is ready, look after what has aged.
    fn step(&mut self) -> Result<(), StoreError> {
        self.fill()?;
        if self.front_is_ready() {
            self.land()?;
            self.fill()?;
        }
        let day = view::day(self.shared.now());
        if day != self.day {
            self.day = day;
            self.sweep = Some(None);
        }
        if self.shutdown.is_none() {
            self.sweep()?;
        }
        if self.scrub_at.is_some_and(|at| at <= Instant::now()) {
            self.scrub();
        }
        self.store_backoff.reset();
        self.store_trouble = None;
        self.report();
        Ok(())
    }

    fn front_is_ready(&self) -> bool {
        self.flight.front().is_some_and(|batch| matches!(batch.state, State::Ready))
    }

    fn scrub(&mut self) {
        self.scrub_at = match self.shared.store.scrub() {
            Ok(()) => None,
            Err(error) => {
                tracing::warn!(%error, "what was erased is not scrubbed yet; trying again");
                Some(Instant::now() + Duration::from_millis(SCRUB_AGAIN_MS))
            }
        };
    }

    /// Shows why nothing moves, where that is so.
    fn report(&self) {
        self.shared.stall(self.store_trouble.clone().or_else(|| self.scorer_trouble.clone()));
    }

    fn store_failed(&mut self, error: &StoreError) {
        tracing::warn!(%error, "the store failed; trying again");
        self.store_trouble = Some(format!("the store failed: {error}"));
        self.report();
        // Histories may hold facts of the step that was not committed.
        self.folder.forget();
        self.store_again = Some(self.store_backoff.next(None));
    }

    fn finished(&self) -> bool {
        let Some((_, until)) = &self.shutdown else { return false };
        let stuck = self.store_again.is_some()
            || self.flight.front().is_some_and(|b| matches!(b.state, State::Again { .. }));
        self.flight.is_empty() || stuck || *until <= Instant::now()
    }

    /// How long to wait for a message.
    fn pause(&self) -> Duration {
        let now = Instant::now();
        let mut wake_at = now + Duration::from_millis(IDLE_MS_MAX);
        if let Some(at) = self.store_again {
            wake_at = at;
        } else {
            if self.front_is_ready() || (self.sweep.is_some() && self.shutdown.is_none()) {
                return Duration::ZERO;
            }
            for batch in &self.flight {
                if let State::Again { at } = batch.state {
                    wake_at = wake_at.min(at);
                }
            }
        }
        if let Some((_, until)) = &self.shutdown {
            wake_at = wake_at.min(*until);
        }
        wake_at.saturating_duration_since(now)
    }

    /// Answers false when it is time to go.
    fn receive(&mut self, message: Message) -> bool {
        match message {
            Message::Wake => {}
            Message::Scored { number, outcome } => self.scored(number, outcome),
            Message::Refresh { record, done } => {
                if let Err(error) = self.refresh(&[record]) {
                    self.store_failed(&error);
                }
                // The reader may have gone.
                let _ = done.send(());
            }
            Message::Erase { request, done } => {
                let receipt = self.erase(&request);
                if let Err(error) = &receipt {
                    tracing::warn!(%error, "an erasure failed");
                    self.folder.forget();
                }
                let _ = done.send(receipt.map_err(PipelineError::from));
            }
            Message::SettingsChanged => self.sweep = Some(None),
            Message::Audit(done) => {
                let different = self.folder.audit(self.shared.applied());
                // The asker may have gone.
                let _ = done.send(different.map_err(PipelineError::from));
            }
            Message::Switch { request, done } => {
                // The caller may have gone.
                let _ = done.send(self.switch(*request).map_err(PipelineError::from));
            }
            Message::Shutdown(done) => {
                self.shutdown = Some((done, Instant::now() + Duration::from_millis(SHUTDOWN_MS_MAX)));
            }
            Message::Dropped => return false,
        }
        true
    }

    /// Reads batches until enough are in flight, and sends what has to be scored.
    fn fill(&mut self) -> Result<(), StoreError> {
        for batch in &mut self.flight {
            if matches!(batch.state, State::Again { at } if at <= Instant::now()) {
                batch.state = State::Scoring;
                send(&self.shared, &self.scorer, &self.runtime, &self.outbox, &mut self.asked, batch);
            }
        }
        while self.shutdown.is_none() && self.flight.len() < BATCHES_IN_FLIGHT_MAX {
            let Some(mut batch) = self.read()? else { break };
            if batch.is_scored() {
                batch.state = State::Ready;
            } else {
                send(&self.shared, &self.scorer, &self.runtime, &self.outbox, &mut self.asked, &batch);
            }
            self.flight.push_back(batch);
        }
        Ok(())
    }

    /// The next batch of the log, with the dirty marks to deal with. The marks are read first: a row that is read after
    /// a mark cannot be one that the mark says is gone, so a record that is folded anew never gets it back.
    fn read(&mut self) -> Result<Option<Batch>, StoreError> {
        let store = &self.shared.store;
        let options = &self.shared.options;
        let known: HashSet<u64> =
            self.flight.iter().flat_map(|b| b.dirty.iter().map(|mark| mark.ticket)).collect();
        let mut dirty = store.dirty(DIRTY_BATCH_MAX + known.len())?;
        dirty.retain(|mark| !known.contains(&mark.ticket));
        let logged = store.positions()?.logged;
        let begin = self.flight.back().map_or(self.shared.applied(), |batch| batch.end);
        let rows = store.read_after(begin, options.batch_events_max, options.batch_bytes_max)?;
        if rows.is_empty() && dirty.is_empty() && logged <= begin {
            return Ok(None);
        }
        let bytes: usize = rows.iter().map(|row| row.data.len()).sum();
        let cut = rows.len() >= options.batch_events_max || bytes >= options.batch_bytes_max;
        let last = rows.last().map_or(begin, |row| row.position);
        // Positions after the last row belong to events that are gone already.
        let end = if cut { last } else { last.max(logged) };
        // A later event made the mark: who belongs together is only known once that has been applied too.
        dirty.retain(|mark| mark.position <= end);
        dirty.truncate(DIRTY_BATCH_MAX);
        self.numbers += 1;
        Ok(Some(Batch {
            number: self.numbers,
            end,
            facts: rows.into_iter().filter_map(Fact::read).collect(),
            dirty,
            scores: Vec::new(),
            state: State::Scoring,
            texts_max: options.batch_events_max.min(SCORE_TEXTS_MAX),
        }))
    }

    fn scored(&mut self, number: u64, outcome: Result<Scored, ScorerError>) {
        let positions = self.asked.remove(&number).unwrap_or_default();
        let Some(batch) = self.flight.iter_mut().find(|batch| batch.number == number) else { return };
        match outcome {
            Ok(scored) if scored.results.len() == positions.len() => {
                self.scorer_backoff.reset();
                self.scorer_trouble = None;
                batch.take_scores(&positions, scored);
                if batch.is_scored() {
                    batch.state = State::Ready;
                } else {
                    send(&self.shared, &self.scorer, &self.runtime, &self.outbox, &mut self.asked, batch);
                }
            }
            Ok(scored) => {
                let (asked, got) = (positions.len(), scored.results.len());
                self.scorer_failed(number, &format!("{asked} texts came back with {got} scores"), None);
            }
            Err(error) => {
                if error.too_much {
                    batch.texts_max = (positions.len() / 2).max(1);
                }
                self.scorer_failed(number, &error.reason, error.retry_after);
            }
        }
    }

    fn scorer_failed(&mut self, number: u64, why: &str, retry_after: Option<Duration>) {
        tracing::warn!(why, "texts could not be scored; trying again");
        self.scorer_trouble = Some(why.to_owned());
        self.report();
        let at = self.scorer_backoff.next(retry_after);
        if let Some(batch) = self.flight.iter_mut().find(|batch| batch.number == number) {
            batch.state = State::Again { at };
        }
    }

    /// Folds and commits the batch at the front.
    fn land(&mut self) -> Result<(), StoreError> {
        let Some(batch) = self.flight.front() else { return Ok(()) };
        let applied = self.shared.applied();
        let folded = self.folder.fold(&batch.facts, &batch.dirty, &[], applied)?;
        let raised = alerting::raise(&self.shared, &batch.facts, &folded)?;
        self.commit(&folded, |commit| {
            raised.join(commit);
            commit.applied = Some(batch.end);
            commit.scores = batch.scores.clone();
            commit.clean = batch.dirty.clone();
        })?;
        raised.announce(&self.shared)?;
        let now = self.shared.now();
        let lag = metrics::histogram!(telemetry::LAG);
        for fact in &batch.facts {
            lag.record(lag_ms(fact.entry.received_at, now) as f64 / 1e3);
        }
        metrics::counter!(telemetry::APPLIED).increment(batch.facts.len() as u64);
        let end = batch.end;
        self.flight.pop_front();
        let dirty_since = self.shared.store.dirty_since()?;
        self.shared.progress.send_modify(|progress| {
            progress.applied = end;
            progress.dirty_since = dirty_since;
        });
        metrics::gauge!(telemetry::BACKLOG).set(self.shared.backlog() as f64);
        Ok(())
    }

    fn commit(&self, folded: &Folded, fill: impl FnOnce(&mut Commit)) -> Result<(), StoreError> {
        let mut commit = Commit {
            documents: folded.written.iter().map(|(record, d)| (record.clone(), (**d).clone())).collect(),
            removed: folded.removed.clone(),
            actions: alerting::action_rows(&self.shared, folded)?,
            ..Commit::default()
        };
        fill(&mut commit);
        self.shared.store.commit(commit)?;
        self.folder.publish(folded);
        Ok(())
    }

    fn refresh(&mut self, records: &[TenantRecord]) -> Result<(), StoreError> {
        let folded = self.folder.fold(&[], &[], records, self.shared.applied())?;
        if folded.written.is_empty() && folded.removed.is_empty() {
            return Ok(());
        }
        self.commit(&folded, |_| {})
    }

    /// Looks at some more documents, and makes those anew that have aged.
    fn sweep(&mut self) -> Result<(), StoreError> {
        let Some(after) = self.sweep.clone() else { return Ok(()) };
        self.shared.progress.send_if_modified(|p| std::mem::take(&mut p.swept));
        let seen = self.shared.store.bases(after.as_ref(), SWEEP_RECORDS_MAX)?;
        let last = seen.last().map(|(record, _)| record.clone());
        let through = seen.len() < SWEEP_RECORDS_MAX;
        let aged: Vec<TenantRecord> = seen
            .into_iter()
            .filter(|(record, basis)| !self.shared.is_current(&record.0, *basis))
            .map(|(record, _)| record)
            .collect();
        if !aged.is_empty() {
            self.refresh(&aged)?;
        }
        self.sweep = if through { None } else { Some(last) };
        if through {
            self.shared.progress.send_modify(|progress| progress.swept = true);
        }
        Ok(())
    }

    /// Deletes, takes what is deleted out of the batches in flight, and makes the documents anew that had a part in it.
    fn erase(&mut self, request: &EraseRequest) -> Result<Option<Receipt>, StoreError> {
        let Some(erased) = erasure::erase(&self.shared, request)? else { return Ok(None) };
        for batch in &mut self.flight {
            batch.facts.retain(|fact| !erased.deleted.contains(&fact.position));
            batch.scores.retain(|(position, _)| !erased.deleted.contains(position));
            for fact in &mut batch.facts {
                if let Some(row) = erased.rewritten.get(&fact.position).cloned() {
                    let scored =
                        (fact.entry.scores.take(), std::mem::take(&mut fact.entry.models), fact.scored);
                    let Some(anew) = Fact::read(row) else { continue };
                    *fact = anew;
                    (fact.entry.scores, fact.entry.models, fact.scored) = scored;
                }
            }
        }
        for record in &erased.customer {
            self.shared.documents.set(record.clone(), None);
        }
        use std::sync::atomic::Ordering;
        self.shared.records.fetch_sub(erased.documents_removed as u64, Ordering::AcqRel);
        self.scrub_at = Some(Instant::now());
        let marks: Vec<DirtyMark> = erased
            .touched
            .iter()
            .map(|record| DirtyMark { ticket: 0, position: 0, record: record.clone() })
            .collect();
        // The marks on disk stay: the next batch deals with them once more, and finds nothing to change.
        let folded = self.folder.fold(&[], &marks, &[], self.shared.applied())?;
        self.commit(&folded, |_| {})?;
        self.shared.store.scrub()?;
        self.scrub_at = None;
        let changed = folded.changed.len() + folded.removed.len();
        Ok(Some(Receipt {
            erased_interactions: erased.interactions,
            documents_changed: erased.documents_removed + changed,
            receipt: erased.receipt,
        }))
    }
}

/// Sends the texts of a batch that have no scores to the scorer; the answer comes as a message.
fn send(
    shared: &Shared,
    scorer: &Arc<dyn Scorer>,
    runtime: &Handle,
    outbox: &Sender<Message>,
    asked: &mut std::collections::HashMap<u64, Vec<u64>>,
    batch: &Batch,
) {
    let number = batch.number;
    let (own, unscored) = batch.unscored(&shared.scorers);
    let (positions, texts): (Vec<u64>, Vec<String>) = unscored.into_iter().unzip();
    asked.insert(number, positions);
    let scorer = own.unwrap_or_else(|| scorer.clone());
    let outbox = outbox.clone();
    runtime.spawn(async move {
        let answer = panic::AssertUnwindSafe(async { scorer.score(texts).await }).catch_unwind().await;
        let outcome = answer.unwrap_or_else(|_| {
            Err(ScorerError {
                reason: "scoring has failed; the log has the reason".into(),
                retry_after: None,
                too_much: true,
            })
        });
        // Fails where the pipeline has gone.
        let _ = outbox.send(Message::Scored { number, outcome });
    });
}
