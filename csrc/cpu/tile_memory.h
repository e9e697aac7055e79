// A tile's way from tensors to dense arrays of the arithmetic's type and back: any strides, any
// dtype. Where the memory already is such an array, it is used in place and nothing is copied.
//
// Included once by every instruction set's stub; std function templates are avoided, since the
// linker would merge their instantiations across instruction sets.
#pragma once

#include <cstring>

#include "cpu/vector_bytes.h"
#include "formulas/compensated_sum.h"
#include "formulas/storage.h"
#include "kernels.h"

namespace vae_fast::cpu {
inline namespace VAE_FAST_ISA {
namespace {

VAE_FAST_FN int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// The index of an element, walked in runs along the innermost dimension.
struct Cursor {
  int64_t index[kMaxDims];

  Cursor(const Shape& shape, int64_t linear) {
    for (int d = shape.dims - 1; d > 0; --d) {
      index[d] = linear % shape.sizes[d];
      linear /= shape.sizes[d];
    }
    index[0] = linear;
  }
};

// Calls body(offset, done, length) for each run of the tile [first, first + n): `length` elements
// from memory offset `offset` on, strides[dims - 1] apart, which are the tile's from `done` on.
template <class F>
VAE_FAST_FN void for_each_run(const Shape& shape, const int64_t* strides, int64_t first, int64_t n,
                              const F& body) {
  Cursor cursor(shape, first);
  const int inner = shape.dims - 1;
  int64_t offset = 0;
  for (int d = 0; d <= inner; ++d) offset += cursor.index[d] * strides[d];
  for (int64_t done = 0; done < n;) {
    const int64_t length = smaller(n - done, shape.sizes[inner] - cursor.index[inner]);
    body(offset, done, length);
    done += length;
    cursor.index[inner] += length;
    offset += length * strides[inner];
    for (int d = inner; d > 0 && cursor.index[d] == shape.sizes[d]; --d) {
      offset += strides[d - 1] - shape.sizes[d] * strides[d];
      cursor.index[d] = 0;
      ++cursor.index[d - 1];
    }
  }
}

template <class C, class S, class T>
void copy_in(const Input& in, const Shape& shape, int64_t first, int64_t n, T* buffer) {
  const S* data = static_cast<const S*>(in.data);
  const int64_t stride = in.strides[shape.dims - 1];
  for_each_run(shape, in.strides, first, n, [&](int64_t offset, int64_t done, int64_t length) {
    const S* from = data + offset;
    T* to = buffer + done;
    if (stride == 1) {
#pragma omp simd
      for (int64_t i = 0; i < length; ++i) to[i] = C::from(from[i]);
    } else if (stride == 0) {
      const T x = C::from(*from);
      for (int64_t i = 0; i < length; ++i) to[i] = x;
    } else {
      for (int64_t i = 0; i < length; ++i) to[i] = C::from(from[i * stride]);
    }
  });
}

template <class T>
constexpr Dtype kArithmeticDtype = sizeof(T) == 8 ? Dtype::kFloat64 : Dtype::kFloat32;

// Memory offset of the tile if it is one run of stride 1, over rows that follow each other too;
// else -1.
VAE_FAST_FN int64_t dense_offset(const Shape& shape, const int64_t* strides, int64_t first,
                                 int64_t n) {
  const Cursor cursor(shape, first);
  int d = shape.dims - 1;
  int64_t offset = 0, length = 1;  // of the dimensions whose elements follow each other
  for (; d >= 0 && strides[d] == length; --d) {
    offset += cursor.index[d] * length;
    length *= shape.sizes[d];
  }
  if (offset + n > length) return -1;
  for (; d >= 0; --d) offset += cursor.index[d] * strides[d];
  return offset;
}

template <class T>
const T* load_tile(const Input& in, bool unit_interval, const Shape& shape, int64_t first,
                   int64_t n, T* buffer) {
  if (in.dtype == kArithmeticDtype<T>) {
    const int64_t offset = dense_offset(shape, in.strides, first, n);
    if (offset >= 0) return static_cast<const T*>(in.data) + offset;
  }
  switch (in.dtype) {
    case Dtype::kFloat32:
      copy_in<Convert<T>, float>(in, shape, first, n, buffer);
      break;
    case Dtype::kFloat64:
      copy_in<Convert<T>, double>(in, shape, first, n, buffer);
      break;
    case Dtype::kBFloat16:
      copy_in<Convert<T>, BFloat16>(in, shape, first, n, buffer);
      break;
    case Dtype::kFloat16:
      copy_in<Convert<T>, Float16>(in, shape, first, n, buffer);
      break;
    case Dtype::kUInt8:
      if (unit_interval) {
        copy_in<ConvertUnitInterval<T>, uint8_t>(in, shape, first, n, buffer);
      } else {
        copy_in<Convert<T>, uint8_t>(in, shape, first, n, buffer);
      }
      break;
    case Dtype::kBool:
      copy_in<Convert<T>, uint8_t>(in, shape, first, n, buffer);
      break;
    case Dtype::kInt32:
      copy_in<Convert<T>, int32_t>(in, shape, first, n, buffer);
      break;
    case Dtype::kInt64:
      copy_in<Convert<T>, int64_t>(in, shape, first, n, buffer);
      break;
  }
  return buffer;
}

// Bytes of a call's tensors from which they are taken to come from memory. A processor's own
// prefetching stops at the end of a page, which is as long as a tile; asked for while the tile
// before is computed, the next one is there in time. In the cache it would cost 8%.
constexpr int64_t kPrefetchFrom = int64_t{24} << 20;

// 0 of a tensor that is not there.
template <class Tensor>
int64_t bytes_per_element(const Tensor& tensor) {
  return tensor.data == nullptr ? 0 : bytes_of(tensor.dtype);
}

// Of n elements, which need not exist.
template <class T>
VAE_FAST_FN void prefetch(const T* x, int64_t n) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t i = 0; i < n; i += kLine) __builtin_prefetch(x + i);
}

// Where a tile of an output may be written directly; null where it must go through a buffer.
template <class T>
T* direct_tile(const Output& out, const Shape& shape, int64_t first, int64_t n) {
  if (out.dtype != kArithmeticDtype<T> || out.is_summed) return nullptr;
  const int64_t offset = dense_offset(shape, out.strides, first, n);
  return offset < 0 ? nullptr : static_cast<T*>(out.data) + offset;
}

template <class S, class T>
void copy_out(const Output& out, const Shape& shape, int64_t first, int64_t n, const T* tile) {
  S* data = static_cast<S*>(out.data);
  const int64_t stride = out.strides[shape.dims - 1];
  for_each_run(shape, out.strides, first, n, [&](int64_t offset, int64_t done, int64_t length) {
    S* to = data + offset;
    const T* from = tile + done;
    if (stride == 1) {
#pragma omp simd
      for (int64_t i = 0; i < length; ++i) to[i] = Store<S>::from(from[i]);
    } else {
      for (int64_t i = 0; i < length; ++i) to[i * stride] = Store<S>::from(from[i]);
    }
  });
}

// Sixteen floats, in as many registers as that takes: gcc keeps a wider vector in memory.
struct Lanes {
  typedef float Vector __attribute__((vector_size(VAE_FAST_VECTOR_BYTES)));
  static constexpr int kCount = 16;
  static constexpr int kVectors = kCount * sizeof(float) / VAE_FAST_VECTOR_BYTES;
  Vector vectors[kVectors] = {};

  VAE_FAST_FN void add(const float* x) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      Vector next;
      std::memcpy(&next, x + v * (kCount / kVectors), sizeof next);
      vectors[v] += next;
    }
  }

  // In double: the upper half put onto the lower one, again and again.
  VAE_FAST_FN double sum() const {
    typedef double Eight __attribute__((vector_size(64)));
    typedef double Four __attribute__((vector_size(32)));
    typedef double Two __attribute__((vector_size(16)));
    typedef float All __attribute__((vector_size(64)));
    typedef double AllWide __attribute__((vector_size(128)));
    All all;
    std::memcpy(&all, vectors, sizeof all);
    const AllWide wide = __builtin_convertvector(all, AllWide);
    Eight eight[2];
    std::memcpy(eight, &wide, sizeof wide);
    const Eight sum8 = eight[0] + eight[1];
    Four four[2];
    std::memcpy(four, &sum8, sizeof sum8);
    const Four sum4 = four[0] + four[1];
    Two two[2];
    std::memcpy(two, &sum4, sizeof sum4);
    const Two sum2 = two[0] + two[1];
    return sum2[0] + sum2[1];
  }
};

// The sum of n numbers: short sums in every lane, put together in double. The lanes are the same on
// every instruction set, and so is the sum.
double sum_of(const float* x, int64_t n) {
  constexpr int64_t kBlock = 16 * Lanes::kCount;
  double sum = 0;
  while (n >= Lanes::kCount) {
    Lanes lanes;
    const int64_t block = n < kBlock ? n / Lanes::kCount * Lanes::kCount : kBlock;
    for (int64_t i = 0; i < block; i += Lanes::kCount) lanes.add(x + i);
    sum += lanes.sum();
    x += block;
    n -= block;
  }
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  return sum;
}

// In float64, whose formulas take ten times as long anyway, compensated.
double sum_of(const double* x, int64_t n) {
  double sum = 0, lost = 0;
  for (int64_t i = 0; i < n; ++i) add_compensated(sum, lost, x[i]);
  return sum + lost;
}

template <class T>
void add_tile(const Output& out, const Shape& shape, int64_t first, int64_t n, const T* tile,
              double* sums, double* lost) {
  const int64_t stride = out.strides[shape.dims - 1];
  const auto add = [=](int64_t at, double x) __attribute__((always_inline)) {
    if constexpr (sizeof(T) == 8) {
      add_compensated(sums[at], lost[at], x);
    } else {
      sums[at] += x;
    }
  };
  for_each_run(shape, out.strides, first, n, [&](int64_t offset, int64_t done, int64_t length) {
    const T* from = tile + done;
    if (stride == 0) {
      add(offset, sum_of(from, length));
    } else {
#pragma omp simd
      for (int64_t i = 0; i < length; ++i) {
        add(offset + i * stride, static_cast<double>(from[i]));
      }
    }
  });
}

template <class T>
void store_tile(const Output& out, const Shape& shape, int64_t first, int64_t n, const T* tile) {
  switch (out.dtype) {
    case Dtype::kFloat32:
      return copy_out<float>(out, shape, first, n, tile);
    case Dtype::kFloat64:
      // Only double arithmetic has double outputs.
      if constexpr (sizeof(T) == 8) return copy_out<double>(out, shape, first, n, tile);
      break;
    case Dtype::kBFloat16:
      return copy_out<BFloat16>(out, shape, first, n, tile);
    case Dtype::kFloat16:
      return copy_out<Float16>(out, shape, first, n, tile);
    case Dtype::kUInt8:
    case Dtype::kBool:
    case Dtype::kInt32:
    case Dtype::kInt64:
      break;
  }
}

void store_sums(const double* sums, double scale, const Output& out) {
  Shape shape;
  shape.dims = 1;
  shape.sizes[0] = shape.numel = out.numel;
  Output dense = out;
  dense.strides[0] = 1;
  constexpr int64_t kPart = 256;
  double scaled[kPart];
  for (int64_t first = 0; first < out.numel; first += kPart) {
    const int64_t n = smaller(kPart, out.numel - first);
    for (int64_t i = 0; i < n; ++i) scaled[i] = sums[first + i] * scale;
    store_tile(dense, shape, first, n, scaled);
  }
}

}  // namespace
}  // namespace VAE_FAST_ISA
}  // namespace vae_fast::cpu
