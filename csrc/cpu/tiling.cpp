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

}  // namespace

Tiling make_tiling(const LossArgs& args) {
  const int64_t capacity = tile_capacity(args.float64);
  const int64_t group_size = args.shape.numel / args.groups;
  return group_size <= capacity ? tiles_of_whole_groups(group_size, args.groups, capacity)
                                : tiles_within_groups(group_size, args.groups, capacity);
}

}  // namespace vae_fast::cpu
