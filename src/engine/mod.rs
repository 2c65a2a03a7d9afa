//! From texts to scores: model files, packed batches, the scheduler and the executors.
//!
//! Nothing here knows about records, HTTP or SQL. The way in is [`Engine`].

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use crate::scores::Scores;

/// What a request asks of the models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tasks {
    pub sentiment: bool,
    pub intent: bool,
    pub keyphrases: bool,
}

impl Tasks {
    pub const ALL: Tasks = Tasks { sentiment: true, intent: true, keyphrases: true };
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
    _inner: Arc<()>,
}

impl Engine {
    /// Loads and checks the pack; blocks until it can serve.
    pub fn open(_options: &EngineOptions) -> Result<Engine, EngineError> {
        Ok(Engine { _inner: Arc::new(()) })
    }

    /// Scores texts; callers that wait at the same time share forward passes.
    pub async fn score(
        &self,
        _texts: Vec<String>,
        _options: ScoreOptions,
    ) -> Result<ScoreReply, EngineError> {
        Err(EngineError::Model("no model".into()))
    }

    pub fn info(&self) -> EngineInfo {
        EngineInfo {
            device: "cpu".into(),
            device_reason: None,
            precision: "f32".into(),
            precision_reason: None,
            threads: 1,
            batch_tokens_max: 0,
            queue_tokens_max: 0,
            models: BTreeMap::new(),
        }
    }

    /// Refuses new work and returns when what was admitted is answered.
    pub async fn shutdown(&self) {}
}
