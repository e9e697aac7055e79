// The calls of likelihoods of counts by rows: of a target in CSR, and of means that are shares of
// the row's total, as a decoder of counts gives them (kernels.h, CountArgs).
#pragma once

#include "calls/csr.h"
#include "calls/loss.h"

namespace vae_fast::calls {
#pragma GCC visibility push(default)

struct CountsCall {
  int loss;
  int64_t batch_dims;
  bool is_summed;  // over the rows, then times `scale`
  double scale;
  bool is_log;   // the loss's first parameter is a mean's logarithm
  int64_t want;  // bit k: the gradient in parameter k; bit of their number: in the library
};

struct CountsTensors {
  Views parameters;     // they broadcast to the first, (*batch, *event), which has elements
  const View* library;  // (*batch, 1...) or broadcasts to that, or null; then the first are logits
  const View& target;   // broadcasts to the first parameter, or the values of CSR
  const View* starts;   // of CSR, which was checked, or null
  const View* columns;
  const View* mask;      // or null
  const View* upstream;  // of the batch's sizes or of none, or null
};

// Whether the shapes are those.
bool takes(const CountsTensors& tensors, int64_t batch_dims);

// Result 0: the value; 1 + k: the gradient in parameter k, times scale and upstream; behind them
// the one in the library; empty where it is not wanted. On a device that computes counts by
// elements (Kernels::counts_by_element), whose rows are one dimension, the gradients are those of
// elements, not yet summed and in the arithmetic's dtype where they are to be.
void counts(const Kernels& kernels, const CountsCall& call, const CountsTensors& tensors,
            Results& results);

#pragma GCC visibility pop
}  // namespace vae_fast::calls
