// The loop over rows that the multinomial likelihood needs: their largest logit, their sums, their
// gradient, a tile at a time, while the row is in the cache.
#pragma once

#include "cpu/tile_memory.h"
#include "cpu/tiling.h"
#include "formulas/multinomial.h"

namespace vae_fast::cpu {
inline namespace VAE_FAST_ISA {
namespace {

template <class T>
VAE_FAST_FN T largest_of(const T* x, int64_t n) {
  T largest = -kInfinity<T>;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < n; ++i) largest = max_(x[i], largest);
  return largest;
}

template <class T>
VAE_FAST_FN void multinomial_costs(const T* logits, const T* target, T center, T* costs,
                                   int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) costs[i] = multinomial_cost(logits[i], target[i], center);
}

template <class T>
VAE_FAST_FN void multinomial_weights(const T* logits, T center, T* weights, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) weights[i] = multinomial_weight(logits[i], center);
}

template <class T>
VAE_FAST_FN void multinomial_gradients(const T* weights, const T* target, T share, T scale,
                                       T* gradient, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    gradient[i] = multinomial_gradient(weights[i], target[i], share, scale);
  }
}

template <class T>
class MultinomialRows {
 public:
  explicit MultinomialRows(const MultinomialArgs& args)
      : args_(args),
        prefetches_((bytes_per_element(args.logits) + bytes_per_element(args.target) +
                     bytes_per_element(args.gradient)) *
                        args.shape.numel >=
                    kPrefetchFrom) {}

  // Returns the row's value; its gradient, where it is wanted, is stored. The weights wait in the
  // gradient's memory where they can: it may be the logits' own, which are then no longer there.
  double row(int64_t index) {
    T largest = -kInfinity<T>;
    for_each_tile(index, [&](int64_t first, int64_t n) {
      largest = max_(largest_of(load(args_.logits, first, n, logits_), n), largest);
    });
    MultinomialRow<T> row(largest);
    for_each_tile(index, [&](int64_t first, int64_t n) {
      const T* logits = load(args_.logits, first, n, logits_);
      const T* target = load(args_.target, first, n, target_);
      multinomial_costs(logits, target, row.center, buffer_, n);
      row.cost += sum_of(buffer_, n);
      row.count += sum_of(target, n);
      T* const weights = in_gradient(first, n);
      multinomial_weights(logits, row.center, weights, n);
      row.weights += sum_of(weights, n);
    });
    if (args_.gradient.data == nullptr) return row.value();
    const double factor = args_.scale * upstream_of(index);
    const T scale = static_cast<T>(factor);
    const T share = static_cast<T>(factor * row.share());
    for_each_tile(index, [&](int64_t first, int64_t n) {
      const T* target = load(args_.target, first, n, target_);
      T* const gradient = in_gradient(first, n);
      if (gradient == buffer_) {
        multinomial_weights(load(args_.logits, first, n, logits_), row.center, gradient, n);
      }
      multinomial_gradients(gradient, target, share, scale, gradient, n);
      if (gradient == buffer_) store_tile(args_.gradient, args_.shape, first, n, gradient);
    });
    return row.value();
  }

 private:
  static constexpr int64_t kCapacity = tile_capacity(sizeof(T) == 8);

  template <class F>
  VAE_FAST_FN void for_each_tile(int64_t row, const F& body) {
    const int64_t end = (row + 1) * args_.classes;
    for (int64_t first = row * args_.classes; first < end; first += kCapacity) {
      body(first, smaller(kCapacity, end - first));
    }
  }

  const T* load(const Input& input, int64_t first, int64_t n, T* buffer) {
    const T* const tile = load_tile(input, false, args_.shape, first, n, buffer);
    if (prefetches_ && tile != buffer) prefetch(tile + n, n);
    return tile;
  }

  double upstream_of(int64_t row) const {
    T number = 1;
    return args_.upstream.data == nullptr
               ? 1
               : *load_tile(args_.upstream, false, args_.shape, row * args_.classes, 1, &number);
  }

  T* in_gradient(int64_t first, int64_t n) {
    const Output& out = args_.gradient;
    T* const direct = out.data == nullptr ? nullptr : direct_tile<T>(out, args_.shape, first, n);
    return direct != nullptr ? direct : buffer_;
  }

  const MultinomialArgs& args_;
  const bool prefetches_;
  alignas(64) T logits_[kCapacity];
  alignas(64) T target_[kCapacity];
  alignas(64) T buffer_[kCapacity];
};

template <class T>
void multinomial_rows(const MultinomialArgs& args, int64_t begin, int64_t end, double* values) {
  MultinomialRows<T> rows(args);
  for (int64_t row = begin; row < end; ++row) values[row] = rows.row(row);
}

}  // namespace
}  // namespace VAE_FAST_ISA
}  // namespace vae_fast::cpu
