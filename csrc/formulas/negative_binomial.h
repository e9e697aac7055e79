// Negative log-likelihood of the negative binomial distribution, in nats.
#pragma once

#include "gamma_functions.h"
#include "loss.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// Mean mu, inverse dispersion theta: variance mu + mu^2 / theta. For a count x
//
//   lgamma(theta) - lgamma(x + theta) + lgamma(x + 1) + theta log(1 + mu / theta)
//     + x log(1 + theta / mu).
//
// Its large terms make the deviance from the best mean, x itself: with the two shares
//   u = mu (x + theta) / (x (mu + theta)),  v = (x + theta) / (mu + theta)
// it is x (u - 1 - log u) + theta (v - 1 - log v), two terms that are never negative. What is left
// are the rests of Stirling's formula. So nothing cancels, whatever theta is: the Poisson
// distribution is the limit. theta counts as at least 1e-20 and at most 1e20; mean and count are to
// be below 1e18.
struct NegativeBinomialNll {
  static constexpr const char* kName = "negative_binomial_nll";
  static constexpr const char* kOperands[] = {"mu", "theta", "target"};
  static constexpr Target kTarget = Target::kNumber;
  static constexpr bool kIsOfMean = true;

  template <class T>
  VAE_FAST_FN static Loss<T, 3> evaluate(T mean, T theta, T x) {
    const bool valid = min_(mean, min_(theta, x)) >= T(0);
    const T mu = select(valid, mean, kNan<T>);
    const T t = max_(T(1e-20), min_(T(1e20), theta));
    const T top = max_(T(1), x);
    const CountTerm<T> count = count_term(x);
    const RatioTerm<T> ratio = ratio_term(x, t, top);

    const T scale = T(1) / (mu + t), share = t * scale;
    const T excess = (mu - x) * share, v = (x + t) * scale,
            far = (mu * T(kFar)) * (v * (T(1) / top));
    const CountDeviance<T> deviance = count_deviance(x, mu * v, excess, far);
    const T of_v = minus_log((x - mu) * scale, v * T(kFar)).value;
    const T value = (deviance.value + t * of_v) + (count.value - ratio.value);
    const T in_target = (count.slope - ratio.to_x) - deviance.log;
    return {select(mu == T(0) && x > T(0), kInfinity<T>, value),
            {select(x == T(0), share, excess / mu), of_v - ratio.to_t,
             select(mu == T(0), kInfinity<T>, in_target)}};
  }

  // theta log(1 + mu / theta), by the same deviances.
  template <class T>
  VAE_FAST_FN static Loss<T, 2> evaluate_zero(T mean, T theta) {
    const T mu = select(min_(mean, theta) >= T(0), mean, kNan<T>);
    const T t = max_(T(1e-20), min_(T(1e20), theta));
    const T scale = T(1) / (mu + t), share = t * scale;
    const T of_v = minus_log(-mu * scale, share * T(kFar)).value;
    return {mu * share + t * of_v, {share, of_v}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
