//! The door: how many tokens wait at most, and whether any are let in at all.
//!
//! A request asks once, before anything is spent on it, by an estimate of its tokens; the estimate is then put right.
//! What has gone into a batch no longer waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Lane;

pub struct Gate {
    tokens_max: usize,
    state: Mutex<State>,
    /// Told when the last request leaves.
    idle: Notify,
}

#[derive(Default)]
struct State {
    interactive: usize,
    bulk: usize,
    requests: usize,
    closed: bool,
}

/// The part of the queue that bulk work leaves to interactive work: one in so many tokens.
const INTERACTIVE_SHARE: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// So many tokens wait already.
    Full {
        tokens: usize,
    },
    Closed,
}

/// A request's place in the queue, given back when it is dropped.
pub struct Admission {
    gate: Arc<Gate>,
    lane: Lane,
    tokens: Mutex<usize>,
}

impl State {
    fn lane(&mut self, lane: Lane) -> &mut usize {
        match lane {
            Lane::Interactive => &mut self.interactive,
            Lane::Bulk => &mut self.bulk,
        }
    }

    fn tokens(&self) -> usize {
        self.interactive + self.bulk
    }
}

impl Gate {
    pub fn new(tokens_max: usize) -> Arc<Self> {
        Arc::new(Self { tokens_max, state: Mutex::default(), idle: Notify::new() })
    }

    /// Lets a request in. Bulk work fills the queue but for the share of interactive work; a request that is larger
    /// than all that gets in when its lane is empty.
    pub fn admit(self: &Arc<Self>, lane: Lane, tokens: usize) -> Result<Admission, Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        let share = self.tokens_max / INTERACTIVE_SHARE;
        let fits = match lane {
            Lane::Interactive => {
                state.interactive.saturating_add(tokens) <= share
                    || state.tokens().saturating_add(tokens) <= self.tokens_max
            }
            Lane::Bulk => state.bulk.saturating_add(tokens) <= self.tokens_max - share,
        };
        if !fits && *state.lane(lane) > 0 {
            return Err(Refused::Full { tokens: state.tokens() });
        }
        *state.lane(lane) += tokens;
        state.requests += 1;
        Ok(Admission { gate: self.clone(), lane, tokens: Mutex::new(tokens) })
    }

    pub fn close(&self) {
        self.lock().closed = true;
    }

    /// Returns when no request is inside.
    pub async fn emptied(&self) {
        loop {
            let told = self.idle.notified();
            if self.lock().requests == 0 {
                return;
            }
            told.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// Replaces the estimate by the true number of tokens.
    pub fn settle(&self, tokens: usize) {
        let mut mine = self.mine();
        let mut state = self.gate.lock();
        let waiting = state.lane(self.lane);
        *waiting = *waiting - *mine + tokens;
        *mine = tokens;
    }

    /// Gives back tokens that no longer wait.
    pub fn release(&self, tokens: usize) {
        let mut mine = self.mine();
        let tokens = tokens.min(*mine);
        *mine -= tokens;
        *self.gate.lock().lane(self.lane) -= tokens;
    }

    fn mine(&self) -> MutexGuard<'_, usize> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let tokens = *self.mine();
        let mut state = self.gate.lock();
        *state.lane(self.lane) -= tokens;
        state.requests -= 1;
        if state.requests == 0 {
            self.gate.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Lane::*, *};

    #[test]
    fn lets_in_up_to_the_limit_and_takes_back_what_leaves() {
        let gate = Gate::new(100);
        let first = gate.admit(Interactive, 60).ok().unwrap();
        assert_eq!(gate.admit(Interactive, 50).err(), Some(Refused::Full { tokens: 60 }));
        first.settle(40);
        let second = gate.admit(Interactive, 60).ok().unwrap();
        first.release(30);
        assert_eq!(gate.lock().tokens(), 70);
        first.release(30);
        drop(first);
        assert_eq!(gate.lock().tokens(), 60);
        drop(second);
        assert_eq!(gate.lock().tokens(), 0);
    }

    #[test]
    fn bulk_work_leaves_room_for_interactive_work() {
        let gate = Gate::new(100);
        let _bulk = gate.admit(Bulk, 75).ok().unwrap();
        assert!(gate.admit(Bulk, 1).is_err());
        let chat = gate.admit(Interactive, 25).ok().unwrap();
        assert_eq!(gate.admit(Interactive, 1).err(), Some(Refused::Full { tokens: 100 }));
        drop(chat);
        assert!(gate.admit(Interactive, 20).is_ok());
    }

    #[test]
    fn a_request_larger_than_the_queue_gets_in_when_its_lane_is_empty() {
        let gate = Gate::new(100);
        let large = gate.admit(Bulk, 1000).ok().unwrap();
        assert!(gate.admit(Bulk, 1).is_err());
        assert!(gate.admit(Interactive, 20).is_ok());
        drop(large);
        assert!(gate.admit(Bulk, 1).is_ok());
    }

    #[tokio::test]
    async fn closing_refuses_and_waits_for_those_inside() {
        let gate = Gate::new(100);
        let inside = gate.admit(Interactive, 1).ok().unwrap();
        gate.close();
        assert_eq!(gate.admit(Interactive, 1).err(), Some(Refused::Closed));
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.emptied().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(inside);
        waiting.await.unwrap();
    }
}
