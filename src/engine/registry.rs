//! Which model stands in which slot, and how one takes another's place while both serve.
//!
//! The table of slots is replaced as a whole: a request takes it once and keeps it until it is answered, so that no
//! answer mixes two generations and none is lost. An old trunk stops when the last request that holds it is answered.
//! One thread loads, one swap after the other, so that at most two generations are in memory.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

use super::{
    EngineError, EngineOptions, ModelRef, catalog,
    error::ModelError,
    heads::HeadTask,
    hub::{Hub, HubOptions},
    member::{Candidate, Member, TrunkId},
    model::{Model, Wanted},
    pack,
    serve::Server,
    source::{LabelMap, ModelRequest, ModelSource, is_slot_name},
    swap::{Stage, Swap, SwapState, Swaps},
};

/// A trunk that serves. It stops when the last holder lets go.
pub struct Unit {
    pub server: Arc<Server>,
    trunk: TrunkId,
}

impl Drop for Unit {
    fn drop(&mut self) {
        self.server.gate.close();
        self.server.stop();
    }
}

/// The slots of one generation, by name.
#[derive(Clone, Default)]
pub struct Table {
    slots: BTreeMap<String, Arc<Unit>>,
}

/// Slots that a server has, at most.
const SLOTS_MAX: usize = 32;

/// Slots whose answers go into documents: they hold a model at all times.
const NEVER_EMPTY: [&str; 4] = ["sentiment", "intent", "keyphrases", "emotion"];

/// How long the loader waits for an old generation to be answered before it loads the next model.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(60);
const DRAIN_POLL: Duration = Duration::from_millis(2);

impl Table {
    pub fn unit(&self, slot: &str) -> Option<&Arc<Unit>> {
        self.slots.get(slot)
    }

    /// Every slot with the trunk that it stands on.
    pub fn slots(&self) -> impl Iterator<Item = (&str, &Arc<Unit>)> {
        self.slots.iter().map(|(slot, unit)| (slot.as_str(), unit))
    }

    /// Each trunk once.
    pub fn units(&self) -> Vec<Arc<Unit>> {
        let mut units: Vec<Arc<Unit>> = Vec::new();
        for unit in self.slots.values() {
            if !units.iter().any(|u| Arc::ptr_eq(u, unit)) {
                units.push(unit.clone());
            }
        }
        units
    }

    /// The slot that a name stands for: its own, or the first of those that a model of this name fills.
    pub fn resolve(&self, name: &str) -> Option<&str> {
        let of_model = |(slot, unit): (&'_ &String, &Arc<Unit>)| {
            unit.server.model.served.get(*slot).is_some_and(|s| s.member.reference.name == name)
        };
        match self.slots.get_key_value(name) {
            Some((slot, _)) => Some(slot),
            None => {
                let mut filled = self.slots.iter().filter(|(slot, unit)| of_model((slot, unit)));
                let first = filled.next()?.0;
                // A pack answers with the task that most ask for.
                let sentiment = self.slots.get_key_value("sentiment");
                Some(sentiment.filter(|s| of_model((&s.0, s.1))).map_or(first, |s| s.0))
            }
        }
    }
}

pub struct Registry {
    shared: Arc<Shared>,
    jobs: Mutex<Option<mpsc::Sender<u64>>>,
}

struct Shared {
    table: ArcSwap<Table>,
    options: EngineOptions,
    swaps: Mutex<Swaps>,
    /// Told whenever a swap is over.
    over: Condvar,
    closed: AtomicBool,
}

impl Registry {
    /// Loads the pack into the slots that its heads are named after.
    pub fn open(options: &EngineOptions) -> Result<Self, EngineError> {
        let dir = pack::locate(options.pack.as_deref()).map_err(|e| EngineError::Model(e.to_string()))?;
        let request = ModelRequest { source: ModelSource::Path(dir.clone()), labels: LabelMap::new() };
        let shared = Arc::new(Shared {
            table: ArcSwap::default(),
            options: options.clone(),
            swaps: Mutex::default(),
            over: Condvar::new(),
            closed: AtomicBool::new(false),
        });
        let table = first_table(&dir, &request, options).map_err(|e| EngineError::Model(e.to_string()))?;
        shared.table.store(Arc::new(table));
        let (jobs, queue) = mpsc::channel();
        let loader = Arc::downgrade(&shared);
        std::thread::Builder::new()
            .name("models".into())
            .spawn(move || load_all(&loader, &queue))
            .map_err(|e| EngineError::Model(format!("threads: {e}")))?;
        Ok(Self { shared, jobs: Mutex::new(Some(jobs)) })
    }

    /// The slots as they are now. Whoever holds the table holds its models.
    pub fn table(&self) -> Arc<Table> {
        self.shared.table.load_full()
    }

    /// Begins a swap; its course is told by [`Registry::swap`].
    pub fn put(&self, slot: &str, request: ModelRequest) -> Result<u64, PutError> {
        if !is_slot_name(slot) {
            return Err(PutError::SlotName(slot.into()));
        }
        let table = self.table();
        if table.unit(slot).is_none() && table.slots.len() >= SLOTS_MAX {
            return Err(PutError::TooManySlots);
        }
        if self.shared.closed.load(Ordering::SeqCst) {
            return Err(PutError::ShuttingDown);
        }
        let id = self.shared.swaps().push(slot, request).ok_or(PutError::TooManyWaiting)?;
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        match jobs.as_ref().map(|jobs| jobs.send(id)) {
            Some(Ok(())) => Ok(id),
            _ => Err(PutError::ShuttingDown),
        }
    }

    pub fn swap(&self, id: u64) -> Option<Swap> {
        self.shared.swaps().get(id).cloned()
    }

    /// The last swap of a slot.
    pub fn latest_swap(&self, slot: &str) -> Option<Swap> {
        self.shared.swaps().latest(slot).cloned()
    }

    /// Where the last model of a slot came from, also after it was taken out.
    pub fn last_source(&self, slot: &str) -> Option<ModelSource> {
        self.shared.swaps().last_source(slot)
    }

    /// Blocks until a swap is over.
    pub fn wait(&self, id: u64) -> Option<Swap> {
        let mut swaps = self.shared.swaps();
        loop {
            match swaps.get(id) {
                Some(swap) if swap.is_over() => return Some(swap.clone()),
                Some(_) => swaps = self.shared.over.wait(swaps).unwrap_or_else(PoisonError::into_inner),
                None => return None,
            }
        }
    }

    /// Takes a model out of its slot. Requests that hold it are answered.
    pub fn remove(&self, slot: &str) -> Result<ModelRef, PutError> {
        if NEVER_EMPTY.contains(&slot) {
            return Err(PutError::NeverEmpty(slot.into()));
        }
        // Under the same lock as every other change of the table.
        let _swaps = self.shared.swaps();
        let table = self.table();
        let Some(served) = table.unit(slot).and_then(|u| u.server.model.served.get(slot)) else {
            return Err(PutError::NoModel(slot.into()));
        };
        let reference = served.member.reference.clone();
        let mut next = Table::clone(&table);
        next.slots.remove(slot);
        self.shared.table.store(Arc::new(next));
        Ok(reference)
    }

    /// No swap begins or takes place after this.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        *self.jobs.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let _swaps = self.shared.swaps();
        for unit in self.table().units() {
            unit.server.gate.close();
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.close();
    }
}

/// Why a swap does not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    #[error("{0:?} is no name for a slot: letters, digits, - _ and . only, 64 at most")]
    SlotName(String),
    #[error("all {SLOTS_MAX} slots are taken; remove a model first")]
    TooManySlots,
    #[error("{} swaps are waiting already", super::swap::WAITING_MAX)]
    TooManyWaiting,
    #[error("documents need a model in the slot {0}; put another one there instead")]
    NeverEmpty(String),
    #[error("there is no model in the slot {0}")]
    NoModel(String),
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl Shared {
    fn swaps(&self) -> MutexGuard<'_, Swaps> {
        // A record is changed in one statement; a panic elsewhere does not spoil it.
        self.swaps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, id: u64, state: SwapState) {
        self.swaps().update(id, |s| s.state = state);
    }
}

/// The loader: one swap after the other until the registry is gone.
fn load_all(registry: &Weak<Shared>, queue: &mpsc::Receiver<u64>) {
    while let Ok(id) = queue.recv() {
        let Some(shared) = registry.upgrade() else { return };
        let Some(swap) = shared.swaps().get(id).cloned() else { continue };
        let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| load(&shared, &swap)));
        let outcome =
            attempt.unwrap_or_else(|_| Err(ModelError::Executor("loading failed unexpectedly".into())));
        let drained = match outcome {
            Ok((reference, old)) => {
                tracing::info!(
                    slot = swap.slot,
                    model = reference.name,
                    revision = reference.revision,
                    "model swapped"
                );
                shared.swaps().update(id, |s| {
                    s.state = SwapState::Serving;
                    s.model = Some(reference);
                });
                old
            }
            Err(error) => {
                tracing::warn!(slot = swap.slot, source = %swap.request.source, %error, "swap failed; the old model stays");
                shared.swaps().update(id, |s| {
                    s.state = SwapState::Failed;
                    s.reason = Some(error.to_string());
                });
                Vec::new()
            }
        };
        shared.over.notify_all();
        wait_until_gone(&drained);
    }
}

/// The next model is loaded when the one before the last has left memory, unless its requests take very long.
fn wait_until_gone(units: &[Weak<Unit>]) {
    let begun = Instant::now();
    while units.iter().any(|u| u.strong_count() > 0) && begun.elapsed() < DRAIN_WAIT_MAX {
        std::thread::sleep(DRAIN_POLL);
    }
}

/// Loads, checks and warms a model and puts it in its slot. Gives the trunks that no longer serve.
fn load(shared: &Shared, swap: &Swap) -> Result<(ModelRef, Vec<Weak<Unit>>), ModelError> {
    let fetched = fetch(&swap.request, &swap.slot, &shared.options.hub)?;
    let Candidate { member, trunk } =
        Candidate::read(&fetched.dir, &fetched.request, fetched.reference)?.renamed_for(&swap.slot)?;
    let reference = member.reference.clone();
    shared.set(swap.id, SwapState::Validating);
    let wanted = {
        let table = shared.table.load();
        let mut wanted = shared_slots(&table, &swap.slot, member.trunk);
        wanted.push(Wanted { slot: swap.slot.clone(), head: checked_head(&swap.slot, &member)?, member });
        wanted
    };
    let mut stage = |stage: Stage| shared.set(swap.id, stage.into());
    let unit =
        start(Model::build(trunk, &wanted, &shared.options, &mut stage)?, wanted[0].member.trunk, shared)?;

    // Changes of the table exclude each other; nothing slow happens under the lock.
    let _swaps = shared.swaps();
    if shared.closed.load(Ordering::SeqCst) {
        return Err(ModelError::Executor("the server is shutting down".into()));
    }
    let old = shared.table.load_full();
    let mut next = Table::clone(&old);
    for w in &wanted {
        // A slot that was taken out meanwhile stays out.
        if w.slot == swap.slot || old.slots.contains_key(&w.slot) {
            next.slots.insert(w.slot.clone(), unit.clone());
        }
    }
    let kept = next.units();
    let gone =
        old.units().iter().filter(|u| !kept.iter().any(|k| Arc::ptr_eq(k, u))).map(Arc::downgrade).collect();
    shared.table.store(Arc::new(next));
    Ok((reference, gone))
}

/// The other slots that stand on the same trunk: they move onto the new one, so that one pass answers for all.
fn shared_slots(table: &Table, slot: &str, trunk: TrunkId) -> Vec<Wanted> {
    table
        .slots()
        .filter(|(name, unit)| *name != slot && unit.trunk == trunk)
        .filter_map(|(name, unit)| {
            let served = unit.server.model.served.get(name)?;
            Some(Wanted { slot: name.into(), member: served.member.clone(), head: served.head })
        })
        .collect()
}

/// The head for a slot, refused where it cannot do what the slot is for.
fn checked_head(slot: &str, member: &Member) -> Result<usize, ModelError> {
    let head = member.head_for(slot)?;
    let spec = &member.heads[head];
    if slot == "zero-shot" && (spec.task != HeadTask::TextClassification || spec.entailment().is_none()) {
        return Err(ModelError::head(
            slot,
            format!(
                "needs a classifier of pairs with the label entailment (a model trained for NLI); this one has {}",
                if spec.labels.is_empty() { "no labels".into() } else { spec.labels.join(", ") }
            ),
        ));
    }
    Ok(head)
}

/// A model's folder, and what is known of it.
struct Fetched {
    dir: PathBuf,
    request: ModelRequest,
    /// Its name and commit on the hub.
    reference: Option<ModelRef>,
}

/// Finds a model's folder, or brings it from the hub. What a request leaves open about a repository of the catalogue
/// (the commit, what its labels mean) the catalogue says.
fn fetch(request: &ModelRequest, slot: &str, options: &HubOptions) -> Result<Fetched, ModelError> {
    match &request.source {
        ModelSource::Path(dir) if dir.join(pack::CONFIG).is_file() => {
            Ok(Fetched { dir: dir.clone(), request: request.clone(), reference: None })
        }
        ModelSource::Path(dir) => Err(ModelError::file(dir, "is no folder with a config.json")),
        ModelSource::Repo { repo, revision } => {
            let known = catalog::entry(slot, repo);
            let revision = revision.as_deref().or(known.map(|k| k.revision.as_str()));
            let snapshot = Hub::new(options)?.fetch(repo, revision)?;
            let mut request = request.clone();
            if let (true, Some(known)) = (request.labels.is_empty(), known) {
                request.labels.clone_from(&known.labels);
            }
            let reference = ModelRef { name: repo.clone(), revision: snapshot.commit };
            Ok(Fetched { dir: snapshot.dir, request, reference: Some(reference) })
        }
    }
}

fn start(model: Model, trunk: TrunkId, shared: &Shared) -> Result<Arc<Unit>, ModelError> {
    start_with(model, trunk, &shared.options)
}

fn start_with(model: Model, trunk: TrunkId, options: &EngineOptions) -> Result<Arc<Unit>, ModelError> {
    let executor = model.executor.info();
    tracing::info!(
        model = model.name,
        slots = model.served.keys().map(String::as_str).collect::<Vec<_>>().join(","),
        device = executor.device,
        device_reason = model.device_reason,
        precision = executor.precision,
        precision_reason = model.precision_reason,
        threads = executor.threads,
        kernel = executor.kernel,
        tokens_per_s = model.tokens_per_s.round(),
        "model loaded"
    );
    let server = Server::start(model, options.batch_tokens_max, options.queue_tokens_max)
        .map_err(|e| ModelError::Executor(e.to_string()))?;
    Ok(Arc::new(Unit { server, trunk }))
}

fn first_table(
    dir: &std::path::Path,
    request: &ModelRequest,
    options: &EngineOptions,
) -> Result<Table, ModelError> {
    let Candidate { member, trunk } = Candidate::read(dir, request, None)?;
    let wanted: Vec<Wanted> = member
        .heads
        .iter()
        .enumerate()
        .filter(|(_, head)| is_slot_name(&head.name))
        .map(|(head, spec)| Wanted { slot: spec.name.clone(), member: member.clone(), head })
        .collect();
    if !wanted.iter().any(|w| NEVER_EMPTY.contains(&w.slot.as_str())) {
        return Err(ModelError::Config(format!(
            "hearken.heads names none of {}; a model without them is put into a slot while the server runs",
            NEVER_EMPTY.join(", ")
        )));
    }
    let id = member.trunk;
    let unit = start_with(Model::build(trunk, &wanted, options, &mut |_| {})?, id, options)?;
    Ok(Table { slots: wanted.into_iter().map(|w| (w.slot, unit.clone())).collect() })
}
