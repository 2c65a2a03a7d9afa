//! Attention of packed sequences: `softmax(Q K^T / sqrt(width)) V`, each sequence over itself only, so that nothing is
//! padded and nothing is masked.
//!
//! A call computes some rows of one sequence, for all heads. Keys and values of a head are packed once per call; scores
//! of [`tile::ROWS`](crate::tile::ROWS) queries are held at a time, so memory grows with the length of a sequence and not
//! with its square.

mod bf16;
mod f32;

pub use self::{
    bf16::{SPARE_ROWS, attend_bf16},
    f32::attend_f32,
};

use std::ops::Range;

use crate::{memory::Aligned, product::Sums};

/// How heads lie in a row of queries, keys and values: `3 x heads x width` numbers, queries first.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    pub count: usize,
    pub width: usize,
}

impl Heads {
    pub fn hidden(self) -> usize {
        self.count * self.width
    }

    /// What scores are multiplied with.
    fn scale(self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }
}

/// Which rows are computed: `rows` of the sequence that begins at row `first` and has `len` rows.
#[derive(Clone, Debug)]
pub struct Part {
    pub first: usize,
    pub len: usize,
    /// Counted from `first`.
    pub rows: Range<usize>,
}

/// What a call needs beside its input and output.
#[derive(Default)]
pub struct AttentionScratch {
    keys: Aligned<f32>,
    values: Aligned<f32>,
    scores: Aligned<f32>,
    weights: Aligned<u16>,
    inverse_sums: Aligned<f32>,
    block: Sums,
}
