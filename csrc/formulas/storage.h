// Storage types and their conversion to and from the arithmetic's float, branch-free. A GPU has
// instructions that do the same.
#pragma once

#include <cstdint>

#include "elementary.h"
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace vae_fast {
inline namespace VAE_FAST_ISA {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

VAE_FAST_FN float to_float(float x) { return x; }
VAE_FAST_FN double to_float(double x) { return x; }

VAE_FAST_FN float to_float(BFloat16 x) {
  return as_float(static_cast<int32_t>(static_cast<uint32_t>(x.bits) << 16));
}

// Half to single precision: move the exponent; the subnormals by subtracting in floating point, so
// that no subnormal float is ever an operand (slow, and zero under flush-to-zero).
VAE_FAST_FN float to_float(Float16 x) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(x.bits));
#else
  const uint32_t magnitude = (x.bits & 0x7fffu) << 13;
  const uint32_t exponent = magnitude & 0x0f800000u;
  const uint32_t normal = magnitude + (112u << 23);
  const uint32_t special = normal + (112u << 23);
  const float subnormal = as_float(static_cast<int32_t>(magnitude + (113u << 23))) -
                          as_float(static_cast<int32_t>(113u << 23));
  uint32_t bits = exponent == 0x0f800000u ? special : normal;
  bits = exponent == 0 ? static_cast<uint32_t>(as_int(subnormal)) : bits;
  return as_float(static_cast<int32_t>(bits | (static_cast<uint32_t>(x.bits & 0x8000u) << 16)));
#endif
}

// From storage to the arithmetic's type.
template <class T>
struct Convert {
  template <class S>
  VAE_FAST_FN static T from(S x) {
    return static_cast<T>(to_float(x));
  }
  VAE_FAST_FN static T from(uint8_t x) { return static_cast<T>(static_cast<int32_t>(x)); }
  VAE_FAST_FN static T from(int32_t x) { return static_cast<T>(x); }
  VAE_FAST_FN static T from(int64_t x) { return static_cast<T>(x); }
};

// x / 255, correctly rounded: one step of correction after the product with the inverse.
template <class T>
struct ConvertUnitInterval : Convert<T> {
  using Convert<T>::from;
  VAE_FAST_FN static T from(uint8_t x) {
    const T value = static_cast<T>(static_cast<int32_t>(x));
    const T inverse = T(1) / T(255);
    const T quotient = value * inverse;
    return quotient + (value - quotient * T(255)) * inverse;
  }
};

template <class S>
struct Store;

template <>
struct Store<float> {
  VAE_FAST_FN static float from(float x) { return x; }
  VAE_FAST_FN static float from(double x) { return static_cast<float>(x); }
};

template <>
struct Store<double> {
  VAE_FAST_FN static double from(double x) { return x; }
};

// Round to nearest, ties to even; a NaN stays a (quiet) NaN. pair_from: two as they lie in memory,
// the first in the low half.
template <>
struct Store<BFloat16> {
  VAE_FAST_FN static BFloat16 from(float x) {
#ifdef __CUDA_ARCH__
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
#else
    const uint32_t bits = static_cast<uint32_t>(as_int(x));
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return {static_cast<uint16_t>(x != x ? 0x7fc0u : rounded)};
#endif
  }
  VAE_FAST_FN static BFloat16 from(double x) { return from(static_cast<float>(x)); }

  VAE_FAST_FN static uint32_t pair_from(float first, float second) {
#ifdef __CUDA_ARCH__
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    uint32_t bits;
    std::memcpy(&bits, &pair, sizeof bits);
    return bits;
#else
    return from(first).bits | static_cast<uint32_t>(from(second).bits) << 16;
#endif
  }
};

template <>
struct Store<Float16> {
  VAE_FAST_FN static Float16 from(float x) {
#ifdef __CUDA_ARCH__
    return {__half_as_ushort(__float2half_rn(x))};
#else
    const uint32_t all = static_cast<uint32_t>(as_int(x));
    const uint32_t sign = all & 0x80000000u;
    const uint32_t bits = all ^ sign;
    const uint32_t normal = (bits - (112u << 23) + 0xfffu + ((bits >> 13) & 1u)) >> 13;
    const uint32_t magic = 126u << 23;  // 0.5: its unit in the last place is half's smallest number
    const float shifted =
        as_float(static_cast<int32_t>(bits)) + as_float(static_cast<int32_t>(magic));
    const uint32_t subnormal = static_cast<uint32_t>(as_int(shifted)) - magic;
    uint32_t result = bits < (113u << 23) ? subnormal : normal;
    result = bits >= (143u << 23) ? 0x7c00u : result;  // infinity from 2^16 on
    result = bits > 0x7f800000u ? 0x7e00u : result;
    return {static_cast<uint16_t>(result | (sign >> 16))};
#endif
  }
  VAE_FAST_FN static Float16 from(double x) { return from(static_cast<float>(x)); }

  VAE_FAST_FN static uint32_t pair_from(float first, float second) {
#ifdef __CUDA_ARCH__
    const __half2 pair = __floats2half2_rn(first, second);
    uint32_t bits;
    std::memcpy(&bits, &pair, sizeof bits);
    return bits;
#else
    return from(first).bits | static_cast<uint32_t>(from(second).bits) << 16;
#endif
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
