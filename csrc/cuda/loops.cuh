// The loops, each written once around any element (elements.cuh): over the vectors of rows, with
// sums over groups of rows; over columns. The one over blocks of noise is in noise.cuh.
#pragma once

#include <type_traits>

#include "cuda/elements.cuh"
#include "cuda/sums.cuh"
#include "cuda/vectors.cuh"

// The body of a loop must not become a function of its own.
#define VAE_FAST_INLINE __attribute__((always_inline))

namespace vae_fast::cuda {

// One element of a tensor.
template <class T>
__device__ __forceinline__ T number(const Tensor& tensor, int64_t offset = 0) {
  using One = Vectors<T, 1>;
  T x;
  One::convert_any(One::load_any(tensor, offset, false), tensor.dtype, false, &x);
  return x;
}

template <class Element, class T>
__device__ __forceinline__ Common<T> common_of(const LoopArgs& args) {
  Common<T> common = {static_cast<T>(args.scale), false, false};
  if constexpr (Element::is_optional(Element::kInputs - 1)) {
    common.has_grad_value = args.inputs[Element::kInputs - 3].data != nullptr;
    common.has_grad_z = args.inputs[Element::kInputs - 2].data != nullptr;
  }
  if constexpr (Element::kTakesUpstream) {
    if (args.upstream_is_number) common.scale *= number<T>(args.upstream);
  }
  return common;
}

// Of a kernel on a multiprocessor, at least: leaves a thread 128 registers.
inline constexpr int kMinBlocks = 2;

// Room for N > 0 outputs, or for none.
template <class Element>
constexpr int kRoom = Element::kOutputs > 0 ? Element::kOutputs : 1;

// ---- one vector --------------------------------------------------------------------------------

// What a kernel serves: dense tensors of one dtype (`flat`); one dtype, any strides; any of both.
// The target may always be of any dtype. Where none is known each vector asks for it anew, several
// times the instructions of a cheap formula.
template <class S>
struct Strided {};
struct AnyDtype {};

template <class S>
struct Served {
  using Dtype = S;
  static constexpr bool kIsFlat = true;
};
template <class S>
struct Served<Strided<S>> {
  using Dtype = S;
  static constexpr bool kIsFlat = false;
};
template <>
struct Served<AnyDtype> {
  using Dtype = AnyDtype;
  static constexpr bool kIsFlat = false;
};
template <class S>
constexpr bool kIsFlat = Served<S>::kIsFlat;
template <class S>
constexpr bool kIsKnown = !std::is_same_v<typename Served<S>::Dtype, AnyDtype>;

// Where a vector lies in each of the call's tensors.
template <class Element>
struct Offsets {
  int64_t input[Element::kInputs];
  int64_t mask, upstream, value;
  int64_t output[kRoom<Element>];

  // f(tensor, its offset) for each of the tensors.
  template <class F>
  __device__ __forceinline__ void for_each(const LoopArgs& args, const F& f) {
    VAE_FAST_UNROLL
    for (int k = 0; k < Element::kInputs; ++k) f(args.inputs[k], input[k]);
    f(args.mask, mask);
    if constexpr (Element::kTakesUpstream) f(args.upstream, upstream);
    f(args.value, value);
    VAE_FAST_UNROLL
    for (int k = 0; k < Element::kOutputs; ++k) f(args.outputs[k], output[k]);
  }

  // The given element of dense tensors.
  __device__ __forceinline__ void start_flat(const LoopArgs& args, int64_t element) {
    for_each(args, [&](const Tensor&, int64_t& offset) VAE_FAST_INLINE { offset = element; });
  }

  // The given column of the first row.
  __device__ __forceinline__ void start(const LoopArgs& args, int64_t column) {
    const int inner = args.space.outer_dims;
    for_each(args, [&](const Tensor& tensor, int64_t& offset)
                       VAE_FAST_INLINE { offset = column * tensor.strides[inner]; });
  }

  // Adds the offset of the index-th entry of the dimensions [first, last).
  __device__ __forceinline__ void add(const LoopArgs& args, int first, int last, int64_t index) {
    for (int d = last - 1; d >= first; --d) {
      const int64_t rest = divide(index, args.space.sizes[d]);
      const int64_t coordinate = index - rest * args.space.sizes[d].divisor;
      index = rest;
      for_each(args, [&](const Tensor& tensor, int64_t& offset)
                         VAE_FAST_INLINE { offset += coordinate * tensor.strides[d]; });
    }
  }

  // One element on along the row.
  template <bool kFlat>
  __device__ __forceinline__ void advance(const LoopArgs& args) {
    const int inner = args.space.outer_dims;
    for_each(args, [&](const Tensor& tensor, int64_t& offset)
                       VAE_FAST_INLINE { offset += kFlat ? 1 : tensor.strides[inner]; });
  }
};

// The element's results for a vector; zero where they are masked out.
template <class Element, class T, int V>
struct Results {
  T value[V];
  T output[kRoom<Element>][V];
};

// A byte for each element.
template <class T, int V>
__device__ __forceinline__ auto load_mask(const Tensor& mask, int64_t offset) {
  if (V == 1 || !mask.is_same) return Vectors<T, V>::template load<uint8_t>(mask, offset);
  typename Vectors<T, V>::Raw raw;
  VAE_FAST_UNROLL
  for (int k = 0; k < V; ++k) raw.set(k, static_cast<const uint8_t*>(mask.data)[offset]);
  return raw;
}

// The k-th input, of dtype S; a target, and one element that serves all, may be of any dtype.
template <class Element, class T, int V, class S>
struct InputReader {
  using Access = Vectors<T, V>;
  using Raw = typename Access::Raw;

  __device__ __forceinline__ static bool is_same(const Tensor& tensor) {
    return (V > 1 || kIsFlat<S>) && tensor.is_same;
  }

  __device__ __forceinline__ static Raw load(const Tensor& tensor, int64_t offset, int k) {
    if (is_same(tensor)) {
      return Access::load_same(tensor, kIsFlat<S> ? 0 : offset, Element::is_unit_interval(k));
    }
    if constexpr (kIsKnown<S>) {
      using Known = typename Served<S>::Dtype;
      if (!Element::is_target(k)) return Access::template load<Known>(tensor, offset);
    }
    return Access::load_any(tensor, offset, Element::is_unit_interval(k));
  }

  __device__ __forceinline__ static void convert(const Tensor& tensor, const Raw& raw, int k,
                                                 T* x) {
    if (is_same(tensor)) return Access::convert_same(raw, x);
    if constexpr (kIsKnown<S>) {
      using Known = typename Served<S>::Dtype;
      if (!Element::is_target(k)) return Access::template convert<Known>(raw, x);
    }
    Access::convert_any(raw, tensor.dtype, Element::is_unit_interval(k), x);
  }
};

template <class Element, class T, int V, class S>
__device__ __forceinline__ void evaluate_vector(const LoopArgs& args,
                                                const Offsets<Element>& offsets,
                                                const Common<T>& common, const T* eps,
                                                Results<Element, T, V>& results) {
  using Read = InputReader<Element, T, V, S>;
  typename Read::Raw raw[Element::kInputs], raw_mask, raw_upstream;
  const bool is_masked = !kIsFlat<S> && args.mask.data != nullptr;
  constexpr bool kMayHaveUpstream = Element::kTakesUpstream && !kIsFlat<S>;
  const bool has_upstream =
      kMayHaveUpstream && args.upstream.data != nullptr && !args.upstream_is_number;
  VAE_FAST_UNROLL
  for (int k = 0; k < Element::kInputs; ++k) {
    if (Element::is_optional(k) && args.inputs[k].data == nullptr) continue;
    raw[k] = Read::load(args.inputs[k], offsets.input[k], k);
  }
  if (is_masked) raw_mask = load_mask<T, V>(args.mask, offsets.mask);
  if (has_upstream) raw_upstream = Read::load(args.upstream, offsets.upstream, 0);
  T x[Element::kInputs][V], upstream[V] = {};
  if (has_upstream) Read::convert(args.upstream, raw_upstream, 0, upstream);
  VAE_FAST_UNROLL
  for (int k = 0; k < Element::kInputs; ++k) Read::convert(args.inputs[k], raw[k], k, x[k]);
  VAE_FAST_UNROLL
  for (int j = 0; j < V; ++j) {
    T element[Element::kInputs];
    VAE_FAST_UNROLL
    for (int k = 0; k < Element::kInputs; ++k) element[k] = x[k][j];
    const auto result = Element::at(element, eps[j], common);
    // By selection: what is masked out may be NaN.
    const bool counts = !is_masked || raw_mask.template get<uint8_t>(j) != 0;
    results.value[j] = select(counts, result.value, T(0));
    VAE_FAST_UNROLL
    for (int k = 0; k < Element::kOutputs; ++k) {
      T output = result.output[k];
      if (has_upstream) output *= upstream[j];
      results.output[k][j] = select(counts, output, T(0));
    }
  }
}

template <class T, int V>
__device__ __forceinline__ double sum_of(const T* x) {
  T sum = x[0];
  VAE_FAST_UNROLL
  for (int j = 1; j < V; ++j) sum += x[j];
  return sum;
}

template <class T, int V, class S>
__device__ __forceinline__ void store(const Tensor& tensor, int64_t offset, const T* x) {
  if constexpr (kIsKnown<S>) {
    Vectors<T, V>::template store<typename Served<S>::Dtype>(tensor, offset, x);
  } else {
    Vectors<T, V>::store_any(tensor, offset, x);
  }
}

// Evaluates a vector; stores what is kept by element, adds the rest to the thread's sums: the
// value's, then the outputs'.
template <class Element, class T, int V, class S>
__device__ __forceinline__ void visit(const LoopArgs& args, const Offsets<Element>& offsets,
                                      const Common<T>& common, const T* eps, double* sums) {
  Results<Element, T, V> results;
  evaluate_vector<Element, T, V, S>(args, offsets, common, eps, results);
  if (args.value_is_summed) {
    sums[0] += sum_of<T, V>(results.value);
  } else if (args.value.data != nullptr) {
    store<T, V, S>(args.value, offsets.value, results.value);
  }
  VAE_FAST_UNROLL
  for (int k = 0; k < Element::kOutputs; ++k) {
    if ((!kIsFlat<S> || Element::kOutputs > kOutputsWithoutFlatSums) && args.output_is_summed[k]) {
      sums[k + 1] += sum_of<T, V>(results.output[k]);
    } else if (args.outputs[k].data != nullptr) {
      store<T, V, S>(args.outputs[k], offsets.output[k], results.output[k]);
    }
  }
}

// The same for a vector of which `left` elements are left: whole, or element by element.
template <class Element, class T, int V, class S>
__device__ __forceinline__ void visit_some(const LoopArgs& args, Offsets<Element>& offsets,
                                           int64_t left, const Common<T>& common, const T* eps,
                                           double* sums) {
  if (left >= V) {
    visit<Element, T, V, S>(args, offsets, common, eps, sums);
  } else if constexpr (V > 1) {
    VAE_FAST_NO_UNROLL
    for (int j = 0; j < left; ++j) {
      T eps_j = eps[0];
      if constexpr (Element::kDrawsNoise) {
        VAE_FAST_UNROLL
        for (int k = 1; k < V; ++k) eps_j = select(j == k, eps[k], eps_j);
      }
      visit<Element, T, 1, S>(args, offsets, common, &eps_j, sums);
      offsets.template advance<kIsFlat<S>>(args);
    }
  }
}

// ---- sums over groups --------------------------------------------------------------------------

// Where a group's sum goes: the value is dense, an output lies where the group's first row does.
__device__ __forceinline__ void store_sum(const LoopArgs& args, int which, int64_t group,
                                          double sum) {
  const Tensor& tensor = which == 0 ? args.value : args.outputs[which - 1];
  int64_t offset = group;
  if (which == 0) {
    sum *= args.scale;
  } else {
    int64_t index = group * args.parts.group_rows;
    offset = 0;
    for (int d = args.space.outer_dims - 1; d >= 0; --d) {
      const int64_t rest = divide(index, args.space.sizes[d]);
      offset += (index - rest * args.space.sizes[d].divisor) * tensor.strides[d];
      index = rest;
    }
  }
  Vectors<double, 1>::store_any(tensor, offset, &sum);
}

__device__ __forceinline__ bool is_summed(const LoopArgs& args, int which) {
  return which == 0 ? args.value_is_summed : args.output_is_summed[which - 1];
}

// Deals the vectors out to the threads: visit(group, vector in the group, sums) for each; then adds
// up what they left in the kSums sums, over the team, and over the blocks of a group in the last.
template <int kSums, class Visit>
__device__ __forceinline__ void for_each_part(const LoopArgs& args, const Visit& visit) {
  constexpr int kMaxTeams = kBlockThreads >> kMinTeamShift;
  const Parts& parts = args.parts;
  const int team = 1 << parts.team_shift;
  const int64_t part =
      (static_cast<int64_t>(blockIdx.x) * kBlockThreads + threadIdx.x) >> parts.team_shift;
  const int64_t group = divide(part, parts.splits);
  double sums[kSums] = {};
  if (part < parts.count) {
    const int64_t begin = (part - group * parts.splits.divisor) * parts.split_vectors;
    const int64_t full = begin + parts.split_vectors;
    const int64_t end = full < parts.group_vectors ? full : parts.group_vectors;
    const int lane = threadIdx.x & (team - 1);
    for (int64_t vector = begin + lane; vector < end; vector += team) visit(group, vector, sums);
  }
  if (!args.any_sum) return;

  // A team of a block leaves a sum for each of its warps.
  VAE_FAST_SHARED(double, team_sums, kSums* kMaxTeams);
  const int small_team = team < kWarp ? team : kWarp;
  VAE_FAST_UNROLL
  for (int which = 0; which < kSums; ++which) {
    if (!is_summed(args, which)) continue;
    const double sum = warp_sum(sums[which], small_team);
    if (threadIdx.x % small_team == 0) {
      team_sums[which * kMaxTeams + threadIdx.x / small_team] = sum;
    }
  }
  __syncthreads();
  const int teams = kBlockThreads >> parts.team_shift;
  const uint32_t splits = static_cast<uint32_t>(parts.splits.divisor);
  for (int i = threadIdx.x; i < kSums * teams; i += kBlockThreads) {
    const int which = i / teams, in_block = i % teams;
    const int64_t its_part = static_cast<int64_t>(blockIdx.x) * teams + in_block;
    if (!is_summed(args, which) || its_part >= parts.count) continue;
    double sum = team_sums[which * kMaxTeams + in_block];
    if (team > kWarp) {
      for (int warp = 1; warp < kWarps; ++warp) sum += team_sums[which * kMaxTeams + warp];
    }
    if (splits == 1) {
      store_sum(args, which, its_part, sum);
    } else {
      args.partials[which * parts.count + its_part] = sum;
    }
  }
  // Where a group is split its parts are whole blocks.
  if (splits == 1 || !is_last_block(args.tickets + group, splits)) return;
  for (int which = 0; which < kSums; ++which) {
    if (!is_summed(args, which)) continue;
    const double* partials = args.partials + which * parts.count + group * splits;
    double sum = 0;
    for (uint32_t i = threadIdx.x; i < splits; i += kBlockThreads) sum += partials[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) store_sum(args, which, group, sum);
  }
}

// ---- rows --------------------------------------------------------------------------------------

__device__ __forceinline__ Seed seed_of_share(const LoopArgs& args, int64_t share) {
  return args.seeds == nullptr ? args.seed : args.seeds[share];
}

// True where the factor of a scaling is one number, and that is one.
__device__ __forceinline__ bool is_one(const LoopArgs& args) {
  const Tensor& factor = args.inputs[1];
  for (int d = 0; d <= args.space.outer_dims; ++d) {
    if (factor.strides[d] != 0) return false;
  }
  return number<double>(factor) == 1;
}

template <class Element, class T, int V, class S>
__global__ void __launch_bounds__(kBlockThreads, kMinBlocks)
    rows(const __grid_constant__ LoopArgs args) {
  static_assert(V == 1 || !Element::kDrawsNoise);
  if constexpr (Element::kIsScaling) {
    if (is_one(args)) return;
  }
  const Common<T> common = common_of<Element, T>(args);
  for_each_part<1 + Element::kOutputs>(
      args, [&](int64_t group, int64_t vector, double* sums) VAE_FAST_INLINE {
        Offsets<Element> offsets;
        T eps[V] = {};
        int64_t left;
        if constexpr (kIsFlat<S>) {
          const int64_t element = vector * V;
          left = args.parts.group_elements - element;
          offsets.start_flat(args, group * args.parts.group_elements + element);
        } else {
          const int64_t row_in_group = divide(vector, args.space.row_vectors);
          const int64_t column = (vector - row_in_group * args.space.row_vectors.divisor) * V;
          const int64_t row = group * args.parts.group_rows + row_in_group;
          left = args.space.row_length - column;
          offsets.start(args, column);
          offsets.add(args, 0, args.space.outer_dims, row);
          if constexpr (Element::kDrawsNoise) {
            const int64_t element = row * args.space.row_length + column;
            const int64_t share = divide(element, args.seed_share);
            eps[0] =
                normal_at<T>(seed_of_share(args, share), element - share * args.seed_share.divisor);
          }
        }
        visit_some<Element, T, V, S>(args, offsets, left, common, eps, sums);
      });
}

// ---- columns -----------------------------------------------------------------------------------

// The sum of all values: a part from each block, added up by the last.
__device__ __forceinline__ void sum_values(const LoopArgs& args, double sum, double* partials,
                                           uint32_t* ticket) {
  sum = block_sum(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
  if (!is_last_block(ticket, gridDim.x)) return;
  sum = 0;
  for (uint32_t i = threadIdx.x; i < gridDim.x; i += kBlockThreads) sum += partials[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) store_sum(args, 0, 0, sum);
}

// One of the outputs summed over rows: a block takes kTileColumns vectors of columns, each thread
// of them every kTileRows-th row; what the blocks of one tile leave is added up by the last. What
// else is wanted is kept by element, or the sum of all values.
template <class Element, class T, int V, class S>
__global__ void __launch_bounds__(kBlockThreads, kMinBlocks)
    columns(const __grid_constant__ LoopArgs args) {
  constexpr int kTileElements = kTileColumns * V;
  static_assert(kTileElements <= kBlockThreads);
  const Columns& columns = args.columns;
  const int x = threadIdx.x % kTileColumns, y = threadIdx.x / kTileColumns;
  const int64_t tile = divide(blockIdx.x, columns.splits);
  const int64_t split = blockIdx.x - tile * columns.splits.divisor;
  const int64_t own_columns = tile * kTileColumns + x;

  double sums[V] = {}, value_sum = 0;
  if (own_columns < columns.count) {
    const Common<T> common = common_of<Element, T>(args);
    const T eps[V] = {};
    const int64_t outer = divide(own_columns, args.space.row_vectors);
    const int64_t column = (own_columns - outer * args.space.row_vectors.divisor) * V;
    const int64_t begin = split * columns.split_rows, full = begin + columns.split_rows;
    const int64_t end = full < columns.rows ? full : columns.rows;
    for (int64_t row = begin + y; row < end; row += kTileRows) {
      Offsets<Element> offsets;
      offsets.start(args, column);
      offsets.add(args, 0, columns.kept_dims, outer);
      offsets.add(args, columns.kept_dims, args.space.outer_dims, row);
      Results<Element, T, V> results;
      evaluate_vector<Element, T, V, S>(args, offsets, common, eps, results);
      if (args.value_is_summed) {
        value_sum += sum_of<T, V>(results.value);
      } else if (args.value.data != nullptr) {
        store<T, V, S>(args.value, offsets.value, results.value);
      }
      VAE_FAST_UNROLL
      for (int k = 0; k < Element::kOutputs; ++k) {
        if (args.output_is_summed[k] || args.outputs[k].data == nullptr) continue;
        store<T, V, S>(args.outputs[k], offsets.output[k], results.output[k]);
      }
      // By selection: what is indexed by a variable lies in memory.
      VAE_FAST_UNROLL
      for (int j = 0; j < V; ++j) {
        T x = results.output[0][j];
        VAE_FAST_UNROLL
        for (int k = 1; k < Element::kOutputs; ++k) {
          x = select(k == columns.output, results.output[k][j], x);
        }
        sums[j] += x;
      }
    }
  }

  const uint32_t splits = static_cast<uint32_t>(columns.splits.divisor);
  const uint32_t tiles = gridDim.x / splits;
  if (args.value_is_summed) {
    sum_values(args, value_sum, args.partials + static_cast<int64_t>(gridDim.x) * kTileElements,
               args.tickets + tiles);
  }

  VAE_FAST_SHARED(double, tile_sums, kTileRows* kTileElements);
  VAE_FAST_UNROLL
  for (int j = 0; j < V; ++j) tile_sums[y * kTileElements + x * V + j] = sums[j];
  __syncthreads();

  // From here on a thread owns an element of the tile.
  const int own = threadIdx.x;
  double sum = 0;
  if (own < kTileElements) {
    for (int i = 0; i < kTileRows; ++i) sum += tile_sums[i * kTileElements + own];
  }
  if (splits > 1) {
    double* partials = args.partials + tile * splits * kTileElements;
    if (own < kTileElements) partials[split * kTileElements + own] = sum;
    if (!is_last_block(args.tickets + tile, splits)) return;
    sum = 0;
    if (own < kTileElements) {
      for (uint32_t i = 0; i < splits; ++i) sum += partials[i * kTileElements + own];
    }
  }
  const int64_t index = tile * kTileColumns + own / V;
  if (own >= kTileElements || index >= columns.count) return;
  const Tensor& tensor = args.outputs[columns.output];
  int64_t rest = divide(index, args.space.row_vectors);
  const int64_t column = (index - rest * args.space.row_vectors.divisor) * V + own % V;
  int64_t offset = column * tensor.strides[args.space.outer_dims];
  for (int d = columns.kept_dims - 1; d >= 0; --d) {
    const int64_t next = divide(rest, args.space.sizes[d]);
    offset += (rest - next * args.space.sizes[d].divisor) * tensor.strides[d];
    rest = next;
  }
  Vectors<double, 1>::store_any(tensor, offset, &sum);
}

}  // namespace vae_fast::cuda
