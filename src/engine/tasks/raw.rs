//! A model that is asked for its own labels, entities or embeddings, rather than for one of our closed sets.
//!
//! Long texts are read in windows as everywhere. Labels of windows are averaged by the tokens that each answers for;
//! entities and token embeddings come from the window that has most context around a token. Of a pair, the first text
//! is read in windows and the second goes with each of them.

use std::{ops::Range, sync::Arc};

use super::{
    classify::{softmax, weighted_mean},
    entities::{self, Aggregation, Entity, TokenScores},
    windows::{Window, windows},
};
use crate::engine::{
    TextError,
    batch::PackedBatch,
    executor::{Encoded, ExecutorError, HeadId},
    heads::{Activation, HeadSpec, HeadTask, Pooling},
    tokenize::{Tokenizer, Tokens},
};

/// A text, or two that are read together (a premise and a hypothesis, a question and an answer).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawInput {
    pub text: String,
    pub pair: Option<String>,
}

impl From<String> for RawInput {
    fn from(text: String) -> Self {
        Self { text, pair: None }
    }
}

/// What is wanted of the texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawTask {
    /// A score for every label.
    Labels,
    /// Parts of the text that have a label.
    Entities(Aggregation),
    /// One vector for a text, of length 1 where `normalize` says so.
    Embedding { pooling: Option<Pooling>, normalize: bool },
    /// One vector for each token, special ones included.
    TokenEmbeddings,
}

impl RawTask {
    /// What a head is asked before it serves.
    pub fn trial(head: HeadTask) -> Self {
        match head {
            HeadTask::TextClassification => RawTask::Labels,
            HeadTask::TokenClassification => RawTask::Entities(Aggregation::None),
            HeadTask::Embedding => RawTask::Embedding { pooling: None, normalize: false },
        }
    }

    /// The kind of head that can answer it.
    pub fn needs(&self) -> HeadTask {
        match self {
            RawTask::Labels => HeadTask::TextClassification,
            RawTask::Entities(_) => HeadTask::TokenClassification,
            RawTask::Embedding { .. } | RawTask::TokenEmbeddings => HeadTask::Embedding,
        }
    }
}

/// What a model answered about one input.
#[derive(Clone, Debug, PartialEq)]
pub struct RawAnswer {
    pub output: RawOutput,
    /// Tokens of the input, special ones left out.
    pub tokens: u32,
    /// True where part of the input did not go through the model.
    pub truncated: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RawOutput {
    /// One entry per label of the model, in its order. Logits are what `raw_scores` asks for.
    Labels {
        logits: Vec<f32>,
        probabilities: Vec<f64>,
    },
    Entities(Vec<Entity>),
    Embedding(Vec<f32>),
    TokenEmbeddings(Vec<Vec<f32>>),
}

/// A head and what is asked of it.
#[derive(Clone, Debug)]
pub struct RawAsk {
    pub head: HeadId,
    pub spec: Arc<HeadSpec>,
    /// Numbers per answer.
    pub outputs: usize,
    pub task: RawTask,
}

impl RawAsk {
    fn per_token(&self) -> bool {
        matches!(self.task, RawTask::Entities(_) | RawTask::TokenEmbeddings)
    }

    fn pooling(&self) -> Pooling {
        match self.task {
            RawTask::Embedding { pooling: Some(pooling), .. } => pooling,
            _ => self.spec.pooling,
        }
    }
}

/// A text with its tokens; several plans may share one.
#[derive(Clone)]
pub struct Tokenised {
    text: Arc<str>,
    tokens: Arc<Tokens>,
}

impl Tokenised {
    pub fn new(text: &str, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        if text.trim().is_empty() {
            return Err(TextError::Empty);
        }
        Ok(Self { text: text.into(), tokens: Arc::new(tokenizer.encode(text)?) })
    }
}

/// One input, ready for the model.
pub struct RawPlan {
    ask: RawAsk,
    text: Arc<str>,
    first: Arc<Tokens>,
    second: Option<Arc<Tokens>>,
    /// Tokens of the second text that are read.
    second_len: usize,
    windows: Vec<Window>,
}

/// The part of a sequence that the first text of a pair keeps at least: the second is cut to the rest.
const FIRST_SHARE: usize = 2;

impl RawPlan {
    /// Tokenises and cuts into windows. `window_tokens_max` counts neither special tokens nor a second text.
    pub fn new(
        input: &RawInput,
        ask: RawAsk,
        tokenizer: &Tokenizer,
        window_tokens_max: usize,
    ) -> Result<Self, TextError> {
        let first = Tokenised::new(&input.text, tokenizer)?;
        let second = input.pair.as_ref().map(|pair| Tokenised::new(pair, tokenizer)).transpose()?;
        Self::of(first, second, ask, tokenizer, window_tokens_max)
    }

    /// Of texts that are tokenised already.
    pub fn of(
        first: Tokenised,
        second: Option<Tokenised>,
        ask: RawAsk,
        tokenizer: &Tokenizer,
        window_tokens_max: usize,
    ) -> Result<Self, TextError> {
        let mut room = window_tokens_max;
        let mut second_len = 0;
        if let Some(second) = &second {
            let frame = tokenizer.pair().ok_or_else(|| {
                TextError::Tokenizer("the model's tokenizer has no form for a pair of texts".into())
            })?;
            room = (room + tokenizer.frame_len()).saturating_sub(frame.tokens());
            second_len = second.tokens.ids.len().min(room - room / FIRST_SHARE);
            room -= second_len;
        }
        if first.tokens.ids.is_empty() && tokenizer.frame_len() == 0 {
            return Err(TextError::Empty);
        }
        let windows = windows(first.tokens.ids.len(), room.max(1));
        let second = second.map(|s| s.tokens);
        Ok(Self { ask, text: first.text, first: first.tokens, second, second_len, windows })
    }

    /// Whether part of the input is not read.
    fn truncated(&self) -> bool {
        let cut = self.second.as_ref().is_some_and(|s| s.truncated || s.ids.len() > self.second_len);
        self.first.truncated || cut
    }

    pub fn windows(&self) -> usize {
        self.windows.len()
    }

    /// Tokens of the input, special ones left out.
    pub fn tokens(&self) -> usize {
        self.first.ids.len() + self.second_len
    }

    /// Tokens of a window in a batch, special ones included.
    pub fn sequence_tokens(&self, window: usize, tokenizer: &Tokenizer) -> usize {
        let own = self.windows[window].tokens.len();
        match (&self.second, tokenizer.pair()) {
            (Some(_), Some(frame)) => own + self.second_len + frame.tokens(),
            _ => own + tokenizer.frame_len(),
        }
    }

    /// Appends a window to a batch; returns its rows.
    pub fn push(&self, window: usize, tokenizer: &Tokenizer, batch: &mut PackedBatch) -> Range<usize> {
        let ids = &self.first.ids[self.windows[window].tokens.clone()];
        let start = match (&self.second, tokenizer.pair()) {
            (Some(second), Some(frame)) => {
                let second = &second.ids[..self.second_len];
                let parts = [&frame.prefix, ids, &frame.middle, second, &frame.suffix];
                let first_len = frame.prefix.len() + ids.len() + frame.middle.len();
                batch.push_pair(parts.into_iter().flatten().copied(), first_len, frame.second_type)
            }
            _ => batch.push(tokenizer.framed(ids)),
        };
        start..batch.tokens()
    }

    /// Rows of a window whose mean the answer is read from.
    fn pooled_rows(&self, window: usize, rows: &Range<usize>, tokenizer: &Tokenizer) -> Range<usize> {
        let first = rows.start..rows.start + 1;
        match self.ask.pooling() {
            Pooling::First => first,
            Pooling::MeanWithSpecial => rows.clone(),
            Pooling::Mean => {
                let start = rows.start + tokenizer.prefix_len();
                let own = start..start + self.windows[window].tokens.len();
                if own.is_empty() { first } else { own }
            }
        }
    }

    /// Puts the readings of all windows together, in their order.
    pub fn merge(&self, tokenizer: &Tokenizer, readings: &[&RawReading]) -> Result<RawAnswer, TextError> {
        let parts = || readings.iter().zip(&self.windows);
        if readings.iter().any(|r| r.values.iter().any(|v| !v.is_finite())) {
            return Err(TextError::NotFinite);
        }
        let mean = |of: &dyn Fn(&[f32]) -> Option<Vec<f64>>| {
            let parts: Option<Vec<_>> = parts().map(|(r, w)| Some((of(&r.values)?, w.owned.len()))).collect();
            parts.and_then(|p| weighted_mean(p.into_iter())).ok_or(TextError::NotFinite)
        };
        let output = match self.ask.task {
            RawTask::Labels => RawOutput::Labels {
                logits: narrowed(&mean(&|logits| Some(widened(logits)))?),
                probabilities: mean(&|logits| activated(&self.ask.spec, logits))?,
            },
            RawTask::Embedding { normalize, .. } => {
                let mut vector = narrowed(&mean(&|values| Some(widened(values)))?);
                if normalize {
                    normalise(&mut vector);
                }
                RawOutput::Embedding(vector)
            }
            RawTask::TokenEmbeddings => {
                let rows = self.rows_answered(tokenizer, readings);
                RawOutput::TokenEmbeddings(rows.into_iter().map(|(_, row)| row.to_vec()).collect())
            }
            RawTask::Entities(aggregation) => {
                let scored = self
                    .rows_answered(tokenizer, readings)
                    .into_iter()
                    .filter_map(|(token, row)| Some((token?, row)))
                    .map(|(token, row)| {
                        Some(TokenScores {
                            index: token + tokenizer.prefix_len(),
                            id: self.first.ids[token],
                            bytes: self.first.offsets[token].clone(),
                            probabilities: softmax(&scaled(&self.ask.spec, row))?,
                        })
                    })
                    .collect::<Option<Vec<_>>>()
                    .ok_or(TextError::NotFinite)?;
                RawOutput::Entities(entities::entities(
                    &self.text,
                    tokenizer,
                    &self.ask.spec.labels,
                    aggregation,
                    scored,
                ))
            }
        };
        Ok(RawAnswer { output, tokens: self.tokens() as u32, truncated: self.truncated() })
    }

    /// The likeliest label of each answer in a reading; `None` for one that is not finite. An embedding has no labels.
    pub fn labels(&self, reading: &RawReading) -> Vec<Option<usize>> {
        if self.ask.spec.task == HeadTask::Embedding {
            return Vec::new();
        }
        let likeliest = |row: &[f32]| {
            let finite = row.iter().all(|v| v.is_finite());
            finite.then(|| (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }))
        };
        reading.values.chunks_exact(self.ask.outputs).map(likeliest).collect()
    }

    /// Rows in text order, each from the window that answers for it, with the token of the text or `None` for a special
    /// one.
    fn rows_answered<'r>(
        &self,
        tokenizer: &Tokenizer,
        readings: &[&'r RawReading],
    ) -> Vec<(Option<usize>, &'r [f32])> {
        let prefix = match (&self.second, tokenizer.pair()) {
            (Some(_), Some(frame)) => frame.prefix.len(),
            _ => tokenizer.prefix_len(),
        };
        let last = readings.len().saturating_sub(1);
        let mut answered = Vec::new();
        for (i, (reading, window)) in readings.iter().zip(&self.windows).enumerate() {
            for (row, values) in reading.values.chunks_exact(self.ask.outputs).enumerate() {
                let token = row.checked_sub(prefix).map(|r| r + window.tokens.start);
                match token {
                    None if i == 0 => answered.push((None, values)),
                    Some(token) if token >= window.tokens.end && i == last => answered.push((None, values)),
                    Some(token) if window.owned.contains(&token) && token < window.tokens.end => {
                        answered.push((Some(token), values));
                    }
                    _ => {}
                }
            }
        }
        answered
    }
}

/// What one window said: one answer, or one for each row.
#[derive(Clone, Debug, Default)]
pub struct RawReading {
    values: Vec<f32>,
}

/// A window of a raw plan in an encoded batch.
pub struct RawPlaced<'p> {
    pub plan: &'p RawPlan,
    pub window: usize,
    pub rows: Range<usize>,
}

/// Reads what was asked of the windows of a batch, with one product for each head and kind of answer.
pub fn read(
    encoded: &dyn Encoded,
    tokenizer: &Tokenizer,
    placed: &[RawPlaced],
) -> Result<Vec<RawReading>, ExecutorError> {
    let mut readings = vec![RawReading::default(); placed.len()];
    let mut asks: Vec<(HeadId, bool)> =
        placed.iter().map(|p| (p.plan.ask.head, p.plan.ask.per_token())).collect();
    asks.sort_by_key(|(head, per_token)| (head.0, *per_token));
    asks.dedup();
    for (head, per_token) in asks {
        let mine = || {
            placed
                .iter()
                .enumerate()
                .filter(move |(_, p)| p.plan.ask.head == head && p.plan.ask.per_token() == per_token)
        };
        let rows: Vec<Range<usize>> =
            mine()
                .map(|(_, p)| {
                    if per_token { p.rows.clone() } else { p.plan.pooled_rows(p.window, &p.rows, tokenizer) }
                })
                .collect();
        let values = if per_token {
            encoded.token_logits(head, &rows)?
        } else {
            encoded.pooled_logits(head, &rows)?
        };
        let mut at = 0;
        for ((i, p), rows) in mine().zip(&rows) {
            let answers = if per_token { rows.len() } else { 1 };
            let len = answers * p.plan.ask.outputs;
            readings[i].values = values[at..at + len].to_vec();
            at += len;
        }
    }
    Ok(readings)
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

fn narrowed(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

fn scaled(spec: &HeadSpec, logits: &[f32]) -> Vec<f64> {
    logits.iter().map(|l| f64::from(*l) / f64::from(spec.temperature)).collect()
}

/// Scores of a model's labels; `None` where a logit is not finite.
pub fn activated(spec: &HeadSpec, logits: &[f32]) -> Option<Vec<f64>> {
    let scaled = scaled(spec, logits);
    match spec.activation {
        Activation::Softmax => softmax(&scaled),
        Activation::Sigmoid => {
            let finite = scaled.iter().all(|l| l.is_finite());
            finite.then(|| scaled.into_iter().map(|l| 1.0 / (1.0 + (-l).exp())).collect())
        }
        Activation::Identity => scaled.iter().all(|l| l.is_finite()).then_some(scaled),
    }
}

/// Scales a vector to length 1; one of length 0 stays.
fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
    }
}
