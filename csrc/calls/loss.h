// The calls of the elementwise losses (formulas/list.h).
#pragma once

#include "calls/checks.h"
#include "calls/results.h"

namespace vae_fast::calls {
#pragma GCC visibility push(default)

struct LossCall {
  int loss;
  Reduction reduction;
  int64_t want;  // bit k: the gradient in operand k
};

using Gradients = View[kMaxOperands];

// Results `first` + k: the gradient in operand k, in its shape; empty where it is not wanted.
void make_gradients(Results& results, size_t first, Views operands, int64_t want,
                    Gradients& gradients);
// With zeros, those that are wanted.
void fill_gradients(Results& results, size_t first, size_t operands, int64_t want);

// Results: 0 is the value, 1 + k the gradient in operand k, of the `keep` leading sizes of the
// shape that the operands broadcast to, then the operand's with ones before them; empty where it is
// not wanted.
void loss(const Kernels& kernels, const LossCall& call, Views operands, const View* mask,
          Results& results);

// Result k: the gradient in operand k, times `upstream`, in the operand's shape. `upstream` is of
// the arithmetic's type, or smaller.
void loss_backward(const Kernels& kernels, const LossCall& call, const View& upstream,
                   Views operands, const View* mask, Results& results);

#pragma GCC visibility pop
}  // namespace vae_fast::calls
