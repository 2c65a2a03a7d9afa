// Between the two products of a feed-forward block: x = gelu(x + bias), with the exact error function.
//
//   x      chunks x 8      numbers, rows of INTERMEDIATE laid end to end, in place
//   bias   INTERMEDIATE    f32
//
// A thread takes one chunk of 8. Bound by memory: 4 bytes a number. The library's own GELU epilogue is the tanh form, so
// models with the exact one come here; the others leave this kernel out.
//
// gelu(x) = x Phi(x). Phi(-|x|) = erfc(|x| / sqrt 2) / 2 after Abramowitz and Stegun 7.1.26 (error of erfc at most 1.5e-7):
// both tails are right to more digits than 16 bits hold, and it takes two special functions instead of a branch.

DEVICE float gelu(float x) {
    const float z = (x < 0 ? -x : x) * 0.70710678f;
    const float t = inverse(1.0f + 0.3275911f * z);
    const float p = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    const float tail = 0.5f * p * exp2_fast(z * z * -1.44269504f);
    return x < 0 ? x * tail : x - x * tail;
}

KERNEL bias_gelu(num* x, const float* bias, u32 chunks) {
    const u32 chunk = blockIdx.x * blockDim.x + threadIdx.x;
    if (chunk >= chunks) return;
    float v[8];
    unpack8(((const Words4*)x)[chunk], v);
    add8(bias + chunk % (INTERMEDIATE / 8) * 8, v);
    UNROLL
    for (u32 i = 0; i < 8; i++) v[i] = gelu(v[i]);
    ((Words4*)x)[chunk] = pack8(v);
}
