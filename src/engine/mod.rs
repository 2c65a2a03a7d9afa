//! From texts to scores: model files, packed batches, the scheduler and the executors.
//!
//! Nothing here knows about records, HTTP or SQL. The way in is [`Engine`].

pub mod source;

mod pack;

pub mod hub;

pub mod spec;

mod names;

pub mod weights;

mod pytorch;

pub mod heads;

pub mod error;

pub mod tokenize;

mod vocabulary;

pub mod catalog;

mod mapping;

pub mod tasks;

pub mod batch;

pub mod executor;

pub mod cpu;

pub mod cuda;

pub mod standby;

mod select;

mod member;

mod model;

mod admission;

pub mod scheduler;

mod serve;

mod measure;

pub mod swap;

mod registry;

mod combine;

mod zero_shot;

pub mod check;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

pub use self::{
    executor::ExecutorInfo,
    heads::{Activation, HeadTask, Pooling},
    registry::PutError,
    tasks::{
        entities::{Aggregation, Entity},
        raw::{RawAnswer, RawInput, RawOutput, RawTask},
    },
    zero_shot::{ZeroShot, ZeroShotError, ZeroShotReply, ZeroShotResult},
};

use self::{
    registry::Registry,
    serve::Treatment,
    source::{ModelRequest, ModelSource},
    swap::Swap,
    tasks::{
        plan::{Inputs, Output},
        raw::RawAsk,
    },
};
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
    pub const NONE: Tasks = Tasks { sentiment: false, intent: false, keyphrases: false, emotion: false };

    pub fn only(slot: &str) -> Tasks {
        let mut tasks = Tasks::NONE;
        tasks.set(slot);
        tasks
    }

    /// Adds the task of a slot; names that are none of ours change nothing.
    pub fn set(&mut self, slot: &str) {
        match slot {
            "sentiment" => self.sentiment = true,
            "intent" => self.intent = true,
            "keyphrases" => self.keyphrases = true,
            "emotion" => self.emotion = true,
            _ => {}
        }
    }

    /// The slots whose models answer.
    pub fn slots(&self) -> impl Iterator<Item = &'static str> + use<> {
        [
            ("sentiment", self.sentiment),
            ("intent", self.intent),
            ("keyphrases", self.keyphrases),
            ("emotion", self.emotion),
        ]
        .into_iter()
        .filter_map(|(slot, asked)| asked.then_some(slot))
    }
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
    /// Where models of the hub come from.
    pub hub: hub::HubOptions,
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
    #[error("no model is named {0:?}")]
    UnknownModel(String),
    #[error("the model {model} does not do {task}: it is made for {made_for}")]
    OtherTask { model: String, task: &'static str, made_for: &'static str },
    #[error("{0}")]
    Model(String),
}

/// Name and revision of the model that gave an answer: the hash of its content (`sha256:...`), or the commit of a
/// repository.
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

impl Timing {
    /// Of two things that were done side by side.
    pub(crate) fn and(&self, other: &Timing) -> Timing {
        Timing {
            tokenize_ms: self.tokenize_ms.max(other.tokenize_ms),
            queue_ms: self.queue_ms.max(other.queue_ms),
            forward_ms: self.forward_ms.max(other.forward_ms),
            total_ms: self.total_ms.max(other.total_ms),
        }
    }
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

/// A model in its slot.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    pub slot: String,
    pub reference: ModelRef,
    pub source: ModelSource,
    pub task: HeadTask,
    pub activation: Activation,
    /// The model's own labels, in its order.
    pub labels: Vec<String>,
    /// The label that says that a hypothesis follows, in a model trained for natural language inference.
    pub entailment: Option<usize>,
    /// Whether one vector for a text is what the model was made for.
    pub pools: bool,
    /// Numbers of a hidden state.
    pub hidden: usize,
    /// What they were mapped to, where that was asked for.
    pub mapping: source::LabelMap,
    /// `model_type` of its configuration.
    pub family: String,
    /// The same for models that share one forward pass.
    pub trunk: String,
    pub executor: ExecutorInfo,
    pub device_reason: Option<String>,
    pub precision_reason: Option<String>,
    /// Tokens of one window; longer texts are read in several.
    pub window_tokens_max: usize,
}

/// The answer of one model in its own terms.
pub struct RawReply {
    /// One per input, in order.
    pub results: Vec<Result<RawAnswer, TextError>>,
    pub model: ModelInfo,
    /// Tokens over all inputs.
    pub tokens: usize,
    pub timing: Timing,
}

/// A running engine: cheap to clone, shared by all callers.
#[derive(Clone)]
pub struct Engine {
    registry: Arc<Registry>,
    batch_tokens_max: usize,
    queue_tokens_max: usize,
}

impl Engine {
    /// Loads and checks the pack; blocks until it can serve.
    pub fn open(options: &EngineOptions) -> Result<Engine, EngineError> {
        let EngineOptions { batch_tokens_max, queue_tokens_max, .. } = *options;
        if batch_tokens_max == 0 || queue_tokens_max == 0 {
            return Err(EngineError::Model("batch_tokens_max and queue_tokens_max must be above 0".into()));
        }
        Ok(Engine { registry: Arc::new(Registry::open(options)?), batch_tokens_max, queue_tokens_max })
    }

    /// Scores texts; callers that wait at the same time share forward passes.
    ///
    /// A text's scores do not depend on what else is scored at the time. Dropping the future takes back what has not
    /// begun. A model that is swapped meanwhile does not matter: a request keeps the models that it began with.
    pub async fn score(&self, texts: Vec<String>, options: ScoreOptions) -> Result<ScoreReply, EngineError> {
        let table = self.registry.table();
        combine::score(&table, texts, options).await
    }

    /// Asks one model in its own terms. `name` is a slot's or a model's.
    pub async fn ask(
        &self,
        name: &str,
        inputs: Vec<RawInput>,
        task: RawTask,
        lane: Lane,
        deadline: Option<Duration>,
    ) -> Result<RawReply, EngineError> {
        self.ask_raw(name, task, Treatment { lane, deadline }, |ask| Inputs::Raw { inputs, ask }).await
    }

    /// Which of the caller's own labels fit each text, by a model trained for natural language inference.
    pub async fn zero_shot(
        &self,
        name: &str,
        texts: Vec<String>,
        question: &ZeroShot,
        lane: Lane,
        deadline: Option<Duration>,
    ) -> Result<ZeroShotReply, EngineError> {
        let (firsts, seconds) = (texts, question.hypotheses());
        let treatment = Treatment { lane, deadline };
        let pairs = |ask| Inputs::Pairs { firsts, seconds, ask };
        let reply = self.ask_raw(name, RawTask::Labels, treatment, pairs).await?;
        let entailment = reply.model.entailment.ok_or_else(|| EngineError::OtherTask {
            model: name.into(),
            task: "zero-shot-classification",
            made_for: "labels of its own, without entailment",
        })?;
        Ok(question.read(reply, entailment))
    }

    async fn ask_raw(
        &self,
        name: &str,
        task: RawTask,
        treatment: Treatment,
        inputs: impl FnOnce(RawAsk) -> Inputs,
    ) -> Result<RawReply, EngineError> {
        let table = self.registry.table();
        let unknown = || EngineError::UnknownModel(name.into());
        let slot = table.resolve(name).ok_or_else(unknown)?;
        let unit = table.unit(slot).ok_or_else(unknown)?;
        let server = &unit.server;
        let model = self.model_info(slot, unit).ok_or_else(unknown)?;
        let ask = server.model.ask(slot, task).ok_or_else(|| EngineError::OtherTask {
            model: name.into(),
            task: task.needs().name(),
            made_for: model.task.name(),
        })?;
        let answer = server.submit(inputs(ask), treatment)?;
        let lost = || EngineError::Model("the request was lost to a fault".into());
        let reply = answer.await.unwrap_or_else(|_| Err(lost()))?;
        let results = reply
            .results
            .into_iter()
            .map(|r| match r? {
                Output::Raw(answer) => Ok(answer),
                Output::Scores(_) => Err(TextError::Tokenizer("the model answered another question".into())),
            })
            .collect();
        Ok(RawReply { results, model, tokens: reply.tokens, timing: reply.timing })
    }

    /// Every model that serves, by slot.
    pub fn models(&self) -> Vec<ModelInfo> {
        let table = self.registry.table();
        table.slots().filter_map(|(slot, unit)| self.model_info(slot, unit)).collect()
    }

    /// The model of a name: a slot's or a model's.
    pub fn model(&self, name: &str) -> Option<ModelInfo> {
        let table = self.registry.table();
        let slot = table.resolve(name)?;
        self.model_info(slot, table.unit(slot)?)
    }

    fn model_info(&self, slot: &str, unit: &registry::Unit) -> Option<ModelInfo> {
        let model = &unit.server.model;
        let served = model.served.get(slot)?;
        let (member, spec) = (&served.member, served.spec());
        Some(ModelInfo {
            slot: slot.into(),
            reference: member.reference.clone(),
            source: member.source.clone(),
            task: spec.task,
            activation: spec.activation,
            labels: spec.labels.clone(),
            entailment: spec.entailment(),
            pools: member.pools,
            hidden: model.hidden,
            mapping: member.labels.clone(),
            family: member.family.clone(),
            trunk: member.trunk.to_string(),
            executor: model.executor.info(),
            device_reason: model.device_reason(),
            precision_reason: model.precision_reason.clone(),
            window_tokens_max: model.window_tokens_max,
        })
    }

    /// Begins to put a model into a slot; [`Engine::swap`] tells how far it is. Until it serves the old one answers, and
    /// where it fails the old one stays.
    pub fn put_model(&self, slot: &str, request: ModelRequest) -> Result<u64, PutError> {
        self.registry.put(slot, request)
    }

    pub fn swap(&self, id: u64) -> Option<Swap> {
        self.registry.swap(id)
    }

    /// The last swap of a slot.
    pub fn latest_swap(&self, slot: &str) -> Option<Swap> {
        self.registry.latest_swap(slot)
    }

    /// Where the last model of a slot came from, also after it was taken out.
    pub fn last_source(&self, slot: &str) -> Option<ModelSource> {
        self.registry.last_source(slot)
    }

    /// Blocks until a swap is over; not for async code.
    pub fn wait_for_swap(&self, id: u64) -> Option<Swap> {
        self.registry.wait(id)
    }

    /// Takes a model out of its slot; what holds it is answered.
    pub fn remove_model(&self, slot: &str) -> Result<ModelRef, PutError> {
        self.registry.remove(slot)
    }

    pub fn info(&self) -> EngineInfo {
        let table = self.registry.table();
        let models: BTreeMap<&'static str, ModelRef> = Tasks::ALL
            .slots()
            .filter_map(|slot| {
                Some((slot, table.unit(slot)?.server.model.served.get(slot)?.member.reference.clone()))
            })
            .collect();
        // What answers most requests stands for the server.
        let main = models.keys().next_back().and_then(|slot| table.unit(slot));
        let executor = main.map(|u| u.server.model.executor.info());
        EngineInfo {
            device: executor.as_ref().map(|e| e.device.clone()).unwrap_or_default(),
            device_reason: main.and_then(|u| u.server.model.device_reason()),
            precision: executor.as_ref().map(|e| e.precision.to_owned()).unwrap_or_default(),
            precision_reason: main.and_then(|u| u.server.model.precision_reason.clone()),
            threads: executor.map_or(0, |e| e.threads),
            batch_tokens_max: self.batch_tokens_max,
            queue_tokens_max: self.queue_tokens_max,
            models,
        }
    }

    /// Refuses new work and returns when what was admitted is answered.
    pub async fn shutdown(&self) {
        self.registry.close();
        for unit in self.registry.table().units() {
            unit.server.gate.emptied().await;
        }
    }
}
