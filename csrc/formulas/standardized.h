// The distance of a number from a Gaussian's mean, in standard deviations.
#pragma once

#include "loss.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

template <class T>
struct Standardized {
  T half_square;  // (x - mean)^2 / exp(logvar) / 2
  T slope;        // its derivative in x
};

// Half of the precision's logarithm at a time, so that a small difference does not underflow, nor a
// large precision overflow, before they meet; a difference of zero is none at any precision.
template <class T>
VAE_FAST_FN Standardized<T> standardized(T x, T mean, T logvar) {
  const T root = exp_(T(-0.5) * logvar);
  const T difference = x - mean;
  const T distance = select(difference == T(0), T(0), difference * root);
  const T slope = select(difference == T(0), T(0), distance * root);
  return {(T(0.5) * distance) * distance, slope};
}

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
