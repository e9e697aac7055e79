// Negative log-likelihood of the Beta distribution, in nats.
#pragma once

#include "binomial.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// lgamma(a) + lgamma(b) - lgamma(a + b) - (a - 1) log(x) - (b - 1) log(1 - x): that of a binomial
// distribution of the probability x for a hits and b misses, and log(x (1 - x) (a + b) / (a b)).
struct BetaNll {
  static constexpr const char* kName = "beta_nll";
  static constexpr const char* kOperands[] = {"alpha", "beta", "target"};
  static constexpr Target kTarget = Target::kUnitInterval;

  template <class T>
  VAE_FAST_FN static Loss<T, 3> evaluate(T alpha, T beta, T x) {
    const bool valid = min_(alpha, beta) > T(0) && min_(x, T(1) - x) >= T(0);
    const T a = select(valid, alpha, kNan<T>), b = beta, n = a + b;
    // Of the side that has no room, the number that decides whether the density is 0 or infinite.
    const T edge = select(x == T(0), a, select(x == T(1), b, T(1))) - T(1);
    const T p = select(x == T(0), T(1e-30), x), q = select(x == T(1), T(1e-30), T(1) - x);
    const T top = max_(T(1), n), excess = b * p - a * q;
    const T far = top * T(kFar);
    const CountDeviance<T> hit = count_deviance(a, top * p, excess, p * (far / max_(T(1), a)));
    const CountDeviance<T> miss = count_deviance(b, top * q, -excess, q * (far / max_(T(1), b)));
    const ChooseTerm<T> choose = choose_term(a, b, n);
    const T logs = (log_any(p) - log_any(a)) + (log_any(q) - log_any(b)) + log_any(n);
    const T value = ((hit.value + miss.value) + choose.value) + logs;
    const T slope = (b - T(1)) / q - (a - T(1)) / p, outward = select(x == T(0), -edge, edge);
    const T of_n = choose.all.slope - T(1) / n;
    const T in_a = ((choose.hits.slope - T(1) / a) - of_n) - hit.log;
    const T in_b = ((choose.misses.slope - T(1) / b) - of_n) - miss.log;
    return {select(edge == T(0), value, edge * kInfinity<T>),
            {select(x == T(0), kInfinity<T>, in_a), select(x == T(1), kInfinity<T>, in_b),
             select(edge == T(0), slope, outward * kInfinity<T>)}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
