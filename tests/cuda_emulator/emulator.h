// Runs a CUDA kernel on a processor, thread by thread, so that its arithmetic, its indexing and its barriers can be tested
// without a GPU.
//
// A thread of a block is a fiber that runs until it meets a barrier. A barrier opens when all threads of the block (or of
// the warp) stand at it; one that a thread has left for good is an error, as is a barrier that others never reach. Three
// schedules, each of them one that a chip may choose, make missing barriers visible:
//   0  warps one at a time, the first one first; asynchronous copies arrive as late as the wait for them
//   1  warps one at a time, the last one first; asynchronous copies arrive at once
//   2  all threads in random turns; copies arrive at once or late by chance
// Shared memory begins as NaNs.
//
// The tensor instructions follow the register layouts of the PTX manual, section "Matrix multiply-accumulate operation
// using mma instruction" (m16n8k16) and "ldmatrix". What is not shown here: timing, bank conflicts, memory ordering finer
// than barriers, and whether the real instructions behave as the manual says.

#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

struct Index3 {
    unsigned x = 0, y = 0, z = 0;
};
static Index3 threadIdx, blockIdx, blockDim, gridDim;

#define DEVICE static inline
#define KERNEL extern "C" void
#define UNROLL
#define SHARED(type, name, count)              \
    alignas(16) static type name[count];       \
    static unsigned long long name##_of_block; \
    emulator::begin_shared(name, sizeof(name), &name##_of_block)

namespace emulator {

struct Copy {
    void* to;
    const void* from;
    bool there;
};

enum class At { Ready, Block, Warp, Done };

struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    At at = At::Done;
    unsigned index = 0;
    std::vector<std::vector<Copy>> groups;
    std::vector<Copy> open_group;
};

static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static Fiber* running;
static void (*body)(void**);
static void** arguments;
static std::string fault;
static unsigned long long blocks_begun;
static bool copies_early;
// By lane of each warp: what it shows the others.
static std::vector<std::uint64_t> shown;

static void begin_shared(void* memory, std::size_t bytes, unsigned long long* of_block) {
    if (*of_block != blocks_begun) {
        std::memset(memory, 0xFF, bytes);
        *of_block = blocks_begun;
    }
}

static void yield(At at) {
    Fiber* self = running;
    self->at = at;
    swapcontext(&self->context, &scheduler);
}

static void run_copies(std::vector<Copy>& copies) {
    for (const Copy& copy : copies) {
        if (copy.there) std::memcpy(copy.to, copy.from, 16);
        else std::memset(copy.to, 0, 16);
    }
    copies.clear();
}

static void fiber_main() {
    body(arguments);
    running->at = At::Done;
    swapcontext(&running->context, &scheduler);
}

// Opens the barriers of the given kind where all of first..last stand; false where one of them never will.
static bool open_barrier(unsigned first, unsigned last, At kind) {
    unsigned here = 0;
    for (unsigned i = first; i < last; i++) here += fibers[i].at == kind;
    if (here == 0) return true;
    for (unsigned i = first; i < last; i++) {
        if (fibers[i].at == At::Done) return false;
        if (fibers[i].at != kind) return true;
    }
    for (unsigned i = first; i < last; i++) fibers[i].at = At::Ready;
    return true;
}

static void run_block(unsigned threads, unsigned order, std::mt19937& random) {
    blocks_begun++;
    shown.assign(threads, 0);
    if (fibers.size() < threads) fibers.resize(threads);
    std::vector<unsigned> turns(threads);
    for (unsigned i = 0; i < threads; i++) {
        Fiber& fiber = fibers[i];
        fiber.stack.resize(128 * 1024);
        fiber.index = i;
        fiber.at = At::Ready;
        fiber.groups.clear();
        fiber.open_group.clear();
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = &scheduler;
        makecontext(&fiber.context, fiber_main, 0);
        turns[i] = order == 1 ? threads - 1 - i : i;
    }
    copies_early = order == 1;
    for (;;) {
        if (order == 2) {
            std::shuffle(turns.begin(), turns.end(), random);
            copies_early = random() % 2;
        }
        bool ran = false, all_done = true, ready = false;
        for (unsigned i : turns) {
            if (fibers[i].at != At::Ready) continue;
            // Until the first warp that can go on stands at a barrier of the block, no other one moves.
            if (order < 2 && ran && i / 32 != running->index / 32) break;
            ran = true;
            running = &fibers[i];
            threadIdx.x = i;
            swapcontext(&scheduler, &fibers[i].context);
        }
        bool sound = true;
        for (unsigned w = 0; w < threads; w += 32) sound &= open_barrier(w, std::min(w + 32, threads), At::Warp);
        for (unsigned i = 0; i < threads; i++) {
            all_done &= fibers[i].at == At::Done;
            ready |= fibers[i].at == At::Ready;
        }
        if (all_done) return;
        if (!ready) sound &= open_barrier(0, threads, At::Block);
        if (!sound) fault = "a barrier waits for a thread that has ended";
        else if (!ran) fault = "threads stand at barriers that never open";
        if (!fault.empty()) return;
    }
}

static unsigned warp_start() { return running->index / 32 * 32; }
static unsigned lane() { return running->index % 32; }

template <class... A, std::size_t... I>
static void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}

// A kernel under its name, with its arguments as the driver takes them: an array of addresses.
#define EMULATED(name) \
    {#name, [](void** a) { emulator::unpack(name, a); }, emulator::count(name)}

template <class... A>
static void unpack(void (*kernel)(A...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<A...>{});
}

template <class... A>
static constexpr unsigned count(void (*)(A...)) {
    return sizeof...(A);
}

struct Named {
    const char* name;
    void (*run)(void**);
    unsigned arguments;
};

}  // namespace emulator

typedef unsigned int u32;
typedef unsigned short u16;

DEVICE float bits_to_float(u32 bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

DEVICE u32 float_to_bits(float x) {
    u32 bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

DEVICE void sync_block() { emulator::yield(emulator::At::Block); }
DEVICE void sync_warp() { emulator::yield(emulator::At::Warp); }

DEVICE float shuffle_xor(float x, u32 lanes) {
    emulator::shown[emulator::running->index] = float_to_bits(x);
    sync_warp();
    const float other = bits_to_float((u32)emulator::shown[emulator::warp_start() + (emulator::lane() ^ lanes)]);
    sync_warp();
    return other;
}

DEVICE float exp2_fast(float x) { return std::exp2(x); }
DEVICE float inverse(float x) { return 1.0f / x; }
DEVICE float inverse_root(float x) { return 1.0f / std::sqrt(x); }

#ifdef HEARKEN_F16
DEVICE float widen(u16 h) {
    const u32 sign = (u32)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    if (exponent == 31) return bits_to_float(sign | 0x7f800000 | fraction << 13);
    const float size = exponent ? std::ldexp(1.0f + fraction / 1024.0f, (int)exponent - 15) : std::ldexp((float)fraction, -24);
    return sign ? -size : size;
}
DEVICE u16 narrow(float x) {
    const u32 bits = float_to_bits(x);
    const u16 sign = bits >> 16 & 0x8000;
    if (std::isnan(x)) return 0x7fff;
    const float size = std::fabs(x);
    if (size >= 65520.0f) return sign | 0x7c00;
    if (size < 6.103515625e-05f) return sign | (u16)std::nearbyint(std::ldexp(size, 24));
    int exponent;
    const float fraction = std::frexp(size, &exponent);
    // 1024 to 2048: rounding up to 2048 carries into the exponent by itself.
    const u32 scaled = (u32)std::nearbyint(std::ldexp(fraction, 11));
    return sign | (u16)((exponent + 13) * 1024 + scaled);
}
#else
DEVICE float widen(u16 h) { return bits_to_float((u32)h << 16); }
DEVICE u16 narrow(float x) {
    const u32 bits = float_to_bits(x);
    if (std::isnan(x)) return 0x7fff;
    return (u16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
#endif

DEVICE u32 pack(float low, float high) { return narrow(low) | (u32)narrow(high) << 16; }
DEVICE float low_of(u32 word) { return widen((u16)word); }
DEVICE float high_of(u32 word) { return widen((u16)(word >> 16)); }

namespace emulator {
struct Operands {
    u32 a[4], b[2];
};

// What a warp's lanes hold of the first operand at a place, and of the second.
static float a_at(const Operands* warp, unsigned row, unsigned column) {
    const u32 word = warp[row % 8 * 4 + column % 8 / 2].a[row / 8 + column / 8 * 2];
    return column % 2 ? high_of(word) : low_of(word);
}

static float b_at(const Operands* warp, unsigned row, unsigned column) {
    const u32 word = warp[column * 4 + row % 8 / 2].b[row / 8];
    return row % 2 ? high_of(word) : low_of(word);
}
}  // namespace emulator

DEVICE void mma(float d[4], const u32 a[4], const u32 b0, const u32 b1) {
    static std::vector<emulator::Operands> by_thread;
    if (by_thread.size() < emulator::fibers.size()) by_thread.resize(emulator::fibers.size());
    const unsigned start = emulator::warp_start(), lane = emulator::lane();
    by_thread[start + lane] = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    sync_warp();
    const emulator::Operands* warp = &by_thread[start];
    for (unsigned i = 0; i < 4; i++) {
        const unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        float sum = d[i];
        for (unsigned k = 0; k < 16; k++) sum += emulator::a_at(warp, row, k) * emulator::b_at(warp, k, column);
        d[i] = sum;
    }
    sync_warp();
}

DEVICE void load_matrices_as(u32 r[4], const u16* row, bool transposed) {
    static std::vector<const u16*> by_thread;
    if (by_thread.size() < emulator::fibers.size()) by_thread.resize(emulator::fibers.size());
    const unsigned start = emulator::warp_start(), lane = emulator::lane();
    if ((std::uintptr_t)row % 16) emulator::fault = "ldmatrix from an address that is no multiple of 16";
    by_thread[start + lane] = row;
    sync_warp();
    for (unsigned m = 0; m < 4; m++) {
        const u16* const* rows = &by_thread[start + m * 8];
        const unsigned i = lane / 4, j = lane % 4 * 2;
        r[m] = transposed ? rows[j][i] | (u32)rows[j + 1][i] << 16 : rows[i][j] | (u32)rows[i][j + 1] << 16;
    }
    sync_warp();
}

DEVICE void load_matrices(u32 r[4], const u16* row) { load_matrices_as(r, row, false); }
DEVICE void load_matrices_transposed(u32 r[4], const u16* row) { load_matrices_as(r, row, true); }

DEVICE void copy_async(u16* to, const u16* from, bool there) {
    if ((std::uintptr_t)to % 16 || (std::uintptr_t)from % 16) emulator::fault = "cp.async from or to an address that is no multiple of 16";
    std::vector<emulator::Copy>& group = emulator::running->open_group;
    group.push_back({to, from, there});
    if (emulator::copies_early) emulator::run_copies(group);
}

DEVICE void copy_commit() {
    emulator::running->groups.push_back(std::move(emulator::running->open_group));
    emulator::running->open_group.clear();
}

DEVICE void copy_wait_all_but_one() {
    auto& groups = emulator::running->groups;
    while (groups.size() > 1) {
        emulator::run_copies(groups.front());
        groups.erase(groups.begin());
    }
}
