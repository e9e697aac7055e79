// The multinomial's kernels under the emulation.
#pragma once

#include "beside_cpu.h"
#include "multinomial_case.h"

namespace vae_fast::testing {

// Rows that a few threads hold, that a warp holds, a block, and that nobody holds; that begin at a
// vector, and that do not: with and without a gradient, in place of the logits too.
inline void check_multinomial_rows(Random& random, Emulated& device) {
  const auto check = [&](const Shape& shape, Dtype dtype, Dtype of_target, int64_t skew) {
    for (const bool in_place : {false, true}) {
      MultinomialCase rows(random, shape, dtype, of_target, skew, in_place);
      rows.run_and_check(device);
      if (in_place) continue;
      rows.connect(false);
      rows.run_and_check(device);
    }
  };
  for (const Dtype dtype : kDtypes) {
    for (int64_t classes = 1; classes <= 17; classes += kIsSlow ? 4 : 1) {
      check(shape_of({70, classes}), dtype, dtype, 0);
      if (!kIsSlow) check(shape_of({70, classes}), dtype, dtype, 1);
    }
    for (const int64_t classes : {64, 136, 512, 528, 1024, 4096}) {
      if (3 * classes > Emulated::kMaxElements) continue;
      check(shape_of({3, classes}), dtype, Dtype::kUInt8, 0);
      check(shape_of({2, classes + 1}), dtype, dtype, 0);
    }
    for (const Dtype of_target :
         {Dtype::kBool, Dtype::kFloat32, Dtype::kFloat16, Dtype::kInt32, Dtype::kInt64}) {
      check(shape_of({3, 40}), dtype, of_target, 0);
    }
    // Read again: several times over, the last time in part.
    check(shape_of({2, kIsSlow ? 4601 : 9001}), dtype, dtype, 0);
  }
}

// Logits of rows that lie apart, one row of counts for all of them.
inline void check_multinomial_views(Random& random, Emulated& device) {
  const Shape shape = shape_of({5, 3, 48});
  for (const Dtype dtype : kDtypes) {
    for (const std::vector<int64_t>& strides :
         {std::vector<int64_t>{0, 0, 1}, {48, 0, 1}, {0, 1, 0}, {1, 240, 5}}) {
      MultinomialCase(random, shape, dtype == Dtype::kFloat64, View(dtype, shape, {288, 96, 1}),
                      View(dtype, shape, strides), View(dtype, shape, dense_strides(shape)), false)
          .run_and_check(device);
    }
  }
}

// What is no number, or none that is finite, is the same as on the CPU.
inline void check_multinomial_edges(Random& random, Emulated& device) {
  const double inf = INFINITY, nan = std::nan("");
  const std::vector<double> rows[] = {{-inf, 0, 0, 1},   {-inf, -inf, -inf, -inf},
                                      {1e4, -1e4, 0, 0}, {0, nan, 1, 0},
                                      {0, inf, 1, 0},    {3e38, 0, -3e38, 0}};
  const std::vector<double> targets[] = {{1, 0, 2, 0}, {0, 0, 0, 0}, {0, 3, 0, 0}};
  for (const int64_t repeated : {1, 40}) {
    for (const std::vector<double>& logits : rows) {
      for (const std::vector<double>& target : targets) {
        MultinomialCase rows(random, shape_of({2, 4 * repeated}), Dtype::kFloat32, Dtype::kFloat32,
                             0, false);
        for (int64_t i = 0; i < rows.args.shape.numel; ++i) {
          rows.given.set(i, logits[i % 4]);
          rows.target.set(i, target[i % 4]);
        }
        rows.connect(true);
        cpu::multinomial(rows.args, on_one_thread);
        const View value = rows.value, gradient = rows.gradient;
        rows.connect(true);
        device.multinomial(rows.args, 0);
        check_same("value", rows.value, value, 1e-6);
        check_same("gradient", rows.gradient, gradient, 1e-6);
      }
    }
  }
}

// Rows without a class cost nothing; without a row there is nothing to do.
inline void check_multinomial_empty(Emulated& device) {
  for (const auto& [rows, classes] : {std::pair{3, 0}, std::pair{0, 5}}) {
    const auto value = allocate<float>(3);
    MultinomialArgs args;
    args.shape = shape_of({rows, classes});
    args.classes = classes;
    args.logits.strides[1] = args.target.strides[1] = 1;
    args.value.data = value.get();
    args.value.numel = rows;
    device.multinomial(args, 0);
    for (int r = 0; r < rows; ++r) CHECK(value[r] == 0, "a row of nothing costs %g", value[r]);
  }
}

}  // namespace vae_fast::testing
