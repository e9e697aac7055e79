// A datum against a component: what is made of their squared distance, sum_d ((x_d - m_d) s_d)^2.
//
// With s = exp(-logvar / 2) it is that of a diagonal Gaussian's log density; without, that of a
// kernel between two data. A pair's slope is twice its value's derivative in that sum: the gradient
// in an end's position is the sum of slope * distance * s over the others, where the distance is
// taken from that end.
#pragma once

#include "compensated_sum.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// A loop goes over the pairs of an owner, whose value or gradients it is after, and all the others.
// Whose scale it is that multiplies their distance: rows have none, nor the components of kernels.
enum class PairScale { kNone, kOfOwner, kOfOther };

// Below, 1 / scale would not fit: densities are those of the least variance, exp of this.
template <class T>
constexpr T kLeastPairLogvar = sizeof(T) == 8 ? T(-1300) : T(-140);

// exp(-logvar / 2).
template <class T>
VAE_FAST_FN T pair_scale(T logvar) {
  return exp_(T(-0.5) * max_(kLeastPairLogvar<T>, logvar));
}

// What is added to the logarithm of a component's weight, so that it less half the squared distance
// is its log density: of so many numbers.
VAE_FAST_FN double pair_normaliser(double sum_of_logvars, int64_t numbers) {
  return -0.5 * sum_of_logvars - static_cast<double>(numbers) * kHalfLogTwoPi<double>;
}

// T may be a vector of numbers.
template <class T>
VAE_FAST_FN T pair_distance(T from, T to, T scale) {
  return (from - to) * scale;
}

template <class T>
VAE_FAST_FN T pair_log_density(T log_weight, T square) {
  return log_weight - T(0.5) * square;
}

// The slope of log sum_k exp(log density_k): minus the component's share of the sum. Where all
// densities are zero there is none.
template <class T>
VAE_FAST_FN T pair_log_density_slope(T log_density, T log_sum) {
  return -exp_nonpositive(log_density - select(log_sum == -kInfinity<T>, kInfinity<T>, log_sum));
}

// exp(-square / (2 width)).
struct GaussianKernel {
  template <class T>
  VAE_FAST_FN static T value(T square, T width) {
    return exp_nonpositive(square * (T(-0.5) / width));
  }
  template <class T>
  VAE_FAST_FN static T slope(T square, T width) {
    return value(square, width) * (T(-1) / width);
  }
};

// width / (width + square).
struct InverseMultiquadraticKernel {
  template <class T>
  VAE_FAST_FN static T value(T square, T width) {
    return width / (width + square);
  }
  template <class T>
  VAE_FAST_FN static T slope(T square, T width) {
    const T value = width / (width + square);
    return value * value * (T(-2) / width);
  }
};

// log sum_k exp(l_k) of what was added so far.
template <class T>
struct LogSumExp {
  T largest = -kInfinity<T>;
  double weights = 0;  // relative to the largest
  double lost = 0;     // of them, to roundings; in float64

  // What exponents are relative to: finite where all are -infinity.
  VAE_FAST_FN T center() const { return select(largest > -kInfinity<T>, largest, T(0)); }

  VAE_FAST_FN void move_to(T larger) {
    if (larger > largest) {
      if (weights != 0) {
        const double factor = exp_(static_cast<double>(center()) - static_cast<double>(larger));
        weights *= factor;
        lost *= factor;
      }
      largest = larger;
    }
  }

  // Of terms exp(l - center()).
  VAE_FAST_FN void add_weights(double sum) {
    if constexpr (sizeof(T) == 8) {
      add_compensated(weights, lost, sum);
    } else {
      weights += sum;
    }
  }

  // A NaN is in the weights: the largest one passes it by.
  VAE_FAST_FN double value() const { return static_cast<double>(center()) + log_(weights + lost); }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
