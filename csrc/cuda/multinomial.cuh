// The loop over rows that the multinomial likelihood needs, whose softmax couples a row's elements.
// A team of threads takes a row. On the way there each thread adds up what it meets, relative to
// its largest logit so far; then the team's sums are brought to one center; on the way back it
// writes the gradient, which may take the place of the logits. What a thread met last it still
// holds: a row that the team holds whole is read once, a longer one twice.
#pragma once

#include "cuda/classes.cuh"
#include "formulas/multinomial.h"

namespace vae_fast::cuda {

// Logits, target; gradient.
struct MultinomialTensors {
  static constexpr int kInputs = 2;
  static constexpr int kOutputs = 1;
  static constexpr bool kTakesUpstream = true;
};

// What a thread holds of a row, every team-th vector: logits and gradient of dtype S.
template <class T, int V, class S, int kVectors>
class Held {
 public:
  // Reads `count` vectors. The others are of classes that are excluded, and not counted.
  __device__ __forceinline__ void load(const LoopArgs& args, const Offsets<MultinomialTensors>& row,
                                       int64_t first, int team, int count) {
    Raw raw_logits[kVectors], raw_target[kVectors];
    const auto read = [&](int k, Raw* raw, auto storage) VAE_FAST_INLINE {
      const int64_t step = step_of(args, args.inputs[k]), at = row.input[k] + first * step;
      VAE_FAST_UNROLL
      for (int i = 0; i < kVectors; ++i) {
        if (i >= count) continue;
        raw[i] = Access::template load<decltype(storage)>(args.inputs[k], at + i * (team * step));
      }
    };
    const auto convert = [&](T fill, const Raw* raw, T(*x)[V], auto storage) VAE_FAST_INLINE {
      VAE_FAST_UNROLL
      for (int i = 0; i < kVectors; ++i) {
        if (i < count) {
          Access::template convert<decltype(storage)>(raw[i], x[i]);
        } else {
          VAE_FAST_UNROLL
          for (int j = 0; j < V; ++j) x[i][j] = fill;
        }
      }
    };
    const auto with_logits_dtype = [&](const auto& f) VAE_FAST_INLINE {
      if constexpr (kIsFlat<S>) {
        f(S{});
      } else {
        with_dtype<T>(args.inputs[0].dtype, f);
      }
    };
    // Both are under way before either is waited for.
    with_logits_dtype([&](auto storage) VAE_FAST_INLINE { read(0, raw_logits, storage); });
    with_dtype<T>(args.inputs[1].dtype, [&](auto storage) VAE_FAST_INLINE {
      read(1, raw_target, storage);
      convert(T(0), raw_target, target_, storage);
    });
    with_logits_dtype([&](auto storage) VAE_FAST_INLINE {
      convert(-kInfinity<T>, raw_logits, logits_, storage);
    });
  }

  // The largest of the logits and `so_far`.
  __device__ __forceinline__ T largest(T so_far) const {
    for_each([&](int i, int j) VAE_FAST_INLINE { so_far = max_(logits_[i][j], so_far); });
    return so_far;
  }

  __device__ __forceinline__ void add_to(MultinomialRow<T>& row) const {
    T weights = 0, count = 0, cost = 0;
    for_each([&](int i, int j) VAE_FAST_INLINE {
      weights += multinomial_weight(logits_[i][j], row.center);
      count += target_[i][j];
      cost += multinomial_cost(logits_[i][j], target_[i][j], row.center);
    });
    row.weights += weights;
    row.count += count;
    row.cost += cost;
  }

  // Writes the gradient of the vectors that were read.
  __device__ __forceinline__ void store_gradient(const LoopArgs& args,
                                                 const Offsets<MultinomialTensors>& row,
                                                 int64_t first, int team, int count, T center,
                                                 T share, T scale) const {
    const Tensor& to = args.outputs[0];
    const int64_t step = step_of(args, to), at = row.output[0] + first * step;
    VAE_FAST_UNROLL
    for (int i = 0; i < kVectors; ++i) {
      if (i >= count) continue;
      T gradient[V];
      VAE_FAST_UNROLL
      for (int j = 0; j < V; ++j) {
        const T weight = multinomial_weight(logits_[i][j], center);
        gradient[j] = multinomial_gradient(weight, target_[i][j], share, scale);
      }
      store<T, V, S>(to, at + i * (team * step), gradient);
    }
  }

 private:
  using Access = Vectors<T, V>;
  using Raw = typename Access::Raw;

  // From a vector of a row to the next.
  __device__ __forceinline__ static int64_t step_of(const LoopArgs& args, const Tensor& tensor) {
    return kIsFlat<S> ? V : tensor.strides[args.space.outer_dims];
  }

  template <class F>
  __device__ __forceinline__ static void for_each(const F& f) {
    VAE_FAST_UNROLL
    for (int i = 0; i < kVectors; ++i) {
      VAE_FAST_UNROLL
      for (int j = 0; j < V; ++j) f(i, j);
    }
  }

  T logits_[kVectors][V];
  T target_[kVectors][V];
};

// In vectors: rows may begin and end between two, all tensors' alike. The team's first threads take
// the elements at both ends.
template <class T, int V, class S>
__global__ void __launch_bounds__(kBlockThreads, kMinBlocks)
    multinomial_rows(const __grid_constant__ LoopArgs args) {
  constexpr int kVectors = (sizeof(T) == 8 ? kHeldDoubles : kHeldFloats) / V;
  const RowOfTeam own(args);
  const int team = own.team, lane = own.lane;
  const int64_t classes = own.classes;
  Offsets<MultinomialTensors> offsets;
  offsets.start(args, 0);
  offsets.add(args, 0, args.space.outer_dims, own.row);
  const double factor = own.factor(args, offsets.upstream);

  const int64_t to_vector = -offsets.input[0] & (V - 1);
  const int64_t head = to_vector < classes ? to_vector : classes;
  const int64_t end = (classes - head) / V;
  const int ends = static_cast<int>(classes - end * V);
  offsets.for_each(args, [&](const Tensor&, int64_t& offset) VAE_FAST_INLINE { offset += head; });
  const int64_t step = int64_t{kVectors} * team;
  // How many vectors a thread holds that begins with this one.
  const auto count_from = [&](int64_t first) VAE_FAST_INLINE {
    const int64_t left = (end - first + team - 1) >> own.shift;
    return left < kVectors ? static_cast<int>(left) : kVectors;
  };

  Held<T, V, S, kVectors> held;
  Held<T, 1, S, 1> held_end;
  const int64_t own_end = lane < head ? lane - head : end * V + lane - head;
  T largest = -kInfinity<T>;
  MultinomialRow<T> sums(largest);
  if (V > 1 && ends > 0) {
    held_end.load(args, offsets, own_end, team, lane < ends);
    largest = held_end.largest(largest);
    sums.move_to(MultinomialRow<T>(largest).center);
    held_end.add_to(sums);
  }
  int64_t first = lane;
  for (; first < end; first += step) {
    held.load(args, offsets, first, team, count_from(first));
    const T so_far = held.largest(largest);
    if (so_far > largest) sums.move_to(MultinomialRow<T>(so_far).center);
    largest = so_far;
    held.add_to(sums);
  }

  T of_team[] = {largest};
  team_combine<1>(of_team, team, [](T a, T b) VAE_FAST_INLINE { return max_(a, b); });
  sums.move_to(MultinomialRow<T>(of_team[0]).center);
  double totals[] = {sums.weights, sums.count, sums.cost};
  team_combine<3>(totals, team, [](double a, double b) VAE_FAST_INLINE { return a + b; });
  sums.weights = totals[0];
  sums.count = totals[1];
  sums.cost = totals[2];
  if (lane == 0 && own.exists) {
    const double value = sums.value();
    Vectors<double, 1>::store_any(args.value, own.row, &value);
  }
  if (args.outputs[0].data == nullptr) return;

  const T scale = static_cast<T>(factor), share = static_cast<T>(factor * sums.share());
  if (V > 1) {
    held_end.store_gradient(args, offsets, own_end, team, lane < ends, sums.center, share, scale);
  }
  for (first -= step; first >= 0;) {
    held.store_gradient(args, offsets, first, team, count_from(first), sums.center, share, scale);
    first -= step;
    if (first >= 0) held.load(args, offsets, first, team, count_from(first));
  }
}

}  // namespace vae_fast::cuda
