// A linear layer of a table in CSR: its product row by row of the table, its weight's gradient row
// by row of the weight, which is held transposed: an entry meets numbers that follow each other.
#pragma once

#include "cpu/instruction_set.h"
#include "formulas/elementary.h"

namespace vae_fast::cpu {
inline namespace VAE_FAST_ISA {
namespace {

template <class T>
VAE_FAST_FN void add_multiple(T* sum, T factor, const T* x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) sum[i] += factor * x[i];
}

// Rows [begin, end) of y, which holds the bias.
template <class T, class Index>
void sparse_product_rows(const SparseLinearArgs& args, int64_t begin, int64_t end) {
  const Index* const starts = static_cast<const Index*>(args.starts);
  const Index* const columns = static_cast<const Index*>(args.columns);
  const T* const values = static_cast<const T*>(args.values);
  const T* const weight = static_cast<const T*>(args.weight);
  const int64_t n = args.outputs;
  for (int64_t row = begin; row < end; ++row) {
    T* const y = static_cast<T*>(args.y) + row * n;
    for (int64_t k = starts[row]; k < starts[row + 1]; ++k) {
      add_multiple(y, values[k], weight + columns[k] * n, n);
    }
  }
}

// Rows [begin, end) of the transposed weight's gradient, which is zero. Each looks at all entries,
// in their order.
template <class T, class Index>
void sparse_gradient_rows(const SparseLinearArgs& args, int64_t begin, int64_t end) {
  const Index* const starts = static_cast<const Index*>(args.starts);
  const Index* const columns = static_cast<const Index*>(args.columns);
  const T* const values = static_cast<const T*>(args.values);
  T* const gradient = static_cast<T*>(args.weight_gradient);
  const int64_t n = args.outputs;
  for (int64_t row = 0; row < args.rows; ++row) {
    const T* const upstream = static_cast<const T*>(args.upstream) + row * n;
    for (int64_t k = starts[row]; k < starts[row + 1]; ++k) {
      if (columns[k] < begin || columns[k] >= end) continue;
      add_multiple(gradient + columns[k] * n, values[k], upstream, n);
    }
  }
}

}  // namespace
}  // namespace VAE_FAST_ISA
}  // namespace vae_fast::cpu
