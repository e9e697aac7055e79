// Negative log-likelihood of a logistic distribution over the levels of a pixel in [0, 1], in nats
// (Salimans et al. 2017, arXiv:1701.05517, without its fallback to the density in narrow bins).
#pragma once

#include "logarithms.h"
#include "loss.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// Of levels 0, w, 2 w, ... 1 the one at x has the probability between a = (x + w / 2 - mean) / s
// and b = (x - w / 2 - mean) / s: sigmoid(a) sigmoid(-b) (1 - exp(b - a)), three factors whose
// logarithms have one sign. The lowest level has all below a, the highest all above b.
struct DiscretizedLogisticNll {
  static constexpr const char* kName = "discretized_logistic_nll";
  static constexpr const char* kOperands[] = {"mean", "log_scale", "levels", "target"};
  static constexpr Target kTarget = Target::kUnitInterval;

  // The bins are as narrow as at log_scale 40, from where log(1 - exp(b - a)) falls by as much as
  // log_scale rises; and as wide as at -80, where exp(b - a) is nothing.
  template <class T>
  VAE_FAST_FN static Loss<T, 4> evaluate(T mean, T log_scale, T levels, T x) {
    const T step = T(1) / (max_(T(2), levels) - T(1)), half = T(0.5) * step;
    // Finite, so that 0 times it is 0.
    const T root = min_(std::numeric_limits<T>::max(), exp_(T(-0.5) * log_scale));
    const bool lowest = x<half, highest = x> T(1) - half;
    const T difference = x - mean;
    const T minus_a = -((difference + half) * root) * root;
    const T b = ((difference - half) * root) * root;
    const Logistic<T> below = logistic(minus_a), above = logistic(b);
    const T small_root = exp_(T(-0.5) * max_(T(-80), min_(T(40), log_scale)));
    const T width = step * small_root * small_root;  // a - b
    const Complement<T> inside = complement_of_exp(width);
    const T log_mass = inside.log_mass - max_(T(0), log_scale - T(40));

    // Of each of the three factors its part in the value and its slopes, 0 where it is not there.
    const T part_a = select(highest, T(0), max_(T(0), minus_a) + below.softplus_neg_abs);
    const T part_b = select(lowest, T(0), max_(T(0), b) + above.softplus_neg_abs);
    const T part_mass = select(lowest, T(0), select(highest, T(0), -log_mass));
    const T to_a = select(highest, T(0), below.sigmoid), to_b = select(lowest, T(0), above.sigmoid);
    const T odds = inside.rest * width / inside.mass;
    const T to_mass = select(lowest, T(0), select(highest, T(0), odds));
    const T scaled = ((to_a - to_b) * root) * root;
    const T in_half = (((to_a + to_b) * (step * half)) * root) * root;
    return {(part_a + part_b) + part_mass,
            {scaled, to_mass - (times(to_a, minus_a) + times(to_b, b)),
             select(levels < T(2), T(0), step * to_mass + in_half), -scaled}};
  }

 private:
  // A factor of 0 against a position that overflows.
  template <class T>
  VAE_FAST_FN static T times(T factor, T position) {
    return select(factor == T(0), T(0), factor * position);
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
