//! The executor for CPUs: packed tokens, weights packed once, products in f32, bf16 or int8.
//!
//! A batch is cut into groups of whole sequences, and a group goes through all layers on one thread: it never waits for
//! another thread, and its rows stay in that core's cache. What is multiplied is in the `hearken-kernels` crate.

mod groups;
mod layer;
mod scratch;

use std::ops::Range;

use hearken_kernels::{
    attention::{Heads, Part},
    cpu::{self, Bf16, Int8},
    dense::{Arithmetic, Dense, Output, ProductError},
    vector::activation::{Activation, Tanh},
};
use rayon::prelude::*;
use rten_simd::SimdUnaryOp;

use self::{
    groups::{Group, groups},
    layer::{Layer, Norm, Projected},
    scratch::{BatchScratch, GroupScratch, Pool, RowScratch},
};
use super::{
    batch::PackedBatch,
    error::ModelError,
    executor::{Encoded, Executor, ExecutorError, ExecutorInfo, HeadId},
    heads::{Affine, HeadActivation, HeadWeights},
    names::embedding_projection,
    spec::EncoderSpec,
    weights::{Checkpoint, Table, WORD_EMBEDDINGS},
};

/// Rows of a group or block: many enough that reading a layer's weights (7 MB of int8 in XLM-R base) is a small part of its
/// time, few enough that what a product reads and writes (786 KB each there) stays in a core's second-level cache.
const ROWS_MAX: usize = 256;
/// Fewer rows than this are not worth waking another thread for.
const ROWS_MIN: usize = 32;
/// Rows of a tile: blocks of whole ones waste nothing.
const TILE_ROWS: usize = 16;

/// The numbers that layers multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    F32,
    Bf16,
    Int8,
}

pub struct CpuExecutor {
    spec: EncoderSpec,
    precision: Precision,
    kernel: String,
    /// Attention multiplies in bf16 where layers do not multiply in f32 and bf16 is faster.
    attention: Option<Bf16>,
    threads: rayon::ThreadPool,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    heads: Vec<Head>,
    batches: Pool<BatchScratch>,
    groups: Pool<GroupScratch>,
    rows: Pool<RowScratch>,
}

struct Embeddings {
    words: Table,
    /// positions x width, each with the first token type added: most texts are of that one alone.
    positions: Vec<f32>,
    /// What another token type has more than the first: types x width; empty in a family without them.
    other_types: Vec<f32>,
    norm: Norm,
    /// To the width of the hidden states, where embeddings have another.
    projection: Option<Dense>,
}

struct Head {
    dense: Option<(Dense, HeadActivation)>,
    out: Dense,
}

pub(super) fn product_error(error: ProductError) -> ExecutorError {
    ExecutorError::Product(error.0)
}

impl CpuExecutor {
    /// Packs a checkpoint's weights. `threads` is 0 for one per core. bf16 where [`Self::has_bf16`] says no is an error.
    pub fn new(
        spec: &EncoderSpec,
        checkpoint: &Checkpoint,
        heads: &[HeadWeights],
        precision: Precision,
        threads: usize,
    ) -> Result<Self, ModelError> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("forward-{i}"))
            .build()
            .map_err(|e| ModelError::Executor(format!("threads: {e}")))?;
        let (arithmetic, kernel) = match precision {
            Precision::F32 => (Arithmetic::F32, cpu::f32_name()),
            Precision::Int8 => (Arithmetic::Int8(Int8::best()), Int8::best().name()),
            Precision::Bf16 => {
                let kernel = Bf16::best()
                    .ok_or_else(|| ModelError::Executor("this processor has no bf16 arithmetic".into()))?;
                (Arithmetic::Bf16(kernel), kernel.name())
            }
        };
        let attention = match precision {
            Precision::F32 => None,
            Precision::Bf16 => Bf16::best(),
            Precision::Int8 => Bf16::best().filter(|kernel| kernel.pays()),
        };
        let embeddings = Embeddings::read(spec, checkpoint)?;
        let layers = threads.install(|| {
            (0..if spec.shared_layers { 1 } else { spec.layers })
                .into_par_iter()
                .map(|i| Layer::read(spec, checkpoint, arithmetic, i))
                .collect::<Result<Vec<_>, _>>()
        })?;
        // Heads are a small part of the work: they stay in f32.
        let dense = |layer: &Affine| Dense::new(Arithmetic::F32, &layer.weight, &layer.bias);
        let heads = heads.iter().map(|head| Head {
            dense: head.dense.as_ref().map(|d| (dense(d), head.activation)),
            out: dense(&head.out),
        });
        Ok(Self {
            spec: spec.clone(),
            precision,
            kernel: match attention {
                Some(attention) => format!("{kernel}, attention {}", attention.name()),
                None => kernel.into(),
            },
            attention,
            threads,
            embeddings,
            layers,
            heads: heads.collect(),
            batches: Pool::new(),
            groups: Pool::new(),
            rows: Pool::new(),
        })
    }

    /// Whether this CPU can multiply in bf16.
    pub fn has_bf16() -> bool {
        Bf16::best().is_some()
    }

    /// Whether bf16 is faster than f32 here.
    pub fn has_fast_bf16() -> bool {
        Bf16::best().is_some_and(Bf16::pays)
    }

    fn check(&self, batch: &PackedBatch) -> Result<(), ExecutorError> {
        let (vocabulary, tokens_max) = (self.spec.vocabulary, self.spec.tokens_max());
        if let Some(id) = batch.ids.iter().find(|id| **id as usize >= vocabulary) {
            return Err(ExecutorError::TokenOutsideVocabulary { id: *id, vocabulary });
        }
        match batch.sequences().map(|(_, len)| len).max() {
            Some(tokens) if tokens > tokens_max => Err(ExecutorError::SequenceTooLong { tokens, tokens_max }),
            _ => Ok(()),
        }
    }

    /// Fills `scratch.hidden` with the hidden states of the last layer.
    fn forward(&self, batch: &PackedBatch, scratch: &mut BatchScratch) -> Result<(), ExecutorError> {
        let width = self.spec.hidden;
        let hidden = scratch.hidden.sized(batch.tokens() * width);
        let threads = self.threads.current_num_threads();
        let groups = groups(batch, threads, ROWS_MAX);
        match &groups[..] {
            // On the thread that asks: handing it over would take longer than a short text's work.
            [group] if group.rows.len() < 2 * ROWS_MIN || threads == 1 => {
                self.through_layers(batch, group, hidden, 1)
            }
            [group] => self.threads.install(|| self.through_layers(batch, group, hidden, threads)),
            _ => {
                let mut parts = Vec::with_capacity(groups.len());
                let mut rest = hidden;
                for group in &groups {
                    let (part, after) = rest.split_at_mut(group.rows.len() * width);
                    rest = after;
                    parts.push((group, part));
                }
                self.threads.install(|| {
                    parts
                        .into_par_iter()
                        .with_max_len(1)
                        .try_for_each(|(group, hidden)| self.through_layers(batch, group, hidden, 1))
                })
            }
        }
    }

    /// Brings a group of sequences through all layers; `hidden` is its rows.
    fn through_layers(
        &self,
        batch: &PackedBatch,
        group: &Group,
        hidden: &mut [f32],
        threads: usize,
    ) -> Result<(), ExecutorError> {
        let (rows, width) = (group.rows.len(), self.spec.hidden);
        if rows == 0 {
            return Ok(());
        }
        let heads = Heads { count: self.spec.heads, width: self.spec.head_width() };
        let parts = parts(batch, group, if threads > 1 { ROWS_MIN } else { usize::MAX });
        let block = block_rows(rows, threads);
        self.groups.with(|scratch| {
            let GroupScratch { qkv, qkv_bf16, context } = scratch;
            let mut qkv = Projected::sized(self.attention, rows, width, qkv, qkv_bf16);
            let context = context.sized(rows * width);
            self.embed(batch, group.rows.start, hidden)?;
            for layer in self.layers.iter().cycle().take(self.spec.layers) {
                each(
                    threads,
                    qkv.blocks(block, 3 * width).zip(hidden.chunks(block * width)),
                    |(qkv, hidden)| self.rows.with(|s| layer.project(hidden, qkv, s)),
                )?;
                each(threads, attended(&parts, context, width), |(part, context)| {
                    self.rows.with(|s| qkv.attend(heads, part, context, s));
                    Ok(())
                })?;
                each(
                    threads,
                    hidden.chunks_mut(block * width).zip(context.chunks(block * width)),
                    |(hidden, context)| self.rows.with(|s| layer.after_attention(hidden, context, s)),
                )?;
            }
            Ok(())
        })
    }

    /// Fills `hidden` with the embeddings of rows from `first_row` on.
    fn embed(&self, batch: &PackedBatch, first_row: usize, hidden: &mut [f32]) -> Result<(), ExecutorError> {
        let (width, embedding) = (self.spec.hidden, self.spec.embedding);
        let Some(projection) = &self.embeddings.projection else {
            self.embeddings.look_up(&self.spec, batch, first_row, hidden);
            return Ok(());
        };
        self.rows.with(|s| {
            let RowScratch { wide, operand, dense, .. } = s;
            let narrow = wide.sized(hidden.len() / width * embedding);
            self.embeddings.look_up(&self.spec, batch, first_row, narrow);
            operand.prepare(Arithmetic::F32, narrow, embedding);
            let output = Output::Store { values: hidden, stride: width };
            projection.apply(operand, output, None, dense).map_err(product_error)
        })
    }

    /// Logits of a head for rows of hidden states: rows x labels.
    fn logits(&self, head: &Head, rows: &[f32], out: &mut [f32]) -> Result<(), ExecutorError> {
        let (width, labels) = (self.spec.hidden, head.out.outputs());
        let threads = self.threads.current_num_threads();
        let block = block_rows(rows.len() / width, threads);
        let run = |rows: &[f32], out: &mut [f32]| {
            self.rows.with(|s| {
                let RowScratch { wide, operand, dense, .. } = s;
                operand.prepare(Arithmetic::F32, rows, width);
                if let Some((first, activation)) = &head.dense {
                    let inner = wide.sized(rows.len());
                    let to = Output::Store { values: &mut *inner, stride: width };
                    let fused = match activation {
                        HeadActivation::Tanh => None,
                        HeadActivation::Relu => Some(Activation::Relu),
                        HeadActivation::Gelu => Some(Activation::Gelu),
                    };
                    first.apply(operand, to, fused, dense).map_err(product_error)?;
                    if fused.is_none() {
                        Tanh.map_mut(inner);
                    }
                    operand.prepare(Arithmetic::F32, inner, width);
                }
                let output = Output::Store { values: out, stride: labels };
                head.out.apply(operand, output, None, dense).map_err(product_error)
            })
        };
        if rows.len() / width < 2 * ROWS_MIN {
            return run(rows, out);
        }
        self.threads.install(|| {
            rows.par_chunks(block * width)
                .zip(out.par_chunks_mut(block * labels))
                .try_for_each(|(rows, out)| run(rows, out))
        })
    }
}

impl Embeddings {
    fn read(spec: &EncoderSpec, checkpoint: &Checkpoint) -> Result<Self, ModelError> {
        let (hidden, width) = (spec.hidden, spec.embedding);
        let projection = || {
            let name = embedding_projection(spec.family);
            let weight = checkpoint.values(&format!("{name}.weight"), &[hidden, width])?;
            let bias = checkpoint.values(&format!("{name}.bias"), &[hidden])?;
            // A small part of the work: it stays in f32.
            Ok::<_, ModelError>(Dense::new(Arithmetic::F32, &weight, &bias))
        };
        let table = |name: &str, rows: usize| checkpoint.values(name, &[rows, width]);
        let mut positions = table("embeddings.position_embeddings.weight", spec.positions)?;
        let mut other_types = match spec.token_types {
            0 => Vec::new(),
            types => table("embeddings.token_type_embeddings.weight", types)?,
        };
        if let Some(first) = other_types.get(..width).map(<[f32]>::to_vec) {
            for position in positions.chunks_exact_mut(width) {
                position.iter_mut().zip(&first).for_each(|(p, t)| *p += t);
            }
            for other in other_types.chunks_exact_mut(width) {
                other.iter_mut().zip(&first).for_each(|(o, t)| *o -= t);
            }
        }
        Ok(Self {
            words: checkpoint.table(WORD_EMBEDDINGS, [spec.vocabulary, width])?,
            positions,
            other_types,
            norm: Norm::read(spec, checkpoint, "embeddings.LayerNorm", width)?,
            projection: if width == hidden { None } else { Some(projection()?) },
        })
    }

    /// Fills `to` with the normalised sums of word, position and type of rows from `first_row` on.
    fn look_up(&self, spec: &EncoderSpec, batch: &PackedBatch, first_row: usize, to: &mut [f32]) {
        let width = spec.embedding;
        let row_of = |i: usize| i * width..(i + 1) * width;
        for (i, row) in to.chunks_exact_mut(width).enumerate() {
            let at = first_row + i;
            self.words.copy_to(row_of(batch.ids[at] as usize), row);
            let position = &self.positions[row_of(batch.positions[at] as usize + spec.position_offset)];
            row.iter_mut().zip(position).for_each(|(x, p)| *x += p);
            let token_type = batch.token_type(at) as usize;
            // A family that has one type, or none, reads every token as of that one.
            if token_type > 0
                && let Some(other) = self.other_types.get(row_of(token_type))
            {
                row.iter_mut().zip(other).for_each(|(x, o)| *x += o);
            }
        }
        self.norm.apply(to);
    }
}

/// Runs `f` on each item, on the pool's threads if there is more than one to use.
fn each<T: Send>(
    threads: usize,
    items: impl Iterator<Item = T>,
    f: impl Fn(T) -> Result<(), ExecutorError> + Sync + Send,
) -> Result<(), ExecutorError> {
    if threads == 1 {
        return items.into_iter().try_for_each(f);
    }
    items.collect::<Vec<_>>().into_par_iter().with_max_len(1).try_for_each(f)
}

/// Rows of a block, so that blocks are of one size and every thread gets as many as the others.
fn block_rows(rows: usize, threads: usize) -> usize {
    let blocks = threads * rows.div_ceil(ROWS_MAX * threads).max(1);
    rows.div_ceil(blocks).next_multiple_of(TILE_ROWS)
}

/// The sequences of a group, cut into parts of at most `rows_max` rows; rows count from the group's first.
fn parts(batch: &PackedBatch, group: &Group, rows_max: usize) -> Vec<Part> {
    let mut parts = Vec::with_capacity(group.sequences.len());
    for sequence in group.sequences.clone() {
        let (start, end) = (batch.cu_seqlens[sequence] as usize, batch.cu_seqlens[sequence + 1] as usize);
        let (first, len) = (start - group.rows.start, end - start);
        let mut row = 0;
        while row < len {
            let next = row.saturating_add(rows_max).min(len);
            parts.push(Part { first, len, rows: row..next });
            row = next;
        }
    }
    parts
}

/// Each part with its rows of `context`.
fn attended<'a>(
    parts: &'a [Part],
    context: &'a mut [f32],
    width: usize,
) -> impl Iterator<Item = (&'a Part, &'a mut [f32])> {
    let mut rest = context;
    parts.iter().map(move |part| {
        let (rows, after) = std::mem::take(&mut rest).split_at_mut(part.rows.len() * width);
        rest = after;
        (part, rows)
    })
}

impl Executor for CpuExecutor {
    fn info(&self) -> ExecutorInfo {
        let precision = match self.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        };
        ExecutorInfo {
            device: "cpu".into(),
            precision,
            threads: self.threads.current_num_threads(),
            kernel: self.kernel.clone(),
        }
    }

    fn encode(&self, batch: &PackedBatch) -> Result<Box<dyn Encoded + '_>, ExecutorError> {
        self.check(batch)?;
        let mut scratch = self.batches.take();
        let outcome = self.forward(batch, &mut scratch);
        let encoded = CpuEncoded { executor: self, rows: batch.tokens(), scratch };
        outcome.map(|()| Box::new(encoded) as Box<dyn Encoded + '_>)
    }
}

struct CpuEncoded<'e> {
    executor: &'e CpuExecutor,
    rows: usize,
    scratch: BatchScratch,
}

impl CpuEncoded<'_> {
    fn hidden(&self) -> &[f32] {
        &self.scratch.hidden[..self.rows * self.executor.spec.hidden]
    }
}

impl Encoded for CpuEncoded<'_> {
    fn token_logits(&self, head: HeadId, rows: &[Range<usize>]) -> Result<Vec<f32>, ExecutorError> {
        let (executor, width) = (self.executor, self.executor.spec.hidden);
        let head = &executor.heads[head.0];
        let labels = head.out.outputs();
        let mut logits = vec![0.0; rows.iter().map(Range::len).sum::<usize>() * labels];
        let mut rest = &mut logits[..];
        // Neighbouring ranges go together: few products of many rows instead of many of few.
        for range in joined(rows) {
            let (out, after) = rest.split_at_mut(range.len() * labels);
            rest = after;
            executor.logits(head, &self.hidden()[range.start * width..range.end * width], out)?;
        }
        Ok(logits)
    }

    fn pooled_logits(&self, head: HeadId, spans: &[Range<usize>]) -> Result<Vec<f32>, ExecutorError> {
        let (executor, width) = (self.executor, self.executor.spec.hidden);
        let head = &executor.heads[head.0];
        let mut logits = vec![0.0; spans.len() * head.out.outputs()];
        let mut pooled = vec![0.0; spans.len() * width];
        for (mean, span) in pooled.chunks_exact_mut(width).zip(spans) {
            for row in self.hidden()[span.start * width..span.end * width].chunks_exact(width) {
                mean.iter_mut().zip(row).for_each(|(m, x)| *m += x);
            }
            let count = span.len() as f32;
            mean.iter_mut().for_each(|m| *m /= count);
        }
        executor.logits(head, &pooled, &mut logits)?;
        Ok(logits)
    }
}

impl Drop for CpuEncoded<'_> {
    fn drop(&mut self) {
        self.executor.batches.give(std::mem::take(&mut self.scratch));
    }
}

/// Ranges of which each begins where the one before ends become one.
fn joined(ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range.clone()),
        }
    }
    joined
}
