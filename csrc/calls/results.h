// What a call asks of the binding that it comes from: memory for its results, the device's kernels,
// and the few operations on whole results for which PyTorch is as good.
#pragma once

#include "calls/view.h"

namespace vae_fast::calls {
#pragma GCC visibility push(default)

// The launches of kernels.h on one device.
struct Kernels {
  void (*loss)(const LossArgs& args);
  // `seeds`: (args.seed_rows, 2) int64, dense, on the device, or one row on the CPU.
  void (*sample)(SampleArgs& args, const View& seeds);
  void (*sample_backward)(const SampleBackwardArgs& args);
  void (*multinomial)(const MultinomialArgs& args);
  void (*counts)(const CountArgs& args);
  // Whether counts() is what kernels.h says of cuda::counts.
  bool counts_by_element;
  void (*mixture)(const MixtureArgs& args);
  void (*pairs)(const PairsArgs& args);
};

// The tensors that a call makes, by its own numbers for them.
class Results {
 public:
  virtual ~Results() = default;

  // A tensor on the device of the call; its values are not set.
  virtual View make(size_t result, Span sizes, Span strides, Dtype dtype) = 0;

  virtual void fill(size_t result, double value) = 0;
  // Sums it over its dimensions from `keep` on, then multiplies by the factor.
  virtual void reduce(size_t result, int64_t keep, double factor) = 0;
  // Sums it over the dimensions along which the sizes broadcast to its own.
  virtual void sum_to(size_t result, Span sizes) = 0;

  View make(size_t result, Span sizes, Dtype dtype) {
    return make(result, sizes, contiguous_strides(sizes), dtype);
  }
  // In the operand's order of dimensions where that has the shape, by torch's rule.
  View make_like(size_t result, const View& operand, Span sizes, Dtype dtype);
  // For what was not asked for.
  void make_nothing(size_t result, Dtype dtype) { make(result, Sizes{0}, dtype); }
};

#pragma GCC visibility pop
}  // namespace vae_fast::calls
