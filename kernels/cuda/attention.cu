// Attention over packed sequences of any lengths: out = softmax(Q K^T / sqrt(HEAD_WIDTH)) V, each sequence on its own.
//
//   qkv     tokens x 3 HIDDEN   numbers: query, key and value side by side, heads side by side in each
//   tiles   one per block.x     first row of the sequence, its length, the first query of this tile, unused
//   out     tokens x HIDDEN     numbers
//   scale   log2(e) / sqrt(HEAD_WIDTH)
//
// A block takes 64 queries of one sequence and one head (block.y): 4 warps of 16 queries. A tile whose length is 0 does
// nothing, so that a recorded launch of fixed size can serve fewer. Keys and values pass through shared memory 64 at a time
// while the running maximum, sum and mean of a query stay in registers (Dao 2023, FlashAttention-2): nothing of size length
// x length is ever stored. The next keys travel while this tile's weights are made, the next values while the next scores
// are. Rows in shared memory are 16 bytes longer than they hold, so that eight rows lie in different banks.
//
// Bound by: at the lengths of messages (up to some hundred tokens) neither arithmetic (4 HIDDEN length flops a token, a few
// percent of the products around it) nor memory (8 HIDDEN bytes a token), but by latency; so blocks are small and many.

#define QUERIES 64
#define KEYS 64
#define ROW (HEAD_WIDTH + 8)
#define THREADS 128
#define WIDTH_STEPS (HEAD_WIDTH / 16)
#define KEY_STEPS (KEYS / 16)
#define NOTHING (-1e30f)

// Fetches KEYS rows from key `first` on; rows behind the sequence become zeros.
DEVICE void fetch(num* to, const num* from, u32 first, u32 length) {
    UNROLL
    for (u32 i = 0; i < KEYS * HEAD_WIDTH / 8 / THREADS; i++) {
        const u32 piece = threadIdx.x + i * THREADS, row = piece / (HEAD_WIDTH / 8), column = piece % (HEAD_WIDTH / 8) * 8;
        const bool there = first + row < length;
        copy_async(to + row * ROW + column, from + (u64)(there ? first + row : 0) * (3 * HIDDEN) + column, there);
    }
}

DEVICE float max_of(float a, float b) { return a > b ? a : b; }

KERNEL attention(const num* qkv, const Words4* tiles, num* out, float scale) {
    SHARED(num, keys, KEYS * ROW);
    SHARED(num, values, KEYS * ROW);
    const Words4 tile = tiles[blockIdx.x];
    const u32 length = tile.y;
    if (tile.z >= length) return;
    const u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    const num* query = qkv + (u64)tile.x * (3 * HIDDEN) + blockIdx.y * HEAD_WIDTH;
    const num *key = query + HIDDEN, *value = query + 2 * HIDDEN;
    const u32 query_a = tile.z + warp * 16 + g, query_b = query_a + 8;
    const bool busy = tile.z + warp * 16 < length;

    fetch(keys, key, 0, length);
    copy_commit();
    fetch(values, value, 0, length);
    copy_commit();

    // Queries in the layout of the first operand.
    u32 q[WIDTH_STEPS][4];
    UNROLL
    for (u32 s = 0; s < WIDTH_STEPS; s++) {
        UNROLL
        for (u32 i = 0; i < 4; i++) {
            const u32 row = i % 2 ? query_b : query_a, column = s * 16 + t * 2 + i / 2 * 8;
            q[s][i] = row < length ? *(const u32*)(query + (u64)row * (3 * HIDDEN) + column) : 0;
        }
    }

    float mixed[WIDTH_STEPS * 2][4] = {};
    // By query of this lane: rows a and b.
    float largest[2] = {NOTHING, NOTHING}, sum[2] = {0, 0};

    for (u32 first = 0; first < length; first += KEYS) {
        const u32 here = length - first < KEYS ? length - first : KEYS;
        float scores[KEY_STEPS * 2][4];

        copy_wait_all_but_one();
        sync_block();
        if (busy) {
            UNROLL
            for (u32 j = 0; j < KEY_STEPS; j++) {
                UNROLL
                for (u32 i = 0; i < 4; i++) scores[2 * j][i] = scores[2 * j + 1][i] = 0;
                if (j * 16 < here) {
                    UNROLL
                    for (u32 s = 0; s < WIDTH_STEPS; s++) {
                        u32 k[4];
                        const u32 row = j * 16 + lane / 16 * 8 + lane % 8, column = s * 16 + lane / 8 % 2 * 8;
                        load_matrices(k, keys + row * ROW + column);
                        mma(scores[2 * j], q[s], k[0], k[1]);
                        mma(scores[2 * j + 1], q[s], k[2], k[3]);
                    }
                }
            }
        }
        sync_block();
        if (first + KEYS < length) fetch(keys, key, first + KEYS, length);
        copy_commit();

        if (busy) {
            UNROLL
            for (u32 half = 0; half < 2; half++) {
                float top = largest[half];
                UNROLL
                for (u32 n = 0; n < KEY_STEPS * 2; n++) {
                    UNROLL
                    for (u32 i = 0; i < 2; i++) {
                        float* score = &scores[n][half * 2 + i];
                        *score = n * 8 + t * 2 + i < here ? *score * scale : NOTHING;
                        top = max_of(top, *score);
                    }
                }
                // The four lanes that share a row.
                top = max_of(top, shuffle_xor(top, 1));
                top = max_of(top, shuffle_xor(top, 2));
                const float shrink = exp2_fast(largest[half] - top);
                largest[half] = top;
                sum[half] *= shrink;
                UNROLL
                for (u32 n = 0; n < KEY_STEPS * 2; n++) {
                    UNROLL
                    for (u32 i = 0; i < 2; i++) {
                        float* score = &scores[n][half * 2 + i];
                        *score = exp2_fast(*score - top);
                        sum[half] += *score;
                    }
                }
                UNROLL
                for (u32 n = 0; n < WIDTH_STEPS * 2; n++) {
                    mixed[n][half * 2] *= shrink;
                    mixed[n][half * 2 + 1] *= shrink;
                }
            }
        }

        copy_wait_all_but_one();
        sync_block();
        if (busy) {
            UNROLL
            for (u32 j = 0; j < KEY_STEPS; j++) {
                if (j * 16 < here) {
                    const u32 weights[4] = {
                        pack(scores[2 * j][0], scores[2 * j][1]),
                        pack(scores[2 * j][2], scores[2 * j][3]),
                        pack(scores[2 * j + 1][0], scores[2 * j + 1][1]),
                        pack(scores[2 * j + 1][2], scores[2 * j + 1][3]),
                    };
                    UNROLL
                    for (u32 n = 0; n < WIDTH_STEPS; n++) {
                        u32 v[4];
                        const u32 row = j * 16 + lane / 8 % 2 * 8 + lane % 8, column = n * 16 + lane / 16 * 8;
                        load_matrices_transposed(v, values + row * ROW + column);
                        mma(mixed[2 * n], weights, v[0], v[1]);
                        mma(mixed[2 * n + 1], weights, v[2], v[3]);
                    }
                }
            }
        }
        sync_block();
        if (first + KEYS < length) fetch(values, value, first + KEYS, length);
        copy_commit();
    }

    if (!busy) return;
    UNROLL
    for (u32 half = 0; half < 2; half++) {
        float whole = sum[half];
        whole += shuffle_xor(whole, 1);
        whole += shuffle_xor(whole, 2);
        const float share = 1.0f / whole;
        const u32 row = half ? query_b : query_a;
        if (row < length) {
            num* to = out + (u64)(tile.x + row) * HIDDEN + blockIdx.y * HEAD_WIDTH + t * 2;
            UNROLL
            for (u32 n = 0; n < WIDTH_STEPS * 2; n++) {
                *(u32*)(to + n * 8) = pack(mixed[n][half * 2] * share, mixed[n][half * 2 + 1] * share);
            }
        }
    }
}
