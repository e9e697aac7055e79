// A call of the mixtures' launch function on random or chosen tensors: against the textbook in
// double, and the same bits however the device shares the work. As launch_case.h has the losses; a
// Device has mixture(args, setting).
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "formulas/discretized_logistic_pixel.h"
#include "launch_case.h"

namespace vae_fast::testing {

// What a mixture is called with. Its tensors of components have these as their first dimension.
struct MixtureTensors {
  MixtureArgs args;
  Shape positions, elements;
  View logits, value, grad_logits, mask;
  std::vector<View> operands;  // the parameters, then what components have in common
  std::vector<View> gradients;
  std::vector<View> upstream;  // one, or none

  static Shape with(int64_t first, const Shape& rest, int64_t last = 1) {
    Shape shape;
    for (int d = -1; d <= rest.dims; ++d) {
      const int64_t size = d < 0 ? first : d < rest.dims ? rest.sizes[d] : last;
      shape.sizes[shape.dims++] = size;
      shape.numel = (d < 0 ? 1 : shape.numel) * size;
    }
    return shape;
  }

  // Of `positions`, of which each has a run of so many elements; `make` makes a view on a shape.
  template <class Make>
  MixtureTensors(Random& random, const Shape& of_positions, int64_t run, int64_t components,
                 bool float64, const Make& make)
      : positions(with(1, of_positions)),
        elements(with(1, of_positions, run)),
        logits(make(whole(positions, components))),
        value(float64 ? Dtype::kFloat64 : Dtype::kFloat32, positions, dense_strides(positions)),
        grad_logits(random.dtype(float64), whole(positions, components),
                    random.strides(whole(positions, components), false, false)),
        mask(Dtype::kBool, elements, random.strides(elements, true, false)) {
    args.float64 = float64;
    args.components = components;
    args.run = run;
    args.positions = positions;
    args.elements = elements;
    args.scale = 0.5;
    random.fill(logits);
    random.fill(mask);
    if (random.one_in(2)) {
      upstream.emplace_back(random.dtype(float64), positions,
                            random.strides(positions, true, false));
      random.fill(upstream[0]);
    }
  }

  static Shape whole(const Shape& shape, int64_t components) {
    Shape result = shape;
    result.sizes[0] = components;
    result.numel *= components;
    return result;
  }

  template <class Of>
  static OfComponents<Of> of_components(Of first) {
    const int64_t stride = first.strides[0];
    first.strides[0] = 0;
    return {first, stride};
  }

  // Everything as it was before a launch; the k-th parameter's gradient is wanted where bit k is.
  void connect(bool with_mask, bool with_logits, int64_t wanted) {
    args.logits = of_components(input_of(logits));
    args.value = output_of(value, positions);
    args.grad_logits =
        with_logits ? of_components(output_of(grad_logits, whole(positions, args.components)))
                    : OfComponents<Output>{};
    for (size_t k = 0; k < operands.size(); ++k)
      args.operands[k] = of_components(input_of(operands[k]));
    for (size_t k = 0; k < gradients.size(); ++k) {
      args.gradients[k] =
          wanted >> k & 1 ? of_components(output_of(gradients[k], whole(elements, args.components)))
                          : OfComponents<Output>{};
    }
    args.mask = with_mask ? input_of(mask) : Input{};
    args.upstream = upstream.empty() ? Input{} : input_of(upstream[0]);
  }

  double at(const View& view, const Shape& shape, int64_t component, int64_t linear) const {
    return view.get(component * view.strides[0] + offset_of(shape, view.strides.data(), linear));
  }

  template <class Device>
  void run_again(Device& device, bool with_mask, bool with_logits, int64_t wanted) {
    for (int setting = 1; setting < Device::kSettings; ++setting) {
      const View first_value = value, first_logits = grad_logits;
      const std::vector<View> first = gradients;
      connect(with_mask, with_logits, wanted);
      device.mixture(args, setting);
      bool is_same =
          first_value.storage == value.storage && first_logits.storage == grad_logits.storage;
      for (size_t k = 0; k < gradients.size(); ++k) {
        is_same &= first[k].storage == gradients[k].storage;
      }
      CHECK(is_same, "%s: a mixture depends on who does the work", device.name());
    }
  }
};

// Of a likelihood.
template <class Formula>
struct MixtureCase : MixtureTensors {
  static constexpr int kOperands = kOperandCount<Formula>, kParameters = kParameterCount<Formula>;
  static constexpr bool kMayBeWide = Formula::kTarget == Target::kNumber;

  bool with_mask, with_logits;
  int64_t wanted;

  // Any strides and dtypes.
  MixtureCase(Random& random, const Shape& of_positions, int64_t run, int64_t components,
              bool float64)
      : MixtureTensors(random, of_positions, run, components, float64, [&](const Shape& shape) {
          return View(random.dtype(float64), shape, random.strides(shape, true, false));
        }) {
    const Shape shape = whole(elements, components);
    for (int k = 0; k < kParameters; ++k) {
      operands.emplace_back(random.dtype(float64), shape, random.strides(shape, true, false));
      gradients.emplace_back(random.dtype(float64), shape, random.strides(shape, false, false));
    }
    operands.emplace_back(
        random.one_in(3) ? random.integer_dtype(kMayBeWide) : random.dtype(float64), elements,
        random.strides(elements, true, false));
    finish(random, random.one_in(2), random.one_in(2), random.integer(0, (1 << kParameters) - 1));
  }

  // Dense, of one dtype, positions within components; everything wanted.
  MixtureCase(Random& random, const Shape& of_positions, int64_t run, int64_t components,
              Dtype dtype)
      : MixtureTensors(
            random, of_positions, run, components, dtype == Dtype::kFloat64,
            [&](const Shape& shape) { return View(dtype, shape, dense_strides(shape)); }) {
    const Shape shape = whole(elements, components);
    grad_logits = logits;
    for (int k = 0; k < kOperands; ++k) {
      const Shape& own = k < kParameters ? shape : elements;
      operands.emplace_back(dtype, own, dense_strides(own));
      if (k < kParameters) gradients.push_back(operands.back());
    }
    finish(random, random.one_in(2), true, (1 << kParameters) - 1);
  }

  void finish(Random& random, bool has_mask, bool wants_logits, int64_t wants) {
    args.loss = kLossIndex<Formula>;
    for (View& operand : operands) random.fill(operand);
    with_mask = has_mask;
    with_logits = wants_logits;
    wanted = wants;
    connect();
  }

  void connect() { MixtureTensors::connect(with_mask, with_logits, wanted); }

  double operand(int k, int64_t component, int64_t linear) const {
    const double x = at(operands[k], elements, component, linear);
    const bool is_unit = k == kParameters && operands[k].dtype == Dtype::kUInt8 && !kMayBeWide;
    if (!is_unit) return x;
    // In the arithmetic's type, as storage.h converts it.
    return args.float64 ? x / 255 : static_cast<float>(x) / 255;
  }

  auto loss(int64_t component, int64_t linear) const {
    double x[kOperands];
    for (int k = 0; k < kParameters; ++k) x[k] = operand(k, component, linear);
    x[kParameters] = operand(kParameters, 0, linear);
    return evaluate<Formula>(x, std::make_index_sequence<kOperands>{});
  }

  bool counts(int64_t linear) const {
    return !with_mask || mask.get(offset_of(elements, mask.strides.data(), linear)) != 0;
  }

  template <class Device>
  void run_and_check(Device& device) {
    connect();
    device.mixture(args, 0);
    for (int64_t p = 0; p < positions.numel; ++p) check(device.name(), p);
    run_again(device, with_mask, with_logits, wanted);
  }

  void check(const char* device, int64_t p) const {
    const int64_t n = args.components, first = p * args.run, end = first + args.run;
    std::vector<double> scores(n), sizes(n);
    double prior = 0, total = 0;
    bool any = false;
    for (int64_t i = first; i < end; ++i) any |= counts(i);
    for (int64_t k = 0; k < n; ++k) {
      scores[k] = at(logits, positions, k, p);
      prior += std::exp(scores[k]);
      for (int64_t i = first; i < end; ++i) {
        if (!counts(i)) continue;
        const double cost = loss(k, i).value;
        scores[k] -= cost;
        sizes[k] += std::fabs(cost) + 1. / 32;
      }
    }
    const double best = *std::max_element(scores.begin(), scores.end());
    for (const double score : scores) total += std::exp(score - best);
    // More successes than trials, say: what is drawn knows no formula's domain.
    if (!std::isfinite(total) || !std::isfinite(best)) return;
    const double right = any ? std::log(prior) - std::log(total) - best : 0;
    const double size = 1 + *std::max_element(sizes.begin(), sizes.end());
    const auto close = [&](const char* what, const View& view, double got, double exact,
                           double magnitude) {
      check_close(device, what, got, exact, magnitude, view.dtype, args.float64);
    };
    close("value", value, at(value, positions, 0, p), right, size);
    const double factor =
        any ? args.scale * (upstream.empty() ? 1 : at(upstream[0], positions, 0, p)) : 0;
    for (int64_t k = 0; k < n; ++k) {
      const double share = std::exp(scores[k] - best) / total * factor;
      const double of_prior = std::exp(at(logits, positions, k, p)) / prior * factor;
      if (with_logits) {
        close("gradient in logits", grad_logits, at(grad_logits, positions, k, p), of_prior - share,
              std::fabs(of_prior) + std::fabs(share) * size);
      }
      for (int64_t i = first; i < end; ++i) {
        const auto own = loss(k, i);
        for (int o = 0; o < kParameters; ++o) {
          if ((wanted >> o & 1) == 0) continue;
          const double slope = counts(i) ? share * own.gradient[o] : 0;
          close(Formula::kOperands[o], gradients[o], at(gradients[o], elements, k, i), slope,
                size * (std::fabs(slope) + std::fabs(share) / 32));
        }
      }
    }
  }
};

// Any shapes, strides and dtypes.
template <class Device, class... Formula>
void check_mixtures(Random& random, Device& device, int trials, FormulaList<Formula...>) {
  static constexpr int64_t kRuns[] = {1, 1, 2, 5, 32, 60, 255, 256, 300, 1000};
  static constexpr int64_t kSizes[] = {1, 2, 7, 60, 300};
  const auto check = [&](auto formula) {
    using Of = typename decltype(formula)::type;
    if constexpr (Of::kTarget != Target::kNone) {
      const int64_t run = kRuns[random.integer(0, 9)], components = random.integer(1, 6);
      const Shape shape{2, {kSizes[random.integer(0, 2)], kSizes[random.integer(0, 4)]}, 1};
      Shape of_positions = shape;
      of_positions.numel = shape.sizes[0] * shape.sizes[1];
      // A team is a power of two.
      if (2 * of_positions.numel * run * components > Device::kMaxElements) return;
      MixtureCase<Of>(random, of_positions, run, components, random.one_in(3))
          .run_and_check(device);
    }
  };
  for (int trial = 0; trial < trials; ++trial) (check(std::type_identity<Formula>{}), ...);
}

// Dense ones, of each way to share the work: a thread for a position, a team, runs that take
// several rounds.
template <class Formula, class Device>
void check_mixture_runs(Random& random, Device& device, Dtype dtype) {
  for (const int64_t components : {1, 3, 10}) {
    for (const auto& [columns, run] :
         {std::pair<int64_t, int64_t>{1, 1}, {7, 1}, {700, 1}, {3, 5}, {40, 32}, {1, 3000}}) {
      if (2 * 3 * columns * run * components > Device::kMaxElements) continue;
      const Shape shape{2, {3, columns}, 3 * columns};
      MixtureCase<Formula>(random, shape, run, components, dtype).run_and_check(device);
    }
  }
}

// Pixels, whose tensors are parts of the params', (rows, parts, columns) in the order of
// PixelCNN++.
struct PixelCase {
  MixtureArgs args;
  View params, gradient, value, target, levels;
  int64_t parts;
  int channels;

  PixelCase(Random& random, int64_t rows, int64_t columns, int64_t components, int of_channels,
            Dtype dtype)
      : params(make(dtype, rows * (1 + own_parts(of_channels)) * components * columns)),
        gradient(params),
        value(make(dtype == Dtype::kFloat64 ? dtype : Dtype::kFloat32, rows * columns)),
        target(make(Dtype::kUInt8, rows * of_channels * columns)),
        levels(make(value.dtype, 1)),
        parts((1 + own_parts(of_channels)) * components),
        channels(of_channels) {
    random.fill(params);
    random.fill(target);
    levels.set(0, 256);
    args.pixel_channels = channels;
    args.float64 = dtype == Dtype::kFloat64;
    args.components = components;
    args.positions = args.elements = Shape{2, {rows, columns}, rows * columns};
    connect();
  }

  static View make(Dtype dtype, int64_t n) { return View(dtype, Shape{1, {n}, n}, {1}); }
  static int64_t own_parts(int channels) { return pixel_parameter_count(channels) - 1; }

  template <class Of>
  OfComponents<Of> part(Of all, int64_t group, int64_t groups) const {
    const int64_t columns = args.positions.sizes[1], size = groups * columns;
    auto* first = reinterpret_cast<char*>(const_cast<void*>(static_cast<const void*>(all.data)));
    all.data = first + group * columns * bytes_of(all.dtype);
    all.strides[0] = size;
    all.strides[1] = 1;
    return {all, columns};
  }

  void connect() {
    const Shape flat{1, {params.elements()}, params.elements()};
    const Input from = input_of(params);
    const Output to = output_of(gradient, flat);
    const int64_t n = args.components, own = own_parts(channels);
    args.logits = part(from, 0, parts);
    args.grad_logits = part(to, 0, parts);
    for (int64_t k = 0; k < own; ++k) {
      args.operands[k] = part(from, (1 + k) * n, parts);
      args.gradients[k] = part(to, (1 + k) * n, parts);
    }
    args.operands[own].first = input_of(levels);
    args.operands[own].first.strides[0] = 0;
    for (int c = 0; c < channels; ++c) {
      args.operands[own + 1 + c].first = part(input_of(target), c, channels).first;
    }
    const Shape dense{1, {value.elements()}, value.elements()};
    args.value = part(output_of(value, dense), 0, 1).first;
  }

  // What is added to all logits changes nothing, and neither is anything not a number.
  template <class Device>
  void run_and_check(Device& device) {
    for (int setting = 0; setting < Device::kSettings; ++setting) {
      const View first_value = value, first_gradient = gradient;
      connect();
      device.mixture(args, setting);
      if (setting == 0) continue;
      CHECK(first_value.storage == value.storage && first_gradient.storage == gradient.storage,
            "%s: pixels depend on who does the work", device.name());
    }
    for (int64_t i = 0; i < gradient.elements(); ++i) {
      CHECK(std::isfinite(gradient.get(i)), "%g", gradient.get(i));
    }
    const int64_t columns = args.positions.sizes[1];
    for (int64_t p = 0; p < args.positions.numel; ++p) {
      CHECK(value.get(p) > 0 && std::isfinite(value.get(p)), "%g", value.get(p));
      double sum = 0;
      for (int64_t k = 0; k < args.components; ++k) {
        sum += gradient.get((p / columns * parts + k) * columns + p % columns);
      }
      const double tolerance = args.components * std::max(spacing(gradient.dtype), 1e-6);
      CHECK(std::fabs(sum) < tolerance, "%g", sum);
    }
  }
};

template <class Device>
void check_pixels(Random& random, Device& device, Dtype dtype) {
  for (const int channels : {1, kMaxPixelChannels}) {
    for (const int64_t components : {1, 3, 10}) {
      for (const int64_t columns : {1, 7, 100, 600}) {
        if (3 * columns * components > Device::kMaxElements) continue;
        PixelCase(random, 3, columns, components, channels, dtype).run_and_check(device);
      }
    }
  }
}

}  // namespace vae_fast::testing
