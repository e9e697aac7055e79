// Negative log-likelihood of the log-normal distribution, in nats.
#pragma once

#include "logarithms.h"
#include "standardized.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// The Gaussian one of log x, and log x. At x = 0 value and gradients are infinite, as near it; a
// subnormal x counts as the smallest normal one.
struct LogNormalNll {
  static constexpr const char* kName = "log_normal_nll";
  static constexpr const char* kOperands[] = {"mean", "logvar", "target"};
  static constexpr Target kTarget = Target::kNumber;

  template <class T>
  VAE_FAST_FN static Loss<T, 3> evaluate(T mean, T logvar, T x) {
    const T center = select(x >= T(0), mean, kNan<T>);
    const LogDistance<T> distance = log_distance(center, max_(kSmallestNormal<T>, x));
    const Standardized<T> from_target = standardized(distance.value, T(0), logvar);
    const T square = select(x == T(0), kInfinity<T>, from_target.half_square);
    const T slope = select(x == T(0), kInfinity<T>, from_target.slope);
    const T value = square + ((T(0.5) * logvar + kHalfLogTwoPi<T>)+distance.log);
    return {value, {slope, T(0.5) - square, (T(1) - slope) / x}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
