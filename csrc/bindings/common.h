// What every binding file needs: names and the dispatcher's typed handles.
// The files of this folder are the only ones that know torch.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/SmallVector.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "calls/checks.h"
#include "kernels.h"

namespace vae_fast::bindings {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using OptionalGenerator = std::optional<at::Generator>;

inline OptionalTensor given(const Tensor& x) {
  return x.defined() ? OptionalTensor(x) : std::nullopt;
}

// A value and a gradient for each operand.
using TensorVector = c10::SmallVector<Tensor, kMaxOperands + 1>;

// The tensor with its values in memory, for a reader of raw memory: torch keeps a sign (-x of some
// views) or all zeros beside it. What comes by way of the dispatcher has been through this.
inline Tensor in_memory(const Tensor& x) {
  return x._is_zerotensor() ? at::zeros(x.sizes(), x.options()) : x.resolve_neg();
}

// A typed call through the dispatcher: every key still runs, only the slow argument parsing of
// torch.ops is left out.
template <class Signature>
auto op_handle(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").template typed<Signature>();
}

using calls::is_wanted;
using calls::loss_info;
using calls::loss_named;
using calls::LossInfo;

// The elementwise gradients of a loss as differentiable torch expressions, from the Python
// reference: for double backward, forward AD and functorch.
TensorVector gradient_formula(const char* loss, at::TensorList operands);
void set_gradient_formula(pybind11::function formula);

// A function as the composition that Python has of it, by its name: of tensors, some of them
// undefined, and numbers.
Tensor composition(const std::string& name, const std::vector<Tensor>& tensors,
                   const std::vector<int64_t>& numbers);
void set_composition(pybind11::function compose);

void register_losses(pybind11::module_& module);
void register_multinomial(pybind11::module_& module);
void register_linear(pybind11::module_& module);
void register_counts(pybind11::module_& module);
void register_sparse_linear(pybind11::module_& module);
void register_mixture(pybind11::module_& module);
void register_sampling(pybind11::module_& module);
void register_products(pybind11::module_& module);
void register_mlp(pybind11::module_& module);
void register_elbo(pybind11::module_& module);
void register_gpu(pybind11::module_& module);

}  // namespace vae_fast::bindings
