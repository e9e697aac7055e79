// The CUDA kernels as a library of their own (bindings/cuda/library.cpp), which any binding takes
// in while the program runs: where there is no CUDA nothing needs it, and no binding is built anew
// for it.
#pragma once

#include "calls/results.h"

namespace vae_fast::calls {
#pragma GCC visibility push(default)

// What its function `vae_fast_gpu` returns; Python reads the first three.
struct Gpu {
  const char* version;        // of the package: the binding's, or this may look different
  const char* release;        // of CUDA
  const char* architectures;  // as TORCH_CUDA_ARCH_LIST has them

  // On the current device and stream: all return when their work is queued, what they were given
  // may be freed then. They throw std::runtime_error.
  Kernels kernels;

  void (*scale)(const cuda::ScaleArgs& args);

  // The graph that records what is queued now, to run later and any number of times: a number that
  // no other recording has. 0: none does.
  uint64_t (*recording)();
};

// gradient *= factor, which broadcasts. A single one costs no pass over the gradient, and nobody
// waits to learn whether it is one.
void scale(const Gpu& gpu, const View& gradient, const View& factor);

#pragma GCC visibility pop

}  // namespace vae_fast::calls
