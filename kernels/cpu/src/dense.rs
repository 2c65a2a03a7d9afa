//! A dense layer, `y = activation(x W + b)`, with its weights packed once.

use std::sync::OnceLock;

use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::{Isa, SimdOp, SimdUnaryOp, ops::BitOps};
use rten_tensor::NdTensorView;

pub use crate::operand::{Operand, bf16_bits};
use crate::{
    cpu::{Bf16, Int8},
    finish::{Block as Finish, Int8Scales, Into, Scaling, finish},
    memory::Aligned,
    operand::{Form, to_bf16},
    product::{AHEAD_BYTES, STRIPE_ROWS, Step, Sums},
    simd_f32,
    tile::{self, COLUMNS, GROUP_BYTES, PANEL_GROUP_BYTES, ROWS},
    vector::activation::{Activation, Gelu, GeluRough, GeluTanh, Identity, Relu},
};

/// The numbers that a layer multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    F32,
    Bf16(Bf16),
    /// Weights in 8 bits with a scale per output, inputs quantised as they come with a scale per row.
    Int8(Int8),
}

pub struct Dense {
    arithmetic: Arithmetic,
    inputs: usize,
    outputs: usize,
    /// Padded to whole panels.
    bias: Aligned<f32>,
    weights: Weights,
}

enum Weights {
    F32(Aligned<f32>),
    Bf16(Aligned<u8>),
    Int8 { packed: PackedBytes, column_scales: Aligned<f32>, column_sums: Aligned<f32> },
}

enum PackedBytes {
    Panels(Aligned<u8>),
    Rten(PackedBMatrix<i8>),
}

/// What a layer needs beside its input and output. Any layer may use any scratch.
#[derive(Default)]
pub struct DenseScratch {
    sums: Sums,
    /// Sums of whole products, where `rten-gemm` makes them.
    whole_sums: Aligned<i32>,
}

/// A product that could not be computed.
#[derive(Debug)]
pub struct ProductError(pub String);

/// Where results go: rows that begin `stride` numbers apart.
pub enum Output<'a> {
    /// Results replace what is there.
    Store { values: &'a mut [f32], stride: usize },
    /// Results are added to what is there.
    Add { values: &'a mut [f32], stride: usize },
    /// Results are rounded to bf16; only where [`Bf16::available`] is not empty.
    Bf16 { values: &'a mut [u16], stride: usize },
}

impl Output<'_> {
    /// Numbers that there is room for, and the distance of two rows.
    fn room(&self) -> (usize, usize) {
        match self {
            Self::Store { values, stride } | Self::Add { values, stride } => (values.len(), *stride),
            Self::Bf16 { values, stride } => (values.len(), *stride),
        }
    }
}

impl Dense {
    /// `weight` is outputs x inputs, row after row, as checkpoints hold it.
    ///
    /// # Panics
    ///
    /// If `weight` does not hold a whole number of rows, one per bias.
    pub fn new(arithmetic: Arithmetic, weight: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        assert!(outputs > 0 && weight.len().is_multiple_of(outputs), "one row of weights per output");
        let inputs = weight.len() / outputs;
        let weights = match arithmetic {
            Arithmetic::F32 => Weights::F32(tile::pack_f32(outputs, inputs, weight)),
            Arithmetic::Bf16(_) => Weights::Bf16(tile::pack_bytes(outputs, inputs, |o, i| {
                bf16_bits(weight[o * inputs + i]).to_le_bytes()
            })),
            Arithmetic::Int8(kernel) => {
                let (quantised, scales) = quantise_channels(weight, inputs, weight_level_max(kernel));
                let sum = |channel: &[i8]| channel.iter().map(|w| i32::from(*w)).sum::<i32>() as f32;
                let packed = match kernel.block() {
                    Some(_) => PackedBytes::Panels(tile::pack_bytes(outputs, inputs, |o, i| {
                        quantised[o * inputs + i].to_le_bytes()
                    })),
                    None => PackedBytes::Rten(rten_int8().prepack_b(transposed(&quantised, inputs, outputs))),
                };
                Weights::Int8 {
                    packed,
                    column_scales: padded(scales.into_iter(), outputs),
                    column_sums: padded(quantised.chunks_exact(inputs).map(sum), outputs),
                }
            }
        };
        Self { arithmetic, inputs, outputs, bias: padded(bias.iter().copied(), outputs), weights }
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// What an [`Operand`] must be prepared for.
    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// Results for each row of `x`.
    ///
    /// # Panics
    ///
    /// If `x` was prepared for another arithmetic or width, or `out` has no room for a result of each row.
    pub fn apply(
        &self,
        x: &Operand,
        out: Output,
        activation: Option<Activation>,
        scratch: &mut DenseScratch,
    ) -> Result<(), ProductError> {
        if x.rows == 0 {
            return Ok(());
        }
        let (room, stride) = out.room();
        assert_eq!(x.width, self.inputs, "rows as wide as the layer");
        assert!(stride >= self.outputs && room >= (x.rows - 1) * stride + self.outputs, "room for every row");
        let rough = self.arithmetic != Arithmetic::F32;
        match activation {
            None => self.run(x, out, Identity, scratch),
            Some(Activation::Gelu) if rough => self.run(x, out, GeluRough, scratch),
            Some(Activation::Gelu) => self.run(x, out, Gelu, scratch),
            Some(Activation::GeluTanh) => self.run(x, out, GeluTanh, scratch),
            Some(Activation::Relu) => self.run(x, out, Relu, scratch),
        }
    }

    fn run(
        &self,
        x: &Operand,
        out: Output,
        activation: impl SimdUnaryOp<f32>,
        scratch: &mut DenseScratch,
    ) -> Result<(), ProductError> {
        let DenseScratch { sums, whole_sums } = scratch;
        let mut whole: &[i32] = &[];
        if let (Weights::Int8 { packed: PackedBytes::Rten(packed), .. }, Form::Int8Dense) =
            (&self.weights, x.form)
        {
            let sums = whole_sums.sized(x.rows * self.outputs);
            // The rows' zeros are not given to the product: `rten-gemm` 0.27 applies those of the first few rows to all.
            let a = NdTensorView::from_data([x.rows, x.width], &x.bytes()[..x.rows * x.width]);
            rten_int8()
                .gemm(sums, GemmInputA::Unpacked(a), GemmInputB::Packed(packed), GemmOptions::default())
                .map_err(|e| ProductError(e.to_string()))?;
            whole = sums;
        }
        let _ready = match self.arithmetic {
            Arithmetic::F32 => None,
            Arithmetic::Bf16(kernel) => Some(kernel.ready()),
            Arithmetic::Int8(kernel) => Some(kernel.ready()),
        };
        Run { dense: self, x, out, activation, sums, whole }.dispatch();
        Ok(())
    }
}

/// A whole product: panel by panel, in a panel stripe by stripe of rows, and in a stripe chunk by chunk of the inner
/// dimension, so that what several blocks read stays in the first-level cache.
struct Run<'a, A> {
    dense: &'a Dense,
    x: &'a Operand,
    out: Output<'a>,
    activation: A,
    sums: &'a mut Sums,
    whole: &'a [i32],
}

/// Groups of a chunk, at most: 16 KiB of a panel and 16 KiB of a block's rows.
const CHUNK_GROUPS: usize = 8;
/// Places of a chunk in f32, at most: 32 KiB of a panel.
const CHUNK_FLOATS: usize = 256;

impl<A: SimdUnaryOp<f32>> SimdOp for Run<'_, A> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(mut self, isa: I) {
        let lanes = isa.f32().len();
        let tile_rows = crate::operand::tile_rows(lanes);
        let stripe_rows = match self.x.form {
            // Whole tiles.
            Form::F32 { .. } => STRIPE_ROWS / tile_rows * tile_rows,
            _ => STRIPE_ROWS,
        };
        for column in (0..self.dense.outputs).step_by(COLUMNS) {
            for row in (0..self.x.rows).step_by(stripe_rows) {
                let rows = stripe_rows.min(self.x.rows - row);
                let mut sums = self.sums.as_mut_ptr().cast_const().cast();
                let mut sums_stride = COLUMNS;
                match (&self.dense.weights, self.x.form) {
                    (Weights::F32(packed), Form::F32 { .. }) if lanes == 16 => {
                        self.multiply_f32::<I, 12>(isa, packed, column, row, rows)
                    }
                    (Weights::F32(packed), Form::F32 { .. }) => {
                        self.multiply_f32::<I, 6>(isa, packed, column, row, rows)
                    }
                    (Weights::Bf16(packed), Form::Bf16)
                    | (Weights::Int8 { packed: PackedBytes::Panels(packed), .. }, Form::Int8) => {
                        self.multiply_bytes(packed, column, row, rows)
                    }
                    (Weights::Int8 { .. }, Form::Int8Dense) => {
                        sums = self.whole[row * self.dense.outputs + column..].as_ptr();
                        sums_stride = self.dense.outputs;
                    }
                    _ => panic!("the operand was prepared for another arithmetic"),
                }
                self.finish(isa, sums, sums_stride, column, row, rows);
            }
        }
    }
}

impl<A: SimdUnaryOp<f32>> Run<'_, A> {
    #[inline(always)]
    fn multiply_f32<I: Isa, const R: usize>(
        &mut self,
        isa: I,
        packed: &[f32],
        column: usize,
        row: usize,
        rows: usize,
    ) {
        let inner = self.dense.inputs;
        let c: *mut f32 = self.sums.as_mut_ptr().cast();
        for k in (0..inner).step_by(CHUNK_FLOATS) {
            let chunk = CHUNK_FLOATS.min(inner - k);
            let panel = packed[column * inner + k * COLUMNS..].as_ptr();
            for first in (0..rows).step_by(R) {
                let a = self.x.floats()[(row + first) * inner + k * R..].as_ptr();
                // SAFETY: the operand has whole tiles, the panel these places, and C rows for the last tile's.
                unsafe { simd_f32::tile::<I, R>(isa, a, panel, chunk, c.add(first * COLUMNS), k > 0) };
            }
        }
    }

    fn multiply_bytes(&mut self, packed: &[u8], column: usize, row: usize, rows: usize) {
        let kernel = match self.dense.arithmetic {
            Arithmetic::Int8(kernel) => kernel.block(),
            Arithmetic::Bf16(kernel) => Some(kernel.block()),
            Arithmetic::F32 => None,
        };
        let Some(kernel) = kernel else { unreachable!("panels of bytes are packed for a block kernel") };
        let groups = self.x.stride / GROUP_BYTES;
        let panel_bytes = groups * PANEL_GROUP_BYTES;
        let panel = column / COLUMNS * panel_bytes;
        // The next panel is fetched while this one is multiplied, as far as there is one.
        let next = &packed[(panel + panel_bytes).min(packed.len() - panel_bytes)..];
        let mut fetched = if row == 0 { 0 } else { panel_bytes };
        let c = self.sums.as_mut_ptr();
        let chunks = groups.div_ceil(CHUNK_GROUPS);
        for chunk in 0..chunks {
            let (from, to) = (groups * chunk / chunks, groups * (chunk + 1) / chunks);
            for first in (0..rows).step_by(ROWS) {
                let bytes = AHEAD_BYTES * (to - from);
                let more = fetched + bytes <= panel_bytes;
                let step = Step {
                    a: self.x.bytes()[(row + first) * self.x.stride + from * GROUP_BYTES..].as_ptr(),
                    a_stride: self.x.stride,
                    rows: ROWS.min(rows - first),
                    b: packed[panel + from * PANEL_GROUP_BYTES..].as_ptr(),
                    groups: to - from,
                    c: c.wrapping_add(first * Sums::STRIDE_BYTES),
                    c_stride: Sums::STRIDE_BYTES,
                    accumulate: chunk > 0,
                    ahead: if more { next[fetched..].as_ptr() } else { c },
                    ahead_step: if more { AHEAD_BYTES } else { 0 },
                };
                if more {
                    fetched += bytes;
                }
                // SAFETY: the operand has these rows up to the next multiple of 16, `packed` these groups, and C rows for
                // all of them. The kernel's instructions were found, its tiles are set up.
                unsafe { kernel(&step) };
            }
        }
    }

    #[inline(always)]
    fn finish<I: Isa>(
        &mut self,
        isa: I,
        sums: *const i32,
        sums_stride: usize,
        column: usize,
        row: usize,
        rows: usize,
    ) {
        let columns = COLUMNS.min(self.dense.outputs - column);
        let scaling = match &self.dense.weights {
            Weights::Int8 { column_scales, column_sums, .. } => Scaling::Int8(Int8Scales {
                rows: &self.x.scales[row..row + rows],
                row_shifts: &self.x.shifts[row..row + rows],
                columns: &column_scales[column..column + COLUMNS],
                column_sums: &column_sums[column..column + COLUMNS],
            }),
            _ => Scaling::None,
        };
        let block = |out: *mut f32, out_stride: usize, into: Into| Finish {
            sums,
            sums_stride,
            rows,
            scaling,
            bias: &self.dense.bias[column..column + COLUMNS],
            out,
            out_stride,
            columns,
            into,
        };
        // SAFETY: `sums` has these rows, and `apply` checked that `out` has room for every row.
        unsafe {
            match &mut self.out {
                Output::Store { values, stride } => {
                    let out = values[row * *stride + column..].as_mut_ptr();
                    finish(isa, &block(out, *stride, Into::Store), &self.activation);
                }
                Output::Add { values, stride } => {
                    let out = values[row * *stride + column..].as_mut_ptr();
                    finish(isa, &block(out, *stride, Into::Add), &self.activation);
                }
                Output::Bf16 { values, stride } => {
                    // In the place of the sums, or where they would be had `rten-gemm` not made them.
                    let results = self.sums.as_mut_ptr().cast::<f32>();
                    finish(isa, &block(results, COLUMNS, Into::Store), &self.activation);
                    let to = &mut values[row * *stride + column..];
                    for r in 0..rows {
                        let results = std::slice::from_raw_parts(results.add(r * COLUMNS), columns);
                        to_bf16(results, &mut to[r * *stride..][..columns]);
                    }
                }
            }
        }
    }
}

fn rten_int8() -> &'static GemmExecutor<u8, i8, i32> {
    // An executor may be used from any thread but not moved between threads: it stays where it is made.
    struct Shared(&'static GemmExecutor<u8, i8, i32>);
    // SAFETY: it holds no state but the choice of kernel, and `gemm` takes it by shared reference.
    unsafe impl Send for Shared {}
    // SAFETY: as above.
    unsafe impl Sync for Shared {}
    static EXECUTOR: OnceLock<Shared> = OnceLock::new();
    EXECUTOR.get_or_init(|| Shared(Box::leak(Box::new(GemmExecutor::new())))).0
}

fn padded(values: impl Iterator<Item = f32>, len: usize) -> Aligned<f32> {
    let mut padded = Aligned::zeroed(len.next_multiple_of(COLUMNS));
    padded.iter_mut().zip(values).for_each(|(to, x)| *to = x);
    padded
}

/// A checkpoint's outputs x inputs matrix, seen as inputs x outputs.
fn transposed<T>(weight: &[T], inputs: usize, outputs: usize) -> NdTensorView<'_, T, 2> {
    NdTensorView::from_slice_with_strides([inputs, outputs], weight, [1, inputs])
        .expect("the slice holds outputs x inputs values")
}

/// Largest magnitude of a quantised weight. Without dot-product instructions two products of 8 bits are added in 16 bits:
/// 2 * 255 * 64 still fits there, 2 * 255 * 127 would be cut off.
fn weight_level_max(kernel: Int8) -> f32 {
    if kernel == Int8::Rten && rten_int8().may_saturate() { 64.0 } else { 127.0 }
}

/// One scale per output channel, symmetric around zero.
fn quantise_channels(weight: &[f32], inputs: usize, level_max: f32) -> (Vec<i8>, Vec<f32>) {
    // Adding it leaves the nearest integer, ties to even, and unlike `round_ties_even` is no call.
    const ROUNDING: f32 = 12_582_912.0;
    let mut quantised = Vec::with_capacity(weight.len());
    let mut scales = Vec::with_capacity(weight.len() / inputs);
    for channel in weight.chunks_exact(inputs) {
        let largest = channel.iter().fold(0.0f32, |m, w| m.max(w.abs()));
        let poison: f32 = channel.iter().map(|w| w * 0.0).sum();
        let scale = (largest / level_max).max(f32::MIN_POSITIVE);
        quantised.extend(channel.iter().map(|w| (w / scale + ROUNDING - ROUNDING) as i8));
        scales.push(scale + poison);
    }
    (quantised, scales)
}
