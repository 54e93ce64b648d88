// The steps on their own, for what the fused kernels leave over, and the sums of the books.
//
//     divide        step 2 where z is known: s = R / (z + stabilizer)      (LRP-0 and eps reuse the forward pass's z)
//     multiply      step 4 where c is known: R = q * sum over terms of p c, term after term
//     per_sample    sum over all but the samples; mean_square the same of z z
//     add_blocks    the second half of every sum: one number for each block -> one for each sample
//
// A sum over millions of cells in two stages: each thread adds its cells, a block adds its threads (shuffles
// within a warp, shared memory between warps), `add_blocks` adds the blocks. Who adds what, and when, depends on
// the shapes alone, so the result is the same in each run and on each device; an atomicAdd would be one stage
// shorter, and different each time. Everything is added in float64: a float32 sum of a million terms would lose
// more than the ledger's residual may be.

// `given` has no terms here, only the bias and how to divide.
extern "C" __global__ void divide(TERMS, const REAL* z, const REAL* R, const REAL* own, const REAL* eps, REAL* s,
                                  double* partial) {
    const Terms given = GIVEN;
    const unsigned cells = sizes.K * sizes.P;
    for (long long n = blockIdx.y; n < sizes.samples; n += gridDim.y) {
        Books books = {0, 0, 0};
        for (unsigned cell = blockIdx.x * THREADS + threadIdx.x; cell < cells; cell += gridDim.x * THREADS) {
            const REAL bias = given.bias(n, cell / sizes.P, cell % sizes.P);
            const long long i = n * cells + cell;
            s[i] = divide_cell(z[i], bias, gated(R, own, share.gate, i), eps[n], share.is_signed, books);
        }
        book(partial, 0, sizes, n, books.bias);
        book(partial, 1, sizes, n, books.stabilizer);
        book(partial, 2, sizes, n, books.dropped);
    }
}

// R (N, J, Q) += p c for the one term given; `first`: nothing is there yet; `last`: times q, and booked.
extern "C" __global__ void multiply(TERMS, const REAL* c, REAL q, int first, int last, REAL* R, double* partial) {
    const Lower lower = (GIVEN).lower(0);
    const unsigned cells = sizes.J * sizes.Q;
    for (long long n = blockIdx.y; n < sizes.samples; n += gridDim.y) {
        double to_inputs = 0;
        for (unsigned cell = blockIdx.x * THREADS + threadIdx.x; cell < cells; cell += gridDim.x * THREADS) {
            const long long i = n * cells + cell;
            REAL received = lower.at(n, cell / sizes.Q, cell % sizes.Q) * c[i];
            if (!first) received += R[i];
            if (last) received *= q;
            R[i] = received;
            to_inputs += received;
        }
        if (last) book(partial, 0, sizes, n, to_inputs);
    }
}

template <bool SQUARED> __device__ void sum_cells(const REAL* x, double* partial, const Sizes& sizes) {
    const unsigned cells = sizes.K * sizes.P;
    for (long long n = blockIdx.y; n < sizes.samples; n += gridDim.y) {
        double sum = 0;
        for (unsigned cell = blockIdx.x * THREADS + threadIdx.x; cell < cells; cell += gridDim.x * THREADS) {
            const double value = x[n * cells + cell];  // in float64 before it is squared: large float32 overflow
            sum += SQUARED ? value * value : value;
        }
        book(partial, 0, sizes, n, sum);
    }
}

extern "C" __global__ void per_sample(const REAL* x, double* partial, Sizes sizes) {
    sum_cells<false>(x, partial, sizes);
}

extern "C" __global__ void sum_of_squares(const REAL* x, double* partial, Sizes sizes) {
    sum_cells<true>(x, partial, sizes);
}

// partial (rows, blocks) -> sums (rows), divided by `units`. One block of threads for each row.
extern "C" __global__ void add_blocks(const double* partial, double* sums, long long rows, int blocks, double units) {
    for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
        double sum = 0;
        for (int i = threadIdx.x; i < blocks; i += THREADS) sum += partial[row * blocks + i];
        sum = block_sum(sum);
        if (threadIdx.x == 0) sums[row] = sum / units;
    }
}
