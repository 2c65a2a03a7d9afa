//! Which work goes into the next forward pass. A plain data structure: no threads, no clock.
//!
//! Interactive work goes first. Bulk work gets a slice whenever nothing interactive waits, and otherwise after a few
//! batches without it. Inside a lane the earliest deadline goes first; work without one is placed as if it had a
//! generous one, larger requests later, so that nothing waits for ever.
//!
//! There is no look-ahead for sequences of similar length: a batch is packed, so it costs its tokens whatever their
//! lengths are, and sorting could only delay somebody.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::Lane;

/// Batches that may go by without bulk work while some waits.
const BATCHES_WITHOUT_BULK_MAX: u32 = 4;

/// Place in the lane of a request without a deadline: so long after its arrival ...
const PATIENCE: Duration = Duration::from_secs(1);
/// ... and so much longer for each token, up to a limit.
const PATIENCE_PER_TOKEN: Duration = Duration::from_micros(100);
const PATIENCE_MAX: Duration = Duration::from_secs(30);

/// Work in whole requests, taken in parts. `W` is one sequence.
pub struct Queue<W> {
    interactive: Waiting<W>,
    bulk: Waiting<W>,
    arrivals: u64,
    batches_without_bulk: u32,
}

struct Waiting<W> {
    requests: BTreeMap<(Instant, u64), Request<W>>,
    tokens: usize,
}

struct Request<W> {
    deadline: Option<Instant>,
    sequences: VecDeque<Sequence<W>>,
}

struct Sequence<W> {
    tokens: usize,
    work: W,
}

/// How much goes into one batch. A sequence that is longer goes alone.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Most tokens of a batch.
    pub batch_tokens_max: usize,
    /// Most tokens of bulk work in a batch: what arrives meanwhile waits no longer than these take.
    pub bulk_tokens_max: usize,
}

/// Where a request of so many tokens stands in its lane: earlier places go first.
pub fn place(now: Instant, deadline: Option<Instant>, tokens: usize) -> Instant {
    let patience = PATIENCE_PER_TOKEN.saturating_mul(u32::try_from(tokens).unwrap_or(u32::MAX));
    deadline.unwrap_or(now + (PATIENCE + patience).min(PATIENCE_MAX))
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W> Queue<W> {
    pub fn new() -> Self {
        Self { interactive: Waiting::new(), bulk: Waiting::new(), arrivals: 0, batches_without_bulk: 0 }
    }

    /// Adds the sequences of a request, each with its tokens.
    pub fn push(
        &mut self,
        lane: Lane,
        now: Instant,
        deadline: Option<Instant>,
        sequences: impl IntoIterator<Item = (usize, W)>,
    ) {
        let sequences: VecDeque<Sequence<W>> =
            sequences.into_iter().map(|(tokens, work)| Sequence { tokens, work }).collect();
        let tokens: usize = sequences.iter().map(|s| s.tokens).sum();
        let place = place(now, deadline, tokens);
        self.arrivals += 1;
        let waiting = self.lane_mut(lane);
        waiting.tokens += tokens;
        let key = (place, self.arrivals);
        self.lane_mut(lane).requests.insert(key, Request { deadline, sequences });
    }

    /// Tokens that wait in a lane.
    pub fn tokens(&self, lane: Lane) -> usize {
        match lane {
            Lane::Interactive => self.interactive.tokens,
            Lane::Bulk => self.bulk.tokens,
        }
    }

    /// Takes the next batch out; empty only when nothing waits.
    pub fn take(&mut self, limits: BatchLimits) -> Vec<W> {
        let mut batch = Batch { work: Vec::new(), tokens: 0 };
        let bulk_waits = !self.bulk.requests.is_empty();
        let bulk_turn = bulk_waits
            && (self.interactive.requests.is_empty()
                || self.batches_without_bulk >= BATCHES_WITHOUT_BULK_MAX);
        if bulk_turn {
            self.bulk.take_into(&mut batch, limits.bulk_tokens_max.min(limits.batch_tokens_max));
            self.batches_without_bulk = 0;
        } else if bulk_waits {
            self.batches_without_bulk += 1;
        }
        self.interactive.take_into(&mut batch, limits.batch_tokens_max);
        batch.work
    }

    /// Takes out the work of every request whose deadline has passed.
    pub fn take_expired(&mut self, now: Instant) -> Vec<W> {
        let mut expired = self.interactive.take_expired(now);
        expired.extend(self.bulk.take_expired(now));
        expired
    }

    /// Takes out everything.
    pub fn drain(&mut self) -> Vec<W> {
        let mut all = Vec::new();
        for waiting in [&mut self.interactive, &mut self.bulk] {
            waiting.tokens = 0;
            let requests = std::mem::take(&mut waiting.requests);
            all.extend(requests.into_values().flat_map(|r| r.sequences).map(|s| s.work));
        }
        all
    }

    fn lane_mut(&mut self, lane: Lane) -> &mut Waiting<W> {
        match lane {
            Lane::Interactive => &mut self.interactive,
            Lane::Bulk => &mut self.bulk,
        }
    }
}

struct Batch<W> {
    work: Vec<W>,
    tokens: usize,
}

impl<W> Waiting<W> {
    fn new() -> Self {
        Self { requests: BTreeMap::new(), tokens: 0 }
    }

    /// Fills a batch up to `tokens_max`, in order; an empty batch takes one sequence of any length.
    fn take_into(&mut self, batch: &mut Batch<W>, tokens_max: usize) {
        while let Some(mut entry) = self.requests.first_entry() {
            let sequences = &mut entry.get_mut().sequences;
            while let Some(next) = sequences.front() {
                if !batch.work.is_empty() && batch.tokens + next.tokens > tokens_max {
                    return;
                }
                batch.tokens += next.tokens;
                self.tokens -= next.tokens;
                batch.work.extend(sequences.pop_front().map(|s| s.work));
            }
            entry.remove();
        }
    }

    fn take_expired(&mut self, now: Instant) -> Vec<W> {
        let mut expired = Vec::new();
        // Places are deadlines where there are any, so what has expired stands in front of all later places.
        let keys: Vec<_> = self
            .requests
            .range(..(now, u64::MAX))
            .filter(|(_, r)| r.deadline.is_some())
            .map(|(k, _)| *k)
            .collect();
        for key in keys {
            if let Some(request) = self.requests.remove(&key) {
                self.tokens -= request.sequences.iter().map(|s| s.tokens).sum::<usize>();
                expired.extend(request.sequences.into_iter().map(|s| s.work));
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BatchLimits = BatchLimits { batch_tokens_max: 100, bulk_tokens_max: 40 };

    fn push(
        queue: &mut Queue<&'static str>,
        lane: Lane,
        now: Instant,
        deadline_ms: Option<u64>,
        work: &[(usize, &'static str)],
    ) {
        let deadline = deadline_ms.map(|ms| now + Duration::from_millis(ms));
        queue.push(lane, now, deadline, work.iter().copied());
    }

    #[test]
    fn interactive_first_and_earliest_deadline_first() {
        let (mut q, now) = (Queue::new(), Instant::now());
        push(&mut q, Lane::Bulk, now, None, &[(10, "bulk")]);
        push(&mut q, Lane::Interactive, now, None, &[(60, "patient")]);
        push(&mut q, Lane::Interactive, now, Some(500), &[(60, "later")]);
        push(&mut q, Lane::Interactive, now, Some(100), &[(30, "urgent")]);
        assert_eq!(q.take(LIMITS), ["urgent", "later"]);
        assert_eq!(q.take(LIMITS), ["patient"]);
        assert_eq!(q.take(LIMITS), ["bulk"]);
        assert!(q.take(LIMITS).is_empty());
        assert_eq!(q.tokens(Lane::Interactive) + q.tokens(Lane::Bulk), 0);
    }

    #[test]
    fn a_request_spreads_over_batches_and_a_long_sequence_goes_alone() {
        let (mut q, now) = (Queue::new(), Instant::now());
        push(&mut q, Lane::Interactive, now, None, &[(60, "a"), (60, "b"), (300, "c"), (5, "d")]);
        assert_eq!(q.tokens(Lane::Interactive), 425);
        let batches: Vec<_> = std::iter::from_fn(|| Some(q.take(LIMITS)).filter(|b| !b.is_empty())).collect();
        assert_eq!(batches, [vec!["a"], vec!["b"], vec!["c"], vec!["d"]]);
    }

    #[test]
    fn bulk_is_never_starved() {
        let (mut q, now) = (Queue::new(), Instant::now());
        push(&mut q, Lane::Bulk, now, None, &[(30, "bulk"), (30, "bulk"), (30, "bulk")]);
        let mut between = Vec::new();
        let mut since = 0;
        for _ in 0..20 {
            push(&mut q, Lane::Interactive, now, None, &[(100, "chat"), (100, "chat")]);
            let batch = q.take(LIMITS);
            since += 1;
            if batch.contains(&"bulk") {
                between.push(since);
                since = 0;
            }
        }
        assert_eq!(between, [5, 5, 5]);
    }

    #[test]
    fn a_large_request_does_not_hold_up_small_ones() {
        let (mut q, now) = (Queue::new(), Instant::now());
        push(&mut q, Lane::Interactive, now, None, &[(90, "large"); 200]);
        push(&mut q, Lane::Interactive, now + Duration::from_millis(5), None, &[(10, "small")]);
        assert_eq!(q.take(LIMITS), ["small", "large"]);
    }

    #[test]
    fn expired_work_is_taken_out_whole() {
        let (mut q, now) = (Queue::new(), Instant::now());
        push(&mut q, Lane::Bulk, now, Some(10), &[(10, "x"), (10, "y")]);
        push(&mut q, Lane::Interactive, now, Some(30), &[(10, "z")]);
        push(&mut q, Lane::Interactive, now, None, &[(10, "stays")]);
        assert!(q.take_expired(now).is_empty());
        assert_eq!(q.take_expired(now + Duration::from_millis(20)), ["x", "y"]);
        assert_eq!(q.take_expired(now + Duration::from_secs(60)), ["z"]);
        assert_eq!(q.take(LIMITS), ["stays"]);
    }
}
