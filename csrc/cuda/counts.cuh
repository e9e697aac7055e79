// The loop over rows of counts whose means are shares of the row's total by the softmax of its
// logits. A team of threads takes a row, and goes over it three times: for the softmax's sum; for
// the formula, whose gradients in the logarithms of the means are left where those in the logits
// are to be; and to make these of them. The formula takes by far the longest, and is computed once
// for each element. What the others read again the caches hold, of rows up to some ten thousand
// elements the multiprocessor's own: the memory that shared arrays would lie in, too.
#pragma once

#include "cuda/classes.cuh"
#include "formulas/counts.h"
#include "formulas/multinomial.h"

namespace vae_fast::cuda {

// The loss's operands, the library; the gradients in its parameters.
template <class Loss>
struct CountTensors {
  static constexpr int kOperands = Loss::kInputs, kParameters = kOperands - 1;
  static constexpr int kLibrary = kOperands;
  static constexpr int kInputs = kOperands + 1;
  static constexpr int kOutputs = Loss::kOutputs > 0 ? kParameters : 0;
  static constexpr bool kTakesUpstream = true;
};

template <class T>
constexpr int kCountsUnderWay = kCountBytesUnderWay / sizeof(T);

// A few of a thread's elements of a row, every `step`-th of the tensor's memory, of which the row
// has `count` left.
template <class T>
struct CountRun {
  int64_t offset, step;
  int count;

  // `begin`: where the row begins.
  __device__ __forceinline__ CountRun(const LoopArgs& args, const RowOfTeam& own,
                                      const Tensor& tensor, int64_t begin, int64_t first) {
    const int64_t stride = tensor.strides[args.space.outer_dims];
    const int64_t left = (own.classes - first + own.team - 1) >> own.shift;
    offset = begin + first * stride;
    step = own.team * stride;
    count = left < kCountsUnderWay<T> ? static_cast<int>(left) : kCountsUnderWay<T>;
  }

  // All under way before one is waited for; those that are not there are excluded from the softmax.
  __device__ __forceinline__ void load_logits(const Tensor& tensor, T* logits) const {
    using One = Vectors<T, 1>;
    typename One::Raw raw[kCountsUnderWay<T>];
    with_dtype<T>(tensor.dtype, [&](auto storage) VAE_FAST_INLINE {
      VAE_FAST_UNROLL
      for (int i = 0; i < kCountsUnderWay<T>; ++i) {
        if (i < count) raw[i] = One::template load<decltype(storage)>(tensor, offset + i * step);
      }
    });
    with_dtype<T>(tensor.dtype, [&](auto storage) VAE_FAST_INLINE {
      VAE_FAST_UNROLL
      for (int i = 0; i < kCountsUnderWay<T>; ++i) {
        logits[i] = -kInfinity<T>;
        if (i < count) One::template convert<decltype(storage)>(raw[i], logits + i);
      }
    });
  }
};

// An element as it is in memory.
template <class T, int kOperands>
struct CountOperands {
  typename Vectors<T, 1>::Raw operand[kOperands], mask;

  // `row`: where the row begins.
  template <class Offsets>
  __device__ __forceinline__ void load(const LoopArgs& args, const Offsets& row, int64_t element) {
    const int inner = args.space.outer_dims;
    VAE_FAST_UNROLL
    for (int k = 0; k < kOperands; ++k) {
      const int64_t at = row.input[k] + element * args.inputs[k].strides[inner];
      operand[k] = Vectors<T, 1>::load_any(args.inputs[k], at, false);
    }
    if (args.mask.data == nullptr) return;
    mask = load_mask<T, 1>(args.mask, row.mask + element * args.mask.strides[inner]);
  }

  __device__ __forceinline__ bool counts(const LoopArgs& args) const {
    return args.mask.data == nullptr || mask.template get<uint8_t>(0) != 0;
  }

  __device__ __forceinline__ void convert(const LoopArgs& args, T* x) const {
    VAE_FAST_UNROLL
    for (int k = 0; k < kOperands; ++k) {
      Vectors<T, 1>::convert_any(operand[k], args.inputs[k].dtype, false, x + k);
    }
  }
};

// The row's softmax, in all threads of its team: its center and the sum of its weights.
template <class T>
__device__ __forceinline__ MultinomialRow<T> softmax_of(const LoopArgs& args, const RowOfTeam& own,
                                                        int64_t begin) {
  T largest = -kInfinity<T>;
  MultinomialRow<T> softmax(largest);
  for (int64_t first = own.lane; first < own.classes; first += kCountsUnderWay<T> * own.team) {
    T logits[kCountsUnderWay<T>], so_far = largest, weights = 0;
    CountRun<T>(args, own, args.inputs[0], begin, first).load_logits(args.inputs[0], logits);
    VAE_FAST_UNROLL
    for (const T logit : logits) so_far = max_(logit, so_far);
    if (so_far > largest) softmax.move_to(MultinomialRow<T>(so_far).center);
    largest = so_far;
    VAE_FAST_UNROLL
    for (const T logit : logits) weights += multinomial_weight(logit, softmax.center);
    softmax.weights += weights;
  }
  T of_team[] = {largest};
  team_combine<1>(of_team, own.team, [](T a, T b) VAE_FAST_INLINE { return max_(a, b); });
  softmax.move_to(MultinomialRow<T>(of_team[0]).center);
  double weights[] = {softmax.weights};
  team_combine<1>(weights, own.team, [](double a, double b) VAE_FAST_INLINE { return a + b; });
  softmax.weights = weights[0];
  return softmax;
}

// Of the gradients in the logarithms of a row's means, which its team has stored, those in the
// logits: each thread of what it stored itself.
template <class T, class Offsets>
__device__ __forceinline__ void to_logits(const LoopArgs& args, const RowOfTeam& own,
                                          const Offsets& begin, T center, T share) {
  for (int64_t first = own.lane; first < own.classes; first += kCountsUnderWay<T> * own.team) {
    const CountRun<T> of_logits(args, own, args.inputs[0], begin.input[0], first);
    const CountRun<T> run(args, own, args.outputs[0], begin.output[0], first);
    T gradient[kCountsUnderWay<T>], logits[kCountsUnderWay<T>];
    T* const to = static_cast<T*>(args.outputs[0].data) + run.offset;
    VAE_FAST_UNROLL
    for (int i = 0; i < kCountsUnderWay<T>; ++i) {
      if (i < run.count) gradient[i] = to[i * run.step];
    }
    of_logits.load_logits(args.inputs[0], logits);
    VAE_FAST_UNROLL
    for (int i = 0; i < kCountsUnderWay<T>; ++i) {
      if (i >= run.count) continue;
      to[i * run.step] = to_logit(gradient[i], multinomial_weight(logits[i], center), share);
    }
  }
}

// Of the kernel on a multiprocessor, at least: in float a third block fits without a spill.
template <class T>
constexpr int kCountBlocks = sizeof(T) == 8 ? kMinBlocks : 3;

template <class Loss, class T>
__global__ void __launch_bounds__(kBlockThreads, kCountBlocks<T>)
    count_rows(const __grid_constant__ LoopArgs args) {
  using Tensors = CountTensors<Loss>;
  using Operands = CountOperands<T, Tensors::kOperands>;
  using One = Vectors<T, 1>;
  const RowOfTeam own(args);
  const int inner = args.space.outer_dims;
  Offsets<Tensors> begin;
  begin.start(args, 0);
  begin.add(args, 0, inner, own.exists ? own.row : 0);
  const MultinomialRow<T> softmax = softmax_of<T>(args, own, begin.input[0]);
  const double library =
      number<double>(args.inputs[Tensors::kLibrary], begin.input[Tensors::kLibrary]);
  const auto row = CountRow<T>::of(softmax.center, softmax.weights, library);

  double sums[] = {0, 0};  // of the values; of the gradients in the logarithms of the means
  Common<T> common = {};
  common.scale = static_cast<T>(own.factor(args, begin.upstream));
  Operands next;
  if (own.lane < own.classes) next.load(args, begin, own.lane);
  VAE_FAST_NO_UNROLL
  for (int64_t element = own.lane; element < own.classes; element += own.team) {
    const Operands current = next;
    if (element + own.team < own.classes) next.load(args, begin, element + own.team);
    T x[Tensors::kOperands], weight = 0;
    current.convert(args, x);
    if (args.is_log) {
      x[0] = count_log_mean(x[0], row.shift);
    } else {
      weight = multinomial_weight(x[0], softmax.center);
      x[0] = count_mean(weight, row.ratio);
    }
    const auto result = Loss::at(x, T(0), common);
    const bool counts = current.counts(args);
    sums[0] += select(counts, result.value, T(0));
    if constexpr (Tensors::kOutputs > 0) {
      VAE_FAST_UNROLL
      for (int k = 1; k < Tensors::kOutputs; ++k) {
        if (args.outputs[k].data == nullptr) continue;
        const T gradient = select(counts, result.output[k], T(0));
        const int64_t at = begin.output[k] + element * args.outputs[k].strides[inner];
        One::store_any(args.outputs[k], at, &gradient);
      }
      T to_log = select(counts, result.output[0], T(0));
      if (!args.is_log) to_log = to_log_mean(to_log, weight, row.ratio);
      sums[1] += to_log;
      if (args.outputs[0].data != nullptr) {
        const int64_t at = begin.output[0] + element * args.outputs[0].strides[inner];
        One::template store<T>(args.outputs[0], at, &to_log);
      }
    }
  }
  team_combine<2>(sums, own.team, [](double a, double b) VAE_FAST_INLINE { return a + b; });
  const bool stores = own.lane == 0 && own.exists;
  if (stores) Vectors<double, 1>::store_any(args.value, own.row, sums);

  if constexpr (Tensors::kOutputs > 0) {
    const Tensor& library_gradient = args.outputs[Tensors::kParameters];
    if (stores && library_gradient.data != nullptr) {
      const double gradient = row.to_library(sums[1]);
      Vectors<double, 1>::store_any(library_gradient, own.row, &gradient);
    }
    if (args.outputs[0].data == nullptr) return;
    to_logits<T>(args, own, begin, softmax.center, static_cast<T>(sums[1] / row.weights));
  }
}

}  // namespace vae_fast::cuda
