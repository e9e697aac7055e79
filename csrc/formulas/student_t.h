// Negative log-likelihood of Student's t distribution, in nats.
#pragma once

#include "gamma_functions.h"
#include "loss.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// log_scale + log(df pi) / 2 + lgamma(df / 2) - lgamma((df + 1) / 2)
//   + (df + 1) / 2 log(1 + z^2 / df), z = (x - mean) / scale.
// With t = df / 2 and w = z^2 / df, log(1 + w) is -log(u) of u = 1 / (1 + w), and the gradient in
// df is made of terms that fall with 1 / df^2 each. The Gaussian is the limit: df counts as at most
// 2e20 and at least 2e-20, |z| as at most 1e18, w as at most 1e36.
struct StudentTNll {
  static constexpr const char* kName = "student_t_nll";
  static constexpr const char* kOperands[] = {"mean", "log_scale", "df", "target"};
  static constexpr Target kTarget = Target::kNumber;

  template <class T>
  VAE_FAST_FN static Loss<T, 4> evaluate(T mean, T log_scale, T df, T x) {
    constexpr T kHalfLogTwoPi = T(0.9189385332046727418);
    const T t = max_(T(1e-20), min_(T(1e20), T(0.5) * select(df > T(0), df, kNan<T>)));
    const RatioTerm<T> ratio = ratio_term(T(0.5), t, T(1));
    const T root = exp_(T(-0.5) * log_scale), step = T(0.5) / t, difference = x - mean;
    const T distance = select(difference == T(0), T(0), (difference * root) * root);
    const T z = max_(T(-1e18), min_(T(1e18), distance));
    const T w = min_(T(1e36), (z * z) * step), u = T(1) / (T(1) + w), share = w * u;
    const MinusLog<T> of_u = minus_log(-share, u * T(kFar));
    const T half = t + T(0.5);

    const T value = (kHalfLogTwoPi + T(0.5)) - (half * ratio.log_top + ratio.value);
    const T slope = ((T(2) * half * step) * (z * u)) * root * root;
    const MinusLog<T> of_step = minus_log(step, T(0));
    const T to_t = ((of_step.value - ratio.to_t) + of_u.value) - step * share;
    return {(log_scale + value) + half * (of_u.value + share),
            {-slope, T(1) - (T(2) * half) * share, T(0.5) * to_t, slope}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
