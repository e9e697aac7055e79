// The kernels of the multinomial likelihood as ops:
//
//   vae_fast::multinomial_rows(Tensor logits, Tensor target, float scale, bool want)
//       -> (Tensor value, Tensor grad_logits)
//   vae_fast::multinomial_rows_(Tensor(a!) logits, Tensor target, float scale) -> Tensor value
//   vae_fast::multinomial_rows_backward(Tensor upstream, Tensor logits, Tensor target, float scale)
//       -> Tensor grad_logits
//
// A value for each row, of the sizes but the last, and the gradient in the logits times `scale`:
// where `want` asks for it, or, in the second one, in place of the logits. Neither is
// differentiable by itself: vae_fast/multinomial.py gives them autograd. The last one is float16's:
// times an upstream gradient for each row before it is rounded.
#include <ATen/MemoryOverlap.h>
#include <torch/library.h>

#include <tuple>

#include "bindings/arguments.h"

namespace vae_fast::bindings {
namespace {

constexpr const char* kName = "multinomial_nll";
constexpr const char* kOperands[] = {"logits", "target"};
constexpr LossInfo kInfo{kName, kOperands, 2, true};

at::DimVector check_rows(const Tensor& logits, const Tensor& target) {
  const at::DimVector shape = check_operands(kInfo, kName, {logits, target}, std::nullopt);
  TORCH_CHECK_VALUE(!shape.empty(), kName, ": logits have no dimension of classes");
  TORCH_CHECK_VALUE(logits.sizes() == target.sizes(), kName, ": target has shape ", target.sizes(),
                    ", expected that of logits ", logits.sizes());
  return shape;
}

// `gradient`: undefined where it is not wanted; `upstream`: where there is none.
template <const Device& device>
Tensor evaluate_rows(const Tensor& logits, const Tensor& target, double scale,
                     const Tensor& gradient, const Tensor& upstream = {}) {
  const at::DimVector shape = check_rows(logits, target);
  const at::ScalarType dtype = sum_dtype(promoted_dtype({logits, target}));
  if (gradient.is_same(logits)) {
    at::assert_no_internal_overlap(logits);
    at::assert_no_overlap(logits, target);
  }
  Tensor value = device.empty(at::IntArrayRef(shape).slice(0, shape.size() - 1), dtype);
  if (product(shape) == 0) return value.zero_();

  MultinomialArgs args;
  args.float64 = dtype == at::kDouble;
  args.classes = shape.back();
  args.scale = scale;
  IndexSpace space(shape);
  space.add(args.logits, logits);
  space.add(args.target, target);
  if (upstream.defined()) space.add(args.upstream, upstream);
  if (gradient.defined()) space.add(args.gradient, gradient);
  space.add_value(args.value, value);
  space.simplify(args.shape, static_cast<int64_t>(shape.size()));
  device.multinomial(args);
  return value;
}

template <const Device& device>
std::tuple<Tensor, Tensor> multinomial_rows(const Tensor& logits, const Tensor& target,
                                            double scale, bool want) {
  const c10::DeviceGuard guard(logits.device());
  if (!want) {
    return {evaluate_rows<device>(logits, target, scale, Tensor()),
            device.empty({0}, logits.scalar_type())};
  }
  Tensor gradient = empty_gradient(device, logits, logits.sizes());
  return {evaluate_rows<device>(logits, target, scale, gradient), gradient};
}

template <const Device& device>
Tensor multinomial_rows_in_place(Tensor& logits, const Tensor& target, double scale) {
  const c10::DeviceGuard guard(logits.device());
  return evaluate_rows<device>(logits, target, scale, logits);
}

template <const Device& device>
Tensor multinomial_rows_backward(const Tensor& upstream, const Tensor& logits, const Tensor& target,
                                 double scale) {
  const at::DimVector shape = check_rows(logits, target);
  check_gradient(kName, "upstream", upstream, at::IntArrayRef(shape).slice(0, shape.size() - 1),
                 logits.device());
  const c10::DeviceGuard guard(logits.device());
  Tensor gradient = empty_gradient(device, logits, logits.sizes());
  const Tensor factor = in_arithmetic(upstream, is_float64({logits, target}));
  evaluate_rows<device>(logits, target, scale, gradient, factor.unsqueeze(-1));
  return gradient;
}

template <const Device& device>
void register_kernels(torch::Library& library) {
  library.impl("multinomial_rows", &multinomial_rows<device>);
  library.impl("multinomial_rows_", &multinomial_rows_in_place<device>);
  library.impl("multinomial_rows_backward", &multinomial_rows_backward<device>);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(vae_fast, library) {
  library.set_python_module("vae_fast._rules");
  library.def(
      "multinomial_rows(Tensor logits, Tensor target, float scale, bool want)"
      " -> (Tensor value, Tensor grad_logits)",
      {at::Tag::pt2_compliant_tag});
  library.def("multinomial_rows_(Tensor(a!) logits, Tensor target, float scale) -> Tensor value",
              {at::Tag::pt2_compliant_tag});
  library.def(
      "multinomial_rows_backward(Tensor upstream, Tensor logits, Tensor target, float scale)"
      " -> Tensor grad_logits",
      {at::Tag::pt2_compliant_tag});
}

TORCH_LIBRARY_IMPL(vae_fast, CPU, library) { register_kernels<kCpu>(library); }

#ifdef VAE_FAST_CUDA_RELEASE
TORCH_LIBRARY_IMPL(vae_fast, CUDA, library) { register_kernels<kCuda>(library); }
#endif

}  // namespace vae_fast::bindings
