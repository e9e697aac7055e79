// The launch functions: memory for the partial sums, the tiles spread over the threads, and the
// sums added up in an order that the thread count does not change.
#include <algorithm>
#include <memory>
#include <vector>

#include "cpu/instruction_set.h"
#include "formulas/compensated_sum.h"

namespace vae_fast::cpu {
namespace {

// Work below this is not worth waking a thread for (about 5 us against 1 ns an element).
constexpr int64_t kGrain = 8192;

// A summed gradient is accumulated by slabs of tiles, each into a copy of its own. Their number
// depends on the sizes alone; the copies never take more than a quarter of the operand's reach.
constexpr int64_t kMaxSlabs = 64;
constexpr int64_t kSummedTogether = 64;

template <class F>
void parallel(ParallelFor parallel_for, int64_t n, int64_t grain, const F& body) {
  if (n <= grain) return body(0, n);
  parallel_for(
      n, grain,
      [](void* context, int64_t begin, int64_t end) {
        (*static_cast<const F*>(context))(begin, end);
      },
      const_cast<F*>(&body));
}

int64_t tiles_per_grain(const Tiling& tiling, int64_t grain) {
  return std::max<int64_t>(1, grain / std::max<int64_t>(1, tiling.tile_length));
}

// Pairwise: the error grows with the logarithm of n.
double sum_of(const double* x, int64_t n) {
  if (n <= 4) return n == 0 ? 0 : x[0] + sum_of(x + 1, n - 1);
  return sum_of(x, n / 2) + sum_of(x + n / 2, n - n / 2);
}

void store_values(const LossArgs& args, const Tiling& tiling, std::vector<double>& partials) {
  if (tiling.tiles_per_group > 1) {
    for (int64_t g = 0; g < args.groups; ++g) {
      partials[g] = sum_of(&partials[g * tiling.tiles_per_group], tiling.tiles_per_group);
    }
  }
  instruction_set().store(partials.data(), args.scale, args.value);
}

class SummedGradients {
 public:
  SummedGradients(const LossArgs& args, const Tiling& tiling) : args_(args) {
    for (int k = 0; k < kMaxOperands; ++k) {
      const Output& out = args.gradients[k];
      if (out.data != nullptr && out.is_summed) numel_ += out.numel;
    }
    if (numel_ == 0) return;
    const int64_t by_size = args.shape.numel / std::max(4 * numel_, 2 * kGrain);
    slabs_ = std::clamp<int64_t>(by_size, 1, std::min(kMaxSlabs, tiling.tiles));
    sums_.resize(slabs_ * numel_);
    if (args.float64) lost_.resize(slabs_ * numel_);
  }

  bool any() const { return numel_ > 0; }
  int64_t slabs() const { return slabs_; }

  Sums of_slab(int64_t slab, double* values) {
    Sums sums{values, {}, {}};
    int64_t next = slab * numel_;
    for (int k = 0; k < kMaxOperands; ++k) {
      const Output& out = args_.gradients[k];
      if (out.data == nullptr || !out.is_summed) continue;
      sums.gradients[k] = &sums_[next];
      if (args_.float64) sums.lost[k] = &lost_[next];
      next += out.numel;
    }
    return sums;
  }

  void store(ParallelFor parallel_for) {
    parallel(parallel_for, numel_, std::max<int64_t>(1, kGrain / slabs_),
             [&](int64_t begin, int64_t end) {
               for (int64_t i = begin; i < end; i += kSummedTogether) {
                 sum_over_slabs(i, std::min(kSummedTogether, end - i));
               }
             });
    const Sums total = of_slab(0, nullptr);
    for (int k = 0; k < kMaxOperands; ++k) {
      if (total.gradients[k] != nullptr) {
        instruction_set().store(total.gradients[k], 1, args_.gradients[k]);
      }
    }
  }

 private:
  // Of n neighbours into the first slab: the slabs' copies are far apart, each is read in its
  // order.
  void sum_over_slabs(int64_t first, int64_t n) {
    double sum[kSummedTogether] = {}, lost[kSummedTogether] = {};
    for (int64_t at = first; at < slabs_ * numel_; at += numel_) {
      if (!args_.float64) {
        for (int64_t i = 0; i < n; ++i) sum[i] += sums_[at + i];
        continue;
      }
      for (int64_t i = 0; i < n; ++i) add_compensated(sum[i], lost[i], sums_[at + i]);
      for (int64_t i = 0; i < n; ++i) lost[i] += lost_[at + i];
    }
    for (int64_t i = 0; i < n; ++i) sums_[first + i] = sum[i] + lost[i];
  }

  const LossArgs& args_;
  int64_t numel_ = 0;
  int64_t slabs_ = 0;
  std::vector<double> sums_, lost_;
};

// Runs `tiles(begin, end, sums)` over all tiles and stores what they summed.
template <class F>
void run(const LossArgs& args, const Tiling& tiling, double* values, ParallelFor parallel_for,
         const F& tiles) {
  SummedGradients gradients(args, tiling);
  if (!gradients.any()) {
    parallel(parallel_for, tiling.tiles, tiles_per_grain(tiling, kGrain),
             [&](int64_t begin, int64_t end) { tiles(begin, end, Sums{values, {}, {}}); });
    return;
  }
  const int64_t slabs = gradients.slabs();
  parallel(parallel_for, slabs, 1, [&](int64_t first, int64_t last) {
    for (int64_t slab = first; slab < last; ++slab) {
      tiles(tiling.tiles * slab / slabs, tiling.tiles * (slab + 1) / slabs,
            gradients.of_slab(slab, values));
    }
  });
  gradients.store(parallel_for);
}

// As run(), and stores the value, if it is wanted and summed (the tiles store what is not).
template <class F>
void run_with_value(const LossArgs& args, const Tiling& tiling, ParallelFor parallel_for,
                    const F& tiles) {
  if (args.value.data == nullptr || args.groups == args.shape.numel) {
    run(args, tiling, nullptr, parallel_for, tiles);
    return;
  }
  std::vector<double> partials(tiling.partials);
  run(args, tiling, partials.data(), parallel_for, tiles);
  store_values(args, tiling, partials);
}

}  // namespace

void loss(const LossArgs& args, ParallelFor parallel_for) {
  const Tiling tiling = make_tiling(args);
  run_with_value(args, tiling, parallel_for, [&](int64_t begin, int64_t end, const Sums& sums) {
    instruction_set().loss(args, tiling, begin, end, sums);
  });
}

void sample(const SampleArgs& args, ParallelFor parallel_for) {
  const Tiling tiling = make_tiling(args.divergence);
  run_with_value(args.divergence, tiling, parallel_for,
                 [&](int64_t begin, int64_t end, const Sums& sums) {
                   instruction_set().sample(args, tiling, begin, end, sums);
                 });
}

void sample_backward(const SampleBackwardArgs& args, ParallelFor parallel_for) {
  const Tiling tiling = make_tiling(args.divergence);
  run(args.divergence, tiling, nullptr, parallel_for,
      [&](int64_t begin, int64_t end, const Sums& sums) {
        instruction_set().sample_backward(args, tiling, begin, end, sums);
      });
}

void multinomial(const MultinomialArgs& args, ParallelFor parallel_for) {
  const int64_t rows = args.shape.numel / args.classes;
  std::vector<double> values(rows);
  parallel(parallel_for, rows, std::max<int64_t>(1, kGrain / args.classes),
           [&](int64_t begin, int64_t end) {
             instruction_set().multinomial(args, begin, end, values.data());
           });
  instruction_set().store(values.data(), 1, args.value);
}

void counts(const CountArgs& args, ParallelFor parallel_for) {
  const int64_t rows = args.loss.shape.numel / args.classes;
  const Tiling by_rows = {.group_size = args.classes,
                          .tiles = rows,
                          .tile_length = args.classes,
                          .tiles_per_group = 1,
                          .partials = rows};
  std::vector<double> values(rows), to_library(rows);
  run(args.loss, by_rows, values.data(), parallel_for,
      [&](int64_t begin, int64_t end, const Sums& sums) {
        std::vector<double> room(3 * args.classes);
        instruction_set().counts(args, by_rows, begin, end, sums, to_library.data(), room.data());
      });
  if (args.loss.value.data != nullptr) instruction_set().store(values.data(), 1, args.loss.value);
  if (args.library_gradient.data != nullptr) {
    instruction_set().store(to_library.data(), 1, args.library_gradient);
  }
}

void sparse_linear(const SparseLinearArgs& args, ParallelFor parallel_for) {
  // A row of y costs its entries; of the weight's gradient, all entries are looked at by each part.
  const bool is_product = args.y != nullptr;
  const int64_t parts = is_product ? args.rows : args.inputs;
  const int64_t grain = is_product ? 1 : std::max<int64_t>(1, kGrain / args.outputs);
  parallel(parallel_for, parts, grain,
           [&](int64_t begin, int64_t end) { instruction_set().sparse_linear(args, begin, end); });
}

void mixture(const MixtureArgs& args, ParallelFor parallel_for) {
  const MixtureTiling tiling = make_tiling(args);
  const int64_t numbers = mixture_workspace(args, tiling);
  const int64_t evaluations = args.components * args.run * tiling.length;
  parallel(parallel_for, tiling.tiles, std::max<int64_t>(1, kGrain / evaluations),
           [&](int64_t begin, int64_t end) {
             std::vector<double> workspace(args.float64 ? numbers : (numbers + 1) / 2);
             instruction_set().mixture(args, tiling, begin, end, workspace.data());
           });
}

namespace {

void run_pass(const PairsArgs& args, PairsPass pass, ParallelFor parallel_for) {
  constexpr size_t kLine = 64;
  const size_t number = args.float64 ? sizeof(double) : sizeof(float);
  const auto memory =
      std::make_unique_for_overwrite<unsigned char[]>(pass.packed_numbers() * number + kLine);
  const auto address = reinterpret_cast<uintptr_t>(memory.get());
  pass.packed = memory.get() + (kLine - address % kLine) % kLine;
  // `work`: nanoseconds for each of n, about.
  const auto in_parallel = [&](int64_t n, double work, const auto& body) {
    const auto grain = static_cast<int64_t>(4 * kGrain / work);
    parallel(parallel_for, n, std::max<int64_t>(1, grain), [&](int64_t begin, int64_t end) {
      const auto room = std::make_unique_for_overwrite<double[]>(pass.room() / sizeof(double));
      body(begin, end, room.get());
    });
  };
  const double packing = 1, each = args.marginal ? 0.5 : 0.125;
  in_parallel(pass.blocks, packing * kPairLanes * pass.dims,
              [&](int64_t begin, int64_t end, void* room) {
                instruction_set().pack_pairs(args, pass, begin, end, room);
              });
  in_parallel(pass.owner_blocks(), each * kOwners * pass.others * pass.dims,
              [&](int64_t begin, int64_t end, void* room) {
                instruction_set().run_pairs(args, pass, begin, end, room);
              });
}

}  // namespace

void pairs(const PairsArgs& args, ParallelFor parallel_for) {
  const bool for_gradients = args.upstream.data != nullptr;
  if (!for_gradients || args.grad_x.data != nullptr) {
    run_pass(args, PairsPass(args, /*rows_own=*/true, for_gradients), parallel_for);
  }
  if (args.grad_mean.data != nullptr || args.grad_logvar.data != nullptr ||
      args.grad_log_weights.data != nullptr) {
    run_pass(args, PairsPass(args, /*rows_own=*/false, for_gradients), parallel_for);
  }
}

}  // namespace vae_fast::cpu
