// torch's copy of a transposed matrix runs on one thread, and takes as long as a tenth of the
// product that it is for.
#include <ATen/Parallel.h>

#include <algorithm>

#include "bindings/products.h"

namespace vae_fast::bindings {
namespace {

// A square of so many floats on each side is read by rows and written by columns, a cache line
// each.
constexpr int64_t kSide = 16;
constexpr int64_t kGrain = 32 * 1024;  // numbers for a thread

struct Matrix {
  int64_t rows, columns;
  int64_t stride;  // from row to row
  const float* data;

  // Of the columns [first, first + kSide), or as many as there are.
  void transpose_columns(int64_t first, float* out) const {
    const int64_t width = std::min(kSide, columns - first);
    for (int64_t row = 0; row < rows; row += kSide) {
      const int64_t height = std::min(kSide, rows - row);
      const float* const from = data + row * stride + first;
      float* const to = out + first * rows + row;
      if (width == kSide && height == kSide) {
        transpose_square(from, to);
      } else {
        for (int64_t c = 0; c < width; ++c) {
          for (int64_t r = 0; r < height; ++r) to[c * rows + r] = from[r * stride + c];
        }
      }
    }
  }

  void transpose_square(const float* from, float* to) const {
    float square[kSide][kSide];
    for (int64_t r = 0; r < kSide; ++r) {
      for (int64_t c = 0; c < kSide; ++c) square[r][c] = from[r * stride + c];
    }
    for (int64_t c = 0; c < kSide; ++c) {
      for (int64_t r = 0; r < kSide; ++r) to[c * rows + r] = square[r][c];
    }
  }
};

}  // namespace

Tensor transposed(const Tensor& x) {
  const Tensor rows = x.stride(1) == 1 ? x : x.contiguous();
  const Matrix matrix = {x.size(0), x.size(1), rows.stride(0), rows.const_data_ptr<float>()};
  Tensor result = at::empty({matrix.columns, matrix.rows}, x.options());
  float* const out = result.mutable_data_ptr<float>();
  const int64_t strips = at::divup(matrix.columns, kSide);
  at::parallel_for(0, strips, at::divup(kGrain, kSide * std::max<int64_t>(1, matrix.rows)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t strip = begin; strip < end; ++strip) {
                       matrix.transpose_columns(strip * kSide, out);
                     }
                   });
  return result;
}

}  // namespace vae_fast::bindings
