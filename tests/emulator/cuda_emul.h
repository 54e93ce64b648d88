// CUDA C++ on an ordinary CPU: this header lets g++ compile an unmodified kernel source.
//
// How it works. The threads of one block are *fibers*: each has a stack of its own, and all of them take
// turns on one operating-system thread. A fiber runs until it meets a barrier (__syncthreads) or a warp
// collective (__syncwarp, a shuffle, an mma); there it steps aside until all the others have come. Blocks run
// one after another, so a `static` variable is a block's shared memory.
//
// What it is for. It finds mistakes that a GPU forgives today and punishes tomorrow:
//   - a missing barrier: three schedules run the fibers in different orders (see `Schedule`), so the value
//     of a kernel with a race depends on the schedule; ThreadSanitizer, to which every fiber is announced as
//     a thread, even sees a race that leaves the right value;
//   - shared memory that is read before it is written: it starts as NaN in each block;
//   - barriers that only some threads reach, shuffles from lanes that do not take part, misaligned or
//     unfinished asynchronous copies: the launch ends with a message that names file, line and thread;
//   - accesses out of bounds: AddressSanitizer sees them in global and in shared memory.
//
// What it is not. It says nothing about speed; blocks never run at the same time; loops that wait for another
// block never end; an `mma` is summed in plain float, while tensor cores round in their own way.
//
// Everything a kernel may use stands below "CUDA's names"; above it is the machinery.
#pragma once
#include <math.h>    // not <cmath>: CUDA's isfinite, exp, ... are global names
#include <stdlib.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <signal.h>
#include <atomic>
#include <concepts>
#include <deque>
#include <source_location>
#include <type_traits>
#include <utility>
#include <vector>

#define HOST_EMUL 1                    // a source asks `#ifndef HOST_EMUL` around inline PTX
#define __CUDA_ARCH__ EMUL_CUDA_ARCH   // given on the command line: 900 for sm_90

// The sanitizers must be told when a fiber is left for another.
#if defined(__SANITIZE_THREAD__)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned flags);
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#define EMUL_TSAN(...) __VA_ARGS__
#else
#define EMUL_TSAN(...)
#endif
#if defined(__SANITIZE_ADDRESS__)
extern "C" {
void __sanitizer_start_switch_fiber(void** save, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* saved, const void** old_bottom, size_t* old_size);
void __asan_poison_memory_region(void const volatile*, size_t);
void __asan_unpoison_memory_region(void const volatile*, size_t);
}
#define EMUL_ASAN(...) __VA_ARGS__
#else
#define EMUL_ASAN(...)
#endif

// The emulator's own accesses are no accesses of the kernel: the sanitizers must not count them.
#define EMUL_RAW __attribute__((no_sanitize("thread"), no_sanitize("address"), no_sanitize("undefined")))

// ======== CUDA's names, part 1: the language ========

#define __global__
#define __device__
#define __host__
#define __constant__ static
// One section holds all shared arrays, so that each block can start with NaN in all of them.
#define __shared__ static __attribute__((section("emul_shared")))
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__
#define __builtin_assume(...)

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
// Aligned as on the GPU: a float4 access at an address that is no multiple of 16 is an error there.
#define EMUL_VECTORS(T, NAME)                                                                       \
    struct alignas(2 * sizeof(T)) NAME##2 { T x, y; };                                              \
    struct NAME##3 { T x, y, z; };                                                                  \
    struct alignas(16) NAME##4 { T x, y, z, w; };                                                   \
    inline NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }                                      \
    inline NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; }                              \
    inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMUL_VECTORS(float, float)
EMUL_VECTORS(double, double)
EMUL_VECTORS(int, int)
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

static uint3 threadIdx, blockIdx;   // set whenever a fiber is entered
static dim3 blockDim, gridDim;
static constexpr int warpSize = 32;

// ======== The machinery ========

extern "C" {   // made by the linker where a source has shared arrays
extern char __start_emul_shared[] __attribute__((weak));
extern char __stop_emul_shared[] __attribute__((weak));
}

namespace emul {

using At = std::source_location;   // as a default argument: the line of the kernel that called

// In which order the fibers run, and when an asynchronous copy lands.
enum Schedule {
    ASCENDING = 0,   // thread 0 first; copies land when they are asked for (shows overwriting too early)
    ONE_AHEAD = 1,   // the last warp first, and as far as it can get before any other; the last block first
    RANDOM = 2,      // a new order at each turn; copies land when they are waited for (shows a missing wait)
};

struct Barrier {
    int arrived = 0;
    unsigned generation = 0;   // counts how often it has opened
    unsigned mask = 0;         // warp barriers: the lanes that the first to come asked for
    At at;                     // where the first to come waits
    char order[2];             // ThreadSanitizer's handles: all before a barrier is before all after it
};

struct Copy { void* to; const void* from; int bytes; bool real; };   // not real: zeros are written

struct Fiber {
    void* stack_pointer = nullptr;
    char* stack = nullptr;
    uint3 thread = {};
    int id = 0;
    bool done = false;
    const Barrier* waits_at = nullptr;
    unsigned waits_for = 0;                 // the generation that it wants to see passed
    std::deque<std::vector<Copy>> copies;   // groups of cp.async, the last one still open
    void* tsan = nullptr;
    void* asan = nullptr;
};

constexpr int MOST_THREADS = 1024, WARPS = MOST_THREADS / 32;
constexpr size_t STACK = 256 << 10, MOST_SHARED = 227 << 10;

static Fiber fibers[MOST_THREADS], main_fiber;
static int current = -1, live, threads;     // current: -1 outside of any fiber
static Schedule schedule;
static uint32_t random_state;
static Barrier block_barrier, warp_barriers[WARPS][32];   // of a warp: one for each lowest lane of a mask
static uint32_t exchange[WARPS][32][8];                   // what lanes hand to each other
alignas(1024) static char dynamic_shared[MOST_SHARED];
static size_t dynamic_bytes;
static char fault[1024];                    // what went wrong in this launch
static void (*entry)(void*);
static void* entry_arguments;
static char block_done;                     // ThreadSanitizer's handle: blocks come one after another
struct Fault {};                            // thrown outside of fibers only

// Switching stacks: the registers that a function must keep are pushed, the stack pointer is exchanged.
extern "C" void emul_switch(void** save, void* to);
asm(R"(.text
.type emul_switch,@function
emul_switch:
 pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
 movq %rsp,(%rdi)
 movq %rsi,%rsp
 popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
 ret
.size emul_switch,.-emul_switch)");

EMUL_RAW inline void go(Fiber& from, Fiber& to) {
    EMUL_TSAN(__tsan_switch_to_fiber(to.tsan, 1);)   // 1: the switch itself orders nothing
    EMUL_ASAN(__sanitizer_start_switch_fiber(from.done ? nullptr : &from.asan, to.stack, STACK);)
    emul_switch(&from.stack_pointer, to.stack_pointer);
    EMUL_ASAN(__sanitizer_finish_switch_fiber(from.asan, nullptr, nullptr);)
}

// The end of a launch: the fiber that found the mistake is left and never entered again.
[[noreturn]] EMUL_RAW inline void die(const char* what, const char* file = "", int line = 0) {
    int n = snprintf(fault, sizeof fault, "%s", what);
    if (line) n += snprintf(fault + n, sizeof fault - n, ", %s:%d", file, line);
    if (current < 0) throw Fault{};
    snprintf(fault + n, sizeof fault - n, ", block (%u, %u, %u), thread (%u, %u, %u)", blockIdx.x, blockIdx.y,
             blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
    fibers[current].done = true;
    go(fibers[current], main_fiber);
    abort();
}
[[noreturn]] EMUL_RAW inline void die(const char* what, At at) { die(what, at.file_name(), at.line()); }

// Wait until `needed` fibers have come. `orders`: memory accesses before it are visible after it.
EMUL_RAW inline void wait(Barrier& b, int needed, At at, bool orders) {
    if (!b.arrived) b.at = at;
    const unsigned generation = b.generation;
    EMUL_TSAN(if (orders) __tsan_release(&b.order[generation & 1]);)
    if (++b.arrived >= needed) {
        b.arrived = 0;
        ++b.generation;
    } else {
        Fiber& f = fibers[current];
        f.waits_at = &b;
        f.waits_for = generation;
        while (b.generation == generation) go(f, main_fiber);
        f.waits_at = nullptr;
    }
    EMUL_TSAN(if (orders) __tsan_acquire(&b.order[generation & 1]);)
}

EMUL_RAW inline bool same_place(At a, At b) {
    return a.line() == b.line() && (a.file_name() == b.file_name() || !strcmp(a.file_name(), b.file_name()));
}

EMUL_RAW inline void block_wait(At at) {
    if (live != threads) die("__syncthreads() after some threads of the block have exited", at);
    if (block_barrier.arrived && !same_place(block_barrier.at, at))
        die("divergent barrier: threads of one block wait at different __syncthreads()", at);
    wait(block_barrier, threads, at, true);
}

// All lanes of a mask meet. A shuffle is no memory barrier on the GPU: only __syncwarp orders memory.
EMUL_RAW inline void warp_wait(unsigned mask, At at, bool orders) {
    const int id = fibers[current].id, warp = id / 32, lane = id % 32, lanes = threads - warp * 32;
    if (lanes < 32) mask &= (1u << lanes) - 1;   // the last warp of a block may be smaller
    if (!(mask >> lane & 1)) die("warp collective: the calling lane is not in its mask", at);
    Barrier& b = warp_barriers[warp][__builtin_ctz(mask)];
    if (!b.arrived) b.mask = mask;
    if (b.mask != mask) die("warp collective: lanes disagree on the mask", at);
    if (b.arrived && !same_place(b.at, at)) die("warp collective: lanes of one mask wait at different places", at);
    wait(b, __builtin_popcount(mask), at, orders);
}

// Each lane leaves `words` words, all meet, each one reads, all meet again before the next exchange.
template <class T> EMUL_RAW inline T shuffle(unsigned mask, T value, int from, At at) {
    static_assert(sizeof(T) <= sizeof exchange[0][0]);
    const int warp = fibers[current].id / 32, lane = fibers[current].id % 32;
    memcpy(exchange[warp][lane], &value, sizeof(T));
    warp_wait(mask, at, false);
    if (from != lane && !(mask >> from & 1)) die("shuffle from a lane outside the mask", at);
    memcpy(&value, exchange[warp][from], sizeof(T));
    warp_wait(mask, at, false);
    return value;
}
EMUL_RAW inline unsigned ballot(unsigned mask, bool yes, At at) {
    const int warp = fibers[current].id / 32, lane = fibers[current].id % 32;
    exchange[warp][lane][0] = yes;
    warp_wait(mask, at, false);
    unsigned result = 0;
    for (int i = 0; i < 32; ++i)
        if (mask >> i & 1 && warp * 32 + i < threads) result |= exchange[warp][i][0] << i;
    warp_wait(mask, at, false);
    return result;
}
EMUL_RAW inline int lane() { return fibers[current].id % 32; }

EMUL_RAW inline void fiber_main() {
    EMUL_ASAN(const void* bottom; size_t size; __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);)
    entry(entry_arguments);
    Fiber& f = fibers[current];
    for (auto& group : f.copies)
        if (!group.empty()) die("a thread exits with asynchronous copies that it never waited for");
    if (block_barrier.arrived) die("a thread exits while others wait at __syncthreads()", block_barrier.at);
    f.done = true;
    --live;
    EMUL_TSAN(__tsan_release(&block_done);)
    go(f, main_fiber);
    abort();
}

EMUL_RAW inline void fill_with_nan(char* from, char* to) {
    for (; from < to; ++from) *(volatile char*)from = (char)0xFF;   // all bits set is a NaN, also in double
}

EMUL_RAW inline void prepare_fiber(int i) {
    Fiber& f = fibers[i];
    if (!f.stack) f.stack = (char*)malloc(STACK);
    f.copies.assign(1, {});
    f.done = false;
    f.waits_at = nullptr;
    f.asan = nullptr;
    f.id = i;
    f.thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    // The first switch to this stack "returns" into fiber_main, with six registers of zero.
    void** top = (void**)((uintptr_t)(f.stack + STACK) & ~(uintptr_t)15) - 2;
    *top = (void*)fiber_main;
    top -= 6;
    memset(top, 0, 6 * sizeof(void*));
    f.stack_pointer = top;
    EMUL_TSAN(f.tsan = __tsan_create_fiber(0);)
}

EMUL_RAW inline bool advance(int i) {   // run fiber i to its next stop; false: it must wait on
    Fiber& f = fibers[i];
    if (f.done || (f.waits_at && f.waits_at->generation == f.waits_for)) return false;
    current = i;
    threadIdx = f.thread;
    go(main_fiber, f);
    current = -1;
    if (*fault) throw Fault{};
    return true;
}

EMUL_RAW inline unsigned random_below(unsigned n) {
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}
EMUL_RAW inline void shuffle_order(std::vector<int>& order) {
    for (int i = (int)order.size() - 1; i > 0; --i) std::swap(order[i], order[random_below(i + 1)]);
}

EMUL_RAW inline bool one_turn(std::vector<int>& order) {   // each fiber gets at least one chance
    bool progress = false;
    if (schedule == RANDOM) shuffle_order(order);
    if (schedule != ONE_AHEAD) {
        for (int i : order) progress |= advance(i);
        return progress;
    }
    for (int warp = (threads - 1) / 32; warp >= 0; --warp)
        for (bool more = true; more; progress |= more) {
            more = false;
            for (int i = (warp * 32 + 32 < threads ? warp * 32 + 32 : threads) - 1; i >= warp * 32; --i) more |= advance(i);
        }
    return progress;
}

EMUL_RAW inline void run_block() {
    fill_with_nan(__start_emul_shared, __stop_emul_shared);
    EMUL_ASAN(__asan_unpoison_memory_region(dynamic_shared, MOST_SHARED);)
    fill_with_nan(dynamic_shared, dynamic_shared + dynamic_bytes);
    EMUL_ASAN(__asan_poison_memory_region(dynamic_shared + dynamic_bytes, MOST_SHARED - dynamic_bytes);)
    block_barrier = Barrier{};
    for (auto& warp : warp_barriers) for (auto& b : warp) b = Barrier{};
    live = threads;
    std::vector<int> order(threads);
    for (int i = 0; i < threads; ++i) prepare_fiber(order[i] = i);
    while (live)
        if (!one_turn(order)) {
            for (int i = 0; i < threads; ++i)
                if (!fibers[i].done)
                    die("deadlock: a barrier or warp collective waits for threads that never come", fibers[i].waits_at->at);
        }
    EMUL_TSAN(__tsan_acquire(&block_done);)
}

// A wild pointer is a fault of the kernel, not the end of the Python that runs it.
EMUL_RAW inline void on_signal(int number, siginfo_t* info, void*) {
    static char text[100];
    if (number == SIGFPE) snprintf(text, sizeof text, "integer division by zero");
    else snprintf(text, sizeof text, "access to memory that is not there or not aligned, address %p", info->si_addr);
    die(text);
}
struct Signals {
    static constexpr int NUMBERS[] = {SIGSEGV, SIGBUS, SIGFPE};
    struct sigaction before[3];
    Signals() {
        struct sigaction ours = {};
        ours.sa_sigaction = on_signal;
        ours.sa_flags = SA_SIGINFO | SA_NODEFER;   // not deferred: the handler is left without returning
        for (int i = 0; i < 3; ++i) sigaction(NUMBERS[i], &ours, &before[i]);
    }
    ~Signals() { for (int i = 0; i < 3; ++i) sigaction(NUMBERS[i], &before[i], nullptr); }
};
struct FlushToZero {   // CuPy always compiles with -ftz=true: denormals count as zero
    const unsigned before = __builtin_ia32_stmxcsr();
    FlushToZero(bool flush) { if (flush) __builtin_ia32_ldmxcsr(before | 0x8040); }
    ~FlushToZero() { __builtin_ia32_ldmxcsr(before); }
};

struct Launch {   // the same fields as in __init__.py
    unsigned grid[3], block[3];
    unsigned long long shared;
    int schedule, shuffle_blocks, flush_to_zero;
    unsigned seed;
};

EMUL_RAW inline void run_grid(const Launch& l) {
    gridDim = {l.grid[0], l.grid[1], l.grid[2]};
    blockDim = {l.block[0], l.block[1], l.block[2]};
    threads = blockDim.x * blockDim.y * blockDim.z;
    dynamic_bytes = l.shared;
    schedule = (Schedule)l.schedule;
    random_state = l.seed;
    std::vector<int> order(gridDim.x * gridDim.y * gridDim.z);
    for (int i = 0, n = order.size(); i < n; ++i) order[i] = schedule == ONE_AHEAD ? n - 1 - i : i;
    if (l.shuffle_blocks) shuffle_order(order);
    for (unsigned i : order) {
        blockIdx = {i % gridDim.x, i / gridDim.x % gridDim.y, i / (gridDim.x * gridDim.y)};
        run_block();
        EMUL_TSAN(for (int t = 0; t < threads; ++t) __tsan_destroy_fiber(fibers[t].tsan);)
    }
}

// Returns nothing, or what went wrong.
EMUL_RAW inline const char* launch(const Launch& l, void (*kernel)(void*), void* arguments) {
    entry = kernel;
    entry_arguments = arguments;
    *fault = 0;
    current = -1;
    EMUL_TSAN(main_fiber.tsan = __tsan_get_current_fiber();)
    FlushToZero flush(l.flush_to_zero);
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)   // they report a wild pointer themselves
    Signals signals;
#endif
    try {
        run_grid(l);
    } catch (Fault) {
        current = -1;
        EMUL_ASAN(for (int t = 0; t < threads; ++t) __asan_unpoison_memory_region(fibers[t].stack, STACK);)
    }
    return *fault ? fault : nullptr;
}

// What a kernel's parameters are, for the launcher to compare with what it is given.
template <class T> constexpr const char* code() {
    using U = std::remove_cv_t<T>;
    if constexpr (std::is_same_v<U, float>) return "f4";
    else if constexpr (std::is_same_v<U, double>) return "f8";
    else if constexpr (std::is_same_v<U, bool>) return "b1";
    else if constexpr (std::is_integral_v<U>) {
        constexpr const char* signed_[] = {"", "i1", "i2", "", "i4", "", "", "", "i8"};
        constexpr const char* unsigned_[] = {"", "u1", "u2", "", "u4", "", "", "", "u8"};
        return std::is_signed_v<U> ? signed_[sizeof(U)] : unsigned_[sizeof(U)];
    } else return "";   // a struct; a pointer to void or to a vector
}
struct Parameter { int bytes; int pointer; const char* code; };
template <class T> constexpr Parameter parameter() {
    using U = std::remove_reference_t<T>;
    return {(int)sizeof(U), std::is_pointer_v<U>, code<std::remove_pointer_t<U>>()};
}
template <class... A, size_t... I> void call(void (*kernel)(A...), void** p, std::index_sequence<I...>) {
    kernel(*(std::remove_reference_t<A>*)p[I]...);
}
template <auto K> struct Export;
template <class... A, void (*K)(A...)> struct Export<K> {
    static void thunk(void* p) { call(K, (void**)p, std::index_sequence_for<A...>{}); }
    static int describe(int i, Parameter* out) {
        const Parameter all[] = {parameter<A>()..., {}};
        if (i < (int)sizeof...(A)) *out = all[i];
        return sizeof...(A);
    }
};

template <class T> T atomic(T* where, auto change) {   // relaxed, as on the GPU: it orders nothing else
    std::atomic_ref<T> r(*where);
    T old = r.load(std::memory_order_relaxed);
    while (!r.compare_exchange_weak(old, change(old), std::memory_order_relaxed)) {}
    return old;
}
// A rounded result: the compiler cannot merge it with a following operation into one fma.
template <class T> EMUL_RAW inline T rounded(T x) { asm volatile("" : "+x"(x)); return x; }
}  // namespace emul

// What the launcher looks up in the compiled source.
#define EMUL_EXPORT(NAME)                                                                            \
    extern "C" const char* emul_launch_##NAME(const emul::Launch* l, void** arguments) {             \
        return emul::launch(*l, &emul::Export<&::NAME>::thunk, arguments);                           \
    }                                                                                                \
    extern "C" int emul_parameter_##NAME(int i, emul::Parameter* out) {                              \
        return emul::Export<&::NAME>::describe(i, out);                                              \
    }

// ======== CUDA's names, part 2: built-in functions ========

inline void __syncthreads(emul::At at = emul::At::current()) { emul::block_wait(at); }
inline void __syncwarp(unsigned mask = ~0u, emul::At at = emul::At::current()) { emul::warp_wait(mask, at, true); }

// Shuffles within groups of `width` lanes. From a lane beyond the group's end a lane gets its own value.
template <class T> inline T __shfl_sync(unsigned mask, T v, int from, int width = 32, emul::At at = emul::At::current()) {
    return emul::shuffle(mask, v, (emul::lane() & -width) | (from & (width - 1)), at);
}
template <class T> inline T __shfl_down_sync(unsigned mask, T v, unsigned d, int width = 32, emul::At at = emul::At::current()) {
    const int own = emul::lane();
    return emul::shuffle(mask, v, (own & (width - 1)) + (int)d < width ? own + (int)d : own, at);
}
template <class T> inline T __shfl_up_sync(unsigned mask, T v, unsigned d, int width = 32, emul::At at = emul::At::current()) {
    const int own = emul::lane();
    return emul::shuffle(mask, v, (own & (width - 1)) >= (int)d ? own - (int)d : own, at);
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, emul::At at = emul::At::current()) {
    const int own = emul::lane(), from = own ^ bits;
    return emul::shuffle(mask, v, from < (own & -width) + width ? from : own, at);
}
inline unsigned __ballot_sync(unsigned mask, bool yes, emul::At at = emul::At::current()) { return emul::ballot(mask, yes, at); }
inline bool __any_sync(unsigned mask, bool yes, emul::At at = emul::At::current()) { return emul::ballot(mask, yes, at) != 0; }
inline bool __all_sync(unsigned mask, bool yes, emul::At at = emul::At::current()) { return emul::ballot(mask, !yes, at) == 0; }
inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
inline void __threadfence_block() { std::atomic_thread_fence(std::memory_order_seq_cst); }
[[noreturn]] inline void __trap(emul::At at = emul::At::current()) { emul::die("__trap()", at); }

template <class T> inline T __ldg(const T* p) { return *p; }
template <class T> inline T __ldcg(const T* p) { return *p; }
template <class T> inline T __ldcs(const T* p) { return *p; }
template <class T> inline void __stcg(T* p, std::type_identity_t<T> v) { *p = v; }
template <class T> inline void __stcs(T* p, std::type_identity_t<T> v) { *p = v; }

#define EMUL_ATOMIC(NAME, NEW) \
    template <class T> inline T NAME(T* where, std::type_identity_t<T> v) { return emul::atomic(where, [=](T old) { return T(NEW); }); }
EMUL_ATOMIC(atomicAdd, old + v)
EMUL_ATOMIC(atomicSub, old - v)
EMUL_ATOMIC(atomicExch, v)
EMUL_ATOMIC(atomicMin, v < old ? v : old)
EMUL_ATOMIC(atomicMax, v > old ? v : old)
EMUL_ATOMIC(atomicAnd, old & v)
EMUL_ATOMIC(atomicOr, old | v)
EMUL_ATOMIC(atomicInc, old >= v ? 0 : old + 1)
template <class T> inline T atomicCAS(T* where, std::type_identity_t<T> expected, std::type_identity_t<T> v) {
    return emul::atomic(where, [=](T old) { return old == expected ? v : old; });
}

template <class To, class From> EMUL_RAW inline To emul_bits(From x) { To y; static_assert(sizeof x == sizeof y); memcpy(&y, &x, sizeof y); return y; }
inline float __uint_as_float(unsigned u) { return emul_bits<float>(u); }
inline float __int_as_float(int i) { return emul_bits<float>(i); }
inline unsigned __float_as_uint(float f) { return emul_bits<unsigned>(f); }
inline int __float_as_int(float f) { return emul_bits<int>(f); }
inline double __longlong_as_double(long long i) { return emul_bits<double>(i); }
inline long long __double_as_longlong(double d) { return emul_bits<long long>(d); }
inline int __popc(unsigned u) { return __builtin_popcount(u); }
inline int __clz(int u) { return u ? __builtin_clz(u) : 32; }
inline int __ffs(int u) { return __builtin_ffs(u); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }

// As in CUDA, min and max of floating-point numbers are fmin and fmax: a NaN loses.
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
template <std::integral A, std::integral B> inline auto min(A a, B b) { using T = std::common_type_t<A, B>; return T(a) < T(b) ? T(a) : T(b); }
template <std::integral A, std::integral B> inline auto max(A a, B b) { using T = std::common_type_t<A, B>; return T(a) > T(b) ? T(a) : T(b); }
inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
inline double rsqrt(double x) { return 1. / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return emul::rounded(a + b); }
inline float __fsub_rn(float a, float b) { return emul::rounded(a - b); }
inline float __fmul_rn(float a, float b) { return emul::rounded(a * b); }
inline float __fdiv_rn(float a, float b) { return emul::rounded(a / b); }
inline float __fsqrt_rn(float a) { return emul::rounded(sqrtf(a)); }
inline double __dadd_rn(double a, double b) { return emul::rounded(a + b); }
inline double __dsub_rn(double a, double b) { return emul::rounded(a - b); }
inline double __dmul_rn(double a, double b) { return emul::rounded(a * b); }
inline double __ddiv_rn(double a, double b) { return emul::rounded(a / b); }

// ======== Twins of inline PTX (kernels/cuda/ptx.cuh has the originals) ========

// cvt.rna.tf32.f32: to 10 bits of mantissa, halves away from zero; infinities and NaN stay.
EMUL_RAW inline unsigned to_tf32(float f) {
    const unsigned u = __float_as_uint(f);
    return (u & 0x7f800000u) == 0x7f800000u ? u : (u + 0x1000u) & ~0x1fffu;
}

// mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32: d (16 x 8) += a (16 x 8) b (8 x 8), spread over a warp.
// With g = lane / 4 and t = lane % 4 a lane holds
//   d[i] = D[g + 8 (i / 2)][2 t + i % 2],  a[i] = A[g + 8 (i % 2)][t + 4 (i / 2)],  b[i] = B[t + 4 i][g].
EMUL_RAW inline void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                      emul::At at = emul::At::current()) {
    const int id = emul::fibers[emul::current].id, lane = id % 32;
    auto& x = emul::exchange[id / 32];
    for (int i = 0; i < 4; ++i) x[lane][i] = a[i] & ~0x1fffu;   // the hardware ignores 13 bits
    for (int i = 0; i < 2; ++i) x[lane][4 + i] = b[i] & ~0x1fffu;
    emul::warp_wait(~0u, at, false);
    for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
        for (int k = 0; k < 8; ++k)
            d[i] += __uint_as_float(x[4 * (row % 8) + k % 4][row / 8 + 2 * (k / 4)]) *
                    __uint_as_float(x[4 * column + k % 4][4 + k / 4]);
    }
    emul::warp_wait(~0u, at, false);
}

// cp.async: B bytes from global to shared memory; with ok = false, zeros. See `Schedule` for when they land.
inline void emul_land(const emul::Copy& c) {   // not EMUL_RAW: these are the kernel's own accesses
    for (int i = 0; i < c.bytes; i += 4)
        *(float*)((char*)c.to + i) = c.real ? *(const float*)((const char*)c.from + i) : 0.f;
}
template <int B> inline void cp_async(void* to, const void* from, bool ok = true, emul::At at = emul::At::current()) {
    static_assert(B == 4 || B == 8 || B == 16);
    if (((uintptr_t)to | (uintptr_t)from) % B) emul::die("misaligned cp.async", at);
    if (emul::schedule == emul::RANDOM) emul::fibers[emul::current].copies.back().push_back({to, from, B, ok});
    else emul_land({to, from, B, ok});
}
inline void cp_async_commit() { emul::fibers[emul::current].copies.emplace_back(); }
template <int N> inline void cp_async_wait() {   // all but the N newest committed groups have landed
    auto& groups = emul::fibers[emul::current].copies;
    while ((int)groups.size() - 1 > N) {
        for (auto& c : groups.front()) emul_land(c);
        groups.pop_front();
    }
}
