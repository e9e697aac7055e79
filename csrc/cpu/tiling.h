// How a call's index space is cut into tiles: runs of elements that fit the first-level cache and
// whose boundaries depend on the sizes alone, so that sums do not change with the thread count.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace vae_fast::cpu {

struct Tiling {
  int64_t group_size;       // elements summed into one value
  int64_t tiles;            // in all
  int64_t tile_length;      // elements of a tile but the last of its group or of the space
  int64_t tiles_per_group;  // 1 where a tile holds whole groups
  int64_t partials;         // sums that the tiles leave behind

  int64_t begin(int64_t tile) const {
    return tile / tiles_per_group * (tiles_per_group == 1 ? tile_length : group_size) +
           tile % tiles_per_group * tile_length;
  }
  int64_t end(int64_t tile, int64_t numel) const {
    const int64_t begin = this->begin(tile), full = begin + tile_length;
    const int64_t limit = tiles_per_group == 1 ? numel : (begin / group_size + 1) * group_size;
    return full < limit ? full : limit;
  }
};

// 1024 floats: a tile's operands, value and gradients stay below 40 KiB.
constexpr int64_t tile_capacity(bool float64) { return float64 ? 512 : 1024; }

// The noise comes in blocks of 64 elements: tiles that begin and end on one waste none.
constexpr int64_t kTileAlignment = 64;

Tiling make_tiling(const LossArgs& args);

// Tiles of positions of a mixture: as many as leave the operands and gradients of all components in
// the second-level cache. They begin and end with the innermost dimension where it is longer.
struct MixtureTiling {
  int64_t row;     // positions of which the last tile may be shorter
  int64_t length;  // of the other tiles
  int64_t tiles_per_row;
  int64_t tiles;

  int64_t begin(int64_t tile) const {
    return tile / tiles_per_row * row + tile % tiles_per_row * length;
  }
  int64_t size(int64_t tile) const {
    const int64_t rest = row - tile % tiles_per_row * length;
    return rest < length ? rest : length;
  }
};

MixtureTiling make_tiling(const MixtureArgs& args);

// Numbers of the arithmetic that a thread needs for a tile.
int64_t mixture_workspace(const MixtureArgs& args, const MixtureTiling& tiling);

}  // namespace vae_fast::cpu
