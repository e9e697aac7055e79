// The Python module vae_fast._fast_2xx.
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/utils/pybind.h>
#include <torch/version.h>

#include "bindings/buffer_cache.h"
#include "bindings/common.h"

namespace vae_fast::bindings {
namespace {

// They live as long as the process: nodes of a graph may outlast the interpreter's shutdown of
// modules.
pybind11::handle& formula_handle() {
  static pybind11::handle handle;
  return handle;
}

pybind11::handle& composition_handle() {
  static pybind11::handle handle;
  return handle;
}

}  // namespace

void set_gradient_formula(pybind11::function formula) { formula_handle() = formula.release(); }

TensorVector gradient_formula(const char* loss, at::TensorList operands) {
  pybind11::gil_scoped_acquire gil;
  const pybind11::object gradients =
      formula_handle()(loss, std::vector<Tensor>(operands.begin(), operands.end()));
  const auto list = gradients.cast<std::vector<Tensor>>();
  return TensorVector(list.begin(), list.end());
}

void set_composition(pybind11::function compose) { composition_handle() = compose.release(); }

Tensor composition(const std::string& name, const std::vector<Tensor>& tensors,
                   const std::vector<int64_t>& numbers) {
  pybind11::gil_scoped_acquire gil;
  pybind11::list given;
  for (const Tensor& x : tensors) {
    given.append(x.defined() ? pybind11::cast(x) : pybind11::none());
  }
  return composition_handle()(name, given, numbers).cast<Tensor>();
}

}  // namespace vae_fast::bindings

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  namespace cpu = vae_fast::cpu;
  vae_fast::bindings::register_losses(module);
  vae_fast::bindings::register_multinomial(module);
  vae_fast::bindings::register_linear(module);
  vae_fast::bindings::register_counts(module);
  vae_fast::bindings::register_sparse_linear(module);
  vae_fast::bindings::register_mixture(module);
  vae_fast::bindings::register_sampling(module);
  vae_fast::bindings::register_products(module);
  vae_fast::bindings::register_mlp(module);
  vae_fast::bindings::register_elbo(module);
  vae_fast::bindings::register_gpu(module);
  module.def("set_gradient_formula", &vae_fast::bindings::set_gradient_formula);
  module.def("set_composition", &vae_fast::bindings::set_composition);
  module.def("cpu_capability", &cpu::capability);
  module.def("set_cpu_capability", &cpu::set_capability);
  module.def("cpu_capabilities", [] {
    pybind11::list names;
    for (const char* const* name = cpu::capabilities(); *name != nullptr; ++name) {
      names.append(*name);
    }
    return names;
  });
  module.def("buffer_cache_info", [] {
    const auto info = vae_fast::bindings::buffer_cache_info();
    return pybind11::make_tuple(info.limit, info.cached);
  });
  module.def("set_buffer_cache_limit", &vae_fast::bindings::set_buffer_cache_limit);
  module.def("empty_buffer_cache", &vae_fast::bindings::empty_buffer_cache);
  module.attr("TORCH_VERSION") = TORCH_VERSION;
}
