//! The thread of one replay: scores what the log holds, then compares every record. It can be stopped between any two
//! steps, and goes on from what is on disk.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::{ReplayBody, ReplayState, Work, compare};
use crate::{
    insight::event::EventData,
    pipeline::{
        PipelineError, Tenant,
        facts::Fact,
        scoring::{Scorer, StoredScores, text_to_score},
        shared::Shared,
    },
};

/// Events that are read and scored at once, and bytes of their data after which no more join.
const BATCH_EVENTS: usize = 256;
const BATCH_BYTES: usize = 512 << 10;
/// First and longest pause where the model does not answer.
const RETRY_MS_MIN: u64 = 50;
const RETRY_MS_MAX: u64 = 5_000;

/// Why a replay stops before its end.
pub enum Stop {
    /// The server is going down, or the replay was cancelled: nothing is to be written.
    Asked,
    Failed(String),
}

impl From<crate::store::StoreError> for Stop {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Failed(format!("the store failed: {error}"))
    }
}

impl From<PipelineError> for Stop {
    fn from(error: PipelineError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Starts the thread of a replay that is on disk.
pub fn start(shared: &Arc<Shared>, runtime: &Handle, id: u64) {
    let work = shared.replaying.work(id);
    let (of_thread, runtime) = (shared.clone(), runtime.clone());
    let begun = std::thread::Builder::new().name(format!("replay-{id}")).spawn(move || {
        let _turn = work.turn();
        let ran =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&of_thread, &runtime, &work, id)));
        let stop = match ran {
            Ok(Ok(())) => return,
            Ok(Err(stop)) => stop,
            Err(_) => Stop::Failed("it met a fault; the log has the reason".into()),
        };
        if let Stop::Failed(why) = stop {
            tracing::warn!(replay = id, why, "a replay failed");
            fail(&of_thread, id, why);
        }
    });
    if let Err(error) = begun {
        fail(shared, id, format!("no thread for it: {error}"));
    }
}

fn fail(shared: &Shared, id: u64, why: String) {
    let replays = shared.store.replays();
    let rows = replays.replays().unwrap_or_default();
    let Some(row) = rows.into_iter().find(|row| row.id == id) else { return };
    let Some(mut body) = ReplayBody::read(&row.body) else { return };
    body.error = Some(why);
    body.finished_at = Some(shared.now());
    if let Err(error) = replays.drop_replay(id, ReplayState::Failed.name(), &body.to_json()) {
        tracing::warn!(%error, replay = id, "the failure of a replay could not be written down");
    }
    shared.replaying.forget(id);
}

fn run(shared: &Shared, runtime: &Handle, work: &Work, id: u64) -> Result<(), Stop> {
    let rows = shared.store.replays().replays()?;
    let Some(row) = rows.into_iter().find(|row| row.id == id) else { return Err(Stop::Asked) };
    let Some(mut body) = ReplayBody::read(&row.body) else {
        return Err(Stop::Failed("it was written by another version".into()));
    };
    let scorer = open(shared, work, &body)?;
    let mut scored_to = row.scored_to;
    catch_up(shared, runtime, work, id, &row.tenant, scorer.as_deref(), &mut scored_to, &mut body)?;
    shared.store.replays().set_replay(id, ReplayState::Comparing.name(), &body.to_json())?;
    compare::all(shared, work, id, &row.tenant, &mut body)?;
    body.finished_at = Some(shared.now());
    check(shared, work)?;
    shared.store.replays().set_replay(id, ReplayState::Ready.name(), &body.to_json())?;
    Ok(())
}

/// The other model, opened once.
pub fn open(shared: &Shared, work: &Work, body: &ReplayBody) -> Result<Option<Arc<dyn Scorer>>, Stop> {
    let Some(path) = &body.request.model else { return Ok(None) };
    let mut scorer = work.scorer();
    if scorer.is_none() {
        let opened = shared.options.open_model.open(Path::new(path));
        *scorer =
            Some(opened.map_err(|why| Stop::Failed(format!("the model in {path} cannot be opened: {why}")))?);
    }
    Ok(scorer.clone())
}

pub fn check(shared: &Shared, work: &Work) -> Result<(), Stop> {
    if work.is_cancelled() || shared.is_stopped() { Err(Stop::Asked) } else { Ok(()) }
}

/// Scores the texts of a tenant that lie between `scored_to` and what is applied.
#[allow(clippy::too_many_arguments, reason = "the parts of one replay, which only this file puts together")]
pub fn catch_up(
    shared: &Shared,
    runtime: &Handle,
    work: &Work,
    id: u64,
    tenant: &Tenant,
    scorer: Option<&dyn Scorer>,
    scored_to: &mut u64,
    body: &mut ReplayBody,
) -> Result<(), Stop> {
    let Some(scorer) = scorer else {
        *scored_to = shared.applied();
        return Ok(());
    };
    loop {
        check(shared, work)?;
        let applied = shared.applied();
        if *scored_to >= applied {
            return Ok(());
        }
        let rows = shared.store.read_after(*scored_to, BATCH_EVENTS, BATCH_BYTES)?;
        let full =
            rows.len() >= BATCH_EVENTS || rows.iter().map(|r| r.data.len()).sum::<usize>() >= BATCH_BYTES;
        let known: Vec<_> = rows.into_iter().filter(|row| row.position <= applied).collect();
        let end = match known.last() {
            Some(last) if full => last.position,
            _ => applied,
        };
        let own = known.into_iter().filter(|row| row.tenant == *tenant).filter_map(Fact::read);
        let texts: Vec<(Fact, String)> = own
            .filter_map(|fact| match &fact.entry.event.data {
                EventData::InteractionReceived(interaction) => {
                    text_to_score(interaction).map(|text| (fact, text))
                }
                _ => None,
            })
            .collect();
        let scores = score(shared, runtime, work, scorer, &texts, body)?;
        *scored_to = end;
        shared.store.replays().put_replayed(id, scores, end, &body.to_json())?;
    }
}

/// Asks the other model, again and again until it answers.
fn score(
    shared: &Shared,
    runtime: &Handle,
    work: &Work,
    scorer: &dyn Scorer,
    texts: &[(Fact, String)],
    body: &mut ReplayBody,
) -> Result<Vec<(u64, String)>, Stop> {
    let mut stored = Vec::with_capacity(texts.len());
    let (mut at, mut most, mut pause_ms) = (0, texts.len(), RETRY_MS_MIN);
    while at < texts.len() {
        check(shared, work)?;
        let part = &texts[at..(at + most.max(1)).min(texts.len())];
        let asked: Vec<String> = part.iter().map(|(_, text)| text.clone()).collect();
        match runtime.block_on(scorer.score(asked)) {
            Ok(scored) if scored.results.len() == part.len() => {
                for ((fact, _), result) in part.iter().zip(scored.results) {
                    let new = StoredScores::new(result, &scored.models);
                    body.events.add(fact.entry.scores.as_ref(), new.scores.as_ref());
                    stored.push((fact.position, new.to_json()));
                }
                body.models.extend(scored.models);
                body.error = None;
                at += part.len();
                pause_ms = RETRY_MS_MIN;
            }
            Ok(scored) => {
                let (asked, got) = (part.len(), scored.results.len());
                return Err(Stop::Failed(format!("{asked} texts came back with {got} scores")));
            }
            Err(error) => {
                if error.too_much {
                    most = (part.len() / 2).max(1);
                }
                let wish = error.retry_after.unwrap_or_default();
                let pause =
                    wish.max(Duration::from_millis(pause_ms)).min(Duration::from_millis(RETRY_MS_MAX));
                std::thread::sleep(pause);
                pause_ms = (pause_ms * 2).min(RETRY_MS_MAX);
            }
        }
    }
    Ok(stored)
}
