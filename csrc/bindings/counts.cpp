// The likelihoods of counts by rows: of a target in CSR, and of means that are shares of the row's
// total, as a decoder of counts gives them (kernels.h, CountArgs). Its composition is Python's
// (vae_fast.engine.counts).
#include <algorithm>
#include <string>

#include "bindings/arguments.h"
#include "bindings/composed.h"
#include "bindings/entry.h"
#include "calls/counts.h"

namespace vae_fast::bindings {
namespace {

constexpr size_t kMaxParameters = kMaxOperands - 1;

// The tensors of a call, undefined where they are not given.
enum : size_t {
  // ... the parameters
  kLibrary =
      kMaxParameters,    // (*batch, 1...) or broadcasts to that; the first parameter are logits
  kVariables,            // what may require a gradient
  kTarget = kVariables,  // of the first parameter's shape, or the values of CSR
  kStarts,
  kColumns,
  kMask,
  kTensors
};

struct Call {
  int loss;
  int64_t batch_dims;
  Reduction reduction;
  bool is_log;

  size_t parameters() const { return static_cast<size_t>(loss_info(loss).operand_count) - 1; }
};

using Tensors = Composed::Tensors;

// For a device whose rows are runs: without the shape of the event, a copy only where the memory's
// order demands it.
Tensor in_row(const Tensor& x, at::IntArrayRef shape, int64_t batch_dims) {
  if (!x.defined() || static_cast<int64_t>(shape.size()) == batch_dims + 1) return x;
  std::vector<int64_t> sizes(shape.size() - x.dim(), 1);
  sizes.insert(sizes.end(), x.sizes().begin(), x.sizes().end());
  const auto event = sizes.begin() + batch_dims;
  const bool is_constant = std::all_of(event, sizes.end(), [](int64_t size) { return size == 1; });
  if (!is_constant) std::copy(shape.begin() + batch_dims, shape.end(), event);
  return x.expand(sizes).flatten(batch_dims, -1);
}

// From what such a device made of it, in the call's shape where it is to be summed.
Tensor as_gradient_of(const Tensor& variable, const Tensor& made, at::IntArrayRef shape) {
  const Tensor gradient = made.numel() == variable.numel()
                              ? made.view(variable.sizes())
                              : at::sum_to(made.view(shape), variable.sizes());
  return gradient.to(variable.scalar_type());
}

// The tensors of a call as views, which live as long as this.
struct Given {
  Given(const Tensors& tensors, const Tensor& factor, size_t parameter_count)
      : parameters(views_of({tensors.data(), parameter_count})),
        library(view_of(given(tensors[kLibrary]))),
        target(view_of(tensors[kTarget])),
        starts(view_of(given(tensors[kStarts]))),
        columns(view_of(given(tensors[kColumns]))),
        mask(view_of(given(tensors[kMask]))),
        upstream(view_of(given(factor))) {}

  calls::CountsTensors views() const {
    return {all_of(parameters),  pointer_to(library), target,
            pointer_to(starts),  pointer_to(columns), pointer_to(mask),
            pointer_to(upstream)};
  }

  ViewVector parameters;
  std::optional<calls::View> library;
  calls::View target;
  std::optional<calls::View> starts, columns, mask, upstream;
};

// The composition says what is wrong with all else.
bool takes(const Call& call, const Tensors& tensors) {
  return calls::takes(Given(tensors, Tensor(), call.parameters()).views(), call.batch_dims);
}

Tensors evaluate(const Call& call, const Tensors& tensors, const Tensor& upstream, int64_t want) {
  const Device& device = *kernels_for(tensors[0].device());
  const at::IntArrayRef shape = tensors[0].sizes();
  const bool by_element = device.kernels.counts_by_element;
  Tensors given = tensors;
  if (by_element) {
    for (Tensor& x : given) x = in_row(x, shape, call.batch_dims);
  }
  const size_t count = call.parameters();
  std::vector<Tensor> numbers(tensors.begin(), tensors.begin() + count);
  for (const Tensor& x : {tensors[kTarget], tensors[kLibrary]}) {
    if (x.defined()) numbers.push_back(x);
  }
  const Tensor factor =
      upstream.defined() ? in_arithmetic(upstream, is_float64(numbers)) : upstream;
  const int64_t of_parameters = want & ((int64_t{1} << count) - 1);
  const int64_t of_library = int64_t{is_wanted(want, kLibrary)} << count;
  TensorResults results(device, count + 2);
  raising([&] {
    calls::counts(device.kernels,
                  {.loss = call.loss,
                   .batch_dims = call.batch_dims,
                   .is_summed = call.reduction.keep == 0,
                   .scale = calls::mean_factor(span_of(shape), call.reduction),
                   .is_log = call.is_log,
                   .want = of_parameters | of_library},
                  Given(given, factor, count).views(), results);
  });
  Tensors made = {results.tensors[0]};
  made.resize(1 + kVariables);
  const auto take = [&](size_t variable, size_t result) {
    if (!is_wanted(want, variable)) return;
    Tensor& gradient = results.tensors[result];
    made[1 + variable] =
        by_element ? as_gradient_of(tensors[variable], gradient, shape) : std::move(gradient);
  };
  for (size_t k = 0; k < count; ++k) take(k, 1 + k);
  take(kLibrary, 1 + count);
  return made;
}

// The table, (rows, width), as torch makes it dense. Not checked: to look at the indices would be
// to wait for their device.
Tensor dense_of_csr(const Tensor& starts, const Tensor& columns, const Tensor& values,
                    int64_t width) {
  return at::_sparse_csr_tensor_unsafe(starts, columns, values, {starts.numel() - 1, width},
                                       values.scalar_type(), at::kSparseCsr, values.device(),
                                       /*pin_memory=*/false)
      .to_dense();
}

Composed composed(const Call& call) {
  return {"counts_nll", kVariables,
          [=](const Tensors& tensors, const Tensor& upstream, int64_t want) {
            return evaluate(call, tensors, upstream, want);
          },
          [=](const Tensors& tensors) {
            return composition("counts_nll", tensors,
                               {call.loss, call.batch_dims, call.reduction.keep,
                                call.reduction.mean, int64_t{call.is_log}});
          }};
}

// ---- Python ------------------------------------------------------------------------------------

// None where the composition is to be taken.
OptionalTensor counts_nll(const std::string& op, const std::vector<Tensor>& parameters,
                          const OptionalTensor& library, const Tensor& target,
                          const OptionalTensor& starts, const OptionalTensor& columns,
                          const OptionalTensor& mask, int64_t batch_dims, int64_t keep,
                          int64_t mean, bool is_log) {
  const Call call{loss_named(op), batch_dims, {keep, mean}, is_log};
  TORCH_INTERNAL_ASSERT(parameters.size() == call.parameters());
  Tensors tensors = parameters;
  tensors.resize(kMaxParameters);
  for (const OptionalTensor& x : {library, OptionalTensor(target), starts, columns, mask}) {
    tensors.push_back(x.value_or(Tensor()));
  }
  const Composed function = composed(call);
  if (!is_plain(function, tensors) || !takes(call, tensors)) return std::nullopt;
  const Device& device = *kernels_for(tensors[0].device());
  // Of what is not shares of a total, the composition is one kernel as well.
  if (device.kernels.counts_by_element && !library) return std::nullopt;
  TensorVector operands(parameters.begin(), parameters.end());
  operands.push_back(starts ? target.new_empty({}) : target);
  raising([&] {
    const auto own_mask = view_of(mask);
    calls::check_operands(loss_info(call.loss), op.c_str(), all_of(views_of(operands)),
                          pointer_to(own_mask));
  });
  if (starts && device.kernels.counts_by_element) {
    tensors[kTarget] = dense_of_csr(*starts, *columns, target, tensors[0].size(-1));
    tensors[kStarts] = tensors[kColumns] = Tensor();
  } else if (starts) {
    check_csr(op.c_str(), "target", *starts, *columns, target, tensors[0].size(-1));
  }
  const bool has_halves = std::any_of(parameters.begin(), parameters.end(),
                                      [](const Tensor& x) { return x.scalar_type() == at::kHalf; });
  return call_fused(function, tensors, /*in_forward=*/keep == 0 && !has_halves);
}

}  // namespace

void register_counts(pybind11::module_& module) { module.def("counts_nll", entry<&counts_nll>()); }

}  // namespace vae_fast::bindings
