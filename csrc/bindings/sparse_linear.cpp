// A linear layer of a table in CSR (kernels.h, SparseLinearArgs), on the CPU. Its composition is
// Python's (vae_fast.engine.sparse_linear).
#include "bindings/arguments.h"
#include "bindings/composed.h"
#include "bindings/entry.h"
#include "bindings/products.h"

namespace vae_fast::bindings {
namespace {

constexpr const char* kName = "sparse_linear";

// The tensors of a call; the first two may require a gradient.
enum : size_t { kWeight, kBias, kVariables, kValues = kVariables, kStarts, kColumns };

using Tensors = Composed::Tensors;

// (in, out), dense: a weight that is held so is not copied.
Tensor by_inputs(const Tensor& weight) {
  return weight.t().is_contiguous() ? weight.t() : transposed(weight);
}

Tensors evaluate(const Tensors& tensors, const Tensor& upstream, int64_t want, bool log1p) {
  const Tensor &weight = tensors[kWeight], &starts = tensors[kStarts];
  Tensor values = tensors[kValues].to(weight.scalar_type());
  if (log1p) values = values.log1p();
  SparseLinearArgs args;
  args.float64 = weight.scalar_type() == at::kDouble;
  args.has_int64 = starts.scalar_type() == at::kLong;
  args.rows = starts.numel() - 1;
  args.inputs = weight.size(1);
  args.outputs = weight.size(0);
  args.starts = starts.const_data_ptr();
  args.columns = tensors[kColumns].const_data_ptr();
  args.values = values.const_data_ptr();
  if (!upstream.defined()) {
    const Tensor y = kCpu.empty({args.rows, args.outputs}, weight.scalar_type());
    tensors[kBias].defined() ? y.copy_(tensors[kBias]) : y.zero_();
    const Tensor own_weight = by_inputs(weight);
    args.weight = own_weight.const_data_ptr();
    args.y = y.mutable_data_ptr();
    cpu::sparse_linear(args, cpu_parallel_for);
    return {y, Tensor(), Tensor()};
  }
  Tensors results(1 + kVariables);
  const Tensor own_upstream = in_memory(upstream).to(weight.scalar_type()).contiguous();
  if (is_wanted(want, kWeight)) {
    const Tensor gradient = kCpu.empty({args.inputs, args.outputs}, weight.scalar_type());
    gradient.zero_();
    args.upstream = own_upstream.const_data_ptr();
    args.weight_gradient = gradient.mutable_data_ptr();
    cpu::sparse_linear(args, cpu_parallel_for);
    // As the weight lies, or autograd would copy it.
    results[1 + kWeight] = weight.t().is_contiguous() ? gradient.t() : transposed(gradient);
  }
  if (is_wanted(want, kBias)) results[1 + kBias] = own_upstream.sum(0);
  return results;
}

bool takes(const Tensors& tensors) {
  const Tensor &weight = tensors[kWeight], &bias = tensors[kBias];
  const at::ScalarType dtype = weight.scalar_type();
  return weight.is_cpu() && tensors[kValues].is_cpu() && weight.dim() == 2 && weight.numel() > 0 &&
         (dtype == at::kFloat || dtype == at::kDouble) &&
         (!bias.defined() || (bias.scalar_type() == dtype && bias.is_cpu() && bias.dim() == 1 &&
                              bias.size(0) == weight.size(0))) &&
         is_plain_csr(tensors[kStarts], tensors[kColumns], tensors[kValues]);
}

// None where the composition is to be taken.
OptionalTensor sparse_linear(const Tensor& weight, const OptionalTensor& bias, const Tensor& values,
                             const Tensor& starts, const Tensor& columns, bool log1p) {
  const Tensors tensors = {weight, bias.value_or(Tensor()), values, starts, columns};
  const Composed function = {
      kName, kVariables,
      [=](const Tensors& own, const Tensor& upstream, int64_t want) {
        return evaluate(own, upstream, want, log1p);
      },
      [=](const Tensors& own) { return composition(kName, own, {int64_t{log1p}}); }};
  if (!is_plain(function, tensors) || !takes(tensors)) return std::nullopt;
  check_csr(kName, "x", starts, columns, values, weight.size(1));
  return call_fused(function, tensors, /*in_forward=*/false);
}

}  // namespace

void register_sparse_linear(pybind11::module_& module) {
  module.def(kName, entry<&sparse_linear>());
}

}  // namespace vae_fast::bindings
