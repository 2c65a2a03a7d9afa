//! The exponential function.

use rten_simd::{
    Isa, Simd,
    ops::{BitOps, FloatOps, IntOps, NumOps},
};

/// `exp(x)` for `x <= 0`; what would be smaller than a normal number is 0.
///
/// `2^k * p(r)` with `k = round(x / ln 2)`; the polynomial on `[-ln2/2, ln2/2]` is N. Juffa's, within one unit in the
/// last place (forums.developer.nvidia.com, "A more accurate, performance-competitive implementation of expf").
#[inline(always)]
pub fn exp_nonpositive<I: Isa>(isa: I, x: I::F32) -> I::F32 {
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
