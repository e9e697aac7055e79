// Negative log-likelihoods of counts that are zero more often, in nats: with probability
// sigmoid(zero_logits) they are zero whatever the distribution of counts says.
#pragma once

#include "negative_binomial.h"
#include "poisson.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

template <class T>
struct ZeroInflated {
  T value;
  T to_nll;    // its derivative in the count's own negative log-likelihood
  T to_logit;  // and in the logit
};

// With s = sigmoid(-logit), what is left to the counts, a zero has the probability
// 1 - s (1 - exp(-nll)): of a likely one the logarithm is taken of what it lacks, of an unlikely
// one (whose logit is below 0) of the larger one of its two parts, exp(logit) and exp(-nll). Chosen
// by select: 0 * infinity does not arise.
template <class T>
VAE_FAST_FN ZeroInflated<T> zero_inflated(T logit, T nll, bool is_zero) {
  const T sum = logit + nll;
  const T e = exp_nonpositive(-abs_(logit)), e_sum = exp_nonpositive(-abs_(sum));
  const T r = T(1) / (T(1) + e), r_sum = T(1) / (T(1) + e_sum);
  const T s = select(logit > T(0), e * r, r), inflated = select(logit > T(0), r, e * r);
  const T counted = select(sum > T(0), e_sum * r_sum, r_sum);  // sigmoid(-sum)
  const T rest = select(sum > T(0), r_sum, e_sum * r_sum);
  const T lacking = -s * expm1_nonpositive(-nll);

  const bool likely = lacking < T(0.5);
  const T of_zero = select(likely, -lacking, (e_sum - e) * r);
  const T log = log1p_above(select(is_zero, of_zero, e));
  const T zero = select(likely, T(0), min_(-logit, nll)) - log;
  return {select(is_zero, zero, (max_(T(0), logit) + log) + nll), select(is_zero, counted, T(1)),
          select(is_zero, -rest * lacking, inflated)};
}

// Of the count's own, which may be infinite where it no longer counts.
template <class T>
VAE_FAST_FN T inflated_gradient(T to_nll, T gradient) {
  return select(to_nll == T(0), T(0), to_nll * gradient);
}

struct ZeroInflatedPoissonNll {
  static constexpr const char* kName = "zero_inflated_poisson_nll";
  static constexpr const char* kOperands[] = {"log_rate", "zero_logits", "target"};
  static constexpr Target kTarget = Target::kNumber;
  static constexpr bool kIsOfMean = true;

  template <class T>
  VAE_FAST_FN static Loss<T, 3> evaluate(T log_rate, T zero_logit, T x) {
    const Loss<T, 2> count = PoissonNll::evaluate<T>(log_rate, x);
    const ZeroInflated<T> mixed = zero_inflated(zero_logit, count.value, x == T(0));
    return {mixed.value,
            {inflated_gradient(mixed.to_nll, count.gradient[0]), mixed.to_logit,
             inflated_gradient(mixed.to_nll, count.gradient[1])}};
  }

  template <class T>
  VAE_FAST_FN static Loss<T, 2> evaluate_zero(T log_rate, T zero_logit) {
    const Loss<T, 1> count = PoissonNll::evaluate_zero<T>(log_rate);
    const ZeroInflated<T> mixed = zero_inflated(zero_logit, count.value, true);
    return {mixed.value, {inflated_gradient(mixed.to_nll, count.gradient[0]), mixed.to_logit}};
  }
};

struct ZeroInflatedNegativeBinomialNll {
  static constexpr const char* kName = "zero_inflated_negative_binomial_nll";
  static constexpr const char* kOperands[] = {"mu", "theta", "zero_logits", "target"};
  static constexpr Target kTarget = Target::kNumber;
  static constexpr bool kIsOfMean = true;

  template <class T>
  VAE_FAST_FN static Loss<T, 4> evaluate(T mean, T theta, T zero_logit, T x) {
    const Loss<T, 3> count = NegativeBinomialNll::evaluate<T>(mean, theta, x);
    const ZeroInflated<T> mixed = zero_inflated(zero_logit, count.value, x == T(0));
    return {mixed.value,
            {inflated_gradient(mixed.to_nll, count.gradient[0]),
             inflated_gradient(mixed.to_nll, count.gradient[1]), mixed.to_logit,
             inflated_gradient(mixed.to_nll, count.gradient[2])}};
  }

  template <class T>
  VAE_FAST_FN static Loss<T, 3> evaluate_zero(T mean, T theta, T zero_logit) {
    const Loss<T, 2> count = NegativeBinomialNll::evaluate_zero<T>(mean, theta);
    const ZeroInflated<T> mixed = zero_inflated(zero_logit, count.value, true);
    return {mixed.value,
            {inflated_gradient(mixed.to_nll, count.gradient[0]),
             inflated_gradient(mixed.to_nll, count.gradient[1]), mixed.to_logit}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
