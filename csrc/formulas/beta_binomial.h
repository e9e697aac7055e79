// Negative log-likelihood of the beta-binomial distribution, in nats.
#pragma once

#include "binomial.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// n trials of a probability that is Beta(alpha, beta): of k hits and m misses
//
//   lgamma(k + 1) + lgamma(m + 1) - lgamma(n + 1) - (lgamma(k + alpha) - lgamma(alpha))
//     - (lgamma(m + beta) - lgamma(beta)) + (lgamma(n + s) - lgamma(s)),  s = alpha + beta.
//
// The large terms make deviances: of the hits and the misses from their means at the probability
// (k + alpha) / (n + s), and of alpha and beta from theirs. The binomial distribution is the limit.
struct BetaBinomialNll {
  static constexpr const char* kName = "beta_binomial_nll";
  static constexpr const char* kOperands[] = {"alpha", "beta", "total_count", "target"};
  static constexpr Target kTarget = Target::kNumber;

  template <class T>
  VAE_FAST_FN static Loss<T, 4> evaluate(T alpha, T beta, T all, T hits) {
    const T misses = all - hits;
    const bool valid = min_(alpha, beta) > T(0) && min_(hits, misses) >= T(0);
    const T a = select(valid, max_(T(1e-20), min_(T(1e18), alpha)), kNan<T>);
    const T b = max_(T(1e-20), min_(T(1e18), beta)), s = a + b;
    const T scale = T(1) / (all + s), p = (hits + a) * scale, q = (misses + b) * scale;
    const T excess = (misses * a - hits * b) * scale;  // of the hits' mean over them
    const T top = max_(T(1), all), far = top * T(kFar);
    const CountDeviance<T> hit =
        count_deviance(hits, top * p, excess, p * (far / max_(T(1), hits)));
    const CountDeviance<T> miss =
        count_deviance(misses, top * q, -excess, q * (far / max_(T(1), misses)));
    const MinusLog<T> of_a = minus_log(-excess / a, (s * p) * (T(kFar) / a));
    const MinusLog<T> of_b = minus_log(excess / b, (s * q) * (T(kFar) / b));
    const ChooseTerm<T> choose = choose_term(hits, misses, all);
    const RatioTerm<T> hit_a = ratio_term(hits, a, T(1)), miss_b = ratio_term(misses, b, T(1));
    const RatioTerm<T> all_s = ratio_term(all, s, T(1));
    const T deviance = (hit.value + miss.value) + (a * of_a.value + b * of_b.value);
    const T of_misses = (choose.misses.slope - miss.log) - miss_b.to_x;
    return {(deviance + choose.value) - ((hit_a.value - all_s.value) + miss_b.value),
            {(all_s.to_t - hit_a.to_t) - of_a.log, (all_s.to_t - miss_b.to_t) - of_b.log,
             of_misses - (choose.all.slope - all_s.to_x),
             ((choose.hits.slope - hit.log) - hit_a.to_x) - of_misses}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
