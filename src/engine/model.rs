//! One trunk that serves: tokenizer, executor and the heads of every model that stands on it, checked by a known
//! forward before it serves.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    EngineOptions, ModelRef, Tasks,
    batch::PackedBatch,
    error::ModelError,
    executor::{Executor, ExecutorError, HeadId},
    heads::{self, HeadSpec, HeadWeights},
    member::{Member, Trunk},
    pack,
    select::{self, Selected},
    spec::EncoderSpec,
    swap::Stage,
    tasks::{
        self, Placed, Slots,
        plan::{Inputs, Plan, Reading},
        raw::{self, RawAsk, RawPlaced, RawTask},
    },
    tokenize::Tokenizer,
    weights::Checkpoint,
};

pub struct Model {
    /// Name of the first member: what metrics are counted under.
    pub name: String,
    pub tokenizer: Tokenizer,
    pub executor: Box<dyn Executor>,
    pub slots: Slots,
    /// By slot: which head of which member answers.
    pub served: BTreeMap<String, Served>,
    pub device_reason: Option<String>,
    pub precision_reason: Option<String>,
    /// Tokens of a text that one sequence holds, special ones not counted.
    pub window_tokens_max: usize,
    /// Numbers of a hidden state.
    pub hidden: usize,
    /// Measured on the calibration texts when the model was loaded.
    pub tokens_per_s: f64,
}

/// A head in a slot.
#[derive(Clone)]
pub struct Served {
    pub member: Arc<Member>,
    /// Its place among the member's heads.
    pub head: usize,
    /// Its place among the executor's heads.
    pub id: HeadId,
}

impl Served {
    pub fn spec(&self) -> &Arc<HeadSpec> {
        &self.member.heads[self.head]
    }
}

/// A slot and the head that is to fill it.
#[derive(Clone)]
pub struct Wanted {
    pub slot: String,
    pub member: Arc<Member>,
    pub head: usize,
}

/// Short customer messages in many languages: what a model is tried on before it serves.
const CALIBRATION: &str = include_str!("calibration.txt");

/// What a model folder holds, before an executor is built from it.
pub struct Parts {
    pub config: serde_json::Value,
    pub spec: EncoderSpec,
    pub checkpoint: Checkpoint,
    pub heads: Vec<HeadSpec>,
    /// One per head, in the same order.
    pub weights: Vec<HeadWeights>,
}

impl Parts {
    pub fn read(dir: &Path) -> Result<Self, ModelError> {
        let config = pack::read_config(dir)?;
        let spec = EncoderSpec::from_config(&config)?;
        let checkpoint = Checkpoint::open_dir(dir, spec.family.prefix())?;
        let heads = heads::heads(&config, &spec, &checkpoint)?;
        let weights =
            heads.iter().map(|head| head.weights(&checkpoint, spec.hidden)).collect::<Result<_, _>>()?;
        Ok(Self { config, spec, checkpoint, heads, weights })
    }
}

impl Model {
    /// Builds a trunk with the heads of `wanted` and tries it on known texts.
    pub fn build(
        trunk: Trunk,
        wanted: &[Wanted],
        options: &EngineOptions,
        stage: &mut dyn FnMut(Stage),
    ) -> Result<Self, ModelError> {
        let Trunk { spec, checkpoint, tokenizer, window_tokens_max } = trunk;
        stage(Stage::Validating);
        // A head that fills several slots is built once.
        let mut built: Vec<(&Arc<Member>, usize)> = Vec::new();
        let mut served = BTreeMap::new();
        for w in wanted {
            let known = built.iter().position(|(m, h)| Arc::ptr_eq(m, &w.member) && *h == w.head);
            let id = HeadId(known.unwrap_or(built.len()));
            if known.is_none() {
                built.push((&w.member, w.head));
            }
            served.insert(w.slot.clone(), Served { member: w.member.clone(), head: w.head, id });
        }
        let weights: Vec<HeadWeights> = built.iter().map(|(m, h)| m.weights[*h].clone()).collect();
        let slots = Slots::new(&served)?;

        let trial = Trial::new(&slots, &served, &tokenizer, window_tokens_max, spec.hidden)?;
        let agreement =
            |reference: &dyn Executor, candidate: &dyn Executor| trial.agreement(reference, candidate);
        let Selected { executor, device_reason, precision_reason } = select::select(
            &spec,
            &checkpoint,
            &weights,
            &options.device,
            &options.precision,
            options.threads,
            Some(&agreement),
        )?;

        // The known forward, which also warms buffers and tells how fast this machine is.
        stage(Stage::Warming);
        let begun = Instant::now();
        let readings = trial.forward(&*executor)?;
        let spent = begun.elapsed().max(Duration::from_micros(1));
        trial.check(&readings)?;
        let tokens = trial.tokens();
        let name = wanted.first().map(|w| w.member.reference.name.clone()).unwrap_or_default();
        Ok(Self {
            name,
            executor,
            slots,
            served,
            device_reason,
            precision_reason,
            window_tokens_max,
            hidden: spec.hidden,
            tokens_per_s: tokens as f64 / spent.as_secs_f64(),
            tokenizer,
        })
    }

    /// Why another device runs than was asked for, or than did at the start.
    pub fn device_reason(&self) -> Option<String> {
        self.executor.lost().or_else(|| self.device_reason.clone())
    }

    /// The models that answer the tasks of a request.
    pub fn references(&self, tasks: &Tasks) -> BTreeMap<&'static str, ModelRef> {
        tasks
            .slots()
            .filter_map(|slot| Some((slot, self.served.get(slot)?.member.reference.clone())))
            .collect()
    }

    /// What is asked of the head in a slot; `None` where it cannot answer that.
    pub fn ask(&self, slot: &str, task: RawTask) -> Option<RawAsk> {
        let served = self.served.get(slot)?;
        let spec = served.spec();
        (spec.task == task.needs()).then(|| RawAsk {
            head: served.id,
            spec: spec.clone(),
            outputs: spec.outputs(self.hidden),
            task,
        })
    }

    /// Tokens of a window in a batch, special ones included.
    pub fn sequence_tokens(&self, plan: &Plan, window: usize) -> usize {
        match plan {
            Plan::Scores(plan) => plan.window_ids(window).len() + self.tokenizer.frame_len(),
            Plan::Raw(plan) => plan.sequence_tokens(window, &self.tokenizer),
        }
    }

    /// One forward pass over windows of any inputs; readings come in the order of the windows.
    pub fn forward(&self, windows: &[(&Plan, usize)]) -> Result<Vec<Reading>, ExecutorError> {
        forward(&self.slots, &self.tokenizer, &*self.executor, windows)
    }
}

fn forward(
    slots: &Slots,
    tokenizer: &Tokenizer,
    executor: &dyn Executor,
    windows: &[(&Plan, usize)],
) -> Result<Vec<Reading>, ExecutorError> {
    match forward_at_once(slots, tokenizer, executor, windows) {
        // A device may have memory for half as many.
        Err(ExecutorError::OutOfMemory { .. }) if windows.len() > 1 => {
            let (first, rest) = windows.split_at(windows.len() / 2);
            let mut readings = forward(slots, tokenizer, executor, first)?;
            readings.extend(forward(slots, tokenizer, executor, rest)?);
            Ok(readings)
        }
        readings => readings,
    }
}

fn forward_at_once(
    slots: &Slots,
    tokenizer: &Tokenizer,
    executor: &dyn Executor,
    windows: &[(&Plan, usize)],
) -> Result<Vec<Reading>, ExecutorError> {
    let mut batch = PackedBatch::new();
    let (mut scores, mut raw): (Vec<Placed>, Vec<RawPlaced>) = (Vec::new(), Vec::new());
    for (plan, window) in windows {
        match plan {
            Plan::Scores(plan) => scores.push(Placed {
                plan,
                window: *window,
                first_row: batch.push(tokenizer.framed(plan.window_ids(*window))),
                prefix_len: tokenizer.prefix_len(),
                suffix_len: tokenizer.frame_len() - tokenizer.prefix_len(),
            }),
            Plan::Raw(plan) => {
                let rows: Range<usize> = plan.push(*window, tokenizer, &mut batch);
                raw.push(RawPlaced { plan, window: *window, rows });
            }
        }
    }
    let encoded = executor.encode(&batch)?;
    let mut scores = tasks::read(slots, &*encoded, &scores)?.into_iter();
    let mut raw = raw::read(&*encoded, tokenizer, &raw)?.into_iter();
    // One reading was made above for each window of its kind, in the same order.
    Ok(windows
        .iter()
        .map(|(plan, _)| match plan {
            Plan::Scores(_) => Reading::Scores(scores.next().unwrap_or_default()),
            Plan::Raw(_) => Reading::Raw(raw.next().unwrap_or_default()),
        })
        .collect())
}

/// The calibration texts, asked of every head: what a model is tried on before it serves.
struct Trial<'m> {
    slots: &'m Slots,
    tokenizer: &'m Tokenizer,
    plans: Vec<Plan>,
}

impl<'m> Trial<'m> {
    fn new(
        slots: &'m Slots,
        served: &BTreeMap<String, Served>,
        tokenizer: &'m Tokenizer,
        window_tokens_max: usize,
        hidden: usize,
    ) -> Result<Self, ModelError> {
        let lines = || CALIBRATION.lines().map(str::to_owned);
        let mut all: Vec<Inputs> = Vec::new();
        if !slots.is_empty() {
            all.push(Inputs::Scores { texts: lines().collect(), tasks: Tasks::ALL });
        }
        for (_, s) in served.iter().filter(|(slot, _)| !slots.fills(slot)) {
            let spec = s.spec().clone();
            let outputs = spec.outputs(hidden);
            let ask = RawAsk { head: s.id, task: RawTask::trial(spec.task), spec, outputs };
            all.push(Inputs::Raw { inputs: lines().map(Into::into).collect(), ask });
        }
        let plans = all
            .into_iter()
            .flat_map(|inputs| inputs.plans(tokenizer, window_tokens_max))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| ModelError::Tokenizer(e.to_string()))?;
        Ok(Self { slots, tokenizer, plans })
    }

    fn tokens(&self) -> usize {
        self.plans.iter().map(Plan::tokens).sum()
    }

    /// Readings of all windows of all plans, by plan.
    fn forward(&self, executor: &dyn Executor) -> Result<Vec<Vec<Reading>>, ModelError> {
        let windows: Vec<(&Plan, usize)> =
            self.plans.iter().flat_map(|p| (0..p.windows()).map(move |w| (p, w))).collect();
        let mut readings = forward(self.slots, self.tokenizer, executor, &windows)
            .map_err(|e| ModelError::Executor(format!("a first forward failed: {e}")))?
            .into_iter();
        Ok(self.plans.iter().map(|p| readings.by_ref().take(p.windows()).collect()).collect())
    }

    /// Refuses a model whose first text has no scores.
    fn check(&self, readings: &[Vec<Reading>]) -> Result<(), ModelError> {
        for (plan, readings) in self.plans.iter().zip(readings) {
            plan.merge(self.slots, self.tokenizer, readings.clone())
                .map_err(|e| ModelError::Executor(format!("a first forward failed: {e}")))?;
        }
        Ok(())
    }

    /// Share of equal labels over all texts, sentences and tokens. Embeddings have none to compare.
    fn agreement(&self, a: &dyn Executor, b: &dyn Executor) -> Result<f64, ModelError> {
        let (a, b) = (self.forward(a)?, self.forward(b)?);
        let (mut same, mut all) = (0usize, 0usize);
        for ((plan, a), b) in self.plans.iter().zip(&a).zip(&b) {
            let (a, b) = (plan.labels(self.slots, a), plan.labels(self.slots, b));
            all += a.len();
            same += a.iter().zip(&b).filter(|(x, y)| x.is_some() && x == y).count();
        }
        Ok(if all == 0 { 0.0 } else { same as f64 / all as f64 })
    }
}
