// The ops of the elementwise losses, all from the list in formulas/list.h:
//
//   vae_fast::NAME(Tensor operand..., Tensor? mask, int keep, int mean_dims, int want=0)
//       -> (Tensor value, Tensor gradient...)
//
// The value is summed over the dimensions from `keep` on and divided by the sizes of the first
// `mean_dims` of them. Bit k of `want` asks for the gradient in operand k, computed in the same
// pass; the Autograd kernel asks for what it will need, so that the backward only hands it out.
//
//   vae_fast::NAME_backward(Tensor upstream, Tensor operand..., Tensor? mask, int keep,
//                           int mean_dims, int want) -> (Tensor gradient...)
//
// The gradients in the operands' shapes, times the upstream one before they are rounded. float16
// has its backward make them: rounded for an upstream gradient of one, as the forward would have
// to, they underflow or overflow where a loss is scaled.
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include <string>
#include <utility>

#include "bindings/arguments.h"
#include "bindings/autograd.h"
#include "bindings/calls.h"
#include "bindings/entry.h"
#include "calls/loss.h"
#include "calls/schemas.h"
#include "formulas/list.h"

namespace vae_fast::bindings {
namespace {

using calls::kLossCount;

// ---- the kernel, on any device -----------------------------------------------------------------

TensorVector loss_kernel(int loss, at::TensorList operands, const OptionalTensor& mask,
                         Reduction reduction, int64_t want) {
  const Device& device = *kernels_for(operands[0].device());
  const c10::DeviceGuard guard(operands[0].device());
  TensorResults results(device, 1 + operands.size());
  raising([&] {
    const auto own_mask = view_of(mask);
    calls::loss(device.kernels, {loss, reduction, want}, all_of(views_of(operands)),
                pointer_to(own_mask), results);
  });
  return results.tensors;
}

TensorVector loss_backward_kernel(int loss, const Tensor& upstream, at::TensorList operands,
                                  const OptionalTensor& mask, Reduction reduction, int64_t want) {
  const Device& device = *kernels_for(operands[0].device());
  const c10::DeviceGuard guard(operands[0].device());
  const Tensor factor = in_arithmetic(upstream, is_float64(operands));
  TensorResults results(device, operands.size());
  raising([&] {
    const auto own_mask = view_of(mask);
    calls::loss_backward(device.kernels, {loss, reduction, want}, view_of(factor),
                         all_of(views_of(operands)), pointer_to(own_mask), results);
  });
  return results.tensors;
}

// ---- Autograd ----------------------------------------------------------------------------------

// In the domain of every operand of every loss: what a masked-out element is computed on, so that
// no NaN in it reaches a derivative of any order.
constexpr double kHarmless = 0.5;

TensorVector without_masked(const TensorVector& operands, const Tensor& mask) {
  if (!mask.defined()) return operands;
  TensorVector result;
  for (const Tensor& operand : operands) {
    result.push_back(operand.is_floating_point() ? at::where(mask, operand, kHarmless) : operand);
  }
  return result;
}

bool is_float16(const Tensor& operand) { return operand.scalar_type() == at::kHalf; }

// Bits of the gradients that the forward makes, out of those that are needed: none where one would
// be rounded to less than the arithmetic's dtype before it is summed.
int64_t made_in_forward(at::TensorList operands, Reduction reduction, int64_t needed) {
  if (std::any_of(operands.begin(), operands.end(), is_float16)) return 0;
  const at::ScalarType arithmetic = is_float64(operands) ? at::kDouble : at::kFloat;
  for (size_t k = 0; k < operands.size(); ++k) {
    const bool rounds = is_wanted(needed, k) && operands[k].scalar_type() != arithmetic;
    if (rounds && broadcasts(operands[k], broadcast_shape(operands), reduction.keep)) return 0;
  }
  return needed;
}

// The gradients were computed in the forward, for an upstream gradient of one; where they were not,
// they are computed here.
class LossBackward : public NodeWithGradients {
 public:
  LossBackward(int loss, at::TensorList operands, const OptionalTensor& mask, Reduction reduction)
      : loss_(loss), reduction_(reduction) {
    for (const Tensor& operand : operands) operands_.emplace_back(operand, false);
    if (mask) mask_ = SavedVariable(*mask, false);
  }

  std::string name() const override {
    return std::string("VaeFastBackward[") + loss_info(loss_).name + "]";
  }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (SavedVariable& operand : operands_) operand.reset_data();
    mask_.reset_data();
    release_kept();
  }

  variable_list apply(variable_list&& upstream) override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!upstream[0].defined()) return variable_list(operands_.size());
    if (at::GradMode::is_enabled()) return differentiable(upstream[0]);
    return keeps_any() ? kept(operands_.size(), upstream[0]) : computed(upstream[0]);
  }

 private:
  variable_list computed(const Tensor& upstream) {
    const int64_t want = wanted_of(*this);
    const Tensor mask = mask_.unpack();
    const TensorVector gradients =
        call_loss_backward(loss_, upstream, unpacked_operands(),
                           mask.defined() ? OptionalTensor(mask) : std::nullopt, reduction_, want);
    variable_list result(operands_.size());
    for (size_t k = 0; k < operands_.size(); ++k) {
      if (is_wanted(want, k)) result[k] = gradients[k];
    }
    return result;
  }

  TensorVector unpacked_operands() {
    TensorVector operands;
    for (const SavedVariable& operand : operands_) operands.push_back(operand.unpack());
    return operands;
  }

  variable_list differentiable(const Tensor& upstream) {
    const TensorVector operands = unpacked_operands();
    const Tensor mask = mask_.unpack();
    TensorVector tensors = operands;
    tensors.push_back(mask);
    const c10::SymDimVector shape = broadcast_shape(tensors);
    const Tensor each = reduction_.spread(upstream, shape);
    TensorVector gradients =
        gradient_formula(loss_info(loss_).name, without_masked(operands, mask));
    variable_list result(operands.size());
    for (size_t k = 0; k < operands.size(); ++k) {
      if (!task_should_compute_output(k)) continue;
      result[k] = each * gradients[k];
      if (mask.defined()) result[k] = at::where(mask, result[k], 0);
    }
    return result;
  }

  int loss_;
  Reduction reduction_;
  c10::SmallVector<SavedVariable, kMaxOperands> operands_;
  SavedVariable mask_;
};

TensorVector loss_autograd(int loss, at::TensorList operands, const OptionalTensor& mask,
                           Reduction reduction, int64_t want) {
  const int64_t needed = requiring_gradient(operands);
  const int64_t made = made_in_forward(operands, reduction, needed);
  c10::intrusive_ptr<LossBackward> node;
  if (needed != 0) {
    node = c10::make_intrusive<LossBackward>(loss, operands, mask, reduction);
    connect(*node, operands);
  }
  TensorVector results;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    results = call_loss(loss, operands, mask, reduction, want | made);
  }
  if (node) {
    torch::autograd::set_history(results[0], node);
    for (size_t k = 0; k < operands.size(); ++k) {
      if (is_wanted(made, k)) node->keep(k, results[k + 1]);
    }
    announce(node);
  }
  if (any_tangent(operands)) {
    results[0]._set_fw_grad(loss_tangent(loss, operands, mask, reduction), /*level=*/0,
                            /*is_inplace_op=*/false);
  }
  return results;
}

// ---- Autocast ----------------------------------------------------------------------------------

// The kernels read any dtype and compute in float32: nothing needs casting on the way in, and only
// an elementwise value on the way out.
TensorVector loss_autocast(int loss, at::TensorList operands, const OptionalTensor& mask,
                           Reduction reduction, int64_t want) {
  const c10::impl::ExcludeDispatchKeyGuard guard(
      at::autocast::get_autocast_dispatch_key_from_device_type(operands[0].device().type()));
  TensorVector results = call_loss(loss, operands, mask, reduction, want);
  if (results[0].scalar_type() != at::kDouble) results[0] = results[0].to(at::kFloat);
  return results;
}

// ---- one typed op per loss ---------------------------------------------------------------------

template <class T, size_t>
using Each = T;

template <size_t... I, class Vector>
auto to_tuple(const Vector& tensors, std::index_sequence<I...>) {
  return std::make_tuple(tensors[I]...);
}

template <class Formula, class Indices>
struct LossOp;

// A kernel's signature with the operands spelled out, around the generic kernel.
template <class Formula, size_t... I>
struct LossOp<Formula, std::index_sequence<I...>> {
  using Results = std::tuple<Tensor, Each<Tensor, I>...>;
  using Signature = Results(Each<const Tensor&, I>..., const OptionalTensor&, int64_t, int64_t,
                            int64_t);
  using Kernel = TensorVector (*)(int, at::TensorList, const OptionalTensor&, Reduction, int64_t);
  using Gradients = std::tuple<Each<Tensor, I>...>;
  using BackwardSignature = Gradients(const Tensor&, Each<const Tensor&, I>...,
                                      const OptionalTensor&, int64_t, int64_t, int64_t);
  using BackwardKernel = TensorVector (*)(int, const Tensor&, at::TensorList, const OptionalTensor&,
                                          Reduction, int64_t);

  static constexpr int kLoss = kLossIndex<Formula>;

  static Results tuple_of(const TensorVector& results) {
    return to_tuple(results, std::make_index_sequence<sizeof...(I) + 1>{});
  }

  template <Kernel kernel>
  static Results wrap(Each<const Tensor&, I>... operands, const OptionalTensor& mask, int64_t keep,
                      int64_t mean, int64_t want) {
    return tuple_of(kernel(kLoss, {operands...}, mask, {keep, mean}, want));
  }

  template <BackwardKernel kernel>
  static Gradients wrap_backward(const Tensor& upstream, Each<const Tensor&, I>... operands,
                                 const OptionalTensor& mask, int64_t keep, int64_t mean,
                                 int64_t want) {
    return to_tuple(kernel(kLoss, upstream, {operands...}, mask, {keep, mean}, want),
                    std::index_sequence<I...>{});
  }

  static std::string backward_name() { return std::string(Formula::kName) + "_backward"; }

  static Results call(Each<const Tensor&, I>... operands, const OptionalTensor& mask, int64_t keep,
                      int64_t mean, int64_t want) {
    static const auto op =
        op_handle<Signature>((std::string("vae_fast::") + Formula::kName).c_str());
    return op.call(operands..., mask, keep, mean, want);
  }

  static TensorVector call_list(at::TensorList operands, const OptionalTensor& mask,
                                Reduction reduction, int64_t want) {
    return std::apply([](const auto&... result) { return TensorVector{result...}; },
                      call(operands[I]..., mask, reduction.keep, reduction.mean, want));
  }

  static TensorVector call_backward(const Tensor& upstream, at::TensorList operands,
                                    const OptionalTensor& mask, Reduction reduction, int64_t want) {
    static const auto op = op_handle<BackwardSignature>(("vae_fast::" + backward_name()).c_str());
    return std::apply(
        [](const auto&... gradient) { return TensorVector{gradient...}; },
        op.call(upstream, operands[I]..., mask, reduction.keep, reduction.mean, want));
  }

  static Tensor python_entry(Each<const Tensor&, I>... operands, const OptionalTensor& mask,
                             int64_t keep, int64_t mean, int64_t batch_dims) {
    check_public_shapes(loss_info(kLoss), {operands...}, mask, batch_dims);
    return std::get<0>(call(operands..., mask, keep, mean, 0));
  }
};

template <class Formula>
using Op = LossOp<Formula, std::make_index_sequence<kOperandCount<Formula>>>;

template <class... Formula>
TensorVector call_in_list(FormulaList<Formula...>, int loss, at::TensorList operands,
                          const OptionalTensor& mask, Reduction reduction, int64_t want) {
  static constexpr decltype(&Op<BernoulliNll>::call_list) kCalls[] = {Op<Formula>::call_list...};
  return kCalls[loss](operands, mask, reduction, want);
}

template <class... Formula>
TensorVector call_backward_in_list(FormulaList<Formula...>, int loss, const Tensor& upstream,
                                   at::TensorList operands, const OptionalTensor& mask,
                                   Reduction reduction, int64_t want) {
  static constexpr decltype(&Op<BernoulliNll>::call_backward) kCalls[] = {
      Op<Formula>::call_backward...};
  return kCalls[loss](upstream, operands, mask, reduction, want);
}

template <auto kernel, class... Formula>
void implement_all(torch::Library& library, FormulaList<Formula...>) {
  (library.impl(Formula::kName, &Op<Formula>::template wrap<kernel>), ...);
}

template <auto kernel, class... Formula>
void implement_all_backward(torch::Library& library, FormulaList<Formula...>) {
  (library.impl(Op<Formula>::backward_name().c_str(), &Op<Formula>::template wrap_backward<kernel>),
   ...);
}

template <class... Formula>
void bind_all(pybind11::module_& module, FormulaList<Formula...>) {
  (module.def(Formula::kName, entry<&Op<Formula>::python_entry>()), ...);
}

}  // namespace

TensorVector call_loss(int loss, at::TensorList operands, const OptionalTensor& mask,
                       Reduction reduction, int64_t want) {
  return call_in_list(Losses{}, loss, operands, mask, reduction, want);
}

TensorVector call_loss_backward(int loss, const Tensor& upstream, at::TensorList operands,
                                const OptionalTensor& mask, Reduction reduction, int64_t want) {
  return call_backward_in_list(Losses{}, loss, upstream, operands, mask, reduction, want);
}

Tensor loss_tangent(int loss, at::TensorList operands, const OptionalTensor& mask,
                    Reduction reduction) {
  TensorVector primals;
  for (const Tensor& operand : operands) primals.push_back(primal_of(operand));
  const TensorVector gradients =
      gradient_formula(loss_info(loss).name, without_masked(primals, mask.value_or(Tensor())));
  Tensor sum = weighted_tangents(gradients, operands);
  if (mask) {
    sum = at::where(*mask, sum, 0);
    primals.push_back(*mask);
  }
  return reduction.reduce(sum, broadcast_shape(primals));
}

void implement_losses(torch::Library& library) {
  implement_all<&loss_kernel>(library, Losses{});
  implement_all_backward<&loss_backward_kernel>(library, Losses{});
}

void implement_losses_in_autocast(torch::Library& library) {
  implement_all<&loss_autocast>(library, Losses{});
}

void register_losses(pybind11::module_& module) {
  bind_all(module, Losses{});
  pybind11::dict losses;
  for (int loss = 0; loss < kLossCount; ++loss) {
    const LossInfo& info = loss_info(loss);
    pybind11::tuple operands(info.operand_count);
    for (int k = 0; k < info.operand_count; ++k) operands[k] = info.operands[k];
    losses[info.name] = operands;
  }
  module.attr("LOSSES") = losses;
}

TORCH_LIBRARY_FRAGMENT(vae_fast, library) {
  library.set_python_module("vae_fast.engine.fakes");  // the very module that registers them
  for (const std::string& schema : calls::loss_schemas()) {
    library.def(schema.c_str(), {at::Tag::pt2_compliant_tag});
  }
}

TORCH_LIBRARY_IMPL(vae_fast, CPU, library) { implement_losses(library); }

TORCH_LIBRARY_IMPL(vae_fast, Autograd, library) {
  implement_all<&loss_autograd>(library, Losses{});
}

TORCH_LIBRARY_IMPL(vae_fast, AutocastCPU, library) { implement_losses_in_autocast(library); }

}  // namespace vae_fast::bindings
