// The loop over rows that the multinomial likelihood needs: their sums, tile by tile and with the
// exponentials' center raised on the way, then their gradient, while the row is in the cache.
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
VAE_FAST_FN void multinomial_terms_tile(const T* logits, const T* target, T center, T* weights,
                                        T* costs, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const auto terms = multinomial_terms(logits[i], target[i], center);
    weights[i] = terms.weight;
    costs[i] = terms.cost;
  }
}

template <class T>
VAE_FAST_FN void multinomial_gradient_tile(const T* logits, const T* target, T center, T share,
                                           T scale, T* gradient, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    gradient[i] = multinomial_gradient(logits[i], target[i], center, share, scale);
  }
}

template <class T>
class MultinomialRows {
 public:
  explicit MultinomialRows(const MultinomialArgs& args) : args_(args) {}

  // Returns the row's value; its gradient, where it is wanted, is stored.
  double row(int64_t index) {
    MultinomialRow<T> row;
    for_each_tile(index, [&](int64_t, int64_t n) {
      row.raise(largest_of(logits_, n));
      multinomial_terms_tile(logits_, target_, row.center(), weights_, costs_, n);
      row.weights += sum_of(weights_, n);
      row.count += sum_of(target_, n);
      row.cost += sum_of(costs_, n);
    });
    if (args_.gradient.data == nullptr) return row.value();
    const T scale = static_cast<T>(args_.scale);
    const T share = static_cast<T>(args_.scale * row.share());
    for_each_tile(index, [&](int64_t first, int64_t n) {
      T* const direct = direct_tile<T>(args_.gradient, args_.shape, first, n);
      T* const gradient = direct != nullptr ? direct : weights_;
      multinomial_gradient_tile(logits_, target_, row.center(), share, scale, gradient, n);
      if (direct == nullptr) store_tile(args_.gradient, args_.shape, first, n, gradient);
    });
    return row.value();
  }

 private:
  static constexpr int64_t kCapacity = tile_capacity(sizeof(T) == 8);

  template <class F>
  VAE_FAST_FN void for_each_tile(int64_t row, const F& body) {
    const int64_t end = (row + 1) * args_.classes;
    for (int64_t first = row * args_.classes; first < end; first += kCapacity) {
      const int64_t n = smaller(kCapacity, end - first);
      logits_ = load_tile(args_.logits, false, args_.shape, first, n, logits_buffer_);
      target_ = load_tile(args_.target, false, args_.shape, first, n, target_buffer_);
      body(first, n);
    }
  }

  const MultinomialArgs& args_;
  const T* logits_ = nullptr;
  const T* target_ = nullptr;
  alignas(64) T logits_buffer_[kCapacity];
  alignas(64) T target_buffer_[kCapacity];
  alignas(64) T weights_[kCapacity];
  alignas(64) T costs_[kCapacity];
};

template <class T>
void multinomial_rows(const MultinomialArgs& args, int64_t begin, int64_t end, double* values) {
  MultinomialRows<T> rows(args);
  for (int64_t row = begin; row < end; ++row) values[row] = rows.row(row);
}

}  // namespace
}  // namespace VAE_FAST_ISA
}  // namespace vae_fast::cpu
