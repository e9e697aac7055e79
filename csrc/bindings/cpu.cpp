// The CPU as a device: torch's threads, and torch's allocator but for what is large.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>

#include "bindings/buffer_cache.h"
#include "bindings/device.h"
#include "calls/cpu.h"
#include "calls/sampling.h"

namespace vae_fast::bindings {
namespace {

Tensor empty(at::IntArrayRef sizes, at::ScalarType dtype) {
  const size_t bytes = at::detail::computeStorageNbytesContiguous(sizes, c10::elementSize(dtype));
  if (bytes < kCachedFrom) return at::detail::empty_cpu(sizes, dtype, /*pin_memory=*/false);
  return at::detail::empty_generic(sizes, buffer_cache(),
                                   c10::DispatchKeySet(c10::DispatchKey::CPU), dtype, std::nullopt);
}

bool is_one(const Tensor& x) {
  if (x.dim() != 0) return false;
  if (x.scalar_type() == at::kFloat) return *x.const_data_ptr<float>() == 1.0f;
  return x.scalar_type() == at::kDouble && *x.const_data_ptr<double>() == 1.0;
}

// What a counter-based generator, a GPU's, would draw on its device, drawn here.
void draw_from_state(at::Generator& generator, Seed* seeds, int64_t rows) {
  std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_offset(
      calls::draw_from_counter(generator.current_seed(), generator.get_offset(), rows, seeds));
}

void draw_seeds(const Tensor& tensor, const OptionalGenerator& generator) {
  Seed* seeds = static_cast<Seed*>(tensor.mutable_data_ptr());
  const int64_t rows = tensor.numel() / 2;
  if (generator && !generator->device().is_cpu()) {
    at::Generator counter_based = *generator;
    draw_from_state(counter_based, seeds, rows);
    return;
  }
  auto* random = at::get_generator_or_default<at::CPUGeneratorImpl>(
      generator, at::detail::getDefaultCPUGenerator());
  std::lock_guard<std::mutex> lock(random->mutex_);
  for (int64_t row = 0; row < rows; ++row) {
    seeds[row].key = random->random64();
    seeds[row].offset = random->random64();
  }
}

}  // namespace

void cpu_parallel_for(int64_t n, int64_t grain,
                      void (*body)(void* context, int64_t begin, int64_t end), void* context) {
  at::parallel_for(0, n, grain, [&](int64_t begin, int64_t end) { body(context, begin, end); });
}

const Device kCpu = {
    .type = at::kCPU,
    .empty = empty,
    .kernels = calls::kCpuKernels<cpu_parallel_for>,
    .scale =
        [](const Tensor& gradient, const Tensor& factor) {
          if (!is_one(factor)) gradient.mul_(factor);
        },
    .draw_seeds = draw_seeds,
    .recording = [] { return uint64_t{0}; },
};

}  // namespace vae_fast::bindings
