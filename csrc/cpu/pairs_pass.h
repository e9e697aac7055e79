// One pass over the pairs of a call: each of the owners meets all of the others, which lie packed
// in lanes. Values and the gradient in x are of the rows, the gradients in the components theirs.
#pragma once

#include "kernels.h"

namespace vae_fast::cpu {

// Others that are packed together, of each number first all lanes; and how many meet an owner
// before what became of them is put together.
inline constexpr int64_t kPairLanes = 64;
inline constexpr int64_t kPairsTogether = 8 * kPairLanes;

// Owners that share what is read of the others.
inline constexpr int kOwners = 4;

struct PairsPass {
  bool rows_own;
  bool for_gradients;
  int64_t owners;
  int64_t others;
  int64_t dims;
  int64_t windows;  // runs of numbers that have a value of their own
  int64_t blocks;   // of kPairLanes others, the last one filled up
  void* packed;     // aligned to a cache's line

  PairsPass(const PairsArgs& args, bool rows_own, bool for_gradients)
      : rows_own(rows_own),
        for_gradients(for_gradients),
        owners(rows_own ? args.rows : args.components),
        others(rows_own ? args.components : args.rows),
        dims(args.dims),
        windows(args.marginal ? args.dims : 1),
        blocks((others + kPairLanes - 1) / kPairLanes),
        packed(nullptr) {}

  int64_t window_size() const { return dims / windows; }
  int64_t owner_blocks() const { return (owners + kOwners - 1) / kOwners; }

  // Numbers of the packed memory: positions and scales, and two of each window.
  int64_t packed_numbers() const { return 2 * blocks * kPairLanes * (dims + windows); }
  // Bytes of a thread's own.
  int64_t room() const { return (6 * kOwners + 2) * dims * static_cast<int64_t>(sizeof(double)); }
};

}  // namespace vae_fast::cpu
