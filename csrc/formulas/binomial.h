// Negative log-likelihood of the binomial distribution, in nats.
#pragma once

#include "gamma_functions.h"
#include "loss.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// The terms of log(n choose k) that the probabilities take away: lgamma(k + 1) + lgamma(n - k + 1)
// - lgamma(n + 1) without those of count_deviance at k and at n - k. 0 <= k <= n.
template <class T>
struct ChooseTerm {
  T value;
  CountTerm<T> hits, misses, all;
};
template <class T>
VAE_FAST_FN ChooseTerm<T> choose_term(T hits, T misses, T all) {
  const CountTerm<T> h = count_term(hits), m = count_term(misses), n = count_term(all);
  const T top_h = max_(T(1), hits), top_m = max_(T(1), misses), top_n = max_(T(1), all);
  const T logs = (log_any(top_h) - log_any(top_n)) + log_any(top_m);
  return {T(0.5) * logs + ((h.value - n.value) + m.value), h, m, n};
}

// For n trials of probability sigmoid(l). Beyond 80 a logit of either sign adds a linear term: what
// is rare is as rare as exp(-80) until then.
struct BinomialNll {
  static constexpr const char* kName = "binomial_nll";
  static constexpr const char* kOperands[] = {"logits", "total_count", "target"};
  static constexpr Target kTarget = Target::kNumber;

  template <class T>
  VAE_FAST_FN static Loss<T, 3> evaluate(T logit, T all, T hits) {
    const T misses = all - hits;
    const T l = select(min_(hits, misses) >= T(0), logit, kNan<T>);
    const T near = max_(T(-80), min_(T(80), l)), beyond = l - near;
    const T top = max_(T(1), all);
    const T p = logistic(near).sigmoid, q = logistic(-near).sigmoid;
    const T excess = misses * p - hits * q;  // of the mean over the hits
    const T far = top * T(kFar);
    const CountDeviance<T> hit =
        count_deviance(hits, top * p, excess, p * (far / max_(T(1), hits)));
    const CountDeviance<T> miss =
        count_deviance(misses, top * q, -excess, q * (far / max_(T(1), misses)));
    const ChooseTerm<T> choose = choose_term(hits, misses, all);
    const T rare = select(l > T(0), misses, hits), fade = exp_nonpositive(-abs_(beyond));
    const T slope =
        select(l > T(0), misses * p - (hits * q) * fade, (misses * p) * fade - hits * q);
    const T linear = select(rare == T(0), T(0), abs_(beyond) * rare);
    const T value = ((hit.value + miss.value) + choose.value) + linear;
    const T log_q = miss.log - max_(T(0), beyond), log_p = hit.log + min_(T(0), beyond);
    return {select(max_(rare, fade - T(0.5)) <= T(0), abs_(slope), value),
            {slope, (choose.misses.slope - choose.all.slope) - log_q,
             (choose.hits.slope - choose.misses.slope) - (log_p - log_q)}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
