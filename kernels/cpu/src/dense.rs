//! A dense layer, `y = activation(x W + b)`, with its weights packed once.

use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::{Isa, SimdOp, SimdUnaryOp};
use rten_tensor::NdTensorView;
use std::sync::OnceLock;

use crate::{
    cpu::{Bf16, Int8},
    finish::{Block as Finish, Into, Scaling, finish},
    memory::Aligned,
    product::{Block, BlockSums, padded_rows},
    simd_f32,
    tile::{self, COLUMNS, PANEL_GROUP_BYTES, ROWS},
    vector::{
        activation::{Activation, Gelu, GeluRough, GeluTanh, Identity, Relu},
        quantise::QuantiseRows,
    },
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
    inputs: usize,
    outputs: usize,
    /// Padded to whole panels.
    bias: Aligned<f32>,
    weights: Weights,
}

enum Weights {
    F32(Aligned<f32>),
    Bf16 { kernel: Bf16, packed: Aligned<u8> },
    Int8 { kernel: Int8, packed: PackedBytes, column_scales: Aligned<f32>, column_sums: Aligned<f32> },
}

enum PackedBytes {
    Panels(Aligned<u8>),
    Rten(PackedBMatrix<i8>),
}

/// What a layer needs beside its input and output. Any layer may use any scratch.
#[derive(Default)]
pub struct DenseScratch {
    /// The input in the numbers that are multiplied.
    operand: Aligned<u8>,
    halves: Aligned<u16>,
    row_scales: Aligned<f32>,
    row_shifts: Aligned<f32>,
    /// Sums of whole products, where `rten-gemm` makes them.
    sums: Aligned<i32>,
    block: BlockSums,
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
            Arithmetic::Bf16(kernel) => Weights::Bf16 {
                kernel,
                packed: tile::pack_bytes(outputs, inputs, |o, i| {
                    bf16_bits(weight[o * inputs + i]).to_le_bytes()
                }),
            },
            Arithmetic::Int8(kernel) => {
                let level_max = weight_level_max(kernel);
                let (quantised, scales) = quantise_channels(weight, inputs, level_max);
                let sums = quantised
                    .chunks_exact(inputs)
                    .map(|c| c.iter().map(|w| i32::from(*w)).sum::<i32>() as f32);
                let packed = match kernel.block() {
                    Some(_) => PackedBytes::Panels(tile::pack_bytes(outputs, inputs, |o, i| {
                        quantised[o * inputs + i].to_le_bytes()
                    })),
                    None => PackedBytes::Rten(rten_int8().prepack_b(transposed(&quantised, inputs, outputs))),
                };
                Weights::Int8 {
                    kernel,
                    packed,
                    column_scales: padded(scales.into_iter(), outputs),
                    column_sums: padded(sums, outputs),
                }
            }
        };
        Self { inputs, outputs, bias: padded(bias.iter().copied(), outputs), weights }
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes of packed weights that a product reads.
    pub fn weight_bytes(&self) -> usize {
        self.inputs
            * self.outputs
            * match &self.weights {
                Weights::F32(_) => 4,
                Weights::Bf16 { .. } => 2,
                Weights::Int8 { .. } => 1,
            }
    }

    /// Results for each row of `x`, whose rows lie end to end.
    ///
    /// # Panics
    ///
    /// If `out` has no room for a result of each row.
    pub fn apply(
        &self,
        x: &[f32],
        out: Output,
        activation: Option<Activation>,
        scratch: &mut DenseScratch,
    ) -> Result<(), ProductError> {
        let rows = x.len() / self.inputs;
        if rows == 0 {
            return Ok(());
        }
        let (room, stride) = out.room();
        assert!(stride >= self.outputs && room >= (rows - 1) * stride + self.outputs, "room for every row");
        let rough = !matches!(self.weights, Weights::F32(_));
        match activation {
            None => self.run(x, rows, out, Identity, scratch),
            Some(Activation::Gelu) if rough => self.run(x, rows, out, GeluRough, scratch),
            Some(Activation::Gelu) => self.run(x, rows, out, Gelu, scratch),
            Some(Activation::GeluTanh) => self.run(x, rows, out, GeluTanh, scratch),
            Some(Activation::Relu) => self.run(x, rows, out, Relu, scratch),
        }
    }

    fn run(
        &self,
        x: &[f32],
        rows: usize,
        out: Output,
        activation: impl SimdUnaryOp<f32>,
        scratch: &mut DenseScratch,
    ) -> Result<(), ProductError> {
        let DenseScratch { operand, halves, row_scales, row_shifts, sums, block } = scratch;
        let task = |product, scaling| Run { dense: self, rows, product, scaling, out, activation };
        match &self.weights {
            Weights::F32(packed) => {
                task(Product::F32 { x, packed, block }, None).dispatch();
            }
            Weights::Bf16 { kernel, packed } => {
                let stride = tile::padded_bytes(self.inputs, 2);
                let halves = halves.sized(padded_rows(rows) * stride / 2);
                convert_rows(x, self.inputs, halves, stride / 2);
                // SAFETY: the same memory, as bytes.
                let operand = unsafe { std::slice::from_raw_parts(halves.as_ptr().cast(), 2 * halves.len()) };
                let _ready = kernel.ready();
                task(Product::Bytes { operand, stride, kernel: kernel.block(), packed, block }, None)
                    .dispatch();
            }
            Weights::Int8 { kernel, packed, column_scales, column_sums } => {
                let stride = match packed {
                    PackedBytes::Panels(_) => tile::padded_bytes(self.inputs, 1),
                    PackedBytes::Rten(_) => self.inputs,
                };
                let operand = operand.sized(padded_rows(rows) * stride);
                let row_scales = row_scales.sized(rows);
                let row_shifts = row_shifts.sized(rows);
                QuantiseRows {
                    rows: x,
                    width: self.inputs,
                    quantised: &mut *operand,
                    stride,
                    scales: &mut *row_scales,
                    shifts: &mut *row_shifts,
                }
                .dispatch();
                let scaling = Some(RowsAndColumns { row_scales, row_shifts, column_scales, column_sums });
                match (packed, kernel.block()) {
                    (PackedBytes::Panels(packed), Some(multiply)) => {
                        let _ready = kernel.ready();
                        task(Product::Bytes { operand, stride, kernel: multiply, packed, block }, scaling)
                            .dispatch();
                    }
                    (PackedBytes::Rten(packed), _) => {
                        let sums = sums.sized(rows * self.outputs);
                        // The rows' zeros are not given to the product: `rten-gemm` 0.27 applies those of the first few
                        // rows to all of them.
                        rten_int8()
                            .gemm(
                                sums,
                                GemmInputA::Unpacked(NdTensorView::from_data(
                                    [rows, self.inputs],
                                    &operand[..rows * self.inputs],
                                )),
                                GemmInputB::Packed(packed),
                                GemmOptions::default(),
                            )
                            .map_err(|e| ProductError(e.to_string()))?;
                        task(Product::Done { sums }, scaling).dispatch();
                    }
                    (PackedBytes::Panels(_), None) => {
                        unreachable!("panels are packed only for a block kernel")
                    }
                }
            }
        }
        Ok(())
    }
}

struct RowsAndColumns<'a> {
    row_scales: &'a [f32],
    row_shifts: &'a [f32],
    column_scales: &'a [f32],
    column_sums: &'a [f32],
}

/// How the sums of a block come about.
enum Product<'a> {
    F32 {
        x: &'a [f32],
        packed: &'a [f32],
        block: &'a mut BlockSums,
    },
    Bytes {
        operand: &'a [u8],
        stride: usize,
        kernel: Block,
        packed: &'a [u8],
        block: &'a mut BlockSums,
    },
    /// All sums are there, row after row.
    Done {
        sums: &'a [i32],
    },
}

/// A whole product: panel by panel, and in a panel block by block, so that a panel is read from the first-level cache.
struct Run<'a, A> {
    dense: &'a Dense,
    rows: usize,
    product: Product<'a>,
    scaling: Option<RowsAndColumns<'a>>,
    out: Output<'a>,
    activation: A,
}

impl<A: SimdUnaryOp<f32>> SimdOp for Run<'_, A> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(mut self, isa: I) {
        let (inputs, outputs) = (self.dense.inputs, self.dense.outputs);
        for first_column in (0..outputs).step_by(COLUMNS) {
            let columns = COLUMNS.min(outputs - first_column);
            for first_row in (0..self.rows).step_by(ROWS) {
                let rows = ROWS.min(self.rows - first_row);
                let (sums, sums_stride) = match &mut self.product {
                    Product::F32 { x, packed, block } => {
                        let c = block.as_mut_ptr();
                        // SAFETY: `x` has these rows, `packed` this panel, and `block` 32 rows of 32 sums.
                        unsafe {
                            simd_f32::block(
                                isa,
                                x.as_ptr().add(first_row * inputs),
                                inputs,
                                rows,
                                packed.as_ptr().add(first_column * inputs),
                                inputs,
                                c.cast(),
                                COLUMNS,
                            );
                        }
                        (c.cast_const().cast(), COLUMNS)
                    }
                    Product::Bytes { operand, stride, kernel, packed, block } => {
                        let groups = *stride / tile::GROUP_BYTES;
                        let c = block.as_mut_ptr();
                        // SAFETY: `operand` has these rows up to the next multiple of 16, `packed` this panel, and
                        // `block` 32 rows of 32 sums. The kernel's instructions were found, its tiles are set up.
                        unsafe {
                            kernel(
                                operand.as_ptr().add(first_row * *stride),
                                *stride,
                                rows,
                                packed.as_ptr().add(first_column / COLUMNS * groups * PANEL_GROUP_BYTES),
                                groups,
                                c,
                                BlockSums::STRIDE_BYTES,
                            );
                        }
                        (c.cast_const().cast(), COLUMNS)
                    }
                    Product::Done { sums } => (sums[first_row * outputs + first_column..].as_ptr(), outputs),
                };
                let scaling = match &self.scaling {
                    None => Scaling::None,
                    Some(s) => Scaling::Int8 {
                        row_scales: &s.row_scales[first_row..first_row + rows],
                        row_shifts: &s.row_shifts[first_row..first_row + rows],
                        column_scales: &s.column_scales[first_column..first_column + COLUMNS],
                        column_sums: &s.column_sums[first_column..first_column + COLUMNS],
                    },
                };
                let bias = &self.dense.bias[first_column..first_column + COLUMNS];
                let mut block = Finish {
                    sums,
                    sums_stride,
                    rows,
                    scaling,
                    bias,
                    out: std::ptr::null_mut(),
                    out_stride: 0,
                    columns,
                    into: Into::Store,
                };
                // SAFETY: `sums` has this block, and `apply` checked that `out` has room for every row.
                unsafe {
                    match &mut self.out {
                        Output::Store { values, stride } => {
                            block.out = values[first_row * *stride + first_column..].as_mut_ptr();
                            block.out_stride = *stride;
                            finish(isa, &block, &self.activation);
                        }
                        Output::Add { values, stride } => {
                            block.out = values[first_row * *stride + first_column..].as_mut_ptr();
                            block.out_stride = *stride;
                            block.into = Into::Add;
                            finish(isa, &block, &self.activation);
                        }
                        Output::Bf16 { values, stride } => {
                            let mut results = [0.0f32; ROWS * COLUMNS];
                            block.out = results.as_mut_ptr();
                            block.out_stride = COLUMNS;
                            finish(isa, &block, &self.activation);
                            let to = &mut values[first_row * *stride + first_column..];
                            for (r, results) in results.chunks_exact(COLUMNS).enumerate().take(rows) {
                                convert(&results[..columns], &mut to[r * *stride..][..columns]);
                            }
                        }
                    }
                }
            }
        }
    }
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

/// Rounds to the nearest bf16, ties to even; not a number stays one.
pub fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// Rows of `width` floats become rows of `stride` bf16, with zeros behind them.
fn convert_rows(x: &[f32], width: usize, to: &mut [u16], stride: usize) {
    for (row, to) in x.chunks_exact(width).zip(to.chunks_exact_mut(stride)) {
        let (values, rest) = to.split_at_mut(width);
        convert(row, values);
        rest.fill(0);
    }
}

#[cfg(target_arch = "x86_64")]
fn convert(x: &[f32], to: &mut [u16]) {
    assert_eq!(x.len(), to.len());
    // SAFETY: whoever makes bf16 numbers has found AVX-512 BF16; there is room for each.
    unsafe { crate::avx512::convert_bf16(x, to.as_mut_ptr()) };
}

#[cfg(not(target_arch = "x86_64"))]
fn convert(x: &[f32], to: &mut [u16]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to = bf16_bits(*x));
}

/// Largest magnitude of a quantised weight. Without dot-product instructions two products of 8 bits are added in 16 bits:
/// 2 * 255 * 64 still fits there, 2 * 255 * 127 would be cut off.
fn weight_level_max(kernel: Int8) -> f32 {
    if kernel == Int8::Rten && rten_int8().may_saturate() { 64.0 } else { 127.0 }
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
