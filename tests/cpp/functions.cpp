// Compiled once for each instruction set; VAE_FAST_ISA and VAE_FAST_TESTED_TABLE say which.
#include "functions.h"

#include "cpu/noise.h"

namespace vae_fast::testing {
namespace {

#define DEFINE_MAP(name, expression, ...)                     \
  void map_##name(const float* xs, float* ys, int64_t n) {    \
    _Pragma("omp simd") for (int64_t i = 0; i < n; ++i) {     \
      const float x = xs[i];                                  \
      ys[i] = expression;                                     \
    }                                                         \
  }
VAE_FAST_TESTED_FUNCTIONS(DEFINE_MAP)

}  // namespace

CompiledFunctions VAE_FAST_TESTED_TABLE() {
  return {
#define NAME_OF(isa) #isa
#define NAME(isa) NAME_OF(isa)
      NAME(VAE_FAST_ISA),
#ifdef __FMA__
      true,
#else
      false,
#endif
#define LIST_MAP(name, ...) map_##name,
      {VAE_FAST_TESTED_FUNCTIONS(LIST_MAP)},
      fill_normal<float>,
      fill_normal<double>,
  };
}

}  // namespace vae_fast::testing
