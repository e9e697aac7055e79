// Negative log-likelihood of the multinomial distribution, in nats, up to the constant in the
// target: -sum_k t_k log softmax(l)_k (Liang et al. 2018, arXiv:1802.05814, equation 2).
//
// Not one of the list's losses: a row's elements are coupled by its softmax. All exponentials are
// taken relative to the row's largest logit, the `center`.
#pragma once

#include "elementary.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// exp(l - center).
template <class T>
VAE_FAST_FN T multinomial_weight(T logit, T center) {
  return exp_nonpositive(logit - center);
}

// t (center - l): never negative for a target that is not. A logit of -infinity that has no target
// costs nothing.
template <class T>
VAE_FAST_FN T multinomial_cost(T logit, T target, T center) {
  return select(target == T(0), T(0), target * (center - logit));
}

// scale * (count softmax(l) - t), where `share` is scale * count / (the sum of the row's weights).
template <class T>
VAE_FAST_FN T multinomial_gradient(T weight, T target, T share, T scale) {
  return weight * share - target * scale;
}

// The sums of one row.
template <class T>
struct MultinomialRow {
  T center;
  double weights = 0;
  double count = 0;  // of the target
  double cost = 0;

  // Finite where every logit is -infinity: infinity - infinity must not arise.
  VAE_FAST_FN explicit MultinomialRow(T largest)
      : center(largest > -kInfinity<T> ? largest : T(0)) {}

  // The same sums about a center that is not below the largest logit among them. All terms stay
  // positive. Without a weight each cost is zero or infinite, wherever the center is.
  VAE_FAST_FN void move_to(T new_center) {
    if (weights != 0) {
      const double distance = static_cast<double>(new_center) - center;
      weights *= exp_(-distance);
      cost += count * distance;
    }
    center = new_center;
  }

  // Without a weight, every logit being -infinity, the costs alone say what the row costs.
  VAE_FAST_FN double value() const { return weights == 0 ? cost : cost + count * log_(weights); }
  VAE_FAST_FN double share() const { return weights == 0 ? 0 : count / weights; }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
