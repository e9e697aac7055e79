// What the kernels of pairs are launched with: kernels.h, PairsArgs, prepared on the host for one
// side, the owners of what is computed.
#pragma once

#include "cuda/loop_args.h"

namespace vae_fast::cuda {

// A block has so many owners and meets so many others at a time, over so many numbers.
inline constexpr int kPairOwners = 16;
inline constexpr int kPairOthers = 64;
inline constexpr int kPairNumbers = kBlockThreads / kPairOwners;

enum class PairsStep : uint8_t {
  kNormalise,   // what components' log densities have in common
  kJoint,       // all numbers together
  kMarginal,    // each number by itself
  kSumWeights,  // of marginal densities: the gradients in log weights
};

struct PairsLoop {
  PairsStep step = PairsStep::kJoint;
  PairsReduction reduction = PairsReduction::kLogSumExp;
  bool rows_own = true;
  bool for_gradients = false;
  bool shares_weights = true;  // all rows do
  int64_t owners = 0, others = 0, dims = 0;
  int64_t windows = 1;  // runs of numbers that have a value of their own

  Tensor owner, other;  // where they lie
  Tensor owner_logvar, other_logvar;
  Tensor log_weights;  // strides of owners, then others
  Tensor value, computed, upstream;
  int64_t* nearest = nullptr;
  Tensor grad_position, grad_logvar, grad_log_weights;
  int widths = 0;
  double width[kMaxWidths] = {};

  // The workspace: the normalisers of components' log densities, of each window; and of each
  // owner's numbers the sums that become its gradients, or where they are marginal its weight's.
  double* normalisers = nullptr;
  double* position_sums = nullptr;
  double* square_sums = nullptr;
};

}  // namespace vae_fast::cuda
