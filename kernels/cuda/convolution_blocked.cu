// Rung 3: register-blocked. A thread makes 8 x 8 outputs, so that 4 vector loads from shared memory feed 64
// multiply-adds (rung 2: 2 loads for one). Tiles come by cp.async while the block computes on the one before.
//
// 16 threads side by side cover 128 columns, 4 + 4 each (tx * 4 and 64 + tx * 4: neighbouring threads read
// neighbouring 16 bytes); ROWS / 8 threads above each other cover the rows in the same way. A warp is 8 x 4.
// At the end the outputs pass through shared memory, a quarter at a time, so that neighbouring threads write
// neighbouring pixels and a thread keeps its column: it finds its sample and pixel once.
template <class S> struct Block {
    float sum[8][8];

    static __device__ __forceinline__ int tx() { return threadIdx.x % 8 + threadIdx.x / 32 % 2 * 8; }
    static __device__ __forceinline__ int ty() { return threadIdx.x / 8 % 4 + threadIdx.x / 64 * 4; }

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < 64; ++i) sum[i / 8][i % 8] = 0.f;
    }

    static __device__ __forceinline__ void load8(float (&x)[8], const float* from, int half) {
        const float4 low = *(const float4*)from, high = *(const float4*)(from + half);
        x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
        x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
    }

    __device__ __forceinline__ void add(const float* stage, int part) {
        const float* w = stage + ty() * 4;
        const float* p = stage + S::DEPTH * S::LDW + tx() * 4;
#pragma unroll 2  // further, it would need more registers than two blocks have
        for (int k = 0; k < S::DEPTH; ++k) {
            float a[8], b[8];
            load8(a, w + k * S::LDW, S::ROWS / 2);
            load8(b, p + k * S::LDP, S::COLUMNS / 2);
            take_all(part, b);
#pragma unroll
            for (int i = 0; i < 8; ++i)
#pragma unroll
                for (int j = 0; j < 8; ++j) sum[i][j] = fmaf(a[i], b[j], sum[i][j]);
        }
    }

    __device__ __forceinline__ void stash(int chunk, float* to) const {  // rows 2 chunk and 2 chunk + 1 of each thread
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            float* row = to + (ty() * 2 + i) * S::LDP + tx() * 4;
            const float* from = sum[chunk * 2 + i];
            *(float4*)row = make_float4(from[0], from[1], from[2], from[3]);
            *(float4*)(row + 64) = make_float4(from[4], from[5], from[6], from[7]);
        }
    }

    static __device__ __forceinline__ int row(int chunk, int i) {
        const int own = chunk * 2 + i % 2;  // of its thread's 8 rows
        return own / 4 * (S::ROWS / 2) + i / 2 * 4 + own % 4;
    }
};

typedef Shape<128, 8, 0> Shape128;
typedef Shape<64, 8, 0> Shape64;

extern "C" __global__ void __launch_bounds__(256, 2)
blocked_z_128(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms, const __grid_constant__ Ending e) {
    __shared__ __align__(16) float shared[Shape128::FLOATS];
    convolve<Z, Shape128, Block<Shape128>>(g, terms, e, shared);
}

extern "C" __global__ void __launch_bounds__(256, 2)
blocked_quotient_128(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms, const __grid_constant__ Ending e) {
    __shared__ __align__(16) float shared[Shape128::FLOATS];
    convolve<QUOTIENT, Shape128, Block<Shape128>>(g, terms, e, shared);
}

extern "C" __global__ void __launch_bounds__(256, 2)
blocked_redistribute_128(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms, const __grid_constant__ Ending e) {
    __shared__ __align__(16) float shared[Shape128::FLOATS];
    convolve<REDISTRIBUTE, Shape128, Block<Shape128>>(g, terms, e, shared);
}

extern "C" __global__ void __launch_bounds__(128, 4)
blocked_z_64(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms, const __grid_constant__ Ending e) {
    __shared__ __align__(16) float shared[Shape64::FLOATS];
    convolve<Z, Shape64, Block<Shape64>>(g, terms, e, shared);
}

extern "C" __global__ void __launch_bounds__(128, 4)
blocked_quotient_64(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms, const __grid_constant__ Ending e) {
    __shared__ __align__(16) float shared[Shape64::FLOATS];
    convolve<QUOTIENT, Shape64, Block<Shape64>>(g, terms, e, shared);
}

extern "C" __global__ void __launch_bounds__(128, 4)
blocked_redistribute_64(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms, const __grid_constant__ Ending e) {
    __shared__ __align__(16) float shared[Shape64::FLOATS];
    convolve<REDISTRIBUTE, Shape64, Block<Shape64>>(g, terms, e, shared);
}
