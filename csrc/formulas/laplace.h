// Negative log-likelihood of the Laplace distribution, in nats.
#pragma once

#include "loss.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// log 2 + log_scale + |x - mean| / scale. At the mean the gradient is 0.
struct LaplaceNll {
  static constexpr const char* kName = "laplace_nll";
  static constexpr const char* kOperands[] = {"mean", "log_scale", "target"};
  static constexpr Target kTarget = Target::kNumber;

  // The scale's root at a time, as in standardized.h.
  template <class T>
  VAE_FAST_FN static Loss<T, 3> evaluate(T mean, T log_scale, T x) {
    constexpr T kLog2 = T(0.6931471805599453094);
    const T root = exp_(T(-0.5) * log_scale), difference = x - mean;
    const T distance = select(difference == T(0), T(0), (abs_(difference) * root) * root);
    const T size = root * root;
    const T slope = select(difference == T(0), T(0), select(difference > T(0), size, -size));
    return {distance + (log_scale + kLog2), {-slope, T(1) - distance, slope}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
