// What a call asks of the device that it runs on: memory, and the launches of kernels.h. Everything
// else in the bindings is the same on every device. All calls are for the current
// device, and return when their work is queued: what they were given may be freed then.
#pragma once

#include "bindings/common.h"
#include "calls/results.h"

namespace vae_fast::bindings {

struct Device {
  // A dense tensor, its values not set.
  Tensor (*empty)(at::IntArrayRef sizes, at::ScalarType dtype);

  calls::Kernels kernels;

  // gradient *= factor, which broadcasts. A single one costs no pass over the gradient, and nobody
  // waits to learn whether it is one.
  void (*scale)(const Tensor& gradient, const Tensor& factor);

  // Fills `seeds`, (rows, 2) int64, from the generator, or the device's default one.
  void (*draw_seeds)(const Tensor& seeds, const OptionalGenerator& generator);

  // The graph that records what is queued now, to run later and any number of times: a number that
  // no other recording has. 0: none does.
  uint64_t (*recording)();
};

extern const Device kCpu;

// torch's threads, for the CPU's kernels.
void cpu_parallel_for(int64_t n, int64_t grain,
                      void (*body)(void* context, int64_t begin, int64_t end), void* context);

#ifdef VAE_FAST_CUDA_RELEASE
extern const Device kCuda;
#endif

// The device of kCuda, by torch's name of its type and its dispatch keys. The tests build these
// files a second time, for a device of theirs on which the same kernels are emulated.
#ifndef VAE_FAST_GPU
#define VAE_FAST_GPU CUDA
#endif
#define VAE_FAST_AUTOCAST_GPU C10_CONCATENATE(Autocast, VAE_FAST_GPU)
inline constexpr at::DeviceType kGpu = at::DeviceType::VAE_FAST_GPU;

// Null where there are no kernels.
inline const Device* kernels_for(at::Device device) {
  if (device.is_cpu()) return &kCpu;
#ifdef VAE_FAST_CUDA_RELEASE
  if (device.type() == kGpu) return &kCuda;
#endif
  return nullptr;
}

}  // namespace vae_fast::bindings
