// The host's part of a launch, without CUDA: from a call's arguments to passes over its index
// space, each with its grid, its vector length and what it keeps in the workspace. Everything that
// decides the order of a sum is taken from the sizes alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/loop_args.h"
#include "kernels.h"

namespace vae_fast::cuda {

inline constexpr int kInvalidArguments = 1;  // cudaErrorInvalidValue

enum class Loop : uint8_t {
  kRows,     // each vector by itself, and sums over groups of rows
  kColumns,  // sums over rows, one for each column
  kNoise,    // blocks of 64 elements that share their noise
  kClasses,  // rows whose elements a softmax couples
};

// How a kernel reaches memory; one is compiled for each.
enum class Path : uint8_t {
  // Of one dtype (the target of any), and dense or one element for all: nothing to look up.
  kFlatFloat32,   // vectors of 4
  kFlatBFloat16,  // vectors of 8; of 4 where noise is drawn
  kFlatFloat16,
  kFlatFloat64,  // vectors of 2
  kFour,         // any dtypes and strides of rows, vectors of 4
  kOne,          // element by element: any strides and alignment
  kDouble,       // the same in float64 arithmetic
};

inline bool is_double(Path path) { return path == Path::kFlatFloat64 || path == Path::kDouble; }

struct Pass {
  Loop loop = Loop::kRows;
  Path path = Path::kOne;
  uint32_t blocks = 0;
  // Of the workspace, where sums are split over blocks: their parts, in doubles, and a counter of
  // blocks for each sum.
  size_t partials = 0;
  size_t tickets = 0;
  LoopArgs args;
};

struct Plan {
  std::vector<Pass> passes;
  int error = 0;

  // The workspace of all passes, one after the other: the tickets, then the parts of sums.
  size_t ticket_bytes() const;
  size_t workspace_bytes() const;
};

Plan plan_loss(const LossArgs& args);
Plan plan_sample(const SampleArgs& args, const Seed& seed);
Plan plan_sample_backward(const SampleBackwardArgs& args);
Plan plan_multinomial(const MultinomialArgs& args);
Plan plan_scale(const ScaleArgs& args);

}  // namespace vae_fast::cuda
