//! Checks one model folder: does it load, does it say what it should, how fast is it.
//!
//! Unlike the engine it needs no tokenizer and no particular heads, so a plain encoder checkpoint can be measured too.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    time::Instant,
};

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::{
    batch::PackedBatch,
    error::ModelError,
    executor::{Executor, HeadId},
    heads::{HeadSpec, HeadTask, Pooling},
    model::Parts,
    pack,
    select::{self, Selected},
    tokenize::Tokenizer,
};

#[derive(Clone, Debug)]
pub struct CheckOptions {
    pub device: String,
    pub precision: String,
    /// 0 means one per core.
    pub threads: usize,
    /// A JSON list of token counts; `None` means [`usual_lengths`].
    pub lengths: Option<PathBuf>,
}

#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    pub precision: String,
    pub device: String,
    /// Tokens of the ragged workload.
    pub tokens: usize,
    /// Median of the repeats, after a warm-up.
    pub tokens_per_s: f64,
    /// Largest difference from the logits in `expected.json`; absent without one.
    pub max_logit_diff: Option<f64>,
    /// Share, from 0 to 1, of the answers in `expected.json` whose likeliest label is the same.
    pub labels_agree: Option<f64>,
    /// Whether the tokenizer gives the ids in `expected.json`, where both are there.
    pub tokenizer_agrees: Option<bool>,
    pub threads: usize,
    pub kernel: String,
    pub device_reason: Option<String>,
    pub precision_reason: Option<String>,
}

const EXPECTED: &str = "expected.json";

/// Timed runs of the workload.
const REPEATS: usize = 5;
/// Most tokens of a forward pass while measuring.
const BATCH_TOKENS_MAX: usize = 8_192;
/// Ids below are special tokens in the vocabularies at hand.
const ORDINARY_ID_MIN: u32 = 5;

/// What `expected.json` holds: inputs, and the logits of one head or of several by name.
#[derive(Deserialize)]
struct Expected {
    input_ids: Vec<Vec<u32>>,
    logits: ExpectedLogits,
    texts: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ExpectedLogits {
    Single(Vec<Vec<f64>>),
    ByHead(std::collections::BTreeMap<String, HeadLogits>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum HeadLogits {
    /// By input, by label.
    Text(Vec<Vec<f64>>),
    /// By input, by token, by label.
    Tokens(Vec<Vec<Vec<f64>>>),
}

pub fn check(dir: &Path, options: &CheckOptions) -> Result<CheckReport, ModelError> {
    let parts = Parts::read(dir)?;
    let tokenizer_file = dir.join(pack::TOKENIZER);
    let tokenizer = tokenizer_file.is_file().then(|| Tokenizer::open(&tokenizer_file)).transpose()?;
    let expected = read_json::<Expected>(&dir.join(EXPECTED))?;
    let lengths = match &options.lengths {
        Some(path) => read_json::<Vec<usize>>(path)?
            .ok_or_else(|| ModelError::file(path, "no such file"))?
            .into_iter()
            .map(|n| n.clamp(1, parts.spec.tokens_max()))
            .collect(),
        None => usual_lengths().into_iter().map(|n| n.min(parts.spec.tokens_max())).collect::<Vec<_>>(),
    };
    let inputs = random_inputs(&lengths, parts.spec.vocabulary as u32);

    let compared = expected.as_ref().map_or(&inputs, |e| &e.input_ids);
    let frame = tokenizer.as_ref().map_or((1, 1), |t| (t.prefix_len(), t.frame_len() - t.prefix_len()));
    let agreement = |reference: &dyn Executor, candidate: &dyn Executor| {
        let reference = all_logits(reference, &parts.heads, compared, frame)?;
        let candidate = all_logits(candidate, &parts.heads, compared, frame)?;
        let mut tally = Tally::default();
        for (a, b) in reference.iter().flatten().zip(candidate.iter().flatten()) {
            tally.compare(&widened(a), b);
        }
        Ok(tally.agreement().unwrap_or(0.0))
    };
    let Selected { executor, device_reason, precision_reason } = select::select(
        &parts.spec,
        &parts.checkpoint,
        &parts.weights,
        &options.device,
        &options.precision,
        options.threads,
        Some(&agreement),
    )?;

    let tally = match &expected {
        Some(expected) => compare(&*executor, &parts.heads, expected, frame)?,
        None => Tally::default(),
    };
    let tokenizer_agrees = match (&tokenizer, expected.as_ref().and_then(|e| e.texts.as_ref())) {
        (Some(tokenizer), Some(texts)) => {
            Some(texts.iter().zip(compared).all(|(text, ids)| tokenizes_to(tokenizer, text, ids)))
        }
        _ => None,
    };
    let tokens = lengths.iter().sum();
    let tokens_per_s = tokens as f64 / median_seconds(&*executor, &parts.heads, &inputs, frame)?;
    let info = executor.info();
    Ok(CheckReport {
        precision: info.precision.into(),
        device: info.device,
        tokens,
        tokens_per_s,
        max_logit_diff: tally.largest_difference,
        labels_agree: tally.agreement(),
        tokenizer_agrees,
        threads: info.threads,
        kernel: info.kernel,
        device_reason,
        precision_reason,
    })
}

/// Token counts of customer messages: 64 texts, log-normal (mu 3.6, sigma 0.7), from 6 to 256 tokens, in a fixed order.
pub fn usual_lengths() -> Vec<usize> {
    const TEXTS: usize = 64;
    let normal = Normal::standard();
    // Quantiles visited with a step that shares no factor with their number: short and long ones alternate.
    (0..TEXTS)
        .map(|i| (i * 37 % TEXTS) as f64)
        .map(|i| (3.6 + 0.7 * normal.inverse_cdf((i + 0.5) / TEXTS as f64)).exp().round())
        .map(|n| n.clamp(6.0, 256.0) as usize)
        .collect()
}

/// Sequences of ordinary ids of the given lengths, the same every time. Speed does not depend on what they say.
pub(super) fn random_inputs(lengths: &[usize], vocabulary: u32) -> Vec<Vec<u32>> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let first = ORDINARY_ID_MIN.min(vocabulary - 1);
    let mut id = || {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        first + (state >> 33) as u32 % (vocabulary - first)
    };
    lengths.iter().map(|n| (0..*n).map(|_| id()).collect()).collect()
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, ModelError> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| ModelError::file(path, e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(ModelError::file(path, e)),
    }
}

fn tokenizes_to(tokenizer: &Tokenizer, text: &str, ids: &[u32]) -> bool {
    tokenizer.encode(text).is_ok_and(|tokens| tokenizer.framed(&tokens.ids).eq(ids.iter().copied()))
}

/// Logits of every head for every input: by head, then by input, with one row per answer.
pub(super) fn all_logits(
    executor: &dyn Executor,
    heads: &[HeadSpec],
    inputs: &[Vec<u32>],
    frame: (usize, usize),
) -> Result<Vec<Vec<Vec<f32>>>, ModelError> {
    let mut by_head: Vec<Vec<Vec<f32>>> = vec![Vec::new(); heads.len()];
    for inputs in batches(inputs) {
        let mut batch = PackedBatch::new();
        let rows: Vec<Range<usize>> = inputs
            .iter()
            .map(|ids| {
                let first = batch.push(ids.iter().copied());
                first..first + ids.len()
            })
            .collect();
        let failed = |e: super::executor::ExecutorError| ModelError::Executor(e.to_string());
        let encoded = executor.encode(&batch).map_err(failed)?;
        for (i, head) in heads.iter().enumerate() {
            let labels = head.labels.len();
            match head.task {
                HeadTask::TokenClassification => {
                    let logits = encoded.token_logits(HeadId(i), &rows).map_err(failed)?;
                    by_head[i].extend(logits.chunks_exact(labels).map(<[f32]>::to_vec));
                }
                // Hidden states have no labels to compare.
                HeadTask::Embedding => {}
                HeadTask::TextClassification => {
                    let spans: Vec<_> = rows.iter().map(|r| pooled(head.pooling, r, frame)).collect();
                    let logits = encoded.pooled_logits(HeadId(i), &spans).map_err(failed)?;
                    by_head[i].extend(logits.chunks_exact(labels).map(<[f32]>::to_vec));
                }
            }
        }
    }
    Ok(by_head)
}

/// Consecutive inputs, as many as fit one forward pass.
fn batches(inputs: &[Vec<u32>]) -> impl Iterator<Item = &[Vec<u32>]> {
    let mut rest = inputs;
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fitting = rest
            .iter()
            .take_while(|ids| {
                tokens += ids.len();
                tokens <= BATCH_TOKENS_MAX
            })
            .count();
        let (batch, after) = rest.split_at(fitting.max(1).min(rest.len()));
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

fn pooled(pooling: Pooling, rows: &Range<usize>, (prefix, suffix): (usize, usize)) -> Range<usize> {
    match pooling {
        Pooling::MeanWithSpecial => rows.clone(),
        Pooling::Mean if rows.len() > prefix + suffix => rows.start + prefix..rows.end - suffix,
        _ => rows.start..rows.start + 1,
    }
}

/// Counts equal labels and keeps the largest difference.
#[derive(Default)]
pub(super) struct Tally {
    same: usize,
    all: usize,
    pub(super) largest_difference: Option<f64>,
}

impl Tally {
    pub(super) fn compare(&mut self, expected: &[f64], got: &[f32]) {
        let got = widened(got);
        let likeliest = |l: &[f64]| (0..l.len()).fold(0, |best, i| if l[i] > l[best] { i } else { best });
        self.all += 1;
        self.same += usize::from(likeliest(expected) == likeliest(&got));
        for (x, y) in expected.iter().zip(&got) {
            let difference = (x - y).abs();
            // Not a number is the largest difference of all.
            let difference = if difference.is_nan() { f64::MAX } else { difference };
            self.largest_difference = Some(self.largest_difference.unwrap_or(0.0).max(difference));
        }
    }

    pub(super) fn agreement(&self) -> Option<f64> {
        (self.all > 0).then(|| self.same as f64 / self.all as f64)
    }
}

pub(super) fn widened(logits: &[f32]) -> Vec<f64> {
    logits.iter().map(|x| f64::from(*x)).collect()
}

fn compare(
    executor: &dyn Executor,
    heads: &[HeadSpec],
    expected: &Expected,
    frame: (usize, usize),
) -> Result<Tally, ModelError> {
    let got = all_logits(executor, heads, &expected.input_ids, frame)?;
    let mut tally = Tally::default();
    for (head, got) in heads.iter().zip(&got) {
        let rows: Vec<&Vec<f64>> = match &expected.logits {
            ExpectedLogits::Single(rows) => rows.iter().collect(),
            ExpectedLogits::ByHead(heads) => match heads.get(&head.name) {
                Some(HeadLogits::Text(rows)) => rows.iter().collect(),
                Some(HeadLogits::Tokens(inputs)) => inputs.iter().flatten().collect(),
                None => continue,
            },
        };
        if rows.len() != got.len() || rows.iter().zip(got).any(|(a, b)| a.len() != b.len()) {
            return Err(ModelError::head(
                &head.name,
                format!("{EXPECTED} holds logits of another shape than the model gives"),
            ));
        }
        for (expected, got) in rows.into_iter().zip(got) {
            tally.compare(expected, got);
        }
    }
    Ok(tally)
}

fn median_seconds(
    executor: &dyn Executor,
    heads: &[HeadSpec],
    inputs: &[Vec<u32>],
    frame: (usize, usize),
) -> Result<f64, ModelError> {
    all_logits(executor, heads, inputs, frame)?;
    let mut seconds = Vec::with_capacity(REPEATS);
    for _ in 0..REPEATS {
        let begun = Instant::now();
        all_logits(executor, heads, inputs, frame)?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[REPEATS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_lengths_are_those_of_customer_messages() {
        let lengths = usual_lengths();
        let mean = lengths.iter().sum::<usize>() as f64 / lengths.len() as f64;
        assert_eq!(lengths.len(), 64);
        assert!((42.0..52.0).contains(&mean), "{mean}");
        assert!(lengths.iter().all(|n| (6..=256).contains(n)));
    }

    #[test]
    fn batches_keep_the_order_and_pass_over_nothing() {
        let inputs: Vec<Vec<u32>> = [5000, 3000, 200, 9000, 1].iter().map(|n| vec![*n as u32; *n]).collect();
        let sizes: Vec<usize> = batches(&inputs).map(<[_]>::len).collect();
        assert_eq!(sizes, [2, 1, 1, 1]);
    }
}
