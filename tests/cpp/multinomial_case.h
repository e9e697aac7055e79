// A call of the multinomial's launch function on random or chosen tensors: against the textbook in
// long double, and the same bits however the device shares the work. As launch_case.h has the
// losses; a Device has multinomial(args, setting).
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "launch_case.h"

namespace vae_fast::testing {

struct ExactRow {
  long double value = 0, weights = 0, count = 0, largest = -INFINITY;

  ExactRow(const std::vector<double>& logits, const std::vector<double>& target) {
    for (const double l : logits) largest = std::max<long double>(largest, l);
    for (const double l : logits) weights += std::exp(l - largest);
    for (size_t i = 0; i < logits.size(); ++i) {
      count += target[i];
      if (target[i] != 0) value += target[i] * (largest + std::log(weights) - logits[i]);
    }
  }

  long double gradient(double logit, double target) const {
    return count * std::exp(logit - largest) / weights - target;
  }
};

struct MultinomialCase {
  MultinomialArgs args;
  View logits, target, gradient, value;
  std::vector<View> upstream;  // one, in a backward
  bool in_place;
  View given;  // the logits

  MultinomialCase(Random& random, const Shape& shape, bool float64, View with_logits,
                  View with_target, View with_gradient, bool is_in_place)
      : logits(std::move(with_logits)),
        target(std::move(with_target)),
        gradient(std::move(with_gradient)),
        value(float64 ? Dtype::kFloat64 : Dtype::kFloat32, rows_of(shape), {1}),
        in_place(is_in_place),
        given(logits) {
    args.float64 = float64;
    args.shape = shape;
    args.classes = shape.sizes[shape.dims - 1];
    args.scale = 0.25;
    if (random.one_in(2)) {
      std::vector<int64_t> strides = random.strides(shape, true, false);
      strides[shape.dims - 1] = 0;
      upstream.emplace_back(random.dtype(float64), shape, strides);
      random.fill(upstream[0]);
    }
    random.fill(target);
    random.fill(given);
    const double spread = random.one_in(2) ? 40 : 1;
    for (int64_t i = 0; i < given.elements(); ++i) given.set(i, spread * given.get(i));
    connect(true);
  }

  // Dense, of one dtype but for the target; the k-th tensor begins k * skew elements behind an
  // aligned address.
  MultinomialCase(Random& random, const Shape& shape, Dtype dtype, Dtype of_target, int64_t skew,
                  bool is_in_place)
      : MultinomialCase(random, shape, dtype == Dtype::kFloat64,
                        View(dtype, shape, dense_strides(shape), skew),
                        View(of_target, shape, dense_strides(shape), 2 * skew),
                        View(dtype, shape, dense_strides(shape), 3 * skew), is_in_place) {
    if (random.one_in(2)) exclude(random);
    connect(true);
  }

  static Shape rows_of(const Shape& shape) {
    const int64_t rows = shape.numel / shape.sizes[shape.dims - 1];
    return Shape{1, {rows}, rows};
  }

  // Some classes, not all, that are neither possible nor counted.
  void exclude(Random& random) {
    for (int64_t i = 1; i < args.shape.numel; i += random.integer(1, 20)) {
      if (i % args.classes == 0) continue;
      given.set(i, -INFINITY);
      target.set(i, 0);
    }
  }

  // Everything as it was before a launch.
  void connect(bool with_gradient) {
    logits = given;
    args.logits = input_of(logits);
    args.target = input_of(target);
    args.upstream = upstream.empty() ? Input{} : input_of(upstream[0]);
    args.value = output_of(value, rows_of(args.shape));
    args.gradient = with_gradient ? output_of(written(), args.shape) : Output{};
    if (in_place) logits.storage = given.storage;
  }

  View& written() { return in_place ? logits : gradient; }

  std::vector<double> row_of(const View& view, int64_t row) const {
    std::vector<double> numbers;
    for (int64_t i = row * args.classes; i < (row + 1) * args.classes; ++i) {
      numbers.push_back(view.get(offset_of(args.shape, view.strides.data(), i)));
    }
    return numbers;
  }

  template <class Device>
  void run_and_check(Device& device) {
    device.multinomial(args, 0);
    check(device.name());
    for (int setting = 1; setting < Device::kSettings; ++setting) {
      const View first_value = value, first_written = written();
      connect(args.gradient.data != nullptr);
      device.multinomial(args, setting);
      CHECK(first_value.storage == value.storage && first_written.storage == written().storage,
            "%s: the multinomial depends on who does the work", device.name());
    }
  }

  void check(const char* device) {
    for (int64_t r = 0; r < args.value.numel; ++r) {
      const std::vector<double> l = row_of(given, r), t = row_of(target, r);
      const ExactRow row(l, t);
      check_close(device, "value", value.get(r), row.value, static_cast<double>(row.value),
                  value.dtype, args.float64);
      if (args.gradient.data == nullptr) continue;
      const std::vector<double> g = row_of(written(), r);
      const double factor = args.scale * (upstream.empty() ? 1 : row_of(upstream[0], r)[0]);
      for (int64_t i = 0; i < args.classes; ++i) {
        check_close(device, "gradient", g[i], factor * row.gradient(l[i], t[i]),
                    static_cast<double>(row.count), written().dtype, args.float64);
      }
    }
  }
};

// Any shapes, strides and dtypes.
template <class Device>
void check_multinomial(Random& random, Device& device, int trials) {
  for (int trial = 0; trial < trials; ++trial) {
    const bool float64 = random.one_in(2), in_place = random.one_in(3);
    const Shape shape = random.shape();
    // A short row takes as much work as one of four elements.
    const int64_t rows = shape.numel / shape.sizes[shape.dims - 1];
    if (std::max(shape.numel, 4 * rows) > Device::kMaxElements) continue;
    View logits(random.dtype(float64), shape, random.strides(shape, !in_place, in_place));
    View target(random.one_in(3) ? random.integer_dtype(true) : random.dtype(float64), shape,
                random.strides(shape, true, false));
    View gradient(random.dtype(float64), shape, random.strides(shape, false, false));
    MultinomialCase(random, shape, float64, std::move(logits), std::move(target),
                    std::move(gradient), in_place)
        .run_and_check(device);
  }
}

}  // namespace vae_fast::testing
