// The host's part of a launch, without CUDA: from a call's arguments to passes over its index
// space, each with its grid, its vector length and what it keeps in the workspace. Everything that
// decides the order of a sum is taken from the sizes alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/loop_args.h"
#include "cuda/mixture_loop.h"
#include "cuda/pairs_loop.h"
#include "cuda/path.h"
#include "kernels.h"

namespace vae_fast::cuda {

inline constexpr int kInvalidArguments = 1;  // cudaErrorInvalidValue

enum class Loop : uint8_t {
  kRows,     // each vector by itself, and sums over groups of rows
  kColumns,  // sums over rows, one for each column
  kNoise,    // blocks of 64 elements that share their noise
  kClasses,  // rows whose elements a softmax couples
  kMixture,  // positions whose components a log-sum-exp couples
  kPairs,    // rows against components
};

struct Pass {
  Loop loop = Loop::kRows;
  Path path = Path::kOne;
  uint32_t blocks = 0;
  // Of the workspace, where sums are split over blocks: their parts, in doubles, and a counter of
  // blocks for each sum.
  size_t partials = 0;
  size_t tickets = 0;
  LoopArgs args;
  std::unique_ptr<MixtureLoop> mixture;  // what these loops have in place of args
  std::unique_ptr<PairsLoop> pairs;
};

struct Plan {
  std::vector<Pass> passes;
  int error = 0;

  // The workspace of all passes, one after the other: the tickets, then the parts of sums.
  size_t ticket_bytes() const;
  size_t workspace_bytes() const;
};

// Of a call that is refused.
inline Plan invalid() { return {{}, kInvalidArguments}; }

Plan plan_loss(const LossArgs& args);
Plan plan_sample(const SampleArgs& args, const Seed& seed);
Plan plan_sample_backward(const SampleBackwardArgs& args);
Plan plan_multinomial(const MultinomialArgs& args);
Plan plan_counts(const CountArgs& args);
Plan plan_mixture(const MixtureArgs& args);  // plan_mixture.cpp
Plan plan_pairs(const PairsArgs& args);      // plan_pairs.cpp
Plan plan_scale(const ScaleArgs& args);

}  // namespace vae_fast::cuda
