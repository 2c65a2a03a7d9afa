//! From floats to bytes, one scale and one zero a row.

use rten_simd::{
    Isa, Simd, SimdOp,
    ops::{BitOps, FloatOps, NarrowSaturate, NumOps},
};

use super::lanes::{ACCUMULATORS, largest, load, strips};

/// Quantises each row of `width` values to a byte each: `x = scale * q + shift`.
///
/// `shift` is a whole number of steps, so that 0 is represented exactly. A row with a value that is not finite gets a
/// scale that is not a number, and so does all that comes of it.
pub struct QuantiseRows<'a> {
    pub rows: &'a [f32],
    pub width: usize,
    /// Rows of `stride` bytes, of which the first `width` are written.
    pub quantised: &'a mut [u8],
    pub stride: usize,
    pub scales: &'a mut [f32],
    pub shifts: &'a mut [f32],
}

const LEVEL_MAX: f32 = 255.0;

impl SimdOp for QuantiseRows<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let (ops, ints) = (isa.f32(), isa.i32());
        let (width, lanes) = (self.width, ops.len());
        let rows = self.rows.chunks_exact(width).zip(self.quantised.chunks_mut(self.stride));
        for (((row, quantised), scale), shift) in rows.zip(self.scales).zip(self.shifts) {
            let (mut low, mut high) = ([ops.zero(); ACCUMULATORS], [ops.zero(); ACCUMULATORS]);
            let mut poison = [ops.zero(); ACCUMULATORS];
            strips!(width, lanes, |i, at, _filled| {
                let x = load(isa, row, at);
                low[i] = ops.min(low[i], x);
                high[i] = ops.max(high[i], x);
                poison[i] = ops.mul_add(x, ops.zero(), poison[i]);
            });
            let low = ops.min(ops.min(low[0], low[1]), ops.min(low[2], low[3]));
            let high = ops.max(ops.max(high[0], high[1]), ops.max(high[2], high[3]));
            let low = -largest::<I>(ops.neg(low));
            let high = largest::<I>(high);
            let poison = ops.sum(ops.add(ops.add(poison[0], poison[1]), ops.add(poison[2], poison[3])));
            // Values that are not numbers may have got into neither; `poison` tells of them.
            let step = ((high - low) / LEVEL_MAX).max(f32::MIN_POSITIVE);
            let inverse = 1.0 / step;
            let zero = (-low * inverse).round_ties_even().clamp(0.0, LEVEL_MAX);
            *scale = step + poison;
            *shift = -zero * *scale;

            let (inverse, zero) = (ops.splat(inverse), ops.splat(zero));
            let quantise = |x: I::F32| ops.to_int_round(ops.mul_add(x, inverse, zero));
            let mut at = 0;
            while at + 4 * lanes <= width {
                let q: [I::I32; 4] =
                    std::array::from_fn(|i| quantise(ops.load(&row[at + i * lanes..at + (i + 1) * lanes])));
                let low = ints.narrow_saturate(q[0], q[1]);
                let high = ints.narrow_saturate(q[2], q[3]);
                isa.u8().store(isa.i16().narrow_saturate(low, high), &mut quantised[at..]);
                at += 4 * lanes;
            }
            while at < width {
                let q = quantise(load(isa, row, at)).to_array();
                let filled = lanes.min(width - at);
                for (to, q) in quantised[at..at + filled].iter_mut().zip(q) {
                    *to = q.clamp(0, LEVEL_MAX as i32) as u8;
                }
                at += lanes;
            }
        }
    }
}
