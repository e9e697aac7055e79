// Kullback-Leibler divergences between diagonal Gaussians, in nats per dimension.
//
// Everything is a function of log-variances: 1 + logvar - exp(logvar) cancels near 0 and a
// standard deviation underflows, expm1_minus(x) = exp(x) - 1 - x does neither and is never
// negative, and so neither is the divergence.
#pragma once

#include "loss.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// KL(N(mu, exp(logvar)) || N(0, 1)); Kingma and Welling 2014, appendix B.
struct StandardNormalKl {
  static constexpr const char* kName = "standard_normal_kl";
  static constexpr const char* kOperands[] = {"mu", "logvar"};
  static constexpr Target kTarget = Target::kNone;

  template <class T>
  VAE_FAST_FN static Loss<T, 2> evaluate(T mu, T logvar) {
    const Expm1<T> e = expm1_pair(logvar);
    return {T(0.5) * (mu * mu + e.expm1_minus), {mu, T(0.5) * e.expm1}};
  }
};

// KL(N(mu, exp(logvar)) || N(prior_mu, exp(prior_logvar))).
struct GaussianKl {
  static constexpr const char* kName = "gaussian_kl";
  static constexpr const char* kOperands[] = {"mu", "logvar", "prior_mu", "prior_logvar"};
  static constexpr Target kTarget = Target::kNone;

  template <class T>
  VAE_FAST_FN static Loss<T, 4> evaluate(T mu, T logvar, T prior_mu, T prior_logvar) {
    const Expm1<T> e = expm1_pair(logvar - prior_logvar);
    // Half of the precision's logarithm on each factor: the square of a small difference must not
    // underflow, nor a large precision overflow, before they meet.
    const T root_precision = exp_(T(-0.5) * prior_logvar);
    const T difference = mu - prior_mu;
    const T scaled = select(difference == T(0), T(0), difference * root_precision);
    const T slope = select(difference == T(0), T(0), scaled * root_precision);
    const T square = scaled * scaled;
    return {T(0.5) * (square + e.expm1_minus),
            {slope, T(0.5) * e.expm1, -slope, T(-0.5) * (square + e.expm1)}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
