// Negative log-likelihood of the continuous Bernoulli distribution, in nats (Loaiza-Ganem and
// Cunningham 2019, arXiv:1907.06845).
#pragma once

#include "logarithms.h"
#include "loss.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// softplus(l) - x l - log(l / tanh(l / 2)). With a = |l| and the weight of the side that l speaks
// against, the softplus meets the normaliser: against a + log((1 - exp(-a)) / a), where the second
// term is log(1 - y) of y = (exp(-a) - 1 + a) / a.
struct ContinuousBernoulliNll {
  static constexpr const char* kName = "continuous_bernoulli_nll";
  static constexpr const char* kOperands[] = {"logits", "target"};
  static constexpr Target kTarget = Target::kUnitInterval;

  template <class T>
  VAE_FAST_FN static Loss<T, 2> evaluate(T logit, T x) {
    const T size = abs_(logit), against = select(logit > T(0), T(1) - x, x);
    const T a = max_(T(1e-15), min_(T(1e30), size));
    const HalfExpm1<T> half = half_expm1(-a);
    const T inverse = T(1) / a, mass = T(-2) * half.expm1;  // 1 - exp(-a)
    const T y = T(2) * half.expm1_minus * inverse;
    const T log =
        minus_log(-select(size < T(1e-15), T(0.5) * size, y), (mass * inverse) * T(kFar)).log;
    const T slope = select(a < T(1), y / mass - T(1), exp_nonpositive(-a) / mass - inverse);
    const T to_size = against + slope;
    return {select(against == T(0), T(0), against * size) + log,
            {select(logit > T(0), to_size, -to_size), -logit}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
