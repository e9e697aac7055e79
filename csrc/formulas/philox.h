// The package's noise for one element: Philox4x32-10 and the normal transform.
//
// The contract, the same on every device. Elements are counted in row-major order; element i lies
// in block b = i / 64 at r = i % 64, component w = r / 16, lane = r % 16. Counter b * 16 + lane
// (64 bits, the counter's low words; the seed's offset its high words) gives four words o0..o3;
// box_muller(o0, o1) gives components 0 and 1, box_muller(o2, o3) components 2 and 3.
// Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
#pragma once

#include <cstdint>

#include "elementary.h"

namespace vae_fast {

struct Seed {
  uint64_t key;
  uint64_t offset;
};

inline namespace VAE_FAST_ISA {

// What a call takes from a counter-based generator of torch's, the GPU's: its seed, but for a key
// of our own, since torch's kernels count differently under theirs and the two would meet; and its
// offset, which then advances by kSeedStride.
constexpr uint64_t kSeedStride = 4;
VAE_FAST_FN Seed seed_of_generator(uint64_t seed, uint64_t offset) {
  return {seed ^ 0x9E3779B97F4A7C15u, offset};
}

constexpr int kPhiloxRounds = 10;
constexpr uint32_t kPhiloxMultiplier0 = 0xD2511F53u, kPhiloxMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9u, kPhiloxWeyl1 = 0xBB67AE85u;

constexpr int kNoiseLanes = 16;  // counters of a block
constexpr int kNoiseBlock = 64;  // normals of a block

struct PhiloxWords {
  uint32_t word[4];
};

// The whole product: one instruction of a GPU, which nvcc does not find by itself for a constant
// with its top bit set.
VAE_FAST_FN uint64_t multiply_wide(uint32_t a, uint32_t b) {
#ifdef __CUDA_ARCH__
  uint64_t product;
  asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
  return product;
#else
  return static_cast<uint64_t>(a) * b;
#endif
}

VAE_FAST_FN PhiloxWords philox(const Seed& seed, uint64_t counter) {
  uint32_t x0 = static_cast<uint32_t>(counter), x1 = static_cast<uint32_t>(counter >> 32);
  uint32_t x2 = static_cast<uint32_t>(seed.offset), x3 = static_cast<uint32_t>(seed.offset >> 32);
  uint32_t k0 = static_cast<uint32_t>(seed.key), k1 = static_cast<uint32_t>(seed.key >> 32);
#ifdef __CUDACC__
#pragma unroll
#else
#pragma GCC unroll 10
#endif
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t p0 = multiply_wide(x0, kPhiloxMultiplier0);
    const uint64_t p1 = multiply_wide(x2, kPhiloxMultiplier1);
    x0 = static_cast<uint32_t>(p1 >> 32) ^ x1 ^ k0;
    x1 = static_cast<uint32_t>(p1);
    x2 = static_cast<uint32_t>(p0 >> 32) ^ x3 ^ k1;
    x3 = static_cast<uint32_t>(p0);
    k0 += kPhiloxWeyl0;
    k1 += kPhiloxWeyl1;
  }
  return {{x0, x1, x2, x3}};
}

template <class T>
struct NormalPair {
  T first;   // radius * sin(angle)
  T second;  // radius * cos(angle)
};

// x with its sign changed where the top bit of `word` is set.
VAE_FAST_FN float flip_sign(float x, uint32_t word) {
  return as_float(as_int(x) ^ static_cast<int32_t>(word & 0x80000000u));
}
VAE_FAST_FN double flip_sign(double x, uint32_t word) {
  return select((word & 0x80000000u) != 0, -x, x);
}

// Two independent standard normals from two uniform words. Box and Muller 1958: the radius from
// u = (a >> 1) 2^-31 + 2^-32 in (0, 1], the angle, in quarter turns, b's top two bits plus its low
// thirty as a signed number in [-1/2, 1/2), so that no argument reduction is needed. The largest
// radius is sqrt(64 ln 2) = 6.66. u is a float in every dtype: near 1 the radius hangs on its last
// bits, and the same words shall give the same normal.
template <class T>
VAE_FAST_FN NormalPair<T> box_muller(uint32_t a, uint32_t b) {
  const float u = static_cast<float>(static_cast<int32_t>(a >> 1)) * 0x1p-31f + 0x1p-32f;
  const T radius = sqrt_(T(-2) * log_positive_normal(static_cast<T>(u)));
  const T f = static_cast<T>(static_cast<int32_t>(b << 2) >> 2) * T(0x1p-30);
  const SineCosine<T> turn = sine_cosine_quarter(f);
  const bool odd_quarter = (b & 0x40000000u) != 0;
  const T sine = select(odd_quarter, turn.cosine, turn.sine);
  const T cosine = select(odd_quarter, turn.sine, turn.cosine);
  return {radius * flip_sign(sine, b), radius * flip_sign(cosine, b + 0x40000000u)};
}

// The normal of one element: the definition that every wide version must reproduce.
template <class T>
VAE_FAST_FN T normal_at(const Seed& seed, uint64_t element) {
  const uint64_t block = element / kNoiseBlock;
  const unsigned within = static_cast<unsigned>(element % kNoiseBlock);
  const unsigned component = within / kNoiseLanes, lane = within % kNoiseLanes;
  const PhiloxWords words = philox(seed, block * kNoiseLanes + lane);
  const bool upper = component >= 2;
  const NormalPair<T> pair =
      box_muller<T>(upper ? words.word[2] : words.word[0], upper ? words.word[3] : words.word[1]);
  return component % 2 == 0 ? pair.first : pair.second;
}

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
