// The error of a float result in units in the last place of the exact one.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace vae_fast::testing {

// An exact result, ready to measure floats against. The unit is the distance between floats there,
// 2^-149 below the normal ones. Infinity counts as 2^128, so that a result that overflows by
// rounding is not far off.
class Exact {
 public:
  explicit Exact(double value) : value_(limit(value)) {
    const uint64_t exponent = std::bit_cast<uint64_t>(value_) & 0x7ff0000000000000u;
    const double power = std::clamp(std::bit_cast<double>(exponent), 0x1p-126, 0x1p127);
    per_unit_ = 0x1p23 / power;
  }

  // In units. NaN where either is NaN.
  double distance(float got) const { return std::fabs(limit(got) - value_) * per_unit_; }

  // In units; 0 where both are NaN, infinite where one is.
  double error(float got) const {
    const double d = distance(got);
    if (!std::isnan(d)) return d;
    const bool both = std::isnan(got) && std::isnan(value_);
    return both ? 0 : std::numeric_limits<double>::infinity();
  }

 private:
  static double limit(double x) { return x > 0x1p128 ? 0x1p128 : x < -0x1p128 ? -0x1p128 : x; }

  double value_;
  double per_unit_;
};

}  // namespace vae_fast::testing
