//! One loaded model: tokenizer, executor and heads, checked by a known forward before it serves.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    EngineOptions, ModelRef, Tasks, TextError,
    batch::PackedBatch,
    error::ModelError,
    executor::{Executor, ExecutorError},
    heads::{self, HeadSpec, HeadWeights},
    pack,
    select::{self, Selected},
    spec::EncoderSpec,
    tasks::{self, Placed, Reading, Slots, TextPlan},
    tokenize::Tokenizer,
    weights::Checkpoint,
};
use crate::scores::Scores;

pub struct Model {
    pub reference: ModelRef,
    pub tokenizer: Tokenizer,
    pub executor: Box<dyn Executor>,
    pub slots: Slots,
    pub device_reason: Option<String>,
    pub precision_reason: Option<String>,
    /// Tokens of a text that one sequence holds, special ones not counted.
    pub window_tokens_max: usize,
    /// Measured on the calibration texts when the model was loaded.
    pub tokens_per_s: f64,
}

/// Short customer messages in many languages: what a model is tried on before it serves.
const CALIBRATION: &str = include_str!("calibration.txt");

/// Windows shorter than this leave no room for a text.
const WINDOW_TOKENS_MIN: usize = 8;

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
        let checkpoint = Checkpoint::open(&dir.join(pack::WEIGHTS), spec.family.prefix())?;
        let heads = heads::heads(&config, &spec, &checkpoint)?;
        let weights =
            heads.iter().map(|head| head.weights(&checkpoint, spec.hidden)).collect::<Result<_, _>>()?;
        Ok(Self { config, spec, checkpoint, heads, weights })
    }
}

impl Model {
    pub fn open(dir: &Path, options: &EngineOptions) -> Result<Self, ModelError> {
        let Parts { config, spec, checkpoint, heads, weights } = Parts::read(dir)?;
        let slots = Slots::new(&heads)?;
        if slots.sentiment.is_none() && slots.intent.is_none() && slots.keyphrases.is_none() {
            return Err(ModelError::Config(
                "hearken.heads names none of sentiment, intent, keyphrases".into(),
            ));
        }
        let tokenizer = Tokenizer::open(&dir.join(pack::TOKENIZER))?;
        if tokenizer.id_max() as usize >= spec.vocabulary {
            return Err(ModelError::Tokenizer(format!(
                "has the token id {} where config.json has a vocab_size of {}",
                tokenizer.id_max(),
                spec.vocabulary
            )));
        }
        let window_tokens_max = window_tokens_max(&config, &spec, &tokenizer)?;

        let calibration = calibration_plans(&tokenizer, window_tokens_max)?;
        let agreement = |reference: &dyn Executor, candidate: &dyn Executor| {
            let reference = forward(&slots, &tokenizer, reference, &calibration)?;
            let candidate = forward(&slots, &tokenizer, candidate, &calibration)?;
            Ok(agreement(&slots, &calibration, &reference, &candidate))
        };
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
        let begun = Instant::now();
        let readings = forward(&slots, &tokenizer, &*executor, &calibration)?;
        let spent = begun.elapsed().max(Duration::from_micros(1));
        let tokens: usize = calibration.iter().map(TextPlan::tokens).sum();
        if let Some(Err(error)) = scores(&slots, &calibration, &readings).into_iter().next() {
            return Err(ModelError::Executor(format!("a first forward failed: {error}")));
        }
        Ok(Self {
            reference: ModelRef { name: pack::name(dir, &config), revision: pack::revision(dir)? },
            tokenizer,
            executor,
            slots,
            device_reason,
            precision_reason,
            window_tokens_max,
            tokens_per_s: tokens as f64 / spent.as_secs_f64(),
        })
    }

    /// The models that answer the tasks of a request.
    pub fn references(&self, tasks: &Tasks) -> BTreeMap<&'static str, ModelRef> {
        let slots = &self.slots;
        [
            ("sentiment", tasks.sentiment && slots.sentiment.is_some()),
            ("intent", tasks.intent && slots.intent.is_some()),
            ("keyphrases", tasks.keyphrases && slots.keyphrases.is_some()),
            ("emotion", tasks.emotion && slots.emotion.is_some()),
        ]
        .into_iter()
        .filter(|(_, answers)| *answers)
        .map(|(task, _)| (task, self.reference.clone()))
        .collect()
    }

    pub fn plan(&self, text: String, tasks: Tasks) -> Result<TextPlan, TextError> {
        TextPlan::new(text, tasks, &self.tokenizer, self.window_tokens_max)
    }

    /// Tokens of a window in a batch, special ones included.
    pub fn sequence_tokens(&self, plan: &TextPlan, window: usize) -> usize {
        plan.window_ids(window).len() + self.tokenizer.frame_len()
    }

    /// One forward pass over windows of any texts; readings come in the order of the windows.
    pub fn forward(&self, windows: &[(&TextPlan, usize)]) -> Result<Vec<Reading>, ExecutorError> {
        forward_windows(&self.slots, &self.tokenizer, &*self.executor, windows)
    }
}

fn forward_windows(
    slots: &Slots,
    tokenizer: &Tokenizer,
    executor: &dyn Executor,
    windows: &[(&TextPlan, usize)],
) -> Result<Vec<Reading>, ExecutorError> {
    let mut batch = PackedBatch::new();
    let placed: Vec<Placed> = windows
        .iter()
        .map(|(plan, window)| Placed {
            plan,
            window: *window,
            first_row: batch.push(tokenizer.framed(plan.window_ids(*window))),
            prefix_len: tokenizer.prefix_len(),
        })
        .collect();
    let readings = executor.encode(&batch).and_then(|encoded| tasks::read(slots, &*encoded, &placed));
    match readings {
        // A device may have memory for half as many.
        Err(ExecutorError::OutOfMemory { .. }) if windows.len() > 1 => {
            let (first, rest) = windows.split_at(windows.len() / 2);
            let mut readings = forward_windows(slots, tokenizer, executor, first)?;
            readings.extend(forward_windows(slots, tokenizer, executor, rest)?);
            Ok(readings)
        }
        readings => readings,
    }
}

/// `hearken.max_tokens`, as far as the position table reaches, less the special tokens.
fn window_tokens_max(
    config: &serde_json::Value,
    spec: &EncoderSpec,
    tokenizer: &Tokenizer,
) -> Result<usize, ModelError> {
    let asked = config["hearken"]["max_tokens"].as_u64().map_or(usize::MAX, |n| n as usize);
    let tokens = asked.min(spec.tokens_max());
    match tokens.checked_sub(tokenizer.frame_len()) {
        Some(window) if window >= WINDOW_TOKENS_MIN => Ok(window),
        _ => Err(ModelError::Config(format!("sequences of {tokens} tokens leave no room for a text"))),
    }
}

fn calibration_plans(tokenizer: &Tokenizer, window: usize) -> Result<Vec<TextPlan>, ModelError> {
    CALIBRATION
        .lines()
        .map(|line| TextPlan::new(line.into(), Tasks::ALL, tokenizer, window))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| ModelError::Tokenizer(e.to_string()))
}

/// Readings of all windows of all plans, by plan.
fn forward(
    slots: &Slots,
    tokenizer: &Tokenizer,
    executor: &dyn Executor,
    plans: &[TextPlan],
) -> Result<Vec<Vec<Reading>>, ModelError> {
    let windows: Vec<(&TextPlan, usize)> =
        plans.iter().flat_map(|p| (0..p.windows()).map(move |w| (p, w))).collect();
    let mut readings = forward_windows(slots, tokenizer, executor, &windows)
        .map_err(|e| ModelError::Executor(format!("a first forward failed: {e}")))?
        .into_iter();
    Ok(plans.iter().map(|p| readings.by_ref().take(p.windows()).collect()).collect())
}

fn scores(slots: &Slots, plans: &[TextPlan], readings: &[Vec<Reading>]) -> Vec<Result<Scores, TextError>> {
    plans.iter().zip(readings).map(|(plan, readings)| plan.merge(slots, readings)).collect()
}

/// Share of equal labels over all texts, sentences and tokens.
fn agreement(slots: &Slots, plans: &[TextPlan], a: &[Vec<Reading>], b: &[Vec<Reading>]) -> f64 {
    let (mut same, mut all) = (0usize, 0usize);
    for ((plan, a), b) in plans.iter().zip(a).zip(b) {
        let (a, b) = (plan.labels(slots, a), plan.labels(slots, b));
        all += a.len();
        same += a.iter().zip(&b).filter(|(x, y)| x.is_some() && x == y).count();
    }
    if all == 0 { 0.0 } else { same as f64 / all as f64 }
}
