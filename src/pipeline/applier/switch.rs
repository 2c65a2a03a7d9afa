//! The moment of a switch: between two batches the tenant's scores and settings change over in one transaction.

use super::Applier;
use crate::{
    pipeline::replay::{SwitchRequest, Switched},
    store::StoreError,
};

impl Applier {
    pub(super) fn switch(&mut self, request: SwitchRequest) -> Result<Switched, StoreError> {
        let shared = self.shared.clone();
        if request.scorer.is_some() && shared.applied() > request.scored_to {
            return Ok(Switched::Behind);
        }
        let SwitchRequest { id, tenant, scorer, settings, state, body, .. } = request;
        let written = shared.store.replays().switch_replay(id, scorer.is_some(), settings, state, &body)?;
        // What is in flight may hold answers of the old model: it is read and scored again.
        self.flight.clear();
        self.asked.clear();
        self.folder.forget();
        if let Some(scorer) = scorer {
            shared.scorers.set(&tenant, scorer);
        }
        shared.settings.adopt(&tenant, written);
        shared.progress.send_modify(|progress| progress.swept = false);
        self.sweep = Some(None);
        Ok(Switched::Done)
    }
}
