// What plans of every loop need: divisors, and the limits of a grid.
#pragma once

#include <cstdint>

#include "cuda/loop_args.h"

namespace vae_fast::cuda {

inline constexpr int64_t kMaxBlocks = (int64_t{1} << 31) - 1;
// Threads of a warp and of a block, as powers of two.
inline constexpr uint32_t kWarpShift = 5, kBlockShift = 8;

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// ceil(2^bits * (2^shift - divisor) / divisor), and the shift: see Divisor.
template <class Wide>
uint64_t multiplier_of(int64_t divisor, int shift, int bits) {
  const Wide excess = (Wide(1) << shift) - static_cast<Wide>(divisor);
  return static_cast<uint64_t>((excess << bits) / static_cast<Wide>(divisor) + 1);
}

inline Divisor make_divisor(int64_t divisor) {
  Divisor result;
  int shift = 0;
  while (int64_t{1} << shift < divisor) ++shift;
  result.divisor = divisor;
  result.wide_shift = static_cast<uint8_t>(shift);
  result.wide_multiplier = multiplier_of<unsigned __int128>(divisor, shift, 64);
  const bool exceeds_all = divisor >= int64_t{1} << 31;  // numbers below 2^31 give 0
  result.shift = static_cast<uint8_t>(exceeds_all ? 31 : shift);
  result.multiplier =
      exceeds_all ? 0 : static_cast<uint32_t>(multiplier_of<uint64_t>(divisor, shift, 32));
  return result;
}

inline uint32_t log2_up(int64_t x) {
  uint32_t shift = 0;
  while (int64_t{1} << shift < x) ++shift;
  return shift;
}

}  // namespace vae_fast::cuda
