// Negative log-likelihood of the Gaussian distribution, in nats.
#pragma once

#include "loss.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// (log 2 pi + logvar + (x - mean)^2 / exp(logvar)) / 2. Half of the precision's logarithm goes on
// each factor, so that a small difference does not underflow, nor a large precision overflow,
// before they meet; a difference of zero costs nothing at any precision.
struct GaussianNll {
  static constexpr const char* kName = "gaussian_nll";
  static constexpr const char* kOperands[] = {"mean", "logvar", "target"};
  static constexpr Target kTarget = Target::kNumber;

  template <class T>
  VAE_FAST_FN static Loss<T, 3> evaluate(T mean, T logvar, T target) {
    constexpr T kLogTwoPi = T(1.8378770664093454836);
    const T root_precision = exp_(T(-0.5) * logvar);
    const T difference = mean - target;
    const T scaled = select(difference == T(0), T(0), difference * root_precision);
    const T slope = select(difference == T(0), T(0), scaled * root_precision);
    const T square = scaled * scaled;
    return {T(0.5) * (kLogTwoPi + logvar + square), {slope, T(0.5) * (T(1) - square), -slope}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
