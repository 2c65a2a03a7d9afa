//! Attention in f32.

use rten_simd::{
    Isa, SimdOp,
    ops::{BitOps, NumOps},
};

use super::{AttentionScratch, Heads, Part};
use crate::{
    product::Sums,
    simd_f32,
    tile::{COLUMNS, ROWS},
    vector::softmax::Exponentials,
};

/// Fills `context` (rows of `part` x hidden) from `qkv` (rows x 3 hidden).
///
/// # Panics
///
/// If `qkv` does not hold the sequence or `context` is not of this size.
pub fn attend_f32(
    heads: Heads,
    part: &Part,
    qkv: &[f32],
    context: &mut [f32],
    scratch: &mut AttentionScratch,
) {
    assert!(qkv.len() >= (part.first + part.len) * 3 * heads.hidden(), "the whole sequence");
    assert!(
        part.rows.end <= part.len && context.len() == part.rows.len() * heads.hidden(),
        "a row of context each"
    );
    Attend { heads, part, qkv, context, scratch }.dispatch();
}

struct Attend<'a> {
    heads: Heads,
    part: &'a Part,
    qkv: &'a [f32],
    context: &'a mut [f32],
    scratch: &'a mut AttentionScratch,
}

impl SimdOp for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { heads, part, qkv, context, scratch } = self;
        let (hidden, width, len) = (heads.hidden(), heads.width, part.len);
        let stride = 3 * hidden;
        let sequence = &qkv[part.first * stride..(part.first + len) * stride];
        let AttentionScratch { keys, values, scores, inverse_sums, block, .. } = scratch;
        let padded = len.next_multiple_of(COLUMNS);
        let keys = keys.sized(padded * width);
        let values = values.sized(width.next_multiple_of(COLUMNS) * len);
        let scores = scores.sized(ROWS * padded);
        let inverse_sums = inverse_sums.sized(ROWS);
        for head in 0..heads.count {
            pack_keys(&sequence[hidden + head * width..], stride, width, len, keys);
            pack_values(&sequence[2 * hidden + head * width..], stride, width, len, values);
            let mut row = part.rows.start;
            while row < part.rows.end {
                let rows = ROWS.min(part.rows.end - row);
                let queries = sequence[row * stride + head * width..].as_ptr();
                for column in (0..len).step_by(COLUMNS) {
                    let product = simd_f32::Rows {
                        a: queries,
                        a_stride: stride,
                        rows,
                        panel: keys[column * width..].as_ptr(),
                        inner: width,
                        c: scores[column..].as_mut_ptr(),
                        c_stride: padded,
                    };
                    // SAFETY: `rows` rows of queries lie `stride` apart within the sequence; `keys` has this panel, and
                    // `scores` 32 rows of `padded` numbers.
                    unsafe { simd_f32::block(isa, &product) };
                }
                // Rows are as wide as the sequence; what lies behind is not read.
                scale_rows(isa, &mut scores[..rows * padded], heads.scale());
                for (scores, inverse_sum) in
                    scores.chunks_exact_mut(padded).zip(&mut *inverse_sums).take(rows)
                {
                    let inverse_sums = std::slice::from_mut(inverse_sum);
                    Exponentials { rows: &mut scores[..len], width: len, inverse_sums }.eval(isa);
                }
                for column in (0..width).step_by(COLUMNS) {
                    let mixed = block.as_mut_ptr().cast::<f32>();
                    let product = simd_f32::Rows {
                        a: scores.as_ptr(),
                        a_stride: padded,
                        rows,
                        panel: values[column * len..].as_ptr(),
                        inner: len,
                        c: mixed,
                        c_stride: COLUMNS,
                    };
                    // SAFETY: `scores` has `rows` rows of `len` weights, `values` this panel, `block` 32 x 32 sums.
                    unsafe { simd_f32::block(isa, &product) };
                    let columns = COLUMNS.min(width - column);
                    for (r, inverse_sum) in inverse_sums.iter().enumerate().take(rows) {
                        let at = (row - part.rows.start + r) * hidden + head * width + column;
                        // SAFETY: row `r` of the block.
                        let mixed = unsafe { std::slice::from_raw_parts(mixed.add(r * COLUMNS), columns) };
                        for (to, m) in context[at..at + columns].iter_mut().zip(mixed) {
                            *to = m * inverse_sum;
                        }
                    }
                }
                row += rows;
            }
        }
        debug_assert_eq!(Sums::STRIDE_BYTES, 4 * COLUMNS);
    }
}

#[inline(always)]
fn scale_rows<I: Isa>(isa: I, rows: &mut [f32], scale: f32) {
    let ops = isa.f32();
    let scale = ops.splat(scale);
    for vector in rows.chunks_exact_mut(ops.len()) {
        ops.store(ops.mul(ops.load(vector), scale), vector);
    }
}

/// Panels of 32 keys: dimension after dimension, a number of each key.
#[inline(always)]
fn pack_keys(keys: &[f32], stride: usize, width: usize, len: usize, packed: &mut [f32]) {
    for (first, panel) in (0..len).step_by(COLUMNS).zip(packed.chunks_exact_mut(COLUMNS * width)) {
        for key in 0..COLUMNS.min(len - first) {
            let from = &keys[(first + key) * stride..][..width];
            for (x, row) in from.iter().zip(panel.chunks_exact_mut(COLUMNS)) {
                row[key] = *x;
            }
        }
    }
}

/// Panels of 32 dimensions: value after value.
#[inline(always)]
fn pack_values(values: &[f32], stride: usize, width: usize, len: usize, packed: &mut [f32]) {
    for (first, panel) in (0..width).step_by(COLUMNS).zip(packed.chunks_exact_mut(COLUMNS * len)) {
        let columns = COLUMNS.min(width - first);
        for (value, row) in panel.chunks_exact_mut(COLUMNS).enumerate() {
            row[..columns].copy_from_slice(&values[value * stride + first..][..columns]);
        }
    }
}
