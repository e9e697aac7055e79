// The loops, each written once: elementwise losses with their gradients, sampling with the
// divergence, and the sampling's backward. Included once by every instruction set's stub.
#pragma once

#include "cpu/evaluate.h"
#include "cpu/instruction_set.h"
#include "cpu/noise.h"
#include "cpu/tile_memory.h"

namespace vae_fast::cpu {
inline namespace VAE_FAST_ISA {
namespace {

// ---- one tile of a loss ------------------------------------------------------------------------

template <class T>
void multiply(T* x, const T* factor, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) x[i] *= factor[i];
}

template <class T>
class LossTiles {
 public:
  static constexpr int64_t kCapacity = tile_capacity(sizeof(T) == 8);

  LossTiles(const LossArgs& args, const Tiling& tiling, const Sums& sums)
      : args_(args), tiling_(tiling), sums_(sums), evaluator_(evaluator<T>(args.loss, Losses{})) {
    int64_t bytes = 0;
    for (int k = 0; k < evaluator_.operand_count; ++k) {
      bytes += bytes_per_element(args.operands[k]) + bytes_per_element(args.gradients[k]);
      if (args.gradients[k].data != nullptr) gradient_count_ = k + 1;
    }
    prefetches_ = bytes * args.shape.numel >= kPrefetchFrom;
    make_gradients(gradient_count_);
  }

  // One that is not given is set by set_target().
  void load(int64_t first, int64_t n) {
    for (int k = 0; k < evaluator_.operand_count; ++k) {
      if (args_.operands[k].data != nullptr) load_operand(k, first, n);
    }
  }

  const T* load_operand(int k, int64_t first, int64_t n) {
    const bool is_target = k >= evaluator_.parameter_count;
    operands_[k] = load_tile(args_.operands[k], is_target && evaluator_.unit_interval, args_.shape,
                             first, n, operand_buffers_[k]);
    if (prefetches_ && operands_[k] != operand_buffers_[k]) prefetch(operands_[k] + n, n);
    return operands_[k];
  }

  void set_target(const T* target) { operands_[evaluator_.parameter_count] = target; }

  // A first operand made of the one that was loaded, and where its gradient goes, which is not
  // stored then.
  void replace_first(const T* operand, T* gradient) {
    operands_[0] = operand;
    gradients_[0] = in_place_[0] = gradient;
  }

  // Of at least so many operands.
  void make_gradients(int count) {
    gradient_count_ = gradient_count_ < count ? count : gradient_count_;
    function_ = evaluator_.with_gradients(gradient_count_);
  }

  const T* operand(int k) const { return operands_[k]; }

  // Evaluates the formula; the gradients go to `gradients`, the value to the returned tile.
  T* evaluate(T* value, T* const* gradients, int64_t n) {
    function_(operands_, value, gradients, static_cast<T>(args_.scale), n);
    return value;
  }

  void loss(int64_t first, int64_t n) {
    load(first, n);
    const bool has_value = args_.value.data != nullptr;
    const bool elementwise = has_value && args_.groups == args_.shape.numel;
    T* value = elementwise ? direct_tile<T>(args_.value, args_.shape, first, n) : nullptr;
    const bool value_in_place = value != nullptr;
    value = evaluate(value_in_place ? value : value_buffer_, place_gradients(first, n), n);
    if (args_.upstream.data != nullptr) multiply_gradients(args_.upstream, first, n);
    if (args_.mask.data != nullptr) apply_mask(value, first, n);
    if (has_value && !elementwise) {
      add_values(value, first, n);
    } else if (elementwise && !value_in_place) {
      store_tile(args_.value, args_.shape, first, n, value);
    }
    store_gradients(first, n);
  }

  void multiply_gradients(const Input& upstream, int64_t first, int64_t n) {
    const T* factor = load_tile(upstream, false, args_.shape, first, n, upstream_buffer_);
    for (int k = 0; k < gradient_count_; ++k) multiply(gradients_[k], factor, n);
  }

  T* const* place_gradients(int64_t first, int64_t n) {
    for (int k = 0; k < kMaxOperands; ++k) {
      const Output& out = args_.gradients[k];
      in_place_[k] = out.data == nullptr ? nullptr : direct_tile<T>(out, args_.shape, first, n);
      gradients_[k] = in_place_[k] != nullptr ? in_place_[k] : gradient_buffers_[k];
    }
    return gradients_;
  }

  void store_gradients(int64_t first, int64_t n) {
    for (int k = 0; k < evaluator_.operand_count; ++k) {
      const Output& out = args_.gradients[k];
      if (out.data == nullptr || in_place_[k] != nullptr) continue;
      if (out.is_summed) {
        add_tile(out, args_.shape, first, n, gradients_[k], sums_.gradients[k], sums_.lost[k]);
      } else {
        store_tile(out, args_.shape, first, n, gradients_[k]);
      }
    }
  }

  void add_values(const T* value, int64_t first, int64_t n) {
    if (tiling_.tiles_per_group > 1) {
      sums_.values[first / tiling_.group_size * tiling_.tiles_per_group +
                   first % tiling_.group_size / tiling_.tile_length] = sum_of(value, n);
      return;
    }
    const int64_t group = first / tiling_.group_size;
    for (int64_t g = 0; g * tiling_.group_size < n; ++g) {
      sums_.values[group + g] = sum_of(value + g * tiling_.group_size, tiling_.group_size);
    }
  }

  // By selection: what is masked out may be NaN.
  void apply_mask(T* value, int64_t first, int64_t n) {
    copy_in<Convert<T>, uint8_t>(args_.mask, args_.shape, first, n, mask_buffer_);
    select_by_mask(value, n);
    for (int k = 0; k < gradient_count_; ++k) select_by_mask(gradients_[k], n);
  }

  T* value_buffer() { return value_buffer_; }
  T* upstream_buffer() { return upstream_buffer_; }
  int gradient_count() const { return gradient_count_; }

 private:
  void select_by_mask(T* x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) x[i] = mask_buffer_[i] != T(0) ? x[i] : T(0);
  }

  const LossArgs& args_;
  const Tiling& tiling_;
  const Sums& sums_;
  const Evaluator<T>& evaluator_;
  TileFunction<T> function_;
  int gradient_count_ = 0;
  bool prefetches_;
  const T* operands_[kMaxOperands] = {};
  T* in_place_[kMaxOperands] = {};
  T* gradients_[kMaxOperands] = {};
  alignas(64) T operand_buffers_[kMaxOperands][kCapacity];
  alignas(64) T gradient_buffers_[kMaxOperands][kCapacity];
  alignas(64) T value_buffer_[kCapacity];
  alignas(64) T mask_buffer_[kCapacity];
  alignas(64) T upstream_buffer_[kCapacity];
};

template <class T>
void loss_tiles(const LossArgs& args, const Tiling& tiling, int64_t begin, int64_t end,
                const Sums& sums) {
  LossTiles<T> tiles(args, tiling, sums);
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t first = tiling.begin(tile);
    tiles.loss(first, tiling.end(tile, args.shape.numel) - first);
  }
}

// ---- sampling ----------------------------------------------------------------------------------

// The noise of elements [first, first + n): each row of the seeds drives an equal share.
template <class T>
void fill_noise(const SampleArgs& args, int64_t first, int64_t n, T* noise) {
  const int64_t share = args.divergence.shape.numel / args.seed_rows;
  for (int64_t done = 0; done < n;) {
    const int64_t row = (first + done) / share;
    const int64_t start = (first + done) % share;
    const int64_t length = smaller(n - done, share - start);
    fill_normal(args.seeds[row], static_cast<uint64_t>(start), length, noise + done);
    done += length;
  }
}

template <class T>
VAE_FAST_FN void sample_tile(const T* mu, const T* logvar, const T* eps, T* z, T* noise,
                             int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const T scaled = exp_(T(0.5) * logvar[i]) * eps[i];
    z[i] = mu[i] + scaled;
    noise[i] = T(0.5) * scaled;
  }
}

template <class T>
void sample_tiles(const SampleArgs& args, const Tiling& tiling, int64_t begin, int64_t end,
                  const Sums& sums) {
  const LossArgs& divergence = args.divergence;
  const Shape& shape = divergence.shape;
  LossTiles<T> tiles(divergence, tiling, sums);
  alignas(64) T eps[LossTiles<T>::kCapacity], z_buffer[LossTiles<T>::kCapacity],
      noise_buffer[LossTiles<T>::kCapacity];
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t first = tiling.begin(tile), n = tiling.end(tile, shape.numel) - first;
    tiles.load(first, n);
    fill_noise(args, first, n, eps);
    T* const z_direct = direct_tile<T>(args.z, shape, first, n);
    T* const noise_direct =
        args.noise.data == nullptr ? nullptr : direct_tile<T>(args.noise, shape, first, n);
    T* const z = z_direct != nullptr ? z_direct : z_buffer;
    T* const noise = noise_direct != nullptr ? noise_direct : noise_buffer;
    sample_tile(tiles.operand(0), tiles.operand(1), eps, z, noise, n);
    if (z_direct == nullptr) store_tile(args.z, shape, first, n, z);
    if (args.noise.data != nullptr && noise_direct == nullptr) {
      store_tile(args.noise, shape, first, n, noise);
    }
    if (divergence.value.data == nullptr) continue;
    const T* value = tiles.evaluate(tiles.value_buffer(), nullptr, n);
    if (divergence.groups == shape.numel) {
      store_tile(divergence.value, shape, first, n, value);
    } else {
      tiles.add_values(value, first, n);
    }
  }
}

template <class T>
void fill(T* x, T value, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = value;
}

template <class T>
void add(T* x, const T* term, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) x[i] += term[i];
}

template <class T>
void add_product(T* x, const T* a, const T* b, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) x[i] += a[i] * b[i];
}

// An upstream gradient that is not given contributes nothing, by branch: 0 * infinity is NaN.
template <class T>
void sample_backward_tiles(const SampleBackwardArgs& args, const Tiling& tiling, int64_t begin,
                           int64_t end, const Sums& sums) {
  const LossArgs& divergence = args.divergence;
  const Shape& shape = divergence.shape;
  LossTiles<T> tiles(divergence, tiling, sums);
  alignas(64) T noise_buffer[LossTiles<T>::kCapacity];
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t first = tiling.begin(tile), n = tiling.end(tile, shape.numel) - first;
    T* const* gradients = tiles.place_gradients(first, n);
    if (args.grad_value.data != nullptr) {
      tiles.load(first, n);
      tiles.evaluate(tiles.value_buffer(), gradients, n);
      tiles.multiply_gradients(args.grad_value, first, n);
    } else {
      for (int k = 0; k < tiles.gradient_count(); ++k) fill(gradients[k], T(0), n);
    }
    if (args.grad_z.data != nullptr) {
      const T* upstream = load_tile(args.grad_z, false, shape, first, n, tiles.upstream_buffer());
      if (divergence.gradients[0].data != nullptr) add(gradients[0], upstream, n);
      if (divergence.gradients[1].data != nullptr) {
        const T* noise = load_tile(args.noise, false, shape, first, n, noise_buffer);
        add_product(gradients[1], upstream, noise, n);
      }
    }
    tiles.store_gradients(first, n);
  }
}

}  // namespace
}  // namespace VAE_FAST_ISA
}  // namespace vae_fast::cpu
