// The loops over pairs of rows and components. Owners have a block and walk through the others,
// which pass through shared memory a tile at a time; what becomes of them stays with the owner, so
// that no sum is shared among blocks.
#pragma once

#include "cuda/loops.cuh"
#include "cuda/pairs_loop.h"
#include "formulas/pairs.h"

namespace vae_fast::cuda {

template <class T>
__device__ __forceinline__ T read_number(const Tensor& tensor, int64_t offset) {
  using One = Vectors<T, 1>;
  T x;
  One::convert_any(One::load_any(tensor, offset, false), tensor.dtype, false, &x);
  return x;
}

template <class T>
__device__ __forceinline__ T read_entry(const Tensor& tensor, int64_t row, int64_t column) {
  return read_number<T>(tensor, row * tensor.strides[0] + column * tensor.strides[1]);
}

__device__ __forceinline__ void store_double(const Tensor& tensor, int64_t offset, double x) {
  Vectors<double, 1>::store_any(tensor, offset, &x);
}

// A thread for each component: owners are components here.
template <class T>
__global__ void __launch_bounds__(kBlockThreads, kMinBlocks)
    pair_normalisers(const __grid_constant__ PairsLoop loop) {
  const int64_t component = int64_t{blockIdx.x} * kBlockThreads + threadIdx.x;
  if (component >= loop.owners) return;
  const double weight = loop.shares_weights ? read_entry<T>(loop.log_weights, component, 0) : T(0);
  const int64_t size = loop.dims / loop.windows;
  for (int64_t window = 0; window < loop.windows; ++window) {
    double sum = 0;
    for (int64_t d = window * size; d < (window + 1) * size; ++d) {
      sum += read_entry<T>(loop.owner_logvar, component, d);
    }
    loop.normalisers[window * loop.owners + component] = weight + pair_normaliser(sum, size);
  }
}

// The shared memory: of each owner and other so many numbers, rows one longer than that so that
// neighbours lie in different banks.
template <class T>
struct PairsTile {
  static constexpr int kRow = kPairNumbers + 1;

  T *owner_at, *owner_scale, *other_at, *other_scale;

  // Owners and others from `first` on, their numbers from `begin` on; what is not there is zero.
  template <PairScale kScale>
  __device__ __forceinline__ void load_owners(const PairsLoop& loop, int64_t first, int64_t begin,
                                              int64_t end) const {
    const int row = threadIdx.x / kPairNumbers, number = threadIdx.x % kPairNumbers;
    load_one<kScale == PairScale::kOfOwner>(loop.owner, loop.owner_logvar, first + row, loop.owners,
                                            begin + number, end, owner_at, owner_scale,
                                            row * kRow + number);
  }
  template <PairScale kScale>
  __device__ __forceinline__ void load_others(const PairsLoop& loop, int64_t first, int64_t begin,
                                              int64_t end) const {
    const int number = threadIdx.x % kPairNumbers;
    VAE_FAST_UNROLL
    for (int k = 0; k < kPairOthers / kPairOwners; ++k) {
      const int row = k * kPairOwners + threadIdx.x / kPairNumbers;
      load_one<kScale == PairScale::kOfOther>(loop.other, loop.other_logvar, first + row,
                                              loop.others, begin + number, end, other_at,
                                              other_scale, row * kRow + number);
    }
  }

  // The distance of an owner from an other in a number.
  template <PairScale kScale>
  __device__ __forceinline__ T distance(int owner, int other, int number) const {
    const T from = owner_at[owner * kRow + number], to = other_at[other * kRow + number];
    if constexpr (kScale == PairScale::kOfOwner) {
      return pair_distance(from, to, owner_scale[owner * kRow + number]);
    } else if constexpr (kScale == PairScale::kOfOther) {
      return pair_distance(from, to, other_scale[other * kRow + number]);
    } else {
      return from - to;
    }
  }

  // What a gradient's slope is multiplied with beside the distance.
  template <PairScale kScale>
  __device__ __forceinline__ T outer_scale(int other, int number) const {
    return kScale == PairScale::kOfOther ? other_scale[other * kRow + number] : T(1);
  }

 private:
  template <bool kHasScale>
  __device__ __forceinline__ static void load_one(const Tensor& at, const Tensor& logvar,
                                                  int64_t row, int64_t rows, int64_t number,
                                                  int64_t end, T* to_at, T* to_scale, int to) {
    const bool is_there = row < rows && number < end;
    to_at[to] = is_there ? read_entry<T>(at, row, number) : T(0);
    if constexpr (kHasScale) {
      to_scale[to] = is_there ? pair_scale(read_entry<T>(logvar, row, number)) : T(0);
    }
  }
};

// An owner with another of them, in a window.
struct PairPlace {
  int64_t owner, other, window;
};

// Its log weight, with its normaliser.
template <class T>
__device__ __forceinline__ T log_weight_of(const PairsLoop& loop, const PairPlace& pair) {
  const int64_t component = loop.rows_own ? pair.other : pair.owner;
  const int64_t components = loop.rows_own ? loop.others : loop.owners;
  const T weight = static_cast<T>(loop.normalisers[pair.window * components + component]);
  if (loop.shares_weights) return weight;
  return weight + read_entry<T>(loop.log_weights, pair.owner, pair.other);
}

// The slope of its row's value in it.
template <class T>
__device__ __forceinline__ T slope_of(const PairsLoop& loop, const PairPlace& pair, T square) {
  const int64_t row = (loop.rows_own ? pair.owner : pair.other) * loop.windows + pair.window;
  const T upstream = read_number<T>(loop.upstream, row);
  if (loop.reduction == PairsReduction::kLogSumExp) {
    const T density = pair_log_density(log_weight_of<T>(loop, pair), square);
    return pair_log_density_slope(density, read_number<T>(loop.computed, row)) * upstream;
  }
  T slope = 0;
  for (int w = 0; w < loop.widths; ++w) {
    const T width = static_cast<T>(loop.width[w]);
    slope += loop.reduction == PairsReduction::kGaussian
                 ? GaussianKernel::slope(square, width)
                 : InverseMultiquadraticKernel::slope(square, width);
  }
  return slope * upstream;
}

template <class T>
__device__ __forceinline__ T kernel_of(const PairsLoop& loop, T square) {
  T value = 0;
  for (int w = 0; w < loop.widths; ++w) {
    const T width = static_cast<T>(loop.width[w]);
    value += loop.reduction == PairsReduction::kGaussian
                 ? GaussianKernel::value(square, width)
                 : InverseMultiquadraticKernel::value(square, width);
  }
  return value;
}

// Writes an owner's gradients in one number from its sums: the kernels of kernels.h say of what.
__device__ __forceinline__ void store_pair_gradients(const PairsLoop& loop, int64_t owner,
                                                     int64_t number, double positions,
                                                     double squares, double slopes, double scale) {
  const auto store = [&](const Tensor& to, double x) VAE_FAST_INLINE {
    if (to.data != nullptr) {
      store_double(to, owner * to.strides[0] + number * to.strides[1], x);
    }
  };
  store(loop.grad_position, positions * scale);
  store(loop.grad_logvar, 0.5 * (slopes - squares));
}

// What a thread knows of its owner's value: of the others that it has met.
template <class T>
struct PairsValue {
  LogSumExp<T> log_sum;
  double sum = 0;
  T least = kInfinity<T>;
  int64_t nearest = 0;

  __device__ __forceinline__ void add(const PairsLoop& loop, const PairPlace& pair, T square) {
    if (loop.reduction == PairsReduction::kNearest) {
      if (square < least) {
        least = square;
        nearest = pair.other;
      }
    } else if (loop.reduction == PairsReduction::kLogSumExp) {
      const T density = pair_log_density(log_weight_of<T>(loop, pair), square);
      log_sum.move_to(density);
      log_sum.add_weights(exp_nonpositive(density - log_sum.center()));
    } else {
      sum += kernel_of(loop, square);
    }
  }

  // Of a team of neighbouring threads, in all of them.
  __device__ __forceinline__ void combine(int team) {
    T largest[] = {log_sum.largest};
    warp_combine<1>(largest, team, [](T a, T b) VAE_FAST_INLINE { return max_(a, b); });
    log_sum.move_to(largest[0]);
    double sums[] = {log_sum.weights, log_sum.lost, sum};
    warp_combine<3>(sums, team, [](double a, double b) VAE_FAST_INLINE { return a + b; });
    log_sum.weights = sums[0];
    log_sum.lost = sums[1];
    sum = sums[2];
    for (int distance = team / 2; distance > 0; distance /= 2) {
      const T other = __shfl_xor_sync(kAllLanes, least, distance);
      const int64_t index = __shfl_xor_sync(kAllLanes, nearest, distance);
      if (other < least || (other == least && index < nearest)) {
        least = other;
        nearest = index;
      }
    }
  }

  __device__ __forceinline__ void store(const PairsLoop& loop, int64_t row) const {
    if (loop.reduction == PairsReduction::kNearest) {
      loop.nearest[row] = nearest;
    } else {
      const bool is_log = loop.reduction == PairsReduction::kLogSumExp;
      store_double(loop.value, row, is_log ? log_sum.value() : sum);
    }
  }
};

// All numbers together. A team of threads for each owner: each meets every so-many-th other, and
// adds up the gradients in every so-many-th number.
template <class T, PairScale kScale>
__global__ void __launch_bounds__(kBlockThreads, kMinBlocks)
    joint_pairs(const __grid_constant__ PairsLoop loop) {
  using Tile = PairsTile<T>;
  constexpr int kTeam = kPairNumbers, kEach = kPairOthers / kTeam, kSlopes = kPairOthers + 1;
  VAE_FAST_SHARED(T, owner_at, kPairOwners * Tile::kRow);
  VAE_FAST_SHARED(T, owner_scale, kPairOwners * Tile::kRow);
  VAE_FAST_SHARED(T, other_at, kPairOthers * Tile::kRow);
  VAE_FAST_SHARED(T, other_scale, kPairOthers * Tile::kRow);
  VAE_FAST_SHARED(T, slopes, kPairOwners * kSlopes);
  const Tile tile = {owner_at, owner_scale, other_at, other_scale};
  const int own = threadIdx.x / kTeam, lane = threadIdx.x % kTeam;
  const int64_t first_owner = int64_t{blockIdx.x} * kPairOwners, owner = first_owner + own;
  const bool exists = owner < loop.owners;
  const auto load = [&](int64_t first, int64_t begin) VAE_FAST_INLINE {
    __syncthreads();  // what lies there has been read
    tile.template load_owners<kScale>(loop, first_owner, begin, loop.dims);
    tile.template load_others<kScale>(loop, first, begin, loop.dims);
    __syncthreads();
  };

  PairsValue<T> value;
  double slope_sum = 0;
  for (int64_t first = 0; first < loop.others; first += kPairOthers) {
    T squares[kEach] = {};
    for (int64_t begin = 0; begin < loop.dims; begin += kPairNumbers) {
      load(first, begin);
      T parts[kEach] = {};
      VAE_FAST_UNROLL
      for (int number = 0; number < kPairNumbers; ++number) {
        VAE_FAST_UNROLL
        for (int k = 0; k < kEach; ++k) {
          const T distance = tile.template distance<kScale>(own, k * kTeam + lane, number);
          parts[k] += distance * distance;
        }
      }
      VAE_FAST_UNROLL
      for (int k = 0; k < kEach; ++k) squares[k] += parts[k];
    }
    VAE_FAST_UNROLL
    for (int k = 0; k < kEach; ++k) {
      const PairPlace pair = {owner, first + k * kTeam + lane, 0};
      const bool is_pair = exists && pair.other < loop.others;
      if (!loop.for_gradients) {
        if (is_pair) value.add(loop, pair, squares[k]);
        continue;
      }
      const T slope = is_pair ? slope_of(loop, pair, squares[k]) : T(0);
      slopes[own * kSlopes + k * kTeam + lane] = slope;
      slope_sum += slope;
    }
    if (!loop.for_gradients) continue;
    for (int64_t begin = 0; begin < loop.dims; begin += kPairNumbers) {
      load(first, begin);
      T positions = 0, of_squares = 0;
      for (int other = 0; other < kPairOthers; ++other) {
        const T distance = tile.template distance<kScale>(own, other, lane);
        const T slope = slopes[own * kSlopes + other] * distance;
        positions += slope * tile.template outer_scale<kScale>(other, lane);
        of_squares += slope * distance;
      }
      if (!exists || begin + lane >= loop.dims) continue;
      const int64_t at = owner * loop.dims + begin + lane;
      loop.position_sums[at] = (first == 0 ? 0 : loop.position_sums[at]) + positions;
      if (kScale == PairScale::kOfOwner) {
        loop.square_sums[at] = (first == 0 ? 0 : loop.square_sums[at]) + of_squares;
      }
    }
  }
  if (!loop.for_gradients) {
    value.combine(kTeam);
    if (exists && lane == 0) value.store(loop, owner);
    return;
  }
  slope_sum = warp_sum(slope_sum, kTeam);
  if (!exists) return;
  for (int64_t number = lane; number < loop.dims; number += kTeam) {
    const int64_t at = owner * loop.dims + number;
    const bool scales = kScale == PairScale::kOfOwner;
    const double scale =
        scales ? pair_scale(read_entry<T>(loop.owner_logvar, owner, number)) : T(1);
    store_pair_gradients(loop, owner, number, loop.position_sums[at],
                         scales ? loop.square_sums[at] : 0, slope_sum, scale);
  }
  if (lane == 0 && loop.grad_log_weights.data != nullptr) {
    store_double(loop.grad_log_weights, owner, -slope_sum);
  }
}

// Each number by itself: a thread for each number of an owner.
template <class T, PairScale kScale>
__global__ void __launch_bounds__(kBlockThreads, kMinBlocks)
    marginal_pairs(const __grid_constant__ PairsLoop loop) {
  using Tile = PairsTile<T>;
  VAE_FAST_SHARED(T, owner_at, kPairOwners * Tile::kRow);
  VAE_FAST_SHARED(T, owner_scale, kPairOwners * Tile::kRow);
  VAE_FAST_SHARED(T, other_at, kPairOthers * Tile::kRow);
  VAE_FAST_SHARED(T, other_scale, kPairOthers * Tile::kRow);
  const Tile tile = {owner_at, owner_scale, other_at, other_scale};
  const int own = threadIdx.x / kPairNumbers, lane = threadIdx.x % kPairNumbers;
  const int64_t owner_blocks = (loop.owners + kPairOwners - 1) / kPairOwners;
  const int64_t first_owner = blockIdx.x % owner_blocks * kPairOwners, owner = first_owner + own;
  const int64_t begin = blockIdx.x / owner_blocks * kPairNumbers, number = begin + lane;
  const bool exists = owner < loop.owners && number < loop.dims;
  tile.template load_owners<kScale>(loop, first_owner, begin, loop.dims);

  PairsValue<T> value;
  double slope_sum = 0, position_sum = 0, square_sum = 0;
  for (int64_t first = 0; first < loop.others; first += kPairOthers) {
    __syncthreads();  // what lies there has been read
    tile.template load_others<kScale>(loop, first, begin, loop.dims);
    __syncthreads();
    const int64_t left = loop.others - first;
    const int count = !exists ? 0 : left < kPairOthers ? static_cast<int>(left) : kPairOthers;
    if (!loop.for_gradients) {
      for (int other = 0; other < count; ++other) {
        const T distance = tile.template distance<kScale>(own, other, lane);
        value.add(loop, {owner, first + other, number}, distance * distance);
      }
      continue;
    }
    constexpr int kTogether = 16;
    for (int part = 0; part < count; part += kTogether) {
      const int end = part + kTogether < count ? part + kTogether : count;
      T slopes = 0, positions = 0, of_squares = 0;
      for (int other = part; other < end; ++other) {
        const T distance = tile.template distance<kScale>(own, other, lane);
        const T slope = slope_of(loop, {owner, first + other, number}, distance * distance);
        slopes += slope;
        positions += slope * distance * tile.template outer_scale<kScale>(other, lane);
        of_squares += slope * distance * distance;
      }
      slope_sum += slopes;
      position_sum += positions;
      square_sum += of_squares;
    }
  }
  if (exists && !loop.for_gradients) value.store(loop, owner * loop.dims + number);
  if (exists && loop.for_gradients) {
    const double scale =
        kScale == PairScale::kOfOwner ? owner_scale[own * Tile::kRow + lane] : T(1);
    store_pair_gradients(loop, owner, number, position_sum, square_sum, slope_sum, scale);
  }
  // A weight is that of all numbers: pair_weights() adds them up.
  if (exists && loop.grad_log_weights.data != nullptr) {
    loop.position_sums[owner * loop.dims + number] = -slope_sum;
  }
}

// A thread for each component.
__global__ void __launch_bounds__(kBlockThreads, kMinBlocks)
    pair_weights(const __grid_constant__ PairsLoop loop) {
  const int64_t component = int64_t{blockIdx.x} * kBlockThreads + threadIdx.x;
  if (component >= loop.owners) return;
  double sum = 0, lost = 0;
  for (int64_t d = 0; d < loop.dims; ++d) {
    add_compensated(sum, lost, loop.position_sums[component * loop.dims + d]);
  }
  store_double(loop.grad_log_weights, component, sum + lost);
}

}  // namespace vae_fast::cuda
