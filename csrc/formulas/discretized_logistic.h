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
    const bool lowest = x<half, highest = x> T(1) - half, edge = lowest || highest;
    const T difference = x - mean;
    const T minus_a = -((difference + half) * root) * root;
    const T b = ((difference - half) * root) * root;
    const T small_root = max_(T(kLeastRoot), min_(T(kLargestRoot), root));
    const T width = step * small_root * small_root;  // a - b
    const Exps<T> inside = exps_nonpositive(-width);

    // Of the three factors' reciprocals, 1 + e_a, 1 + e_b and 1 / (1 - exp(b - a)), each 1 where it
    // is not there, the product less 1: of terms that are never negative, so that one logarithm
    // serves.
    const T far_a = exp_nonpositive(-abs_(minus_a)), far_b = exp_nonpositive(-abs_(b));
    const T e_a = select(highest, T(0), far_a), e_b = select(lowest, T(0), far_b);
    const T rest = select(edge, T(0), inside.exp), mass = select(edge, T(1), -inside.expm1);
    const T whole_a = T(1) + e_a, whole_b = T(1) + e_b;
    const T r = T(1) / ((whole_a * whole_b) * mass), over_mass = r * (whole_a * whole_b);
    const T log = log1p_above(((e_a + e_b) + (e_a * e_b + rest)) * over_mass);
    const T linear =
        select(highest, T(0), max_(T(0), minus_a)) + select(lowest, T(0), max_(T(0), b));
    const T value = (linear + log) + select(edge, T(0), max_(T(0), log_scale - T(40)));

    // Their slopes.
    const T over_a = r * (whole_b * mass), over_b = r * (whole_a * mass);
    const T to_a = select(highest, T(0), select(minus_a > T(0), over_a, e_a * over_a));
    const T to_b = select(lowest, T(0), select(b > T(0), over_b, e_b * over_b));
    const T to_mass = (rest * width) * over_mass;
    const T scaled = ((to_a - to_b) * root) * root;
    const T in_half = (((to_a + to_b) * (step * half)) * root) * root;
    return {value,
            {scaled, to_mass - (times(to_a, minus_a) + times(to_b, b)),
             select(levels < T(2), T(0), step * to_mass + in_half), -scaled}};
  }

 private:
  // exp(-log_scale / 2) at 40 and at -80.
  static constexpr double kLeastRoot = 2.0611536224385578e-09, kLargestRoot = 2.3538526683701998e17;

  // A factor of 0 against a position that overflows.
  template <class T>
  VAE_FAST_FN static T times(T factor, T position) {
    return select(factor == T(0), T(0), factor * position);
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
