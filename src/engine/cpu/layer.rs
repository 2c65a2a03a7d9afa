//! One layer of an encoder: its weights, and some rows on their way through it.

use hearken_kernels::{
    attention::{self, Heads, Part},
    cpu::Bf16,
    dense::{Arithmetic, Dense, Output},
    memory::Aligned,
    vector::norm::NormRows,
};
use rten_simd::SimdOp;

use super::{product_error, scratch::RowScratch};
use crate::engine::{
    error::ModelError,
    executor::ExecutorError,
    names::LayerNames,
    spec::{Activation, EncoderSpec},
    weights::Checkpoint,
};

pub struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

pub struct Layer {
    qkv: Dense,
    attention_out: Dense,
    attention_norm: Norm,
    feed_forward: Vec<FeedForward>,
    norm: Norm,
    activation: Activation,
}

/// Some of the columns between the two products of a feed-forward block. What the second product makes of each part is
/// added up, so that only one part's values need to lie in the cache at a time; each part is quantised by itself.
struct FeedForward {
    up: Dense,
    down: Dense,
}

/// Columns of a part, at most: with 256 rows, 786 KB.
const FEED_FORWARD_COLUMNS_MAX: usize = 768;

/// Queries, keys and values of a group, in the numbers that attention multiplies.
pub enum Projected<'a> {
    F32(&'a mut [f32]),
    Bf16(Bf16, &'a mut [u16]),
}

impl Norm {
    pub fn read(
        spec: &EncoderSpec,
        checkpoint: &Checkpoint,
        name: &str,
        width: usize,
    ) -> Result<Self, ModelError> {
        // Checkpoints converted from early TensorFlow ones say gamma and beta.
        let (gain, bias) =
            if checkpoint.has(&format!("{name}.weight")) { ("weight", "bias") } else { ("gamma", "beta") };
        Ok(Self {
            gain: checkpoint.values(&format!("{name}.{gain}"), &[width])?,
            bias: checkpoint.values(&format!("{name}.{bias}"), &[width])?,
            epsilon: spec.norm_epsilon,
        })
    }

    pub fn apply(&self, rows: &mut [f32]) {
        NormRows { rows, gain: &self.gain, bias: &self.bias, epsilon: self.epsilon }.dispatch();
    }
}

impl Layer {
    pub fn read(
        spec: &EncoderSpec,
        checkpoint: &Checkpoint,
        arithmetic: Arithmetic,
        index: usize,
    ) -> Result<Self, ModelError> {
        let names = LayerNames::of(spec.family, index);
        let (hidden, intermediate) = (spec.hidden, spec.intermediate);
        let values =
            |name: &str, outputs: usize, inputs: usize| -> Result<(Vec<f32>, Vec<f32>), ModelError> {
                Ok((
                    checkpoint.values(&format!("{name}.weight"), &[outputs, inputs])?,
                    checkpoint.values(&format!("{name}.bias"), &[outputs])?,
                ))
            };
        let dense = |name: &str, outputs: usize, inputs: usize| -> Result<Dense, ModelError> {
            let (weight, bias) = values(name, outputs, inputs)?;
            Ok(Dense::new(arithmetic, &weight, &bias))
        };
        let (mut weight, mut bias) = values(&names.query, hidden, hidden)?;
        for name in [&names.key, &names.value] {
            let part = values(name, hidden, hidden)?;
            weight.extend(part.0);
            bias.extend(part.1);
        }
        Ok(Self {
            qkv: Dense::new(arithmetic, &weight, &bias),
            attention_out: dense(&names.attention_out, hidden, hidden)?,
            attention_norm: Norm::read(spec, checkpoint, &names.attention_norm, hidden)?,
            feed_forward: feed_forward(
                arithmetic,
                values(&names.up, intermediate, hidden)?,
                values(&names.down, hidden, intermediate)?,
            ),
            norm: Norm::read(spec, checkpoint, &names.norm, hidden)?,
            activation: spec.activation,
        })
    }

    /// Queries, keys and values of some rows.
    pub fn project(
        &self,
        hidden: &[f32],
        to: Projected,
        scratch: &mut RowScratch,
    ) -> Result<(), ExecutorError> {
        let stride = self.qkv.outputs();
        let output = match to {
            Projected::F32(values) => Output::Store { values, stride },
            Projected::Bf16(_, values) => Output::Bf16 { values, stride },
        };
        let RowScratch { operand, dense, .. } = scratch;
        operand.prepare(self.qkv.arithmetic(), hidden, self.qkv.inputs());
        self.qkv.apply(operand, output, None, dense).map_err(product_error)
    }

    /// What follows attention, for some rows: project, add, normalise; feed forward, add, normalise.
    pub fn after_attention(
        &self,
        hidden: &mut [f32],
        context: &[f32],
        scratch: &mut RowScratch,
    ) -> Result<(), ExecutorError> {
        let RowScratch { wide, operand, wide_operand, dense, .. } = scratch;
        let (arithmetic, width) = (self.qkv.arithmetic(), self.qkv.inputs());
        operand.prepare(arithmetic, context, width);
        let sum = Output::Add { values: &mut *hidden, stride: width };
        self.attention_out.apply(operand, sum, None, dense).map_err(product_error)?;
        self.attention_norm.apply(hidden);
        operand.prepare(arithmetic, hidden, width);
        for FeedForward { up, down } in &self.feed_forward {
            let columns = up.outputs();
            let wide = wide.sized(hidden.len() / width * columns);
            let inner = Output::Store { values: &mut *wide, stride: columns };
            up.apply(operand, inner, Some(self.activation), dense).map_err(product_error)?;
            wide_operand.prepare(arithmetic, wide, columns);
            let sum = Output::Add { values: &mut *hidden, stride: width };
            down.apply(wide_operand, sum, None, dense).map_err(product_error)?;
        }
        self.norm.apply(hidden);
        Ok(())
    }
}

/// Cuts a feed-forward block into parts of equal columns; the second product's bias goes with the first part.
fn feed_forward(
    arithmetic: Arithmetic,
    (up, up_bias): (Vec<f32>, Vec<f32>),
    (down, down_bias): (Vec<f32>, Vec<f32>),
) -> Vec<FeedForward> {
    let (intermediate, hidden) = (up_bias.len(), down_bias.len());
    let parts = intermediate.div_ceil(FEED_FORWARD_COLUMNS_MAX);
    // Whole groups of the inner dimension, where there are several parts.
    let columns = intermediate.div_ceil(parts).next_multiple_of(if parts > 1 { 64 } else { 1 });
    (0..intermediate)
        .step_by(columns)
        .map(|from| {
            let to = (from + columns).min(intermediate);
            let part: Vec<f32> =
                down.chunks_exact(intermediate).flat_map(|row| row[from..to].to_vec()).collect();
            let bias = if from == 0 { down_bias.clone() } else { vec![0.0; hidden] };
            FeedForward {
                up: Dense::new(arithmetic, &up[from * hidden..to * hidden], &up_bias[from..to]),
                down: Dense::new(arithmetic, &part, &bias),
            }
        })
        .collect()
}

impl Projected<'_> {
    /// Buffers for `rows` rows of three times `hidden` numbers.
    pub fn sized<'a>(
        kernel: Option<Bf16>,
        rows: usize,
        hidden: usize,
        f32: &'a mut Aligned<f32>,
        bf16: &'a mut Aligned<u16>,
    ) -> Projected<'a> {
        match kernel {
            None => Projected::F32(f32.sized(rows * 3 * hidden)),
            Some(kernel) => Projected::Bf16(kernel, bf16.sized((rows + attention::SPARE_ROWS) * 3 * hidden)),
        }
    }

    /// Blocks of `rows` rows of `stride` numbers, the last one of what is left.
    pub fn blocks(&mut self, rows: usize, stride: usize) -> Box<dyn Iterator<Item = Projected<'_>> + '_> {
        match self {
            Self::F32(values) => Box::new(values.chunks_mut(rows * stride).map(Projected::F32)),
            Self::Bf16(kernel, values) => {
                let kernel = *kernel;
                Box::new(values.chunks_mut(rows * stride).map(move |values| Projected::Bf16(kernel, values)))
            }
        }
    }

    pub fn attend(&self, heads: Heads, part: &Part, context: &mut [f32], scratch: &mut RowScratch) {
        match self {
            Self::F32(qkv) => attention::attend_f32(heads, part, qkv, context, &mut scratch.attention),
            Self::Bf16(kernel, qkv) => {
                attention::attend_bf16(*kernel, heads, part, qkv, context, &mut scratch.attention)
            }
        }
    }
}
