// Negative log-likelihood of a logistic distribution over the levels of a pixel in [-1, 1], in nats
// (Salimans et al. 2017, arXiv:1701.05517, without its fallback to the density in narrow bins).
#pragma once

#include "logarithms.h"
#include "loss.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// The probability between a = (x + half_width - mean) / s and b = (x - half_width - mean) / s,
// half_width = 1 / (levels - 1), is sigmoid(a) sigmoid(-b) (1 - exp(b - a)), three factors whose
// logarithms have one sign. The lowest level has all below a, the highest all above b.
struct DiscretizedLogisticNll {
  static constexpr const char* kName = "discretized_logistic_nll";
  static constexpr const char* kOperands[] = {"mean", "log_scale", "half_width", "target"};
  static constexpr Target kTarget = Target::kNumber;

  // The narrowest bins are as they are at log_scale 40: from there log(1 - exp(b - a)) falls by as
  // much as log_scale rises.
  template <class T>
  VAE_FAST_FN static Loss<T, 4> evaluate(T mean, T log_scale, T half_width, T x) {
    const T root = exp_(T(-0.5) * log_scale), difference = x - mean;
    const bool lowest = x<half_width - T(1), highest = x> T(1) - half_width;
    const T minus_a = -standing(difference + half_width, root);
    const T b = standing(difference - half_width, root);
    const Logistic<T> below = logistic(minus_a), above = logistic(b);
    const T clipped = min_(T(40), log_scale), small_root = exp_(T(-0.5) * clipped);
    const T width = (T(2) * half_width) * small_root * small_root;  // a - b
    const T rest = exp_nonpositive(-width), mass = -expm1_(-width);
    const T log_mass = minus_log(-rest, mass * T(kFar)).log - (log_scale - clipped);

    // Of each of the three factors its part in the value and its slopes, 0 where it is not there.
    const T part_a = select(highest, T(0), max_(T(0), minus_a) + below.softplus_neg_abs);
    const T part_b = select(lowest, T(0), max_(T(0), b) + above.softplus_neg_abs);
    const T part_mass = select(lowest, T(0), select(highest, T(0), -log_mass));
    const T to_a = select(highest, T(0), below.sigmoid), to_b = select(lowest, T(0), above.sigmoid);
    const T odds = rest * width / mass;
    const T to_mass = select(lowest, T(0), select(highest, T(0), odds));
    const T scaled = ((to_a - to_b) * root) * root;
    const T to_width = (to_a + to_b) * root * root;
    return {(part_a + part_b) + part_mass,
            {scaled, to_mass - (times(to_a, minus_a) + times(to_b, b)),
             -to_width - to_mass / half_width, -scaled}};
  }

 private:
  template <class T>
  VAE_FAST_FN static T standing(T difference, T root) {
    return select(difference == T(0), T(0), (difference * root) * root);
  }

  // A factor of 0 against a position that overflows.
  template <class T>
  VAE_FAST_FN static T times(T factor, T position) {
    return select(factor == T(0), T(0), factor * position);
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
