// The op of the multinomial likelihood, whose softmax couples the elements of a row:
//
//   vae_fast::multinomial_nll(Tensor logits, Tensor target, int keep, int mean_dims,
//                             int want=0) -> (Tensor value, Tensor grad_logits)
//   vae_fast::multinomial_nll_backward(Tensor upstream, Tensor logits, Tensor target, int keep,
//                                      int mean_dims) -> Tensor grad_logits
//
// As the ops of the elementwise losses (losses.cpp), but that logits and target have one shape, at
// least the last dimension is summed, and the kernels have only the gradient in the logits: the one
// in the target is that of the formula in torch's own ops, and of `want` only the first bit counts.
#include <torch/library.h>

#include <string>
#include <tuple>

#include "bindings/arguments.h"
#include "bindings/calls.h"
#include "bindings/entry.h"
#include "calls/multinomial.h"
#include "calls/schemas.h"

namespace vae_fast::bindings {
namespace {

constexpr const char* kName = "multinomial_nll";
constexpr const char* kOperands[] = {"logits", "target"};
constexpr LossInfo kInfo{kName, kOperands, 2, Target::kNumber};

using Results = std::tuple<Tensor, Tensor>;
using Signature = Results(const Tensor&, const Tensor&, int64_t, int64_t, int64_t);
using BackwardSignature = Tensor(const Tensor&, const Tensor&, const Tensor&, int64_t, int64_t);

// ---- the kernel, on any device -----------------------------------------------------------------

Results multinomial_kernel(const Tensor& logits, const Tensor& target, int64_t keep, int64_t mean,
                           int64_t want) {
  const Device& device = *kernels_for(logits.device());
  const c10::DeviceGuard guard(logits.device());
  TensorResults results(device, 2);
  raising([&] {
    calls::multinomial(device.kernels, view_of(logits), view_of(target), {keep, mean},
                       is_wanted(want, 0), results);
  });
  return {results.tensors[0], results.tensors[1]};
}

Tensor multinomial_backward_kernel(const Tensor& upstream, const Tensor& logits,
                                   const Tensor& target, int64_t keep, int64_t mean) {
  const Device& device = *kernels_for(logits.device());
  const c10::DeviceGuard guard(logits.device());
  const Tensor factor = in_arithmetic(upstream, is_float64({logits, target}));
  TensorResults results(device, 2);
  raising([&] {
    calls::multinomial_backward(device.kernels, view_of(factor), view_of(logits), view_of(target),
                                {keep, mean}, results);
  });
  return results.tensors[0];
}

// ---- Autograd ----------------------------------------------------------------------------------

Tensor call_backward(const Tensor& upstream, const Tensor& logits, const Tensor& target,
                     Reduction reduction) {
  static const auto op = op_handle<BackwardSignature>("vae_fast::multinomial_nll_backward");
  return op.call(upstream, logits, target, reduction.keep, reduction.mean);
}

// The gradient in the logits was computed in the forward, for an upstream gradient of one; but for
// float16 it is computed here, times the upstream one before it is rounded.
class MultinomialBackward : public NodeWithGradients {
 public:
  MultinomialBackward(const Tensor& logits, const Tensor& target, Reduction reduction)
      : reduction_(reduction), logits_(logits, false), target_(target, false) {}

  std::string name() const override { return std::string("VaeFastBackward[") + kName + "]"; }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (SavedVariable* saved : {&logits_, &target_}) saved->reset_data();
    release_kept();
  }

  variable_list apply(variable_list&& upstream) override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!upstream[0].defined()) return variable_list(2);
    if (at::GradMode::is_enabled() || task_should_compute_output(1)) {
      return differentiable(upstream[0]);
    }
    if (keeps_any()) return kept(2, upstream[0]);
    variable_list result(2);
    if (task_should_compute_output(0)) {
      result[0] = call_backward(upstream[0], logits_.unpack(), target_.unpack(), reduction_);
    }
    return result;
  }

 private:
  variable_list differentiable(const Tensor& upstream) {
    const Tensor logits = logits_.unpack();
    const TensorVector gradients = gradient_formula(kName, {logits, target_.unpack()});
    const Tensor each = reduction_.spread(upstream, logits.sym_sizes());
    variable_list result(2);
    for (size_t k = 0; k < 2; ++k) {
      if (task_should_compute_output(k)) result[k] = each * gradients[k];
    }
    return result;
  }

  Reduction reduction_;
  SavedVariable logits_, target_;
};

Tensor tangent(const Tensor& logits, const Tensor& target, Reduction reduction) {
  const TensorVector gradients = gradient_formula(kName, {primal_of(logits), primal_of(target)});
  const Tensor sum = weighted_tangents(gradients, {logits, target});
  return reduction.reduce(sum, logits.sym_sizes());
}

Results multinomial_autograd(const Tensor& logits, const Tensor& target, int64_t keep, int64_t mean,
                             int64_t want) {
  const Reduction reduction{keep, mean};
  const int64_t needed = requiring_gradient({logits, target});
  const bool is_made = is_wanted(needed, 0) && logits.scalar_type() != at::kHalf;
  c10::intrusive_ptr<MultinomialBackward> node;
  if (needed != 0) {
    node = c10::make_intrusive<MultinomialBackward>(logits, target, reduction);
    connect(*node, {logits, target});
  }
  Tensor value, gradient;
  {
    const at::AutoDispatchBelowADInplaceOrView guard;
    std::tie(value, gradient) =
        call_multinomial(logits, target, reduction, want | int64_t{is_made});
  }
  if (node) {
    torch::autograd::set_history(value, node);
    if (is_made) node->keep(0, gradient);
    announce(node);
  }
  if (any_tangent({logits, target})) {
    value._set_fw_grad(tangent(logits, target, reduction), /*level=*/0, /*is_inplace_op=*/false);
  }
  return {value, gradient};
}

// ---- Python ------------------------------------------------------------------------------------

Tensor python_entry(const Tensor& logits, const Tensor& target, int64_t keep, int64_t mean,
                    int64_t batch_dims) {
  check_public_shapes(kInfo, {logits, target}, std::nullopt, batch_dims);
  TORCH_CHECK_VALUE(batch_dims < logits.dim(), kName, ": there is no dimension of classes");
  const bool has_shape = logits.dim() == target.dim();
  return std::get<0>(call_multinomial(
      logits, has_shape ? target : target.expand_symint(logits.sym_sizes()), {keep, mean}, 0));
}

}  // namespace

Results call_multinomial(const Tensor& logits, const Tensor& target, Reduction reduction,
                         int64_t want) {
  static const auto op = op_handle<Signature>("vae_fast::multinomial_nll");
  return op.call(logits, target, reduction.keep, reduction.mean, want);
}

Tensor multinomial_rows(const Tensor& logits, const Tensor& target, double scale, bool in_place,
                        const Tensor& upstream) {
  const Device& device = *kernels_for(logits.device());
  const Tensor own_target = in_memory(target);
  Tensor factor = upstream;
  if (factor.defined()) {
    factor = in_memory(in_arithmetic(factor, is_float64({logits, target})));
  }
  TensorResults results(device, 1);
  raising([&] {
    const auto own_factor = view_of(given(factor));
    calls::multinomial_rows(device.kernels, view_of(logits), view_of(own_target), scale, in_place,
                            pointer_to(own_factor), results);
  });
  return results.tensors[0];
}

void implement_multinomial(torch::Library& library) {
  library.impl("multinomial_nll", &multinomial_kernel);
  library.impl("multinomial_nll_backward", &multinomial_backward_kernel);
}

void register_multinomial(pybind11::module_& module) { module.def(kName, entry<&python_entry>()); }

TORCH_LIBRARY_FRAGMENT(vae_fast, library) {
  library.set_python_module("vae_fast.engine.fakes");
  for (const char* schema : calls::kMultinomialSchemas) {
    library.def(schema, {at::Tag::pt2_compliant_tag});
  }
}

TORCH_LIBRARY_IMPL(vae_fast, CPU, library) { implement_multinomial(library); }

TORCH_LIBRARY_IMPL(vae_fast, Autograd, library) {
  library.impl("multinomial_nll", &multinomial_autograd);
}

}  // namespace vae_fast::bindings
