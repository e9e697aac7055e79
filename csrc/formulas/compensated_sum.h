// A sum of many doubles with what its roundings lose: float64 needs it to be as exact as PyTorch's
// cascades are. float32's sums are in double, and have no need of it.
#pragma once

#include "elementary.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// sum + lost grows by exactly x, but for what rounds in `lost` (Knuth's two-sum). Of a sum that is
// no longer finite nothing is lost: the differences of infinities would be NaN.
VAE_FAST_FN void add_compensated(double& sum, double& lost, double x) {
  const double total = sum + x;
  const double part = total - sum;
  const double rounded = (sum - (total - part)) + (x - part);
  lost += select(total - total == 0, rounded, 0.0);
  sum = total;
}

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
