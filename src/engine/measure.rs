//! The engine's counters and histograms, per model and lane, all present from the start.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

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

/// Records what one model does.
#[derive(Clone)]
pub struct Measures {
    model: String,
}

impl Measures {
    /// Registers everything at zero.
    pub fn new(model: &str) -> Self {
        describe_counter!(TEXTS, "Texts scored");
        describe_counter!(TOKENS, "Tokens that went through a forward pass");
        describe_counter!(BATCHES, "Forward passes");
        describe_histogram!(BATCH_TOKENS, "Tokens of a forward pass");
        describe_histogram!(QUEUE_WAIT, Unit::Seconds, "Time from admission to the first forward pass");
        describe_histogram!(FORWARD, Unit::Seconds, "Time of a forward pass");
        describe_gauge!(QUEUE_TOKENS, "Tokens that wait");
        describe_counter!(REJECTED, "Requests refused because the queue was full");
        describe_counter!(EXPIRED, "Requests whose deadline passed before their work began");
        let measures = Self { model: model.into() };
        let model = &measures.model;
        counter!(BATCHES, "model" => model.clone()).increment(0);
        for of_batch in [BATCH_TOKENS, FORWARD] {
            let _ = histogram!(of_batch, "model" => model.clone());
        }
        for lane in [Lane::Interactive, Lane::Bulk] {
            let lane_name = name(lane);
            for total in [TEXTS, TOKENS, REJECTED, EXPIRED] {
                counter!(total, "model" => model.clone(), "lane" => lane_name).increment(0);
            }
            let _ = histogram!(QUEUE_WAIT, "model" => model.clone(), "lane" => lane_name);
            measures.queue_tokens(lane, 0);
        }
        measures
    }

    pub fn batch(&self, tokens: usize, spent: Duration) {
        counter!(BATCHES, "model" => self.model.clone()).increment(1);
        histogram!(BATCH_TOKENS, "model" => self.model.clone()).record(tokens as f64);
        histogram!(FORWARD, "model" => self.model.clone()).record(spent.as_secs_f64());
    }

    pub fn sequence(&self, lane: Lane, tokens: usize) {
        counter!(TOKENS, "model" => self.model.clone(), "lane" => name(lane)).increment(tokens as u64);
    }

    pub fn texts(&self, lane: Lane, texts: usize) {
        counter!(TEXTS, "model" => self.model.clone(), "lane" => name(lane)).increment(texts as u64);
    }

    pub fn waited(&self, lane: Lane, wait: Duration) {
        histogram!(QUEUE_WAIT, "model" => self.model.clone(), "lane" => name(lane))
            .record(wait.as_secs_f64());
    }

    pub fn queue_tokens(&self, lane: Lane, tokens: usize) {
        gauge!(QUEUE_TOKENS, "model" => self.model.clone(), "lane" => name(lane)).set(tokens as f64);
    }

    pub fn rejected(&self, lane: Lane) {
        counter!(REJECTED, "model" => self.model.clone(), "lane" => name(lane)).increment(1);
    }

    pub fn expired(&self, lane: Lane) {
        counter!(EXPIRED, "model" => self.model.clone(), "lane" => name(lane)).increment(1);
    }
}

fn name(lane: Lane) -> &'static str {
    match lane {
        Lane::Interactive => "interactive",
        Lane::Bulk => "bulk",
    }
}
