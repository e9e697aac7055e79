// A call of the launch function of rows of counts on random tensors: against the formula in double
// of means in long double, and the same bits however the device shares the work. As launch_case.h
// has the losses; a Device has counts(args, setting) too, and says whether that is what kernels.h
// says of cuda::counts.
#pragma once

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "formulas/counts.h"
#include "launch_case.h"

namespace vae_fast::testing {

template <class Formula>
struct CountCase {
  static constexpr int kOperands = kOperandCount<Formula>, kParameters = kOperands - 1;
  static constexpr int kAll = (1 << (kParameters + 1)) - 1;  // the last is the library's

  CountArgs args;
  std::vector<View> operands, gradients;
  View library, mask, upstream, value, to_library;

  // The first `row_dims` dimensions are of the rows.
  CountCase(Random& random, const Shape& shape, int row_dims, bool float64, bool by_element)
      : library(random.dtype(float64), shape, strides_of_rows(random, shape, row_dims)),
        mask(Dtype::kBool, shape, random.strides(shape, true, false)),
        upstream(random.dtype(float64), shape, strides_of_rows(random, shape, row_dims)),
        value(dense(shape, row_dims, float64)),
        to_library(value) {
    args.loss.loss = kLossIndex<Formula>;
    args.loss.float64 = float64;
    args.loss.shape = shape;
    args.loss.scale = 0.25;
    args.is_log = std::string_view(Formula::kOperands[0]).starts_with("log_");
    args.classes = 1;
    for (int d = row_dims; d < shape.dims; ++d) args.classes *= shape.sizes[d];
    for (int k = 0; k < kOperands; ++k) {
      const bool is_whole = k == kParameters && random.one_in(2);
      operands.emplace_back(is_whole ? random.integer_dtype(true) : random.dtype(float64), shape,
                            random.strides(shape, k > 0, false));
      random.fill(operands.back());
    }
    for (int64_t i = 0; i < operands[0].elements(); ++i) {
      operands[0].set(i, 8 * operands[0].get(i));
    }
    for (int k = 0; k < kParameters; ++k) {
      gradients.emplace_back(k == 0 ? value.dtype : random.dtype(float64), shape,
                             random.strides(shape, k > 0 && !by_element, true));
    }
    for (View* view : {&library, &mask, &upstream}) random.fill(*view);
    for (int64_t i = 0; i < library.elements(); ++i) library.set(i, 100 * library.get(i));
    connect(kAll, random.one_in(2), random.one_in(2));
  }

  static std::vector<int64_t> strides_of_rows(Random& random, const Shape& shape, int row_dims) {
    std::vector<int64_t> strides = random.strides(shape, true, false);
    std::fill(strides.begin() + row_dims, strides.end(), 0);
    return strides;
  }

  static View dense(const Shape& shape, int row_dims, bool float64) {
    Shape rows{.dims = 1, .sizes = {1}, .numel = 1};
    for (int d = 0; d < row_dims; ++d) rows.sizes[0] *= shape.sizes[d];
    rows.numel = rows.sizes[0];
    return View(float64 ? Dtype::kFloat64 : Dtype::kFloat32, rows, {1});
  }

  int64_t rows() const { return value.elements(); }

  // Everything as it was before a launch.
  void connect(int wanted, bool with_mask, bool with_upstream) {
    const Shape of_rows{.dims = 1, .sizes = {rows()}, .numel = rows()};
    LossArgs& loss = args.loss;
    for (int k = 0; k < kOperands; ++k) loss.operands[k] = input_of(operands[k]);
    for (int k = 0; k < kParameters; ++k) {
      loss.gradients[k] = wanted >> k & 1 ? output_of(gradients[k], loss.shape) : Output{};
    }
    args.library = input_of(library);
    args.library_gradient = wanted >> kParameters & 1 ? output_of(to_library, of_rows) : Output{};
    loss.mask = with_mask ? input_of(mask) : Input{};
    loss.upstream = with_upstream ? input_of(upstream) : Input{};
    loss.value = output_of(value, of_rows);
  }

  int wanted() const {
    int wanted = args.library_gradient.data != nullptr ? 1 << kParameters : 0;
    for (int k = 0; k < kParameters; ++k) {
      if (args.loss.gradients[k].data != nullptr) wanted |= 1 << k;
    }
    return wanted;
  }

  double at(const View& view, int64_t element) const {
    return view.get(offset_of(args.loss.shape, view.strides.data(), element));
  }

  template <class Device>
  void run_and_check(Device& device) {
    device.counts(args, 0);
    check(device.name());
    for (int setting = 1; setting < Device::kSettings; ++setting) {
      const std::vector<View> first = outputs();
      connect(wanted(), args.loss.mask.data != nullptr, args.loss.upstream.data != nullptr);
      device.counts(args, setting);
      const std::vector<View> again = outputs();
      for (size_t k = 0; k < first.size(); ++k) {
        CHECK(first[k].storage == again[k].storage, "%s: %s depends on who does the work",
              device.name(), Formula::kName);
      }
    }
  }

  std::vector<View> outputs() const {
    std::vector<View> views = gradients;
    views.push_back(value);
    views.push_back(to_library);
    return views;
  }

  void check(const char* device) const {
    std::vector<Expected> expected;
    for (const View& gradient : gradients) expected.emplace_back(gradient.elements());
    for (int64_t row = 0; row < rows(); ++row) check_row(device, row, expected);
    for (int k = 0; k < kParameters; ++k) {
      if (args.loss.gradients[k].data == nullptr) continue;
      for (int64_t i = 0; i < gradients[k].elements(); ++i) {
        check_close(device, Formula::kOperands[k], gradients[k].get(i), expected[k].sum[i],
                    expected[k].magnitude[i], gradients[k].dtype, args.loss.float64);
      }
    }
  }

  void check_row(const char* device, int64_t row, std::vector<Expected>& expected) const {
    const int64_t begin = row * args.classes, end = begin + args.classes;
    const long double total = at(library, begin);
    const double factor =
        args.loss.scale * (args.loss.upstream.data != nullptr ? at(upstream, begin) : 1);
    long double weights = 0, to_logs = 0;
    for (int64_t i = begin; i < end; ++i) weights += std::exp((long double)at(operands[0], i));
    Expected values(1);
    double size = 0;  // of the terms of to_logs
    for (int64_t i = begin; i < end; ++i) {
      if (args.loss.mask.data != nullptr && at(mask, i) == 0) continue;
      const long double mean = total * std::exp((long double)at(operands[0], i)) / weights;
      double x[kOperands] = {static_cast<double>(args.is_log ? std::log(mean) : mean)};
      for (int k = 1; k < kOperands; ++k) x[k] = at(operands[k], i);
      const auto loss = evaluate<Formula>(x, std::make_index_sequence<kOperands>{});
      const double to_log = loss.gradient[0] * (args.is_log ? 1 : x[0]);
      // What the mean's own rounding does to it, too.
      const double of_mean = std::fabs(to_log) + static_cast<double>(mean);
      values.add(0, loss.value, 1);
      values.magnitude[0] += of_mean;
      to_logs += to_log;
      size += of_mean;
      for (int k = 0; k < kParameters; ++k) {
        const int64_t place = offset_of(args.loss.shape, gradients[k].strides.data(), i);
        expected[k].add(place, k == 0 ? to_log : loss.gradient[k], factor);
        expected[k].magnitude[place] += of_mean * factor;
      }
    }
    check_close(device, "value", value.get(row), values.sum[0], values.magnitude[0], value.dtype,
                args.loss.float64);
    for (int64_t i = begin; i < end; ++i) {
      const double share = static_cast<double>(std::exp((long double)at(operands[0], i)) / weights);
      const int64_t place = offset_of(args.loss.shape, gradients[0].strides.data(), i);
      expected[0].sum[place] -= share * to_logs * factor;
      expected[0].magnitude[place] += share * size * factor;
    }
    if (args.library_gradient.data == nullptr) return;
    check_close(device, "library", to_library.get(row), factor * to_logs / total,
                factor * size / static_cast<double>(total), to_library.dtype, args.loss.float64);
  }
};

// Of a formula that has one: each arithmetic, with all gradients and with none, of rows that a few
// threads share, a warp, a block, that each thread meets several elements of; then any shapes,
// strides and dtypes.
template <class Formula, class Device>
void check_counts_of(Random& random, Device& device, int trials) {
  using Case = CountCase<Formula>;
  constexpr int64_t kMost = Device::kMaxElements;
  for (const int64_t classes : {1, 3, 40, 600, 2500}) {
    const int64_t rows = std::min<int64_t>(classes == 1 ? 70 : 3, kMost / classes);
    const Shape shape{.dims = 2, .sizes = {rows, classes}, .numel = rows * classes};
    for (const bool float64 : {false, true}) {
      for (const int wanted : {0, Case::kAll}) {
        Case call(random, shape, 1, float64, Device::kCountsByElement);
        call.connect(wanted, false, wanted != 0);
        call.run_and_check(device);
      }
    }
  }
  for (int trial = 0; trial < trials; ++trial) {
    const Shape shape = random.shape();
    const int dims_of_a_run = shape.dims - 1;
    const int row_dims = Device::kCountsByElement
                             ? dims_of_a_run
                             : static_cast<int>(random.integer(0, dims_of_a_run));
    int64_t rows = 1;
    for (int d = 0; d < row_dims; ++d) rows *= shape.sizes[d];
    // A short row takes as much work as one of four elements.
    if (std::max(shape.numel, 4 * rows) > kMost) continue;
    Case call(random, shape, row_dims, random.one_in(2), Device::kCountsByElement);
    if (random.one_in(2)) {
      call.connect(static_cast<int>(random.integer(0, Case::kAll)), random.one_in(2),
                   random.one_in(2));
    }
    call.run_and_check(device);
  }
}

template <class Formula, class Device>
void check_counts_if_of_mean(Random& random, Device& device, int trials) {
  if constexpr (kIsOfMean<Formula>) check_counts_of<Formula>(random, device, trials);
}

template <class Device, class... Formula>
void check_counts(Random& random, Device& device, int trials, FormulaList<Formula...>) {
  (check_counts_if_of_mean<Formula>(random, device, trials), ...);
}

}  // namespace vae_fast::testing
