//! A dense layer with its weights packed once for the matrix kernels, in f32 or in int8.
//!
//! Products always take packed weights: `rten-gemm` then computes each output row in the same order of additions
//! whatever the number of rows and threads (its one other path, for a single row and unpacked weights, rounds
//! differently and is never taken).

use std::sync::OnceLock;

use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::{SimdOp, SimdUnaryOp};
use rten_tensor::NdTensorView;

use super::{
    scratch::{IntegerScratch, sized},
    vector::{self, DequantiseRows, Gelu, GeluTanh, Identity, QuantiseRows, Relu},
};
use crate::engine::{executor::ExecutorError, heads::Affine, spec::Activation};

/// The matrix kernels that fit this CPU: chosen once in a process, shared by every executor.
#[derive(Clone, Copy)]
pub struct Kernels {
    pub f32: &'static GemmExecutor<f32>,
    pub int8: &'static GemmExecutor<u8, i8, i32>,
}

impl Kernels {
    pub fn new() -> Self {
        // The executors may be used from any thread but not moved between threads, so they stay where they are made.
        static KERNELS: OnceLock<Kernels> = OnceLock::new();
        *KERNELS.get_or_init(|| Self {
            f32: Box::leak(Box::new(GemmExecutor::new())),
            int8: Box::leak(Box::new(GemmExecutor::new())),
        })
    }
}

/// How a layer's products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    F32,
    Int8,
}

enum Weights {
    F32(PackedBMatrix<f32>),
    Int8 {
        packed: PackedBMatrix<i8>,
        column_scales: Vec<f32>,
        /// Sums of the quantised weights of each column, by which a row's zero is taken out again.
        column_sums: Vec<i32>,
    },
}

pub struct Linear {
    weights: Weights,
    bias: Vec<f32>,
    inputs: usize,
}

impl Linear {
    pub fn new(kernels: &Kernels, arithmetic: Arithmetic, layer: &Affine) -> Self {
        let outputs = layer.bias.len();
        let inputs = layer.weight.len() / outputs;
        let weights = match arithmetic {
            Arithmetic::F32 => {
                Weights::F32(kernels.f32.prepack_b(transposed(&layer.weight, inputs, outputs)))
            }
            Arithmetic::Int8 => {
                let (quantised, column_scales) =
                    quantise_channels(&layer.weight, inputs, weight_level_max(kernels));
                let packed = kernels.int8.prepack_b(transposed(&quantised, inputs, outputs));
                let column_sums = quantised
                    .chunks_exact(inputs)
                    .map(|channel| channel.iter().map(|w| i32::from(*w)).sum())
                    .collect();
                Weights::Int8 { packed, column_scales, column_sums }
            }
        };
        Self { weights, bias: layer.bias.clone(), inputs }
    }

    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// `out = activation(x * weights + bias)` for each row of `x`.
    pub fn apply(
        &self,
        kernels: &Kernels,
        x: &[f32],
        out: &mut [f32],
        activation: Option<Activation>,
        scratch: &mut IntegerScratch,
    ) -> Result<(), ExecutorError> {
        let rows = x.len() / self.inputs;
        match &self.weights {
            Weights::F32(packed) => {
                let options =
                    GemmOptions { bias: Some(BiasVector::Row(&self.bias)), ..GemmOptions::default() };
                kernels
                    .f32
                    .gemm(
                        out,
                        GemmInputA::Unpacked(NdTensorView::from_data([rows, self.inputs], x)),
                        GemmInputB::Packed(packed),
                        options,
                    )
                    .map_err(product_error)?;
                if let Some(activation) = activation {
                    vector::activate(activation, out);
                }
            }
            Weights::Int8 { packed, column_scales, column_sums } => {
                let quantised = sized(&mut scratch.quantised, x.len());
                let row_scales = sized(&mut scratch.scales, rows);
                let zeros = sized(&mut scratch.zeros, rows);
                let sums = sized(&mut scratch.sums, out.len());
                QuantiseRows {
                    rows: x,
                    width: self.inputs,
                    levels: u8::MAX,
                    quantised: &mut *quantised,
                    scales: &mut *row_scales,
                    zeros: &mut *zeros,
                }
                .dispatch();
                // The rows' zeros are not given to the product: `rten-gemm` 0.27 applies those of the first few rows to
                // all of them.
                kernels
                    .int8
                    .gemm(
                        sums,
                        GemmInputA::Unpacked(NdTensorView::from_data([rows, self.inputs], &*quantised)),
                        GemmInputB::Packed(packed),
                        GemmOptions::default(),
                    )
                    .map_err(product_error)?;
                let parts = Dequantised {
                    sums,
                    row_scales,
                    zeros,
                    column_scales,
                    column_sums,
                    bias: &self.bias,
                    values: out,
                };
                match activation {
                    None => parts.with(Identity),
                    Some(Activation::Gelu) => parts.with(Gelu),
                    Some(Activation::GeluTanh) => parts.with(GeluTanh),
                    Some(Activation::Relu) => parts.with(Relu),
                }
            }
        }
        Ok(())
    }
}

pub fn product_error(error: rten_gemm::GemmError) -> ExecutorError {
    ExecutorError::Product(error.to_string())
}

struct Dequantised<'a> {
    sums: &'a [i32],
    row_scales: &'a [f32],
    zeros: &'a [u8],
    column_scales: &'a [f32],
    column_sums: &'a [i32],
    bias: &'a [f32],
    values: &'a mut [f32],
}

impl Dequantised<'_> {
    fn with(self, activation: impl SimdUnaryOp<f32>) {
        DequantiseRows {
            sums: self.sums,
            row_scales: self.row_scales,
            zeros: self.zeros,
            column_scales: self.column_scales,
            column_sums: self.column_sums,
            bias: self.bias,
            values: self.values,
            activation,
        }
        .dispatch();
    }
}

/// A checkpoint's outputs x inputs matrix, seen as inputs x outputs.
fn transposed<T>(weight: &[T], inputs: usize, outputs: usize) -> NdTensorView<'_, T, 2> {
    NdTensorView::from_slice_with_strides([inputs, outputs], weight, [1, inputs])
        .expect("shapes were checked when the tensor was read")
}

/// Largest magnitude of a quantised weight. Without dot-product instructions two products of 8 bits are added in 16
/// bits: 2 * 255 * 64 still fits there, 2 * 255 * 127 would be cut off.
fn weight_level_max(kernels: &Kernels) -> f32 {
    if kernels.int8.may_saturate() { 64.0 } else { 127.0 }
}

/// One scale per output channel, symmetric around zero.
fn quantise_channels(weight: &[f32], inputs: usize, level_max: f32) -> (Vec<i8>, Vec<f32>) {
    let mut quantised = Vec::with_capacity(weight.len());
    let mut scales = Vec::with_capacity(weight.len() / inputs);
    for channel in weight.chunks_exact(inputs) {
        let largest = channel.iter().fold(0.0f32, |m, w| m.max(w.abs()));
        let poison: f32 = channel.iter().map(|w| w * 0.0).sum();
        let scale = (largest / level_max).max(f32::MIN_POSITIVE);
        quantised.extend(channel.iter().map(|w| (w / scale).round_ties_even() as i8));
        scales.push(scale + poison);
    }
    (quantised, scales)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn int8_products_stay_close_to_exact_ones_for_rows_of_any_range() {
        let (inputs, outputs, rows) = (70, 19, 29);
        let wave = |i: usize, step: f32| (i as f32 * step).sin();
        let layer = Affine {
            weight: (0..inputs * outputs)
                .map(|i| (wave(i, 0.7) + 0.5) * (1.0 + (i / inputs) as f32))
                .collect(),
            bias: (0..outputs).map(|i| wave(i, 1.1)).collect(),
        };
        // Every row has a range, and so a scale and a zero, of its own.
        let x: Vec<f32> = (0..rows * inputs)
            .map(|i| wave(i, 1.3) * (1 + i / inputs) as f32 + (i / inputs % 5) as f32)
            .collect();
        let kernels = Kernels::new();
        let mut products = [vec![0.0; rows * outputs], vec![0.0; rows * outputs]];
        for (arithmetic, out) in [Arithmetic::F32, Arithmetic::Int8].into_iter().zip(&mut products) {
            let linear = Linear::new(&kernels, arithmetic, &layer);
            linear.apply(&kernels, &x, out, None, &mut IntegerScratch::default()).unwrap();
        }
        for (i, (exact, int8)) in products[0].iter().zip(&products[1]).enumerate() {
            let (row, column) = (i / outputs, i % outputs);
            let largest = |values: &[f32]| values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let range = largest(&x[row * inputs..(row + 1) * inputs])
                * largest(&layer.weight[column * inputs..(column + 1) * inputs]);
            assert!((exact - int8).abs() < 0.1 * range, "row {row}, column {column}: {int8} for {exact}");
        }
    }
}
