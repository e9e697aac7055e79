// The likelihoods of counts by rows: of a target in CSR, and of means that are shares of the row's
// total, as a decoder of counts gives them (kernels.h, CountArgs). Its composition is Python's
// (vae_fast.engine.counts).
#include <algorithm>
#include <array>
#include <string>

#include "bindings/arguments.h"
#include "bindings/composed.h"
#include "bindings/csr.h"
#include "bindings/entry.h"

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

at::DimVector batch_of(const Call& call, const Tensors& tensors) {
  const at::IntArrayRef batch = tensors[0].sizes().slice(0, call.batch_dims);
  return at::DimVector(batch.begin(), batch.end());
}

// ---- whether the kernel takes it ---------------------------------------------------------------

bool expands_to(const Tensor& x, at::IntArrayRef shape) {
  const int64_t missing = static_cast<int64_t>(shape.size()) - x.dim();
  if (missing < 0) return false;
  for (int64_t d = 0; d < x.dim(); ++d) {
    if (x.size(d) != 1 && x.size(d) != shape[d + missing]) return false;
  }
  return true;
}

bool has_csr_of(const Tensors& tensors, at::IntArrayRef shape, int64_t batch_dims) {
  return is_plain_csr(tensors[kStarts], tensors[kColumns], tensors[kTarget]) && batch_dims > 0 &&
         static_cast<int64_t>(shape.size()) == batch_dims + 1 &&
         tensors[kStarts].numel() == shape[batch_dims - 1] + 1;
}

// The composition says what is wrong with all else.
bool takes(const Call& call, const Tensors& tensors) {
  const at::IntArrayRef shape = tensors[0].sizes();
  if (call.batch_dims >= tensors[0].dim() || tensors[0].numel() == 0) return false;
  for (size_t k = 0; k < kTensors; ++k) {
    const Tensor& x = tensors[k];
    if (!x.defined()) continue;
    const bool is_index = k == kStarts || k == kColumns;
    const bool is_line = k == kTarget && tensors[kStarts].defined();
    if (x.device() != tensors[0].device()) return false;
    if (!is_index && !is_line && !expands_to(x, shape)) return false;
  }
  const Tensor& library = tensors[kLibrary];
  for (int64_t d = 1; library.defined() && d <= tensors[0].dim() - call.batch_dims; ++d) {
    if (d <= library.dim() && library.size(-d) != 1) return false;
  }
  return !tensors[kStarts].defined() || has_csr_of(tensors, shape, call.batch_dims);
}

// ---- the kernel --------------------------------------------------------------------------------

void add_csr(Csr& csr, const Tensors& tensors) {
  IndexSpace line(tensors[kTarget].sizes());
  line.add(csr.values, tensors[kTarget]);
  csr.starts = tensors[kStarts].const_data_ptr();
  csr.columns = tensors[kColumns].const_data_ptr();
  csr.has_int64 = tensors[kColumns].scalar_type() == at::kLong;
  csr.rows = tensors[kStarts].numel() - 1;
}

// For a device whose rows are runs: without the shape of the event, a copy only where the memory's
// order demands it.
Tensor in_row(const Tensor& x, at::IntArrayRef shape, int64_t batch_dims) {
  if (!x.defined() || static_cast<int64_t>(shape.size()) == batch_dims + 1) return x;
  at::DimVector sizes = gradient_shape(shape, x.sizes(), 0);
  const auto event = sizes.begin() + batch_dims;
  const bool is_constant = std::all_of(event, sizes.end(), [](int64_t size) { return size == 1; });
  if (!is_constant) std::copy(shape.begin() + batch_dims, shape.end(), event);
  return x.expand(sizes).flatten(batch_dims, -1);
}

// For such a device, which sums no gradients: those in the logits, and those that are to be summed,
// in the arithmetic's dtype.
TensorVector gradients_by_element(const Device& device, at::TensorList parameters,
                                  at::ScalarType arithmetic, int64_t want) {
  const at::IntArrayRef shape = parameters[0].sizes();
  TensorVector gradients;
  for (size_t k = 0; k < parameters.size(); ++k) {
    const bool is_final = k > 0 && parameters[k].sizes() == shape;
    const at::ScalarType dtype = is_final ? parameters[k].scalar_type() : arithmetic;
    gradients.push_back(
        is_wanted(want, k) ? empty_laid_out_like(device, parameters[is_final ? k : 0], shape, dtype)
                           : Tensor());
  }
  return gradients;
}

// From what a kernel made of it, in the call's shape where it is to be summed.
Tensor as_gradient_of(const Tensor& parameter, const Tensor& made, at::IntArrayRef shape) {
  const Tensor gradient = made.numel() == parameter.numel()
                              ? made.view(parameter.sizes())
                              : at::sum_to(made.view(shape), parameter.sizes());
  return gradient.to(parameter.scalar_type());
}

Tensors evaluate(const Call& call, const Tensors& tensors, const Tensor& upstream, int64_t want) {
  const Device& device = *kernels_for(tensors[0].device());
  const at::IntArrayRef shape = tensors[0].sizes();
  Tensors given = tensors;
  if (device.counts_by_element) {
    for (Tensor& x : given) x = in_row(x, shape, call.batch_dims);
  }
  const TensorVector parameters(given.begin(), given.begin() + call.parameters());
  const Tensor& library = given[kLibrary];
  TensorVector numbers = parameters;
  for (const Tensor& x : {given[kTarget], library}) {
    if (x.defined()) numbers.push_back(x);
  }
  const at::ScalarType dtype = sum_dtype(promoted_dtype(numbers));
  CountArgs args;
  args.classes = product(shape.slice(call.batch_dims));
  args.is_log = call.is_log;
  args.loss.loss = call.loss;
  args.loss.float64 = is_float64(numbers);
  args.loss.scale = mean_factor(shape, call.reduction);
  const int64_t of_parameters = want & ((int64_t{1} << parameters.size()) - 1);
  const TensorVector gradients =
      device.counts_by_element
          ? gradients_by_element(device, parameters, args.loss.float64 ? at::kDouble : at::kFloat,
                                 of_parameters)
          : allocate_gradients(device, parameters, shape, 0, of_parameters);
  const at::DimVector batch = batch_of(call, tensors);
  Tensor value = device.empty(batch, dtype);
  const Tensor to_library = is_wanted(want, kLibrary) ? device.empty(batch, dtype) : Tensor();

  IndexSpace space(given[0].sizes());
  for (size_t k = 0; k < parameters.size(); ++k) {
    space.add(args.loss.operands[k], parameters[k]);
    if (is_wanted(want, k)) space.add(args.loss.gradients[k], gradients[k]);
  }
  if (given[kStarts].defined()) {
    add_csr(args.target, given);
  } else {
    space.add(args.loss.operands[parameters.size()], given[kTarget]);
  }
  if (library.defined()) space.add(args.library, library);
  if (given[kMask].defined()) space.add(args.loss.mask, given[kMask]);
  const Tensor factor =
      upstream.defined()
          ? Reduction::align(in_arithmetic(upstream, args.loss.float64), given[0].dim())
          : upstream;
  if (factor.defined()) space.add(args.loss.upstream, factor);
  if (to_library.defined()) space.add_value(args.library_gradient, to_library);
  space.add_value(args.loss.value, value);
  space.simplify(args.loss.shape, call.batch_dims);
  device.counts(args);

  if (call.reduction.keep == 0) value = value.sum().mul_(args.loss.scale);
  Tensors results = {value};
  for (size_t k = 0; k < kVariables; ++k) {
    const bool is_made = k < parameters.size() && is_wanted(want, k);
    results.push_back(is_made ? as_gradient_of(tensors[k], gradients[k], shape) : Tensor());
  }
  if (to_library.defined()) {
    at::DimVector sizes = batch;
    sizes.resize(shape.size(), 1);
    results[1 + kLibrary] = at::sum_to(to_library.view(sizes), tensors[kLibrary].sizes());
  }
  return results;
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
  if (device.counts_by_element && !library) return std::nullopt;
  TensorVector operands(parameters.begin(), parameters.end());
  operands.push_back(starts ? target.new_empty({}) : target);
  check_operands(loss_info(call.loss), op.c_str(), operands, mask);
  if (starts && device.counts_by_element) {
    tensors[kTarget] = dense_of_csr(*starts, *columns, target, tensors[0].size(-1));
    tensors[kStarts] = tensors[kColumns] = Tensor();
  } else if (starts) {
    check_csr(op.c_str(), "target", *starts, *columns, tensors[0].size(-1));
  }
  const bool has_halves = std::any_of(parameters.begin(), parameters.end(),
                                      [](const Tensor& x) { return x.scalar_type() == at::kHalf; });
  return call_fused(function, tensors, /*in_forward=*/keep == 0 && !has_halves);
}

}  // namespace

void register_counts(pybind11::module_& module) { module.def("counts_nll", entry<&counts_nll>()); }

}  // namespace vae_fast::bindings
