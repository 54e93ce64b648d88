// Pooling: sums over windows, sums over regions, the selected taps of max pooling; and max pooling itself.
//
//     sum_pool2d      z[y,x] = w[y,x]  sum over taps (i,j) of  a[v,u]       average pooling: w = 1 / divisor
//     select2d        z[y,x] = sum over taps t = (i,j) of  w[t,y,x] a[v,u]  max pooling: w[t] = 1 for the winner
//     region_sum2d    z[y,x] = w[y,x]  sum over the region's pixels         adaptive pooling
//
// with the tap's pixel  v = sy y + dy i - top,  u = sx x + dx j - left, for each sample n and channel k alone.
// Taps outside the image are skipped, so padding contributes nothing.
//
// One thread computes one cell. The transposed maps go from a pixel (v,u) to the windows that hold it: tap i
// lies on row v for the window y = (v + top - dy i) / sy, if that is a whole number from 0 to Ho - 1.
// A pixel is read once for each window it is in; neighbouring threads read neighbouring pixels, and
// what they share comes from the cache. Nothing is computed that would be worth shared memory: these kernels wait
// for memory, and the fused steps (share.cuh) save it two trips, those of z and c.

struct Window { int H, W, Ho, Wo, kh, kw, sy, sx, dy, dx, top, left; };

// Where tap i of the window at y lies: the row v, or -1 outside the image. The same for columns.
__device__ int row_of(const Window& g, int y, int i) {
    const int v = y * g.sy + i * g.dy - g.top;
    return v < g.H ? v : -1;
}
__device__ int column_of(const Window& g, int x, int j) {
    const int u = x * g.sx + j * g.dx - g.left;
    return u < g.W ? u : -1;
}

// Which window has its tap i on row v: y, or -1 if none has. The same for columns.
__device__ int window_at_row(const Window& g, int v, int i) {
    const int y = v + g.top - i * g.dy;
    return y >= 0 && y % g.sy == 0 && y / g.sy < g.Ho ? y / g.sy : -1;
}
__device__ int window_at_column(const Window& g, int u, int j) {
    const int x = u + g.left - j * g.dx;
    return x >= 0 && x % g.sx == 0 && x / g.sx < g.Wo ? x / g.sx : -1;
}

struct SumPool2d {
    Window g;
    __device__ REAL forward(const Lower& a, const REAL* w, const Sizes&, long long n, unsigned k, unsigned p) const {
        const int y = p / g.Wo, x = p % g.Wo;
        REAL sum = 0;
        for (int i = 0; i < g.kh; ++i) {
            const int v = row_of(g, y, i);
            for (int j = 0; j < g.kw; ++j) {
                const int u = column_of(g, x, j);
                if (v >= 0 && u >= 0) sum += a.at(n, k, v * g.W + u);
            }
        }
        return sum * w[p];
    }
    __device__ REAL transpose(const REAL* s, const REAL* w, const Sizes& sizes, long long n, unsigned k,
                             unsigned q) const {
        const int v = q / g.W, u = q % g.W;
        s += (n * sizes.K + k) * sizes.P;
        REAL c = 0;
        for (int i = 0; i < g.kh; ++i) {
            const int y = window_at_row(g, v, i);
            for (int j = 0; j < g.kw; ++j) {
                const int x = window_at_column(g, u, j);
                if (y >= 0 && x >= 0) c += s[y * g.Wo + x] * w[y * g.Wo + x];
            }
        }
        return c;
    }
};

struct Select2d {
    Window g;
    // w (T, N, K, P): where the winners of tap t, sample n and channel k begin
    __device__ const REAL* tap(const REAL* w, const Sizes& sizes, int i, int j, long long n, unsigned k) const {
        return w + (((i * g.kw + j) * sizes.samples + n) * sizes.K + k) * sizes.P;
    }
    __device__ REAL forward(const Lower& a, const REAL* w, const Sizes& sizes, long long n, unsigned k,
                            unsigned p) const {
        const int y = p / g.Wo, x = p % g.Wo;
        REAL z = 0;
        for (int i = 0; i < g.kh; ++i) {
            const int v = row_of(g, y, i);
            for (int j = 0; j < g.kw; ++j) {
                const int u = column_of(g, x, j);
                if (v >= 0 && u >= 0) z += tap(w, sizes, i, j, n, k)[p] * a.at(n, k, v * g.W + u);
            }
        }
        return z;
    }
    __device__ REAL transpose(const REAL* s, const REAL* w, const Sizes& sizes, long long n, unsigned k,
                             unsigned q) const {
        const int v = q / g.W, u = q % g.W;
        s += (n * sizes.K + k) * sizes.P;
        REAL c = 0;
        for (int i = 0; i < g.kh; ++i) {
            const int y = window_at_row(g, v, i);
            for (int j = 0; j < g.kw; ++j) {
                const int x = window_at_column(g, u, j);
                if (y >= 0 && x >= 0) c += tap(w, sizes, i, j, n, k)[y * g.Wo + x] * s[y * g.Wo + x];
            }
        }
        return c;
    }
};

struct RegionSum2d {
    Window g;  // only the sizes H, W, Ho, Wo
    const int* rows;     // (Ho, 2): first and one-past-last row of each region
    const int* columns;  // (Wo, 2)
    __device__ REAL forward(const Lower& a, const REAL* w, const Sizes&, long long n, unsigned k, unsigned p) const {
        const int y = p / g.Wo, x = p % g.Wo;
        REAL sum = 0;
        for (int v = rows[2 * y]; v < rows[2 * y + 1]; ++v)
            for (int u = columns[2 * x]; u < columns[2 * x + 1]; ++u) sum += a.at(n, k, v * g.W + u);
        return sum * w[p];
    }
    __device__ REAL transpose(const REAL* s, const REAL* w, const Sizes& sizes, long long n, unsigned k,
                             unsigned q) const {
        const int v = q / g.W, u = q % g.W;
        s += (n * sizes.K + k) * sizes.P;
        REAL c = 0;
        for (int y = 0; y < g.Ho; ++y) {
            if (v < rows[2 * y] || v >= rows[2 * y + 1]) continue;
            for (int x = 0; x < g.Wo; ++x)
                if (u >= columns[2 * x] && u < columns[2 * x + 1]) c += s[y * g.Wo + x] * w[y * g.Wo + x];
        }
        return c;
    }
};

// The kernels: the steps of share.cuh on these maps.

extern "C" __global__ void sum_pool2d_preactivation(TERMS, REAL* z, Window g) {
    preactivation(SumPool2d{g}, GIVEN, z);
}
extern "C" __global__ void sum_pool2d_quotient(TERMS, const REAL* R, const REAL* own, const REAL* eps, REAL* s,
                                     double* partial, Window g) {
    quotient(SumPool2d{g}, GIVEN, R, own, eps, s, partial);
}
extern "C" __global__ void sum_pool2d_redistribute(TERMS, const REAL* s, REAL q, REAL* R, double* partial, Window g) {
    redistribute(SumPool2d{g}, GIVEN, s, q, R, partial);
}

extern "C" __global__ void select2d_preactivation(TERMS, REAL* z, Window g) {
    preactivation(Select2d{g}, GIVEN, z);
}
extern "C" __global__ void select2d_quotient(TERMS, const REAL* R, const REAL* own, const REAL* eps, REAL* s,
                                   double* partial, Window g) {
    quotient(Select2d{g}, GIVEN, R, own, eps, s, partial);
}
extern "C" __global__ void select2d_redistribute(TERMS, const REAL* s, REAL q, REAL* R, double* partial, Window g) {
    redistribute(Select2d{g}, GIVEN, s, q, R, partial);
}

extern "C" __global__ void region_sum2d_preactivation(TERMS, REAL* z, Window g, const int* rows, const int* columns) {
    preactivation(RegionSum2d{g, rows, columns}, GIVEN, z);
}
extern "C" __global__ void region_sum2d_quotient(TERMS, const REAL* R, const REAL* own, const REAL* eps, REAL* s,
                                                 double* partial, Window g, const int* rows, const int* columns) {
    quotient(RegionSum2d{g, rows, columns}, GIVEN, R, own, eps, s, partial);
}
extern "C" __global__ void region_sum2d_redistribute(TERMS, const REAL* s, REAL q, REAL* R, double* partial, Window g,
                                                     const int* rows, const int* columns) {
    redistribute(RegionSum2d{g, rows, columns}, GIVEN, s, q, R, partial);
}

// Max pooling: the maximum over the taps in the image (0 where there is none), and which taps hold it.

__device__ REAL maximum(const REAL* a, const Window& g, int y, int x) {
    REAL z = 0;
    bool seen = false;
    for (int i = 0; i < g.kh; ++i) {
        const int v = row_of(g, y, i);
        for (int j = 0; j < g.kw; ++j) {
            const int u = column_of(g, x, j);
            if (v < 0 || u < 0) continue;
            const REAL tap = a[v * g.W + u];
            if (!seen || tap > z) z = tap;
            seen = true;
        }
    }
    return z;
}

extern "C" __global__ void max_pool2d(const REAL* a, REAL* z, Sizes sizes, Window g) {
    const unsigned cells = sizes.K * sizes.P;
    for (long long n = blockIdx.y; n < sizes.samples; n += gridDim.y)
        for (unsigned cell = blockIdx.x * THREADS + threadIdx.x; cell < cells; cell += gridDim.x * THREADS) {
            const unsigned k = cell / sizes.P, p = cell % sizes.P;
            z[n * cells + cell] = maximum(a + (n * sizes.J + k) * sizes.Q, g, p / g.Wo, p % g.Wo);
        }
}

// winners (T, N, K, P): 1 where the tap holds the maximum, else 0; with `first`, of several only the first
extern "C" __global__ void max_pool2d_winners(const REAL* a, REAL* winners, int first, Sizes sizes, Window g) {
    const unsigned cells = sizes.K * sizes.P;
    for (long long n = blockIdx.y; n < sizes.samples; n += gridDim.y)
        for (unsigned cell = blockIdx.x * THREADS + threadIdx.x; cell < cells; cell += gridDim.x * THREADS) {
            const unsigned k = cell / sizes.P, p = cell % sizes.P;
            const int y = p / g.Wo, x = p % g.Wo;
            const REAL* image = a + (n * sizes.J + k) * sizes.Q;
            const REAL z = maximum(image, g, y, x);
            bool taken = false;
            for (int i = 0; i < g.kh; ++i) {
                const int v = row_of(g, y, i);
                for (int j = 0; j < g.kw; ++j) {
                    const int u = column_of(g, x, j);
                    const bool wins = v >= 0 && u >= 0 && image[v * g.W + u] == z && !(first && taken);
                    winners[((i * g.kw + j) * sizes.samples + n) * cells + cell] = wins;
                    taken |= wins;
                }
            }
        }
}
