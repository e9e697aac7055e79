// Negative log-likelihood of the Laplace distribution, in nats.
#pragma once

#include "loss.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// log 2 + log_scale + |x - mean| / scale, half of the scale's logarithm at a time as in
// standardized.h. A difference of zero costs nothing at any scale, and has no slope, as torch's
// absolute value has none.
struct LaplaceNll {
  static constexpr const char* kName = "laplace_nll";
  static constexpr const char* kOperands[] = {"mean", "log_scale", "target"};
  static constexpr Target kTarget = Target::kNumber;

  template <class T>
  VAE_FAST_FN static Loss<T, 3> evaluate(T mean, T log_scale, T x) {
    constexpr T kLogTwo = T(0.69314718055994530942);
    const T root = exp_(T(-0.5) * log_scale), difference = mean - x;
    const T scaled = select(difference == T(0), T(0), (abs_(difference) * root) * root);
    const T precision = root * root;
    const T falling = select(difference < T(0), -precision, T(0));
    const T slope = select(difference > T(0), precision, falling);
    return {(kLogTwo + log_scale) + scaled, {slope, T(1) - scaled, -slope}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
