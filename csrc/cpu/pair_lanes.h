// The innermost loops over pairs, in vector registers: a few owners meet the others in lanes, so
// that what is read of these serves all of the owners, and squared distances stay in registers.
#pragma once

#include "cpu/pairs_pass.h"
#include "cpu/tile_memory.h"
#include "formulas/pairs.h"

namespace vae_fast::cpu {
inline namespace VAE_FAST_ISA {
namespace {

template <class T>
struct PairVector {
  typedef T Vector __attribute__((vector_size(VAE_FAST_VECTOR_BYTES)));
  static constexpr int kLanes = VAE_FAST_VECTOR_BYTES / sizeof(T);
  // Of each owner's squares in registers at a time: sixteen registers, or eight where there are no
  // more than sixteen.
  static constexpr int kHeld = VAE_FAST_VECTOR_BYTES == 64 ? 4 : 2;

  VAE_FAST_FN static Vector load(const T* x) {
    Vector result;
    std::memcpy(&result, x, sizeof result);
    return result;
  }
  // totals[i] += the sum of vector i: together, as each alone would take longer than what it sums.
  VAE_FAST_FN static void add_sums(const Vector (&x)[kOwners], double* totals) {
    typedef T Part __attribute__((vector_size(16)));
    constexpr int kParts = VAE_FAST_VECTOR_BYTES / 16;
    Part parts[kOwners];
#pragma GCC unroll 4
    for (int i = 0; i < kOwners; ++i) {
      Part of_vector[kParts];
      std::memcpy(of_vector, &x[i], sizeof of_vector);
#pragma GCC unroll 2
      for (int width = kParts / 2; width > 0; width /= 2) {
#pragma GCC unroll 2
        for (int k = 0; k < width; ++k) of_vector[k] += of_vector[k + width];
      }
      parts[i] = of_vector[0];
    }
    if constexpr (sizeof(T) == 4) {
      typedef int32_t Order __attribute__((vector_size(16)));
      const auto folded = [](const Part& a, const Part& b) __attribute__((always_inline)) {
        return __builtin_shuffle(a, b, Order{0, 4, 1, 5}) +
               __builtin_shuffle(a, b, Order{2, 6, 3, 7});
      };
      const Part low = folded(parts[0], parts[1]), high = folded(parts[2], parts[3]);
      const Part sums = __builtin_shuffle(low, high, Order{0, 1, 4, 5}) +
                        __builtin_shuffle(low, high, Order{2, 3, 6, 7});
#pragma GCC unroll 4
      for (int i = 0; i < kOwners; ++i) totals[i] += static_cast<double>(sums[i]);
    } else {
#pragma GCC unroll 4
      for (int i = 0; i < kOwners; ++i) totals[i] += parts[i][0] + parts[i][1];
    }
  }
};

template <class T, PairScale kScale, class Vector>
VAE_FAST_FN Vector distance_of(T owner, const Vector& other, [[maybe_unused]] T owner_scale,
                               [[maybe_unused]] const Vector& other_scale) {
  if constexpr (kScale == PairScale::kOfOwner) {
    return (owner - other) * owner_scale;
  } else if constexpr (kScale == PairScale::kOfOther) {
    return pair_distance(owner - Vector{}, other, other_scale);
  } else {
    return owner - other;
  }
}

// Where one end lies, and its scale: of each number kOwners owners, or kPairLanes others.
template <class T>
struct PairEnd {
  const T* at;
  const T* scale;
};

// Squares are summed in parts, so that the error does not grow with the number of numbers.
template <class T>
constexpr int64_t kSquaresTogether = sizeof(T) == 8 ? 8 : 32;

// Sets the squared distances, `kPairsTogether` apart from owner to owner, over `dims` numbers.
template <class T, PairScale kScale>
VAE_FAST_FN void pair_squares(const PairEnd<T>& owners, const PairEnd<T>& others, int64_t dims,
                              T* squares) {
  using Lanes = PairVector<T>;
  using Vector = typename Lanes::Vector;
  constexpr int kHeld = Lanes::kHeld, kLanes = Lanes::kLanes;
  for (int64_t lane = 0; lane < kPairLanes; lane += kHeld * kLanes) {
    for (int64_t begin = 0; begin < dims; begin += kSquaresTogether<T>) {
      const int64_t end = smaller(begin + kSquaresTogether<T>, dims);
      Vector sums[kOwners][kHeld] = {};
      for (int64_t d = begin; d < end; ++d) {
        const T* const at = others.at + d * kPairLanes + lane;
        const T* const scale = others.scale + d * kPairLanes + lane;
        Vector other[kHeld], other_scale[kHeld] = {};
#pragma GCC unroll 4
        for (int v = 0; v < kHeld; ++v) {
          other[v] = Lanes::load(at + v * kLanes);
          if constexpr (kScale == PairScale::kOfOther) {
            other_scale[v] = Lanes::load(scale + v * kLanes);
          }
        }
#pragma GCC unroll 4
        for (int i = 0; i < kOwners; ++i) {
          const T owner = owners.at[d * kOwners + i];
          const T owner_scale =
              kScale == PairScale::kOfOwner ? owners.scale[d * kOwners + i] : T(1);
#pragma GCC unroll 4
          for (int v = 0; v < kHeld; ++v) {
            const Vector distance =
                distance_of<T, kScale>(owner, other[v], owner_scale, other_scale[v]);
            sums[i][v] += distance * distance;
          }
        }
      }
#pragma GCC unroll 4
      for (int i = 0; i < kOwners; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < kHeld; ++v) {
          T* const to = squares + i * kPairsTogether + lane + v * kLanes;
          if (begin > 0) sums[i][v] += Lanes::load(to);
          std::memcpy(to, &sums[i][v], sizeof(Vector));
        }
      }
    }
  }
}

// Of one number: adds the sum over the others of slope * distance * their scale, and, where the
// scale is the owner's, of slope * distance^2.
template <class T, PairScale kScale>
VAE_FAST_FN void pair_gradients(const PairEnd<T>& owners, const PairEnd<T>& others,
                                int64_t block_step, int64_t blocks, const T* slopes,
                                double* positions, [[maybe_unused]] double* squares) {
  using Lanes = PairVector<T>;
  using Vector = typename Lanes::Vector;
  Vector sums[kOwners] = {};
  [[maybe_unused]] Vector of_squares[kOwners] = {};
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t lane = 0; lane < kPairLanes; lane += Lanes::kLanes) {
      const Vector other = Lanes::load(others.at + block * block_step + lane);
      Vector other_scale = {};
      if constexpr (kScale == PairScale::kOfOther) {
        other_scale = Lanes::load(others.scale + block * block_step + lane);
      }
#pragma GCC unroll 4
      for (int i = 0; i < kOwners; ++i) {
        const T owner_scale = kScale == PairScale::kOfOwner ? owners.scale[i] : T(1);
        const Vector distance =
            distance_of<T, kScale>(owners.at[i], other, owner_scale, other_scale);
        const Vector slope =
            Lanes::load(slopes + i * kPairsTogether + block * kPairLanes + lane) * distance;
        if constexpr (kScale == PairScale::kOfOther) {
          sums[i] += slope * other_scale;
        } else {
          sums[i] += slope;
        }
        if constexpr (kScale == PairScale::kOfOwner) of_squares[i] += slope * distance;
      }
    }
  }
  Lanes::add_sums(sums, positions);
  if constexpr (kScale == PairScale::kOfOwner) Lanes::add_sums(of_squares, squares);
}

}  // namespace
}  // namespace VAE_FAST_ISA
}  // namespace vae_fast::cpu
