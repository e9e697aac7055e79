// What loops over rows of classes share: a team of threads for each row.
#pragma once

#include "cuda/loops.cuh"

namespace vae_fast::cuda {

// The row of a thread's team. Where there is none the team has no classes, but takes part in what
// all threads of a block do.
struct RowOfTeam {
  int shift, team, lane;
  int64_t row, classes;
  bool exists;

  __device__ __forceinline__ explicit RowOfTeam(const LoopArgs& args)
      : shift(static_cast<int>(args.parts.team_shift)),
        team(1 << shift),
        lane(static_cast<int>(threadIdx.x) & (team - 1)),
        row((static_cast<int64_t>(blockIdx.x) * kBlockThreads + threadIdx.x) >> shift),
        exists(row < args.parts.count) {
    classes = exists ? args.parts.group_elements : 0;
  }

  // What its gradients are multiplied with.
  __device__ __forceinline__ double factor(const LoopArgs& args, int64_t upstream) const {
    const bool has_upstream = exists && args.upstream.data != nullptr;
    return has_upstream ? args.scale * number<double>(args.upstream, upstream) : args.scale;
  }
};

}  // namespace vae_fast::cuda
