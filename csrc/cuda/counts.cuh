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

  __device__ __forceinline__ CountRun(const LoopArgs& args, const Tensor& tensor, int64_t row,
                                      int64_t first, int team, int64_t classes) {
    const int64_t stride = tensor.strides[args.space.outer_dims];
    const int64_t left = classes - first;
    offset = row + first * stride;
    step = team * stride;
    count = left > (kCountsUnderWay<T> - 1) * team ? kCountsUnderWay<T>
                                                   : static_cast<int>((left + team - 1) / team);
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

template <class Loss, class T>
__global__ void __launch_bounds__(kBlockThreads, kMinBlocks)
    count_rows(const __grid_constant__ LoopArgs args) {
  using Tensors = CountTensors<Loss>;
  using Operands = CountOperands<T, Tensors::kOperands>;
  using One = Vectors<T, 1>;
  const RowOfTeam own(args);
  const int team = own.team, lane = own.lane;
  const int64_t classes = own.classes, step = int64_t{kCountsUnderWay<T>} * team;
  Offsets<Tensors> offsets;
  offsets.start(args, 0);
  offsets.add(args, 0, args.space.outer_dims, own.exists ? own.row : 0);
  const auto logits_from = [&](int64_t first) VAE_FAST_INLINE {
    return CountRun<T>(args, args.inputs[0], offsets.input[0], first, team, classes);
  };

  T logits[kCountsUnderWay<T>], largest = -kInfinity<T>;
  MultinomialRow<T> softmax(largest);
  for (int64_t first = lane; first < classes; first += step) {
    logits_from(first).load_logits(args.inputs[0], logits);
    T so_far = largest, weights = 0;
    VAE_FAST_UNROLL
    for (const T logit : logits) so_far = max_(logit, so_far);
    if (so_far > largest) softmax.move_to(MultinomialRow<T>(so_far).center);
    largest = so_far;
    VAE_FAST_UNROLL
    for (const T logit : logits) weights += multinomial_weight(logit, softmax.center);
    softmax.weights += weights;
  }
  T of_team[] = {largest};
  team_combine<1>(of_team, team, [](T a, T b) VAE_FAST_INLINE { return max_(a, b); });
  softmax.move_to(MultinomialRow<T>(of_team[0]).center);
  const auto add = [](double a, double b) VAE_FAST_INLINE { return a + b; };
  double of_weights[] = {softmax.weights};
  team_combine<1>(of_weights, team, add);
  const T center = softmax.center;
  const double library =
      number<double>(args.inputs[Tensors::kLibrary], offsets.input[Tensors::kLibrary]);
  const auto row = CountRow<T>::of(center, of_weights[0], library);

  double sums[] = {0, 0};  // of the values; of the gradients in the logarithms of the means
  Common<T> common = {};
  common.scale = static_cast<T>(own.factor(args, offsets.upstream));
  Operands next;
  if (lane < classes) next.load(args, offsets, lane);
  VAE_FAST_NO_UNROLL
  for (int64_t element = lane; element < classes; element += team) {
    const Operands current = next;
    if (element + team < classes) next.load(args, offsets, element + team);
    T x[Tensors::kOperands];
    current.convert(args, x);
    const bool counts = current.counts(args);
    T weight = 0;
    if (args.is_log) {
      x[0] = count_log_mean(x[0], row.shift);
    } else {
      weight = multinomial_weight(x[0], center);
      x[0] = count_mean(weight, row.ratio);
    }
    auto result = Loss::at(x, T(0), common);
    sums[0] += select(counts, result.value, T(0));
    if constexpr (Tensors::kOutputs > 0) {
      const int inner = args.space.outer_dims;
      VAE_FAST_UNROLL
      for (int k = 1; k < Tensors::kOutputs; ++k) {
        const T gradient = select(counts, result.output[k], T(0));
        if (args.outputs[k].data == nullptr) continue;
        const int64_t at = offsets.output[k] + element * args.outputs[k].strides[inner];
        One::store_any(args.outputs[k], at, &gradient);
      }
      T to_log = select(counts, result.output[0], T(0));
      if (!args.is_log) to_log = to_log_mean(to_log, weight, row.ratio);
      sums[1] += to_log;
      if (args.outputs[0].data != nullptr) {
        const int64_t at = offsets.output[0] + element * args.outputs[0].strides[inner];
        One::template store<T>(args.outputs[0], at, &to_log);
      }
    }
  }
  team_combine<2>(sums, team, add);
  if (lane == 0 && own.exists) Vectors<double, 1>::store_any(args.value, own.row, sums);

  if constexpr (Tensors::kOutputs > 0) {
    const Tensor& to_library = args.outputs[Tensors::kParameters];
    if (lane == 0 && own.exists && to_library.data != nullptr) {
      const double gradient = row.to_library(sums[1]);
      Vectors<double, 1>::store_any(to_library, own.row, &gradient);
    }
    const Tensor& to_logits = args.outputs[0];
    if (to_logits.data == nullptr) return;
    const T share = static_cast<T>(sums[1] / row.weights);
    for (int64_t first = lane; first < classes; first += step) {
      const CountRun<T> run(args, to_logits, offsets.output[0], first, team, classes);
      T to_log[kCountsUnderWay<T>];
      T* const to = static_cast<T*>(to_logits.data) + run.offset;
      VAE_FAST_UNROLL
      for (int i = 0; i < kCountsUnderWay<T>; ++i) {
        if (i < run.count) to_log[i] = to[i * run.step];
      }
      logits_from(first).load_logits(args.inputs[0], logits);
      VAE_FAST_UNROLL
      for (int i = 0; i < kCountsUnderWay<T>; ++i) {
        if (i >= run.count) continue;
        to[i * run.step] = to_logit(to_log[i], multinomial_weight(logits[i], center), share);
      }
    }
  }
}

}  // namespace vae_fast::cuda
