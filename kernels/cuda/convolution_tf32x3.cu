// Rung 4: the same tiles on the tensor cores, with float32's accuracy (3xTF32).
//
// A tensor core multiplies TF32 numbers: float32 with 10 bits after the point instead of 23. Split each factor,
//     x = high + low,   high = x rounded to TF32,   low = x - high (exact)
// and of the four products only low * low (2^-22 of the whole) is left out:
//     w p  =  w_low p_high + w_high p_low + w_high p_high
// The tensor cores add with truncation, so long sums would drift: the three products of each 8 inner channels go
// into a fresh tile, smallest first, which ordinary float32 additions (rounded to nearest) then add to the sum.
//
// Pixels go down and channels to the right here, D = P^T W^T: so the operand that is held, P, is the one of which a
// part may have to be taken. 8 warps (4 where ROWS is 64), each 32 pixels x 64 channels = 2 x 8 tiles of 16 x 8.
// Lane = 4 g + t: see ptx.cuh. PAD = 8 puts a fragment's words into different banks: (8 t + g) mod 32 takes all values.
template <class S> struct Tensor {
    float sum[2][8][4];  // [tile of pixels][tile of channels][place in its fragment]

    static __device__ __forceinline__ int warp_row() { return threadIdx.x / 128 * 64; }
    static __device__ __forceinline__ int warp_column() { return threadIdx.x / 32 % 4 * 32; }
    static __device__ __forceinline__ int g() { return threadIdx.x % 32 / 4; }
    static __device__ __forceinline__ int t() { return threadIdx.x % 4; }

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < 64; ++i) sum[i / 32][i / 4 % 8][i % 4] = 0.f;
    }

    static __device__ __forceinline__ void split(float x, unsigned& high, unsigned& low) {
        high = (__float_as_uint(x) + 0x1000u) & 0xffffe000u;  // to nearest: truncating would make low one-sided
        low = __float_as_uint(x - __uint_as_float(high));
    }

    __device__ __forceinline__ void add(const float* stage, int part) {
        const float* w = stage + t() * S::LDW + warp_row() + g();
        const float* p = stage + S::DEPTH * S::LDW + t() * S::LDP + warp_column() + g();
#pragma unroll 1  // unrolled, it would need more registers than two blocks have
        for (int k = 0; k < S::DEPTH; k += 8) {
            float values[8];
            unsigned p_high[2][4], p_low[2][4];
#pragma unroll
            for (int i = 0; i < 8; ++i) values[i] = p[(k + i / 2 % 2 * 4) * S::LDP + i / 4 * 16 + i % 2 * 8];
            take_all(part, values);
#pragma unroll
            for (int i = 0; i < 8; ++i) split(values[i], p_high[i / 4][i % 4], p_low[i / 4][i % 4]);
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                unsigned w_high[2], w_low[2];
#pragma unroll
                for (int i = 0; i < 2; ++i) split(w[(k + i * 4) * S::LDW + j * 8], w_high[i], w_low[i]);
                float fresh[2][4] = {};
#pragma unroll
                for (int i = 0; i < 2; ++i) mma_m16n8k8_tf32(fresh[i], p_high[i], w_low);
#pragma unroll
                for (int i = 0; i < 2; ++i) mma_m16n8k8_tf32(fresh[i], p_low[i], w_high);
#pragma unroll
                for (int i = 0; i < 2; ++i) mma_m16n8k8_tf32(fresh[i], p_high[i], w_high);
#pragma unroll
                for (int i = 0; i < 8; ++i) sum[i / 4][j][i % 4] += fresh[i / 4][i % 4];
            }
        }
    }

    __device__ __forceinline__ void stash(int chunk, float* to) const {  // 16 channels of every warp
#pragma unroll
        for (int i = 0; i < 16; ++i) {  // pixel tile i / 8, channel tile i / 4 % 2, place i % 4
            float* at = to + (warp_row() / 4 + i / 4 % 2 * 8 + t() * 2 + i % 2) * S::LDP + warp_column();
            at[i / 8 * 16 + i / 2 % 2 * 8 + g()] = sum[i / 8][chunk * 2 + i / 4 % 2][i % 4];
        }
    }

    static __device__ __forceinline__ int row(int chunk, int i) { return i / 16 * 64 + chunk * 16 + i % 16; }
};

typedef Shape<128, 16, 8> Shape128;
typedef Shape<64, 16, 8> Shape64;

extern "C" __global__ void __launch_bounds__(256, 2)
tf32x3_z_128(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms, const __grid_constant__ Ending e) {
    __shared__ __align__(16) float shared[Shape128::FLOATS];
    convolve<Z, Shape128, Tensor<Shape128>>(g, terms, e, shared);
}

extern "C" __global__ void __launch_bounds__(256, 2)
tf32x3_quotient_128(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms, const __grid_constant__ Ending e) {
    __shared__ __align__(16) float shared[Shape128::FLOATS];
    convolve<QUOTIENT, Shape128, Tensor<Shape128>>(g, terms, e, shared);
}

extern "C" __global__ void __launch_bounds__(256, 2)
tf32x3_redistribute_128(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms, const __grid_constant__ Ending e) {
    __shared__ __align__(16) float shared[Shape128::FLOATS];
    convolve<REDISTRIBUTE, Shape128, Tensor<Shape128>>(g, terms, e, shared);
}

extern "C" __global__ void __launch_bounds__(128, 3)
tf32x3_z_64(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms, const __grid_constant__ Ending e) {
    __shared__ __align__(16) float shared[Shape64::FLOATS];
    convolve<Z, Shape64, Tensor<Shape64>>(g, terms, e, shared);
}

extern "C" __global__ void __launch_bounds__(128, 3)
tf32x3_quotient_64(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms, const __grid_constant__ Ending e) {
    __shared__ __align__(16) float shared[Shape64::FLOATS];
    convolve<QUOTIENT, Shape64, Tensor<Shape64>>(g, terms, e, shared);
}

extern "C" __global__ void __launch_bounds__(128, 3)
tf32x3_redistribute_64(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms, const __grid_constant__ Ending e) {
    __shared__ __align__(16) float shared[Shape64::FLOATS];
    convolve<REDISTRIBUTE, Shape64, Tensor<Shape64>>(g, terms, e, shared);
}
