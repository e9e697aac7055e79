// The entries that Python's functions call.
//
// torch asks subclasses (__torch_function__) and modes of functions where it parses Python's
// arguments, which pybind11 does in its place here. An entry gives None where one of them is to be
// asked: the caller then goes by way of torch.ops, which asks.
#pragma once

#include <ATen/PythonTorchFunctionTLS.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/PyInterpreter.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/utils/pybind.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "bindings/common.h"

namespace vae_fast::bindings {

// A tensor as it came from Python.
struct Received {
  Tensor tensor;
  bool is_overridden = false;  // of a class that torch would ask
};

// Whether torch would ask the class of what is a tensor.
inline bool is_overridden(PyObject* tensor) {
  if (THPVariable_CheckExact(tensor)) return false;
  using Tls = at::impl::PythonTorchFunctionTLS;
  if (Tls::get_disabled_state() != at::impl::TorchFunctionDisabledState::ENABLED) return false;
  const auto disabled = pybind11::module_::import("torch._C").attr("_disabled_torch_function_impl");
  const auto own = pybind11::getattr(tensor, "__torch_function__", disabled);
  return !own.is(disabled);
}

// Whether torch would ask a mode of functions. That of a default device only makes tensors, and is
// on for whole programs: nobody waits for it.
inline bool is_in_mode() {
  if (!at::impl::torch_function_mode_enabled()) return false;
  using Tls = at::impl::PythonTorchFunctionTLS;
  const pybind11::gil_scoped_acquire gil;
  const auto of_device = pybind11::module_::import("torch.utils._device").attr("DeviceContext");
  for (int64_t i = 0; i < Tls::stack_len(); ++i) {
    const pybind11::handle mode = Tls::get_stack_at(i)->ptr(getPyInterpreter());
    if (!pybind11::type::handle_of(mode).is(of_device)) return true;
  }
  return false;
}

template <class T>
struct FromPython {
  using Type = T;
  static bool is_overridden(const T&) { return false; }
  static const T& unwrap(const T& value) { return value; }
};

template <>
struct FromPython<const Tensor&> {
  using Type = const Received&;
  static bool is_overridden(const Received& x) { return x.is_overridden; }
  static const Tensor& unwrap(const Received& x) { return x.tensor; }
};

template <>
struct FromPython<const OptionalTensor&> {
  using Type = const std::optional<Received>&;
  static bool is_overridden(const std::optional<Received>& x) { return x && x->is_overridden; }
  static OptionalTensor unwrap(const std::optional<Received>& x) {
    return x ? OptionalTensor(x->tensor) : std::nullopt;
  }
};

template <>
struct FromPython<const std::vector<Tensor>&> {
  using Type = const std::vector<Received>&;
  static bool is_overridden(const std::vector<Received>& list) {
    return std::any_of(list.begin(), list.end(), [](const auto& x) { return x.is_overridden; });
  }
  static std::vector<Tensor> unwrap(const std::vector<Received>& list) {
    std::vector<Tensor> tensors;
    for (const Received& x : list) tensors.push_back(x.tensor);
    return tensors;
  }
};

template <auto function, class Result, class... Args>
auto make_entry(Result (*)(Args...)) {
  return torch::wrap_pybind_function_no_gil(
      [](typename FromPython<Args>::Type... args) -> std::optional<Result> {
        const bool asks = is_in_mode() || (FromPython<Args>::is_overridden(args) || ...);
        if (asks) return std::nullopt;
        return function(FromPython<Args>::unwrap(args)...);
      });
}

// For module.def.
template <auto function>
auto entry() {
  return make_entry<function>(function);
}

}  // namespace vae_fast::bindings

template <>
struct pybind11::detail::type_caster<vae_fast::bindings::Received> {
  PYBIND11_TYPE_CASTER(vae_fast::bindings::Received, const_name("torch.Tensor"));

  bool load(handle source, bool /*convert*/) {
    if (!THPVariable_Check(source.ptr())) return false;
    value = {THPVariable_Unpack(source.ptr()), vae_fast::bindings::is_overridden(source.ptr())};
    return true;
  }
};
