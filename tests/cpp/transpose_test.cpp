// The transpose at sizes around its squares, of rows that are wider than what is taken of them, in
// one part and in many; nothing is read or written beyond.
#include <cstdio>
#include <vector>

#include "check.h"
#include "kernels.h"

namespace {

using vae_fast::cpu::ParallelFor;

constexpr float kUnwritten = -1;

void whole(int64_t n, int64_t, void (*body)(void*, int64_t, int64_t), void* context) {
  body(context, 0, n);
}

void one_by_one(int64_t n, int64_t, void (*body)(void*, int64_t, int64_t), void* context) {
  for (int64_t i = n; i-- > 0;) body(context, i, i + 1);
}

void check(int64_t rows, int64_t columns, int64_t padding, ParallelFor parallel_for) {
  const int64_t stride = columns + padding;
  std::vector<float> x(rows > 0 ? (rows - 1) * stride + columns : 0);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  std::vector<float> out(rows * columns + 1, kUnwritten);
  vae_fast::cpu::transpose(x.data(), rows, columns, stride, out.data(), parallel_for);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      CHECK(out[c * rows + r] == x[r * stride + c], "%d x %d, +%d: row %d, column %d",
            static_cast<int>(rows), static_cast<int>(columns), static_cast<int>(padding),
            static_cast<int>(r), static_cast<int>(c));
    }
  }
  CHECK(out.back() == kUnwritten, "%d x %d: written beyond", static_cast<int>(rows),
        static_cast<int>(columns));
}

}  // namespace

int main() {
  for (int64_t rows : {0, 1, 15, 16, 17, 33, 100}) {
    for (int64_t columns : {0, 1, 15, 16, 17, 48, 70}) {
      for (int64_t padding : {0, 3}) {
        check(rows, columns, padding, whole);
        check(rows, columns, padding, one_by_one);
      }
    }
  }
  return vae_fast::testing::report();
}
