// The calls of the multinomial likelihood: logits and target have one shape, whose last dimension
// are the classes.
#pragma once

#include "calls/checks.h"
#include "calls/results.h"

namespace vae_fast::calls {
#pragma GCC visibility push(default)

// Result 0: the value, reduced; 1: the gradient in the logits, empty where it is not wanted.
void multinomial(const Kernels& kernels, const View& logits, const View& target,
                 Reduction reduction, bool wants_gradient, Results& results);

// Result 0: the gradient in the logits, times `upstream`, of the arithmetic's type or smaller; 1:
// the value of each row.
void multinomial_backward(const Kernels& kernels, const View& upstream, const View& logits,
                          const View& target, Reduction reduction, Results& results);

// Result 0: the value of each row of two dimensions. `in_place`: the gradient in the logits takes
// their place, times `scale`, and the upstream one, (rows, 1), if there is one.
void multinomial_rows(const Kernels& kernels, const View& logits, const View& target, double scale,
                      bool in_place, const View* upstream, Results& results);

#pragma GCC visibility pop
}  // namespace vae_fast::calls
