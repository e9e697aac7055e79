// The kernels for x86-64 machines with AVX-512 (F, BW, DQ, VL).
#if defined(__x86_64__)
#include "cpu/standard_headers.h"

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#define VAE_FAST_ISA isa_avx512
#define VAE_FAST_TABLE kAvx512
#define VAE_FAST_NAME "avx512"
#include "cpu/stub_body.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
