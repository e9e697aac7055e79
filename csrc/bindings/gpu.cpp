// The GPU as a device: its kernels, once they are there (calls/gpu.h), torch's allocator and its
// generators, each by way of the dispatcher. So this binding needs nothing of CUDA.
#include "calls/gpu.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <limits>

#include "bindings/arguments.h"

namespace vae_fast::bindings {
namespace {

const calls::Gpu* gpu = nullptr;

c10::DispatchKey dispatch_key() {
  return c10::computeDispatchKey(at::kFloat, at::kStrided, at::Device(kGpu.type));
}

// Straight from the device's own: nobody above it is to hear of it.
Tensor empty(at::IntArrayRef sizes, at::ScalarType dtype) {
  static const c10::DispatchKeySet keys(dispatch_key());
  return at::_ops::empty_memory_format::redispatch(
      keys, c10::fromIntArrayRefSlow(sizes), dtype, at::kStrided, at::Device(kGpu.type),
      /*pin_memory=*/false, /*memory_format=*/std::nullopt);
}

void scale(const Tensor& gradient, const Tensor& factor) {
  calls::scale(*gpu, view_of(gradient), view_of(factor));
}

// What a graph records has to draw anew whenever it runs, which torch's own kernels do. Everything
// else is drawn on the host, as for a call that takes its seed by value.
void draw_seeds(const Tensor& seeds, const OptionalGenerator& generator) {
  if (gpu->recording() != 0) {
    seeds.random_(std::numeric_limits<int64_t>::min(), std::nullopt, generator);
    return;
  }
  const Tensor drawn = at::empty(seeds.sizes(), at::TensorOptions(at::kCPU).dtype(at::kLong));
  const OptionalGenerator own =
      generator ? generator : at::globalContext().defaultGenerator(seeds.device());
  kCpu.draw_seeds(drawn, own);
  seeds.copy_(drawn, /*non_blocking=*/true);
}

// Takes what vae_fast_gpu() returned, once, and registers the ops for the device of that name.
void use_gpu(uint64_t address, const std::string& device) {
  gpu = reinterpret_cast<const calls::Gpu*>(address);
  kGpu = {.type = at::Device(device).type(),
          .empty = empty,
          .kernels = gpu->kernels,
          .scale = scale,
          .draw_seeds = draw_seeds,
          .recording = gpu->recording};
  const auto library_for = [](c10::DispatchKey key) {
    return torch::Library(torch::Library::IMPL, "vae_fast", key, __FILE__, __LINE__);
  };
  // What is registered lives as long as these.
  static torch::Library kernels = library_for(dispatch_key());
  implement_losses(kernels);
  implement_multinomial(kernels);
  implement_pairs(kernels);
  implement_sampling(kernels);
  static torch::Library autocast =
      library_for(at::autocast::get_autocast_dispatch_key_from_device_type(kGpu.type));
  implement_losses_in_autocast(autocast);
  implement_sampling_in_autocast(autocast);
}

}  // namespace

Device kGpu;

void register_gpu(pybind11::module_& module) { module.def("use_gpu", &use_gpu); }

}  // namespace vae_fast::bindings
