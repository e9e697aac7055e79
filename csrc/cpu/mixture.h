// The loop of mixtures: of a tile of positions each component's loss and its gradients, by the
// formulas' own functions; then the components' shares, which scale the gradients while these are
// still in the cache.
#pragma once

#include "cpu/loops.h"
#include "formulas/discretized_logistic_pixel.h"
#include "formulas/mixture.h"

namespace vae_fast::cpu {
inline namespace VAE_FAST_ISA {
namespace {

// ---- a component's loss ------------------------------------------------------------------------

template <class T>
using Tile = T[tile_capacity(sizeof(T) == 8)];

// Mean and log-scale of one channel as the distribution takes them, and the mean's derivative in
// each of its coefficients.
template <class T>
VAE_FAST_FN void pixel_parameters(const T* mean, const T* log_scale, const T* const* coefficients,
                                  const T* const* targets, int channel, T* unit_means,
                                  T* unit_log_scales, Tile<T>* slopes, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    unit_log_scales[i] = unit_log_scale(log_scale[i]);
    unit_means[i] = mean[i];
  }
  for (int c = 0; c < channel; ++c) {
    // Local copies: the compiler need not fear that a store changes the pointers.
    const T* const raw = coefficients[c];
    const T* const target = targets[c];
    T* const slope = slopes[c];
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const Coefficient<T> shift = mean_shift(raw[i], target[i]);
      unit_means[i] += shift.value;
      slope[i] = shift.slope;
    }
  }
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) unit_means[i] = unit_mean(unit_means[i]);
}

// From the gradients in what the distribution takes to those in what the decoder gave.
template <class T>
VAE_FAST_FN void pixel_gradients(const T* log_scale, const Tile<T>* slopes, int channel, T* in_mean,
                                 T* in_log_scale, T* const* in_coefficients, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    in_mean[i] = mean_gradient(in_mean[i]);
    in_log_scale[i] = log_scale_gradient(log_scale[i], in_log_scale[i]);
  }
  for (int c = 0; c < channel; ++c) {
    T* const out = in_coefficients[c];
    const T* const slope = slopes[c];
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = coefficient_gradient(slope[i], in_mean[i]);
  }
}

// All channels of n pixels. Operands: the means, the log-scales, the coefficients, levels, the
// targets.
template <class T, int Channels, bool HasGradients>
void pixel_tile(const T* const* operands, T* value, T* const* gradients, T scale, int64_t n) {
  constexpr TileFunction<T> kOfChannel =
      best_function<DiscretizedLogisticNll, HasGradients ? 2 : 0, T>();
  constexpr int kCoefficients = 2 * Channels;
  constexpr int kLevels = kCoefficients + pixel_coefficients(Channels);
  alignas(64) Tile<T> mean, log_scale, value_buffer, slopes[Channels];
  const T* const* const targets = operands + kLevels + 1;
  for (int c = 0; c < Channels; ++c) {
    const int first = kCoefficients + pixel_coefficients(c);
    pixel_parameters(operands[c], operands[Channels + c], operands + first, targets, c, mean,
                     log_scale, slopes, n);
    const T* const of_channel[] = {mean, log_scale, operands[kLevels], targets[c]};
    T* in_channel[] = {nullptr, nullptr};
    if constexpr (HasGradients) {
      in_channel[0] = gradients[c];
      in_channel[1] = gradients[Channels + c];
    }
    kOfChannel(of_channel, c == 0 ? value : value_buffer, in_channel, scale, n);
    if constexpr (HasGradients) {
      pixel_gradients<T>(operands[Channels + c], slopes, c, in_channel[0], in_channel[1],
                         gradients + first, n);
    }
    if (c == 0) continue;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) value[i] += value_buffer[i];
  }
}

template <class T>
struct Component {
  TileFunction<T> value_only, with_gradients;
  int parameters;  // of the operands, the targets come behind them
  int operands;
  bool unit_interval;
};

template <class T, int Channels>
constexpr Component<T> kPixel{pixel_tile<T, Channels, false>, pixel_tile<T, Channels, true>,
                              pixel_parameter_count(Channels),
                              pixel_parameter_count(Channels) + Channels, true};

template <class T>
Component<T> component_of(const MixtureArgs& args) {
  if (args.pixel_channels == 1) return kPixel<T, 1>;
  if (args.pixel_channels == kMaxPixelChannels) return kPixel<T, kMaxPixelChannels>;
  const Evaluator<T>& formula = evaluator<T>(args.loss, Losses{});
  return {formula.value_only, formula.parameters, formula.parameter_count, formula.operand_count,
          formula.unit_interval};
}

// ---- the shares of the components --------------------------------------------------------------

// Of n positions and K components, [K][n] each. On the way in `prior` are the logits and `share`
// the losses; on the way out the softmax of the logits, and of the scores, or 0 where all
// components are impossible.
template <class T>
class Shares {
 public:
  static constexpr int64_t kCapacity = tile_capacity(sizeof(T) == 8);

  void compute(T* prior, T* share, T* value, int64_t components, int64_t n) {
    fill(center_, -kInfinity<T>, n);
    fill(best_, -kInfinity<T>, n);
    fill(prior_sum_, T(0), n);
    fill(share_sum_, T(0), n);
    for (int64_t k = 0; k < components; ++k) find_center(prior + k * n, n);
    for (int64_t k = 0; k < components; ++k) find_best(prior + k * n, share + k * n, n);
    for (int64_t k = 0; k < components; ++k) weigh(share + k * n, n);
    finish(value, n);
    for (int64_t k = 0; k < components; ++k) normalize(prior + k * n, share + k * n, n);
  }

 private:
  void find_center(const T* logits, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) center_[i] = max_(logits[i], center_[i]);
  }

  // The logits become their weights, the losses the scores.
  void find_best(T* prior, T* share, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const T center = mixture_center(center_[i]);
      const T score = mixture_score(prior[i], center, share[i]);
      prior[i] = exp_nonpositive(prior[i] - center);
      prior_sum_[i] += prior[i];
      best_[i] = max_(score, best_[i]);
      share[i] = score;
    }
  }

  void weigh(T* share, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      share[i] = mixture_weight(share[i], best_[i]);
      share_sum_[i] += share[i];
    }
  }

  // From the sums to their reciprocals.
  void finish(T* value, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      value[i] = mixture_value(prior_sum_[i], share_sum_[i], best_[i]);
      const bool is_impossible = best_[i] == -kInfinity<T>;
      prior_sum_[i] = select(is_impossible, T(0), T(1) / prior_sum_[i]);
      share_sum_[i] = select(is_impossible, T(0), T(1) / share_sum_[i]);
    }
  }

  void normalize(T* prior, T* share, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      prior[i] *= prior_sum_[i];
      share[i] *= share_sum_[i];
    }
  }

  alignas(64) T center_[kCapacity];
  alignas(64) T best_[kCapacity];
  alignas(64) T prior_sum_[kCapacity];
  alignas(64) T share_sum_[kCapacity];
};

// ---- a tile of positions -----------------------------------------------------------------------

template <class T>
class MixtureTiles {
 public:
  static constexpr int64_t kCapacity = tile_capacity(sizeof(T) == 8);

  // `workspace`: mixture_workspace() numbers.
  MixtureTiles(const MixtureArgs& args, const MixtureTiling& tiling, T* workspace)
      : args_(args),
        component_(component_of<T>(args)),
        prior_(workspace),
        share_(prior_ + args.components * tiling.length),
        gradients_(share_ + args.components * tiling.length),
        gradient_length_(tiling.length * args.run) {
    for (int g = 0; g < component_.parameters; ++g) {
      if (args.gradients[g].first.data != nullptr) wanted_[wanted_count_++] = g;
    }
  }

  void tile(int64_t first, int64_t n) {
    for (int64_t k = 0; k < args_.components; ++k) {
      copy_of(args_.logits.of(k), args_.positions, first, n, prior_ + k * n);
    }
    evaluate(first, n);
    T* const direct = direct_tile<T>(args_.value, args_.positions, first, n);
    T* const value = direct != nullptr ? direct : value_;
    shares_.compute(prior_, share_, value, args_.components, n);
    if (args_.mask.data != nullptr) select_counted(value, n);
    if (direct == nullptr) store_tile(args_.value, args_.positions, first, n, value);
    if (wanted_count_ == 0 && args_.grad_logits.first.data == nullptr) return;
    const T* const factor = factors(first, n);
    for (int64_t k = 0; k < args_.components; ++k) {
      if (args_.mask.data != nullptr) {
        select_counted(prior_ + k * n, n);
        select_counted(share_ + k * n, n);
      }
      store_logits_gradient(k, factor, first, n);
      for (int w = 0; w < wanted_count_; ++w) store_gradient(k, w, first, n);
    }
  }

 private:
  // ---- pass one: losses and gradients, not scaled ----------------------------------------------

  void evaluate(int64_t first, int64_t n) {
    const int64_t run = args_.run, begin = first * run, end = (first + n) * run;
    const TileFunction<T> function =
        wanted_count_ == 0 ? component_.value_only : component_.with_gradients;
    for (int w = 0; w < wanted_count_; ++w) {
      gradient_offsets_[w] = offset_in(args_.gradients[wanted_[w]].first, begin, end - begin);
    }
    if (args_.mask.data != nullptr) fill(counted_, T(0), n);
    fill(share_, T(0), args_.components * n);
    for (int64_t at = begin; at < end; at += kCapacity) {
      const int64_t m = smaller(kCapacity, end - at);
      for (int o = component_.parameters; o < component_.operands; ++o) {
        operands_[o] = load_tile(args_.operands[o].of(0), component_.unit_interval, args_.elements,
                                 at, m, operand_buffers_[o]);
      }
      if (args_.mask.data != nullptr) {
        copy_in<Convert<T>, uint8_t>(args_.mask, args_.elements, at, m, mask_);
        count(at - begin, m);
      }
      int64_t offsets[kMaxMixtureOperands];
      for (int p = 0; p < component_.parameters; ++p) {
        offsets[p] = offset_in(args_.operands[p].first, at, m);
      }
      for (int64_t k = 0; k < args_.components; ++k) {
        for (int p = 0; p < component_.parameters; ++p) {
          operands_[p] = load_parameter(k, p, offsets[p], at, m);
          in_parameters_[p] = unwanted_;
        }
        for (int w = 0; w < wanted_count_; ++w) {
          in_parameters_[wanted_[w]] = gradient_place(k, w) + (at - begin);
        }
        // A position's only element has its loss: no sum.
        T* const losses = run == 1 ? share_ + k * n : value_;
        function(operands_, losses, in_parameters_, T(1), m);
        if (args_.mask.data != nullptr) {
          select_by_mask(losses, m);
          for (int w = 0; w < wanted_count_; ++w) select_by_mask(in_parameters_[wanted_[w]], m);
        }
        if (run > 1) add_losses(losses, at - begin, m, share_ + k * n);
      }
    }
  }

  // Of the first component's elements in memory that may be used in place, else -1: it is the same
  // for all components, and takes longer to find than to use.
  template <class Tensor>
  int64_t offset_in(const Tensor& tensor, int64_t at, int64_t m) const {
    return tensor.dtype == kArithmeticDtype<T> ? dense_offset(args_.elements, tensor.strides, at, m)
                                               : -1;
  }

  const T* load_parameter(int64_t k, int p, int64_t offset, int64_t at, int64_t m) {
    const OfComponents<Input>& parameter = args_.operands[p];
    return offset < 0
               ? load_tile(parameter.of(k), false, args_.elements, at, m, operand_buffers_[p])
               : static_cast<const T*>(parameter.first.data) + k * parameter.stride + offset;
  }

  // `done` elements of the tile's came before.
  void add_losses(const T* losses, int64_t done, int64_t m, T* sums) {
    for (int64_t i = 0; i < m;) {
      const int64_t length = smaller(args_.run - (done + i) % args_.run, m - i);
      sums[(done + i) / args_.run] += static_cast<T>(sum_of(losses + i, length));
      i += length;
    }
  }

  // Which positions have an element that the mask lets count.
  void count(int64_t done, int64_t m) {
    for (int64_t i = 0; i < m; ++i) counted_[(done + i) / args_.run] += mask_[i];
  }

  void select_counted(T* x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) x[i] = select(counted_[i] > T(0), x[i], T(0));
  }

  void select_by_mask(T* x, int64_t m) {
#pragma omp simd
    for (int64_t i = 0; i < m; ++i) x[i] = select(mask_[i] != T(0), x[i], T(0));
  }

  // ---- pass two: the gradients' scale ----------------------------------------------------------

  // Where the gradient waits for its scale: in its own memory, if that is the arithmetic's.
  T* gradient_place(int64_t k, int w) {
    const OfComponents<Output>& out = args_.gradients[wanted_[w]];
    return gradient_offsets_[w] < 0
               ? gradients_ + (k * wanted_count_ + w) * gradient_length_
               : static_cast<T*>(out.first.data) + k * out.stride + gradient_offsets_[w];
  }

  // Of each position: what its value's gradient is multiplied with.
  const T* factors(int64_t first, int64_t n) {
    const T scale = static_cast<T>(args_.scale);
    fill(factor_, scale, n);
    if (args_.upstream.data == nullptr) return factor_;
    const T* const upstream = load_tile(args_.upstream, false, args_.positions, first, n, value_);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) factor_[i] = upstream[i] * scale;
    return factor_;
  }

  void store_logits_gradient(int64_t k, const T* factor, int64_t first, int64_t n) {
    T* const share = share_ + k * n;
    T* const prior = prior_ + k * n;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      prior[i] = (prior[i] - share[i]) * factor[i];
      share[i] *= factor[i];
    }
    if (args_.grad_logits.first.data == nullptr) return;
    store_tile(args_.grad_logits.of(k), args_.positions, first, n, prior);
  }

  void store_gradient(int64_t k, int w, int64_t first, int64_t n) {
    T* const gradient = gradient_place(k, w);
    scale(gradient, share_ + k * n, n);
    if (gradient_offsets_[w] >= 0) return;
    store_tile(args_.gradients[wanted_[w]].of(k), args_.elements, first * args_.run, n * args_.run,
               gradient);
  }

  void scale(T* gradient, const T* share, int64_t n) {
    if (args_.run == 1) {
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) gradient[i] = mixture_gradient(share[i], gradient[i]);
      return;
    }
    for (int64_t p = 0; p < n; ++p) {
      T* const own = gradient + p * args_.run;
      const T number = share[p];
#pragma omp simd
      for (int64_t i = 0; i < args_.run; ++i) own[i] = mixture_gradient(number, own[i]);
    }
  }

  void copy_of(const Input& input, const Shape& shape, int64_t first, int64_t n, T* buffer) {
    const T* const tile = load_tile(input, false, shape, first, n, buffer);
    if (tile == buffer) return;
    for (int64_t i = 0; i < n; ++i) buffer[i] = tile[i];
  }

  const MixtureArgs& args_;
  const Component<T> component_;
  T* const prior_;      // [components][n]
  T* const share_;      // [components][n]
  T* const gradients_;  // [components][wanted_count_][gradient_length_]
  const int64_t gradient_length_;
  int wanted_[kMaxMixtureOperands];  // parameters whose gradients are
  int wanted_count_ = 0;
  int64_t gradient_offsets_[kMaxMixtureOperands] = {};  // of those that are wanted
  const T* operands_[kMaxMixtureOperands] = {};
  T* in_parameters_[kMaxMixtureOperands] = {};
  Shares<T> shares_;
  alignas(64) T operand_buffers_[kMaxMixtureOperands][kCapacity];
  alignas(64) T unwanted_[kCapacity];
  alignas(64) T value_[kCapacity];
  alignas(64) T mask_[kCapacity];
  alignas(64) T counted_[kCapacity];
  alignas(64) T factor_[kCapacity];
};

template <class T>
void mixture_tiles(const MixtureArgs& args, const MixtureTiling& tiling, int64_t begin, int64_t end,
                   T* workspace) {
  MixtureTiles<T> tiles(args, tiling, workspace);
  for (int64_t tile = begin; tile < end; ++tile) {
    tiles.tile(tiling.begin(tile), tiling.size(tile));
  }
}

}  // namespace
}  // namespace VAE_FAST_ISA
}  // namespace vae_fast::cpu
