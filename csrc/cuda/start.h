// Starts the kernel of one pass: a function for each file of kernels. The result is a cudaError_t.
#pragma once

#include "cuda/plan.h"

namespace vae_fast::cuda {

// One of a table by the loss; `start_nothing` of a loss that has no such kernel.
using StartPass = int (*)(const Pass& pass, void* stream);
inline int start_nothing(const Pass&, void*) { return kInvalidArguments; }

int start_loss_values(int loss, const Pass& pass, void* stream);
int start_loss_gradients(int loss, const Pass& pass, void* stream);
int start_loss_double(int loss, bool with_gradients, const Pass& pass, void* stream);
int start_loss_columns(int loss, const Pass& pass, void* stream);

// `divergence` is an index into formulas/list.h, of a loss without a target.
int start_sample(int divergence, const Pass& pass, void* stream);
int start_sample_backward(int divergence, const Pass& pass, void* stream);
int start_multinomial(const Pass& pass, void* stream);
int start_counts(int loss, bool with_gradients, const Pass& pass, void* stream);
int start_mixture(int loss, const Pass& pass, void* stream);
int start_pairs(const Pass& pass, void* stream);
int start_scale(const Pass& pass, void* stream);

// Sets so many bytes to zero.
int start_clearing(void* memory, size_t bytes, void* stream);

}  // namespace vae_fast::cuda
