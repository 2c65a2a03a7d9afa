//! The executor for CPUs: packed tokens, weights packed once, f32 or int8 products.
//!
//! A batch is cut into blocks of rows that stay in a core's cache through a whole layer: gather attention's output,
//! project, add and normalise, feed forward, add and normalise, and the next layer's queries, keys and values. Only
//! attention looks across rows, so a layer has two meeting points for the threads.

mod attention;
mod linear;
mod scratch;
mod vector;

use std::ops::Range;

use rayon::prelude::*;
use rten_simd::{SimdOp, SimdUnaryOp};

pub use linear::Arithmetic;

use self::{
    attention::HeadLayout,
    linear::{Kernels, Linear},
    scratch::{AttentionScratch, BatchScratch, Pool, RowScratch, sized},
    vector::{AddNorm, Tanh},
};
use super::{
    batch::PackedBatch,
    error::ModelError,
    executor::{Encoded, Executor, ExecutorError, ExecutorInfo, HeadId},
    heads::{Affine, HeadWeights},
    spec::EncoderSpec,
    weights::{Checkpoint, Table, WORD_EMBEDDINGS},
};

/// Rows of a block: a multiple of the matrix kernels' tiles (6 and 8 rows), small enough that a block's widest values
/// (1,536 columns in the default pack: 440 KB) stay in the second-level cache.
const BLOCK_ROWS_MAX: usize = 72;
/// Below this a block costs more in reading weights than it gains in parallel rows; the matrix kernels then share out
/// columns instead.
const BLOCK_ROWS_MIN: usize = 24;
/// Rows of a full tile of most matrix kernels.
const TILE_ROWS: usize = 6;

pub struct CpuExecutor {
    spec: EncoderSpec,
    arithmetic: Arithmetic,
    threads: rayon::ThreadPool,
    kernels: Kernels,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    heads: Vec<Head>,
    batches: Pool<BatchScratch>,
    rows: Pool<RowScratch>,
    attention: Pool<AttentionScratch>,
}

struct Embeddings {
    words: Table,
    positions: Table,
    /// Only the first type is used: texts are scored one at a time.
    token_types: Table,
    norm: Norm,
}

struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

struct Layer {
    qkv: Linear,
    attention_out: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    norm: Norm,
}

struct Head {
    dense: Option<Linear>,
    out: Linear,
}

impl CpuExecutor {
    /// Packs a checkpoint's weights. `threads` is 0 for one per core.
    pub fn new(
        spec: &EncoderSpec,
        checkpoint: &Checkpoint,
        heads: &[HeadWeights],
        arithmetic: Arithmetic,
        threads: usize,
    ) -> Result<Self, ModelError> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("forward-{i}"))
            .build()
            .map_err(|e| ModelError::Executor(format!("threads: {e}")))?;
        let kernels = Kernels::new();
        let hidden = spec.hidden;
        let embeddings = Embeddings {
            words: checkpoint.table(WORD_EMBEDDINGS, [spec.vocabulary, hidden])?,
            positions: checkpoint.table("embeddings.position_embeddings.weight", [spec.positions, hidden])?,
            token_types: checkpoint
                .table("embeddings.token_type_embeddings.weight", [spec.token_types, hidden])?,
            norm: Norm::read(spec, checkpoint, "embeddings.LayerNorm")?,
        };
        let layers = threads.install(|| {
            (0..spec.layers)
                .into_par_iter()
                .map(|i| Layer::read(spec, checkpoint, &kernels, arithmetic, i))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let heads = heads
            .iter()
            .map(|head| Head {
                // Heads are a small part of the work: they stay in f32.
                dense: head.dense.as_ref().map(|d| Linear::new(&kernels, Arithmetic::F32, d)),
                out: Linear::new(&kernels, Arithmetic::F32, &head.out),
            })
            .collect();
        Ok(Self {
            spec: spec.clone(),
            arithmetic,
            threads,
            kernels,
            embeddings,
            layers,
            heads,
            batches: Pool::new(),
            rows: Pool::new(),
            attention: Pool::new(),
        })
    }

    /// Whether this CPU multiplies bytes faster than floats: it has dot-product instructions for them.
    pub fn has_fast_int8() -> bool {
        !Kernels::new().int8.may_saturate()
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

    fn head_layout(&self) -> HeadLayout {
        HeadLayout { heads: self.spec.heads, width: self.spec.head_width() }
    }

    /// Rows of a block, so that blocks are of one size and every thread gets as many as the others.
    fn block_rows(&self, rows: usize) -> usize {
        let threads = rayon::current_num_threads();
        let blocks = threads * rows.div_ceil(BLOCK_ROWS_MAX * threads).max(1);
        rows.div_ceil(blocks).next_multiple_of(TILE_ROWS).max(BLOCK_ROWS_MIN)
    }

    /// Fills `scratch.hidden` with the hidden states of the last layer.
    fn forward(&self, batch: &PackedBatch, scratch: &mut BatchScratch) -> Result<(), ExecutorError> {
        let (tokens, hidden_size) = (batch.tokens(), self.spec.hidden);
        let hidden = sized(&mut scratch.hidden, tokens * hidden_size);
        let qkv = sized(&mut scratch.qkv, tokens * 3 * hidden_size);
        let context = sized(&mut scratch.context, tokens * hidden_size);
        let block = self.block_rows(tokens);
        let sequences = attention::sequence_of_rows(batch);
        let layout = self.head_layout();

        hidden
            .par_chunks_mut(block * hidden_size)
            .zip(qkv.par_chunks_mut(block * 3 * hidden_size))
            .enumerate()
            .try_for_each(|(i, (hidden, qkv))| {
                self.embed(batch, i * block, hidden);
                match self.layers.first() {
                    Some(first) => {
                        self.rows.with(|s| first.qkv.apply(&self.kernels, hidden, qkv, None, &mut s.integer))
                    }
                    None => Ok(()),
                }
            })?;
        for (n, layer) in self.layers.iter().enumerate() {
            attention::attend(&self.kernels, layout, batch, qkv, context, &self.attention)?;
            let (context, next) = (&*context, self.layers.get(n + 1));
            hidden
                .par_chunks_mut(block * hidden_size)
                .zip(qkv.par_chunks_mut(block * 3 * hidden_size))
                .enumerate()
                .try_for_each(|(i, (hidden, qkv))| {
                    self.rows.with(|s| {
                        let RowScratch { narrow, wide, integer } = s;
                        // Each buffer is written whole before it is read.
                        let gathered = sized(wide, hidden.len());
                        attention::gather(layout, &sequences, context, i * block, gathered);
                        let update = sized(narrow, hidden.len());
                        layer.attention_out.apply(&self.kernels, gathered, update, None, integer)?;
                        layer.attention_norm.add_norm(hidden, Some(update));
                        let inner = sized(wide, hidden.len() / hidden_size * self.spec.intermediate);
                        layer.up.apply(&self.kernels, hidden, inner, Some(self.spec.activation), integer)?;
                        layer.down.apply(&self.kernels, inner, update, None, integer)?;
                        layer.norm.add_norm(hidden, Some(update));
                        match next {
                            Some(next) => next.qkv.apply(&self.kernels, hidden, qkv, None, integer),
                            None => Ok(()),
                        }
                    })
                })?;
        }
        Ok(())
    }

    fn embed(&self, batch: &PackedBatch, first_row: usize, hidden: &mut [f32]) {
        let width = self.spec.hidden;
        for (i, row) in hidden.chunks_exact_mut(width).enumerate() {
            let id = batch.ids[first_row + i] as usize;
            let position = batch.positions[first_row + i] as usize + self.spec.position_offset;
            row.fill(0.0);
            self.embeddings.words.add_to(id * width..(id + 1) * width, row);
            self.embeddings.positions.add_to(position * width..(position + 1) * width, row);
            self.embeddings.token_types.add_to(0..width, row);
        }
        self.embeddings.norm.add_norm(hidden, None);
    }

    /// Logits of a head for rows of hidden states: rows x labels.
    fn logits(&self, head: &Head, rows: &[f32], out: &mut [f32]) -> Result<(), ExecutorError> {
        let (width, labels) = (self.spec.hidden, head.out.outputs());
        let block = self.block_rows(rows.len() / width);
        rows.par_chunks(block * width).zip(out.par_chunks_mut(block * labels)).try_for_each(|(rows, out)| {
            self.rows.with(|s| {
                let RowScratch { narrow, integer, .. } = s;
                match &head.dense {
                    Some(dense) => {
                        let inner = sized(narrow, rows.len());
                        dense.apply(&self.kernels, rows, inner, None, integer)?;
                        Tanh.map_mut(inner);
                        head.out.apply(&self.kernels, inner, out, None, integer)
                    }
                    None => head.out.apply(&self.kernels, rows, out, None, integer),
                }
            })
        })
    }
}

impl Executor for CpuExecutor {
    fn info(&self) -> ExecutorInfo {
        let (precision, kernel) = match self.arithmetic {
            Arithmetic::F32 => ("f32", self.kernels.f32.kernel_name()),
            Arithmetic::Int8 => ("int8", self.kernels.int8.kernel_name()),
        };
        ExecutorInfo {
            device: "cpu".into(),
            precision,
            threads: self.threads.current_num_threads(),
            kernel: kernel.into(),
        }
    }

    fn encode(&self, batch: &PackedBatch) -> Result<Box<dyn Encoded + '_>, ExecutorError> {
        self.check(batch)?;
        let mut scratch = self.batches.take();
        let outcome = self.threads.install(|| self.forward(batch, &mut scratch));
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
        let mut parts = Vec::with_capacity(rows.len());
        let mut rest = &mut logits[..];
        for range in rows {
            let (out, after) = rest.split_at_mut(range.len() * labels);
            rest = after;
            parts.push((&self.hidden()[range.start * width..range.end * width], out));
        }
        executor
            .threads
            .install(|| parts.into_par_iter().try_for_each(|(rows, out)| executor.logits(head, rows, out)))?;
        Ok(logits)
    }

    fn pooled_logits(&self, head: HeadId, spans: &[Range<usize>]) -> Result<Vec<f32>, ExecutorError> {
        let (executor, width) = (self.executor, self.executor.spec.hidden);
        let head = &executor.heads[head.0];
        let mut logits = vec![0.0; spans.len() * head.out.outputs()];
        executor.threads.install(|| {
            let mut pooled = vec![0.0; spans.len() * width];
            pooled.par_chunks_mut(width).zip(spans).for_each(|(mean, span)| {
                for row in self.hidden()[span.start * width..span.end * width].chunks_exact(width) {
                    mean.iter_mut().zip(row).for_each(|(m, x)| *m += x);
                }
                let count = span.len() as f32;
                mean.iter_mut().for_each(|m| *m /= count);
            });
            executor.logits(head, &pooled, &mut logits)
        })?;
        Ok(logits)
    }
}

impl Drop for CpuEncoded<'_> {
    fn drop(&mut self) {
        self.executor.batches.give(std::mem::take(&mut self.scratch));
    }
}

impl Norm {
    fn read(spec: &EncoderSpec, checkpoint: &Checkpoint, name: &str) -> Result<Self, ModelError> {
        // Checkpoints converted from early TensorFlow ones say gamma and beta.
        let (gain, bias) =
            if checkpoint.has(&format!("{name}.weight")) { ("weight", "bias") } else { ("gamma", "beta") };
        Ok(Self {
            gain: checkpoint.values(&format!("{name}.{gain}"), &[spec.hidden])?,
            bias: checkpoint.values(&format!("{name}.{bias}"), &[spec.hidden])?,
            epsilon: spec.norm_epsilon,
        })
    }

    fn add_norm(&self, rows: &mut [f32], residual: Option<&[f32]>) {
        AddNorm { rows, residual, gain: &self.gain, bias: &self.bias, epsilon: self.epsilon }.dispatch();
    }
}

impl Layer {
    fn read(
        spec: &EncoderSpec,
        checkpoint: &Checkpoint,
        kernels: &Kernels,
        arithmetic: Arithmetic,
        index: usize,
    ) -> Result<Self, ModelError> {
        let prefix = format!("encoder.layer.{index}");
        let affine = |name: &str, outputs: usize, inputs: usize| -> Result<Affine, ModelError> {
            Ok(Affine {
                weight: checkpoint.values(&format!("{prefix}.{name}.weight"), &[outputs, inputs])?,
                bias: checkpoint.values(&format!("{prefix}.{name}.bias"), &[outputs])?,
            })
        };
        let linear = |layer: &Affine| Linear::new(kernels, arithmetic, layer);
        let (hidden, intermediate) = (spec.hidden, spec.intermediate);
        let mut qkv = affine("attention.self.query", hidden, hidden)?;
        for name in ["attention.self.key", "attention.self.value"] {
            let part = affine(name, hidden, hidden)?;
            qkv.weight.extend(part.weight);
            qkv.bias.extend(part.bias);
        }
        Ok(Self {
            qkv: linear(&qkv),
            attention_out: linear(&affine("attention.output.dense", hidden, hidden)?),
            attention_norm: Norm::read(spec, checkpoint, &format!("{prefix}.attention.output.LayerNorm"))?,
            up: linear(&affine("intermediate.dense", intermediate, hidden)?),
            down: linear(&affine("output.dense", hidden, intermediate)?),
            norm: Norm::read(spec, checkpoint, &format!("{prefix}.output.LayerNorm"))?,
        })
    }
}
