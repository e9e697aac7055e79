// The kernels for x86-64 machines with AVX2 and FMA.
#if defined(__x86_64__)
#include "cpu/standard_headers.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define VAE_FAST_ISA isa_avx2
#define VAE_FAST_TABLE kAvx2
#define VAE_FAST_NAME "avx2"
#include "cpu/stub_body.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
