//! What the pipeline is told when it starts: its limits, and where it reads the time.

use std::sync::Arc;

use jiff::Timestamp;

use super::replay::{OpenModel, no_other_models};
use super::webhooks::WebhookOptions;

/// Where the pipeline reads the time; tests give their own.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

impl<F: Fn() -> Timestamp + Send + Sync + 'static> Clock for F {
    fn now(&self) -> Timestamp {
        self()
    }
}

#[derive(Clone)]
pub struct PipelineOptions {
    /// Most events that are on disk and not yet in documents; more are refused.
    pub backlog_events_max: usize,
    /// Most events that are scored and applied at once.
    pub batch_events_max: usize,
    /// Bytes of event data after which no more events join a batch.
    pub batch_bytes_max: usize,
    /// Most interactions that are kept in memory, over the histories of all records.
    pub history_interactions_max: usize,
    /// Most bytes of documents that are kept in memory.
    pub cached_document_bytes_max: usize,
    /// Most rows in a page of a list.
    pub page_items_max: usize,
    /// Most competitor names, aliases and watched phrases of a tenant's settings document.
    pub settings_phrases_max: usize,
    pub webhooks: WebhookOptions,
    pub clock: Arc<dyn Clock>,
    /// Opens the other models of replays.
    pub open_model: Arc<dyn OpenModel>,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self {
            backlog_events_max: 1_000_000,
            batch_events_max: 2048,
            batch_bytes_max: 4 << 20,
            history_interactions_max: 200_000,
            cached_document_bytes_max: 128 << 20,
            page_items_max: 200,
            settings_phrases_max: 20_000,
            webhooks: WebhookOptions::default(),
            clock: Arc::new(SystemClock),
            open_model: Arc::new(no_other_models),
        }
    }
}
