// The kernels of this project behind one function that launches them by name: built by tests/cuda_emulated.rs.

#define HEARKEN_EMULATED
#include "emulator.h"

#include "common.cuh"

#include "embed.cu"
#include "norm.cu"
#include "gelu.cu"
#include "attention.cu"
#include "heads.cu"
#include "convert.cu"

static const emulator::Named KERNELS[] = {
    EMULATED(embed_norm), EMULATED(residual_norm), EMULATED(bias_gelu), EMULATED(attention),
    EMULATED(pool),       EMULATED(pool_heads),    EMULATED(head_rows), EMULATED(convert),
};

// Runs a whole grid. `order` is one of the schedules 0, 1 and 2 of emulator.h. Returns null, or what went wrong.
extern "C" const char* emulate(const char* name, const unsigned grid[3], unsigned threads, void** arguments, unsigned count,
                               unsigned order) {
    emulator::fault.clear();
    for (const emulator::Named& kernel : KERNELS) {
        if (std::strcmp(kernel.name, name)) continue;
        if (kernel.arguments != count) {
            emulator::fault = std::string(name) + " takes another number of arguments";
            return emulator::fault.c_str();
        }
        std::mt19937 random(7);
        emulator::body = kernel.run;
        emulator::arguments = arguments;
        gridDim = {grid[0], grid[1], grid[2]};
        blockDim = {threads, 1, 1};
        for (blockIdx.z = 0; blockIdx.z < grid[2]; blockIdx.z++)
            for (blockIdx.y = 0; blockIdx.y < grid[1]; blockIdx.y++)
                for (blockIdx.x = 0; blockIdx.x < grid[0]; blockIdx.x++) {
                    emulator::run_block(threads, order, random);
                    if (!emulator::fault.empty()) return emulator::fault.c_str();
                }
        return nullptr;
    }
    emulator::fault = std::string("no kernel is called ") + name;
    return emulator::fault.c_str();
}
