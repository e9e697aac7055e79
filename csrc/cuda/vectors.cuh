// Vectors of elements between memory and the arithmetic's type, in accesses of up to 16 bytes: of a
// dtype that is known when the kernel is compiled, or of any.
//
// A load is kept apart from its conversion, so that the loads of all operands are under way before
// the first of them is waited for.
#pragma once

#include <type_traits>

#include "cuda/platform.cuh"
#include "formulas/storage.h"

namespace vae_fast::cuda {

// n / by.divisor, for n >= 0.
__device__ __forceinline__ int64_t divide(int64_t n, const Divisor& by) {
  const uint64_t wide = static_cast<uint64_t>(n);
  if (wide >> 31 != 0) return (__umul64hi(wide, by.wide_multiplier) + wide) >> by.wide_shift;
  const uint32_t small = static_cast<uint32_t>(n);
  return (__umulhi(small, by.multiplier) + small) >> by.shift;
}

// ---- words: a vector as it lies in memory ------------------------------------------------------

template <size_t kBytes>
struct BitsOf;
template <>
struct BitsOf<1> {
  using Type = uint8_t;
};
template <>
struct BitsOf<2> {
  using Type = uint16_t;
};
template <>
struct BitsOf<4> {
  using Type = uint32_t;
};
template <>
struct BitsOf<8> {
  using Type = uint64_t;
};
template <class S>
using Bits = typename BitsOf<sizeof(S)>::Type;

template <class To, class From>
VAE_FAST_FN To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <int kCount>
struct Words {
  uint32_t word[kCount] = {};

  // The k-th element, of type S.
  template <class S>
  VAE_FAST_FN S get(int k) const {
    if constexpr (sizeof(S) == 8) {
      return bit_cast<S>(static_cast<uint64_t>(word[2 * k + 1]) << 32 | word[2 * k]);
    } else {
      const int bit = 8 * static_cast<int>(sizeof(S)) * k;
      return bit_cast<S>(static_cast<Bits<S>>(word[bit / 32] >> bit % 32));
    }
  }

  // Each element may be set once.
  template <class S>
  VAE_FAST_FN void set(int k, S x) {
    const Bits<S> bits = bit_cast<Bits<S>>(x);
    if constexpr (sizeof(S) == 8) {
      word[2 * k] = static_cast<uint32_t>(bits);
      word[2 * k + 1] = static_cast<uint32_t>(bits >> 32);
    } else {
      const int bit = 8 * static_cast<int>(sizeof(S)) * k;
      word[bit / 32] |= static_cast<uint32_t>(bits) << bit % 32;
    }
  }
};

// kBytes, in accesses of up to 16, at an address that these divide.
template <int kBytes>
__device__ __forceinline__ void load_words(const void* from, uint32_t* word) {
  if constexpr (kBytes > 16) {
    load_words<16>(from, word);
    load_words<kBytes - 16>(static_cast<const char*>(from) + 16, word + 4);
  } else if constexpr (kBytes == 16) {
    const uint4 x = *static_cast<const uint4*>(from);
    word[0] = x.x;
    word[1] = x.y;
    word[2] = x.z;
    word[3] = x.w;
  } else if constexpr (kBytes == 8) {
    const uint2 x = *static_cast<const uint2*>(from);
    word[0] = x.x;
    word[1] = x.y;
  } else {
    word[0] = *static_cast<const Bits<char[kBytes]>*>(from);
  }
}

// __stwb: what is an ordinary store otherwise the compiler may take apart again.
template <int kBytes>
__device__ __forceinline__ void store_words(void* to, const uint32_t* word) {
  if constexpr (kBytes > 16) {
    store_words<16>(to, word);
    store_words<kBytes - 16>(static_cast<char*>(to) + 16, word + 4);
  } else if constexpr (kBytes == 16) {
    __stwb(static_cast<uint4*>(to), make_uint4(word[0], word[1], word[2], word[3]));
  } else if constexpr (kBytes == 8) {
    __stwb(static_cast<uint2*>(to), make_uint2(word[0], word[1]));
  } else {
    *static_cast<Bits<char[kBytes]>*>(to) = static_cast<Bits<char[kBytes]>>(word[0]);
  }
}

// f(a number of the dtype): a switch around a loop, not in it.
template <class T, class F>
__device__ __forceinline__ void with_dtype(Dtype dtype, const F& f) {
  switch (dtype) {
    case Dtype::kUInt8:
    case Dtype::kBool:
      return f(uint8_t{});
    case Dtype::kBFloat16:
      return f(BFloat16{});
    case Dtype::kFloat16:
      return f(Float16{});
    case Dtype::kFloat64:
      if constexpr (sizeof(T) == 8) return f(double{});
      break;
    case Dtype::kInt32:
      return f(int32_t{});
    case Dtype::kInt64:
      return f(int64_t{});
    case Dtype::kFloat32:
      break;
  }
  f(float{});
}

// ---- vectors -----------------------------------------------------------------------------------

// Of V elements, for arithmetic in T.
template <class T, int V>
struct Vectors {
  using Raw = Words<V * sizeof(T) / 4>;

  // ---- of dtype S; what is wider than the arithmetic is converted as it is loaded

  template <class S>
  using Loaded = std::conditional_t<(sizeof(S) > sizeof(T)), T, S>;

  template <class S>
  __device__ __forceinline__ static Raw load(const Tensor& tensor, int64_t offset) {
    Raw raw;
    const Bits<S>* from = static_cast<const Bits<S>*>(tensor.data) + offset;
    if constexpr (sizeof(S) > sizeof(T)) {
      Words<V * sizeof(S) / 4> wide;
      load_words<V * sizeof(S)>(from, wide.word);
      VAE_FAST_UNROLL
      for (int k = 0; k < V; ++k) raw.set(k, Convert<T>::from(wide.template get<S>(k)));
    } else if constexpr (V == 1) {
      raw.set(0, *from);
    } else {
      load_words<V * sizeof(S)>(from, raw.word);
    }
    return raw;
  }

  template <class S, class Converter = Convert<T>>
  __device__ __forceinline__ static void convert(const Raw& raw, T* x) {
    VAE_FAST_UNROLL
    for (int k = 0; k < V; ++k) x[k] = Converter::from(raw.template get<Loaded<S>>(k));
  }

  template <class S>
  __device__ __forceinline__ static void store(const Tensor& tensor, int64_t offset, const T* x) {
    Words<(V * sizeof(S) + 3) / 4> words;
    if constexpr (V > 1 && sizeof(S) == 2) {
      VAE_FAST_UNROLL
      for (int k = 0; k < V; k += 2) words.word[k / 2] = Store<S>::pair_from(x[k], x[k + 1]);
    } else {
      VAE_FAST_UNROLL
      for (int k = 0; k < V; ++k) words.set(k, Store<S>::from(x[k]));
    }
    store_words<V * sizeof(S)>(static_cast<S*>(tensor.data) + offset, words.word);
  }

  // ---- of any dtype; only float64 arithmetic has float64 tensors, a target that is a number
  // wide integers

  __device__ __forceinline__ static Raw load_any(const Tensor& tensor, int64_t offset,
                                                 bool unit_interval) {
    switch (tensor.dtype) {
      case Dtype::kUInt8:
      case Dtype::kBool:
        return load<uint8_t>(tensor, offset);
      case Dtype::kBFloat16:
      case Dtype::kFloat16:
        return load<uint16_t>(tensor, offset);
      case Dtype::kFloat64:
        if constexpr (sizeof(T) == 8) return load<uint64_t>(tensor, offset);
        break;
      case Dtype::kInt64:
        if (unit_interval) break;
        return load<int64_t>(tensor, offset);
      case Dtype::kInt32:
      case Dtype::kFloat32:
        break;
    }
    return load<uint32_t>(tensor, offset);
  }

  __device__ __forceinline__ static void convert_any(const Raw& raw, Dtype dtype,
                                                     bool unit_interval, T* x) {
    switch (dtype) {
      case Dtype::kUInt8:
        if (unit_interval) return convert<uint8_t, ConvertUnitInterval<T>>(raw, x);
        return convert<uint8_t>(raw, x);
      case Dtype::kBool:
        return convert<uint8_t>(raw, x);
      case Dtype::kBFloat16:
        return convert<BFloat16>(raw, x);
      case Dtype::kFloat16:
        return convert<Float16>(raw, x);
      case Dtype::kFloat64:
        if constexpr (sizeof(T) == 8) return convert<double>(raw, x);
        break;
      case Dtype::kInt32:
        if (unit_interval) break;
        return convert<int32_t>(raw, x);
      case Dtype::kInt64:
        if (unit_interval) break;
        return convert<int64_t>(raw, x);
      case Dtype::kFloat32:
        break;
    }
    convert<float>(raw, x);
  }

  __device__ __forceinline__ static void store_any(const Tensor& tensor, int64_t offset,
                                                   const T* x) {
    switch (tensor.dtype) {
      case Dtype::kBFloat16:
        return store<BFloat16>(tensor, offset, x);
      case Dtype::kFloat16:
        return store<Float16>(tensor, offset, x);
      case Dtype::kFloat64:
        if constexpr (sizeof(T) == 8) return store<double>(tensor, offset, x);
        return;
      case Dtype::kUInt8:
      case Dtype::kBool:
      case Dtype::kInt32:
      case Dtype::kInt64:
        return;
      case Dtype::kFloat32:
        break;
    }
    store<float>(tensor, offset, x);
  }

  // ---- one element that serves them all

  __device__ __forceinline__ static Raw load_same(const Tensor& tensor, int64_t offset,
                                                  bool unit_interval) {
    using One = Vectors<T, 1>;
    T x;
    One::convert_any(One::load_any(tensor, offset, unit_interval), tensor.dtype, unit_interval, &x);
    Raw raw;
    raw.set(0, x);
    return raw;
  }

  __device__ __forceinline__ static void convert_same(const Raw& raw, T* x) {
    VAE_FAST_UNROLL
    for (int k = 0; k < V; ++k) x[k] = raw.template get<T>(0);
  }
};

}  // namespace vae_fast::cuda
