//! Products on AVX-512 dot-product instructions: VNNI for bytes, BF16 for halves of floats.
//!
//! Twelve rows of two vectors are held in 24 registers; each step loads two vectors of B and broadcasts 4 bytes of each
//! row, so that multiplying, not loading, is what takes time.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_dpbusd_epi32,
    _mm512_loadu_si512, _mm512_mask_storeu_epi16, _mm512_maskz_loadu_ps, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_ps, _mm512_storeu_si512,
};

use crate::tile::{GROUP_BYTES, PANEL_GROUP_BYTES};

const ROWS: usize = 12;

macro_rules! blocks {
    ($name:ident, $part:ident, $features:literal, $zero:ident, $sum:ty, $store:ident, $multiply:expr) => {
        /// A block of up to 32 rows; see [`crate::product`].
        ///
        /// # Safety
        ///
        /// The processor must have the instructions. `a` must have `rows` rows of `groups` x 64 bytes, `panel` `groups`
        /// groups, `c` `rows` rows of 32 numbers, `c_stride` bytes apart.
        pub unsafe fn $name(
            a: *const u8,
            a_stride: usize,
            rows: usize,
            panel: *const u8,
            groups: usize,
            c: *mut u8,
            c_stride: usize,
        ) {
            let mut row = 0;
            while row < rows {
                let (a, c) = (a.wrapping_add(row * a_stride), c.wrapping_add(row * c_stride));
                // SAFETY: as the caller promises, from this row on.
                unsafe {
                    match rows - row {
                        1 => $part::<1>(a, a_stride, panel, groups, c, c_stride),
                        2 => $part::<2>(a, a_stride, panel, groups, c, c_stride),
                        3 => $part::<3>(a, a_stride, panel, groups, c, c_stride),
                        4 => $part::<4>(a, a_stride, panel, groups, c, c_stride),
                        5 => $part::<5>(a, a_stride, panel, groups, c, c_stride),
                        6 => $part::<6>(a, a_stride, panel, groups, c, c_stride),
                        7 => $part::<7>(a, a_stride, panel, groups, c, c_stride),
                        8 => $part::<8>(a, a_stride, panel, groups, c, c_stride),
                        9 => $part::<9>(a, a_stride, panel, groups, c, c_stride),
                        10 => $part::<10>(a, a_stride, panel, groups, c, c_stride),
                        11 => $part::<11>(a, a_stride, panel, groups, c, c_stride),
                        _ => $part::<ROWS>(a, a_stride, panel, groups, c, c_stride),
                    }
                }
                row += ROWS;
            }
        }

        #[target_feature(enable = $features)]
        unsafe fn $part<const R: usize>(
            a: *const u8,
            a_stride: usize,
            panel: *const u8,
            groups: usize,
            c: *mut u8,
            c_stride: usize,
        ) {
            let mut sums: [[$sum; 2]; R] = [[$zero(); 2]; R];
            for group in 0..groups {
                let (a, b) =
                    (a.wrapping_add(group * GROUP_BYTES), panel.wrapping_add(group * PANEL_GROUP_BYTES));
                for quad in 0..GROUP_BYTES / 4 {
                    // SAFETY: within the group's two tiles, and within each row's 64 bytes.
                    unsafe {
                        let left = _mm512_loadu_si512(b.add(quad * 64).cast());
                        let right = _mm512_loadu_si512(b.add(1024 + quad * 64).cast());
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let x = a.wrapping_add(r * a_stride + quad * 4).cast::<i32>().read_unaligned();
                            let x = _mm512_set1_epi32(x);
                            sums[0] = $multiply(sums[0], x, left);
                            sums[1] = $multiply(sums[1], x, right);
                        }
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                let row = c.wrapping_add(r * c_stride);
                // SAFETY: 128 bytes of row `r`.
                unsafe {
                    $store(row.cast(), sums[0]);
                    $store(row.add(64).cast(), sums[1]);
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
    let (x, b): (__m512bh, __m512bh) = unsafe { (std::mem::transmute(x), std::mem::transmute(b)) };
    _mm512_dpbf16_ps(sum, x, b)
}

blocks!(
    int8,
    int8_part,
    "avx512f,avx512vnni",
    _mm512_setzero_si512,
    __m512i,
    _mm512_storeu_si512,
    multiply_int8
);
blocks!(bf16, bf16_part, "avx512f,avx512bf16", _mm512_setzero_ps, __m512, _mm512_storeu_ps, multiply_bf16);

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
            let halves: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
            _mm512_mask_storeu_epi16(to.add(at).cast(), mask, halves);
        }
        at += 32;
    }
}
