// The loop over rows of counts: targets in CSR, of which one row at a time is spread out, and means
// that are shares of the row's total by the softmax of its logits.
#pragma once

#include "cpu/loops.h"
#include "cpu/multinomial.h"
#include "formulas/counts.h"

namespace vae_fast::cpu {
inline namespace VAE_FAST_ISA {
namespace {

// The functions of formulas/counts.h, of runs of elements.

template <class T>
VAE_FAST_FN void count_means(const T* weights, T ratio, T* means, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) means[i] = count_mean(weights[i], ratio);
}

template <class T>
VAE_FAST_FN void count_log_means(const T* logits, T shift, T* log_means, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) log_means[i] = count_log_mean(logits[i], shift);
}

template <class T>
VAE_FAST_FN void to_log_means(const T* weights, T ratio, T* gradient, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) gradient[i] = to_log_mean(gradient[i], weights[i], ratio);
}

template <class T>
VAE_FAST_FN void to_logits(const T* gradient, const T* weights, T share, T* out, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] = to_logit(gradient[i], weights[i], share);
}

template <class T>
class CountRows {
 public:
  // `room`: for three rows.
  CountRows(const CountArgs& args, const Tiling& tiling, const Sums& sums, T* room)
      : args_(args),
        tiles_(args.loss, tiling, sums),
        target_(room),
        weights_(room + args.classes),
        gradient_(room + 2 * args.classes) {
    if (args.library_gradient.data != nullptr) tiles_.make_gradients(1);
    if (is_sparse()) fill(target_, T(0), args.classes);
  }

  struct Results {
    double value = 0;
    double to_library = 0;
  };

  Results row(int64_t index) {
    if (is_sparse()) spread(index, /*adds=*/true);
    const Row row = args_.library.data == nullptr ? Row{} : weigh(index);
    Results results;
    double to_logs = 0;
    for_each_tile(index, [&](int64_t first, int64_t at, int64_t n) {
      evaluate(row, first, at, n, results.value, to_logs);
    });
    if (row.is_softmax && tiles_.gradient_count() > 0) {
      const T share = static_cast<T>(to_logs / row.weights);
      if (args_.loss.gradients[0].data != nullptr) store_logits_gradient(index, share);
      results.to_library = row.to_library(to_logs);
    }
    if (is_sparse()) spread(index, /*adds=*/false);
    return results;
  }

 private:
  static constexpr int64_t kCapacity = LossTiles<T>::kCapacity;

  using Row = CountRow<T>;

  bool is_sparse() const { return args_.target.starts != nullptr; }

  // body(first element, where in the row that is, how many)
  template <class F>
  VAE_FAST_FN void for_each_tile(int64_t row, const F& body) {
    for (int64_t at = 0; at < args_.classes; at += kCapacity) {
      body(row * args_.classes + at, at, smaller(kCapacity, args_.classes - at));
    }
  }

  // Adds the entries of a row of CSR to `target_`, or makes it zero again where they were.
  void spread(int64_t index, bool adds) {
    return args_.target.has_int64 ? spread_by<int64_t>(index, adds)
                                  : spread_by<int32_t>(index, adds);
  }

  template <class Index>
  void spread_by(int64_t index, bool adds) {
    const Csr& csr = args_.target;
    const Index* const starts = static_cast<const Index*>(csr.starts) + index % csr.rows;
    const Index* const columns = static_cast<const Index*>(csr.columns);
    Shape line;
    line.dims = 1;
    for (int64_t k = starts[0]; k < starts[1]; k += kCapacity) {
      const int64_t n = smaller(kCapacity, starts[1] - k);
      if (!adds) {
        for (int64_t i = 0; i < n; ++i) target_[columns[k + i]] = 0;
        continue;
      }
      line.sizes[0] = line.numel = k + n;
      const T* const values = load_tile(csr.values, false, line, k, n, buffer_);
      for (int64_t i = 0; i < n; ++i) target_[columns[k + i]] += values[i];
    }
  }

  // The row's softmax: its weights, which stay, and what makes means of them.
  Row weigh(int64_t index) {
    T largest = -kInfinity<T>;
    for_each_tile(index, [&](int64_t first, int64_t, int64_t n) {
      largest = max_(largest_of(tiles_.load_operand(0, first, n), n), largest);
    });
    const T center = MultinomialRow<T>(largest).center;
    double weights = 0;
    for_each_tile(index, [&](int64_t first, int64_t at, int64_t n) {
      multinomial_weights(tiles_.load_operand(0, first, n), center, weights_ + at, n);
      weights += sum_of(weights_ + at, n);
    });
    T library;
    return Row::of(
        center, weights,
        *load_tile(args_.library, false, args_.loss.shape, index * args_.classes, 1, &library));
  }

  void evaluate(const Row& row, int64_t first, int64_t at, int64_t n, double& value,
                double& to_logs) {
    tiles_.load(first, n);
    if (is_sparse()) tiles_.set_target(target_ + at);
    T* const* gradients = tiles_.place_gradients(first, n);
    if (row.is_softmax) {
      if (args_.is_log) {
        count_log_means(tiles_.operand(0), row.shift, buffer_, n);
      } else {
        count_means(weights_ + at, row.ratio, buffer_, n);
      }
      tiles_.replace_first(buffer_, gradient_ + at);
    }
    T* const values = tiles_.evaluate(tiles_.value_buffer(), gradients, n);
    if (args_.loss.upstream.data != nullptr)
      tiles_.multiply_gradients(args_.loss.upstream, first, n);
    if (args_.loss.mask.data != nullptr) tiles_.apply_mask(values, first, n);
    value += sum_of(values, n);
    if (row.is_softmax && tiles_.gradient_count() > 0) {
      if (!args_.is_log) to_log_means(weights_ + at, row.ratio, gradient_ + at, n);
      to_logs += sum_of(gradient_ + at, n);
    }
    tiles_.store_gradients(first, n);
  }

  void store_logits_gradient(int64_t index, T share) {
    const Output& out = args_.loss.gradients[0];
    const Shape& shape = args_.loss.shape;
    for_each_tile(index, [&](int64_t first, int64_t at, int64_t n) {
      T* const direct = direct_tile<T>(out, shape, first, n);
      T* const tile = direct != nullptr ? direct : buffer_;
      to_logits(gradient_ + at, weights_ + at, share, tile, n);
      if (direct == nullptr) store_tile(out, shape, first, n, tile);
    });
  }

  const CountArgs& args_;
  LossTiles<T> tiles_;
  T *const target_, *const weights_, *const gradient_;  // rows
  alignas(64) T buffer_[kCapacity];
};

template <class T>
void count_rows(const CountArgs& args, const Tiling& tiling, int64_t begin, int64_t end,
                const Sums& sums, double* to_library, void* room) {
  CountRows<T> rows(args, tiling, sums, static_cast<T*>(room));
  for (int64_t row = begin; row < end; ++row) {
    const auto results = rows.row(row);
    sums.values[row] = results.value;
    to_library[row] = results.to_library;
  }
}

}  // namespace
}  // namespace VAE_FAST_ISA
}  // namespace vae_fast::cpu
