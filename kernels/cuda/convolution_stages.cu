// What rungs 3 and 4 share: the way through the inner dimension, two tiles in shared memory at a time.
//
// While a block computes on one pair of tiles, cp.async brings the next: `Stages` knows which. For each term it walks
// over (tap, DEPTH inner channels); a thread fetches always the same column, so where that column looks changes
// with the tap only, and from channel to channel its address moves by one plane.
//
// Rungs 1 and 2 read a once for the pair (a+, w+), (a-, w-); here each term walks over a by itself. Time goes into the
// products, and each term has its own: a tensor core cannot choose a weight by a value's sign, and elsewhere a choice
// costs as much as a multiply-add. Reading costs little beside them: a thread copies one value for 128 multiply-adds
// (rung 4: for 12 instructions of the tensor cores), while it computes. To save the second copy, a third tile would
// have to lie in shared memory, which then has room for fewer blocks.

// A block's tile: ROWS x COLUMNS outputs, DEPTH of the inner dimension, LD columns apart in shared memory.
template <int ROWS_, int DEPTH_, int PAD> struct Shape {
    static constexpr int ROWS = ROWS_, COLUMNS = 128, DEPTH = DEPTH_, THREADS = 2 * ROWS_;
    static constexpr int LDW = ROWS + PAD, LDP = COLUMNS + PAD;      // padding where fragments would share banks
    static constexpr int STAGE = DEPTH * (LDW + LDP);                // floats of one stage: weights, then values
    static constexpr int CHUNK = ROWS / 4;                           // rows that pass through shared memory at the end
    static constexpr int USED = 2 * STAGE > CHUNK * LDP ? 2 * STAGE : CHUNK * LDP;
    static constexpr int FLOATS = USED + 8 * THREADS;                // shared memory in all
    static constexpr int SLICES = THREADS / COLUMNS;                 // threads that share a column
};

// take(), with its one decision outside of the loop.
template <int N> __device__ __forceinline__ void take_all(int part, float (&x)[N]) {
    if (part == 1) {
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] = take(1, x[i]);
    } else if (part == 2) {
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] = take(2, x[i]);
    }
}

template <class S> struct Stages {
    const Geometry& g;
    int* waiting;         // this thread's place in shared memory: see `kept`
    int left, rest;       // tiles still to fetch; inner channels still to fetch along this tap
    bool seen;            // whether the tap looks into the image
    const float* w;
    const float* p;       // the next values

    static constexpr int W_COPIES = S::ROWS / 4;  // of 16 bytes, for one inner channel's weights

    static __device__ __forceinline__ int column() { return threadIdx.x % S::COLUMNS; }
    static __device__ __forceinline__ int slice() { return threadIdx.x / S::COLUMNS; }
    // Registers are scarce: what the inner loop does not need waits in shared memory, each thread's for itself.
    enum Kept { SAMPLE, Y, X, TAP, PHASE, GROUP, SPLIT };
    __device__ __forceinline__ int& kept(Kept what) const { return waiting[what * S::THREADS]; }
    __device__ __forceinline__ Column at() const {
        return column_at(g, kept(PHASE), blockIdx.x * S::COLUMNS + column());
    }

    __device__ __forceinline__ Stages(const Geometry& g_, int* waiting_) : g(g_), waiting(waiting_ + threadIdx.x) {
        const int phases = g.phases_y * g.phases_x, z = blockIdx.z / g.splits;
        kept(SPLIT) = blockIdx.z % g.splits;
        kept(GROUP) = z / phases;
        kept(PHASE) = z % phases;
        const Column here = at();
        kept(SAMPLE) = here.inside ? here.sample : 0;
        kept(Y) = here.inside ? here.y * g.step_y : -(1 << 30);  // a column outside sees nothing
        kept(X) = here.x * g.step_x;
    }

    // Start at this block's part of a term's tiles.
    __device__ __forceinline__ void start(const Term& term, const Term& from) {
        const int depths = (g.inner + S::DEPTH - 1) / S::DEPTH, first = g.first[kept(PHASE)];
        const int tiles = (g.first[kept(PHASE) + 1] - first) * depths, split = kept(SPLIT);
        const int begin = (int)((long long)tiles * split / g.splits);
        left = (int)((long long)tiles * (split + 1) / g.splits) - begin;
        kept(TAP) = first + begin / depths;
        if (left) aim(term, from, begin % depths * S::DEPTH);
    }

    // Look along the tap, from inner channel c on.
    __device__ __forceinline__ void aim(const Term& term, const Term& from, int c) {
        const int tap = kept(TAP);
        const Tap to = g.tap[tap];
        kept(TAP) = tap + 1;
        const int y = kept(Y) + to.dy, x = kept(X) + to.dx;
        seen = (unsigned)y < (unsigned)g.source_height && (unsigned)x < (unsigned)g.source_width;
        rest = g.inner - c;
        w = term.w +
            (((long long)kept(GROUP) * g.taps + to.index) * g.padded_inner + c + threadIdx.x / W_COPIES) * g.padded_rows +
            blockIdx.y * S::ROWS + threadIdx.x % W_COPIES * 4;
        p = from.p + kept(SAMPLE) * from.sample_stride +
            (kept(GROUP) * g.inner + c + slice()) * g.source_height * g.source_width + (seen ? y * g.source_width + x : 0);
    }

    // Fetch the next tile; the stages take turns.
    __device__ __forceinline__ void fetch(const Term& term, const Term& from, float* shared) {
        float* stage = shared + (left & 1) * S::STAGE;
        const int plane = g.source_height * g.source_width;
#pragma unroll
        for (int k = 0; k < S::DEPTH; k += S::THREADS / W_COPIES) {  // weights: 16 bytes a copy, never guarded
            float* to = stage + (k + threadIdx.x / W_COPIES) * S::LDW + threadIdx.x % W_COPIES * 4;
            cp_async<16>(to, w);
            w += S::THREADS / W_COPIES * g.padded_rows;
        }
        float* values = stage + S::DEPTH * S::LDW + slice() * S::LDP + column();
#pragma unroll
        for (int k = 0; k < S::DEPTH; k += S::SLICES) {  // values: neighbouring threads, neighbouring pixels
            cp_async<4>(values + k * S::LDP, p, seen && k + slice() < rest);
            p += S::SLICES * plane;  // to the next channel; past the last it is not read
        }
        cp_async_commit();
        rest -= S::DEPTH;
        if (--left && rest <= 0) aim(term, from, 0);
    }
};

// The whole of a block's work. `Product` holds the accumulators: clear(), add(stage, part), and, for the end,
// stash(chunk, to) which puts a quarter of its rows into shared memory, and row(chunk, i), the row that is i-th there.
template <int STEP, class S, class Product>
__device__ __forceinline__ void convolve(const Geometry& g, const Terms& terms, const Ending& e, float* shared) {
    Stages<S> stages(g, (int*)(shared + S::USED));
    Sums sums;
    Product product;
    product.clear();
    for (int t = 0; t < terms.count; ++t) {
        const Term& term = terms.term[t];
        const Term& from = STEP == REDISTRIBUTE ? terms.source : term;
        stages.start(term, from);
        if (stages.left) {
            stages.fetch(term, from, shared);
            bool more;
            do {
                cp_async_wait<0>();
                __syncthreads();  // this tile has come, and nobody reads the one before any more
                const float* tile = shared + (~stages.left & 1) * S::STAGE;
                more = stages.left > 0;
                if (more) stages.fetch(term, from, shared);
                product.add(tile, from.part);
            } while (more);
        }
        __syncthreads();
        if (STEP != REDISTRIBUTE && t + 1 < terms.count) continue;  // step 1: all terms into one sum
        const Column at = stages.at();
        float* out = e.out + stages.kept(Stages<S>::SPLIT) * e.split_stride;
#pragma unroll
        for (int chunk = 0; chunk < 4; ++chunk) {
            product.stash(chunk, shared);
            __syncthreads();
#pragma unroll 2
            for (int i = stages.slice(); i < S::CHUNK; i += S::SLICES) {
                const int row = blockIdx.y * S::ROWS + Product::row(chunk, i);
                if (at.inside && row < g.rows)
                    put<STEP>(g, terms, e, at, stages.kept(Stages<S>::GROUP) * g.rows + row, t,
                              shared[i * S::LDP + stages.column()], out, sums);
            }
            __syncthreads();
        }
        product.clear();
    }
    book<STEP, S::SLICES, S::COLUMNS>(g, e, sums, (double*)shared, stages.slice(), stages.column(),
                                      stages.at().booked, stages.kept(Stages<S>::GROUP) * gridDim.y + blockIdx.y,
                                      g.groups * gridDim.y);
}
