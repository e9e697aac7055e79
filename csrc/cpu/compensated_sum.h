// A sum of many doubles with what its roundings lose: float64 needs it to be as exact as PyTorch's
// cascades are. float32's sums are in double, and have no need of it.
#pragma once

#include "formulas/elementary.h"

namespace vae_fast::cpu {
inline namespace VAE_FAST_ISA {

// sum + lost grows by exactly x, but for what rounds in `lost` (Knuth's two-sum).
VAE_FAST_FN void add_compensated(double& sum, double& lost, double x) {
  const double total = sum + x;
  const double part = total - sum;
  lost += (sum - (total - part)) + (x - part);
  sum = total;
}

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast::cpu
