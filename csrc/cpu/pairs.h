// The loop over pairs of rows and components, from tensors to packed lanes, through formulas, to
// values and gradients.
#pragma once

#include "cpu/pair_lanes.h"

namespace vae_fast::cpu {
inline namespace VAE_FAST_ISA {
namespace {

// n numbers of a matrix, `step` apart from element `first` on.
template <class T>
const T* load_line(const Input& in, int64_t first, int64_t step, int64_t n, T* buffer) {
  Input line = in;
  line.data = static_cast<const char*>(in.data) + first * bytes_of(in.dtype);
  line.strides[0] = step;
  Shape shape;
  shape.dims = 1;
  shape.sizes[0] = shape.numel = n;
  return load_tile(line, false, shape, 0, n, buffer);
}

// The packed memory.
template <class T>
class PackedOthers {
 public:
  explicit PackedOthers(const PairsPass& pass)
      : dims_(pass.dims),
        lanes_(pass.blocks * kPairLanes),
        at_(static_cast<T*>(pass.packed)),
        scale_(at_ + lanes_ * dims_),
        of_windows_(scale_ + lanes_ * dims_) {}

  T* at(int64_t block, int64_t d) const { return at_ + (block * dims_ + d) * kPairLanes; }
  T* scale(int64_t block, int64_t d) const { return scale_ + (block * dims_ + d) * kPairLanes; }
  // Of the others' weights, or of the rows' own: what their value was computed to be, and the
  // upstream gradient.
  T* weights(int64_t window) const { return of_windows_ + 2 * window * lanes_; }
  T* computed(int64_t window) const { return weights(window); }
  T* upstream(int64_t window) const { return weights(window) + lanes_; }

 private:
  int64_t dims_, lanes_;
  T *at_, *scale_, *of_windows_;
};

template <class T>
class Pairs {
 public:
  Pairs(const PairsArgs& args, const PairsPass& pass, void* room)
      : args_(args),
        pass_(pass),
        others_(pass),
        has_density_(args.reduction == PairsReduction::kLogSumExp),
        shares_weights_(args.log_weights.strides[0] == 0),
        positions_(static_cast<double*>(room)),
        squares_of_(positions_ + kOwners * pass.dims),
        at_(reinterpret_cast<T*>(squares_of_ + kOwners * pass.dims)),
        scale_(at_ + kOwners * pass.dims),
        weights_of_(scale_ + kOwners * pass.dims),
        upstream_of_(weights_of_ + kOwners * pass.dims),
        line_(upstream_of_ + kOwners * pass.dims),
        second_line_(line_ + pass.dims) {}

  // Of a block of others.
  void pack(int64_t block) {
    for (int64_t lane = 0; lane < kPairLanes; ++lane) {
      const int64_t other = block * kPairLanes + lane;
      if (other < pass_.others) {
        pack_other(block, lane, other);
      } else {
        pack_nobody(block, lane);
      }
    }
  }

  void run(int64_t owner_block) {
    first_ = owner_block * kOwners;
    count_ = static_cast<int>(smaller(kOwners, pass_.owners - first_));
    load_owners();
    for (int64_t window = 0; window < pass_.windows; ++window) {
      if (has_density_ && !pass_.rows_own) {
        run_window<PairScale::kOfOwner>(window);
      } else if (has_density_) {
        run_window<PairScale::kOfOther>(window);
      } else {
        run_window<PairScale::kNone>(window);
      }
    }
    if (pass_.for_gradients) store_gradients();
  }

 private:
  // Others that fill whole blocks: those beyond the last one have no part in anything.
  static int64_t filled_up(int64_t n) { return (n + kPairLanes - 1) / kPairLanes * kPairLanes; }

  const Input& position_of(bool of_row) const { return of_row ? args_.x : args_.mean; }

  // Sums of a component's normalisers over each window, and its weight where all rows share it.
  template <class F>
  void for_each_weight(int64_t component, const T* logvar, const F& f) {
    T weight = 0;
    if (shares_weights_) {
      weight =
          *load_line(args_.log_weights, component * args_.log_weights.strides[1], 0, 1, &weight);
    }
    const int64_t size = pass_.window_size();
    for (int64_t window = 0; window < pass_.windows; ++window) {
      f(window,
        static_cast<T>(weight + pair_normaliser(sum_of(logvar + window * size, size), size)));
    }
  }

  const T* position(bool of_row, int64_t index, T* buffer) {
    const Input& in = position_of(of_row);
    return load_line(in, index * in.strides[0], in.strides[1], pass_.dims, buffer);
  }

  const T* logvar(int64_t component, T* buffer) {
    const Input& in = args_.logvar;
    return load_line(in, component * in.strides[0], in.strides[1], pass_.dims, buffer);
  }

  const T* scales_of(const T* logvars) {
    T* const scales = second_line_;
#pragma omp simd
    for (int64_t d = 0; d < pass_.dims; ++d) scales[d] = pair_scale(logvars[d]);
    return scales;
  }

  void pack_other(int64_t block, int64_t lane, int64_t other) {
    const T* at = position(!pass_.rows_own, other, line_);
    for (int64_t d = 0; d < pass_.dims; ++d) others_.at(block, d)[lane] = at[d];
    const int64_t to = block * kPairLanes + lane;
    if (!pass_.rows_own) {
      for (int64_t window = 0; window < pass_.windows; ++window) {
        const int64_t value = other * pass_.windows + window;
        if (has_density_) {
          others_.computed(window)[to] = *load_line(args_.computed, value, 0, 1, line_);
        }
        others_.upstream(window)[to] = *load_line(args_.upstream, value, 0, 1, line_);
      }
    } else if (has_density_) {
      const T* variances = logvar(other, line_);
      const T* scales = scales_of(variances);
      for (int64_t d = 0; d < pass_.dims; ++d) others_.scale(block, d)[lane] = scales[d];
      for_each_weight(other, variances,
                      [&](int64_t window, T weight) { others_.weights(window)[to] = weight; });
    }
  }

  // One that has no part in anything.
  void pack_nobody(int64_t block, int64_t lane) {
    for (int64_t d = 0; d < pass_.dims; ++d) {
      others_.at(block, d)[lane] = 0;
      others_.scale(block, d)[lane] = 0;
    }
    const int64_t to = block * kPairLanes + lane;
    for (int64_t window = 0; window < pass_.windows; ++window) {
      others_.computed(window)[to] = pass_.rows_own ? -kInfinity<T> : kInfinity<T>;
      others_.upstream(window)[to] = 0;
    }
  }

  // Those that are not there are like the last one.
  void load_owners() {
    for (int i = 0; i < kOwners; ++i) {
      const int64_t owner = first_ + smaller(i, count_ - 1);
      const T* at = position(pass_.rows_own, owner, line_);
      for (int64_t d = 0; d < pass_.dims; ++d) at_[d * kOwners + i] = at[d];
      if (has_density_ && !pass_.rows_own) {
        const T* variances = logvar(owner, line_);
        const T* scales = scales_of(variances);
        for (int64_t d = 0; d < pass_.dims; ++d) scale_[d * kOwners + i] = scales[d];
        for_each_weight(owner, variances, [&](int64_t window, T weight) {
          weights_of_[window * kOwners + i] = weight;
        });
      }
      if (!pass_.rows_own || !pass_.for_gradients) continue;
      for (int64_t window = 0; window < pass_.windows; ++window) {
        const int64_t value = owner * pass_.windows + window, to = window * kOwners + i;
        if (has_density_) weights_of_[to] = *load_line(args_.computed, value, 0, 1, line_);
        upstream_of_[to] = *load_line(args_.upstream, value, 0, 1, line_);
      }
    }
    if (!pass_.for_gradients) return;
    for (int64_t k = 0; k < kOwners * pass_.dims; ++k) positions_[k] = squares_of_[k] = 0;
    for (int i = 0; i < kOwners; ++i) weights_[i] = lost_[i] = 0;
  }

  // What an owner has to itself in a window.
  struct OfOwner {
    T weight;    // a component's, or else a row's value
    T upstream;  // of a row
  };

  OfOwner of_owner(int i, int64_t window) const {
    return {weights_of_[window * kOwners + i], upstream_of_[window * kOwners + i]};
  }

  template <PairScale kScale>
  void run_window(int64_t window) {
    const int64_t size = pass_.window_size(), first_dim = window * size;
    OfOwner own[kOwners];
    for (int i = 0; i < kOwners; ++i) own[i] = of_owner(i, window);
    LogSumExp<T> log_sums[kOwners];
    double sums[kOwners] = {};
    Nearest nearest[kOwners];
    const PairEnd<T> owners{at_ + first_dim * kOwners, scale_ + first_dim * kOwners};
    for (int64_t first = 0; first < pass_.others; first += kPairsTogether) {
      const int64_t n = smaller(kPairsTogether, pass_.others - first);
      const int64_t block = first / kPairLanes, blocks = filled_up(n) / kPairLanes;
      for (int64_t b = 0; b < blocks; ++b) {
        const PairEnd<T> others{others_.at(block + b, first_dim),
                                others_.scale(block + b, first_dim)};
        pair_squares<T, kScale>(owners, others, size, &values_[0][b * kPairLanes]);
      }
      for (int i = 0; i < kOwners; ++i) {
        T* const values = values_[i];
        switch (args_.reduction) {
          case PairsReduction::kLogSumExp:
            to_log_densities(i, window, own[i], first, n, values);
            if (pass_.for_gradients) {
              to_density_slopes(own[i], window, first, n, values);
            } else {
              add_log_densities(values, n, log_sums[i]);
            }
            break;
          case PairsReduction::kGaussian:
            evaluate_kernel<GaussianKernel>(own[i], window, first, n, values, sums[i]);
            break;
          case PairsReduction::kMultiquadratic:
            evaluate_kernel<InverseMultiquadraticKernel>(own[i], window, first, n, values, sums[i]);
            break;
          case PairsReduction::kNearest:
            nearest[i].add(values, first, n);
            break;
        }
      }
      if (!pass_.for_gradients) continue;
      for (int i = 0; i < kOwners; ++i) of_window_[i] += sum_of(values_[i], n);
      for (int64_t d = first_dim; d < first_dim + size; ++d) {
        const PairEnd<T> of_number{at_ + d * kOwners, scale_ + d * kOwners};
        const PairEnd<T> others{others_.at(block, d), others_.scale(block, d)};
        pair_gradients<T, kScale>(of_number, others, pass_.dims * kPairLanes, blocks, values_[0],
                                  positions_ + d * kOwners, squares_of_ + d * kOwners);
      }
    }
    if (pass_.for_gradients) {
      finish_window(first_dim, size);
      return;
    }
    for (int i = 0; i < count_; ++i) {
      const int64_t value = (first_ + i) * pass_.windows + window;
      if (args_.reduction == PairsReduction::kNearest) {
        args_.nearest[value] = nearest[i].index();
      } else {
        store_value(value, has_density_ ? log_sums[i].value() : sums[i]);
      }
    }
  }

  // From squares, `n` of them.
  void to_log_densities(int i, int64_t window, const OfOwner& own, int64_t first, int64_t n,
                        T* values) {
    const int64_t lanes = filled_up(n);
    const T* weights = weights_line_;
    if (pass_.rows_own) {
      weights = others_.weights(window) + first;
    } else {
      for (int64_t k = 0; k < lanes; ++k) weights_line_[k] = own.weight;
    }
    if (!shares_weights_) {
      const int64_t* strides = args_.log_weights.strides;
      const int64_t owner = first_ + smaller(i, count_ - 1);
      const int along = pass_.rows_own ? 1 : 0;
      const T* own_weights =
          load_line(args_.log_weights, owner * strides[1 - along] + first * strides[along],
                    strides[along], n, own_line_);
      for (int64_t k = 0; k < n; ++k) weights_line_[k] = weights[k] + own_weights[k];
      for (int64_t k = n; k < lanes; ++k) weights_line_[k] = -kInfinity<T>;
      weights = weights_line_;
    }
#pragma omp simd
    for (int64_t k = 0; k < lanes; ++k) values[k] = pair_log_density(weights[k], values[k]);
  }

  static void add_log_densities(T* values, int64_t n, LogSumExp<T>& sum) {
    T largest = -kInfinity<T>;
#pragma omp simd reduction(max : largest)
    for (int64_t k = 0; k < n; ++k) largest = max_(values[k], largest);
    sum.move_to(largest);
    const T center = sum.center();
#pragma omp simd
    for (int64_t k = 0; k < n; ++k) values[k] = exp_nonpositive(values[k] - center);
    sum.add_weights(sum_of(values, n));
  }

  void to_density_slopes(const OfOwner& own, int64_t window, int64_t first, int64_t n, T* values) {
    const int64_t lanes = filled_up(n);
    if (pass_.rows_own) {
#pragma omp simd
      for (int64_t k = 0; k < lanes; ++k) {
        values[k] = pair_log_density_slope(values[k], own.weight) * own.upstream;
      }
    } else {
      const T* const computed = others_.computed(window) + first;
      const T* const upstream = others_.upstream(window) + first;
#pragma omp simd
      for (int64_t k = 0; k < lanes; ++k) {
        values[k] = pair_log_density_slope(values[k], computed[k]) * upstream[k];
      }
    }
  }

  // To slopes where gradients are wanted, and else to what is summed here.
  template <class Kernel>
  void evaluate_kernel(const OfOwner& own, int64_t window, int64_t first, int64_t n, T* values,
                       double& sum) {
    const int64_t lanes = filled_up(n);
    for (int64_t k = 0; k < lanes; ++k) own_line_[k] = 0;
    for (int w = 0; w < args_.widths; ++w) {
      const T width = static_cast<T>(args_.width[w]);
      if (pass_.for_gradients) {
#pragma omp simd
        for (int64_t k = 0; k < n; ++k) own_line_[k] += Kernel::slope(values[k], width);
      } else {
#pragma omp simd
        for (int64_t k = 0; k < n; ++k) own_line_[k] += Kernel::value(values[k], width);
      }
    }
    if (!pass_.for_gradients) {
      sum += sum_of(own_line_, n);
      return;
    }
    const T* const upstream = pass_.rows_own ? nullptr : others_.upstream(window) + first;
    for (int64_t k = 0; k < lanes; ++k) {
      values[k] = own_line_[k] * (pass_.rows_own ? own.upstream : upstream[k]);
    }
  }

  // The least of an owner's squares so far, in every lane, and in which run of lanes it was.
  class Nearest {
   public:
    VAE_FAST_FN void add(const T* squares, int64_t first, int64_t n) {
      for (int64_t begin = 0; begin < n; begin += kPairLanes) {
        const int64_t end = smaller(kPairLanes, n - begin);
        const auto run = static_cast<int32_t>((first + begin) / kPairLanes);
#pragma omp simd
        for (int64_t k = 0; k < end; ++k) {
          const bool is_nearer = squares[begin + k] < least_[k];
          least_[k] = is_nearer ? squares[begin + k] : least_[k];
          run_[k] = is_nearer ? run : run_[k];
        }
      }
    }

    // The first of equals.
    int64_t index() const {
      T least = kInfinity<T>;
      int64_t index = 0;
      for (int64_t k = 0; k < kPairLanes; ++k) {
        const int64_t own = run_[k] * kPairLanes + k;
        if (least_[k] < least || (least_[k] == least && own < index)) {
          least = least_[k];
          index = own;
        }
      }
      return index;
    }

    Nearest() {
      for (int64_t k = 0; k < kPairLanes; ++k) {
        least_[k] = kInfinity<T>;
        run_[k] = 0;
      }
    }

   private:
    T least_[kPairLanes];
    int32_t run_[kPairLanes];
  };

  // The gradients in the numbers of a window, from the sums over the others.
  void finish_window(int64_t first_dim, int64_t size) {
    for (int i = 0; i < kOwners; ++i) {
      add_compensated(weights_[i], lost_[i], -of_window_[i]);
      for (int64_t d = first_dim; d < first_dim + size; ++d) {
        double& of_squares = squares_of_[d * kOwners + i];
        of_squares = 0.5 * (of_window_[i] - of_squares);
        if (has_density_ && !pass_.rows_own) positions_[d * kOwners + i] *= scale_[d * kOwners + i];
      }
      of_window_[i] = 0;
    }
  }

  void store_value(int64_t index, double value) {
    Shape shape;
    shape.dims = 1;
    shape.sizes[0] = shape.numel = args_.value.numel;
    Output out = args_.value;
    out.strides[0] = 1;
    store_tile(out, shape, index, 1, &value);
  }

  void store_row(const Output& out, int64_t row, const double* of_owners) {
    if (out.data == nullptr) return;
    Shape shape;
    shape.dims = 2;
    shape.sizes[0] = pass_.owners;
    shape.sizes[1] = pass_.dims;
    shape.numel = pass_.owners * pass_.dims;
    double* const numbers = reinterpret_cast<double*>(line_);  // and the second one
    for (int64_t d = 0; d < pass_.dims; ++d) numbers[d] = of_owners[d * kOwners];
    store_tile(out, shape, row * pass_.dims, pass_.dims, numbers);
  }

  void store_gradients() {
    for (int i = 0; i < count_; ++i) {
      const int64_t owner = first_ + i;
      store_row(pass_.rows_own ? args_.grad_x : args_.grad_mean, owner, positions_ + i);
      if (pass_.rows_own) continue;
      store_row(args_.grad_logvar, owner, squares_of_ + i);
      if (args_.grad_log_weights.data != nullptr) {
        Shape shape;
        shape.dims = 1;
        shape.sizes[0] = shape.numel = pass_.owners;
        const double sum = weights_[i] + lost_[i];
        store_tile(args_.grad_log_weights, shape, owner, 1, &sum);
      }
    }
  }

  const PairsArgs& args_;
  const PairsPass& pass_;
  const PackedOthers<T> others_;
  const bool has_density_;
  const bool shares_weights_;
  double *positions_, *squares_of_;  // of each number, then each owner
  T *at_, *scale_;                   // likewise
  T *weights_of_, *upstream_of_;     // of each window, then each owner
  T *line_, *second_line_;           // buffers of `dims` numbers
  int64_t first_ = 0;                // owner
  int count_ = 0;
  double weights_[kOwners] = {}, lost_[kOwners] = {}, of_window_[kOwners] = {};
  alignas(64) T values_[kOwners][kPairsTogether];
  alignas(64) T weights_line_[kPairsTogether];
  alignas(64) T own_line_[kPairsTogether];
};

template <class T>
void pack_pairs(const PairsArgs& args, const PairsPass& pass, int64_t begin, int64_t end,
                void* room) {
  Pairs<T> pairs(args, pass, room);
  for (int64_t block = begin; block < end; ++block) pairs.pack(block);
}

template <class T>
void run_pairs(const PairsArgs& args, const PairsPass& pass, int64_t begin, int64_t end,
               void* room) {
  Pairs<T> pairs(args, pass, room);
  for (int64_t block = begin; block < end; ++block) pairs.run(block);
}

}  // namespace
}  // namespace VAE_FAST_ISA
}  // namespace vae_fast::cpu
