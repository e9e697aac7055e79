// The calls of mixtures of K components (kernels.h: MixtureArgs): of any elementwise likelihood,
// and of a pixel's discretized logistics, whose channels hang together.
#pragma once

#include "calls/loss.h"

namespace vae_fast::calls {
#pragma GCC visibility push(default)

struct MixtureCall {
  int loss;
  int64_t channels;  // of pixels; 0: elementwise
  int64_t components;
  int64_t batch_dims, event_dims;
  Reduction reduction;
};

// Of an elementwise likelihood: the operands are the logits (*batch, K, *rest) and the parameters,
// which broadcast to (*batch, K, *rest, *event). Of pixels: what the decoder gave, (*batch, N,
// *rest).
struct MixtureTensors {
  Views operands;
  const View& target;
  const View* mask;      // or null
  const View* levels;    // of pixels alone
  const View* upstream;  // of the kept sizes, of the arithmetic's type or smaller, or null
};

// Whether the gradients may be made with the value, for an upstream gradient of one. They are then
// scaled by one for each batch entry at most, and before that are rounded: not for float16, and not
// after they were summed over a batch.
bool in_forward(const MixtureCall& call, const MixtureTensors& tensors);

// Result 0: the value, reduced; 1 + k: the gradient in operand k; empty where it is not wanted.
void mixture(const Kernels& kernels, const MixtureCall& call, const MixtureTensors& tensors,
             int64_t want, Results& results);

#pragma GCC visibility pop
}  // namespace vae_fast::calls
