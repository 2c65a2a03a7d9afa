//! What stands between the two products of a feed-forward block, and the tanh of heads.

use rten_simd::{
    Isa, SimdUnaryOp,
    ops::{BitOps, FloatOps, NumOps},
};

use super::exp::exp_nonpositive;

/// The function between two products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * Phi(x)`, with the exact error function.
    Gelu,
    /// The tanh form of GELU.
    GeluTanh,
    Relu,
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

/// `x * Phi(x)` within 1.3e-4, for results that are rounded to 8 bits afterwards, where a step is many times that.
///
/// `Phi(x) = 1/2 + x g(x^2)` with a polynomial `g` of degree 7, fitted to the least largest error of the product on
/// `|x| <= 4` under the condition that `Phi(4) = 1`: beyond, the result is `x` or 0.
pub struct GeluRough;

impl SimdUnaryOp<f32> for GeluRough {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        let ops = isa.f32();
        let near = ops.max(ops.min(x, ops.splat(4.0)), ops.splat(-4.0));
        let u = ops.mul(near, near);
        let mut g = ops.splat(-4.422_041_6e-10);
        g = ops.mul_add(g, u, ops.splat(5.079_92e-8));
        g = ops.mul_add(g, u, ops.splat(-2.317_116_7e-6));
        g = ops.mul_add(g, u, ops.splat(5.749_565e-5));
        g = ops.mul_add(g, u, ops.splat(-8.835_257e-4));
        g = ops.mul_add(g, u, ops.splat(9.042_638e-3));
        g = ops.mul_add(g, u, ops.splat(-6.506_949e-2));
        g = ops.mul_add(g, u, ops.splat(0.398_189_93));
        // `x`, not `near`, is the factor: not a number stays one.
        ops.mul(x, ops.mul_add(near, g, ops.splat(0.5)))
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
