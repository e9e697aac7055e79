// What every elementwise loss of this package is: a value and its gradient in each operand.
//
// A formula is a struct with
//   kName        the op's name, `vae_fast::<kName>`
//   kOperands    the operands' names, in the op's order; a target, if there is one, comes last
//   kTarget      what kind of target it has
//   evaluate     the value and the gradients for one element, branch-free
// and may have, where a target of 0 is frequent and cheap,
//   evaluate_zero  of the parameters: the value and the gradients in them at a target of 0
// A divergence of q(z|x), which sampling computes in the same pass, has
//   kIsDivergence
// A likelihood of counts whose first parameter is their mean, or its logarithm, has
//   kIsOfMean
// The loops, the instruction sets, the ops, autograd and the fake kernels follow from the list
// in list.h.
#pragma once

#include <cstddef>
#include <utility>

#include "elementary.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

enum class Target : unsigned char {
  kNone,          // the operands are all parameters
  kUnitInterval,  // in [0, 1]; uint8 means x / 255, wider integers are refused
  kNumber,        // any number; integers mean what they say
};

template <class T, int N>
struct Loss {
  T value;
  T gradient[N];
};

template <class Formula>
constexpr int kOperandCount = static_cast<int>(sizeof(Formula::kOperands) / sizeof(char*));

// Leading operands that are parameters of the distribution, not its target.
template <class Formula>
constexpr int kParameterCount = kOperandCount<Formula> - (Formula::kTarget != Target::kNone);

// By a call: nvcc does not see a template whose address is taken.
template <class Formula, size_t... P>
constexpr bool has_zero(std::index_sequence<P...>) {
  return requires { Formula::template evaluate_zero<float>((P, 0.f)...); };
}
template <class Formula>
constexpr bool kHasZero = has_zero<Formula>(std::make_index_sequence<kParameterCount<Formula>>{});

template <class Formula>
constexpr bool kIsDivergence = requires { Formula::kIsDivergence; };

template <class Formula>
constexpr bool kIsOfMean = requires { Formula::kIsOfMean; };

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
