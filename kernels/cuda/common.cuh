// What every kernel stands on: 16-bit numbers, warp sums, and the few instructions that C++ has no words for.
//
// Put before each kernel's source when it is compiled; nothing is included, because the run-time compiler has no headers.
// The host says what is to be built:
//   HEARKEN_F16    numbers are f16; without it they are bf16
//   HIDDEN         width of a row of hidden states, a multiple of 8
//   INTERMEDIATE   width of a row between the two products of a feed-forward block, a multiple of 8
//   HEAD_WIDTH     width of one attention head, a multiple of 16
// Numbers are stored in 16 bits and added in 32. Chips from sm_80 on.
//
// HEARKEN_EMULATED: the functions under "instructions" come from tests/cuda_emulator/emulator.h, which runs a kernel on a
// processor, thread by thread.

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;

// One stored number.
typedef u16 num;

struct alignas(16) Words4 {
    u32 x, y, z, w;
};

struct alignas(16) Floats4 {
    float x, y, z, w;
};

struct alignas(8) Words2 {
    u32 x, y;
};

#ifndef HEARKEN_EMULATED

#define DEVICE static __device__ __forceinline__
#define KERNEL extern "C" __global__ void
// Shared memory of a block, 16-byte aligned.
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define UNROLL _Pragma("unroll")

// ---- instructions ----

DEVICE void sync_block() { __syncthreads(); }

DEVICE float shuffle_xor(float x, u32 lanes) { return __shfl_xor_sync(0xffffffffu, x, lanes); }

// 2^x
DEVICE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float inverse(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float inverse_root(float x) { return rsqrtf(x); }

#ifdef HEARKEN_F16
DEVICE u32 pack(float low, float high) {
    u32 word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
DEVICE float low_of(u32 word) {
    float x;
    asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, l; }" : "=f"(x) : "r"(word));
    return x;
}
DEVICE float high_of(u32 word) {
    float x;
    asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, h; }" : "=f"(x) : "r"(word));
    return x;
}
#define MMA_TYPES "f16.f16"
#else
DEVICE u32 pack(float low, float high) {
    u32 word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
DEVICE float low_of(u32 word) { return __uint_as_float(word << 16); }
DEVICE float high_of(u32 word) { return __uint_as_float(word & 0xffff0000u); }
#define MMA_TYPES "bf16.bf16"
#endif

DEVICE u32 shared_address(const void* p) {
    u32 address;
    asm("{ .reg .u64 wide; cvta.to.shared.u64 wide, %1; cvt.u32.u64 %0, wide; }" : "=r"(address) : "l"(p));
    return address;
}

// d (16x8, f32) += a (16x16) b (16x8). With g = lane / 4 and t = lane % 4:
// a[0..4] hold rows g, g+8, g, g+8 at columns 2t, 2t, 2t+8, 2t+8 (and the next column in the high half);
// b[0..2] hold column g at rows 2t and 2t+8 (and the next row); d holds rows g, g, g+8, g+8 at columns 2t, 2t+1, 2t, 2t+1.
DEVICE void mma(float d[4], const u32 a[4], const u32 b0, const u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." MMA_TYPES ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8x8 matrices from shared memory; lane l names row l % 8 of matrix l / 8. r[i] gets, of matrix i, row lane / 4 at
// columns 2 (lane % 4) and the next.
DEVICE void load_matrices(u32 r[4], const num* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// The same, with each matrix transposed on the way.
DEVICE void load_matrices_transposed(u32 r[4], const num* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// Copies 16 bytes from global to shared memory beside the arithmetic, or writes zeros where `there` is false.
DEVICE void copy_async(num* to, const num* from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(there ? 16 : 0)
                 : "memory");
}

// Closes a group of copies.
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for this thread's groups of copies, all but the last one.
DEVICE void copy_wait_all_but_one() { asm volatile("cp.async.wait_group 1;" ::: "memory"); }

#endif

// ---- on top of them ----

#define WARP 32

DEVICE void unpack8(const Words4 words, float v[8]) {
    v[0] = low_of(words.x), v[1] = high_of(words.x), v[2] = low_of(words.y), v[3] = high_of(words.y);
    v[4] = low_of(words.z), v[5] = high_of(words.z), v[6] = low_of(words.w), v[7] = high_of(words.w);
}

DEVICE Words4 pack8(const float v[8]) {
    Words4 words;
    words.x = pack(v[0], v[1]), words.y = pack(v[2], v[3]), words.z = pack(v[4], v[5]), words.w = pack(v[6], v[7]);
    return words;
}

DEVICE void load8(const float* from, float v[8]) {
    const Floats4 a = *(const Floats4*)from, b = *(const Floats4*)(from + 4);
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}

DEVICE void add8(const float* from, float v[8]) {
    const Floats4 a = *(const Floats4*)from, b = *(const Floats4*)(from + 4);
    v[0] += a.x, v[1] += a.y, v[2] += a.z, v[3] += a.w, v[4] += b.x, v[5] += b.y, v[6] += b.z, v[7] += b.w;
}

// Sum over the lanes of a warp, the same in every lane.
DEVICE float warp_sum(float x) {
    UNROLL
    for (u32 lanes = WARP / 2; lanes > 0; lanes /= 2) x += shuffle_xor(x, lanes);
    return x;
}

#ifdef HIDDEN
#define CHUNKS (HIDDEN / 8)
#define LANE_CHUNKS ((CHUNKS + WARP - 1) / WARP)

// Layer norm (Ba, Kiros, Hinton 2016) of a row that a warp holds in registers: lane l has chunks l, l + 32, ... of 8
// numbers each. Mean and variance take a pass each: one pass over squares loses digits.
DEVICE void norm_and_store(float v[LANE_CHUNKS][8], const float* gain, const float* bias, float epsilon, u32 lane, num* out) {
    float sum = 0;
    UNROLL
    for (u32 c = 0; c < LANE_CHUNKS; c++) {
        if (lane + c * WARP < CHUNKS) {
            UNROLL
            for (u32 i = 0; i < 8; i++) sum += v[c][i];
        }
    }
    const float mean = warp_sum(sum) * (1.0f / HIDDEN);
    float squares = 0;
    UNROLL
    for (u32 c = 0; c < LANE_CHUNKS; c++) {
        if (lane + c * WARP < CHUNKS) {
            UNROLL
            for (u32 i = 0; i < 8; i++) squares += (v[c][i] - mean) * (v[c][i] - mean);
        }
    }
    const float scale = inverse_root(warp_sum(squares) * (1.0f / HIDDEN) + epsilon);
    UNROLL
    for (u32 c = 0; c < LANE_CHUNKS; c++) {
        const u32 chunk = lane + c * WARP;
        if (chunk < CHUNKS) {
            float g[8], y[8];
            load8(gain + chunk * 8, g);
            UNROLL
            for (u32 i = 0; i < 8; i++) y[i] = (v[c][i] - mean) * scale * g[i];
            add8(bias + chunk * 8, y);
            ((Words4*)out)[chunk] = pack8(y);
        }
    }
}
#endif
