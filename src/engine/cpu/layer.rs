//! One layer of an encoder: its weights, and some rows on their way through it.

use hearken_kernels::{
    attention::{self, Heads, Part},
    cpu::Bf16,
    dense::{Arithmetic, Dense, DenseScratch, Output},
    memory::Aligned,
    vector::norm::NormRows,
};
use rten_simd::SimdOp;

use super::{product_error, scratch::RowScratch};
use crate::engine::{
    error::ModelError,
    executor::ExecutorError,
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
    up: Dense,
    down: Dense,
    norm: Norm,
    activation: Activation,
}

/// Queries, keys and values of a group, in the numbers that attention multiplies.
pub enum Projected<'a> {
    F32(&'a mut [f32]),
    Bf16(Bf16, &'a mut [u16]),
}

impl Norm {
    pub fn read(spec: &EncoderSpec, checkpoint: &Checkpoint, name: &str) -> Result<Self, ModelError> {
        // Checkpoints converted from early TensorFlow ones say gamma and beta.
        let (gain, bias) =
            if checkpoint.has(&format!("{name}.weight")) { ("weight", "bias") } else { ("gamma", "beta") };
        Ok(Self {
            gain: checkpoint.values(&format!("{name}.{gain}"), &[spec.hidden])?,
            bias: checkpoint.values(&format!("{name}.{bias}"), &[spec.hidden])?,
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
        let prefix = format!("encoder.layer.{index}");
        let (hidden, intermediate) = (spec.hidden, spec.intermediate);
        let values =
            |name: &str, outputs: usize, inputs: usize| -> Result<(Vec<f32>, Vec<f32>), ModelError> {
                Ok((
                    checkpoint.values(&format!("{prefix}.{name}.weight"), &[outputs, inputs])?,
                    checkpoint.values(&format!("{prefix}.{name}.bias"), &[outputs])?,
                ))
            };
        let dense = |name: &str, outputs: usize, inputs: usize| -> Result<Dense, ModelError> {
            let (weight, bias) = values(name, outputs, inputs)?;
            Ok(Dense::new(arithmetic, &weight, &bias))
        };
        let (mut weight, mut bias) = values("attention.self.query", hidden, hidden)?;
        for name in ["attention.self.key", "attention.self.value"] {
            let part = values(name, hidden, hidden)?;
            weight.extend(part.0);
            bias.extend(part.1);
        }
        Ok(Self {
            qkv: Dense::new(arithmetic, &weight, &bias),
            attention_out: dense("attention.output.dense", hidden, hidden)?,
            attention_norm: Norm::read(spec, checkpoint, &format!("{prefix}.attention.output.LayerNorm"))?,
            up: dense("intermediate.dense", intermediate, hidden)?,
            down: dense("output.dense", hidden, intermediate)?,
            norm: Norm::read(spec, checkpoint, &format!("{prefix}.output.LayerNorm"))?,
            activation: spec.activation,
        })
    }

    /// Queries, keys and values of some rows.
    pub fn project(
        &self,
        hidden: &[f32],
        to: Projected,
        scratch: &mut DenseScratch,
    ) -> Result<(), ExecutorError> {
        let stride = self.qkv.outputs();
        let output = match to {
            Projected::F32(values) => Output::Store { values, stride },
            Projected::Bf16(_, values) => Output::Bf16 { values, stride },
        };
        self.qkv.apply(hidden, output, None, scratch).map_err(product_error)
    }

    /// What follows attention, for some rows: project, add, normalise; feed forward, add, normalise.
    pub fn after_attention(
        &self,
        hidden: &mut [f32],
        context: &[f32],
        scratch: &mut RowScratch,
    ) -> Result<(), ExecutorError> {
        let RowScratch { wide, dense, .. } = scratch;
        let (width, intermediate) = (self.up.inputs(), self.up.outputs());
        let wide = wide.sized(hidden.len() / width * intermediate);
        let run = |layer: &Dense, x: &[f32], output: Output, activation, scratch: &mut DenseScratch| {
            layer.apply(x, output, activation, scratch).map_err(product_error)
        };
        run(&self.attention_out, context, Output::Add { values: &mut *hidden, stride: width }, None, dense)?;
        self.attention_norm.apply(hidden);
        let inner = Output::Store { values: &mut *wide, stride: intermediate };
        run(&self.up, hidden, inner, Some(self.activation), dense)?;
        run(&self.down, wide, Output::Add { values: &mut *hidden, stride: width }, None, dense)?;
        self.norm.apply(hidden);
        Ok(())
    }
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
