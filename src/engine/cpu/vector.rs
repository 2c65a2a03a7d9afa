//! Element-wise work on rows, written once over portable vectors: GELU, tanh, softmax, layer norm, quantising.
//!
//! Every function reads and writes whole rows, so a row's result depends on nothing but the row. Not a number goes in,
//! not a number comes out: a damaged weight must never end as a label.

use rten_simd::{
    Isa, Simd, SimdOp, SimdUnaryOp,
    ops::{BitOps, FloatOps, IntOps, NarrowSaturate, NumOps, ToFloat},
};

use crate::engine::spec::Activation;

/// `exp(x)` for `x <= 0`; what would be smaller than a normal number is 0.
///
/// `2^k * p(r)` with `k = round(x / ln 2)`; the polynomial on `[-ln2/2, ln2/2]` is N. Juffa's, within one unit in the
/// last place (forums.developer.nvidia.com, "A more accurate, performance-competitive implementation of expf").
#[inline(always)]
fn exp_nonpositive<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    const ROUNDING: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
    const LN2_HI: f32 = -0.693_145_75;
    const LN2_LO: f32 = -1.428_606_8e-6;
    const CUTOFF: f32 = -87.67;
    let (ops, ints) = (isa.f32(), isa.i32());
    let j = ops.mul_add(x, ops.splat(std::f32::consts::LOG2_E), ops.splat(ROUNDING));
    let j = ops.sub(j, ops.splat(ROUNDING));
    let r = ops.mul_add(j, ops.splat(LN2_HI), x);
    let r = ops.mul_add(j, ops.splat(LN2_LO), r);
    let mut p = ops.splat(1.378_059_4e-3);
    p = ops.mul_add(p, r, ops.splat(8.373_124_5e-3));
    p = ops.mul_add(p, r, ops.splat(4.166_953_6e-2));
    p = ops.mul_add(p, r, ops.splat(1.666_647_2e-1));
    p = ops.mul_add(p, r, ops.splat(4.999_998_5e-1));
    p = ops.mul_add(p, r, ops.one());
    p = ops.mul_add(p, r, ops.one());
    let power = ints.shift_left::<23>(ints.add(ops.to_int_trunc(j), ints.splat(127)));
    let power: I::F32 = power.reinterpret_cast();
    ops.select(ops.zero(), ops.mul(p, power), ops.lt(x, ops.splat(CUTOFF)))
}

/// `x * Phi(x)`, the exact GELU, within 5e-7.
///
/// With `Q(a) = 1 - Phi(a)` for `a = |x|`, it is `max(x, 0) - a * Q(a)`, free of cancellation on both sides. `Q` comes
/// from Abramowitz and Stegun 7.1.26, whose error function is within 1.5e-7.
pub struct Gelu;

impl SimdUnaryOp<f32> for Gelu {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        let ops = isa.f32();
        let a = ops.abs(x);
        let t = ops.reciprocal(ops.mul_add(
            a,
            ops.splat(0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2),
            ops.one(),
        ));
        // Halved coefficients: Q is half of the complementary error function.
        let mut p = ops.splat(0.5 * 1.061_405_4);
        p = ops.mul_add(p, t, ops.splat(0.5 * -1.453_152));
        p = ops.mul_add(p, t, ops.splat(0.5 * 1.421_413_7));
        p = ops.mul_add(p, t, ops.splat(0.5 * -0.284_496_74));
        p = ops.mul_add(p, t, ops.splat(0.5 * 0.254_829_6));
        let tail = ops.mul(p, t);
        let tail = ops.mul(tail, exp_nonpositive(isa, ops.mul(ops.mul(x, x), ops.splat(-0.5))));
        ops.sub(ops.max(x, ops.zero()), ops.mul(a, tail))
    }
}

/// `tanh(x) = (1 - e) / (1 + e)` with `e = exp(-2|x|)`, and the sign of `x`.
pub struct Tanh;

impl SimdUnaryOp<f32> for Tanh {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        let ops = isa.f32();
        let e = exp_nonpositive(isa, ops.mul(ops.abs(x), ops.splat(-2.0)));
        let y = ops.div(ops.sub(ops.one(), e), ops.add(ops.one(), e));
        ops.select(ops.neg(y), y, ops.lt(x, ops.zero()))
    }
}

/// `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))` (Hendrycks and Gimpel 2016).
pub struct GeluTanh;

impl SimdUnaryOp<f32> for GeluTanh {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        let ops = isa.f32();
        let cube = ops.mul(ops.mul(x, x), x);
        let inner = ops.mul(ops.mul_add(cube, ops.splat(0.044_715), x), ops.splat(0.797_884_6));
        let half = ops.mul(x, ops.splat(0.5));
        ops.mul_add(half, Tanh.eval(isa, inner), half)
    }
}

pub struct Relu;

impl SimdUnaryOp<f32> for Relu {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        let ops = isa.f32();
        // In this order not a number stays one: only what is below zero is replaced.
        ops.select(ops.zero(), x, ops.lt(x, ops.zero()))
    }
}

pub fn activate(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Gelu => Gelu.map_mut(values),
        Activation::GeluTanh => GeluTanh.map_mut(values),
        Activation::Relu => Relu.map_mut(values),
    }
}

/// Calls `f` with the start and, for the last one, the number of lanes of each vector that covers `len` values.
#[inline(always)]
fn vectors(len: usize, lanes: usize, mut f: impl FnMut(usize, usize)) {
    let mut at = 0;
    while at < len {
        f(at, lanes.min(len - at));
        at += lanes;
    }
}

/// Loads `lanes` values at `at`, the rest being zero.
#[inline(always)]
fn load<I: Isa>(isa: I, values: &[f32], at: usize) -> I::F32 {
    isa.f32().load_pad(&values[at..]).0
}

#[inline(always)]
fn store<I: Isa>(isa: I, x: I::F32, values: &mut [f32], at: usize) {
    let ops = isa.f32();
    let rest = &mut values[at..];
    if rest.len() >= ops.len() {
        ops.store(x, rest);
    } else {
        // SAFETY: the mask has only the lanes for which `rest` has a place.
        unsafe { ops.store_ptr_mask(x, rest.as_mut_ptr(), ops.first_n_mask(rest.len())) }
    }
}

/// Adds `residual` to each row of `rows` and normalises it: mean 0, variance 1, then `gain` and `bias`.
pub struct AddNorm<'a> {
    pub rows: &'a mut [f32],
    pub residual: Option<&'a [f32]>,
    pub gain: &'a [f32],
    pub bias: &'a [f32],
    pub epsilon: f32,
}

impl SimdOp for AddNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let (width, lanes) = (self.gain.len(), ops.len());
        for (i, row) in self.rows.chunks_exact_mut(width).enumerate() {
            let mut sum = ops.zero();
            if let Some(residual) = self.residual {
                let residual = &residual[i * width..(i + 1) * width];
                vectors(width, lanes, |at, _| {
                    let x = ops.add(load(isa, row, at), load(isa, residual, at));
                    store(isa, x, row, at);
                    sum = ops.add(sum, x);
                });
            } else {
                vectors(width, lanes, |at, _| sum = ops.add(sum, load(isa, row, at)));
            }
            let mean = ops.sum(sum) / width as f32;
            let mean_lanes = ops.splat(mean);
            let mut squares = ops.zero();
            vectors(width, lanes, |at, filled| {
                let d = ops.sub(load(isa, row, at), mean_lanes);
                let d = if filled < lanes { ops.select(d, ops.zero(), ops.first_n_mask(filled)) } else { d };
                squares = ops.mul_add(d, d, squares);
            });
            let variance = ops.sum(squares) / width as f32;
            let scale = ops.splat(1.0 / (variance + self.epsilon).sqrt());
            vectors(width, lanes, |at, _| {
                let d = ops.mul(ops.sub(load(isa, row, at), mean_lanes), scale);
                let y = ops.mul_add(d, load(isa, self.gain, at), load(isa, self.bias, at));
                store(isa, y, row, at);
            });
        }
    }
}

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
        for (row, inverse_sum) in self.rows.chunks_exact_mut(width).zip(self.inverse_sums) {
            let mut max = ops.splat(f32::NEG_INFINITY);
            vectors(width, lanes, |at, filled| {
                let x = load(isa, row, at);
                let x = if filled < lanes { ops.select(x, max, ops.first_n_mask(filled)) } else { x };
                max = ops.max(max, x);
            });
            let max = max.to_array().into_iter().fold(f32::NEG_INFINITY, f32::max);
            let max = ops.splat(max);
            let mut sum = ops.zero();
            vectors(width, lanes, |at, filled| {
                let e = exp_nonpositive(isa, ops.sub(load(isa, row, at), max));
                store(isa, e, row, at);
                let e = if filled < lanes { ops.select(e, ops.zero(), ops.first_n_mask(filled)) } else { e };
                sum = ops.add(sum, e);
            });
            *inverse_sum = 1.0 / ops.sum(sum);
        }
    }
}

/// Quantises each row of `width` values to `0..=levels`: `x = scale * (q - zero)`, with the row's own scale and zero.
///
/// A row with a value that is not finite gets a scale that is not a number, and so does all that comes of it.
pub struct QuantiseRows<'a> {
    pub rows: &'a [f32],
    pub width: usize,
    pub levels: u8,
    pub quantised: &'a mut [u8],
    pub scales: &'a mut [f32],
    pub zeros: &'a mut [u8],
}

impl SimdOp for QuantiseRows<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let (ops, ints) = (isa.f32(), isa.i32());
        let (width, lanes) = (self.width, ops.len());
        let rows = self.rows.chunks_exact(width).zip(self.quantised.chunks_exact_mut(width));
        for (((row, quantised), scale), zero) in rows.zip(self.scales).zip(self.zeros) {
            // Zero is always in the range, so that it is represented exactly.
            let (mut low, mut high, mut poison) = (ops.zero(), ops.zero(), ops.zero());
            vectors(width, lanes, |at, _| {
                let x = load(isa, row, at);
                low = ops.min(low, x);
                high = ops.max(high, x);
                poison = ops.mul_add(x, ops.zero(), poison);
            });
            let low = low.to_array().into_iter().fold(0.0, f32::min);
            let high = high.to_array().into_iter().fold(0.0, f32::max);
            let step = ((high - low) / f32::from(self.levels)).max(f32::MIN_POSITIVE);
            let inverse = 1.0 / step;
            *zero = (-low * inverse).round_ties_even().clamp(0.0, f32::from(self.levels)) as u8;
            *scale = step + ops.sum(poison);

            let (inverse_lanes, zero_lanes) = (ops.splat(inverse), ints.splat(i32::from(*zero)));
            let top = ints.splat(i32::from(self.levels));
            let quantise = |x: I::F32| {
                let q = ints.add(ops.to_int_round(ops.mul(x, inverse_lanes)), zero_lanes);
                ints.min(q, top)
            };
            let mut at = 0;
            while at + 4 * lanes <= width {
                let q: [I::I32; 4] =
                    std::array::from_fn(|i| quantise(ops.load(&row[at + i * lanes..at + (i + 1) * lanes])));
                let low = ints.narrow_saturate(q[0], q[1]);
                let high = ints.narrow_saturate(q[2], q[3]);
                isa.u8().store(isa.i16().narrow_saturate(low, high), &mut quantised[at..]);
                at += 4 * lanes;
            }
            for (q, x) in quantised[at..].iter_mut().zip(&row[at..]) {
                let value = (x * inverse).round_ties_even() as i32 + i32::from(*zero);
                *q = value.clamp(0, i32::from(self.levels)) as u8;
            }
        }
    }
}

/// Turns integer products back into values: `(sum - zero * column sum) * row scale * column scale + bias`, then the
/// activation.
pub struct DequantiseRows<'a, F> {
    pub sums: &'a [i32],
    pub row_scales: &'a [f32],
    pub zeros: &'a [u8],
    pub column_scales: &'a [f32],
    pub column_sums: &'a [i32],
    pub bias: &'a [f32],
    pub values: &'a mut [f32],
    pub activation: F,
}

impl<F: SimdUnaryOp<f32>> SimdOp for DequantiseRows<'_, F> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let (ops, ints) = (isa.f32(), isa.i32());
        let (width, lanes) = (self.bias.len(), ops.len());
        let rows = self.sums.chunks_exact(width).zip(self.values.chunks_exact_mut(width));
        for (((sums, values), row_scale), zero) in rows.zip(self.row_scales).zip(self.zeros) {
            let (row_scale, zero) = (ops.splat(*row_scale), ints.splat(i32::from(*zero)));
            vectors(width, lanes, |at, _| {
                let shift = ints.mul(zero, ints.load_pad(&self.column_sums[at..]).0);
                let sum = ints.to_float(ints.sub(ints.load_pad(&sums[at..]).0, shift));
                let scaled = ops.mul(sum, row_scale);
                let x = ops.mul_add(scaled, load(isa, self.column_scales, at), load(isa, self.bias, at));
                store(isa, self.activation.eval(isa, x), values, at);
            });
        }
    }
}

/// Leaves values as they are.
pub struct Identity;

impl SimdUnaryOp<f32> for Identity {
    #[inline(always)]
    fn eval<I: Isa>(&self, _isa: I, x: I::F32) -> I::F32 {
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Vec<f32> {
        (-120_000..=120_000).map(|i| i as f32 * 1e-4).collect()
    }

    fn largest_error(op: impl SimdUnaryOp<f32>, exact: impl Fn(f64) -> f64) -> f64 {
        let xs = grid();
        let mut ys = xs.clone();
        op.map_mut(&mut ys);
        xs.iter().zip(&ys).map(|(x, y)| (exact(f64::from(*x)) - f64::from(*y)).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn functions_stay_within_their_documented_errors() {
        let phi = |x: f64| 0.5 * statrs::function::erf::erfc(-x / std::f64::consts::SQRT_2);
        let gelu = largest_error(Gelu, |x| x * phi(x));
        assert!(gelu < 5e-7, "gelu {gelu:e}");
        let tanh = largest_error(Tanh, f64::tanh);
        assert!(tanh < 2e-7, "tanh {tanh:e}");
        let c = (2.0 / std::f64::consts::PI).sqrt();
        let form = largest_error(GeluTanh, |x| 0.5 * x * (1.0 + (c * (x + 0.044715 * x * x * x)).tanh()));
        assert!(form < 2e-6, "gelu tanh {form:e}");
    }

    #[test]
    fn not_a_number_stays_one() {
        for bad in [f32::NAN, f32::INFINITY] {
            let poisoned = |op: &dyn Fn(&mut [f32])| {
                let mut values = vec![0.5; 19];
                values[17] = bad;
                op(&mut values);
                assert!(!values[17].is_finite());
            };
            poisoned(&|v| Gelu.map_mut(v));
            poisoned(&|v| GeluTanh.map_mut(v));
            poisoned(&|v| Relu.map_mut(v));
            let mut scales = [0.0];
            let mut values = vec![0.5; 19];
            values[17] = bad;
            QuantiseRows {
                rows: &values,
                width: 19,
                levels: 255,
                quantised: &mut [0; 19],
                scales: &mut scales,
                zeros: &mut [0],
            }
            .dispatch();
            assert!(scales[0].is_nan());
        }
    }

    #[test]
    fn rows_of_any_width_are_normalised() {
        for width in [1usize, 3, 8, 19, 33, 384] {
            let mut rows: Vec<f32> = (0..2 * width).map(|i| ((i * 37) % 101) as f32 * 0.1 - 3.0).collect();
            let residual: Vec<f32> = (0..2 * width).map(|i| ((i * 13) % 17) as f32 * 0.2).collect();
            let expected: Vec<f64> = (0..2)
                .flat_map(|r| {
                    let x: Vec<f64> = (r * width..(r + 1) * width)
                        .map(|i| f64::from(rows[i]) + f64::from(residual[i]))
                        .collect();
                    let mean = x.iter().sum::<f64>() / width as f64;
                    let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
                    x.into_iter()
                        .map(move |v| (v - mean) / (var + 1e-5).sqrt() * 2.0 + 0.5)
                        .collect::<Vec<_>>()
                })
                .collect();
            AddNorm {
                rows: &mut rows,
                residual: Some(&residual),
                gain: &vec![2.0; width],
                bias: &vec![0.5; width],
                epsilon: 1e-5,
            }
            .dispatch();
            for (got, want) in rows.iter().zip(expected) {
                assert!((f64::from(*got) - want).abs() < 2e-5, "width {width}: {got} for {want}");
            }
        }
    }

    #[test]
    fn exponentials_sum_to_one_for_any_width() {
        for width in [2usize, 7, 8, 19, 300] {
            let scores: Vec<f32> = (0..width).map(|i| ((i * 7) % 23) as f32 - 40.0).collect();
            let (mut rows, mut inverse) = (scores.clone(), [0.0]);
            Exponentials { rows: &mut rows, width, inverse_sums: &mut inverse }.dispatch();
            let max = scores.iter().copied().fold(f32::MIN, f32::max);
            let total: f64 = scores.iter().map(|s| f64::from(s - max).exp()).sum();
            for (got, score) in rows.iter().zip(&scores) {
                let want = f64::from(score - max).exp() / total;
                assert!((f64::from(got * inverse[0]) - want).abs() < 1e-6, "width {width}");
            }
        }
    }

    #[test]
    fn quantised_rows_come_back_within_half_a_step() {
        for (width, levels) in [(5usize, 255u8), (64, 255), (131, 127)] {
            let rows: Vec<f32> = (0..width).map(|i| ((i * 29) % 53) as f32 * 0.07 - 1.1).collect();
            let (mut q, mut scales, mut zeros) = (vec![0u8; width], [0.0], [0u8]);
            QuantiseRows {
                rows: &rows,
                width,
                levels,
                quantised: &mut q,
                scales: &mut scales,
                zeros: &mut zeros,
            }
            .dispatch();
            assert!(q.iter().all(|q| *q <= levels));
            for (x, q) in rows.iter().zip(q) {
                let back = (f32::from(q) - f32::from(zeros[0])) * scales[0];
                assert!((x - back).abs() <= scales[0] * 1.01, "{x} came back as {back}");
            }
        }
    }
}
