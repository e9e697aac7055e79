// The ops as typed calls through the dispatcher, for other files than the ones that define them.
#pragma once

#include "bindings/autograd.h"

namespace vae_fast::bindings {

using SampleKl = std::tuple<Tensor, Tensor, Tensor>;                   // z, kl, noise
using SampleKlGradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // mu, logvar, the prior's

// The value of the op `loss`, then the gradients that `want` has a bit for.
TensorVector call_loss(int loss, at::TensorList operands, const OptionalTensor& mask,
                       Reduction reduction, int64_t want);

// The gradients that `want` has a bit for, times the upstream one, in the operands' shapes.
TensorVector call_loss_backward(int loss, const Tensor& upstream, at::TensorList operands,
                                const OptionalTensor& mask, Reduction reduction, int64_t want);

// The value, and the gradient in the logits where `want` has its bit, the first.
std::tuple<Tensor, Tensor> call_multinomial(const Tensor& logits, const Tensor& target,
                                            Reduction reduction, int64_t want);

// The value of each row of two dimensions, below autograd. `in_place`: the gradient in the logits
// takes their place, times `scale`, and the upstream one (rows, 1) if it is defined.
Tensor multinomial_rows(const Tensor& logits, const Tensor& target, double scale, bool in_place,
                        const Tensor& upstream);

// The seed of one call with `mu`, from the generator of its device if no other is given.
Tensor call_draw_seed(const Tensor& mu, OptionalGenerator generator);

// `noise` = dz/dlogvar where `want` has the bit of logvar, the second; else it is empty.
SampleKl call_sample_kl(const Tensor& mu, const Tensor& logvar, const OptionalTensor& prior_mu,
                        const OptionalTensor& prior_logvar, const Tensor& seed, Reduction reduction,
                        int64_t want);

// The gradients that `want` has a bit for; the one of z in logvar takes the noise.
SampleKlGradients call_sample_kl_backward(const OptionalTensor& grad_z,
                                          const OptionalTensor& grad_kl, const Tensor& mu,
                                          const Tensor& logvar, const OptionalTensor& prior_mu,
                                          const OptionalTensor& prior_logvar,
                                          const OptionalTensor& noise, Reduction reduction,
                                          int64_t want);

}  // namespace vae_fast::bindings
