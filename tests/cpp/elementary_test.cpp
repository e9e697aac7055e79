// The elementary functions on a sample of the floats; exhaustive.cpp tries them all.
#include <cmath>
#include <cstdint>
#include <vector>

#include "check.h"
#include "functions.h"
#include "ulp.h"

namespace {

using vae_fast::testing::CompiledFunctions;
using vae_fast::testing::TestedFunction;

// Every 4093rd float, and the neighbourhoods of the arguments where something changes.
std::vector<float> sample_of_floats() {
  std::vector<uint32_t> bits;
  for (uint64_t i = 0; i < 1ull << 32; i += 4093) bits.push_back(static_cast<uint32_t>(i));
  const float inf = std::numeric_limits<float>::infinity();
  for (const float x : {0.f, 0x1p-126f, 0x1p-24f, 0.34657359f, 0.41421356f, 0.5f, 0.69314718f, 1.f,
                        1.41421356f, 16.635532f, 87.336545f, 88.722839f, 103.97208f, inf}) {
    for (int offset = -200; offset <= 200; ++offset) {
      const uint32_t near = std::bit_cast<uint32_t>(x) + static_cast<uint32_t>(offset);
      bits.push_back(near);
      bits.push_back(near ^ 0x80000000u);
    }
  }
  std::vector<float> floats;
  for (const uint32_t b : bits) floats.push_back(std::bit_cast<float>(b));
  return floats;
}

void check_errors(const CompiledFunctions& compiled, const TestedFunction& function, size_t index,
                  double bound, const std::vector<float>& xs) {
  std::vector<float> in_domain;
  for (const float x : xs) {
    if (!(x < function.lowest || x > function.highest)) in_domain.push_back(x);
  }
  std::vector<float> ys(in_domain.size());
  compiled.maps[index](in_domain.data(), ys.data(), static_cast<int64_t>(ys.size()));
  for (size_t i = 0; i < ys.size(); ++i) {
    const double exact = function.oracle(in_domain[i]);
    const double error = vae_fast::testing::Exact(exact).error(ys[i]);
    CHECK(error <= bound, "%s %s(%.9g) = %.9g, not %.9g: %.3g ULP", compiled.instruction_set,
          function.name, static_cast<double>(in_domain[i]), static_cast<double>(ys[i]), exact,
          error);
  }
}

// What formulas rely on beyond small errors.
void check_promises(const std::vector<float>& xs) {
  for (const float x : xs) {
    CHECK(!(vae_fast::expm1_minus(x) < 0), "expm1_minus(%g) < 0", static_cast<double>(x));
    const double wide = x;
    CHECK(!(vae_fast::expm1_minus(wide) < 0), "expm1_minus(%g) < 0 in double", wide);
    if (std::fabs(wide) < 1e-3) {
      const double high = 1 / 24. + wide * (1 / 120. + wide / 720.);
      const double series = wide * wide * (0.5 + wide * (1 / 6. + wide * high));
      CHECK(std::fabs(vae_fast::expm1_minus(wide) - series) <= 1e-15 * series + 5e-324,
            "expm1_minus(%g) in double", wide);
    }
  }
  const double inf = std::numeric_limits<double>::infinity();
  CHECK(vae_fast::expm1_minus(inf) == inf && vae_fast::expm1_minus(-inf) == inf, "in double");
  for (const double x : {-1., -1 - 1e-9, 1., 1 + 1e-9}) {
    const long double exact = expm1l(x) - static_cast<long double>(x);
    CHECK(std::fabs(vae_fast::expm1_minus(x) - static_cast<double>(exact)) <= 4e-16,
          "expm1_minus(%.12g) in double", x);
  }
}

}  // namespace

int main() {
  const std::vector<float> xs = sample_of_floats();
  const auto sets = vae_fast::testing::compiled_functions();
  const auto& functions = vae_fast::testing::tested_functions();
  for (size_t set = 0; set < sets.size(); ++set) {
    for (size_t i = 0; i < functions.size(); ++i) {
      check_errors(sets[set], functions[i], i, functions[i].bound(set), xs);
    }
  }
  check_promises(xs);
  return vae_fast::testing::report();
}
