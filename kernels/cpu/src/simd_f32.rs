//! Blocks in f32 over portable vectors.

use rten_simd::{
    Isa,
    ops::{BitOps, NumOps},
};

use crate::tile::COLUMNS;

/// Rows of numbers that lie apart, times a panel.
pub struct Rows {
    /// `rows` rows of `inner` numbers.
    pub a: *const f32,
    /// Numbers from one row to the next.
    pub a_stride: usize,
    pub rows: usize,
    /// `inner` rows of 32 numbers.
    pub panel: *const f32,
    pub inner: usize,
    /// `rows` rows of 32 sums.
    pub c: *mut f32,
    /// Numbers from one row to the next.
    pub c_stride: usize,
}

/// Multiplies rows as they are, for matrices that are not worth packing.
///
/// # Safety
///
/// What [`Rows`] says must hold.
#[inline(always)]
pub unsafe fn block<I: Isa>(isa: I, of: &Rows) {
    let lanes = isa.f32().len();
    let mut row = 0;
    while row < of.rows {
        // As many sums as the registers hold beside two or four vectors of B: 32 of 16 lanes, 16 of 8, 32 of 4.
        // SAFETY: as the caller promises, from this row on; the column parts lie within the panel's 32.
        row += unsafe {
            match (lanes, of.rows - row) {
                (16, 12..) => part::<I, 12, 2>(isa, of, row),
                (16, 8..) => part::<I, 8, 2>(isa, of, row),
                (16, 4..) => part::<I, 4, 2>(isa, of, row),
                (16, 2..) => part::<I, 2, 2>(isa, of, row),
                (16, _) => part::<I, 1, 2>(isa, of, row),
                (8, 6..) => part::<I, 6, 2>(isa, of, row),
                (8, 4..) => part::<I, 4, 2>(isa, of, row),
                (8, 2..) => part::<I, 2, 4>(isa, of, row),
                (8, _) => part::<I, 1, 4>(isa, of, row),
                (_, 6..) => part::<I, 6, 4>(isa, of, row),
                (_, 2..) => part::<I, 2, 4>(isa, of, row),
                _ => part::<I, 1, 4>(isa, of, row),
            }
        };
    }
}

/// `R` rows from `row` on times all columns, `V` vectors of columns at a time; returns `R`.
#[inline(always)]
unsafe fn part<I: Isa, const R: usize, const V: usize>(isa: I, of: &Rows, row: usize) -> usize {
    let ops = isa.f32();
    let lanes = ops.len();
    let (a, c) = (of.a.wrapping_add(row * of.a_stride), of.c.wrapping_add(row * of.c_stride));
    for first in (0..COLUMNS).step_by(V * lanes) {
        let mut sums = [[ops.zero(); V]; R];
        let mut b = of.panel.wrapping_add(first);
        for k in 0..of.inner {
            // SAFETY: row `k` of the panel and of A, as the caller promises.
            unsafe {
                let right: [I::F32; V] = std::array::from_fn(|v| ops.load_ptr(b.wrapping_add(v * lanes)));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = ops.splat(*a.wrapping_add(r * of.a_stride + k));
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum = ops.mul_add(x, right, *sum);
                    }
                }
            }
            b = b.wrapping_add(COLUMNS);
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                // SAFETY: within row `r` of C.
                unsafe { ops.store_ptr(sum, c.wrapping_add(r * of.c_stride + first + v * lanes)) };
            }
        }
    }
    R
}

/// A tile of packed rows times some rows of a panel: `a` holds, for each place of the inner dimension, `R` numbers.
///
/// # Safety
///
/// `a` must have `inner` times `R` numbers, `panel` `inner` rows of 32, `c` `R` rows of 32.
#[inline(always)]
pub unsafe fn tile<I: Isa, const R: usize>(
    isa: I,
    a: *const f32,
    panel: *const f32,
    inner: usize,
    c: *mut f32,
    accumulate: bool,
) {
    const V: usize = 2;
    let ops = isa.f32();
    let lanes = ops.len();
    for first in (0..COLUMNS).step_by(V * lanes) {
        let mut sums = [[ops.zero(); V]; R];
        let at = |r: usize, v: usize| c.wrapping_add(r * COLUMNS + first + v * lanes);
        if accumulate {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: within row `r` of C.
                    *sum = unsafe { ops.load_ptr(at(r, v)) };
                }
            }
        }
        let (mut a, mut b) = (a, panel.wrapping_add(first));
        for _ in 0..inner {
            // SAFETY: this row of the panel and this place of A, as the caller promises.
            unsafe {
                let right: [I::F32; V] = std::array::from_fn(|v| ops.load_ptr(b.wrapping_add(v * lanes)));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = ops.splat(*a.wrapping_add(r));
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum = ops.mul_add(x, right, *sum);
                    }
                }
            }
            a = a.wrapping_add(R);
            b = b.wrapping_add(COLUMNS);
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                // SAFETY: within row `r` of C.
                unsafe { ops.store_ptr(sum, at(r, v)) };
            }
        }
    }
}
