// Tensors of the test cases: any strides, dtypes and alignments, on storage of exactly their reach,
// and random ones of them; and whether a result is as near as its dtype allows.
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

namespace vae_fast::testing {

// The distance of neighbouring numbers of a dtype, relative.
inline double spacing(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat64:
      return 0x1p-52;
    case Dtype::kFloat32:
      return 0x1p-23;
    case Dtype::kBFloat16:
      return 0x1p-7;
    default:
      return 0x1p-10;
  }
}

// A strided view over the index space, on storage of exactly its reach behind the `skew` elements
// by which it misses the alignment of its storage.
struct View {
  Dtype dtype;
  std::vector<int64_t> strides;
  int64_t skew;
  std::vector<unsigned char> storage;

  View(Dtype type, const Shape& shape, std::vector<int64_t> with_strides, int64_t with_skew = 0)
      : dtype(type), strides(std::move(with_strides)), skew(with_skew) {
    int64_t last = 0;
    for (int d = 0; d < shape.dims; ++d) last += (shape.sizes[d] - 1) * strides[d];
    storage.resize(shape.numel == 0 ? 0 : (skew + last + 1) * bytes_of(dtype));
  }

  int64_t elements() const {
    return std::max<int64_t>(0, static_cast<int64_t>(storage.size()) / bytes_of(dtype) - skew);
  }
  unsigned char* data() { return storage.data() + skew * bytes_of(dtype); }
  const unsigned char* data() const { return storage.data() + skew * bytes_of(dtype); }

  double get(int64_t offset) const {
    const unsigned char* at = data() + offset * bytes_of(dtype);
    const auto as = [&](auto value) {
      std::memcpy(&value, at, sizeof value);
      return value;
    };
    switch (dtype) {
      case Dtype::kFloat64:
        return as(double{});
      case Dtype::kFloat32:
        return as(float{});
      case Dtype::kBFloat16:
        return to_float(as(BFloat16{}));
      case Dtype::kFloat16:
        return to_float(as(Float16{}));
      case Dtype::kInt32:
        return as(int32_t{});
      case Dtype::kInt64:
        return static_cast<double>(as(int64_t{}));
      default:
        return *at;
    }
  }

  void set(int64_t offset, double value) {
    unsigned char* at = data() + offset * bytes_of(dtype);
    const auto put = [&](auto stored) { std::memcpy(at, &stored, sizeof stored); };
    switch (dtype) {
      case Dtype::kFloat64:
        return put(value);
      case Dtype::kFloat32:
        return put(static_cast<float>(value));
      case Dtype::kBFloat16:
        return put(Store<BFloat16>::from(value));
      case Dtype::kFloat16:
        return put(Store<Float16>::from(value));
      case Dtype::kInt32:
        return put(static_cast<int32_t>(value));
      case Dtype::kInt64:
        return put(static_cast<int64_t>(value));
      default:
        *at = static_cast<unsigned char>(value);
    }
  }
};

inline bool is_integer(Dtype dtype) { return dtype == Dtype::kInt32 || dtype == Dtype::kInt64; }

inline int64_t offset_of(const Shape& shape, const int64_t* strides, int64_t linear) {
  int64_t offset = 0;
  for (int d = shape.dims - 1; d >= 0; --d) {
    offset += linear % shape.sizes[d] * strides[d];
    linear /= shape.sizes[d];
  }
  return offset;
}

inline std::vector<int64_t> dense_strides(const Shape& shape) {
  std::vector<int64_t> strides(shape.dims);
  int64_t next = 1;
  for (int d = shape.dims - 1; d >= 0; --d) {
    strides[d] = next;
    next *= shape.sizes[d];
  }
  return strides;
}

class Random {
 public:
  int64_t integer(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(engine_);
  }
  double real() { return std::uniform_real_distribution<double>(0.05, 0.95)(engine_); }
  bool one_in(int n) { return integer(1, n) == 1; }

  Shape shape() {
    static constexpr int64_t kSizes[] = {1, 2, 3, 5, 17, 64, 130};
    static constexpr int64_t kInner[] = {1, 7, 20, 63, 64, 784, 1024, 1500, 3000};
    Shape shape;
    shape.dims = static_cast<int>(integer(1, 3));
    for (int d = 0; d < shape.dims; ++d) {
      shape.sizes[d] = d + 1 == shape.dims ? kInner[integer(0, 8)] : kSizes[integer(0, 6)];
      shape.numel *= shape.sizes[d];
    }
    return shape;
  }

  // Dense, in any order of the dimensions, with gaps; 0 along some where it may broadcast.
  std::vector<int64_t> strides(const Shape& shape, bool may_broadcast, bool is_dense) {
    std::vector<int> order(shape.dims);
    for (int d = 0; d < shape.dims; ++d) order[d] = d;
    if (!is_dense && one_in(3)) std::shuffle(order.begin(), order.end(), engine_);
    std::vector<int64_t> strides(shape.dims);
    int64_t next = !is_dense && one_in(4) ? 2 : 1;
    for (int i = shape.dims - 1; i >= 0; --i) {
      const int d = order[i];
      strides[d] = may_broadcast && one_in(3) ? 0 : next;
      if (strides[d] != 0) next *= shape.sizes[d];
      if (!is_dense && one_in(4)) next += 3;
    }
    return strides;
  }

  Dtype dtype(bool float64) {
    static constexpr Dtype kFloats[] = {Dtype::kFloat32, Dtype::kFloat32, Dtype::kBFloat16,
                                        Dtype::kFloat16};
    return float64 && one_in(2) ? Dtype::kFloat64 : kFloats[integer(0, 3)];
  }

  void fill(View& view) {
    for (int64_t i = 0; i < view.elements(); ++i) {
      view.set(i, view.dtype == Dtype::kBool    ? integer(0, 1)
                  : view.dtype == Dtype::kUInt8 ? integer(0, 255)
                  : is_integer(view.dtype)      ? integer(0, 1000)
                                                : real());
    }
  }

  // Of a target that is no float's.
  Dtype integer_dtype(bool may_be_wide) {
    static constexpr Dtype kIntegers[] = {Dtype::kUInt8, Dtype::kInt32, Dtype::kInt64};
    return kIntegers[may_be_wide ? integer(0, 2) : 0];
  }

 private:
  std::mt19937_64 engine_{1};
};

inline Input input_of(const View& view) {
  Input input;
  input.data = view.data();
  input.dtype = view.dtype;
  std::copy(view.strides.begin(), view.strides.end(), input.strides);
  return input;
}

inline Output output_of(View& view, const Shape& shape) {
  Output output;
  for (int64_t i = 0; i < view.elements(); ++i) view.set(i, std::nan(""));
  output.data = view.data();
  output.dtype = view.dtype;
  output.numel = 1;
  for (int d = 0; d < shape.dims; ++d) {
    output.strides[d] = view.strides[d];
    if (view.strides[d] != 0) output.numel *= shape.sizes[d];
  }
  output.is_summed = output.numel < shape.numel;
  return output;
}

inline void check_close(const char* device, const char* what, double got, long double exact,
                        double magnitude, Dtype dtype, bool float64) {
  const double expected = static_cast<double>(exact);
  // More successes than trials, say: what is drawn knows no formula's domain.
  if (!std::isfinite(expected)) {
    const bool is_right = std::isnan(expected) ? std::isnan(got) : got == expected;
    CHECK(is_right, "%s on %s: %.9g, not %.9g", what, device, got, expected);
    return;
  }
  // The formulas' own accuracy is tested elsewhere; here the terms are of the order of one.
  const double arithmetic = (1 + magnitude) * (float64 ? 1e-13 : 4e-6);
  const double subnormal = dtype == Dtype::kFloat16 ? 0x1p-24 : 0;
  const double tolerance = arithmetic + std::fabs(expected) * spacing(dtype) + subnormal;
  const bool overflows = dtype == Dtype::kFloat16 && std::fabs(expected) + tolerance >= 65520;
  if (overflows && std::isinf(got) && (got > 0) == (expected > 0)) return;
  CHECK(std::fabs(got - expected) <= tolerance, "%s on %s: %.9g, not %.9g", what, device, got,
        expected);
}

}  // namespace vae_fast::testing
