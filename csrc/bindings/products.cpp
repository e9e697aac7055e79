// On AMD's processors with AVX-512, Intel's library, by which torch multiplies, uses registers half
// as wide as there are. oneDNN, which torch has for convolutions and for its compiler's code, does
// not ask who made the processor.
#include "bindings/products.h"

#include <ATen/Context.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

#include <algorithm>
#include <array>
#include <atomic>

#include "bindings/device.h"

namespace vae_fast::bindings {
namespace {

using Scalars = c10::List<std::optional<at::Scalar>>;
// x, weight, bias, what is fused behind the product, and how.
using Signature = Tensor(const Tensor&, const Tensor&, const OptionalTensor&, std::string_view,
                         Scalars, std::optional<std::string_view>);
using Onednn = c10::TypedOperatorHandle<Signature>;

// Multiply-adds below which setting oneDNN up costs more than it saves.
constexpr int64_t kWorthIt = int64_t{1} << 22;
// For a product whose left side must be transposed first: columns that it takes to make up for
// that.
constexpr int64_t kWorthTransposing = 128;

bool is_faster_here() {
#if defined(__x86_64__)
  return __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512f");
#else
  return false;
#endif
}

// The op by its name. It is torch's own: a release of torch may leave it out, or change what it
// takes. Nothing then, and torch's other library multiplies.
std::optional<Onednn> find_op(const char* name) {
  const auto handle = c10::Dispatcher::singleton().findSchema({name, ""});
  if (!handle) return std::nullopt;
  constexpr std::array kTypes = {"Tensor", "Tensor", "Tensor?", "str", "Scalar?[]", "str?"};
  const auto& arguments = handle->schema().arguments();
  const auto fits = [](const c10::Argument& argument, const char* type) {
    return argument.type()->str() == type && argument.alias_info() == nullptr;
  };
  if (!std::equal(arguments.begin(), arguments.end(), kTypes.begin(), kTypes.end(), fits)) {
    return std::nullopt;
  }
  const auto& returns = handle->schema().returns();
  if (returns.size() != 1 || returns[0].type()->str() != "Tensor") return std::nullopt;
  return handle->typed<Signature>();
}

constexpr const char* kOnednnOp = "mkldnn::_linear_pointwise";

const Onednn* find_onednn() {
  static const std::optional<Onednn> op = find_op(kOnednnOp);
  return op ? &*op : nullptr;
}

std::atomic<bool>& is_wanted() {
  static std::atomic<bool> wanted = is_faster_here();
  return wanted;
}

bool pays(const Tensor& x, int64_t rows, int64_t inputs, int64_t outputs) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && rows * inputs * outputs >= kWorthIt &&
         uses_onednn();
}

// x (rows, in), weight (out, in), bias (out,): x weight^T + bias. The op takes a weight as it lies,
// transposed too, but need not know of one whose elements share memory; x it copies if it must.
Tensor by_onednn(const Tensor& x, const Tensor& weight, const OptionalTensor& bias) {
  const Tensor whole = weight.is_non_overlapping_and_dense() ? weight : weight.contiguous();
  return find_onednn()->call(x, whole, bias, "none", Scalars(), std::nullopt);
}

bool weight_gradient_pays(const Tensor& gradient, const Tensor& x) {
  const int64_t inputs = x.size(1), outputs = gradient.size(1);
  return std::min(inputs, outputs) >= kWorthTransposing && pays(x, x.size(0), inputs, outputs);
}

Tensor weight_gradient_by_onednn(const Tensor& gradient, const Tensor& x) {
  return by_onednn(transposed(gradient), x.t(), std::nullopt);
}

}  // namespace

Tensor transposed(const Tensor& x) {
  if (x.scalar_type() != at::kFloat) return x.t().contiguous();
  const Tensor values = in_memory(x);
  const Tensor rows = values.stride(1) == 1 ? values : values.contiguous();
  Tensor result = at::empty({x.size(1), x.size(0)}, x.options());
  cpu::transpose(rows.const_data_ptr<float>(), x.size(0), x.size(1), rows.stride(0),
                 result.mutable_data_ptr<float>(), cpu_parallel_for);
  return result;
}

bool uses_onednn() {
  return is_wanted() && find_onednn() != nullptr && at::globalContext().userEnabledMkldnn();
}

void set_uses_onednn(bool wanted) { is_wanted() = wanted; }

Tensor layer_output(const Tensor& x, const Tensor& weight, const OptionalTensor& bias) {
  if (pays(x, x.size(0), x.size(1), weight.size(0))) return by_onednn(x, weight, bias);
  return bias ? at::addmm(*bias, x, weight.t()) : at::mm(x, weight.t());
}

Tensor input_gradient(const Tensor& gradient, const Tensor& weight) {
  if (pays(gradient, gradient.size(0), weight.size(0), weight.size(1))) {
    return by_onednn(gradient, weight.t(), std::nullopt);
  }
  return at::mm(gradient, weight);
}

Tensor weight_gradient(const Tensor& gradient, const Tensor& x) {
  return weight_gradient_pays(gradient, x) ? weight_gradient_by_onednn(gradient, x)
                                           : at::mm(gradient.t(), x);
}

void write_weight_gradient(Tensor out, const Tensor& gradient, const Tensor& x, bool add) {
  if (weight_gradient_pays(gradient, x)) {
    const Tensor result = weight_gradient_by_onednn(gradient, x);
    add ? out.add_(result) : out.copy_(result);
  } else if (add) {
    out.addmm_(gradient.t(), x);
  } else {
    at::mm_out(out, gradient.t(), x);
  }
}

void register_products(pybind11::module_& module) {
  module.def("layer_output", torch::wrap_pybind_function_no_gil(&layer_output));
  module.def("input_gradient", torch::wrap_pybind_function_no_gil(&input_gradient));
  module.def("weight_gradient", torch::wrap_pybind_function_no_gil(&weight_gradient));
  module.def("write_weight_gradient", torch::wrap_pybind_function_no_gil(&write_weight_gradient));
  module.def("uses_onednn", &uses_onednn);
  module.def("is_onednn_product", [](const char* op) { return find_op(op).has_value(); });
  module.attr("ONEDNN_PRODUCT") = kOnednnOp;
  module.def("set_uses_onednn", &set_uses_onednn);
}

}  // namespace vae_fast::bindings
