//! Counts and histograms of a run. Latencies are kept in HDR histograms: three significant digits, microseconds to
//! hours, so that the far tail is as exact as the middle.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::target::Answer;

/// One request and what came of it.
pub struct Exchange {
    /// When it was to be sent.
    pub due: Instant,
    /// When it was sent; `None` where its time ran out before a connection was free.
    pub sent: Option<Instant>,
    /// When its answer was complete, or given up.
    pub done: Instant,
    pub answer: Answer,
}

/// Where the time of a request goes, in the order in which it passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// In the generator: from when it was due until it was sent.
    Client,
    /// HTTP and JSON, both ways, and the network.
    Http,
    Tokenize,
    Queue,
    Forward,
    /// From the last forward pass to the finished scores.
    Answer,
}

impl Stage {
    pub const ALL: [Stage; 6] =
        [Stage::Client, Stage::Http, Stage::Tokenize, Stage::Queue, Stage::Forward, Stage::Answer];
}

/// Durations, in microseconds.
pub struct Durations(Histogram<u64>);

const HIGHEST_US: u64 = 24 * 3600 * 1_000_000;
const DIGITS: u8 = 3;

impl Durations {
    fn new() -> Durations {
        // Cannot fail: the bounds and the digits are constants within what the format allows.
        Durations(Histogram::new_with_bounds(1, HIGHEST_US, DIGITS).expect("valid bounds"))
    }

    fn record(&mut self, duration: Duration) {
        self.0.saturating_record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    fn record_ms(&mut self, ms: f64) {
        self.record(Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default());
    }

    pub fn len(&self) -> u64 {
        self.0.len()
    }

    pub fn mean_ms(&self) -> f64 {
        self.0.mean() / 1e3
    }

    pub fn quantile_ms(&self, q: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.value_at_quantile(q) as f64 / 1e3 }
    }

    pub fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }
}

/// What a run came to. Rates count answers that came within the window; everything else counts requests that were due
/// in it.
pub struct Tally {
    window: (Instant, Instant),
    deadline: Option<Duration>,
    pub due: u64,
    /// From due to done, of answers with scores.
    pub latency: Durations,
    /// From sent to done, of the same: what a generator that waits for its turn would have reported.
    pub service: Durations,
    /// From due to sent, of everything sent.
    pub late: Durations,
    stages: [Durations; 6],
    pub scored: u64,
    pub in_time: u64,
    pub failed_texts: u64,
    /// By status: how many, and how many of them with `Retry-After`.
    pub refused: BTreeMap<u16, (u64, u64)>,
    pub timed_out: u64,
    pub broken: u64,
    /// The first answer that was broken, in words.
    pub broken_example: Option<String>,
    pub answered_in_window: Volume,
}

/// Requests, texts and tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Volume {
    pub requests: u64,
    pub texts: u64,
    pub tokens: u64,
}

impl Tally {
    /// Counts what is due in the window; `deadline` is what requests carried.
    pub fn new(window: (Instant, Instant), deadline: Option<Duration>) -> Tally {
        Tally {
            window,
            deadline,
            due: 0,
            latency: Durations::new(),
            service: Durations::new(),
            late: Durations::new(),
            stages: std::array::from_fn(|_| Durations::new()),
            scored: 0,
            in_time: 0,
            failed_texts: 0,
            refused: BTreeMap::new(),
            timed_out: 0,
            broken: 0,
            broken_example: None,
            answered_in_window: Volume::default(),
        }
    }

    pub fn stage(&self, stage: Stage) -> &Durations {
        &self.stages[stage as usize]
    }

    pub fn add(&mut self, exchange: Exchange) {
        let within = |moment: Instant| self.window.0 <= moment && moment < self.window.1;
        if let Answer::Scored { texts, tokens, .. } = exchange.answer
            && within(exchange.done)
        {
            self.answered_in_window.requests += 1;
            self.answered_in_window.texts += texts;
            self.answered_in_window.tokens += tokens;
        }
        if !within(exchange.due) {
            return;
        }
        self.due += 1;
        let late = exchange.sent.map(|sent| sent.saturating_duration_since(exchange.due));
        if let Some(late) = late {
            self.late.record(late);
        }
        match exchange.answer {
            Answer::Scored { failed_texts, timing, .. } => {
                let latency = exchange.done.saturating_duration_since(exchange.due);
                let service = latency.saturating_sub(late.unwrap_or_default());
                self.scored += 1;
                self.failed_texts += failed_texts;
                self.in_time += u64::from(self.deadline.is_none_or(|d| latency <= d));
                self.latency.record(latency);
                self.service.record(service);
                let ms = |d: Duration| d.as_secs_f64() * 1e3;
                let inside = timing.tokenize + timing.queue + timing.forward;
                for (stage, spent) in [
                    (Stage::Client, ms(late.unwrap_or_default())),
                    (Stage::Http, ms(service) - timing.total),
                    (Stage::Tokenize, timing.tokenize),
                    (Stage::Queue, timing.queue),
                    (Stage::Forward, timing.forward),
                    (Stage::Answer, timing.total - inside),
                ] {
                    self.stages[stage as usize].record_ms(spent.max(0.0));
                }
            }
            Answer::Refused { status, retry_after } => {
                let (count, with) = self.refused.entry(status).or_default();
                *count += 1;
                *with += u64::from(retry_after);
            }
            Answer::TimedOut => self.timed_out += 1,
            Answer::Broken(reason) => {
                self.broken += 1;
                self.broken_example.get_or_insert(reason);
            }
        }
    }

    /// Requests due in the window that got no scores.
    pub fn without_scores(&self) -> u64 {
        self.due - self.scored
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::load::bodies::TimingBody;

    fn scored(total: f64) -> Answer {
        let timing = TimingBody { tokenize: 1.0, queue: 2.0, forward: 4.0, total };
        Answer::Scored { texts: 2, tokens: 30, failed_texts: 1, timing }
    }

    #[test]
    fn latency_counts_from_when_a_request_was_due() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut tally = Tally::new((at(100), at(1100)), Some(Duration::from_millis(50)));
        // Warm-up: answered in the window, but due before it.
        tally.add(Exchange { due: at(90), sent: Some(at(90)), done: at(105), answer: scored(8.0) });
        tally.add(Exchange { due: at(200), sent: Some(at(230)), done: at(240), answer: scored(8.0) });
        tally.add(Exchange { due: at(300), sent: Some(at(300)), done: at(360), answer: scored(8.0) });
        let refused = |retry_after| Answer::Refused { status: 429, retry_after };
        tally.add(Exchange { due: at(400), sent: Some(at(400)), done: at(401), answer: refused(true) });
        tally.add(Exchange { due: at(401), sent: Some(at(401)), done: at(402), answer: refused(false) });
        tally.add(Exchange { due: at(402), sent: None, done: at(900), answer: Answer::TimedOut });
        // Due in the window, answered after it: its latency counts, the rate does not.
        tally.add(Exchange { due: at(1000), sent: Some(at(1000)), done: at(1200), answer: scored(8.0) });

        assert_eq!((tally.due, tally.scored, tally.without_scores()), (6, 3, 3));
        assert_eq!(tally.in_time, 1);
        assert_eq!(tally.failed_texts, 3);
        assert_eq!(tally.refused, BTreeMap::from([(429, (2, 1))]));
        assert_eq!(tally.timed_out, 1);
        assert_eq!(tally.latency.quantile_ms(0.0).round(), 40.0);
        assert_eq!(tally.service.quantile_ms(0.0).round(), 10.0);
        assert_eq!(tally.latency.max_ms().round(), 200.0);
        assert_eq!(tally.late.max_ms().round(), 30.0);
        assert_eq!((tally.answered_in_window.requests, tally.answered_in_window.tokens), (3, 90));
        assert_eq!(tally.stage(Stage::Client).max_ms().round(), 30.0);
        assert_eq!(tally.stage(Stage::Http).quantile_ms(0.0).round(), 2.0);
        assert_eq!(tally.stage(Stage::Answer).max_ms().round(), 1.0);
    }

    #[test]
    fn the_tail_is_as_exact_as_the_middle() {
        let mut durations = Durations::new();
        (1..=100_000u64).for_each(|i| durations.record(Duration::from_micros(i)));
        for (q, us) in [(0.5, 50_000.0), (0.99, 99_000.0), (0.999, 99_900.0), (1.0, 100_000.0)] {
            let found = durations.quantile_ms(q) * 1e3;
            assert!((found / us - 1.0_f64).abs() < 0.002, "{q}: {found}");
        }
        assert_eq!(Durations::new().quantile_ms(0.99), 0.0);
    }
}
