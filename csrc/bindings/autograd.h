// What the hand-written autograd nodes share. They are torch::autograd::Node, as PyTorch's own
// generated code has them: a C++ torch::autograd::Function refuses functorch's transforms.
#pragma once

#include <ATen/TensorSubclassLikeUtils.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/version.h>

#include <algorithm>
#include <utility>

#include "bindings/common.h"

namespace vae_fast::bindings {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// torch.autograd.graph.node_creation_hook, which came with torch 2.14.
template <class Node>
void announce([[maybe_unused]] const Node& node) {
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 14)
  torch::autograd::fire_node_creation_hooks(node);
#endif
}

inline bool has_tangent(const Tensor& x) { return torch::autograd::isFwGradDefined(x); }
inline Tensor primal_of(const Tensor& x) { return has_tangent(x) ? x._fw_primal(/*level=*/0) : x; }

inline bool any_tangent(at::TensorList tensors) {
  return std::any_of(tensors.begin(), tensors.end(), has_tangent);
}

// Bit k: operand k takes part in the graph that is being built.
inline int64_t requiring_gradient(at::TensorList operands) {
  int64_t bits = 0;
  if (!at::GradMode::is_enabled()) return bits;
  for (size_t k = 0; k < operands.size(); ++k) {
    bits |= static_cast<int64_t>(operands[k].requires_grad()) << k;
  }
  return bits;
}

// Bit k: the backward that runs now asks the node for the gradient in operand k.
inline int64_t wanted_of(const torch::autograd::Node& node) {
  int64_t bits = 0;
  for (size_t k = 0; k < node.num_outputs(); ++k) {
    bits |= static_cast<int64_t>(node.task_should_compute_output(k)) << k;
  }
  return bits;
}

// An operand may be undefined.
inline void connect(torch::autograd::Node& node, at::TensorList operands) {
  node.set_next_edges(torch::autograd::collect_next_edges(operands));
}

// The sum of the operands' tangents, each times its gradient. Differentiable.
Tensor weighted_tangents(at::TensorList gradients, at::TensorList operands);

// A node that keeps gradients: its forward made them, for an upstream gradient of one.
class NodeWithGradients : public torch::autograd::Node {
 public:
  // The gradient in operand k.
  void keep(size_t k, const Tensor& gradient);

 protected:
  bool keeps_any() const { return !gradients_.empty(); }

  // Those that are kept and asked for, of so many operands, times the upstream gradient, which is
  // of their leading sizes: in their own memory only where nobody else can come to read it, neither
  // a second backward nor a replay of this one, nor a hook, nor another owner.
  variable_list kept(size_t operands, const Tensor& upstream);

  void release_kept();

 private:
  struct Kept {
    size_t operand;
    SavedVariable gradient;
  };
  Tensor scaled(SavedVariable& saved, const Tensor& upstream) const;

  c10::SmallVector<Kept, kMaxOperands> gradients_;
  uint64_t recording_ = 0;
};

// The symbolic shape that tensors broadcast to.
template <class Tensors>
c10::SymDimVector broadcast_shape(const Tensors& tensors) {
  c10::SymDimVector shape;
  for (const Tensor& tensor : tensors) {
    if (tensor.defined()) shape = at::infer_size_symdimvector(shape, tensor.sym_sizes());
  }
  return shape;
}

// Whether an operand broadcasts to the first `dims` dimensions of the shape: its gradient is summed
// over one of them.
inline bool broadcasts(const Tensor& operand, c10::SymIntArrayRef shape, int64_t dims) {
  const int64_t missing = static_cast<int64_t>(shape.size()) - operand.dim();
  for (int64_t d = 0; d < dims; ++d) {
    const c10::SymInt size = d < missing ? c10::SymInt(1) : operand.sym_size(d - missing);
    if (TORCH_GUARD_OR_TRUE(size.sym_ne(shape[d]))) return true;
  }
  return false;
}

// calls::Reduction of tensors in a graph.
struct Reduction : calls::Reduction {
  c10::SymInt count(c10::SymIntArrayRef shape) const {
    c10::SymInt result = 1;
    for (const c10::SymInt& size : shape.slice(keep, mean)) result = result * size;
    return result;
  }

  // Elementwise to reduced: the tangent's way. Differentiable.
  Tensor reduce(const Tensor& elementwise, c10::SymIntArrayRef shape) const {
    Tensor sum = elementwise.expand_symint(shape);
    c10::SmallVector<int64_t, kMaxDims> dims;
    for (int64_t d = keep; d < sum.dim(); ++d) dims.push_back(d);
    if (!dims.empty()) sum = sum.sum(dims);
    return mean == 0 ? sum : sum / at::Scalar(count(shape));
  }

  // An upstream gradient (of shape[:keep]) for every element: the gradient's way. Differentiable.
  Tensor spread(const Tensor& upstream, c10::SymIntArrayRef shape) const {
    const Tensor each = align(upstream, static_cast<int64_t>(shape.size())).expand_symint(shape);
    return mean == 0 ? each : each / at::Scalar(count(shape));
  }

  // (shape[:keep]) -> a shape that broadcasts with `dims` dimensions.
  static Tensor align(Tensor upstream, int64_t dims) {
    if (upstream.dim() == 0) return upstream;
    while (upstream.dim() < dims) upstream = upstream.unsqueeze(-1);
    return upstream;
  }
};

// The tangent of a loss, from its operands' primals and tangents.
Tensor loss_tangent(int loss, at::TensorList operands, const OptionalTensor& mask,
                    Reduction reduction);

}  // namespace vae_fast::bindings
