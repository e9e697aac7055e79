#include "cpu/tiling.h"

#include <algorithm>
#include <numeric>

namespace vae_fast::cpu {
namespace {

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

Tiling tiles_of_whole_groups(int64_t group_size, int64_t groups, int64_t capacity) {
  int64_t groups_per_tile = capacity / group_size;
  const int64_t aligned = kTileAlignment / std::gcd(group_size, kTileAlignment);
  if (groups_per_tile >= aligned) groups_per_tile -= groups_per_tile % aligned;
  return {.group_size = group_size,
          .tiles = divide_up(groups, groups_per_tile),
          .tile_length = groups_per_tile * group_size,
          .tiles_per_group = 1,
          .partials = groups};
}

Tiling tiles_within_groups(int64_t group_size, int64_t groups, int64_t capacity) {
  const int64_t even = divide_up(group_size, divide_up(group_size, capacity));
  const int64_t length = divide_up(even, kTileAlignment) * kTileAlignment;
  const int64_t per_group = divide_up(group_size, length);
  return {.group_size = group_size,
          .tiles = groups * per_group,
          .tile_length = length,
          .tiles_per_group = per_group,
          .partials = groups * per_group};
}

template <class Tensor>
int64_t given(const OfComponents<Tensor> (&tensors)[kMaxMixtureOperands]) {
  return std::count_if(tensors, tensors + kMaxMixtureOperands,
                       [](const auto& x) { return x.first.data != nullptr; });
}

// Operands and gradients of a tile of a mixture: a second-level cache. With half as many, finding
// where they lie takes 5% more of the time; with twice as many there is less to share among
// threads.
constexpr int64_t kMixtureBytes = 1 << 19;

}  // namespace

Tiling make_tiling(const LossArgs& args) {
  const int64_t capacity = tile_capacity(args.float64);
  const int64_t group_size = args.shape.numel / args.groups;
  return group_size <= capacity ? tiles_of_whole_groups(group_size, args.groups, capacity)
                                : tiles_within_groups(group_size, args.groups, capacity);
}

MixtureTiling make_tiling(const MixtureArgs& args) {
  const int64_t size = args.float64 ? 8 : 4;
  const int64_t tensors = given(args.operands) + given(args.gradients);
  const int64_t fitting = kMixtureBytes / (size * args.components * args.run * tensors);
  const int64_t capacity = tile_capacity(args.float64) / args.run;
  int64_t length = std::max<int64_t>(1, std::min(fitting, capacity));
  int64_t row = args.positions.sizes[args.positions.dims - 1];
  if (row < length) {
    length -= length % row;
    row = args.positions.numel;
  } else {
    const int64_t even = divide_up(row, divide_up(row, length));
    constexpr int64_t kVector = 16;
    length = even + kVector <= length ? divide_up(even, kVector) * kVector : even;
  }
  const int64_t tiles_per_row = divide_up(row, length);
  return {.row = row,
          .length = length,
          .tiles_per_row = tiles_per_row,
          .tiles = args.positions.numel / row * tiles_per_row};
}

int64_t mixture_workspace(const MixtureArgs& args, const MixtureTiling& tiling) {
  return args.components * tiling.length * (2 + given(args.gradients) * args.run);
}

}  // namespace vae_fast::cpu
