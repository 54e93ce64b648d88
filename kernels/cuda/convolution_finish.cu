// What comes after other kernels: the end of a split product, and the ledger's sums.
//
// A small image has too few tiles to fill the device. Its inner dimension is then cut into splits, each written by
// its own blocks to a workspace [term][split][output]; here a thread adds an output's splits in their order (so the
// result is the same in every run) and ends the step as the unsplit kernel would.
// A thread has one column and up to 32 rows (blockIdx.y); workspace is terms.source.p, a split every split_stride.
constexpr int FINISH_ROWS = 32, FINISH_COLUMNS = 128;

template <int STEP>
__device__ __forceinline__ void finish(const Geometry& g, const Terms& terms, const Ending& e, double* shared) {
    const Column at = column_at(g, 0, blockIdx.x * FINISH_COLUMNS + threadIdx.x);
    const int row0 = blockIdx.y * FINISH_ROWS, rows = min(FINISH_ROWS, g.groups * g.rows - row0);
    const long long o = ((long long)at.sample * (g.groups * g.rows) + row0) * (g.height * g.width) + at.pixel;
    Sums sums;
    for (int i = 0; at.inside && i < rows; ++i) {
        const REAL* work = terms.source.p + o + (long long)i * (g.height * g.width);
        for (int t = 0; t < (STEP == REDISTRIBUTE ? terms.count : 1); ++t) {
            REAL value = 0;
            for (int split = 0; split < g.splits; ++split, work += e.split_stride) value += *work;
            put<STEP>(g, terms, e, at, row0 + i, t, value, e.out, sums);
        }
    }
    book<STEP, 1, FINISH_COLUMNS>(g, e, sums, shared, 0, threadIdx.x, at.booked, blockIdx.y, gridDim.y);
}

extern "C" __global__ void __launch_bounds__(128)
finish_z(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms, const __grid_constant__ Ending e) {
    finish<Z>(g, terms, e, nullptr);
}

extern "C" __global__ void __launch_bounds__(128)
finish_quotient(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms,
                const __grid_constant__ Ending e) {
    __shared__ double shared[FINISH_COLUMNS];
    finish<QUOTIENT>(g, terms, e, shared);
}

extern "C" __global__ void __launch_bounds__(128)
finish_redistribute(const __grid_constant__ Geometry g, const __grid_constant__ Terms terms,
                    const __grid_constant__ Ending e) {
    __shared__ double shared[FINISH_COLUMNS];
    finish<REDISTRIBUTE>(g, terms, e, shared);
}

// sums[i][n] = all of partial[i][tile][column] whose column belongs to sample n; block (n, i), always in one order.
extern "C" __global__ void __launch_bounds__(256)
sum_partials(const double* partial, double* sums, int tiles, int samples, int columns_per_sample) {
    __shared__ double shared[256];
    const long long columns = (long long)samples * columns_per_sample;
    const double* own = partial + (long long)blockIdx.y * tiles * columns + (long long)blockIdx.x * columns_per_sample;
    double sum = 0;
    for (int tile = 0; tile < tiles; ++tile)
        for (int i = threadIdx.x; i < columns_per_sample; i += 256) sum += own[tile * columns + i];
    shared[threadIdx.x] = sum;
    for (int half = 128; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    }
    if (threadIdx.x == 0) sums[blockIdx.y * samples + blockIdx.x] = shared[0];
}
