//! Switching to a replay: what has come since is scored, then the applier changes over between two batches.

use std::sync::Arc;

use tokio::{runtime::Handle, sync::oneshot};

use super::{
    Replay, ReplayState, kept_settings, row,
    worker::{Stop, catch_up, open},
};
use crate::pipeline::{Pipeline, PipelineError, Tenant, applier::Message, scoring::Scorer};

/// What the applier needs for it.
pub struct SwitchRequest {
    pub id: u64,
    pub tenant: Tenant,
    /// The other model, where there is one.
    pub scorer: Option<Arc<dyn Scorer>>,
    /// Its scores reach up to here.
    pub scored_to: u64,
    /// Settings documents in the form in which they are kept.
    pub settings: Vec<(String, String)>,
    /// The replay as it is then.
    pub state: &'static str,
    pub body: String,
}

/// What became of it.
pub enum Switched {
    Done,
    /// More has been applied than was scored; catch up and ask again.
    Behind,
}

/// How often a switch catches up with what comes in meanwhile.
const TRIES_MAX: usize = 100;

pub fn switch(
    pipeline: &Pipeline,
    runtime: &Handle,
    tenant: &Tenant,
    id: u64,
) -> Result<Option<Replay>, PipelineError> {
    let shared = &pipeline.inner.shared;
    let work = shared.replaying.work(id);
    let Some((found, _)) = row(shared, tenant, id)? else {
        shared.replaying.forget(id);
        return Ok(None);
    };
    if ReplayState::read(&found.state) != ReplayState::Ready {
        return Err(PipelineError::Conflict(format!("replay {id} is {}, not ready", found.state)));
    }
    let _turn = work.turn();
    let Some((found, mut body)) = row(shared, tenant, id)? else { return Ok(None) };
    if ReplayState::read(&found.state) != ReplayState::Ready {
        return Err(PipelineError::Conflict(format!("replay {id} is {}, not ready", found.state)));
    }
    let stopped = |stop: Stop| match stop {
        Stop::Asked => PipelineError::ShuttingDown,
        Stop::Failed(why) => PipelineError::Conflict(format!("replay {id} cannot be switched to: {why}")),
    };
    let scorer = open(shared, &work, &body).map_err(stopped)?;
    let settings: Vec<(String, String)> =
        kept_settings(&body.request)?.into_iter().map(|(name, (_, kept))| (name, kept)).collect();
    let mut scored_to = found.scored_to;
    for _ in 0..TRIES_MAX {
        let other = scorer.as_deref();
        catch_up(shared, runtime, &work, id, tenant, other, &mut scored_to, &mut body).map_err(stopped)?;
        body.finished_at = Some(shared.now());
        let state = ReplayState::Switched;
        let (done, answer) = oneshot::channel();
        let request = SwitchRequest {
            id,
            tenant: tenant.clone(),
            scorer: scorer.clone(),
            scored_to,
            settings: settings.clone(),
            state: state.name(),
            body: body.to_json(),
        };
        pipeline.send(Message::Switch { request: Box::new(request), done })?;
        match answer.blocking_recv().map_err(|_| PipelineError::ShuttingDown)?? {
            Switched::Behind => {}
            Switched::Done => {
                shared.replaying.forget(id);
                return Ok(Some(Replay { id, state, body, scored_to, applied: shared.applied() }));
            }
        }
    }
    Err(PipelineError::Conflict(format!(
        "replay {id} does not catch up with the events that come in; try again"
    )))
}
