//! Attention over packed sequences: each sequence sees itself only, so nothing is padded and nothing is masked.
//!
//! Work is cut by sequence and head. A head holds the scores of one block of queries at a time, so memory grows with
//! the length of a sequence and not with its square.

use rayon::prelude::*;
use rten_gemm::{GemmInputA, GemmInputB, GemmOptions};
use rten_simd::SimdOp;
use rten_tensor::NdTensorView;

use super::{
    linear::{Kernels, product_error},
    scratch::{AttentionScratch, Pool, sized},
    vector::Exponentials,
};
use crate::engine::{batch::PackedBatch, executor::ExecutorError};

/// Queries whose scores are held at once.
const QUERY_ROWS_MAX: usize = 96;

/// Width of the parts of a row of `qkv`.
#[derive(Clone, Copy)]
pub struct HeadLayout {
    pub heads: usize,
    pub width: usize,
}

impl HeadLayout {
    fn hidden(self) -> usize {
        self.heads * self.width
    }
}

struct HeadTask<'a> {
    first_row: usize,
    rows: usize,
    head: usize,
    out: &'a mut [f32],
}

/// `softmax(Q K^T / sqrt(width)) V` of every sequence and head. `qkv` is tokens x 3 hidden; `context` is filled by
/// sequence, then by head, then by row: see [`gather`].
pub fn attend(
    kernels: &Kernels,
    layout: HeadLayout,
    batch: &PackedBatch,
    qkv: &[f32],
    context: &mut [f32],
    pool: &Pool<AttentionScratch>,
) -> Result<(), ExecutorError> {
    let mut tasks = Vec::with_capacity(batch.cu_seqlens.len() * layout.heads);
    let mut rest = context;
    for (first_row, rows) in batch.sequences() {
        for head in 0..layout.heads {
            let (out, after) = rest.split_at_mut(rows * layout.width);
            rest = after;
            tasks.push(HeadTask { first_row, rows, head, out });
        }
    }
    tasks
        .into_par_iter()
        .try_for_each(|task| pool.with(|scratch| attend_head(kernels, layout, qkv, task, scratch)))
}

fn attend_head(
    kernels: &Kernels,
    layout: HeadLayout,
    qkv: &[f32],
    task: HeadTask,
    scratch: &mut AttentionScratch,
) -> Result<(), ExecutorError> {
    let (width, hidden, rows) = (layout.width, layout.hidden(), task.rows);
    let stride = 3 * hidden;
    let part = |which: usize| &qkv[task.first_row * stride + which * hidden + task.head * width..];
    let (query, key, value) = (part(0), part(1), part(2));
    if rows < 2 {
        // A token alone attends to itself with weight 1.
        task.out.copy_from_slice(&value[..task.out.len()]);
        return Ok(());
    }
    let view = |data, shape, strides| {
        NdTensorView::from_slice_with_strides(shape, data, strides)
            .map_err(|e| ExecutorError::Product(format!("{e:?}")))
    };
    let keys = view(key, [width, rows], [1, stride])?;
    let values = view(value, [rows, width], [stride, 1])?;
    let scale = GemmOptions { alpha: 1.0 / (width as f32).sqrt(), ..GemmOptions::default() };

    // Blocks of nearly equal size: a last block of one row would go down the matrix kernels' other path.
    let blocks = rows.div_ceil(QUERY_ROWS_MAX);
    for block in 0..blocks {
        let (from, to) = (rows * block / blocks, rows * (block + 1) / blocks);
        let queries = view(&query[from * stride..], [to - from, width], [stride, 1])?;
        let scores = sized(&mut scratch.scores, (to - from) * rows);
        let inverse_sums = sized(&mut scratch.inverse_sums, to - from);
        let mixed = sized(&mut scratch.mixed, (to - from) * width);
        kernels
            .f32
            .gemm(scores, GemmInputA::Unpacked(queries), GemmInputB::Unpacked(keys), scale.clone())
            .map_err(product_error)?;
        Exponentials { rows: &mut *scores, width: rows, inverse_sums: &mut *inverse_sums }.dispatch();
        kernels
            .f32
            .gemm(
                mixed,
                GemmInputA::Unpacked(NdTensorView::from_data([to - from, rows], &*scores)),
                GemmInputB::Unpacked(values),
                GemmOptions::default(),
            )
            .map_err(product_error)?;
        let out = task.out[from * width..to * width].chunks_exact_mut(width);
        for ((out, mixed), inverse_sum) in out.zip(mixed.chunks_exact(width)).zip(inverse_sums) {
            out.iter_mut().zip(mixed).for_each(|(o, m)| *o = m * *inverse_sum);
        }
    }
    Ok(())
}

/// The first row and the length of the sequence of every row.
pub fn sequence_of_rows(batch: &PackedBatch) -> Vec<(u32, u32)> {
    let mut rows = Vec::with_capacity(batch.tokens());
    for (first_row, len) in batch.sequences() {
        rows.extend(std::iter::repeat_n((first_row as u32, len as u32), len));
    }
    rows
}

/// Brings rows `first_row..` of `context` into token order: `out` is rows x hidden.
pub fn gather(
    layout: HeadLayout,
    sequences: &[(u32, u32)],
    context: &[f32],
    first_row: usize,
    out: &mut [f32],
) {
    let (width, hidden) = (layout.width, layout.hidden());
    for (i, out) in out.chunks_exact_mut(hidden).enumerate() {
        let row = first_row + i;
        let (start, len) = (sequences[row].0 as usize, sequences[row].1 as usize);
        for (head, out) in out.chunks_exact_mut(width).enumerate() {
            let at = start * hidden + (head * len + row - start) * width;
            out.copy_from_slice(&context[at..at + width]);
        }
    }
}
