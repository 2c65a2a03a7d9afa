// From hidden states to logits.
//
// A head is one affine layer, or two with tanh between them. Its layers are f32. All sums here are f32.

// Warps of a block that pools: their sums must fit 48 KiB of shared memory.
#define POOL_WARPS (HIDDEN <= 1024 ? 8 : 4)
#define POOL_THREADS (POOL_WARPS * WARP)

// Mean of rows `first .. first + count`, left in `mean` for the whole block. Warps take rows in turn; their sums are
// added in the order of the warps, so the bits do not depend on timing.
DEVICE void mean_of_rows(const num* hidden, u32 first, u32 count, float* parts, float* mean) {
    const u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    float v[LANE_CHUNKS][8] = {};
    for (u32 r = warp; r < count; r += POOL_WARPS) {
        const Words4* row = (const Words4*)(hidden + (u64)(first + r) * HIDDEN);
        UNROLL
        for (u32 c = 0; c < LANE_CHUNKS; c++) {
            if (lane + c * WARP < CHUNKS) {
                float x[8];
                unpack8(row[lane + c * WARP], x);
                UNROLL
                for (u32 i = 0; i < 8; i++) v[c][i] += x[i];
            }
        }
    }
    UNROLL
    for (u32 c = 0; c < LANE_CHUNKS; c++) {
        if (lane + c * WARP < CHUNKS) {
            UNROLL
            for (u32 i = 0; i < 8; i++) parts[warp * HIDDEN + (lane + c * WARP) * 8 + i] = v[c][i];
        }
    }
    sync_block();
    const float share = 1.0f / (float)count;
    for (u32 i = threadIdx.x; i < HIDDEN; i += POOL_THREADS) {
        float sum = 0;
        UNROLL
        for (u32 w = 0; w < POOL_WARPS; w++) sum += parts[w * HIDDEN + i];
        mean[i] = sum * share;
    }
    sync_block();
}

// Means of spans, for heads of two layers: out[s] = mean of hidden[first .. first + count].
//
//   hidden  tokens x HIDDEN   numbers
//   spans   one per block     first row, count (at least 1; 0 leaves the row alone)
//   out     spans x HIDDEN    numbers
//
// Bound by memory: each row is read once.
KERNEL pool(const num* hidden, const Words2* spans, num* out) {
    SHARED(float, parts, POOL_WARPS * HIDDEN);
    SHARED(float, mean, HIDDEN);
    const Words2 span = spans[blockIdx.x];
    if (span.y == 0) return;
    mean_of_rows(hidden, span.x, span.y, parts, mean);
    for (u32 i = threadIdx.x; i < HIDDEN / 2; i += POOL_THREADS) {
        ((u32*)(out + (u64)blockIdx.x * HIDDEN))[i] = pack(mean[2 * i], mean[2 * i + 1]);
    }
}

// Means of spans and one-layer heads over them, any heads in one launch.
//
//   hidden   tokens x HIDDEN    numbers
//   asks     one per block      first row, count (0: nothing to do), the head, where its logits go in `out`
//   heads    by head            first row of its weights in `weights` (and of its bias), number of labels
//   weights  labels of all heads x HIDDEN   f32
//   bias     labels of all heads            f32
//   out      f32
//
// Bound by memory like `pool`; the weights of a head (a few rows) stay in the first-level cache.
KERNEL pool_heads(const num* hidden, const Words4* asks, const Words2* heads, const float* weights, const float* bias,
                  float* out) {
    SHARED(float, parts, POOL_WARPS * HIDDEN);
    SHARED(float, mean, HIDDEN);
    const Words4 ask = asks[blockIdx.x];
    if (ask.y == 0) return;
    const Words2 head = heads[ask.z];
    mean_of_rows(hidden, ask.x, ask.y, parts, mean);
    const u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    for (u32 label = warp; label < head.y; label += POOL_WARPS) {
        const float* weight = weights + (u64)(head.x + label) * HIDDEN;
        float sum = 0;
        for (u32 i = lane; i < HIDDEN; i += WARP) sum += mean[i] * weight[i];
        sum = warp_sum(sum);
        if (lane == 0) out[ask.w + label] = sum + bias[head.x + label];
    }
}

// One affine layer over single rows: out[r] = weights x[rows[r]] + bias, or weights tanh(x[r] + dense_bias) + bias where x
// is the product of a head's first layer.
//
//   x           rows x HIDDEN     numbers
//   rows        count             u32: which rows of x; null: all in order
//   dense_bias  HIDDEN            f32; null: no tanh
//   weights     labels x HIDDEN   f32
//   bias        labels            f32
//   out         count x labels    f32
//
// A warp takes one row and keeps it in registers; a block has 4 warps. Bound by memory with few labels (2 HIDDEN bytes a
// row), by arithmetic with many.
KERNEL head_rows(const num* x, const u32* rows, const float* dense_bias, const float* weights, const float* bias, float* out,
                 u32 count, u32 labels) {
    const u32 index = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (index >= count) return;
    const Words4* row = (const Words4*)(x + (u64)(rows ? rows[index] : index) * HIDDEN);
    float v[LANE_CHUNKS][8];
    UNROLL
    for (u32 c = 0; c < LANE_CHUNKS; c++) {
        const u32 chunk = lane + c * WARP;
        if (chunk < CHUNKS) {
            unpack8(row[chunk], v[c]);
            if (dense_bias) {
                add8(dense_bias + chunk * 8, v[c]);
                UNROLL
                for (u32 i = 0; i < 8; i++) v[c][i] = tanhf(v[c][i]);
            }
        }
    }
    for (u32 label = 0; label < labels; label++) {
        const float* weight = weights + (u64)label * HIDDEN;
        float sum = 0;
        UNROLL
        for (u32 c = 0; c < LANE_CHUNKS; c++) {
            const u32 chunk = lane + c * WARP;
            if (chunk < CHUNKS) {
                float w[8];
                load8(weight + chunk * 8, w);
                UNROLL
                for (u32 i = 0; i < 8; i++) sum += v[c][i] * w[i];
            }
        }
        sum = warp_sum(sum);
        if (lane == 0) out[(u64)index * labels + label] = sum + bias[label];
    }
}
