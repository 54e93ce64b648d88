// One seeded fault per kernel, and the right kernels beside them, for test_emulator.py. Blocks of 64 threads.
#define START                                                                                        \
    __shared__ float a[64];                                                                          \
    const int i = threadIdx.x;

// ---- right
extern "C" __global__ void right(float* o) {
    START a[i] = i;
    __syncthreads();
    o[i] = a[63 - i];
}
extern "C" __global__ void right_warp(float* o) {   // neighbours are in one warp
    START a[i] = i;
    __syncwarp();
    o[i] = a[i ^ 1];
}
extern "C" __global__ void right_shuffle(float* o) { o[threadIdx.x] = __shfl_xor_sync(0xffffffffu, (float)threadIdx.x, 1); }
extern "C" __global__ void right_halves(float* o) {   // two halves of a warp on different ways
    const int lane = threadIdx.x % 32;
    if (lane < 16) o[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, (float)threadIdx.x, 1);
    else o[threadIdx.x] = __shfl_xor_sync(0xffff0000u, (float)threadIdx.x, 1);
}
extern "C" __global__ void right_atomic(float* o) { atomicAdd(&o[0], 1.f); }
extern "C" __global__ void right_copy(float* o, const float* x) {
    START cp_async<4>(&a[i], &x[i]);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    o[i] = a[63 - i];
}

// ---- races
extern "C" __global__ void no_barrier(float* o) {
    START a[i] = i;
    o[i] = a[63 - i];
}
extern "C" __global__ void no_warp_barrier(float* o) {
    START a[i] = i;
    o[i] = a[i ^ 1];
}
extern "C" __global__ void write_after_read(float* o) {
    START a[i] = i;
    __syncthreads();
    const float neighbour = a[(i + 1) & 63];
    a[i] = neighbour + 1;   // a barrier is missing before this: the neighbour may not have read yet
    __syncthreads();
    o[i] = a[i];
}
extern "C" __global__ void same_value(float* o) {   // all write the same: the value is always right
    START a[0] = 1.f;
    __syncthreads();
    o[i] = a[0];
}
extern "C" __global__ void no_atomic(float* o) { o[0] += 1.f; }
extern "C" __global__ void shuffle_is_no_barrier(float* o) {   // the right value on the emulator, not on every GPU
    START a[i] = i;
    const float zero = __shfl_xor_sync(0xffffffffu, 0.f, 1);
    o[i] = a[i ^ 1] + zero;
}
extern "C" __global__ void no_wait(float* o, const float* x) {
    START cp_async<4>(&a[i], &x[i]);
    cp_async_commit();
    __syncthreads();
    o[i] = a[63 - i];
    cp_async_wait<0>();
}
extern "C" __global__ void across_blocks(float* o) {   // block b reads what block b - 1 wrote
    if (blockIdx.x == 0) o[0] = 1;
    else o[blockIdx.x] = o[blockIdx.x - 1] + 1;
}

// ---- the launch ends with a message
extern "C" __global__ void divergent_barrier(float* o) {
    if (threadIdx.x < 32) __syncthreads();
    else
        __syncthreads();
    o[threadIdx.x] = 1;
}
extern "C" __global__ void early_exit(float* o) {
    START if (i >= 60) return;
    a[i] = 1;
    __syncthreads();
    o[i] = a[i];
}
extern "C" __global__ void wrong_mask(float* o) {
    if (threadIdx.x < 16) o[threadIdx.x] = __shfl_down_sync(0xffffffffu, 1.f, 1);
}
extern "C" __global__ void not_in_mask(float* o) { o[threadIdx.x] = __shfl_sync(1u, 1.f, 0); }
extern "C" __global__ void outside_mask(float* o) {
    if (threadIdx.x % 32 < 16) o[threadIdx.x] = __shfl_xor_sync(0xffffu, 1.f, 16);
}
extern "C" __global__ void never_waited(float* o, const float* x) {
    START cp_async<4>(&a[i], &x[i]);
    cp_async_commit();
    o[i] = 1;
}
extern "C" __global__ void misaligned_copy(float* o, const float* x) {
    START cp_async<16>(&a[0], &x[1]);
    cp_async_commit();
    cp_async_wait<0>();
    o[i] = a[0];
}
extern "C" __global__ void wild_pointer(float* o) { *(float*)16 = o[0]; }
extern "C" __global__ void division_by_zero(int* o) { o[1] = 7 / o[0]; }
extern "C" __global__ void trap(float* o) {
    if (!(o[0] > 0)) __trap();
}

// ---- memory
extern "C" __global__ void uninitialised(float* o) {
    START if (i < 32) a[i] = i;
    __syncthreads();
    o[i] = a[i];
}
extern "C" __global__ void uninitialised_dynamic(float* o) {
    extern __shared__ float d[];
    if (threadIdx.x < 32) d[threadIdx.x] = 1;
    __syncthreads();
    o[threadIdx.x] = d[threadIdx.x];
}
extern "C" __global__ void beyond_write(float* o) { o[threadIdx.x + 1] = 1; }
extern "C" __global__ void beyond_read(float* o) { o[threadIdx.x] = o[threadIdx.x + 1]; }
extern "C" __global__ void before_read(float* o) { o[threadIdx.x] = o[(int)threadIdx.x - 1]; }
extern "C" __global__ void beyond_shared(float* o) {
    START a[i] = 1;
    __syncthreads();
    o[i] = a[i + 1];
}
extern "C" __global__ void beyond_dynamic(float* o) {
    extern __shared__ float d[];
    d[threadIdx.x] = 1;
    __syncthreads();
    o[threadIdx.x] = d[threadIdx.x + 1];
}
extern "C" __global__ void misaligned(float* o) {
    if (threadIdx.x < 8) *reinterpret_cast<float4*>(o + 1 + 4 * threadIdx.x) = make_float4(1, 2, 3, 4);
}
