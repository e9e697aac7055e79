// What a call asks of the device that it runs on: memory, and the launches of kernels.h. Everything
// else in the bindings is the same on every device. All calls are for the current
// device, and return when their work is queued: what they were given may be freed then.
#pragma once

#include "bindings/common.h"
#include "calls/results.h"

namespace torch {
class Library;
}

namespace vae_fast::bindings {

struct Device {
  at::DeviceType type = at::kCUDA;

  // A dense tensor, its values not set.
  Tensor (*empty)(at::IntArrayRef sizes, at::ScalarType dtype) = nullptr;

  calls::Kernels kernels = {};

  // gradient *= factor, which broadcasts.
  void (*scale)(const Tensor& gradient, const Tensor& factor) = nullptr;

  // Fills `seeds`, (rows, 2) int64, from the generator, or the device's default one.
  void (*draw_seeds)(const Tensor& seeds, const OptionalGenerator& generator) = nullptr;

  // calls::Gpu
  uint64_t (*recording)() = nullptr;
};

extern const Device kCpu;

// torch's threads, for the CPU's kernels.
void cpu_parallel_for(int64_t n, int64_t grain,
                      void (*body)(void* context, int64_t begin, int64_t end), void* context);

// The GPU: CUDA, without kernels until use_gpu() has been given them (gpu.cpp).
extern Device kGpu;

// Null where there are no kernels.
inline const Device* kernels_for(at::Device device) {
  if (device.is_cpu()) return &kCpu;
  return device.type() == kGpu.type && kGpu.empty != nullptr ? &kGpu : nullptr;
}

// The ops on a device that has kernels, and under its autocast.
void implement_losses(torch::Library& library);
void implement_multinomial(torch::Library& library);
void implement_pairs(torch::Library& library);
void implement_sampling(torch::Library& library);
void implement_losses_in_autocast(torch::Library& library);
void implement_sampling_in_autocast(torch::Library& library);

}  // namespace vae_fast::bindings
