// The oracles, and the choice of instruction sets.
#include <algorithm>
#include <cmath>

#include "functions.h"

namespace vae_fast::testing {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kMax = std::numeric_limits<float>::max();
constexpr double kHalfPi = 1.57079632679489661923;

// exp(x) - 1 - x: the series where the difference cancels, 64 bits of mantissa where it still
// costs some, and plainly elsewhere.
double oracle_expm1_minus(double x) {
  const double size = std::fabs(x);
  if (size < 1e-3) return x * x * (0.5 + x * (1 / 6. + x * (1 / 24. + x * (1 / 120. + x / 720.))));
  if (size < 2) return static_cast<double>(expm1l(x) - static_cast<long double>(x));
  return std::isinf(x) ? kInf : std::expm1(x) - x;
}

double oracle_softplus(double x) {
  return std::fmax(0., x) + std::log1p(std::exp(-std::fabs(x))) + (std::isnan(x) ? x : 0);
}

// x - log(1 + x), likewise.
double oracle_minus_log1p(double x) {
  const long double wide = x;
  if (std::fabs(x) > 1e-2) return static_cast<double>(wide - log1pl(wide));
  long double series = 0;
  for (int k = 10; k >= 2; --k) series = 1 / static_cast<long double>(k) - wide * series;
  return static_cast<double>(wide * wide * series);
}

#define DEFINE_ORACLE(name, expression, oracle, ...) \
  double oracle_of_##name(double x) { return oracle; }
VAE_FAST_TESTED_FUNCTIONS(DEFINE_ORACLE)

}  // namespace

const std::vector<TestedFunction>& tested_functions() {
#define LIST_FUNCTION(name, expression, oracle, lowest, highest, bound_fma, bound_base) \
  {#name, oracle_of_##name, lowest, highest, bound_fma, bound_base},
  static const std::vector<TestedFunction> functions = {VAE_FAST_TESTED_FUNCTIONS(LIST_FUNCTION)};
  return functions;
}

std::vector<CompiledFunctions> compiled_functions() {
  std::vector<CompiledFunctions> result = {functions_base()};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    result.push_back(functions_avx2());
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
    result.push_back(functions_avx512());
  }
#endif
  return result;
}

}  // namespace vae_fast::testing
