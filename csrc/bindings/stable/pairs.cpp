// The ops of pairs of rows and components, as bindings/pairs.cpp has them.
#include "calls/pairs.h"

#include <torch/csrc/stable/ops.h>

#include "bindings/stable/tensors.h"

namespace vae_fast::stable {
namespace {

Tensor log_sum_exp(Tensor x, Tensor mean, Tensor logvar, Tensor log_weights, bool marginal) {
  const OnDevice device(x);
  StableResults results(x, 1);
  calls::log_sum_exp(device.kernels,
                     {view_of(x), view_of(mean), view_of(logvar), view_of(log_weights), marginal},
                     results);
  return results.tensors[0];
}

std::tuple<Tensor, Tensor, Tensor, Tensor> log_sum_exp_backward(Tensor upstream, Tensor log_density,
                                                                Tensor x, Tensor mean,
                                                                Tensor logvar, Tensor log_weights,
                                                                bool marginal, int64_t want) {
  const OnDevice device(x);
  const calls::View operands[] = {view_of(x), view_of(mean), view_of(logvar), view_of(log_weights)};
  const Tensor factor = torch::stable::contiguous(in_arithmetic(upstream, operands));
  const Tensor value = torch::stable::contiguous(log_density);
  StableResults results(x, 4);
  calls::log_sum_exp_backward(device.kernels, view_of(factor), view_of(value),
                              {operands[0], operands[1], operands[2], operands[3], marginal}, want,
                              results);
  return {results.tensors[0], results.tensors[1], results.tensors[2], results.tensors[3]};
}

Tensor kernel_sum(Tensor x, Tensor y, int64_t kernel, std::vector<double> widths) {
  const OnDevice device(x);
  StableResults results(x, 1);
  calls::kernel_sum(device.kernels, {view_of(x), view_of(y), kernel, widths}, results);
  return results.tensors[0];
}

std::tuple<Tensor, Tensor> kernel_sum_backward(Tensor upstream, Tensor x, Tensor y, int64_t kernel,
                                               std::vector<double> widths, int64_t want) {
  const OnDevice device(x);
  const calls::View operands[] = {view_of(x), view_of(y)};
  const Tensor factor = torch::stable::contiguous(in_arithmetic(upstream, operands));
  StableResults results(x, 2);
  calls::kernel_sum_backward(device.kernels, view_of(factor),
                             {operands[0], operands[1], kernel, widths}, want, results);
  return {results.tensors[0], results.tensors[1]};
}

Tensor nearest(Tensor x, Tensor codes) {
  const OnDevice device(x);
  StableResults results(x, 1);
  calls::nearest(device.kernels, view_of(x), view_of(codes), results);
  return results.tensors[0];
}

}  // namespace

void implement_pairs(Library& library) {
  library.impl("pairs_log_sum_exp", TORCH_BOX(&log_sum_exp));
  library.impl("pairs_log_sum_exp_backward", TORCH_BOX(&log_sum_exp_backward));
  library.impl("pairs_kernel_sum", TORCH_BOX(&kernel_sum));
  library.impl("pairs_kernel_sum_backward", TORCH_BOX(&kernel_sum_backward));
  library.impl("pairs_nearest", TORCH_BOX(&nearest));
}

STABLE_TORCH_LIBRARY_IMPL(vae_fast, CPU, library) { implement_pairs(library); }

}  // namespace vae_fast::stable
