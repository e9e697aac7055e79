// The parameters of a pixel's discretized logistics as the decoders of PixelCNN++ (Salimans et al.
// 2017, arXiv:1701.05517), NVAE and VDVAE give them: of intensities in [-1, 1], a bounded scale,
// and means that depend on the channels before. The distribution itself is that of
// discretized_logistic.h, of intensities in [0, 1].
#pragma once

#include "mixture.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// A channel's mean is moved by each channel before it, times a coefficient: of green red, of blue
// red and green.
VAE_FAST_FN constexpr int pixel_coefficients(int channels) { return channels * (channels - 1) / 2; }
constexpr int kMaxPixelChannels = 3;

// Means, log-scales, coefficients and the levels.
VAE_FAST_FN constexpr int pixel_parameter_count(int channels) {
  return 2 * channels + pixel_coefficients(channels) + 1;
}

// Of an intensity in [0, 1].
template <class T>
VAE_FAST_FN T signed_intensity(T x) {
  return (x - T(0.5)) + (x - T(0.5));
}

template <class T>
VAE_FAST_FN T unit_mean(T mean) {
  return T(0.5) * (mean + T(1));
}

template <class T>
constexpr T kLeastLogScale = T(-7);

template <class T>
VAE_FAST_FN T unit_log_scale(T log_scale) {
  return max_(kLeastLogScale<T>, log_scale) - T(0.693147180559945309417);
}

template <class T>
struct Coefficient {
  T value;  // tanh(c)
  T slope;  // 1 - tanh(c)^2
};

template <class T>
VAE_FAST_FN Coefficient<T> coefficient(T c) {
  const T twice = T(-2) * abs_(c), rest = exp_nonpositive(twice), whole = T(1) + rest;
  const T size = -expm1_nonpositive(twice) / whole;
  return {select(c < T(0), -size, size), (T(4) * rest) / (whole * whole)};
}

// What a channel before, at x, adds to the mean, and the derivative of that in the coefficient.
template <class T>
VAE_FAST_FN Coefficient<T> mean_shift(T c, T x) {
  const Coefficient<T> of_channel = coefficient(c);
  const T intensity = signed_intensity(x);
  return {of_channel.value * intensity, of_channel.slope * intensity};
}

// From the gradients in what the distribution takes to those in what the decoder gave.
template <class T>
VAE_FAST_FN T mean_gradient(T in_unit_mean) {
  return T(0.5) * in_unit_mean;
}

template <class T>
VAE_FAST_FN T log_scale_gradient(T log_scale, T in_unit_log_scale) {
  return select(log_scale < kLeastLogScale<T>, T(0), in_unit_log_scale);
}

template <class T>
VAE_FAST_FN T coefficient_gradient(T slope, T in_mean) {
  return mixture_gradient(slope, in_mean);
}

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
