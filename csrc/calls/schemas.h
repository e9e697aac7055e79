// What the ops look like to PyTorch's dispatcher: written once, for every binding that defines
// them.
#pragma once

#include <string>
#include <vector>

namespace vae_fast::calls {
#pragma GCC visibility push(default)

// Of each loss of the list and of its backward (bindings/losses.cpp says what they mean).
std::vector<std::string> loss_schemas();

// bindings/multinomial.cpp
inline constexpr const char* kMultinomialSchemas[] = {
    "multinomial_nll(Tensor logits, Tensor target, int keep, int mean_dims, int want=0)"
    " -> (Tensor value, Tensor grad_logits)",
    "multinomial_nll_backward(Tensor upstream, Tensor logits, Tensor target, int keep,"
    " int mean_dims) -> Tensor grad_logits",
};

// bindings/pairs.cpp
inline constexpr const char* kPairsSchemas[] = {
    "pairs_log_sum_exp(Tensor x, Tensor mean, Tensor logvar, Tensor log_weights, bool marginal)"
    " -> Tensor log_density",
    "pairs_log_sum_exp_backward(Tensor upstream, Tensor log_density, Tensor x, Tensor mean,"
    " Tensor logvar, Tensor log_weights, bool marginal, int want)"
    " -> (Tensor grad_x, Tensor grad_mean, Tensor grad_logvar, Tensor grad_log_weights)",
    "pairs_kernel_sum(Tensor x, Tensor y, int kernel, float[] widths) -> Tensor sums",
    "pairs_kernel_sum_backward(Tensor upstream, Tensor x, Tensor y, int kernel, float[] widths,"
    " int want) -> (Tensor grad_x, Tensor grad_y)",
    "pairs_nearest(Tensor x, Tensor codes) -> Tensor indices",
};

// bindings/sampling.cpp; without draw_seed, the only op that is random.
inline constexpr const char* kSamplingSchemas[] = {
    "reparameterize(Tensor mu, Tensor logvar, Tensor seed, int want=0)"
    " -> (Tensor z, Tensor noise)",
    "reparameterize_kl(Tensor mu, Tensor logvar, Tensor? prior_mu, Tensor? prior_logvar,"
    " Tensor seed, int keep, int mean_dims, int want=0)"
    " -> (Tensor z, Tensor kl, Tensor noise)",
    "reparameterize_kl_backward(Tensor? grad_z, Tensor? grad_kl, Tensor mu, Tensor logvar,"
    " Tensor? prior_mu, Tensor? prior_logvar, Tensor? noise, int keep, int mean_dims, int want)"
    " -> (Tensor grad_mu, Tensor grad_logvar, Tensor grad_prior_mu, Tensor grad_prior_logvar)",
};

#pragma GCC visibility pop
}  // namespace vae_fast::calls
