// The ops of what goes by rows: the multinomial, as bindings/multinomial.cpp has it, and the
// kernels of counts, mixtures and sparse layers, around which Python makes the functions that
// bindings/counts.cpp, mixture.cpp and sparse_linear.cpp have. Of these the results are the value,
// then a gradient for each operand: empty where `want` has no bit for it.
#include <string>
#include <tuple>

#include "bindings/stable/tensors.h"
#include "calls/counts.h"
#include "calls/mixture.h"
#include "calls/multinomial.h"

namespace vae_fast::stable {
namespace {

using Tensors = std::vector<Tensor>;
using Results = std::tuple<Tensor, Tensors>;

Results split(const StableResults& results) {
  return {results.tensors[0], Tensors(results.tensors.begin() + 1, results.tensors.end())};
}

// ---- the multinomial ---------------------------------------------------------------------------

std::tuple<Tensor, Tensor> multinomial(Tensor logits, Tensor target, int64_t keep, int64_t mean,
                                       int64_t want) {
  const OnDevice device(logits);
  StableResults results(logits, 2);
  calls::multinomial(device.kernels, view_of(logits), view_of(target), {keep, mean},
                     calls::is_wanted(want, 0), results);
  return {results.tensors[0], results.tensors[1]};
}

Tensor multinomial_backward(Tensor upstream, Tensor logits, Tensor target, int64_t keep,
                            int64_t mean) {
  const OnDevice device(logits);
  const calls::View operands[] = {view_of(logits), view_of(target)};
  const Tensor factor = in_arithmetic(upstream, operands);
  StableResults results(logits, 2);
  calls::multinomial_backward(device.kernels, view_of(factor), operands[0], operands[1],
                              {keep, mean}, results);
  return results.tensors[0];
}

// ---- counts ------------------------------------------------------------------------------------

Results counts(Tensors parameters, OptionalTensor library, Tensor target, OptionalTensor starts,
               OptionalTensor columns, OptionalTensor mask, OptionalTensor upstream, std::string op,
               int64_t batch_dims, int64_t keep, int64_t mean, bool is_log, int64_t want) {
  const int loss = calls::loss_named(op);
  const calls::LossInfo& info = calls::loss_info(loss);
  VAE_FAST_REQUIRE(parameters.size() + 1 == static_cast<size_t>(info.operand_count), BadValue, op,
                   ": expected ", info.operand_count - 1, " parameters");
  const OnDevice device(parameters.at(0));
  const std::vector<calls::View> own = views_of(parameters);
  std::vector<calls::View> operands = own;
  operands.push_back(view_of(target));
  const auto own_library = view_of(library), own_mask = view_of(mask);
  const auto own_starts = view_of(starts), own_columns = view_of(columns);
  OptionalTensor factor = upstream;
  if (upstream) {
    std::vector<calls::View> numbers = operands;
    if (own_library) numbers.push_back(*own_library);
    factor = in_arithmetic(*upstream, numbers);
  }
  const auto own_factor = view_of(factor);
  const calls::CountsTensors tensors{own,
                                     pointer_to(own_library),
                                     operands.back(),
                                     pointer_to(own_starts),
                                     pointer_to(own_columns),
                                     pointer_to(own_mask),
                                     pointer_to(own_factor)};
  VAE_FAST_REQUIRE(calls::takes(tensors, batch_dims), BadValue, op, ": the shapes do not fit");
  std::vector<calls::View> checked = operands;
  if (starts) {
    checked.back().sizes = checked.back().strides = {};
    calls::check_csr(op.c_str(), "target", {*own_starts, *own_columns, operands.back()},
                     own[0].sizes.back());
  }
  calls::check_operands(info, op.c_str(), checked, pointer_to(own_mask));
  calls::check_reduction(op.c_str(), {keep, mean}, own[0].dims());
  StableResults results(parameters[0], 2 + parameters.size());
  calls::counts(device.kernels,
                {.loss = loss,
                 .batch_dims = batch_dims,
                 .is_summed = keep == 0,
                 .scale = calls::mean_factor(own[0].sizes, {keep, mean}),
                 .is_log = is_log,
                 .want = want},
                tensors, results);
  return split(results);
}

// ---- mixtures ----------------------------------------------------------------------------------

Results mixture(const calls::MixtureCall& call, const Tensors& operands, const Tensor& target,
                const OptionalTensor& mask, const OptionalTensor& levels,
                const OptionalTensor& upstream, int64_t want) {
  const OnDevice device(operands.at(0));
  const std::vector<calls::View> own = views_of(operands);
  std::vector<calls::View> numbers = own;
  numbers.push_back(view_of(target));
  OptionalTensor factor = upstream;
  if (upstream) factor = in_arithmetic(*upstream, numbers);
  const auto own_mask = view_of(mask), own_levels = view_of(levels), own_factor = view_of(factor);
  StableResults results(operands[0], 1 + operands.size());
  calls::mixture(
      device.kernels, call,
      {own, numbers.back(), pointer_to(own_mask), pointer_to(own_levels), pointer_to(own_factor)},
      want, results);
  return split(results);
}

Results mixture_of(Tensors operands, Tensor target, OptionalTensor mask, OptionalTensor upstream,
                   std::string op, int64_t batch_dims, int64_t event_dims, int64_t keep,
                   int64_t mean, int64_t want) {
  return mixture({.loss = calls::loss_named(op),
                  .channels = 0,
                  .components = operands.at(0).size(batch_dims),
                  .batch_dims = batch_dims,
                  .event_dims = event_dims,
                  .reduction = {keep, mean}},
                 operands, target, mask, std::nullopt, upstream, want);
}

Results mixture_of_pixels(Tensor params, Tensor target, OptionalTensor mask, Tensor levels,
                          OptionalTensor upstream, int64_t components, int64_t channels,
                          int64_t batch_dims, int64_t keep, int64_t mean, int64_t want) {
  return mixture({.loss = 0,
                  .channels = channels,
                  .components = components,
                  .batch_dims = batch_dims,
                  .event_dims = 0,
                  .reduction = {keep, mean}},
                 {params}, target, mask, levels, upstream, want);
}

// ---- a linear layer of a table in CSR ----------------------------------------------------------

const void* matrix(const Tensor& x, int64_t rows, int64_t columns, Dtype dtype) {
  const calls::View view = view_of(x);
  VAE_FAST_REQUIRE(view.sizes == calls::Sizes({rows, columns}) && view.is_contiguous() &&
                       view.torch_dtype == calls::torch_dtype(dtype),
                   BadValue, "csr_product_: a matrix of shape ", calls::shown(view.sizes),
                   ", expected ", calls::shown(calls::Sizes{rows, columns}), ", dense, ",
                   calls::shown_dtype(calls::torch_dtype(dtype)));
  return view.data;
}

// out += x other, or x' other, of a table x in CSR.
void csr_product(Tensor out, Tensor other, Tensor starts, Tensor columns, Tensor values,
                 bool is_transposed) {
  const calls::View own_starts = view_of(starts), own_columns = view_of(columns),
                    own_values = view_of(values), own_out = view_of(out);
  const calls::CsrViews table{own_starts, own_columns, own_values};
  VAE_FAST_REQUIRE(calls::is_plain_csr(table) && own_out.dims() == 2 && other.dim() == 2, BadValue,
                   "csr_product_: the shapes do not fit");
  const Dtype dtype = own_values.dtype();
  VAE_FAST_REQUIRE(dtype == Dtype::kFloat32 || dtype == Dtype::kFloat64, BadType,
                   "csr_product_: values have dtype ", calls::shown_dtype(own_values.torch_dtype),
                   ", expected float32 or float64");
  SparseLinearArgs args;
  args.float64 = dtype == Dtype::kFloat64;
  args.has_int64 = own_starts.dtype() == Dtype::kInt64;
  args.rows = own_starts.numel() - 1;
  args.inputs = is_transposed ? own_out.sizes[0] : other.size(0);
  args.outputs = own_out.sizes[1];
  calls::check_csr("sparse_linear", "x", table, args.inputs);
  args.starts = own_starts.data;
  args.columns = own_columns.data;
  args.values = own_values.data;
  const int64_t rows = is_transposed ? args.inputs : args.rows;
  void* sum = const_cast<void*>(matrix(out, rows, args.outputs, dtype));
  const void* factor = matrix(other, is_transposed ? args.rows : args.inputs, args.outputs, dtype);
  if (is_transposed) {
    args.upstream = factor;
    args.weight_gradient = sum;
  } else {
    args.weight = factor;
    args.y = sum;
  }
  cpu::sparse_linear(args, cpu_parallel_for);
}

}  // namespace

void implement_rows(Library& library) {
  library.impl("multinomial_nll", TORCH_BOX(&multinomial));
  library.impl("multinomial_nll_backward", TORCH_BOX(&multinomial_backward));
  library.impl("counts_kernel", TORCH_BOX(&counts));
  library.impl("mixture_kernel", TORCH_BOX(&mixture_of));
  library.impl("pixel_mixture_kernel", TORCH_BOX(&mixture_of_pixels));
}

STABLE_TORCH_LIBRARY_IMPL(vae_fast, CPU, library) {
  implement_rows(library);
  library.impl("csr_product_", TORCH_BOX(&csr_product));
}

}  // namespace vae_fast::stable
