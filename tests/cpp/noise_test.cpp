// Every instruction set's fill_normal against the definition for one element, normal_at: any first
// element, any length, counters that carry into their high word.
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "functions.h"

namespace {

using vae_fast::Seed;

constexpr Seed kSeeds[] = {{0, 0}, {0x0123456789abcdef, 0xfedcba9876543210}, {~0ull, ~0ull}};
// Element 2^34 - 64 is the last whose counters fit 32 bits.
constexpr uint64_t kOrigins[] = {0, (1ull << 34) - 128, (1ull << 62) - 256};
constexpr int kReach = 64 * 5;
constexpr float kUnwritten = 1e30f;

// The same operations in the same order give the same bits, but whether a * b + c is one rounding
// or two is the instruction set's, and which product is fused, the compiler's.
template <class T>
bool close(T got, T expected) {
  const double tolerance = sizeof(T) == 8 ? 1e-15 : 6e-7;
  return std::fabs(double{got} - double{expected}) <= tolerance * (1 + std::fabs(double{expected}));
}

template <class T, class Fill>
void check_fill(const char* name, const Fill& fill, const Seed& seed, uint64_t origin) {
  std::vector<T> expected(kReach);
  for (int i = 0; i < kReach; ++i) expected[i] = vae_fast::normal_at<T>(seed, origin + i);
  std::vector<T> whole(kReach);
  fill(seed, origin, kReach, whole.data());
  for (int i = 0; i < kReach; ++i) {
    CHECK(close(whole[i], expected[i]), "%s: element %d is %.9g, not %.9g", name, i,
          static_cast<double>(whole[i]), static_cast<double>(expected[i]));
  }
  // However it is cut, the same bits; and nothing is written beyond.
  for (int first = 0; first <= 130; ++first) {
    for (int n = 0; first + n <= kReach; n += n < 140 ? 1 : 17) {
      std::vector<T> part(n + 2, T{kUnwritten});
      fill(seed, origin + first, n, part.data() + 1);
      CHECK(part.front() == T{kUnwritten} && part.back() == T{kUnwritten},
            "%s: wrote outside [%d, %d)", name, first, first + n);
      CHECK(n == 0 || std::memcmp(&part[1], &whole[first], n * sizeof(T)) == 0,
            "%s: [%d, %d) differs from the whole", name, first, first + n);
    }
  }
}

}  // namespace

int main() {
  for (const auto& compiled : vae_fast::testing::compiled_functions()) {
    for (const Seed& seed : kSeeds) {
      for (const uint64_t origin : kOrigins) {
        check_fill<float>(compiled.instruction_set, compiled.fill_normal_float, seed, origin);
        check_fill<double>(compiled.instruction_set, compiled.fill_normal_double, seed, origin);
      }
    }
  }
  return vae_fast::testing::report();
}
