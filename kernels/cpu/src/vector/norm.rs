//! Layer normalisation.

use rten_simd::{
    Isa, SimdOp,
    ops::{BitOps, NumOps},
};

use super::lanes::{ACCUMULATORS, load, store, strips};

/// Normalises each row: mean 0, variance 1, then times `gain` plus `bias` (Ba, Kiros and Hinton 2016).
pub struct NormRows<'a> {
    /// Rows as wide as `gain`.
    pub rows: &'a mut [f32],
    pub gain: &'a [f32],
    pub bias: &'a [f32],
    pub epsilon: f32,
}

impl SimdOp for NormRows<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let (width, lanes) = (self.gain.len(), ops.len());
        let total = |sums: [I::F32; ACCUMULATORS]| {
            ops.sum(ops.add(ops.add(sums[0], sums[1]), ops.add(sums[2], sums[3])))
        };
        for row in self.rows.chunks_exact_mut(width) {
            let mut sums = [ops.zero(); ACCUMULATORS];
            strips!(width, lanes, |i, at, _filled| sums[i] = ops.add(sums[i], load(isa, row, at)));
            let mean = ops.splat(total(sums) / width as f32);
            let mut squares = [ops.zero(); ACCUMULATORS];
            strips!(width, lanes, |i, at, filled| {
                let d = ops.sub(load(isa, row, at), mean);
                let d = if filled < lanes { ops.select(d, ops.zero(), ops.first_n_mask(filled)) } else { d };
                squares[i] = ops.mul_add(d, d, squares[i]);
            });
            let variance = total(squares) / width as f32;
            let scale = ops.splat(1.0 / (variance + self.epsilon).sqrt());
            strips!(width, lanes, |_, at, _filled| {
                let d = ops.mul(ops.sub(load(isa, row, at), mean), scale);
                let y = ops.mul_add(d, load(isa, self.gain, at), load(isa, self.bias, at));
                store(isa, y, row, at);
            });
        }
    }
}
