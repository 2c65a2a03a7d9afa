//! From a block's sums to results: scales, bias and activation in one pass over sums that are still in the first-level
//! cache.

use rten_simd::{
    Isa, Simd, SimdUnaryOp,
    ops::{BitOps, NumOps, ToFloat},
};

/// What a block's sums are, for one panel.
#[derive(Clone, Copy)]
pub enum Scaling<'a> {
    /// Floats, as they are.
    None,
    /// Integers: `column scale * (row scale * sum + row shift * column sum)`.
    Int8(Int8Scales<'a>),
}

/// Scales of a block's rows and of a panel's 32 columns.
#[derive(Clone, Copy)]
pub struct Int8Scales<'a> {
    pub rows: &'a [f32],
    pub row_shifts: &'a [f32],
    pub columns: &'a [f32],
    pub column_sums: &'a [f32],
}

/// Where results go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// They replace what is there.
    Store,
    /// They are added to what is there.
    Add,
}

/// One block: `sums` is rows of 32-bit numbers, `sums_stride` apart; `out` is where its first result goes.
pub struct Block<'a> {
    pub sums: *const i32,
    pub sums_stride: usize,
    pub rows: usize,
    pub scaling: Scaling<'a>,
    /// One entry per column of the panel.
    pub bias: &'a [f32],
    pub out: *mut f32,
    pub out_stride: usize,
    /// Columns that there are results for, at most 32.
    pub columns: usize,
    pub into: Into,
}

/// # Safety
///
/// `sums` must have `rows` rows of 32 numbers (of `columns`, where those are fewer), `out` `rows` rows of `columns`.
#[inline(always)]
pub unsafe fn finish<I: Isa>(isa: I, block: &Block, activation: &impl SimdUnaryOp<f32>) {
    let lanes = isa.f32().len();
    // Two vectors at a time, whose columns' scales stay in registers while the rows go by.
    let pairs = block.columns / (2 * lanes);
    // SAFETY: as the caller promises; the columns beyond the last whole pair are taken one vector at a time.
    unsafe {
        for pair in 0..pairs {
            let at = pair * 2 * lanes;
            match (block.scaling, block.into) {
                (Scaling::None, Into::Store) => floats::<I, false>(isa, block, at, activation),
                (Scaling::None, Into::Add) => floats::<I, true>(isa, block, at, activation),
                (Scaling::Int8(scales), Into::Store) => int8::<I, false>(isa, block, scales, at, activation),
                (Scaling::Int8(scales), Into::Add) => int8::<I, true>(isa, block, scales, at, activation),
            }
        }
        rest(isa, block, pairs * 2 * lanes, activation);
    }
}

/// Columns `at` and on, two vectors of them, where sums are floats.
#[inline(always)]
unsafe fn floats<I: Isa, const ADD: bool>(
    isa: I,
    block: &Block,
    at: usize,
    activation: &impl SimdUnaryOp<f32>,
) {
    let ops = isa.f32();
    let lanes = ops.len();
    // SAFETY: these columns are within the panel and within every row.
    unsafe {
        let bias: [I::F32; 2] =
            std::array::from_fn(|v| ops.load_ptr(block.bias.as_ptr().add(at + v * lanes)));
        for row in 0..block.rows {
            let sums = block.sums.add(row * block.sums_stride + at).cast::<f32>();
            let out = block.out.add(row * block.out_stride + at);
            // Loops and no closures, which would not be compiled with the caller's instructions.
            for (v, bias) in bias.iter().enumerate() {
                let y = activation.eval(isa, ops.add(ops.load_ptr(sums.add(v * lanes)), *bias));
                let to = out.add(v * lanes);
                ops.store_ptr(if ADD { ops.add(ops.load_ptr(to), y) } else { y }, to);
            }
        }
    }
}

/// Columns `at` and on, two vectors of them, where sums are integers.
#[inline(always)]
unsafe fn int8<I: Isa, const ADD: bool>(
    isa: I,
    block: &Block,
    scales: Int8Scales,
    at: usize,
    activation: &impl SimdUnaryOp<f32>,
) {
    let (ops, ints) = (isa.f32(), isa.i32());
    let lanes = ops.len();
    // SAFETY: these columns are within the panel and within every row; every row has a scale.
    unsafe {
        let load = |values: &[f32], v: usize| ops.load_ptr(values.as_ptr().add(at + v * lanes));
        let bias: [I::F32; 2] = std::array::from_fn(|v| load(block.bias, v));
        let column_scales: [I::F32; 2] = std::array::from_fn(|v| load(scales.columns, v));
        let column_sums: [I::F32; 2] = std::array::from_fn(|v| load(scales.column_sums, v));
        for row in 0..block.rows {
            let sums = block.sums.add(row * block.sums_stride + at);
            let out = block.out.add(row * block.out_stride + at);
            let scale = ops.splat(*scales.rows.get_unchecked(row));
            let shift = ops.splat(*scales.row_shifts.get_unchecked(row));
            for v in 0..2 {
                let sum = ints.to_float(ints.load_ptr(sums.add(v * lanes)));
                let scaled = ops.mul_add(sum, scale, ops.mul(shift, column_sums[v]));
                let y = activation.eval(isa, ops.mul_add(scaled, column_scales[v], bias[v]));
                let to = out.add(v * lanes);
                ops.store_ptr(if ADD { ops.add(ops.load_ptr(to), y) } else { y }, to);
            }
        }
    }
}

/// Columns `from` and on, one vector at a time, the last one of fewer lanes.
#[inline(always)]
unsafe fn rest<I: Isa>(isa: I, block: &Block, from: usize, activation: &impl SimdUnaryOp<f32>) {
    let (ops, ints) = (isa.f32(), isa.i32());
    let lanes = ops.len();
    for at in (from..block.columns).step_by(lanes) {
        let mask = ops.first_n_mask(lanes.min(block.columns - at));
        for row in 0..block.rows {
            // SAFETY: lanes beyond `columns` are neither read nor written; panels hold all 32 columns' scales.
            unsafe {
                let sum = ints.load_ptr_mask(block.sums.add(row * block.sums_stride + at), mask);
                let bias = ops.load_ptr(block.bias.as_ptr().add(at));
                let x = match block.scaling {
                    Scaling::None => ops.add(sum.reinterpret_cast(), bias),
                    Scaling::Int8(scales) => {
                        let scale = ops.splat(*scales.rows.get_unchecked(row));
                        let shift = ops.splat(*scales.row_shifts.get_unchecked(row));
                        let shift = ops.mul(shift, ops.load_ptr(scales.column_sums.as_ptr().add(at)));
                        let scaled = ops.mul_add(ints.to_float(sum), scale, shift);
                        ops.mul_add(scaled, ops.load_ptr(scales.columns.as_ptr().add(at)), bias)
                    }
                };
                let y = activation.eval(isa, x);
                let out = block.out.add(row * block.out_stride + at);
                let y = match block.into {
                    Into::Store => y,
                    Into::Add => ops.add(ops.load_ptr_mask(out, mask), y),
                };
                ops.store_ptr_mask(y, out, mask);
            }
        }
    }
}
