#include "bindings/autograd.h"

#include <torch/csrc/autograd/graph_task.h>

#include "bindings/device.h"

namespace vae_fast::bindings {
namespace {

void scale(const Tensor& gradient, const Tensor& factor) {
  const Device* device = kernels_for(gradient.device());
  if (device == nullptr) {
    gradient.mul_(factor);
    return;
  }
  const c10::DeviceGuard guard(gradient.device());
  device->scale(gradient, in_memory(factor));
}

uint64_t current_recording(const Tensor& tensor) {
  const Device* device = kernels_for(tensor.device());
  if (device == nullptr) return 0;
  const c10::DeviceGuard guard(tensor.device());
  return device->recording();
}

}  // namespace

Tensor weighted_tangents(at::TensorList gradients, at::TensorList operands) {
  Tensor sum;
  for (size_t k = 0; k < operands.size(); ++k) {
    if (!has_tangent(operands[k])) continue;
    const Tensor term = gradients[k] * operands[k]._fw_grad(/*level=*/0);
    sum = sum.defined() ? sum + term : term;
  }
  return sum;
}

void NodeWithGradients::keep(size_t k, const Tensor& gradient) {
  gradients_.push_back({k, SavedVariable(gradient, false)});
  recording_ = current_recording(gradient);
}

variable_list NodeWithGradients::kept(size_t operands, const Tensor& upstream) {
  variable_list result(operands);
  for (auto& [k, gradient] : gradients_) {
    if (task_should_compute_output(k)) result[k] = scaled(gradient, upstream);
  }
  return result;
}

void NodeWithGradients::release_kept() {
  for (Kept& kept : gradients_) kept.gradient.reset_data();
}

Tensor NodeWithGradients::scaled(SavedVariable& saved, const Tensor& upstream) const {
  Tensor gradient = saved.unpack();
  // Asked of the backward that runs: a node would remember it of one that failed.
  const bool is_last_use = !torch::autograd::get_current_graph_task_keep_graph();
  const bool ours = is_last_use && !saved.has_hooks();
  if (ours) saved.reset_data();
  const Tensor factor = Reduction::align(upstream, gradient.dim());
  // What is recorded without its forward may be replayed again for the same forward.
  const bool is_once = current_recording(gradient) == recording_;
  // Neither another handle nor a view may see it change.
  const bool is_alone = gradient.use_count() == 1 && gradient.storage().use_count() == 1;
  const bool in_place = ours && is_once && is_alone && !at::isTensorSubclassLike(gradient) &&
                        !at::isTensorSubclassLike(factor);
  if (!in_place) return gradient * factor;
  scale(gradient, factor);
  return gradient;
}

}  // namespace vae_fast::bindings
