#include "bindings/composed.h"

#include <algorithm>
#include <utility>

#include "bindings/device.h"
#include "bindings/mlp.h"

namespace vae_fast::bindings {
namespace {

using Tensors = Composed::Tensors;

Tensors evaluate(const Composed& function, const Tensors& tensors, const Tensor& upstream,
                 int64_t want) {
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const c10::DeviceGuard guard(tensors[0].device());
  return function.evaluate(tensors, upstream, want);
}

class ComposedBackward : public NodeWithGradients {
 public:
  ComposedBackward(Composed function, const Tensors& tensors) : function_(std::move(function)) {
    for (const Tensor& x : tensors) {
      saved_.push_back(x.defined() ? SavedVariable(x, false) : SavedVariable());
    }
  }

  std::string name() const override { return "VaeFastBackward[" + function_.name + "]"; }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (SavedVariable& saved : saved_) saved.reset_data();
    release_kept();
  }

  variable_list apply(variable_list&& upstream) override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!upstream[0].defined()) return variable_list(function_.operands);
    if (at::GradMode::is_enabled()) return through_graph(upstream[0]);
    if (keeps_any()) return kept(function_.operands, upstream[0]);
    if (at::isTensorSubclassLike(upstream[0])) return through_graph(upstream[0]);
    Tensors gradients = evaluate(function_, unpacked(), upstream[0], wanted_of(*this));
    return variable_list(gradients.begin() + 1, gradients.end());
  }

 private:
  Tensors unpacked() const {
    Tensors tensors;
    for (const SavedVariable& saved : saved_) tensors.push_back(saved.unpack());
    return tensors;
  }

  variable_list through_graph(const Tensor& upstream) {
    const Tensors tensors = unpacked();
    Tensors operands;
    std::vector<size_t> places;
    for (size_t k = 0; k < function_.operands; ++k) {
      if (!tensors[k].defined()) continue;
      operands.push_back(tensors[k]);
      places.push_back(k);
    }
    const variable_list found = gradients_through_graph(
        operands, {upstream}, [&](size_t k) { return task_should_compute_output(places[k]); },
        [&](const Tensors& aliases) {
          Tensors own = tensors;
          for (size_t k = 0; k < places.size(); ++k) own[places[k]] = aliases[k];
          return variable_list{function_.compose(own)};
        });
    variable_list result(function_.operands);
    for (size_t k = 0; k < places.size(); ++k) result[places[k]] = found[k];
    return result;
  }

  const Composed function_;
  std::vector<SavedVariable> saved_;
};

}  // namespace

bool is_plain(const Composed& function, const Tensors& tensors) {
  if (is_watched() || kernels_for(tensors[0].device()) == nullptr) return false;
  const auto fits = [](const Tensor& x) {
    return !x.defined() ||
           (x.layout() == at::kStrided && !at::isTensorSubclassLike(x) && !has_tangent(x) &&
            !x.unsafeGetTensorImpl()->has_symbolic_sizes_strides());
  };
  const auto is_variable = [](const Tensor& x) { return x.defined() && x.requires_grad(); };
  return std::all_of(tensors.begin(), tensors.end(), fits) &&
         !(at::GradMode::is_enabled() &&
           std::any_of(tensors.begin() + static_cast<int64_t>(function.operands), tensors.end(),
                       is_variable));
}

Tensor call_fused(const Composed& function, const Tensors& tensors, bool in_forward) {
  const at::TensorList operands(tensors.data(), function.operands);
  const int64_t needed = requiring_gradient(operands);
  c10::intrusive_ptr<ComposedBackward> node;
  if (needed != 0) {
    node = c10::make_intrusive<ComposedBackward>(function, tensors);
    connect(*node, operands);
  }
  const Tensors results =
      evaluate(function, tensors, /*upstream=*/Tensor(), in_forward ? needed : 0);
  const Tensor value = results[0];
  if (node) {
    torch::autograd::set_history(value, node);
    for (size_t k = 0; k < operands.size(); ++k) {
      if (results[k + 1].defined()) node->keep(k, results[k + 1]);
    }
    announce(node);
  }
  return value;
}

}  // namespace vae_fast::bindings
