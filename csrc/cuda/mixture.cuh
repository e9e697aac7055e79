// The loop of mixtures: a team of threads takes a position, neighbouring teams take neighbouring
// positions. There and back over the components: on the way there their losses, each a sum over the
// position's run, on the way back their shares and, once more, what is scaled with these. Nothing
// is kept but the best score and two sums; parameters are read twice, the second time mostly from
// the cache. Runs longer than a team also leave their scores in memory.
#pragma once

#include "cuda/loops.cuh"
#include "cuda/mixture_loop.h"
#include "formulas/discretized_logistic_pixel.h"
#include "formulas/mixture.h"

namespace vae_fast::cuda {

// ---- components --------------------------------------------------------------------------------

// What a component is made of: kOwn parts, its parameters, and kShared parts, which all components
// have in common; tensor_of(part) says which of MixtureLoop::inputs a part belongs to.

template <class Formula>
struct LikelihoodComponent {
  static constexpr int kOwn = kParameterCount<Formula>;
  static constexpr int kShared = 1;
  static constexpr int kTensors = kOwn + 1;
  static constexpr int kOwnTensors = kOwn;

  VAE_FAST_FN static constexpr int tensor_of(int part) { return part; }
  VAE_FAST_FN static constexpr bool is_unit_interval(int) {
    return Formula::kTarget == Target::kUnitInterval;
  }

  template <class T>
  VAE_FAST_FN static auto evaluate(const T* own, const T* shared) {
    T x[kOwn + 1];
    VAE_FAST_UNROLL
    for (int k = 0; k < kOwn; ++k) x[k] = own[k];
    x[kOwn] = shared[0];
    return cuda::evaluate<Formula>(x);
  }
};

// Means, log-scales and coefficients; levels and targets.
template <int kChannels>
struct PixelComponent {
  static constexpr int kOwn = pixel_parameter_count(kChannels) - 1;
  static constexpr int kShared = 1 + kChannels;
  static constexpr int kTensors = 3;
  static constexpr int kOwnTensors = 1;

  VAE_FAST_FN static constexpr int tensor_of(int part) {
    return part < kOwn ? 0 : part == kOwn ? 1 : 2;
  }
  VAE_FAST_FN static constexpr bool is_unit_interval(int part) { return part > kOwn; }

  template <class T>
  VAE_FAST_FN static Loss<T, kOwn> evaluate(const T* own, const T* shared) {
    const T levels = shared[0], *const x = shared + 1;
    Loss<T, kOwn> pixel = {};
    VAE_FAST_UNROLL
    for (int c = 0; c < kChannels; ++c) {
      const int first = 2 * kChannels + pixel_coefficients(c);
      T mean = own[c], slopes[kChannels];
      VAE_FAST_UNROLL
      for (int before = 0; before < c; ++before) {
        const Coefficient<T> shift = mean_shift(own[first + before], x[before]);
        mean += shift.value;
        slopes[before] = shift.slope;
      }
      const T log_scale = own[kChannels + c];
      const Loss<T, 4> loss = DiscretizedLogisticNll::evaluate(
          unit_mean(mean), unit_log_scale(log_scale), levels, x[c]);
      pixel.value += loss.value;
      pixel.gradient[c] = mean_gradient(loss.gradient[0]);
      pixel.gradient[kChannels + c] = log_scale_gradient(log_scale, loss.gradient[1]);
      VAE_FAST_UNROLL
      for (int before = 0; before < c; ++before) {
        pixel.gradient[first + before] = coefficient_gradient(slopes[before], pixel.gradient[c]);
      }
    }
    return pixel;
  }
};

// ---- an element --------------------------------------------------------------------------------

// f(coordinate, dimension) for the entry of this index.
template <class F>
__device__ __forceinline__ void for_each_coordinate(const Dimensions& dims, const Divisor* sizes,
                                                    int64_t index, const F& f) {
  if (dims.first == dims.last) return;
  for (int d = dims.last - 1; d > dims.first; --d) {
    const int64_t rest = divide(index, sizes[d]);
    f(index - rest * sizes[d].divisor, d);
    index = rest;
  }
  f(index, dims.first);
}

// One element of the position's run: what all components have in common of it, and where the rest
// lies.
template <class Component, class T>
class MixtureElement {
 public:
  static constexpr int kOwn = Component::kOwn;

  // Behind the run's end it is the last element once more, which does not count and is not stored.
  __device__ __forceinline__ void move_to(const MixtureLoop& args, int64_t position, int64_t i) {
    exists_ = i < args.run;
    for_each(args, [](const Tensor&, int64_t& offset) VAE_FAST_INLINE { offset = 0; });
    const auto add = [&](int64_t coordinate, int d) VAE_FAST_INLINE {
      for_each(args, [&](const Tensor& tensor, int64_t& offset)
                         VAE_FAST_INLINE { offset += coordinate * tensor.strides[d]; });
    };
    for_each_coordinate(args.outer_dims, args.element_sizes, position, add);
    for_each_coordinate(args.run_dims, args.element_sizes, exists_ ? i : args.run - 1, add);

    counts_ =
        exists_ &&
        (args.mask.data == nullptr ||
         Access::template load<uint8_t>(args.mask, mask_offset_).template get<uint8_t>(0) != 0);
    VAE_FAST_UNROLL
    for (int k = 0; k < Component::kShared; ++k) {
      const int part = kOwn + k, t = Component::tensor_of(part);
      const Tensor tensor = part_of(args.inputs[t].first, args.input_parts[part]);
      const bool is_unit = Component::is_unit_interval(part);
      Access::convert_any(Access::load_any(tensor, offsets_[t], is_unit), tensor.dtype, is_unit,
                          shared_ + k);
    }
  }

  __device__ __forceinline__ bool counts() const { return counts_; }

  __device__ __forceinline__ auto evaluate(const MixtureLoop& args, int component) const {
    typename Access::Raw raw[kOwn];
    T own[kOwn];
    VAE_FAST_UNROLL
    for (int t = 0; t < Component::kOwnTensors; ++t) {
      const PartsTensor& input = args.inputs[t];
      const int64_t offset = offsets_[t] + component * input.step;
      with_dtype<T>(input.first.dtype, [&](auto storage) VAE_FAST_INLINE {
        for_parts_of(t, [&](int part) VAE_FAST_INLINE {
          raw[part] = Access::template load<decltype(storage)>(
              part_of(input.first, args.input_parts[part]), offset);
        });
      });
    }
    // All are under way before the first is waited for.
    VAE_FAST_UNROLL
    for (int t = 0; t < Component::kOwnTensors; ++t) {
      with_dtype<T>(args.inputs[t].first.dtype, [&](auto storage) VAE_FAST_INLINE {
        for_parts_of(t, [&](int part) VAE_FAST_INLINE {
          Access::template convert<decltype(storage)>(raw[part], own + part);
        });
      });
    }
    return Component::evaluate(own, shared_);
  }

  // The gradients, times the component's share.
  __device__ __forceinline__ void store(const MixtureLoop& args, int component, const T* gradient,
                                        T share) const {
    if (!exists_) return;
    VAE_FAST_UNROLL
    for (int t = 0; t < Component::kOwnTensors; ++t) {
      const PartsTensor& output = args.gradients[t];
      if (output.first.data == nullptr) continue;
      const int64_t offset = gradient_offsets_[t] + component * output.step;
      for_parts_of(t, [&](int part) VAE_FAST_INLINE {
        // By selection: what is masked out may be NaN.
        const T scaled = mixture_gradient(share, select(counts_, gradient[part], T(0)));
        Access::store_any(part_of(output.first, args.gradient_parts[part]), offset, &scaled);
      });
    }
  }

 private:
  using Access = Vectors<T, 1>;

  __device__ __forceinline__ static Tensor part_of(const Tensor& first, void* data) {
    Tensor part;
    part.data = data;
    part.dtype = first.dtype;
    return part;
  }

  template <class F>
  __device__ __forceinline__ static void for_parts_of(int tensor, const F& f) {
    VAE_FAST_UNROLL
    for (int part = 0; part < kOwn; ++part) {
      if (Component::tensor_of(part) == tensor) f(part);
    }
  }

  template <class F>
  __device__ __forceinline__ void for_each(const MixtureLoop& args, const F& f) {
    VAE_FAST_UNROLL
    for (int t = 0; t < Component::kTensors; ++t) f(args.inputs[t].first, offsets_[t]);
    VAE_FAST_UNROLL
    for (int t = 0; t < Component::kOwnTensors; ++t) {
      f(args.gradients[t].first, gradient_offsets_[t]);
    }
    f(args.mask, mask_offset_);
  }

  int64_t offsets_[Component::kTensors];
  int64_t gradient_offsets_[Component::kOwnTensors];
  int64_t mask_offset_;
  bool exists_, counts_;
  T shared_[Component::kShared];
};

// ---- the loop ----------------------------------------------------------------------------------

// Over the team, in all of its threads. All threads of the block call it.
__device__ __forceinline__ double team_sum(double x, int team) {
  if (team > kWarp) __syncthreads();  // the sum before has been read
  team_combine<1>(&x, team, [](double a, double b) VAE_FAST_INLINE { return a + b; });
  return x;
}

// Where a position's number lies.
__device__ __forceinline__ int64_t offset_in(const MixtureLoop& args, const Tensor& tensor,
                                             int64_t position) {
  int64_t offset = 0;
  for_each_coordinate(args.position_dims, args.position_sizes, position,
                      [&](int64_t coordinate, int d)
                          VAE_FAST_INLINE { offset += coordinate * tensor.strides[d]; });
  return offset;
}

template <class Component, class T>
__global__ void __launch_bounds__(kBlockThreads, kMinBlocks)
    mixture(const __grid_constant__ MixtureLoop args) {
  const int shift = static_cast<int>(args.team_shift), team = 1 << shift;
  const int lane = threadIdx.x & (team - 1);
  const int64_t own = (static_cast<int64_t>(blockIdx.x) * kBlockThreads + threadIdx.x) >> shift;
  // A team too many does what the last one does, for the barriers' sake, and stores nothing.
  const bool is_position = own < args.count;
  const int64_t position = is_position ? own : args.count - 1;
  const int64_t logits = offset_in(args, args.logits.first, position);
  const int64_t grad_logits = offset_in(args, args.grad_logits.first, position);
  const int components = args.components;
  const bool is_long = args.run > team;
  const int64_t end = (args.run + team - 1) >> shift << shift;

  MixtureElement<Component, T> element;
  element.move_to(args, position, lane);
  bool is_counted = args.mask.data == nullptr;
  if (!is_counted) {
    double counted = 0;
    for (int64_t i = lane; i < end; i += team) {
      if (is_long) element.move_to(args, position, i);
      counted += element.counts();
    }
    is_counted = (team == 1 ? counted : team_sum(counted, team)) > 0;
  }

  T largest = -kInfinity<T>;
  for (int k = 0; k < components; ++k) {
    largest = max_(number<T>(args.logits.first, logits + k * args.logits.step), largest);
  }
  const T center = mixture_center(largest);

  const auto score_of = [&](int k) VAE_FAST_INLINE -> T& {
    return static_cast<T*>(args.scores)[position * components + k];
  };
  MixtureScores<T> sum;
  T prior_sum = 0, over_prior = 0, over_weights = 0, factor = 0;
  // One loop for both ways, so that a component's score is the same number on both.
  const int steps = args.wants_gradients ? 2 * components : components;
  VAE_FAST_NO_UNROLL
  for (int step = 0; step < steps; ++step) {
    const bool is_back = step >= components;
    const int k = is_back ? step - components : step;
    const T logit = number<T>(args.logits.first, logits + k * args.logits.step);
    T score = 0, share = 0;
    if (is_long && is_back) score = score_of(k);
    double nll = 0;
    VAE_FAST_NO_UNROLL
    for (int64_t i = lane; i < end; i += team) {
      if (is_long) element.move_to(args, position, i);
      const auto loss = element.evaluate(args, k);
      const T own_nll = select(element.counts(), loss.value, T(0));
      if (is_long) {
        nll += own_nll;
      } else {
        // A position's only element has its loss: no sum.
        const T of_run = team == 1 ? own_nll : static_cast<T>(team_sum(own_nll, team));
        score = mixture_score(logit, center, of_run);
      }
      if (is_back) {
        share = select(is_counted, mixture_weight(score, sum.best) * over_weights, T(0));
        if (is_position) element.store(args, k, loss.gradient, share * factor);
      }
    }
    const T prior = exp_nonpositive(logit - center);
    if (is_back) {
      if (args.grad_logits.first.data != nullptr && lane == 0 && is_position) {
        const T gradient = (select(is_counted, prior * over_prior, T(0)) - share) * factor;
        Vectors<T, 1>::store_any(args.grad_logits.first, grad_logits + k * args.grad_logits.step,
                                 &gradient);
      }
      continue;
    }
    if (is_long) {
      score = mixture_score(logit, center, static_cast<T>(team_sum(nll, team)));
      if (lane == 0 && is_position && args.wants_gradients) score_of(k) = score;
    }
    sum.add(score);
    prior_sum += prior;
    if (k + 1 < components) continue;
    const T value = mixture_value(prior_sum, sum.weights, sum.best);
    if (lane == 0 && is_position) {
      const T of_counted = select(is_counted, value, T(0));
      Vectors<T, 1>::store_any(args.value, offset_in(args, args.value, position), &of_counted);
    }
    const bool is_possible = sum.best != -kInfinity<T>;
    over_prior = select(is_possible, T(1) / prior_sum, T(0));
    over_weights = select(is_possible, T(1) / sum.weights, T(0));
    factor = static_cast<T>(args.scale);
    if (args.upstream.data != nullptr) {
      factor *= number<T>(args.upstream, offset_in(args, args.upstream, position));
    }
    if (is_long) __syncthreads();  // the scores have been stored
  }
}

}  // namespace vae_fast::cuda
