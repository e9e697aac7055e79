// Negative log-likelihood of a mixture, in nats: -log sum_k p_k exp(-nll_k), p = softmax(logits).
//
// By scores, score_k = (logit_k - the largest logit) - nll_k, and these relative to the best one: a
// single component's value comes out as it is, and nothing overflows. A component whose logit is
// -infinity or that is impossible (nll infinite) has no share; where all are, there is no gradient.
#pragma once

#include "logarithms.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// What the logits are taken relative to: finite where all of them are -infinity.
template <class T>
VAE_FAST_FN T mixture_center(T largest) {
  return select(largest > -kInfinity<T>, largest, T(0));
}

template <class T>
VAE_FAST_FN T mixture_score(T logit, T center, T nll) {
  return select(logit == -kInfinity<T>, -kInfinity<T>, (logit - center) - nll);
}

// exp(score - best), 1 for the best one, be it infinite.
template <class T>
VAE_FAST_FN T mixture_weight(T score, T best) {
  return select(score == best, T(1), exp_nonpositive(score - best));
}

// The best of the scores that were added, and the sum of all their weights: a new best one moves
// it.
template <class T>
struct MixtureScores {
  T best = -kInfinity<T>;
  T weights = 0;

  VAE_FAST_FN void add(T score) {
    const bool is_best = score > best;
    const T weight = mixture_weight(select(is_best, best, score), select(is_best, score, best));
    weights = select(is_best, weights * weight + T(1), weights + weight);
    best = select(is_best, score, best);
  }
};

// `prior`: sum_k exp(logit_k - center), `weights`: sum_k mixture_weight(). A NaN is in one of them:
// the best score passes it by.
template <class T>
VAE_FAST_FN T mixture_value(T prior, T weights, T best) {
  return select(best == -kInfinity<T>, kInfinity<T> + (prior + weights),
                (log_any(prior) - log_any(weights)) - best);
}

// What a component's gradient is multiplied with, in which an impossible one may be infinite.
template <class T>
VAE_FAST_FN T mixture_gradient(T share, T gradient) {
  return select(share == T(0), T(0), share * gradient);
}

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
