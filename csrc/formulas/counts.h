// A row of counts whose means are shares of the row's total by the softmax of its logits: what is
// computed of an element on the way to a formula's first parameter, the mean or its logarithm, and
// with its gradient back to the logit.
#pragma once

#include "elementary.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// Of a mean and of a total.
inline constexpr double kLeastMean = 1e-30;

// What the row's elements have in common.
template <class T>
struct CountRow {
  bool is_softmax = false;  // else the first parameter is given itself
  double weights = 0, library = 0;
  T ratio = 0, shift = 0;  // of a mean to its weight; of its logarithm to the logit

  // `weights`: the sum of the row's exp(l - center).
  VAE_FAST_FN static CountRow of(T center, double weights, double library) {
    const double ratio = max_(kLeastMean, library) / weights;
    return {true, weights, library, static_cast<T>(ratio),
            static_cast<T>(log_(ratio) - static_cast<double>(center))};
  }

  // The gradient in the library, from the sum of those in the logarithms of the means.
  VAE_FAST_FN double to_library(double to_logs) const {
    return library < kLeastMean ? 0 : to_logs / library;
  }
};

template <class T>
VAE_FAST_FN T count_mean(T weight, T ratio) {
  return max_(T(kLeastMean), weight * ratio);
}

template <class T>
VAE_FAST_FN T count_log_mean(T logit, T shift) {
  return logit + shift;
}

// Of a gradient in the mean, the one in its logarithm: none where the mean is held at its least.
template <class T>
VAE_FAST_FN T to_log_mean(T gradient, T weight, T ratio) {
  const T mean = weight * ratio;
  return select(mean < T(kLeastMean), T(0), gradient * mean);
}

// From the logarithms of the shares, whose gradients have the sum `share` times that of the
// weights, to the logit.
template <class T>
VAE_FAST_FN T to_logit(T gradient, T weight, T share) {
  return gradient - weight * share;
}

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
