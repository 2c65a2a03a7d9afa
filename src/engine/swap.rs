//! The course of one swap, as it is told to whoever asked for it: a plain record, no threads.

use std::collections::VecDeque;

use super::{
    ModelRef,
    source::{ModelRequest, ModelSource},
};

/// Where a swap is. Until `Serving` the old model answers, and after `Failed` it goes on answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SwapState {
    /// Waiting for its turn, fetching and reading files.
    Loading,
    /// Labels, tokenizer and weights are compared with what the slot needs.
    Validating,
    /// The known texts go through the new model.
    Warming,
    /// The new model answers.
    Serving,
    /// See the reason.
    Failed,
}

/// The stages that building a model goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Validating,
    Warming,
}

impl From<Stage> for SwapState {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Validating => SwapState::Validating,
            Stage::Warming => SwapState::Warming,
        }
    }
}

/// A model on its way into a slot.
#[derive(Clone, Debug)]
pub struct Swap {
    pub id: u64,
    pub slot: String,
    pub request: ModelRequest,
    pub state: SwapState,
    /// Why it failed.
    pub reason: Option<String>,
    /// What serves, once it does.
    pub model: Option<ModelRef>,
}

impl Swap {
    pub fn is_over(&self) -> bool {
        matches!(self.state, SwapState::Serving | SwapState::Failed)
    }
}

/// Swaps that are remembered after they are over.
const KEPT_MAX: usize = 256;
/// Swaps that wait for their turn.
pub const WAITING_MAX: usize = 16;

/// The swaps of a server, the latest last.
#[derive(Default)]
pub struct Swaps {
    last_id: u64,
    kept: VecDeque<Swap>,
}

impl Swaps {
    /// Notes a request; `None` where too many wait already.
    pub fn push(&mut self, slot: &str, request: ModelRequest) -> Option<u64> {
        if self.kept.iter().filter(|s| !s.is_over()).count() >= WAITING_MAX {
            return None;
        }
        self.last_id += 1;
        self.kept.push_back(Swap {
            id: self.last_id,
            slot: slot.into(),
            request,
            state: SwapState::Loading,
            reason: None,
            model: None,
        });
        // Those that wait are few, so one that is over is found at once.
        if self.kept.len() > KEPT_MAX
            && let Some(oldest) = self.kept.iter().position(Swap::is_over)
        {
            self.kept.remove(oldest);
        }
        Some(self.last_id)
    }

    pub fn get(&self, id: u64) -> Option<&Swap> {
        self.kept.iter().find(|s| s.id == id)
    }

    pub fn update(&mut self, id: u64, change: impl FnOnce(&mut Swap)) {
        if let Some(swap) = self.kept.iter_mut().find(|s| s.id == id) {
            change(swap);
        }
    }

    /// The last swap of a slot.
    pub fn latest(&self, slot: &str) -> Option<&Swap> {
        self.kept.iter().rev().find(|s| s.slot == slot)
    }

    /// Where the last model of this name came from, for a load that names nothing else.
    pub fn last_source(&self, slot: &str) -> Option<ModelSource> {
        self.kept
            .iter()
            .rev()
            .find(|s| s.slot == slot && s.state == SwapState::Serving)
            .map(|s| s.request.source.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_and_what_is_kept_are_limited() {
        let mut swaps = Swaps::default();
        for id in 1..=WAITING_MAX as u64 {
            assert_eq!(swaps.push("a", ModelRequest::path("x")), Some(id));
        }
        assert_eq!(swaps.push("a", ModelRequest::path("x")), None);
        for _ in 0..2 * KEPT_MAX {
            let waiting = swaps.kept.iter().find(|s| !s.is_over()).unwrap().id;
            swaps.update(waiting, |s| s.state = SwapState::Serving);
            assert!(swaps.push("b", ModelRequest::path("x")).is_some());
        }
        assert_eq!(swaps.kept.len(), KEPT_MAX);
        assert_eq!(swaps.latest("b").unwrap().id, swaps.last_id);
        assert!(swaps.get(1).is_none());
    }
}
