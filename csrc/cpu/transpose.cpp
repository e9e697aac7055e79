// A matrix transposed: what comes before a product that wants its left side so. By squares, which
// are read by rows and written by columns, a cache line each.
#include <algorithm>

#include "kernels.h"

namespace vae_fast::cpu {
namespace {

constexpr int64_t kSide = 16;
constexpr int64_t kGrain = 32 * 1024;  // numbers for a thread

struct Matrix {
  const float* x;
  int64_t rows, columns;
  int64_t stride;
  float* out;

  // The columns [first, first + kSide), or as many as there are.
  void transpose_strip(int64_t first) const {
    const int64_t width = std::min(kSide, columns - first);
    for (int64_t row = 0; row < rows; row += kSide) {
      const int64_t height = std::min(kSide, rows - row);
      const float* const from = x + row * stride + first;
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

void transpose(const float* x, int64_t rows, int64_t columns, int64_t stride, float* out,
               ParallelFor parallel_for) {
  Matrix matrix = {x, rows, columns, stride, out};
  const int64_t strips = (columns + kSide - 1) / kSide;
  const int64_t grain = std::max<int64_t>(1, kGrain / (kSide * std::max<int64_t>(1, rows)));
  parallel_for(
      strips, grain,
      [](void* context, int64_t begin, int64_t end) {
        for (int64_t strip = begin; strip < end; ++strip) {
          static_cast<const Matrix*>(context)->transpose_strip(strip * kSide);
        }
      },
      &matrix);
}

}  // namespace vae_fast::cpu
