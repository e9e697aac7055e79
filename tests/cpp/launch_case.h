// A call of the launch functions on random or chosen index spaces: any strides, dtypes, masks,
// groups and summed gradients, against the formulas one element at a time in double; and the same
// bits however the device shares the work. Storage is allocated to the last element, and outputs
// start as NaN, so that the sanitizers see what is read or written outside, or not at all.
//
// A Device has name(), and loss(args, setting), sample(...) and sample_backward(...), which launch
// under one of its kSettings ways to share the work.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "check.h"
#include "formulas/list.h"
#include "formulas/storage.h"
#include "kernels.h"
#include "views.h"

namespace vae_fast::testing {

// ---- a loss ------------------------------------------------------------------------------------

struct Expected {
  std::vector<long double> sum;
  std::vector<double> magnitude;
  explicit Expected(int64_t n) : sum(n), magnitude(n) {}
  // x is made of terms of the order of one. Where they cancel, a rounding of theirs is left, a 32nd
  // of what is allowed; and of equal elements all alike.
  void add(int64_t at, double x, double factor) {
    sum[at] += x * factor;
    magnitude[at] += (std::fabs(x) + 1. / 32) * std::fabs(factor);
  }
};

template <class Formula, size_t... I>
auto evaluate(const double* x, std::index_sequence<I...>) {
  return Formula::template evaluate<double>(x[I]...);
}

template <class Formula>
struct LossCase {
  static constexpr int kOperands = kOperandCount<Formula>;
  static constexpr bool kMayBeWide = Formula::kTarget == Target::kNumber;

  LossArgs args;
  std::vector<View> operands, gradients;
  View mask, value;
  std::vector<View> upstream;  // one, where the gradients are made for it, and no value

  static View make_mask(Random& random, const Shape& shape) {
    View mask(Dtype::kBool, shape, random.strides(shape, true, false));
    random.fill(mask);
    return mask;
  }

  static View make_value(int64_t groups, bool float64) {
    Shape dense;
    dense.dims = 1;
    dense.sizes[0] = groups;
    return View(float64 ? Dtype::kFloat64 : Dtype::kFloat32, dense, {1});
  }

  LossCase(Random& random, const Shape& shape, int64_t groups, bool float64)
      : mask(make_mask(random, shape)), value(make_value(groups, float64)) {
    set_call(shape, groups, float64);
    for (int k = 0; k < kOperands; ++k) {
      const bool is_whole = k >= kParameterCount<Formula> && random.one_in(3);
      operands.emplace_back(is_whole ? random.integer_dtype(kMayBeWide) : random.dtype(float64),
                            shape, random.strides(shape, true, false));
      random.fill(operands.back());
      gradients.emplace_back(random.dtype(float64), shape, random.strides(shape, true, true));
    }
    connect(random.one_in(2), random.integer(0, (1 << kOperands) - 1));
  }

  // Dense, of one dtype, all gradients wanted; the k-th operand begins k * skew elements behind an
  // aligned address.
  LossCase(Random& random, const Shape& shape, int64_t groups, Dtype dtype, int64_t skew)
      : mask(make_mask(random, shape)), value(make_value(groups, dtype == Dtype::kFloat64)) {
    set_call(shape, groups, dtype == Dtype::kFloat64);
    for (int k = 0; k < kOperands; ++k) {
      operands.emplace_back(dtype, shape, dense_strides(shape), (k + 1) * skew);
      random.fill(operands.back());
      gradients.emplace_back(dtype, shape, dense_strides(shape), k * skew);
    }
    connect(false, (1 << kOperands) - 1);
  }

  void set_call(const Shape& shape, int64_t groups, bool float64) {
    args.loss = kLossIndex<Formula>;
    args.float64 = float64;
    args.shape = shape;
    args.groups = groups;
    args.scale = groups == shape.numel ? 1 : 0.25;
  }

  void connect(bool with_mask, int64_t wanted) {
    for (int k = 0; k < kOperands; ++k) {
      args.operands[k] = input_of(operands[k]);
      args.gradients[k] = wanted >> k & 1 ? output_of(gradients[k], args.shape) : Output{};
    }
    args.mask = with_mask ? input_of(mask) : Input{};
    if (!upstream.empty()) {
      args.upstream = input_of(upstream[0]);
      args.value = {};
      return;
    }
    args.value = output_of(value, Shape{1, {args.groups}, args.groups});
    if (args.groups == args.shape.numel) {
      const std::vector<int64_t> strides = dense_strides(args.shape);
      std::copy(strides.begin(), strides.end(), args.value.strides);
    }
  }

  // From here on the gradients are those of a backward. One upstream number for all, or by strides.
  LossCase& with_upstream(Random& random, bool is_number) {
    const std::vector<int64_t> strides =
        is_number ? std::vector<int64_t>(args.shape.dims) : random.strides(args.shape, true, false);
    upstream.assign(1, View(random.dtype(args.float64), args.shape, strides));
    random.fill(upstream[0]);
    args.groups = 1;
    connect(args.mask.data != nullptr, wanted());
    return *this;
  }

  double operand(int k, int64_t linear) const {
    const View& view = operands[k];
    const double x = view.get(offset_of(args.shape, view.strides.data(), linear));
    const bool is_unit = view.dtype == Dtype::kUInt8 && Formula::kTarget == Target::kUnitInterval;
    if (!is_unit) return x;
    // In the arithmetic's type, as storage.h converts it.
    return args.float64 ? x / 255 : static_cast<float>(x) / 255;
  }

  template <class Device>
  void run_and_check(Device& device) {
    Expected values(args.groups);
    std::vector<Expected> expected;
    for (const View& gradient : gradients) expected.emplace_back(gradient.elements());
    expect(values, expected);
    device.loss(args, 0);
    for (int64_t g = 0; g < args.groups && upstream.empty(); ++g) {
      check_close(device.name(), Formula::kName, value.get(g), values.sum[g], values.magnitude[g],
                  value.dtype, args.float64);
    }
    for (int k = 0; k < kOperands; ++k) {
      if (args.gradients[k].data == nullptr) continue;
      for (int64_t i = 0; i < gradients[k].elements(); ++i) {
        check_close(device.name(), Formula::kOperands[k], gradients[k].get(i), expected[k].sum[i],
                    expected[k].magnitude[i], gradients[k].dtype, args.float64);
      }
    }
    for (int setting = 1; setting < Device::kSettings; ++setting) check_again(device, setting);
  }

  void expect(Expected& values, std::vector<Expected>& expected) const {
    for (int64_t i = 0; i < args.shape.numel; ++i) {
      if (args.mask.data != nullptr &&
          mask.get(offset_of(args.shape, mask.strides.data(), i)) == 0) {
        continue;
      }
      double x[kOperands];
      for (int k = 0; k < kOperands; ++k) x[k] = operand(k, i);
      const auto loss = evaluate<Formula>(x, std::make_index_sequence<kOperands>{});
      values.add(i / (args.shape.numel / args.groups), loss.value, args.scale);
      const double factor =
          upstream.empty()
              ? args.scale
              : args.scale * upstream[0].get(offset_of(args.shape, upstream[0].strides.data(), i));
      for (int k = 0; k < kOperands; ++k) {
        expected[k].add(offset_of(args.shape, gradients[k].strides.data(), i), loss.gradient[k],
                        factor);
      }
    }
  }

  // The same bits again, on outputs that are NaN again.
  template <class Device>
  void check_again(Device& device, int setting) {
    const std::vector<unsigned char> first_value = value.storage;
    const std::vector<View> first_gradients = gradients;
    connect(args.mask.data != nullptr, wanted());
    device.loss(args, setting);
    CHECK(first_value == value.storage, "%s: the value of %s depends on who does the work",
          device.name(), Formula::kName);
    for (int k = 0; k < kOperands; ++k) {
      CHECK(first_gradients[k].storage == gradients[k].storage,
            "%s: the gradient of %s in %s depends on who does the work", device.name(),
            Formula::kName, Formula::kOperands[k]);
    }
  }

  int64_t wanted() const {
    int64_t bits = 0;
    for (int k = 0; k < kOperands; ++k) bits |= int64_t{args.gradients[k].data != nullptr} << k;
    return bits;
  }
};

inline int64_t random_groups(Random& random, const Shape& shape) {
  const int64_t kept = random.integer(0, shape.dims);
  int64_t groups = 1;
  for (int64_t d = 0; d < kept; ++d) groups *= shape.sizes[d];
  return groups;
}

template <class Device, class... Formula>
void check_losses(Random& random, Device& device, int trials, FormulaList<Formula...>) {
  for (int trial = 0; trial < trials; ++trial) {
    const Shape shape = random.shape();
    if (shape.numel > Device::kMaxElements) continue;
    const int64_t groups = random_groups(random, shape);
    const bool float64 = random.one_in(3);
    (LossCase<Formula>(random, shape, groups, float64).run_and_check(device), ...);
    (LossCase<Formula>(random, shape, groups, float64)
         .with_upstream(random, random.one_in(2))
         .run_and_check(device),
     ...);
  }
}

// ---- sampling ----------------------------------------------------------------------------------

// The upstream gradients and the noise of a backward; one of the gradients may be missing.
struct Upstream {
  View grad_z, grad_value, noise;
  bool through_z, through_value;
};

template <class Divergence, class Device>
void check_backward(Device& device, LossCase<Divergence>& divergence, const Upstream& upstream,
                    int64_t wanted) {
  constexpr int kOperands = kOperandCount<Divergence>;
  const Shape& shape = divergence.args.shape;
  divergence.connect(false, wanted);
  SampleBackwardArgs args;
  args.divergence = divergence.args;
  if (upstream.through_z) args.grad_z = input_of(upstream.grad_z);
  if (upstream.through_value) args.grad_value = input_of(upstream.grad_value);
  if (upstream.through_z && (wanted >> 1 & 1) != 0) args.noise = input_of(upstream.noise);
  device.sample_backward(args, Device::kSettings - 1);
  std::vector<Expected> expected;
  for (const View& gradient : divergence.gradients) expected.emplace_back(gradient.elements());
  for (int64_t i = 0; i < shape.numel; ++i) {
    const auto at = [&](const View& view) {
      return view.get(offset_of(shape, view.strides.data(), i));
    };
    double x[kOperands];
    for (int k = 0; k < kOperands; ++k) x[k] = divergence.operand(k, i);
    const auto loss = evaluate<Divergence>(x, std::make_index_sequence<kOperands>{});
    const double gz = at(upstream.grad_z), gv = at(upstream.grad_value);
    const double sampled[] = {gz, gz * at(upstream.noise), 0, 0};
    for (int k = 0; k < kOperands; ++k) {
      const int64_t to = offset_of(shape, divergence.gradients[k].strides.data(), i);
      if (upstream.through_value) {
        expected[k].add(to, loss.gradient[k], divergence.args.scale * gv);
      }
      if (upstream.through_z) expected[k].add(to, sampled[k], 1);
    }
  }
  for (int k = 0; k < kOperands; ++k) {
    if (divergence.args.gradients[k].data == nullptr) continue;
    const View& gradient = divergence.gradients[k];
    for (int64_t i = 0; i < gradient.elements(); ++i) {
      check_close(device.name(), Divergence::kOperands[k], gradient.get(i), expected[k].sum[i],
                  expected[k].magnitude[i], gradient.dtype, divergence.args.float64);
    }
  }
}

// z, noise and divergence, then the backward's gradients.
template <class Divergence, class Device>
void check_sampling(Random& random, Device& device, int trials) {
  constexpr int kOperands = kOperandCount<Divergence>;
  for (int trial = 0; trial < trials; ++trial) {
    const Shape shape = random.shape();
    if (shape.numel > Device::kMaxElements) continue;
    const bool float64 = random.one_in(3);
    LossCase<Divergence> divergence(random, shape, random_groups(random, shape), float64);
    divergence.connect(false, 0);
    const int rows = shape.numel % 2 == 0 && random.one_in(2) ? 2 : 1;
    const Seed seeds[] = {{12345, 67}, {89, 0}};
    View z(random.dtype(float64), shape, random.strides(shape, false, true));
    View noise(divergence.value.dtype, shape, random.strides(shape, false, true));

    SampleArgs args;
    args.divergence = divergence.args;
    args.seeds = seeds;
    args.seed_rows = rows;
    for (int setting = 0; setting < Device::kSettings; ++setting) {
      const View first_z = z;
      args.z = output_of(z, shape);
      args.noise = output_of(noise, shape);
      device.sample(args, setting);
      CHECK(setting == 0 || first_z.storage == z.storage, "%s: z depends on who does the work",
            device.name());
    }

    const int64_t share = shape.numel / rows;
    Expected values(args.divergence.groups);
    for (int64_t i = 0; i < shape.numel; ++i) {
      double x[kOperands];
      for (int k = 0; k < kOperands; ++k) x[k] = divergence.operand(k, i);
      const double eps = normal_at<double>(seeds[i / share], static_cast<uint64_t>(i % share));
      const double scaled = std::exp(0.5 * x[1]) * eps;
      check_close(device.name(), "z", z.get(i), x[0] + scaled, std::fabs(x[0]) + std::fabs(scaled),
                  z.dtype, float64);
      check_close(device.name(), "noise", noise.get(i), 0.5 * scaled, std::fabs(scaled),
                  noise.dtype, float64);
      const auto loss = evaluate<Divergence>(x, std::make_index_sequence<kOperands>{});
      values.add(i / (shape.numel / args.divergence.groups), loss.value, args.divergence.scale);
    }
    for (int64_t g = 0; g < args.divergence.groups; ++g) {
      check_close(device.name(), "divergence", divergence.value.get(g), values.sum[g],
                  values.magnitude[g], divergence.value.dtype, float64);
    }

    Upstream upstream = {View(random.dtype(float64), shape, random.strides(shape, true, false)),
                         View(noise.dtype, shape, random.strides(shape, true, true)), noise,
                         random.one_in(2), true};
    upstream.through_value = !upstream.through_z || random.one_in(2);
    random.fill(upstream.grad_z);
    random.fill(upstream.grad_value);
    check_backward(device, divergence, upstream, random.integer(1, (1 << kOperands) - 1));
  }
}

}  // namespace vae_fast::testing
