// A fused function that is also a composition of smaller ones. The kernel serves plain tensors in
// eager mode, as one node of the graph; the composition serves all else (torch.compile, torch.func,
// forward-mode AD, subclasses, derivatives of derivatives), which then need no rules of their own.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bindings/autograd.h"

namespace vae_fast::bindings {

struct Composed {
  using Tensors = std::vector<Tensor>;  // some may be undefined

  std::string name;  // of the node
  size_t operands;   // how many of the tensors, the leading ones, may require a gradient

  // The value, unless an upstream gradient came, and then the gradients in the operands that `want`
  // has a bit for, times it. Not rounded to the operands' dtypes: the engine does that last.
  std::function<Tensors(const Tensors&, const Tensor& upstream, int64_t want)> evaluate;

  // The value in torch's own ops and this package's, through their nodes.
  std::function<Tensor(const Tensors&)> compose;
};

// Whether a kernel can take the tensors as they are, and nobody wants to see torch's ops go by.
bool is_plain(const Composed& function, const Composed::Tensors& tensors);

// The value by `evaluate`, of tensors that are plain. `in_forward`: the gradients are made with it,
// for an upstream gradient of one; else the backward makes them.
Tensor call_fused(const Composed& function, const Composed::Tensors& tensors, bool in_forward);

}  // namespace vae_fast::bindings
