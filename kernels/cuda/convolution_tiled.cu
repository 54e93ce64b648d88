// Rung 2: the implicit matrix product in shared-memory tiles.
//
// A block of 16 x 16 threads makes 16 rows (channels) times 16 columns (pixels), one output a thread. For each
// term, tap and 16 inner channels it puts 16 x 16 weights and 16 x 16 gathered values into shared memory; every
// value is then read by 16 threads. Against rung 1: a sixteenth of the traffic, no division in the loop (taps
// come as a list), and the ledger's sums are added within a block before they are written.
// For the pair (a+, w+), (a-, w-) a block fetches two tiles of weights, but a once.
// Weights lie packed, [group][tap][inner][rows], with zeros up to multiples of the tile: they need no guard.
constexpr int TILE = 16;

template <int STEP>
__device__ __forceinline__ void convolve(const Geometry& g, const Terms& terms, const Ending& e,
                                         REAL (&w_tile)[2][TILE][TILE], REAL (&p_tile)[TILE][TILE], double* shared) {
    const int tx = threadIdx.x % TILE, ty = threadIdx.x / TILE;
    const int phases = g.phases_y * g.phases_x, phase = blockIdx.z % phases, group = blockIdx.z / phases;
    const int row0 = blockIdx.y * TILE, row = row0 + ty, channel = group * g.rows + row;
    const Column at = column_at(g, phase, blockIdx.x * TILE + tx);
    const int plane = g.source_height * g.source_width;
    Sums sums;
    REAL value = 0;
    for (int t = 0; t < terms.count; ++t) {
        const Term& term = terms.term[t];
        const Term& from = STEP == REDISTRIBUTE ? terms.source : term;
        const bool pair = term.w_negative != term.w;
        if (STEP == REDISTRIBUTE) value = 0;
        for (int i = g.first[phase]; i < g.first[phase + 1]; ++i) {
            const Tap tap = g.tap[i];
            const int y = at.y * g.step_y + tap.dy, x = at.x * g.step_x + tap.dx;
            const bool seen = at.inside && (unsigned)y < (unsigned)g.source_height && (unsigned)x < (unsigned)g.source_width;
            const long long w = ((long long)group * g.taps + tap.index) * g.padded_inner * g.padded_rows + row0 + tx;
            const REAL* p = from.p + at.sample * from.sample_stride + y * g.source_width + x;
            for (int c = ty; c - ty < g.inner; c += TILE) {  // this thread fetches inner channel c
                w_tile[0][ty][tx] = term.w[w + (long long)c * g.padded_rows];
                if (pair) w_tile[1][ty][tx] = term.w_negative[w + (long long)c * g.padded_rows];
                p_tile[ty][tx] = seen && c < g.inner
                    ? take(from.part, p[(group * g.inner + c) * plane]) : (REAL)0;
                __syncthreads();
                if (pair) {  // the same for all threads
#pragma unroll
                    for (int k = 0; k < TILE; ++k) value += w_tile[p_tile[k][tx] < 0][k][ty] * p_tile[k][tx];
                } else {
#pragma unroll
                    for (int k = 0; k < TILE; ++k) value += w_tile[0][k][ty] * p_tile[k][tx];
                }
                __syncthreads();  // nobody reads any more: the next tile may come
            }
        }
        if (STEP == REDISTRIBUTE && at.inside && row < g.rows)
            put<STEP>(g, terms, e, at, channel, t, value, e.out, sums);
    }
    if (STEP != REDISTRIBUTE && at.inside && row < g.rows)
        put<STEP>(g, terms, e, at, channel, 0, value, e.out, sums);
    book<STEP, TILE, TILE>(g, e, sums, shared, ty, tx, at.booked, group * gridDim.y + blockIdx.y, g.groups * gridDim.y);
}

extern "C" __global__ void __launch_bounds__(256, 4)
tiled_z(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms, const __grid_constant__ Ending e) {
    __shared__ REAL w_tile[2][TILE][TILE], p_tile[TILE][TILE];
    convolve<Z>(g, terms, e, w_tile, p_tile, nullptr);
}

extern "C" __global__ void __launch_bounds__(256, 4)
tiled_quotient(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms,
               const __grid_constant__ Ending e) {
    __shared__ REAL w_tile[2][TILE][TILE], p_tile[TILE][TILE];
    __shared__ double shared[TILE * TILE];
    convolve<QUOTIENT>(g, terms, e, w_tile, p_tile, shared);
}

extern "C" __global__ void __launch_bounds__(256, 4)
tiled_redistribute(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms,
                   const __grid_constant__ Ending e) {
    __shared__ REAL w_tile[2][TILE][TILE], p_tile[TILE][TILE];
    __shared__ double shared[TILE * TILE];
    convolve<REDISTRIBUTE>(g, terms, e, w_tile, p_tile, shared);
}
