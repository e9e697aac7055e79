// Negative log-likelihood of the Gamma distribution, in nats.
#pragma once

#include "gamma_functions.h"
#include "loss.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// lgamma(a) - a log(rate) - (a - 1) log(x) + rate x: that of a Poisson distribution of the rate
// mu = rate x for the count a, and log(x / a). So it is a (u - 1 - log(u)) with u = mu / a, and the
// rest of Stirling's formula; a is not divided by where it is below 1.
struct GammaNll {
  static constexpr const char* kName = "gamma_nll";
  static constexpr const char* kOperands[] = {"concentration", "rate", "target"};
  static constexpr Target kTarget = Target::kNumber;

  template <class T>
  VAE_FAST_FN static Loss<T, 3> evaluate(T concentration, T rate, T x) {
    const bool valid = min_(concentration, rate) > T(0) && x >= T(0);
    const T a = select(valid, concentration, kNan<T>);
    const bool zero = x == T(0);
    const T mu = rate * x, excess = rate * x - a, up = T(kFar) / max_(T(1), a);
    // Of a mu that is subnormal, too; and of one that overflows, or nearly, mu is all there is.
    const T far = select(rate < T(1), (rate * up) * x, rate * (up * x));
    constexpr T kLargest = std::numeric_limits<T>::max() / 8;
    const bool large = mu > kLargest;
    const CountDeviance<T> deviance =
        count_deviance(a, min_(kLargest, mu), min_(kLargest, excess), far);
    const CountTerm<T> count = count_term(a);

    // mu - (a - 1), by what is exact: 1 - a for a small a.
    const T above_mode = select(a < T(2), mu + (T(1) - a), excess + T(1));
    const T log_a = log_any(a), log_x = log_any(select(zero, rate, x));
    const T rest = log_x - select(a < T(1), T(1), T(0.5)) * log_a;
    const T at_zero = select(a == T(1), -log_x, (a - T(1)) * kInfinity<T>);
    const T value = select(large, excess, (deviance.value + count.value) + rest);
    const T in_a = (count.slope - T(1) / a) - deviance.log;
    return {select(zero, at_zero, value),
            {select(zero, kInfinity<T>, in_a), select(large, x, excess / rate),
             select(a == T(1) || large, rate, above_mode / x)}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
