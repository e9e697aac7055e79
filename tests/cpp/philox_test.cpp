// Philox4x32-10 against the known answers that Random123 publishes (tests/kat_vectors), and the
// normal transform against its definition.
#include <cmath>
#include <cstdint>

#include "check.h"
#include "formulas/philox.h"

namespace {

struct KnownAnswer {
  uint32_t counter[4];
  uint32_t key[2];
  uint32_t words[4];
};

constexpr KnownAnswer kKnownAnswers[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

uint64_t join(uint32_t low, uint32_t high) { return uint64_t{high} << 32 | low; }

void check_known_answers() {
  for (const KnownAnswer& known : kKnownAnswers) {
    const vae_fast::Seed seed = {join(known.key[0], known.key[1]),
                                 join(known.counter[2], known.counter[3])};
    const auto words = vae_fast::philox(seed, join(known.counter[0], known.counter[1]));
    for (int i = 0; i < 4; ++i) {
      CHECK(words.word[i] == known.words[i], "word %d: %08x, not %08x", i, words.word[i],
            known.words[i]);
    }
  }
}

// The angle straight from the definition, in double, where its 32 bits are exact.
void check_transform(uint32_t a, uint32_t b) {
  const float u = static_cast<float>(static_cast<int32_t>(a >> 1)) * 0x1p-31f + 0x1p-32f;
  CHECK(u > 0 && u <= 1, "u = %g from %08x", static_cast<double>(u), a);
  int64_t low = b & 0x3fffffff;
  if (low >= 1 << 29) low -= 1 << 30;
  const double angle = ((b >> 30) + static_cast<double>(low) * 0x1p-30) * 1.57079632679489661923;
  const double radius = std::sqrt(-2 * std::log(static_cast<double>(u)));
  const auto normals = vae_fast::box_muller<float>(a, b);
  const double first = radius * std::sin(angle), second = radius * std::cos(angle);
  const double allowed = 3e-7 * radius;
  CHECK(std::fabs(normals.first - first) <= allowed, "%08x %08x: %.9g, not %.9g", a, b,
        static_cast<double>(normals.first), first);
  CHECK(std::fabs(normals.second - second) <= allowed, "%08x %08x: %.9g, not %.9g", a, b,
        static_cast<double>(normals.second), second);

  const auto exact = vae_fast::box_muller<double>(a, b);
  CHECK(std::fabs(exact.first - first) <= 1e-14 && std::fabs(exact.second - second) <= 1e-14,
        "%08x %08x in double", a, b);
}

void check_transforms() {
  constexpr uint32_t kEdges[] = {0,          1,          2,          0x1fffffff, 0x20000000,
                                 0x3fffffff, 0x40000000, 0x7fffffff, 0x80000000, 0xbfffffff,
                                 0xc0000000, 0xdfffffff, 0xe0000000, 0xfffffffe, 0xffffffff};
  for (const uint32_t a : kEdges) {
    for (const uint32_t b : kEdges) check_transform(a, b);
  }
  for (uint64_t i = 0; i < 200'000; ++i) {
    const auto words = vae_fast::philox({1, 2}, i);
    check_transform(words.word[0], words.word[1]);
  }
}

void check_moments() {
  double sums[5] = {};
  constexpr int kCount = 1 << 20;
  for (uint64_t i = 0; i < kCount; ++i) {
    const double x = vae_fast::normal_at<float>({3, 0}, i);
    double power = 1;
    for (double& sum : sums) sum += power, power *= x;
  }
  // Five standard errors of each moment's mean: 1, sqrt 2, sqrt 15, sqrt 96 over sqrt(count).
  const double expected[] = {1, 0, 1, 0, 3}, deviation[] = {0, 1, 1.4142, 3.873, 9.798};
  for (int power = 1; power < 5; ++power) {
    const double mean = sums[power] / kCount;
    CHECK(std::fabs(mean - expected[power]) < 5 * deviation[power] / std::sqrt(double{kCount}),
          "moment %d: %g", power, mean);
  }
}

}  // namespace

int main() {
  check_known_answers();
  check_transforms();
  check_moments();
  return vae_fast::testing::report();
}
