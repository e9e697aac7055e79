// The calls of pairs of rows and components (kernels.h: PairsArgs; formulas/pairs.h).
#pragma once

#include "calls/checks.h"
#include "calls/results.h"

namespace vae_fast::calls {
#pragma GCC visibility push(default)

// (B, D), (K, D), (K, D), and (1, K) or (B, K).
struct DensityTensors {
  View x, mean, logvar, log_weights;
  bool marginal;
};

// Result 0: the logarithm of the sum over the components, (B), or (B, D) where marginal.
void log_sum_exp(const Kernels& kernels, const DensityTensors& tensors, Results& results);

// Results: the gradients in the four, times upstream; empty where `want` has no bit. Of weights
// that differ from row to row there is none. `computed` is what log_sum_exp() gave.
void log_sum_exp_backward(const Kernels& kernels, const View& upstream, const View& computed,
                          const DensityTensors& tensors, int64_t want, Results& results);

// (B, D), (K, D).
struct KernelTensors {
  View x, y;
  int64_t kernel;  // 0: Gaussian; 1: inverse multiquadratic
  std::span<const double> widths;
};

// Result 0: the sum over y of each row of x, (B), float64.
void kernel_sum(const Kernels& kernels, const KernelTensors& tensors, Results& results);

// Results: the gradients in x and y, times upstream.
void kernel_sum_backward(const Kernels& kernels, const View& upstream, const KernelTensors& tensors,
                         int64_t want, Results& results);

// Result 0: the nearest code of each row of x, (B), int64.
void nearest(const Kernels& kernels, const View& x, const View& codes, Results& results);

#pragma GCC visibility pop
}  // namespace vae_fast::calls
