// Negative log-likelihood of Student's t distribution, in nats.
#pragma once

#include "gamma_functions.h"
#include "loss.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// log_scale + log(df pi) / 2 + lgamma(df / 2) - lgamma((df + 1) / 2)
//   + (df + 1) / 2 log(1 + z^2 / df), z = (x - mean) / scale.
// With t = df / 2 and u = df / (df + z^2), log(1 + z^2 / df) is -log(u), and the gradient in df is
// made of terms that fall with 1 / df^2 each. The Gaussian is the limit: df counts as at most 2e20
// and at least 2e-20. Where z^2 is too large for a float, -log(u) is made of logarithms; the slope
// is (df + 1) / (x - mean) there, whatever the scale is.
struct StudentTNll {
  static constexpr const char* kName = "student_t_nll";
  static constexpr const char* kOperands[] = {"mean", "log_scale", "df", "target"};
  static constexpr Target kTarget = Target::kNumber;

  template <class T>
  VAE_FAST_FN static Loss<T, 4> evaluate(T mean, T log_scale, T df, T x) {
    const T t = max_(T(1e-20), min_(T(1e20), T(0.5) * select(df > T(0), df, kNan<T>)));
    const RatioTerm<T> ratio = ratio_term(T(0.5), t, T(1));
    const T n = T(2) * t, step = T(1) / n, twice = n + T(1);
    const T precision = exp_(-log_scale), difference = x - mean;
    const T distance = select(difference == T(0), T(0), difference * precision);
    const T z = max_(T(-4e18), min_(T(4e18), distance)), square = z * z;
    const T inverse = T(1) / (n + square), u = n * inverse, share = square * inverse;
    const bool far = min_(T(4e18) - abs_(z), u - T(1e-36)) <= T(0);
    const T log_far = T(2) * (log_any(abs_(difference)) - log_scale) + log_positive_normal(step);
    const T of_u = select(far, log_far - share, minus_log(-share, u * T(kFar)).value);

    const T value = (kHalfLogTwoPi<T> + T(0.5)) - (T(0.5) * twice * ratio.log_top + ratio.value);
    const T near_slope = select(z == T(0), T(0), ((twice * inverse) * z) * precision);
    const T slope = select(share > T(0.5), twice * share / difference, near_slope);
    const MinusLog<T> of_step = minus_log(step, T(0));
    const T to_t = ((of_step.value - ratio.to_t) + of_u) - step * share;
    return {(log_scale + value) + T(0.5) * twice * (of_u + share),
            {-slope, T(1) - twice * share, T(0.5) * to_t, slope}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
