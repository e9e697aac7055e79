// A multilayer perceptron as one node of the graph: its activations are saved once, its products
// are those of products.h, and autograd has one node to visit where it had one for each layer and
// ReLU.
#include <ATen/autocast_mode.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include "bindings/autograd.h"
#include "bindings/entry.h"
#include "bindings/mlp.h"

namespace vae_fast::bindings {

Tensor plain_mlp(const Tensor& x, const Parameters& parameters) {
  Tensor h = x;
  for (size_t k = 0; k < parameters.size(); k += 2) {
    if (k > 0) h = at::relu(h);
    h = at::linear(h, parameters[k], parameters[k + 1]);
  }
  return h;
}

bool is_watched() {
  return torch::jit::tracer::isTracing() || c10::impl::TorchDispatchModeTLS::any_modes_set() ||
         c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerFrontMode);
}

bool is_plain(const Tensor& x, at::ScalarType dtype) {
  return x.is_cpu() && x.scalar_type() == dtype && x.layout() == at::kStrided &&
         !at::isTensorSubclassLike(x) && !has_tangent(x);
}

int64_t mlp_outputs(const Tensor& x, int64_t inputs, const Parameters& parameters) {
  TORCH_CHECK_VALUE(!parameters.empty() && parameters.size() % 2 == 0, "mlp: there are ",
                    parameters.size(), " parameters, expected weight and bias of each layer");
  const auto fits = [](const Tensor& tensor, int64_t dims) {
    return tensor.dim() == dims && is_plain(tensor, at::kFloat);
  };
  const bool is_changed = at::autocast::is_autocast_enabled(at::kCPU);
  if (is_changed || is_watched() || !fits(x, 2) || x.numel() == 0) return 0;
  for (size_t k = 0; k < parameters.size(); k += 2) {
    const Tensor &weight = parameters[k], &bias = parameters[k + 1];
    if (!fits(weight, 2) || !fits(bias, 1)) return 0;
    if (weight.numel() == 0 || weight.size(1) != inputs || bias.size(0) != weight.size(0)) return 0;
    inputs = weight.size(0);
  }
  return inputs;
}

namespace {

class MlpBackward : public torch::autograd::Node {
 public:
  MlpBackward(const Tensor& x, const Parameters& parameters) : x_(x, false) {
    for (const Tensor& parameter : parameters) parameters_.emplace_back(parameter, false);
  }

  void save_hidden(const Tensor& h) { hidden_.emplace_back(h, false); }

  std::string name() const override { return "VaeFastBackward[mlp]"; }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    x_.reset_data();
    for (SavedVariable& parameter : parameters_) parameter.reset_data();
    for (SavedVariable& h : hidden_) h.reset_data();
  }

  variable_list apply(variable_list&& upstream) override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!upstream[0].defined()) return variable_list(1 + parameters_.size());
    const bool is_differentiable =
        at::GradMode::is_enabled() || at::isTensorSubclassLike(upstream[0]);
    return is_differentiable ? differentiable(upstream[0]) : gradients(upstream[0]);
  }

 private:
  // Of x, then of the parameters.
  variable_list gradients(const Tensor& upstream) {
    return mlp_gradients(
        parameters_.size() / 2, upstream,
        [&](size_t layer) { return layer == 0 ? x_.unpack() : hidden_[layer - 1].unpack(); },
        [&](size_t layer) { return parameters_[2 * layer].unpack(); },
        [&](size_t k) { return task_should_compute_output(k); });
  }

  variable_list differentiable(const Tensor& upstream) {
    std::vector<Tensor> operands = {x_.unpack()};
    for (const SavedVariable& parameter : parameters_) operands.push_back(parameter.unpack());
    return gradients_through_graph(
        operands, {upstream}, [&](size_t k) { return task_should_compute_output(k); },
        [](const std::vector<Tensor>& own) {
          return variable_list{plain_mlp(own[0], Parameters(own.begin() + 1, own.end()))};
        });
  }

  SavedVariable x_;
  c10::SmallVector<SavedVariable, 8> parameters_;
  c10::SmallVector<SavedVariable, 4> hidden_;  // what the layers but the first read
};

// None where the modules are to be called: torch then computes, or says what does not fit.
OptionalTensor mlp(const Tensor& x, const Parameters& parameters) {
  if (mlp_outputs(x, x.dim() == 2 ? x.size(1) : 0, parameters) == 0) return std::nullopt;
  std::vector<Tensor> operands = {x};
  operands.insert(operands.end(), parameters.begin(), parameters.end());
  c10::intrusive_ptr<MlpBackward> node;
  if (requiring_gradient(operands) != 0) {
    node = c10::make_intrusive<MlpBackward>(x, parameters);
    connect(*node, operands);
  }
  std::vector<Tensor> activations;
  {
    const at::AutoDispatchBelowADInplaceOrView guard;
    activations = mlp_activations(x, parameters, /*keep=*/static_cast<bool>(node));
  }
  const Tensor& y = activations.back();
  if (node) {
    for (size_t k = 1; k + 1 < activations.size(); ++k) node->save_hidden(activations[k]);
    torch::autograd::set_history(y, node);
    announce(node);
  }
  return y;
}

}  // namespace

void register_mlp(pybind11::module_& module) { module.def("mlp", entry<&mlp>()); }

}  // namespace vae_fast::bindings
