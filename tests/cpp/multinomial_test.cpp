// The rows of the multinomial likelihood on random shapes, strides and dtypes, against the textbook
// in long double, on every instruction set; and its gradient in place of the logits.
#include <algorithm>
#include <cmath>
#include <vector>

#include "launch_case.h"

namespace {

using namespace vae_fast;
using testing::View;

constexpr int kTrials = 100;

void one_thread(int64_t n, int64_t, void (*body)(void*, int64_t, int64_t), void* context) {
  body(context, 0, n);
}

struct Row {
  long double value = 0, weights = 0, count = 0, largest = -INFINITY;

  long double gradient(double logit, double target) const {
    return count * std::exp(logit - largest) / weights - target;
  }
};

Row exact_row(const std::vector<double>& logits, const std::vector<double>& target) {
  Row row;
  for (const double l : logits) row.largest = std::max<long double>(row.largest, l);
  for (const double l : logits) row.weights += std::exp(l - row.largest);
  for (size_t i = 0; i < logits.size(); ++i) {
    row.count += target[i];
    row.value += target[i] * (row.largest + std::log(row.weights) - logits[i]);
  }
  return row;
}

std::vector<double> row_of(const View& view, const Shape& shape, int64_t first, int64_t n) {
  std::vector<double> numbers;
  for (int64_t i = first; i < first + n; ++i) {
    numbers.push_back(view.get(testing::offset_of(shape, view.strides.data(), i)));
  }
  return numbers;
}

void check_call(testing::Random& random, bool float64, bool in_place) {
  MultinomialArgs args;
  args.float64 = float64;
  args.shape = random.shape();
  args.classes = args.shape.sizes[args.shape.dims - 1];
  args.scale = 0.25;
  const int64_t rows = args.shape.numel / args.classes;
  if (args.shape.numel > 60000) return;
  View logits(random.dtype(float64), args.shape, random.strides(args.shape, !in_place, in_place));
  View target(random.one_in(3) ? Dtype::kUInt8 : random.dtype(float64), args.shape,
              random.strides(args.shape, true, false));
  View gradient(random.dtype(float64), args.shape, random.strides(args.shape, false, false));
  Shape dense{1, {rows}, rows};
  View value(float64 ? Dtype::kFloat64 : Dtype::kFloat32, dense, {1});
  random.fill(logits);
  random.fill(target);
  const View before = logits;

  args.logits = input_of(logits);
  args.target = input_of(target);
  args.value = output_of(value, dense);
  View& written = in_place ? logits : gradient;
  args.gradient = output_of(written, args.shape);
  if (in_place) logits.storage = before.storage;
  cpu::multinomial(args, one_thread);

  for (int64_t r = 0; r < rows; ++r) {
    const std::vector<double> l = row_of(before, args.shape, r * args.classes, args.classes);
    const std::vector<double> t = row_of(target, args.shape, r * args.classes, args.classes);
    const std::vector<double> g = row_of(written, args.shape, r * args.classes, args.classes);
    const Row row = exact_row(l, t);
    const double count = static_cast<double>(row.count);
    testing::check_close(cpu::capability(), "value", value.get(r), row.value,
                         static_cast<double>(row.value), value.dtype, float64);
    for (int64_t i = 0; i < args.classes; ++i) {
      testing::check_close(cpu::capability(), "gradient", g[i],
                           args.scale * row.gradient(l[i], t[i]), count, written.dtype, float64);
    }
  }
}

}  // namespace

int main() {
  for (const char* const* name = cpu::capabilities(); *name != nullptr; ++name) {
    cpu::set_capability(*name);
    testing::Random random;
    for (int trial = 0; trial < kTrials; ++trial) {
      check_call(random, trial % 2 == 0, trial % 3 == 0);
    }
  }
  return testing::report();
}
