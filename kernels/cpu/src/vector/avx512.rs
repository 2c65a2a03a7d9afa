//! Functions of vectors of 16 floats, for kernels that are written for AVX-512 alone.

use std::arch::x86_64::*;

/// `exp(x)` for `x <= 0`, within 2e-6 of itself relative to the result: for weights that are rounded to bf16 afterwards.
///
/// `2^k p(r)` with `k = round(x / ln 2)` and the Taylor polynomial of degree 5 on `[-ln2/2, ln2/2]`.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn exp_nonpositive(x: __m512) -> __m512 {
    let y = _mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E));
    let k = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(y);
    // Powers of two rather than of e: coefficients hold the powers of ln 2.
    let r = _mm512_sub_ps(y, k);
    let mut p = _mm512_set1_ps(1.333_355_8e-3);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.618_129e-3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.550_411e-2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.402_265e-1));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(std::f32::consts::LN_2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0));
    // Scaling by a power of two gives 0 where the result would be too small, and NaN for NaN.
    _mm512_scalef_ps(p, k)
}
