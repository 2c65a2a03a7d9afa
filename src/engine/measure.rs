//! The engine's counters and histograms, per model and lane, all present from the start.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use super::Lane;

const TEXTS: &str = "hearken_texts_total";
const TOKENS: &str = "hearken_tokens_total";
const BATCHES: &str = "hearken_batches_total";
const BATCH_TOKENS: &str = "hearken_batch_tokens";
const QUEUE_WAIT: &str = "hearken_queue_wait_seconds";
const FORWARD: &str = "hearken_forward_seconds";
const QUEUE_TOKENS: &str = "hearken_queue_tokens";
const REJECTED: &str = "hearken_rejected_total";
const EXPIRED: &str = "hearken_expired_total";

/// Records what one model does. Every series is looked up once, here, and not for each text.
#[derive(Clone)]
pub struct Measures {
    batches: Counter,
    batch_tokens: Histogram,
    forward: Histogram,
    interactive: OfLane,
    bulk: OfLane,
}

#[derive(Clone)]
struct OfLane {
    texts: Counter,
    tokens: Counter,
    rejected: Counter,
    expired: Counter,
    queue_wait: Histogram,
    queue_tokens: Gauge,
}

impl Measures {
    /// Registers everything at zero, with the recorder that is installed by now.
    pub fn new(model: &str) -> Self {
        describe_counter!(TEXTS, "Texts scored");
        describe_counter!(TOKENS, "Tokens that went through a forward pass");
        describe_counter!(BATCHES, "Forward passes");
        describe_histogram!(BATCH_TOKENS, "Tokens of a forward pass");
        describe_histogram!(QUEUE_WAIT, Unit::Seconds, "Time from admission to the first forward pass");
        describe_histogram!(FORWARD, Unit::Seconds, "Time of a forward pass");
        describe_gauge!(QUEUE_TOKENS, "Tokens that wait");
        describe_counter!(
            REJECTED,
            "Requests refused because the queue was full or the answer would come too late"
        );
        describe_counter!(EXPIRED, "Requests whose deadline passed before their work began");
        let model = model.to_owned();
        let batches = counter!(BATCHES, "model" => model.clone());
        batches.increment(0);
        Self {
            batches,
            batch_tokens: histogram!(BATCH_TOKENS, "model" => model.clone()),
            forward: histogram!(FORWARD, "model" => model.clone()),
            interactive: OfLane::new(&model, Lane::Interactive),
            bulk: OfLane::new(&model, Lane::Bulk),
        }
    }

    fn of(&self, lane: Lane) -> &OfLane {
        match lane {
            Lane::Interactive => &self.interactive,
            Lane::Bulk => &self.bulk,
        }
    }

    pub fn batch(&self, tokens: usize, spent: Duration) {
        self.batches.increment(1);
        self.batch_tokens.record(tokens as f64);
        self.forward.record(spent.as_secs_f64());
    }

    pub fn tokens(&self, lane: Lane, tokens: usize) {
        self.of(lane).tokens.increment(tokens as u64);
    }

    pub fn texts(&self, lane: Lane, texts: usize) {
        self.of(lane).texts.increment(texts as u64);
    }

    pub fn waited(&self, lane: Lane, wait: Duration) {
        self.of(lane).queue_wait.record(wait.as_secs_f64());
    }

    pub fn queue_tokens(&self, lane: Lane, tokens: usize) {
        self.of(lane).queue_tokens.set(tokens as f64);
    }

    pub fn rejected(&self, lane: Lane) {
        self.of(lane).rejected.increment(1);
    }

    pub fn expired(&self, lane: Lane) {
        self.of(lane).expired.increment(1);
    }
}

impl OfLane {
    fn new(model: &str, lane: Lane) -> Self {
        let total = |metric: &'static str| {
            let counter = counter!(metric, "model" => model.to_owned(), "lane" => name(lane));
            counter.increment(0);
            counter
        };
        let queue_tokens = gauge!(QUEUE_TOKENS, "model" => model.to_owned(), "lane" => name(lane));
        queue_tokens.set(0.0);
        Self {
            texts: total(TEXTS),
            tokens: total(TOKENS),
            rejected: total(REJECTED),
            expired: total(EXPIRED),
            queue_wait: histogram!(QUEUE_WAIT, "model" => model.to_owned(), "lane" => name(lane)),
            queue_tokens,
        }
    }
}

fn name(lane: Lane) -> &'static str {
    match lane {
        Lane::Interactive => "interactive",
        Lane::Bulk => "bulk",
    }
}
