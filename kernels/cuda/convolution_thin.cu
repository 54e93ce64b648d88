// Few rows: depthwise convolutions (one channel in, a few out, in each group), and the step back into a picture
// of 3 channels. A tile of 64 rows or more would stay nearly empty; memory is the limit, not arithmetic.
//
// A thread has one column and up to 4 rows: it reads a value once, through the caches, and no other thread needs
// the same value at the same moment. The 4 weights are one vector load, the same for a whole block. For the pair
// (a+, w+), (a-, w-) there are two such loads, but a, which is the traffic here, is read once.
constexpr int THIN_ROWS = 4, THIN_COLUMNS = 128;

struct __align__(4 * sizeof(REAL)) Four {
    REAL x[4];
};

template <int STEP>
__device__ __forceinline__ void convolve(const Geometry& g, const Terms& terms, const Ending& e, double* shared) {
    const int phases = g.phases_y * g.phases_x, phase = blockIdx.z % phases, group = blockIdx.z / phases;
    const int row0 = blockIdx.y * THIN_ROWS, plane = g.source_height * g.source_width;
    const Column at = column_at(g, phase, blockIdx.x * THIN_COLUMNS + threadIdx.x);
    Sums sums;
    REAL value[THIN_ROWS] = {0, 0, 0, 0};
    for (int t = 0; t < terms.count; ++t) {
        const Term& term = terms.term[t];
        const Term& from = STEP == REDISTRIBUTE ? terms.source : term;
        const bool pair = STEP != REDISTRIBUTE && term.w_negative != term.w;  // the same for all threads
        for (int i = g.first[phase]; at.inside && i < g.first[phase + 1]; ++i) {
            const Tap tap = g.tap[i];
            const int y = at.y * g.step_y + tap.dy, x = at.x * g.step_x + tap.dx;
            if ((unsigned)y >= (unsigned)g.source_height || (unsigned)x >= (unsigned)g.source_width) continue;
            const long long w = ((long long)group * g.taps + tap.index) * g.padded_inner * g.padded_rows + row0;
            const REAL* p = from.p + at.sample * from.sample_stride + group * g.inner * plane + y * g.source_width + x;
#pragma unroll 4
            for (int c = 0; c < g.inner; ++c) {
                Four weights = *(const Four*)(term.w + w + (long long)c * g.padded_rows);
                const REAL a = take(from.part, p[c * plane]);
                if (pair) {
                    const Four negative = *(const Four*)(term.w_negative + w + (long long)c * g.padded_rows);
#pragma unroll
                    for (int r = 0; r < THIN_ROWS; ++r) weights.x[r] = a < 0 ? negative.x[r] : weights.x[r];
                }
#pragma unroll
                for (int r = 0; r < THIN_ROWS; ++r) value[r] += weights.x[r] * a;
            }
        }
        if (STEP != REDISTRIBUTE && t + 1 < terms.count) continue;  // step 1: all terms into one sum
#pragma unroll
        for (int r = 0; r < THIN_ROWS; ++r) {
            if (at.inside && row0 + r < g.rows)
                put<STEP>(g, terms, e, at, group * g.rows + row0 + r, t, value[r], e.out, sums);
            value[r] = 0;
        }
    }
    book<STEP, 1, THIN_COLUMNS>(g, e, sums, shared, 0, threadIdx.x, at.booked, group * gridDim.y + blockIdx.y,
                                g.groups * gridDim.y);
}

extern "C" __global__ void __launch_bounds__(128)
thin_z(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms, const __grid_constant__ Ending e) {
    convolve<Z>(g, terms, e, nullptr);
}

extern "C" __global__ void __launch_bounds__(128)
thin_quotient(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms,
              const __grid_constant__ Ending e) {
    __shared__ double shared[THIN_COLUMNS];
    convolve<QUOTIENT>(g, terms, e, shared);
}

extern "C" __global__ void __launch_bounds__(128)
thin_redistribute(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms,
                  const __grid_constant__ Ending e) {
    __shared__ double shared[THIN_COLUMNS];
    convolve<REDISTRIBUTE>(g, terms, e, shared);
}
