// What every elementwise loss of this package is: a value and its gradient in each operand.
//
// A formula is a struct with
//   kName        the op's name, `vae_fast::<kName>`
//   kOperands    the operands' names, in the op's order; a target, if there is one, comes last
//   kTarget      what kind of target it has
//   evaluate     the value and the gradients for one element, branch-free
// and may have, where a target of 0 is frequent and cheap,
//   evaluate_zero  of the parameters: the value and the gradients in them at a target of 0
// The loops, the instruction sets, the ops, autograd and the fake kernels follow from the list
// in list.h.
#pragma once

#include "elementary.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

enum class Target : unsigned char {
  kNone,          // the operands are all parameters (divergences)
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

template <class Formula>
constexpr bool kHasZero = requires { &Formula::template evaluate_zero<float>; };

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
