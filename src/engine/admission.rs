//! The door: how many tokens wait at most, how long they may, and whether any are let in at all.
//!
//! A request asks once, before anything is spent on it, by an estimate of its tokens; the estimate is then put right.
//! What has gone into a batch no longer waits. The door knows who stands before whom (the scheduler's places), so that
//! a request which would come too late is told at once, instead of after its deadline.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use super::Lane;

pub struct Gate {
    tokens_max: usize,
    opened: Instant,
    state: Mutex<State>,
    /// Told when the last request leaves.
    idle: Notify,
}

#[derive(Default)]
struct State {
    interactive: Waiting,
    bulk: Waiting,
    /// Tokens of the forward pass under way.
    running: usize,
    requests: usize,
    closed: bool,
}

/// Tokens that wait in a lane.
#[derive(Default)]
struct Waiting {
    tokens: usize,
    /// By place, rounded, so that there are few entries however many requests wait.
    by_place: BTreeMap<u64, usize>,
}

/// Places closer than this count as one.
const PLACE_MS: u128 = 10;

/// The part of the queue that bulk work leaves to interactive work: one in so many tokens.
const INTERACTIVE_SHARE: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// So many tokens wait already.
    Full {
        tokens: usize,
    },
    /// So many tokens go first, which takes longer than the request may wait.
    Late {
        ahead: usize,
    },
    Closed,
}

/// A request's place in the queue, given back when it is dropped.
pub struct Admission {
    gate: Arc<Gate>,
    lane: Lane,
    place: u64,
    tokens: Mutex<usize>,
}

impl State {
    fn lane(&mut self, lane: Lane) -> &mut Waiting {
        match lane {
            Lane::Interactive => &mut self.interactive,
            Lane::Bulk => &mut self.bulk,
        }
    }

    fn tokens(&self) -> usize {
        self.interactive.tokens + self.bulk.tokens
    }

    /// Tokens that go before a request.
    fn ahead(&self, lane: Lane, place: u64) -> usize {
        self.running
            + match lane {
                Lane::Interactive => self.interactive.before(place),
                Lane::Bulk => self.interactive.tokens + self.bulk.before(place),
            }
    }
}

impl Waiting {
    fn before(&self, place: u64) -> usize {
        self.by_place.range(..=place).map(|(_, tokens)| tokens).sum()
    }

    fn add(&mut self, place: u64, tokens: usize) {
        if tokens > 0 {
            self.tokens += tokens;
            *self.by_place.entry(place).or_default() += tokens;
        }
    }

    fn take(&mut self, place: u64, tokens: usize) {
        self.tokens -= tokens;
        if let Some(here) = self.by_place.get_mut(&place) {
            *here -= tokens;
            if *here == 0 {
                self.by_place.remove(&place);
            }
        }
    }
}

impl Gate {
    pub fn new(tokens_max: usize) -> Arc<Self> {
        Arc::new(Self { tokens_max, opened: Instant::now(), state: Mutex::default(), idle: Notify::new() })
    }

    /// Lets a request in that stands at `place` in its lane. Bulk work fills the queue but for the share of interactive
    /// work; a request that is larger than all that gets in when its lane is empty. Where tokens go before it, their
    /// number must be `acceptable`.
    pub fn admit(
        self: &Arc<Self>,
        lane: Lane,
        tokens: usize,
        place: Instant,
        acceptable: impl FnOnce(usize) -> bool,
    ) -> Result<Admission, Refused> {
        let place = (place.saturating_duration_since(self.opened).as_millis() / PLACE_MS) as u64;
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        let share = self.tokens_max / INTERACTIVE_SHARE;
        let fits = match lane {
            Lane::Interactive => {
                state.interactive.tokens.saturating_add(tokens) <= share
                    || state.tokens().saturating_add(tokens) <= self.tokens_max
            }
            Lane::Bulk => state.bulk.tokens.saturating_add(tokens) <= self.tokens_max - share,
        };
        if !fits && state.lane(lane).tokens > 0 {
            return Err(Refused::Full { tokens: state.tokens() });
        }
        let ahead = state.ahead(lane, place);
        if ahead > 0 && !acceptable(ahead) {
            return Err(Refused::Late { ahead });
        }
        state.lane(lane).add(place, tokens);
        state.requests += 1;
        Ok(Admission { gate: self.clone(), lane, place, tokens: Mutex::new(tokens) })
    }

    /// Says that a forward pass of so many tokens is under way.
    pub fn began(&self, tokens: usize) {
        self.lock().running += tokens;
    }

    /// Says that it has ended.
    pub fn ended(&self, tokens: usize) {
        let mut state = self.lock();
        state.running = state.running.saturating_sub(tokens);
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
        waiting.take(self.place, *mine);
        waiting.add(self.place, tokens);
        *mine = tokens;
    }

    /// Gives back tokens that no longer wait.
    pub fn release(&self, tokens: usize) {
        let mut mine = self.mine();
        let tokens = tokens.min(*mine);
        *mine -= tokens;
        self.gate.lock().lane(self.lane).take(self.place, tokens);
    }

    fn mine(&self) -> MutexGuard<'_, usize> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let tokens = *self.mine();
        let mut state = self.gate.lock();
        state.lane(self.lane).take(self.place, tokens);
        state.requests -= 1;
        if state.requests == 0 {
            self.gate.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Lane::*, *};

    /// Asks for a place at which everything that waits goes first, whatever it takes.
    fn admit(gate: &Arc<Gate>, lane: Lane, tokens: usize) -> Result<Admission, Refused> {
        gate.admit(lane, tokens, Instant::now() + Duration::from_secs(60), |_| true)
    }

    #[test]
    fn lets_in_up_to_the_limit_and_takes_back_what_leaves() {
        let gate = Gate::new(100);
        let first = admit(&gate, Interactive, 60).ok().unwrap();
        assert_eq!(admit(&gate, Interactive, 50).err(), Some(Refused::Full { tokens: 60 }));
        first.settle(40);
        let second = admit(&gate, Interactive, 60).ok().unwrap();
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
        let _bulk = admit(&gate, Bulk, 75).ok().unwrap();
        assert!(admit(&gate, Bulk, 1).is_err());
        let chat = admit(&gate, Interactive, 25).ok().unwrap();
        assert_eq!(admit(&gate, Interactive, 1).err(), Some(Refused::Full { tokens: 100 }));
        drop(chat);
        assert!(admit(&gate, Interactive, 20).is_ok());
    }

    #[test]
    fn a_request_larger_than_the_queue_gets_in_when_its_lane_is_empty() {
        let gate = Gate::new(100);
        let large = admit(&gate, Bulk, 1000).ok().unwrap();
        assert!(admit(&gate, Bulk, 1).is_err());
        assert!(admit(&gate, Interactive, 20).is_ok());
        drop(large);
        assert!(admit(&gate, Bulk, 1).is_ok());
    }

    #[tokio::test]
    async fn closing_refuses_and_waits_for_those_inside() {
        let gate = Gate::new(100);
        let inside = admit(&gate, Interactive, 1).ok().unwrap();
        gate.close();
        assert_eq!(admit(&gate, Interactive, 1).err(), Some(Refused::Closed));
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.emptied().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(inside);
        waiting.await.unwrap();
    }

    #[test]
    fn who_would_come_too_late_is_told_at_once() {
        let gate = Gate::new(1000);
        let now = Instant::now();
        let at = |ms: u64| now + Duration::from_millis(ms);
        let most = |tokens: usize| move |ahead: usize| ahead <= tokens;
        // Nothing goes first: whatever the limit is, it may try.
        let patient = gate.admit(Interactive, 100, at(1000), most(0)).ok().unwrap();
        assert_eq!(gate.admit(Interactive, 10, at(2000), most(99)).err(), Some(Refused::Late { ahead: 100 }));
        // An earlier deadline goes before those who have time.
        let urgent = gate.admit(Interactive, 10, at(100), most(0)).ok().unwrap();
        assert_eq!(gate.admit(Interactive, 10, at(500), most(9)).err(), Some(Refused::Late { ahead: 10 }));
        assert!(gate.admit(Interactive, 10, at(2000), most(110)).is_ok());
        // Bulk work comes after everything interactive, and after the pass under way.
        gate.began(50);
        assert_eq!(gate.admit(Bulk, 10, at(0), most(159)).err(), Some(Refused::Late { ahead: 160 }));
        urgent.release(10);
        patient.settle(40);
        gate.ended(50);
        assert!(gate.admit(Bulk, 10, at(0), most(40)).is_ok());
        drop((urgent, patient));
        assert!(gate.lock().interactive.by_place.is_empty());
    }
}
