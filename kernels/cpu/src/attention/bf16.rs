//! Attention with bf16 products: scores and sums are f32, what is multiplied is bf16.

use super::{AttentionScratch, Heads, Part};
use crate::{cpu::Bf16, product::padded_rows};

/// Rows that a buffer of queries, keys and values must have beyond the last sequence: blocks read whole tiles.
pub const SPARE_ROWS: usize = 32;

/// Fills `context` (rows of `part` x hidden) from `qkv` (rows x 3 hidden, in bf16, and [`SPARE_ROWS`] more).
///
/// # Panics
///
/// If `qkv` does not hold the sequence or `context` is not of this size.
pub fn attend_bf16(
    kernel: Bf16,
    heads: Heads,
    part: &Part,
    qkv: &[u16],
    context: &mut [f32],
    scratch: &mut AttentionScratch,
) {
    let stride = 3 * heads.hidden();
    assert!(
        qkv.len() >= (part.first + padded_rows(part.len) + 16) * stride,
        "the whole sequence and spare rows"
    );
    assert!(
        part.rows.end <= part.len && context.len() == part.rows.len() * heads.hidden(),
        "a row of context each"
    );
    let _ready = kernel.ready();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a bf16 kernel exists only where AVX-512 and its BF16 instructions were found; sizes are checked above.
    unsafe {
        x86::attend(kernel.block(), heads, part, qkv, context, scratch);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = scratch;
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{AttentionScratch, Heads, Part};
    use crate::{
        product::{Block, Step, Sums},
        tile::{COLUMNS, GROUP_BYTES, PANEL_GROUP_BYTES, ROWS},
        vector::avx512::exp_nonpositive,
    };

    /// Numbers of bf16 in a group.
    const GROUP: usize = GROUP_BYTES / 2;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    pub unsafe fn attend(
        multiply: Block,
        heads: Heads,
        part: &Part,
        qkv: &[u16],
        context: &mut [f32],
        scratch: &mut AttentionScratch,
    ) {
        let (hidden, width, len) = (heads.hidden(), heads.width, part.len);
        let stride = 3 * hidden;
        let sequence = qkv[part.first * stride..].as_ptr();
        let padded = len.next_multiple_of(COLUMNS);
        let (key_groups, value_groups) = (width.div_ceil(GROUP), padded / GROUP);
        let panels = width.div_ceil(COLUMNS);
        let AttentionScratch { keys, values, scores, weights, inverse_sums, block } = scratch;
        // One f32 holds two bf16.
        let keys = keys.sized(padded * key_groups * GROUP / 2).as_mut_ptr().cast::<u16>();
        let values = values.sized(panels * COLUMNS * padded / 2).as_mut_ptr().cast::<u16>();
        let scores = scores.sized(ROWS * padded);
        let weights = weights.sized(ROWS * padded);
        let inverse_sums = inverse_sums.sized(ROWS);
        for head in 0..heads.count {
            // SAFETY: the caller checked that the sequence and spare rows are there; the buffers were just sized.
            unsafe {
                pack_keys(sequence.add(hidden + head * width), stride, width, len, keys);
                pack_values(sequence.add(2 * hidden + head * width), stride, width, len, values);
            }
            let mut row = part.rows.start;
            while row < part.rows.end {
                let rows = ROWS.min(part.rows.end - row);
                // SAFETY: queries up to the next multiple of 16 rows are there, thanks to the spare rows. A query's tile may
                // reach into what lies behind its head; the packed keys are zero there.
                unsafe {
                    let queries = sequence.add(row * stride + head * width).cast::<u8>();
                    for column in (0..len).step_by(COLUMNS) {
                        let c: *mut u8 = scores.as_mut_ptr().add(column).cast();
                        multiply(&Step {
                            a: queries,
                            a_stride: 2 * stride,
                            rows,
                            b: keys.add(column * key_groups * GROUP).cast(),
                            groups: key_groups,
                            c,
                            c_stride: 4 * padded,
                            accumulate: false,
                            ahead: c,
                            ahead_step: 0,
                        });
                    }
                    for r in 0..rows {
                        let scores = scores[r * padded..].as_ptr();
                        let weights = weights[r * padded..].as_mut_ptr();
                        inverse_sums[r] = softmax(scores, len, heads.scale(), weights, padded);
                    }
                    for column in (0..width).step_by(COLUMNS) {
                        let c = block.as_mut_ptr();
                        multiply(&Step {
                            a: weights.as_ptr().cast(),
                            a_stride: 2 * padded,
                            rows,
                            b: values.add(column * padded).cast(),
                            groups: value_groups,
                            c,
                            c_stride: Sums::STRIDE_BYTES,
                            accumulate: false,
                            ahead: c,
                            ahead_step: 0,
                        });
                        let mixed = block.as_mut_ptr().cast::<f32>();
                        let mask = u32::MAX >> (COLUMNS - COLUMNS.min(width - column));
                        for (r, inverse_sum) in inverse_sums.iter().enumerate().take(rows) {
                            let at = (row - part.rows.start + r) * hidden + head * width + column;
                            let to = context[at..].as_mut_ptr();
                            let inverse_sum = _mm512_set1_ps(*inverse_sum);
                            for half in 0..2 {
                                let m = _mm512_loadu_ps(mixed.add(r * COLUMNS + 16 * half));
                                let mask = (mask >> (16 * half)) as u16;
                                _mm512_mask_storeu_ps(
                                    to.wrapping_add(16 * half),
                                    mask,
                                    _mm512_mul_ps(m, inverse_sum),
                                );
                            }
                        }
                    }
                }
                row += rows;
            }
        }
    }

    /// `exp(scale * (score - max))` in bf16, zeros up to `padded`; returns one over the sum of what was written.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    unsafe fn softmax(scores: *const f32, len: usize, scale: f32, weights: *mut u16, padded: usize) -> f32 {
        // SAFETY (whole function): scores are read up to `padded`, which is a multiple of 32, and masked beyond `len`.
        unsafe {
            let lowest = _mm512_set1_ps(f32::NEG_INFINITY);
            let mask = |at: usize| -> u16 {
                if at + 16 <= len {
                    u16::MAX
                } else if at >= len {
                    0
                } else {
                    u16::MAX >> (16 - (len - at))
                }
            };
            let (mut a, mut b) = (lowest, lowest);
            for at in (0..padded).step_by(32) {
                a = _mm512_max_ps(a, _mm512_mask_loadu_ps(lowest, mask(at), scores.add(at)));
                b = _mm512_max_ps(b, _mm512_mask_loadu_ps(lowest, mask(at + 16), scores.add(at + 16)));
            }
            let scale = _mm512_set1_ps(scale);
            let top = _mm512_mul_ps(_mm512_set1_ps(_mm512_reduce_max_ps(_mm512_max_ps(a, b))), scale);
            let (mut a, mut b) = (_mm512_setzero_ps(), _mm512_setzero_ps());
            for at in (0..padded).step_by(32) {
                let e = |at: usize| {
                    let x = _mm512_fmsub_ps(_mm512_loadu_ps(scores.add(at)), scale, top);
                    _mm512_maskz_mov_ps(mask(at), exp_nonpositive(x))
                };
                let (low, high) = (e(at), e(at + 16));
                let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                _mm512_storeu_si512(weights.add(at).cast(), halves);
                // The sum is over what is multiplied, so that weights add up to 1.
                let halves_shifted = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(halves));
                a = _mm512_add_ps(a, _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves_shifted)));
                let halves_shifted = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(halves));
                b = _mm512_add_ps(b, _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves_shifted)));
            }
            1.0 / _mm512_reduce_add_ps(_mm512_add_ps(a, b))
        }
    }

    /// Panels of 32 keys, groups of 32 dimensions: a tile's row holds two dimensions of each of 16 keys.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn pack_keys(keys: *const u16, stride: usize, width: usize, len: usize, packed: *mut u16) {
        let groups = width.div_ceil(GROUP);
        for first in (0..len).step_by(16) {
            let (panel, tile) = (first / COLUMNS, first % COLUMNS / 16);
            for group in 0..groups {
                let dimensions = GROUP.min(width - group * GROUP);
                let mask = u32::MAX >> (GROUP - dimensions);
                // SAFETY: up to 16 keys of the sequence, `dimensions` of each; the rest of a tile is zero.
                unsafe {
                    let mut rows = [_mm512_setzero_si512(); 16];
                    for (key, row) in rows.iter_mut().enumerate().take(16.min(len - first)) {
                        let from = keys.add((first + key) * stride + group * GROUP);
                        *row = _mm512_maskz_loadu_epi16(mask, from.cast());
                    }
                    transpose(&mut rows);
                    let to =
                        packed.cast::<u8>().add((panel * groups + group) * PANEL_GROUP_BYTES + tile * 1024);
                    for (pair, row) in rows.iter().enumerate() {
                        _mm512_storeu_si512(to.add(64 * pair).cast(), *row);
                    }
                }
            }
        }
        // The second tile of the last panel, where the keys end in the first.
        if (1..=16).contains(&(len % COLUMNS)) {
            for group in 0..groups {
                // SAFETY: within the last panel.
                unsafe {
                    let to =
                        packed.cast::<u8>().add((len / COLUMNS * groups + group) * PANEL_GROUP_BYTES + 1024);
                    std::ptr::write_bytes(to, 0, 1024);
                }
            }
        }
    }

    /// Panels of 32 dimensions, groups of 32 values: a tile's row holds two values in each of 16 dimensions.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn pack_values(values: *const u16, stride: usize, width: usize, len: usize, packed: *mut u16) {
        let padded = len.next_multiple_of(COLUMNS);
        // Lane i of the first and of the second row in turn.
        let interleave: [u16; 32] = std::array::from_fn(|i| (i / 2 + 32 * (i % 2)) as u16);
        // SAFETY: rows beyond the sequence and dimensions beyond the head are zero, and not read.
        unsafe {
            let low = _mm512_loadu_si512(interleave.as_ptr().cast());
            let high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
            for panel in 0..width.div_ceil(COLUMNS) {
                let mask = u32::MAX >> (COLUMNS - COLUMNS.min(width - panel * COLUMNS));
                let load = |value: usize| {
                    let mask = if value < len { mask } else { 0 };
                    _mm512_maskz_loadu_epi16(
                        mask,
                        values.wrapping_add(value * stride + panel * COLUMNS).cast(),
                    )
                };
                let to = packed.add(panel * COLUMNS * padded).cast::<u8>();
                for pair in 0..padded / 2 {
                    let (first, second) = (load(2 * pair), load(2 * pair + 1));
                    let to = to.add(pair / 16 * PANEL_GROUP_BYTES + pair % 16 * 64);
                    _mm512_storeu_si512(to.cast(), _mm512_permutex2var_epi16(first, low, second));
                    _mm512_storeu_si512(to.add(1024).cast(), _mm512_permutex2var_epi16(first, high, second));
                }
            }
        }
    }

    /// Transposes 16 rows of 16 numbers of 32 bits.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn transpose(rows: &mut [__m512i; 16]) {
        let mut t = [_mm512_setzero_si512(); 16];
        for i in 0..8 {
            t[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
            t[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
        }
        for i in 0..4 {
            rows[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
            rows[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
            rows[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
            rows[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
        }
        // Now rows[4 i + j] holds, in each 128-bit lane l, column 4 l + j of rows 4 i .. 4 i + 4.
        for j in 0..4 {
            let (a, b, c, d) = (rows[j], rows[4 + j], rows[8 + j], rows[12 + j]);
            let ab_low = _mm512_shuffle_i32x4::<0x44>(a, b); // lanes a0 a1 b0 b1
            let ab_high = _mm512_shuffle_i32x4::<0xee>(a, b); // a2 a3 b2 b3
            let cd_low = _mm512_shuffle_i32x4::<0x44>(c, d);
            let cd_high = _mm512_shuffle_i32x4::<0xee>(c, d);
            t[j] = _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low); // a0 b0 c0 d0
            t[4 + j] = _mm512_shuffle_i32x4::<0xdd>(ab_low, cd_low); // a1 b1 c1 d1
            t[8 + j] = _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high);
            t[12 + j] = _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high);
        }
        *rows = t;
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn transposing_swaps_rows_and_columns() {
            if crate::cpu::Bf16::best().is_none() {
                return;
            }
            let numbers: Vec<u32> = (0..256).collect();
            let mut out = vec![0u32; 256];
            // SAFETY: AVX-512 was found.
            unsafe {
                let mut rows: [__m512i; 16] =
                    std::array::from_fn(|r| std::ptr::read_unaligned(numbers[16 * r..].as_ptr().cast()));
                transpose(&mut rows);
                for (r, row) in rows.iter().enumerate() {
                    std::ptr::write_unaligned(out[16 * r..].as_mut_ptr().cast(), *row);
                }
            }
            assert!((0..256).all(|i| out[i] == numbers[i % 16 * 16 + i / 16]));
        }
    }
}
