//! Replays: history under another model or other settings, made beside what is served, compared, and switched to.
//!
//! A replay belongs to one tenant. It scores the tenant's texts anew with the other model, where there is one, makes
//! every document in the shadow under the other settings, where there are some, and keeps what differs. Nothing that is
//! served changes until the switch, which is one transaction; a switched tenant's new texts go to the new model too.
//! What a restart interrupts goes on where it was.

mod body;
mod compare;
mod models;
mod switch;
mod worker;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    Page, Pipeline, PipelineError, Tenant, cursor, ingest::blocking, scoring::Scorer, settings,
    shared::Shared,
};
use crate::{
    insight::event::RecordKey,
    store::{ReplayRow, StoreError},
};

pub use body::{
    Confusion, EventChanges, LabelChange, RecordChanges, RecordDifference, ReplayBody, ReplayRequest,
    ReplayState, SideDistributions,
};
pub use models::{OpenModel, Scorers, no_other_models};
pub use switch::{SwitchRequest, Switched};

/// A replay as readers see it.
#[derive(Clone, Debug)]
pub struct Replay {
    pub id: u64,
    pub state: ReplayState,
    pub body: ReplayBody,
    /// Events up to this position of the log have new scores.
    pub scored_to: u64,
    /// Position up to which documents are complete now.
    pub applied: u64,
}

/// Most replays of a tenant that are kept, finished ones included; the oldest finished ones are forgotten.
pub const REPLAYS_KEPT_MAX: usize = 100;

/// What runs: the replays that have a thread or a model in memory.
#[derive(Default)]
pub struct Running(Mutex<HashMap<u64, Arc<Work>>>);

/// One replay in memory.
#[derive(Default)]
pub struct Work {
    cancelled: AtomicBool,
    /// The other model, once it is open.
    scorer: Mutex<Option<Arc<dyn Scorer>>>,
    /// Held by whoever moves the replay on: its thread, a switch, a cancellation.
    turn: Mutex<()>,
}

impl Work {
    fn scorer(&self) -> MutexGuard<'_, Option<Arc<dyn Scorer>>> {
        self.scorer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

impl Running {
    fn table(&self) -> MutexGuard<'_, HashMap<u64, Arc<Work>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, id: u64) -> Arc<Work> {
        self.table().entry(id).or_default().clone()
    }

    fn forget(&self, id: u64) {
        self.table().remove(&id);
    }
}

/// Opens the models that tenants have been switched to, and goes on with replays that a stop interrupted.
pub fn resume(shared: &Arc<Shared>, runtime: &tokio::runtime::Handle) -> Result<(), StoreError> {
    let rows = shared.store.replays().replays()?;
    for (tenant, id) in shared.store.replays().active_replays()? {
        let Some(row) = rows.iter().find(|row| row.id == id) else { continue };
        let path = ReplayBody::read(&row.body).and_then(|body| body.request.model);
        if let Some(path) = path {
            shared.scorers.set(&tenant, models::open_or_stall(shared, id, &path));
        }
    }
    for row in rows {
        if matches!(ReplayState::read(&row.state), ReplayState::Scoring | ReplayState::Comparing) {
            worker::start(shared, runtime, row.id);
        }
    }
    Ok(())
}

fn row(shared: &Shared, tenant: &Tenant, id: u64) -> Result<Option<(ReplayRow, ReplayBody)>, PipelineError> {
    let rows = shared.store.replays().replays()?;
    let found = rows.into_iter().find(|row| row.id == id && row.tenant == *tenant);
    Ok(found.and_then(|row| Some((ReplayBody::read(&row.body)?, row))).map(|(body, row)| (row, body)))
}

fn replay(shared: &Shared, row: &ReplayRow, body: ReplayBody) -> Replay {
    Replay {
        id: row.id,
        state: ReplayState::read(&row.state),
        body,
        scored_to: row.scored_to,
        applied: shared.applied(),
    }
}

impl Pipeline {
    /// Begins a replay; its work goes on in the background.
    pub async fn start_replay(
        &self,
        tenant: &Tenant,
        request: ReplayRequest,
    ) -> Result<Replay, PipelineError> {
        let shared = self.inner.shared.clone();
        let runtime = tokio::runtime::Handle::current();
        let tenant = tenant.clone();
        if request.model.is_none() && request.settings.is_empty() {
            let detail = "a replay needs another `model`, other `settings`, or both";
            return Err(PipelineError::Body { pointer: String::new(), detail: detail.into() });
        }
        for (name, body) in &request.settings {
            check_setting(&shared, name, body)?;
        }
        blocking(move || {
            let rows = shared.store.replays().replays()?;
            let open = rows.iter().find(|row| {
                row.tenant == tenant
                    && !matches!(
                        ReplayState::read(&row.state),
                        ReplayState::Switched | ReplayState::Cancelled | ReplayState::Failed
                    )
            });
            if let Some(open) = open {
                return Err(PipelineError::Conflict(format!(
                    "replay {} is {}; switch to it or delete it first",
                    open.id, open.state
                )));
            }
            if rows.iter().filter(|row| row.tenant == tenant).count() >= REPLAYS_KEPT_MAX {
                return Err(PipelineError::Conflict(format!(
                    "{REPLAYS_KEPT_MAX} replays are kept (REPLAYS_KEPT_MAX); there is room for no more"
                )));
            }
            let body = ReplayBody::new(request, shared.now());
            let state = ReplayState::Scoring;
            let id = shared.store.replays().new_replay(&tenant, state.name(), &body.to_json())?;
            worker::start(&shared, &runtime, id);
            Ok(Replay { id, state, body, scored_to: 0, applied: shared.applied() })
        })
        .await
    }

    /// Replays of a tenant, the newest first.
    pub async fn replays(&self, tenant: &Tenant) -> Result<Vec<Replay>, PipelineError> {
        let (shared, tenant) = (self.inner.shared.clone(), tenant.clone());
        blocking(move || {
            let rows = shared.store.replays().replays()?;
            let own = rows.iter().rev().filter(|row| row.tenant == tenant);
            Ok(own.filter_map(|row| Some(replay(&shared, row, ReplayBody::read(&row.body)?))).collect())
        })
        .await
    }

    /// How a replay stands; `None` where the tenant has none of this id.
    pub async fn replay(&self, tenant: &Tenant, id: u64) -> Result<Option<Replay>, PipelineError> {
        let (shared, tenant) = (self.inner.shared.clone(), tenant.clone());
        blocking(move || Ok(row(&shared, &tenant, id)?.map(|(row, body)| replay(&shared, &row, body)))).await
    }

    /// What a replay makes of each record: of those whose labels change, or of all.
    pub async fn replay_differences(
        &self,
        tenant: &Tenant,
        id: u64,
        changed_only: bool,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Option<Page<RecordDifference>>, PipelineError> {
        let after: Option<RecordKey> = cursor.map(cursor::decode).transpose()?;
        let limit = self.page_items(limit);
        let (shared, tenant) = (self.inner.shared.clone(), tenant.clone());
        blocking(move || {
            if row(&shared, &tenant, id)?.is_none() {
                return Ok(None);
            }
            let rows = shared.store.replays().differences(id, changed_only, after.as_ref(), limit + 1)?;
            let more = rows.len() > limit;
            let mut items: Vec<RecordDifference> =
                rows.into_iter().filter_map(|row| serde_json::from_str(&row.body).ok()).collect();
            items.truncate(limit);
            let next = items.last().filter(|_| more).map(|last| cursor::encode(&last.record));
            Ok(Some(Page { items, next }))
        })
        .await
    }

    /// Serves what a replay has made: from the moment this returns on, every document that is read is the new one.
    pub async fn switch_replay(&self, tenant: &Tenant, id: u64) -> Result<Option<Replay>, PipelineError> {
        let (pipeline, tenant) = (self.clone(), tenant.clone());
        let runtime = tokio::runtime::Handle::current();
        blocking(move || switch::switch(&pipeline, &runtime, &tenant, id)).await
    }

    /// Gives a replay up, or forgets what a finished one has found. One that was switched to stays.
    pub async fn cancel_replay(&self, tenant: &Tenant, id: u64) -> Result<Option<Replay>, PipelineError> {
        let (shared, tenant) = (self.inner.shared.clone(), tenant.clone());
        blocking(move || {
            let Some((_, _)) = row(&shared, &tenant, id)? else { return Ok(None) };
            let work = shared.replaying.work(id);
            work.cancelled.store(true, Ordering::Release);
            let _turn = work.turn();
            let Some((row, mut body)) = row(&shared, &tenant, id)? else { return Ok(None) };
            if ReplayState::read(&row.state) == ReplayState::Switched {
                work.cancelled.store(false, Ordering::Release);
                return Err(PipelineError::Conflict(format!(
                    "replay {id} is what is served; replay again instead"
                )));
            }
            body.finished_at = Some(shared.now());
            let state = ReplayState::Cancelled;
            shared.store.replays().drop_replay(id, state.name(), &body.to_json())?;
            shared.replaying.forget(id);
            Ok(Some(Replay { id, state, body, scored_to: row.scored_to, applied: shared.applied() }))
        })
        .await
    }
}

/// Refuses settings that could not be put.
fn check_setting(shared: &Shared, name: &str, body: &serde_json::Value) -> Result<(), PipelineError> {
    if !super::SETTINGS.contains(&name) {
        return Err(PipelineError::UnknownSetting(name.into()));
    }
    settings::check(name, &body.to_string(), shared.options.settings_phrases_max).map(|_| ()).map_err(
        |error| match error {
            PipelineError::Setting { pointer, detail } => {
                PipelineError::Body { pointer: format!("/settings/{name}{pointer}"), detail }
            }
            other => other,
        },
    )
}

/// The settings documents of a replay in the form in which they are kept.
fn kept_settings(
    request: &ReplayRequest,
) -> Result<BTreeMap<String, (settings::Checked, String)>, PipelineError> {
    let kept = |(name, body): (&String, &serde_json::Value)| {
        Ok((name.clone(), settings::check(name, &body.to_string(), usize::MAX)?))
    };
    request.settings.iter().map(kept).collect()
}
