//! The door: how many tokens wait at most, and whether any are let in at all.
//!
//! A request asks once, before anything is spent on it, by an estimate of its tokens; the estimate is then put right.
//! What has gone into a batch no longer waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub struct Gate {
    tokens_max: usize,
    state: Mutex<State>,
    /// Told when the last request leaves.
    idle: Notify,
}

#[derive(Default)]
struct State {
    tokens: usize,
    requests: usize,
    closed: bool,
}

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
    tokens: Mutex<usize>,
}

impl Gate {
    pub fn new(tokens_max: usize) -> Arc<Self> {
        Arc::new(Self { tokens_max, state: Mutex::default(), idle: Notify::new() })
    }

    /// Lets a request in. One that is larger than the whole queue gets in when nothing else waits.
    pub fn admit(self: &Arc<Self>, tokens: usize) -> Result<Admission, Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.tokens > 0 && state.tokens.saturating_add(tokens) > self.tokens_max {
            return Err(Refused::Full { tokens: state.tokens });
        }
        state.tokens += tokens;
        state.requests += 1;
        Ok(Admission { gate: self.clone(), tokens: Mutex::new(tokens) })
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

    pub fn tokens(&self) -> usize {
        self.lock().tokens
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
        state.tokens = state.tokens - *mine + tokens;
        *mine = tokens;
    }

    /// Gives back tokens that no longer wait.
    pub fn release(&self, tokens: usize) {
        let mut mine = self.mine();
        let tokens = tokens.min(*mine);
        *mine -= tokens;
        self.gate.lock().tokens -= tokens;
    }

    fn mine(&self) -> MutexGuard<'_, usize> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let tokens = *self.mine();
        let mut state = self.gate.lock();
        state.tokens -= tokens;
        state.requests -= 1;
        if state.requests == 0 {
            self.gate.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_in_up_to_the_limit_and_takes_back_what_leaves() {
        let gate = Gate::new(100);
        let first = gate.admit(60).ok().unwrap();
        assert_eq!(gate.admit(50).err(), Some(Refused::Full { tokens: 60 }));
        first.settle(40);
        let second = gate.admit(60).ok().unwrap();
        first.release(30);
        assert_eq!(gate.tokens(), 70);
        first.release(30);
        drop(first);
        assert_eq!(gate.tokens(), 60);
        drop(second);
        assert_eq!(gate.tokens(), 0);
    }

    #[test]
    fn a_request_larger_than_the_queue_gets_in_when_it_is_alone() {
        let gate = Gate::new(100);
        let large = gate.admit(1000).ok().unwrap();
        assert!(gate.admit(1).is_err());
        drop(large);
        assert!(gate.admit(1).is_ok());
    }

    #[tokio::test]
    async fn closing_refuses_and_waits_for_those_inside() {
        let gate = Gate::new(100);
        let inside = gate.admit(1).ok().unwrap();
        gate.close();
        assert_eq!(gate.admit(1).err(), Some(Refused::Closed));
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
