// The noise of formulas/philox.h for runs of elements: Philox in vector registers.
//
// One thread of a 2.4 GHz Xeon, ns a float normal: base 2.3, AVX2 1.15, AVX-512 0.76; torch.randn's
// mt19937 takes 3.9. Philox is the larger part, and bound by the vector ports.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "cpu/vector_bytes.h"
#include "formulas/philox.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// 64-bit lanes of which Philox uses the low half: a 32 x 32 -> 64 multiply is one instruction.
constexpr int kWideLanes = VAE_FAST_VECTOR_BYTES / 8;
typedef uint64_t Wide __attribute__((vector_size(VAE_FAST_VECTOR_BYTES)));

// The products of the low halves, which compilers do not find by themselves; and the high halves,
// moved low (with anything above them) by a shuffle, since shifts and multiplies share their ports.
#if VAE_FAST_VECTOR_BYTES == 64
// gcc 12's unmasked forms are the same instructions, but warn of an uninitialised register.
VAE_FAST_FN Wide multiply_low_halves(Wide a, Wide b) {
  return (Wide)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);
}
VAE_FAST_FN Wide high_halves(Wide x) {
  return (Wide)_mm512_maskz_shuffle_epi32(0xffff, (__m512i)x, _MM_PERM_DDBB);
}
#elif VAE_FAST_VECTOR_BYTES == 32
VAE_FAST_FN Wide multiply_low_halves(Wide a, Wide b) {
  return (Wide)_mm256_mul_epu32((__m256i)a, (__m256i)b);
}
VAE_FAST_FN Wide high_halves(Wide x) { return (Wide)_mm256_shuffle_epi32((__m256i)x, 0xf5); }
#elif defined(__SSE2__)
VAE_FAST_FN Wide multiply_low_halves(Wide a, Wide b) {
  return (Wide)_mm_mul_epu32((__m128i)a, (__m128i)b);
}
VAE_FAST_FN Wide high_halves(Wide x) { return (Wide)_mm_shuffle_epi32((__m128i)x, 0xf5); }
#else
VAE_FAST_FN Wide multiply_low_halves(Wide a, Wide b) {
  return (a & 0xffffffffu) * (b & 0xffffffffu);
}
VAE_FAST_FN Wide high_halves(Wide x) { return x >> 32; }
#endif

VAE_FAST_FN Wide broadcast(uint64_t value) { return Wide{} + value; }

VAE_FAST_FN Wide even_numbers() {
  uint64_t numbers[kWideLanes];
  for (int lane = 0; lane < kWideLanes; ++lane) numbers[lane] = 2 * lane;
  Wide result;
  std::memcpy(&result, numbers, sizeof result);
  return result;
}

struct PhiloxKeys {
  Wide key0[kPhiloxRounds];
  Wide key1[kPhiloxRounds];
};

VAE_FAST_FN PhiloxKeys philox_keys(uint64_t key) {
  PhiloxKeys keys;
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    keys.key0[round] = broadcast(k0);
    keys.key1[round] = broadcast(k1);
    k0 += kPhiloxWeyl0;
    k1 += kPhiloxWeyl1;
  }
  return keys;
}

// The words of 2 * kWideLanes counters: two registers' worth at a time, so that one's multiplies
// run under the other's latency. Even counters in the first, odd in the second: their words then
// interleave into 32-bit lanes in the counters' order.
VAE_FAST_FN void philox_wide(const PhiloxKeys& keys, uint64_t offset, uint64_t counter,
                             uint32_t* words0, uint32_t* words1, uint32_t* words2,
                             uint32_t* words3) {
  const Wide m0 = broadcast(kPhiloxMultiplier0), m1 = broadcast(kPhiloxMultiplier1);
  Wide x0[2], x1[2], x2[2], x3[2];
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    x0[half] = even_numbers() + (counter + half);
    x1[half] = broadcast(counter >> 32);
    x2[half] = broadcast(offset);
    x3[half] = broadcast(offset >> 32);
  }
#pragma GCC unroll 10
  for (int round = 0; round < kPhiloxRounds; ++round) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const Wide p0 = multiply_low_halves(x0[half], m0), p1 = multiply_low_halves(x2[half], m1);
      x0[half] = high_halves(p1) ^ x1[half] ^ keys.key0[round];
      x1[half] = p1;
      x2[half] = high_halves(p0) ^ x3[half] ^ keys.key1[round];
      x3[half] = p0;
    }
  }
  const auto store = [](const Wide(&x)[2], uint32_t* out) {
    const Wide both = (x[0] & 0xffffffffu) | (x[1] << 32);
    std::memcpy(out, &both, sizeof both);
  };
  store(x0, words0);
  store(x1, words1);
  store(x2, words2);
  store(x3, words3);
}

// The 64 normals of block `block`.
template <class T>
VAE_FAST_FN void fill_normal_block(const PhiloxKeys& keys, uint64_t offset, uint64_t block,
                                   T* __restrict out) {
  alignas(64) uint32_t words[4][kNoiseLanes];
  for (int lane = 0; lane < kNoiseLanes; lane += 2 * kWideLanes) {
    philox_wide(keys, offset, block * kNoiseLanes + lane, words[0] + lane, words[1] + lane,
                words[2] + lane, words[3] + lane);
  }
  for (int pair = 0; pair < 2; ++pair) {
    T* first = out + 2 * pair * kNoiseLanes;
#pragma omp simd
    for (int lane = 0; lane < kNoiseLanes; ++lane) {
      const NormalPair<T> normals = box_muller<T>(words[2 * pair][lane], words[2 * pair + 1][lane]);
      first[lane] = normals.first;
      first[lane + kNoiseLanes] = normals.second;
    }
  }
}

// The normals of elements [first, first + n). Cheapest where both ends lie on a multiple of 64:
// otherwise a whole block is computed for each part of one.
template <class T>
inline void fill_normal(const Seed& seed, uint64_t first, int64_t n, T* out) {
  const PhiloxKeys keys = philox_keys(seed.key);
  while (n > 0) {
    const uint64_t block = first / kNoiseBlock;
    const int64_t skipped = static_cast<int64_t>(first % kNoiseBlock);
    const int64_t taken = min_<int64_t>(kNoiseBlock - skipped, n);
    if (taken == kNoiseBlock) {
      fill_normal_block(keys, seed.offset, block, out);
    } else {
      T whole[kNoiseBlock];
      fill_normal_block(keys, seed.offset, block, whole);
      std::memcpy(out, whole + skipped, taken * sizeof(T));
    }
    first += taken;
    out += taken;
    n -= taken;
  }
}

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
