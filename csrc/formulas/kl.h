// Kullback-Leibler divergences between diagonal Gaussians, in nats per dimension.
//
// Everything is a function of log-variances: 1 + logvar - exp(logvar) cancels near 0 and a
// standard deviation underflows, expm1_minus(x) = exp(x) - 1 - x does neither and is never
// negative, and so neither is the divergence.
#pragma once

#include "standardized.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// KL(N(mu, exp(logvar)) || N(0, 1)); Kingma and Welling 2014, appendix B.
struct StandardNormalKl {
  static constexpr const char* kName = "standard_normal_kl";
  static constexpr const char* kOperands[] = {"mu", "logvar"};
  static constexpr Target kTarget = Target::kNone;
  static constexpr bool kIsDivergence = true;

  template <class T>
  VAE_FAST_FN static Loss<T, 2> evaluate(T mu, T logvar) {
    const HalfExpm1<T> half = half_expm1(logvar);
    return {(T(0.5) * mu) * mu + half.expm1_minus, {mu, half.expm1}};
  }
};

// KL(N(mu, exp(logvar)) || N(prior_mu, exp(prior_logvar))).
struct GaussianKl {
  static constexpr const char* kName = "gaussian_kl";
  static constexpr const char* kOperands[] = {"mu", "logvar", "prior_mu", "prior_logvar"};
  static constexpr Target kTarget = Target::kNone;
  static constexpr bool kIsDivergence = true;

  template <class T>
  VAE_FAST_FN static Loss<T, 4> evaluate(T mu, T logvar, T prior_mu, T prior_logvar) {
    const HalfExpm1<T> half = half_expm1(logvar - prior_logvar);
    const Standardized<T> to_prior = standardized(mu, prior_mu, prior_logvar);
    const T square = to_prior.half_square;
    return {square + half.expm1_minus,
            {to_prior.slope, half.expm1, -to_prior.slope, -(square + half.expm1)}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
