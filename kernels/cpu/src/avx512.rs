//! Products on AVX-512 dot-product instructions: VNNI for bytes, BF16 for halves of floats.
//!
//! Twelve rows of two vectors are held in 24 registers; each step loads two vectors of B and broadcasts 4 bytes of each
//! row, so that multiplying, not loading, is what takes time.

use std::arch::x86_64::*;

use crate::{
    product::Step,
    tile::{GROUP_BYTES, PANEL_GROUP_BYTES},
};

const ROWS: usize = 12;

macro_rules! blocks {
    ($name:ident, $part:ident, $features:literal, $sum:ty, $zero:ident, $load:ident, $store:ident, $multiply:ident) => {
        /// A block of up to 32 rows.
        ///
        /// # Safety
        ///
        /// The processor must have the instructions; what [`Step`] says must hold.
        pub unsafe fn $name(step: &Step) {
            let mut row = 0;
            while row < step.rows {
                // SAFETY: as the caller promises, from this row on.
                unsafe {
                    match step.rows - row {
                        1 => $part::<1>(step, row),
                        2 => $part::<2>(step, row),
                        3 => $part::<3>(step, row),
                        4 => $part::<4>(step, row),
                        5 => $part::<5>(step, row),
                        6 => $part::<6>(step, row),
                        7 => $part::<7>(step, row),
                        8 => $part::<8>(step, row),
                        9 => $part::<9>(step, row),
                        10 => $part::<10>(step, row),
                        11 => $part::<11>(step, row),
                        _ => $part::<ROWS>(step, row),
                    }
                }
                row += ROWS;
            }
        }

        #[target_feature(enable = $features)]
        unsafe fn $part<const R: usize>(step: &Step, row: usize) {
            let c = step.c.wrapping_add(row * step.c_stride);
            let at = |r: usize, half: usize| c.wrapping_add(r * step.c_stride + 64 * half);
            let mut sums: [[$sum; 2]; R] = [[$zero(); 2]; R];
            if step.accumulate {
                for (r, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: 128 bytes of row `r`.
                    *sums = unsafe { [$load(at(r, 0).cast()), $load(at(r, 1).cast())] };
                }
            }
            let a = step.a.wrapping_add(row * step.a_stride);
            for group in 0..step.groups {
                let (a, b) =
                    (a.wrapping_add(group * GROUP_BYTES), step.b.wrapping_add(group * PANEL_GROUP_BYTES));
                for quad in 0..GROUP_BYTES / 4 {
                    // SAFETY: within the group's two tiles, and within each row's 64 bytes.
                    unsafe {
                        let left = _mm512_loadu_si512(b.add(quad * 64).cast());
                        let right = _mm512_loadu_si512(b.add(1024 + quad * 64).cast());
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let x =
                                a.wrapping_add(r * step.a_stride + quad * 4).cast::<i32>().read_unaligned();
                            let x = _mm512_set1_epi32(x);
                            sums[0] = $multiply(sums[0], x, left);
                            sums[1] = $multiply(sums[1], x, right);
                        }
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                // SAFETY: 128 bytes of row `r`.
                unsafe {
                    $store(at(r, 0).cast(), sums[0]);
                    $store(at(r, 1).cast(), sums[1]);
                }
            }
        }
    };
}

#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn multiply_int8(sum: __m512i, x: __m512i, b: __m512i) -> __m512i {
    _mm512_dpbusd_epi32(sum, x, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn multiply_bf16(sum: __m512, x: __m512i, b: __m512i) -> __m512 {
    // SAFETY: both are 512 bits without further meaning.
    let halves = |x: __m512i| unsafe { std::mem::transmute::<__m512i, __m512bh>(x) };
    _mm512_dpbf16_ps(sum, halves(x), halves(b))
}

blocks!(
    int8,
    int8_part,
    "avx512f,avx512vnni",
    __m512i,
    _mm512_setzero_si512,
    _mm512_loadu_si512,
    _mm512_storeu_si512,
    multiply_int8
);
blocks!(
    bf16,
    bf16_part,
    "avx512f,avx512bf16",
    __m512,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    multiply_bf16
);

/// Rounds `x` to bf16, nearest with ties to even.
///
/// # Safety
///
/// The processor must have AVX-512 BF16; `to` must have room for as many halves as `x` has floats.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub unsafe fn convert_bf16(x: &[f32], to: *mut u16) {
    let mut at = 0;
    while at < x.len() {
        let filled = (x.len() - at).min(32);
        let mask = u32::MAX >> (32 - filled);
        // SAFETY: lanes beyond `x` are neither read nor written.
        unsafe {
            let from = x.as_ptr().add(at);
            let low = _mm512_maskz_loadu_ps(mask as u16, from);
            let high = _mm512_maskz_loadu_ps((mask >> 16) as u16, from.wrapping_add(16));
            let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_mask_storeu_epi16(to.add(at).cast(), mask, halves);
        }
        at += 32;
    }
}
