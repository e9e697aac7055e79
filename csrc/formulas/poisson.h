// Negative log-likelihood of the Poisson distribution, in nats.
#pragma once

#include "gamma_functions.h"
#include "loss.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// exp(l) - x l + lgamma(x + 1), from the logarithm of the rate. With d = l - log(x), which is exact
// where it is small, it is x (exp(d) - 1 - d), never negative, and the rest of Stirling's formula.
// Of an x below 1, and where d is large, exp(l) is taken as it is.
struct PoissonNll {
  static constexpr const char* kName = "poisson_nll";
  static constexpr const char* kOperands[] = {"log_rate", "target"};
  static constexpr Target kTarget = Target::kNumber;
  static constexpr bool kIsOfMean = true;

  template <class T>
  VAE_FAST_FN static Loss<T, 2> evaluate(T log_rate, T x) {
    const T l = select(x >= T(0), log_rate, kNan<T>);
    const LogDistance<T> distance = log_distance(l, max_(T(1), x));
    const T d = distance.value;
    const CountTerm<T> count = count_term(x);
    const HalfExpm1<T> half = half_expm1(d);
    const T rate = exp_(l), linear = select(x == T(0), T(0), x * (T(1) + d));
    const bool apart = min_(T(2) - d, x - T(1)) < T(0);
    const T deviance = select(apart, rate - linear, T(2) * x * half.expm1_minus);
    return {deviance + (T(0.5) * distance.log + count.value),
            {select(apart, rate - x, T(2) * x * half.expm1), count.slope - d}};
  }

  template <class T>
  VAE_FAST_FN static Loss<T, 1> evaluate_zero(T log_rate) {
    const T rate = exp_(log_rate);
    return {rate, {rate}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
