// The only inline PTX: asynchronous copies into shared memory, and the tensor cores.
// The emulator of the tests brings twins of these four functions (HOST_EMUL).
#ifndef HOST_EMUL

// Copy BYTES (4 or 16) from global to shared memory without passing through a register; zeros where !ok.
// Below sm_80 an ordinary copy: the barrier that follows the wait makes it visible all the same.
template <int BYTES> __device__ __forceinline__ void cp_async(void* to, const void* from, bool ok = true) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    const unsigned address = (unsigned)__cvta_generic_to_shared(to);
    const int valid = ok ? BYTES : 0;  // the rest of the bytes is filled with zeros
    if (BYTES == 16)  // .cg: past L1, weights are read once by a block
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(valid));
    else  // .ca: through L1, neighbouring taps read the same pixels
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(from), "r"(valid));
#else
    if (BYTES == 16)
        *(float4*)to = ok ? *(const float4*)from : make_float4(0.f, 0.f, 0.f, 0.f);
    else
        *(float*)to = ok ? *(const float*)from : 0.f;
#endif
}

// Close a group of copies.
__device__ __forceinline__ void cp_async_commit() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Wait until at most N groups of this thread are under way.
template <int N> __device__ __forceinline__ void cp_async_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
// d += a b on the tensor cores, a warp at a time: d 16x8, a 16x8, b 8x8, with g = lane / 4, t = lane % 4
//   a[e] = A[g + 8 (e & 1)][t + 4 (e >> 1)]    b[e] = B[t + 4 e][g]    d[e] = D[g + 8 (e >> 1)][2 t + (e & 1)]
// The operands are TF32: floats of which the 13 lowest bits are ignored.
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

#endif
