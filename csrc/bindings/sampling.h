// What the samplers' kernels and their autograd have in common.
#pragma once

#include "bindings/calls.h"
#include "calls/sampling.h"

namespace vae_fast::bindings {

using Sample = std::tuple<Tensor, Tensor>;  // z, noise

using calls::kLogvar;
using calls::kMu;

// `noise` as with call_sample_kl.
Sample call_sample(const Tensor& mu, const Tensor& logvar, const Tensor& seed, int64_t want);

// mu and logvar, and the prior's where it is not the standard normal.
TensorVector divergence_operands(const char* op, const Tensor& mu, const Tensor& logvar,
                                 const OptionalTensor& prior_mu,
                                 const OptionalTensor& prior_logvar);

}  // namespace vae_fast::bindings
