// What all rungs of the convolution share: where things lie, and the four steps' endings.
//
//     z_k = sum over terms, j of p_j w_kj + b_k      s_k = R_k / (z_k + stabilizer)      steps 1, 2
//     c_j = sum over k of w_kj s_k                   R_j = q * sum over terms of p_j c_j      steps 3, 4
//
// Steps 1 and 3 are the same matrix product, rows x inner times inner x columns, for each group of channels:
//
//                  rows                    inner                              columns
//     step 1       output channels k       input channels j  x  taps          output pixels of all samples
//     step 3       input channels j        output channels k  x  taps         input pixels of all samples
//
// The right-hand matrix is never built (an *implicit* matrix product): column (sample, y, x) and tap look at
// the source pixel (y * step_y + dy, x * step_x + dx). In step 1 step is the stride, and dy = i * dilation - top.
// In step 3 pixel v receives from output pixel (v + top - i * dilation) / stride where that division is exact.
// Pixels with the same v mod stride (a *phase*) have the same taps, so v = phase + stride * y gives the same
// form again, with step = 1. The launcher lists each phase's taps; no kernel divides in its loop over them.

struct Tap {
    int dy, dx;  // which source pixel it looks at, from (y * step_y, x * step_x)
    int index;   // its place in the weights
    int unused;
};

struct Geometry {
    int samples, groups, rows, inner;                          // rows and inner: channels of one group
    int source_height, source_width, height, width;            // what is gathered; what is written
    int phases_y, phases_x, plane_height, plane_width;         // a phase's part of the image that is written
    int step_y, step_x, columns;                               // columns of one phase: samples * plane
    int taps, padded_rows, padded_inner, splits;               // weights: [group][tap][padded_inner][padded_rows]
    int kernel_y, kernel_x, stride_y, stride_x, dilation_y, dilation_x, top, left, transposed;  // for rung 1
    const Tap* tap;    // all phases' taps
    const int* first;  // phase i has the taps first[i] .. first[i + 1] - 1
};

// One term (p, w). p is a constant or `part` of a: 0 all of it, 1 a+ = max(0, a), 2 a- = min(0, a).
// A constant (ones, the bounds of z^B) may be one sample for all: sample_stride 0.
//
// The pair (a+, w+), (a-, w-) needs one look at a only: what is in a+ is not in a-, so in steps 1 and 2
//     a+ w+ + a- w- = a (a < 0 ? w- : w+)
// and the launcher of rungs 1, 2 and `thin` makes one term of the two: p = a, w = w+, w_negative = w-.
struct Term {
    const REAL* w;
    const REAL* w_negative;  // where p < 0; otherwise, and for all other terms, w itself
    const REAL* p;
    long long sample_stride;
    int part, unused;
};

struct Terms {
    Term term[3];
    Term source;  // REDISTRIBUTE: what step 3 gathers, s; the terms' p enter step 4
    int count;
};

// What the steps' endings read and write; null where a step has no use for it.
struct Ending {
    const REAL* b;    // bias, at channel * b_channel + pixel * b_pixel
    const REAL* R;    // relevance of the upper neurons
    const REAL* eps;  // stabilizer, one for each sample
    const REAL* own;  // z of the layer itself, for the gate
    REAL* out;        // z, s or R_j
    double* partial;  // [sum][tile][column], added per sample by sum_partials
    long long split_stride;
    double coefficient;
    int b_channel, b_pixel, gate, is_signed;
};

enum Step { Z, QUOTIENT, REDISTRIBUTE };

__device__ __forceinline__ REAL take(int part, REAL a) {  // comparisons, not fmax: NaN must stay NaN
    if (part == 1) return a < 0 ? 0 : a;
    if (part == 2) return a > 0 ? 0 : a;
    return a;
}

// A column of the matrix product: a pixel of a sample.
struct Column {
    int sample, y, x, pixel, booked;  // y, x within the phase; pixel within the image; where its sums go
    bool inside;
};

__device__ __forceinline__ Column column_at(const Geometry& g, int phase, int index) {
    Column at;
    const int plane = g.plane_height * g.plane_width, phase_y = phase / g.phases_x;
    at.sample = index / plane;
    const int local = index - at.sample * plane;
    at.y = local / g.plane_width;
    at.x = local - at.y * g.plane_width;
    const int v = phase_y + g.phases_y * at.y, u = phase - phase_y * g.phases_x + g.phases_x * at.x;
    at.pixel = v * g.width + u;
    at.booked = index < g.columns ? (at.sample * g.phases_y * g.phases_x + phase) * plane + local : -1;
    at.inside = index < g.columns && v < g.height && u < g.width;
    return at;
}

// What a thread adds up for the ledger, in float64.
struct Sums {
    double sum[3] = {0, 0, 0};  // QUOTIENT: bias, stabilizer, dropped; REDISTRIBUTE: to_inputs
};

// The end of a step for one output: `value` is the finished sum of products of this channel and column.
template <int STEP>
__device__ __forceinline__ void put(const Geometry& g, const Terms& terms, const Ending& e, const Column& at,
                                    int channel, int t, REAL value, REAL* out, Sums& sums) {
    const long long o = ((long long)at.sample * (g.groups * g.rows) + channel) * (g.height * g.width) + at.pixel;
    if (STEP == REDISTRIBUTE) {  // step 4; terms follow one another and add into R_j
        const Term& term = terms.term[t];
        const REAL p = term.p[at.sample * term.sample_stride + channel * (g.height * g.width) + at.pixel];
        REAL R = take(term.part, p) * value;
        if (t > 0) R += out[o];
        if (t + 1 == terms.count) {
            R *= (REAL)e.coefficient;
            sums.sum[0] += R;
        }
        out[o] = R;
        return;
    }
    const REAL b = e.b ? e.b[(long long)channel * e.b_channel + (long long)at.pixel * e.b_pixel] : (REAL)0;
    const REAL z = value + b;
    if (STEP == Z) {
        out[o] = z;
        return;
    }
    REAL R = e.R[o];  // step 2
    if (e.gate && !(e.gate > 0 ? e.own[o] > 0 : e.own[o] < 0)) R = 0;
    const REAL eps = e.eps[at.sample];
    const REAL stabilizer = e.is_signed && z < 0 ? -eps : eps;
    const REAL denominator = z + stabilizer;
    REAL s = 0;
    if (denominator == 0)
        sums.sum[2] += R;
    else if (denominator - denominator != 0)  // infinite or NaN: said by NaN, or R / inf = 0 would be lost
        s = denominator - denominator;
    else
        s = R / denominator;
    sums.sum[0] += (double)s * b;
    sums.sum[1] += (double)s * stabilizer;
    out[o] = s;
}

template <int STEP> __device__ __forceinline__ constexpr int sums_of() {
    return STEP == QUOTIENT ? 3 : STEP == REDISTRIBUTE ? 1 : 0;
}

// Add the sums of the SLICES threads that share a column, in their order, and write them to this tile's row.
template <int STEP, int SLICES, int COLUMNS>
__device__ __forceinline__ void book(const Geometry& g, const Ending& e, const Sums& sums, double* shared,
                                     int slice, int column, int booked, int tile, int tiles) {
    const long long columns = (long long)g.samples * g.phases_y * g.phases_x * g.plane_height * g.plane_width;
#pragma unroll
    for (int i = 0; i < sums_of<STEP>(); ++i) {
        __syncthreads();
        shared[slice * COLUMNS + column] = sums.sum[i];
        __syncthreads();
        if (slice == 0 && booked >= 0) {
            double sum = 0;
            for (int j = 0; j < SLICES; ++j) sum += shared[j * COLUMNS + column];
            e.partial[((long long)i * tiles + tile) * columns + booked] = sum;
        }
    }
}
