// The four steps of one share, cell by cell: what all maps that are a gather have in common.
//
//     z_k = sum over terms of forward(p, w) + b        step 1    z in a register
//     s_k = R_k / (z_k + stabilizer)                   step 2    s written
//     c_j = transpose(s, w), for each term             step 3    c in a register
//     R_j = q * sum over terms of p_j c_j              step 4    R written
//
// A map (pooling.cu, elementwise.cu) is a struct with two functions: `forward` gives one cell of
// z, `transpose` one cell of c. Both *gather*: a thread reads all that its cell needs, and
// writes that cell alone. The transposed map of a window could as well *scatter* each s_k into
// the pixels of its window; but then threads would meet in one pixel and need atomic additions, whose
// order, and so whose rounding, changes from run to run.
//
// Threads: blockIdx.y goes over the samples, blockIdx.x and threadIdx.x over the cells of a sample.
// So a block sums cells of one sample only, and writes one float64 number for each account of the ledger;
// `add_blocks` (steps.cu) adds the blocks' numbers. Every sum has a fixed order: the same bits in each run.

#define THREADS 256
#define MOST_TERMS 3  // shares of the usual rules have one to three terms

// Arrays seen as z (N, K, P) and a (N, J, Q): samples, channels, and what is left.
struct Sizes {
    long long samples;
    unsigned K, P, J, Q;
};

// Steps in memory, in elements; 0 along an axis over which the array is broadcast.
struct Spread {
    long long sample, channel, pixel;
};

// What of a a term takes. A constant array (z-box's bounds) is read like a itself.
enum Part { WHOLE, POSITIVE, NEGATIVE, ONES };

struct Share {
    int terms;
    int part[MOST_TERMS];
    Spread p[MOST_TERMS];
    Spread b;
    int is_signed;  // whether eps takes the sign of z
    int gate;       // 0: none; 1 or -1: R enters only where the layer's own z has this sign
};

// What a term lets in: p_j.
struct Lower {
    const REAL* x;
    Spread spread;
    int part;
    __device__ REAL at(long long n, unsigned j, unsigned q) const {
        if (part == ONES) return 1;
        const REAL a = x[n * spread.sample + j * spread.channel + q * spread.pixel];
        if (part == POSITIVE) return a < 0 ? 0 : a;  // comparisons, not max: a NaN stays one
        if (part == NEGATIVE) return a > 0 ? 0 : a;
        return a;
    }
};

// A kernel's first parameters, and how they are gathered.
#define TERMS \
    const REAL *p0, const REAL *w0, const REAL *p1, const REAL *w1, const REAL *p2, const REAL *w2, const REAL *b, \
        Share share, Sizes sizes
#define GIVEN Terms{{p0, p1, p2}, {w0, w1, w2}, b, share, sizes}

struct Terms {
    const REAL *p[MOST_TERMS], *w[MOST_TERMS], *b;
    Share share;
    Sizes sizes;
    __device__ Lower lower(int t) const { return {p[t], share.p[t], share.part[t]}; }
    __device__ REAL bias(long long n, unsigned k, unsigned i) const {
        return b ? b[n * share.b.sample + k * share.b.channel + i * share.b.pixel] : 0;
    }
};

// The sum over the block's threads, in a fixed order; thread 0 has it.
__device__ double block_sum(double x) {
    __shared__ double warps[THREADS / 32];
    for (int d = 16; d > 0; d /= 2) x += __shfl_down_sync(0xffffffffu, x, d);
    __syncthreads();  // thread 0 is done with the sum before this one
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
    __syncthreads();
    if (threadIdx.x == 0)
        for (int i = 1; i < THREADS / 32; ++i) x += warps[i];
    return x;
}

// One number for each account, sample and block: partial (accounts, N, gridDim.x).
__device__ void book(double* partial, int account, const Sizes& sizes, long long n, double x) {
    x = block_sum(x);
    if (threadIdx.x == 0) partial[(account * sizes.samples + n) * gridDim.x + blockIdx.x] = x;
}

struct Books {
    double bias, stabilizer, dropped;
};

// Step 2 for one cell: s = R / (z + stabilizer), 0 where the denominator is exactly 0; and what it books.
__device__ REAL divide_cell(REAL z, REAL b, REAL R, REAL eps, int is_signed, Books& books) {
    const REAL stabilizer = is_signed && z < 0 ? -eps : eps;  // sign(0) = +1
    const REAL denominator = z + stabilizer;
    if (denominator == 0) {
        books.dropped += R;
        return 0;
    }
    // R / inf would be lost without a trace: inf - inf makes s NaN, and a finite number minus itself adds 0
    const REAL s = R / denominator + (denominator - denominator);
    books.bias += (double)s * b;
    books.stabilizer += (double)s * stabilizer;
    return s;
}

// R where the gate is open. own: the layer's z, as no rule has modified it.
__device__ REAL gated(const REAL* R, const REAL* own, int gate, long long k) {
    return gate == 0 || gate * own[k] > 0 ? R[k] : 0;
}

template <class Map> __device__ REAL step_1(const Map& map, const Terms& given, long long n, unsigned k, unsigned p) {
    REAL z = given.bias(n, k, p);
#pragma unroll
    for (int t = 0; t < MOST_TERMS; ++t)
        if (t < given.share.terms) z += map.forward(given.lower(t), given.w[t], given.sizes, n, k, p);
    return z;
}

template <class Map> __device__ void preactivation(const Map& map, const Terms& given, REAL* z) {
    const unsigned P = given.sizes.P, cells = given.sizes.K * P;
    for (long long n = blockIdx.y; n < given.sizes.samples; n += gridDim.y)
        for (unsigned cell = blockIdx.x * THREADS + threadIdx.x; cell < cells; cell += gridDim.x * THREADS)
            z[n * cells + cell] = step_1(map, given, n, cell / P, cell % P);
}

template <class Map>
__device__ void quotient(const Map& map, const Terms& given, const REAL* R, const REAL* own, const REAL* eps, REAL* s,
                         double* partial) {
    const unsigned P = given.sizes.P, cells = given.sizes.K * P;
    for (long long n = blockIdx.y; n < given.sizes.samples; n += gridDim.y) {
        Books books = {0, 0, 0};
        for (unsigned cell = blockIdx.x * THREADS + threadIdx.x; cell < cells; cell += gridDim.x * THREADS) {
            const unsigned k = cell / P, p = cell % P;
            s[n * cells + cell] =
                divide_cell(step_1(map, given, n, k, p), given.bias(n, k, p),
                            gated(R, own, given.share.gate, n * cells + cell), eps[n], given.share.is_signed, books);
        }
        book(partial, 0, given.sizes, n, books.bias);
        book(partial, 1, given.sizes, n, books.stabilizer);
        book(partial, 2, given.sizes, n, books.dropped);
    }
}

template <class Map>
__device__ void redistribute(const Map& map, const Terms& given, const REAL* s, REAL q, REAL* R, double* partial) {
    const unsigned Q = given.sizes.Q, cells = given.sizes.J * Q;
    for (long long n = blockIdx.y; n < given.sizes.samples; n += gridDim.y) {
        double to_inputs = 0;
        for (unsigned cell = blockIdx.x * THREADS + threadIdx.x; cell < cells; cell += gridDim.x * THREADS) {
            const unsigned j = cell / Q, i = cell % Q;
            REAL sum = 0;
#pragma unroll
            for (int t = 0; t < MOST_TERMS; ++t)
                if (t < given.share.terms)
                    sum += given.lower(t).at(n, j, i) * map.transpose(s, given.w[t], given.sizes, n, j, i);
            const REAL received = q * sum;
            R[n * cells + cell] = received;
            to_inputs += received;
        }
        book(partial, 0, given.sizes, n, to_inputs);
    }
}
