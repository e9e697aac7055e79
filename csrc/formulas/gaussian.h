// Negative log-likelihood of the Gaussian distribution, in nats.
#pragma once

#include "standardized.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// (log 2 pi + logvar + (x - mean)^2 / exp(logvar)) / 2.
struct GaussianNll {
  static constexpr const char* kName = "gaussian_nll";
  static constexpr const char* kOperands[] = {"mean", "logvar", "target"};
  static constexpr Target kTarget = Target::kNumber;

  template <class T>
  VAE_FAST_FN static Loss<T, 3> evaluate(T mean, T logvar, T target) {
    const Standardized<T> to_target = standardized(mean, target, logvar);
    const T square = to_target.half_square;
    const T value = square + (T(0.5) * logvar + kHalfLogTwoPi<T>);
    return {value, {to_target.slope, T(0.5) - square, -to_target.slope}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
