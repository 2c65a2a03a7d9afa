//! Events into the log: admission, the order of erasures among other events, and waiting for documents.

use std::sync::{Arc, PoisonError, atomic::Ordering, mpsc::Sender};

use tokio::sync::oneshot;

use super::{
    IncomingEvent, Ingested, Pipeline, PipelineError, Receipt, Tenant, applier::Message,
    erasure::EraseRequest, facts::new_event, shared::Shared, telemetry,
};
use crate::{
    insight::event::EventData,
    store::{Appended, NewEvent},
};

/// What a refused caller is told to wait.
const RETRY_AFTER_S: u64 = 5;

/// A part of a batch that is done in one go.
enum Part {
    Append(Vec<NewEvent>),
    Erase(EraseRequest),
}

/// Runs of events between erasures, which take effect exactly where they stand.
fn parts(shared: &Shared, tenant: &Tenant, events: Vec<IncomingEvent>) -> Vec<Part> {
    let received_at = shared.now();
    let mut parts = Vec::new();
    for incoming in events {
        if let EventData::RecordErased(erased) = &incoming.event.data {
            parts.push(Part::Erase(EraseRequest {
                tenant: tenant.clone(),
                record: erased.record.clone(),
                because: Some(incoming.event.id),
            }));
            continue;
        }
        let event = new_event(tenant, incoming, received_at);
        match parts.last_mut() {
            Some(Part::Append(run)) => run.push(event),
            _ => parts.push(Part::Append(vec![event])),
        }
    }
    parts
}

impl Pipeline {
    /// Writes events to the log (durable when this returns) and wakes the applier. With `wait_applied` it returns only
    /// when every accepted event is in its documents. A batch is written whole or not at all, except that erasures in
    /// it cut it into runs; after an error, send it again: what was written is then a duplicate.
    pub async fn ingest(
        &self,
        tenant: &Tenant,
        events: Vec<IncomingEvent>,
        wait_applied: bool,
    ) -> Result<Ingested, PipelineError> {
        let shared = &self.inner.shared;
        self.admit(events.len())?;
        let mut done =
            Ingested { accepted: 0, duplicates: 0, position: shared.logged.load(Ordering::Acquire) };
        let mut ticket = 0;
        for part in parts(shared, tenant, events) {
            match part {
                Part::Append(run) => {
                    let batch = self.append(run).await?;
                    let accepted = batch.events.iter().filter(|e| matches!(e, Appended::At(_))).count();
                    done.accepted += accepted;
                    done.duplicates += batch.events.len() - accepted;
                    done.position = batch.logged;
                    ticket = batch.ticket;
                }
                Part::Erase(request) => match self.send_erase(request).await? {
                    Some(_) => done.accepted += 1,
                    None => done.duplicates += 1,
                },
            }
        }
        metrics::counter!(telemetry::EVENTS, "outcome" => "accepted").increment(done.accepted as u64);
        metrics::counter!(telemetry::EVENTS, "outcome" => "duplicate").increment(done.duplicates as u64);
        if wait_applied {
            self.wait_applied(done.position, ticket).await?;
        }
        Ok(done)
    }

    /// Deletes everything that is held on a record and on those that are the same customer. When this returns,
    /// documents that had a part of it are made anew and no file holds it any more.
    pub async fn erase(
        &self,
        tenant: &Tenant,
        key: &crate::insight::event::RecordKey,
    ) -> Result<Receipt, PipelineError> {
        self.admit(0)?;
        let request = EraseRequest { tenant: tenant.clone(), record: key.clone(), because: None };
        // Without an event behind it an erasure is never a repeat.
        self.send_erase(request).await?.ok_or(PipelineError::ShuttingDown)
    }

    fn admit(&self, events: usize) -> Result<(), PipelineError> {
        let shared = &self.inner.shared;
        if !shared.admitting.load(Ordering::Acquire) {
            return Err(PipelineError::ShuttingDown);
        }
        let backlog_events_max = shared.options.backlog_events_max;
        if events > 0 && shared.backlog() + events > backlog_events_max {
            let retry_after = std::time::Duration::from_secs(RETRY_AFTER_S);
            return Err(PipelineError::Overloaded { backlog_events_max, retry_after });
        }
        Ok(())
    }

    async fn append(&self, run: Vec<NewEvent>) -> Result<crate::store::Batch, PipelineError> {
        let shared = self.inner.shared.clone();
        let applier = self.inner.applier.clone();
        blocking(move || append(&shared, &applier, run)).await
    }

    async fn send_erase(&self, request: EraseRequest) -> Result<Option<Receipt>, PipelineError> {
        let (done, receipt) = oneshot::channel();
        self.send(Message::Erase { request, done })?;
        receipt.await.map_err(|_| PipelineError::ShuttingDown)?
    }

    /// Waits until everything up to a position is in documents, and no record is dirty since a ticket up to `ticket`.
    pub(super) async fn wait_applied(&self, position: u64, ticket: u64) -> Result<(), PipelineError> {
        let mut progress = self.inner.shared.progress.subscribe();
        let seen = progress
            .wait_for(|p| {
                let clean = p.dirty_since.is_none_or(|since| since > ticket);
                p.stopped || (p.applied >= position && clean)
            })
            .await
            .map_err(|_| PipelineError::ShuttingDown)?;
        if seen.applied >= position { Ok(()) } else { Err(PipelineError::ShuttingDown) }
    }
}

/// Appends and wakes the applier, also where the caller has gone meanwhile.
pub(super) fn append(
    shared: &Arc<Shared>,
    applier: &Sender<Message>,
    run: Vec<NewEvent>,
) -> Result<crate::store::Batch, PipelineError> {
    let batch = {
        let _open = shared.gate.read().unwrap_or_else(PoisonError::into_inner);
        shared.store.append(run)?
    };
    shared.logged.fetch_max(batch.logged, Ordering::AcqRel);
    metrics::gauge!(telemetry::BACKLOG).set(shared.backlog() as f64);
    // Fails where the applier has stopped; the events wait on disk for the next start.
    let _ = applier.send(Message::Wake);
    Ok(batch)
}

/// Runs what blocks off the async threads.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PipelineError> + Send + 'static,
) -> Result<T, PipelineError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => Err(PipelineError::Store(format!("the work was given up: {error}"))),
    }
}
