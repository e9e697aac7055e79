// The formulas over a dense tile. Included once by every instruction set's stub.
#pragma once

#include <cstring>
#include <utility>

#include "cpu/tiling.h"
#include "formulas/list.h"

namespace vae_fast::cpu {
inline namespace VAE_FAST_ISA {
namespace {

// Evaluates a formula over n elements; writes the first `Gradients` gradients, times scale.
template <class T>
using TileFunction = void (*)(const T* const* operands, T* value, T* const* gradients, T scale,
                              int64_t n);

// What a formula says of any target.
template <class Formula>
struct Everywhere {
  static constexpr int kOperands = kOperandCount<Formula>;

  template <class T, class... X>
  VAE_FAST_FN static auto evaluate(X... x) {
    return Formula::template evaluate<T>(x...);
  }
};

// And, more cheaply, of a target of 0, which is no operand then.
template <class Formula>
struct AtZero {
  static constexpr int kOperands = kParameterCount<Formula>;

  template <class T, class... X>
  VAE_FAST_FN static auto evaluate(X... x) {
    return Formula::template evaluate_zero<T>(x...);
  }
};

template <class Where, int Gradients, class T, size_t... I, size_t... G>
VAE_FAST_FN void evaluate_tile(const T* const* operands, T* value,
                               [[maybe_unused]] T* const* gradients, [[maybe_unused]] T scale,
                               int64_t n, std::index_sequence<I...>, std::index_sequence<G...>) {
  // Local copies: the compiler need not fear that a store changes the pointers.
  const T* const in[] = {operands[I]...};
  [[maybe_unused]] T* const out[] = {gradients[G]..., nullptr};
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const auto loss = Where::template evaluate<T>(in[I][i]...);
    value[i] = loss.value;
    ((out[G][i] = loss.gradient[G] * scale), ...);
  }
}

template <class Where, int Gradients, class T>
void tile_function(const T* const* operands, T* value, T* const* gradients, T scale, int64_t n) {
  evaluate_tile<Where, Gradients>(operands, value, gradients, scale, n,
                                  std::make_index_sequence<Where::kOperands>{},
                                  std::make_index_sequence<Gradients>{});
}

// Of the set bits of a byte, which they are and how many.
struct SetBits {
  uint16_t index[256][8] = {};
  uint8_t count[256] = {};

  constexpr SetBits() {
    for (int byte = 0; byte < 256; ++byte) {
      for (uint16_t bit = 0; bit < 8; ++bit) {
        if (byte >> bit & 1) index[byte][count[byte]++] = bit;
      }
    }
  }
};

// Writes where flags, of 0 or 1 and up to the next multiple of 8, are `wanted`; gives their number.
// Eight at a time: one by one it takes as long as a cheap formula.
VAE_FAST_FN int64_t indices_where(const uint8_t* flags, bool wanted, int64_t n, uint16_t* index) {
  typedef uint16_t Eight __attribute__((vector_size(16)));
  static constexpr SetBits kSetBits;
  int64_t next = 0;
  for (int64_t i = 0; i < n; i += 8) {
    uint64_t eight;
    std::memcpy(&eight, flags + i, sizeof eight);
    constexpr uint64_t kGather = 0x0102040810204080;  // the lowest bit of each byte, to the highest
    const auto bits = static_cast<uint8_t>((eight * kGather >> 56) ^ (wanted ? 0 : 0xff));
    Eight found;
    std::memcpy(&found, kSetBits.index[bits], sizeof found);
    found += static_cast<uint16_t>(i);
    std::memcpy(index + next, &found, sizeof found);
    next += kSetBits.count[bits];
  }
  return next;
}

// A multiple of every vector's length, and a divisor of every tile's capacity.
constexpr int64_t kPackedMultiple = 16;

// Of counts most are zero. What there is more of in the tile, zeros or others, has its formula
// evaluated over all of it, in place; then what there is less of is packed, evaluated by its own,
// and put over that. So an element's result depends on itself alone.
template <class Formula, int Gradients, class T>
void count_tile(const T* const* operands, T* value, T* const* gradients, T scale, int64_t n) {
  constexpr TileFunction<T> kEverywhere = tile_function<Everywhere<Formula>, Gradients, T>;
  constexpr TileFunction<T> kAtZero = tile_function<AtZero<Formula>, Gradients, T>;
  constexpr int kOperands = kOperandCount<Formula>;
  constexpr int64_t kCapacity = tile_capacity(sizeof(T) == 8);
  const T* const target = operands[kOperands - 1];
  uint8_t is_zero[kCapacity];
  int32_t zeros = 0;
#pragma omp simd reduction(+ : zeros)
  for (int64_t i = 0; i < n; ++i) {
    is_zero[i] = target[i] == T(0);
    zeros += is_zero[i];
  }

  // To pack an element costs about as much as the cheap formula, a quarter of the other one.
  const bool zeros_first = 4 * zeros > n;
  (zeros_first ? kAtZero : kEverywhere)(operands, value, gradients, scale, n);
  int64_t packed = zeros_first ? n - zeros : zeros;
  if (packed == 0) return;

  // Beyond the end there is nothing to pack.
  for (int64_t i = n; i % 8 != 0; ++i) is_zero[i] = zeros_first;
  uint16_t index[kCapacity];
  const int64_t next = indices_where(is_zero, !zeros_first, n, index);
  // Full vectors: what is left over would be computed one by one, which takes longer.
  for (; packed % kPackedMultiple != 0; ++packed) index[packed] = index[next - 1];

  alignas(64) T operand_buffers[kOperands][kCapacity], value_buffer[kCapacity],
      gradient_buffers[Gradients + 1][kCapacity];
  const T* packed_operands[kOperands];
  T* packed_gradients[Gradients + 1];
  for (int k = 0; k < kOperands; ++k) {
    packed_operands[k] = operand_buffers[k];
    for (int64_t i = 0; i < packed; ++i) operand_buffers[k][i] = operands[k][index[i]];
  }
  for (int k = 0; k < Gradients; ++k) packed_gradients[k] = gradient_buffers[k];
  (zeros_first ? kEverywhere : kAtZero)(packed_operands, value_buffer, packed_gradients, scale,
                                        packed);
  for (int64_t i = 0; i < next; ++i) value[index[i]] = value_buffer[i];
  for (int k = 0; k < Gradients; ++k) {
    for (int64_t i = 0; i < next; ++i) gradients[k][index[i]] = gradient_buffers[k][i];
  }
}

template <class Formula, int Gradients, class T>
constexpr TileFunction<T> best_function() {
  if constexpr (kHasZero<Formula> && Gradients <= kParameterCount<Formula>) {
    return count_tile<Formula, Gradients, T>;
  } else {
    return tile_function<Everywhere<Formula>, Gradients, T>;
  }
}

template <class T>
struct Evaluator {
  TileFunction<T> value_only;
  TileFunction<T> parameters;  // and the gradients in the parameters
  TileFunction<T> all;         // and the gradient in the target
  int operand_count;
  int parameter_count;
  bool unit_interval;

  TileFunction<T> with_gradients(int count) const {
    return count == 0 ? value_only : count <= parameter_count ? parameters : all;
  }
};

template <class T, class... Formula>
const Evaluator<T>& evaluator(int loss, FormulaList<Formula...>) {
  static constexpr Evaluator<T> kEvaluators[] = {
      {best_function<Formula, 0, T>(), best_function<Formula, kParameterCount<Formula>, T>(),
       best_function<Formula, kOperandCount<Formula>, T>(), kOperandCount<Formula>,
       kParameterCount<Formula>, Formula::kTarget == Target::kUnitInterval}...};
  return kEvaluators[loss];
}

}  // namespace
}  // namespace VAE_FAST_ISA
}  // namespace vae_fast::cpu
