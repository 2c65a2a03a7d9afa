// What follows a block's last product: hidden[i] = norm(update[i] + bias + hidden[i]).
//
//   update      rows x HIDDEN   numbers: a product without its bias
//   bias        HIDDEN          f32: the product's bias
//   hidden      rows x HIDDEN   numbers, read and written in place
//   gain, shift HIDDEN          f32: the norm's own weight and bias
//
// A warp takes one row and keeps it in registers; a block has 4 warps. Bound by memory: 6 HIDDEN bytes a row.

KERNEL residual_norm(const num* update, const float* bias, num* hidden, const float* gain, const float* shift, float epsilon,
                     u32 rows) {
    const u32 row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    const Words4* added = (const Words4*)(update + (u64)row * HIDDEN);
    num* kept = hidden + (u64)row * HIDDEN;
    float v[LANE_CHUNKS][8];
    UNROLL
    for (u32 c = 0; c < LANE_CHUNKS; c++) {
        const u32 chunk = lane + c * WARP;
        if (chunk < CHUNKS) {
            float h[8];
            unpack8(added[chunk], v[c]);
            unpack8(((const Words4*)kept)[chunk], h);
            UNROLL
            for (u32 i = 0; i < 8; i++) v[c][i] += h[i];
            add8(bias + chunk * 8, v[c]);
        }
    }
    norm_and_store(v, gain, shift, epsilon, lane, kept);
}
