// Negative log-likelihood of the Bernoulli distribution, in nats.
#pragma once

#include "loss.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// From logits: softplus(l) - x l, gradient sigmoid(l) - x, for any x in [0, 1]. Both are written in
// the weight of the class that l speaks against and the probability that the model leaves it, so
// that nothing cancels for confident logits, and an infinite logit that agrees with the target
// costs nothing.
struct BernoulliNll {
  static constexpr const char* kName = "bernoulli_nll";
  static constexpr const char* kOperands[] = {"logits", "target"};
  static constexpr Target kTarget = Target::kUnitInterval;

  template <class T>
  VAE_FAST_FN static Loss<T, 2> evaluate(T logit, T target) {
    const Logistic<T> l = logistic(logit);
    const T against = select(logit > T(0), T(1) - target, target);
    const T left = divide_by_normal(l.exp_neg_abs, T(1) + l.exp_neg_abs);
    const T linear = select(against == T(0), T(0), abs_(logit) * against);
    return {linear + l.softplus_neg_abs,
            {select(logit > T(0), against - left, left - against), -logit}};
  }
};

// From probabilities, as torch's binary_cross_entropy computes it: logarithms clamped at -100. In
// the gradient, (p - x) / (p (1 - p)), the factors are clamped at 1e-12, so that it is finite at 0
// and 1 and right wherever the value is not clamped. All is written in the smaller one of p and
// 1 - p, which is exact, and the only one that meets a clamp.
struct BernoulliProbsNll {
  static constexpr const char* kName = "bernoulli_probs_nll";
  static constexpr const char* kOperands[] = {"probs", "target"};
  static constexpr Target kTarget = Target::kUnitInterval;

  template <class T>
  VAE_FAST_FN static Loss<T, 2> evaluate(T p, T target) {
    const bool is_smaller = p < T(0.5);
    const T q = T(1) - p, other = T(1) - target;
    const T smaller = select(is_smaller, p, q), larger = select(is_smaller, q, p);
    const T counted = select(is_smaller, target, other);  // what the smaller one is to be
    const T rest = select(is_smaller, other, target);
    const Logs<T> log = logs_of_smaller(smaller);
    const T floored = max_(T(1e-12), smaller);
    const T slope = divide_by_normal(floored - counted, floored * larger);
    const T odds = log.larger - log.smaller;
    return {-(counted * log.smaller + rest * log.larger),
            {select(is_smaller, slope, -slope), select(is_smaller, odds, -odds)}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
