//! From texts to scores: model files, packed batches, the scheduler and the executors.
//!
//! Nothing here knows about records, HTTP or SQL. The way in is [`Engine`].

mod pack;

pub mod spec;

pub mod weights;

pub mod heads;

pub mod error;

pub mod tokenize;

pub mod tasks;

pub mod batch;

pub mod executor;

pub mod cpu;

pub mod cuda;

pub mod standby;

mod select;

mod model;

mod admission;

pub mod scheduler;

mod serve;

mod measure;

pub mod check;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use self::{model::Model, serve::Server};
use crate::scores::Scores;

/// What a request asks of the models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tasks {
    pub sentiment: bool,
    pub intent: bool,
    pub keyphrases: bool,
    pub emotion: bool,
}

impl Tasks {
    pub const ALL: Tasks = Tasks { sentiment: true, intent: true, keyphrases: true, emotion: true };
}

/// Interactive work goes first; bulk work is never starved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    Interactive,
    Bulk,
}

#[derive(Clone, Debug)]
pub struct ScoreOptions {
    pub tasks: Tasks,
    pub lane: Lane,
    /// Work that has not begun when this has passed is dropped and answered with [`EngineError::DeadlineExceeded`].
    pub deadline: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Folder of the model pack; `None` means the one that ships with hearken.
    pub pack: Option<PathBuf>,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// `auto`, `f32`, `bf16`, `int8` or `f16`.
    pub precision: String,
    /// Threads of a forward pass; 0 means one per core.
    pub threads: usize,
    /// Most tokens in one forward pass.
    pub batch_tokens_max: usize,
    /// Most tokens waiting, over both lanes; more is refused with [`EngineError::Overloaded`].
    pub queue_tokens_max: usize,
}

/// Why one text of a request has no scores. The others are not touched by it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TextError {
    #[error("the text is empty")]
    Empty,
    #[error("the model answered with numbers that are not finite")]
    NotFinite,
    #[error("{0}")]
    Tokenizer(String),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the queue of {queue_tokens_max} tokens is full")]
    Overloaded { queue_tokens_max: usize, retry_after: Duration },
    /// The work that goes first takes longer than the request may wait: it is refused before it costs anything.
    #[error(
        "the answer would take about {wait_ms} ms, longer than the {wait_ms_max} ms that this request may wait"
    )]
    TooLate { wait_ms: u64, wait_ms_max: u64, retry_after: Duration },
    #[error("the deadline passed before the work began")]
    DeadlineExceeded,
    #[error("the server is shutting down")]
    ShuttingDown,
    #[error("{0}")]
    Model(String),
}

/// Name and content hash (`sha256:...`) of the model that gave an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRef {
    pub name: String,
    pub revision: String,
}

/// Where the time of a request went, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    pub tokenize_ms: f64,
    pub queue_ms: f64,
    pub forward_ms: f64,
    pub total_ms: f64,
}

pub struct ScoreReply {
    /// One per text, in order.
    pub results: Vec<Result<Scores, TextError>>,
    /// By task.
    pub models: BTreeMap<&'static str, ModelRef>,
    /// Tokens over all texts.
    pub tokens: usize,
    pub timing: Timing,
}

/// What runs, for `/info` and the log.
#[derive(Clone, Debug)]
pub struct EngineInfo {
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Why it is not the device that was asked for, or that `auto` would prefer.
    pub device_reason: Option<String>,
    pub precision: String,
    pub precision_reason: Option<String>,
    pub threads: usize,
    pub batch_tokens_max: usize,
    pub queue_tokens_max: usize,
    pub models: BTreeMap<&'static str, ModelRef>,
}

/// A running engine: cheap to clone, shared by all callers.
#[derive(Clone)]
pub struct Engine {
    running: Arc<Running>,
}

/// Stops the forward thread when the last handle of an engine goes.
struct Running {
    server: Arc<Server>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.gate.close();
        self.server.stop();
    }
}

impl Engine {
    /// Loads and checks the pack; blocks until it can serve.
    pub fn open(options: &EngineOptions) -> Result<Engine, EngineError> {
        if options.batch_tokens_max == 0 || options.queue_tokens_max == 0 {
            return Err(EngineError::Model("batch_tokens_max and queue_tokens_max must be above 0".into()));
        }
        let model = pack::locate(options.pack.as_deref())
            .and_then(|dir| Model::open(&dir, options))
            .map_err(|e| EngineError::Model(e.to_string()))?;
        let executor = model.executor.info();
        tracing::info!(
            model = model.reference.name,
            revision = model.reference.revision,
            device = executor.device,
            device_reason = model.device_reason,
            precision = executor.precision,
            precision_reason = model.precision_reason,
            threads = executor.threads,
            kernel = executor.kernel,
            tokens_per_s = model.tokens_per_s.round(),
            "model loaded"
        );
        let server = Server::start(model, options.batch_tokens_max, options.queue_tokens_max)?;
        Ok(Engine { running: Arc::new(Running { server }) })
    }

    /// Scores texts; callers that wait at the same time share forward passes.
    ///
    /// A text's scores do not depend on what else is scored at the time. Dropping the future takes back what has not
    /// begun.
    pub async fn score(&self, texts: Vec<String>, options: ScoreOptions) -> Result<ScoreReply, EngineError> {
        let answer = self.running.server.submit(texts, options)?;
        answer.await.unwrap_or_else(|_| Err(EngineError::Model("the request was lost to a fault".into())))
    }

    pub fn info(&self) -> EngineInfo {
        let server = &self.running.server;
        let executor = server.model.executor.info();
        EngineInfo {
            device: executor.device,
            device_reason: server.model.executor.lost().or_else(|| server.model.device_reason.clone()),
            precision: executor.precision.into(),
            precision_reason: server.model.precision_reason.clone(),
            threads: executor.threads,
            batch_tokens_max: server.batch_tokens_max(),
            queue_tokens_max: server.queue_tokens_max(),
            models: server.model.references(&Tasks::ALL),
        }
    }

    /// Refuses new work and returns when what was admitted is answered.
    pub async fn shutdown(&self) {
        self.running.server.gate.close();
        self.running.server.gate.emptied().await;
    }
}
