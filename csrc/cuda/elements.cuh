// What is computed for one element, beside the loops that know where the elements lie: inputs in, a
// value and outputs out. The formulas come from formulas/list.h.
#pragma once

#include <utility>

#include "cuda/platform.cuh"
#include "formulas/list.h"
#include "formulas/philox.h"

namespace vae_fast::cuda {

template <class T, int N>
struct Result {
  T value;
  T output[N > 0 ? N : 1];
};

// What all elements of a call have in common.
template <class T>
struct Common {
  T scale;
  bool has_grad_value;
  bool has_grad_z;
};

template <class Formula, class T, size_t... I>
VAE_FAST_FN auto evaluate(const T* x, std::index_sequence<I...>) {
  return Formula::template evaluate<T>(x[I]...);
}
template <class Formula, class T>
VAE_FAST_FN auto evaluate(const T* x) {
  return evaluate<Formula>(x, std::make_index_sequence<kOperandCount<Formula>>{});
}

// An element that only maps its inputs; the others redefine what they need.
struct PlainElement {
  static constexpr bool kDrawsNoise = false;
  static constexpr bool kIsScaling = false;  // outputs are unchanged where the second input is one
  static constexpr bool kTakesUpstream = false;  // outputs are multiplied with LoopArgs::upstream
  VAE_FAST_FN static constexpr bool is_target(int) { return false; }  // of a dtype of its own
  VAE_FAST_FN static constexpr bool is_unit_interval(int) { return false; }
  VAE_FAST_FN static constexpr bool is_optional(int) { return false; }
};

// A loss, with the gradients in its operands, times the scale, if they are wanted.
template <class Formula, bool kGradients>
struct LossElement : PlainElement {
  static constexpr int kInputs = kOperandCount<Formula>;
  static constexpr int kOutputs = kGradients ? kInputs : 0;
  static constexpr bool kTakesUpstream = kGradients;

  VAE_FAST_FN static constexpr bool is_target(int k) { return k >= kParameterCount<Formula>; }
  VAE_FAST_FN static constexpr bool is_unit_interval(int k) {
    return Formula::kTarget == Target::kUnitInterval && is_target(k);
  }

  template <class T>
  VAE_FAST_FN static Result<T, kOutputs> at(const T* x, T, const Common<T>& common) {
    const auto loss = evaluate<Formula>(x);
    Result<T, kOutputs> result = {};
    result.value = loss.value;
    VAE_FAST_UNROLL
    for (int k = 0; k < kOutputs; ++k) result.output[k] = loss.gradient[k] * common.scale;
    return result;
  }
};

// mu + exp(logvar / 2) * eps and its derivative in logvar.
template <class T>
VAE_FAST_FN void draw(T mu, T logvar, T eps, T* z_and_noise) {
  const T scaled = exp_(T(0.5) * logvar) * eps;
  z_and_noise[0] = mu + scaled;
  z_and_noise[1] = T(0.5) * scaled;
}

// z and noise of a draw, and the divergence as the value.
template <class Divergence>
struct SampleElement : PlainElement {
  static constexpr int kInputs = kOperandCount<Divergence>;
  static constexpr int kOutputs = 2;
  static constexpr bool kDrawsNoise = true;

  template <class T>
  VAE_FAST_FN static Result<T, kOutputs> at(const T* x, T eps, const Common<T>&) {
    Result<T, kOutputs> result = {};
    result.value = evaluate<Divergence>(x).value;
    draw(x[0], x[1], eps, result.output);
    return result;
  }
};

// z and noise alone.
struct DrawElement : PlainElement {
  static constexpr int kInputs = 2;
  static constexpr int kOutputs = 2;
  static constexpr bool kDrawsNoise = true;

  template <class T>
  VAE_FAST_FN static Result<T, kOutputs> at(const T* x, T eps, const Common<T>&) {
    Result<T, kOutputs> result = {};
    result.value = 0;
    draw(x[0], x[1], eps, result.output);
    return result;
  }
};

// The gradients of z * grad_z + divergence * grad_value. An upstream gradient that is not given
// contributes nothing, by branch: 0 * infinity is NaN.
template <class Divergence>
struct SampleBackwardElement : PlainElement {
  static constexpr int kOperands = kOperandCount<Divergence>;
  static constexpr int kInputs = kOperands + 3;  // grad_value, grad_z, noise
  static constexpr int kOutputs = kOperands;

  VAE_FAST_FN static constexpr bool is_optional(int k) { return k >= kOperands; }

  template <class T>
  VAE_FAST_FN static Result<T, kOutputs> at(const T* x, T, const Common<T>& common) {
    const T grad_value = x[kOperands], grad_z = x[kOperands + 1], noise = x[kOperands + 2];
    Result<T, kOutputs> result = {};
    if (common.has_grad_value) {
      const auto loss = evaluate<Divergence>(x);
      const T factor = common.scale * grad_value;
      VAE_FAST_UNROLL
      for (int k = 0; k < kOutputs; ++k) result.output[k] = loss.gradient[k] * factor;
    }
    if (common.has_grad_z) {
      result.output[0] += grad_z;
      result.output[1] += grad_z * noise;
    }
    return result;
  }
};

// A gradient times the upstream one.
struct ScaleElement : PlainElement {
  static constexpr int kInputs = 2;
  static constexpr int kOutputs = 1;
  static constexpr bool kIsScaling = true;

  template <class T>
  VAE_FAST_FN static Result<T, kOutputs> at(const T* x, T, const Common<T>&) {
    return {T(0), {x[0] * x[1]}};
  }
};

}  // namespace vae_fast::cuda
