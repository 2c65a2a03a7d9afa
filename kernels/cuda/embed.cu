// Embedding and layer norm: out[i] = norm(words[ids[i]] + places[positions[i]]).
//
//   ids, positions   rows                      u32
//   words            vocabulary x HIDDEN       numbers
//   places           positions x HIDDEN        f32: position plus first token type, from the first text position on
//   gain, bias       HIDDEN                    f32
//   out              rows x HIDDEN             numbers
//
// A warp makes one row; a block has 4 warps. Bound by memory: a row reads 2 HIDDEN bytes of `words` at random (whole
// cache lines) and writes as many; `places` (4 HIDDEN bytes a row) stays in the second-level cache.

KERNEL embed_norm(const u32* ids, const u32* positions, const num* words, const float* places, const float* gain,
                  const float* bias, float epsilon, num* out, u32 rows) {
    const u32 row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    const Words4* word = (const Words4*)(words + (u64)ids[row] * HIDDEN);
    const float* place = places + (u64)positions[row] * HIDDEN;
    float v[LANE_CHUNKS][8];
    UNROLL
    for (u32 c = 0; c < LANE_CHUNKS; c++) {
        const u32 chunk = lane + c * WARP;
        if (chunk < CHUNKS) {
            unpack8(word[chunk], v[c]);
            add8(place + chunk * 8, v[c]);
        }
    }
    norm_and_store(v, gain, bias, epsilon, lane, out + (u64)row * HIDDEN);
}
