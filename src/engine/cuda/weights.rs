//! A checkpoint's tensors on the device: matrices in the model's numbers, small vectors in f32.
//!
//! Matrices are sent as f32 and rounded there, so that every file format ends in the same bits.

use std::sync::Arc;

use super::{
    driver::{Address, Driver, DriverError, Stream, Work},
    kernels::{self, HeadTable, NormAddress},
    memory::{Buffer, Memory, Pinned},
};
use crate::engine::{
    error::ModelError,
    heads::{Affine, HeadWeights},
    spec::{Activation, EncoderSpec},
    weights::{Checkpoint, WORD_EMBEDDINGS},
};

/// Numbers that are sent in one piece while a model is loaded.
const PIECE_NUMBERS: usize = 4 << 20;

pub struct DeviceWeights<D: Driver> {
    pub words: Address,
    /// Position plus first token type, from the first text position on.
    pub places: Address,
    pub norm: NormAddress,
    pub layers: Vec<LayerWeights>,
    pub heads: Vec<DeviceHead>,
    pub table: HeadTable,
    _buffers: Vec<Buffer<D>>,
}

/// Matrices are outputs x inputs.
pub struct LayerWeights {
    pub qkv: Address,
    /// In the model's numbers: added by the product.
    pub qkv_bias: Address,
    pub attention_out: Address,
    /// f32, as all that follow except where said.
    pub attention_bias: Address,
    pub attention_norm: NormAddress,
    pub up: Address,
    /// In the model's numbers where the product applies the activation.
    pub up_bias: Address,
    pub down: Address,
    pub down_bias: Address,
    pub norm: NormAddress,
}

pub struct DeviceHead {
    /// Weight, and bias in f32, of the layer before tanh.
    pub dense: Option<(Address, Address)>,
    /// labels x hidden and labels, f32; the same rows as in the table.
    pub weights: Address,
    pub bias: Address,
    pub labels: usize,
}

struct Loader<D: Driver> {
    memory: Arc<Memory<D>>,
    stream: Stream,
    pinned: Pinned<D>,
    staging: Buffer<D>,
    buffers: Vec<Buffer<D>>,
}

fn failed<D: Driver>(memory: &Memory<D>, error: &DriverError) -> ModelError {
    ModelError::Executor(format!("weights on the device: {}", memory.explain(error)))
}

impl<D: Driver> Loader<D> {
    fn new(memory: &Arc<Memory<D>>) -> Result<Self, DriverError> {
        Ok(Self {
            memory: memory.clone(),
            stream: memory.driver.stream()?,
            pinned: memory.pinned(4 * PIECE_NUMBERS)?,
            staging: memory.buffer(4 * PIECE_NUMBERS)?,
            buffers: Vec::new(),
        })
    }

    fn enqueue(&self, work: Work) -> Result<(), DriverError> {
        // SAFETY: the places below are this loader's own, as large as the work is, and synchronized before they change.
        unsafe { self.memory.driver.enqueue(self.stream, &work) }
    }

    fn send(&mut self, values: &[f32], to: Address) -> Result<(), DriverError> {
        let bytes = size_of_val(values);
        for (place, value) in self.pinned.bytes_mut().as_chunks_mut::<4>().0.iter_mut().zip(values) {
            *place = value.to_ne_bytes();
        }
        self.enqueue(Work::Upload { to, from: self.pinned.address, bytes })
    }

    /// A vector that stays f32.
    fn floats(&mut self, values: &[f32]) -> Result<Address, ModelError> {
        let mut load = || {
            let buffer = self.memory.buffer(4 * values.len())?;
            let address = buffer.address;
            self.buffers.push(buffer);
            for (i, piece) in values.chunks(PIECE_NUMBERS).enumerate() {
                self.send(piece, address.plus(4 * i * PIECE_NUMBERS))?;
                self.memory.driver.synchronize(self.stream)?;
            }
            Ok(address)
        };
        load().map_err(|e| failed(&self.memory, &e))
    }

    /// A matrix or vector in the model's numbers; a multiple of 8 of them.
    fn numbers(&mut self, values: &[f32]) -> Result<Address, ModelError> {
        let mut load = || {
            let buffer = self.memory.buffer(2 * values.len())?;
            let address = buffer.address;
            self.buffers.push(buffer);
            for (i, piece) in values.chunks(PIECE_NUMBERS).enumerate() {
                self.send(piece, self.staging.address)?;
                let to = address.plus(2 * i * PIECE_NUMBERS);
                self.enqueue(Work::Launch(kernels::convert(self.staging.address, to, piece.len())))?;
                self.memory.driver.synchronize(self.stream)?;
            }
            Ok(address)
        };
        load().map_err(|e| failed(&self.memory, &e))
    }

    fn words_as_u32(&mut self, values: &[u32]) -> Result<Address, ModelError> {
        self.floats(&values.iter().map(|v| f32::from_bits(*v)).collect::<Vec<_>>())
    }

    fn norm(&mut self, spec: &EncoderSpec, c: &Checkpoint, name: &str) -> Result<NormAddress, ModelError> {
        // Checkpoints converted from early TensorFlow ones say gamma and beta.
        let (gain, bias) =
            if c.has(&format!("{name}.weight")) { ("weight", "bias") } else { ("gamma", "beta") };
        Ok(NormAddress {
            gain: self.floats(&c.values(&format!("{name}.{gain}"), &[spec.hidden])?)?,
            bias: self.floats(&c.values(&format!("{name}.{bias}"), &[spec.hidden])?)?,
            epsilon: spec.norm_epsilon,
        })
    }

    fn layer(
        &mut self,
        spec: &EncoderSpec,
        c: &Checkpoint,
        index: usize,
    ) -> Result<LayerWeights, ModelError> {
        let prefix = format!("encoder.layer.{index}");
        let affine = |name: &str, outputs: usize, inputs: usize| -> Result<Affine, ModelError> {
            Ok(Affine {
                weight: c.values(&format!("{prefix}.{name}.weight"), &[outputs, inputs])?,
                bias: c.values(&format!("{prefix}.{name}.bias"), &[outputs])?,
            })
        };
        let (hidden, intermediate) = (spec.hidden, spec.intermediate);
        let mut qkv = affine("attention.self.query", hidden, hidden)?;
        for name in ["attention.self.key", "attention.self.value"] {
            let part = affine(name, hidden, hidden)?;
            qkv.weight.extend(part.weight);
            qkv.bias.extend(part.bias);
        }
        let attention_out = affine("attention.output.dense", hidden, hidden)?;
        let up = affine("intermediate.dense", intermediate, hidden)?;
        let down = affine("output.dense", hidden, intermediate)?;
        Ok(LayerWeights {
            qkv: self.numbers(&qkv.weight)?,
            qkv_bias: self.numbers(&qkv.bias)?,
            attention_out: self.numbers(&attention_out.weight)?,
            attention_bias: self.floats(&attention_out.bias)?,
            attention_norm: self.norm(spec, c, &format!("{prefix}.attention.output.LayerNorm"))?,
            up: self.numbers(&up.weight)?,
            up_bias: match spec.activation {
                Activation::Gelu => self.floats(&up.bias)?,
                Activation::GeluTanh | Activation::Relu => self.numbers(&up.bias)?,
            },
            down: self.numbers(&down.weight)?,
            down_bias: self.floats(&down.bias)?,
            norm: self.norm(spec, c, &format!("{prefix}.output.LayerNorm"))?,
        })
    }

    fn heads(
        &mut self,
        hidden: usize,
        heads: &[HeadWeights],
    ) -> Result<(Vec<DeviceHead>, HeadTable), ModelError> {
        let joined = |part: fn(&HeadWeights) -> &Vec<f32>| -> Vec<f32> {
            heads.iter().flat_map(|h| part(h).iter().copied()).collect()
        };
        let weights = self.floats(&joined(|h| &h.out.weight))?;
        let bias = self.floats(&joined(|h| &h.out.bias))?;
        let (mut placed, mut rows, mut row) = (Vec::new(), Vec::new(), 0);
        for head in heads {
            let dense = match &head.dense {
                Some(dense) => Some((self.numbers(&dense.weight)?, self.floats(&dense.bias)?)),
                None => None,
            };
            placed.push(DeviceHead {
                dense,
                weights: weights.plus(4 * row * hidden),
                bias: bias.plus(4 * row),
                labels: head.labels,
            });
            rows.extend([row as u32, head.labels as u32]);
            row += head.labels;
        }
        Ok((placed, HeadTable { heads: self.words_as_u32(&rows)?, weights, bias }))
    }
}

impl<D: Driver> DeviceWeights<D> {
    pub fn load(
        memory: &Arc<Memory<D>>,
        spec: &EncoderSpec,
        checkpoint: &Checkpoint,
        heads: &[HeadWeights],
    ) -> Result<Self, ModelError> {
        let mut loader = Loader::new(memory).map_err(|e| failed(memory, &e))?;
        let hidden = spec.hidden;
        let words = loader.numbers(&checkpoint.values(WORD_EMBEDDINGS, &[spec.vocabulary, hidden])?)?;
        let mut places =
            checkpoint.values("embeddings.position_embeddings.weight", &[spec.positions, hidden])?;
        let types =
            checkpoint.values("embeddings.token_type_embeddings.weight", &[spec.token_types, hidden])?;
        for row in places.chunks_exact_mut(hidden) {
            row.iter_mut().zip(&types[..hidden]).for_each(|(p, t)| *p += t);
        }
        let places = loader.floats(&places[spec.position_offset * hidden..])?;
        let norm = loader.norm(spec, checkpoint, "embeddings.LayerNorm")?;
        let layers =
            (0..spec.layers).map(|i| loader.layer(spec, checkpoint, i)).collect::<Result<Vec<_>, _>>()?;
        let (heads, table) = loader.heads(hidden, heads)?;
        Ok(Self { words, places, norm, layers, heads, table, _buffers: loader.buffers })
    }
}
