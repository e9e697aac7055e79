// Logarithms where the argument's distance from 1 is known better than the argument, or is all that
// counts. float by the polynomial of elementary.h, double by the C library.
#pragma once

#include "elementary.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// x = 2^k (1 + m), m in [sqrt(1/2) - 1, sqrt(2) - 1], for x > 0, subnormal too; x = infinity counts
// as 2^128.
struct Split {
  float k;
  float m;
};
VAE_FAST_FN Split split(float x) {
  const bool tiny = x < 0x1p-100f;
  const int32_t bits = subtract_wrapping(as_int(select(tiny, x * 0x1p64f, x)), kRootHalfBits);
  const float m = as_float((bits & kMantissaMask) + kRootHalfBits) - 1;
  return {static_cast<float>(bits >> 23) - select(tiny, 64.f, 0.f), m};
}

// log(1 + m) for such an m is the sum: `low` is below m, has no rounding of m in it and is
// relatively exact, so that m + low is log(1 + m) and -low is m - log(1 + m).
VAE_FAST_FN float log1p_low(float m) {
#ifdef __CUDA_ARCH__
  const float z = divide_by_normal(m, 0.5f * m + 1);
  const float v = z * z;
  const float p = ((5.457088118e-04f * v + 2.188923303e-03f) * v + 1.250637788e-02f) * v;
  return (p + 8.333304524e-02f) * v * z - 0.5f * m * z;
#else
  const float m2 = m * m;
  const float a = -2.500071824e-01f * m + 3.333332837e-01f;
  const float b = -1.662706286e-01f * m + 2.000140846e-01f;
  const float c = -1.312529147e-01f * m + 1.420088261e-01f;
  const float d = -7.703895867e-02f * m + 1.274930090e-01f;
  const float g = ((d * m2 + c) * m2 + b) * m2 + a;
  return (g * m - 0.5f) * m2;
#endif
}

// Of a logarithm's result, the special cases of its argument: x is what must be positive.
VAE_FAST_FN float with_limits(float x, float log) {
  const float upper = select(x <= 0x1.fffffep127f, log, x);
  return select(x > 0, upper, select(x == 0, -kInfinity<float>, kNan<float>));
}

// log(x), all of it.
VAE_FAST_FN float log_any(float x) {
  const Split s = split(x);
  const float log = s.k * kLn2High + ((s.k * kLn2Low + log1p_low(s.m)) + s.m);
  return with_limits(x, log);
}
VAE_FAST_FN double log_any(double x) { return std::log(x); }

// 2^-k of the bits that have k above the mantissa. With it the m of 1 + y = 2^k (1 + m) is exact
// where 1 + y is not: m = 2^-k y + (2^-k - 1).
VAE_FAST_FN float exp2_of_minus(int32_t bits) {
  return as_float(subtract_wrapping(127 << 23, bits & ~kMantissaMask));
}

// log(1 + x) for -0.7 < x < 2^126.
VAE_FAST_FN float log1p_above(float x) {
  const int32_t bits = subtract_wrapping(as_int(1 + x), kRootHalfBits);
  const float scale = exp2_of_minus(bits), k = static_cast<float>(bits >> 23);
  const float m = scale * x + (scale - 1);
  return k * kLn2High + ((k * kLn2Low + log1p_low(m)) + m);
}
VAE_FAST_FN double log1p_above(double x) { return std::log1p(x); }

template <class T>
struct MinusLog {
  T value;  // y - log(u): never negative
  T log;    // log(u)
};

// What u is multiplied with in minus_log's second argument, so that one below the normal numbers is
// exact too.
constexpr int32_t kFarExponent = 64;
constexpr double kFar = 0x1p64;

// For -1 < y < 2^126 and u = 1 + y: what is near u = 1 is made of y, what is near 0 of far = kFar
// u, which is read below u = 0.3 alone. far = 0 gives a finite number, a NaN in y a NaN in the
// value alone.
VAE_FAST_FN MinusLog<float> minus_log(float y, float far) {
  const bool near = y > -0.7f;
  const int32_t origin = select(near, kRootHalfBits, kRootHalfBits + (kFarExponent << 23));
  const int32_t bits = subtract_wrapping(as_int(select(near, 1 + y, far)), origin);
  const float far_m = as_float((bits & kMantissaMask) + kRootHalfBits) - 1;
  const float scale = exp2_of_minus(bits);
  const float m = select(near, scale * y + (scale - 1), far_m), k = static_cast<float>(bits >> 23);
  const float low = log1p_low(m);
  return {(((y - k * kLn2High) - m) - k * kLn2Low) - low, k * kLn2High + ((k * kLn2Low + low) + m)};
}
// By 2 atanh(z), z = y / (2 + y), near 0.
VAE_FAST_FN MinusLog<double> minus_log(double y, double far) {
  constexpr double kNear = 0.45;
  const double near = max_(-kNear, min_(kNear, y));
  const double z = near / (2 + near), v = z * z;
  double p = 0;
#ifdef __CUDACC__
#pragma unroll
#else
#pragma GCC unroll 15
#endif
  for (int i = 31; i >= 3; i -= 2) p = p * v + 2. / i;
  const bool is_far = y <= -0.7;
  const double log = is_far ? std::log(far / kFar + 0x1p-1022) : std::log1p(y);
  return {select(abs_(y) < kNear, z * (near - p * v), y - log), log};
}

// Of exp(-w) and what it lacks of 1.
template <class T>
struct Complement {
  T rest;      // exp(-w)
  T mass;      // 1 - exp(-w)
  T log_mass;  // log(1 - exp(-w)), exact however small w is; finite at 0 and of a NaN
};

// For w >= 0.
template <class T>
VAE_FAST_FN Complement<T> complement_of_exp(T w) {
  const T rest = exp_nonpositive(-w), mass = -expm1_(-w);
  return {rest, mass, minus_log(-rest, mass * T(kFar)).log};
}

template <class T>
struct LogDistance {
  T value;  // l - log(x): where it is small, as exact as l
  T log;    // log(x)
};

// For x > 0, normal and finite. The multiple of log 2 is taken from l first, which is exact.
VAE_FAST_FN LogDistance<float> log_distance(float l, float x) {
  const int32_t bits = subtract_wrapping(as_int(x), kRootHalfBits);
  const float m = as_float((bits & kMantissaMask) + kRootHalfBits) - 1;
  const float k = static_cast<float>(bits >> 23), low = log1p_low(m);
  return {(((l - k * kLn2High) - m) - low) - k * kLn2Low, k * kLn2High + ((k * kLn2Low + low) + m)};
}
VAE_FAST_FN LogDistance<double> log_distance(double l, double x) {
  constexpr double kLn2 = 0x1.62e42feep-1, kLn2Rest = 1.90821492927058770002e-10;
  // Where x is at an end of the range, not beyond it.
  const double most = select(x < 0x1p-500, 0., 500.), least = select(x > 0x1p500, 0., -500.);
  const double k = max_(least, min_(most, std::rint(l * 1.44269504088896340736)));
  const double rest = std::log(x * std::exp2(-k));
  return {((l - k * kLn2) - rest) - k * kLn2Rest, k * kLn2 + (k * kLn2Rest + rest)};
}

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
