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

Tensor scaled(SavedVariable& saved, const Tensor& upstream) {
  Tensor gradient = saved.unpack();
  const bool is_last_use = !torch::autograd::get_current_graph_task_keep_graph();
  const bool ours = is_last_use && !saved.has_hooks();
  if (ours) saved.reset_data();
  const Tensor factor = Reduction::align(upstream, gradient.dim());
  // A recorded backward may be replayed again for the same forward.
  const Device* kernels = kernels_for(gradient.device());
  const bool is_recorded = kernels != nullptr && kernels->is_capturing();
  const bool in_place = ours && !is_recorded && gradient.use_count() == 1 &&
                        !at::isTensorSubclassLike(gradient) && !at::isTensorSubclassLike(factor);
  if (!in_place) return gradient * factor;
  scale(gradient, factor);
  return gradient;
}

}  // namespace vae_fast::bindings
