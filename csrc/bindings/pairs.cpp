// The ops of pairs of rows and components: kernels alone. They take milliseconds, so that their
// autograd is Python's (vae_fast.engine.pairs), for either binding.
#include <torch/library.h>

#include "bindings/arguments.h"
#include "calls/pairs.h"
#include "calls/schemas.h"

namespace vae_fast::bindings {
namespace {

// f(device, results), on the device of the first operand.
template <class F>
TensorVector call(const Tensor& first, size_t count, const F& f) {
  const Device& device = *kernels_for(first.device());
  const c10::DeviceGuard guard(first.device());
  TensorResults results(device, count);
  raising([&] { f(device.kernels, results); });
  return results.tensors;
}

Tensor log_sum_exp(const Tensor& x, const Tensor& mean, const Tensor& logvar,
                   const Tensor& log_weights, bool marginal) {
  return call(x, 1, [&](const calls::Kernels& kernels, calls::Results& results) {
    calls::log_sum_exp(kernels,
                       {view_of(x), view_of(mean), view_of(logvar), view_of(log_weights), marginal},
                       results);
  })[0];
}

std::tuple<Tensor, Tensor, Tensor, Tensor> log_sum_exp_backward(
    const Tensor& upstream, const Tensor& log_density, const Tensor& x, const Tensor& mean,
    const Tensor& logvar, const Tensor& log_weights, bool marginal, int64_t want) {
  const Tensor factor = in_arithmetic(upstream, is_float64({x, mean, logvar, log_weights}));
  const Tensor own_factor = factor.contiguous(), value = log_density.contiguous();
  const TensorVector gradients =
      call(x, 4, [&](const calls::Kernels& kernels, calls::Results& results) {
        calls::log_sum_exp_backward(
            kernels, view_of(own_factor), view_of(value),
            {view_of(x), view_of(mean), view_of(logvar), view_of(log_weights), marginal}, want,
            results);
      });
  return {gradients[0], gradients[1], gradients[2], gradients[3]};
}

calls::KernelTensors kernel_tensors(const Tensor& x, const Tensor& y, int64_t kernel,
                                    at::ArrayRef<double> widths) {
  return {view_of(x), view_of(y), kernel, {widths.data(), widths.size()}};
}

Tensor kernel_sum(const Tensor& x, const Tensor& y, int64_t kernel, at::ArrayRef<double> widths) {
  return call(x, 1, [&](const calls::Kernels& kernels, calls::Results& results) {
    calls::kernel_sum(kernels, kernel_tensors(x, y, kernel, widths), results);
  })[0];
}

std::tuple<Tensor, Tensor> kernel_sum_backward(const Tensor& upstream, const Tensor& x,
                                               const Tensor& y, int64_t kernel,
                                               at::ArrayRef<double> widths, int64_t want) {
  const Tensor factor = in_arithmetic(upstream, is_float64({x, y})).contiguous();
  const TensorVector gradients =
      call(x, 2, [&](const calls::Kernels& kernels, calls::Results& results) {
        calls::kernel_sum_backward(kernels, view_of(factor), kernel_tensors(x, y, kernel, widths),
                                   want, results);
      });
  return {gradients[0], gradients[1]};
}

Tensor nearest(const Tensor& x, const Tensor& codes) {
  return call(x, 1, [&](const calls::Kernels& kernels, calls::Results& results) {
    calls::nearest(kernels, view_of(x), view_of(codes), results);
  })[0];
}

}  // namespace

void implement_pairs(torch::Library& library) {
  library.impl("pairs_log_sum_exp", &log_sum_exp);
  library.impl("pairs_log_sum_exp_backward", &log_sum_exp_backward);
  library.impl("pairs_kernel_sum", &kernel_sum);
  library.impl("pairs_kernel_sum_backward", &kernel_sum_backward);
  library.impl("pairs_nearest", &nearest);
}

TORCH_LIBRARY_FRAGMENT(vae_fast, library) {
  library.set_python_module("vae_fast.engine.pairs");
  for (const char* schema : calls::kPairsSchemas) {
    library.def(schema, {at::Tag::pt2_compliant_tag});
  }
}

TORCH_LIBRARY_IMPL(vae_fast, CPU, library) { implement_pairs(library); }

}  // namespace vae_fast::bindings
