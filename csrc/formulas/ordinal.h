// Negative log-likelihood of one of several classes in an order, in nats: the cumulative logit
// model (McCullagh 1980, "Regression models for ordinal data").
#pragma once

#include "logarithms.h"
#include "loss.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// A class has the logistic's probability between its ends: with a = upper - location and
// b = lower - location, sigmoid(a) sigmoid(-b) (1 - exp(b - a)). The lowest class has a lower end
// of -infinity, the highest an upper one of infinity. Ends the wrong way round give NaN.
struct OrdinalNll {
  static constexpr const char* kName = "ordinal_nll";
  static constexpr const char* kOperands[] = {"location", "lower", "upper"};
  static constexpr Target kTarget = Target::kNone;

  template <class T>
  VAE_FAST_FN static Loss<T, 3> evaluate(T location, T lower, T upper) {
    // An end that is infinite is so from wherever the location is.
    const T minus_a = select(upper == kInfinity<T>, -kInfinity<T>, location - upper);
    const T b = select(lower == -kInfinity<T>, -kInfinity<T>, lower - location);
    const Logistic<T> below = logistic(minus_a), above = logistic(b);
    const T part_a = max_(T(0), minus_a) + below.softplus_neg_abs;
    const T part_b = max_(T(0), b) + above.softplus_neg_abs;

    const T width = upper - lower;
    const Complement<T> inside = complement_of_exp(select(width >= T(0), width, kNan<T>));
    const bool is_empty = inside.mass == T(0);
    const T log_mass = select(is_empty, -kInfinity<T>, inside.log_mass);
    // Finite of no width, so that 0 times it is 0, and the same in any arithmetic.
    const T odds = select(is_empty, T(1e30), inside.rest / inside.mass);
    const T value = (part_a + part_b) - select(width >= T(0), log_mass, kNan<T>);
    return {value, {below.sigmoid - above.sigmoid, above.sigmoid + odds, -(below.sigmoid + odds)}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
