//! A seeded simulator: the real pipeline on the real store, and a death at every write.
//!
//! A seed gives a history over every type of event (revisions, retractions, erasures, merges, conversions, late and
//! repeated events), with settings and days that change in between. First nobody disturbs it, and its writes are
//! counted. Then it is run once for each write and dies there, before the write or right after it, and what the disk
//! held at that moment is copied away. A second pipeline goes on from the copy; the sender repeats what had no answer,
//! and some of what had. It must end with the same documents, `verify` must agree, and no file may hold what was erased.
//!
//! What fails prints its seed and its place; `HEARKEN_SIM_SEED=7 HEARKEN_SIM_CRASH=13 cargo test --test simulator` runs
//! that one alone. `HEARKEN_SIM_SEEDS=20` asks for more seeds. A power cut that takes what the disk had not yet written
//! is not covered.

mod pipeline_common;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hearken::{
    insight::event::{EventData, RecordKey},
    pipeline::{IncomingEvent, Pipeline, PipelineOptions},
    store::*,
};
use pipeline_common::{
    faults::{Fault, Faulty, Write, holds},
    *,
};
use serde_json::json;

/// Events of a history, without those that are added to take back and repeat.
const EVENTS: usize = 70;
/// Most events that are sent together.
const STEP_EVENTS_MAX: usize = 12;
/// Fewest deaths of a run of the test.
const DEATHS_MIN: usize = 50;
/// About as many deaths of a seed are tried, spread over all its writes; `HEARKEN_SIM_ALL=1` tries each.
const DEATHS_WANTED: usize = 56;
/// Whom histories erase, beside contacts of the common histories.
const LEAVING: [(&str, &str); 2] = [("contact", "leaving-1"), ("lead", "leaving-2")];

/// What is done to the pipeline, one after the other.
#[derive(Clone)]
enum Step {
    Ingest(Vec<IncomingEvent>),
    Erase(RecordKey),
    Put(&'static str, String),
    Forward(i64),
}

/// The steps of a seed, and the marks of texts that must be gone at the end.
struct Plan {
    steps: Vec<Step>,
    erased_marks: Vec<String>,
    options: fn(&mut PipelineOptions),
}

/// An interaction with a mark in its text that no other has.
fn marked(mut event: IncomingEvent, mark: &str) -> IncomingEvent {
    let mut data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
    if let Some(text) = data.get("text").and_then(|t| t.as_str()) {
        data["text"] = json!(format!("{text} {mark}"));
        event.data = data.to_string();
        event.event.data = EventData::parse(&event.type_, &event.data).unwrap();
    }
    event
}

fn revised(event: &IncomingEvent, revision: u32, record: (&str, &str), mark: &str) -> IncomingEvent {
    let mut data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
    data["revision"] = json!(revision);
    data["record"] = json!({"module": record.0, "id": record.1});
    data["text"] = json!(format!("Thanks, the connection quality is great. {mark}"));
    let data = data.to_string();
    let parsed = EventData::parse(&event.type_, &data).unwrap();
    let mut event = event.clone();
    (event.event.data, event.data) = (parsed, data);
    event
}

fn plan(seed: u64) -> Plan {
    let mut dice = Dice::new(seed);
    let mut events: Vec<IncomingEvent> = history(seed, EVENTS)
        .into_iter()
        .enumerate()
        .map(|(i, event)| marked(event, &format!("mark{i}x")))
        .collect();
    for (i, who) in LEAVING.iter().cycle().take(8).enumerate() {
        let day = dice.below(150) as i64;
        let said = says(&format!("l{i}"), *who, day, &format!("The outage is back. leaving{i}x"));
        events.insert(dice.below(events.len()), said);
    }
    let to = ("contact", "leaving-1");
    events.insert(dice.below(events.len()), converts("lc", LEAVING[1], to, 100));
    for i in 0..events.len() {
        let event = events[i].clone();
        let is_text = event.type_.contains("interaction.received") && event.data.contains("\"text\"");
        match dice.below(12) {
            0 if is_text => {
                let record = *dice.pick(&[("contact", "1"), ("contact", "5"), ("lead", "L1")]);
                let revision = revised(&event, 1 + dice.below(3) as u32, record, &format!("rev{i}x"));
                events.push(revision);
            }
            // What leads to those who leave stays, so that their erasure finds it.
            1 if !event.event.id.id.starts_with('l') => {
                let id = &event.event.id.id;
                let at = dice.below(events.len());
                events.insert(at, retracts(&format!("r{at}-{id}"), id));
            }
            2 => {
                let at = dice.below(events.len());
                events.insert(at, event);
            }
            _ => {}
        }
    }
    if dice.below(2) == 0 {
        dice.shuffle(&mut events);
    }
    let at = events.len() * 2 / 3;
    events.insert(at, erases("x-contact", ("contact", "3")));

    let mut steps = Vec::new();
    let mut rest = events.into_iter().peekable();
    while rest.peek().is_some() {
        steps.push(Step::Ingest(rest.by_ref().take(1 + dice.below(STEP_EVENTS_MAX)).collect()));
    }
    let competitors = json!({"competitors": [{"name": "Airo Networks", "aliases": ["Airo"]}]}).to_string();
    let mut between = |dice: &mut Dice, step: Step| {
        let at = steps.len() / 3 + dice.below(steps.len() / 3);
        steps.insert(at, step);
    };
    between(&mut dice, Step::Put("competitors", competitors));
    between(&mut dice, Step::Put("labels", json!({"negatives_min": 1}).to_string()));
    let days = 1 + dice.below(40) as i64;
    between(&mut dice, Step::Forward(86_400 * days));
    steps.push(Step::Erase(key(LEAVING[0])));
    steps.push(Step::Ingest(vec![says("last", ("contact", "1"), 1, "Ok.")]));

    Plan {
        erased_marks: (0..8).map(|i| format!("leaving{i}x")).collect(),
        steps,
        options: match seed % 3 {
            0 => |_| {},
            // Hardly any memory, and small batches.
            1 => |options| {
                options.history_interactions_max = 12;
                options.cached_document_bytes_max = 0;
            },
            _ => |options| options.batch_events_max = 3,
        },
    }
}

/// Where a run dies.
#[derive(Clone, Copy, Debug)]
struct Death {
    /// The number of the write.
    write: usize,
    /// Whether the write is on disk.
    done: bool,
}

/// Dies at a write: copies the files away and fails everything from then on.
struct Mortal {
    folder: PathBuf,
    image: PathBuf,
    death: Option<Death>,
    writes: AtomicUsize,
    dead: Arc<AtomicBool>,
}

impl Mortal {
    fn die(&self) -> Result<(), StoreError> {
        for file in std::fs::read_dir(&self.folder).unwrap() {
            let file = file.unwrap();
            // The shared memory of a dead process is gone with it.
            if !file.file_name().to_string_lossy().ends_with("-shm") {
                std::fs::copy(file.path(), self.image.join(file.file_name())).unwrap();
            }
        }
        self.dead.store(true, Ordering::SeqCst);
        Err(StoreError::Closed)
    }

    fn meets(&self, n: usize, done: bool) -> bool {
        self.death.is_some_and(|death| death.write == n && death.done == done)
    }
}

impl Fault for Mortal {
    fn before(&self, _: Write) -> Result<(), StoreError> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(StoreError::Closed);
        }
        let n = self.writes.fetch_add(1, Ordering::SeqCst);
        if self.meets(n, false) { self.die() } else { Ok(()) }
    }

    fn after(&self, _: Write) -> Result<(), StoreError> {
        if self.meets(self.writes.load(Ordering::SeqCst) - 1, true) { self.die() } else { Ok(()) }
    }
}

/// A pipeline that may die.
struct Run {
    pipeline: Pipeline,
    store: Arc<Faulty<Mortal>>,
    folder: tempfile::TempDir,
    image: tempfile::TempDir,
    dead: Arc<AtomicBool>,
}

/// In memory where the system has such a folder: what counts is what the files hold, not when the disk has it.
fn folder() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap()
}

fn copy_of(from: &Path) -> tempfile::TempDir {
    let to = folder();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

impl Run {
    fn start(folder: tempfile::TempDir, plan: &Plan, hands: &Hands, death: Option<Death>) -> Run {
        let image = self::folder();
        let dead = Arc::new(AtomicBool::default());
        let mortal = Mortal {
            folder: folder.path().into(),
            image: image.path().into(),
            death,
            writes: AtomicUsize::default(),
            dead: dead.clone(),
        };
        let store = Arc::new(Faulty::new(open_in(folder.path()), mortal));
        let mut options = options(hands);
        (plan.options)(&mut options);
        let pipeline = Pipeline::start(store.clone(), Words::default(), options).unwrap();
        Run { pipeline, store, folder, image, dead }
    }

    /// Does a step; false where it died over it.
    async fn takes(&self, step: &Step, hands: &Hands) -> bool {
        let done = async {
            match step {
                Step::Ingest(events) => self.pipeline.ingest(&TENANT(), events.clone(), true).await.map(drop),
                Step::Erase(record) => self.pipeline.erase(&TENANT(), record).await.map(drop),
                Step::Put(name, body) => self.put(name, body).await,
                Step::Forward(seconds) => {
                    hands.forward(*seconds);
                    Ok(())
                }
            }
        };
        let died = async {
            while !self.dead.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            // An answer counts also where death came right behind it.
            biased;
            done = done => match done {
                Ok(()) => true,
                Err(error) => {
                    assert!(self.dead.load(Ordering::SeqCst), "{error}");
                    false
                }
            },
            () = died => false,
        }
    }

    /// Puts a setting that is not there yet.
    async fn put(&self, name: &str, body: &str) -> Result<(), hearken::pipeline::PipelineError> {
        let there = self.pipeline.setting(&TENANT(), name).await?;
        let wanted: serde_json::Value = serde_json::from_str(body).unwrap();
        let known: serde_json::Value = serde_json::from_str(&there.body).unwrap();
        let is_there = wanted.as_object().unwrap().iter().all(|(member, value)| known[member] == *value);
        if is_there { Ok(()) } else { self.pipeline.put_setting(&TENANT(), name, body).await.map(drop) }
    }
}

/// The documents of a seed that nobody disturbs, and the number of its writes.
async fn undisturbed(plan: &Plan) -> (BTreeMap<RecordKey, String>, usize) {
    let hands = Hands::at_noon();
    let run = Run::start(folder(), plan, &hands, None);
    for step in &plan.steps {
        assert!(run.takes(step, &hands).await);
    }
    let documents = documents(&run.pipeline).await;
    ends_well(&run, plan).await;
    (documents, run.store.fault.writes.load(Ordering::SeqCst))
}

/// What must hold at the end of every run.
async fn ends_well(run: &Run, plan: &Plan) {
    let verified = run.pipeline.verify().await.unwrap();
    assert_eq!((verified.different, verified.pending), (vec![], 0));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    for mark in &plan.erased_marks {
        // After a death the next start scrubs in the background.
        while holds(run.folder.path(), mark) {
            assert!(tokio::time::Instant::now() < deadline, "{mark} is still in a file");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Runs until it dies, goes on from what the disk held, and compares. False where the death was not met.
async fn dies_and_goes_on(
    seed: u64,
    plan: &Plan,
    death: Death,
    expected: &BTreeMap<RecordKey, String>,
) -> bool {
    let hands = Hands::at_noon();
    let first = Run::start(folder(), plan, &hands, Some(death));
    let mut answered = 0;
    while answered < plan.steps.len() && first.takes(&plan.steps[answered], &hands).await {
        answered += 1;
    }
    let met = first.dead.load(Ordering::SeqCst);
    if !met {
        return false;
    }
    let image = copy_of(first.image.path());
    drop(first);
    let second = Run::start(image, plan, &hands, None);
    let mut dice = Dice::new(seed ^ death.write as u64);
    // The sender repeats what it is not sure of.
    for step in &plan.steps[..answered] {
        if matches!(step, Step::Ingest(_)) && dice.below(3) == 0 {
            assert!(second.takes(step, &hands).await);
        }
    }
    for step in &plan.steps[answered..] {
        assert!(second.takes(step, &hands).await);
    }
    assert_same(&documents(&second.pipeline).await, expected, "after a death");
    ends_well(&second, plan).await;
    true
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_at_any_write_loses_nothing_counts_nothing_twice_and_leaves_nothing_behind() {
    let seeds = match number("HEARKEN_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("HEARKEN_SIM_SEEDS").unwrap_or(1),
    };
    let only = number("HEARKEN_SIM_CRASH");
    let mut met = 0;
    for seed in seeds {
        let plan = Arc::new(plan(seed));
        let (expected, writes) = undisturbed(&plan).await;
        let expected = Arc::new(expected);
        // Two to a write: before it and after it.
        let all = 2 * writes;
        let wanted = if number("HEARKEN_SIM_ALL").is_some() { all } else { DEATHS_WANTED.min(all) };
        let points: Vec<u64> = match only {
            Some(point) => vec![point],
            None => (0..wanted).map(|i| (i * all / wanted) as u64).collect(),
        };
        // Two at a time.
        for pair in points.chunks(2) {
            let runs = pair.iter().map(|point| {
                let (point, plan, expected) = (*point, plan.clone(), expected.clone());
                let death = Death { write: point as usize / 2, done: point % 2 == 1 };
                let run = tokio::spawn(async move { dies_and_goes_on(seed, &plan, death, &expected).await });
                async move {
                    run.await.unwrap_or_else(|error| {
                        panic!("HEARKEN_SIM_SEED={seed} HEARKEN_SIM_CRASH={point} ({death:?}): {error}")
                    })
                }
            });
            met += futures::future::join_all(runs).await.into_iter().filter(|met| *met).count();
        }
    }
    assert!(only.is_some() || met >= DEATHS_MIN, "{met} deaths were met, {DEATHS_MIN} were wanted");
}
