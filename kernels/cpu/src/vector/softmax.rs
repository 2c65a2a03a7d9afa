//! The exponentials of a softmax.

use rten_simd::{
    Isa, SimdOp,
    ops::{BitOps, NumOps},
};

use super::{
    exp::exp_nonpositive,
    lanes::{ACCUMULATORS, largest, load, store, strips},
};

/// Turns each row of `width` scores into `exp(score - max)` and notes one over the row's sum.
pub struct Exponentials<'a> {
    pub rows: &'a mut [f32],
    pub width: usize,
    pub inverse_sums: &'a mut [f32],
}

impl SimdOp for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let (width, lanes) = (self.width, ops.len());
        let lowest = ops.splat(f32::NEG_INFINITY);
        for (row, inverse_sum) in self.rows.chunks_exact_mut(width).zip(self.inverse_sums) {
            let mut max = [lowest; ACCUMULATORS];
            strips!(width, lanes, |i, at, filled| {
                let x = load(isa, row, at);
                let x = if filled < lanes { ops.select(x, lowest, ops.first_n_mask(filled)) } else { x };
                max[i] = ops.max(max[i], x);
            });
            let max = ops.max(ops.max(max[0], max[1]), ops.max(max[2], max[3]));
            let max = ops.splat(largest::<I>(max));
            let mut sums = [ops.zero(); ACCUMULATORS];
            strips!(width, lanes, |i, at, filled| {
                let e = exp_nonpositive(isa, ops.sub(load(isa, row, at), max));
                store(isa, e, row, at);
                let e = if filled < lanes { ops.select(e, ops.zero(), ops.first_n_mask(filled)) } else { e };
                sums[i] = ops.add(sums[i], e);
            });
            let sum = ops.sum(ops.add(ops.add(sums[0], sums[1]), ops.add(sums[2], sums[3])));
            *inverse_sum = 1.0 / sum;
        }
    }
}
