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
    const T left = l.exp_neg_abs / (T(1) + l.exp_neg_abs);
    const T linear = select(against == T(0), T(0), abs_(logit) * against);
    return {linear + l.softplus_neg_abs,
            {select(logit > T(0), against - left, left - against), -logit}};
  }
};

// From probabilities, as torch's binary_cross_entropy computes it: logarithms clamped at -100. The
// gradient's denominators are clamped at 1e-12 one by one, so that it is finite at 0 and 1 and
// still right wherever the value is not clamped.
struct BernoulliProbsNll {
  static constexpr const char* kName = "bernoulli_probs_nll";
  static constexpr const char* kOperands[] = {"probs", "target"};
  static constexpr Target kTarget = Target::kUnitInterval;

  template <class T>
  VAE_FAST_FN static Loss<T, 2> evaluate(T p, T target) {
    const T q = T(1) - p;
    const T log_p = max_(T(-100), log_(p));
    const T log_q = max_(T(-100), log1p_(-p));
    const T other = T(1) - target;
    return {-(target * log_p + other * log_q),
            {other / max_(T(1e-12), q) - target / max_(T(1e-12), p), log_q - log_p}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
