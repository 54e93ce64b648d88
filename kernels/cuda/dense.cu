// Dense layers for few samples: z_k = sum over j of a_j w_kj, and back. Every weight is used once for each sample, so
// reading them is the whole cost; no tile in shared memory could make it less. Weights lie as they came, (K, J).
//
// A block serves up to 8 samples at a time, which share one reading of the weights. Neighbouring threads read
// neighbouring groups of 4 weights (one 16-byte load where J is a multiple of 4). Each term of a share has weights of
// its own, and those are the traffic; a is few numbers, and comes from the cache when the second term asks for it.
//     forward    a warp for 2 outputs: its lanes share the sum over j, and add up by shuffles
//     backward   a lane for 4 inputs, 8 slices of the outputs k beside each other, added in their order at the end
constexpr int SAMPLES = 8, WARPS = 8, OUTPUTS = 2;

struct __align__(4 * sizeof(REAL)) Four {
    REAL x[4];
};

// x[0..3]; 0 past the end. `whole`: x is aligned for a vector load, and what is left is a multiple of 4.
__device__ __forceinline__ Four four(const REAL* x, int left, bool whole) {
    if (whole) return *(const Four*)x;
    Four some;
#pragma unroll
    for (int i = 0; i < 4; ++i) some.x[i] = i < left ? x[i] : (REAL)0;
    return some;
}

__device__ __forceinline__ Column sample_at(int sample) {  // the one pixel of a sample
    Column at = {sample, 0, 0, 0, sample, true};
    return at;
}

template <int STEP>
__device__ __forceinline__ void dense_forward(const Geometry& g, const Terms& terms, const Ending& e) {
    const int lane = threadIdx.x % 32, row0 = (blockIdx.x * WARPS + threadIdx.x / 32) * OUTPUTS;
    const int sample0 = blockIdx.y * SAMPLES, samples = min(SAMPLES, g.samples - sample0);
    const bool whole = g.inner % 4 == 0;
    if (row0 >= g.rows) return;  // a whole warp at once; nobody waits for it
    const bool second = row0 + 1 < g.rows;
    REAL sum[OUTPUTS][SAMPLES] = {};
    for (int t = 0; t < terms.count; ++t) {
        const Term& term = terms.term[t];
        const REAL* w = term.w + (long long)row0 * g.inner;
        const REAL* p = term.p + sample0 * term.sample_stride;
        for (int j = lane * 4; j < g.inner; j += 128) {
            const Four w0 = four(w + j, g.inner - j, whole);
            const Four w1 = four(w + (second ? g.inner : 0) + j, g.inner - j, whole);
#pragma unroll
            for (int n = 0; n < SAMPLES; ++n) {
                if (n >= samples) break;
                const Four a = four(p + n * term.sample_stride + j, g.inner - j, whole);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const REAL part = take(term.part, a.x[i]);
                    sum[0][n] += w0.x[i] * part;
                    sum[1][n] += w1.x[i] * part;
                }
            }
        }
    }
    const long long outputs = (long long)g.samples * g.rows;
#pragma unroll
    for (int n = 0; n < SAMPLES; ++n)
#pragma unroll
        for (int r = 0; r < OUTPUTS; ++r) {
            REAL value = sum[r][n];
#pragma unroll
            for (int d = 16; d > 0; d /= 2) value += __shfl_xor_sync(0xffffffffu, value, d);
            if (lane != n || n >= samples || row0 + r >= g.rows) continue;
            Sums sums;
            put<STEP>(g, terms, e, sample_at(sample0 + n), row0 + r, 0, value, e.out, sums);
            for (int i = 0; i < sums_of<STEP>(); ++i)  // one tile, a column for each output
                e.partial[i * outputs + (long long)(sample0 + n) * g.rows + row0 + r] = sums.sum[i];
        }
}

template <int STEP>
__device__ __forceinline__ void dense_backward(const Geometry& g, const Terms& terms, const Ending& e,
                                               REAL (&slices)[WARPS][128]) {
    const int lane = threadIdx.x % 32, slice = threadIdx.x / 32, j = blockIdx.x * 128 + lane * 4;
    const int sample0 = blockIdx.y * SAMPLES, samples = min(SAMPLES, g.samples - sample0);
    const bool whole = g.rows % 4 == 0;
    const Term& s = STEP == REDISTRIBUTE ? terms.source : terms.term[0];
    for (int t = 0; t < terms.count; ++t) {
        REAL sum[SAMPLES][4] = {};
        const REAL* w = terms.term[t].w + j;
        const REAL* from = s.p + sample0 * s.sample_stride;
        if (j < g.rows)
#pragma unroll 4
            for (int k = slice; k < g.inner; k += WARPS) {
                const Four weights = four(w + (long long)k * g.rows, g.rows - j, whole);
#pragma unroll
                for (int n = 0; n < SAMPLES; ++n) {
                    if (n >= samples) break;
                    const REAL s_k = from[n * s.sample_stride + k];
#pragma unroll
                    for (int i = 0; i < 4; ++i) sum[n][i] += weights.x[i] * s_k;
                }
            }
#pragma unroll
        for (int n = 0; n < SAMPLES; ++n) {
            if (n >= samples) break;
            __syncthreads();
#pragma unroll
            for (int i = 0; i < 4; ++i) slices[slice][lane * 4 + i] = sum[n][i];
            __syncthreads();
            const int own = blockIdx.x * 128 + threadIdx.x;
            if (threadIdx.x >= 128 || own >= g.rows) continue;
            REAL value = 0;
            for (int i = 0; i < WARPS; ++i) value += slices[i][threadIdx.x];
            Sums sums;
            put<STEP>(g, terms, e, sample_at(sample0 + n), own, t, value, e.out, sums);
            if (STEP == REDISTRIBUTE && t + 1 == terms.count)
                e.partial[(long long)(sample0 + n) * g.rows + own] = sums.sum[0];
        }
    }
}

extern "C" __global__ void __launch_bounds__(256, 2)
dense_z(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms, const __grid_constant__ Ending e) {
    dense_forward<Z>(g, terms, e);
}

extern "C" __global__ void __launch_bounds__(256, 2)
dense_quotient(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms,
               const __grid_constant__ Ending e) {
    dense_forward<QUOTIENT>(g, terms, e);
}

extern "C" __global__ void __launch_bounds__(256, 2)
dense_transpose(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms,
                const __grid_constant__ Ending e) {
    __shared__ __align__(16) REAL slices[WARPS][128];
    dense_backward<Z>(g, terms, e, slices);
}

extern "C" __global__ void __launch_bounds__(256, 2)
dense_redistribute(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms,
                   const __grid_constant__ Ending e) {
    __shared__ __align__(16) REAL slices[WARPS][128];
    dense_backward<REDISTRIBUTE>(g, terms, e, slices);
}
