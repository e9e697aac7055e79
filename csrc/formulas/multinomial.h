// Negative log-likelihood of the multinomial distribution, in nats, up to the constant in the
// target: -sum_k t_k log softmax(l)_k (Liang et al. 2018, arXiv:1802.05814, equation 2).
//
// Not one of the list's losses: a row's elements are coupled by its softmax. All exponentials are
// taken relative to a `center`, the largest logit met so far, which can be raised on the way.
#pragma once

#include "elementary.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// What an element adds to its row's sums. Neither is ever negative for a target that is not.
template <class T>
struct MultinomialTerms {
  T weight;  // exp(l - center)
  T cost;    // t (center - l); a logit of -infinity that has no target costs nothing
};

template <class T>
VAE_FAST_FN MultinomialTerms<T> multinomial_terms(T logit, T target, T center) {
  const T below = center - logit;
  return {exp_nonpositive(-below), select(target == T(0), T(0), target * below)};
}

// scale * (count softmax(l) - t), where `share` is scale * count / (the row's sum of weights).
template <class T>
VAE_FAST_FN T multinomial_gradient(T logit, T target, T center, T share, T scale) {
  return exp_nonpositive(logit - center) * share - target * scale;
}

// The sums of one row.
template <class T>
struct MultinomialRow {
  T largest = -kInfinity<T>;
  double weights = 0;  // relative to center()
  double count = 0;    // of the target
  double cost = 0;     // relative to center()

  // Finite where every logit so far is -infinity: then infinity - infinity must not arise.
  T center() const { return largest > -kInfinity<T> ? largest : T(0); }

  void raise(T candidate) {
    if (!(candidate > largest)) return;
    if (largest > -kInfinity<T>) {
      const double step = static_cast<double>(candidate) - static_cast<double>(largest);
      weights *= exp_(-step);
      if (count != 0) cost += count * step;
    }
    largest = candidate;
  }

  // Without a weight, every logit being -infinity, the costs alone say what the row costs.
  double value() const { return weights == 0 ? cost : cost + count * log_(weights); }
  double share() const { return weights == 0 ? 0 : count / weights; }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
