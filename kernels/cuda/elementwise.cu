// Element by element: the diagonal map, the sum of several inputs, and the activation functions.
//
//     scale      z_k = a_k w_c            batch norm: one weight for each channel, its own transpose
//     total      z   = sum over m of a_m w_m      the summands m of a residual connection (and c_m = w_m s)
//     activation g(x)
//
// One thread for each cell, neighbouring threads on neighbouring cells: each warp reads and writes whole lines of
// memory. There is no reuse, hence no shared memory; time is bytes moved divided by the bandwidth.

struct Scale {
    __device__ REAL forward(const Lower& a, const REAL* w, const Sizes&, long long n, unsigned k, unsigned p) const {
        return a.at(n, k, p) * w[k];
    }
    __device__ REAL transpose(const REAL* s, const REAL* w, const Sizes& sizes, long long n, unsigned j,
                             unsigned q) const {
        return s[(n * sizes.J + j) * sizes.Q + q] * w[j];
    }
};

// a (N, M, P), z (N, 1, P): the summands are the channels of a
struct Total {
    __device__ REAL forward(const Lower& a, const REAL* w, const Sizes& sizes, long long n, unsigned,
                            unsigned p) const {
        REAL z = 0;
        for (unsigned m = 0; m < sizes.J; ++m) z += a.at(n, m, p) * w[m];
        return z;
    }
    __device__ REAL transpose(const REAL* s, const REAL* w, const Sizes& sizes, long long n, unsigned m,
                             unsigned q) const {
        return s[n * sizes.P + q] * w[m];
    }
};

extern "C" __global__ void scale_preactivation(TERMS, REAL* z) { preactivation(Scale{}, GIVEN, z); }
extern "C" __global__ void scale_quotient(TERMS, const REAL* R, const REAL* own, const REAL* eps, REAL* s,
                                double* partial) {
    quotient(Scale{}, GIVEN, R, own, eps, s, partial);
}
extern "C" __global__ void scale_redistribute(TERMS, const REAL* s, REAL q, REAL* R, double* partial) {
    redistribute(Scale{}, GIVEN, s, q, R, partial);
}

extern "C" __global__ void total_preactivation(TERMS, REAL* z) { preactivation(Total{}, GIVEN, z); }
extern "C" __global__ void total_quotient(TERMS, const REAL* R, const REAL* own, const REAL* eps, REAL* s,
                                double* partial) {
    quotient(Total{}, GIVEN, R, own, eps, s, partial);
}
extern "C" __global__ void total_redistribute(TERMS, const REAL* s, REAL q, REAL* R, double* partial) {
    redistribute(Total{}, GIVEN, s, q, R, partial);
}

// Activation functions. One pair of names for both arithmetics: without it a float would pass through double.

__device__ float exp_minus_1(float x) { return expm1f(x); }
__device__ double exp_minus_1(double x) { return expm1(x); }
__device__ float log_1_plus(float x) { return log1pf(x); }
__device__ double log_1_plus(double x) { return log1p(x); }
__device__ float exponential(float x) { return expf(x); }
__device__ double exponential(double x) { return exp(x); }
__device__ float hyperbolic(float x) { return tanhf(x); }
__device__ double hyperbolic(double x) { return tanh(x); }
__device__ float error_function(float x) { return erff(x); }
__device__ double error_function(double x) { return erf(x); }

__device__ REAL sigmoid(REAL x) { return 1 / (1 + exponential(-x)); }
__device__ REAL clip(REAL x, REAL low, REAL high) { return x < low ? low : x > high ? high : x; }
__device__ REAL hard_sigmoid(REAL x) { return clip(x + 3, 0, 6) / 6; }

// In the order of FUNCTIONS in cupy_cuda.py. Comparisons are such that a NaN stays one.
enum Function { RELU, LEAKY_RELU, CLIP, SIGMOID, TANH, SILU, ELU, SOFTPLUS, GELU, HARD_SIGMOID, HARD_SWISH };

__device__ REAL activate(int function, REAL x, REAL first, REAL second) {
    switch (function) {  // the same way for all threads: no warp diverges
    case RELU: return x < 0 ? 0 : x;
    case LEAKY_RELU: return x > 0 ? x : first * x;  // first: slope
    case CLIP: return clip(x, first, second);
    case SIGMOID: return sigmoid(x);
    case TANH: return hyperbolic(x);
    case SILU: return x * sigmoid(x);
    case ELU: return x > 0 ? x : first * exp_minus_1(x);  // first: alpha
    case SOFTPLUS: return (x > 0 ? x : 0) + log_1_plus(exponential(x > 0 ? -x : x));
    case GELU: return x * (1 + error_function(x * (REAL)0.70710678118654752440)) / 2;
    case HARD_SIGMOID: return hard_sigmoid(x);
    default: return x * hard_sigmoid(x);
    }
}

extern "C" __global__ void activation(int function, const REAL* x, REAL first, REAL second, REAL* y, long long size) {
    for (long long i = (long long)blockIdx.x * THREADS + threadIdx.x; i < size; i += (long long)gridDim.x * THREADS)
        y[i] = activate(function, x[i], first, second);
}
