// Rung 1: one thread for each output, the formula and nothing else.
//
//     z[n, k, y, x] = sum over terms, j, taps (i, l) of p[n, j, y sy + i dy - top, x sx + l dx - left] w[k, j, i, l]
//     c[n, j, v, u] = sum over k, taps of s[n, k, (v + top - i dy) / sy, (u + left - l dx) / sx] w[k, j, i, l]
//
// Each product reads both of its factors from memory, so the caches do all the work; and the transposed formula
// divides in its innermost loop. What is right here is what the faster rungs are compared with.
// The terms (a+, w+) and (a-, w-) of one share read a once: the sign of a_j says which weight it meets.
// Weights lie as they came: (K, C / groups, kh, kw). Threads: outputs in the order (channel, sample, pixel).

__device__ __forceinline__ REAL product(const Geometry& g, const Term& from, const REAL* w, const REAL* w_negative, int group, int row, int sample, int v,
                        int u) {
    REAL sum = 0;
    for (int c = 0; c < g.inner; ++c)
        for (int i = 0; i < g.kernel_y; ++i)
            for (int l = 0; l < g.kernel_x; ++l) {
                int y, x;
                long long k_j;  // (k, j) of the weight
                if (g.transposed) {
                    y = v + g.top - i * g.dilation_y;
                    x = u + g.left - l * g.dilation_x;
                    if (y % g.stride_y || x % g.stride_x) continue;
                    y /= g.stride_y;
                    x /= g.stride_x;
                    k_j = ((long long)group * g.inner + c) * g.rows + row;
                } else {
                    y = v * g.stride_y + i * g.dilation_y - g.top;
                    x = u * g.stride_x + l * g.dilation_x - g.left;
                    k_j = ((long long)group * g.rows + row) * g.inner + c;
                }
                if (y < 0 || y >= g.source_height || x < 0 || x >= g.source_width) continue;
                const REAL p = take(from.part, from.p[sample * from.sample_stride +
                                      ((group * g.inner + c) * g.source_height + y) * g.source_width + x]);
                sum += p * (p < 0 ? w_negative : w)[(k_j * g.kernel_y + i) * g.kernel_x + l];
            }
    return sum;
}

template <int STEP>
__device__ __forceinline__ void convolve(const Geometry& g, const Terms& terms, const Ending& e) {
    const long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (long long)g.groups * g.rows * g.columns) return;
    const int channel = (int)(index / g.columns), group = channel / g.rows, row = channel - group * g.rows;
    const Column at = column_at(g, 0, (int)(index - (long long)channel * g.columns));
    const int v = at.pixel / g.width, u = at.pixel - v * g.width;
    Sums sums;
    REAL value = 0;
    for (int t = 0; t < terms.count; ++t) {
        const Term& term = terms.term[t];
        const Term& from = STEP == REDISTRIBUTE ? terms.source : term;
        const REAL sum = product(g, from, term.w, term.w_negative, group, row, at.sample, v, u);
        if (STEP == REDISTRIBUTE)
            put<STEP>(g, terms, e, at, channel, t, sum, e.out, sums);
        else
            value += sum;
    }
    if (STEP != REDISTRIBUTE) put<STEP>(g, terms, e, at, channel, 0, value, e.out, sums);
    for (int i = 0; i < sums_of<STEP>(); ++i)  // every output is its own tile
        e.partial[(long long)i * g.groups * g.rows * g.columns + index] = sums.sum[i];
}

extern "C" __global__ void __launch_bounds__(256, 4)
naive_z(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms, const __grid_constant__ Ending e) {
    convolve<Z>(g, terms, e);
}

extern "C" __global__ void __launch_bounds__(256, 4)
naive_quotient(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms,
               const __grid_constant__ Ending e) {
    convolve<QUOTIENT>(g, terms, e);
}

extern "C" __global__ void __launch_bounds__(256, 4)
naive_redistribute(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms,
                   const __grid_constant__ Ending e) {
    convolve<REDISTRIBUTE>(g, terms, e);
}
