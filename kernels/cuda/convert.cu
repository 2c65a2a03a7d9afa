// f32 to numbers: to[i] = from[i], rounded to the nearest even.
//
//   from   chunks x 8   f32
//   to     chunks x 8   numbers
//
// A thread takes one chunk of 8. Bound by memory: 6 bytes a number. Runs when a model is loaded.

KERNEL convert(const float* from, num* to, u32 chunks) {
    const u32 chunk = blockIdx.x * blockDim.x + threadIdx.x;
    if (chunk >= chunks) return;
    float v[8];
    load8(from + (u64)chunk * 8, v);
    ((Words4*)to)[chunk] = pack8(v);
}
