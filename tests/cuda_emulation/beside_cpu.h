// A kernel's results beside those of the CPU's.
#pragma once

#include "emulated.h"

namespace vae_fast::testing {

inline constexpr Dtype kDtypes[] = {Dtype::kFloat32, Dtype::kBFloat16, Dtype::kFloat16,
                                    Dtype::kFloat64};

inline bool is_near(double x, double y, double tolerance) {
  return std::isfinite(y) ? std::fabs(x - y) <= tolerance * (1 + std::fabs(y))
                          : x == y || (std::isnan(x) && std::isnan(y));
}

inline void check_same(const char* what, const View& got, const View& on_cpu,
                       double tolerance = 4e-6) {
  for (int64_t i = 0; i < on_cpu.elements(); ++i) {
    CHECK(is_near(got.get(i), on_cpu.get(i), tolerance), "%s: %.9g, on the CPU %.9g", what,
          got.get(i), on_cpu.get(i));
  }
}

inline void on_one_thread(int64_t n, int64_t, void (*body)(void*, int64_t, int64_t),
                          void* context) {
  body(context, 0, n);
}

}  // namespace vae_fast::testing
