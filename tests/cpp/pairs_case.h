// A call of the launch function of pairs on random tensors: against the definition in long double,
// and the same bits however the device shares the work. As launch_case.h has the losses; a Device
// has pairs(args, setting).
#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include "launch_case.h"

namespace vae_fast::testing {

inline Shape matrix_shape(int64_t rows, int64_t columns) {
  return Shape{2, {rows, columns}, rows * columns};
}

struct PairsCase {
  PairsArgs args;
  View x, mean, logvar, log_weights, value, computed, upstream;
  View grad_x, grad_mean, grad_logvar, grad_log_weights;
  std::vector<int64_t> nearest;

  PairsCase(Random& random, PairsReduction reduction, bool marginal, bool float64, int64_t rows,
            int64_t components, int64_t dims)
      : x(matrix(random, float64, rows, dims)),
        mean(matrix(random, float64, components, dims)),
        logvar(matrix(random, float64, components, dims)),
        log_weights(weights(random, float64, rows, components)),
        value(numbers(sums(reduction, float64), rows * (marginal ? dims : 1))),
        computed(numbers(arithmetic(float64), rows * (marginal ? dims : 1))),
        upstream(numbers(arithmetic(float64), rows * (marginal ? dims : 1))),
        grad_x(matrix(random, float64, rows, dims)),
        grad_mean(matrix(random, float64, components, dims)),
        grad_logvar(matrix(random, float64, components, dims)),
        grad_log_weights(numbers(random.dtype(float64), components)),
        nearest(rows, -1) {
    args.reduction = reduction;
    args.marginal = marginal;
    args.float64 = float64;
    args.rows = rows;
    args.components = components;
    args.dims = dims;
    args.widths = 2;
    args.width[0] = 0.5;
    args.width[1] = static_cast<double>(dims);
    for (View* view : {&x, &mean, &logvar, &log_weights, &upstream}) random.fill(*view);
    args.x = input_of(x);
    args.mean = input_of(mean);
    if (reduction == PairsReduction::kLogSumExp) {
      args.logvar = input_of(logvar);
      args.log_weights = input_of(log_weights);
    }
  }

  static Dtype arithmetic(bool float64) { return float64 ? Dtype::kFloat64 : Dtype::kFloat32; }
  static Dtype sums(PairsReduction reduction, bool float64) {
    return reduction == PairsReduction::kLogSumExp ? arithmetic(float64) : Dtype::kFloat64;
  }
  static View numbers(Dtype dtype, int64_t n) { return View(dtype, Shape{1, {n}, n}, {1}); }
  static View matrix(Random& random, bool float64, int64_t rows, int64_t columns) {
    const Shape shape = matrix_shape(rows, columns);
    return View(random.dtype(float64), shape, random.strides(shape, false, false));
  }
  static View weights(Random& random, bool float64, int64_t rows, int64_t components) {
    const Shape shape = matrix_shape(rows, components);
    std::vector<int64_t> strides = random.strides(shape, false, false);
    if (random.one_in(2)) strides = {0, 1};
    return View(random.dtype(float64), shape, strides);
  }

  static double entry(const View& view, int64_t row, int64_t column) {
    return view.get(row * view.strides[0] + column * view.strides[1]);
  }

  int64_t windows() const { return args.marginal ? args.dims : 1; }
  bool has_density() const { return args.reduction == PairsReduction::kLogSumExp; }

  // What is summed of a pair in a window: its density relative to the value, or its kernel; and its
  // derivative in the half squared distance.
  struct Pair {
    long double log_weight = 0, square = 0;
  };
  Pair pair(int64_t row, int64_t component, int64_t window) const {
    Pair result;
    const int64_t size = args.dims / windows();
    if (has_density()) result.log_weight = entry(log_weights, row, component);
    for (int64_t d = window * size; d < (window + 1) * size; ++d) {
      long double distance = entry(x, row, d) - static_cast<long double>(entry(mean, component, d));
      if (has_density()) {
        const long double v = entry(logvar, component, d);
        distance *= std::exp(-v / 2);
        result.log_weight -= v / 2 + 0.918938533204672741780L;
      }
      result.square += distance * distance;
    }
    return result;
  }

  long double kernel(long double square, bool slope) const {
    long double sum = 0;
    for (int w = 0; w < args.widths; ++w) {
      const long double width = args.width[w];
      if (args.reduction == PairsReduction::kGaussian) {
        sum += std::exp(-square / (2 * width)) * (slope ? -1 / width : 1);
      } else {
        const long double k = width / (width + square);
        sum += slope ? -2 * k * k / width : k;
      }
    }
    return sum;
  }

  long double exact_value(int64_t row, int64_t window) const {
    long double largest = -INFINITY, sum = 0;
    for (const bool is_sum : {false, true}) {
      for (int64_t k = 0; k < args.components; ++k) {
        const Pair p = pair(row, k, window);
        const long double density = p.log_weight - p.square / 2;
        if (!has_density()) {
          if (is_sum) sum += kernel(p.square, false);
        } else if (is_sum) {
          sum += std::exp(density - largest);
        } else {
          largest = std::max(largest, density);
        }
      }
    }
    return has_density() ? largest + std::log(sum) : sum;
  }

  // Twice the derivative of a row's value in the square.
  long double exact_slope(const Pair& p, long double of_row) const {
    if (!has_density()) return kernel(p.square, true);
    return -std::exp(p.log_weight - p.square / 2 - of_row);
  }

  template <class Device>
  void run_and_check(Device& device) {
    if (args.reduction == PairsReduction::kNearest) return check_nearest(device);
    args.value = output_of(value, Shape{1, {value.elements()}, value.elements()});
    launch(device, value);
    for (int64_t row = 0; row < args.rows; ++row) {
      for (int64_t w = 0; w < windows(); ++w) {
        const long double exact = exact_value(row, w);
        check_close(device.name(), "value", value.get(row * windows() + w), exact,
                    static_cast<double>(std::fabs(exact)) + 1, value.dtype, args.float64);
        computed.set(row * windows() + w, static_cast<double>(exact));
      }
    }
    args.value = {};
    if (has_density()) args.computed = input_of(computed);
    args.upstream = input_of(upstream);
    check_gradients(device);
  }

 private:
  // The same under every setting of the device.
  template <class Device>
  void launch(Device& device, const View& result) {
    device.pairs(args, 0);
    for (int setting = 1; setting < Device::kSettings; ++setting) {
      const std::vector<unsigned char> first = result.storage;
      device.pairs(args, setting);
      CHECK(first == result.storage, "%s: pairs depend on who does the work", device.name());
    }
  }

  template <class Device>
  void check_nearest(Device& device) {
    args.nearest = nearest.data();
    device.pairs(args, 0);
    for (int64_t row = 0; row < args.rows; ++row) {
      long double least = INFINITY;
      for (int64_t k = 0; k < args.components; ++k) least = std::min(least, pair(row, k, 0).square);
      const int64_t found = nearest[row];
      CHECK(found >= 0 && found < args.components, "%s: the nearest is %lld", device.name(),
            static_cast<long long>(found));
      if (found < 0 || found >= args.components) continue;
      const long double own = pair(row, found, 0).square;
      CHECK(own <= least * (1 + 1e-5L) + 1e-30L, "%s: %Lg is not as near as %Lg", device.name(),
            own, least);
    }
  }

  template <class Device>
  void check_gradients(Device& device) {
    const Shape of_x = matrix_shape(args.rows, args.dims),
                of_mean = matrix_shape(args.components, args.dims);
    args.grad_x = output_of(grad_x, of_x);
    args.grad_mean = output_of(grad_mean, of_mean);
    const bool shares_weights = args.log_weights.strides[0] == 0;
    if (has_density()) {
      args.grad_logvar = output_of(grad_logvar, of_mean);
      if (shares_weights) {
        args.grad_log_weights =
            output_of(grad_log_weights, Shape{1, {args.components}, args.components});
      }
    }
    launch(device, grad_mean);

    std::vector<long double> to_x(of_x.numel), to_mean(of_mean.numel), to_logvar(of_mean.numel),
        to_weights(args.components);
    std::vector<double> sizes(of_x.numel, 0), mean_sizes(of_mean.numel, 0),
        weight_sizes(args.components, 0);
    const int64_t size = args.dims / windows();
    for (int64_t row = 0; row < args.rows; ++row) {
      for (int64_t w = 0; w < windows(); ++w) {
        const long double of_row = has_density() ? computed.get(row * windows() + w) : 0;
        for (int64_t k = 0; k < args.components; ++k) {
          const long double slope =
              exact_slope(pair(row, k, w), of_row) * upstream.get(row * windows() + w);
          to_weights[k] -= slope;
          weight_sizes[k] += std::fabs(static_cast<double>(slope));
          for (int64_t d = w * size; d < (w + 1) * size; ++d) {
            const long double v = has_density() ? entry(logvar, k, d) : 0;
            const long double scale = has_density() ? std::exp(-v / 2) : 1;
            const long double distance = (entry(x, row, d) - entry(mean, k, d)) * scale;
            const long double moved = slope * distance * scale;
            to_x[row * args.dims + d] += moved;
            to_mean[k * args.dims + d] -= moved;
            to_logvar[k * args.dims + d] += slope * (1 - distance * distance) / 2;
            sizes[row * args.dims + d] += std::fabs(static_cast<double>(moved));
            mean_sizes[k * args.dims + d] +=
                std::fabs(static_cast<double>(slope)) *
                (1 + static_cast<double>(distance * distance) + static_cast<double>(scale));
          }
        }
      }
    }
    const auto check = [&](const char* what, const View& view, const Shape& shape,
                           const std::vector<long double>& exact,
                           const std::vector<double>& magnitude) {
      for (int64_t i = 0; i < shape.numel; ++i) {
        check_close(device.name(), what, view.get(offset_of(shape, view.strides.data(), i)),
                    exact[i], 8 * magnitude[i] + 1e-6, view.dtype, args.float64);
      }
    };
    check("gradient in x", grad_x, of_x, to_x, sizes);
    check("gradient in mean", grad_mean, of_mean, to_mean, mean_sizes);
    if (!has_density()) return;
    check("gradient in logvar", grad_logvar, of_mean, to_logvar, mean_sizes);
    if (shares_weights) {
      check("gradient in log_weights", grad_log_weights,
            Shape{1, {args.components}, args.components}, to_weights, weight_sizes);
    }
  }
};

// Any sizes, strides and dtypes.
template <class Device>
void check_pairs(Random& random, Device& device, int trials) {
  constexpr PairsReduction kReductions[] = {PairsReduction::kLogSumExp, PairsReduction::kGaussian,
                                            PairsReduction::kMultiquadratic,
                                            PairsReduction::kNearest};
  for (int trial = 0; trial < trials; ++trial) {
    const PairsReduction reduction = kReductions[trial % 4];
    const bool marginal = reduction == PairsReduction::kLogSumExp && random.one_in(2);
    const int64_t rows = random.integer(1, 70), components = random.integer(1, 70),
                  dims = random.integer(1, 40);
    PairsCase(random, reduction, marginal, random.one_in(3), rows, components, dims)
        .run_and_check(device);
  }
}

}  // namespace vae_fast::testing
