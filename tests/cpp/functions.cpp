// The functions, compiled once for each instruction set, in the way of the stubs in csrc/cpu: the
// standard headers, then the target, then everything else in a namespace of its own.
#include <vector>

#include "cpu/standard_headers.h"

#if defined(VAE_FAST_TEST_AVX512)
#define VAE_FAST_ISA isa_avx512
#define VAE_FAST_TESTED_TABLE functions_avx512
#define VAE_FAST_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
#if !defined(__clang__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#elif defined(VAE_FAST_TEST_AVX2)
#define VAE_FAST_ISA isa_avx2
#define VAE_FAST_TESTED_TABLE functions_avx2
#define VAE_FAST_TARGET "avx2,fma"
#if !defined(__clang__)
#pragma GCC target("avx2,fma")
#endif
#else
#define VAE_FAST_ISA isa_base
#define VAE_FAST_TESTED_TABLE functions_base
#endif
#if defined(__clang__) && defined(VAE_FAST_TARGET)
#pragma clang attribute push(__attribute__((target(VAE_FAST_TARGET))), apply_to = function)
#endif

#include "cpu/noise.h"
#include "functions.h"

#define NAME_OF(isa) #isa
#define NAME_OF_EXPANDED(isa) NAME_OF(isa)

#define DEFINE_MAP(name, expression, ...)                  \
  void map_##name(const float* xs, float* ys, int64_t n) { \
    _Pragma("omp simd") for (int64_t i = 0; i < n; ++i) {  \
      const float x = xs[i];                               \
      ys[i] = expression;                                  \
    }                                                      \
  }
#define LIST_MAP(name, ...) map_##name,

namespace vae_fast::testing {
namespace {

VAE_FAST_TESTED_FUNCTIONS(DEFINE_MAP)

constexpr void (*kMaps[])(const float*, float*, int64_t) = {VAE_FAST_TESTED_FUNCTIONS(LIST_MAP)};

}  // namespace

CompiledFunctions VAE_FAST_TESTED_TABLE() {
  return {NAME_OF_EXPANDED(VAE_FAST_ISA), kMaps, fill_normal<float>, fill_normal<double>};
}

}  // namespace vae_fast::testing

#if defined(__clang__) && defined(VAE_FAST_TARGET)
#pragma clang attribute pop
#endif
