// The functions of one argument, a line each: everything that tests them is made from this list.
//
// ROW(name, float expression in x, oracle: a double expression in x, domain, largest error in ULP
// that is allowed with FMA, and without)
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "formulas/bessel_functions.h"
#include "formulas/philox.h"

// clang-format off
#define VAE_FAST_TESTED_FUNCTIONS(ROW)                                                           \
  ROW(exp, exp_(x), std::exp(x), -kInf, kInf, 1.1, 1.1)                                          \
  ROW(exp_nonpositive, exp_nonpositive(x), std::exp(x), -kInf, 0, 1.1, 1.1)                      \
  ROW(expm1, expm1_(x), std::expm1(x), -kInf, kInf, 2, 2)                                        \
  ROW(expm1_nonpositive, expm1_nonpositive(x), std::expm1(x), -kInf, 0, 2, 2)                    \
  ROW(expm1_minus, expm1_minus(x), oracle_expm1_minus(x), -kInf, kInf, 2, 2.5)                   \
  ROW(log_positive_normal, select(x > 0, log_positive_normal(x), x), std::log(x), 0x1p-126,      \
      kMax, 1, 1)                                                                                \
  ROW(log_smaller, logs_of_smaller(x).smaller, std::max(std::log(x), -100.), 0, 0.5, 1, 1)       \
  ROW(log_larger, logs_of_smaller(x).larger, std::log1p(-x), 0, 0.5, 1, 1)                       \
  ROW(log1p_unit, log1p_unit(x), std::log1p(x), 0, 1, 2, 2)                                      \
  ROW(log1p_by_division, log1p_by_division(x), std::log1p(x), -0.29, 1, 2, 2)                    \
  ROW(sigmoid, sigmoid(x), 1 / (1 + std::exp(-x)), -kInf, kInf, 2.5, 2.5)                        \
  ROW(softplus, softplus(x), oracle_softplus(x), -kInf, kInf, 2.5, 2.5)                          \
  ROW(sine_quarter, sine_cosine_quarter(x).sine, std::sin(kHalfPi * x), -0.5, 0.5, 2, 2)         \
  ROW(cosine_quarter, sine_cosine_quarter(x).cosine, std::cos(kHalfPi * x), -0.5, 0.5, 2, 2)     \
  ROW(log_any, log_any(x), std::log(x), -kInf, kInf, 1, 1)                                       \
  ROW(log1p_above, log1p_above(x), std::log1p(x), -0.7, 0x1p125, 2, 2)                           \
  ROW(minus_log, minus_log(x, (1 + x) * 0x1p64f).value, oracle_minus_log1p(x),                   \
      -0.99999994, 0x1p125, 5, 5)                                                                \
  ROW(lgamma, lgamma_(x), std::lgamma(x), 0, kInf, 5.5, 5.5)                                     \
  ROW(digamma, digamma(x), digamma(x), 0, kInf, 4, 4)                                            \
  ROW(bessel_log, exp_(bessel_rests(x, log_any(x)).log),                                         \
      std::exp(bessel_rests(x, std::log(x)).log), 0, kMax, 48, 48)                               \
  ROW(bessel_ratio, bessel_rests(x, log_any(x)).ratio, bessel_rests(x, std::log(x)).ratio, 0,    \
      kMax, 10, 11.5)
// clang-format on

namespace vae_fast::testing {

// The functions as compiled for one instruction set (functions.cpp, once for each).
struct CompiledFunctions {
  const char* instruction_set;
  void (*const* maps)(const float* x, float* y, int64_t n);  // in the list's order
  void (*fill_normal_float)(const Seed& seed, uint64_t first, int64_t n, float* out);
  void (*fill_normal_double)(const Seed& seed, uint64_t first, int64_t n, double* out);
};

CompiledFunctions functions_base();
CompiledFunctions functions_avx2();
CompiledFunctions functions_avx512();

// Those that this machine can run.
std::vector<CompiledFunctions> compiled_functions();

struct TestedFunction {
  const char* name;
  double (*oracle)(double x);
  double lowest, highest;
  double bound_fma, bound_base;

  // The first set has no FMA.
  double bound(size_t set) const { return set == 0 ? bound_base : bound_fma; }
};

const std::vector<TestedFunction>& tested_functions();

}  // namespace vae_fast::testing
