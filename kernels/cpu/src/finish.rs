//! From a block's sums to results: scales, bias and activation in one pass over sums that are still in the first-level
//! cache.

use rten_simd::{
    Isa, Simd, SimdUnaryOp,
    ops::{BitOps, NumOps, ToFloat},
};

use crate::tile::COLUMNS;

/// What a block's sums are, for one panel.
#[derive(Clone, Copy)]
pub enum Scaling<'a> {
    /// Floats, as they are.
    None,
    /// Integers: `column_scale * (row_scale * sum + row_shift * column_sum)`.
    Int8 { row_scales: &'a [f32], row_shifts: &'a [f32], column_scales: &'a [f32], column_sums: &'a [f32] },
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
    let (ops, ints) = (isa.f32(), isa.i32());
    let lanes = ops.len();
    let bias = &block.bias[..COLUMNS];
    for row in 0..block.rows {
        let sums = block.sums.wrapping_add(row * block.sums_stride);
        let out = block.out.wrapping_add(row * block.out_stride);
        for at in (0..block.columns).step_by(lanes) {
            let filled = lanes.min(block.columns - at);
            let mask = ops.first_n_mask(filled);
            // SAFETY: lanes beyond `columns` are neither read nor written.
            unsafe {
                let whole = filled == lanes;
                let sums = sums.wrapping_add(at);
                let sum = if whole { ints.load_ptr(sums) } else { ints.load_ptr_mask(sums, mask) };
                let x = match block.scaling {
                    Scaling::None => ops.add(sum.reinterpret_cast(), ops.load_ptr(bias.as_ptr().add(at))),
                    Scaling::Int8 { row_scales, row_shifts, column_scales, column_sums } => {
                        let scale = ops.splat(*row_scales.get_unchecked(row));
                        let shift = ops.splat(*row_shifts.get_unchecked(row));
                        let shift = ops.mul(shift, ops.load_ptr(column_sums.as_ptr().add(at)));
                        let scaled = ops.mul_add(ints.to_float(sum), scale, shift);
                        let column_scale = ops.load_ptr(column_scales.as_ptr().add(at));
                        ops.mul_add(scaled, column_scale, ops.load_ptr(bias.as_ptr().add(at)))
                    }
                };
                let y = activation.eval(isa, x);
                let out = out.wrapping_add(at);
                match (block.into, whole) {
                    (Into::Store, true) => ops.store_ptr(y, out),
                    (Into::Add, true) => ops.store_ptr(ops.add(ops.load_ptr(out), y), out),
                    (Into::Store, false) => ops.store_ptr_mask(y, out, mask),
                    (Into::Add, false) => {
                        ops.store_ptr_mask(ops.add(ops.load_ptr_mask(out, mask), y), out, mask)
                    }
                }
            }
        }
    }
}
