//! Blocks in f32 over portable vectors.

use rten_simd::{
    Isa,
    ops::{BitOps, NumOps},
};

use crate::tile::COLUMNS;

/// A block of up to 32 rows; see [`crate::product`].
///
/// # Safety
///
/// `a` must have `rows` rows of `inner` numbers, `a_stride` numbers apart; `panel` `inner` rows of 32; `c` `rows` rows of
/// 32, `c_stride` numbers apart.
#[inline(always)]
pub unsafe fn block<I: Isa>(
    isa: I,
    a: *const f32,
    a_stride: usize,
    rows: usize,
    panel: *const f32,
    inner: usize,
    c: *mut f32,
    c_stride: usize,
) {
    let lanes = isa.f32().len();
    let mut row = 0;
    while row < rows {
        let (a, c) = (a.wrapping_add(row * a_stride), c.wrapping_add(row * c_stride));
        let left = rows - row;
        // As many sums as the registers hold beside two or four vectors of B: 32 of 16 lanes, 16 of 8, 32 of 4.
        // SAFETY: as the caller promises, from this row on; the column parts lie within the panel's 32.
        row += unsafe {
            match (lanes, left) {
                (16, 12..) => part::<I, 12, 2>(isa, a, a_stride, panel, inner, c, c_stride),
                (16, 8..) => part::<I, 8, 2>(isa, a, a_stride, panel, inner, c, c_stride),
                (16, 4..) => part::<I, 4, 2>(isa, a, a_stride, panel, inner, c, c_stride),
                (16, 2..) => part::<I, 2, 2>(isa, a, a_stride, panel, inner, c, c_stride),
                (16, _) => part::<I, 1, 2>(isa, a, a_stride, panel, inner, c, c_stride),
                (8, 6..) => part::<I, 6, 2>(isa, a, a_stride, panel, inner, c, c_stride),
                (8, 4..) => part::<I, 4, 2>(isa, a, a_stride, panel, inner, c, c_stride),
                (8, 2..) => part::<I, 2, 4>(isa, a, a_stride, panel, inner, c, c_stride),
                (8, _) => part::<I, 1, 4>(isa, a, a_stride, panel, inner, c, c_stride),
                (_, 6..) => part::<I, 6, 4>(isa, a, a_stride, panel, inner, c, c_stride),
                (_, 2..) => part::<I, 2, 4>(isa, a, a_stride, panel, inner, c, c_stride),
                _ => part::<I, 1, 4>(isa, a, a_stride, panel, inner, c, c_stride),
            }
        };
    }
}

/// `R` rows times all columns, `V` vectors of columns at a time; returns `R`.
#[inline(always)]
unsafe fn part<I: Isa, const R: usize, const V: usize>(
    isa: I,
    a: *const f32,
    a_stride: usize,
    panel: *const f32,
    inner: usize,
    c: *mut f32,
    c_stride: usize,
) -> usize {
    let ops = isa.f32();
    let lanes = ops.len();
    for first in (0..COLUMNS).step_by(V * lanes) {
        let mut sums = [[ops.zero(); V]; R];
        let mut b = panel.wrapping_add(first);
        for k in 0..inner {
            // SAFETY: row `k` of the panel and of A, as the caller promises.
            unsafe {
                let right: [I::F32; V] = std::array::from_fn(|v| ops.load_ptr(b.wrapping_add(v * lanes)));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = ops.splat(*a.wrapping_add(r * a_stride + k));
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
                unsafe { ops.store_ptr(sum, c.wrapping_add(r * c_stride + first + v * lanes)) };
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
